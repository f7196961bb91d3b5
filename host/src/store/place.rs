//! How a store sees a data file: its place, which is fixed when the file is begun, and the seal that is needed to
//! publish it.

use serde::{Deserialize, Serialize};

/// Parts that stores take in one upload (S3, GCS).
pub const UPLOAD_PARTS_MAX: usize = 10_000;

/// Where a data file belongs, fixed when it is begun: a home (`_system/<pipeline>/<zone>`), an id that is never used
/// twice, and its final path. Only the store knows what is stored where before and after publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    home: String,
    file: String,
    path: String,
}

impl Place {
    pub fn new(home: impl Into<String>, file: impl Into<String>, path: impl Into<String>) -> Place {
        Place {
            home: home.into(),
            file: file.into(),
            path: path.into(),
        }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// The final path, below the root of the store.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The file's bytes before they are published, or its intent (O1).
    pub(super) fn staging(&self) -> String {
        staging(&self.home, &self.file)
    }
}

pub(super) fn staging(home: &str, file: &str) -> String {
    format!("{home}/staging/{file}")
}

pub(super) fn staging_dir(home: &str) -> String {
    format!("{home}/staging")
}

/// A complete and durable file. Together with its place, this is all that a process needs to publish the file, or to
/// take it back later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    pub bytes: u64,
    /// Only from stores that publish by completing an upload.
    pub upload: Option<Upload>,
}

/// A file in the form of an upload to its final name: its parts are durable, and readers do not see them before the
/// upload is completed. Every process that knows this can complete it (docs/protocol.md, O3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The store's name for it; empty where the store has none.
    pub id: String,
    /// The store's names of its parts, in order, as the store gave them.
    pub parts: Vec<String>,
}

impl Upload {
    /// Why no store could complete it (O2). Checked before the commit: a store would refuse it only afterwards.
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
