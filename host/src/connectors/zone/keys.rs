//! The keys of a zone that is read and of one that is written, and the checks between them.

use std::sync::Arc;
use std::time::Duration;

use super::ZoneSinkConfig;

use crate::config::keys::Default::{Derived, Is, Required, Unset};
use crate::config::keys::Group::{Sink, Source};
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::Scope::{Always, Records};
use crate::config::keys::{KeyDef, Scope, joined, keys};
use crate::config::shape::unit::{DAY, GIB, KIB, MIB, MS, bytes, duration, int};
use crate::config::shape::{Shape, Value};
use crate::config::show_bytes;
use crate::config::{
    self, Checker, Gives, Home, OnTypeChange, ProcessedZoneConfig, Rotate, SinkConfig,
};
use crate::config::{SinkType, SourceType, System, TableName, Trigger};
use crate::config::{ZoneSourceConfig, problem, store_keys};
use crate::record::{SYSTEM, fold};

/// Most bytes that one open file of an object store holds: a part that is being filled, and one that is being sent.
const UPLOAD_BYTES: u64 = 16 << 20;

const ZONE: Scope = Scope::Source("zone");
/// How often a zone is read by default: large batches are worth more than a short delay.
const EVERY: Duration = Duration::from_secs(3600);

pub const SOURCE: SourceType = SourceType {
    name: "zone",
    gives: Gives::Rows,
    keys: SOURCE_KEYS,
    prefixed: None,
    trigger: Trigger::Every(EVERY),
    table: |checker| checker.text("source.table").map(TableName::Fixed),
    topics: None,
    check: check_source,
    build: source,
};

pub const SINK: SinkType = SinkType {
    name: "zone",
    keys: SINK_KEYS,
    prefixed: None,
    leaves: &[],
    check: check_sink,
    build: sink,
};

const SOURCE_KEYS: &[KeyDef] =
    &joined::<{ READ.len() + store_keys::SOURCE.len() }>(READ, &store_keys::SOURCE);
const SINK_KEYS: &[KeyDef] =
    &joined::<{ WRITTEN.len() + store_keys::SINK.len() }>(WRITTEN, &store_keys::SINK);

const READ: &[KeyDef] = keys! {
    "source.url": Shape::Url, Required("the URL of the zone to read, which is the other pipeline's sink.url; of the `file` source, the directory or the bucket's prefix with the files"), High, Source, Scope::Sources(&["zone", "file"]),
        "Root of the store that is read.";
    "source.pipeline": Shape::Name, Required("the name of the pipeline that writes the zone"), High, Source, ZONE,
        "The pipeline whose commit log says what there is to read.";
    "source.zone": Shape::Name, Derived("last segment of `source.url`"), Low, Source, ZONE,
        "Name of the zone in that pipeline's log, if its `sink.zone` was set.";
    "source.table": Shape::Name, Required("the table to read; a RAW zone has one per topic, with the topic's name"), High, Source, ZONE,
        "Table of the zone that is read.";
    "source.on.type.change": Shape::Choice(&["fail", "cast", "new-column"]), Is("fail"), Medium, Source, ZONE,
        "What to do where a column has another type than in the zone that is written: stop before the first such row; give each value the type that the zone has where that is exact (a value that is not stops the pipeline and is named); or write them to a column of their own, `<name>_<type>`. What was done, and to how many values, stands in the commit log.";
};

