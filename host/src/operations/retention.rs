//! What leaves a zone because of its age, asked for by hand: what would, who holds it back, and doing it. Also the readers of a zone.
//!
//! It works on a stopped pipeline and beside a running one: after a conflict everything is computed on the new state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::open;
use crate::clock::Clock;
use crate::commit::{
    Archived, Committed, Draft, EXPIRE_AT_ONCE, Expire, Forget, Held, Holder, Keep, Leaving, Left,
    Limits, LiveFile, Log, LogName, Old, Outcome, Role, State,
};
use crate::config::{Location, PipelineConfig, Source};
use crate::error::{Error, Kind, Remedy, Result};
use crate::pipeline::keep;
use crate::record::SplitId;
use crate::store::{self, Store};
use crate::zone;

const OP: &str = "zone.expire";

/// How often something is computed again because another process wrote in between. A running pipeline writes once a second.
const CONFLICTS_MAX: usize = 16;
/// Files that are copied before the log names them.
const ARCHIVE_AT_ONCE: usize = 16;

/// Sums of some files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
    /// When the oldest and the newest of their rows were committed, microseconds since 1970 UTC; 0: there are none.
    pub oldest: i64,
    pub newest: i64,
}

impl Sums {
    fn add(&mut self, (rows, bytes, time): (u64, u64, i64)) {
        let none = self.files == 0;
        self.files += 1;
        self.rows += rows;
        self.bytes += bytes;
        self.oldest = if none { time } else { self.oldest.min(time) };
        self.newest = self.newest.max(time);
    }
}

/// What is old in one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfTable {
    pub table: String,
    /// `rows` or `dead_letters`
    pub role: Role,
    #[serde(flatten)]
    pub sums: Sums,
}

/// Old files that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldBack {
    pub table: String,
    /// `reader`, `input`, `topic` or `older`
    pub by: &'static str,
    /// The reader's name, or the topic's.
    pub name: String,
    /// Where it stands: topic, partition and offset.
    pub at: String,
    #[serde(flatten)]
    pub sums: Sums,
}

/// What `weir zone expire` says of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expired {
    pub pipeline: String,
    pub zone: String,
    pub url: String,
    pub dry_run: bool,
    /// What leaves, or would.
    pub expires: Vec<OfTable>,
    pub held: Vec<HeldBack>,
    /// What expired and is not deleted yet; of these, what waits for the archive.
    pub waits: Sums,
    pub waits_for_archive: u64,
    /// Files that were deleted now, keys among them.
    pub deleted: u64,
    /// Versions of the entries that were written.
    pub versions: Vec<u64>,
    /// `retention.grace`, in seconds.
    pub grace_seconds: u64,
    /// `archive.url`
    pub archive: Option<String>,
}

/// How old is old. `None`: as the config says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Older {
    pub rows: Option<Duration>,
    pub dead_letters: Option<Duration>,
}

/// A zone and its log, for a command.
struct Opened {
    log: Log,
    keep: Keep,
    clock: Arc<dyn Clock>,
    /// Of a zone that reads a zone: positions to which it may have to go back.
    positions: Option<BTreeMap<SplitId, i64>>,
    /// The topic into which dead letters go on, if there is one: only the pipeline knows what is there.
    topic: Option<String>,
}

fn opened(config: &PipelineConfig, clock: &Arc<dyn Clock>) -> Result<Opened> {
    let name = LogName::new(&config.name, &config.home.zone);
    let Some(store) = store::open_existing(&config.home.at)? else {
        let message = format!(
            "{} is not there: the pipeline has not run yet",
            config.home.at.url
        );
        return Err(Error::new(Kind::ConfigInvalid, OP, message));
    };
    let log = open(&store, &name, clock)?;
    let keep = keep(config);
    let log = log.with_limits(Limits {
        keep,
        ..Limits::default()
    });
    let mut opened = Opened {
        log,
        keep,
        clock: clock.clone(),
        positions: None,
        topic: config.errors.dlq_topic.clone(),
    };
    if let Source::Zone(source) = &config.source {
        let input = LogName::new(&source.pipeline, &source.zone);
        let store = store::open_existing(&source.at)?.ok_or_else(|| {
            let message = format!(
                "{} is not there, so nobody can say what this zone may have to take back",
                source.at.url
            );
            Error::new(Kind::ConfigInvalid, OP, message)
        })?;
        let input = open(&store, &input, clock)?;
        let cut = input.state().lowest_cut(&name.to_string());
        opened.positions = cut.cloned();
    }
    Ok(opened)
}

