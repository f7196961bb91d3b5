//! `weir run` as a child process: the program that people start, with the configs of `conf/`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use weir::chain::Ledger;
use weir::clock::SystemClock;
use weir::commit::{Log, LogName, Writer};
use weir::config::Location;
use weir::store;

use crate::measure::{Ended, ended};

/// First argument of this program as a launcher: see [`launch`].
pub const LAUNCH: &str = "--launch";

/// Runs the rest of the arguments and says when it begins and what it took. A process inherits the peak memory of the
/// one that made it, and this one is small where the bench is not.
pub fn launch(command: &[String]) -> ExitCode {
    println!("{}", json!({ "launch": "now" }));
    let child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .spawn();
    match ended(&child.unwrap()) {
        Ok(Ended { cpu, peak_bytes }) => {
            println!(
                "{}",
                json!({ "launch": "ended", "cpu": cpu, "peak": peak_bytes })
            );
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The program that is measured: the one that cargo built for the bench, or `WEIR`.
fn program() -> String {
    std::env::var("WEIR").unwrap_or_else(|_| env!("CARGO_BIN_EXE_weir").to_owned())
}

/// Where everything of one pipeline run lies.
#[derive(Clone)]
pub struct Place {
    pub dir: PathBuf,
    pub cache: PathBuf,
    pub store: PathBuf,
    pub plugins: PathBuf,
    pub root: PathBuf,
}

/// A run that has ended, and what its log says of all that it wrote.
pub struct Ran {
    pub ended: Ended,
    pub total: Ledger,
    /// From spawn to the first line about a data commit.
    pub first_commit_ms: f64,
}

impl Place {
    pub fn zone(&self, name: &str) -> String {
        format!("file:{}", self.dir.join(name).display())
    }

    pub fn at(&self, name: &str) -> Location {
        Location::of(&self.zone(name))
    }

    /// `--set`s and flags that all runs have.
    pub fn weir(&self, conf: &str, sets: &[String], log_level: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([LAUNCH, &program()]);
        command
            .current_dir(&self.root)
            .args(["run", conf, "--available-now"]);
        command.args(["--progress", "json", "--log-format", "json"]);
        command.args(["--log-level", log_level]);
        for set in self.plugin_sets().iter().chain(sets) {
            command.args(["--set", set]);
        }
        let log = File::create(self.dir.join("weir.log")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        command
    }

    pub fn plugin_sets(&self) -> [String; 3] {
        [
            format!("plugin.path={}", self.plugins.display()),
            format!("plugin.store={}", self.store.display()),
            format!("plugin.cache={}", self.cache.display()),
        ]
    }

    /// Kafka → RAW into `zone`, from nothing.
    pub fn raw(&self, bootstrap: &str, topic: &str, zone: &str) -> Ran {
        let sets = raw_sets(bootstrap, topic, &self.zone(zone));
        self.run("conf/books-raw.toml", &sets, zone, "books-raw")
    }

    /// RAW → PROCESSED into `zone`, from nothing.
    pub fn processed(&self, raw: &str, zone: &str) -> Ran {
        let sets = [
            format!("source.url={}", self.zone(raw)),
            "source.table=books".to_owned(),
            format!("sink.url={}", self.zone(zone)),
        ];
        self.run("conf/books-processed.toml", &sets, zone, "books-processed")
    }

    /// Any config, into `zone`, from nothing.
    pub fn run(&self, conf: &str, sets: &[String], zone: &str, pipeline: &str) -> Ran {
        self.empty(zone);
        let command = self.weir(conf, sets, "warn");
        self.runs(command, conf, &self.at(zone), pipeline, zone)
    }

    /// Kafka → RAW into a store that is no directory and has nothing below this place yet; `reach` tells the command how to
    /// get there.
    pub fn raw_into(
        &self,
        bootstrap: &str,
        topic: &str,
        at: &Location,
        reach: impl FnOnce(&mut Command),
    ) -> Ran {
        const CONF: &str = "conf/books-raw.toml";
        let mut command = self.weir(CONF, &raw_sets(bootstrap, topic, &at.url), "warn");
        reach(&mut command);
        let zone = at.url.rsplit('/').next().unwrap();
        self.runs(command, CONF, at, "books-raw", zone)
    }

    fn runs(
        &self,
        mut command: Command,
        conf: &str,
        at: &Location,
        pipeline: &str,
        zone: &str,
    ) -> Ran {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ran = self.ran(conf, at, pipeline, zone, lines.map(Result::unwrap));
        child.wait().unwrap();
        ran
    }

    /// What the lines of a launched run, as they come, and its log afterwards say.
    pub fn ran(
        &self,
        conf: &str,
        at: &Location,
        pipeline: &str,
        zone: &str,
        lines: impl IntoIterator<Item = String>,
    ) -> Ran {
        let mut begun = Instant::now();
        let (mut first_commit_ms, mut ended) = (f64::NAN, None);
        for line in lines {
            let line: Value = serde_json::from_str(&line).unwrap();
            let number = |key: &str| line[key].as_f64();
            if line["launch"] == "now" {
                begun = Instant::now();
            } else if line["launch"] == "ended" {
                ended = Some(Ended {
                    cpu: number("cpu").unwrap(),
                    peak_bytes: number("peak").unwrap(),
                });
            } else if first_commit_ms.is_nan() && number("numInputRows").is_some_and(|n| n > 0.0) {
                first_commit_ms = begun.elapsed().as_secs_f64() * 1e3;
            }
        }
        let ended = ended.unwrap_or_else(|| {
            let said = std::fs::read_to_string(self.dir.join("weir.log")).unwrap_or_default();
            panic!("weir run {conf}: {said}")
        });
        let total = log_at(at, pipeline, zone).unwrap().state().totals();
        assert!(total.closes(), "the ledgers of {zone} close");
        Ran {
            ended,
            total,
            first_commit_ms,
        }
    }

    /// `weir log -n 1` on a zone: what the process took, and the milliseconds from its start to its end.
    pub fn looks_at_log(&self, zone: &str) -> (Ended, f64) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([LAUNCH, &program()]);
        command.args(["log", &self.zone(zone), "-n", "1"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut begun, mut ended) = (Instant::now(), None);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap_or_default();
            if line["launch"] == "now" {
                begun = Instant::now();
            } else if line["launch"] == "ended" {
                let of = Ended {
                    cpu: line["cpu"].as_f64().unwrap(),
                    peak_bytes: line["peak"].as_f64().unwrap(),
                };
                ended = Some((of, begun.elapsed().as_secs_f64() * 1e3));
            }
        }
        child.wait().unwrap();
        ended.expect("weir log ended well")
    }

    pub fn empty(&self, zone: &str) {
        let dir = self.dir.join(zone);
        if dir.exists() {
            std::fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// What `conf/books-raw.toml` is run with; also for the chain without a log.
pub fn raw_sets(bootstrap: &str, topic: &str, url: &str) -> Vec<String> {
    vec![
        format!("source.bootstrap.servers={bootstrap}"),
        format!("source.topics={topic}"),
        format!("sink.url={url}"),
        "sink.table=books".to_owned(),
    ]
}

/// `None` before its first entry.
pub fn log_if_any(root: &Path, pipeline: &str, zone: &str) -> Option<Log> {
    let at = Location::of(&format!("file:{}", root.display()));
    log_at(&at, pipeline, zone)
}

/// `None` before its first entry.
pub fn log_at(at: &Location, pipeline: &str, zone: &str) -> Option<Log> {
    let clock = SystemClock::shared();
    let writer = Writer::this_process(clock.as_ref());
    let name = LogName::new(pipeline, zone);
    Log::open(store::open(at).unwrap(), name, clock, writer).unwrap()
}
