//! What a plugin may use and return: every limit has its unit and its reason here.

use std::time::Duration;

use crate::fs::Limit;

/// What one plugin instance may use. The defaults suit plugins written in Rust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory of one instance, all its memories together. A batch is passed in parts of at most an eighth of it.
    pub memory: usize,
    /// One call of `run`.
    pub deadline: Duration,
    /// One call of `init`, and of `describe`.
    pub init_deadline: Duration,
    /// Bytes of all buffers that one call of `run` returns.
    pub output_bytes: usize,
    /// Wasm instructions of one record when time alone could not decide, 32 bytes moved in bulk counted as one. Never
    /// less than [`FUEL_PER_SECOND`] of `deadline`: otherwise a fast machine could finish in time what a slow one
    /// refuses.
    pub fuel: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory: 64 << 20,
            deadline: Duration::from_secs(2),
            init_deadline: Duration::from_secs(5),
            output_bytes: 64 << 20,
            fuel: 2 * FUEL_PER_SECOND,
        }
    }
}

/// More instructions than any machine executes in one second.
pub const FUEL_PER_SECOND: u64 = 5_000_000_000;

/// A component file.
pub const MAX_COMPONENT_BYTES: usize = 32 << 20;
/// A file that a `weir-table` key names. A whole table is passed once per instance; larger ones belong in a database.
pub const MAX_TABLE_BYTES: usize = 16 << 20;
/// Any file that a key of a transform names. Tables and rules are passed as a whole.
pub const FILE_OF_RULES: Limit = Limit {
    bytes: MAX_TABLE_BYTES as u64,
    of: "a file of rules or a table",
};
/// A file of the plugin store: a component, or a file that was attached to a config.
pub const KEPT: Limit = Limit {
    bytes: MAX_COMPONENT_BYTES as u64,
    of: "a file of the plugin store",
};
/// A compiled component: machine code takes a multiple of its WebAssembly.
pub(super) const IMAGE: Limit = Limit {
    bytes: 16 * MAX_COMPONENT_BYTES as u64,
    of: "a compiled plugin",
};
/// Rows and cells of a lookup table, and its size in memory: a compressed file may be far smaller than its content.
pub const MAX_TABLE_ROWS: usize = 1 << 20;
pub const MAX_TABLE_CELLS: usize = 1 << 23;
pub const MAX_TABLE_MEMORY: usize = 64 << 20;
/// Records of one batch that may be set aside because the plugin failed on them; one more stops the pipeline. A record
/// that was only slow does not count.
pub const MAX_ISOLATIONS: usize = 16;
/// Calls after which an instance is replaced.
pub const MAX_BATCHES: u64 = 10_000;
/// Columns (nodes) of a plan.
pub const MAX_COLUMNS: usize = 4_096;
/// Rows that one call may return. One exploding record may become many rows, so this does not depend on the input; a
/// batch that gives more is run in halves.
pub const MAX_ROWS: usize = 1 << 20;
/// Names of user counters, and bytes of one.
pub const MAX_COUNTERS: usize = 256;
pub const MAX_COUNTER_NAME: usize = 64;
/// What one call may add to a counter: sums of a commit neither overflow nor lose digits in JSON.
pub const MAX_COUNT: u64 = 1 << 40;
/// Bytes of a plugin's name or version, which are in every commit and dead letter; of its summary; of its schema.
pub const MAX_NAME: usize = 64;
pub const MAX_SUMMARY: usize = 1 << 10;
pub const MAX_SCHEMA: usize = 1 << 20;
/// Bytes that one call may exchange with the host (log, standard streams); each call to the host, whatever it does, counts
/// [`HOST_CALL`] bytes more. Neither time nor fuel is counted inside the host, so without this limit a guest could keep the metered engine busy
/// for hours.
pub const MAX_HOST_TALK: usize = 256 << 20;
pub const HOST_CALL: usize = 64;
/// Largest output of one batch, as a number of full outputs of calls: halving keeps each call small, and this limits
/// their sum. More stops the pipeline, because no single record is the cause.
pub const MAX_FULL_CALLS: usize = 4;
/// Bytes of the message and of the field name of one reject.
pub const MAX_REJECT_TEXT: usize = 256;
/// Reasons kept for one row or piece; the rest is only counted, in the last one.
pub const MAX_REASONS: usize = 64;
/// Reasons of one call. A batch that has more is run in halves; a single record that has more is set aside as a whole.
pub const MAX_REJECTS: usize = 1 << 16;
/// Bytes of reject text of one call. A batch that has more is run in halves; a single record that has more loses the
/// later messages.
pub const MAX_REJECTS_TEXT: usize = 1 << 20;
/// Log lines and bytes of one batch; the rest is only counted.
pub const MAX_LOG_LINES: usize = 64;
pub const MAX_LOG_BYTES: usize = 8 << 10;