impl Opened {
    fn held(&self) -> Held<'_> {
        Held {
            positions: self.positions.as_ref(),
            dead_letters: self.topic.as_ref().map(|_| 0),
        }
    }

    fn thans(&self, older: Older) -> [(Role, Option<Duration>); 2] {
        [
            (Role::Rows, older.rows.or(self.keep.rows)),
            (
                Role::DeadLetters,
                older.dead_letters.or(self.keep.dead_letters),
            ),
        ]
    }

    fn old(&self, older: Older, most: usize) -> Vec<(Role, Old<'_>)> {
        let now = self.clock.now_micros();
        let held = self.held();
        let thans = self.thans(older).into_iter();
        let of = |(role, than): (Role, Option<Duration>)| {
            let old = self
                .log
                .state()
                .old_by_hand((now, than?), role, &held, most);
            Some((role, old))
        };
        thans.filter_map(of).collect()
    }

    /// Commits and publishes. `None`: another process came first, and the log is read again.
    fn write(&mut self, draft: Draft) -> Result<Option<Committed>> {
        let outcome = match self.log.commit(draft) {
            Err(error) if error.remedy() == Remedy::Retry => match self.log.leave()? {
                Some(outcome @ Outcome::Committed { .. }) => outcome,
                _ => return Err(error),
            },
            done => done?,
        };
        match outcome {
            Outcome::Committed { committed, .. } => {
                self.log.publish(&committed)?;
                Ok(Some(committed))
            }
            Outcome::Lost { .. } => {
                self.log.refresh()?;
                Ok(None)
            }
        }
    }
}

/// Lets old data leave, and deletes what left before and whose time of grace is over.
///
/// # Errors
/// `config_invalid` where nothing says how old is old; those of the store.
pub fn expire(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    older: Older,
    (dry_run, reason): (bool, &str),
) -> Result<Expired> {
    let mut opened = opened(config, clock)?;
    if opened.thans(older).iter().all(|(_, than)| than.is_none()) {
        let message = format!(
            "nothing says how old is old: `{}` has neither sink.retention nor errors.dlq.retention",
            config.name
        );
        return Err(Error::new(Kind::ConfigInvalid, OP, message).hint("give --older-than 30d"));
    }
    let (mut expires, mut versions, mut deleted) = (Vec::new(), Vec::new(), 0);
    if dry_run {
        for (role, old) in opened.old(older, usize::MAX) {
            expires.extend(tables(role, &old.leaves));
        }
    } else {
        opened.log.redo()?;
        (expires, versions) = opened.expire_all(older, reason)?;
        deleted = opened.release_all(&mut versions)?;
        opened.all_are_deleted()?;
    }
    let held = opened.old(older, 0);
    let held = held
        .iter()
        .flat_map(|(_, old)| held_back(&opened, &old.held));
    let held = held.collect();
    let (waits, for_archive) = waits(opened.log.state());
    Ok(Expired {
        pipeline: config.name.clone(),
        zone: config.home.zone.clone(),
        url: config.home.at.url.clone(),
        dry_run,
        expires,
        held,
        waits,
        waits_for_archive: for_archive,
        deleted,
        versions,
        grace_seconds: opened.keep.grace.as_secs(),
        archive: config.retention.archive.as_ref().map(shown),
    })
}

fn shown(at: &Location) -> String {
    at.url.clone()
}

impl Opened {
    fn expire_all(&mut self, older: Older, reason: &str) -> Result<(Vec<OfTable>, Vec<u64>)> {
        let (mut sums, mut versions) = (BTreeMap::new(), Vec::new());
        let mut conflicts = 0;
        loop {
            let (mut files, mut of_entry, mut more) = (Vec::new(), Vec::new(), false);
            for (role, old) in self.old(older, EXPIRE_AT_ONCE) {
                files.extend(old.ids());
                of_entry.extend(tables(role, &old.leaves));
                more |= old.more;
            }
            if files.is_empty() {
                break;
            }
            let expire = Expire {
                actor: crate::commit::actor(),
                reason: reason.to_owned(),
                archive: self.keep.archive,
            };
            match self.write(Draft::Expire { files, expire })? {
                Some(committed) => {
                    versions.push(committed.version);
                    for of in of_entry {
                        join(&mut sums, of);
                    }
                    if !more {
                        break;
                    }
                }
                None => too_many(&mut conflicts)?,
            }
        }
        Ok((sums.into_values().collect(), versions))
    }