const WRITTEN: &[KeyDef] = keys! {
    "sink.url": Shape::Url, Required("a store's URL: `file:data/raw_zone`, `file:///srv/lake/raw`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `hdfs://nameservice/path`, `memory:name`"), High, Sink, Always,
        "Root of the zone's store. Created if it is not there.";
    "sink.zone": Shape::Name, Derived("last segment of `sink.url`"), Low, Sink, Always,
        "Name of the zone in the commit log's path.";
    "sink.table": Shape::Table, Derived("`source.table` for a zone, `${topic}` for other sources"), Medium, Sink, Always,
        "Directory of the rows below the root. `${topic}`: one table per topic.";
    "sink.publish": Shape::Choice(&["complete", "copy"]), Is("complete"), Low, Sink, Always,
        "How a file gets its final name in an object store: `complete` its upload after the commit, or `copy` it from a staging name, for servers that can lose an upload when they are killed. Directories and HDFS rename.";
    "sink.compression": Shape::Compression, Is("zstd-1"), Low, Sink, Always,
        "`none`, `snappy` or `zstd-1` to `zstd-22`.";
    "sink.row.group.bytes": bytes(MIB, 512 * MIB), Is("16MiB"), Low, Sink, Always,
        "Size of a row group in memory. Larger ones read a little faster and cost memory in every task.";
    "sink.rotate.bytes": bytes(64 * KIB, 16 * GIB), Is("128MiB"), High, Sink, Records,
        "Close the files and commit after so many bytes of Parquet. With `sink.rotate.age` the one knob between latency and file size.";
    "sink.rotate.age": duration(100 * MS, DAY), Is("60s"), High, Sink, Records,
        "Close the files and commit when the oldest uncommitted record has waited so long.";
    "sink.rotate.rows": int(0, 1_000_000_000_000), Is("0"), Low, Sink, Records,
        "Close the files and commit after so many rows. 0: never for this reason.";
    "sink.keep.value": Shape::Flag, Is("false"), Medium, Sink, Records,
        "Keep the original bytes of every record in a column `_value`.";
    "sink.partition.field": Shape::Field, Required("the column whose date decides the partition, e.g. `published`"), High, Sink, ZONE,
        "Column (date, timestamp, or text that starts like an ISO date) that decides the partition of a row.";
    "sink.partition.format": Shape::DateFormat, Is("%Y-%m-%d"), High, Sink, ZONE,
        "strftime of the partition's value: `%Y-%m-%d`, `%Y-%m`, `%Y`.";
    "sink.partition.name": Shape::Field, Derived("`date`, `month` or `year`, by the format"), Low, Sink, ZONE,
        "Name of the partition directories, `<name>=<value>`. Not the name of a column.";
    "sink.dedup.key": Shape::Fields, Unset, High, Sink, ZONE,
        "Columns that identify a row. The first row of each key wins, by log order, then offset and `_row`. Not set: rows are kept as they come.";
    "sink.dedup.lookback": Shape::Days, Is("0d"), Medium, Sink, ZONE,
        "Also look for the key in the partitions of so many days before and after the touched ones.";
    "sink.sort": Shape::Fields, Unset, Medium, Sink, ZONE,
        "Columns by which rows are sorted inside files. Not set: the key of `sink.dedup.key`, and without one log order.";
};

/// `None` only where a problem was told.
fn source(checker: &Checker<'_>, _: &Home) -> Option<config::Source> {
    Some(config::Source::Zone(ZoneSourceConfig {
        at: checker.location("source.url")?,
        pipeline: checker.text("source.pipeline")?,
        zone: checker.zone("source.zone", "source.url")?,
        table: checker.text("source.table")?,
        on_type_change: match checker.text("source.on.type.change")?.as_str() {
            "cast" => OnTypeChange::Cast,
            "new-column" => OnTypeChange::NewColumn,
            _ => OnTypeChange::Fail,
        },
        layout: ProcessedZoneConfig {
            partition_field: checker.text("sink.partition.field")?,
            partition_format: checker.text("sink.partition.format")?,
            partition_name: partition_name(checker)?,
            dedup_key: checker.list("sink.dedup.key").unwrap_or_default(),
            dedup_lookback_days: u32::try_from(checker.number("sink.dedup.lookback")?).ok()?,
            sort: checker.list("sink.sort").unwrap_or_default(),
        },
    }))
}

/// `None` only where a problem was told.
fn sink(checker: &Checker<'_>) -> Option<(Home, Arc<dyn SinkConfig>)> {
    let home = home(checker)?;
    let sink = ZoneSinkConfig {
        url: home.at.url.clone(),
        table: checker.table()?,
        rotate: Rotate {
            bytes: checker.number("sink.rotate.bytes")?,
            age: checker.duration("sink.rotate.age")?,
            rows: checker.number("sink.rotate.rows").filter(|rows| *rows > 0),
        },
        keep_value: checker.value("sink.keep.value")? == Value::Flag(true),
        of_records: checker
            .source
            .is_some_and(|source| source.gives == Gives::Records),
    };
    Some((home, Arc::new(sink)))
}

/// For every sink: the zone of the log and of the dead letters. `None` only if a problem was reported.
pub fn home(checker: &Checker<'_>) -> Option<Home> {
    Some(Home {
        key: "sink.url",
        at: checker.location("sink.url")?,
        zone: checker.zone("sink.zone", "sink.url")?,
        compression: match checker.value("sink.compression")? {
            Value::Compression(compression) => compression,
            _ => return None,
        },
        row_group_bytes: checker.size("sink.row.group.bytes")?,
    })
}

