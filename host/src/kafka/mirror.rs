//! Group offsets, written after a commit for lag tools; they never set a position. A failure is a warning, no more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::clock::Clock;
use crate::error::Result;
use crate::record::TopicPartition;
use crate::source::Position;

use super::client::{self, Consumer};
use super::errors::request_error;
use super::props::{KafkaProps, REQUEST_TIMEOUT};

/// At most one request to the group's coordinator in this time.
const EVERY: Duration = Duration::from_secs(1);
/// A failing mirror says so this often.
const WARN_EVERY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

pub struct Mirror {
    consumer: Consumer,
    group: String,
    clock: Arc<dyn Clock>,
    /// Not yet sent.
    pending: BTreeMap<TopicPartition, i64>,
    /// Sent, answer outstanding.
    in_flight: bool,
    sent: Option<Duration>,
    warned: Option<Duration>,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mirror({}, {} pending)", self.group, self.pending.len())
    }
}

impl Mirror {
    pub fn open(props: &KafkaProps, clock: Arc<dyn Clock>) -> Result<Mirror> {
        Ok(Mirror {
            consumer: client::consumer(&props.offsets())?,
            group: props.group().to_owned(),
            clock,
            pending: BTreeMap::new(),
            in_flight: false,
            sent: None,
            warned: None,
        })
    }

    /// What the group holds, for the alarm of R4: an offset above the chain's end says that entries were deleted.
    /// Partitions without an offset are missing.
    pub fn committed(&self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        const OP: &str = "kafka.committed";
        let failed = |e| {
            request_error(
                OP,
                "group offsets",
                &e,
                self.consumer.context().last_error(),
            )
        };
        if of.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut list = TopicPartitionList::with_capacity(of.len());
        for tp in of {
            list.add_partition(&tp.topic, tp.partition);
        }
        let list = self
            .consumer
            .committed_offsets(list, REQUEST_TIMEOUT)
            .map_err(failed)?;
        let mut found = BTreeMap::new();
        for tp in of {
            let element = list.find_partition(&tp.topic, tp.partition);
            if let Some(Offset::Offset(at)) = element.map(|e| e.offset()) {
                found.insert(tp.clone(), at);
            }
        }
        Ok(found)
    }

    /// Call after each commit, and now and then: the newest positions go out once per second.
    pub fn mirror(&mut self, positions: &[Position]) {
        for p in positions {
            self.pending.insert(p.tp.clone(), p.next);
        }
        self.tick();
    }

    /// Sends what is due. Never waits.
    pub fn tick(&mut self) {
        self.pump(Duration::ZERO);
        let now = self.clock.elapsed();
        let due = self.sent.is_none_or(|sent| now >= sent + EVERY);
        if due && !self.in_flight {
            self.send(now);
        }
    }

    /// Sends what is left and waits at most `wait` for the answer: the end of a run.
    pub fn flush(&mut self, wait: Duration) {
        let deadline = self.clock.elapsed() + wait;
        while self.clock.elapsed() < deadline && (self.in_flight || !self.pending.is_empty()) {
            if !self.in_flight {
                self.send(self.clock.elapsed());
            }
            self.pump(POLL);
        }
    }

    fn send(&mut self, now: Duration) {
        if self.pending.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(self.pending.len());
        for (tp, at) in std::mem::take(&mut self.pending) {
            if let Err(error) =
                list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(at))
            {
                self.warn(&error.to_string());
            }
        }
        self.sent = Some(now);
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.in_flight = true,
            Err(error) => self.warn(&error.to_string()),
        }
    }

    /// Serves the client; the answer to a commit arrives here.
    fn pump(&mut self, wait: Duration) {
        if self.consumer.poll(wait).is_some() {
            tracing::trace!("the mirror's client told something");
        }
        if let Some(result) = self.consumer.context().take_committed() {
            self.in_flight = false;
            if let Err(error) = result {
                self.warn(&error.to_string());
            }
        }
    }

    fn warn(&mut self, error: &str) {
        let now = self.clock.elapsed();
        if self.warned.is_none_or(|at| now >= at + WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(
                group = self.group,
                error,
                "group offsets not mirrored; only lag tools read them"
            );
        }
    }
}
