//! One task of a simulated process: the real machine; a source and a sink that are numbers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use super::receiver::{Connection, Posting, Row, at, is_letter, is_posted};
use super::{END, LONG, sometimes};
use crate::backoff::Backoff;
use crate::chain::{Records, Rows};
use crate::commit::Span;
use crate::error::{Error, Kind, Result};
use crate::pipeline::messages::{HandIn, ToCommitter, ToTask};
use crate::pipeline::task::machine::{Effect, Event, Machine, Next, POLL_WAIT, Seen, Step};
use crate::record::SplitId;
use crate::sink::lanes::{Lanes, Taken};
use crate::sink::plan::Lane;
use crate::sink::{Deliver, Sealed};
use crate::source::Position;

/// Numbers of records: a full file, and a full memory.
const ROLL: usize = 4;
const MEMORY: usize = 9;
const ROLL_AGE: Duration = Duration::from_millis(300);
/// The rest of a plan comes within this after the last record of its split, or it does not come (D2).
const REST_WITHIN: Duration = Duration::from_millis(300);

pub struct Task {
    pub index: usize,
    pub machine: Machine,
    pub next: Option<Next>,
    pub due: Duration,
    pub inbox: VecDeque<ToTask>,
    /// Epoch and next offset of each partition that it reads.
    source: BTreeMap<SplitId, (u64, i64)>,
    paused: bool,
    sink: Sink,
    /// Version of the rules that it applies.
    rules: u64,
    /// Versions of the rules that come with the next changes.
    pub coming: VecDeque<u64>,
    pub said: Said,
    pub receiver: Connection,
    /// Partitions that give nothing from this offset on, until this time.
    stalled: BTreeMap<SplitId, (i64, Duration)>,
    /// Its last step.
    turned: Duration,
    pub random: StdRng,
}

/// The answers to hand-ins, for the model.
#[derive(Debug, Default)]
pub struct Said {
    open: BTreeMap<u64, String>,
    pub committed: Vec<String>,
    pub dropped: Vec<String>,
}

#[derive(Debug)]
struct Sink {
    base: u64,
    since: Duration,
    spans: BTreeMap<SplitId, (u64, i64, i64)>,
    /// For each row, the rules that made it, and the row.
    rows: Vec<(String, Row)>,
    /// Those of them that are posted in planned batches.
    lanes: Lanes<Vec<Row>>,
    /// After an error only `discard` is allowed.
    broken: bool,
}

impl Sink {
    fn new() -> Sink {
        Sink {
            base: 0,
            since: Duration::ZERO,
            spans: BTreeMap::new(),
            rows: Vec::new(),
            lanes: Lanes::new(REST_WITHIN),
            broken: false,
        }
    }

    fn discard(&mut self) {
        self.spans.clear();
        self.rows.clear();
        self.lanes.discard();
        self.broken = false;
    }

    /// Rows of splits that are not among these.
    fn rows_without(&self, splits: &BTreeSet<SplitId>) -> usize {
        let rows = self.rows.iter();
        rows.filter(|(_, (_, split, _))| !splits.contains(split))
            .count()
    }

    fn inside(&self) -> BTreeSet<SplitId> {
        let inside = self.lanes.iter().filter(|of| of.is_inside());
        inside.map(|of| of.lane.split.clone()).collect()
    }

    fn is_due(&self, now: Duration) -> bool {
        let waiting = self.lanes.waiting(now);
        let old = now >= self.since + ROLL_AGE;
        let any = self.spans.keys().any(|split| !waiting.contains(split));
        self.rows_without(&waiting) >= ROLL || old && any
    }

