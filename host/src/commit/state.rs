//! The state of a log, folded from its proved entries: the position of each split, the rules in force, the live files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::{
    AddedFile, Delivery, Entry, Init, Kind, Plan, Reader, Role, Rule, Rules, Writer,
};
use super::expiry::{ExpiredBelow, Leaving, Left};
use super::file::rules_digest;
use super::forget::Age;
use super::history::RulesPeriod;
use crate::chain::Ledger;
use crate::record::SplitId;
use crate::store::Seal;

/// The pace counts the writers of this many newest entries (docs/protocol.md §5).
const PACE_WINDOW: usize = 100;

/// A rule of docs/protocol.md that an entry or draft breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// `V2`; `W1` for an `open`; `§2` where fields do not belong to the kind.
    pub rule: &'static str,
    /// Expected and found.
    pub message: String,
    pub split: Option<SplitId>,
    /// True: the state is not (or no longer) the one the writer worked on; read it and do the work again.
    /// False: the entry is wrong on any state.
    pub moved: bool,
}

/// Shows what is wrong, then the rule in words: an operator need not know its number.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(split) = &self.split {
            write!(f, " (split {split})")?;
        }
        write!(f, "; rule {}: {}", self.rule, in_words(self.rule))
    }
}

/// The rules that a [`Violation`] names, each in one line; docs/protocol.md has them in full.
fn in_words(rule: &str) -> &'static str {
    match rule {
        "§2" => "an entry has the fields of its kind, and no others",
        "V1" => "each entry names the digest of the one before",
        "V2" => "each span begins where its split stands and moves on",
        "V3" => "rows are made by the rules that are in force",
        "V4" => "what an entry adds or delivers has a new id",
        "V5" => "only live files are removed",
        "V6" => "what is collected was never part of the zone, nor delivered",
        "V7" => "records and rows add up, and agree with the files and deliveries",
        "V8" => "a rewind takes back exactly what lies above its borders",
        "V9" => "what expires is needed by no reader, and is older than what stays",
        "V10" => "a batch does what the open plan says, on the newest rows",
        "V11" => "the position of a reader is on the log and never goes back by itself",
        "V12" => "a swap names the rules that it replaces, and blocked ones need force",
        "V13" => "what is forgotten is needed by no reader, and never comes back",
        "V14" => "a compaction takes files of one kind that no rewind reaches, with their sidecars",
        "O2" => "an upload has the parts that its completion needs",
        "W1" => "the start of a split is written once, before its first read",
        "W2" => "an attempt begins on a version that was proved",
        "W4" => "work that began before what the log has forgotten is done again",
        "W5" => "an answer that is not clear is settled before anything else is written",
        "W6" => "an entry counts once the version before it was read again",
        _ => "see docs/protocol.md",
    }
}

/// The position and totals of a split after one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitBoundary {
    pub version: u64,
    pub to: i64,
    /// Sums of this split from its start up to `to`.
    pub totals: Ledger,
    /// Offsets that were gone before they were read, also from the start up to `to`.
    pub lost: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitState {
    pub topic: String,
    pub partition: i32,
    /// Next offset to read.
    pub to: i64,
    pub epoch: u64,
    pub totals: Ledger,
    /// Offsets recorded as gone before they were read.
    pub lost: u64,
    /// Where reading began, and the version that says so.
    pub start: i64,
    pub opened: u64,
    /// Ascending. The first one is the `open`, as long as no horizon has passed it. A rewind removes those above its
    /// target. In a checkpoint they are in its manifests.
    #[serde(skip)]
    pub borders: Vec<CommitBoundary>,
    /// Version of the last rewind of this split; 0 = none.
    pub rewound_at: u64,
    /// The highest `to` it ever had: a group offset may still stand there after a rewind.
    pub peak: i64,
    /// PROCESSED: the epoch of this split in the log that is read, as the last batch saw it.
    pub input_epoch: u64,
    #[serde(default, skip_serializing_if = "ExpiredBelow::is_nothing")]
    pub expired: ExpiredBelow,
}

impl SplitState {
    /// Where reading this split began.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The version whose span holds this offset; behind the horizon, the version of a later commit boundary. `None` below
    /// the start and from `to` on.
    pub fn version_of(&self, offset: i64) -> Option<u64> {
        if offset < self.start {
            return None;
        }
        let after = self.borders.partition_point(|b| b.to <= offset);
        self.borders.get(after).map(|b| b.version)
    }

