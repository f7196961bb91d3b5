//! The keys of a zone that is read and of one that is written, and the checks between them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{ZoneSinkConfig, columns, files};

use crate::config::keys::Default::{Derived, Is, Required, Unset};
use crate::config::keys::Group::{Sink, Source};
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::Scope::{Always, Records};
use crate::config::keys::{KeyDef, Scope, joined, keys};
use crate::config::shape::unit::{DAY, GIB, HOUR, KIB, MIB, MS, SECOND, bytes, duration, int};
use crate::config::shape::{Shape, Value};
use crate::config::{
    self, Bucket, Checker, Compact, Gives, Home, OnTypeChange, Prefixed, ProcessedZoneConfig,
    Rotate, SinkConfig, SortBy,
};
use crate::config::{Encodings, show_bytes};
use crate::config::{SinkType, SourceType, System, TableName, Trigger, reach};
use crate::config::{ZoneSourceConfig, problem, store_keys};
use crate::record::{SYSTEM, fold};
use crate::store::{self, NAME_MAX};
use crate::zone::{VALUE_MAX, escape};

/// Most bytes that one open file of an object store holds: a part that is being filled, and one that is being sent.
const UPLOAD_BYTES: u64 = 16 << 20;

/// Least memory of a file that is open for each bucket.
const BUCKET_BYTES: u64 = 1 << 20;

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
    pattern: None,
    check: check_source,
    build: source,
};

