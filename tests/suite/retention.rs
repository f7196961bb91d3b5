//! Retention, as people use it: rows leave a zone by their age, go to an archive, and never before they are read. A real pipeline
//! with retention of seconds; DuckDB counts, as anybody would who lists.

use std::fs;
use std::ops::Deref;
use std::path::Path;

use serde_json::Value;
use weir::commit::State;

use crate::brokers::{duckdb_query, files, until};
use crate::case::{Case, said};
use crate::kill::ABORT_AT;

/// RAW from a rate, and PROCESSED from it.
struct Rig {
    case: Case,
}

impl Deref for Rig {
    type Target = Case;

    fn deref(&self) -> &Case {
        &self.case
    }
}

const SOURCE: &str =
    "source.type = \"rate\"\nsource.rows.per.second = 500\nsource.partitions = 2\n";

impl Rig {
    /// `keys`: of RAW, beside those of its source and its sink.
    fn new(source: &str, keys: &str) -> Rig {
        let rig = Rig {
            case: Case::new("raw", "zone"),
        };
        rig.raw(source, keys);
        rig
    }

    fn raw(&self, source: &str, keys: &str) {
        let sink = "sink.type = \"zone\"\nsink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n";
        self.case.declare(&format!("{source}{sink}{keys}"), "");
    }

    /// A pipeline that reads the zone and is run by hand.
    fn processed(&self, keys: &str) {
        let config = format!(
            "name = \"processed\"\nplugin.path = \"plugins\"\nsource.type = \"zone\"\nsource.url = \"file:zone\"\n\
             source.pipeline = \"raw\"\nsource.table = \"rate\"\nsink.type = \"zone\"\nsink.url = \"file:done\"\n\
             sink.partition.field = \"_timestamp\"\n{keys}"
        );
        fs::write(self.path("processed.toml"), config).unwrap();
    }

    fn process(&self) -> String {
        let run = [
            "run",
            "processed.toml",
            "--available-now",
            "--progress",
            "none",
        ];
        self.done(&run)
    }

    fn state(&self) -> State {
        self.log().unwrap().state().clone()
    }

    /// Files of rows that are listed.
    fn listed(&self, dir: &str) -> usize {
        files(&self.path(dir), ".parquet").len()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.done(args)).unwrap()
    }

    /// Rows and different numbers in all these directories, as DuckDB lists them. `None` where it cannot run.
    fn counted(&self, dirs: &[&str]) -> Option<(u64, u64)> {
        let globs: Vec<String> = dirs
            .iter()
            .filter(|dir| !files(&self.path(dir), ".parquet").is_empty())
            .map(|dir| format!("'{}/**/*.parquet'", self.path(dir).display()))
            .collect();
        let sql = format!(
            "SELECT count(*) AS n, count(DISTINCT (_partition, _offset)) AS d FROM \
             read_parquet([{}], hive_partitioning = true)",
            globs.join(", ")
        );
        let rows = duckdb_query(&sql)?.unwrap();
        let number = |name: &str| {
            let value = &rows[0][name];
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            text.parse().unwrap()
        };
        Some((number("n"), number("d")))
    }
}

#[test]
fn old_rows_are_in_the_archive_and_the_rest_in_the_zone() {
    let keys =
        "sink.retention = \"2s\"\nretention.grace = \"1s\"\narchive.url = \"file:archive\"\n";
    let rig = Rig::new(SOURCE, keys);
    rig.done(&["check", "raw.toml"]);
    let running = rig.spawn();
    until("some files are archived and deleted", || {
        let left = rig.log()?.state().left.get("rate")?.clone();
        (left.archived_files >= 4).then_some(())
    });
    running.stop();
    let state = rig.state();
    let left = &state.left["rate"];
    let there: u64 = state.live.values().map(|live| live.file.rows).sum();
    assert_eq!(left.rows + there, state.totals().rows.written);
    assert!(left.row_digest.starts_with("xxh3:"), "{left:?}");
    // Nothing is deleted that is not in the archive, and what is in both waits for its deletion.
    let settled = u64::try_from(rig.settled()).unwrap();
    if let Some((rows, numbers)) = rig.counted(&["zone/rate", "archive/rate"]) {
        assert_eq!(numbers, settled);
        assert!(
            rows >= numbers && rows - numbers <= state.leaving.values().map(|l| l.file.rows).sum()
        );
    }
    rig.done(&["zone", "verify", "raw.toml"]);
    let shown = rig.done(&["zone", "ls", "raw.toml"]);
    assert!(shown.contains("left by its age"), "{shown}");
    let log = rig.done(&["log", "raw.toml", "-n", "0"]);
    assert!(
        log.contains("archived at file:") && log.contains("expire"),
        "{log}"
    );
}

