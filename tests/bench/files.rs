//! Files that are no Parquet: bytes that one core writes, beside what hashing and copying the same bytes costs.

use sha2::{Digest, Sha256};
use weir::chain::Applied;
use weir::commit::LogName;
use weir::config::{FileFormat, Files};
use weir::record::Batch;
use weir::sink::Sink;
use weir::store;

use crate::child::Place;
use crate::inside::{self, Plugged};
use crate::measure::{Cpu, series};
use crate::report::Figure;
use crate::say;
use weir::kafka::Limits;

const MESSAGES: usize = 120_000;
const MB: f64 = 1e6;

pub fn figures(place: &Place, plugged: &Plugged, limits: &Limits) -> Vec<Figure> {
    say("files that are no Parquet: rows of the sample books");
    let batches = inside::batches(MESSAGES, limits);
    let mut chain = inside::chains(|| plugged.components()).remove(0);
    let made = batches.into_iter().map(|batch| {
        let applied = chain.apply(&batch).unwrap();
        (batch, applied)
    });
    let made: Vec<(Batch, Applied)> = made.collect();
    let formats = [
        ("JSON lines", FileFormat::Json),
        ("CSV", FileFormat::Csv),
        ("Avro", FileFormat::Avro),
    ];
    let figure = |(name, format)| one(place, &made, name, format);
    formats.into_iter().map(figure).collect()
}

fn one(place: &Place, made: &[(Batch, Applied)], name: &'static str, format: FileFormat) -> Figure {
    let files = Files {
        format,
        extension: format.word().to_owned(),
        ..Files::default()
    };
    let mut bytes = 0;
    let names = [name, "again", "hash and copy"];
    let mut all = series(&names, |way| {
        if way == 2 {
            let block = vec![b'x'; 256 << 10];
            let mut copy = Vec::with_capacity(block.len());
            let (cpu, _) = Cpu::Process.of(|| {
                let mut hash = Sha256::new();
                for _ in 0..(bytes as usize / block.len()) {
                    copy.clear();
                    copy.extend_from_slice(&block);
                    hash.update(&copy);
                }
                hash.finalize()
            });
            return bytes as f64 / MB / cpu;
        }
        place.empty("files");
        let store = store::open_url(&place.zone("files")).unwrap();
        let mut sink = inside::sink_of(&store, LogName::new("bench", "files"), files.clone());
        let copies = made.to_vec();
        let (cpu, sealed) = Cpu::Process.of(|| {
            for (batch, applied) in copies {
                sink.write(&batch, applied).unwrap();
            }
            sink.seal().unwrap().unwrap()
        });
        let rows = sealed.files.iter().map(|file| file.added());
        bytes = rows
            .filter(|file| !file.path.ends_with(".parquet"))
            .map(|file| file.bytes)
            .sum();
        bytes as f64 / MB / cpu
    });
    let bound = all.split_off(2);
    Figure::new(name, "MB written per CPU-second", all, bound)
}