    /// An error where a file is still there that the log lets go.
    fn all_are_deleted(&self) -> Result<()> {
        let Some((files, why)) = self.log.view().undeleted() else {
            return Ok(());
        };
        let message = format!("{files} files that expired cannot be deleted: {why}");
        Err(Error::new(Kind::StoreUnavailable, OP, message)
            .hint("their rows have left the zone all the same; the pipeline tries again, and so does this command"))
    }

    /// How many files were deleted.
    fn release_all(&mut self, versions: &mut Vec<u64>) -> Result<u64> {
        let (mut deleted, mut conflicts) = (0, 0);
        loop {
            let files = self.log.releasable();
            if files.is_empty() {
                return Ok(deleted);
            }
            let before = self.log.state().leaving.len();
            match self.write(Draft::Gc(files))? {
                Some(committed) => {
                    versions.push(committed.version);
                    deleted += (before - self.log.state().leaving.len()) as u64;
                }
                None => too_many(&mut conflicts)?,
            }
        }
    }
}

fn too_many(conflicts: &mut usize) -> Result<()> {
    *conflicts += 1;
    match *conflicts > CONFLICTS_MAX {
        false => Ok(()),
        true => {
            let message = "other processes write faster than this is computed";
            Err(Error::new(Kind::Conflict, OP, message)
                .hint("try again, or stop the pipeline first"))
        }
    }
}

fn table_of(path: &str) -> &str {
    path.split_once('/').map_or(path, |(table, _)| table)
}

fn tables(role: Role, files: &[&LiveFile]) -> Vec<OfTable> {
    let mut tables: BTreeMap<&str, Sums> = BTreeMap::new();
    for live in files {
        let sums = tables.entry(table_of(&live.file.path)).or_default();
        sums.add((live.file.rows, live.file.bytes, live.time()));
    }
    let all = tables.into_iter().map(|(table, sums)| OfTable {
        table: table.to_owned(),
        role,
        sums,
    });
    all.collect()
}

fn join(all: &mut BTreeMap<(String, Role), OfTable>, of: OfTable) {
    let key = (of.table.clone(), of.role);
    match all.get_mut(&key) {
        None => drop(all.insert(key, of)),
        Some(before) => {
            let (sums, more) = (&mut before.sums, of.sums);
            sums.files += more.files;
            sums.rows += more.rows;
            sums.bytes += more.bytes;
            sums.oldest = sums.oldest.min(more.oldest);
            sums.newest = sums.newest.max(more.newest);
        }
    }
}

fn held_back(opened: &Opened, held: &[(Holder, &LiveFile)]) -> Vec<HeldBack> {
    let mut all: BTreeMap<(&str, &Holder), Sums> = BTreeMap::new();
    for (holder, live) in held {
        let sums = all.entry((table_of(&live.file.path), holder)).or_default();
        sums.add((live.file.rows, live.file.bytes, live.time()));
    }
    let state = opened.log.state();
    let stands = |split: &SplitId, at: Option<i64>| {
        let of = state.splits.get(split);
        let of = of.map_or_else(
            || split.to_string(),
            |of| format!("{}/{}", of.topic, of.partition),
        );
        match at {
            Some(at) => format!("{of} at {at}"),
            None => format!("{of} not registered yet"),
        }
    };
    let one = |((table, holder), sums): ((&str, &Holder), Sums)| {
        let (by, name, at) = match holder {
            Holder::Reader { name, split, at } => ("reader", name.clone(), stands(split, *at)),
            Holder::Input { split, at } => ("input", String::new(), stands(split, Some(*at))),
            Holder::Topic { .. } => (
                "topic",
                opened.topic.clone().unwrap_or_default(),
                String::new(),
            ),
            Holder::Older => ("older", String::new(), String::new()),
        };
        HeldBack {
            table: table.to_owned(),
            by,
            name,
            at,
            sums,
        }
    };
    all.into_iter().map(one).collect()
}

/// What expired and is not deleted yet, and how many files of it are to be archived.
fn waits(state: &State) -> (Sums, u64) {
    let mut sums = Sums::default();
    let rows = state.leaving.values();
    let rows = rows.filter(|leaving| leaving.file.role != Role::Keys);
    let mut archive = 0;
    for leaving in rows {
        sums.add((leaving.file.rows, leaving.file.bytes, leaving.time));
        archive += u64::from(leaving.archive);
    }
    (sums, archive)
}

