//! What the log must contain, whatever happened. The model folds the entries itself and shares no code with
//! `commit::State`.

use std::collections::{BTreeMap, BTreeSet};

use super::receiver::{Received, is_posted};
use super::{END, PARTITIONS, START, log_name, split, version_of};
use crate::commit::{Entry, Kind, decode};
use crate::record::SplitId;
use crate::store::Store;

#[derive(Debug, Default)]
pub struct Model {
    pub entries: usize,
    pub swaps: usize,
    pub rewinds: usize,
    pub gaps: usize,
    /// Version of the rules by which each row was made.
    rows: BTreeMap<(SplitId, i64), u64>,
    lost: BTreeSet<(SplitId, i64)>,
    /// Splits that ever lost offsets, also such that were taken back since.
    aged: BTreeSet<SplitId>,
    to: BTreeMap<SplitId, i64>,
    epochs: BTreeMap<SplitId, u64>,
    in_force: u64,
    generation: u64,
    /// Marks of the hand-ins that are in an entry.
    hand_ins: BTreeSet<String>,
    /// Names of the rows of each data entry, and its deliveries: id, and whether a token holds it.
    deliveries: Vec<(BTreeSet<String>, Deliveries)>,
}

/// The offset in a row's name, `<split>@<offset>@<epoch>`.
fn offset_of(row: &str) -> i64 {
    row.rsplit('@').nth(1).unwrap().parse().unwrap()
}

type Deliveries = Vec<(String, bool)>;

impl Model {
    /// Reads new entries. `low`: offsets below it may be lost.
    pub fn look(&mut self, store: &dyn Store, low: &BTreeMap<SplitId, i64>) {
        while let Some(bytes) = store.get(&log_name().entry(self.entries as u64)).unwrap() {
            self.fold(&decode(&bytes, "model").unwrap(), low);
            self.entries += 1;
        }
    }

    fn fold(&mut self, entry: &Entry, low: &BTreeMap<SplitId, i64>) {
        for open in &entry.open {
            assert_eq!(
                self.to.insert(open.split.clone(), open.offset),
                None,
                "opened twice"
            );
        }
        for span in &entry.spans {
            let to = self.to.insert(span.split.clone(), span.to);
            assert_eq!(
                to,
                Some(span.from),
                "positions follow each other: {entry:?}"
            );
            let epoch = self.epochs.entry(span.split.clone()).or_default();
            *epoch += u64::from(entry.kind == Kind::Rewind);
            assert_eq!(span.epoch, *epoch, "read since the last rewind: {entry:?}");
        }
        match entry.kind {
            Kind::Data => self.data(entry),
            Kind::Gap => {
                self.gaps += 1;
                for span in &entry.spans {
                    assert!(span.to <= low[&span.split], "only what is gone is a gap");
                    let offsets = span.from..span.to;
                    self.aged.insert(span.split.clone());
                    self.lost.extend(offsets.map(|at| (span.split.clone(), at)));
                }
            }
            Kind::Rewind => {
                self.rewinds += 1;
                for span in &entry.spans {
                    let undone = |of: &(SplitId, i64)| of.0 == span.split && of.1 >= span.to;
                    self.rows.retain(|of, _| !undone(of));
                    self.lost.retain(|of| !undone(of));
                }
            }
            _ => {}
        }
        if let Some(swap) = &entry.swap {
            self.swaps += 1;
            assert_eq!(swap.replaces, self.generation, "of the rules it replaces");
            (self.generation, self.in_force) = (entry.version, version_of(&swap.transforms));
        }
    }