    /// Delivers the rows, and notes their names in the counters.
    fn seal(
        &mut self,
        marker: &str,
        left_out: &BTreeSet<SplitId>,
        to: &Connection,
        random: &mut StdRng,
    ) -> Option<Sealed> {
        assert!(!self.broken, "a broken sink is discarded first");
        let rows = std::mem::take(&mut self.rows).into_iter();
        let (stays, rows): (Vec<_>, Vec<_>) =
            rows.partition(|(_, (_, split, _))| left_out.contains(split));
        self.rows = stays;
        let spans = std::mem::take(&mut self.spans).into_iter();
        let (stays, spans) = spans.partition(|(split, _)| left_out.contains(split));
        self.spans = stays;
        let spans: Vec<Span> = BTreeMap::into_iter(spans).map(span).collect();
        let mut postings: Vec<Box<dyn Deliver>> = Vec::new();
        for Taken { lane, found, rows } in self.lanes.take(left_out) {
            let new_id = |_: &Row| format!("{:032x}", random.random::<u128>());
            postings.push(Box::new(Posting {
                connection: to.clone(),
                lane,
                found,
                ids: rows.iter().map(new_id).collect(),
                rows,
            }));
        }
        let named = rows.iter();
        let named = named.map(|(by, (name, ..))| (by.clone(), name.clone(), 1));
        let mut counters: Vec<(String, String, u64)> = named.collect();
        counters.push(("hand-in".to_owned(), marker.to_owned(), 1));
        let held = |(_, _, offset): &Row| to.plans.is_none() || !is_posted(*offset);
        let rows = rows.into_iter().map(|(_, row)| row).filter(held).collect();
        let new_id = || format!("{:032x}", random.random::<u128>());
        (!spans.is_empty()).then(|| {
            let mut deliveries = to.deliveries(new_id, rows);
            deliveries.extend(postings);
            Sealed {
                base: self.base,
                files: Vec::new(),
                deliveries,
                spans,
                counters,
                notes: Default::default(),
            }
        })
    }
}

/// Each record becomes a row or is refused.
pub fn span((split, (epoch, from, to)): (SplitId, (u64, i64, i64))) -> Span {
    let read = u64::try_from(to - from).unwrap();
    let refused = (from..to).filter(|offset| is_letter(*offset)).count() as u64;
    let written = read - refused;
    Span {
        split,
        epoch,
        from,
        to,
        lost: 0,
        records: Records {
            read,
            with_rows: written,
            refused,
            ..Records::default()
        },
        rows: Rows {
            made: written,
            written,
            ..Rows::default()
        },
        dead_letters: refused,
    }
}

impl Task {
    pub fn new(
        index: usize,
        positions: &[Position],
        rules: u64,
        receiver: Connection,
        random: StdRng,
    ) -> Task {
        let at = |p: &Position| (p.split.clone(), (p.epoch, p.next));
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        Task {
            index,
            machine: Machine::new(index, backoff),
            next: None,
            due: Duration::ZERO,
            inbox: VecDeque::new(),
            source: positions.iter().map(at).collect(),
            paused: false,
            sink: Sink::new(),
            rules,
            coming: VecDeque::new(),
            said: Said::default(),
            receiver,
            stalled: BTreeMap::new(),
            turned: Duration::ZERO,
            random,
        }
    }

    /// For the message of a livelock.
    pub fn stands(&self) -> String {
        let inside = self.sink.inside();
        format!(
            "reads {:?}, paused {}, holds {:?}, inside {inside:?}, open hand-ins {:?}, {:?}",
            self.source, self.paused, self.sink.spans, self.said.open, self.machine
        )
    }

    pub fn has_ended(&self) -> bool {
        matches!(self.next, Some(Next::End(_)))
    }

    /// When it goes on: at once if it has a message.
    pub fn wakes(&self, now: Duration) -> Option<Duration> {
        match &self.next {
            Some(Next::End(_)) => None,
            Some(Next::Listen(_)) if !self.inbox.is_empty() => Some(self.due.min(now)),
            _ => Some(self.due),
        }
    }

