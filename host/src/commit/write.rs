//! Writing the log: an attempt becomes the next version, or somebody else's entry does (docs/protocol.md §5).
//!
//! ```text
//! draft ─W3→ check every part on the proved state; the overtaken are dropped
//!       ─W5→ Create(P+1) ─ clear success ───────────────────────→ W6
//!              └ anything else: GET P+1 ─ own bytes ────────────→ W6
//!                                       ├ another's ────────────→ W3
//!                                       └ nothing: same bytes again; unsettled until one answer is clear
//!       ─W6→ GET P: same digest → committed
//! ```

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::draft::{self, Built};
use super::entry::{Entry, FORMAT, Init, Kind as EntryKind, Rule, Writer};
use super::state::{State, Violation};
use super::{Committed, Draft, Dropped, Keep, Log, LogName, Outcome, file};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Store};

/// Largest factor on the pace under contention: beyond it, waiting longer does not help (docs/protocol.md §5, Pace).
const PACE_FACTOR_MAX: u32 = 64;

/// A shared log is too busy above this number of attempts per entry.
const ATTEMPTS_BUSY: f64 = 1.5;

/// Latency that is assumed until the first Create was timed.
const LATENCY_FIRST: Duration = Duration::from_millis(20);

/// An entry may add a file only during the first of this many parts of its upload's lifetime (O7). The rest of the
/// lifetime is for publishing.
pub const LIFETIME_SHARE_TO_COMMIT: u32 = 4;

/// Default of `commit.log.retention`: a week, so that what went wrong on a Friday can be put back on Monday.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Least value of [`Limits::late`] in a pipeline.
pub const LATE: Duration = Duration::from_secs(3600);

/// A start reads at most about so many entries. Fewer would write more bytes of checkpoints than entries have.
const CHECKPOINT_EVERY: u64 = 50;

/// One entry in a thousand forgets what is old: often enough for flat memory, too rare to be seen in any figure.
const HORIZON_STEP: u64 = 1000;

/// Longest wait between two attempts, whatever the store's latency.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After this many Creates without a clear answer, the caller gets the error that the store does not answer.
    pub tries: u32,
    /// Shortest time between two data entries of one writer.
    pub pace: Duration,
    /// So long a pipeline can go back, and its history is kept (`commit.log.retention`).
    pub retention: Duration,
    /// Nothing younger is forgotten, whatever it takes: a removed file may come back so late, by a copy that was under way, and
    /// what a task has begun must be committed within it (W4). Where the retention is shorter, that counts.
    pub late: Duration,
    /// Versions from one checkpoint to the next.
    pub checkpoint_every: u64,
    /// A horizon rises by at least so many versions.
    pub horizon_step: u64,
    /// What stays in the zone, and for how long.
    pub keep: Keep,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tries: 8,
            pace: Duration::from_secs(1),
            retention: RETENTION,
            late: LATE,
            checkpoint_every: CHECKPOINT_EVERY,
            horizon_step: HORIZON_STEP,
            keep: Keep::default(),
        }
    }
}

/// A draft that is being written.
#[derive(Debug)]
pub(super) struct Pending {
    draft: Draft,
    dropped: Vec<Dropped>,
    /// Creates at different versions so far.
    attempts: u32,
    sent: Option<Sent>,
    /// The `gc` entry that shall take its place (W5, leave).
    left: Option<Sent>,
}

impl Pending {
    pub(super) fn new(draft: Draft) -> Pending {
        Pending {
            draft,
            dropped: Vec::new(),
            attempts: 0,
            sent: None,
            left: None,
        }
    }
}

/// Bytes that may be stored at their version, now or later.
#[derive(Clone, Debug)]
struct Sent {
    entry: Arc<Entry>,
    bytes: Vec<u8>,
}

/// What is stored at the version.
enum Settled {
    /// The bytes just sent.
    Ours,
    /// Those sent before them for the same version.
    Earlier,
    Another,
}

impl Log {
    /// Drives a draft to its end, or keeps it if the store does not answer.
    pub(super) fn drive(&mut self, mut pending: Pending) -> Result<Outcome> {
        let late = self.oldest_begin();
        let stale = |sent: &Sent| sent.entry.add.iter().any(|f| is_older(&f.id, late));
        if pending.left.is_some() || pending.sent.as_ref().is_some_and(stale) {
            return self.drive_out(pending);
        }
        let driven = self.try_drive(&mut pending);
        self.keep(pending, driven)
    }

