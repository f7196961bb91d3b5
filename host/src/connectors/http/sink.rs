//! A task's rows for the API: rendered as they come, sealed for [`super::deliver`].

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::body::Renderer;
use super::deliver::HttpDelivery;
use super::{Order, Shared};
use crate::chain::{Applied, DeadLetter, Reason};
use crate::error::Result;
use crate::record::{Batch, SplitId};
use crate::sink::covered::Gathering;
use crate::sink::held::HandedIn;
use crate::sink::lanes::{Lanes, OfLane, REST_WITHIN};
use crate::sink::plan::{Coordinate, Lane};
use crate::sink::{Deliver, Finish, Gathered, Sealed, Sink};
use crate::zone::LetterFiles;

/// About how much memory a row takes beside its bytes.
const ROW_BYTES: usize = size_of::<HttpRow>();
/// The same of a dead letter, with a short reason.
const LETTER_BYTES: usize = 256;

/// A rendered row.
#[derive(Clone, Debug)]
pub struct HttpRow {
    pub at: Coordinate,
    /// Where it is in the bytes of its lane.
    pub body: Range<usize>,
    /// Which of the lane's batches it is from, and its record there.
    pub batch: usize,
    pub record: u32,
    /// It is the only row of its record, and no piece of the record was refused.
    pub alone: bool,
    /// A piece of its record was refused before.
    pub in_part: bool,
    /// Digest of its key, where batches keep the order of keys.
    pub key: u64,
}

/// Rows of one lane since the last seal.
#[derive(Debug, Default)]
pub struct LaneRows {
    pub rows: Vec<HttpRow>,
    pub bytes: Vec<u8>,
    pub batches: Vec<Batch>,
    /// Dead letters of the same records, with the number of their batch, as long as the lane may be left out of a seal.
    letters: Vec<(usize, Vec<DeadLetter>)>,
}

impl LaneRows {
    /// About how much memory they take.
    fn memory(&self) -> usize {
        let batches: usize = self.batches.iter().map(Batch::bytes).sum();
        let letters: usize = self.letters.iter().map(|(_, letters)| letters.len()).sum();
        self.bytes.len() + self.rows.len() * ROW_BYTES + batches + letters * LETTER_BYTES
    }

    /// Rows of a batch, and its dead letters if they stay here.
    fn keep(&mut self, batch: &Batch, rows: usize, letters: Vec<DeadLetter>) {
        if !letters.is_empty() {
            self.letters.push((self.batches.len(), letters));
        } else if rows == 0 {
            return;
        }
        self.batches.push(batch.clone());
    }

    fn write_letters(&mut self, to: &mut LetterFiles) -> Result<()> {
        for (at, letters) in self.letters.drain(..) {
            if let Some(batch) = self.batches.get(at) {
                to.add(batch, &letters)?;
            }
        }
        Ok(())
    }
}

pub struct HttpSink {
    shared: Arc<Shared>,
    gathering: Gathering,
    lanes: Lanes<LaneRows>,
    /// Of lanes that the next seal takes.
    letters: LetterFiles,
    handed_in: HandedIn,
}

impl HttpSink {
    pub fn new(shared: Arc<Shared>) -> HttpSink {
        HttpSink {
            letters: LetterFiles::new(shared.letters.clone()),
            gathering: Gathering::new(shared.context.base.clone(), shared.context.clock.clone()),
            shared,
            lanes: Lanes::new(REST_WITHIN),
            handed_in: HandedIn::default(),
        }
    }

    fn take(&mut self, batch: &Batch, mut applied: Applied) -> Result<()> {
        if batch.covers.range.from == batch.covers.range.to {
            return Ok(());
        }
        let shared = self.shared.clone();
        let of = self.lanes.of(Lane {
            split: batch.covers.split.clone(),
            epoch: batch.covers.epoch,
            rules: applied.rules.clone(),
        });
        let (mut rendered, refused) = render(&shared, batch, &applied, &mut of.rows.bytes)?;
        let gone = shared.refusing.refuse(batch, &mut applied, refused)?;
        rendered.retain(|row| !gone.contains(&row.row));
        self.gathering.cover(batch, &applied)?;
        follow(&shared, of, batch, &applied, rendered)?;
        of.covered(batch.covers.range.to, shared.context.clock.elapsed());
        let letters = std::mem::take(&mut applied.dead_letters);
        if of.may_be_left_out() {
            of.rows.keep(batch, applied.table.rows, letters);
        } else {
            of.rows.write_letters(&mut self.letters)?;
            self.letters.add(batch, &letters)?;
            of.rows.keep(batch, applied.table.rows, Vec::new());
        }
        Ok(())
    }

