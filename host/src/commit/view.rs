//! The state of a log for queries. If this process has the log in memory, a query reads it there and not from the
//! store.
//!
//! ```text
//! a pipeline runs here   Log ─ owns the state ─ View ─→ read(…)     the writer's own state, at most one entry behind
//! nobody writes here     Folded ─ follow() ───────────→ read(…)     folded once, then only what is new is read
//! ```
//! `read` holds a lock while it copies what an answer needs; nothing here gives out the state itself.

use std::sync::{Arc, Mutex};

use super::LogName;
use super::log::{first_state, fold, hole, newest_listed, read_next};
use super::state::State;
use crate::error::{Error, Kind, Result};
use crate::lock::{lock, try_lock};
use crate::store::Store;

/// The state of a [`super::Log`] of this process. It ends with the log: keep only a weak reference.
#[derive(Debug)]
pub struct View {
    url: String,
    name: LogName,
    /// `None` while it changes, and for good after a fold that panicked.
    state: Mutex<Option<Arc<State>>>,
    /// What a person must look at before it becomes a loss.
    alarm: Mutex<Option<String>>,
    /// Files that expired and cannot be deleted, and why the first of them cannot.
    undeleted: Mutex<Option<(u64, String)>>,
}

impl View {
    /// Raises an alarm, or ends it. True: it differs from the one before.
    pub(super) fn alarm(&self, alarm: Option<String>) -> bool {
        let mut held = lock(&self.alarm);
        let other = *held != alarm;
        *held = alarm;
        other
    }

    pub fn alarmed(&self) -> Option<String> {
        lock(&self.alarm).clone()
    }

    /// True: it differs from before.
    pub(super) fn undeletable(&self, found: Option<(u64, String)>) -> bool {
        let mut held = lock(&self.undeleted);
        let other = *held != found;
        *held = found;
        other
    }

    /// Files that expired and cannot be deleted, and why the first of them cannot.
    pub fn undeleted(&self) -> Option<(u64, String)> {
        lock(&self.undeleted).clone()
    }

    pub(super) fn new(store: &dyn Store, name: &LogName, state: &Arc<State>) -> View {
        View {
            url: store.url().to_owned(),
            name: name.clone(),
            state: Mutex::new(Some(state.clone())),
            alarm: Mutex::new(None),
            undeleted: Mutex::new(None),
        }
    }

    pub fn is_of(&self, url: &str, name: &LogName) -> bool {
        self.url == url && self.name == *name
    }

    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> Option<R> {
        lock(&self.state).as_deref().map(look)
    }

    /// For the writer. `own` and this view are the only holders, so nothing is copied.
    pub(super) fn change<R>(
        &self,
        own: &mut Arc<State>,
        change: impl FnOnce(&mut State) -> R,
    ) -> R {
        let mut shown = lock(&self.state);
        *shown = None;
        let done = change(Arc::make_mut(own));
        *shown = Some(own.clone());
        done
    }
}

#[derive(Debug)]
struct Held {
    state: State,
    /// True: the whole log was read once. False: reading was stopped before the end.
    whole: bool,
}

/// The state of a log that nobody in this process writes.
#[derive(Debug, Default)]
pub struct Folded {
    /// Held while somebody reads.
    reading: Mutex<()>,
    held: Mutex<Option<Held>>,
}

impl Folded {
    /// Reads on up to the newest entry. `None`: somebody else is reading. `Some(false)`: there is no log. `go_on` is
    /// called with the number of entries read; if it stops the reading, what was read is kept for the next call.
    pub fn follow(
        &self,
        store: &dyn Store,
        name: &LogName,
        go_on: &dyn Fn(usize) -> Result<()>,
    ) -> Result<Option<bool>> {
        let Some(_reading) = try_lock(&self.reading) else {
            return Ok(None);
        };
        let mut again = false;
        loop {
            let whole = lock(&self.held).as_ref().is_some_and(|held| held.whole);
            let newest = match whole {
                true => None,
                // Listed before it is read: everything in the listing must be readable, even if somebody appends
                // meanwhile.
                false => newest_listed(store, name)?,
            };
            if lock(&self.held).is_none() {
                let Some((state, _)) = first_state(store, name)? else {
                    return match newest {
                        Some(newest) => Err(hole(name, 0, newest)),
                        None => Ok(Some(false)),
                    };
                };
                go_on(1)?;
                *lock(&self.held) = Some(Held {
                    state,
                    whole: false,
                });
            }
            if self.read_on(store, name, newest, go_on)? {
                return self.is_whole(name, newest).map(|()| Some(true));
            }
            // The log was shortened, replaced or deleted: it is read again from its start, once.
            self.forget();
            if std::mem::replace(&mut again, true) {
                return Err(Error::new(
                    Kind::LogCorrupt,
                    "log.open",
                    "an entry changed while the log was read",
                )
                .with("log", name));
            }
        }
    }