    /// The newest commit boundary at or below this version.
    pub fn border_at(&self, version: u64) -> Option<CommitBoundary> {
        let after = self.borders.partition_point(|b| b.version <= version);
        after
            .checked_sub(1)
            .and_then(|i| self.borders.get(i))
            .copied()
    }

    /// The newest commit boundary at or below this offset. `None`: reading began above it.
    pub fn border_below(&self, offset: i64) -> Option<CommitBoundary> {
        let after = self.borders.partition_point(|b| b.to <= offset);
        after
            .checked_sub(1)
            .and_then(|i| self.borders.get(i))
            .copied()
    }

    /// `to` is a commit boundary (V8 has checked it).
    fn go_back(&mut self, to: i64, epoch: u64, version: u64) {
        self.borders
            .truncate(self.borders.partition_point(|b| b.to <= to));
        if let Some(border) = self.borders.last() {
            (self.totals, self.lost) = (border.totals, border.lost);
        }
        (self.to, self.epoch, self.rewound_at) = (to, epoch, version);
    }

    /// Rows written for `[from, to)`. `None` if one of the two is no commit boundary, or is forgotten. Where reading can begin
    /// counts as one.
    pub fn rows_between(&self, from: i64, to: i64) -> Option<u64> {
        let rows_at = |offset: i64| {
            if self.expired.rows_to == Some(offset) {
                return Some(self.expired.rows);
            }
            if offset == self.start {
                return Some(0);
            }
            let i = self.borders.partition_point(|b| b.to < offset);
            let border = self.borders.get(i)?;
            (border.to == offset).then_some(border.totals.rows.written)
        };
        rows_at(to)?.checked_sub(rows_at(from)?)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiveFile {
    pub file: AddedFile,
    /// The version that added it.
    pub version: u64,
    /// Where it took the place of others: the version that committed the newest of its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<u64>,
    /// When its newest rows were committed, microseconds since 1970 UTC, by the writer's clock; 0: not known.
    #[serde(default)]
    pub time: i64,
}

/// A file that is no longer live. Unless it expired, it must be gone from the store before any later file is published (P3).
#[derive(Clone, Debug, Eq, Serialize, Deserialize)]
pub struct RemovedFile {
    pub path: String,
    /// The version that added it, and the one that removed it.
    pub added: u64,
    pub version: u64,
    pub seal: Seal,
    /// Its rows had expired: no later file has any of them. Not in a checkpoint, before which it was deleted (P4).
    #[serde(skip)]
    pub expired: bool,
}

/// A checkpoint is what its entries say all the same.
impl PartialEq for RemovedFile {
    fn eq(&self, other: &RemovedFile) -> bool {
        let of = |file: &RemovedFile| (file.path.clone(), file.added, file.version);
        of(self) == of(other) && self.seal == other.seal
    }
}

/// Rows that another system took, or takes once the delivery is finished (P1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    pub delivery: Delivery,
    /// The version that says so.
    pub version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPlan {
    /// The version of the plan's entry, which `batch` and `void` name.
    pub version: u64,
    pub plan: Plan,
}

/// Positions that a reader registered, and the version that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub version: u64,
    pub position: BTreeMap<SplitId, i64>,
}

/// As JSON it is what the root of a checkpoint holds, under the names of docs/protocol.md §9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the newest folded entry: P, if the log has proved it.
    pub version: u64,
    /// `sha256:…` of that entry's bytes.
    #[serde(rename = "entry")]
    pub digest: String,
    /// Whose log it is, and `sha256:…` of the first entry, which names the log for good.
    pub init: Init,
    pub first: String,
    /// When it was written, microseconds since 1970 UTC.
    pub begun: i64,
    /// Nothing goes back below this version.
    pub horizon: u64,
    pub splits: BTreeMap<SplitId, SplitState>,
    /// In force from the next version on.
    pub rules: Rules,
    /// Digest of the rules that the config declared when the newest `init` or `swap` was written.
    pub declared: String,
    pub blocked: BTreeSet<String>,
    /// By id. In a checkpoint they are in its manifests.
    #[serde(skip)]
    pub live: BTreeMap<String, LiveFile>,
    /// Files whose rows have expired, and which wait for their deletion, by id. In a checkpoint they are in its manifests.
    #[serde(skip)]
    pub leaving: BTreeMap<String, Leaving>,
    /// What left by its age, by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left: BTreeMap<String, Left>,
    /// Files that left above the horizon, by id. In a checkpoint they are in its manifests.
    #[serde(default, skip_serializing)]
    pub removed: BTreeMap<String, RemovedFile>,
    /// What was collected above the horizon, with its version.
    pub collected: BTreeMap<String, u64>,
    /// By id, above the horizon.
    pub delivered: BTreeMap<String, Delivered>,
    pub readers: BTreeMap<String, Reader>,
    /// What each reader registered, ascending; a rewind sets a reader back to one of them (V8).
    pub cuts: BTreeMap<String, Vec<Cut>>,
    /// PROCESSED: the generation of its own reader that this log follows (§10 B0).
    pub follows: u64,
    /// The last version that took back rows or removed files; 0 = none did.
    pub removed_at: u64,
    /// The last version after which files that had expired may be deleted; 0 = none was.
    #[serde(default)]
    pub(super) deletable_at: u64,
    /// PROCESSED: some batch was committed.
    pub(super) batched: bool,
    pub plan: Option<OpenPlan>,
    /// The last version that changed rows; 0 = none did.
    pub data_at: u64,
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// Entries that settled records, from the first on.
    pub settled: u64,
    /// Which rules were in force when, the oldest first; periods that ended at or below the horizon are forgotten.
    pub periods: Vec<RulesPeriod>,
    /// When some of the versions above the horizon were written.
    pub(super) ages: Vec<Age>,
    writers: VecDeque<Writer>,
    /// How often the ranges of a plan were voided since a batch last committed.
    voids: Vec<(Plan, u32)>,
}

