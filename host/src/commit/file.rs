//! An entry as bytes: compact JSON, named by the sha256 of exactly these bytes.

use super::entry::{BEFORE_RELEASE, Entry, FORMAT, Rule};
use crate::error::{Error, Kind, Result};
pub use crate::hash::sha256 as digest;

/// `sha256:…` of rules as compact JSON, in their order.
pub fn rules_digest(rules: &[Rule]) -> String {
    // Structs of strings: writing them as JSON cannot fail.
    digest(&serde_json::to_vec(rules).unwrap_or_default())
}

/// The bytes that are stored.
pub fn encode(entry: &Entry) -> Result<Vec<u8>> {
    serde_json::to_vec(entry).map_err(|e| {
        Error::new(
            Kind::Bug,
            "log.encode",
            "a log entry cannot be written as JSON",
        )
        .with("version", entry.version)
        .source(e)
    })
}

/// Refuses by name: torn or altered bytes, and formats, kinds and fields that this version does not know.
pub fn decode(bytes: &[u8], path: &str) -> Result<Entry> {
    let corrupt = |message: String| {
        Error::new(Kind::LogCorrupt, "log.read", message)
            .with("entry", path)
            .hint("the log must not be edited; restore the entry from a copy of the store")
    };
    let head: Head = serde_json::from_slice(bytes)
        .map_err(|e| corrupt(format!("not a log entry ({} bytes)", bytes.len())).source(e))?;
    if head.format != FORMAT {
        return Err(other_format(head.format, path));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        corrupt(format!(
            "this version of Weir cannot read an entry of kind `{}`",
            head.kind
        ))
        .hint("run the version of Weir that wrote it, or a newer one")
        .source(e)
    })
}

pub(super) fn other_format(format: u32, path: &str) -> Error {
    let message =
        format!("the log has format {format}, this version of Weir reads format {FORMAT}");
    let hint = match format {
        BEFORE_RELEASE => {
            "builds before the first release wrote it, and no release reads it: write to a new zone; the Parquet files stay readable"
        }
        _ => "run the version of Weir that wrote it, or a newer one",
    };
    Error::new(Kind::LogCorrupt, "log.read", message)
        .with("entry", path)
        .hint(hint)
}

/// What an entry of any version has.
#[derive(serde::Deserialize)]
struct Head {
    format: u32,
    kind: String,
}
