//! The rules of a pipeline, apart from running them: which are in force, and how they change.
//!
//! ```text
//! in_force.rs  rules by digest: what a config declares, what the log says is in force, which of both a start runs
//! change.rs    the one way to change rules while records flow, from any requester to the committer
//!              fed by  this process (a swap or another config over HTTP), pending.rs (requests of other processes, through
//!              the store), watch.rs (files that were edited)
//! columns.rs   what other rules do to readers, and whether they may     namespace.rs  no two columns of one name
//! ```

pub(super) mod change;
pub mod columns;
mod in_force;
pub mod namespace;
pub mod pending;
mod watch;

pub use in_force::{
    Built, Part, Parts, at_start, blocked, columns_of, declared_rules, part_of, problems_of,
    transforms_of,
};
