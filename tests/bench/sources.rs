//! Files into a zone, beside the same lines read and written by the same Parquet library without a log, without positions and
//! without system columns.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::child::{Place, Ran};
use crate::measure::{Cpu, Series, rounds};
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

pub fn figures(place: &Place) -> Vec<Figure> {
    say("files -> zone");
    let input = place.dir.join("in");
    fs::create_dir_all(&input).unwrap();
    let mut random = SmallRng::seed_from_u64(SEED);
    let files: Vec<PathBuf> = (0..FILES)
        .map(|n| input.join(format!("{n}.jsonl")))
        .collect();
    let bytes: u64 = files.iter().map(|path| lines(path, &mut random)).sum();
    let conf = declare(place, &input);
    let sets = [format!("sink.url={}", place.zone("files_zone"))];
    let runs = rounds(&WAYS, |way| {
        if way == 2 {
            let out = place.dir.join("native");
            let (cpu, ()) = Cpu::Thread.of(|| natively(&files, &out));
            return (bytes as f64 / 1e6 / cpu, 0.0);
        }
        let Ran { ended, total, .. } = place.run(&conf, &sets, "files_zone", "files");
        assert_eq!(total.rows.written, (FILES * LINES) as u64);
        (bytes as f64 / 1e6 / ended.cpu, ended.peak_bytes / MIB)
    });
    let series = |of: fn(&(f64, f64)) -> f64, ways: std::ops::Range<usize>| -> Vec<Series> {
        let runs = runs.iter().skip(ways.start).take(ways.len());
        runs.map(|(name, values)| Series::new(name, values.iter().map(of).collect()))
            .collect()
    };
    vec![
        Figure::new(
            "JSON lines of files to RAW",
            "MB of input per CPU-second",
            series(|(rate, _)| *rate, 0..2),
            series(|(rate, _)| *rate, 2..3),
        ),
        Figure::new(
            "Peak memory of that child, files",
            "MiB resident",
            series(|(_, peak)| *peak, 0..2),
            Vec::new(),
        ),
    ]
}
