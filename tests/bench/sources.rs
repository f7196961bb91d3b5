//! Files into a zone, beside the same lines read and written by the same Parquet library without a log, without positions and
//! without system columns; files to an API, beside the same bodies sent over one connection; topic to topic, beside the same rows
//! into a zone.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::child::{Place, Ran};
use crate::measure::{Cpu, Series, rounds, series};
use crate::report::Figure;
use crate::{MIB, SEED, say};

/// Files, and lines of each: about 190 bytes, so 270 MB together.
const FILES: usize = 8;
const LINES: usize = 180_000;
/// Records of a batch, as a task has them.
const BATCH: usize = 4096;
const CONF: &str = "files.toml";
const WAYS: [&str; 3] = ["weir run", "weir run again", "read and written, no log"];

/// Events of devices, with numbers that do not repeat.
fn lines(path: &Path, random: &mut SmallRng) -> u64 {
    let mut out = BufWriter::new(File::create(path).unwrap());
    for n in 0..LINES {
        let (device, temp): (u32, f64) = (random.random_range(0..5_000), random.random());
        let id: u128 = random.random();
        writeln!(
            out,
            "{{\"eventId\":\"{id:032x}\",\"device_id\":\"device-{device}\",\"data\":{{\"temp\":{temp},\"unit\":\"C\",\"n\":{n}}},\
             \"at\":\"2026-01-01T00:{:02}:{:02}Z\",\"status\":\"ok\"}}",
            n / 60 % 60,
            n % 60
        )
        .unwrap();
    }
    out.into_inner().unwrap().metadata().unwrap().len()
}

fn declare(place: &Place, input: &Path) -> String {
    let conf = place.dir.join(CONF);
    let text = format!(
        "name = \"files\"\nsource.type = \"file\"\nsource.url = \"file:{}\"\nsource.format = \"jsonl\"\n\
         source.settle.time = \"0s\"\nsink.type = \"zone\"\nsink.url = \"file:unused\"\n",
        input.display()
    );
    fs::write(&conf, text).unwrap();
    conf.display().to_string()
}

/// The same lines into one Parquet file for each, as a zone compresses them.
fn natively(files: &[PathBuf], out: &Path) {
    fs::create_dir_all(out).unwrap();
    let level = ZstdLevel::try_new(1).unwrap();
    for (n, path) in files.iter().enumerate() {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .build();
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
        let mut writer: Option<ArrowWriter<File>> = None;
        let mut ended = false;
        while !ended {
            let (mut batch, mut line) = (arrow_array::builder::BinaryBuilder::new(), Vec::new());
            for _ in 0..BATCH {
                line.clear();
                if reader.read_until(b'\n', &mut line).unwrap() == 0 {
                    ended = true;
                    break;
                }
                batch.append_value(line.trim_ascii_end());
            }
            let values: BinaryArray = batch.finish();
            let values: ArrayRef = Arc::new(values);
            let batch = RecordBatch::try_from_iter([("value", values)]).unwrap();
            let writer = writer.get_or_insert_with(|| {
                let file = File::create(out.join(format!("{n}.parquet"))).unwrap();
                ArrowWriter::try_new(file, batch.schema(), Some(properties.clone())).unwrap()
            });
            writer.write(&batch).unwrap();
        }
        writer.unwrap().close().unwrap();
    }
}

pub fn figures(place: &Place, bootstrap: &str) -> Vec<Figure> {
    let mut all = to_zone(place);
    all.push(to_api(place));
    all.push(to_topic(place, bootstrap));
    all
}

/// Files of JSON lines, and the config that reads them.
pub struct Input {
    pub dir: PathBuf,
    files: Vec<PathBuf>,
    conf: String,
    pub lines: u64,
    pub bytes: u64,
}

