//! One partition that is read: what was taken from Kafka, what was returned, and the batch in between.
//!
//! Batches of a partition follow each other without a hole; an offset below what was taken is never taken again.

use std::ffi::CString;

use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, TopicPartition};
use crate::source::{Lost, Position};

use super::queue::Message;
use super::source::Limits;

pub(super) struct Partition {
    position: Position,
    topic: CString,
    /// Where the batch being built begins.
    from: i64,
    /// Next offset to take.
    taken: i64,
    /// End of the last batch returned.
    given: i64,
    builder: BatchBuilder,
    /// Its readable end when the source was opened.
    target: i64,
    /// The end was seen since the last seek: nothing more could be read then.
    eof: bool,
    /// Why nothing comes any more; until the next seek.
    pub(super) lost: Option<Lost>,
}

impl Partition {
    pub(super) fn new(position: Position, target: i64) -> Partition {
        Partition {
            // A topic's name holds no zero; an impossible one matches nothing.
            topic: CString::new(position.tp.topic.as_bytes()).unwrap_or_default(),
            from: position.next,
            taken: position.next,
            given: position.next,
            builder: BatchBuilder::new(),
            target,
            eof: false,
            lost: None,
            position,
        }
    }

    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    pub(super) fn tp(&self) -> &TopicPartition {
        &self.position.tp
    }

    pub(super) fn topic(&self) -> &CString {
        &self.topic
    }

    pub(super) fn taken(&self) -> i64 {
        self.taken
    }

    pub(super) fn given(&self) -> i64 {
        self.given
    }

    pub(super) fn target(&self) -> i64 {
        self.target
    }

    pub(super) fn owns(&self, message: Message<'_>) -> bool {
        message.partition() == self.position.tp.partition && message.is_of(&self.topic)
    }

    pub(super) fn drop_collected(&mut self) {
        self.builder = BatchBuilder::new();
    }

    /// Takes a record unless it was taken before; true when the batch is full.
    pub(super) fn take(&mut self, message: Message<'_>, limits: &Limits) -> bool {
        let offset = message.offset();
        if offset < self.taken {
            return false;
        }
        self.builder.push(
            offset,
            message.timestamp(),
            message.key(),
            message.value(),
            message.headers(),
        );
        self.taken = offset + 1;
        self.builder.len() >= limits.batch_records || self.builder.bytes() >= limits.batch_bytes
    }

    /// Nothing readable below `offset` is left: control records, aborted and compacted ones are skipped.
    pub(super) fn ended(&mut self, offset: i64) {
        self.eof = true;
        self.taken = self.taken.max(offset);
    }

    pub(super) fn collected(&self) -> usize {
        self.builder.bytes()
    }

    /// What was collected and skipped since the last batch.
    pub(super) fn batch(&mut self) -> Option<Batch> {
        if self.from == self.taken {
            return None;
        }
        let covers = Covers {
            split: self.position.split.clone(),
            epoch: self.position.epoch,
            tp: self.position.tp.clone(),
            range: OffsetRange {
                from: self.from,
                to: self.taken,
            },
        };
        self.from = self.taken;
        Some(self.builder.finish(covers))
    }

    pub(super) fn gave(&mut self, batch: &Batch) {
        self.given = batch.covers.range.to;
    }

    pub(super) fn caught_up(&self) -> bool {
        self.given == self.taken && (self.eof || self.given >= self.target)
    }
}
