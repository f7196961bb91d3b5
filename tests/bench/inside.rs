//! Measurements inside the bench's own process: the chain without a log, single plugins, and the opening of logs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir::chain::{Applied, Records, Rows, Table, Transform, TransformChain};
use weir::clock::{ManualClock, SystemClock};
use weir::commit::{
    Delivery, Draft, FileRange, Log, LogName, Open, Outcome, PreparedCommit, Role, Span, Writer,
};
use weir::config::{
    Directories, ErrorsConfig, Files, Location, Overlay, PipelineConfig, Rotate, TableName,
    Tolerance, Unit,
};
use weir::connect::load;
use weir::kafka::{KafkaCluster, KafkaProps, KafkaSource, Limits, Start};
use weir::pipeline::transforms_of;
use weir::plugin::{Places, Plugins};
use weir::record::{
    Batch, BatchBuilder, Covers, OffsetRange, SplitId, TopicPartition, input_schema,
};
use weir::sample::{Books, Dirty};
use weir::sink::refusing::Refusing;
use weir::sink::{Base, Sealed, Sink};
use weir::source::{Position, Source};
use weir::store;
use weir::zone::{ParquetOptions, ZoneOptions, ZoneSink};

use crate::child::{Place, raw_sets};
use crate::measure::{Cpu, Series, series};
use crate::native;

const TASKS: usize = 2;
/// Open files of one task hold this much before they are closed; what the child's budget comes to.
const FILES_MEMORY: usize = 48 << 20;
const POLL: Duration = Duration::from_millis(50);
/// Over the same batches, in one measurement of a plugin.
const PASSES: usize = 10;

/// The pipeline of `conf/books-raw.toml` and its plugins, both ways.
pub struct Plugged {
    pub config: PipelineConfig,
    plugins: Plugins,
    library: std::path::PathBuf,
}

impl Plugged {
    /// The transforms of `conf/books-raw.toml`, with `more` over them.
    pub fn new(place: &Place, more: &[String]) -> Plugged {
        let mut set = raw_sets("unused:9092", "unused", &place.zone("unused"));
        set.extend_from_slice(more);
        let overlay = Overlay { profile: None, set };
        let mut loaded = load(&["conf/books-raw.toml".to_owned()], &overlay);
        assert!(!loaded.has_errors(), "{:?}", loaded.problems);
        Plugged {
            config: loaded.pipelines.remove(0),
            plugins: Plugins::open(Places {
                path: place.plugins.clone(),
                store: place.store.clone(),
                cache: place.cache.clone(),
            })
            .unwrap(),
            library: place
                .root
                .join("target/guests-native/release/examples/libnative.so"),
        }
    }

    pub fn components(&self) -> Vec<Box<dyn Transform>> {
        let (transforms, problems) = transforms_of(&self.plugins, &self.config, &input_schema());
        assert!(problems.is_empty(), "{problems:?}");
        transforms
    }

    pub fn native(&self) -> Vec<Box<dyn Transform>> {
        native::transforms(&self.library, &self.config, &self.components())
    }
}

// === the chain without a log ===

/// Reads a topic to its end, in two threads as the child does, through `chains` into Parquet files that no log names.
/// Records and rows counted.
pub fn without_log(
    place: &Place,
    props: &KafkaProps,
    topic: &str,
    limits: &Limits,
    chains: Vec<TransformChain>,
) -> (u64, u64) {
    place.empty("bare");
    let store = store::open_url(&place.zone("bare")).unwrap();
    let cluster = KafkaCluster::connect(props).unwrap();
    let topic = cluster.describe(topic).unwrap();
    let positions = cluster.start(&topic, Start::Earliest).unwrap();
    let tasks = chains.len();
    std::thread::scope(|scope| {
        let threads: Vec<_> = chains
            .into_iter()
            .enumerate()
            .map(|(at, chain)| {
                let own: Vec<Position> =
                    positions.iter().skip(at).step_by(tasks).cloned().collect();
                let sink = sink(&store, LogName::new("bench", "bare"));
                scope.spawn(move || task(props, &own, limits, chain, sink))
            })
            .collect();
        let ended = threads.into_iter().map(|t| t.join().unwrap());
        ended.fold((0, 0), |(a, b), (records, rows)| (a + records, b + rows))
    })
}

