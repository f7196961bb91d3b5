//! One task of a simulated process: the real machine; a source and a sink that are numbers.

use std::collections::{BTreeMap, VecDeque};
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
use crate::sink::plan::{Following, Lane};
use crate::sink::{Deliver, Sealed};
use crate::source::Position;

/// Numbers of records: a full file, and a full memory.
const ROLL: usize = 4;
const MEMORY: usize = 9;
const ROLL_AGE: Duration = Duration::from_millis(300);
/// The rest of a plan comes within this after the last record, or it does not come (D2).
const REST_WITHIN: Duration = Duration::from_secs(3);

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
    /// Where a seal was refused because it fell into a plan.
    inside: Option<BTreeMap<SplitId, (u64, i64, i64)>>,
    pub random: StdRng,
}

/// The answers to hand-ins, for the model.
#[derive(Debug, Default)]
pub struct Said {
    open: BTreeMap<u64, String>,
    pub committed: Vec<String>,
    pub dropped: Vec<String>,
}

#[derive(Debug, Default)]
struct Sink {
    base: u64,
    since: Duration,
    /// When the last record came.
    last: Duration,
    spans: BTreeMap<SplitId, (u64, i64, i64)>,
    /// For each row, the rules that made it, and the row.
    rows: Vec<(String, Row)>,
    /// Plans of the rows that are posted.
    lanes: Vec<(Lane, Following)>,
    /// After an error only `discard` is allowed.
    broken: bool,
}

impl Sink {
    /// Delivers the rows, and notes their names in the counters.
    fn seal(&mut self, marker: &str, to: &Connection, random: &mut StdRng) -> Option<Sealed> {
        assert!(!self.broken, "a broken sink is discarded first");
        let Sink {
            base,
            spans,
            rows,
            mut lanes,
            ..
        } = std::mem::take(self);
        let (posted, rows): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(_, (_, _, offset))| to.plans.is_some() && is_posted(*offset));
        let mut names: Vec<(String, String, u64)> = Vec::new();
        let mut postings: Vec<Box<dyn Deliver>> = Vec::new();
        for (lane, following) in &mut lanes {
            let of_lane = posted
                .iter()
                .filter(|(_, (_, split, _))| *split == lane.split);
            let of_lane: Vec<Row> = of_lane.map(|(_, row)| row.clone()).collect();
            let found = following.take();
            if of_lane.is_empty() {
                continue;
            }
            postings.push(Box::new(Posting {
                connection: to.clone(),
                lane: lane.clone(),
                found,
                ids: of_lane
                    .iter()
                    .map(|_| format!("{:032x}", random.random::<u128>()))
                    .collect(),
                rows: of_lane,
            }));
        }
        self.lanes = lanes;
        names.extend(posted.into_iter().map(|(by, (name, ..))| (by, name, 1)));
        let spans: Vec<Span> = spans.into_iter().map(span).collect();
        let named = rows.iter();
        let named = named.map(|(by, (name, ..))| (by.clone(), name.clone(), 1));
        let mut counters: Vec<(String, String, u64)> = named.chain(names).collect();
        counters.push(("hand-in".to_owned(), marker.to_owned(), 1));
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        let new_id = || format!("{:032x}", random.random::<u128>());
        (!spans.is_empty()).then(|| {
            let mut deliveries = to.deliveries(new_id, rows);
            deliveries.extend(postings);
            Sealed {
                base,
                files: Vec::new(),
                deliveries,
                spans,
                counters,
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
            sink: Sink::default(),
            rules,
            coming: VecDeque::new(),
            said: Said::default(),
            receiver,
            inside: None,
            random,
        }
    }

    /// For the message of a livelock.
    pub fn stands(&self) -> String {
        let inside = self.sink.lanes.iter().filter(|(_, f)| f.inside());
        let inside: Vec<&Lane> = inside.map(|(lane, _)| lane).collect();
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
        let event = match self.next.take() {
            None => Event::Begun,
            Some(Next::Read | Next::Listen(_)) if !self.inbox.is_empty() => self.heard(),
            Some(Next::Listen(_) | Next::End(_)) => Event::Quiet,
            Some(Next::Read) => self.read(base, seen.now, low, faulty),
            Some(Next::Seal) => Event::Sealed(self.seal(process, faulty)),
        };
        let inside = self
            .sink
            .lanes
            .iter()
            .any(|(_, following)| following.inside());
        seen.memory_full = self.sink.rows.len() > MEMORY && !inside;
        let old = seen.now >= self.sink.since + ROLL_AGE;
        let full = self.sink.rows.len() >= ROLL || old && !self.sink.spans.is_empty();
        let rest_is_gone = seen.now >= self.sink.last + REST_WITHIN;
        seen.roll_due = full && (!inside || rest_is_gone);
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
            Next::Read if self.nothing_to_read() => POLL_WAIT,
            _ if faulty && sometimes(&mut self.random, 0.01) => LONG,
            _ => Duration::from_millis(self.random.random_range(1..30)),
        };
        self.due = seen.now + takes;
        self.next = Some(next);
    }

