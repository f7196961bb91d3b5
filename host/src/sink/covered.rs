//! What a sink has taken since its last seal: spans and the user counters.
//!
//! Every sink of records uses this, so that a span always begins where the one before it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::chain::{Applied, Ledger};
use crate::clock::Clock;
use crate::commit::Span;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId};
use crate::sink::{Base, Deliver, Finish, Gathered, Notes, Sealed};

/// What a sink has taken since its last seal, and the position of each split after it.
#[derive(Debug)]
pub struct Gathering {
    /// In the order in which the splits came.
    open: Vec<Covered>,
    next: BTreeMap<SplitId, i64>,
    base: Base,
    clock: Arc<dyn Clock>,
}

impl Gathering {
    pub fn new(base: Base, clock: Arc<dyn Clock>) -> Gathering {
        Gathering {
            open: Vec::new(),
            next: BTreeMap::new(),
            base,
            clock,
        }
    }

    /// Extends the span of the batch's split, which goes on where the one before it ended.
    pub fn cover(&mut self, batch: &Batch, applied: &Applied) -> Result<()> {
        let covers = &batch.covers;
        let found = self
            .open
            .iter_mut()
            .find(|of| of.span.split == covers.split);
        let stands = match &found {
            Some(of) => Some((of.span.epoch, of.span.to)),
            None => self.next.get(&covers.split).map(|to| (covers.epoch, *to)),
        };
        if stands.is_some_and(|stands| stands != (covers.epoch, covers.range.from)) {
            let message = "a batch does not begin where the one before it ended";
            return Err(Error::new(Kind::Bug, "sink.write", message)
                .with("split", &covers.split)
                .with("expected", format!("{stands:?}"))
                .with("found", format!("{:?}", (covers.epoch, covers.range.from))));
        }
        match found {
            Some(of) => of.add(batch, applied),
            None => {
                let mut of = Covered::new(self.base.get(), self.clock.elapsed(), batch);
                of.add(batch, applied);
                self.open.push(of);
            }
        }
        Ok(())
    }

    /// Time since the first record was covered. `None`: nothing is.
    pub fn age(&self) -> Option<Duration> {
        self.age_without(&BTreeSet::new())
    }

    /// The same, of what is not in these splits.
    pub fn age_without(&self, left_out: &BTreeSet<SplitId>) -> Option<Duration> {
        let counts = |of: &&Covered| !left_out.contains(&of.span.split);
        let since = self.open.iter().filter(counts).map(|of| of.since).min()?;
        Some(self.clock.elapsed().saturating_sub(since))
    }

    /// `limit`: the age at which it is sealed.
    pub fn gathered(&self, limit: Duration) -> Gathered {
        Gathered {
            records: self.open.iter().map(|of| of.span.records.read).sum(),
            due: self.age().map(|age| limit.saturating_sub(age)),
        }
    }

    /// With the outputs of the same records. `None`: nothing is covered, so there are no outputs either.
    pub fn seal(
        &mut self,
        files: Vec<Box<dyn Finish>>,
        deliveries: Vec<Box<dyn Deliver>>,
    ) -> Option<Sealed> {
        self.seal_without(&BTreeSet::new(), files, deliveries)
    }

    /// The same; what these splits have stays.
    pub fn seal_without(
        &mut self,
        left_out: &BTreeSet<SplitId>,
        files: Vec<Box<dyn Finish>>,
        deliveries: Vec<Box<dyn Deliver>>,
    ) -> Option<Sealed> {
        let open = std::mem::take(&mut self.open).into_iter();
        let (stays, sealed): (Vec<_>, Vec<_>) =
            open.partition(|of| left_out.contains(&of.span.split));
        self.open = stays;
        let base = sealed.iter().map(|of| of.base).min()?;
        let mut counters: BTreeMap<(String, String), u64> = BTreeMap::new();
        let (mut spans, mut notes) = (Vec::new(), BTreeMap::new());
        for of in sealed {
            notes.insert(of.span.split.clone(), of.notes);
            self.next.insert(of.span.split.clone(), of.span.to);
            for (key, amount) in of.counters {
                *counters.entry(key).or_default() += amount;
            }
            spans.push(of.span);
        }
        let counters = counters.into_iter().map(|((t, c), n)| (t, c, n));
        Some(Sealed {
            base,
            files,
            deliveries,
            counters: counters.collect(),
            spans,
            notes,
        })
    }

    pub fn discard(&mut self) {
        self.open.clear();
        self.next.clear();
    }
}

/// What was covered of one split since the last seal.
#[derive(Debug)]
struct Covered {
    /// W2: the proved version when the first offset was covered.
    base: u64,
    /// When that was, by the clock's elapsed time.
    since: Duration,
    span: Span,
    counters: BTreeMap<(String, String), u64>,
    notes: Notes,
}

impl Covered {
    /// Nothing yet; it begins where the batch begins.
    fn new(base: u64, since: Duration, batch: &Batch) -> Covered {
        let covers = &batch.covers;
        Covered {
            base,
            since,
            span: Span {
                split: covers.split.clone(),
                epoch: covers.epoch,
                from: covers.range.from,
                to: covers.range.from,
                lost: 0,
                records: Default::default(),
                rows: Default::default(),
                dead_letters: 0,
            },
            counters: BTreeMap::new(),
            notes: Notes::default(),
        }
    }

    fn add(&mut self, batch: &Batch, applied: &Applied) {
        let span = &mut self.span;
        let mut ledger = Ledger {
            records: span.records,
            rows: span.rows,
            dead_letters: span.dead_letters,
        };
        ledger.add(&applied.ledger);
        span.to = batch.covers.range.to;
        self.notes.times.add(&batch.timestamp);
        (self.notes).add_letters(&applied.dead_letters, |letter| letter.record);
        (span.records, span.rows, span.dead_letters) =
            (ledger.records, ledger.rows, ledger.dead_letters);
        for (transform, counter, amount) in &applied.counters {
            let key = (transform.clone(), counter.clone());
            *self.counters.entry(key).or_default() += amount;
        }
    }
}