#[test]
fn without_an_archive_files_are_deleted_after_their_grace() {
    let keys = "sink.retention = \"1s\"\nretention.grace = \"1s\"\n";
    let total =
        "source.rows.total = 3000\nsource.rows.per.second = 1000000\nsource.type = \"rate\"\n";
    let rig = Rig::new(total, keys);
    rig.run();
    assert!(rig.listed("zone/rate") > 0);
    // Nothing is written any more: an idle pipeline looks by its clock.
    rig.replace("1000000", "1");
    rig.replace("source.rows.total = 3000\n", "");
    let running = rig.spawn();
    until("the old files are deleted", || {
        let left = rig.log()?.state().left.get("rate")?.clone();
        let first = left.rows >= 3000 && rig.state().leaving.values().all(|l| l.file.rows < 100);
        first.then_some(())
    });
    running.stop();
    let state = rig.state();
    assert_eq!(
        rig.listed("zone/rate"),
        state.live.len() + state.leaving.len()
    );
    rig.done(&["zone", "verify", "raw.toml"]);
}

#[test]
fn what_a_reader_has_not_read_stays_and_the_reader_is_named() {
    let rig = Rig::new(
        "source.type = \"rate\"\nsource.rows.total = 2000\nsource.rows.per.second = 1000000\n",
        "retention.grace = \"0ms\"\n",
    );
    // By hand: a run that takes long would let rows leave by itself.
    let expire = ["zone", "expire", "raw.toml", "--older-than", "1s"];
    rig.processed("");
    rig.run();
    rig.process();
    // More rows, which it has not read.
    rig.replace("2000", "5000");
    rig.run();
    let held = until("the rows are old", || {
        let said = rig.json(&[&expire[..], &["--dry-run", "--json"]].concat());
        let held = said["held"].as_array()?.first()?.clone();
        Some(held).filter(|_| said["expires"].as_array().is_some_and(|e| !e.is_empty()))
    });
    assert_eq!(held["by"], "reader");
    assert_eq!(held["name"], "processed/done");
    assert!(
        held["at"].as_str().unwrap().starts_with("rate/0 at 2000"),
        "{held}"
    );
    assert_eq!(held["rows"], 3000);
    let said = rig.done(&expire);
    assert!(
        said.contains("processed/done has not read it: rate/0 at 2000"),
        "{said}"
    );
    let state = rig.state();
    assert_eq!(state.live.values().map(|l| l.file.rows).sum::<u64>(), 3000);
    assert_eq!(state.left["rate"].rows, 2000);
    // It reads all of the rest, and nothing twice, although files that it has read are gone.
    rig.process();
    if let Some(found) = rig.counted(&["done/rate"]) {
        assert_eq!(found, (5000, 5000));
    }
    until("the rest is old too", || {
        rig.done(&expire);
        rig.state().live.is_empty().then_some(())
    });
}

#[test]
fn a_reader_that_comes_later_begins_where_rows_are_and_a_rewind_below_is_refused() {
    let source =
        "source.type = \"rate\"\nsource.rows.total = 2000\nsource.rows.per.second = 1000000\n";
    let rig = Rig::new(source, "retention.grace = \"0ms\"\n");
    rig.run();
    until("it is old", || {
        let said = rig.json(&["zone", "expire", "raw.toml", "--older-than", "1s", "--json"]);
        said["expires"]
            .as_array()
            .filter(|e| !e.is_empty())
            .map(|_| ())
    });
    assert_eq!(rig.listed("zone/rate"), 0);
    rig.replace("2000", "3000");
    rig.run();
    rig.processed("");
    rig.process();
    if let Some(found) = rig.counted(&["done/rate"]) {
        assert_eq!(found, (1000, 1000));
    }
    let refused = rig.output(&["pipeline", "rewind", "raw.toml", "rate/0=500"]);
    assert_eq!(refused.status.code(), Some(2));
    let words = said(&refused);
    assert!(
        words.contains("have expired") && words.contains("not to 500"),
        "{words}"
    );
    assert!(words.contains("sink.retention"), "{words}");
}