fn task(
    props: &KafkaProps,
    own: &[Position],
    limits: &Limits,
    mut chain: TransformChain,
    mut sink: ZoneSink,
) -> (u64, u64) {
    let clock = SystemClock::shared();
    let mut source = KafkaSource::open(props, own, limits.clone(), clock).unwrap();
    let (mut records, mut rows) = (0, 0);
    while !source.caught_up() {
        let Some(batch) = source.next(POLL).unwrap() else {
            continue;
        };
        let applied = chain.apply(&batch).unwrap();
        records += applied.ledger.records.read;
        rows += applied.ledger.rows.written;
        sink.write(&batch, applied).unwrap();
        if sink.should_roll() || sink.memory() > FILES_MEMORY {
            close(&mut sink);
        }
    }
    close(&mut sink);
    (records, rows)
}

fn close(sink: &mut ZoneSink) {
    for file in sink
        .seal()
        .unwrap()
        .into_iter()
        .flat_map(|sealed| sealed.files)
    {
        file.finish().unwrap();
    }
}

pub fn chains(mut transforms: impl FnMut() -> Vec<Box<dyn Transform>>) -> Vec<TransformChain> {
    (0..TASKS)
        .map(|_| TransformChain::new(transforms(), Unit::Row).unwrap())
        .collect()
}

pub fn sink(store: &Arc<dyn store::Store>, name: LogName) -> ZoneSink {
    sink_of(store, name, Files::default())
}

pub fn sink_of(store: &Arc<dyn store::Store>, name: LogName, files: Files) -> ZoneSink {
    let errors = ErrorsConfig {
        tolerance: Tolerance::All,
        unit: Unit::Row,
        dlq_table: "dead_letters".to_owned(),
        dlq_topic: None,
        dlq_context: false,
        max: None,
    };
    let options = ZoneOptions {
        name,
        table: TableName::Fixed("books".to_owned()),
        letters_table: TableName::Fixed("dead_letters".to_owned()),
        rotate: Rotate {
            bytes: 128 << 20,
            age: Duration::from_secs(60),
            rows: None,
        },
        parquet: ParquetOptions::default(),
        sort: Vec::new(),
        bucket: None,
        keep_value: false,
        files,
        directories: Directories::Ingested,
        refusing: Refusing::new(&errors, "zone"),
    };
    ZoneSink::new(
        store.clone(),
        SystemClock::shared(),
        options,
        Base::default(),
    )
}

// === single plugins ===

/// Columns of a plain message: four texts, an integer, a decimal and a date.
pub const PLAIN: &str = "transforms.flatten.columns=record_id,title,author/name,author/country,publication_year,price,published";

/// Six checks a row.
pub const SIX: &str = r#"
unknown = "allow"
[columns.record_id]
required = true
format = "uuid"
[columns.title]
required = true
max-length = 200
[columns.publication_year]
min = 2000
max = 2023
"#;

/// The same books without attributes, entities, CDATA, comments and characters beyond ASCII.
pub fn plain(messages: usize, limits: &Limits) -> Vec<Batch> {
    let ascii = |text: &str| -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || " .-".contains(c);
        text.chars()
            .map(|c| if plain(c) { c } else { 'x' })
            .collect()
    };
    let values = Books::new(crate::SEED, Dirty::NONE).map(|sample| {
        let mut xml = String::from("<library>\n");
        for (b, _) in &sample.books {
            let fields = [
                ("record_id", ascii(&b.record_id)),
                ("title", ascii(&b.title)),
                (
                    "author",
                    format!(
                        "\n      <name>{}</name>\n      <country>{}</country>\n    ",
                        ascii(&b.author_name),
                        ascii(&b.author_country)
                    ),
                ),
                ("publication_year", b.publication_year.to_string()),
                ("price", b.price.clone()),
                ("published", b.published.clone()),
            ];
            xml += "  <book>\n";
            for (tag, text) in fields {
                xml += &format!("    <{tag}>{text}</{tag}>\n");
            }
            xml += "  </book>\n";
        }
        (sample.key, (xml + "</library>").into_bytes())
    });
    batches_of(values.take(messages), limits)
}

/// Messages in batches as a task gets them.
pub fn batches(messages: usize, limits: &Limits) -> Vec<Batch> {
    let books = Books::new(crate::SEED, Dirty::SOME);
    batches_of(books.map(|b| (b.key, b.value)).take(messages), limits)
}

fn batches_of(samples: impl Iterator<Item = (String, Vec<u8>)>, limits: &Limits) -> Vec<Batch> {
    let (mut builder, mut out) = (BatchBuilder::new(), Vec::new());
    let (mut from, mut next) = (0, 0);
    for (key, value) in samples {
        let none = std::iter::empty();
        builder.push(next, Some(0), Some(key.as_bytes()), Some(&value), none);
        next += 1;
        if builder.bytes() >= limits.batch_bytes || builder.len() >= limits.batch_records {
            out.push(builder.finish(covers(from, next, 0)));
            from = next;
        }
    }
    if from < next {
        out.push(builder.finish(covers(from, next, 0)));
    }
    out
}

