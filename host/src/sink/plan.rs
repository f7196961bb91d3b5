//! Delivery plans: which rows are sent together, and under which key. This is decided and durable before the first
//! request (D1 to D4 of docs/protocol.md).
//!
//! A receiver that knows idempotency keys treats a second request as the first if key and body are the same. So after a
//! crash the same rows must come in the same batches under the same keys, whatever has come into the source meanwhile,
//! and whichever process reads them. A plan is an object that is created only if it does not exist. It is named by its
//! first row, so if two processes begin at the same row, one decides and the other follows.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Clock;
use crate::commit::{LogName, Span};
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::lock::lock;
use crate::record::SplitId;
use crate::store::{Created, Store};

const OP: &str = "sink.plan";
const FORMAT: u32 = 1;
/// Hex digits that identify splits and rules in names.
const SHORT: usize = 16;

/// A row's place in its split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Coordinate {
    pub offset: i64,
    /// `_row`
    pub row: u32,
}

/// Consecutive rows of one split, since its last rewind, made by the same rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub split: SplitId,
    pub epoch: u64,
    /// Digest of the rules, as [`crate::chain::Applied`] has it.
    pub rules: Arc<str>,
}

/// A plan as it is stored in the home, below `deliveries/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub format: u32,
    /// Never used twice; keys begin with it.
    pub id: String,
    pub split: SplitId,
    pub epoch: u64,
    pub rules: String,
    /// Microseconds since 1970 UTC, by the writer's clock; for people.
    pub time: i64,
    pub first: Coordinate,
    /// The last row of each batch, in the order of the rows.
    pub batches: Vec<Coordinate>,
}

impl Plan {
    fn last(&self) -> Coordinate {
        self.batches.last().copied().unwrap_or(self.first)
    }
}

/// A row for the division into batches.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub at: Coordinate,
    /// Bytes of the row in the batch's body.
    pub bytes: usize,
}

/// A batch is full when it reaches one of these limits; a single row always fits.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub rows: usize,
    pub bytes: usize,
}

/// One batch: the key of its plan, and which of the rows it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub plan: String,
    /// Counts the batches of the plan, from 0.
    pub number: usize,
    pub rows: Range<usize>,
}

/// The plans of one pipeline.
#[derive(Clone, Debug)]
pub struct Plans {
    store: Arc<dyn Store>,
    log: LogName,
    clock: Arc<dyn Clock>,
    /// For each split: paths of plans that were seen and are not deleted. A split is absent until it was listed.
    there: Arc<Mutex<BTreeMap<SplitId, BTreeSet<String>>>>,
}

impl Plans {
    pub fn new(store: Arc<dyn Store>, log: LogName, clock: Arc<dyn Clock>) -> Plans {
        Plans {
            store,
            log,
            clock,
            there: Arc::default(),
        }
    }

    /// The plan that begins with this row, durable: another process may have created it a moment ago (R1), and its batches are
    /// sent under its keys.
    pub fn find(&self, lane: &Lane, first: Coordinate) -> Result<Option<Plan>> {
        let path = self.path(lane, first);
        let Some(bytes) = self.store.get(&path)? else {
            return Ok(None);
        };
        self.store.sync(&self.dir(&lane.split))?;
        if let Some(there) = lock(&self.there).get_mut(&lane.split) {
            there.insert(path.clone());
        }
        let bad = |why: String| {
            Error::new(Kind::LogCorrupt, OP, format!("a delivery plan {why}"))
                .with("path", &path)
                .hint("delete it: its batches are then sent under other keys")
        };
        let plan: Plan = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        let fits = plan.format == FORMAT
            && (&plan.split, plan.epoch, plan.first) == (&lane.split, lane.epoch, first)
            && plan.rules == *lane.rules
            && plan.batches.first().is_some_and(|batch| *batch >= first)
            && plan.batches.is_sorted();
        match fits {
            true => Ok(Some(plan)),
            false => Err(bad("does not say what its name says".to_owned())),
        }
    }

