//! A component that is loaded, and its instances: what they may call, what they say, and what becomes of a call that fails.

pub mod author;
pub mod component;
pub mod inspect;
mod instance;
mod linker;
mod log;
mod transform;
