//! The contract between host and guest: Arrow is lowered to buffers of the contract, and returned buffers are checked
//! one by one before they become Arrow again.

pub mod bindings;
#[cfg(test)]
mod fuzz;
pub mod join;
mod lift;
pub mod lower;
#[cfg(test)]
mod oracle;
pub mod output;
pub mod plan;
pub mod types;
