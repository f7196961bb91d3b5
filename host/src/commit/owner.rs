//! Which log may write below a table. It is written once, to `_system/owners/<table>.json`, or for a very long name to
//! `_system/owners/long/sha256-<of the name>.json`.

use serde::{Deserialize, Serialize};

use super::LogName;
use crate::error::{Error, Kind, Result};
use crate::store::Store;

#[derive(Serialize, Deserialize, Debug)]
struct Owner {
    pipeline: String,
    zone: String,
}

const OP: &str = "zone.own";

/// Longest table name that becomes the name of its owner file. While the file is written, its name is two characters
/// longer, and file systems allow 255; a Kafka topic may have 249.
const NAME_MAX: usize = 248;
const DIR: &str = "_system/owners";

fn path_of(table: &str) -> String {
    match table.len() {
        0..=NAME_MAX => format!("{DIR}/{table}.json"),
        _ => format!(
            "{DIR}/long/{}.json",
            super::file::digest(table.as_bytes()).replace(':', "-")
        ),
    }
}

/// Refuses a table that belongs to another log. Writes nothing.
pub fn may_own_table(store: &dyn Store, name: &LogName, table: &str) -> Result<()> {
    match store.get(&path_of(table))? {
        Some(found) => is_owner(store, name, table, &found),
        None => Ok(()),
    }
}

/// Claims a table (a directory directly below the root) for this log, once and for all. A table of another log is refused
/// by name.
pub fn own_table(store: &dyn Store, name: &LogName, table: &str) -> Result<()> {
    let path = path_of(table);
    let mine = Owner {
        pipeline: name.pipeline.clone(),
        zone: name.zone.clone(),
    };
    let bytes = serde_json::to_vec(&mine)
        .map_err(|e| Error::new(Kind::Bug, OP, "an owner cannot be written as JSON").source(e))?;
    let created = store.create(&path, &bytes);
    // Whatever the answer was, only the file that is there counts.
    let Some(found) = store.get(&path)? else {
        return Err(match created {
            Err(e) => e,
            Ok(_) => Error::new(
                Kind::StoreUnavailable,
                OP,
                "an owner was written and is not there",
            )
            .with("path", path),
        });
    };
    store.sync(path.rsplit_once('/').map_or(DIR, |(dir, _)| dir))?;
    is_owner(store, name, table, &found)
}

fn is_owner(store: &dyn Store, name: &LogName, table: &str, found: &[u8]) -> Result<()> {
    let path = path_of(table);
    let owner: Owner = serde_json::from_slice(found).map_err(|e| {
        Error::new(Kind::LogCorrupt, OP, "not an owner of a table")
            .with("path", &path)
            .hint("restore the file from a copy of the store")
            .source(e)
    })?;
    if owner.pipeline == name.pipeline && owner.zone == name.zone {
        return Ok(());
    }
    Err(Error::new(
        Kind::ConfigInvalid,
        OP,
        format!(
            "table {table} belongs to pipeline {} (zone {}), this is {} (zone {})",
            owner.pipeline, owner.zone, name.pipeline, name.zone
        ),
    )
    .with("store", store.url())
    .with("owner", path)
    .hint(format!(
        "write to another table (sink.table, errors.dlq.table) or another sink.url; if the zone was moved, sink.zone = \"{}\"",
        owner.zone
    )))
}
