//! A small world for the log: a source whose every offset has a known fate, writers that load it, and an oracle.
//!
//! Files contain the coordinates of their rows: a JSON list of `[split, offset]`. The oracle folds the entries by
//! itself and shares no code with `commit::State`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use weir::chain::{Records, Rows};
use weir::clock::Clock;
use weir::commit::{
    AddedFile, Draft, Entry, FileRange, Kind as EntryKind, Limits, Log, LogName, Open, Outcome,
    PreparedCommit, Role, Rule, Span, Swap, Writer, decode, digest,
};
use weir::error::{Error, Kind, Result};
use weir::record::SplitId;
use weir::store::{Fault, Faults, Op, OpenUpload, Store, Verb, open_uploads};

pub const CHAINS: usize = 2;
/// Offsets of each split.
pub const END: i64 = 14;
/// How likely a compaction is after each round of a log that forgets.
const COMPACTIONS: f64 = 0.4;
/// Rewinds of one process at most.
const REWINDS: u32 = 3;
/// Where the splits begin.
pub const START: i64 = 3;

pub fn log_name() -> LogName {
    LogName::new("books-raw", "raw")
}

pub fn split(n: usize) -> SplitId {
    SplitId::kafka("c", "t", i32::try_from(n).unwrap())
}

pub fn rule(version: u64) -> Vec<Rule> {
    vec![Rule {
        transform: "flatten".into(),
        plugin: "xml-flatten".into(),
        version: format!("0.1.{version}"),
        component: format!("sha256:component{version}"),
        config: "sha256:config".into(),
    }]
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Row,
    Letter,
    Filtered,
}

/// What becomes of an offset, whoever reads it.
pub fn fate(split: &SplitId, offset: i64) -> Fate {
    let salt: i64 = split.as_str().bytes().map(i64::from).sum();
    match (offset * 7 + salt) % 5 {
        0 => Fate::Letter,
        1 => Fate::Filtered,
        _ => Fate::Row,
    }
}

/// File ids in order of birth, the same for the same seed.
#[derive(Debug, Default)]
pub struct Ids(AtomicU64);

impl Ids {
    /// Born later than all below: they sort behind them, whichever is taken first.
    pub fn starting_at(n: u64) -> Ids {
        Ids(AtomicU64::new(n))
    }

    pub fn next(&self) -> String {
        let n = self.0.fetch_add(1, Ordering::SeqCst);
        ulid::Ulid::from_parts(1_700_000_000_000 + n, u128::from(n)).to_string()
    }
}

/// What writers say about themselves, for the oracle.
#[derive(Debug, Default)]
pub struct Heard {
    /// Proved versions and their digests.
    pub proved: BTreeSet<(u64, String)>,
    /// Files of receipts that were reported as dropped.
    pub dropped: BTreeSet<String>,
    /// Drafts that were unsettled for a while, and those that were left.
    pub unsettled: u64,
    pub left: u64,
}

/// One process that loads the splits up to their ends.
pub struct Loader {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<Ids>,
    pub heard: Arc<Mutex<Heard>>,
    pub seed: u64,
    /// How likely a rewind is after each round.
    pub rewinds: f64,
    /// Whether the log forgets what it can, writes checkpoints, and gets shorter.
    pub forgets: bool,
    /// Whether rows leave as soon as they may: a reader holds them back.
    pub lets_leave: bool,
    pub who: usize,
}

