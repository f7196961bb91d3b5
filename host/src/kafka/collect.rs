//! Sorts records of a consumer's one queue into batches per partition.

use std::collections::VecDeque;

use crate::record::Batch;

use super::partition::Partition;
use super::queue::Message;
use super::source::Limits;

/// After this many full batches every partition gives what it has, so that a busy partition does not block a quiet one.
const FLUSH_EVERY: u32 = 8;

pub(super) struct Collector {
    pub(super) parts: Vec<Partition>,
    /// The partition of the last record: usually many records of one follow each other.
    last: usize,
    ready: VecDeque<(usize, Batch)>,
    /// Bytes in unfinished batches.
    collected: usize,
    /// Full batches since the last flush.
    full: u32,
    pub(super) limits: Limits,
}

impl Collector {
    pub(super) fn new(limits: Limits) -> Collector {
        Collector {
            parts: Vec::new(),
            last: 0,
            ready: VecDeque::new(),
            collected: 0,
            full: 0,
            limits,
        }
    }

    /// Copies a record into its partition's batch. A record of a partition that is not assigned is dropped.
    pub(super) fn take(&mut self, message: Message<'_>) {
        let known = self.parts.get(self.last).is_some_and(|p| p.owns(message));
        if !known {
            match self.parts.iter().position(|p| p.owns(message)) {
                Some(i) => self.last = i,
                None => return,
            }
        }
        let Some(part) = self.parts.get_mut(self.last) else {
            return;
        };
        let before = part.collected();
        let full = part.take(message, &self.limits);
        self.collected += part.collected() - before;
        if full {
            self.full += 1;
            self.finish(self.last);
        }
        if self.full >= FLUSH_EVERY || self.collected >= self.limits.collected_bytes {
            self.flush();
        }
    }

    /// Partition `i` was seen to end at `offset`.
    pub(super) fn ended(&mut self, i: usize, offset: i64) {
        if let Some(part) = self.parts.get_mut(i) {
            part.ended(offset);
        }
        self.finish(i);
    }

    /// What partition `i` has collected becomes a batch that is ready.
    pub(super) fn finish(&mut self, i: usize) {
        if let Some(part) = self.parts.get_mut(i) {
            self.collected -= part.collected();
            if let Some(batch) = part.batch() {
                self.ready.push_back((i, batch));
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.full = 0;
        for i in 0..self.parts.len() {
            self.finish(i);
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn give(&mut self) -> Option<Batch> {
        let (i, batch) = self.ready.pop_front()?;
        if let Some(part) = self.parts.get_mut(i) {
            part.gave(&batch);
        }
        Some(batch)
    }

    /// Drops what was collected for partition `i` and not returned yet.
    pub(super) fn forget(&mut self, i: usize) {
        self.ready.retain(|(of, _)| *of != i);
        if let Some(part) = self.parts.get_mut(i) {
            self.collected -= part.collected();
            part.drop_collected();
        }
    }
}
