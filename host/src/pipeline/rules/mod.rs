//! The rules of a pipeline, apart from running them: which are in force, and how they change.
//!
//! ```text
//! in_force.rs  rules by digest: what a config declares, what the log says is in force, which of both a start runs
//! change.rs    the one way to change rules while records flow, from any requester to the committer
//!              fed by  this process (a swap or another config over HTTP), pending.rs (requests of other processes, through
//!              the store), watch.rs (files that were edited)
//! inferred.rs  the transform that the first records show, kept beside the log
//! converters.rs  converters as rules, and the schema that the first record shows, kept there too
//! of_zone.rs   the same for a pipeline that reads a zone: between batches, on the columns that the zone has
//! columns.rs   what other rules do to readers, and whether they may     namespace.rs  no two columns of one name
//! ```

pub(super) mod change;
pub mod columns;
mod converters;
mod in_force;
mod inferred;
pub mod namespace;
pub(super) mod of_zone;
pub mod pending;
pub(super) mod watch;

pub use in_force::{
    Built, By, Part, Parts, always_read, at_start, blocked, columns_after, columns_of,
    declared_rules, part_of, problems_of, transforms_of,
};
pub use inferred::{at_first, completed, is_known};
pub use of_zone::{columns_promised, columns_read, rows_read, rows_read_in};
