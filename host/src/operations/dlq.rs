//! Dead letters: counts by code and field, and each one with its reasons; the first of each record has the original
//! bytes.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::utc;
use crate::commit::{AddedFile, LiveFile, LogName, Role, State};
use crate::error::Result;
use crate::store::Store;
use crate::zone::deadletter::{self, Filter, Original, StoredDeadLetter};

/// Number of dead letters with one code and field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DeadLetterCount")]
pub struct Count {
    pub pipeline: String,
    pub code: String,
    pub field: Option<String>,
    pub dead_letters: u64,
}

/// A dead letter; bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
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
    pub component: String,
    pub config: String,
    pub errors: Vec<Reason>,
    /// False: the first dead letter of the same record has `key`, `value` and `headers`.
    pub holds_bytes: bool,
    pub key: Option<String>,
    pub value: Option<String>,
    /// The value as text, if it is UTF-8.
    pub value_text: Option<String>,
    pub headers: Vec<Header>,
    /// Path of the file that contains it.
    pub file: String,
}

impl DeadLetter {
    /// About how many bytes it takes, to limit pages.
    pub fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let reasons = self.errors.iter().map(|e| e.message.len());
        let headers = (self.headers.iter()).map(|h| h.name.len() + text(&h.value));
        let body = text(&self.key) + text(&self.value) + text(&self.value_text);
        body + reasons.sum::<usize>() + headers.sum::<usize>()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Reason {
    pub code: String,
    pub field: Option<String>,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Header {
    pub name: String,
    pub value: Option<String>,
}

impl DeadLetter {
    /// The bytes behind `key` or `value`.
    pub fn bytes(base64: &str) -> Vec<u8> {
        STANDARD.decode(base64).unwrap_or_default()
    }
}

impl DeadLetter {
    /// With the record's bytes, or without them if an earlier one of the same record has them.
    fn of(stored: StoredDeadLetter, holds_bytes: bool) -> DeadLetter {
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
        DeadLetter {
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
            component: stored.component,
            config: stored.config,
            errors: stored.reasons.into_iter().map(reason).collect(),
            file: stored.file.to_string(),
        }
    }
}

/// The place of a file of dead letters in the order of commits: version and path.
pub type Place = (u64, String);

/// The next files of dead letters of a log, as long as it is not rewound.
#[derive(Debug)]
pub struct Files {
    /// Of the state; if it changes, files that were read before may be gone.
    removed_at: u64,
    files: Vec<(Place, AddedFile)>,
}

/// Most files that are held at once.
const FILES_AT_ONCE: usize = 1024;

/// The live files of dead letters after a place, in the order of their commits.
pub fn files(state: &State, after: Option<&Place>) -> Files {
    let place = |live: &LiveFile| (live.version, live.file.path.clone());
    let later = |live: &&LiveFile| {
        after.is_none_or(|(version, path)| (live.version, &live.file.path) > (*version, path))
    };
    let live = state
        .live
        .values()
        .filter(|l| l.file.role == Role::DeadLetters);
    let mut next: Vec<&LiveFile> = live.filter(later).collect();
    next.sort_by(|a, b| (a.version, &a.file.path).cmp(&(b.version, &b.file.path)));
    let next = next.into_iter().take(FILES_AT_ONCE);
    Files {
        removed_at: state.removed_at,
        files: next.map(|live| (place(live), live.file.clone())).collect(),
    }
}

/// The dead letters of a log, and whether the client still waits for the answer.
pub struct Letters<'a> {
    pub store: &'a Arc<dyn Store>,
    pub name: &'a LogName,
    /// [`files`] of the state as it is now.
    pub files: &'a dyn Fn(Option<&Place>) -> Result<Files>,
    pub go_on: &'a dyn Fn() -> Result<()>,
}

/// Most codes and fields that are counted separately; a plugin may name fields after its input.
const COUNTS_MAX: usize = 10_000;
const OTHERS: &str = "(others)";

/// Counts of dead letters by code and field, up to some place: new ones are added, nothing is read twice.
#[derive(Debug, Default)]
pub struct Counted {
    after: Option<Place>,
    removed_at: u64,
    counts: deadletter::Counts,
}

impl Counted {
    /// Reads on up to the newest file. If it is stopped, what was read is kept.
    pub fn follow(&mut self, of: &Letters<'_>) -> Result<()> {
        loop {
            let next = (of.files)(self.after.as_ref())?;
            if next.removed_at != self.removed_at {
                *self = Counted {
                    removed_at: next.removed_at,
                    ..Counted::default()
                };
                continue;
            }
            if next.files.is_empty() {
                return Ok(());
            }
            for (place, file) in next.files {
                (of.go_on)()?;
                for (what, letters) in deadletter::counts(of.store, of.name, &[file])? {
                    self.add(what, letters);
                }
                self.after = Some(place);
            }
        }
    }

