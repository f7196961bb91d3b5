//! Compaction: many files of the sample books become one. Beside it: reading them all, without writing.

use weir::commit::{AddedFile, LogName, Role};
use weir::config::SortBy;
use weir::kafka::Limits;
use weir::store;
use weir::zone::{Merge, ParquetOptions, read_file};

use crate::child::Place;
use crate::inside::{self, Plugged};
use crate::measure::{Cpu, series};
use crate::report::Figure;
use crate::say;

const MESSAGES: usize = 120_000;
const FILES: usize = 24;
const MB: f64 = 1e6;
/// What `memory.budget` leaves for inputs by default.
const MEMORY: u64 = 96 << 20;

pub fn figures(place: &Place, plugged: &Plugged, limits: &Limits) -> Vec<Figure> {
    say("compaction: files of the sample books become one");
    place.empty("compact");
    let store = store::open_url(&place.zone("compact")).unwrap();
    let name = LogName::new("bench", "compact");
    let batches = inside::batches(MESSAGES, limits);
    let mut chain = inside::chains(|| plugged.components()).remove(0);
    let mut inputs: Vec<(AddedFile, Option<AddedFile>)> = Vec::new();
    for part in batches.chunks(batches.len().div_ceil(FILES)) {
        let mut sink = inside::sink(&store, name.clone());
        for batch in part {
            let applied = chain.apply(batch).unwrap();
            weir::sink::Sink::write(&mut sink, batch, applied).unwrap();
        }
        let sealed = weir::sink::Sink::seal(&mut sink).unwrap().unwrap();
        for file in sealed.files {
            let file = file.finish().unwrap();
            if file.role == Role::Rows {
                inputs.push((file, None));
            }
        }
    }
    let bytes: u64 = inputs.iter().map(|(file, _)| file.bytes).sum();
    say(&format!("{} files of {bytes} bytes", inputs.len()));
    let parquet = ParquetOptions::default();
    let sort = [SortBy {
        column: "record_id".to_owned(),
        descending: false,
    }];
    let names = [
        "compact",
        "compact again",
        "compact, sorted by row group",
        "read only",
    ];
    let mut all = series(&names, |way| {
        let merge = Merge {
            store: &store,
            name: &name,
            parquet: &parquet,
            sort: if way == 2 { &sort } else { &[] },
            memory: MEMORY,
        };
        let (cpu, ()) = Cpu::Process.of(|| match way {
            3 => {
                for (file, _) in &inputs {
                    for batch in read_file(&store, &name, file).unwrap() {
                        batch.unwrap();
                    }
                }
            }
            _ => {
                let merged = merge
                    .write(&inputs, &mut || Ok(()), &mut Vec::new())
                    .unwrap();
                store.discard(&name.dir(), &merged.rows.id).unwrap();
            }
        });
        bytes as f64 / MB / cpu
    });
    let beside = all.split_off(2);
    vec![Figure::new(
        "Compaction of 24 files, sample books",
        "MB of Parquet per CPU-second",
        all,
        beside,
    )]
}
