//! Reading the log: only what is proved counts (docs/protocol.md §4).
//!
//! The log holds P, the proved version, with its digest. Entries are read upwards from P to the first that does not exist,
//! then P is read again: while it is still there with the same digest, nothing above it was ever deleted, and all that was
//! read is the one history. No rule here needs a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::checkpoint::{self, Known, Newest};
use super::entry::{Delivery, Entry, Rule, Writer};
use super::publish::Undeleted;
use super::state::{State, Violation};
use super::view::View;
use super::write::{Limits, Pace, Pending};
use super::{Draft, LogName, Outcome, file};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::record::SplitId;
use crate::store::Store;

/// Entries read before they are proved and folded: bounds memory while a long log is opened.
pub(super) const ENTRIES_AT_ONCE: usize = 256;
/// The same in bytes, for entries that name thousands of files.
const BYTES_AT_ONCE: usize = 16 << 20;

/// An entry is never written and deleted again in so short a time: the horizon lies far behind (R3).
const ASLEEP: Duration = Duration::from_secs(60);

/// So often per step of the horizon it is looked whether it may rise: a reader may hold it back.
const HORIZON_LOOKS: u64 = 16;

/// One writer's view of a log, and the only way to append to it.
#[derive(Debug)]
pub struct Log {
    pub(super) store: Arc<dyn Store>,
    pub(super) name: LogName,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) writer: Writer,
    /// Changed through `view` only.
    pub(super) state: Arc<State>,
    /// The same state, for queries.
    view: Arc<View>,
    pub(super) limits: Limits,
    pub(super) pace: Pace,
    /// An attempt that may or may not be in the log.
    pub(super) pending: Option<Pending>,
    /// Files of this process that no entry will name; the next data entry lists them in `gc`.
    pub(super) orphans: BTreeSet<String>,
    /// P1: deliveries with a token in entries of others, read since the log was opened and not taken.
    others: Vec<Delivery>,
    /// Files that were removed up to this version, but for those that expired, are gone from the store. `None`: not checked yet.
    pub(super) swept: Option<u64>,
    pub(super) undeleted: Undeleted,
    /// Files that were removed above a version may come back, by copies that were under way; and since when this process knows.
    pub(super) late: Option<(Duration, u64)>,
    /// Checkpoints, as far as this process read or wrote them.
    pub(super) known: Known,
    /// The version at which it was last looked whether the horizon may rise.
    looked: AtomicU64,
    /// When it is looked again whether something is old, by the clock's elapsed time in microseconds.
    pub(super) look_due_at: AtomicU64,
    /// Since when this process knows the newest entry: its version, the clock's elapsed time.
    pub(super) known_since: Mutex<(u64, Duration)>,
    /// By the clock's elapsed time.
    pub(super) opened_at: Duration,
    /// When it was last asked whether something is above the proved version: the clock's elapsed time, and its time.
    looked_at: Mutex<(Duration, i64)>,
    /// Since when the store does not show a committed file although it was asked to publish it.
    pub(super) unseen_since: Option<Duration>,
    pub(super) random: StdRng,
}

impl Log {
    /// R1, R2: reads the whole log and proves it. Publishes nothing, collects nothing, writes nothing: for `weir log`, and
    /// for reading (and registering a `reader` in) the log of another zone. `None`: there is no log.
    pub fn open(
        store: Arc<dyn Store>,
        name: LogName,
        clock: Arc<dyn Clock>,
        writer: Writer,
    ) -> Result<Option<Log>> {
        let Some(found) = read_all(&*store, &name)? else {
            return Ok(None);
        };
        Ok(Some(Log::new(store, name, clock, writer, found)))
    }

    /// For the owner: opens the log or begins it with these rules, then redoes publishes and collects orphans. If the
    /// log exists, `rules` are ignored: compare them with [`State::rules`] and swap.
    pub fn open_or_init(
        store: Arc<dyn Store>,
        name: LogName,
        clock: Arc<dyn Clock>,
        writer: Writer,
        rules: Vec<Rule>,
    ) -> Result<Log> {
        let found = match read_all(&*store, &name)? {
            Some(found) => found,
            None => {
                let state = super::write::init(&*store, &name, &*clock, &writer, rules)?;
                // The log may have been begun, and shortened, since it was looked for: then this first entry is a ghost.
                match checkpoint::listed(&*store, &name)?.is_empty() {
                    true => (state, Known::default()),
                    false => read_all(&*store, &name)?.unwrap_or((state, Known::default())),
                }
            }
        };
        let mut log = Log::new(store, name, clock, writer, found);
        log.recover()?;
        Ok(log)
    }