    fn close(&mut self, left_out: &BTreeSet<SplitId>) -> Result<Option<Sealed>> {
        let sealed = |of: &&mut OfLane<LaneRows>| !left_out.contains(&of.lane.split);
        for of in self.lanes.iter_mut().filter(sealed) {
            of.rows.write_letters(&mut self.letters)?;
        }
        let mut files: Vec<Box<dyn Finish>> = Vec::new();
        for written in self.letters.close()? {
            files.push(Box::new(written));
        }
        let lanes = self.lanes.take(left_out);
        let mut deliveries: Vec<Box<dyn Deliver>> = Vec::new();
        if !lanes.is_empty() {
            let bytes = lanes.iter().map(|taken| taken.rows.memory()).sum();
            deliveries.push(Box::new(HttpDelivery {
                shared: self.shared.clone(),
                lanes,
                held: self.handed_in.hold(bytes),
            }));
        }
        Ok(self.gathering.seal_without(left_out, files, deliveries))
    }
}

/// A row that can be sent: its index, its bytes, and the digest of its key.
struct Rendered {
    row: usize,
    body: Range<usize>,
    key: u64,
}

/// A row that cannot be sent, and why.
type Unsent = (usize, Reason);

/// Appends the rows to `out`.
fn render(
    shared: &Shared,
    batch: &Batch,
    applied: &Applied,
    out: &mut Vec<u8>,
) -> Result<(Vec<Rendered>, Vec<Unsent>)> {
    let renderer = Renderer::new(&shared.config.body, batch, applied)?;
    let (mut rendered, mut refused) = (Vec::new(), Vec::new());
    for row in 0..applied.table.rows {
        match renderer.row(row, out) {
            Ok(body) => {
                let key = match &shared.config.order {
                    Order::Key(column) => short(&renderer.key(column, row)?),
                    Order::None | Order::Partition => 0,
                };
                rendered.push(Rendered { row, body, key });
            }
            Err(reason) => refused.push((row, reason)),
        }
    }
    Ok((rendered, refused))
}

/// `applied` has only the rows that were rendered.
fn follow(
    shared: &Shared,
    of: &mut OfLane<LaneRows>,
    batch: &Batch,
    applied: &Applied,
    rendered: Vec<Rendered>,
) -> Result<()> {
    let letters = &applied.dead_letters;
    for (row, Rendered { body, key, .. }) in rendered.into_iter().enumerate() {
        let record = applied.record[row];
        let at = Coordinate {
            offset: batch.offset.value(record as usize),
            row: applied.piece[row],
        };
        of.row(&shared.plans, at)?;
        let first = letters.partition_point(|letter| letter.record < record);
        let mut of_record = letters[first..].iter().take_while(|l| l.record == record);
        of.rows.rows.push(HttpRow {
            at,
            body,
            batch: of.rows.batches.len(),
            record,
            alone: applied.is_alone(row),
            in_part: of_record.any(|letter| letter.piece.is_some()),
            key,
        });
    }
    Ok(())
}

impl Sink for HttpSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.take(batch, applied)
    }

    /// By what a seal would take.
    fn should_roll(&self) -> bool {
        let waiting = self.lanes.waiting(self.shared.context.clock.elapsed());
        let Some(age) = self.gathering.age_without(&waiting) else {
            return false;
        };
        let sealed = |of: &&OfLane<LaneRows>| !waiting.contains(&of.lane.split);
        let rows = self
            .lanes
            .iter()
            .filter(sealed)
            .map(|of| of.rows.rows.len());
        let config = &self.shared.config;
        age >= config.commit_age || rows.sum::<usize>() >= config.commit_rows
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        if self.gathering.age().is_none() {
            return Ok(None);
        }
        let left_out = self.lanes.left_out(self.shared.context.clock.elapsed())?;
        self.close(&left_out)
    }

    fn waits(&self) -> bool {
        let now = self.shared.context.clock.elapsed();
        !self.lanes.waiting(now).is_empty()
    }

    fn awaited(&self) -> Vec<SplitId> {
        self.lanes.awaited()
    }

    fn put_off(&mut self, split: &SplitId, passed: Duration) {
        let now = self.shared.context.clock.elapsed();
        self.lanes.put_off(split, passed, now);
    }

    fn lost(&mut self, split: &SplitId) {
        self.lanes.lost(split);
    }

    fn discard(&mut self) {
        self.gathering.discard();
        self.lanes.discard();
        self.letters.discard();
    }

    fn gathered(&self) -> Gathered {
        self.gathering.gathered(self.shared.config.commit_age)
    }

    /// A plan is read to its end, whatever the budget is now: it fitted into a budget before.
    fn memory(&self) -> usize {
        let counts = |of: &&OfLane<LaneRows>| !of.is_inside();
        let lanes = self.lanes.iter().filter(counts).map(|of| of.rows.memory());
        lanes.sum::<usize>() + self.letters.memory() + self.handed_in.bytes()
    }
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSink")
            .field("lanes", &self.lanes.iter().count())
            .finish_non_exhaustive()
    }
}

fn short(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}