impl Input {
    pub fn new(place: &Place) -> Input {
        let dir = place.dir.join("in");
        fs::create_dir_all(&dir).unwrap();
        let mut random = SmallRng::seed_from_u64(SEED);
        let files = (0..FILES).map(|n| dir.join(format!("{n}.jsonl")));
        let files: Vec<PathBuf> = files.collect();
        Input {
            bytes: files.iter().map(|path| lines(path, &mut random)).sum(),
            conf: declare(place, &dir),
            lines: (FILES * LINES) as u64,
            files,
            dir,
        }
    }

    pub fn run(&self, place: &Place, zone: &str) -> Ran {
        let sets = [format!("sink.url={}", place.zone(zone))];
        place.run(&self.conf, &sets, zone, "files")
    }
}

fn to_zone(place: &Place) -> Vec<Figure> {
    say("files -> zone");
    let input = Input::new(place);
    let bytes = input.bytes;
    let runs = rounds(&WAYS, |way| {
        if way == 2 {
            let out = place.dir.join("native");
            let (cpu, ()) = Cpu::Thread.of(|| natively(&input.files, &out));
            return (bytes as f64 / 1e6 / cpu, 0.0);
        }
        let Ran { ended, total, .. } = input.run(place, "files_zone");
        assert_eq!(total.rows.written, input.lines);
        (bytes as f64 / 1e6 / ended.cpu, ended.peak_bytes / MIB)
    });
    let picked = |of: fn(&(f64, f64)) -> f64, ways: std::ops::Range<usize>| -> Vec<Series> {
        let runs = runs.iter().skip(ways.start).take(ways.len());
        runs.map(|(name, values)| Series::new(name, values.iter().map(of).collect()))
            .collect()
    };
    vec![
        Figure::new(
            "JSON lines of files to RAW",
            "MB of input per CPU-second",
            picked(|(rate, _)| *rate, 0..2),
            picked(|(rate, _)| *rate, 2..3),
        ),
        Figure::new(
            "Peak memory of that child, files",
            "MiB resident",
            picked(|(_, peak)| *peak, 0..2),
            Vec::new(),
        ),
    ]
}

// ------------------------------------------------------------------ files -> API

/// Rows of a CSV file, each sent as one JSON object; 100 a request, as `conf/csv-to-api.toml` has it.
const CSV_ROWS: usize = 200_000;
const ROWS_A_REQUEST: usize = 100;

/// Takes every request, answers 200 with an empty body, and counts.
struct Api {
    at: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Api {
    fn start() -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, counted) = (stream.unwrap(), Arc::clone(&counted));
                std::thread::spawn(move || answer(stream, &counted));
            }
        });
        Api { at, requests }
    }

    fn taken(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }
}

