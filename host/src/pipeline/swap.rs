//! Rules change while records flow: the committer's side of a swap.
//!
//! ```text
//! Prepared{swap, chains} → every task: seal what is of the old rules, go on with the new chain at once
//!                        ← Flushed, until FLUSH_MAX: what comes later is dropped and read again
//!                        → one entry: the old rules' rows, and the swap; from the next version on the new rules hold
//! ```
//! Nothing is read twice for it and no task waits: what a task makes under the new rules meanwhile is committed after the
//! entry. The entry is the atomic point. Where it loses (another process swapped first) the rows that the tasks make are of
//! rules that never came into force, so the whole pipeline begins again at the log's positions.

use std::collections::BTreeSet;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};

use super::committer::{Committer, Waiting};
use super::rules::columns::has_rows;
use super::task::{Answer, Ask};
use crate::chain::{Chain, Ledger};
use crate::commit::{Rule, Span, State, Swap};
use crate::error::{Error, Kind, Result};
use crate::sink::Sealed;

/// For all tasks to seal what they hold: far above a batch, a plugin's deadline and the closing of files. A task that takes
/// longer (a plugin is being isolated, the broker is away) reads its records again under the new rules.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Between two looks at a stop while tasks seal.
const FLUSH_WAIT: Duration = Duration::from_millis(50);

/// New rules, ready to run.
#[derive(Debug)]
pub struct Prepared {
    pub swap: Swap,
    /// The rules of this process's own config: they replace whatever is in force, and `swap.from` is filled in.
    pub own: bool,
    /// Why readers of the table would not take it, where it has rows.
    pub breaking: Option<Error>,
    /// One for each task.
    pub chains: Vec<Chain>,
    /// The version of the swap, or why there is none.
    pub answer: Sender<Result<u64, String>>,
}

/// Another process swapped the rules: what is in hand was made under others.
pub fn other_rules(state: &State) -> Error {
    Error::new(
        Kind::Conflict,
        "rules.follow",
        format!(
            "the rules of version {} are in force now",
            state.rules_gen()
        ),
    )
}

pub fn names(rules: &[Rule]) -> String {
    let all: Vec<String> = rules.iter().map(Rule::to_string).collect();
    all.join(" ")
}

impl Committer {
    /// `Conflict` where the log did not take it after the tasks had gone over to the new rules.
    pub(super) fn swap(&mut self, prepared: Prepared) -> Result<()> {
        let Prepared {
            mut swap,
            own,
            breaking,
            chains,
            answer,
        } = prepared;
        if own {
            swap.from = self.r#gen;
        }
        // It may know of an entry that was not seen here yet.
        if swap.from != self.r#gen {
            self.refresh()?;
        }
        let state = self.log.state();
        if state.rules_gen() != self.r#gen {
            return Ok(()); // no answer: whoever asked writes the entry, and this pipeline begins again
        }
        if let Err(reason) = state.check_swap(&swap) {
            drop(answer.send(Err(reason.to_string())));
            return Ok(());
        }
        if let Some(error) = breaking.filter(|_| has_rows(state)) {
            drop(answer.send(Err(error.to_string())));
            return Ok(());
        }
        self.state.era += 1;
        let mut missing = BTreeSet::new();
        for (task, chain) in chains.into_iter().enumerate() {
            if !self.state.ended.contains(&task) {
                missing.insert(task);
                self.answer(task, Answer::Swap(Box::new(chain)));
            }
        }
        let later = self.gather(missing)?;
        let outcome = self.commit(Some(swap))?;
        match outcome {
            Some(Ok(committed)) => {
                self.r#gen = committed.version;
                self.state.waiting = later;
                drop(answer.send(Ok(committed.version)));
                Ok(())
            }
            Some(Err(why)) => {
                drop(answer.send(Err(why)));
                Err(other_rules(self.log.state()))
            }
            // The deadline of a stop came first.
            None => Err(Error::new(Kind::Stopped, "rules.swap", "asked to stop")),
        }
    }

    /// Takes what the tasks have of the old rules. What they hand in of the new ones meanwhile comes back.
    fn gather(&mut self, mut missing: BTreeSet<usize>) -> Result<Vec<Waiting>> {
        let mut later = Vec::new();
        let (old, new) = (self.state.era - 1, self.state.era);
        let until = self.clock.elapsed() + FLUSH_MAX;
        while !missing.is_empty() {
            let left = until.saturating_sub(self.clock.elapsed());
            if left.is_zero() || self.stop.overdue() {
                break;
            }
            // What is of neither is of a task that was late before.
            match self.asks.recv_timeout(left.min(FLUSH_WAIT)) {
                Ok(Ask::Commit { task, sealed, era }) if era == new => {
                    later.push(Waiting { task, sealed });
                }
                Ok(Ask::Commit { task, sealed, era }) if era == old => {
                    self.state.waiting.push(Waiting { task, sealed });
                }
                Ok(Ask::Flushed { task, sealed, era }) if era == old && missing.remove(&task) => {
                    if let Some(sealed) = sealed {
                        self.add(task, sealed);
                    }
                }
                Ok(ask) => {
                    if let Ask::Ended { task } = &ask {
                        missing.remove(task);
                    }
                    self.take(ask)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        for task in &missing {
            tracing::warn!(
                task,
                "did not seal in time for new rules; what it had not handed in is read again"
            );
        }
        for task in missing {
            self.state.late.entry(task).or_insert(None);
        }
        Ok(later)
    }

    /// One receipt with what the task handed in before.
    fn add(&mut self, task: usize, sealed: Sealed) {
        match self.state.waiting.iter_mut().find(|w| w.task == task) {
            Some(before) => join(&mut before.sealed, sealed),
            None => self.state.waiting.push(Waiting { task, sealed }),
        }
    }

    /// Of rules that are no longer in force: never to be committed.
    pub(super) fn too_late(&mut self, task: usize, sealed: Option<Sealed>) {
        for file in sealed.into_iter().flat_map(|sealed| sealed.files) {
            self.log.disown([file.added().file.clone()]);
            file.abandon();
        }
        self.drop_receipt(task, "made under rules that are no longer in force");
    }

    /// From a task that was late: now it has gone over, and hears what became of what it had handed in.
    pub(super) fn flushed_late(&mut self, task: usize, sealed: Option<Sealed>) {
        let owed = self.state.late.remove(&task).flatten();
        match (sealed, owed) {
            (Some(sealed), _) => self.too_late(task, Some(sealed)),
            (None, Some(answer)) => self.answer(task, answer),
            (None, None) => {}
        }
    }
}

/// What a task sealed after `before`, as if both had been one.
fn join(before: &mut Sealed, after: Sealed) {
    before.base = before.base.min(after.base);
    before.files.extend(after.files);
    before.counters.extend(after.counters);
    for span in after.spans {
        match before.spans.iter_mut().find(|s| s.chain == span.chain) {
            Some(first) => extend(first, &span),
            None => before.spans.push(span),
        }
    }
}

/// The next span of the same chain.
fn extend(first: &mut Span, next: &Span) {
    let ledger = |span: &Span| Ledger {
        records: span.records,
        rows: span.rows,
        letters: span.letters,
    };
    let mut sum = ledger(first);
    sum.add(&ledger(next));
    first.to = next.to;
    (first.records, first.rows, first.letters) = (sum.records, sum.rows, sum.letters);
}

#[cfg(test)]
#[path = "swap_tests.rs"]
mod tests;