    /// Checks that every row of the spans is there once, made by the rules in force, and that there are no others.
    fn data(&mut self, entry: &Entry) {
        let rules = entry.rules.as_ref().expect("rules");
        assert_eq!(
            rules.generation, self.generation,
            "rules in force: {entry:?}"
        );
        let mut made = BTreeSet::new();
        let deliveries = entry.deliver.iter().filter(|d| d.sink != "posted");
        let deliveries = deliveries.map(|d| (d.id.clone(), d.token.is_some()));
        let deliveries = deliveries.collect();
        for (by, counters) in &entry.counters {
            for (row, amount) in counters {
                assert_eq!(*amount, 1, "{row} twice in one entry");
                if by == "hand-in" {
                    assert!(self.hand_ins.insert(row.clone()), "handed in twice");
                    continue;
                }
                assert_eq!(*by, format!("r{}", self.in_force), "rules in force: {row}");
                made.insert(row.clone());
            }
        }
        self.deliveries.push((made.clone(), deliveries));
        for span in &entry.spans {
            for offset in span.from..span.to {
                let row = format!("{}@{offset}@{}", span.split, span.epoch);
                assert!(made.remove(&row), "no row {row}: {entry:?}");
                let before = self
                    .rows
                    .insert((span.split.clone(), offset), self.in_force);
                assert_eq!(before, None, "{row} is doubled");
            }
        }
        assert!(made.is_empty(), "rows that no position covers: {made:?}");
    }

    /// Checks at any moment: what waits for its token is shown only after its entry.
    pub fn sees(&self, received: &Received) {
        let named = self.deliveries.iter().flat_map(|(_, of_entry)| of_entry);
        let named: BTreeSet<&String> = named.map(|(id, _)| id).collect();
        for (id, (was_held, rows)) in &received.shown {
            assert!(
                !was_held || named.contains(id),
                "shown, in no entry: {rows:?}"
            );
        }
    }

    /// Checks in the end: an entry delivers what its spans say, all of it is shown, and nothing is held any more.
    pub fn delivered(&self, received: &Received) {
        assert!(received.held.is_empty(), "held: {:?}", received.held);
        for (made, deliveries) in &self.deliveries {
            let mut shown = BTreeSet::new();
            for (id, has_token) in deliveries {
                let (was_held, rows) = &received.shown[id];
                assert_eq!(was_held, has_token);
                for row in rows {
                    assert!(shown.insert(row.clone()), "{row} twice in one entry");
                }
            }
            let posted = made.iter().filter(|row| is_posted(offset_of(row)));
            shown.extend(posted.cloned());
            assert_eq!(shown, *made, "what was delivered is what was made");
        }
        self.posted(received);
    }

    /// Rows of entries were all posted, and each (of one epoch and of the same rules) under one key, unless the source lost some
    /// of its plan's rows.
    fn posted(&self, received: &Received) {
        let mut keys: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for (key, posted) in &received.posted {
            let whole = !self.aged.contains(&posted.split) && !received.cut.contains(&posted.split);
            for row in &posted.rows {
                let of_row = keys.entry((&posted.rules, row)).or_default();
                of_row.insert(key);
                assert!(!whole || of_row.len() == 1, "{row} under {of_row:?}");
            }
        }
        let all: BTreeSet<&str> = keys.keys().map(|(_, row)| *row).collect();
        let made = self.deliveries.iter().flat_map(|(made, _)| made);
        for row in made.filter(|row| is_posted(offset_of(row))) {
            assert!(
                all.contains(row.as_str()),
                "{row} is in an entry, and was not posted"
            );
        }
    }

    pub fn all_read(&self) -> bool {
        (0..PARTITIONS).all(|n| self.to.get(&split(n)) == Some(&END))
    }

    /// Checks that what a task was told about a hand-in is true.
    pub fn is_told(&self, marker: &str, committed: bool) {
        assert_eq!(
            self.hand_ins.contains(marker),
            committed,
            "told of {marker}"
        );
    }

    pub fn conclude(&self) {
        for n in 0..PARTITIONS {
            for offset in START..END {
                let of = (split(n), offset);
                let row = self.rows.contains_key(&of);
                assert_ne!(
                    row,
                    self.lost.contains(&of),
                    "{of:?}: a row, or known as lost"
                );
            }
        }
        let rows = self.rows.len() + self.lost.len();
        assert_eq!(rows, PARTITIONS * usize::try_from(END - START).unwrap());
    }
}
