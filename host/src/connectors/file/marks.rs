//! How a file that is followed is recognised after a restart: the last bytes that were read of it, beside its inode, which may
//! belong to another file by then.
//!
//! A mark says what was read, and not what was committed: it holds whatever the log says, and may be older than its position. So
//! one that is written now and then is enough. Marks lie in the pipeline's home, under `_system/<pipeline>/<zone>/follow/`, one for each
//! partition, as documents whose names tell which is the newest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::hash::sha256;
use crate::store::Store;

/// Bytes before a position that are remembered.
pub(super) const BEFORE: usize = 64;

/// Files of one name that are remembered, so that one that was renamed within the pattern is not read again.
const KEPT: usize = 32;

const OP: &str = "file.follow";

/// What stands before a byte of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The number of the file in the list.
    pub ordinal: u32,
    pub byte: u64,
    /// SHA-256 of the bytes before it, at most [`BEFORE`].
    before: String,
}

impl Mark {
    pub(super) fn of(ordinal: u32, byte: u64, before: &[u8]) -> Mark {
        Mark {
            ordinal,
            byte,
            before: sha256(before),
        }
    }

    pub(super) fn is(&self, before: &[u8]) -> bool {
        self.before == sha256(before)
    }

    fn name(&self, partition: i32) -> String {
        format!("{partition:05}.{:010}.{:020}.json", self.ordinal, self.byte)
    }
}

/// Of files by their partition and their number in the list.
pub(super) type Marks = BTreeMap<(i32, u32), Mark>;

pub(super) fn read(store: &dyn Store, dir: &str) -> Result<Marks> {
    let mut newest = BTreeMap::new();
    for listed in store.list(dir)? {
        let name = listed.path.rsplit('/').next().unwrap_or_default();
        let mut parts = name.split('.');
        let partition = parts.next().and_then(|p| p.parse::<i32>().ok());
        let ordinal = parts.next().and_then(|p| p.parse::<u32>().ok());
        if let (Some(partition), Some(ordinal)) = (partition, ordinal) {
            newest.insert((partition, ordinal), listed.path);
        }
    }
    let mut marks = Marks::new();
    for (file, path) in newest {
        // Another process may have put a newer one in its place.
        let Some(bytes) = store.get(&path)? else {
            continue;
        };
        let mark = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(Kind::LogCorrupt, OP, format!("a mark cannot be used: {e}"))
                .with("document", &path)
                .hint("take it away, if you know that the file is still the one that was read")
        })?;
        marks.insert(file, mark);
    }
    Ok(marks)
}

/// Puts a mark in the place of the one before, and takes away those of files that had the name long ago.
pub(super) fn replace(
    store: &dyn Store,
    dir: &str,
    partition: i32,
    (kept, now): (&mut Marks, &Mark),
) -> Result<()> {
    let bytes = serde_json::to_vec(now)
        .map_err(|e| Error::new(Kind::Bug, OP, "a mark cannot be written").source(e))?;
    let path = |mark: &Mark| format!("{dir}/{}", mark.name(partition));
    store.create(&path(now), &bytes)?;
    let was = kept.insert((partition, now.ordinal), now.clone());
    if let Some(was) = was.filter(|was| was.byte != now.byte) {
        store.delete(&path(&was))?;
    }
    if let Some(file) = oldest(kept, partition)
        && let Some(mark) = kept.remove(&file)
    {
        store.delete(&path(&mark))?;
    }
    Ok(())
}

/// The file of a partition that is remembered no longer, where there are too many.
pub(super) fn oldest(marks: &Marks, partition: i32) -> Option<(i32, u32)> {
    let mut of = marks.range((partition, 0)..=(partition, u32::MAX));
    let first = of.next().map(|(file, _)| *file);
    first.filter(|_| of.count() >= KEPT)
}
