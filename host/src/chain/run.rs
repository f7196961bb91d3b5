//! Batch in, rows and letters out.

#[derive(Debug)]
pub struct Chain;