pub const SINK: SinkType = SinkType {
    name: "zone",
    keys: SINK_KEYS,
    prefixed: Some(Prefixed {
        prefix: columns::PREFIX,
        doc: "How one column is written: `sink.columns.<column>.compression`, `.bloom`, `.fpp`, `.ndv`.",
        check: columns::check,
    }),
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
        "Codec of the files: `none`, `snappy`, `lz4` (Parquet's `LZ4_RAW`), `gzip-1` to `gzip-9` (`gzip`: 6) or `zstd-1` to `zstd-22`. Of a single column: `sink.columns.<column>.compression`. Avro takes the codec, and each at its usual level. A file of JSON, CSV or bytes takes memory by the level while it is open, once it has 256 KiB of rows: 3 MiB at zstd-1, 90 MiB at zstd-19; a level is refused with which one file takes more than half of a task's part of `memory.budget`.";
    "sink.encodings": Shape::Choice(&["packed", "plain"]), Is("packed"), Low, Sink, Always,
        "How values are written that no dictionary holds: `packed` (`DELTA_BINARY_PACKED` for numbers, dates and times, `DELTA_LENGTH_BYTE_ARRAY` for texts) or `plain`, for readers that are older than these encodings.";
    "sink.row.group.bytes": bytes(MIB, 512 * MIB), Is("16MiB"), Low, Sink, Always,
        "Size of a row group in memory. Larger ones read a little faster and cost memory in every task.";
    "sink.rotate.bytes": bytes(64 * KIB, 16 * GIB), Is("128MiB"), High, Sink, Records,
        "Close the files and commit when one of them has so many bytes. With `sink.rotate.age` the one knob between latency and file size.";
    "sink.rotate.age": duration(100 * MS, DAY), Is("60s"), High, Sink, Records,
        "Close the files and commit when the oldest uncommitted record has waited so long.";
    "sink.rotate.rows": int(0, 1_000_000_000_000), Is("0"), Low, Sink, Records,
        "Close the files and commit after so many rows. 0: never for this reason.";
    "sink.keep.value": Shape::Flag, Is("false"), Medium, Sink, Records,
        "Keep the original bytes of every record in a column `_value`.";
    "sink.retention": duration(SECOND, 87_600 * HOUR), Unset, High, Sink, Always,
        "So long rows stay in the zone, from their commit on; then they leave it, the oldest first, and never before each pipeline that reads the zone has read them. Not set: for good. See `retention.grace`, `archive.url`.";
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
    "sink.format": Shape::Choice(&["parquet", "json", "avro", "csv", "bytes"]), Is("parquet"), High, Sink, ZONE_SINK,
        "What the files of rows of records are: Parquet; one JSON object a line; Avro object containers; CSV, where null is an empty field and an empty text is `\"\"` (alone in its line, null is that too), and a row with bytes that are no UTF-8 is refused (`not_in_format`); or the bytes of one column, one value after the other. In Avro a name has ASCII letters, digits and `_`: each other character becomes `_`. Only Parquet is read back by Weir: another pipeline's `source.type = \"zone\"`, `sink.compact.every` and `sink.sort` need it. Dead letters are Parquet always.";
    "sink.file.column": Shape::Field, Derived("`value` for `bytes`; for `json` and `csv` all columns"), Medium, Sink, ZONE_SINK,
        "The column whose value is all that is written of a row, with `sink.format` `json`, `csv` or `bytes`.";
    "sink.file.text": Shape::Choice(&["string", "json"]), Is("string"), Medium, Sink, ZONE_SINK,
        "What a text in `sink.file.column` is: a JSON string, or JSON that is written as it is, on one line; then a text that is no JSON is refused (`not_json`).";
    "sink.file.system": Shape::Flag, Is("true"), Medium, Sink, ZONE_SINK,
        "Whether the rows of JSON, CSV and Avro files have `_topic`, `_partition`, `_offset`, `_row` and `_timestamp`. Parquet files always have them.";
    "sink.file.names": Shape::Choice(&["id", "offsets"]), Is("id"), Low, Sink, ZONE_SINK,
        "`offsets`: each file has the rows of one partition, and topic, partition and the offset of its first row are in its name, behind the id: `<id>.orders+0+0000000042.json`.";
    "sink.file.offset.digits": int(0, 20), Is("10"), Low, Sink, ZONE_SINK,
        "Digits of the offset in a file's name, filled with zeros.";
    "sink.file.extension": Shape::Name, Derived("`json`, `csv`, `avro`, or `bin` for `bytes`"), Low, Sink, ZONE_SINK,
        "What files that are not Parquet end with. `.gz` or `.zst` of `sink.compression` comes behind it.";
    "sink.file.separator": Shape::Exact, Is("\\n"), Low, Sink, ZONE_SINK,
        "What stands behind each value with `sink.format = \"bytes\"`. `\\n`, `\\r`, `\\t`, `\\0` and `\\\\` are read as in C, and the characters themselves are taken too; `none` is nothing. Blanks count, and are refused around an escape or `none`.";
    "sink.file.header": Shape::Flag, Is("true"), Low, Sink, ZONE_SINK,
        "Whether the first line of each CSV file has the names of the columns.";
    "sink.file.delimiter": Shape::Exact, Is(","), Low, Sink, ZONE_SINK,
        "What stands between the fields of a CSV line: one ASCII character, a tab as it is or as `tab` or `\\t`.";
    "sink.file.open": int(1, 10_000), Is("100"), Low, Sink, ZONE_SINK,
        "Most files of rows that are open in a task. If rows for another directory come, the file that got none for longest is closed; it is in the same commit.";
    "sink.tombstones": Shape::Choice(&["write", "drop", "refuse"]), Is("write"), Medium, Sink, ZONE_SINK,
        "What becomes of the rows of records without a value: they are written, as any; dropped and counted as filtered; or refused (`no_value`). A transform that reads values decides before.";
    "sink.partition.by": Shape::Choice(&["ingestion", "record", "time", "columns", "partition", "none"]), Is("ingestion"), High, Sink, ZONE_SINK,
        "What decides the directory of a row of records: the time of its ingestion, the time of its record, the time in the column that `sink.partition.columns` names, the values of those columns (`name=value`, one below the other), or Kafka's partition (`partition=N`); `none`: there are no directories. A row without such a time is refused (`no_directory`), and so is one whose directory would have a name of more than 255 bytes, or a path that is longer than the store takes.";
    "sink.partition.columns": Shape::Fields, Unset, High, Sink, ZONE_SINK,
        "Columns of `sink.partition.by` `time` (one) or `columns`. `a.b`: field `b` of the struct `a`, or of the JSON in `sink.file.column`.";
    "sink.partition.path": Shape::Text, Derived("`'date'=yyyy-MM-dd/'hour'=HH`; for `ingestion` `ingest_date=…/ingest_hour=…`"), Medium, Sink, ZONE_SINK,
        "Directories of times, as a pattern of Joda-Time, which is that of Kafka Connect's `path.format`: `'year'=yyyy/'month'=MM/'day'=dd`.";
    "sink.partition.timezone": Shape::Text, Is("UTC"), Medium, Sink, ZONE_SINK,
        "Time zone of these directories, by its IANA name: `Europe/Berlin`.";
    "sink.partition.duration": duration(1, 366 * DAY), Unset, Low, Sink, ZONE_SINK,
        "Local times are rounded down to it before they are written by the pattern: `15m` with `HH-mm` gives `10-45`. Not set: the pattern alone decides.";
    "sink.partition.unit": Shape::Text, Is("auto"), Low, Sink, ZONE_SINK,
        "What numbers and texts in the column of `sink.partition.by = \"time\"` are. `auto`: milliseconds since 1970, and ISO 8601; `seconds`, `micros`; or a strftime pattern with `%`. Times without an offset are UTC.";
    "sink.partition.escape": Shape::Flag, Is("true"), Low, Sink, ZONE_SINK,
        "Whether values of `sink.partition.by = \"columns\"` are escaped as Hive does and null is `__HIVE_DEFAULT_PARTITION__`. `false`: as Kafka Connect writes them, null is `null`, a `/` begins another directory; only what the store does not take in a name is escaped: `..`, `\\`, control characters, and `:` on HDFS.";
    "sink.bucket.columns": Shape::Fields, Unset, Low, Sink, ZONE_SINK,
        "Rows with the same values in these columns lie in files of the same number, `…_00003.c000.parquet`, as in a bucketed table of Spark: `pmod(hash(columns), count)`. Not set: rows are not divided.";
    "sink.bucket.count": int(2, 1024), Unset, Low, Sink, ZONE_SINK,
        "Number of buckets. Each has a file in each commit; rows of records also an open file in each task, rows of a zone a file in each partition of a commit, written one after the other.";
    "sink.compact.every": duration(SECOND, 30 * DAY), Unset, Medium, Sink, ZONE_SINK,
        "While the pipeline runs, small files of closed directories become large ones, so often. Not set: only by `weir zone compact`. Closed: an hour of RAW, or a date outside of `sink.dedup.lookback`, that got no rows for two hours. Only what is older than `commit.log.retention`, and what every reader of the zone has read.";
    "sink.compact.min.files": int(2, 10_000), Is("4"), Low, Sink, ZONE_SINK,
        "Fewer small files than these of a directory stay as they are: it costs less to read them than to write them again.";
    "sink.compact.target.bytes": bytes(MIB, 16 * GIB), Is("256MiB"), Low, Sink, ZONE_SINK,
        "Size up to which files are put together. A file of half of it or more stays as it is.";
    "sink.sort": Shape::Sort, Unset, Medium, Sink, ZONE_SINK,
        "Columns by which rows are sorted, `price desc` for the other direction; the footer says so. Ascending has nulls first, descending last, as in Spark. Rows of a zone: inside files; not set: by the key of `sink.dedup.key`, and without one log order. Rows of records: inside each row group, which then holds `sink.row.group.bytes` of rows in memory; not set: as they come.";
};

