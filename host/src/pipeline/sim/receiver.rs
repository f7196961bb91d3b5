//! Plays a system that takes deliveries: it outlives the processes that deliver to it, and forgets nothing. A wrong
//! request (to finish what was never prepared, or to both give up and finish) fails the test at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use rand::Rng;
use rand::rngs::StdRng;

use super::log_name;
use crate::clock::Clock;
use crate::commit::{Delivery, FileRange, Role, Span};
use crate::connectors::kafka::sink::outbox::{FromOutbox, Outbox, Parcel, Takes};
use crate::error::{Error, Kind, Result};
use crate::kafka::Mark;
use crate::record::SplitId;
use crate::sink::held::Held;
use crate::sink::plan::{self, Coordinate, Cut, Lane, Plan, Plans};
use crate::sink::{Deliver, Fence, Prepared, Receiver};
use crate::store::Store;

/// One row or dead letter: its name, split and offset.
pub type Row = (String, SplitId, i64);

#[derive(Debug)]
pub struct Received {
    /// Held back until their entries are proved.
    pub held: BTreeMap<String, Vec<String>>,
    /// Names of rows that its readers see, by delivery, and whether they were held back before.
    pub shown: BTreeMap<String, (bool, Vec<String>)>,
    given_up: BTreeSet<String>,
    /// By key, what it took: a second request with one key is taken for the first.
    pub posted: BTreeMap<String, Posted>,
    /// Splits whose rows were sealed inside a plan, because the rest of it does not come.
    pub cut: BTreeSet<SplitId>,
    /// Whether it answers when it is told to finish.
    pub finishes: bool,
    topic: Topic,
}

/// A topic that takes transactions, as a cluster keeps it.
#[derive(Debug, Default)]
struct Topic {
    /// Of the transactional id: whoever took over last may write.
    epoch: u64,
    mark: Option<Mark>,
    /// A transaction whose end was asked for and not answered: whoever takes over learns which way it went.
    open: Option<(Mark, Vec<String>)>,
}

impl Default for Received {
    fn default() -> Received {
        Received {
            held: BTreeMap::new(),
            shown: BTreeMap::new(),
            given_up: BTreeSet::new(),
            posted: BTreeMap::new(),
            cut: BTreeSet::new(),
            finishes: true,
            topic: Topic::default(),
        }
    }
}

/// Rows of one request, and the rules that made them.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    pub rules: String,
    pub split: SplitId,
    pub rows: Vec<String>,
}

/// What fails: one call in ten, half of them after its effect, unless all is calm.
#[derive(Debug)]
pub struct Trouble {
    pub random: Mutex<StdRng>,
    pub calm: Arc<Mutex<bool>>,
}

impl Trouble {
    /// Whether this call fails before its effect, and whether after it.
    fn happens(&self) -> (bool, bool) {
        let dice = self.random.lock().unwrap().random_range(0..20);
        let rough = !*self.calm.lock().unwrap();
        (rough && dice == 0, rough && dice == 1)
    }
}

impl Received {
    fn take(&mut self, mark: &Mark, rows: Vec<String>) {
        if !rows.is_empty() {
            let before = self.shown.insert(mark.text.clone(), (true, rows));
            assert!(before.is_none(), "a topic has a delivery twice");
            assert!(!self.given_up.contains(&mark.text), "given up, then sent");
        }
        self.topic.mark = Some(mark.clone());
    }
}

/// One process's client of the topic.
#[derive(Debug)]
pub struct Client {
    to: Connection,
    epoch: u64,
    random: StdRng,
}

impl Takes for Client {
    fn take_over(&mut self) -> Result<()> {
        let ends_well = self.random.random_bool(0.5);
        self.epoch = self.to.call(|received| {
            let topic = &mut received.topic;
            topic.epoch += 1;
            let epoch = topic.epoch;
            if let Some((mark, rows)) = topic.open.take().filter(|_| ends_well) {
                received.take(&mark, rows);
            }
            epoch
        })?;
        Ok(())
    }

    fn mark(&mut self, _: &str) -> Result<Option<Mark>> {
        self.to.call(|received| received.topic.mark.clone())
    }

