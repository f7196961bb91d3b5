//! Dead letters: how many of what, and each with its reasons; the original bytes stand with the first of each record.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::utc;
use crate::commit::{AddedFile, Log, Role};
use crate::deadletter::{self, Filter, Original, Stored};
use crate::error::Result;
use crate::store::Store;

/// Letters of one code and field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    pub pipeline: String,
    pub code: String,
    pub field: Option<String>,
    pub letters: u64,
}

/// A dead letter; bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// `None`: the whole record.
    pub row: Option<i32>,
    /// UTC.
    pub timestamp: Option<String>,
    pub transform: String,
    pub plugin: String,
    pub version: String,
    pub digest: String,
    pub config_digest: String,
    pub errors: Vec<Reason>,
    /// False: `key`, `value` and `headers` stand in the letter of the same record that came first.
    pub holds_bytes: bool,
    pub key: Option<String>,
    pub value: Option<String>,
    /// Where it is UTF-8.
    pub value_text: Option<String>,
    pub headers: Vec<Header>,
    /// Path of the file it lies in.
    pub file: String,
}

impl Letter {
    /// About how much it takes, for pages that are bounded.
    pub fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let reasons = self.errors.iter().map(|e| e.message.len());
        let headers = (self.headers.iter()).map(|h| h.name.len() + text(&h.value));
        let body = text(&self.key) + text(&self.value) + text(&self.value_text);
        body + reasons.sum::<usize>() + headers.sum::<usize>()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub code: String,
    pub field: Option<String>,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub name: String,
    pub value: Option<String>,
}

impl Letter {
    /// The bytes behind `key` or `value`.
    pub fn bytes(base64: &str) -> Vec<u8> {
        STANDARD.decode(base64).unwrap_or_default()
    }
}

impl Letter {
    /// With the record's bytes, or without them where a sibling before it has them.
    fn of(stored: Stored, holds_bytes: bool) -> Letter {
        let base64 = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| STANDARD.encode(b));
        let reason = |r: deadletter::StoredReason| Reason {
            code: r.code,
            field: r.field,
            message: r.message,
        };
        let header = |(name, value): &(String, Option<Vec<u8>>)| Header {
            name: name.clone(),
            value: base64(value),
        };
        let none = Original::default();
        let original = if holds_bytes {
            &*stored.original
        } else {
            &none
        };
        Letter {
            holds_bytes,
            key: base64(&original.key),
            value: base64(&original.value),
            value_text: (original.value.clone()).and_then(|b| String::from_utf8(b).ok()),
            headers: original.headers.iter().map(header).collect(),
            topic: stored.topic,
            partition: stored.partition,
            offset: stored.offset,
            row: stored.row,
            timestamp: stored.timestamp.map(utc),
            transform: stored.transform,
            plugin: stored.plugin,
            version: stored.version,
            digest: stored.digest,
            config_digest: stored.config_digest,
            errors: stored.reasons.into_iter().map(reason).collect(),
            file: stored.file.to_string(),
        }
    }
}

/// The live files of dead letters, in the order of their commits.
fn files(log: &Log) -> Vec<AddedFile> {
    let mut live: Vec<_> = log.state().live.values().collect();
    live.retain(|live| live.file.role == Role::Letters);
    live.sort_by(|a, b| (a.version, &a.file.path).cmp(&(b.version, &b.file.path)));
    live.into_iter().map(|live| live.file.clone()).collect()
}

/// By code and field, the most frequent first.
pub fn counts(store: &Arc<dyn Store>, log: &Log) -> Result<Vec<Count>> {
    let counts = deadletter::counts(store, log.name(), &files(log))?;
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let count = |((code, field), letters)| Count {
        pipeline: log.name().pipeline.clone(),
        code,
        field,
        letters,
    };
    Ok(counts.into_iter().map(count).collect())
}

/// Hands over one letter after the other from the `skip`-th on, in the order of their commits, until `each` says no. Of the
/// letters of one record the first that is handed over has the bytes.
pub fn letters(
    store: &Arc<dyn Store>,
    log: &Log,
    filter: &Filter,
    skip: usize,
    mut each: impl FnMut(Letter) -> bool,
) -> Result<()> {
    let files = files(log);
    let mut before: Option<Arc<Original>> = None;
    for (at, stored) in deadletter::read(store, log.name(), &files, filter).enumerate() {
        let stored = stored?;
        if at < skip {
            continue;
        }
        let original = stored.original.clone();
        let first = !before.is_some_and(|before| Arc::ptr_eq(&before, &original));
        before = Some(original);
        if !each(Letter::of(stored, first)) {
            break;
        }
    }
    Ok(())
}
