//! One committer per pipeline: packs what its tasks sealed into one entry, one Create in flight.
//!
//! Order, never another: files durable → entry (W3–W6) → publish → acknowledge → report → answer to the task. Waits for the
//! pace of the log between data entries and gathers receipts meanwhile. While the store does not answer it repeats the
//! same attempt; a receipt that lost is answered with the log's positions. Swaps of rules are in [`super::swap`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::report::Report;
use super::stop::Stop;
use super::swap::{Prepared, other_rules};
use super::task::{Answer, Ask};
use crate::clock::Clock;
use crate::commit::{Committed, Draft, Dropped, Log, Open, Outcome, Receipt, Span, Swap};
use crate::error::{Error, Remedy, Result};
use crate::record::{ChainId, TopicPartition};
use crate::sink::{Base, Sealed};
use crate::source::{Acknowledge, LostRange, Position};

/// How long the committer sleeps when nobody asks.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Between two looks of an idle committer for entries of other processes; a swap among them is followed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// At the end of a run, for the last group offsets to arrive.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_secs(2);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Committer {
    pub log: Log,
    pub base: Base,
    pub asks: Receiver<Ask>,
    /// One per task.
    pub answers: Vec<Sender<Answer>>,
    /// Chains of each task.
    pub owned: Vec<Vec<ChainId>>,
    /// New chains found while running, from the watcher; the answer goes to the task that reads least.
    pub found: Receiver<Vec<Open>>,
    /// New rules, with a chain for each task.
    pub swaps: Receiver<Prepared>,
    /// Hears of commits (group offsets for lag tools); never read back by a zone (W7).
    pub acknowledge: Box<dyn Acknowledge>,
    pub report: Arc<dyn Report>,
    pub clock: Arc<dyn Clock>,
    pub stop: Stop,
    /// Rules under which the tasks make rows.
    pub r#gen: u64,
    pub state: CommitterState,
}

/// What changes while it runs.
#[derive(Debug, Default)]
pub struct CommitterState {
    /// At most one of each task, of the rules in force.
    pub(super) waiting: Vec<Waiting>,
    /// Swaps handed out to the tasks.
    pub(super) era: u64,
    /// Tasks that have not yet said what they had of the rules before; the answer they wait for.
    pub(super) late: BTreeMap<usize, Option<Answer>>,
    /// Tasks that have ended.
    pub(super) ended: std::collections::BTreeSet<usize>,
    looked: Duration,
    /// The last rewind that the tasks were told of.
    rewound: u64,
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub task: usize,
    pub sealed: Sealed,
}