impl Loader {
    pub fn run(self) -> Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let writer = Writer {
            id: format!("w{}", self.who),
            started: i64::try_from(self.who).unwrap(),
        };
        let mut log = Log::open_or_init(
            Arc::clone(&self.store),
            log_name(),
            Arc::clone(&self.clock),
            writer,
            rule(0),
        )?
        .with_limits(Limits {
            tries: random.random_range(1..=3),
            retention: Duration::ZERO,
            checkpoint_every: 2,
            horizon_step: 3,
            keep: crate::sim_leave::keep(),
            ..Limits::default()
        })
        // Waits move the clock, and a log that was not asked for news for a minute looks anew.
        .seeded(self.seed ^ ((self.who as u64) << 40));
        self.hear(&log, None);
        // Left once, perhaps: then nothing is open yet.
        while log.state().splits.len() < CHAINS {
            let opens = (0..CHAINS).map(|n| Open {
                split: split(n),
                topic: "t".into(),
                partition: i32::try_from(n).unwrap(),
                offset: START,
                start: "earliest".into(),
            });
            self.commit(&mut log, Draft::Open(opens.collect()))?;
        }
        let mut rewinds = REWINDS;
        while (0..CHAINS).any(|n| position(&log, n) < END) {
            self.round(&mut log, &mut random)?;
            if rewinds > 0 && random.random_bool(self.rewinds) {
                rewinds -= 1;
                self.go_back(&mut log, &mut random)?;
            }
            if self.lets_leave {
                self.read_on(&mut log, &mut random)?;
                self.let_leave(&mut log, &mut random)?;
            }
            if self.forgets {
                self.forget(&mut log)?;
                if random.random_bool(COMPACTIONS) {
                    self.compact(&mut log)?;
                }
            }
        }
        match self.lets_leave {
            true => self.let_leave(&mut log, &mut random),
            false => Ok(()),
        }
    }

    /// As a committer does after an entry.
    fn forget(&self, log: &mut Log) -> Result<()> {
        if let Some(version) = log.forgettable(None) {
            patiently(|| log.redo())?;
            self.commit(log, Draft::Horizon(version))?;
        }
        log.checkpoint_if_due();
        Ok(())
    }

    /// Seals one or two chained drafts, as overlapping reading would, then commits them in turn.
    fn round(&self, log: &mut Log, random: &mut StdRng) -> Result<()> {
        let mut next: Vec<i64> = (0..CHAINS).map(|n| position(log, n)).collect();
        let mut drafts = Vec::new();
        for _ in 0..random.random_range(1..=2) {
            let mut receipts = Vec::new();
            // One task for all splits, or one for each.
            let tasks: Vec<Vec<usize>> = if random.random_bool(0.5) {
                vec![(0..CHAINS).collect()]
            } else {
                (0..CHAINS).map(|n| vec![n]).collect()
            };
            for splits in tasks {
                let mut ranges = Vec::new();
                for n in splits {
                    let to = (next[n] + random.random_range(0..=4)).min(END);
                    if to > next[n] {
                        ranges.push((split(n), next[n], to));
                        next[n] = to;
                    }
                }
                if !ranges.is_empty() {
                    receipts.extend(self.seal(log, &ranges)?);
                }
            }
            let swap = random.random_bool(0.1).then(|| swap_from(log));
            if !receipts.is_empty() || swap.is_some() {
                drafts.push(Draft::Data { receipts, swap });
            }
        }
        for draft in drafts {
            self.commit(log, draft)?;
        }
        Ok(())
    }

    /// W2. `None`: somebody collected a file meanwhile.
    pub fn seal(
        &self,
        log: &Log,
        ranges: &[(SplitId, i64, i64)],
    ) -> Result<Option<PreparedCommit>> {
        let mut receipt = PreparedCommit {
            base: log.version(),
            generation: log.state().generation(),
            spans: ranges
                .iter()
                .map(|(split, from, to)| Span {
                    epoch: epoch(log, split),
                    ..span(split, *from, *to)
                })
                .collect(),
            files: Vec::new(),
            deliveries: Vec::new(),
            counters: BTreeMap::new(),
        };
        for (role, wanted, dir) in [
            (Role::Rows, Fate::Row, "books"),
            (Role::DeadLetters, Fate::Letter, "dead_letters"),
        ] {
            let id = self.ids.next();
            match write_file(&self.store, &id, role, wanted, dir, ranges) {
                // The generation its rows were made under and the epochs they were read in, for the oracle.
                Ok(file) => receipt.files.extend(file.map(|file| AddedFile {
                    schema: receipt.generation.to_string(),
                    row_digest: epochs(&file, |split| epoch(log, split)),
                    ..file
                })),
                Err(e) if e.kind() == Kind::Conflict => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        Ok(Some(receipt))
    }

    /// Commits and publishes; settles or leaves when the store gives no answer.
    pub fn commit(&self, log: &mut Log, draft: Draft) -> Result<()> {
        let files: Vec<Vec<String>> = match &draft {
            Draft::Rewind { rests, .. } => vec![rests.iter().map(|f| f.id.clone()).collect()],
            Draft::Compact { add, .. } => vec![add.iter().map(|f| f.id.clone()).collect()],
            Draft::Data { receipts, .. } => receipts
                .iter()
                .map(|r| r.files.iter().map(|f| f.id.clone()).collect())
                .collect(),
            _ => Vec::new(),
        };
        let mut outcome = log.commit(draft);
        for patience in 0.. {
            match outcome {
                Err(e) if e.kind() == Kind::StoreUnavailable && patience < 6 => {
                    self.heard.lock().unwrap().unsettled += 1;
                    let leaves = patience >= self.seed % 3;
                    let ended = if leaves { log.leave() } else { log.settle() };
                    outcome = ended.map(|o| o.expect("an unsettled draft is pending"));
                    let left = leaves && matches!(&outcome, Ok(Outcome::Lost { .. }));
                    self.heard.lock().unwrap().left += u64::from(left);
                }
                _ => break,
            }
        }
        let outcome = outcome?;
        let (committed, dropped) = match outcome {
            Outcome::Committed { committed, dropped } => (Some(committed), dropped),
            Outcome::Lost { dropped } => (None, dropped),
        };
        for part in dropped {
            if let Some(files) = files.get(part.index) {
                self.heard
                    .lock()
                    .unwrap()
                    .dropped
                    .extend(files.iter().cloned());
            }
        }
        self.hear(log, committed.as_ref().map(|c| &*c.entry));
        if let Some(committed) = committed {
            patiently(|| log.publish(&committed))?;
        }
        Ok(())
    }

    fn hear(&self, log: &Log, entry: Option<&Entry>) {
        let state = log.state();
        assert!(entry.is_none_or(|e| e.version == state.version));
        let mut heard = self.heard.lock().unwrap();
        heard.proved.insert((state.version, state.digest.clone()));
    }
}

/// Three times, while the store does not answer.
pub fn patiently(mut body: impl FnMut() -> Result<()>) -> Result<()> {
    let mut done = Ok(());
    for _ in 0..3 {
        done = body();
        match &done {
            Err(e) if e.kind() == Kind::StoreUnavailable => {}
            _ => break,
        }
    }
    done
}

fn epoch(log: &Log, split: &SplitId) -> u64 {
    log.state().splits.get(split).map_or(0, |c| c.epoch)
}

/// In the form of a row digest, so that those of several files add up.
fn epochs(file: &AddedFile, of: impl Fn(&SplitId) -> u64) -> String {
    let ranges = file.ranges.iter();
    let sum = ranges.fold(0, |sum, r| sum * 1000 + u128::from(of(&r.split)) + 1);
    format!("xxh3:{sum:032x}")
}

fn position(log: &Log, n: usize) -> i64 {
    log.state().splits.get(&split(n)).map_or(START, |c| c.to)
}

fn swap_from(log: &Log) -> Swap {
    Swap {
        replaces: log.state().generation(),
        transforms: rule(log.version() % 3),
        actor: "sim".into(),
        reason: String::new(),
        block: Vec::new(),
        force: false,
        declared: None,
    }
}

pub fn span(split: &SplitId, from: i64, to: i64) -> Span {
    let count = |wanted| (from..to).filter(|o| fate(split, *o) == wanted).count() as u64;
    let (rows, letters, filtered) = (count(Fate::Row), count(Fate::Letter), count(Fate::Filtered));
    Span {
        split: split.clone(),
        epoch: 0,
        from,
        to,
        lost: 0,
        records: Records {
            read: rows + letters + filtered,
            with_rows: rows,
            refused: letters,
            filtered,
            refused_in_part: 0,
        },
        rows: Rows {
            made: rows,
            written: rows,
            ..Rows::default()
        },
        dead_letters: letters,
    }
}

/// `None`: no offset has this fate.
pub fn write_file(
    store: &Arc<dyn Store>,
    id: &str,
    role: Role,
    wanted: Fate,
    dir: &str,
    ranges: &[(SplitId, i64, i64)],
) -> Result<Option<AddedFile>> {
    let mut coordinates: Vec<(SplitId, i64)> = Vec::new();
    let mut file_ranges = Vec::new();
    for (split, from, to) in ranges {
        let offsets: Vec<i64> = (*from..*to).filter(|o| fate(split, *o) == wanted).collect();
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            file_ranges.push(FileRange {
                split: split.clone(),
                from: *first,
                to: last + 1,
                rows: offsets.len() as u64,
            });
        }
        coordinates.extend(offsets.into_iter().map(|o| (split.clone(), o)));
    }
    if coordinates.is_empty() {
        return Ok(None);
    }
    let like = AddedFile {
        id: id.to_owned(),
        path: format!("{dir}/hour=00/{id}.json"),
        role,
        bytes: 0,
        rows: 0,
        digest: String::new(),
        ranges: file_ranges,
        partition_values: BTreeMap::new(),
        schema: String::new(),
        row_digest: String::new(),
        keys: None,
        upload: None,
    };
    write_rows(store, like, &coordinates).map(Some)
}

