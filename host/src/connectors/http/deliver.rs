//! Delivers what was sealed, on the committer's thread: plans it, sends it, and writes refused rows as dead letters.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::Shared;
use super::dispatch::{Job, Refusal};
use super::sink::{HttpRow, LaneRows};
use crate::chain::{DeadLetter, MAX_LETTERS, Reason, codes};
use crate::commit::{AddedFile, Delivery, FileRange, Role, new_file_id};
use crate::error::{Error, Kind, Result};
use crate::sink::held::Held;
use crate::sink::lanes::Taken;
use crate::sink::plan::{Cut, Row};
use crate::sink::{Deliver, Fence, Finish, Prepared, Refused};
use crate::zone::LetterFiles;

/// Bytes of reasons that are in memory at a time, while refused rows are written.
const TEXTS_MAX: usize = 1 << 20;

/// Everything that one hand-in sends.
pub struct HttpDelivery {
    pub shared: Arc<Shared>,
    pub lanes: Vec<Taken<LaneRows>>,
    pub held: Held,
}

/// Rows of the lanes, from which bodies are made.
#[derive(Debug)]
pub struct Outgoing {
    pub shared: Arc<Shared>,
    lanes: Vec<Taken<LaneRows>>,
    _held: Held,
}

impl Outgoing {
    pub fn rows(&self, lane: usize, rows: Range<usize>) -> &[HttpRow] {
        self.lanes
            .get(lane)
            .and_then(|lane| lane.rows.rows.get(rows))
            .unwrap_or_default()
    }