    /// Ends its wait: one step, with all its effects. `low`: the broker's first offset of each partition.
    pub fn turn(
        &mut self,
        (process, base): (usize, u64),
        mut seen: Seen,
        low: &BTreeMap<SplitId, i64>,
        sent: &mut VecDeque<ToCommitter>,
        faulty: bool,
    ) {
        if !matches!(self.next, Some(Next::Read)) {
            let passed = seen.now.saturating_sub(self.turned);
            for split in self.sink.lanes.awaited() {
                self.sink.lanes.put_off(&split, passed, seen.now);
            }
        }
        self.turned = seen.now;
        let event = match self.next.take() {
            None => Event::Begun,
            Some(Next::Read | Next::Listen(_)) if !self.inbox.is_empty() => self.heard(),
            Some(Next::Listen(_) | Next::End(_)) => Event::Quiet,
            Some(Next::Read) => self.read(base, seen.now, low, faulty),
            Some(Next::Seal) => Event::Sealed(self.seal(process, seen.now, faulty)),
        };
        seen.memory_full = self.sink.rows_without(&self.sink.inside()) > MEMORY;
        seen.roll_due = self.sink.is_due(seen.now);
        seen.holds = !self.sink.spans.is_empty();
        let Step { effects, next } = self.machine.step(event, &seen);
        let mut next = next;
        for effect in effects {
            if let Err(error) = self.act(effect, sent, faulty) {
                let step = self.machine.step(Event::Failed(error), &seen);
                for effect in step.effects {
                    self.act(effect, sent, false).unwrap();
                }
                next = step.next;
                break;
            }
        }
        if let Next::End(error) = &next {
            assert!(error.is_none(), "a task failed: {error:?}");
            sent.push_back(ToCommitter::Ended { task: self.index });
        }
        let takes = match &next {
            Next::Listen(wait) => *wait,
            Next::Read if self.ready(seen.now).is_empty() => POLL_WAIT,
            _ if faulty && sometimes(&mut self.random, 0.01) => LONG,
            _ => Duration::from_millis(self.random.random_range(1..30)),
        };
        self.due = seen.now + takes;
        self.next = Some(next);
    }

    /// Where it stands in the partitions that have a record for it, and where they end for now.
    fn ready(&self, now: Duration) -> Vec<(SplitId, i64)> {
        let end = |split: &SplitId| match self.stalled.get(split) {
            Some((end, until)) if now < *until => *end,
            _ => END,
        };
        let splits = self.source.keys();
        let ready = splits.map(|split| (split.clone(), end(split)));
        ready
            .filter(|(split, end)| !self.paused && self.source[split].1 < *end)
            .collect()
    }

    fn heard(&mut self) -> Event {
        let message = self.inbox.pop_front().expect("a message");
        match &message {
            ToTask::Committed { up_to } => self.said.settle(*up_to, true),
            ToTask::Dropped { up_to, .. } => self.said.settle(*up_to, false),
            _ => {}
        }
        Event::Heard(message)
    }

    fn read(
        &mut self,
        base: u64,
        now: Duration,
        low: &BTreeMap<SplitId, i64>,
        faulty: bool,
    ) -> Event {
        if faulty && sometimes(&mut self.random, 0.02) {
            self.sink.broken = sometimes(&mut self.random, 0.5);
            return Event::Failed(unavailable());
        }
        if let Some((split, (_, next))) = self.source.iter().find(|(c, (_, n))| *n < low[*c]) {
            self.sink.lanes.lost(split);
            return Event::Lost(vec![super::lost(split, *next, low[split])]);
        }
        if !faulty {
            self.stalled.clear();
        }
        let ready = self.ready(now);
        if ready.is_empty() {
            return Event::Quiet;
        }
        let (split, end) = ready[self.random.random_range(0..ready.len())].clone();
        let (epoch, from) = self.source[&split];
        let inside = self.sink.inside().contains(&split);
        if faulty && sometimes(&mut self.random, if inside { 0.3 } else { 0.03 }) {
            let time = REST_WITHIN * self.random.random_range(1..8);
            self.stalled.insert(split, (from, now + time));
            return Event::Quiet;
        }
        let to = (from + self.random.random_range(1..=3)).min(end);
        self.source.insert(split.clone(), (epoch, to));
        assert!(!self.sink.broken, "a broken sink is discarded first");
        if self.sink.spans.is_empty() {
            (self.sink.base, self.sink.since) = (base, now);
        }
        let span = self
            .sink
            .spans
            .entry(split.clone())
            .or_insert((epoch, from, from));
        assert_eq!(
            (span.0, span.2),
            (epoch, from),
            "a hole between two batches"
        );
        span.2 = to;
        let by = format!("r{}", self.rules);
        let row = |at| (format!("{split}@{at}@{epoch}"), split.clone(), at);
        let rows = (from..to).map(|offset| (by.clone(), row(offset)));
        self.sink.rows.extend(rows);
        if let Err(error) = self.follow(&split, epoch, from..to, now) {
            self.sink.broken = true;
            return Event::Failed(error);
        }
        Event::Written {
            records: u64::try_from(to - from).unwrap(),
        }
    }