/// As typed, or named after the finest part of the format.
fn partition_name(checker: &Checker<'_>) -> Option<String> {
    if checker.typed("sink.partition.name") {
        return checker.text("sink.partition.name");
    }
    let format = checker.text("sink.partition.format")?;
    let finest = [("%d", "date"), ("%m", "month")];
    let found = finest.iter().find(|(part, _)| format.contains(part));
    Some(found.map_or("year", |(_, name)| name).to_owned())
}

/// Rows of a zone were transformed when they were written; this version does not transform them again when they are
/// read.
fn check_source(checker: &mut Checker<'_>) {
    store_keys::check(checker, "source.url");
    if checker.trigger() == Some(Trigger::Continuous) {
        let message = "`trigger`: a zone is read in batches, never continuously".to_owned();
        let hint = "write `every:1h` or `available-now`";
        checker.contradiction("trigger", message, hint);
    }
    if checker.number("tasks.max").is_some_and(|tasks| tasks > 1) {
        let message = "`tasks.max`: a pipeline that reads a zone has one task".to_owned();
        checker.contradiction("tasks.max", message, "take the key out");
    }
    let listed = checker.list("transforms").unwrap_or_default();
    if !listed.is_empty() {
        let message =
            "`transforms`: a pipeline that reads a zone has none in this version".to_owned();
        checker
            .problem("transforms", problem::DOES_NOT_APPLY, message)
            .hint = Some("put them into the pipeline that fills the zone".to_owned());
    }
}

fn check_sink(checker: &mut Checker<'_>) {
    store_keys::check(checker, "sink.url");
    uploads(checker);
    partitions(checker);
}

/// On object stores: files are committed while their uploads are young (O7), and open files hold parts in memory.
fn uploads(checker: &mut Checker<'_>) {
    let Some(at) = checker.location("sink.url") else {
        return;
    };
    if !at.system().is_some_and(System::is_object_store) {
        return;
    }
    let quarter = at.options.lifetime / 4;
    if checker
        .duration("sink.rotate.age")
        .is_some_and(|age| age * 2 > quarter)
    {
        let message = "`sink.rotate.age`: files must be committed within an eighth of `sink.store.lifetime`, so that a store that is away for a while does not end their uploads".to_owned();
        let hint = "lower the age, or raise sink.store.lifetime if the bucket keeps incomplete uploads longer";
        checker.contradiction("sink.rotate.age", message, hint);
    }
    let (group, tasks, budget) = (
        checker.number("sink.row.group.bytes"),
        checker.number("tasks.max"),
        checker.number("memory.budget"),
    );
    if let (Some(group), Some(tasks), Some(budget)) = (group, tasks, budget)
        && group <= budget / tasks.max(1)
        && group + UPLOAD_BYTES > budget / tasks.max(1)
    {
        let message = format!(
            "`memory.budget` of {} does not hold, for each of {tasks} tasks, one row group of {} and the {} of an upload's parts",
            show_bytes(budget),
            show_bytes(group),
            show_bytes(UPLOAD_BYTES)
        );
        let hint = "raise memory.budget, or lower sink.row.group.bytes or tasks.max";
        checker.contradiction("memory.budget", message, hint);
    }
}

/// Partitions by a field, which rows of a zone have.
fn partitions(checker: &mut Checker<'_>) {
    if checker
        .source
        .is_none_or(|source| source.gives == Gives::Records)
    {
        return;
    }
    let Some(name) = partition_name(checker) else {
        return;
    };
    let mut columns = checker
        .text("sink.partition.field")
        .into_iter()
        .collect::<Vec<_>>();
    columns.extend(checker.list("sink.dedup.key").unwrap_or_default());
    columns.extend(checker.list("sink.sort").unwrap_or_default());
    columns.extend(SYSTEM.map(str::to_owned));
    if columns.iter().any(|column| fold(column) == fold(&name)) {
        let message = format!(
            "`sink.partition.name`: `{name}` is also a column, and engines would read one for the other"
        );
        let hint = "choose a name that no column has, such as `published_date`";
        checker.contradiction("sink.partition.name", message, hint);
    }
    let lookback = checker.number("sink.dedup.lookback").unwrap_or(0);
    if lookback > 0 && !checker.typed("sink.dedup.key") {
        let message = "`sink.dedup.lookback` without `sink.dedup.key` looks for nothing".to_owned();
        let hint = "name the key, or take the lookback out";
        checker.contradiction("sink.dedup.lookback", message, hint);
    }
}
