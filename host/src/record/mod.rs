//! Records and where they come from: plain data, no I/O.
//!
//! A [`Batch`] holds records of one partition in ascending offset order and the range of offsets it [`Covers`], which
//! may be wider than the records in it: compaction, aborted transactions and filtered records leave gaps, and an empty
//! batch still advances. Topic, partition, offset and `_row` together are a row's identity.

mod times;

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, StringArray};
use arrow_array::{StructArray, TimestampMicrosecondArray, UInt32Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

pub use times::{Latency, RecordTimes};

/// Names of the columns a first transform sees (contract `setup.input`).
pub const VALUE: &str = "value";
pub const KEY: &str = "key";
pub const HEADERS: &str = "headers";
pub const TOPIC: &str = "_topic";
pub const PARTITION: &str = "_partition";
pub const OFFSET: &str = "_offset";
pub const TIMESTAMP: &str = "_timestamp";
/// Ordinal of a row inside its record; 0 where no transform explodes.
pub const ROW: &str = "_row";
/// Columns that the host writes into every row.
pub const SYSTEM: [&str; 5] = [TOPIC, PARTITION, OFFSET, ROW, TIMESTAMP];

/// A column's name as SQL engines compare it: Spark and Hive ignore case by default, DuckDB always.
pub fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// One ordered sequence of positions: `kafka/<cluster id>/<topic id>/<partition>` and the like (docs/protocol.md §2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(from = "String", into = "String")]
pub struct SplitId(Arc<str>);

impl From<String> for SplitId {
    fn from(id: String) -> Self {
        SplitId(id.into())
    }
}

impl From<SplitId> for String {
    fn from(id: SplitId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl SplitId {
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        SplitId(id.into())
    }

    /// If a broker gives no topic id (librdkafka's mock cluster), the topic's name is used instead.
    pub fn kafka(cluster: &str, topic_id: &str, partition: i32) -> Self {
        SplitId(format!("kafka/{cluster}/{topic_id}/{partition}").into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SplitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// `[from, to)`: `to` is the next offset to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetRange {
    pub from: i64,
    pub to: i64,
}

/// The offsets that a batch accounts for: wider than its records if offsets are missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Covers {
    pub split: SplitId,
    pub epoch: u64,
    pub tp: TopicPartition,
    pub range: OffsetRange,
}

/// Records of one partition, ascending by offset, as columns.
#[derive(Clone, Debug)]
pub struct Batch {
    pub covers: Covers,
    /// Null = tombstone.
    pub value: BinaryArray,
    pub key: BinaryArray,
    /// `List<Struct<name: Utf8, value: Binary?>>`; `None` when no record of the batch has a header.
    pub headers: Option<ListArray>,
    pub offset: Int64Array,
    /// UTC; null if the broker gave none.
    pub timestamp: TimestampMicrosecondArray,
}

impl Batch {
    pub fn len(&self) -> usize {
        arrow_array::Array::len(&self.offset)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.value.value_data().len() + self.key.value_data().len()
    }

    /// Bytes of value, key and headers of one record.
    pub fn bytes_of(&self, record: usize) -> usize {
        let of = |bytes: &BinaryArray| bytes.value_length(record).max(0) as usize;
        let headers = self.headers.as_ref().map_or(0, |headers| {
            let data = arrow_array::Array::to_data(&headers.value(record));
            data.get_slice_memory_size().unwrap_or(0)
        });
        of(&self.value) + of(&self.key) + headers
    }

    /// Cuts it at an offset inside of what it covers; the copies hold nothing of each other.
    pub fn cut(&self, at: i64) -> (Batch, Batch) {
        let below = self.offset.values().partition_point(|offset| *offset < at);
        let OffsetRange { from, to } = self.covers.range;
        let at = at.clamp(from, to);
        let taken = |all: &ListArray, range: &std::ops::Range<usize>| {
            let rows = range.clone().filter_map(|row| u32::try_from(row).ok());
            let copied = arrow_select::take::take(all, &UInt32Array::from_iter_values(rows), None);
            copied.map_or_else(
                |_| all.slice(range.start, range.len()),
                |list| list.as_list::<i32>().clone(),
            )
        };
        let part = |range: std::ops::Range<usize>, from: i64, to: i64| Batch {
            covers: Covers {
                range: OffsetRange { from, to },
                ..self.covers.clone()
            },
            value: self
                .value
                .iter()
                .skip(range.start)
                .take(range.len())
                .collect(),
            key: self
                .key
                .iter()
                .skip(range.start)
                .take(range.len())
                .collect(),
            headers: self.headers.as_ref().map(|all| taken(all, &range)),
            offset: self.offset.slice(range.start, range.len()),
            timestamp: self.timestamp.slice(range.start, range.len()),
        };
        (part(0..below, from, at), part(below..self.len(), at, to))
    }

    /// The columns of [`input_schema`], in its order. The second value is true if the column holds one value for all
    /// rows.
    pub fn columns(&self) -> Vec<(ArrayRef, bool)> {
        let headers: (ArrayRef, bool) = match &self.headers {
            Some(h) => (Arc::new(h.clone()), false),
            None => (empty_headers(), true),
        };
        vec![
            (Arc::new(self.value.clone()), false),
            (Arc::new(self.key.clone()), false),
            headers,
            (
                Arc::new(StringArray::from(vec![self.covers.tp.topic.as_ref()])),
                true,
            ),
            (
                Arc::new(Int32Array::from(vec![self.covers.tp.partition])),
                true,
            ),
            (Arc::new(self.offset.clone()), false),
            (Arc::new(self.timestamp.clone()), false),
        ]
    }
}

/// `value, key, headers, _topic, _partition, _offset, _timestamp` with the contract's types.
pub fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(VALUE, DataType::Binary, true),
        Field::new(KEY, DataType::Binary, true),
        Field::new(HEADERS, headers_type(), false),
        Field::new(TOPIC, DataType::Utf8, false),
        Field::new(PARTITION, DataType::Int32, false),
        Field::new(OFFSET, DataType::Int64, false),
        Field::new(TIMESTAMP, timestamp_type(), true),
    ]))
}

pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

pub fn headers_type() -> DataType {
    DataType::List(header_item())
}

fn header_item() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(header_fields()), false))
}

fn header_fields() -> Fields {
    Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ])
}

fn empty_headers() -> ArrayRef {
    headers_array(&[0, 0], StringBuilder::new(), BinaryBuilder::new())
}

fn headers_array(ends: &[i32], mut names: StringBuilder, mut values: BinaryBuilder) -> ArrayRef {
    let items = StructArray::new(
        header_fields(),
        vec![Arc::new(names.finish()), Arc::new(values.finish())],
        None,
    );
    let offsets = OffsetBuffer::new(ScalarBuffer::from(ends.to_vec()));
    Arc::new(ListArray::new(
        header_item(),
        offsets,
        Arc::new(items),
        None,
    ))
}

/// Collects records of one partition into a [`Batch`].
#[derive(Debug)]
pub struct BatchBuilder {
    value: BinaryBuilder,
    key: BinaryBuilder,
    /// Offsets of the headers list: one more entry than records.
    header_ends: Vec<i32>,
    header_names: StringBuilder,
    header_values: BinaryBuilder,
    offset: Vec<i64>,
    timestamp: Vec<Option<i64>>,
    bytes: usize,
    /// Records, and bytes of their values, of the last batch: the next one gets this room with its first record.
    room: (usize, usize),
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    pub fn new() -> Self {
        BatchBuilder {
            value: BinaryBuilder::new(),
            key: BinaryBuilder::new(),
            header_ends: vec![0],
            header_names: StringBuilder::new(),
            header_values: BinaryBuilder::new(),
            offset: Vec::new(),
            timestamp: Vec::new(),
            bytes: 0,
            room: (0, 0),
        }
    }

    pub fn len(&self) -> usize {
        self.offset.len()
    }

    pub fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// Bytes of keys, values and headers so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `timestamp` in microseconds since 1970 UTC. Offsets must ascend. `headers` are asked for after key and value are
    /// copied.
    pub fn push<'a>(
        &mut self,
        offset: i64,
        timestamp: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) {
        debug_assert!(self.offset.last().is_none_or(|last| *last < offset));
        if self.offset.is_empty() && self.room.0 > 1 {
            let (records, bytes) = self.room;
            self.value = BinaryBuilder::with_capacity(records, bytes);
            self.offset.reserve(records);
            self.timestamp.reserve(records);
            self.header_ends.reserve(records);
        }
        self.offset.push(offset);
        self.timestamp.push(timestamp);
        self.key.append_option(key);
        self.value.append_option(value);
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let mut end = self.header_ends.last().copied().unwrap_or(0);
        for (name, value) in headers {
            self.header_names.append_value(name);
            self.header_values.append_option(value);
            self.bytes += name.len() + value.map_or(0, <[u8]>::len);
            end += 1;
        }
        self.header_ends.push(end);
    }

    /// The batch of all records pushed since the last call; the builder is empty again.
    pub fn finish(&mut self, covers: Covers) -> Batch {
        let BatchBuilder {
            mut value,
            mut key,
            header_ends,
            header_names,
            header_values,
            offset,
            timestamp,
            ..
        } = std::mem::take(self);
        // What grows by doubling is copied again and again; an eighth more holds batches that differ a little.
        let bytes = value.values_slice().len();
        self.room = (offset.len(), bytes + bytes / 8);
        let headers = (header_ends.last() != Some(&0))
            .then(|| headers_array(&header_ends, header_names, header_values));
        Batch {
            covers,
            value: value.finish(),
            key: key.finish(),
            headers: headers.map(|h| h.as_list::<i32>().clone()),
            offset: Int64Array::from(offset),
            timestamp: TimestampMicrosecondArray::from(timestamp).with_timezone("UTC"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::Array;

    #[test]
    fn headers_stay_with_their_record() {
        let mut builder = BatchBuilder::new();
        let none = std::iter::empty;
        builder.push(3, None, None, Some(b"a"), none());
        builder.push(
            5,
            Some(7),
            Some(b"k"),
            None,
            [("h", Some(&b"1"[..])), ("h", None)].into_iter(),
        );
        builder.push(6, None, None, Some(b"c"), none());
        let covers = Covers {
            split: SplitId::kafka("c", "t", 0),
            epoch: 0,
            tp: TopicPartition {
                topic: "t".into(),
                partition: 0,
            },
            range: OffsetRange { from: 3, to: 7 },
        };
        let batch = builder.finish(covers);
        let headers = batch.headers.as_ref().expect("headers");
        let counts: Vec<usize> = (0..3).map(|i| headers.value(i).len()).collect();
        assert_eq!(counts, [0, 2, 0]);
        assert!(batch.value.is_null(1) && batch.key.is_null(0));
        for ((array, constant), field) in batch.columns().iter().zip(input_schema().fields()) {
            assert_eq!(array.data_type(), field.data_type(), "{}", field.name());
            assert_eq!(array.len(), if *constant { 1 } else { 3 });
        }
        assert!(builder.is_empty());
    }
}