    pub fn body(&self, lane: usize, rows: Range<usize>) -> Vec<u8> {
        let bytes = |row: &HttpRow| {
            let of = self.lanes.get(lane)?;
            of.rows.bytes.get(row.body.clone())
        };
        let rows = self.rows(lane, rows).iter();
        self.shared.config.body.join(rows.filter_map(bytes))
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
            let rows = of.rows.rows.iter().map(|row| Row {
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
            held,
        } = *self;
        let ids: Vec<(usize, String)> = jobs
            .iter()
            .map(|job| (job.lane, job.plan.clone()))
            .collect();
        let outgoing = Arc::new(Outgoing {
            shared: shared.clone(),
            lanes,
            _held: held,
        });
        let refusals = shared.dispatcher.send(&outgoing, jobs)?;
        settled(&outgoing, &ids, refusals)
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
    ids: &[(usize, String)],
    refusals: Vec<Refusal>,
) -> Result<Prepared> {
    let mut prepared = Prepared::default();
    // Records with so many refused rows that they are refused once.
    let mut whole: BTreeSet<(usize, usize, u32)> = BTreeSet::new();
    for (lane, of) in outgoing.lanes.iter().enumerate() {
        let rows = &of.rows.rows;
        let mut refused = vec![false; rows.len()];
        for refusal in refusals.iter().filter(|refusal| refusal.lane == lane) {
            refused[refusal.rows.clone()].fill(true);
        }
        let (sums, once) = counted(rows, &refused);
        whole.extend(
            once.into_iter()
                .map(|(batch, record)| (lane, batch, record)),
        );
        if sums.rows > 0 {
            let so_far = prepared.refused.entry(of.lane.split.clone()).or_default();
            so_far.rows += sums.rows;
            so_far.letters += sums.letters;
            so_far.records += sums.records;
            so_far.in_part += sums.in_part;
            so_far.first += sums.first;
        }
        let taken = rows.iter().zip(&refused).filter(|(_, refused)| !**refused);
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
    prepared.letters = letters(outgoing, refusals, whole)?;
    Ok(prepared)
}

/// How the refused rows of a lane change its span, and the records (batch and record) that are refused once because they have
/// too many. Rows of one record follow each other.
fn counted(rows: &[HttpRow], refused: &[bool]) -> (Refused, Vec<(usize, u32)>) {
    let (mut sums, mut once) = (Refused::default(), Vec::new());
    let both: Vec<(&HttpRow, bool)> = rows.iter().zip(refused.iter().copied()).collect();
    for record in both.chunk_by(|(a, _), (b, _)| (a.batch, a.record) == (b.batch, b.record)) {
        let gone = record.iter().filter(|(_, refused)| *refused).count();
        let before = record.iter().any(|(row, _)| row.in_part);
        let alone = before || record.iter().any(|(row, _)| row.alone);
        sums.first += u64::from(gone > 0 && !before);
        sums.rows += gone as u64;
        if gone == record.len() {
            sums.records += 1;
        }
        match record.first() {
            Some((first, _)) if gone == record.len() && gone > MAX_LETTERS && !alone => {
                once.push((first.batch, first.record));
                sums.letters += 1;
            }
            _ => {
                sums.letters += gone as u64;
                sums.in_part += u64::from(gone > 0 && !alone);
            }
        }
    }
    (sums, once)
}

/// The refused rows as dead letters, in durable files, one refusal after the other: as many may be refused as are sent. Of
/// records that are refused once (`whole`: lane, batch and record) the first row stands for all.
fn letters(
    outgoing: &Outgoing,
    mut refusals: Vec<Refusal>,
    mut whole: BTreeSet<(usize, usize, u32)>,
) -> Result<Vec<AddedFile>> {
    let all_of: BTreeSet<(usize, usize, u32)> = whole.clone();
    refusals.sort_by_key(|refusal| (refusal.lane, refusal.rows.start));
    let mut files = LetterFiles::new(outgoing.shared.letters.clone());
    for refusal in &refusals {
        let (rows, lane) = (refusal.rows.clone(), refusal.lane);
        let many = (TEXTS_MAX / refusal.message.len().max(1)).max(1);
        let of_batches = outgoing
            .rows(lane, rows)
            .chunk_by(|a, b| a.batch == b.batch);
        for rows in of_batches.flat_map(|rows| rows.chunks(many)) {
            let letter = |row: &HttpRow| {
                let record = (lane, row.batch, row.record);
                match (all_of.contains(&record), whole.remove(&record)) {
                    (true, false) => None,
                    (once, _) => Some(letter(outgoing, refusal, row, once)),
                }
            };
            let letters: Vec<DeadLetter> = rows.iter().filter_map(letter).collect();
            let batch = rows.first().and_then(|row| {
                let of = outgoing.lanes.get(lane)?;
                of.rows.batches.get(row.batch)
            });
            let Some(batch) = batch else {
                return Err(Error::new(Kind::Bug, "http.letters", "a row of no batch"));
            };
            files.add(batch, &letters)?;
        }
    }
    let closed = files.close()?.into_iter();
    closed.map(|written| Box::new(written).finish()).collect()
}

/// `once`: for the whole record.
fn letter(outgoing: &Outgoing, refusal: &Refusal, row: &HttpRow, once: bool) -> DeadLetter {
    let reason = |code: &str, message: String| Reason {
        code: code.to_owned(),
        field: None,
        message,
    };
    let told = reason(&refusal.code, refusal.message.clone());
    let many = once.then(|| {
        let message = format!(
            "more than {MAX_LETTERS} rows of this message were refused; the reason of the first follows"
        );
        reason(codes::TOO_MANY_REJECTS, message)
    });
    DeadLetter {
        record: row.record,
        piece: (!row.alone && !once).then_some(row.at.row),
        by: outgoing.shared.refusing.by.clone(),
        reasons: many.into_iter().chain([told]).collect(),
    }
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
            letters: 5,
            // 0 and 1 whole, 3 because a rule had refused the rest of it.
            records: 3,
            // 1 and 2; 3 counts already.
            in_part: 2,
            first: 3,
        };
        assert_eq!(counted(&rows, &refused), (expected, Vec::new()));
    }

    /// As a rule's refusals do.
    #[test]
    fn a_record_with_too_many_refused_rows_is_refused_once() {
        let many = MAX_LETTERS + 1;
        let row = |record: u32, row: usize| HttpRow {
            at: Coordinate {
                offset: i64::from(record),
                row: row as u32,
            },
            body: 0..0,
            batch: 3,
            record,
            alone: false,
            in_part: false,
            key: 0,
        };
        let of = |record| (0..many).map(move |n| row(record, n));
        let rows: Vec<HttpRow> = of(0).chain(of(1)).collect();
        let mut refused = vec![true; rows.len()];
        // One row of the second was taken: the others are letters of their own.
        refused[many] = false;
        let (sums, once) = counted(&rows, &refused);
        assert_eq!(once, [(3, 0)]);
        let rows = 2 * many as u64 - 1;
        assert_eq!((sums.rows, sums.letters), (rows, many as u64));
        assert_eq!((sums.records, sums.in_part, sums.first), (1, 1, 2));
    }
}
