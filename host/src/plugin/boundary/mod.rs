//! The contract between host and guest: Arrow goes down into buffers of the contract, and what comes back is checked buffer by
//! buffer before it becomes Arrow again.

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
