//! `make bench-peers`: Spark beside Weir, the same work in the same rounds. Spark's start is half of its processor time on
//! a million messages, so both sizes are run and the margin stands apart. Rows are counted by listing the files that are
//! there, on both sides alike.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use serde_json::Value;
use weir::kafka::KafkaProps;
use weir::sample::Dirty;

use crate::child::{LAUNCH, Place, Ran};
use crate::measure::{Ended, Series, rounds};
use crate::report::Figure;
use crate::{MIB, brokers, produce_flawed, say, sources};

const SOME: &str = "peers-some";
const ALL: &str = "peers-all";
const SOME_MESSAGES: u64 = 250_000;
const ALL_MESSAGES: u64 = 1_000_000;
/// What `make bench-peers` puts there.
const VENV: &str = "target/peers/venv";
const CONNECTOR: &str = "peers";
const WAYS: [&str; 3] = ["weir run", "weir run again", "Spark 4.1.1"];

/// What one way took for some of the messages and for all of them.
struct Took {
    some: f64,
    all: Ended,
}

struct Spark {
    submit: PathBuf,
    jars: String,
    script: PathBuf,
}

impl Spark {
    /// `None` where it is not installed; said.
    fn find(root: &Path) -> Option<Spark> {
        let bin = root.join(VENV).join("bin");
        if !bin.join("spark-submit").is_file() {
            say(&format!(
                "no spark-submit in {}: run `make bench-peers`",
                bin.display()
            ));
            return None;
        }
        let jars = std::fs::read_dir(brokers::jars(CONNECTOR)?).unwrap();
        let jars = jars.map(|jar| jar.unwrap().path().display().to_string());
        Some(Spark {
            submit: bin.join("spark-submit"),
            jars: jars.collect::<Vec<_>>().join(","),
            script: root.join("tests/peers/spark.py"),
        })
    }

    /// Runs a job into `out`, from nothing.
    fn run(&self, place: &Place, job: &[&str], out: &str) -> Ended {
        place.empty(out);
        place.empty(&format!("{out}.checkpoint"));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(LAUNCH).arg(&self.submit);
        command.args(["--master", "local[2]", "--jars", &self.jars]);
        // What its documentation proposes for one machine, and the codec of our zones.
        for set in [
            "spark.sql.shuffle.partitions=2",
            "spark.sql.parquet.compression.codec=zstd",
            "spark.ui.enabled=false",
            "spark.sql.session.timeZone=UTC",
        ] {
            command.args(["--conf", set]);
        }
        command.arg(&self.script).args(job);
        command.arg(place.dir.join(out));
        command.env("PYSPARK_PYTHON", self.submit.with_file_name("python3"));
        let log = File::create(place.dir.join("spark.log")).unwrap();
        command.stdin(Stdio::null()).stderr(log);
        let output = command.output().unwrap();
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let ended = lines.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["launch"] == "ended").then(|| Ended {
                cpu: line["cpu"].as_f64().unwrap(),
                peak_bytes: line["peak"].as_f64().unwrap(),
            })
        });
        ended.unwrap_or_else(|| {
            let said = std::fs::read_to_string(place.dir.join("spark.log")).unwrap_or_default();
            panic!("spark-submit: {said}")
        })
    }
}

pub fn figures(place: &Place, props: &KafkaProps) -> Vec<Figure> {
    let Some(spark) = Spark::find(&place.root) else {
        return Vec::new();
    };
    produce_flawed(props, SOME, SOME_MESSAGES, Dirty::NONE);
    produce_flawed(props, ALL, ALL_MESSAGES, Dirty::NONE);
    let mut figures = topics(place, &spark, props.bootstrap());
    figures.extend(lines(place, &spark));
    figures
}

/// XML messages of a topic into one row for each book.
fn topics(place: &Place, spark: &Spark, bootstrap: &str) -> Vec<Figure> {
    say("Spark beside weir: XML messages of a topic");
    let mut rows = [None, None];
    let runs = rounds(&WAYS, |way| {
        let mut run = |size: usize, topic: &str| {
            let ended = match way {
                2 => spark.run(place, &["books", bootstrap, topic], "peer"),
                _ => place.raw(bootstrap, topic, "peer").ended,
            };
            let found = listed(&place.dir.join("peer"));
            assert_eq!(*rows[size].get_or_insert(found), found, "the same rows");
            ended
        };
        Took {
            some: run(0, SOME).cpu,
            all: run(1, ALL),
        }
    });
    let [some, all] = rows.map(Option::unwrap);
    say(&format!("{some} and {all} rows, by listing"));
    let margin = |t: &Took| (ALL_MESSAGES - SOME_MESSAGES) as f64 / (t.all.cpu - t.some);
    vec![
        figure(
            "A million XML messages to rows in Parquet, start included",
            "messages per CPU-second",
            &runs,
            |t| ALL_MESSAGES as f64 / t.all.cpu,
        ),
        figure(
            "The same on the margin: a million less 250,000",
            "messages per CPU-second",
            &runs,
            margin,
        ),
        figure("Peak memory of that process", "MiB resident", &runs, |t| {
            t.all.peak_bytes / MIB
        }),
    ]
}

/// Lines of files into one row for each.
fn lines(place: &Place, spark: &Spark) -> Vec<Figure> {
    say("Spark beside weir: lines of files");
    let input = sources::Input::new(place);
    let runs = rounds(&WAYS, |way| {
        let ended = match way {
            2 => {
                let from = input.dir.display().to_string();
                spark.run(place, &["lines", &from], "peer")
            }
            _ => {
                let Ran { ended, .. } = input.run(place, "peer");
                ended
            }
        };
        assert_eq!(listed(&place.dir.join("peer")), input.lines);
        ended
    });
    vec![figure(
        "JSON lines of files to rows in Parquet, start included",
        "MB of input per CPU-second",
        &runs,
        |ended| input.bytes as f64 / 1e6 / ended.cpu,
    )]
}

fn figure<T>(
    name: &'static str,
    unit: &'static str,
    runs: &[(&'static str, Vec<T>)],
    of: impl Fn(&T) -> f64,
) -> Figure {
    let series = runs.iter();
    let mut series: Vec<Series> = series
        .map(|(name, rounds)| Series::new(name, rounds.iter().map(&of).collect()))
        .collect();
    let beside = series.split_off(2);
    Figure::new(name, unit, series, beside)
}

/// Rows of all Parquet files that a plain listing finds outside of names that begin with `_` or `.`.
fn listed(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let rows = entries.map(|entry| {
        let (name, path) = (entry.file_name().into_string().unwrap(), entry.path());
        // Dead letters would be rows for a lister; there are none where messages have no flaw.
        match name {
            name if name.starts_with(['_', '.']) => 0,
            _ if path.is_dir() => listed(&path),
            name if name.ends_with(".parquet") => {
                let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
                u64::try_from(file.metadata().file_metadata().num_rows()).unwrap()
            }
            _ => 0,
        }
    });
    rows.sum()
}
