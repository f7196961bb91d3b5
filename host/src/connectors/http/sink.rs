//! A task's rows for the API: rendered as they come, sealed for [`super::deliver`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::body::Renderer;
use super::deliver::HttpDelivery;
use super::{Order, Shared};
use crate::chain::{Applied, Reason};
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId};
use crate::sink::covered::Covered;
use crate::sink::plan::{Coordinate, Following, Lane, Plan};
use crate::sink::{Deliver, Finish, Gathered, Sealed, Sink};
use crate::zone::LetterFiles;

const OP: &str = "http.write";
/// The rest of a plan comes within this after the row before it, or it does not come (D2): its rows were in the source when
/// they were planned, so reading them again is quick.
const REST_WITHIN: Duration = Duration::from_secs(10);
/// About how much memory a row takes beside its bytes.
const ROW_BYTES: usize = size_of::<HttpRow>();

/// A rendered row.
#[derive(Clone, Debug)]
pub struct HttpRow {
    pub at: Coordinate,
    pub body: Range<usize>,
    /// Which of the batches it is from, and its record there.
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
#[derive(Debug)]
pub struct LaneRows {
    pub lane: Lane,
    pub found: Vec<Plan>,
    pub rows: Vec<HttpRow>,
}

pub struct HttpSink {
    shared: Arc<Shared>,
    covered: Option<Covered>,
    /// The position of each split after the last seal.
    next: BTreeMap<SplitId, i64>,
    lanes: Vec<(LaneRows, Following)>,
    buffer: Vec<u8>,
    batches: Vec<Batch>,
    letters: LetterFiles,
    rows: usize,
    /// When the last record came, by the clock's elapsed time.
    last: Duration,
    /// If a seal was refused because it was inside a plan: the last row of each split then.
    refused_at: Option<BTreeMap<SplitId, Coordinate>>,
    broken: bool,
}

impl HttpSink {
    pub fn new(shared: Arc<Shared>) -> HttpSink {
        HttpSink {
            letters: LetterFiles::new(shared.letters.clone()),
            shared,
            covered: None,
            next: BTreeMap::new(),
            lanes: Vec::new(),
            buffer: Vec::new(),
            batches: Vec::new(),
            rows: 0,
            last: Duration::ZERO,
            refused_at: None,
            broken: false,
        }
    }

    fn take(&mut self, batch: &Batch, mut applied: Applied) -> Result<()> {
        if batch.covers.range.from == batch.covers.range.to {
            return Ok(());
        }
        let (rendered, refused) = self.render(batch, &applied)?;
        if let (Some((_, reason)), true) = (refused.first(), self.shared.refuse_none) {
            return Err(refused_row(reason));
        }
        applied.refuse_rows(refused, &self.shared.by)?;
        let covered = self.covered.get_or_insert_with(|| {
            let context = &self.shared.context;
            Covered::new(context.base.get(), context.clock.elapsed())
        });
        covered.cover(batch, &applied, &self.next)?;
        self.last = self.shared.context.clock.elapsed();
        self.letters.add(batch, &applied.dead_letters)?;
        self.keep(batch, &applied, rendered)
    }

    /// Bytes of each row that can be sent, and why the others cannot.
    #[expect(clippy::type_complexity, reason = "two lists of one pass")]
    fn render(
        &mut self,
        batch: &Batch,
        applied: &Applied,
    ) -> Result<(Vec<(Range<usize>, u64)>, Vec<(usize, Reason)>)> {
        let renderer = Renderer::new(&self.shared.config.body, batch, applied)?;
        let (mut rendered, mut refused) = (Vec::new(), Vec::new());
        for row in 0..applied.table.rows {
            match renderer.row(row, &mut self.buffer) {
                Ok(body) => {
                    let key = match &self.shared.config.order {
                        Order::Key(column) => short(&renderer.key(column, row)?),
                        Order::None | Order::Partition => 0,
                    };
                    rendered.push((body, key));
                }
                Err(reason) => refused.push((row, reason)),
            }
        }
        Ok((rendered, refused))
    }

    /// `applied` has only the rows that were rendered.
    fn keep(
        &mut self,
        batch: &Batch,
        applied: &Applied,
        rendered: Vec<(Range<usize>, u64)>,
    ) -> Result<()> {
        if rendered.is_empty() {
            return Ok(());
        }
        let lane = Lane {
            split: batch.covers.split.clone(),
            epoch: batch.covers.epoch,
            rules: applied.rules.clone(),
        };
        let known = |(rows, _): &(LaneRows, Following)| rows.lane == lane;
        let at = match self.lanes.iter().position(known) {
            Some(at) => at,
            None => {
                // Rows of other rules were sealed before.
                self.lanes
                    .retain(|(rows, _)| rows.lane.split != lane.split || !rows.rows.is_empty());
                let rows = LaneRows {
                    lane,
                    found: Vec::new(),
                    rows: Vec::new(),
                };
                self.lanes.push((rows, Following::default()));
                self.lanes.len() - 1
            }
        };
        let (of_lane, following) = &mut self.lanes[at];
        for (row, (body, key)) in rendered.into_iter().enumerate() {
            let record = applied.record[row];
            let at = Coordinate {
                offset: batch.offset.value(record as usize),
                row: applied.piece[row],
            };
            following.row(&self.shared.plans, &of_lane.lane, at)?;
            let letters = applied.dead_letters.iter().filter(|l| l.record == record);
            of_lane.rows.push(HttpRow {
                at,
                body,
                batch: self.batches.len(),
                record,
                alone: applied.is_alone(row),
                in_part: letters.into_iter().any(|l| l.piece.is_some()),
                key,
            });
            self.rows += 1;
        }
        self.batches.push(batch.clone());
        Ok(())
    }

