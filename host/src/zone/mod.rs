//! Zones: directories of Parquet below one root, written by row and read back by coordinate. No other folder names parquet.
//!
//! ```text
//! RAW        write.rs (ZoneSink) ── file.rs (one streamed Parquet file) ── Finish → commit
//! reading    read.rs (rows by coordinate), fitting.rs (files of several schemas, one table), remainder.rs (what a rewind leaves of a file)
//! PROCESSED  processed.rs (a batch) ── partition.rs (which date) ── dedup.rs (who wins) ── keys.rs (sidecars)
//! ```
//! Formats that other versions must keep: paths (`layout.rs`), the schema digest (`schema.rs`), the row digest
//! (`digest.rs`) and the key sidecar (`keys.rs`).

pub mod deadletter;
mod dedup;
mod digest;
mod exact;
mod file;
mod fitting;
mod foreign;
mod keys;
mod layout;
mod letters;
mod names;
mod partition;
mod parts;
mod processed;
mod read;
mod remainder;
mod schema;
mod table;
mod write;

#[cfg(test)]
mod tests;

pub use digest::RowDigest;
pub use file::Written;
pub use fitting::{Changed, Fitting};
pub use foreign::{Fetch, ForeignRows, Unreadable};
pub use keys::KeyScheme;
pub use layout::table_of;
pub use letters::{LetterFiles, LettersTable};
pub use names::{Clash, Origin, clashes, reserved};
pub use partition::{PartitionBy, PartitionFormat};
pub use processed::{Processed, ProcessedBatch, ProcessedOptions};
pub use read::{FileRows, RowReader, Rows, SplitRange, verify_file};
pub use read::{overlapping, read_file, read_rows, schemas};
pub use remainder::write_rest;
pub use schema::{is_system, schema_digest};
pub use table::{TableLimits, read_table};
pub use write::{ZoneOptions, ZoneSink};

use crate::config::Compression;

/// How Parquet is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParquetOptions {
    pub compression: Compression,
    /// Encoded bytes after which a row group is closed. Bounds the memory of an open file.
    pub row_group_bytes: usize,
}

/// One row group is held in memory per open file; 16 MiB already compresses as well as the usual 128 MiB.
pub const ROW_GROUP_BYTES: usize = 16 << 20;

/// As fast as snappy and 40 % smaller; level 3 gains nothing (measured).
const COMPRESSION: Compression = Compression::Zstd(1);

impl Default for ParquetOptions {
    fn default() -> Self {
        ParquetOptions {
            compression: COMPRESSION,
            row_group_bytes: ROW_GROUP_BYTES,
        }
    }
}
