//! A row as a record: which topic and partition, key, headers, value; or why it cannot be one, before anything is committed.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, SchemaRef};

use super::topics::{self, Topics};
use super::{BATCH_OVERHEAD, Partitioner, RecordLayout, STAMP_MARGIN, packet};
use crate::chain::{Applied, Column, Reason};
use crate::error::{Error, Kind, Result};
use crate::kafka::{Outgoing, Topic, TopicTakes, less};
use crate::record::{Batch, SYSTEM};
use crate::sink::format::{Encoder, bytes, position};

/// Why a row is a dead letter here. Stable: they stand in dead letters.
pub mod codes {
    /// Key, value and headers are more than `sink.record.max.bytes`, or than the topic takes.
    pub const TOO_LARGE: &str = "record_too_large";
    /// The row names a topic that does not exist.
    pub const NO_TOPIC: &str = "no_such_topic";
    /// The row names a partition that the topic does not have.
    pub const NO_PARTITION: &str = "no_such_partition";
    /// The row names a topic that this user may not write, or one of the cluster's own.
    pub const NOT_ALLOWED: &str = "topic_not_allowed";
    /// The topic is compacted, and the row has no key.
    pub const NO_KEY: &str = "key_required";
    /// The topic does not take a timestamp so far from now.
    pub const TIMESTAMP: &str = "timestamp_not_taken";
    /// The format of the value cannot hold one of the row's values.
    pub const UNFIT: &str = "not_in_format";
}

/// Bytes of a header beside its name and value, as brokers count them at most.
const HEADER_BYTES: usize = 16;

/// The layout for the columns that the chain makes.
#[derive(Debug)]
pub struct Rows {
    layout: RecordLayout,
    topics: Arc<Topics>,
    fitted: Option<Fitted>,
}

/// Where the columns stand.
#[derive(Debug)]
struct Fitted {
    schema: SchemaRef,
    value: Encoder,
    topic: Option<usize>,
    key: Option<usize>,
    partition: Option<usize>,
    headers: Vec<(String, usize)>,
}

/// The records of one batch, of which some rows may turn out to be none.
#[derive(Debug, Default)]
pub struct Encoded {
    bytes: Vec<u8>,
    /// Where the record of each row ends.
    ends: Vec<usize>,
    /// Ascending by row.
    pub refused: Vec<(usize, Reason)>,
}

impl Encoded {
    /// Appends the records of those rows that `goes` takes.
    pub fn append_to(&self, packet: &mut Vec<u8>, goes: impl Fn(usize) -> bool) {
        let begins = std::iter::once(&0).chain(&self.ends);
        for (row, (from, to)) in begins.zip(&self.ends).enumerate() {
            if goes(row) {
                packet.extend_from_slice(self.bytes.get(*from..*to).unwrap_or_default());
            }
        }
    }
}

impl Rows {
    pub fn new(layout: RecordLayout, topics: Arc<Topics>) -> Rows {
        Rows {
            layout,
            topics,
            fitted: None,
        }
    }

    /// Every row of the batch. An error is the cluster's, or the config's: columns that are not there.
    pub fn encode(&mut self, batch: &Batch, applied: &Applied) -> Result<Encoded> {
        let schema = &applied.table.schema;
        if self
            .fitted
            .as_ref()
            .is_none_or(|fitted| fitted.schema != *schema)
        {
            self.fitted = Some(fit(&self.layout, schema)?);
        }
        let mut encoded = Encoded::default();
        let Some(fitted) = &self.fitted else {
            return Ok(encoded);
        };
        let one = One {
            layout: &self.layout,
            fitted,
            topics: &self.topics,
            batch,
            applied,
        };
        let mut scratch = Scratch::default();
        for row in 0..applied.table.rows {
            if let Err(refused) = one.row(row, &mut scratch, &mut encoded.bytes)? {
                encoded.refused.push((row, refused));
            }
            encoded.ends.push(encoded.bytes.len());
        }
        Ok(encoded)
    }
}

/// The columns that a config names are there, and of types that mean something.
fn fit(layout: &RecordLayout, schema: &SchemaRef) -> Result<Fitted> {
    let wrong = |key: &'static str, message: String| {
        Error::new(Kind::ConfigInvalid, "kafka.rows", message).with("key", key)
    };
    let find = |key: &'static str, name: &Option<String>| -> Result<Option<usize>> {
        let Some(name) = name else {
            return Ok(None);
        };
        let found = position(schema, name).map(Some);
        found.map_err(|missing| wrong(key, format!("`{key}`: {missing}")))
    };
    let text = |key: &'static str, at: Option<usize>| -> Result<Option<usize>> {
        match at.map(|at| schema.field(at).data_type()) {
            None | Some(DataType::Utf8) => Ok(at),
            Some(other) => Err(wrong(
                key,
                format!("`{key}`: expected a column of text, found {other}"),
            )),
        }
    };
    let number = |key: &'static str, at: Option<usize>| -> Result<Option<usize>> {
        match at.map(|at| schema.field(at).data_type()) {
            None | Some(DataType::Int32 | DataType::Int64) => Ok(at),
            Some(other) => Err(wrong(
                key,
                format!("`{key}`: expected a column of whole numbers, found {other}"),
            )),
        }
    };
    let headers = layout.headers.iter().map(|name| {
        let at = find("sink.headers.columns", &Some(name.clone()))?;
        Ok((name.clone(), at.unwrap_or_default()))
    });
    let own = |name: &str| !SYSTEM.contains(&name);
    let value = Encoder::new(&layout.format, schema, layout.columns.as_deref(), own);
    Ok(Fitted {
        schema: schema.clone(),
        value: value.map_err(|message| {
            wrong(
                "sink.value.format",
                format!("the value of a record: {message}"),
            )
        })?,
        topic: text(
            "sink.topic.column",
            find("sink.topic.column", &layout.topic_column)?,
        )?,
        key: find("sink.key.column", &layout.key)?,
        partition: match &layout.partitioner {
            Partitioner::Column(name) => number(
                "sink.partition.column",
                find("sink.partition.column", &Some(name.clone()))?,
            )?,
            _ => None,
        },
        headers: headers.collect::<Result<_>>()?,
    })
}

