//! What the tasks of a pipeline and its watcher share: the file list, what was found and is not in it yet, and how far
//! everybody has read. A trigger lists the source once; nobody else does.

mod growing;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) use self::growing::before;
use self::growing::{Remembered, marks_dir};
use super::followed;
use super::list::{DOCUMENT_FILES, Entry, FileList, Place};
use super::listing::{Pending, TOLD_MAX, Unsettled};
use super::marks;
use super::places::{holds_no_zone, is_hidden, is_zone, literal, open_input, plain};
use super::{Clean, FileConfig, Format, OnChange};
use crate::clock::Clock;
use crate::config::Trigger;
use crate::config::reach::SYSTEM;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::store::{self, Found, Store};

const OP: &str = "file.list";
/// A listing that takes longer is worth a word: files should be moved away or grouped in directories that the pattern names.
const SLOW_LISTING: Duration = Duration::from_secs(10);

/// Microseconds by which a clock that others write with may be ahead without a word.
const AHEAD_MAX: i64 = 60_000_000;

#[derive(Debug)]
pub(super) struct Shared {
    pub config: FileConfig,
    pub clock: Arc<dyn Clock>,
    /// Where the files lie.
    pub input: Arc<dyn Store>,
    /// Beginning of the pattern without wildcards: nothing else is listed.
    below: String,
    /// The one path of a file that is followed.
    plain: Option<String>,
    state: Mutex<State>,
    /// Positions of the readers, and of the log.
    read: Mutex<BTreeMap<i32, i64>>,
    pub(super) committed: Mutex<BTreeMap<i32, i64>>,
    /// The listing that is under way.
    looking: Mutex<Option<JoinHandle<Result<()>>>>,
    /// Held by the one task that takes on the next files.
    taking: Mutex<()>,
    /// Where each partition stood when this process began to read it, and how far its files were taken away since.
    began: Mutex<BTreeMap<i32, (i64, i64)>>,
    marks: Mutex<Remembered>,
    /// Files that are followed and were given up, by partition: the position, and the end in the list.
    left: Mutex<BTreeMap<i32, (i64, i64)>>,
}

#[derive(Debug)]
struct State {
    list: FileList,
    /// `None` until something is written into it: commands that look make nothing.
    home: Option<Arc<dyn Store>>,
    pending: Pending,
    unsettled: Unsettled,
    /// Changes under old names that were told, by path.
    told: BTreeMap<String, Found>,
    told_old: bool,
    told_future: bool,
    /// That files cannot be taken away now.
    told_clean: bool,
    /// Why the source could not be listed the last time. It is kept until a listing ends well: the next one may take longer than
    /// the time between two calls.
    away: Option<Error>,
    begun: Begun,
    /// Files of the list that the last listing met, by number: some were to be taken away and a kill came before.
    met: Vec<u32>,
}

/// How far the beginning of a run has come.
#[derive(Debug)]
enum Begun {
    No,
    /// Files were still written when it was listed: it is listed once more.
    Settling {
        until: Duration,
    },
    Yes,
}

/// What became of the listing before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    /// It is under way, or there was none.
    NotYet,
}

/// What a listing found beside new files.
#[derive(Debug, Default)]
struct Seen {
    new: usize,
    /// The longest that a file has to settle.
    settles: Option<Duration>,
    unsettled: usize,
    too_old: usize,
    oldest_example: Option<String>,
    /// In the list, read and committed perhaps: by number.
    known: Vec<u32>,
}

impl Shared {
    pub(super) fn open(config: FileConfig, clock: Arc<dyn Clock>) -> Result<Shared> {
        Shared::on(open_input(&config)?, config, clock)
    }