    /// Divides rows of a lane into batches and makes this durable (D1). `found`: plans that were found while the rows
    /// were read, in their order; their batches hold (D2). `Conflict`: another process planned beyond the last of these
    /// rows.
    pub fn decide(
        &self,
        lane: &Lane,
        rows: &[Row],
        found: &[Plan],
        cut: Cut,
        mut new_id: impl FnMut() -> String,
    ) -> Result<Vec<Planned>> {
        let mut out = Vec::new();
        let mut at = 0;
        for plan in found {
            at = follow(plan, rows, at, &mut out);
        }
        while let (Some(first), Some(last)) = (rows.get(at), rows.last()) {
            let mine = Plan {
                format: FORMAT,
                id: new_id(),
                split: lane.split.clone(),
                epoch: lane.epoch,
                rules: lane.rules.as_ref().to_owned(),
                time: self.clock.now_micros(),
                first: first.at,
                batches: cuts(&rows[at..], cut),
            };
            let plan = self.hold(lane, mine)?;
            if plan.last() > last.at {
                let message = "another process has planned these rows in other batches";
                return Err(Error::new(Kind::Conflict, OP, message).with("plan", &plan.id));
            }
            at = follow(&plan, rows, at, &mut out);
        }
        Ok(out)
    }

    /// Creates the plan, or returns the existing one. As in W5, only a clear success is success; after any other answer
    /// the plan that is found holds.
    fn hold(&self, lane: &Lane, plan: Plan) -> Result<Plan> {
        let path = self.path(lane, plan.first);
        let bytes = serde_json::to_vec(&plan)
            .map_err(|e| Error::new(Kind::Bug, OP, "a plan that is no JSON").source(e))?;
        let created = self.store.create(&path, &bytes);
        let plan = match created {
            Ok(Created::Done) => plan,
            unclear => match (self.find(lane, plan.first)?, unclear) {
                (Some(there), _) => there,
                (None, Err(error)) => return Err(error),
                // Somebody deleted it meanwhile: an entry has passed these rows.
                (None, Ok(_)) => {
                    let message = "another process has delivered these rows";
                    return Err(Error::new(Kind::Conflict, OP, message));
                }
            },
        };
        if let Some(there) = lock(&self.there).get_mut(&lane.split) {
            there.insert(path);
        }
        Ok(plan)
    }

    /// D4: deletes plans that these committed spans have passed. What cannot be deleted now is deleted later.
    pub fn forget(&self, spans: &[Span]) {
        for span in spans {
            if let Err(error) = self.forget_of(span) {
                tracing::debug!(split = %span.split, %error, "old delivery plans stay for now");
            }
        }
    }

    fn forget_of(&self, span: &Span) -> Result<()> {
        let known = lock(&self.there).contains_key(&span.split);
        if !known {
            let listed = self.store.list(&self.dir(&span.split))?.into_iter();
            let listed = listed.map(|listed| listed.path).collect();
            lock(&self.there).insert(span.split.clone(), listed);
        }
        let passed: Vec<String> = match lock(&self.there).get(&span.split) {
            Some(there) => there
                .iter()
                .filter(|path| is_passed(path, span))
                .cloned()
                .collect(),
            None => return Ok(()),
        };
        for path in passed {
            self.store.delete(&path)?;
            if let Some(there) = lock(&self.there).get_mut(&span.split) {
                there.remove(&path);
            }
        }
        Ok(())
    }

    fn dir(&self, split: &SplitId) -> String {
        format!("{}/{}", self.log.deliveries_dir(), short(split.as_str()))
    }

    /// Names sort as the rows do.
    fn path(&self, lane: &Lane, first: Coordinate) -> String {
        let Coordinate { offset, row } = first;
        let (dir, rules) = (self.dir(&lane.split), short(&lane.rules));
        format!(
            "{dir}/{:010}-{offset:020}-{row:010}-{rules}.json",
            lane.epoch
        )
    }
}