fn covers(from: i64, to: i64, epoch: u64) -> Covers {
    let tp = TopicPartition {
        topic: "bench".into(),
        partition: 0,
    };
    let chain = SplitId::kafka("bench", "bench", 0);
    Covers {
        split: chain,
        epoch,
        tp,
        range: OffsetRange { from, to },
    }
}

fn table(batch: &Batch) -> Table {
    let columns = batch.columns().into_iter();
    Table {
        schema: input_schema(),
        rows: batch.len(),
        columns: columns
            .map(|(values, constant)| weir::chain::Column { values, constant })
            .collect(),
    }
}

/// What each of the two plugins does in a second: flatten in bytes of XML, validate in rows.
/// First the component, then the component again, then native.
pub fn plugins(plugged: &Plugged, batches: &[Batch]) -> (Vec<Series>, Vec<Series>) {
    let mut all = [plugged.components(), plugged.components(), plugged.native()];
    let messages: Vec<Table> = batches.iter().map(table).collect();
    let xml: usize = batches.iter().map(|b| b.value.value_data().len()).sum();
    let rows: Vec<Table> = messages
        .iter()
        .map(|t| all[0][0].apply(t).unwrap().table)
        .collect();
    for at in [0, 1] {
        for input in if at == 0 { &messages } else { &rows } {
            let (a, b) = (
                all[0][at].apply(input).unwrap(),
                all[2][at].apply(input).unwrap(),
            );
            assert!(native::same(&a, &b), "component and native give the same");
        }
    }
    let names = ["component", "component again", "native"];
    // The kernel counts a thread's time in ticks of some milliseconds: a pass takes many.
    let mut pass = |way: usize, at: usize, tables: &[Table]| {
        let plugin = &mut all[way][at];
        let body = || {
            for _ in 0..PASSES {
                for table in tables {
                    plugin.apply(table).unwrap();
                }
            }
        };
        Cpu::Thread.of(body).0 / PASSES as f64
    };
    let flatten = series(&names, |way| xml as f64 / 1e6 / pass(way, 0, &messages));
    let count: usize = rows.iter().map(|t| t.rows).sum();
    let validate = series(&names, |way| pass(way, 1, &rows) * 1e9 / count as f64);
    (flatten, validate)
}

/// Milliseconds until a plugin can make transforms; with an empty cache it is compiled first.
pub fn plugin_load(place: &Place, cache: &Path) -> f64 {
    let begun = Instant::now();
    let plugins = Plugins::open(Places {
        path: place.plugins.clone(),
        store: place.store.clone(),
        cache: cache.to_owned(),
    });
    plugins.unwrap().find("validate", &|_, _| true).unwrap();
    begun.elapsed().as_secs_f64() * 1e3
}

// === logs ===

/// A zone with `commits` data commits of ten messages each, files and all. Milliseconds of each, from the close of its
/// files until they are published.
pub fn log_with(at: &Location, plugged: &Plugged, zone: &str, commits: usize) -> Vec<f64> {
    log_of(at, plugged, ("bench", zone), commits)
}

