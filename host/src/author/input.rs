//! Input for trials of a plugin: messages of a file, a folder or a topic, or rows of columns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::{Field, Schema, SchemaRef};

use super::{cell, failed, golden, invalid};
use crate::chain::{Column, Table};
use crate::clock::Clock;
use crate::error::Result;
use crate::fs::Limit;
use crate::json::Json;
use crate::kafka::{KafkaCluster, KafkaProps, KafkaSource, Limits, Start};
use crate::record::{
    Batch, BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition, input_schema,
};
use crate::source::Source;

/// Largest file of samples, which is read as a whole; also the most that is kept of a topic.
const SAMPLES: Limit = Limit {
    bytes: 256 << 20,
    of: "a file of samples",
};
/// If a topic gives nothing for this time, its end is assumed.
const PATIENCE: Duration = Duration::from_secs(10);

/// One message, with as much of its record as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Microseconds since 1970 UTC.
    pub timestamp: Option<i64>,
    /// Its place in its topic: `topic/partition@offset`.
    pub place: Option<String>,
}

impl Message {
    /// Its name for people: its place in the topic, or its number in the input, from 1.
    pub fn name(&self, index: usize) -> String {
        match &self.place {
            Some(place) => place.clone(),
            None => format!("message {}", index + 1),
        }
    }
}

/// Messages of one file: one a line, or the whole file where it is `whole`. A folder: one message a file, in name order.
pub fn messages(path: &Path, whole: bool) -> Result<Vec<Message>> {
    let mut out = Vec::new();
    if path.is_dir() {
        for file in listed(path)? {
            out.push(message(read(&file)?));
        }
    } else if whole {
        out.push(message(read(path)?));
    } else {
        let bytes = read(path)?;
        let body = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let lines = body.split(|byte| *byte == b'\n');
        let plain = |line: &[u8]| line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        out.extend(lines.map(|line| message(plain(line))));
    }
    match out.is_empty() {
        true => Err(invalid(format!("{} holds no message", path.display()))),
        false => Ok(out),
    }
}

fn message(value: Vec<u8>) -> Message {
    Message {
        value: Some(value),
        ..Message::default()
    }
}

/// Plain files of a folder, in name order, without hidden ones.
pub fn listed(dir: &Path) -> Result<Vec<PathBuf>> {
    let cannot = |e| failed(format!("{} cannot be read", dir.display())).source(e);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    let cannot = |e| failed(format!("{} cannot be read", path.display())).source(e);
    // It is the user's own file, so it may be a pipe; the size is limited all the same.
    let file = fs::File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    if size > SAMPLES.bytes {
        let message = format!("{} has {size} bytes; {SAMPLES}", path.display());
        return Err(invalid(message).hint("head -n 1000 FILE > SAMPLE"));
    }
    crate::fs::read_open(file, SAMPLES).map_err(cannot)
}

pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|e| invalid(format!("{} is not UTF-8: {e}", path.display())))
}

/// The first `limit` records of a topic, partition by partition as they come, from the earliest that is there.
pub fn topic(
    props: &KafkaProps,
    topic: &str,
    limit: usize,
    clock: Arc<dyn Clock>,
) -> Result<Vec<Message>> {
    let cluster = KafkaCluster::connect(props)?;
    let described = cluster.describe(topic)?;
    let positions = cluster.start(&described, Start::Earliest)?;
    let mut source = KafkaSource::open(props, &positions, Limits::default(), Arc::clone(&clock))?;
    let (mut out, mut bytes) = (Vec::new(), 0);
    let mut last = clock.elapsed();
    while out.len() < limit && !source.caught_up() && clock.elapsed() - last < PATIENCE {
        let Some(batch) = source.next(Duration::from_millis(100))? else {
            continue;
        };
        last = clock.elapsed();
        bytes += batch.bytes() as u64;
        if bytes > SAMPLES.bytes {
            let read = out.len();
            let most = SAMPLES.bytes;
            let message = format!("more than {most} bytes after {read} messages of {topic}");
            return Err(invalid(message).hint("--limit N reads the first N messages"));
        }
        let wanted = (limit - out.len()).min(batch.len());
        out.extend((0..wanted).map(|row| of_batch(&batch, row)));
    }
    match out.is_empty() {
        true => Err(invalid(format!("topic {topic} holds no record"))
            .hint("`weir produce books --topic TOPIC` sends sample messages")),
        false => Ok(out),
    }
}

