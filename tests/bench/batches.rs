//! Batches of PROCESSED that do not fit into `memory.budget`: books of 24 partitions, rows of 5 KB, rows of 3,000 dates.
//! Rows per CPU-second, and the memory of the process.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};

use crate::child::Place;
use crate::measure::{Series, series};
use crate::report::Figure;

const MIB: f64 = 1024.0 * 1024.0;
/// Messages of two books on average: three million rows.
const BOOKS: u64 = 1_400_000;
const BOOKS_PARTITIONS: u32 = 24;
/// 250 MB of texts.
const WIDE: usize = 50_000;
const WIDE_BYTES: usize = 5_000;
const DATED: usize = 300_000;
const DATES: usize = 3_000;

/// What becomes a RAW zone, and how its rows are told apart.
struct Case {
    names: [&'static str; 2],
    /// Name of the RAW zone and of its pipeline.
    raw: &'static str,
    source: String,
    field: &'static str,
    format: &'static str,
    key: &'static str,
}

pub fn figures(place: &Place) -> Vec<Figure> {
    let cases = [books(place), wide(place), dates(place)];
    cases
        .iter()
        .flat_map(|case| measured(place, case))
        .collect()
}

fn measured(place: &Place, case: &Case) -> Vec<Figure> {
    eprintln!("{}", case.names[0]);
    let raw = place.dir.join(format!("{}.toml", case.raw));
    let config = format!(
        "name = \"{0}\"\ntrigger = \"available-now\"\n{1}\
         [sink]\ntype = \"zone\"\nurl = \"{2}\"\ntable = \"rows\"\nrotate.bytes = \"4GiB\"\nrotate.age = \"1h\"\n\
         [errors]\ntolerance = \"all\"\n",
        case.raw,
        case.source,
        place.zone(case.raw)
    );
    fs::write(&raw, config).unwrap();
    let raw = raw.display().to_string();
    place.run(&raw, &[], case.raw, case.raw);
    let mut number = 0;
    let mut peaks = [Vec::new(), Vec::new()];
    let own = series(&["weir run", "weir run again"], |way| {
        // RAW's log knows each of its readers: one that comes back with an empty zone is refused.
        place.empty(&format!("{}-{number}", case.raw));
        number += 1;
        let name = format!("{}-{number}", case.raw);
        let path = place.dir.join(format!("{name}.toml"));
        let config = format!(
            "name = \"{name}\"\ntrigger = \"available-now\"\n\
             [source]\ntype = \"zone\"\nurl = \"{0}\"\npipeline = \"{1}\"\ntable = \"rows\"\n\
             [sink]\ntype = \"zone\"\nurl = \"{2}\"\ntable = \"rows\"\npartition.field = \"{3}\"\n\
             partition.format = \"{4}\"\ndedup.key = [\"{5}\"]\n",
            place.zone(case.raw),
            case.raw,
            place.zone(&name),
            case.field,
            case.format,
            case.key
        );
        fs::write(&path, config).unwrap();
        let ran = place.run(&path.display().to_string(), &[], &name, &name);
        assert!(ran.total.rows.written > 0);
        peaks[way].push(ran.ended.peak_bytes / MIB);
        ran.total.rows.written as f64 / ran.ended.cpu
    });
    place.empty(&format!("{}-{number}", case.raw));
    place.empty(case.raw);
    // The round that does not count came first.
    let names = ["weir run", "weir run again"];
    let peaks = names.into_iter().zip(peaks);
    let peaks = peaks.map(|(name, all)| Series::new(name, all[1..].to_vec()));
    vec![
        Figure::new(
            case.names[0],
            "rows written per CPU-second",
            own,
            Vec::new(),
        ),
        Figure::new(case.names[1], "MiB resident", peaks.collect(), Vec::new()),
    ]
}

fn books(place: &Place) -> Case {
    Case {
        names: [
            "RAW to PROCESSED, three million books of 24 partitions in one batch",
            "Peak memory of that child, books",
        ],
        raw: "many-books",
        source: format!(
            "tasks.max = 2\n[source]\ntype = \"rate\"\nsample = \"dirty-books\"\nrows.per.second = 10000000\n\
             rows.total = {BOOKS}\npartitions = {BOOKS_PARTITIONS}\n\
             [[transforms]]\nname = \"flatten\"\ntype = \"xml-flatten@0.1\"\nrow-tag = \"book\"\ncolumns = [\
             \"record_id\", \"title\", \"author/name\", \"author/country\", \"lang=@lang\", \"publication_year\", \
             \"published\", \"price\"]\ntypes.publication_year = \"int\"\ntypes.published = \"date\"\n\
             types.price = \"decimal(10,2)\"\n\
             [[transforms]]\nname = \"rules\"\ntype = \"validate@0.1\"\nrules = \"{}/conf/rules/books.toml\"\n",
            place.root.display()
        ),
        field: "published",
        format: "%Y",
        key: "record_id",
    }
}

fn wide(place: &Place) -> Case {
    let text = |n: usize| {
        let mut text = String::with_capacity(WIDE_BYTES + 16);
        for part in 0.. {
            if text.len() >= WIDE_BYTES {
                break;
            }
            text.push_str(&format!("{:016x}", random(n * 1_000 + part)));
        }
        text
    };
    Case {
        names: [
            "RAW to PROCESSED, rows of 5 KB",
            "Peak memory of that child, rows of 5 KB",
        ],
        raw: "wide",
        source: lines(place, "wide", WIDE, |n| (n % 10, text(n))),
        field: "day",
        format: "%Y-%m-%d",
        key: "id",
    }
}

fn dates(place: &Place) -> Case {
    let day = |n: usize| random(n) as usize % DATES;
    Case {
        names: [
            "RAW to PROCESSED, 3,000 dates",
            "Peak memory of that child, 3,000 dates",
        ],
        raw: "dates",
        source: lines(place, "dates", DATED, |n| (day(n), "a text".to_owned())),
        field: "day",
        format: "%Y-%m-%d",
        key: "id",
    }
}

/// Writes a file of JSON lines; the config's source of it.
fn lines(place: &Place, name: &str, count: usize, of: impl Fn(usize) -> (usize, String)) -> String {
    let dir = place.dir.join(format!("{name}-in"));
    fs::create_dir_all(&dir).unwrap();
    let mut file = BufWriter::new(File::create(dir.join("all.jsonl")).unwrap());
    for n in 0..count {
        let (day, text) = of(n);
        let (year, month, day) = (1990 + day / 336, day / 28 % 12 + 1, day % 28 + 1);
        writeln!(
            file,
            "{{\"id\":\"{n:09}\",\"day\":\"{year}-{month:02}-{day:02}\",\"text\":\"{text}\"}}"
        )
        .unwrap();
    }
    file.into_inner().unwrap();
    format!(
        "[source]\ntype = \"file\"\nurl = \"file:{}\"\nformat = \"jsonl\"\nsettle.time = \"0s\"\n\
         [[transforms]]\nname = \"columns\"\ntype = \"json-flatten@0.1\"\ncolumns = [\"id\", \"day\", \"text\"]\n",
        dir.display()
    )
}

/// Numbers without a pattern.
fn random(n: usize) -> u64 {
    let mixed = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}
