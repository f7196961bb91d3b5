//! Queries about commit logs. While a pipeline runs, its own state answers; otherwise the log is folded once, and the
//! state is kept for the next query. Only one query reads a log at a time, and it stops if its client has left.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Refused;
use crate::clock::Clock;
use crate::commit::{Folded, LogName, State, View};
use crate::config::Home;
use crate::error::{Error, Kind, Result};
use crate::lock::{lock, try_lock};
use crate::operations::dlq::{Count, Counted, Files, Letters, Place};
use crate::store::{self, Store};

/// Most logs of pipelines that do not run whose states are kept: those that were queried last.
const FOLDED_LOGS: usize = 16;
/// Most items (files, commit boundaries) in all of those together: about 200 MB. The log that was queried last is kept
/// in any case.
const FOLDED_WEIGHT: usize = 400_000;
/// How long a query waits while another one reads the same log; then it gets 503.
const TURN_WAIT: Duration = Duration::from_secs(2);
/// Longest wait for an entry that another process wrote: the running pipeline sees it within half a second.
const FRESH_WAIT: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The client of a query. Its clones learn too that it has left.
#[derive(Clone, Debug, Default)]
pub struct Asker(Arc<AtomicBool>);

impl Asker {
    /// Nobody waits for the answer any more.
    pub fn left(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error if nobody waits any more: the answer is no longer needed.
    pub fn wants_it(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(Error::new(
                Kind::Stopped,
                "daemon.answer",
                "nobody waits for this answer any more: the client left, or its time was over",
            )),
        }
    }
}

/// What was read of logs for queries, kept for the next one.
#[derive(Debug, Default)]
pub struct Views {
    /// Sorted by the last query; the newest is last.
    logs: Mutex<Vec<Arc<Slot>>>,
    /// Number of entries read for queries.
    entries: AtomicU64,
}

/// What is kept of one log.
#[derive(Debug)]
struct Slot {
    url: String,
    name: LogName,
    folded: Folded,
    letters: Mutex<Counted>,
}

/// A log and its state.
#[derive(Debug)]
pub struct Known {
    pub store: Arc<dyn Store>,
    pub name: LogName,
    running: Option<Arc<View>>,
    slot: Arc<Slot>,
    asker: Asker,
    clock: Arc<dyn Clock>,
}

impl Views {
    pub fn entries_read(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// `None`: there is no log yet.
    pub fn known(
        &self,
        name: &str,
        home: &Home,
        running: Option<Arc<View>>,
        (asker, clock): (&Asker, &Arc<dyn Clock>),
    ) -> Result<Option<Known>, Refused> {
        let log = LogName::new(name, &home.zone);
        let Some(store) = store::open_existing(&home.at).map_err(Refused::Failed)? else {
            return Ok(None);
        };
        let known = Known {
            running: running.filter(|view| view.is_of(store.url(), &log)),
            slot: self.slot(store.url(), &log),
            store,
            name: log,
            asker: asker.clone(),
            clock: clock.clone(),
        };
        match &known.running {
            Some(view) => {
                known.slot.folded.forget();
                known.fresh(view).map_err(Refused::Failed)?;
                Ok(Some(known))
            }
            None => Ok(self.folded(&known)?.then_some(known)),
        }
    }

    /// False: there is no log.
    fn folded(&self, known: &Known) -> Result<bool, Refused> {
        let go_on = |entries: usize| {
            self.entries.fetch_add(entries as u64, Ordering::Relaxed);
            known.asker.wants_it()
        };
        let follow = || {
            let (store, slot) = (known.store.as_ref(), &known.slot);
            slot.folded.follow(store, &known.name, &go_on)
        };
        known.in_turn(follow)
    }

    fn slot(&self, url: &str, name: &LogName) -> Arc<Slot> {
        let mut logs = lock(&self.logs);
        let at = logs.iter().position(|s| s.url == url && s.name == *name);
        let slot = match at {
            Some(at) => logs.remove(at),
            None => Arc::new(Slot {
                url: url.to_owned(),
                name: name.clone(),
                folded: Folded::default(),
                letters: Mutex::default(),
            }),
        };
        let mut weight: usize = logs.iter().map(|slot| slot.folded.weight()).sum();
        while logs.len() >= FOLDED_LOGS || (weight > FOLDED_WEIGHT && !logs.is_empty()) {
            weight -= logs.remove(0).folded.weight().min(weight);
        }
        logs.push(slot.clone());
        slot
    }
}

impl Known {
    /// Copies what an answer needs; the writer of the log waits meanwhile.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> Result<R> {
        let read = match &self.running {
            Some(view) => view.read(look),
            None => self.slot.folded.read(look),
        };
        read.ok_or_else(|| {
            Error::new(
                Kind::StoreUnavailable,
                "daemon.log",
                "the log was replaced while it was looked at",
            )
            .with("log", &self.name)
            .hint("ask again")
        })
    }

    /// An error if nobody waits for the answer any more.
    pub fn go_on(&self) -> Result<()> {
        self.asker.wants_it()
    }

    /// Dead letters by code and field.
    pub fn letter_counts(&self) -> Result<Vec<Count>, Refused> {
        self.in_turn(|| {
            let Some(mut counted) = try_lock(&self.slot.letters) else {
                return Ok(None);
            };
            self.with_letters(|of| counted.follow(of))?;
            Ok(Some(counted.by_frequency(&self.name.pipeline)))
        })
    }

    pub fn with_letters<R>(&self, read: impl FnOnce(&Letters<'_>) -> Result<R>) -> Result<R> {
        let files = |after: Option<&Place>| -> Result<Files> {
            self.read(|state| crate::operations::dlq::files(state, after))
        };
        read(&Letters {
            store: &self.store,
            name: &self.name,
            files: &files,
            go_on: &|| self.go_on(),
        })
    }

    /// If `job` returns `None`, another query is reading the log.
    fn in_turn<R>(&self, job: impl Fn() -> Result<Option<R>>) -> Result<R, Refused> {
        let until = self.clock.elapsed() + TURN_WAIT;
        loop {
            if let Some(done) = job().map_err(Refused::Failed)? {
                return Ok(done);
            }
            self.go_on().map_err(Refused::Failed)?;
            if self.clock.elapsed() >= until {
                return Err(Refused::Busy(format!(
                    "the log of pipeline `{}` is being read for another request; ask again in a moment",
                    self.name.pipeline
                )));
            }
            self.clock.sleep(LOOK_EVERY);
        }
    }

    /// Waits until the running pipeline has seen the log's newest entry, or [`FRESH_WAIT`] has passed.
    fn fresh(&self, view: &View) -> Result<()> {
        let Some(seen) = view.read(|state| state.version) else {
            return Ok(());
        };
        if self.store.size(&self.name.entry(seen + 1))?.is_none() {
            return Ok(());
        }
        let until = self.clock.elapsed() + FRESH_WAIT;
        while view.read(|state| state.version) == Some(seen) && self.clock.elapsed() < until {
            self.go_on()?;
            self.clock.sleep(LOOK_EVERY);
        }
        Ok(())
    }
}