    /// `input`: the store of the files.
    pub(super) fn on(
        input: Arc<dyn Store>,
        config: FileConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Shared> {
        let list = followed::list(&config);
        let home = store::open_existing(&config.home)?;
        let mut state = State {
            list,
            home,
            pending: Pending::default(),
            unsettled: Unsettled::default(),
            told: BTreeMap::new(),
            told_old: false,
            told_future: false,
            told_clean: false,
            away: None,
            begun: Begun::No,
            met: Vec::new(),
        };
        let mut marks = Remembered::default();
        if let Some(home) = &state.home {
            state.list.load(home.as_ref())?;
            if config.follows {
                marks.kept = marks::read(home.as_ref(), &marks_dir(&config))?;
                marks.read.clone_from(&marks.kept);
            }
        }
        Ok(Shared {
            marks: Mutex::new(marks),
            below: literal(&config.path),
            plain: plain(&config.path).filter(|_| config.follows),
            input,
            clock,
            config,
            state: Mutex::new(state),
            read: Mutex::default(),
            committed: Mutex::default(),
            began: Mutex::default(),
            looking: Mutex::default(),
            taking: Mutex::default(),
            left: Mutex::default(),
        })
    }

    /// At least so many as the config says; never fewer than the list has.
    pub(super) fn partitions(&self) -> i32 {
        let listed = lock(&self.state).list.partitions();
        listed.max(self.config.partitions)
    }

    /// What other processes of this pipeline have taken on.
    pub(super) fn load(&self) -> Result<()> {
        let state = &mut *lock(&self.state);
        if state.home.is_none() {
            state.home = store::open_existing(&self.config.home)?;
        }
        match &state.home {
            Some(home) => state.list.load(home.as_ref()),
            None => Ok(()),
        }
    }

    pub(super) fn end(&self, partition: i32) -> i64 {
        lock(&self.state).list.end(partition)
    }

    pub(super) fn has_read(&self, partition: i32, position: i64) {
        lock(&self.read).insert(partition, position);
    }

    /// A partition is read from here on. What lies before it is committed.
    pub(super) fn begins(&self, partition: i32, position: i64) {
        let mut began = lock(&self.began);
        let (began, cleaned) = began.entry(partition).or_insert((position, position));
        // A rewind: what lies above is to be read again.
        *began = position.min(*began);
        *cleaned = position.min(*cleaned);
        let mut committed = lock(&self.committed);
        if let Some(committed) = committed.get_mut(&partition) {
            *committed = position.min(*committed);
        }
    }

    pub(super) fn is_committed(&self, entry: &Entry) -> bool {
        let committed = lock(&self.committed);
        let to = committed.get(&entry.partition);
        to.is_some_and(|to| entry.end() <= *to)
    }

    /// Whether all of a file was committed before this process began.
    pub(super) fn began_behind(&self, entry: &Entry) -> bool {
        let began = lock(&self.began);
        began
            .get(&entry.partition)
            .is_some_and(|(began, _)| entry.end() <= *began)
    }

    /// `None`: nobody reads it.
    pub(super) fn cleaned(&self, partition: i32) -> Option<i64> {
        lock(&self.began)
            .get(&partition)
            .map(|(_, cleaned)| *cleaned)
    }

    /// What a rewind has taken back meanwhile stays as it is.
    pub(super) fn has_cleaned(&self, partition: i32, from: i64, to: i64) {
        let mut began = lock(&self.began);
        let cleaned = began.get_mut(&partition).map(|(_, cleaned)| cleaned);
        if let Some(cleaned) = cleaned.filter(|cleaned| **cleaned == from) {
            *cleaned = to;
        }
    }

    pub(super) fn met(&self) -> Vec<u32> {
        let mut met = std::mem::take(&mut lock(&self.state).met);
        met.sort_unstable();
        met
    }

    fn takes_once(&self) -> bool {
        self.config.trigger != Trigger::Continuous
    }

    /// What is over a limit is left for the next run.
    fn comes_again(&self) -> bool {
        matches!(self.config.trigger, Trigger::Every(_) | Trigger::Cron(_))
    }

    /// Before the first record: the trigger's listing, and the first files of it. True: that is done. It is done in a thread of
    /// its own, as whoever reads has to notice a stop; an error of it is told with a later call.
    pub(super) fn has_begun(self: &Arc<Self>) -> Result<bool> {
        if self.is_to_begin() {
            self.in_background(Shared::is_to_begin, Shared::begin_listing)?;
        }
        Ok(self.is_begun())
    }

    /// Whether a listing is to be made before the first record, now.
    fn is_to_begin(&self) -> bool {
        match lock(&self.state).begun {
            Begun::No => true,
            Begun::Settling { until } => self.clock.elapsed() >= until,
            Begun::Yes => false,
        }
    }

    /// Starts that listing.
    pub(super) fn begin(self: &Arc<Self>) {
        // The first reader asks again.
        let _unfailing = self.has_begun();
    }

    pub(super) fn is_begun(&self) -> bool {
        matches!(lock(&self.state).begun, Begun::Yes)
    }

    fn begin_listing(&self) -> Result<()> {
        let is_second = matches!(lock(&self.state).begun, Begun::Settling { .. });
        if !is_second {
            holds_no_zone(&self.config, self.input.as_ref(), &self.below)?;
        }
        // Whoever takes what is there waits for what was written a moment ago.
        if let Some(rest) = self.list_source()?
            && self.takes_once()
        {
            if !is_second {
                let until = self.clock.elapsed().saturating_add(rest);
                lock(&self.state).begun = Begun::Settling { until };
                return Ok(());
            }
            tracing::warn!(
                source = self.config.at.url,
                "files that are still written are left for the next time"
            );
        }
        self.take_on()?;
        let mut state = lock(&self.state);
        if self.comes_again() && self.config.limits.any() {
            state.pending.clear();
        }
        state.begun = Begun::Yes;
        Ok(())
    }

    /// The next trigger of a pipeline that reads on and on. An error is told with the next call, and with each one after it until
    /// a listing ends well.
    pub(super) fn look_again(self: &Arc<Self>) -> Result<()> {
        if !self.is_begun() {
            return Ok(());
        }
        let ended = self.in_background(|_| true, Shared::look);
        let state = &mut *lock(&self.state);
        match ended {
            Ok(Ended::Well) => state.away = None,
            Ok(Ended::NotYet) => {}
            Err(error) => {
                // Tasks that wait for files do not meet it.
                if state.away.is_none() {
                    tracing::warn!(source = self.config.at.url, %error, "new files cannot be looked for; trying again");
                }
                state.away = Some(error);
            }
        }
        state.away.as_ref().map_or(Ok(()), |away| Err(away.again()))
    }

    /// Does it in a thread, one at a time: a listing may take minutes. What became of the one before is told first, and an error
    /// of it instead of the next one. `due`: whether it is still to be done, when no other thread does it.
    fn in_background(
        self: &Arc<Self>,
        due: fn(&Shared) -> bool,
        what: fn(&Shared) -> Result<()>,
    ) -> Result<Ended> {
        let mut looking = lock(&self.looking);
        if looking.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(Ended::NotYet);
        }
        let ended = match looking.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => return Err(error),
            Some(Err(_)) => return Err(Error::new(Kind::Bug, OP, "the listing panicked")),
            Some(Ok(Ok(()))) => Ended::Well,
            None => Ended::NotYet,
        };
        if !due(self) {
            return Ok(ended);
        }
        let (shared, pipeline) = (self.clone(), crate::logging::pipeline());
        let thread = std::thread::Builder::new().name("files".to_owned());
        let thread = thread.spawn(move || {
            crate::logging::works_for(pipeline);
            what(&shared)
        });
        *looking = Some(thread.map_err(|e| {
            Error::new(Kind::LimitReached, OP, "no thread can be started").source(e)
        })?);
        Ok(ended)
    }

    fn look(&self) -> Result<()> {
        self.clean();
        self.keep_marks(false);
        if self.takes_once() {
            return Ok(());
        }
        let behind = self.config.limits.any() && !self.all_is_read();
        if behind {
            return Ok(());
        }
        self.list_source()?;
        self.take_on()
    }

    /// Files that cannot be taken away keep nobody from reading new ones.
    fn clean(&self) {
        let cleaned = super::clean::clean(self);
        let told = &mut lock(&self.state).told_clean;
        match cleaned {
            Ok(_) => *told = false,
            Err(error) if !std::mem::replace(told, true) => {
                tracing::warn!(source = self.config.at.url, %error, "files that were read stay where they are; trying again");
            }
            Err(_) => {}
        }
    }

    fn all_is_read(&self) -> bool {
        let state = lock(&self.state);
        let read = lock(&self.read);
        (0..state.list.partitions())
            .all(|p| read.get(&p).copied().unwrap_or(0) >= state.list.end(p))
    }

    /// Nothing of what was found is left, and this partition is read.
    pub(super) fn is_at_end(&self, partition: i32, position: i64) -> bool {
        let state = lock(&self.state);
        matches!(state.begun, Begun::Yes)
            && state.pending.is_empty()
            && position >= state.list.end(partition)
    }

    /// Files of this partition are on the list behind this position, or may be: the list was not read yet.
    pub(super) fn has_more(&self, partition: i32, position: i64) -> bool {
        let state = lock(&self.state);
        !matches!(state.begun, Begun::Yes) || position < state.list.end(partition)
    }

    /// The home, made where it is not there.
    fn with_home<T>(&self, then: impl FnOnce(&mut State, &dyn Store) -> Result<T>) -> Result<T> {
        let mut state = lock(&self.state);
        let home = match &state.home {
            Some(home) => home.clone(),
            None => {
                let home = store::open(&self.config.home)?;
                state.home = Some(home.clone());
                home
            }
        };
        then(&mut state, home.as_ref())
    }

    pub(super) fn file_at(&self, partition: i32, position: i64) -> Result<Option<Place>> {
        self.with_home(|state, home| state.list.file_at(home, partition, position))
    }

    pub(super) fn file(&self, ordinal: u32) -> Result<Option<Place>> {
        self.with_home(|state, home| state.list.file(home, ordinal))
    }

    /// Whoever has read everything takes on the next files, where a limit kept some back.
    pub(super) fn take_more(&self) -> Result<bool> {
        let _taking = lock(&self.taking);
        if !self.takes_once() || lock(&self.state).pending.is_empty() || !self.all_is_read() {
            return Ok(false);
        }
        self.take_on().map(|()| true)
    }

    /// Writes one group of the files that were found into the list; without limits all of them.
    fn take_on(&self) -> Result<()> {
        let mut limits = self.config.limits;
        let unlimited = !limits.any();
        let parquet = self.config.format == Format::Parquet;
        self.with_home(|state, home| {
            loop {
                let group = state.pending.group(&mut limits);
                // What another process of this pipeline has added meanwhile is not added again.
                let fresh = match self.config.follows {
                    true => {
                        let new = group.iter().filter(|found| !self.is_followed(state, found));
                        new.cloned().collect()
                    }
                    false => {
                        let reads_changed = self.config.on_change == OnChange::Read;
                        state.list.fresh(&group, reads_changed)
                    }
                };
                let taken = group.len();
                if taken == 0 {
                    return Ok(());
                }
                if !fresh.is_empty() {
                    let dealt = (self.config.partitions, parquet);
                    if state.list.is_full_with(&fresh) {
                        self.free_names(state, home)?;
                    }
                    if !state.list.append(home, fresh, dealt)? {
                        // Another process was first: the same group again, against the longer list.
                        limits = self.config.limits;
                        continue;
                    }
                }
                state.pending.taken(taken);
                if !unlimited && taken < DOCUMENT_FILES {
                    return Ok(());
                }
            }
        })
    }

    /// Looks at every file below the root. New ones are pending afterwards; how long the youngest has to settle, if it has.
    fn list_source(&self) -> Result<Option<Duration>> {
        let begun = self.clock.elapsed();
        self.load()?;
        let first = {
            let mut state = lock(&self.state);
            state.pending.clear();
            state.list.newest().is_none()
        };
        let oldest = self.oldest(first);
        let mut seen = Seen::default();
        match &self.plain {
            // A directory of logs may have others in it that nobody may read.
            Some(path) => match self.input.inputs().look(path)? {
                Some(found) => self.meet(&found, oldest, &mut seen)?,
                None => self.is_no_file(path)?,
            },
            None => {
                let mut each = |found: Found| match self.is_wanted(&found.path) {
                    true => self.meet(&found, oldest, &mut seen),
                    false => self.leave(&found.path),
                };
                self.input.inputs().walk(&self.below, &mut each)?;
            }
        }
        {
            let mut state = lock(&self.state);
            state.pending.sort(self.config.latest_first);
            state.met = seen.known;
            state.unsettled.listed();
            if seen.too_old > 0 && !std::mem::replace(&mut state.told_old, true) {
                tracing::info!(
                    files = seen.too_old,
                    example = seen.oldest_example.as_deref().unwrap_or_default(),
                    "files older than source.max.file.age are left alone"
                );
            }
        }
        let took = self.clock.elapsed().saturating_sub(begun);
        tracing::debug!(
            source = self.config.at.url,
            new = seen.new,
            unsettled = seen.unsettled,
            ?took,
            "listed"
        );
        if took > SLOW_LISTING {
            tracing::warn!(
                source = self.config.at.url,
                seconds = took.as_secs(),
                "the listing takes long: move files away when they are read (source.clean.source), or name their directories in source.path"
            );
        }
        Ok(seen.settles)
    }

    /// Files that changed before it are too old to be new.
    fn oldest(&self, first: bool) -> Option<i64> {
        if first || (self.config.latest_first && self.config.limits.any()) {
            return None;
        }
        let age = i64::try_from(self.config.max_age.as_micros()).unwrap_or(i64::MAX);
        let mut state = lock(&self.state);
        let (newest, now) = (state.list.newest()?, self.clock.now_micros());
        if newest > now.saturating_add(AHEAD_MAX)
            && !std::mem::replace(&mut state.told_future, true)
        {
            tracing::warn!(
                source = self.config.at.url,
                seconds = (newest - now) / 1_000_000,
                "a file has a time of change in the future; source.max.file.age counts from now instead"
            );
        }
        Some(newest.min(now).saturating_sub(age))
    }

    fn is_wanted(&self, path: &str) -> bool {
        !path.split('/').any(is_hidden) && self.config.matcher.is_match(path)
    }

    /// A file that is not read. Where files are taken away, those of a zone must not be among them.
    fn leave(&self, path: &str) -> Result<()> {
        let in_zone = || path.split('/').any(|part| part == SYSTEM);
        match self.config.clean != Clean::Off && in_zone() {
            true => Err(is_zone(&self.config, path)),
            false => Ok(()),
        }
    }

    fn meet(&self, found: &Found, oldest: Option<i64>, seen: &mut Seen) -> Result<()> {
        if self.config.follows {
            return self.meet_growing(found, seen);
        }
        let mut state = lock(&self.state);
        match state.list.has(found) {
            Some((true, known)) => {
                if self.config.clean != Clean::Off && seen.known.len() < TOLD_MAX {
                    seen.known.push(known.ordinal);
                }
                return Ok(());
            }
            Some((false, _)) if self.config.on_change != OnChange::Read => {
                return changed(&mut state, &self.config, found);
            }
            _ => {}
        }
        if oldest.is_some_and(|oldest| found.modified < oldest) {
            seen.too_old += 1;
            seen.oldest_example
                .get_or_insert_with(|| found.path.clone());
            return Ok(());
        }
        let now = (self.clock.now_micros(), self.clock.elapsed());
        match state.unsettled.rest(found, self.config.settle, now) {
            Some(rest) => {
                seen.unsettled += 1;
                seen.settles = seen.settles.max(Some(rest));
            }
            None => {
                seen.new += 1;
                state.pending.push(found);
            }
        }
        Ok(())
    }
}