    /// False: the log no longer contains what was read before.
    fn read_on(
        &self,
        store: &dyn Store,
        name: &LogName,
        listed: Option<u64>,
        go_on: &dyn Fn(usize) -> Result<()>,
    ) -> Result<bool> {
        loop {
            let at = lock(&self.held)
                .as_ref()
                .map(|held| (held.state.version, held.state.digest.clone()));
            let Some((version, digest)) = at else {
                return Ok(false);
            };
            let Some(read) = read_next(store, name, version, &digest, listed)? else {
                return Ok(false);
            };
            let more = read.more;
            go_on(read.entries.len())?;
            match lock(&self.held).as_mut() {
                Some(held) => fold(name, &mut held.state, read)?,
                None => return Ok(false),
            }
            if !more {
                return Ok(true);
            }
        }
    }

    fn is_whole(&self, name: &LogName, newest: Option<u64>) -> Result<()> {
        let mut held = lock(&self.held);
        let Some(held) = held.as_mut() else {
            return Ok(());
        };
        match newest {
            Some(newest) if newest > held.state.version => {
                Err(hole(name, held.state.version + 1, newest))
            }
            _ => {
                held.whole = true;
                Ok(())
            }
        }
    }

    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> Option<R> {
        lock(&self.held).as_ref().map(|held| look(&held.state))
    }

    pub fn forget(&self) {
        *lock(&self.held) = None;
    }

    /// About how much memory it takes, in items of some hundred bytes each.
    pub fn weight(&self) -> usize {
        self.read(State::weight).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::clock::SystemClock;
    use crate::commit::{Draft, Log, Open, Writer};
    use crate::record::SplitId;

    fn log(store: &Arc<dyn Store>, name: &LogName) -> Log {
        let clock = SystemClock::shared();
        let writer = Writer::this_process(&*clock);
        Log::open_or_init(store.clone(), name.clone(), clock, writer, Vec::new()).expect("log")
    }

    fn grow(log: &mut Log, from: i32, to: i32) {
        for partition in from..to {
            let open = Open {
                split: SplitId::from(format!("t/{partition}")),
                topic: "t".to_owned(),
                partition,
                offset: 0,
                start: "earliest".to_owned(),
            };
            log.commit(Draft::Open(vec![open])).expect("commit");
        }
    }

    fn follow(folded: &Folded, store: &Arc<dyn Store>, name: &LogName) -> usize {
        let read = Cell::new(0);
        let go_on = |entries| {
            read.set(read.get() + entries);
            Ok(())
        };
        let there = folded.follow(store.as_ref(), name, &go_on).expect("follow");
        assert_eq!(there, Some(true));
        read.get()
    }

    #[test]
    fn a_log_is_folded_once_and_then_only_what_is_new_is_read() {
        let (store, name) = (store("once"), LogName::new("p", "z"));
        let mut log = log(&store, &name);
        grow(&mut log, 0, 20);
        let folded = Folded::default();
        assert_eq!(follow(&folded, &store, &name), 21);
        assert_eq!(follow(&folded, &store, &name), 0);
        grow(&mut log, 20, 22);
        assert_eq!(follow(&folded, &store, &name), 2);
        let of_writer = log.view().read(State::clone).expect("a state");
        assert_eq!(folded.read(State::clone).expect("a state"), of_writer);
        assert_eq!(of_writer, *log.state());
    }

    #[test]
    fn a_reading_that_was_stopped_goes_on_where_it_was() {
        let (store, name) = (store("stopped"), LogName::new("p", "z"));
        let entries = 2 * super::super::log::ENTRIES_AT_ONCE + 5;
        let mut log = log(&store, &name);
        grow(&mut log, 0, i32::try_from(entries).expect("small"));
        let folded = Folded::default();
        let read = Cell::new(0);
        let go_on = |entries| match read.replace(read.get() + entries) {
            0..=1 => Ok(()),
            _ => Err(Error::new(Kind::Stopped, "test", "the client left")),
        };
        folded
            .follow(store.as_ref(), &name, &go_on)
            .expect_err("stopped");
        assert!(follow(&folded, &store, &name) < entries);
        assert_eq!(folded.read(State::clone).expect("a state"), *log.state());
    }

    #[test]
    fn while_one_reads_the_others_are_told_so() {
        let (store, name) = (store("one"), LogName::new("p", "z"));
        let mut log = log(&store, &name);
        grow(&mut log, 0, 3);
        let folded = Folded::default();
        let go_on = |_| {
            let second = folded.follow(store.as_ref(), &name, &|_| Ok(()));
            assert_eq!(second.expect("no fault"), None);
            Ok(())
        };
        folded.follow(store.as_ref(), &name, &go_on).expect("read");
    }

    fn store(name: &str) -> Arc<dyn Store> {
        crate::store::open_url(&format!("memory:view-{name}")).expect("store")
    }
}