#[test]
fn a_reader_that_never_comes_back_is_forgotten_by_a_command() {
    let source =
        "source.type = \"rate\"\nsource.rows.total = 1000\nsource.rows.per.second = 1000000\n";
    let rig = Rig::new(source, "retention.grace = \"0ms\"\n");
    rig.processed("");
    rig.run();
    rig.process();
    rig.replace("1000\n", "4000\n");
    rig.run();
    let shown = rig.done(&["zone", "readers", "raw.toml"]);
    assert!(
        shown.contains("processed/done") && shown.contains("3,000"),
        "{shown}"
    );
    let asked = rig.output(&["zone", "forget-reader", "raw.toml", "processed/done"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(said(&asked).contains("add --yes"), "{}", said(&asked));
    let wrong = rig.output(&["zone", "forget-reader", "raw.toml", "processed", "--yes"]);
    assert!(
        said(&wrong).contains("its readers are processed/done"),
        "{}",
        said(&wrong)
    );
    rig.done(&[
        "zone",
        "forget-reader",
        "raw.toml",
        "processed/done",
        "--yes",
    ]);
    assert!(rig.state().readers.is_empty());
    // Nothing has expired yet: it goes on where it stood.
    rig.process();
    assert_eq!(rig.state().readers.len(), 1);
    rig.done(&[
        "zone",
        "forget-reader",
        "raw.toml",
        "processed/done",
        "--yes",
    ]);
    rig.replace("4000\n", "6000\n");
    rig.run();
    until("all is old", || {
        rig.done(&["zone", "expire", "raw.toml", "--older-than", "1s"]);
        rig.state().live.is_empty().then_some(())
    });
    let run = [
        "run",
        "processed.toml",
        "--available-now",
        "--progress",
        "none",
    ];
    let stopped = rig.output(&run);
    assert!(!stopped.status.success());
    let words = said(&stopped);
    assert!(
        words.contains("was forgotten as a reader of raw/zone"),
        "{words}"
    );
    assert!(
        words.contains("rows that it has not read have expired"),
        "{words}"
    );
}

#[test]
fn an_archive_that_is_away_or_full_keeps_everything_and_goes_on_later() {
    let rig = Rig::new(
        "source.type = \"rate\"\nsource.rows.total = 2000\nsource.rows.per.second = 1000000\n",
        "sink.retention = \"1s\"\nretention.grace = \"0ms\"\narchive.url = \"file:archive\"\n",
    );
    rig.run();
    // A file lies where its directory should be.
    fs::write(rig.path("archive"), "in the way").unwrap();
    let running = rig.spawn();
    until("it says so", || {
        let said = fs::read_to_string(rig.path("weir.log")).ok()?;
        said.contains("files that expired cannot be archived; they stay until they can")
            .then_some(())
    });
    let before = rig.state();
    assert!(!before.leaving.is_empty() && before.left["rate"].archived_files == 0);
    assert_eq!(rig.listed("zone/rate"), before.leaving.len());
    fs::remove_file(rig.path("archive")).unwrap();
    until("it goes on by itself", || {
        rig.state().leaving.is_empty().then_some(())
    });
    running.stop();
    assert_eq!(rig.state().left["rate"].archived_rows, 2000);
    assert_eq!(rig.listed("zone/rate"), 0);
    if let Some(found) = rig.counted(&["archive/rate"]) {
        assert_eq!(found, (2000, 2000));
    }
}

#[test]
fn another_file_in_the_archive_is_never_written_over_and_a_damaged_one_never_archived() {
    let rig = Rig::new(
        "source.type = \"rate\"\nsource.rows.total = 1000\nsource.rows.per.second = 1000000\n",
        "retention.grace = \"0ms\"\narchive.url = \"file:archive\"\n",
    );
    rig.run();
    until("it is old", || {
        rig.done(&["zone", "expire", "raw.toml", "--older-than", "1s"]);
        rig.state().live.is_empty().then_some(())
    });
    let leaving = rig.state().leaving.into_values().next().unwrap().file;
    let copy = rig.path("archive").join(&leaving.path);
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::write(&copy, "something else").unwrap();
    let refused = rig.output(&["zone", "archive", "raw.toml"]);
    assert!(
        said(&refused).contains("the archive has another file under this name"),
        "{}",
        said(&refused)
    );
    assert_eq!(fs::read_to_string(&copy).unwrap(), "something else");
    fs::remove_file(&copy).unwrap();
    // A byte of the zone's file is another one.
    let file = rig.path("zone").join(&leaving.path);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[10] ^= 1;
    fs::write(&file, damaged).unwrap();
    let refused = rig.output(&["zone", "archive", "raw.toml"]);
    assert!(
        said(&refused).contains("is not what the log says"),
        "{}",
        said(&refused)
    );
    assert!(!copy.exists() && file.exists());
    fs::write(&file, whole).unwrap();
    rig.done(&["zone", "archive", "raw.toml"]);
    assert!(copy.exists() && !file.exists());
    rig.done(&["zone", "verify", "raw.toml"]);
}

/// By hand, and by the pipeline itself.
#[test]
fn a_file_that_cannot_be_archived_keeps_no_other_one_from_it() {
    for by_hand in [true, false] {
        let rig = Rig::new(
            "source.type = \"rate\"\nsource.rows.total = 900\nsource.rows.per.second = 1000000\nsource.partitions = 3\n",
            "tasks.max = 3\nretention.grace = \"0ms\"\narchive.url = \"file:archive\"\n",
        );
        rig.run();
        until("it is old", || {
            rig.done(&["zone", "expire", "raw.toml", "--older-than", "1s"]);
            rig.state().live.is_empty().then_some(())
        });
        let leaving = rig.state().leaving;
        let count = leaving.len();
        assert!(count >= 3, "{count}");
        let mut files: Vec<_> = leaving.into_values().collect();
        files.sort_by_key(|leaving| leaving.version);
        let first = &files[0].file;
        let copy = rig.path("archive").join(&first.path);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(&copy, "something else").unwrap();
        match by_hand {
            true => {
                let refused = rig.output(&["zone", "archive", "raw.toml"]);
                assert!(!refused.status.success());
                let said = said(&refused);
                assert!(said.contains("the archive has another file"), "{said}");
            }
            false => drop(rig.run()),
        }
        let state = rig.state();
        assert!(
            state.leaving.keys().eq([&first.id]),
            "{:?}",
            state.leaving.keys()
        );
        assert_eq!(rig.listed("archive/rate"), count);
        assert_eq!(fs::read_to_string(&copy).unwrap(), "something else");
    }
}

/// The whole program ends before each change of any store: of the zone, and of the archive.
#[test]
fn kills_at_every_step_of_expiring_and_archiving_lose_nothing() {
    let source = "source.type = \"rate\"\nsource.rows.total = 600\nsource.rows.per.second = 1000000\nsource.partitions = 3\n";
    let keys = "tasks.max = 3\nretention.grace = \"0ms\"\narchive.url = \"file:archive\"\n";
    let first = Rig::new(source, keys);
    first.run();
    let expire = ["zone", "expire", "raw.toml", "--older-than", "1s"];
    until("it is old", || {
        let said = first.json(&[
            "zone",
            "expire",
            "raw.toml",
            "--older-than",
            "1s",
            "--dry-run",
            "--json",
        ]);
        // All of it: each task has committed at a time of its own.
        (said["expires"][0]["rows"] == 600).then_some(())
    });
    let mut steps = 0;
    for step in 0.. {
        let rig = Rig::new(source, keys);
        copy_dir(&first.path("zone"), &rig.path("zone"));
        let mut killed = false;
        for args in [&expire[..], &["zone", "archive", "raw.toml"][..]] {
            let mut command = rig.weir(args);
            let output = command.env(ABORT_AT, step.to_string()).output().unwrap();
            killed |= !output.status.success();
        }
        rig.done(&expire);
        rig.done(&["zone", "archive", "raw.toml"]);
        let state = rig.state();
        assert!(
            state.live.is_empty() && state.leaving.is_empty(),
            "step {step}"
        );
        assert_eq!(rig.listed("zone/rate"), 0, "step {step}");
        let left = &state.left["rate"];
        assert_eq!((left.rows, left.archived_rows), (600, 600), "step {step}");
        assert_eq!(rig.listed("archive/rate") as u64, left.files, "step {step}");
        rig.done(&["zone", "verify", "raw.toml"]);
        if step % 4 == 0
            && let Some(found) = rig.counted(&["archive/rate"])
        {
            assert_eq!(found, (600, 600), "step {step}");
        }
        if !killed {
            break;
        }
        steps = step;
    }
    eprintln!("{steps} steps");
    assert!(steps >= 8, "{steps}");
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_dir(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn a_zone_that_reads_a_zone_lets_its_rows_leave_too() {
    let source =
        "source.type = \"rate\"\nsource.rows.total = 1000\nsource.rows.per.second = 1000000\n";
    let rig = Rig::new(
        source,
        "sink.retention = \"1s\"\nretention.grace = \"0ms\"\n",
    );
    rig.processed(
        "sink.retention = \"1s\"\nretention.grace = \"0ms\"\nsink.dedup.key = \"value\"\n",
    );
    rig.run();
    rig.process();
    // Its input may be put back below what it has read, until that has expired itself.
    let said = rig.json(&["zone", "expire", "processed.toml", "--dry-run", "--json"]);
    let held: Vec<&str> = said["held"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["by"].as_str().unwrap())
        .collect();
    assert!(held.iter().all(|by| *by == "input"), "{said}");
    until("the input's rows left, and then its own", || {
        rig.done(&["zone", "expire", "raw.toml"]);
        rig.done(&["zone", "expire", "processed.toml"]);
        files(&rig.path("done"), ".parquet")
            .is_empty()
            .then_some(())
    });
    rig.replace("1000\n", "1500\n");
    rig.run();
    rig.process();
    if let Some(found) = rig.counted(&["done/rate"]) {
        assert_eq!(found, (500, 500));
    }
    rig.done(&["zone", "verify", "processed.toml"]);
}

#[test]
fn configs_that_cannot_mean_what_they_say_are_refused() {
    let rig = Rig::new(
        SOURCE,
        "sink.retention = \"30d\"\narchive.url = \"file:zone/archive\"\n",
    );
    let wrong = |keys: &str, words: &str| {
        rig.raw(SOURCE, keys);
        let output = rig.output(&["check", "raw.toml"]);
        let text = said(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(
            !output.status.success() && text.contains(words),
            "{keys}: {text}"
        );
    };
    wrong(
        "archive.url = \"file:zone/archive\"\n",
        "neither in the zone of `sink.url` nor around it",
    );
    wrong(
        "archive.url = \"file:.\"\n",
        "neither in the zone of `sink.url` nor around it",
    );
    wrong(
        "archive.store.region = \"eu-1\"\n",
        "without `archive.url` reaches nothing",
    );
    wrong(
        "archive.url = \"file:a\"\narchive.store.region = \"eu-1\"\n",
        "`archive.store.region` is for S3",
    );
    wrong("sink.retention = \"30\"\n", "30s");
    rig.raw(SOURCE, "");
    let nothing = rig.output(&["zone", "expire", "raw.toml"]);
    assert!(!nothing.status.success());
    rig.run_total();
    let nothing = rig.output(&["zone", "expire", "raw.toml"]);
    assert!(
        said(&nothing).contains("nothing says how old is old"),
        "{}",
        said(&nothing)
    );
    let url = rig.output(&["zone", "expire", "file:zone"]);
    assert!(
        said(&url).contains("this needs the pipeline's config"),
        "{}",
        said(&url)
    );
}

impl Rig {
    fn run_total(&self) {
        self.raw("source.type = \"rate\"\nsource.rows.total = 10\n", "");
        self.run();
    }
}
