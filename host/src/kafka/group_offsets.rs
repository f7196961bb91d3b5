//! Group offsets, written after a commit for lag tools; they never set a position. A failure is only a warning.
//!
//! librdkafka does not report how an asynchronous commit ended, and a synchronous one may hang on a lost coordinator.
//! So a separate thread commits, and callers wait for it only as long as they choose.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::error::{Error, Kind, Result};
use crate::record::TopicPartition;
use crate::source::{Acknowledge, Position};

use super::client::{self, Consumer};
use super::errors::request_error;
use super::props::{KafkaProps, REQUEST_TIMEOUT};

/// At most one request to the group's coordinator in this time.
const EVERY: Duration = Duration::from_secs(1);
/// How often a lasting failure is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

type Offsets = BTreeMap<TopicPartition, i64>;

#[derive(Default)]
struct State {
    /// Not yet sent.
    pending: Offsets,
    /// A request is out.
    busy: bool,
    /// Somebody waits: do not pace.
    hurry: bool,
    closing: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Waits for a change, at most until `deadline`.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, deadline: Instant) -> MutexGuard<'a, State> {
        let left = deadline.saturating_duration_since(Instant::now());
        let woken = self.changed.wait_timeout(state, left);
        woken.unwrap_or_else(|e| e.into_inner()).0
    }
}

pub struct GroupOffsets {
    consumer: Arc<Consumer>,
    group: String,
    shared: Arc<Shared>,
}

impl fmt::Debug for GroupOffsets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupOffsets({})", self.group)
    }
}

impl GroupOffsets {
    pub fn open(props: &KafkaProps) -> Result<GroupOffsets> {
        let offsets = GroupOffsets {
            consumer: Arc::new(client::consumer(&props.offsets())?),
            group: props.group().to_owned(),
            shared: Arc::default(),
        };
        let (consumer, shared) = (offsets.consumer.clone(), offsets.shared.clone());
        let group = offsets.group.clone();
        std::thread::Builder::new()
            .name("group-offsets".to_owned())
            .spawn(move || serve(&consumer, &group, &shared))
            .map_err(|e| {
                Error::new(Kind::Bug, "kafka.group_offsets", "no thread can be started").source(e)
            })?;
        Ok(offsets)
    }
}

impl Acknowledge for GroupOffsets {
    fn committed(&self, of: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
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
            .map_err(|e| {
                let why = client::heard(&self.consumer);
                request_error("kafka.committed", "group offsets", &e, why)
            })?;
        let mut found = BTreeMap::new();
        for tp in of {
            let element = list.find_partition(&tp.topic, tp.partition);
            if let Some(Offset::Offset(at)) = element.map(|e| e.offset()) {
                found.insert(tp.clone(), at);
            }
        }
        Ok(found)
    }

    /// The newest positions go out about once per second.
    fn acknowledge(&self, positions: &[Position]) {
        let mut state = self.shared.state();
        for p in positions {
            state.pending.insert(p.tp.clone(), p.next);
        }
        self.shared.changed.notify_all();
    }

    fn flush(&self, wait: Duration) -> bool {
        let deadline = Instant::now() + wait;
        let mut state = self.shared.state();
        state.hurry = true;
        self.shared.changed.notify_all();
        while (state.busy || !state.pending.is_empty()) && Instant::now() < deadline {
            state = self.shared.wait(state, deadline);
        }
        state.hurry = false;
        !state.busy && state.pending.is_empty()
    }

    fn name(&self) -> &str {
        &self.group
    }
}

impl Drop for GroupOffsets {
    /// Does not wait for pending offsets: the log has them.
    fn drop(&mut self) {
        self.shared.state().closing = true;
        self.shared.changed.notify_all();
    }
}

fn serve(consumer: &Consumer, group: &str, shared: &Shared) {
    let mut warned: Option<Instant> = None;
    loop {
        let mut state = shared.state();
        while state.pending.is_empty() && !state.closing {
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(|e| e.into_inner());
        }
        if state.closing {
            return;
        }
        let offsets = std::mem::take(&mut state.pending);
        state.busy = true;
        drop(state);

        let result = commit(consumer, &offsets);
        // The client's log lines and errors.
        while consumer.poll(Duration::ZERO).is_some() {}
        let sent = Instant::now();
        if let Err(error) = result
            && warned.is_none_or(|at| sent >= at + WARN_EVERY)
        {
            warned = Some(sent);
            tracing::warn!(group, %error, "group offsets not written; only lag tools read them");
        }

        let mut state = shared.state();
        state.busy = false;
        shared.changed.notify_all();
        while !state.hurry && !state.closing && Instant::now() < sent + EVERY {
            state = shared.wait(state, sent + EVERY);
        }
    }
}

fn commit(consumer: &Consumer, offsets: &Offsets) -> KafkaResult<()> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (tp, at) in offsets {
        list.add_partition_offset(&tp.topic, tp.partition, Offset::Offset(*at))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}