pub fn write_rows(
    store: &Arc<dyn Store>,
    like: AddedFile,
    rows: &[(SplitId, i64)],
) -> Result<AddedFile> {
    let bytes = serde_json::to_vec(rows).unwrap();
    let mut file = store.begin(&like.place(&log_name()))?;
    file.write_all(&bytes).map_err(|e| {
        // A writer's error comes through `io::Write`; it says what happened.
        let error = e.into_inner().map(|e| e.downcast::<Error>());
        *error.and_then(std::result::Result::ok).unwrap()
    })?;
    let seal = file.seal()?;
    assert_eq!(seal.bytes, bytes.len() as u64);
    Ok(AddedFile {
        upload: seal.upload,
        bytes: seal.bytes,
        rows: rows.len() as u64,
        digest: digest(&bytes),
        ..like
    })
}

/// Its bytes wait under a staging name, or in an upload with all of its parts.
fn can_appear(file: &AddedFile, uploads: &[OpenUpload]) -> bool {
    file.upload.as_ref().is_none_or(|upload| {
        let mut open = uploads.iter();
        open.any(|u| u.id == upload.id && u.path == file.path && u.parts == upload.parts)
    })
}

/// Entries that were deleted, as they were, by path.
pub type Deleted = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Faults of a process, and the oracle's eye on the entries that it deletes.
#[derive(Debug)]
pub struct Watched {
    pub bare: Arc<dyn Store>,
    pub deleted: Deleted,
    pub faults: Arc<dyn Faults>,
}

