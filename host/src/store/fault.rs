//! faults (bodies follow)
#[derive(Debug)] pub struct Op;
#[derive(Debug)] pub struct Fault;
#[derive(Debug)] pub struct FaultStore;
#[derive(Debug)] pub struct Script;
#[derive(Debug)] pub struct Step;
pub trait Faults {}
