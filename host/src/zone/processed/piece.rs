//! Rows in memory with what decides their order: partition, bucket, sort columns, then the order of RAW's log.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_row::{RowConverter, Rows as SortRows};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{arrow_failed, bug};
use crate::config::SortBy;
use crate::error::Result;
use crate::record::{OFFSET, PARTITION, ROW, TOPIC};
use crate::zone::dedup::Candidate;
use crate::zone::keys::Key;
use crate::zone::sorter::Record;
use crate::zone::sorting::converter;

/// Columns that a row's mark says too: they need not be carried.
const MARKED: [(&str, DataType); 4] = [
    (TOPIC, DataType::Utf8),
    (PARTITION, DataType::Int32),
    (OFFSET, DataType::Int64),
    (ROW, DataType::Int32),
];

/// What decides about a row, beside its columns.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Place in RAW's log, partition, number in the batch; the key only if it is [`keyed`](Mark::keyed).
    pub at: Candidate,
    pub keyed: bool,
    /// 0 where rows are not divided.
    pub bucket: u32,
}

/// Which files a row comes into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// [`Period::code`](crate::zone::partition::Period::code)
    pub period: i32,
    pub bucket: u32,
}

impl Mark {
    const BYTES: usize = Candidate::BYTES + 5;

    pub fn key(&self) -> Option<Key> {
        self.keyed.then(|| self.at.key())
    }

    pub fn share(&self) -> Share {
        Share {
            period: self.at.period,
            bucket: self.bucket,
        }
    }

    fn place(&self) -> (u64, u32, i64, i32) {
        (self.at.version, self.at.rank, self.at.offset, self.at.row)
    }
}

/// What all rows of a batch have in common.
#[derive(Debug)]
pub struct Shape {
    /// The columns of the rows; for each its place among those that are carried, or which of [`MARKED`] it is.
    pub own: Vec<From>,
    /// Places in the rows' schema.
    carried: Vec<usize>,
    /// Carried columns, then the marks.
    pub whole: SchemaRef,
    /// Among the carried columns.
    sort: Vec<usize>,
    converter: RowConverter,
}

/// Where a column comes from when rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Carried(usize),
    Topic,
    Partition,
    Offset,
    Row,
}

impl Shape {
    pub fn new(own: &SchemaRef, sort: &[SortBy]) -> Result<Shape> {
        let (mut from, mut carried) = (Vec::new(), Vec::new());
        for (at, field) in own.fields().iter().enumerate() {
            let marked = [From::Topic, From::Partition, From::Offset, From::Row];
            let found = MARKED.iter().zip(marked).find(|((name, of), _)| {
                let sorted = sort.iter().any(|by| by.column == *name);
                field.name() == name && field.data_type() == of && !sorted
            });
            from.push(match found {
                Some((_, marked)) => marked,
                None => {
                    carried.push(at);
                    From::Carried(carried.len() - 1)
                }
            });
        }
        let converter = converter(own, sort)?;
        let find = |by: &SortBy| {
            let mut carried = carried.iter();
            let found = carried.position(|at| *own.field(*at).name() == by.column);
            found.ok_or_else(|| bug("rows without a column they were checked for"))
        };
        let sort: Vec<usize> = sort.iter().map(find).collect::<Result<_>>()?;
        let marks = Field::new("mark", DataType::FixedSizeBinary(Mark::BYTES as i32), false);
        let fields = carried.iter().map(|at| own.fields()[*at].clone());
        let fields: Vec<_> = fields.chain([Arc::new(marks)]).collect();
        Ok(Shape {
            own: from,
            carried,
            whole: Arc::new(Schema::new(fields)),
            sort,
            converter,
        })
    }

    /// The carried columns of rows in the schema of the batch.
    pub fn carry(&self, rows: &RecordBatch, marks: Vec<Mark>) -> Result<Piece> {
        let columns = self.carried.iter().map(|at| rows.column(*at).clone());
        self.piece(columns.collect(), marks)
    }

    /// From what [`Piece::batch`] made.
    pub fn read(&self, batch: &RecordBatch) -> Result<Piece> {
        let wrong = || bug("rows of another shape than the batch has");
        let (marks, columns) = batch.columns().split_last().ok_or_else(wrong)?;
        let marks = marks.as_fixed_size_binary_opt().ok_or_else(wrong)?;
        let mark = |bytes: &[u8]| {
            let (at, rest) = bytes.split_at(Candidate::BYTES);
            let mut bucket = [0; 4];
            bucket.copy_from_slice(&rest[1..]);
            Mark {
                at: Candidate::get(at),
                keyed: rest[0] != 0,
                bucket: u32::from_le_bytes(bucket),
            }
        };
        let marks = (0..marks.len()).map(|i| mark(marks.value(i)));
        self.piece(columns.to_vec(), marks.collect())
    }

