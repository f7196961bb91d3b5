//! Rules of a pipeline, apart from running them: which are in force, and how others come into force.
//!
//! ```text
//! in_force.rs  rules by digest: what a config declares, what the log says is in force, which of both a start runs
//! swapper.rs   new rules while records flow: builds a chain for each task and hands them to the committer
//!              fed by  pending.rs  requests of other processes, through the store
//!                      edits.rs    another config, from the process that runs the pipeline
//! columns.rs   what other rules do to readers, and whether they may     namespace.rs  no two columns of one name
//! ```

pub mod columns;
pub(super) mod edits;
mod in_force;
pub mod namespace;
pub mod pending;
pub(super) mod swapper;

pub use in_force::{
    Built, Part, Parts, at_hand, at_start, blocked, columns_of, part_of, problems_of, transforms_of,
};