/// All requests of one connection. `None`: it has ended.
fn answer(mut stream: TcpStream, counted: &AtomicU64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(1 << 16, stream.try_clone().ok()?);
    let mut body = Vec::new();
    loop {
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
        counted.fetch_add(1, Ordering::Relaxed);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}

/// The JSON of one row.
fn book(n: usize, random: &mut SmallRng) -> String {
    let (isbn, price): (u64, u32) = (random.random_range(0..10_000_000_000), random.random());
    format!(
        "{{\"isbn\":\"978{isbn:010}\",\"title\":\"Title of number {n}\",\"price\":{}.{:02}}}",
        price % 100,
        price % 97
    )
}

fn to_api(place: &Place) -> Figure {
    say("files -> API");
    let (input, api) = (place.dir.join("csv"), Api::start());
    fs::create_dir_all(&input).unwrap();
    let mut random = SmallRng::seed_from_u64(SEED);
    let rows: Vec<String> = (0..CSV_ROWS).map(|n| book(n, &mut random)).collect();
    let mut csv = BufWriter::new(File::create(input.join("books.csv")).unwrap());
    writeln!(csv, "id,json_data").unwrap();
    for (n, row) in rows.iter().enumerate() {
        writeln!(csv, "{n},\"[{}]\"", row.replace('"', "\"\"")).unwrap();
    }
    csv.into_inner().unwrap();
    let sets = [
        format!("source.url=file:{}", input.display()),
        "source.settle.time=0s".to_owned(),
        format!("sink.http.url=http://{}/books", api.at),
        format!("sink.url={}", place.zone("api_home")),
    ];
    let requests = (CSV_ROWS / ROWS_A_REQUEST) as u64;
    let bodies: Vec<String> = rows
        .chunks(ROWS_A_REQUEST)
        .map(|rows| format!("[{}]", rows.join(",")))
        .collect();
    let names = ["weir run", "weir run again", "sent, one connection"];
    let mut all = series(&names, |way| {
        let cpu = match way {
            2 => {
                Cpu::Thread
                    .of(|| bodies.iter().for_each(|body| send(api.at, body)))
                    .0
            }
            _ => {
                let conf = "conf/csv-to-api.toml";
                let ran = place.run(conf, &sets, "api_home", "csv-to-api");
                assert_eq!(ran.total.rows.written, CSV_ROWS as u64);
                ran.ended.cpu
            }
        };
        // A commit in the middle of a request's rows makes two of it.
        let taken = api.taken();
        assert!((requests..requests + 100).contains(&taken), "{taken}");
        taken as f64 / cpu
    });
    let beside = all.split_off(2);
    Figure::new(
        "CSV of files to an API, 100 rows a request",
        "requests per CPU-second",
        all,
        beside,
    )
}

/// One request over this thread's connection, and its answer.
fn send(at: SocketAddr, body: &str) {
    thread_local! {
        static OPEN: std::cell::RefCell<Option<TcpStream>> = const { std::cell::RefCell::new(None) };
    }
    OPEN.with_borrow_mut(|open| {
        let stream = open.get_or_insert_with(|| {
            let stream = TcpStream::connect(at).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        });
        let head = format!(
            "POST /books HTTP/1.1\r\nhost: {at}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let (mut answer, mut part) = (Vec::new(), [0; 256]);
        while !answer.ends_with(b"\r\n\r\n") {
            let n = stream.read(&mut part).unwrap();
            assert!(n > 0, "the answer ends early");
            answer.extend_from_slice(&part[..n]);
        }
    });
}

// ------------------------------------------------------------------ topic -> topic

/// `conf/kafka-to-kafka.toml`, and the same rows into a zone.
fn to_topic(place: &Place, bootstrap: &str) -> Figure {
    say("topic -> topic");
    const TO_TOPIC: &str = "conf/kafka-to-kafka.toml";
    let text = fs::read_to_string(place.root.join(TO_TOPIC)).unwrap();
    let (above, _) = text.split_once("[sink]").unwrap();
    let to_zone = place.dir.join("books-clean.toml");
    let sink = "[sink]\ntype = \"zone\"\nurl = \"file:unused\"\n[errors]\ntolerance = \"all\"\n";
    fs::write(&to_zone, format!("{above}{sink}")).unwrap();
    let to_zone = to_zone.display().to_string();
    let (mut topics, mut counted) = (0, None);
    let admin = weir::kafka::testkit::Admin::connect(bootstrap).unwrap();
    let names = ["weir run", "weir run again", "into a zone"];
    let mut all = series(&names, |way| {
        let mut sets = vec![
            format!("source.bootstrap.servers={bootstrap}"),
            format!("source.topics={}", crate::TOPIC),
            format!("sink.url={}", place.zone("clean_home")),
        ];
        let conf = match way {
            2 => &to_zone,
            _ => {
                topics += 1;
                let topic = format!("bench-clean-{topics}");
                admin.create_topic(&topic, crate::PARTITIONS, &[]).unwrap();
                sets.push(format!("sink.bootstrap.servers={bootstrap}"));
                sets.push(format!("sink.topic.name={topic}"));
                TO_TOPIC
            }
        };
        let ran = place.run(conf, &sets, "clean_home", "books-clean");
        let total = (ran.total.records.read, ran.total.rows.written);
        assert_eq!(*counted.get_or_insert(total), total, "the same rows");
        total.0 as f64 / ran.ended.cpu
    });
    let beside = all.split_off(2);
    Figure::new(
        "Kafka to Kafka, exactly once",
        "messages per CPU-second",
        all,
        beside,
    )
}