impl Faults for Watched {
    fn decide(&self, op: &Op) -> Fault {
        if op.verb == Verb::Delete && op.path.contains("/log/") {
            let bytes = self.bare.get(&op.path).unwrap().map(|b| b.to_vec());
            let mut deleted = self.deleted.lock().unwrap();
            if let Some(bytes) = bytes {
                deleted.entry(op.path.clone()).or_insert(bytes);
            }
        }
        self.faults.decide(op)
    }
}

/// No faults.
#[derive(Debug)]
pub struct Fair;

impl Faults for Fair {
    fn decide(&self, _: &Op) -> Fault {
        Fault::None
    }
}

/// Watches the bare store, sees everything, believes nobody.
#[derive(Debug, Default)]
pub struct Oracle {
    pub deleted: Deleted,
    /// Digest of each version ever seen.
    history: Vec<String>,
    entries: Vec<Entry>,
    live: BTreeMap<String, AddedFile>,
    /// Expired, and not to be deleted yet; whether each must be archived before.
    leaving: BTreeMap<String, (AddedFile, bool)>,
    /// Rows that expired.
    expired: BTreeSet<(SplitId, i64)>,
    readers: BTreeMap<String, BTreeMap<SplitId, i64>>,
    removed: BTreeMap<String, AddedFile>,
    collected: BTreeSet<String>,
    epochs: BTreeMap<SplitId, u64>,
    to: BTreeMap<SplitId, i64>,
    gen_in_force: u64,
    horizon: u64,
    /// Entries that are not in the store any more.
    forgotten: usize,
    visible: BTreeMap<String, Vec<(SplitId, i64)>>,
    seen: BTreeSet<(SplitId, i64)>,
}