    fn carry(&mut self, _: &str, mark: &Mark, packet: Option<&[u8]>) -> Result<()> {
        let (epoch, hangs) = (
            self.epoch,
            self.random.random_bool(0.1) && self.to.is_rough(),
        );
        let rows = packet.unwrap_or_default().split(|byte| *byte == b'\n');
        let rows = rows.filter(|row| !row.is_empty());
        let rows: Vec<String> = rows
            .map(|row| String::from_utf8_lossy(row).into())
            .collect();
        let taken = self.to.call(|received| {
            if !received.finishes || received.topic.epoch != epoch {
                return false;
            }
            match hangs {
                true => received.topic.open = Some((mark.clone(), rows)),
                false => received.take(mark, rows),
            }
            !hangs
        })?;
        if taken { Ok(()) } else { Err(away()) }
    }
}

/// A process's way to it.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    pub received: Arc<Mutex<Received>>,
    pub trouble: Option<Arc<Trouble>>,
    /// Of the process's store. `None`: nothing is posted.
    pub plans: Option<Plans>,
    /// Rows go through the outbox of the Kafka sink into the topic; else the receiver itself holds them back.
    pub outbox: Option<Arc<Outbox<Client>>>,
}

impl Connection {
    /// The same, by an outbox in this store.
    pub fn by_outbox(
        self,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: StdRng,
    ) -> Connection {
        let to = Connection {
            outbox: None,
            ..self.clone()
        };
        let client = Client {
            to,
            epoch: 0,
            random,
        };
        Connection {
            outbox: Some(Arc::new(Outbox::new(
                store,
                clock,
                (&log_name(), "t"),
                client,
            ))),
            ..self
        }
    }

    fn is_rough(&self) -> bool {
        let trouble = self.trouble.as_ref();
        trouble.is_some_and(|trouble| !*trouble.calm.lock().unwrap())
    }

    pub fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap()
    }

    /// The call, which may fail before its effect or lose its answer.
    fn call<T>(&self, effect: impl FnOnce(&mut Received) -> T) -> Result<T> {
        let (before, after) = self
            .trouble
            .as_ref()
            .map_or((false, false), |t| t.happens());
        if before {
            return Err(away());
        }
        let done = effect(&mut self.received());
        match after {
            true => Err(away()),
            false => Ok(done),
        }
    }

    /// Makes both kinds of delivery: rows are held back for a token, dead letters are taken at once.
    pub fn deliveries(
        &self,
        new_id: impl FnMut() -> String,
        rows: Vec<Row>,
    ) -> Vec<Box<dyn Deliver>> {
        let (letters, rows) = rows
            .into_iter()
            .partition(|(_, _, offset)| is_letter(*offset));
        let of = [(Role::Rows, rows), (Role::DeadLetters, letters)];
        let of = of
            .into_iter()
            .filter(|(_, rows): &(Role, Vec<Row>)| !rows.is_empty());
        let ids = std::iter::repeat_with(new_id);
        of.zip(ids)
            .map(|((role, rows), id)| self.way(self.delivery(id, role, rows)))
            .collect()
    }

    fn way(&self, played: Played) -> Box<dyn Deliver> {
        match &self.outbox {
            Some(outbox) if played.delivery.role == Role::Rows => Box::new(Parcel {
                outbox: outbox.clone(),
                delivery: Delivery {
                    target: "t".into(),
                    ..played.delivery
                },
                packet: played.rows.join("\n").into_bytes(),
                held: Held::default(),
            }),
            _ => Box::new(played),
        }
    }

    fn delivery(&self, id: String, role: Role, rows: Vec<Row>) -> Played {
        let mut ranges: BTreeMap<&SplitId, FileRange> = BTreeMap::new();
        for (_, split, offset) in &rows {
            let range = ranges.entry(split).or_insert_with(|| FileRange {
                split: split.clone(),
                from: *offset,
                to: *offset,
                rows: 0,
            });
            range.from = range.from.min(*offset);
            range.to = range.to.max(*offset + 1);
            range.rows += 1;
        }
        let delivery = Delivery {
            id,
            role,
            sink: "played".into(),
            target: "books".into(),
            rows: rows.len() as u64,
            ranges: ranges.into_values().collect(),
            token: None,
        };
        Played {
            connection: self.clone(),
            delivery,
            rows: rows.into_iter().map(|(name, ..)| name).collect(),
        }
    }
}

/// Offsets whose record is refused.
pub fn is_letter(offset: i64) -> bool {
    offset % 5 == 4
}

/// Offsets whose row is posted in a planned batch, where rows are posted at all.
pub fn is_posted(offset: i64) -> bool {
    matches!(offset % 5, 1..=3)
}