    fn new(
        store: Arc<dyn Store>,
        name: LogName,
        clock: Arc<dyn Clock>,
        writer: Writer,
        (state, known): (State, Known),
    ) -> Log {
        let (state, now) = (Arc::new(state), (clock.elapsed(), clock.now_micros()));
        Log {
            view: Arc::new(View::new(store.as_ref(), &name, &state)),
            store,
            name,
            clock,
            writer,
            state,
            limits: Limits::default(),
            pace: Pace::default(),
            pending: None,
            orphans: BTreeSet::new(),
            others: Vec::new(),
            swept: None,
            undeleted: Undeleted::default(),
            late: None,
            known,
            looked: AtomicU64::new(0),
            look_due_at: AtomicU64::new(0),
            known_since: Mutex::new((u64::MAX, now.0)),
            opened_at: now.0,
            looked_at: Mutex::new(now),
            unseen_since: None,
            random: StdRng::from_os_rng(),
        }
    }

    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Log {
        self.limits = limits;
        self
    }

    /// Random waits and attempt numbers come from this seed, so that a simulation can be repeated exactly.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Log {
        self.random = StdRng::seed_from_u64(seed);
        self
    }

    /// R2: reads what others appended. Not while an attempt is unsettled.
    pub fn refresh(&mut self) -> Result<()> {
        if self.unsettled() {
            return Err(Error::new(
                Kind::Bug,
                "log.refresh",
                "an attempt is unsettled: settle it or leave it first",
            ));
        }
        self.read_on()
    }

    pub(super) fn read_on(&mut self) -> Result<()> {
        let at = self.now();
        if self.is_overtaken()? {
            self.read_again()?;
        }
        self.read_up()?;
        *lock(&self.looked_at) = at;
        Ok(())
    }

    fn read_up(&mut self) -> Result<()> {
        loop {
            let (version, digest) = (self.state.version, &self.state.digest);
            let Some(read) = read_next(&*self.store, &self.name, version, digest, None)? else {
                return self.read_again();
            };
            let more = read.more;
            if !read.entries.is_empty() {
                let delivered = read.entries.iter().flat_map(|(entry, _)| &entry.deliver);
                let waiting = delivered.filter(|delivery| delivery.token.is_some());
                self.others.extend(waiting.cloned());
                let name = &self.name;
                let folded = |state: &mut State| fold(name, state, read);
                self.view.change(&mut self.state, folded)?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Folds an entry of our own that was proved.
    pub(super) fn step(&mut self, entry: &Entry, digest: String) -> Result<()> {
        let stepped = self
            .view
            .change(&mut self.state, |state| state.step(entry, digest));
        stepped.map_err(|v| invalid(&self.name, entry.version, &v))
    }

    /// P is gone or altered: reads the log anew (R1) and compares it with the state held so far (R4). Below the horizon P
    /// may have been deleted; attempts that began there are dropped (W4).
    pub(super) fn read_again(&mut self) -> Result<()> {
        let held = (self.state.version, self.state.digest.clone());
        let found = read_all(&*self.store, &self.name)?;
        let backwards = |found: String| {
            Error::new(
                Kind::LogCorrupt,
                "log.refresh",
                format!(
                    "the log went backwards: version {} with digest {} was proved before, found {found}",
                    held.0, held.1
                ),
            )
            .with("log", &self.name)
            .hint("entries were deleted or replaced; restore them from a copy of the store")
        };
        let Some((found, known)) = found else {
            return Err(backwards("no log".to_owned()));
        };
        if found.version < held.0 {
            return Err(backwards(format!(
                "version {} as the newest",
                found.version
            )));
        }
        let path = self.name.entry(held.0);
        match self.store.get(&path)? {
            _ if held.0 < found.horizon && found.first == self.state.first => {}
            Some(bytes) if file::digest(&bytes) == held.1 => {}
            Some(bytes) => return Err(backwards(format!("digest {}", file::digest(&bytes)))),
            None => return Err(backwards("no such entry".to_owned())),
        }
        let new = found.delivered.values().filter(|d| d.version > held.0);
        let new = new.filter(|d| d.delivery.token.is_some());
        self.others.extend(new.map(|d| d.delivery.clone()));
        self.known = known;
        self.view.change(&mut self.state, |state| *state = found);
        Ok(())
    }

    /// P1: deliveries with a token in entries that others wrote, read since the log was opened or this was last asked. Who wrote
    /// one may have died before it finished them.
    pub fn take_others(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.others)
    }

    /// They are not finished: the next to ask gets them again.
    pub fn put_back(&mut self, others: Vec<Delivery>) {
        self.others.splice(0..0, others);
    }

    /// W3–W6. `Err` with remedy Retry: the store does not answer and the attempt is unsettled; it stays in here, and
    /// [`Log::settle`] or [`Log::leave`] must end it before another draft may come. Does not wait for the pace, see
    /// [`Log::ready_in`]. Publish what was committed.
    pub fn commit(&mut self, draft: Draft) -> Result<Outcome> {
        if self.unsettled() {
            return Err(Error::new(
                Kind::Bug,
                "log.commit",
                "an attempt is unsettled: settle it or leave it first",
            ));
        }
        // V13: every removal up to a horizon is done.
        if matches!(draft, Draft::Horizon(_)) && !self.undeleted.is_empty() {
            return Ok(Outcome::Lost {
                dropped: Vec::new(),
            });
        }
        self.drive(Pending::new(draft))
    }

    /// Goes on with an unsettled attempt. `None`: there is none.
    pub fn settle(&mut self) -> Result<Option<Outcome>> {
        match self.pending.take() {
            Some(pending) => self.drive(pending).map(Some),
            None => Ok(None),
        }
    }

    /// Ends an unsettled attempt by putting a `gc` entry of its files in its place: whichever lands settles it. For a
    /// deadline; if this fails too, stopping is safe.
    pub fn leave(&mut self) -> Result<Option<Outcome>> {
        match self.pending.take() {
            Some(pending) => self.drive_out(pending).map(Some),
            None => Ok(None),
        }
    }

    pub fn unsettled(&self) -> bool {
        self.pending.is_some()
    }

    /// The version up to which the log may forget now; a `horizon` entry says so, after [`Log::redo`] and once every delivery
    /// is finished (V13). `held`: positions that this log must be able to go back to, because another log may ask for it.
    pub fn forgettable(&self, held: Option<&BTreeMap<SplitId, i64>>) -> Option<u64> {
        let (version, limits) = (self.state.version, &self.limits);
        let again = limits.horizon_step.div_ceil(HORIZON_LOOKS);
        if version < self.looked.load(Ordering::Relaxed) + again || !self.undeleted.is_empty() {
            return None;
        }
        let found = (self.state).next_horizon(self.clock.now_micros(), limits, held);
        if found.is_none() {
            self.looked.store(version, Ordering::Relaxed);
        }
        found
    }

    /// How long the committer should still gather receipts before the next data entry (docs/protocol.md §5, Pace). Zero for the
    /// first; skip it when draining.
    pub fn ready_in(&self) -> Duration {
        self.pace
            .ready_in(self.clock.elapsed(), self.limits.pace, self.state.writers())
    }

    /// Whether somebody wrote above the proved version; nothing is read.
    pub fn grown(&self) -> Result<bool> {
        let at = self.now();
        let next = self.name.entry(self.state.version + 1);
        if self.store.size(&next)?.is_some() || self.is_overtaken()? {
            return Ok(true);
        }
        *lock(&self.looked_at) = at;
        Ok(false)
    }

    /// Whether this process is next (D3): nobody wrote above the proved version, and that one is still there.
    pub fn is_next(&self) -> Result<bool> {
        if self.grown()? {
            return Ok(false);
        }
        let proved = self.store.get(&self.name.entry(self.state.version))?;
        Ok(proved.is_some_and(|bytes| file::digest(&bytes) == self.state.digest))
    }

    /// Whether the log went on and was shortened while this process slept: then neither that the next entry is absent nor that
    /// the proved one is there says anything (R3), because a ghost of the same bytes may lie in its place.
    pub(super) fn is_overtaken(&self) -> Result<bool> {
        let (elapsed, micros) = self.now();
        let (since, then) = *lock(&self.looked_at);
        // Some clocks stand still while a machine sleeps.
        let away = Duration::from_micros(micros.saturating_sub(then).unsigned_abs());
        if elapsed.saturating_sub(since).max(away) <= ASLEEP {
            return Ok(false);
        }
        let newest = checkpoint::listed(&*self.store, &self.name)?;
        let newest = newest.first();
        Ok(newest.is_some_and(|version| *version > self.state.version))
    }

    fn now(&self) -> (Duration, i64) {
        (self.clock.elapsed(), self.clock.now_micros())
    }

    /// Files of this process that no entry will name (an abandoned seal): collected with the next data entry.
    pub fn disown(&mut self, files: impl IntoIterator<Item = String>) {
        self.orphans.extend(files);
    }

    /// The proved version P.
    pub fn version(&self) -> u64 {
        self.state.version
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// A view of the state for others. It follows this log, and ends with it.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub fn name(&self) -> &LogName {
        &self.name
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

/// Another process may shorten a log while it is read. So often in a row it does not.
const READS_MAX: usize = 5;

/// R1, then R2. Also finds holes: listed names above the newest entry that could be read.
fn read_all(store: &dyn Store, name: &LogName) -> Result<Option<(State, Known)>> {
    for _ in 0..READS_MAX {
        // Listed before it is read: whatever is listed must be readable, whoever appends meanwhile.
        let newest = newest_listed(store, name)?;
        let Some((mut state, known)) = first_state(store, name)? else {
            return match newest {
                None => Ok(None),
                Some(newest) => Err(hole(name, 0, newest)),
            };
        };
        if !read_to_end(store, name, &mut state, newest)? {
            continue;
        }
        return match newest {
            Some(newest) if newest > state.version => Err(hole(name, state.version + 1, newest)),
            _ => {
                store.sync(&name.log_dir())?;
                Ok(Some((state, known)))
            }
        };
    }
    Err(Error::new(
        Kind::LogCorrupt,
        "log.open",
        "an entry changed while the log was read",
    )
    .with("log", name))
}

/// False: the log was shortened, or an entry changed, while it was read.
fn read_to_end(
    store: &dyn Store,
    name: &LogName,
    state: &mut State,
    newest: Option<u64>,
) -> Result<bool> {
    loop {
        let Some(read) = read_next(store, name, state.version, &state.digest, newest)? else {
            return Ok(false);
        };
        let more = read.more;
        fold(name, state, read)?;
        if !more {
            return Ok(true);
        }
    }
}

/// R1: the state from which the log is read on. `None`: there is no log.
///
/// Entry 0 is read first and counts only if there is no checkpoint after that: it is deleted only while there are some, and
/// from then on there always are, so it is no ghost.
pub(super) fn first_state(store: &dyn Store, name: &LogName) -> Result<Option<(State, Known)>> {
    let begun = begin(store, name);
    let found = match checkpoint::newest(store, name)? {
        Newest::Found(found) => Some(*found),
        Newest::None => begun?.map(|state| (state, Known::default())),
        Newest::Damaged(error) => match begun {
            // If entries are missing, the reading of them says so.
            Ok(Some(state)) => {
                tracing::warn!(log = %name, %error, "no checkpoint can be used; the log is read from its first entry");
                Some((state, Known::default()))
            }
            _ => return Err(error),
        },
    };
    match found {
        Some((state, _)) if !is_of(&state, name) => Err(log_of_another(&state, name)),
        found => Ok(found),
    }
}

fn is_of(state: &State, name: &LogName) -> bool {
    state.init.pipeline == name.pipeline && state.init.zone == name.zone
}

fn log_of_another(state: &State, name: &LogName) -> Error {
    let (pipeline, zone) = (&state.init.pipeline, &state.init.zone);
    Error::new(
        Kind::LogCorrupt,
        "log.open",
        format!("this is the log of {pipeline}/{zone}, not of {name}"),
    )
    .with("entry", name.entry(0))
    .hint("a log stays where it was made; restore the directory's name")
}

/// The state after version 0. `None`: there is no version 0.
pub(super) fn begin(store: &dyn Store, name: &LogName) -> Result<Option<State>> {
    let path = name.entry(0);
    let Some(bytes) = store.get(&path)? else {
        return Ok(None);
    };
    let entry = file::decode(&bytes, &path)?;
    let state = State::begin(&entry, file::digest(&bytes)).map_err(|v| invalid(name, 0, &v))?;
    if !is_of(&state, name) {
        return Err(log_of_another(&state, name));
    }
    Ok(Some(state))
}

/// Entries above P that are proved, each with its digest.
pub(super) struct Read {
    pub entries: Vec<(Entry, String)>,
    /// There may be further ones.
    pub more: bool,
}

/// Entries that are asked for together where it is known that they are there.
const GETS_AT_ONCE: u64 = 16;

/// R2, for as many entries as are held at once. `listed`: the newest version that an earlier listing showed. `None`: P
/// itself is gone or has changed, so nothing above it counts.
pub(super) fn read_next(
    store: &dyn Store,
    name: &LogName,
    version: u64,
    digest: &str,
    listed: Option<u64>,
) -> Result<Option<Read>> {
    let mut read = Read {
        entries: Vec::new(),
        more: true,
    };
    let mut held = 0;
    while read.more && read.entries.len() < ENTRIES_AT_ONCE && held < BYTES_AT_ONCE {
        let next = version + 1 + read.entries.len() as u64;
        // What was listed exists, so no request is wasted.
        let known = listed.map_or(1, |newest| (newest + 1).saturating_sub(next));
        let at_once = known.clamp(1, GETS_AT_ONCE);
        let paths: Vec<String> = (next..next + at_once).map(|v| name.entry(v)).collect();
        for (path, bytes) in paths.iter().zip(store.get_many(&paths)?) {
            let Some(bytes) = bytes else {
                read.more = false;
                break;
            };
            held += bytes.len();
            let entry = file::decode(&bytes, path)?;
            read.entries.push((entry, file::digest(&bytes)));
        }
    }
    let proved = store.get(&name.entry(version))?;
    if proved.is_none_or(|bytes| file::digest(&bytes) != digest) {
        return Ok(None);
    }
    if !read.entries.is_empty() {
        store.sync(&name.log_dir())?;
    }
    Ok(Some(read))
}

pub(super) fn fold(name: &LogName, state: &mut State, read: Read) -> Result<()> {
    for (entry, digest) in read.entries {
        let version = state.version + 1;
        state
            .step(&entry, digest)
            .map_err(|v| invalid(name, version, &v))?;
    }
    Ok(())
}

/// The newest version whose name lies in `log/`. Names of another form are ignored.
pub(super) fn newest_listed(store: &dyn Store, name: &LogName) -> Result<Option<u64>> {
    let listed = store.list(&name.log_dir())?;
    Ok(listed.iter().filter_map(|l| version_of(&l.path)).max())
}

/// The oldest entry that is kept: the first of those that follow each other up to the newest. What lies below, with holes,
/// is what a sleeper wrote into places that were deleted. 0 where there is no entry.
pub fn oldest_entry(store: &dyn Store, name: &LogName) -> Result<u64> {
    let listed = store.list(&name.log_dir())?;
    let mut versions: Vec<u64> = listed.iter().filter_map(|l| version_of(&l.path)).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let follow = versions.iter().zip(versions.iter().skip(1));
    let follow = follow.take_while(|(above, below)| **above == **below + 1);
    Ok(versions.get(follow.count()).copied().unwrap_or(0))
}

/// `^\d{20}\.json$`
pub(super) fn version_of(path: &str) -> Option<u64> {
    let file = path.rsplit('/').next()?;
    let digits = file.strip_suffix(".json")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

pub(super) fn invalid(name: &LogName, version: u64, violation: &Violation) -> Error {
    let error = Error::new(
        Kind::LogCorrupt,
        "log.read",
        format!("version {version} of the log is not valid: {violation}"),
    )
    .with("log", name)
    .with("entry", name.entry(version))
    .hint("the log must not be edited; `weir log --verify` lists every problem");
    match &violation.split {
        Some(split) => error.with("split", split),
        None => error,
    }
}

pub(super) fn hole(name: &LogName, missing: u64, newest: u64) -> Error {
    Error::new(
        Kind::LogCorrupt,
        "log.open",
        format!("version {missing} of the log is missing, version {newest} exists"),
    )
    .with("log", name)
    .with("entry", name.entry(missing))
    .hint("restore the entry from a copy of the store")
}