impl State {
    /// Of this log alone, as a UUID: another one after the zone was deleted. It follows from the first entry.
    pub fn id(&self) -> String {
        crate::hash::uuid(self.first.trim_start_matches("sha256:"))
    }

    /// The newest version by which files may go that were live before: rewinds, compactions, and what expired.
    pub fn files_went_at(&self) -> u64 {
        self.removed_at.max(self.deletable_at)
    }

    /// The version of the newest rewind; 0 = there was none. Files that were merged or that expired are none: whoever reads on
    /// keeps what is in hand.
    pub fn rewound_at(&self) -> u64 {
        let splits = self.splits.values();
        splits.map(|split| split.rewound_at).max().unwrap_or(0)
    }

    /// Folds version 0.
    pub fn begin(entry: &Entry, digest: String) -> Result<State, Violation> {
        let init = super::rules::check_init(entry)?;
        Ok(State {
            version: 0,
            first: digest.clone(),
            begun: entry.time,
            digest,
            init: init.clone(),
            horizon: 0,
            splits: BTreeMap::new(),
            rules: Rules {
                generation: 0,
                transforms: init.transforms.clone(),
            },
            declared: declared(&init.declared, &init.transforms),
            blocked: BTreeSet::new(),
            live: BTreeMap::new(),
            leaving: BTreeMap::new(),
            left: BTreeMap::new(),
            removed: BTreeMap::new(),
            collected: BTreeMap::new(),
            delivered: BTreeMap::new(),
            readers: BTreeMap::new(),
            cuts: BTreeMap::new(),
            follows: 0,
            removed_at: 0,
            deletable_at: 0,
            batched: false,
            plan: None,
            data_at: 0,
            counters: BTreeMap::new(),
            settled: 0,
            periods: vec![RulesPeriod::first(init, entry.time)],
            ages: vec![Age::of(entry)],
            writers: VecDeque::from([entry.writer.clone()]),
            voids: Vec::new(),
        })
    }

    /// Checks the next entry under every rule, then folds it. On `Err` the state is as it was.
    pub fn step(&mut self, entry: &Entry, digest: String) -> Result<(), Violation> {
        self.check(entry)?;
        self.fold(entry, digest);
        Ok(())
    }

    /// The generation that new rows must be made under.
    pub fn generation(&self) -> u64 {
        self.rules.generation
    }

    /// Writers (processes) among the last 100 entries.
    pub fn writers(&self) -> usize {
        let distinct: BTreeSet<(&str, i64)> = self
            .writers
            .iter()
            .map(|w| (w.id.as_str(), w.started))
            .collect();
        distinct.len()
    }

    /// Who wrote the newest entry.
    pub fn last_writer(&self) -> Option<&Writer> {
        self.writers.back()
    }

    /// How often a plan of the same input ranges was voided since the last batch (§10 B2: after the second time the
    /// pipeline stops and names the plan).
    pub fn voids_of(&self, plan: &Plan) -> u32 {
        self.voids
            .iter()
            .find(|(p, _)| same_input(p, plan))
            .map_or(0, |(_, n)| *n)
    }