    /// W5: drives a draft out of the way, by a `gc` entry in its place.
    pub(super) fn drive_out(&mut self, mut pending: Pending) -> Result<Outcome> {
        let driven = self.try_leave(&mut pending);
        self.keep(pending, driven)
    }

    /// An unsettled draft is kept; files of dropped parts are added to those that this log collects. After an error
    /// that is no outage the outcome is unknown, so nothing is collected here; the next opener does it.
    fn keep(&mut self, pending: Pending, driven: Result<Outcome>) -> Result<Outcome> {
        match &driven {
            Err(e) if e.kind() == Kind::StoreUnavailable => self.pending = Some(pending),
            Err(_) => {}
            Ok(Outcome::Committed { dropped, .. } | Outcome::Lost { dropped }) => {
                for part in dropped {
                    if part.reason.rule != "W6" {
                        let files = draft::outputs_of(&pending.draft, part.index);
                        let state = &self.state;
                        self.orphans.extend(
                            files
                                .into_iter()
                                .filter(|f| !state.collected.contains_key(f)),
                        );
                    }
                }
            }
        }
        driven
    }

    /// O7: an entry written now may only add files that were begun at or after this time. Milliseconds since 1970 UTC;
    /// `None`: the store keeps unpublished files for good.
    pub(super) fn oldest_begin(&self) -> Option<u64> {
        let lifetime = self.store.lifetime()?;
        let oldest = lifetime / LIFETIME_SHARE_TO_COMMIT;
        let now = u64::try_from(self.clock.now_micros()).unwrap_or(0) / 1000;
        Some(now.saturating_sub(u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX)))
    }

    fn try_drive(&mut self, pending: &mut Pending) -> Result<Outcome> {
        loop {
            let sent = match &pending.sent {
                Some(sent) => sent.clone(),
                None => {
                    self.read_on()?;
                    draft::drop_stale(&pending.draft, &mut pending.dropped, self.oldest_begin());
                    let built = draft::build(
                        &self.state,
                        &pending.draft,
                        &mut pending.dropped,
                        &self.orphans,
                    )?;
                    let Some(built) = built else {
                        let dropped = std::mem::take(&mut pending.dropped);
                        return Ok(Outcome::Lost { dropped });
                    };
                    let sent = self.next_entry(built)?;
                    pending.attempts += 1;
                    pending.sent = Some(sent.clone());
                    sent
                }
            };
            match self.put(&sent, None)? {
                Settled::Ours | Settled::Earlier => return self.confirm(sent, pending),
                Settled::Another => {
                    pending.sent = None;
                    self.back_off(pending.attempts);
                }
            }
        }
    }

    fn try_leave(&mut self, pending: &mut Pending) -> Result<Outcome> {
        let why = |rule, message: &str| Violation {
            rule,
            message: message.to_owned(),
            split: None,
            moved: true,
        };
        let Some(sent) = pending.sent.clone() else {
            let reason = why("W5", "left before it was sent");
            return Ok(lose_all(pending, &reason));
        };
        if self.state.version >= sent.entry.version {
            return self.try_drive(pending); // already read: only W6 is open
        }
        let gc = match &pending.left {
            Some(gc) => gc.clone(),
            None => {
                let outputs = draft::collected(&sent.entry.add, &sent.entry.deliver);
                let gc = self.next_entry(Built::gc(outputs, sent.entry.base))?;
                pending.left = Some(gc.clone());
                gc
            }
        };
        match self.put(&gc, Some(&sent))? {
            Settled::Earlier => self.confirm(sent, pending),
            Settled::Ours => {
                let before = pending.dropped.clone();
                let confirmed = self.confirm(gc, pending)?;
                if let Outcome::Lost { dropped } = confirmed {
                    return Ok(Outcome::Lost { dropped }); // W6: not even that is known
                }
                pending.dropped = before;
                Ok(lose_all(
                    pending,
                    &why("W5", "left; its files were collected"),
                ))
            }
            Settled::Another => Ok(lose_all(
                pending,
                &why("W5", "left; another entry took its version"),
            )),
        }
    }

    fn next_entry(&mut self, built: Built) -> Result<Sent> {
        let attempt: u128 = self.random.random();
        let mut entry = built.entry;
        entry.version = self.state.version + 1;
        entry.parent.clone_from(&self.state.digest);
        entry.attempt = format!("{attempt:032x}");
        entry.writer = self.writer.clone();
        entry.time = self.clock.now_micros();
        self.state.check(&entry).map_err(|v| {
            Error::new(
                Kind::Bug,
                "log.commit",
                format!("a {:?} entry of our own is not valid: {v}", entry.kind),
            )
            .with("log", &self.name)
        })?;
        let bytes = file::encode(&entry)?;
        Ok(Sent {
            entry: Arc::new(entry),
            bytes,
        })
    }

    /// W5. `earlier`: other bytes of ours that may land at the same version.
    fn put(&mut self, sent: &Sent, earlier: Option<&Sent>) -> Result<Settled> {
        let path = self.name.entry(sent.entry.version);
        let mut tries = 0;
        loop {
            let started = self.clock.elapsed();
            let mut last = match self.store.create(&path, &sent.bytes) {
                Ok(Created::Done) => {
                    self.pace.took(self.clock.elapsed().saturating_sub(started));
                    return Ok(Settled::Ours);
                }
                Ok(Created::Exists) => None,
                Err(e) if e.kind() == Kind::StoreUnavailable => Some(e),
                Err(e) => return Err(e),
            };
            match self.store.get(&path) {
                Ok(Some(found)) => {
                    if found == sent.bytes {
                        self.store.sync(&self.name.log_dir())?;
                        return Ok(Settled::Ours);
                    }
                    if earlier.is_some_and(|earlier| found == earlier.bytes) {
                        self.store.sync(&self.name.log_dir())?;
                        return Ok(Settled::Earlier);
                    }
                    return Ok(Settled::Another);
                }
                Ok(None) => {}
                Err(e) if e.kind() == Kind::StoreUnavailable => last = Some(e),
                Err(e) => return Err(e),
            }
            tries += 1;
            if tries >= self.limits.tries {
                let error = Error::new(
                    Kind::StoreUnavailable,
                    "log.commit",
                    format!(
                        "version {} is unsettled: {tries} attempts without a clear answer",
                        sent.entry.version
                    ),
                )
                .with("log", &self.name)
                .hint("check the store; the same entry is tried again");
                return Err(match last {
                    Some(e) => error.source(e),
                    None => error,
                });
            }
            self.back_off(tries);
        }
    }

    /// W6. Only here a `Committed` is made.
    fn confirm(&mut self, sent: Sent, pending: &mut Pending) -> Result<Outcome> {
        let version = sent.entry.version;
        let parent = match self.is_overtaken()? {
            true => None,
            false => self.store.get(&self.name.entry(version - 1))?,
        };
        if parent.is_none_or(|bytes| file::digest(&bytes) != self.state.digest) {
            // Nothing is known: publish nothing, delete nothing, read the whole log again.
            self.read_again()?;
            // Below the horizon it may be a ghost, in the place of an entry that was deleted.
            let landed = match version < self.state.horizon {
                true => None,
                false => self.store.get(&self.name.entry(version))?,
            };
            if landed.is_none_or(|bytes| bytes != sent.bytes) {
                let reason = Violation {
                    rule: "W6",
                    message: "the version before is not the one that was proved".to_owned(),
                    split: None,
                    moved: true,
                };
                return Ok(lose_all(pending, &reason));
            }
        } else {
            let digest = file::digest(&sent.bytes);
            self.step(&sent.entry, digest)?;
        }
        if matches!(sent.entry.kind, EntryKind::Data | EntryKind::Batch) {
            self.pace.committed(self.clock.elapsed(), pending.attempts);
        }
        // Files that expired were live: they are taken away by `sweep`.
        let never_live = sent.entry.gc.iter();
        let never_live = never_live.filter(|id| !self.state.removed.contains_key(*id));
        let never_live: Vec<String> = never_live.cloned().collect();
        self.collect(&never_live);
        let dropped = std::mem::take(&mut pending.dropped);
        Ok(Outcome::Committed {
            committed: Committed {
                version,
                entry: sent.entry,
                _proved: (),
            },
            dropped,
        })
    }

    /// W8: only after a proved entry names these files. What cannot be deleted now is deleted by a later opener.
    pub(super) fn collect(&mut self, files: &[String]) {
        for file in files {
            self.orphans.remove(file);
            if let Err(e) = self.store.discard(&self.name.dir(), file) {
                tracing::debug!(file, error = %e, "a collected file stays until the next start");
            }
        }
    }

    /// Waits for a random time, uniform over [0, tries × latency].
    pub(super) fn back_off(&mut self, tries: u32) {
        let most = (self.pace.latency() * tries).min(BACKOFF_MAX);
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let wait = self.random.random_range(0..=micros);
        self.clock.sleep(Duration::from_micros(wait));
    }
}

