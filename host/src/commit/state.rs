//! The state of a log, folded from its proved entries: the position of each split, the rules in force, the live files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::entry::{
    AddedFile, Delivery, Entry, Init, Kind, Plan, Reader, Role, Rule, Rules, Writer,
};
use super::file::rules_digest;
use super::history::PeriodAt;
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
        "V10" => "a batch does what the open plan says, on the newest rows",
        "V11" => "the position of a reader is on the log and never goes back by itself",
        "V12" => "a swap names the rules that it replaces, and blocked ones need force",
        "O2" => "an upload has the parts that its completion needs",
        "W1" => "the start of a split is written once, before its first read",
        "W2" => "an attempt begins on a version that was proved",
        "W5" => "an answer that is not clear is settled before anything else is written",
        "W6" => "an entry counts once the version before it was read again",
        _ => "see docs/protocol.md",
    }
}

/// The position and totals of a split after one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Ascending; the first one is the `open`. A rewind removes those above its target.
    pub borders: Vec<CommitBoundary>,
    /// Version of the last rewind of this split; 0 = none.
    pub rewound_at: u64,
    /// The highest `to` it ever had: a group offset may still stand there after a rewind.
    pub peak: i64,
    /// PROCESSED: the epoch of this split in the log that is read, as the last batch saw it.
    pub input_epoch: u64,
}

impl SplitState {
    /// Where reading this split began.
    pub fn start(&self) -> i64 {
        self.borders.first().map_or(self.to, |b| b.to)
    }

    /// The version whose span holds this offset. `None` below the start and from `to` on.
    pub fn version_of(&self, offset: i64) -> Option<u64> {
        let after = self.borders.partition_point(|b| b.to <= offset);
        match after {
            0 => None,
            i => self.borders.get(i).map(|b| b.version),
        }
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

    /// Rows written for `[from, to)`. `None` if one of the two is no commit boundary.
    pub fn rows_between(&self, from: i64, to: i64) -> Option<u64> {
        let rows_at = |offset: i64| {
            let i = self.borders.partition_point(|b| b.to < offset);
            let border = self.borders.get(i)?;
            (border.to == offset).then_some(border.totals.rows.written)
        };
        rows_at(to)?.checked_sub(rows_at(from)?)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveFile {
    pub file: AddedFile,
    /// The version that added it.
    pub version: u64,
}

/// A file that is no longer live. It must be gone from the store before any later file is published (P3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedFile {
    pub path: String,
    /// The version that added it, and the one that removed it.
    pub added: u64,
    pub version: u64,
    pub seal: Seal,
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

/// As JSON it is what a checkpoint holds, under the names of docs/protocol.md §9.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The version of the newest folded entry: P, if the log has proved it.
    pub version: u64,
    /// `sha256:…` of that entry's bytes.
    #[serde(rename = "entry")]
    pub digest: String,
    /// Whose log it is.
    pub init: Init,
    pub splits: BTreeMap<SplitId, SplitState>,
    /// In force from the next version on.
    pub rules: Rules,
    /// Digest of the rules that the config declared when the newest `init` or `swap` was written.
    pub declared: String,
    pub blocked: BTreeSet<String>,
    pub live: BTreeMap<String, LiveFile>,
    /// Files that left, by id.
    pub removed: BTreeMap<String, RemovedFile>,
    pub collected: BTreeSet<String>,
    /// By id.
    pub delivered: BTreeMap<String, Delivered>,
    pub readers: BTreeMap<String, Reader>,
    /// Positions that each reader registered, ascending; a rewind sets a reader back to one of them (V8).
    pub cuts: BTreeMap<String, Vec<BTreeMap<SplitId, i64>>>,
    /// PROCESSED: the generation of its own reader that this log follows (§10 B0).
    pub follows: u64,
    /// The last version that took back rows or removed files; 0 = none did.
    pub removed_at: u64,
    /// PROCESSED: some batch was committed.
    pub(super) batched: bool,
    pub plan: Option<OpenPlan>,
    /// The last version that changed rows; 0 = none did.
    pub data_at: u64,
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    /// Which rules were in force when, the oldest first. Only the entries say who asked for them and why.
    pub periods: Vec<PeriodAt>,
    writers: VecDeque<Writer>,
    /// How often the ranges of a plan were voided since a batch last committed.
    voids: Vec<(Plan, u32)>,
}

impl State {
    /// Folds version 0.
    pub fn begin(entry: &Entry, digest: String) -> Result<State, Violation> {
        let init = super::rules::check_init(entry)?;
        Ok(State {
            version: 0,
            digest,
            init: init.clone(),
            splits: BTreeMap::new(),
            rules: Rules {
                generation: 0,
                transforms: init.transforms.clone(),
            },
            declared: declared(&init.declared, &init.transforms),
            blocked: BTreeSet::new(),
            live: BTreeMap::new(),
            removed: BTreeMap::new(),
            collected: BTreeSet::new(),
            delivered: BTreeMap::new(),
            readers: BTreeMap::new(),
            cuts: BTreeMap::new(),
            follows: 0,
            removed_at: 0,
            batched: false,
            plan: None,
            data_at: 0,
            counters: BTreeMap::new(),
            periods: vec![PeriodAt::of(0)],
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
        self.collected.extend(entry.gc.iter().cloned());
        if !entry.add.is_empty() || !entry.deliver.is_empty() || !entry.remove.is_empty() {
            self.data_at = entry.version;
        }
        for (transform, counters) in &entry.counters {
            let sums = self.counters.entry(transform.clone()).or_default();
            for (counter, amount) in counters {
                *sums.entry(counter.clone()).or_default() += amount;
            }
        }
        if let Some(reader) = &entry.reader {
            self.fold_reader(reader);
        }
        if let Some(rewind) = &entry.rewind {
            rewind.readers.iter().for_each(|r| self.fold_reader(r));
            self.follows = rewind.follows.unwrap_or(self.follows);
            self.removed_at = entry.version;
            self.data_at = entry.version;
        }
        self.fold_plan(entry);
        self.fold_swap(entry);
        super::history::fold(&mut self.periods, entry);
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
                borders: vec![CommitBoundary {
                    version: entry.version,
                    to: open.offset,
                    totals: Ledger::default(),
                    lost: 0,
                }],
                rewound_at: 0,
                peak: open.offset,
                input_epoch: 0,
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
            let live = LiveFile {
                file: file.clone(),
                version: entry.version,
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
        for file in &entry.remove {
            if let Some(live) = self.live.remove(file) {
                let removed = RemovedFile {
                    seal: live.file.seal(),
                    path: live.file.path,
                    added: live.version,
                    version: entry.version,
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
        let files = self.live.len() + self.removed.len() + self.collected.len();
        files + self.delivered.len() + borders + periods
    }

    /// A position below the previous one sets the reader back: its registered positions above are removed.
    fn fold_reader(&mut self, reader: &Reader) {
        let cuts = self.cuts.entry(reader.name.clone()).or_default();
        let before = self.readers.insert(reader.name.clone(), reader.clone());
        if before.is_some_and(|before| before.generation != reader.generation) {
            let above = |cut: &BTreeMap<SplitId, i64>| {
                cut.iter()
                    .any(|(split, at)| reader.position.get(split).is_none_or(|p| p < at))
            };
            cuts.truncate(cuts.partition_point(|cut| !above(cut)));
        }
        if cuts.last() != Some(&reader.position) {
            cuts.push(reader.position.clone());
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
