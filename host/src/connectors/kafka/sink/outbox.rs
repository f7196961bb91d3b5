//! Rows on their way into a topic, each exactly once: docs/protocol.md §6, K1 to K4.
//!
//! ```text
//! prepare   the packet is put into the outbox (a file of the home)         nobody sees the rows
//! (entry)   the log names the delivery: it is committed
//! finish    one transaction: the rows, and the mark that names the delivery
//!           the packet leaves the outbox
//! ```
//! A mark tells whether the packet that lies there was taken: at most one can be, because the next transaction begins only when
//! the packet of the last has left. Whoever takes over (another process, or this one after an error) first ends what others had
//! begun, which they cannot go on with, then reads the mark, and only then sends.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::Clock;
use crate::commit::{Delivery, LogName};
use crate::error::{Error, Kind, Result};
use crate::hash::sha256;
use crate::kafka::Mark;
use crate::sink::held::Held;
use crate::sink::{Deliver, Fence, Prepared, Receiver};
use crate::store::{Created, Store};

const OP: &str = "kafka.outbox";

/// A broker keeps an offset that nobody writes again for `offsets.retention.minutes`, and a transactional id that nobody uses for
/// `transactional.id.expiration.ms`: 7 days by default, both. A pipeline that has had nothing to send for so long takes over again,
/// which writes the mark again.
const MARK_AGAIN: Duration = Duration::from_secs(12 * 3600);

/// The cluster that takes packets, as one process sees it.
pub trait Takes: Send + fmt::Debug {
    /// Ends what was begun under the pipeline's transactional id, by whomever, and keeps all others from going on.
    fn take_over(&mut self) -> Result<()>;
    /// `None`: there is no mark on this topic.
    fn mark(&mut self, topic: &str) -> Result<Option<Mark>>;
    /// The records of a packet (`None`: no records) and the mark, in one transaction. After an error nobody knows what became of
    /// it, until somebody takes over.
    fn carry(&mut self, topic: &str, mark: &Mark, packet: Option<&[u8]>) -> Result<()>;
}

/// Shared by the tasks of a pipeline, whose packets it takes, and its committer.
pub struct Outbox<T> {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// `_system/<pipeline>/<zone>/outbox`
    dir: String,
    /// Where marks of new deliveries stand.
    topic: String,
    state: Mutex<State<T>>,
}

struct State<T> {
    takes: T,
    /// Nobody has taken over since we did, as far as we know; if somebody has, our next transaction fails.
    owns: bool,
    /// The mark of each topic, while it owns.
    marks: BTreeMap<String, Mark>,
    /// When a mark was last written or read. `None`: not by this process.
    marked: Option<Duration>,
    /// Packets that were put into the outbox while it owned: nobody else can have sent them.
    held: BTreeMap<String, (Bytes, Held)>,
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbox({})", self.dir)
    }
}

/// A packet that waits: its delivery and the topic of its mark.
type Waiting = (String, String);

