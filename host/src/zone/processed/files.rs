//! Writes the rows that a batch keeps: partition after partition, bucket after bucket, sorted, each file with its key sidecar.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray};
use arrow_schema::{Schema, SchemaRef};

use super::piece::{From, Shape, Share};
use super::runs::InOrder;
use super::{CHUNK_BYTES, CHUNK_ROWS, Target, arrow_failed, bug};
use crate::chain::Column;
use crate::commit::{Role, new_file_id};
use crate::error::Result;
use crate::sink::Finish;
use crate::zone::bits::Bits;
use crate::zone::bucket::tail;
use crate::zone::dedup::Candidate;
use crate::zone::file::{Birth, Order, Plain, RowsFile, Written, fits};
use crate::zone::keys::{Key, write_key_stream};
use crate::zone::layout::{Partition, tailed_path};
use crate::zone::partition::Period;
use crate::zone::sorter::Sorter;

/// Most files that wait for the committer with an open handle, on a local disk: the system writes them out meanwhile.
/// Further ones are made durable at once; those of a store behind a network, which hold parts in memory, always.
const OPEN_FILES: usize = 16;

/// All rows in order, and the numbers of those that are left out.
pub struct Kept<'a> {
    pub rows: &'a mut InOrder,
    pub duplicate: &'a mut Bits,
}

/// `still` is asked for each chunk whether to go on.
pub fn write(
    target: &Target,
    shape: &Shape,
    kept: &mut Kept<'_>,
    dropped: Option<&str>,
    still: &dyn Fn() -> Result<()>,
) -> Result<Vec<Box<dyn Finish>>> {
    let Kept { rows, duplicate } = kept;
    let mut files = Files::new(target, shape, dropped);
    let (mut picks, mut bytes) = (Vec::new(), 0);
    while let Some((slot, row)) = rows.next()? {
        let piece = rows.piece(slot);
        let piece = piece.ok_or_else(|| bug("a row that is no longer held"))?;
        let (mark, width) = (&piece.marks[row], piece.width(row));
        let share = mark.share();
        let gone = duplicate.get(mark.at.number)?;
        if files.share() != Some(share) && !gone {
            still()?;
            files.take(rows, &mut picks)?;
            files.turn(share)?;
            bytes = 0;
        }
        if !gone {
            picks.push((slot, row));
            bytes += width;
        }
        if picks.len() >= CHUNK_ROWS || bytes >= CHUNK_BYTES || rows.retired() > CHUNK_BYTES {
            still()?;
            files.take(rows, &mut picks)?;
            rows.release();
            bytes = 0;
        }
    }
    files.take(rows, &mut picks)?;
    files.close()?;
    let done = files.done.into_iter();
    Ok(done.map(|file| Box::new(file) as Box<dyn Finish>).collect())
}

struct Files<'a> {
    target: &'a Target,
    /// Without the partition column.
    schema: SchemaRef,
    columns: Vec<From>,
    plain: Plain,
    turn: Option<Turn>,
    done: Vec<Written>,
}

/// The share that is written, and its open file.
struct Turn {
    share: Share,
    open: Option<Open>,
}

struct Open {
    file: RowsFile,
    keys: Option<Sorter<Key>>,
    /// By split: least and last offset, and rows.
    covered: Vec<Option<(i64, i64, u64)>>,
}