fn changed(state: &mut State, config: &FileConfig, found: &Found) -> Result<()> {
    if config.on_change == OnChange::Fail {
        return Err(Error::new(
            Kind::SourceLost,
            OP,
            "a file that was taken before has another size, time or identity under the same name",
        )
        .with("store", &config.at.url)
        .with("path", &found.path)
        .hint("give the new file a name of its own; source.on.change = \"read\" reads it as a new file, \"warn\" leaves it"));
    }
    let told = state.told.get(&found.path);
    if told.is_none_or(|told| !told.is_same(found)) && state.told.len() < TOLD_MAX {
        tracing::warn!(
            store = config.at.url,
            path = found.path,
            bytes = found.size,
            "a file that was taken before has changed under the same name; it is not read again. Give it another name, or set source.on.change"
        );
        state.told.insert(found.path.clone(), found.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Shared {
        pub(in super::super) fn names_at_most(&self, most: i32) {
            lock(&self.state).list.set_followed_max(most);
        }

        pub(in super::super) fn waits_for_listing(&self) {
            let ended = || {
                lock(&self.looking)
                    .as_ref()
                    .is_none_or(JoinHandle::is_finished)
            };
            while !ended() {
                std::thread::yield_now();
            }
        }

        /// As a task that saw the first listing under way, and comes when it has ended.
        pub(in super::super) fn begins_late(self: &Arc<Self>) {
            let begun = self.in_background(Shared::is_to_begin, Shared::begin_listing);
            begun.expect("asked");
        }
    }
}
