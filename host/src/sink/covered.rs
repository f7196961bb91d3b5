//! What a sink has taken since its last seal: spans and the user counters.
//!
//! Every sink of records uses this, so that a span always begins where the one before it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::chain::{Applied, Ledger};
use crate::commit::Span;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId};

/// What was covered since the last seal; nothing if there are no spans.
#[derive(Debug)]
pub struct Covered {
    /// W2: the proved version when the first offset was covered.
    pub base: u64,
    /// When that was, by the clock's elapsed time.
    pub since: Duration,
    pub spans: Vec<Span>,
    counters: BTreeMap<(String, String), u64>,
}

impl Covered {
    pub fn new(base: u64, since: Duration) -> Covered {
        Covered {
            base,
            since,
            spans: Vec::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Extends the span of the batch's split. `next`: the position of each split after the last seal.
    pub fn cover(
        &mut self,
        batch: &Batch,
        applied: &Applied,
        next: &BTreeMap<SplitId, i64>,
    ) -> Result<()> {
        let covers = &batch.covers;
        let found = self.spans.iter().position(|s| s.split == covers.split);
        let stands = match found.and_then(|at| self.spans.get(at)) {
            Some(span) => Some((span.epoch, span.to)),
            None => next.get(&covers.split).map(|to| (covers.epoch, *to)),
        };
        if stands.is_some_and(|stands| stands != (covers.epoch, covers.range.from)) {
            let message = "a batch does not begin where the one before it ended";
            return Err(Error::new(Kind::Bug, "sink.write", message)
                .with("split", &covers.split)
                .with("expected", format!("{stands:?}"))
                .with("found", format!("{:?}", (covers.epoch, covers.range.from))));
        }
        let at = found.unwrap_or_else(|| {
            self.spans.push(Span {
                split: covers.split.clone(),
                epoch: covers.epoch,
                from: covers.range.from,
                to: covers.range.from,
                lost: 0,
                records: Default::default(),
                rows: Default::default(),
                dead_letters: 0,
            });
            self.spans.len() - 1
        });
        let span = &mut self.spans[at];
        let mut ledger = Ledger {
            records: span.records,
            rows: span.rows,
            dead_letters: span.dead_letters,
        };
        ledger.add(&applied.ledger);
        span.to = covers.range.to;
        (span.records, span.rows, span.dead_letters) =
            (ledger.records, ledger.rows, ledger.dead_letters);
        for (transform, counter, amount) in &applied.counters {
            let key = (transform.clone(), counter.clone());
            *self.counters.entry(key).or_default() += amount;
        }
        Ok(())
    }

    /// Records read.
    pub fn records(&self) -> u64 {
        self.spans.iter().map(|span| span.records.read).sum()
    }

    /// (transform, counter, amount), as [`super::Sealed`] has them.
    pub fn counters(&mut self) -> Vec<(String, String, u64)> {
        let counters = std::mem::take(&mut self.counters).into_iter();
        counters.map(|((t, c), n)| (t, c, n)).collect()
    }
}