impl<'a> Files<'a> {
    fn new(target: &'a Target, shape: &Shape, dropped: Option<&str>) -> Files<'a> {
        let fields = target.schema.fields().iter().enumerate();
        let kept = fields.filter(|(_, field)| Some(field.name().as_str()) != dropped);
        let (columns, fields) = kept
            .map(|(i, f)| (shape.own[i], f.clone()))
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Files {
            target,
            schema: Arc::new(Schema::new(fields)),
            columns,
            plain: Plain::new(),
            turn: None,
            done: Vec::new(),
        }
    }

    fn share(&self) -> Option<Share> {
        self.turn.as_ref().map(|turn| turn.share)
    }

    fn turn(&mut self, share: Share) -> Result<()> {
        self.close()?;
        self.turn = Some(Turn { share, open: None });
        Ok(())
    }

    /// Writes picked rows of the share whose turn it is.
    fn take(&mut self, rows: &InOrder, picks: &mut Vec<(usize, usize)>) -> Result<()> {
        if picks.is_empty() {
            return Ok(());
        }
        let most = self.target.options.target_bytes;
        let full = |open: &mut Open| open.file.size() >= most;
        if let Some(open) = self.turn.as_mut().and_then(|turn| turn.open.take_if(full)) {
            self.finish(open)?;
        }
        let columns = self.gather(rows, picks)?;
        let open = match self.turn.as_mut().map(|turn| &mut turn.open) {
            Some(Some(open)) => open,
            _ => {
                let open = self.create()?;
                let turn = self.turn.as_mut();
                turn.ok_or_else(|| bug("rows before their share"))?
                    .open
                    .insert(open)
            }
        };
        open.file.write(&columns, picks.len())?;
        for (slot, row) in picks.drain(..) {
            let Some(piece) = rows.piece(slot) else {
                continue;
            };
            let mark = &piece.marks[row];
            open.cover(mark.at.rank, mark.at.offset);
            if let (Some(keys), Some(key)) = (&mut open.keys, mark.key()) {
                keys.push(key)?;
            }
        }
        Ok(())
    }

    fn gather(&self, rows: &InOrder, picks: &[(usize, usize)]) -> Result<Vec<Column>> {
        let carried = self.columns.iter().filter_map(|from| match from {
            From::Carried(at) => Some(*at),
            _ => None,
        });
        let carried: Vec<usize> = carried.collect();
        let mut carried = rows
            .gather(picks, &carried)
            .map_err(arrow_failed)?
            .into_iter();
        let marks = picks
            .iter()
            .filter_map(|(slot, row)| Some(rows.piece(*slot)?.marks[*row].at));
        let marks: Vec<Candidate> = marks.collect();
        let columns = self.columns.iter().map(|from| {
            let values: Option<ArrayRef> = match from {
                From::Carried(_) => carried.next(),
                From::Topic => return Ok(self.topics(&marks)),
                From::Partition => Some(Arc::new(Int32Array::from_iter_values(
                    marks
                        .iter()
                        .map(|m| self.target.splits[m.rank as usize].partition),
                ))),
                From::Offset => {
                    let offsets = marks.iter().map(|m| m.offset);
                    Some(Arc::new(Int64Array::from_iter_values(offsets)))
                }
                From::Row => {
                    let pieces = marks.iter().map(|m| m.row);
                    Some(Arc::new(Int32Array::from_iter_values(pieces)))
                }
            };
            let values = values.ok_or_else(|| bug("a column that was not gathered"))?;
            Ok(Column {
                values,
                constant: false,
            })
        });
        columns.collect()
    }

    /// Mostly one.
    fn topics(&self, marks: &[Candidate]) -> Column {
        let topic = |mark: &Candidate| &*self.target.splits[mark.rank as usize].topic;
        let first = marks.first().map(topic);
        let constant = marks.iter().all(|mark| Some(topic(mark)) == first);
        let some = if constant { &marks[..1] } else { marks };
        let values = StringArray::from_iter_values(some.iter().map(topic));
        Column {
            values: Arc::new(values),
            constant,
        }
    }

    fn partition(&self) -> Partition {
        let period = Period::of_code(self.share().unwrap_or_default().period);
        let by = self.target.options.partition.iter();
        by.map(|by| (by.name.clone(), by.value(period))).collect()
    }

    fn create(&self) -> Result<Open> {
        let options = &self.target.options;
        let partition = self.partition();
        let file = new_file_id();
        let bucket = self.share().unwrap_or_default().bucket;
        let tail = tail(options.bucket.as_ref().map(|_| bucket));
        let path = tailed_path(&options.table, &partition, &file, &tail);
        let birth = self.birth(&file, &path, Role::Rows, partition)?;
        let sorted = options.order();
        let order = Order::Given(&sorted);
        let (store, plain) = (&self.target.store, self.plain.clone());
        Ok(Open {
            file: RowsFile::in_order(store, birth, &self.schema, &options.parquet, plain, order)?,
            keys: match options.dedup.is_empty() {
                true => None,
                false => Some(Sorter::new(&self.target.spill, self.target.shares().keys)),
            },
            covered: vec![None; self.target.splits.len()],
        })
    }

    fn birth(&self, file: &str, path: &str, role: Role, partition: Partition) -> Result<Birth> {
        let name = &self.target.options.name;
        let place = name.place(file, path);
        fits(self.target.store.as_ref(), &place)?;
        Ok(Birth {
            place,
            role,
            partition,
            pipeline: name.pipeline.clone(),
        })
    }

    fn close(&mut self) -> Result<()> {
        match self.turn.as_mut().and_then(|turn| turn.open.take()) {
            Some(open) => self.finish(open),
            None => Ok(()),
        }
    }

    /// Closes a file and writes its sidecar.
    fn finish(&mut self, open: Open) -> Result<()> {
        let Open {
            mut file,
            keys,
            covered,
        } = open;
        for (split, covered) in self.target.splits.iter().zip(covered) {
            if let Some((from, last, rows)) = covered {
                file.cover(&split.split, from, last + 1, rows);
            }
        }
        let (mut written, plain) = file.close()?;
        self.plain = plain;
        let sidecar = match keys {
            Some(keys) => {
                let id = new_file_id();
                let path = self.target.options.name.keys(&id);
                let birth = self.birth(&id, &path, Role::Keys, self.partition())?;
                let ranges = written.added().ranges.clone();
                written.added_mut().keys = Some(id);
                let (store, scheme) = (&self.target.store, &self.target.scheme);
                let keys = keys.finish()?;
                Some(write_key_stream(
                    store,
                    birth,
                    scheme,
                    keys.iter()?,
                    ranges,
                )?)
            }
            None => None,
        };
        for written in [Some(written), sidecar].into_iter().flatten() {
            let full = self.done.len() >= OPEN_FILES || self.target.store.is_far();
            self.done
                .push(if full { written.settle()? } else { written });
        }
        Ok(())
    }
}

impl Open {
    fn cover(&mut self, rank: u32, offset: i64) {
        match self.covered.get_mut(rank as usize) {
            Some(Some((from, last, rows))) => {
                (*from, *last) = ((*from).min(offset), (*last).max(offset));
                *rows += 1;
            }
            Some(none) => *none = Some((offset, offset, 1)),
            None => {}
        }
    }
}