    /// Rows of these offsets that are posted go into their lane.
    fn follow(
        &mut self,
        split: &SplitId,
        epoch: u64,
        offsets: Range<i64>,
        now: Duration,
    ) -> Result<()> {
        let Some(plans) = &self.receiver.plans else {
            return Ok(());
        };
        let of = self.sink.lanes.of(Lane {
            split: split.clone(),
            epoch,
            rules: format!("r{}", self.rules).into(),
        });
        let to = offsets.end;
        for offset in offsets.filter(|offset| is_posted(*offset)) {
            of.row(plans, at(offset))?;
            let name = format!("{split}@{offset}@{epoch}");
            of.rows.push((name, split.clone(), offset));
        }
        of.covered(to, now);
        Ok(())
    }

    fn seal(&mut self, process: usize, now: Duration, faulty: bool) -> Result<Option<Sealed>> {
        if faulty && sometimes(&mut self.random, 0.03) {
            self.sink.broken = true;
            return Err(unavailable());
        }
        let mut cut = self.sink.inside();
        let left_out = self.sink.lanes.left_out(now);
        self.sink.broken = left_out.is_err();
        let left_out = left_out?;
        cut.retain(|split| !left_out.contains(split));
        self.receiver.received().cut.extend(cut);
        let marker = format!("{process}/{}/{}", self.index, self.random.random::<u64>());
        Ok(self
            .sink
            .seal(&marker, &left_out, &self.receiver, &mut self.random))
    }

    fn act(
        &mut self,
        effect: Effect,
        sent: &mut VecDeque<ToCommitter>,
        faulty: bool,
    ) -> Result<()> {
        let fails = faulty && sometimes(&mut self.random, 0.02);
        match effect {
            Effect::Send(message) => {
                self.said.send(&message);
                sent.push_back(message);
            }
            Effect::Discard => self.sink.discard(),
            Effect::GoTo(positions) => {
                self.sink.discard();
                let named: Vec<&SplitId> = positions.iter().map(|p| &p.split).collect();
                let read: Vec<&SplitId> = self.source.keys().collect();
                assert_eq!(named.len(), read.len(), "{named:?} of {read:?}");
                for p in &positions {
                    let at = self.source.get_mut(&p.split);
                    *at.expect("a partition that is read") = (p.epoch, p.next);
                }
                if fails {
                    return Err(unavailable());
                }
            }
            Effect::Assign(positions) => {
                for p in positions {
                    let before = self.source.insert(p.split, (p.epoch, p.next));
                    assert_eq!(before, None, "assigned twice");
                }
            }
            Effect::Release(partitions) => {
                for partition in partitions {
                    self.source
                        .remove(&partition)
                        .expect("a partition that is read");
                }
            }
            Effect::UseRules(_) => self.rules = self.coming.pop_front().expect("rules"),
            Effect::PauseSource(false) if fails => return Err(unavailable()),
            Effect::PauseSource(paused) => self.paused = paused,
            Effect::Tell(_) => {}
        }
        Ok(())
    }
}

impl Said {
    fn send(&mut self, message: &ToCommitter) {
        let hand_in = match message {
            ToCommitter::Commit(hand_in) => Some(hand_in),
            ToCommitter::Flushed { hand_in, .. } => hand_in.as_ref(),
            _ => None,
        };
        if let Some(HandIn { number, sealed, .. }) = hand_in {
            let marker = sealed.counters.iter().find(|(by, ..)| by == "hand-in");
            self.open
                .insert(*number, marker.expect("a marker").1.clone());
        }
    }

    fn settle(&mut self, up_to: u64, committed: bool) {
        let open = self.open.split_off(&(up_to + 1));
        let settled = std::mem::replace(&mut self.open, open).into_values();
        match committed {
            true => self.committed.extend(settled),
            false => self.dropped.extend(settled),
        }
    }
}

pub fn unavailable() -> Error {
    Error::new(Kind::SourceUnavailable, "sim", "away")
}