/// What `weir zone archive` says of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArchivedNow {
    pub pipeline: String,
    pub zone: String,
    pub dry_run: bool,
    /// Where to.
    pub archive: String,
    /// What is archived, or would be.
    pub archives: Sums,
    /// Expired files that are not over their time of grace yet.
    pub in_grace: u64,
    pub versions: Vec<u64>,
}

/// Copies what expired into the archive, names it in the log, and deletes it. `to`: instead of the config's archive; it also takes
/// files that were to be deleted without one.
///
/// # Errors
/// Those of both stores; what was copied before is named and deleted.
pub fn archive(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    to: Option<&Location>,
    dry_run: bool,
) -> Result<ArchivedNow> {
    let mut opened = opened(config, clock)?;
    let Some(at) = to.or(config.retention.archive.as_ref()).cloned() else {
        let message = format!("`{}` has no archive.url", config.name);
        return Err(Error::new(Kind::ConfigInvalid, "zone.archive", message)
            .hint("set it in the config, or give --to URL"));
    };
    if at.path_to(&config.home.at).is_some() || config.home.at.path_to(&at).is_some() {
        let message = "an archive lies neither in the zone nor around it";
        return Err(Error::new(Kind::ConfigInvalid, "zone.archive", message)
            .with("zone", &config.home.at.url)
            .with("archive", &at.url));
    }
    let mut now = ArchivedNow {
        pipeline: config.name.clone(),
        zone: config.home.zone.clone(),
        dry_run,
        archive: at.url.clone(),
        archives: Sums::default(),
        in_grace: 0,
        versions: Vec::new(),
    };
    let add = |sums: &mut Sums, leaving: &Leaving| {
        sums.add((leaving.file.rows, leaving.file.bytes, leaving.time));
    };
    if dry_run {
        let files = opened.log.to_archive(usize::MAX);
        files
            .iter()
            .for_each(|leaving| add(&mut now.archives, leaving));
    } else {
        let archive = store::open(&at)?;
        zone::clear_left(&archive, opened.log.name(), opened.log.now_micros())?;
        opened.log.redo()?;
        opened.archive_all(&archive, to.is_some(), &mut now, &add)?;
        opened.all_are_deleted()?;
    }
    let (waits, _) = waits(opened.log.state());
    let due = opened.log.to_archive(usize::MAX).len() as u64;
    now.in_grace = waits.files.saturating_sub(due);
    Ok(now)
}

impl Opened {
    fn archive_all(
        &mut self,
        archive: &Arc<dyn Store>,
        others_too: bool,
        now: &mut ArchivedNow,
        add: &dyn Fn(&mut Sums, &Leaving),
    ) -> Result<()> {
        let mut conflicts = 0;
        // Files that cannot be archived, and why the first of them cannot; the others go on.
        let (mut bad, mut first_fault) = (BTreeSet::new(), None);
        loop {
            let mut files = self.log.to_archive(ARCHIVE_AT_ONCE + bad.len());
            files.retain(|leaving| !bad.contains(&leaving.file.id));
            if files.is_empty() && others_too {
                let ids: BTreeSet<String> = self.log.releasable().into_iter().collect();
                let leaving = self.log.state().leaving.iter();
                let found = leaving.filter(|(id, _)| ids.contains(*id));
                let found = found.filter(|(id, _)| !bad.contains(*id));
                files = found
                    .map(|(_, l)| l.clone())
                    .take(ARCHIVE_AT_ONCE)
                    .collect();
            }
            if files.is_empty() {
                return first_fault.map_or(Ok(()), Err);
            }
            let zone = (self.log.store().clone(), self.log.name().clone());
            let (mut done, mut copied): (Vec<Archived>, Vec<&Leaving>) = (Vec::new(), Vec::new());
            let mut fault = None;
            for leaving in &files {
                match zone::archive((&zone.0, &zone.1), &leaving.file, archive, &|| Ok(())) {
                    Ok(archived) => {
                        copied.push(leaving);
                        done.push(archived);
                    }
                    Err(error) if zone::is_of_the_file(&error) => {
                        bad.insert(leaving.file.id.clone());
                        first_fault = first_fault.or(Some(error));
                    }
                    Err(error) => {
                        fault = Some(error);
                        break;
                    }
                }
            }
            let nothing = done.is_empty();
            let written = match nothing {
                true => None,
                false => self.write(Draft::Archived(done))?,
            };
            if let Some(committed) = &written {
                now.versions.push(committed.version);
                copied
                    .into_iter()
                    .for_each(|leaving| add(&mut now.archives, leaving));
            }
            if let Some(error) = fault {
                return Err(error);
            }
            if written.is_none() && !nothing {
                too_many(&mut conflicts)?;
            }
        }
    }
}