    /// What is written to disk.
    pub fn batch(&self, mut columns: Vec<ArrayRef>, marks: &[Mark]) -> Result<RecordBatch> {
        let mut bytes = Vec::with_capacity(marks.len() * Mark::BYTES);
        for mark in marks {
            mark.at.put(&mut bytes);
            bytes.push(u8::from(mark.keyed));
            bytes.extend(mark.bucket.to_le_bytes());
        }
        let bytes = Buffer::from_vec(bytes);
        let marks = FixedSizeBinaryArray::try_new(Mark::BYTES as i32, bytes, None);
        columns.push(Arc::new(marks.map_err(arrow_failed)?));
        RecordBatch::try_new(self.whole.clone(), columns).map_err(arrow_failed)
    }

    fn piece(&self, columns: Vec<ArrayRef>, marks: Vec<Mark>) -> Result<Piece> {
        let sorted: Vec<ArrayRef> = self.sort.iter().map(|i| columns[*i].clone()).collect();
        let sort = match sorted.is_empty() {
            true => None,
            false => Some(
                self.converter
                    .convert_columns(&sorted)
                    .map_err(arrow_failed)?,
            ),
        };
        let bytes = columns.iter().map(|column| column.get_array_memory_size());
        Ok(Piece {
            widths: Widths::of(&columns, marks.len()),
            memory: bytes.sum::<usize>()
                + sort.as_ref().map_or(0, SortRows::size)
                + marks.len() * size_of::<Mark>(),
            sort,
            marks,
            columns,
        })
    }

    /// Memory of such a piece, about.
    pub fn memory(&self, columns: &[ArrayRef], rows: usize) -> usize {
        let bytes = columns.iter().map(|column| column.get_array_memory_size());
        let sorted = self
            .sort
            .iter()
            .map(|i| columns[*i].get_array_memory_size());
        bytes.sum::<usize>() + sorted.sum::<usize>() + rows * size_of::<Mark>() * 2
    }
}

#[derive(Debug)]
pub struct Piece {
    pub columns: Vec<ArrayRef>,
    pub marks: Vec<Mark>,
    sort: Option<SortRows>,
    widths: Widths,
    memory: usize,
}

impl Piece {
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Bytes of one row, about.
    pub fn width(&self, row: usize) -> usize {
        self.widths.of_row(row)
    }

    /// Memory of one row when it is merged, about: see [`Shape::memory`].
    pub fn held(&self, row: usize) -> usize {
        let sort = self
            .sort
            .as_ref()
            .map_or(0, |sort| sort.row(row).data().len());
        self.width(row) + sort + size_of::<Mark>() * 2
    }

    /// The first bytes of the sort columns, as a number that is ordered like them.
    pub fn head(&self, row: usize) -> u128 {
        let Some(sort) = &self.sort else {
            return 0;
        };
        let bytes = sort.row(row);
        let bytes = bytes.data();
        let mut head = [0; 16];
        let len = bytes.len().min(16);
        head[..len].copy_from_slice(&bytes[..len]);
        u128::from_be_bytes(head)
    }

    /// The order of two rows of one share with the same head.
    pub fn after_head(&self, row: usize, other: &Piece, at: usize) -> Ordering {
        let sorted = match (&self.sort, &other.sort) {
            (Some(a), Some(b)) => a.row(row).cmp(&b.row(at)),
            _ => Ordering::Equal,
        };
        sorted.then_with(|| self.marks[row].place().cmp(&other.marks[at].place()))
    }
}

/// How wide each row is.
#[derive(Debug)]
struct Widths {
    /// Bytes of a row in columns of one width, and in columns that are not counted row by row.
    fixed: usize,
    small: Vec<OffsetBuffer<i32>>,
    large: Vec<OffsetBuffer<i64>>,
}

impl Widths {
    fn of(columns: &[ArrayRef], rows: usize) -> Widths {
        let (mut small, mut large, mut bytes) = (Vec::new(), Vec::new(), 0);
        for column in columns {
            match column.data_type() {
                DataType::Utf8 => small.push(column.as_string::<i32>().offsets().clone()),
                DataType::Binary => small.push(column.as_binary::<i32>().offsets().clone()),
                DataType::LargeUtf8 => large.push(column.as_string::<i64>().offsets().clone()),
                DataType::LargeBinary => large.push(column.as_binary::<i64>().offsets().clone()),
                _ => {
                    let data = column.to_data();
                    bytes += data.get_slice_memory_size().unwrap_or(0);
                }
            }
        }
        let offsets = (small.len() + large.len()) * size_of::<i32>();
        Widths {
            fixed: bytes.div_ceil(rows.max(1)) + offsets + Mark::BYTES,
            small,
            large,
        }
    }

    fn of_row(&self, row: usize) -> usize {
        let small = self.small.iter().map(|o| (o[row + 1] - o[row]) as usize);
        let large = self.large.iter().map(|o| (o[row + 1] - o[row]) as usize);
        self.fixed + small.sum::<usize>() + large.sum::<usize>()
    }
}
