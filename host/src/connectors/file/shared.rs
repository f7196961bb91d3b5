//! What the tasks of a pipeline and its watcher share: the file list, what was found and is not in it yet, and how far
//! everybody has read. A trigger lists the source once; nobody else does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::list::{DOCUMENT_FILES, Entry, FileList, Place};
use super::listing::{Pending, TOLD_MAX, Unsettled};
use super::{Clean, FileConfig, Format, OnChange};
use crate::clock::Clock;
use crate::config::Trigger;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::store::{self, Found, Store};

const OP: &str = "file.list";
/// Longest sleep at a time while files settle.
const SETTLE_STEP: Duration = Duration::from_millis(50);
/// A listing that takes longer is worth a word: files should be moved away or grouped in directories that the pattern names.
const SLOW_LISTING: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Shared {
    pub config: FileConfig,
    pub clock: Arc<dyn Clock>,
    /// Where the files lie.
    pub input: Arc<dyn Store>,
    /// Beginning of the pattern without wildcards: nothing else is listed.
    below: String,
    state: Mutex<State>,
    /// Positions of the readers, and of the log.
    read: Mutex<BTreeMap<i32, i64>>,
    pub(super) committed: Mutex<BTreeMap<i32, i64>>,
    /// The listing that is under way.
    looking: Mutex<Option<JoinHandle<Result<()>>>>,
    /// Where each partition stood when this process began to read it, and how far its files were taken away since.
    began: Mutex<BTreeMap<i32, (i64, i64)>>,
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
    /// That the source cannot be listed now.
    told_away: bool,
    has_begun: bool,
    /// Files of the list that the last listing met, by number: some were to be taken away and a kill came before.
    met: Vec<u32>,
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
        let input = open_input(&config)?;
        let list = FileList::new(
            format!("{}/files", config.log.dir()),
            config.at.url.clone(),
            config.format.describe(),
            config.name_only,
        );
        let home = store::open_existing(&config.home)?;
        let mut state = State {
            list,
            home,
            pending: Pending::default(),
            unsettled: Unsettled::default(),
            told: BTreeMap::new(),
            told_old: false,
            told_away: false,
            has_begun: false,
            met: Vec::new(),
        };
        if let Some(home) = &state.home {
            state.list.load(home.as_ref())?;
        }
        Ok(Shared {
            below: literal(&config.path),
            input,
            clock,
            config,
            state: Mutex::new(state),
            read: Mutex::default(),
            committed: Mutex::default(),
            began: Mutex::default(),
            looking: Mutex::default(),
        })
    }

    /// At least so many as the config says; never fewer than the list has.
    pub(super) fn partitions(&self) -> i32 {
        let listed = lock(&self.state).list.partitions();
        listed.max(self.config.partitions)
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

    pub(super) fn has_cleaned(&self, partition: i32, position: i64) {
        if let Some((_, cleaned)) = lock(&self.began).get_mut(&partition) {
            *cleaned = position;
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

    /// Before the first record: the trigger's listing, and the first files of it.
    pub(super) fn begin(&self) -> Result<()> {
        if std::mem::replace(&mut lock(&self.state).has_begun, true) {
            return Ok(());
        }
        let begun = self.begin_listing();
        if begun.is_err() {
            lock(&self.state).has_begun = false;
        }
        begun
    }

    fn begin_listing(&self) -> Result<()> {
        let settles = self.list_source()?;
        // Whoever takes what is there waits for what was written a moment ago.
        if self.takes_once()
            && let Some(rest) = settles
        {
            let until = self.clock.elapsed().saturating_add(rest);
            while self.clock.elapsed() < until {
                let left = until.saturating_sub(self.clock.elapsed());
                self.clock.sleep(left.min(SETTLE_STEP));
            }
            if self.list_source()?.is_some() {
                tracing::warn!(
                    source = self.config.at.url,
                    "files that are still written are left for the next time"
                );
            }
        }
        self.take_on()?;
        if matches!(self.config.trigger, Trigger::Every(_)) && self.config.limits.any() {
            lock(&self.state).pending.clear();
        }
        Ok(())
    }

    /// The next trigger of a pipeline that reads on and on, in a thread of its own: a listing may take minutes, and whoever
    /// asks for it has to notice a stop. An error is told with the next call.
    pub(super) fn look_again(self: &Arc<Self>) -> Result<()> {
        let mut looking = lock(&self.looking);
        if looking.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        let looked = looking.take().map(JoinHandle::join);
        let (shared, pipeline) = (self.clone(), crate::logging::pipeline());
        let thread = std::thread::Builder::new().name("files".to_owned());
        let thread = thread.spawn(move || {
            crate::logging::works_for(pipeline);
            shared.look()
        });
        *looking = Some(thread.map_err(|e| {
            Error::new(Kind::LimitReached, OP, "no thread can be started").source(e)
        })?);
        drop(looking);
        match looked {
            None => Ok(()),
            Some(Ok(Ok(()))) => {
                lock(&self.state).told_away = false;
                Ok(())
            }
            Some(Ok(Err(error))) => {
                // Tasks that wait for files do not meet it.
                if !std::mem::replace(&mut lock(&self.state).told_away, true) {
                    tracing::warn!(source = self.config.at.url, %error, "new files cannot be looked for; trying again");
                }
                Err(error)
            }
            Some(Err(_)) => Err(Error::new(Kind::Bug, OP, "the listing panicked")),
        }
    }

    fn look(&self) -> Result<()> {
        super::clean::clean(self)?;
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

    fn all_is_read(&self) -> bool {
        let state = lock(&self.state);
        let read = lock(&self.read);
        (0..state.list.partitions())
            .all(|p| read.get(&p).copied().unwrap_or(0) >= state.list.end(p))
    }

    /// Nothing of what was found is left, and this partition is read.
    pub(super) fn is_at_end(&self, partition: i32, position: i64) -> bool {
        let state = lock(&self.state);
        state.pending.is_empty() && position >= state.list.end(partition)
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
                let reads_changed = self.config.on_change == OnChange::Read;
                let fresh = state.list.fresh(&group, reads_changed);
                let taken = group.len();
                if taken == 0 {
                    return Ok(());
                }
                if !fresh.is_empty() {
                    let dealt = (self.config.partitions, parquet);
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
        let first = {
            let mut state = lock(&self.state);
            state.pending.clear();
            if let Some(home) = state.home.clone() {
                state.list.load(home.as_ref())?;
            }
            state.list.newest().is_none()
        };
        let oldest = self.oldest(first);
        let mut seen = Seen::default();
        let walked =
            self.input.inputs().walk(
                &self.below,
                &mut |found| match self.is_wanted(&found.path) {
                    true => self.meet(&found, oldest, &mut seen),
                    false => Ok(()),
                },
            );
        walked?;
        {
            let mut state = lock(&self.state);
            state.pending.sort(self.config.latest_first);
            state.met = seen.known;
            if let Some(oldest) = oldest {
                state.list.forget_before(oldest);
            }
            if seen.too_old > 0 && !std::mem::replace(&mut state.told_old, true) {
                tracing::info!(
                    files = seen.too_old,
                    example = seen.oldest_example.as_deref().unwrap_or_default(),
                    "files older than source.max.file.age are left alone; those that were read long ago are among them"
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
        let newest = lock(&self.state).list.newest()?;
        Some(newest.saturating_sub(age))
    }

    fn is_wanted(&self, path: &str) -> bool {
        if let Clean::Archive(dir) = &self.config.clean
            && let Some(rest) = path.strip_prefix(dir.as_str())
            && rest.starts_with('/')
        {
            return false;
        }
        !path.split('/').any(is_hidden) && self.config.matcher.is_match(path)
    }

    fn meet(&self, found: &Found, oldest: Option<i64>, seen: &mut Seen) -> Result<()> {
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

/// As Spark and Hadoop take names: `_day=1` is a partition's directory.
fn is_hidden(part: &str) -> bool {
    (part.starts_with('_') && !part.contains('='))
        || part.starts_with('.')
        || part.ends_with("._COPYING_")
}

/// Directories at the beginning of a pattern that are plain names.
fn literal(pattern: &str) -> String {
    let mut parts: Vec<&str> = pattern.split('/').collect();
    // The last one is a file's.
    parts.pop();
    let plain = parts.into_iter().take_while(|part| {
        !part.is_empty() && !part.contains(['*', '?', '[', ']', '{', '}', '\\', ','])
    });
    plain.collect::<Vec<_>>().join("/")
}

fn open_input(config: &FileConfig) -> Result<Arc<dyn Store>> {
    let missing = |message: &str, hint: String| {
        Error::new(Kind::ConfigInvalid, "file.connect", message)
            .with("key", "source.url")
            .with("url", &config.at.url)
            .hint(hint)
    };
    if let Some(path) = store::directory_of(&config.at.url).filter(|path| path.is_file()) {
        let dir = path
            .parent()
            .map_or_else(String::new, |dir| dir.display().to_string());
        let dir = if dir.is_empty() { "." } else { &dir };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(missing(
            "it is a file, and a directory of files is expected",
            format!("write source.url = \"file:{dir}\" and source.path = \"{name}\""),
        ));
    }
    match store::open_existing(&config.at)? {
        Some(store) => Ok(store),
        None => Err(missing(
            "there is no such directory",
            "make it, or name another one; a relative path begins in the working directory"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_are_named_are_listed() {
        for (pattern, below) in [
            ("**", ""),
            ("*.json", ""),
            ("in/2026/*.json", "in/2026"),
            ("in/{a,b}/c/x", "in"),
            ("a/b", "a"),
        ] {
            assert_eq!(literal(pattern), below, "{pattern}");
        }
    }

    #[test]
    fn hidden_names_are_spark_s() {
        for (name, hidden) in [
            ("_SUCCESS", true),
            (".crc", true),
            ("_day=1", false),
            ("a._COPYING_", true),
            ("a_b.json", false),
        ] {
            assert_eq!(is_hidden(name), hidden, "{name}");
        }
    }
}