impl<T: Takes> Outbox<T> {
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        (log, topic): (&LogName, &str),
        takes: T,
    ) -> Outbox<T> {
        Outbox {
            store,
            clock,
            dir: format!("{}/outbox", log.dir()),
            topic: topic.to_owned(),
            state: Mutex::new(State {
                takes,
                owns: false,
                marks: BTreeMap::new(),
                marked: None,
                held: BTreeMap::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn path(&self, id: &str, topic: &str) -> String {
        format!("{}/{id}@{topic}", self.dir)
    }

    /// In the order of their ids, which is about that in which they were put there.
    fn waiting(&self) -> Result<Vec<Waiting>> {
        let listed = self.store.list(&self.dir)?.into_iter();
        let waiting = listed.filter_map(|file| {
            let (id, topic) = file.path.rsplit('/').next()?.split_once('@')?;
            ulid_or_test(id).then(|| (id.to_owned(), topic.to_owned()))
        });
        Ok(waiting.collect())
    }

    /// K2: fences, and clears away the packet that the mark says was taken. What lies in the outbox afterwards was not. K4: each
    /// mark is written again, so that the cluster keeps it.
    fn own(&self, state: &mut State<T>) -> Result<()> {
        if state.owns {
            return Ok(());
        }
        state.held.clear();
        state.marks.clear();
        state.takes.take_over()?;
        let waiting = self.waiting()?;
        let mut topics: BTreeSet<&String> = waiting.iter().map(|(_, topic)| topic).collect();
        topics.insert(&self.topic);
        for topic in topics {
            let mut of_topic = waiting.iter().filter(|(_, t)| t == topic);
            let mark = match state.takes.mark(topic)? {
                Some(mark) => {
                    if of_topic.any(|(id, _)| *id == mark.text) {
                        self.store.delete(&self.path(&mark.text, topic))?;
                    }
                    state.takes.carry(topic, &mark, None)?;
                    mark
                }
                // K4: without a mark nobody could say whether the first packet was taken.
                None => {
                    let packets: Vec<&str> = of_topic.map(|(id, _)| id.as_str()).collect();
                    if !packets.is_empty() {
                        return Err(self.unknown(&packets, topic));
                    }
                    let first = Mark {
                        number: 0,
                        text: String::new(),
                    };
                    state.takes.carry(topic, &first, None)?;
                    first
                }
            };
            state.marks.insert(topic.clone(), mark);
        }
        state.marked = Some(self.clock.elapsed());
        state.owns = true;
        Ok(())
    }

    /// K4: no mark is older than [`MARK_AGAIN`] when this returns.
    fn keep_mark(&self, state: &mut State<T>) -> Result<()> {
        let is_young = |at: Duration| self.clock.elapsed() < at + MARK_AGAIN;
        if state.marked.is_some_and(is_young) {
            return Ok(());
        }
        state.owns = false;
        self.own(state)
    }

    fn unknown(&self, packets: &[&str], topic: &str) -> Error {
        let message = format!(
            "whether topic '{topic}' has the rows of a delivery that waits cannot be told: its mark is gone"
        );
        let paths: Vec<String> = packets.iter().map(|id| self.path(id, topic)).collect();
        Error::new(Kind::SinkRefused, OP, message)
            .with("packets", paths.join(", "))
            .hint(
                "the broker keeps offsets of idle groups for offsets.retention.minutes, and those of a deleted topic not at all; \
                 docs/kafka-sink.md (\"A lost mark\") says how to look and what to do in either case",
            )
    }

    /// K1: durable in the outbox. The answer is the packet's digest, which the entry names.
    fn put(&self, id: &str, topic: &str, (packet, held): (Vec<u8>, Held)) -> Result<String> {
        let path = self.path(id, topic);
        let mut state = self.state();
        self.keep_mark(&mut state)?;
        let digest = sha256(&packet);
        match self.store.create(&path, &packet)? {
            Created::Done => {}
            // By this very call, tried twice below us.
            Created::Exists
                if self
                    .store
                    .get(&path)?
                    .is_some_and(|there| *there == *packet) => {}
            Created::Exists => {
                let message = "another packet lies under the id of this delivery";
                return Err(Error::new(Kind::Bug, OP, message).with("packet", path));
            }
        }
        if state.owns {
            state.held.insert(id.to_owned(), (packet.into(), held));
        }
        Ok(digest)
    }

    /// K3.
    fn send(&self, state: &mut State<T>, delivery: &Delivery) -> Result<()> {
        let (id, topic) = (&delivery.id, &delivery.target);
        let path = self.path(id, topic);
        let before = state.marks.get(topic).cloned().unwrap_or(Mark {
            number: 0,
            text: String::new(),
        });
        // Only its packet is left.
        if before.text == *id {
            return self.store.delete(&path);
        }
        let packet = match state.held.get(id) {
            Some((packet, _)) => packet.clone(),
            None => match self.store.get(&path)? {
                Some(there) => there,
                // Whoever took it away had sent it.
                None => return Ok(()),
            },
        };
        if delivery.token.as_deref() != Some(&sha256(&packet)) {
            let message = "the packet of a delivery is not the one that the log names";
            return Err(Error::new(Kind::LogCorrupt, OP, message).with("packet", path));
        }
        let mark = Mark {
            number: before.number + 1,
            text: id.clone(),
        };
        if let Err(error) = state.takes.carry(topic, &mark, Some(&packet)) {
            state.owns = false;
            return Err(error);
        }
        state.marks.insert(topic.clone(), mark);
        state.marked = Some(self.clock.elapsed());
        state.held.remove(id);
        self.store.delete(&path)
    }
}

/// Ids are ULIDs; those of simulations are 32 digits.
fn ulid_or_test(id: &str) -> bool {
    ulid::Ulid::from_string(id).is_ok() || cfg!(test) && id.len() == 32
}

/// One task's rows since its last seal.
pub struct Parcel<T> {
    pub outbox: Arc<Outbox<T>>,
    /// Without a token yet.
    pub delivery: Delivery,
    pub packet: Vec<u8>,
    /// Told how many bytes are held no more.
    pub held: Held,
}

impl<T> fmt::Debug for Parcel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcel({})", self.delivery.id)
    }
}

impl<T: Takes> Deliver for Parcel<T> {
    fn prepare(self: Box<Self>, _: &dyn Fence) -> Result<Prepared> {
        let Parcel {
            outbox,
            mut delivery,
            packet,
            held,
        } = *self;
        let token = outbox.put(&delivery.id, &delivery.target, (packet, held))?;
        delivery.token = Some(token);
        Ok(delivery.into())
    }

    fn abandon(self: Box<Self>) {}
}

/// The committer's side.
#[derive(Debug)]
pub struct FromOutbox<T>(pub Arc<Outbox<T>>);

impl<T: Takes> Receiver for FromOutbox<T> {
    fn prepared(&self) -> Result<Vec<String>> {
        let mut state = self.0.state();
        self.0.own(&mut state)?;
        self.0.store.clear_killed(&self.0.dir)?;
        Ok(self.0.waiting()?.into_iter().map(|(id, _)| id).collect())
    }

    fn finish(&self, delivery: &Delivery) -> Result<()> {
        let mut state = self.0.state();
        self.0.own(&mut state)?;
        self.0.send(&mut state, delivery)
    }

    fn idle(&self) -> Result<()> {
        self.0.keep_mark(&mut self.0.state())
    }

    fn give_up(&self, id: &str) -> Result<()> {
        let mut state = self.0.state();
        state.held.remove(id);
        for (waiting, topic) in self.0.waiting()? {
            if waiting == id {
                self.0.store.delete(&self.0.path(id, &topic))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
