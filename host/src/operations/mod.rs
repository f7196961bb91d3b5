//! What people ask of a pipeline or of the plugin store, as values: the command line prints them, HTTP returns them.
//!
//! A value has one JSON form, that of `--json`; a command line that asks a daemon reads it back. Nothing here prints.

pub mod against;
pub mod checkpoint;
pub mod collect;
pub mod compact;
pub mod diff;
pub mod dlq;
pub mod doctor;
pub mod files;
pub mod guard;
pub mod history;
pub mod log;
pub mod plugins;
pub mod retention;
pub mod rewind;
pub mod status;
pub mod swap;
pub mod tap;
pub mod trial;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::clock::Clock;
use crate::commit::{Log, LogName, Writer};
use crate::error::{Error, Kind, Result};
use crate::instant;
pub use crate::pipeline::rules::columns::{Change, Columns, Effect};
use crate::store::Store;

/// A page (of entries, periods, dead letters) ends with the item at which this many bytes were read for it.
pub const PAGE_BYTES: usize = 8 << 20;

/// Bytes of a reason: it goes into an entry of the log that stays for good.
const REASON_BYTES: usize = 4 << 10;

/// Checks the reason that somebody gave for a change, on the command line or by REST.
pub fn reason(given: &str) -> Result<&str> {
    match given.len() {
        ..=REASON_BYTES => Ok(given),
        n => Err(Error::new(
            Kind::ConfigInvalid,
            "ops.reason",
            format!("the reason has {n} bytes; at most {REASON_BYTES} are kept"),
        )
        .hint("it stands in the log for good: say it in a few words")),
    }
}

/// Why an operation was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The request, the config or the component is wrong.
    Wrong,
    /// It exceeds a named limit.
    TooLarge,
    /// It does not exist.
    Missing,
    /// It contradicts what the log or the plugin store holds.
    Conflict,
    /// The same request may succeed later.
    Unavailable,
    /// Stored data is damaged, or this program has a bug.
    Failed,
}

/// Nothing was changed, and why.
#[derive(Debug)]
pub struct Refused {
    pub why: Why,
    pub error: Box<Error>,
    /// What a refused swap would have changed.
    pub change: Option<Box<swap::Swapped>>,
}

impl Refused {
    fn new(why: Why, error: Error) -> Refused {
        Refused {
            why,
            error: Box::new(error),
            change: None,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        let why = match error.kind() {
            Kind::ConfigInvalid | Kind::PluginRefused | Kind::PluginBroken => Why::Wrong,
            Kind::Conflict => Why::Conflict,
            Kind::LimitReached => Why::TooLarge,
            Kind::StoreUnavailable
            | Kind::SinkUnavailable
            | Kind::SourceUnavailable
            | Kind::DaemonUnavailable
            | Kind::Stopped => Why::Unavailable,
            Kind::SourceLost
            | Kind::StoreFailed
            | Kind::SinkRefused
            | Kind::LogCorrupt
            | Kind::RecordRefused
            | Kind::Bug => Why::Failed,
        };
        Refused::new(why, error)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        *refused.error
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// The JSON that `--json` prints.
pub fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::new(Kind::Bug, "ops.json", "an answer is not JSON").source(e))
}

/// Opens for reading; nothing is recovered, published or collected.
pub fn open(store: &Arc<dyn Store>, name: &LogName, clock: &Arc<dyn Clock>) -> Result<Log> {
    let writer = Writer::this_process(&**clock);
    Log::open(store.clone(), name.clone(), clock.clone(), writer)?.ok_or_else(|| {
        let message = format!("there is no commit log {}", name.log_dir());
        Error::new(Kind::LogCorrupt, "cli.open", message)
    })
}

/// The logs below a zone's root, in the order of their names.
pub fn logs_in(store: &dyn Store) -> Result<Vec<LogName>> {
    let listed = store.list("_system/")?;
    let logs: BTreeSet<LogName> = listed
        .iter()
        .filter_map(|listed| {
            let mut parts = listed.path.split('/');
            match [(); 5].map(|()| parts.next()) {
                [
                    Some("_system"),
                    Some(pipeline),
                    Some(zone),
                    Some("log"),
                    Some(_),
                ] => Some(LogName::new(pipeline, zone)),
                _ => None,
            }
        })
        .collect();
    Ok(logs.into_iter().collect())
}

/// Microseconds since 1970 → UTC, to the second.
pub fn utc(micros: i64) -> String {
    instant::utc(micros, 0)
}

/// The beginning of a digest, enough to recognise it.
pub fn short(digest: &str) -> String {
    const HEX_SHOWN: usize = 12;
    let hex = digest.trim_start_matches("sha256:");
    hex.chars().take(HEX_SHOWN).collect()
}