/// Whether a file was begun before that time. Its id is a ULID, which contains the time.
pub(super) fn is_older(file: &str, than: Option<u64>) -> bool {
    let begun = ulid::Ulid::from_string(file).map(|id| id.timestamp_ms());
    matches!((begun, than), (Ok(begun), Some(than)) if begun < than)
}

fn lose_all(pending: &mut Pending, reason: &Violation) -> Outcome {
    let mut dropped = std::mem::take(&mut pending.dropped);
    draft::drop_rest(&pending.draft, &mut dropped, reason);
    Outcome::Lost { dropped }
}

/// Writes version 0, or reads the one that another process wrote first.
pub(super) fn init(
    store: &dyn Store,
    name: &LogName,
    clock: &dyn Clock,
    writer: &Writer,
    rules: Vec<Rule>,
) -> Result<State> {
    let attempt: u128 = StdRng::from_os_rng().random();
    let entry = Entry {
        format: FORMAT,
        attempt: format!("{attempt:032x}"),
        writer: writer.clone(),
        time: clock.now_micros(),
        init: Some(Init {
            pipeline: name.pipeline.clone(),
            zone: name.zone.clone(),
            weir: env!("CARGO_PKG_VERSION").to_owned(),
            transforms: rules,
            declared: None,
        }),
        ..Built::empty(EntryKind::Init)
    };
    let path = name.entry(0);
    let bytes = file::encode(&entry)?;
    let created = store.create(&path, &bytes);
    // Whoever wrote it, the log begins with the entry that is there.
    let Some(found) = store.get(&path)? else {
        return Err(match created {
            Err(e) => e,
            Ok(_) => Error::new(
                Kind::LogCorrupt,
                "log.init",
                "the first entry of the log was written and is not there",
            )
            .with("entry", path),
        });
    };
    store.sync(&name.log_dir())?;
    let entry = file::decode(&found, &path)?;
    State::begin(&entry, file::digest(&found)).map_err(|v| super::log::invalid(name, 0, &v))
}