impl Oracle {
    /// At any instant: I-contiguous, I-prefix, I-rules, I-exists, I-lister.
    pub fn look(&mut self, store: &dyn Store) {
        loop {
            let path = log_name().entry(self.entries.len() as u64);
            let found = store.get(&path).unwrap().map(|bytes| bytes.to_vec());
            let deleted = self.deleted.lock().unwrap().get(&path).cloned();
            let Some(bytes) = deleted.or(found) else {
                break;
            };
            let entry = decode(&bytes, "oracle").unwrap();
            let parent = self.history.last().cloned().unwrap_or_default();
            assert_eq!(entry.parent, parent, "I-prefix: one history");
            self.expire(&entry);
            self.fold(&entry);
            self.history.push(digest(&bytes));
            self.entries.push(entry);
        }
        let begun: BTreeSet<String> = store
            .begun(&log_name().dir())
            .unwrap()
            .into_iter()
            .collect();
        let uploads = open_uploads(store);
        for upload in uploads.iter().filter(|u| !u.parts.is_empty()) {
            let file = upload.path.rsplit('/').next().unwrap();
            let id = file.split('.').next().unwrap();
            assert!(begun.contains(id), "I-parts: {upload:?} has no intent");
        }
        let mut published = BTreeMap::new();
        for dir in ["books", "dead_letters"] {
            published.extend(
                store
                    .list(dir)
                    .unwrap()
                    .into_iter()
                    .map(|l| (l.path, l.size)),
            );
        }
        let leaving = self.leaving.values().map(|(file, _)| file);
        for file in self.live.values().chain(leaving) {
            assert!(
                published.contains_key(&file.path)
                    || begun.contains(&file.id) && can_appear(file, &uploads),
                "I-exists: live file {} is nowhere",
                file.path
            );
        }
        let gone = self.visible.keys().filter(|p| !published.contains_key(*p));
        for path in gone.cloned().collect::<Vec<_>>() {
            assert!(
                self.removed.values().any(|f| f.path == path),
                "I-lister: {path} went away"
            );
            for row in self.visible.remove(&path).unwrap() {
                self.seen.remove(&row);
            }
        }
        for (path, bytes) in published {
            if self.visible.contains_key(&path) {
                continue;
            }
            // A publisher that slept may show a removed file until its names are gone, but never beside its rows read again.
            let leaving = self.leaving.values().map(|(file, _)| file);
            let mut ever = self
                .live
                .values()
                .chain(leaving)
                .chain(self.removed.values());
            let file = ever.find(|f| f.path == path);
            let file = file.unwrap_or_else(|| panic!("I-lister: {path} was never committed"));
            assert_eq!(file.bytes, bytes, "I-lister: {path} is not whole");
            let content = store.get(&path).unwrap().unwrap();
            let rows: Vec<(SplitId, i64)> = serde_json::from_slice(&content).unwrap();
            for row in &rows {
                assert!(self.seen.insert(row.clone()), "I-lister: {row:?} twice");
            }
            self.visible.insert(path, rows);
        }
    }