/// Buffers of one record, used again for the next.
#[derive(Default)]
struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<Option<Vec<u8>>>,
    /// The topic of the record before.
    topic: Option<(String, Arc<Topic>)>,
}

impl Scratch {
    fn find(&mut self, topics: &Topics, name: &str) -> Result<Arc<Topic>> {
        if let Some((before, found)) = &self.topic
            && before == name
        {
            return Ok(found.clone());
        }
        let found = topics.find(name)?;
        self.topic = Some((name.to_owned(), found.clone()));
        Ok(found)
    }
}

struct One<'a> {
    layout: &'a RecordLayout,
    fitted: &'a Fitted,
    topics: &'a Topics,
    batch: &'a Batch,
    applied: &'a Applied,
}

/// A value of a column; `None` where it is null.
type Found<'a> = Option<(&'a ArrayRef, usize)>;

impl One<'_> {
    fn cell(&self, at: usize, row: usize) -> Found<'_> {
        let Column { values, constant } = self.applied.table.columns.get(at)?;
        let row = if *constant { 0 } else { row };
        (!values.is_null(row)).then_some((values, row))
    }

    fn row(
        &self,
        row: usize,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<std::result::Result<(), Reason>> {
        let record = self
            .applied
            .record
            .get(row)
            .map_or(0, |record| *record as usize);
        let named = self.fitted.topic.and_then(|at| self.cell(at, row));
        let named = named.map(|(values, row)| values.as_string::<i32>().value(row));
        let topic = named.unwrap_or(&self.layout.topic);
        let found = scratch.find(self.topics, topic)?;
        let takes = match self.takes(&found, named)? {
            Ok(takes) => takes,
            Err(refused) => return Ok(Err(refused)),
        };
        let partition = match self.place(topic, takes.partitions, row) {
            Ok(partition) => partition,
            Err(refused) => return Ok(Err(refused)),
        };
        let key = self.fitted.key.and_then(|at| self.cell(at, row));
        scratch.key.clear();
        if let Some((values, row)) = key {
            bytes(values, row, &mut scratch.key);
        }
        scratch.value.clear();
        let there = match self
            .fitted
            .value
            .write(&self.applied.table, row, &mut scratch.value)
        {
            Ok(there) => there,
            Err(unfit) => return Ok(Err(reason(codes::UNFIT, Some(unfit.column), unfit.why))),
        };
        self.headers(row, &mut scratch.headers);
        let headers = self.named(record, &scratch.headers);
        let outgoing = Outgoing {
            key: key.is_some().then_some(&scratch.key),
            value: there.then_some(&scratch.value),
            headers: &headers,
            partition,
            timestamp: self.timestamp(record),
        };
        if let Err(refused) = self.fits(topic, takes, &outgoing) {
            return Ok(Err(refused));
        }
        packet::add(out, topic, &outgoing);
        Ok(Ok(()))
    }

    /// What the topic takes; or why the row that names it cannot go there. An error: it is the topic of the config.
    fn takes<'t>(
        &self,
        found: &'t Topic,
        named: Option<&str>,
    ) -> Result<std::result::Result<&'t TopicTakes, Reason>> {
        let refused = |code: &str, message: String| {
            Ok(Err(reason(code, self.layout.topic_column.clone(), message)))
        };
        match (found, named) {
            (Topic::Takes(takes), _) if takes.write != Some(false) => Ok(Ok(takes)),
            (Topic::None, Some(name)) => refused(
                codes::NO_TOPIC,
                format!("the cluster has no topic `{name}`"),
            ),
            (_, Some(name)) if name.starts_with(topics::INTERNAL) => refused(
                codes::NOT_ALLOWED,
                format!("`{name}`: topics that begin with `__` are the cluster's own"),
            ),
            (_, Some(name)) => refused(
                codes::NOT_ALLOWED,
                format!("this user may not write topic `{name}`: it needs WRITE and DESCRIBE"),
            ),
            (Topic::None, None) => Err(topics::gone(&self.layout.topic)),
            (_, None) => Err(topics::may_not_write(&self.layout.topic)),
        }
    }

    /// The partition that the row names, if it names one; or why it cannot go there.
    fn place(
        &self,
        topic: &str,
        partitions: i32,
        row: usize,
    ) -> std::result::Result<Option<i32>, Reason> {
        let partition = self.partition(row);
        if let Some(wanted) = partition
            && !(0..i64::from(partitions)).contains(&wanted)
        {
            let message =
                format!("topic `{topic}` has {partitions} partitions, the row names {wanted}");
            let column = self.layout.partition_column();
            return Err(reason(codes::NO_PARTITION, column, message));
        }
        Ok(partition.and_then(|wanted| i32::try_from(wanted).ok()))
    }

    /// What the broker would refuse for good is refused here.
    fn fits(
        &self,
        topic: &str,
        takes: &TopicTakes,
        out: &Outgoing<'_>,
    ) -> std::result::Result<(), Reason> {
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let size = of(out.key) + of(out.value) + out.headers.iter().map(size_of).sum::<usize>();
        let by_topic = takes.batch_bytes.unwrap_or(usize::MAX);
        let by_topic = by_topic.saturating_sub(BATCH_OVERHEAD);
        let most = self.layout.record_bytes.min(by_topic);
        if size > most {
            let limit = match by_topic < self.layout.record_bytes {
                true => format!("max.message.bytes of topic `{topic}`, less {BATCH_OVERHEAD}"),
                false => "sink.record.max.bytes".to_owned(),
            };
            let message = format!(
                "key, value and headers have {size} bytes, expected at most {most} ({limit})"
            );
            return Err(reason(codes::TOO_LARGE, None, message));
        }
        if takes.wants_keys && out.key.is_none() {
            let message = format!("topic `{topic}` is compacted and takes no record without a key");
            return Err(reason(codes::NO_KEY, self.layout.key.clone(), message));
        }
        let Some(at) = out.timestamp else {
            return Ok(());
        };
        let now = || self.topics.now();
        let too_far = |most: Option<i64>, far: &dyn Fn() -> i64, way: &str| match most {
            Some(most) if far() > less(most, STAMP_MARGIN) => Err(reason(
                codes::TIMESTAMP,
                None,
                format!(
                    "the timestamp {at} is {} ms {way} now, and topic `{topic}` takes at most {most} \
                     (message.timestamp.{way}.max.ms), less {} for the way there",
                    far(),
                    most - less(most, STAMP_MARGIN)
                ),
            )),
            _ => Ok(()),
        };
        too_far(takes.after, &|| at.saturating_sub(now()), "after")?;
        too_far(takes.before, &|| now().saturating_sub(at), "before")
    }

    fn partition(&self, row: usize) -> Option<i64> {
        match (&self.layout.partitioner, self.fitted.partition) {
            (Partitioner::Source, _) => Some(self.batch.covers.tp.partition.into()),
            (Partitioner::Column(_), Some(at)) => {
                let (values, row) = self.cell(at, row)?;
                Some(match values.data_type() {
                    DataType::Int32 => values.as_primitive::<Int32Type>().value(row).into(),
                    _ => values.as_primitive::<Int64Type>().value(row),
                })
            }
            _ => None,
        }
    }

    fn headers(&self, row: usize, values: &mut Vec<Option<Vec<u8>>>) {
        values.clear();
        for (_, at) in &self.fitted.headers {
            values.push(self.cell(*at, row).map(|(array, row)| {
                let mut value = Vec::new();
                bytes(array, row, &mut value);
                value
            }));
        }
    }

    /// Those of the record first, then the columns'.
    fn named<'b>(
        &'b self,
        record: usize,
        values: &'b [Option<Vec<u8>>],
    ) -> Vec<(&'b str, Option<&'b [u8]>)> {
        let mut all = Vec::new();
        if self.layout.keeps_headers
            && let Some(headers) = &self.batch.headers
        {
            let offsets = headers.value_offsets();
            let (from, to) = (offsets[record] as usize, offsets[record + 1] as usize);
            let items = headers.values().as_struct();
            let (names, bytes) = (
                items.column(0).as_string::<i32>(),
                items.column(1).as_binary::<i32>(),
            );
            all.extend((from..to).map(|at| {
                let value = bytes.is_valid(at).then(|| bytes.value(at));
                (names.value(at), value)
            }));
        }
        let named = self.fitted.headers.iter().zip(values);
        all.extend(named.map(|((name, _), value)| (name.as_str(), value.as_deref())));
        all
    }

    /// Milliseconds; `None`: when it is sent.
    fn timestamp(&self, record: usize) -> Option<i64> {
        let times = &self.batch.timestamp;
        let keeps = self.layout.keeps_timestamp && times.is_valid(record);
        keeps.then(|| times.value(record).div_euclid(1000))
    }
}

fn size_of((name, value): &(&str, Option<&[u8]>)) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + HEADER_BYTES
}

fn reason(code: &str, field: Option<String>, message: String) -> Reason {
    Reason {
        code: code.to_owned(),
        field,
        message,
    }
}