/// The same as the log of this pipeline in this zone.
pub fn log_of(
    at: &Location,
    plugged: &Plugged,
    (pipeline, zone): (&str, &str),
    commits: usize,
) -> Vec<f64> {
    let store = store::open(at).unwrap();
    let clock = SystemClock::shared();
    let writer = Writer::this_process(clock.as_ref());
    let name = LogName::new(pipeline, zone);
    let mut log = Log::open_or_init(store.clone(), name, clock, writer, Vec::new()).unwrap();
    let Covers { split: id, tp, .. } = covers(0, 0, 0);
    let topic = tp.topic.to_string();
    let open = Open {
        split: id.clone(),
        topic,
        partition: 0,
        offset: 0,
        start: "earliest".into(),
    };
    settle(&mut log, Draft::Open(vec![open]));
    let mut chain = TransformChain::new(plugged.native(), Unit::Row).unwrap();
    let mut books = Books::new(crate::SEED, Dirty::SOME);
    let mut sink = sink(&store, LogName::new(pipeline, zone));
    let mut took = Vec::with_capacity(commits);
    for _ in 0..commits {
        let (from, epoch) = (log.state().splits[&id].to, log.state().splits[&id].epoch);
        let mut builder = BatchBuilder::new();
        for offset in from..from + 10 {
            let sample = books.next().unwrap();
            let key = Some(sample.key.as_bytes());
            builder.push(
                offset,
                Some(0),
                key,
                Some(&sample.value),
                std::iter::empty(),
            );
        }
        let batch = builder.finish(covers(from, from + 10, epoch));
        let applied: Applied = chain.apply(&batch).unwrap();
        sink.write(&batch, applied).unwrap();
        let begun = Instant::now();
        let Sealed { files, spans, .. } = sink.seal().unwrap().unwrap();
        let receipt = PreparedCommit {
            base: log.version(),
            generation: log.state().generation(),
            spans,
            files: files.into_iter().map(|f| f.finish().unwrap()).collect(),
            deliveries: Vec::new(),
            counters: Default::default(),
        };
        settle(
            &mut log,
            Draft::Data {
                receipts: vec![receipt],
                swap: None,
            },
        );
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    took
}

fn settle(log: &mut Log, draft: Draft) {
    match log.commit(draft).unwrap() {
        Outcome::Committed { committed, dropped } if dropped.is_empty() => {
            log.publish(&committed).unwrap();
        }
        other => panic!("not committed: {other:?}"),
    }
}

/// Partitions of a long log.
const LONG_PARTITIONS: i32 = 4;

/// As if a pipeline without files (its rows are delivered) had committed once a minute, so many times: written in memory,
/// by the writer that pipelines use, then put into the zone. Returns how many of its bytes are left.
pub fn long_log(at: &Location, pipeline: &str, zone: &str, commits: u64) -> u64 {
    let store = store::open_url(&format!("memory:long-{zone}")).unwrap();
    let clock = ManualClock::at(0);
    let writer = Writer::this_process(clock.as_ref());
    let name = LogName::new(pipeline, zone);
    let log = Log::open_or_init(
        store.clone(),
        name.clone(),
        clock.clone(),
        writer,
        Vec::new(),
    );
    let mut log = log.unwrap();
    let split = |partition: i32| SplitId::kafka("c", "t", partition);
    let open = |partition| Open {
        split: split(partition),
        topic: "t".into(),
        partition,
        offset: 0,
        start: "earliest".into(),
    };
    settle(
        &mut log,
        Draft::Open((0..LONG_PARTITIONS).map(open).collect()),
    );
    for n in 0..i64::try_from(commits).unwrap() {
        clock.advance(Duration::from_secs(60));
        let (from, to) = (n * 100, n * 100 + 100);
        let draft = delivered(&log, (0..LONG_PARTITIONS).map(split), from, to);
        settle(&mut log, draft);
        if let Some(version) = log.forgettable(None) {
            settle(&mut log, Draft::Horizon(version));
        }
        log.checkpoint_if_due();
    }
    let to = store::open(at).unwrap();
    let mut left = 0;
    for listed in store.list(&name.dir()).unwrap() {
        let bytes = store.get(&listed.path).unwrap().unwrap();
        left += bytes.len() as u64;
        to.create(&listed.path, &bytes).unwrap();
    }
    left
}

/// Each split's `[from, to)`, a row for each record, delivered.
fn delivered(log: &Log, splits: impl Iterator<Item = SplitId>, from: i64, to: i64) -> Draft {
    let count = u64::try_from(to - from).unwrap();
    let mut receipt = PreparedCommit {
        base: log.version(),
        generation: log.state().generation(),
        spans: Vec::new(),
        files: Vec::new(),
        deliveries: Vec::new(),
        counters: Default::default(),
    };
    let mut ranges = Vec::new();
    for split in splits {
        ranges.push(FileRange {
            split: split.clone(),
            from,
            to,
            rows: count,
        });
        receipt.spans.push(Span {
            split,
            epoch: 0,
            from,
            to,
            lost: 0,
            records: Records {
                read: count,
                with_rows: count,
                ..Records::default()
            },
            rows: Rows {
                made: count,
                written: count,
                ..Rows::default()
            },
            dead_letters: 0,
        });
    }
    receipt.deliveries.push(Delivery {
        id: weir::commit::new_file_id(),
        role: Role::Rows,
        sink: "bench".into(),
        target: "nowhere".into(),
        rows: count * ranges.len() as u64,
        ranges,
        token: None,
    });
    Draft::Data {
        receipts: vec![receipt],
        swap: None,
    }
}

/// Milliseconds until the log's state is there.
pub fn open_log(at: &Location, zone: &str) -> f64 {
    let begun = Instant::now();
    let log = crate::child::log_at(at, "bench", zone).unwrap();
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    assert!(log.version() > 0);
    ms
}
