//! The table: machine, figures, controls; as Markdown and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir::sample::Tally;

use crate::measure::{ROUNDS, Series, Spread};

const NOISE: &str = "Shared machines are noisy, small ones more so: read the ratios rather than the numbers, and no \
difference smaller than what the same thing measured twice shows (\"again\").";

pub struct Figure {
    name: &'static str,
    unit: &'static str,
    /// The figure, and the same thing again.
    own: Vec<Series>,
    /// Measured in the same rounds.
    beside: Vec<Series>,
}

impl Figure {
    /// Its lines of the table.
    pub fn rows(&self) -> String {
        let mut out = String::new();
        let own = spread(self.own[0].spread());
        let again = ratio(self.own[1].over(&self.own[0]));
        let mut lines = self.beside.iter();
        let mut line = |figure: &str, unit: &str, own: &str, again: &str, s: Option<&Series>| {
            let beside = s.map_or("".into(), |s| format!("{}: {}", s.name, spread(s.spread())));
            let over = s.map_or("".into(), |s| ratio(self.own[0].over(s)));
            writeln!(
                out,
                "| {figure} | {unit} | {own} | {again} | {beside} | {over} |"
            )
            .unwrap();
        };
        line(self.name, self.unit, &own, &again, lines.next());
        for s in lines {
            line("", "", "", "", Some(s));
        }
        out
    }

    pub fn new(
        name: &'static str,
        unit: &'static str,
        own: Vec<Series>,
        beside: Vec<Series>,
    ) -> Figure {
        Figure {
            name,
            unit,
            own,
            beside,
        }
    }

    fn json(&self) -> Value {
        let ratio = |of: &Series, to: &Series| {
            let Spread { median, min, max } = of.over(to);
            json!({ "median": median, "min": min, "max": max })
        };
        let beside = self.beside.iter().map(|s| {
            let mut json = s.json();
            json["figureToThis"] = ratio(&self.own[0], s);
            json
        });
        json!({
            "name": self.name,
            "unit": self.unit,
            "figure": self.own[0].json(),
            "again": self.own[1].json(),
            "againToFigure": ratio(&self.own[1], &self.own[0]),
            "beside": beside.collect::<Vec<_>>(),
        })
    }
}

pub struct Machine {
    date: String,
    commit: String,
    cores: usize,
    cpu: String,
    memory: String,
    kernel: String,
    load: String,
}

impl Machine {
    pub fn now() -> Machine {
        let after = |file: &str, key: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text
                .lines()
                .find_map(|l| l.strip_prefix(key))
                .unwrap_or("unknown");
            line.trim_start_matches([' ', '\t', ':']).to_owned()
        };
        let kib: f64 = after("/proc/meminfo", "MemTotal")
            .trim_end_matches(" kB")
            .parse()
            .unwrap_or(f64::NAN);
        let commit = |args: &[&str]| {
            let out = Command::new("git").args(args).output().ok()?;
            let text = String::from_utf8(out.stdout).ok()?;
            out.status.success().then(|| text.trim().to_owned())
        };
        let changed = commit(&["status", "--porcelain", "--untracked-files=no"]);
        let changed = changed.is_some_and(|text| !text.is_empty());
        let head = commit(&["rev-parse", "--short=12", "HEAD"]).unwrap_or("unknown".into());
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let now = std::time::SystemTime::now();
        let seconds = now
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let date = jiff::Timestamp::from_second(seconds as i64).unwrap();
        Machine {
            date: date.to_string(),
            commit: if changed {
                format!("{head} with local changes")
            } else {
                head
            },
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: after("/proc/cpuinfo", "model name"),
            memory: format!("{:.1} GiB", kib / 1024.0 / 1024.0),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .into(),
            load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
        }
    }

    fn json(&self) -> Value {
        json!({
            "date": self.date,
            "commit": self.commit,
            "cores": self.cores,
            "cpu": self.cpu,
            "memory": self.memory,
            "kernel": self.kernel,
            "loadAtStart": self.load,
        })
    }
}

pub struct Report {
    pub machine: Machine,
    pub tally: Tally,
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn markdown(&self) -> String {
        let (m, t) = (&self.machine, &self.tally);
        let mut out = format!(
            "{} · commit {}\n{} cores of {}, {}, Linux {}, load at start {}\n\n",
            m.date, m.commit, m.cores, m.cpu, m.memory, m.kernel, m.load
        );
        writeln!(
            out,
            "{} messages of {} bytes on average, {} books in them; median of {ROUNDS} rounds, least .. most in brackets.\n{NOISE}\n",
            t.messages,
            t.bytes / t.messages.max(1),
            t.books
        )
        .unwrap();
        out.push_str("| figure | unit | Weir | again : Weir | beside it | Weir : beside |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for figure in &self.figures {
            out.push_str(&figure.rows());
        }
        out
    }

    pub fn write(&self, dir: &Path) {
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        let json = json!({
            "machine": self.machine.json(),
            "noise": NOISE,
            "rounds": ROUNDS,
            "messages": self.tally,
            "figures": figures,
        });
        fs::write(
            dir.join("bench.json"),
            serde_json::to_string_pretty(&json).unwrap(),
        )
        .unwrap();
        fs::write(dir.join("bench.md"), self.markdown()).unwrap();
    }
}

fn spread(Spread { median, min, max }: Spread) -> String {
    format!("{} ({} .. {})", number(median), number(min), number(max))
}

fn ratio(Spread { median, min, max }: Spread) -> String {
    format!("{median:.2} ({min:.2} .. {max:.2})")
}

/// Three digits that matter, thousands apart.
fn number(n: f64) -> String {
    match n {
        n if n >= 1e3 => weir::telemetry::count(n.round() as u64),
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}