impl Committer {
    /// Runs until every task has hung up. `Conflict`: other rules are in force than the tasks run.
    pub fn run(mut self) -> Result<Log> {
        self.base.set(self.log.version());
        self.state.rewound = self.log.state().removed_at;
        loop {
            let pause = if self.state.waiting.is_empty() {
                IDLE_WAIT
            } else {
                self.pace().min(IDLE_WAIT)
            };
            match self.asks.recv_timeout(pause) {
                Ok(ask) => self.take(ask)?,
                Err(RecvTimeoutError::Timeout) => self.look()?,
                // Every task has ended: what it handed in last is committed without waiting for more.
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit(None)?;
                    self.acknowledge.flush(ACKNOWLEDGE_WAIT);
                    return Ok(self.log);
                }
            }
            while let Ok(opens) = self.found.try_recv() {
                self.open(opens)?;
            }
            if !self.state.waiting.is_empty() && self.pace().is_zero() {
                self.commit(None)?;
            }
            if !self.stop.asked()
                && let Ok(prepared) = self.swaps.try_recv()
            {
                self.swap(prepared)?;
            }
            if self.log.state().rules_gen() != self.r#gen {
                return Err(other_rules(self.log.state()));
            }
            self.follow_rewind();
        }
    }

    /// Somebody put chains back. A task that reads on is stopped by its next commit; one with nothing to commit is told here.
    fn follow_rewind(&mut self) {
        let rewound = self.log.state().removed_at;
        if std::mem::replace(&mut self.state.rewound, rewound) == rewound {
            return;
        }
        tracing::info!(
            version = rewound,
            "the log was rewound, reading again from its positions"
        );
        for task in 0..self.answers.len() {
            self.answer(task, Answer::Positions(self.positions(task)));
        }
    }

    pub(super) fn take(&mut self, ask: Ask) -> Result<()> {
        match ask {
            Ask::Commit { task, sealed, era } if era == self.state.era => {
                self.state.waiting.push(Waiting { task, sealed });
            }
            Ask::Commit { task, sealed, .. } => self.too_late(task, Some(sealed)),
            Ask::Flushed { task, sealed, .. } => self.flushed_late(task, sealed),
            Ask::Ended { task } => {
                self.state.ended.insert(task);
            }
            Ask::Positions { task } => {
                self.refresh()?;
                self.answer(task, Answer::Positions(self.positions(task)));
            }
            Ask::Gap { task, ranges } => {
                self.pass_over(&ranges)?;
                self.answer(task, Answer::Positions(self.positions(task)));
            }
        }
        Ok(())
    }

    /// Idle: did another process put other rules in force? A store that does not answer is no news; commits tell.
    fn look(&mut self) -> Result<()> {
        let now = self.clock.elapsed();
        let idle = self.state.waiting.is_empty() && !self.stop.asked();
        if !idle || now < self.state.looked + LOOK_EVERY {
            return Ok(());
        }
        self.state.looked = now;
        let grown = self.log.grown().and_then(|grown| match grown {
            true => self.log.refresh(),
            false => Ok(()),
        });
        self.base.set(self.log.version());
        match grown {
            Err(error) if error.remedy() != Remedy::Retry => Err(error),
            _ => Ok(()),
        }
    }

    /// How long to gather receipts yet; nothing is gathered while draining.
    fn pace(&self) -> Duration {
        if self.stop.asked() {
            Duration::ZERO
        } else {
            self.log.ready_in()
        }
    }

    pub(super) fn refresh(&mut self) -> Result<()> {
        let mut faults = 0;
        loop {
            match self.log.refresh() {
                Err(error) if error.remedy() == Remedy::Retry => {
                    if self.pause(&error, &mut faults) {
                        return Err(error);
                    }
                }
                done => {
                    self.base.set(self.log.version());
                    return done;
                }
            }
        }
    }

    /// Reports the fault once and waits. True: the deadline of a stop has passed.
    fn pause(&self, error: &Error, faults: &mut u32) -> bool {
        if *faults == 0 {
            self.report.waiting(error);
        }
        let time = BACKOFF_MIN
            .saturating_mul(1 << (*faults).min(16))
            .min(BACKOFF_MAX);
        *faults += 1;
        if self.stop.asked() {
            self.clock.sleep(time.min(self.stop.left()));
        } else {
            self.stop.wait(time);
        }
        self.stop.overdue()
    }

    /// All that waits, and a swap of the rules after it, in one entry. What became of the swap: the log took it, or
    /// whatever was in the way; `None` where there was none, or where the deadline of a stop came first.
    pub(super) fn commit(
        &mut self,
        swap: Option<Swap>,
    ) -> Result<Option<Result<Committed, String>>> {
        let begun = self.clock.elapsed();
        let mut tasks = Vec::new();
        let mut receipts = Vec::new();
        for Waiting { task, sealed } in std::mem::take(&mut self.state.waiting) {
            match self.durable(sealed) {
                Ok(receipt) => {
                    tasks.push(task);
                    receipts.push(receipt);
                }
                // Its files may lie half written; whatever is left of them is collected as orphans.
                Err(error) if error.remedy() == Remedy::StopPipeline => return Err(error),
                Err(error) => {
                    self.report.waiting(&error);
                    self.drop_receipt(task, &error.to_string());
                }
            }
        }
        if receipts.is_empty() && swap.is_none() {
            return Ok(None);
        }
        let (swaps, swap_at) = (swap.is_some(), receipts.len());
        let Some(outcome) = self.settled(Draft::Data { receipts, swap })? else {
            return Ok(None);
        };
        self.base.set(self.log.version());
        let (committed, dropped) = match outcome {
            Outcome::Committed { committed, dropped } => (Some(committed), dropped),
            Outcome::Lost { dropped } => (None, dropped),
        };
        if let Some(committed) = &committed {
            self.announce(committed, begun)?;
        }
        self.reply(&tasks, &dropped);
        let lost = dropped.into_iter().find(|d| d.index == swap_at);
        Ok(match (swaps, committed, lost) {
            (true, _, Some(lost)) => Some(Err(lost.reason.to_string())),
            (true, Some(committed), None) => Some(Ok(committed)),
            _ => None,
        })
    }

    /// W2: every file sealed, so durable, and its size checked.
    fn durable(&self, sealed: Sealed) -> Result<Receipt> {
        let Sealed {
            base,
            files,
            spans,
            counters,
        } = sealed;
        let mut added = Vec::with_capacity(files.len());
        for file in files {
            added.push(file.finish()?);
        }
        let mut sums: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (transform, counter, amount) in counters {
            *sums
                .entry(transform)
                .or_default()
                .entry(counter)
                .or_default() += amount;
        }
        Ok(Receipt {
            base,
            r#gen: self.r#gen,
            spans,
            files: added,
            counters: sums,
        })
    }

    /// Commits, for as long as it takes. `None`: the deadline of a stop passed first; the attempt is in nobody's way.
    fn settled(&mut self, draft: Draft) -> Result<Option<Outcome>> {
        let mut faults = 0;
        let mut result = self.log.commit(draft).map(Some);
        loop {
            match result {
                Err(error) if error.remedy() == Remedy::Retry => {
                    if self.pause(&error, &mut faults) {
                        return self.log.leave();
                    }
                    result = self.log.settle();
                }
                done => {
                    if faults > 0 && done.is_ok() {
                        self.report.resumed();
                    }
                    return done;
                }
            }
        }
    }

    /// W7: all that may happen only after W6.
    fn announce(&mut self, committed: &Committed, begun: Duration) -> Result<()> {
        let mut faults = 0;
        loop {
            match self.log.publish(committed) {
                // Whoever opens the log next publishes: leaving now loses nothing.
                Err(error) if error.remedy() == Remedy::Retry => {
                    if self.pause(&error, &mut faults) {
                        return Ok(());
                    }
                }
                done => {
                    done?;
                    break;
                }
            }
        }
        if faults > 0 {
            self.report.resumed();
        }
        let spans = committed.entry.spans.iter();
        let moved: Vec<Position> = spans
            .filter_map(|span| position(self.log.state(), &span.chain))
            .collect();
        self.acknowledge.acknowledge(&moved);
        let took = self.clock.elapsed().saturating_sub(begun);
        if !committed.entry.spans.is_empty() {
            self.report.committed(committed, self.log.state(), took);
        }
        if committed.entry.swap.is_some() {
            self.report.swapped(committed);
        }
        Ok(())
    }

    fn reply(&mut self, tasks: &[usize], dropped: &[Dropped]) {
        for (index, task) in tasks.iter().enumerate() {
            match dropped.iter().find(|d| d.index == index) {
                Some(lost) => self.drop_receipt(*task, &lost.reason.to_string()),
                None => self.answer(*task, Answer::Committed),
            }
        }
    }

    pub(super) fn drop_receipt(&mut self, task: usize, why: &str) {
        let positions = self.positions(task);
        self.answer(
            task,
            Answer::Dropped {
                positions,
                why: why.to_owned(),
            },
        );
    }

    /// A task that has ended needs no answer. One that is late with a swap gets a single one, when it has spoken.
    pub(super) fn answer(&mut self, task: usize, answer: Answer) {
        let settles = matches!(answer, Answer::Committed | Answer::Dropped { .. });
        if settles && let Some(owed) = self.state.late.get_mut(&task) {
            *owed = Some(answer);
            return;
        }
        if let Some(sender) = self.answers.get(task) {
            drop(sender.send(answer));
        }
    }

    fn positions(&self, task: usize) -> Vec<Position> {
        let chains = self.owned.get(task).map(Vec::as_slice).unwrap_or_default();
        chains
            .iter()
            .filter_map(|chain| position(self.log.state(), chain))
            .collect()
    }

    fn pass_over(&mut self, ranges: &[LostRange]) -> Result<()> {
        let epoch = |chain| self.log.state().chains.get(chain).map_or(0, |c| c.epoch);
        let spans = ranges
            .iter()
            .map(|r| gap(&r.chain, epoch(&r.chain), r.from, r.to))
            .collect();
        let begun = self.clock.elapsed();
        let outcome = self.settled(Draft::Gap(spans))?;
        self.base.set(self.log.version());
        match outcome {
            Some(Outcome::Committed { committed, .. }) => self.announce(&committed, begun),
            _ => Ok(()),
        }
    }

    /// New chains: pinned in the log first (W1), then read by the task with the fewest.
    fn open(&mut self, opens: Vec<Open>) -> Result<()> {
        let chains: Vec<ChainId> = opens.iter().map(|o| o.chain.clone()).collect();
        if self.settled(Draft::Open(opens))?.is_none() {
            return Ok(());
        }
        self.base.set(self.log.version());
        for chain in chains {
            let known = self.owned.iter().any(|owned| owned.contains(&chain));
            let fewest = (0..self.owned.len()).min_by_key(|task| self.owned[*task].len());
            if let (false, Some(task), Some(at)) =
                (known, fewest, position(self.log.state(), &chain))
            {
                self.owned[task].push(chain);
                self.answer(task, Answer::Assign(vec![at]));
            }
        }
        Ok(())
    }
}

/// Where the log says that a chain goes on.
pub fn position(state: &crate::commit::State, chain: &ChainId) -> Option<Position> {
    let at = state.chains.get(chain)?;
    Some(Position {
        chain: chain.clone(),
        epoch: at.epoch,
        tp: TopicPartition {
            topic: at.topic.as_str().into(),
            partition: at.partition,
        },
        next: at.to,
    })
}

/// A gap of one chain: offsets `[from, to)` were gone before they were read.
pub fn gap(chain: &ChainId, epoch: u64, from: i64, to: i64) -> Span {
    Span {
        chain: chain.clone(),
        epoch,
        from,
        to,
        lost: u64::try_from(to - from).unwrap_or(0),
        records: Default::default(),
        rows: Default::default(),
        letters: 0,
    }
}
