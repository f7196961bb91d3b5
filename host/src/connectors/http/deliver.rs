//! Delivers what was sealed, on the committer's thread: plans it, sends it, and writes refused rows as dead letters.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Shared;
use super::dispatch::{Job, Refusal};
use super::sink::{HttpRow, LaneRows};
use crate::chain::{DeadLetter, Reason};
use crate::commit::{AddedFile, Delivery, FileRange, Role, new_file_id};
use crate::error::{Error, Kind, Result};
use crate::record::Batch;
use crate::sink::plan::{Cut, Row};
use crate::sink::{Deliver, Fence, Finish, Prepared, Refused};
use crate::zone::LetterFiles;

/// Everything that one hand-in sends.
pub struct HttpDelivery {
    pub shared: Arc<Shared>,
    pub lanes: Vec<LaneRows>,
    pub bytes: Arc<Vec<u8>>,
    pub batches: Vec<Batch>,
}

/// Rows of the lanes, from which bodies are made.
#[derive(Debug)]
pub struct Outgoing {
    pub shared: Arc<Shared>,
    lanes: Vec<LaneRows>,
    bytes: Arc<Vec<u8>>,
}

impl Outgoing {
    pub fn rows(&self, lane: usize, rows: Range<usize>) -> &[HttpRow] {
        self.lanes
            .get(lane)
            .and_then(|lane| lane.rows.get(rows))
            .unwrap_or_default()
    }

    pub fn body(&self, lane: usize, rows: Range<usize>) -> Vec<u8> {
        let rows = self.rows(lane, rows).iter();
        let texts = rows.filter_map(|row| self.bytes.get(row.body.clone()));
        self.shared.config.body.join(texts)
    }
}

impl HttpDelivery {
    /// D1: the batches, durable.
    fn plan(&self) -> Result<Vec<Job>> {
        let config = &self.shared.config;
        let cut = Cut {
            rows: config.batch_rows,
            bytes: config.batch_bytes,
        };
        let mut jobs = Vec::new();
        for (lane, of) in self.lanes.iter().enumerate() {
            let rows = of.rows.iter().map(|row| Row {
                at: row.at,
                bytes: row.body.len(),
            });
            let rows: Vec<Row> = rows.collect();
            let planned = self
                .shared
                .plans
                .decide(&of.lane, &rows, &of.found, cut, new_file_id)?;
            jobs.extend(planned.into_iter().map(|batch| Job {
                lane,
                plan: batch.plan,
                number: batch.number,
                rows: batch.rows,
            }));
        }
        Ok(jobs)
    }
}

impl Deliver for HttpDelivery {
    fn prepare(self: Box<Self>, fence: &dyn Fence) -> Result<Prepared> {
        let jobs = self.plan()?;
        fence.holds()?;
        let HttpDelivery {
            shared,
            lanes,
            bytes,
            batches,
        } = *self;
        let ids: Vec<(usize, String)> = jobs
            .iter()
            .map(|job| (job.lane, job.plan.clone()))
            .collect();
        let outgoing = Arc::new(Outgoing {
            shared: shared.clone(),
            lanes,
            bytes,
        });
        let refusals = shared.dispatcher.send(&outgoing, jobs)?;
        settled(&outgoing, &batches, &ids, refusals)
    }

    fn abandon(self: Box<Self>) {}
}

impl fmt::Debug for HttpDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpDelivery")
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