/// Whether a plan of this name begins below the end of a committed span: it ends there too, since spans end with batches.
fn is_passed(path: &str, span: &Span) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut parts = name.split('-');
    let epoch = parts.next().and_then(|part| part.parse::<u64>().ok());
    let offset = parts.next().and_then(|part| part.parse::<i64>().ok());
    match (epoch, offset) {
        (Some(epoch), Some(offset)) => (epoch, offset) < (span.epoch, span.to),
        _ => false,
    }
}

fn short(text: &str) -> String {
    let mut digest = hex(&Sha256::digest(text));
    digest.truncate(SHORT);
    digest
}

/// Batches of `plan`, from row `at` on. Returns where the rows go on after it. If the rows end earlier, the last batch
/// is shorter.
fn follow(plan: &Plan, rows: &[Row], at: usize, out: &mut Vec<Planned>) -> usize {
    let mut from = at;
    for (number, last) in plan.batches.iter().enumerate() {
        let rest = &rows[from..];
        let len = rest.iter().take_while(|row| row.at <= *last).count();
        if len > 0 {
            out.push(Planned {
                plan: plan.id.clone(),
                number,
                rows: from..from + len,
            });
        }
        from += len;
    }
    from
}

/// The last row of each batch. It depends only on the rows.
fn cuts(rows: &[Row], cut: Cut) -> Vec<Coordinate> {
    let mut cuts = Vec::new();
    let (mut held, mut bytes) = (0, 0);
    for (at, row) in rows.iter().enumerate() {
        if held > 0 && (held >= cut.rows || bytes + row.bytes > cut.bytes) {
            cuts.push(rows[at - 1].at);
            (held, bytes) = (0, 0);
        }
        held += 1;
        bytes += row.bytes;
    }
    cuts.extend(rows.last().map(|row| row.at));
    cuts
}

/// Watches the rows of one lane as they are read, and finds the plans that were made for them before (D2).
#[derive(Debug)]
pub struct Following {
    /// The next row may begin a plan; this was not checked yet.
    looking: bool,
    /// The last row of a plan that is not reached yet.
    until: Option<Coordinate>,
    /// In the order of the rows, since the last seal.
    pub found: Vec<Plan>,
}

impl Default for Following {
    fn default() -> Following {
        Following {
            looking: true,
            until: None,
            found: Vec::new(),
        }
    }
}

impl Following {
    /// Takes the next row. If no plan begins with it, later plans are not searched: plans follow each other without a
    /// hole.
    pub fn row(&mut self, plans: &Plans, lane: &Lane, at: Coordinate) -> Result<()> {
        if self.until.is_some_and(|until| at > until) {
            self.cut(lane);
        }
        if self.until.is_none() && self.looking {
            match plans.find(lane, at)? {
                Some(plan) => {
                    self.until = Some(plan.last());
                    self.found.push(plan);
                }
                None => self.looking = false,
            }
        }
        if self.until == Some(at) {
            self.until = None;
        }
        Ok(())
    }

    /// All records below this offset were read. Rows of a plan may meanwhile be gone from the source.
    pub fn covered(&mut self, lane: &Lane, to: i64) {
        if self.until.is_some_and(|until| until.offset < to) {
            self.cut(lane);
        }
    }

    /// The rest of the plan does not come: what came of it is sent without.
    pub fn cut(&mut self, lane: &Lane) {
        if let Some(until) = self.until.take() {
            tracing::warn!(
                split = %lane.split,
                offset = until.offset,
                "rows up to this offset that were planned into a batch are gone from the source; the batch is sent without them, under another key"
            );
        }
    }

    /// Whether the next row may begin a plan.
    pub fn is_looking(&self) -> bool {
        self.looking
    }

    /// Whether the next row is inside a plan: a seal here would cut one of its batches.
    pub fn inside(&self) -> bool {
        self.until.is_some()
    }

    /// Takes the found plans; called at a seal.
    pub fn take(&mut self) -> Vec<Plan> {
        self.until = None;
        std::mem::take(&mut self.found)
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
