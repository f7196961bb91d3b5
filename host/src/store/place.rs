//! What a data file is to its store between its birth and its end.

use serde::{Deserialize, Serialize};

/// Parts that stores take in one upload (S3, GCS).
pub const UPLOAD_PARTS_MAX: usize = 10_000;

/// A file as an upload that began at its final name: its parts are durable and nobody sees them before the upload is
/// completed. Whoever knows this can complete it (docs/protocol.md, O3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The store's name for it; empty where the store has none.
    pub id: String,
    /// The store's names of its parts, in order, as the store gave them.
    pub parts: Vec<String>,
}

impl Upload {
    /// Why no store could complete it (O2). Found before the commit: a store would say so only after it.
    pub fn defect(&self) -> Option<String> {
        let count = self.parts.len();
        if count == 0 || count > UPLOAD_PARTS_MAX {
            return Some(format!(
                "an upload has 1 to {UPLOAD_PARTS_MAX} parts, this one has {count}"
            ));
        }
        let nameless = self.parts.iter().position(String::is_empty)?;
        Some(format!("part {} of the upload has no name", nameless + 1))
    }
}
