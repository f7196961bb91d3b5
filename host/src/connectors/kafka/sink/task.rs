//! One task's rows on their way to the outbox, with the dead letters and the books of the same records.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::outbox::{Outbox, Parcel};
use super::rows::Rows;
use super::takes::Cluster;
use super::{KafkaSinkConfig, packet};
use crate::chain::Applied;
use crate::commit::{Delivery, FileRange, Role, new_file_id};
use crate::error::Result;
use crate::record::{Batch, SplitId};
use crate::sink::covered::Gathering;
use crate::sink::held::HandedIn;
use crate::sink::refusing::Refusing;
use crate::sink::{Deliver, Finish, Gathered, Sealed, Sink};
use crate::zone::LetterFiles;

/// Set up once for each task.
pub struct KafkaSink {
    pub config: KafkaSinkConfig,
    pub refusing: Refusing,
    pub outbox: Arc<Outbox<Cluster>>,
    pub rows: Rows,
    pub letters: LetterFiles,
    pub open: Option<Open>,
    pub gathering: Gathering,
    /// Bytes of packets that were sealed and are not sent.
    pub sealed: HandedIn,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaSink({})", self.config.topic())
    }
}

/// Since the last seal.
#[derive(Debug)]
pub struct Open {
    packet: Vec<u8>,
    rows: u64,
    ranges: BTreeMap<SplitId, FileRange>,
}

impl KafkaSink {
    fn take(&mut self, batch: &Batch, mut applied: Applied) -> Result<()> {
        let range = batch.covers.range;
        if range.from == range.to {
            return Ok(());
        }
        let mut encoded = self.rows.encode(batch, &applied)?;
        let refused = std::mem::take(&mut encoded.refused);
        let left = self.refusing.refuse(batch, &mut applied, refused)?;
        let open = self.open.get_or_insert_with(|| Open {
            packet: packet::new(),
            rows: 0,
            ranges: BTreeMap::new(),
        });
        self.gathering.cover(batch, &applied)?;
        encoded.append_to(&mut open.packet, |row| !left.contains(&row));
        let offset = |record: &u32| batch.offset.value(*record as usize);
        if let (Some(first), Some(last)) = (applied.record.first(), applied.record.last()) {
            let split = &batch.covers.split;
            let (from, to) = (offset(first), offset(last) + 1);
            let of = open
                .ranges
                .entry(split.clone())
                .or_insert_with(|| FileRange {
                    split: split.clone(),
                    from,
                    to,
                    rows: 0,
                });
            of.to = to;
            of.rows += applied.record.len() as u64;
            open.rows += applied.record.len() as u64;
        }
        self.letters.add(batch, &applied.dead_letters)
    }

    fn close(&mut self, open: Open) -> Result<Option<Sealed>> {
        let mut files: Vec<Box<dyn Finish>> = Vec::new();
        for written in self.letters.close()? {
            files.push(Box::new(written));
        }
        let Open {
            packet,
            rows,
            ranges,
        } = open;
        let mut deliveries: Vec<Box<dyn Deliver>> = Vec::new();
        if rows > 0 {
            deliveries.push(Box::new(Parcel {
                outbox: self.outbox.clone(),
                delivery: Delivery {
                    id: new_file_id(),
                    role: Role::Rows,
                    sink: super::SINK.name.to_owned(),
                    target: self.config.topic().to_owned(),
                    rows,
                    ranges: ranges.into_values().collect(),
                    token: None,
                },
                held: self.sealed.hold(packet.len()),
                packet,
            }));
        }
        Ok(self.gathering.seal(files, deliveries))
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.take(batch, applied)
    }

    fn should_roll(&self) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let age = self.gathering.age();
        age.is_some_and(|age| age >= self.config.commit_age)
            || open.packet.len() as u64 >= self.config.commit_bytes
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        match self.open.take() {
            Some(open) => self.close(open),
            None => Ok(None),
        }
    }

    fn discard(&mut self) {
        self.gathering.discard();
        self.open = None;
        self.letters.discard();
    }

    fn gathered(&self) -> Gathered {
        self.gathering.gathered(self.config.commit_age)
    }

    fn memory(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.packet.capacity());
        open + self.sealed.bytes() + self.letters.memory()
    }
}