    fn add(&mut self, what: (String, Option<String>), letters: u64) {
        let known = self.counts.contains_key(&what) || self.counts.len() < COUNTS_MAX;
        let what = match known {
            true => what,
            false => (OTHERS.to_owned(), None),
        };
        *self.counts.entry(what).or_default() += letters;
    }

    /// The most frequent first.
    pub fn by_frequency(&self, pipeline: &str) -> Vec<Count> {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let count = |((code, field), letters): (&(String, Option<String>), &u64)| Count {
            pipeline: pipeline.to_owned(),
            code: code.clone(),
            field: field.clone(),
            dead_letters: *letters,
        };
        counts.into_iter().map(count).collect()
    }
}

/// By code and field, the most frequent first.
pub fn counts(of: &Letters<'_>) -> Result<Vec<Count>> {
    let mut counted = Counted::default();
    counted.follow(of)?;
    Ok(counted.by_frequency(&of.name.pipeline))
}

/// How far a reading of dead letters has come: all files before one, and of that file a number of matching dead
/// letters. Only [`Reached::parse`] reads its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    after: Option<Place>,
    inside: Option<(String, usize)>,
}

impl Reached {
    pub fn token(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    }

    pub fn parse(token: &str) -> Option<Reached> {
        let json = URL_SAFE_NO_PAD.decode(token).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

/// What one reading may cost: it ends after the file that exceeds either limit.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    pub files: usize,
    /// Bytes of the files in the store.
    pub bytes: u64,
}

impl Work {
    pub const ALL: Work = Work {
        files: usize::MAX,
        bytes: u64::MAX,
    };
}

/// Passes one dead letter after the other to `each`, in the order of their commits, until it returns false or the
/// limits are reached. The first one of each record has the bytes. Returns where to go on; `None`: there are no more.
pub fn letters(
    of: &Letters<'_>,
    filter: &Filter,
    from: Reached,
    work: Work,
    mut each: impl FnMut(DeadLetter) -> bool,
) -> Result<Option<Reached>> {
    let Reached {
        mut after,
        mut inside,
    } = from;
    let mut before: Option<Arc<Original>> = None;
    let (mut files, mut bytes) = (0, 0);
    loop {
        let next = (of.files)(after.as_ref())?;
        if next.files.is_empty() {
            return Ok(None);
        }
        for (place, file) in next.files {
            if files >= work.files || bytes >= work.bytes {
                return Ok(Some(Reached { after, inside }));
            }
            (of.go_on)()?;
            let path = file.path.clone();
            let skip = inside.take().filter(|(known, _)| *known == path);
            let skip = skip.map_or(0, |(_, letters)| letters);
            if may_hold(&file, filter) {
                files += 1;
                bytes += file.bytes;
                let found =
                    deadletter::read(of.store, of.name, std::slice::from_ref(&file), filter);
                for (letter, stored) in found.enumerate().skip(skip) {
                    let stored = stored?;
                    let original = stored.original.clone();
                    let first = !before.is_some_and(|before| Arc::ptr_eq(&before, &original));
                    before = Some(original);
                    if !each(DeadLetter::of(stored, first)) {
                        let inside = Some((path, letter));
                        return Ok(Some(Reached { after, inside }));
                    }
                }
            }
            after = Some(place);
        }
    }
}

/// False: the file's ranges show that it has no dead letter of the wanted record.
fn may_hold(file: &AddedFile, filter: &Filter) -> bool {
    let Some(offset) = filter.offset else {
        return true;
    };
    file.ranges.is_empty()
        || file
            .ranges
            .iter()
            .any(|r| r.from <= offset && offset < r.to)
}