/// Rows of one lane that go out in batches of two, under keys, and are taken before the entry.
#[derive(Debug)]
pub struct Posting {
    pub connection: Connection,
    pub lane: Lane,
    pub found: Vec<Plan>,
    pub rows: Vec<Row>,
    pub ids: Vec<String>,
}

impl Deliver for Posting {
    fn prepare(self: Box<Self>, fence: &dyn Fence) -> Result<Prepared> {
        let Posting {
            connection,
            lane,
            found,
            rows,
            mut ids,
        } = *self;
        let plans = connection.plans.clone().expect("plans");
        let cut = Cut {
            rows: 2,
            bytes: 100,
        };
        let row = |(_, _, offset): &Row| plan::Row {
            at: at(*offset),
            bytes: 1,
        };
        let all: Vec<plan::Row> = rows.iter().map(row).collect();
        let new_id = || ids.pop().expect("an id for each row");
        let batches = plans.decide(&lane, &all, &found, cut, new_id)?;
        let id = batches[0].plan.clone();
        fence.holds()?;
        for batch in batches {
            let names: Vec<String> = rows[batch.rows].iter().map(|(n, ..)| n.clone()).collect();
            // As in the sink: the key depends on the body, so that a key never belongs to two bodies.
            let key = format!("{}-{}-{}", batch.plan, batch.number, names.join(","));
            let posted = Posted {
                rules: lane.rules.to_string(),
                split: lane.split.clone(),
                rows: names,
            };
            connection.call(|received| {
                let before = received.posted.insert(key, posted.clone());
                assert!(before.is_none_or(|before| before == posted));
            })?;
        }
        let mut delivery = connection.delivery(id, Role::Rows, rows).delivery;
        delivery.sink = "posted".into();
        Ok(delivery.into())
    }

    fn abandon(self: Box<Self>) {}
}

pub fn at(offset: i64) -> Coordinate {
    Coordinate { offset, row: 0 }
}

#[derive(Debug)]
struct Played {
    connection: Connection,
    delivery: Delivery,
    rows: Vec<String>,
}

impl Deliver for Played {
    fn prepare(self: Box<Self>, _: &dyn Fence) -> Result<Prepared> {
        let Played {
            connection,
            mut delivery,
            rows,
        } = *self;
        let (id, holds) = (delivery.id.clone(), delivery.role == Role::Rows);
        delivery.token = holds.then(|| format!("token of {id}"));
        connection.call(|received| {
            let before = match holds {
                true => received.held.insert(id, rows).is_some(),
                false => received.shown.insert(id, (false, rows)).is_some(),
            };
            assert!(!before, "an id is used once");
        })?;
        Ok(delivery.into())
    }

    fn abandon(self: Box<Self>) {
        let received = self.connection.received();
        let id = &self.delivery.id;
        let known = received.held.contains_key(id) || received.shown.contains_key(id);
        assert!(!known, "prepared, then abandoned");
    }
}

impl Receiver for Connection {
    fn prepared(&self) -> Result<Vec<String>> {
        match &self.outbox {
            Some(outbox) => FromOutbox(outbox.clone()).prepared(),
            None => self.call(|received| received.held.keys().cloned().collect()),
        }
    }

    fn finish(&self, delivery: &Delivery) -> Result<()> {
        if let Some(outbox) = &self.outbox {
            return FromOutbox(outbox.clone()).finish(delivery);
        }
        let id = &delivery.id;
        assert_eq!(delivery.token, Some(format!("token of {id}")));
        if !self.received().finishes {
            return Err(away());
        }
        self.call(|received| {
            assert!(!received.given_up.contains(id), "given up, then finished");
            match received.held.remove(id) {
                Some(rows) => drop(received.shown.insert(id.clone(), (true, rows))),
                None => assert!(received.shown.contains_key(id), "finished, never prepared"),
            }
        })
    }

    fn passed(&self, spans: &[Span]) {
        if let Some(plans) = &self.plans {
            plans.forget(spans);
        }
    }

    fn give_up(&self, id: &str) -> Result<()> {
        if let Some(outbox) = &self.outbox {
            self.received().given_up.insert(id.to_owned());
            return FromOutbox(outbox.clone()).give_up(id);
        }
        self.call(|received| {
            assert!(!received.shown.contains_key(id), "finished, then given up");
            received.held.remove(id);
            received.given_up.insert(id.to_owned());
        })
    }
}

fn away() -> Error {
    Error::new(Kind::StoreUnavailable, "sim", "the receiver is away")
}