const ZONE_SINK: Scope = Scope::Sink("zone");

/// `None` only where a problem was told.
fn source(checker: &Checker<'_>, home: &Home) -> Option<config::Source> {
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
            sort: sort(checker),
        },
        spill_dir: spill_dir(checker, home),
        spill_max_bytes: checker.number("spill.max.bytes")?,
    }))
}

/// As typed, or beside the log of a zone on a disk, which has room for the rows.
fn spill_dir(checker: &Checker<'_>, home: &Home) -> PathBuf {
    let typed = checker.text("spill.dir").map(PathBuf::from);
    let beside = || store::directory_of(&home.at.url).map(|root| root.join(reach::SYSTEM));
    typed.or_else(beside).unwrap_or_else(std::env::temp_dir)
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
        columns: Arc::new(columns::formats(checker)),
        sort: sort(checker),
        bucket: bucket(checker),
        files: files::files(checker)?,
        directories: files::directories(checker)?,
        compact: Compact {
            every: checker.duration("sink.compact.every"),
            min_files: checker.size("sink.compact.min.files")?,
            target_bytes: checker.number("sink.compact.target.bytes")?,
        },
    };
    Some((home, Arc::new(sink)))
}

fn bucket(checker: &Checker<'_>) -> Option<Bucket> {
    Some(Bucket {
        columns: checker.list("sink.bucket.columns")?,
        count: u32::try_from(checker.number("sink.bucket.count")?).ok()?,
    })
}

