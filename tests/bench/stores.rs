//! Zones on S3 and HDFS servers of this machine, beside a directory. The servers run on the same cores, so only the CPU
//! time of Weir is counted.

use std::fs;
use std::process::Command;

use weir::config::Location;

use crate::child::{Place, Ran};
use crate::hdfs_cluster::{Hdfs, hdfs};
use crate::inside::{self, Plugged};
use crate::measure::{Series, rounds, series};
use crate::object_servers::{Server, reach, s3};
use crate::report::Figure;
use crate::{FEW, MANY, MIB, NONE, say};

/// Commits whose time is taken; a hundredth of them is the slowest one.
const COMMITS: usize = 100;

/// Where a zone is put.
#[derive(Clone, Copy)]
enum On {
    Directory,
    S3(&'static Server),
    Hdfs(&'static Hdfs),
}

/// A place that nothing was written to, and what takes it away.
struct Fresh {
    at: Location,
    on: On,
    whole: String,
}

impl On {
    fn fresh(self, place: &Place, zone: &str) -> Fresh {
        let (at, whole) = match self {
            On::Directory => {
                place.empty(zone);
                (place.at(zone), zone.to_owned())
            }
            On::S3(server) => {
                let bucket = server.bucket("bench");
                (server.at(&bucket, zone), bucket)
            }
            On::Hdfs(cluster) => {
                let dir = cluster.path("bench");
                (Location::of(&cluster.url(&format!("{dir}/{zone}"))), dir)
            }
        };
        Fresh {
            at,
            on: self,
            whole,
        }
    }
}

impl Fresh {
    fn reach(&self, command: &mut Command) {
        if let On::S3(_) = self.on {
            reach(command, &self.at, "sink");
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        match self.on {
            On::Directory => {}
            On::S3(server) => fs::remove_dir_all(server.files(&self.whole)).unwrap(),
            On::Hdfs(cluster) => {
                cluster.ask("DELETE", &self.whole, "DELETE&recursive=true");
            }
        }
    }
}

/// Nothing, with a word about it, of a server that cannot run here.
pub fn figures(place: &Place, plugged: &Plugged, bootstrap: &str) -> Vec<Figure> {
    let mut figures = Vec::new();
    if let Some(server) = s3() {
        figures.extend(beside_a_directory(
            place,
            plugged,
            bootstrap,
            On::S3(server),
            &S3,
        ));
    }
    if let Some(cluster) = hdfs() {
        let on = On::Hdfs(cluster);
        figures.extend(beside_a_directory(place, plugged, bootstrap, on, &HDFS));
    }
    figures
}

struct Names {
    throughput: &'static str,
    memory: &'static str,
    first: &'static str,
    half: &'static str,
    slow: &'static str,
    open: &'static str,
    later: &'static str,
    /// In the log that is opened.
    commits: usize,
}

const S3: Names = Names {
    throughput: "Kafka to RAW on S3",
    memory: "Peak memory of that child, S3",
    first: "Start to first commit on S3",
    half: "A commit on S3, median",
    slow: "A commit on S3, p99",
    open: "Opening the log after 1,000 commits on S3",
    later: "Start to first commit after 1,000 commits on S3",
    commits: 1_000,
};

const HDFS: Names = Names {
    throughput: "Kafka to RAW on HDFS",
    memory: "Peak memory of that child, HDFS",
    first: "Start to first commit on HDFS",
    half: "A commit on HDFS, median",
    slow: "A commit on HDFS, p99",
    open: "Opening the log after 200 commits on HDFS",
    later: "Start to first commit after 200 commits on HDFS",
    commits: 200,
};

const WAYS: [&str; 3] = ["store", "store again", "a directory"];

fn beside_a_directory(
    place: &Place,
    plugged: &Plugged,
    bootstrap: &str,
    on: On,
    names: &Names,
) -> Vec<Figure> {
    let of = |way: usize| if way == 2 { On::Directory } else { on };
    let run = |way, topic| -> Ran {
        let fresh = of(way).fresh(place, "raw_zone");
        place.raw_into(bootstrap, topic, &fresh.at, |c| fresh.reach(c))
    };
    say(names.throughput);
    let runs = rounds(&WAYS, |way| {
        let Ran { ended, total, .. } = run(way, MANY);
        (
            total.records.read as f64 / ended.cpu,
            ended.peak_bytes / MIB,
        )
    });
    let (throughput, memory) = apart(runs);
    say(names.first);
    let first = series(&WAYS, |way| run(way, FEW).first_commit_ms);
    say(names.half);
    let times = rounds(&WAYS, |way| {
        let fresh = of(way).fresh(place, "commits");
        let mut took = inside::log_with(&fresh.at, plugged, "commits", COMMITS);
        took.sort_by(f64::total_cmp);
        (took[COMMITS / 2], took[COMMITS * 99 / 100])
    });
    let (half, slow) = apart(times);
    say(names.open);
    let logs = [of(0), of(2)].map(|on| on.fresh(place, "thousand"));
    for log in &logs {
        inside::log_with(&log.at, plugged, "thousand", names.commits);
    }
    let open = series(&WAYS, |way| {
        inside::open_log(&logs[usize::from(way == 2)].at, "thousand")
    });
    say(names.later);
    let later = series(&WAYS, |way| {
        let fresh = of(way).fresh(place, "raw_zone");
        let log = ("books-raw", "raw_zone");
        // The log begins with the child's rules: a start refuses others than those of the rows that are there.
        place.raw_into(bootstrap, NONE, &fresh.at, |c| fresh.reach(c));
        inside::log_of(&fresh.at, plugged, log, names.commits);
        let ran = place.raw_into(bootstrap, FEW, &fresh.at, |c| fresh.reach(c));
        ran.first_commit_ms
    });
    let figure = |name, unit, mut all: Vec<Series>| {
        let beside = all.split_off(2);
        Figure::new(name, unit, all, beside)
    };
    vec![
        figure(names.throughput, "messages per CPU-second", throughput),
        figure(names.memory, "MiB resident", memory),
        figure(names.first, "ms", first),
        figure(names.half, "ms", half),
        figure(names.slow, "ms", slow),
        figure(names.open, "ms", open),
        figure(names.later, "ms", later),
    ]
}

/// Two figures of the same runs.
fn apart(runs: Vec<(&'static str, Vec<(f64, f64)>)>) -> (Vec<Series>, Vec<Series>) {
    let of = |(name, values): (&'static str, Vec<(f64, f64)>)| {
        let (one, other) = values.into_iter().unzip();
        (Series::new(name, one), Series::new(name, other))
    };
    runs.into_iter().map(of).unzip()
}