/// A pipeline that reads a zone, as the zone's log knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReaderOf {
    /// The log that it reads: `<pipeline>/<zone>`.
    pub log: String,
    pub reader: String,
    pub generation: u64,
    /// Topic, partition and the offset that it reads next.
    pub positions: Vec<(String, i32, i64)>,
    /// Offsets above its positions.
    pub behind: u64,
    /// What it has not read yet.
    pub holds: Sums,
}

/// The registered readers of a zone.
pub fn readers(name: &LogName, state: &State) -> Vec<ReaderOf> {
    let reading = state.reading();
    let all = state.readers.iter().map(|(reader, of)| {
        let splits = of.position.iter();
        let splits = splits.filter_map(|(id, at)| Some((state.splits.get(id)?, *at)));
        let positions = splits
            .clone()
            .map(|(split, at)| (split.topic.clone(), split.partition, at));
        let behind = splits.map(|(split, at)| u64::try_from(split.to - at).unwrap_or(0));
        let mut holds = Sums::default();
        let needed = state.live.values().filter(|live| {
            let needs = reading.needed_by_one(of, &live.file);
            needs.is_some()
        });
        for live in needed {
            holds.add((live.file.rows, live.file.bytes, live.time()));
        }
        ReaderOf {
            log: name.to_string(),
            reader: reader.clone(),
            generation: of.generation,
            positions: positions.collect(),
            behind: behind.sum(),
            holds,
        }
    });
    all.collect()
}

/// Nothing waits for this reader any more (V11). The version that says so.
///
/// # Errors
/// `config_invalid` where the zone has no such reader.
pub fn forget_reader(
    store: &Arc<dyn Store>,
    name: &LogName,
    clock: &Arc<dyn Clock>,
    (reader, reason): (&str, &str),
) -> Result<u64> {
    let mut log = open(store, name, clock)?;
    for _ in 0..CONFLICTS_MAX {
        let Some(of) = log.state().readers.get(reader) else {
            let known: Vec<&str> = log.state().readers.keys().map(String::as_str).collect();
            let message = format!("{name} has no reader `{reader}`");
            let hint = match known.is_empty() {
                true => "it has none: nothing waits for anybody".to_owned(),
                false => format!("its readers are {}", known.join(", ")),
            };
            return Err(Error::new(Kind::ConfigInvalid, "zone.forget", message).hint(hint));
        };
        let forget = Forget {
            reader: reader.to_owned(),
            generation: of.generation,
            actor: crate::commit::actor(),
            reason: reason.to_owned(),
        };
        let outcome = match log.commit(Draft::Forget(forget)) {
            Err(error) if error.remedy() == Remedy::Retry => match log.leave()? {
                Some(outcome @ Outcome::Committed { .. }) => outcome,
                _ => return Err(error),
            },
            done => done?,
        };
        match outcome {
            Outcome::Committed { committed, .. } => return Ok(committed.version),
            Outcome::Lost { .. } => log.refresh()?,
        }
    }
    let message = "other processes write faster than this is computed";
    Err(Error::new(Kind::Conflict, "zone.forget", message).hint("try again"))
}

/// What left a zone by its age, by table, and what is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LeftOf {
    pub table: String,
    #[serde(flatten)]
    pub left: Left,
    /// Of these, files that are not deleted yet.
    pub waiting_files: u64,
}

pub fn left(state: &State) -> Vec<LeftOf> {
    let mut waiting: BTreeMap<&str, u64> = BTreeMap::new();
    for leaving in state.leaving.values() {
        if leaving.file.role != Role::Keys {
            *waiting.entry(table_of(&leaving.file.path)).or_default() += 1;
        }
    }
    let tables = state.left.iter();
    let of = tables.map(|(table, left)| LeftOf {
        table: table.clone(),
        left: left.clone(),
        waiting_files: waiting.get(table.as_str()).copied().unwrap_or(0),
    });
    of.collect()
}