    fn nothing_to_read(&self) -> bool {
        self.paused || self.source.values().all(|(_, next)| *next >= END)
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
            return Event::Lost(vec![super::lost(split, *next, low[split])]);
        }
        let ready: Vec<&SplitId> = self
            .source
            .iter()
            .filter(|(_, (_, n))| *n < END)
            .map(|(c, _)| c)
            .collect();
        if self.paused || ready.is_empty() {
            return Event::Quiet;
        }
        let split = ready[self.random.random_range(0..ready.len())].clone();
        let (epoch, from) = self.source[&split];
        let to = (from + self.random.random_range(1..=3)).min(END);
        self.source.insert(split.clone(), (epoch, to));
        assert!(!self.sink.broken, "a broken sink is discarded first");
        if self.sink.spans.is_empty() {
            (self.sink.base, self.sink.since) = (base, now);
        }
        self.sink.last = now;
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
        let posted = (from..to).filter(|offset| is_posted(*offset));
        for offset in posted.collect::<Vec<_>>() {
            if let Err(error) = self.follow(&split, epoch, &by, offset) {
                self.sink.broken = true;
                return Event::Failed(error);
            }
        }
        Event::Written {
            offsets: u64::try_from(to - from).unwrap(),
        }
    }

    fn follow(&mut self, split: &SplitId, epoch: u64, rules: &str, offset: i64) -> Result<()> {
        let Some(plans) = &self.receiver.plans else {
            return Ok(());
        };
        let lane = Lane {
            split: split.clone(),
            epoch,
            rules: rules.into(),
        };
        let lanes = &mut self.sink.lanes;
        lanes.retain(|(known, _)| known.split != lane.split || *known == lane);
        if lanes.iter().all(|(known, _)| known.split != lane.split) {
            lanes.push((lane.clone(), Following::default()));
        }
        let of_lane = lanes.iter_mut().find(|(known, _)| *known == lane);
        of_lane.expect("a lane").1.row(plans, &lane, at(offset))
    }

    fn seal(&mut self, process: usize, faulty: bool) -> Result<Option<Sealed>> {
        if faulty && sometimes(&mut self.random, 0.03) {
            self.sink.broken = true;
            return Err(unavailable());
        }
        let inside = self
            .sink
            .lanes
            .iter()
            .filter(|(_, following)| following.inside());
        let inside: Vec<SplitId> = inside.map(|(lane, _)| lane.split.clone()).collect();
        if !inside.is_empty() && self.inside.as_ref() != Some(&self.sink.spans) {
            self.inside = Some(self.sink.spans.clone());
            self.sink.broken = true;
            return Err(Error::new(Kind::Conflict, "sim", "inside a plan"));
        }
        self.receiver.received().cut.extend(inside);
        self.inside = None;
        let marker = format!("{process}/{}/{}", self.index, self.random.random::<u64>());
        Ok(self.sink.seal(&marker, &self.receiver, &mut self.random))
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
            Effect::Discard => self.sink = Sink::default(),
            Effect::GoTo(positions) => {
                self.sink = Sink::default();
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