// === impl Pace ===

/// How busy this log is, as this writer sees it.
#[derive(Debug)]
pub(super) struct Pace {
    /// By the clock's `elapsed`.
    last_entry: Option<Duration>,
    latency: Option<Duration>,
    attempts_per_entry: f64,
    factor: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            last_entry: None,
            latency: None,
            attempts_per_entry: 1.0,
            factor: 1,
        }
    }
}

impl Pace {
    fn latency(&self) -> Duration {
        self.latency.unwrap_or(LATENCY_FIRST)
    }

    fn took(&mut self, time: Duration) {
        self.latency = Some(match self.latency {
            Some(before) => (before * 7 + time) / 8,
            None => time,
        });
    }

    fn committed(&mut self, now: Duration, attempts: u32) {
        self.last_entry = Some(now);
        self.attempts_per_entry = (self.attempts_per_entry * 7.0 + f64::from(attempts)) / 8.0;
        self.factor = if self.attempts_per_entry > ATTEMPTS_BUSY {
            (self.factor * 2).min(PACE_FACTOR_MAX)
        } else {
            1
        };
    }

    pub(super) fn ready_in(&self, now: Duration, least: Duration, writers: usize) -> Duration {
        let Some(last) = self.last_entry else {
            return Duration::ZERO;
        };
        let writers = u32::try_from(writers).unwrap_or(u32::MAX);
        let shared = self.latency().saturating_mul(3).saturating_mul(writers);
        let pace = least.max(shared).saturating_mul(self.factor);
        (last + pace).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_is_immediate_and_a_busy_log_slows_its_writers() {
        let mut pace = Pace::default();
        let second = Duration::from_secs(1);
        let ready = |pace: &Pace, now: u64, writers| {
            pace.ready_in(Duration::from_secs(now), second, writers)
        };
        assert_eq!(ready(&pace, 5, 1), Duration::ZERO);
        pace.took(Duration::from_millis(100));
        pace.committed(Duration::from_secs(10), 1);
        assert_eq!(ready(&pace, 10, 1), second);
        assert_eq!(ready(&pace, 11, 1), Duration::ZERO);
        assert_eq!(ready(&pace, 10, 10), 3 * second); // W × 3 × latency
        pace.committed(Duration::from_secs(20), 9);
        assert_eq!(ready(&pace, 20, 1), 2 * second);
        pace.committed(Duration::from_secs(30), 9);
        assert_eq!(ready(&pace, 30, 1), 4 * second);
        for _ in 0..16 {
            pace.committed(Duration::from_secs(40), 1);
        }
        assert_eq!(ready(&pace, 40, 1), second);
    }
}