    /// Live rows-files with rows in any of the ranges `split → [from, to)`, by file id.
    pub fn rows_files<'a>(
        &'a self,
        ranges: &'a BTreeMap<SplitId, (i64, i64)>,
    ) -> impl Iterator<Item = &'a LiveFile> {
        self.live.values().filter(move |live| {
            live.file.role == Role::Rows
                && live.file.ranges.iter().any(|r| {
                    ranges
                        .get(&r.split)
                        .is_some_and(|(from, to)| r.from < *to && *from < r.to)
                })
        })
    }

    /// Live keys-files whose partition column has one of these values, by file id.
    pub fn keys_files<'a>(
        &'a self,
        column: &'a str,
        values: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = &'a LiveFile> {
        self.live.values().filter(move |live| {
            live.file.role == Role::Keys
                && live
                    .file
                    .partition_values
                    .get(column)
                    .is_some_and(|v| values.contains(v))
        })
    }

    /// Both ledgers over all splits.
    pub fn totals(&self) -> Ledger {
        let mut sum = Ledger::default();
        for split in self.splits.values() {
            sum.add(&split.totals);
        }
        sum
    }

    fn fold(&mut self, entry: &Entry, digest: String) {
        self.version = entry.version;
        self.digest = digest;
        self.writers.push_back(entry.writer.clone());
        if self.writers.len() > PACE_WINDOW {
            self.writers.pop_front();
        }
        self.fold_opens(entry);
        self.fold_spans(entry);
        self.fold_outputs(entry);
        let never_live = entry.gc.iter().filter(|id| !self.leaving.contains_key(*id));
        let collected = never_live.map(|id| (id.clone(), entry.version));
        self.collected.extend(collected);
        self.fold_released(entry);
        self.settled += u64::from(entry.kind.settles());
        let outputs =
            !entry.add.is_empty() || !entry.deliver.is_empty() || !entry.remove.is_empty();
        if entry.kind == Kind::Compact {
            // The rows and keys are what they were: nobody who saw them before need look again.
            self.removed_at = entry.version;
        } else if outputs {
            self.data_at = entry.version;
        }
        for (transform, counters) in &entry.counters {
            let sums = self.counters.entry(transform.clone()).or_default();
            for (counter, amount) in counters {
                *sums.entry(counter.clone()).or_default() += amount;
            }
        }
        if let Some(reader) = &entry.reader {
            self.fold_reader(reader, entry.version);
        }
        if let Some(rewind) = &entry.rewind {
            let readers = rewind.readers.iter();
            readers.for_each(|r| self.fold_reader(r, entry.version));
            self.follows = rewind.follows.unwrap_or(self.follows);
            self.removed_at = entry.version;
            self.data_at = entry.version;
        }
        if let Some(forget) = &entry.forget {
            self.fold_forget(forget);
        }
        self.fold_plan(entry);
        self.fold_swap(entry);
        super::history::fold(&mut self.periods, entry);
        self.fold_age(entry);
        if let Some(horizon) = &entry.horizon {
            self.forget(horizon.version);
        }
    }

    fn fold_opens(&mut self, entry: &Entry) {
        for open in &entry.open {
            let split = SplitState {
                topic: open.topic.clone(),
                partition: open.partition,
                to: open.offset,
                epoch: 0,
                totals: Ledger::default(),
                lost: 0,
                start: open.offset,
                opened: entry.version,
                borders: vec![CommitBoundary {
                    version: entry.version,
                    to: open.offset,
                    totals: Ledger::default(),
                    lost: 0,
                }],
                rewound_at: 0,
                peak: open.offset,
                input_epoch: 0,
                expired: ExpiredBelow::default(),
            };
            self.splits.insert(open.split.clone(), split);
        }
    }

    fn fold_spans(&mut self, entry: &Entry) {
        for span in &entry.spans {
            let Some(split) = self.splits.get_mut(&span.split) else {
                continue; // checked: V2
            };
            if entry.kind == Kind::Rewind {
                split.go_back(span.to, span.epoch, entry.version);
                continue;
            }
            split.to = span.to;
            split.peak = split.peak.max(span.to);
            split.lost += span.lost;
            split.totals.add(&Ledger {
                records: span.records,
                rows: span.rows,
                dead_letters: span.dead_letters,
            });
            split.borders.push(CommitBoundary {
                version: entry.version,
                to: span.to,
                totals: split.totals,
                lost: split.lost,
            });
        }
    }

    /// Files and deliveries that came, files that left.
    fn fold_outputs(&mut self, entry: &Entry) {
        for file in &entry.add {
            let before = self.takes_place_of(entry, file);
            let live = LiveFile {
                file: file.clone(),
                version: entry.version,
                made: before.map(|(version, _)| version),
                time: before.map_or(entry.time, |(_, time)| time),
            };
            self.live.insert(file.id.clone(), live);
        }
        for delivery in &entry.deliver {
            let delivered = Delivered {
                delivery: delivery.clone(),
                version: entry.version,
            };
            self.delivered.insert(delivery.id.clone(), delivered);
        }
        if let Some(expire) = &entry.expire {
            return self.fold_expire(entry, expire);
        }
        for file in &entry.remove {
            if let Some(live) = self.live.remove(file) {
                let removed = RemovedFile {
                    seal: live.file.seal(),
                    path: live.file.path,
                    added: live.version,
                    version: entry.version,
                    expired: false,
                };
                self.removed.insert(file.clone(), removed);
            }
        }
    }

    /// About how many items it holds, some hundred bytes each: the part that grows with the log.
    pub fn weight(&self) -> usize {
        let borders: usize = self.splits.values().map(|split| split.borders.len()).sum();
        let periods: usize = self
            .periods
            .iter()
            .map(|period| 1 + period.ranges.len())
            .sum();
        let files =
            self.live.len() + self.leaving.len() + self.removed.len() + self.collected.len();
        files + self.delivered.len() + borders + periods
    }

    /// A position below the previous one sets the reader back: its registered positions above are removed.
    fn fold_reader(&mut self, reader: &Reader, version: u64) {
        let cuts = self.cuts.entry(reader.name.clone()).or_default();
        let before = self.readers.insert(reader.name.clone(), reader.clone());
        if before.is_some_and(|before| before.generation != reader.generation) {
            let above = |cut: &Cut| {
                cut.position
                    .iter()
                    .any(|(split, at)| reader.position.get(split).is_none_or(|p| p < at))
            };
            cuts.truncate(cuts.partition_point(|cut| !above(cut)));
        }
        if cuts.last().map(|cut| &cut.position) != Some(&reader.position) {
            let position = reader.position.clone();
            cuts.push(Cut { version, position });
        }
    }

    fn fold_plan(&mut self, entry: &Entry) {
        match entry.kind {
            Kind::Plan => {
                self.plan = entry.plan.clone().map(|plan| OpenPlan {
                    version: entry.version,
                    plan,
                });
            }
            Kind::Batch => {
                let plan = self.plan.take();
                for (id, range) in plan.iter().flat_map(|open| &open.plan.ranges) {
                    if let Some(split) = self.splits.get_mut(id) {
                        split.input_epoch = range.epoch;
                    }
                }
                self.batched = true;
                self.voids.clear();
            }
            // The splits no longer end where its ranges begin.
            Kind::Rewind => {
                self.plan = None;
                self.voids.clear();
            }
            Kind::Void => {
                if let Some(open) = self.plan.take() {
                    match self
                        .voids
                        .iter_mut()
                        .find(|(p, _)| same_input(p, &open.plan))
                    {
                        Some((_, n)) => *n += 1,
                        None => self.voids.push((open.plan, 1)),
                    }
                }
            }
            _ => {}
        }
    }

    /// Folded last: the entry's own spans were made under the rules before it.
    fn fold_swap(&mut self, entry: &Entry) {
        let Some(swap) = &entry.swap else { return };
        if swap.force {
            for digest in super::rules::digests(&swap.transforms) {
                self.blocked.remove(digest);
            }
        }
        self.blocked.extend(swap.block.iter().cloned());
        self.declared = declared(&swap.declared, &swap.transforms);
        self.rules = Rules {
            generation: entry.version,
            transforms: swap.transforms.clone(),
        };
        let blocked = self.plan.as_ref().is_some_and(|open| {
            super::rules::digests(&open.plan.rules.transforms).any(|d| self.blocked.contains(d))
        });
        if blocked {
            self.plan = None;
        }
    }
}

fn declared(said: &Option<String>, rules: &[Rule]) -> String {
    said.clone().unwrap_or_else(|| rules_digest(rules))
}

fn same_input(a: &Plan, b: &Plan) -> bool {
    a.log == b.log && a.ranges == b.ranges
}