    fn fold(&mut self, entry: &Entry) {
        for open in &entry.open {
            let before = self.to.insert(open.split.clone(), open.offset);
            assert_eq!(before, None, "W1: opened twice");
        }
        for span in &entry.spans {
            let to = self.to.insert(span.split.clone(), span.to);
            assert_eq!(to, Some(span.from), "I-contiguous: {entry:?}");
            let epoch = self.epochs.entry(span.split.clone()).or_default();
            *epoch += u64::from(entry.kind == EntryKind::Rewind);
            assert_eq!(span.epoch, *epoch, "I-rewind: {entry:?}");
        }
        if entry.kind == EntryKind::Data {
            let rules = entry.rules.as_ref().unwrap();
            assert_eq!(rules.generation, self.gen_in_force, "I-rules: {entry:?}");
            for file in &entry.add {
                let made_under = self.gen_in_force.to_string();
                assert_eq!(file.schema, made_under, "I-rules: rows of other rules");
                let now = epochs(file, |split| self.epochs[split]);
                assert_eq!(file.row_digest, now, "I-rewind: rows read before a rewind");
            }
        }
        for file in &entry.add {
            assert!(
                !self.collected.contains(&file.id),
                "a collected file was added"
            );
            assert!(self.live.insert(file.id.clone(), file.clone()).is_none());
        }
        for id in &entry.remove {
            let file = self.live.remove(id).expect("only live files leave");
            match &entry.expire {
                Some(expire) => drop(self.leaving.insert(id.clone(), (file, expire.archive))),
                None => drop(self.removed.insert(id.clone(), file)),
            }
        }
        let archived = entry.archived.iter().map(|archived| &archived.id);
        for id in entry.gc.iter().chain(archived) {
            if let Some((file, archive)) = self.leaving.remove(id) {
                let named = entry.kind == EntryKind::Archived;
                assert!(named || !archive, "V6: {id} was not archived");
                self.removed.insert(id.clone(), file);
            }
        }
        if entry.kind == EntryKind::Rewind {
            for range in self.live.values().flat_map(|f| &f.ranges) {
                let to = self.to[&range.split];
                assert!(range.to <= to, "I-rewind: rows above {to} stayed");
            }
        }
        for file in &entry.gc {
            assert!(!self.live.contains_key(file), "a live file was collected");
            if !self.removed.contains_key(file) {
                self.collected.insert(file.clone());
            }
        }
        let set_back = entry.rewind.iter().flat_map(|rewind| &rewind.readers);
        for reader in entry.reader.iter().chain(set_back) {
            for row in &self.expired {
                let at = reader.position.get(&row.0);
                assert!(
                    at.is_none_or(|at| row.1 < *at) || fate(&row.0, row.1) == Fate::Letter,
                    "I-reader: {reader:?} stands below {row:?}"
                );
            }
            self.readers
                .insert(reader.name.clone(), reader.position.clone());
        }
        if entry.swap.is_some() {
            self.gen_in_force = entry.version;
        }
        if let Some(horizon) = &entry.horizon {
            assert!(horizon.version > self.horizon, "V13: {entry:?}");
            self.horizon = horizon.version;
        }
    }