    /// Whether a seal now would cut a batch that was planned before.
    fn inside(&self) -> bool {
        self.lanes.iter().any(|(_, following)| following.inside())
    }

    /// D2: not inside a plan, unless its rows do not come: a second seal at the same place is allowed.
    fn may_seal(&mut self) -> Result<()> {
        if !self.inside() {
            self.refused_at = None;
            return Ok(());
        }
        let last = self
            .lanes
            .iter()
            .filter_map(|(rows, _)| Some((rows.lane.split.clone(), rows.rows.last()?.at)));
        let at: BTreeMap<SplitId, Coordinate> = last.collect();
        if self.refused_at.as_ref() == Some(&at) {
            tracing::warn!(
                "rows that were planned into a batch are gone from the source; the batch is sent without them"
            );
            self.refused_at = None;
            return Ok(());
        }
        self.refused_at = Some(at);
        let message = "a batch that was planned before is not read to its end yet";
        Err(Error::new(Kind::Conflict, OP, message))
    }

    fn close(&mut self, mut covered: Covered) -> Result<Sealed> {
        let mut files: Vec<Box<dyn Finish>> = Vec::new();
        for written in self.letters.close()? {
            files.push(Box::new(written));
        }
        for span in &covered.spans {
            self.next.insert(span.split.clone(), span.to);
        }
        let mut lanes = Vec::new();
        for (rows, following) in &mut self.lanes {
            let found = following.take();
            if !rows.rows.is_empty() {
                lanes.push(LaneRows {
                    lane: rows.lane.clone(),
                    found,
                    rows: std::mem::take(&mut rows.rows),
                });
            }
        }
        let mut deliveries: Vec<Box<dyn Deliver>> = Vec::new();
        if !lanes.is_empty() {
            deliveries.push(Box::new(HttpDelivery {
                shared: self.shared.clone(),
                lanes,
                bytes: Arc::new(std::mem::take(&mut self.buffer)),
                batches: std::mem::take(&mut self.batches),
            }));
        }
        self.buffer.clear();
        self.batches.clear();
        self.rows = 0;
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
            true => {
                let message = "the sink failed before; discard what it holds first";
                Err(Error::new(Kind::Bug, OP, message))
            }
            false => Ok(()),
        }
    }
}

impl Sink for HttpSink {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.usable()?;
        self.broken = true;
        self.take(batch, applied)?;
        self.broken = false;
        Ok(())
    }

    fn should_roll(&self) -> bool {
        let Some(covered) = &self.covered else {
            return false;
        };
        let now = self.shared.context.clock.elapsed();
        let age = now.saturating_sub(covered.since);
        let due =
            age >= self.shared.config.commit_age || self.rows >= self.shared.config.commit_rows;
        let rest_is_gone = now.saturating_sub(self.last) >= REST_WITHIN;
        due && (!self.inside() || rest_is_gone)
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        self.usable()?;
        if self.covered.is_none() {
            return Ok(None);
        }
        self.broken = true;
        self.may_seal()?;
        let sealed = match self.covered.take() {
            Some(covered) => Some(self.close(covered)?),
            None => None,
        };
        self.broken = false;
        Ok(sealed)
    }

    fn discard(&mut self) {
        self.broken = false;
        self.covered = None;
        self.next.clear();
        self.lanes.clear();
        self.buffer.clear();
        self.batches.clear();
        self.letters.discard();
        self.rows = 0;
    }

    fn gathered(&self) -> Gathered {
        let Some(covered) = &self.covered else {
            return Gathered::default();
        };
        let age = self
            .shared
            .context
            .clock
            .elapsed()
            .saturating_sub(covered.since);
        Gathered {
            records: covered.records(),
            due: Some(self.shared.config.commit_age.saturating_sub(age)),
        }
    }

    /// A plan is read to its end, whatever the budget is now: it fitted into a budget before.
    fn memory(&self) -> usize {
        if self.inside() {
            return 0;
        }
        let batches: usize = self.batches.iter().map(Batch::bytes).sum();
        self.buffer.len() + self.rows * ROW_BYTES + batches + self.letters.memory()
    }
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSink")
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

fn short(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}

fn refused_row(reason: &Reason) -> Error {
    let message = "a row cannot be sent and errors.tolerance is none";
    Error::new(Kind::RecordRefused, OP, message)
        .with("code", &reason.code)
        .with("reason", &reason.message)
        .hint("errors.tolerance = \"all\" sends refused records to the dead letters")
}