/// Each row was taken or refused. `ids`: the plans of each lane.
fn settled(
    outgoing: &Outgoing,
    batches: &[Batch],
    ids: &[(usize, String)],
    refusals: Vec<Refusal>,
) -> Result<Prepared> {
    let mut prepared = Prepared {
        letters: letters(outgoing, batches, &refusals)?,
        ..Prepared::default()
    };
    for (lane, of) in outgoing.lanes.iter().enumerate() {
        let mut refused = vec![false; of.rows.len()];
        for refusal in refusals.iter().filter(|refusal| refusal.lane == lane) {
            refused[refusal.rows.clone()].fill(true);
        }
        let sums = counted(&of.rows, &refused);
        if sums.rows > 0 {
            let so_far = prepared.refused.entry(of.lane.split.clone()).or_default();
            so_far.rows += sums.rows;
            so_far.records += sums.records;
            so_far.in_part += sums.in_part;
        }
        let taken = of
            .rows
            .iter()
            .zip(&refused)
            .filter(|(_, refused)| !**refused);
        let taken: Vec<i64> = taken.map(|(row, _)| row.at.offset).collect();
        let id = ids.iter().find(|(of, _)| *of == lane);
        if let (Some(first), Some(last), Some((_, id))) = (taken.first(), taken.last(), id) {
            prepared.deliveries.push(Delivery {
                id: id.clone(),
                role: Role::Rows,
                sink: super::SINK.name.to_owned(),
                target: outgoing.shared.config.target(),
                rows: taken.len() as u64,
                ranges: vec![FileRange {
                    split: of.lane.split.clone(),
                    from: *first,
                    to: *last + 1,
                    rows: taken.len() as u64,
                }],
                token: None,
            });
        }
    }
    Ok(prepared)
}

/// How the refused rows of a lane change its span. Rows of one record follow each other.
fn counted(rows: &[HttpRow], refused: &[bool]) -> Refused {
    let mut sums = Refused::default();
    let both: Vec<(&HttpRow, bool)> = rows.iter().zip(refused.iter().copied()).collect();
    for record in both.chunk_by(|(a, _), (b, _)| (a.batch, a.record) == (b.batch, b.record)) {
        let gone = record.iter().filter(|(_, refused)| *refused).count();
        sums.rows += gone as u64;
        if gone == record.len() {
            sums.records += 1;
        }
        let alone = record.iter().any(|(row, _)| row.alone || row.in_part);
        if gone > 0 && !alone {
            sums.in_part += 1;
        }
    }
    sums
}

/// The refused rows as dead letters, in durable files.
fn letters(outgoing: &Outgoing, batches: &[Batch], refusals: &[Refusal]) -> Result<Vec<AddedFile>> {
    let mut of_batch: BTreeMap<(usize, u32, u32), DeadLetter> = BTreeMap::new();
    for refusal in refusals {
        for row in outgoing.rows(refusal.lane, refusal.rows.clone()) {
            let letter = DeadLetter {
                record: row.record,
                piece: (!row.alone).then_some(row.at.row),
                by: outgoing.shared.by.clone(),
                reasons: vec![Reason {
                    code: refusal.code.clone(),
                    field: None,
                    message: refusal.message.clone(),
                }],
            };
            of_batch.insert((row.batch, row.record, row.at.row), letter);
        }
    }
    let mut files = LetterFiles::new(outgoing.shared.letters.clone());
    let all: Vec<_> = of_batch.into_iter().collect();
    for letters in all.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
        let Some(batch) = letters.first().and_then(|((at, ..), _)| batches.get(*at)) else {
            return Err(Error::new(Kind::Bug, "http.letters", "a row of no batch"));
        };
        let letters: Vec<DeadLetter> = letters.iter().map(|(_, letter)| letter.clone()).collect();
        files.add(batch, &letters)?;
    }
    let closed = files.close()?.into_iter();
    closed.map(|written| Box::new(written).finish()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::plan::Coordinate;

    #[test]
    fn records_and_pieces_count_as_the_chain_counts_them() {
        let row = |record: u32, row: u32, alone, in_part| HttpRow {
            at: Coordinate {
                offset: i64::from(record),
                row,
            },
            body: 0..0,
            batch: 0,
            record,
            alone,
            in_part,
            key: 0,
        };
        let rows = [
            row(0, 0, true, false),
            row(1, 0, false, false),
            row(1, 1, false, false),
            row(2, 0, false, false),
            row(2, 1, false, false),
            row(3, 1, false, true),
            row(4, 0, true, false),
        ];
        let refused = [true, true, true, true, false, true, false];
        let expected = Refused {
            rows: 5,
            // 0 and 1 whole, 3 because a rule had refused the rest of it.
            records: 3,
            // 1 and 2; 3 counts already.
            in_part: 2,
        };
        assert_eq!(counted(&rows, &refused), expected);
    }
}