fn of_batch(batch: &Batch, row: usize) -> Message {
    use arrow_array::Array as _;
    let bytes =
        |array: &arrow_array::BinaryArray| array.is_valid(row).then(|| array.value(row).to_vec());
    Message {
        key: bytes(&batch.key),
        value: bytes(&batch.value),
        timestamp: batch
            .timestamp
            .is_valid(row)
            .then(|| batch.timestamp.value(row)),
        place: Some(format!(
            "{}/{}@{}",
            batch.covers.tp.topic,
            batch.covers.tp.partition,
            batch.offset.value(row)
        )),
    }
}

/// Messages as a record batch of partition 0 of `topic`, offsets from 0.
pub fn batch(topic: &str, messages: &[Message]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (offset, message) in (0i64..).zip(messages) {
        let (key, value) = (message.key.as_deref(), message.value.as_deref());
        builder.push(offset, message.timestamp, key, value, std::iter::empty());
    }
    let to = i64::try_from(messages.len()).unwrap_or(i64::MAX);
    builder.finish(Covers {
        split: SplitId::kafka("samples", topic, 0),
        epoch: 0,
        tp: TopicPartition {
            topic: topic.into(),
            partition: 0,
        },
        range: OffsetRange { from: 0, to },
    })
}

/// The seven columns of a record.
pub fn table(messages: &[Message]) -> Table {
    let batch = batch("samples", messages);
    let columns = batch.columns().into_iter();
    Table {
        schema: input_schema(),
        rows: batch.len(),
        columns: columns
            .map(|(values, constant)| Column { values, constant })
            .collect(),
    }
}

/// One JSON object per line, with columns by name. `types` gives types that JSON lacks.
pub fn rows(path: &Path, types: &BTreeMap<String, String>) -> Result<Table> {
    let text = read_text(path)?;
    let mut objects: Vec<BTreeMap<String, Json>> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let object = match Json::parse(line.as_bytes()) {
            Ok(Json::Object(members)) => Ok(members.into_iter().collect()),
            Ok(other) => Err(format!("found {}", golden::cut(&other.to_string()))),
            Err(e) => Err(e),
        };
        objects.push(object.map_err(|e| {
            invalid(format!("{}:{number}: no JSON object: {e}", path.display()))
                .hint("one row a line: {\"column\": value, …}")
        })?);
    }
    if objects.is_empty() {
        return Err(invalid(format!("{} holds no row", path.display())));
    }
    let names: BTreeSet<&String> = objects.iter().flat_map(BTreeMap::keys).collect();
    if let Some(unknown) = types.keys().find(|name| !names.contains(name)) {
        let message = format!(
            "types.toml names `{unknown}`, which no row of {} has",
            path.display()
        );
        return Err(invalid(message));
    }
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for name in names {
        let values: Vec<Json> = objects
            .iter()
            .map(|row| row.get(name).cloned().unwrap_or_default())
            .collect();
        let kind = match types.get(name) {
            Some(named) => cell::type_named(named).ok_or_else(|| {
                invalid(format!("`{named}` is no type, for column `{name}`")).hint(cell::NAMES)
            })?,
            None => cell::type_of(&values),
        };
        let values = cell::from_json(&values, &kind)
            .map_err(|e| invalid(format!("{}: column `{name}`, {e}", path.display())))?;
        fields.push(Field::new(name, kind, true));
        columns.push(Column {
            values,
            constant: false,
        });
    }
    Ok(Table {
        schema: Arc::new(Schema::new(fields)),
        rows: objects.len(),
        columns,
    })
}

/// A table of the same columns, row by row as `rows` says.
pub fn take(table: &Table, rows: &[u32]) -> Result<Table> {
    let rows_of = arrow_array::UInt32Array::from(rows.to_vec());
    let columns: Result<Vec<Column>> = table
        .columns
        .iter()
        .map(|column| match column.constant {
            true => Ok(column.clone()),
            false => {
                let values = arrow_select::take::take(&column.values, &rows_of, None)
                    .map_err(|e| failed(format!("rows cannot be taken: {e}")))?;
                Ok(Column {
                    values,
                    constant: false,
                })
            }
        })
        .collect();
    Ok(Table {
        schema: Arc::clone(&table.schema),
        rows: rows.len(),
        columns: columns?,
    })
}

/// `(name, type)` of every column, for messages.
pub fn describe(schema: &SchemaRef) -> String {
    let fields = schema.fields().iter();
    let told = fields.map(|f| format!("{} {}", f.name(), cell::name_of(f.data_type())));
    told.collect::<Vec<_>>().join(", ")
}
