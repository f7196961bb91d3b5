//! A loaded component and its instances: what they may call, what they log, and what happens after a call that fails.

pub mod author;
pub mod component;
pub mod inspect;
mod instance;
mod linker;
mod log;
mod transform;
