//! One task's rows on their way to the outbox, with the dead letters and the books of the same records.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::outbox::{Held, Outbox, Parcel};
use super::rows::{Encoded, Rows};
use super::takes::Cluster;
use super::{KafkaSinkConfig, packet};
use crate::chain::{Applied, Identity};
use crate::clock::Clock;
use crate::commit::{Delivery, FileRange, Role, new_file_id};
use crate::config::{Tolerance, Unit};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId};
use crate::sink::covered::Covered;
use crate::sink::{Base, Deliver, Finish, Gathered, Sealed, Sink};
use crate::zone::LetterFiles;

/// Set up once for each task.
pub struct KafkaSink {
    pub config: KafkaSinkConfig,
    pub errors: (Tolerance, Unit),
    pub clock: Arc<dyn Clock>,
    pub base: Base,
    pub outbox: Arc<Outbox<Cluster>>,
    pub rows: Rows,
    pub letters: LetterFiles,
    pub open: Option<Open>,
    /// Where each split stands after the last seal.
    pub next: BTreeMap<SplitId, i64>,
    /// Bytes of packets that were sealed and are not sent.
    pub sealed: Arc<AtomicUsize>,
    pub broken: bool,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaSink({})", self.config.topic())
    }
}

/// Since the last seal.
#[derive(Debug)]
pub struct Open {
    covered: Covered,
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
        let encoded = self.rows.encode(batch, &applied)?;
        let left = self.refuse(batch, &mut applied, &encoded)?;
        let open = self.open.get_or_insert_with(|| Open {
            covered: Covered::new(self.base.get(), self.clock.elapsed()),
            packet: packet::new(),
            rows: 0,
            ranges: BTreeMap::new(),
        });
        open.covered.cover(batch, &applied, &self.next)?;
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

    /// Rows that are no records become dead letters; which rows are left out.
    fn refuse(
        &self,
        batch: &Batch,
        applied: &mut Applied,
        encoded: &Encoded,
    ) -> Result<BTreeSet<usize>> {
        let Some((row, reason)) = encoded.refused.first() else {
            return Ok(BTreeSet::new());
        };
        let (tolerance, unit) = self.errors;
        if tolerance == Tolerance::None {
            let record = applied
                .record
                .get(*row)
                .map_or(0, |record| *record as usize);
            let at = format!("{}@{}", batch.covers.tp, batch.offset.value(record));
            let message = "a row cannot be a record of the topic, and errors.tolerance is none";
            return Err(Error::new(Kind::RecordRefused, "kafka.rows", message)
                .with("at", at)
                .with("code", &reason.code)
                .with("reason", &reason.message)
                .hint("errors.tolerance = \"all\" sends refused records to the dead letters"));
        }
        let by = Arc::new(Identity {
            transform: "sink".to_owned(),
            plugin: "kafka".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digest: String::new(),
            config_digest: String::new(),
        });
        let pairs = |applied: &Applied| -> Vec<(u32, u32)> {
            let pairs = applied.record.iter().zip(&applied.piece);
            pairs.map(|(record, piece)| (*record, *piece)).collect()
        };
        let before = pairs(applied);
        applied.refuse_rows(encoded.refused.clone(), &by)?;
        if unit == Unit::Record {
            applied.refuse_their_records()?;
        }
        // More than those rows may be gone: all of a record. What stays is in order.
        let mut stays = pairs(applied).into_iter().peekable();
        let gone = |(row, pair): (usize, (u32, u32))| match stays.next_if_eq(&pair) {
            Some(_) => None,
            None => Some(row),
        };
        Ok(before.into_iter().enumerate().filter_map(gone).collect())
    }

    fn close(&mut self, open: Open) -> Result<Sealed> {
        let mut files: Vec<Box<dyn Finish>> = Vec::new();
        for written in self.letters.close()? {
            files.push(Box::new(written));
        }
        let Open {
            mut covered,
            packet,
            rows,
            ranges,
        } = open;
        for span in &covered.spans {
            self.next.insert(span.split.clone(), span.to);
        }
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
                held: Held::new(packet.len(), &self.sealed),
                packet,
            }));
        }
        Ok(Sealed {
            base: covered.base,
            files,
            deliveries,
            counters: covered.counters(),
            spans: covered.spans,
        })
    }

    fn usable(&self) -> Result<()> {
        match self.broken {
            true => Err(Error::new(
                Kind::Bug,
                "kafka.rows",
                "the sink failed before; discard what it holds first",
            )),
            false => Ok(()),
        }
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.usable()?;
        self.broken = true;
        self.take(batch, applied)?;
        self.broken = false;
        Ok(())
    }

    fn should_roll(&self) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        let age = self.clock.elapsed().saturating_sub(open.covered.since);
        age >= self.config.commit_age || open.packet.len() as u64 >= self.config.commit_bytes
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        self.usable()?;
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        self.broken = true;
        let sealed = self.close(open)?;
        self.broken = false;
        Ok(Some(sealed))
    }

    fn discard(&mut self) {
        self.broken = false;
        self.next.clear();
        self.open = None;
        self.letters.discard();
    }

    fn gathered(&self) -> Gathered {
        let Some(open) = &self.open else {
            return Gathered::default();
        };
        let age = self.clock.elapsed().saturating_sub(open.covered.since);
        Gathered {
            records: open.covered.records(),
            due: Some(self.config.commit_age.saturating_sub(age)),
        }
    }

    fn memory(&self) -> usize {
        let open = self.open.as_ref().map_or(0, |open| open.packet.capacity());
        open + self.sealed.load(Ordering::Relaxed) + self.letters.memory()
    }
}