/// Both keys or none, and an open file for each bucket.
fn buckets(checker: &mut Checker<'_>) {
    const KEYS: [&str; 2] = ["sink.bucket.columns", "sink.bucket.count"];
    let typed = KEYS.map(|key| checker.typed(key));
    if let [true, false] | [false, true] = typed {
        let (there, missing) = if typed[0] {
            (KEYS[0], KEYS[1])
        } else {
            (KEYS[1], KEYS[0])
        };
        let message = format!("`{there}` without `{missing}` divides nothing");
        let hint = format!("write {missing}, or take the key out");
        checker.contradiction(there, message, &hint);
    }
    // Sorted rows of a zone are written bucket after bucket, one file at a time.
    let rows = checker
        .source
        .is_some_and(|source| source.gives == Gives::Rows);
    let (tasks, budget) = (checker.number("tasks.max"), checker.number("memory.budget"));
    let (Some(bucket), Some(tasks), Some(budget), false) = (bucket(checker), tasks, budget, rows)
    else {
        return;
    };
    let at = checker.location("sink.url");
    let far = at.is_some_and(|at| at.system().is_some_and(System::is_object_store));
    let each = if far { UPLOAD_BYTES } else { BUCKET_BYTES };
    let needed = each * u64::from(bucket.count);
    if needed > budget / tasks.max(1) {
        let message = format!(
            "`memory.budget` of {} does not hold, for each of {tasks} tasks, an open file of {} for each of {} buckets",
            show_bytes(budget),
            show_bytes(each),
            bucket.count
        );
        let hint = "lower sink.bucket.count or tasks.max, or raise memory.budget";
        checker.contradiction("sink.bucket.count", message, hint);
    }
}

fn sort(checker: &Checker<'_>) -> Vec<SortBy> {
    match checker.value("sink.sort") {
        Some(Value::Sort(by)) => by,
        _ => Vec::new(),
    }
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
        encodings: match checker.text("sink.encodings")?.as_str() {
            "plain" => Encodings::Plain,
            _ => Encodings::Packed,
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
    let rules = !checker.list("transforms").unwrap_or_default().is_empty();
    if rules && checker.text("errors.unit").as_deref() == Some("record") {
        let message = "`errors.unit`: rows of a zone are refused one by one".to_owned();
        checker
            .problem("errors.unit", problem::DOES_NOT_APPLY, message)
            .hint = Some("write errors.unit = \"row\", or take the key out".to_owned());
    }
}

fn check_sink(checker: &mut Checker<'_>) {
    store_keys::check(checker, "sink.url");
    uploads(checker);
    partitions(checker);
    columns::together(checker);
    buckets(checker);
    files::check(checker);
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
    if escape(&name).len() + 1 + VALUE_MAX > NAME_MAX {
        let message = format!(
            "`sink.partition.name`: a directory would have a name of more than {NAME_MAX} bytes, as each of `\"#%'*/:=?{{[]^` is three"
        );
        let key = "sink.partition.name";
        checker.problem(key, problem::BAD_NAME, message).hint =
            Some("choose a shorter one".to_owned());
    }
    let mut columns = checker
        .text("sink.partition.field")
        .into_iter()
        .collect::<Vec<_>>();
    columns.extend(checker.list("sink.dedup.key").unwrap_or_default());
    columns.extend(sort(checker).into_iter().map(|by| by.column));
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