    /// V9: nobody needs it, and what expired never comes again.
    fn expire(&mut self, entry: &Entry) {
        if entry.expire.is_none() {
            return;
        }
        for id in &entry.remove {
            let file = &self.live[id];
            for range in file.ranges.iter().filter(|_| file.role == Role::Rows) {
                for (name, position) in &self.readers {
                    let at = position.get(&range.split);
                    assert!(
                        at.is_none_or(|at| *at >= range.to),
                        "I-reader: {name} needs {}",
                        file.path
                    );
                }
            }
            let wanted = match file.role {
                Role::DeadLetters => Fate::Letter,
                _ => Fate::Row,
            };
            let rows = file.ranges.iter().flat_map(|range| {
                let offsets = (range.from..range.to).filter(|o| fate(&range.split, *o) == wanted);
                offsets.map(|offset| (range.split.clone(), offset))
            });
            let rows: Vec<(SplitId, i64)> = rows.collect();
            assert_eq!(rows.len() as u64, file.rows);
            for row in rows {
                assert!(self.expired.insert(row.clone()), "{row:?} expired twice");
            }
        }
    }

    /// How many rows and dead letters have expired.
    pub fn left(&self) -> usize {
        self.expired.len()
    }

    /// When faults have stopped and a last process has finished: I-once, I-published, and what writers were told was true.
    pub fn conclude(&mut self, store: &dyn Store, heard: &Heard) {
        self.look(store);
        for (version, digest) in self.history.iter().enumerate() {
            let bytes = store.get(&log_name().entry(version as u64)).unwrap();
            let found = bytes.map(|b| weir::commit::digest(&b));
            // What is forgotten may be gone, or the ghost of a sleeper may be in its place.
            let forgotten = (version as u64) < self.horizon && found.as_ref() != Some(digest);
            self.forgotten += usize::from(forgotten);
            assert!(
                forgotten || found.as_ref() == Some(digest),
                "I-prefix: history changed"
            );
        }
        for (version, digest) in &heard.proved {
            let version = usize::try_from(*version).unwrap();
            assert_eq!(self.history.get(version), Some(digest), "I-prefix: proved");
        }
        for file in &heard.dropped {
            assert!(
                !self.live.contains_key(file),
                "a dropped receipt is in the log"
            );
        }
        for n in 0..CHAINS {
            assert_eq!(self.to.get(&split(n)), Some(&END), "all was loaded");
            for offset in START..END {
                let row = (split(n), offset);
                let visible = self.seen.contains(&row) || self.expired.contains(&row);
                let expected = fate(&split(n), offset) != Fate::Filtered;
                assert_eq!(visible, expected, "I-once: {} {offset}", split(n));
            }
        }
        let sum = |back: bool| -> u64 {
            let entries = self.entries.iter();
            let entries = entries.filter(|e| (e.kind == EntryKind::Rewind) == back);
            let spans = entries.flat_map(|e| &e.spans);
            spans.map(|s| s.records.filtered).sum()
        };
        let filtered = sum(false) - sum(true);
        let all = (END - START) as u64 * CHAINS as u64;
        let there = self.seen.union(&self.expired).count();
        assert_eq!(there as u64 + filtered, all, "I-once: the ledger");
        let files = self.live.len() + self.leaving.len();
        assert_eq!(self.visible.len(), files, "I-published");
        assert!(self.leaving.is_empty(), "what expired is deleted");
        let begun = store.begun(&log_name().dir()).unwrap();
        assert!(begun.is_empty(), "orphans were collected: {begun:?}");
        let parts = open_uploads(store).into_iter().map(|u| u.parts.len());
        assert_eq!(parts.sum::<usize>(), 0, "I-parts");
    }

    pub fn rewinds(&self) -> usize {
        let kinds = self.entries.iter().map(|e| e.kind);
        kinds.filter(|kind| *kind == EntryKind::Rewind).count()
    }

    pub fn compactions(&self) -> usize {
        let kinds = self.entries.iter().map(|e| e.kind);
        kinds.filter(|kind| *kind == EntryKind::Compact).count()
    }

    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    pub fn versions(&self) -> usize {
        self.history.len()
    }
}
