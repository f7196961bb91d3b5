//! A batch of PROCESSED within `memory.budget`, whatever the rows: memory and open files of a real process, kills while
//! rows wait on disk, a place for them that is full. Measured beside a process with the same budget and few rows.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use arrow_array::cast::AsArray;
use weir::commit::{Role, verify};
use weir::store;
use weir::zone::read_file;

use crate::brokers::{files, until};
use crate::case::Case;
use crate::world::{open_log, plugins_dir};

const MIB: u64 = 1 << 20;
/// The least that `memory.budget` takes.
const BUDGET: u64 = 32 * MIB;
/// What a process may have over its budget and over one that has nothing to do.
const OVER: u64 = 64 * MIB;
const OPEN_FILES: usize = 120;

/// Files of JSON lines, the RAW zone they become in one commit, and zones made of that.
struct Lab {
    case: Case,
}

/// What a process needed.
#[derive(Clone, Copy, Debug)]
struct Needed {
    peak: u64,
    open: usize,
}

impl Lab {
    /// `line`: the n-th of `count` JSON objects with `id`, `day` and `text`.
    fn new(count: usize, line: impl Fn(usize) -> String) -> Lab {
        let lab = Lab {
            case: Case::new("raw", "raw_zone"),
        };
        fs::create_dir(lab.case.path("in")).unwrap();
        let file = fs::File::create(lab.case.path("in/all.jsonl")).unwrap();
        let mut file = std::io::BufWriter::new(file);
        for n in 0..count {
            writeln!(file, "{}", line(n)).unwrap();
        }
        file.into_inner().unwrap();
        lab.case.declare(
            "trigger = \"available-now\"\nsource.type = \"file\"\nsource.url = \"file:in\"\nsource.format = \"jsonl\"\n\
             source.settle.time = \"0s\"\nsink.type = \"zone\"\nsink.url = \"file:raw_zone\"\nsink.table = \"all\"\n\
             sink.rotate.bytes = \"4GiB\"\nsink.rotate.age = \"1h\"\n",
            "[[transforms]]\nname = \"columns\"\ntype = \"json-flatten@0.1\"\ncolumns = [\"id\", \"day\", \"text\"]\n",
        );
        lab.case.done(&["run", "raw.toml", "--progress", "none"]);
        lab
    }

    /// The config of a PROCESSED pipeline into the zone of its name.
    fn declare(&self, name: &str, more: &str) {
        let config = format!(
            "name = \"{name}\"\ntrigger = \"available-now\"\nsource.type = \"zone\"\nsource.url = \"file:raw_zone\"\n\
             source.pipeline = \"raw\"\nsource.table = \"all\"\nsink.type = \"zone\"\nsink.url = \"file:{name}\"\n\
             sink.row.group.bytes = \"4MiB\"\nsink.partition.field = \"day\"\nsink.dedup.key = [\"id\"]\n\
             spill.dir = \"aside\"\nretry.max.backoff = \"200ms\"\n{more}"
        );
        fs::write(self.case.path(&format!("{name}.toml")), config).unwrap();
    }

    fn start(&self, name: &str) -> Child {
        let mut command: Command = self.case.weir(&["run"]);
        command.args([format!("{name}.toml").as_str(), "--progress", "none"]);
        let log = fs::File::create(self.case.path(&format!("{name}.log"))).unwrap();
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.case.path(&format!("{name}.log"))).unwrap()
    }

    /// Runs to the end, and looks at the process all the while.
    fn measured(&self, name: &str, more: &str) -> Needed {
        self.declare(name, more);
        let mut child = self.start(name);
        let mut needed = Needed { peak: 0, open: 0 };
        let ended = until("its end", || {
            needed.peak = needed.peak.max(peak(&child).unwrap_or(0));
            needed.open = needed.open.max(open_files(&child).len());
            child.try_wait().unwrap()
        });
        assert!(ended.success(), "{}", self.said(name));
        needed
    }

    /// All rows of a zone by date and id. Its log is whole, and each file is sorted.
    fn rows(&self, name: &str) -> Vec<String> {
        let log = open_log(&self.case.path(name), name, name)
            .unwrap()
            .unwrap();
        let url = format!("file:{}", self.case.path(name).display());
        let store = store::open_url(&url).unwrap();
        let found = verify(store.as_ref(), log.name()).unwrap().unwrap();
        assert!(found.problems.is_empty(), "{found:?}");
        let mut rows = Vec::new();
        for live in log
            .state()
            .live
            .values()
            .filter(|l| l.file.role == Role::Rows)
        {
            let date = live.file.path.split('/').nth(1).unwrap();
            let mut last = String::new();
            for batch in read_file(&store, log.name(), &live.file).unwrap() {
                let batch = batch.unwrap();
                let ids = batch.column_by_name("id").unwrap().as_string::<i32>();
                for id in ids.iter().map(Option::unwrap) {
                    assert!(id > last.as_str(), "sorted by the key");
                    last = id.to_owned();
                    rows.push(format!("{date} {id}"));
                }
            }
        }
        rows.sort();
        rows
    }
}

/// Bytes that a process ever held resident.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib << 10)
}

fn open_files(child: &Child) -> Vec<PathBuf> {
    let dir = format!("/proc/{}/fd", child.id());
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Bytes of files of a process that lie in a directory and have no name.
fn laid_aside(child: &Child, dir: &Path) -> u64 {
    let mut bytes = 0;
    for open in open_files(child) {
        let there = fs::read_link(&open).is_ok_and(|to| to.starts_with(dir));
        let size = fs::metadata(&open).map_or(0, |of| if of.nlink() == 0 { of.len() } else { 0 });
        bytes += if there { size } else { 0 };
    }
    bytes
}

/// Numbers without a pattern.
fn random(n: usize) -> u64 {
    (n as u64 + 1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// A text that no dictionary and no compression makes small in memory.
fn text(n: usize, len: usize) -> String {
    let mut text = String::with_capacity(len + 16);
    for part in 0.. {
        if text.len() >= len {
            break;
        }
        text.push_str(&format!("{:016x}", random(n * 1_000 + part)));
    }
    text
}

fn line(id: usize, day: usize, text: &str) -> String {
    let day = date(day);
    format!("{{\"id\":\"{id:09}\",\"day\":\"{day}\",\"text\":\"{text}\"}}")
}

/// Days of months of 28 days.
fn date(day: usize) -> String {
    format!(
        "{}-{:02}-{:02}",
        1990 + day / 336,
        day / 28 % 12 + 1,
        day % 28 + 1
    )
}

fn budget() -> String {
    format!("memory.budget = \"{}MiB\"\n", BUDGET / MIB)
}

#[track_caller]
fn is_within(needed: Needed, idle: Needed) {
    let over = needed.peak.saturating_sub(idle.peak);
    assert!(
        over < BUDGET + OVER,
        "{} MiB over an idle process",
        over / MIB
    );
    assert!(needed.open < OPEN_FILES, "{needed:?}");
}

fn idle() -> Needed {
    Lab::new(10, |n| line(n, 0, "few")).measured("idle", &budget())
}

#[test]
fn wide_rows_stay_within_the_budget() {
    // 200 MB of texts, a tenth of them twice.
    let lab = Lab::new(44_000, |n| {
        line(n % 40_000, n % 40_000 % 5, &text(n, 5_000))
    });
    let needed = lab.measured("wide", &budget());
    is_within(needed, idle());
    assert_eq!(lab.rows("wide").len(), 40_000);
    let log = open_log(&lab.case.path("wide"), "wide", "wide")
        .unwrap()
        .unwrap();
    let totals = log.state().totals();
    assert_eq!(
        (totals.rows.written, totals.rows.duplicates),
        (40_000, 4_000)
    );
    let nothing = fs::read_dir(lab.case.path("aside")).unwrap().count();
    assert_eq!(nothing, 0);
    // By a column as wide as the rows.
    let needed = lab.measured("sorted", &format!("{}sink.sort = [\"text\"]\n", budget()));
    is_within(needed, idle());
}

/// A third of wide rows is refused: rows and dead letters go through a plugin within the same budget.
#[test]
fn wide_rows_stay_within_the_budget_through_rules() {
    let lab = Lab::new(15_000, |n| line(n, n % 5, &text(n, 5_000)));
    let plugins = plugins_dir();
    let plugins = plugins.display();
    fs::write(
        lab.case.path("rules.toml"),
        "[columns.id]\npattern = \".*[^369]\"\n",
    )
    .unwrap();
    let needed = lab.measured(
        "checked",
        &format!(
            "{}plugin.path = \"{plugins}\"\nplugin.store = \"store\"\nerrors.tolerance = \"all\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\n[[transforms]]\nname = \"rules\"\n\
             type = \"validate@0.1\"\nrules = \"rules.toml\"\n",
            budget()
        ),
    );
    is_within(needed, idle());
    assert_eq!(lab.rows("checked").len(), 10_500);
    let log = open_log(&lab.case.path("checked"), "checked", "checked");
    let log = log.unwrap().unwrap();
    let totals = log.state().totals();
    assert_eq!((totals.rows.refused, totals.dead_letters), (4_500, 4_500));
}

#[test]
fn many_rows_over_many_dates_stay_within_the_budget() {
    const DATES: usize = 1_200;
    const ROWS: usize = 400_000;
    let lab = Lab::new(ROWS, |n| line(n, random(n) as usize % DATES, "a text"));
    let needed = lab.measured("dates", &budget());
    is_within(needed, idle());
    assert_eq!(files(&lab.case.path("dates/all"), ".parquet").len(), DATES);
}

/// Keys that are known lie in as many sidecars as there are dates.
#[test]
fn known_keys_of_many_dates_are_found_within_the_budget() {
    const DATES: usize = 600;
    let lab = Lab::new(60_000, |n| line(n, n % DATES, "first"));
    lab.measured("known", &budget());
    let mut file = fs::File::create(lab.case.path("in/again.jsonl")).unwrap();
    for n in (0..120_000).rev() {
        writeln!(file, "{}", line(n, n % DATES, "second")).unwrap();
    }
    drop(file);
    lab.case.done(&["run", "raw.toml", "--progress", "none"]);
    let needed = lab.measured("known", &budget());
    is_within(needed, idle());
    let log = open_log(&lab.case.path("known"), "known", "known")
        .unwrap()
        .unwrap();
    let totals = log.state().totals();
    assert_eq!(
        (totals.rows.written, totals.rows.duplicates),
        (120_000, 60_000)
    );
}

/// Killed while runs are written, while they are merged and while files are: the next start has the same result, and
/// nothing is left where they were.
#[test]
fn kills_while_rows_wait_on_disk_change_nothing() {
    let lab = Lab::new(30_000, |n| line(n % 25_000, n % 3, &text(n, 2_000)));
    lab.measured("whole", "memory.budget = \"1GiB\"\n");
    let expected = lab.rows("whole");
    lab.declare("killed", &budget());
    let aside = lab.case.path("aside");
    fs::create_dir_all(&aside).unwrap();
    let aside = aside.canonicalize().unwrap();
    for least in [1, 20 * MIB, 45 * MIB] {
        let mut child = lab.start("killed");
        until("rows on disk", || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "it was too quick: {}", lab.said("killed"));
            (laid_aside(&child, &aside) >= least).then_some(())
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
    }
    let mut child = lab.start("killed");
    let staged = || files(&lab.case.path("killed/_system"), "").len();
    let before = staged();
    until("files", || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "it was too quick: {}", lab.said("killed"));
        (laid_aside(&child, &aside) > 0 && staged() > before).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lab.start("killed").wait().unwrap().success());
    assert_eq!(lab.rows("killed"), expected);
    assert_eq!(fs::read_dir(&aside).unwrap().count(), 0);
}

/// A batch takes minutes where there is much; a process that is told to end has less time.
#[test]
fn a_large_batch_ends_in_time_when_it_is_told_to() {
    let lab = Lab::new(60_000, |n| line(n, n % 3, &text(n, 2_000)));
    lab.declare("told", &format!("{}shutdown.timeout = \"1s\"\n", budget()));
    let aside = lab.case.path("aside");
    fs::create_dir_all(&aside).unwrap();
    let aside = aside.canonicalize().unwrap();
    let mut child = lab.start("told");
    until("rows on disk", || {
        (laid_aside(&child, &aside) > 0).then_some(())
    });
    let told = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(told.unwrap().success());
    let ended = until("its end", || child.try_wait().unwrap());
    assert!(
        ended.code().is_some(),
        "not by the signal: {}",
        lab.said("told")
    );
    let log = open_log(&lab.case.path("told"), "told", "told")
        .unwrap()
        .unwrap();
    let (written, planned) = (
        log.state().totals().rows.written,
        log.state().plan.is_some(),
    );
    assert!(planned && written == 0, "it had time: {written}");
    assert!(lab.start("told").wait().unwrap().success());
    assert_eq!(lab.rows("told").len(), 60_000);
}

/// A place that is full, by the limit and by the disk: the pipeline waits, says why, and goes on.
#[test]
fn a_full_place_pauses_and_says_so() {
    let lab = Lab::new(30_000, |n| line(n, n % 3, &text(n, 2_000)));
    lab.declare("full", &format!("{}spill.max.bytes = \"8MiB\"\n", budget()));
    let mut child = lab.start("full");
    until("a word", || {
        lab.said("full").contains("spill.max.bytes").then_some(())
    });
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    child.kill().unwrap();
    child.wait().unwrap();
    lab.measured("full", &budget());
    let log = open_log(&lab.case.path("full"), "full", "full")
        .unwrap()
        .unwrap();
    assert_eq!(log.state().totals().rows.written, 30_000);
}

#[test]
fn a_full_disk_pauses_until_there_is_room() {
    let lab = Lab::new(30_000, |n| line(n, n % 3, &text(n, 2_000)));
    let aside = lab.case.path("aside");
    fs::create_dir_all(&aside).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        command.arg(&aside).stderr(Stdio::null()).status()
    };
    if !mount("size=8m").is_ok_and(|status| status.success()) {
        eprintln!("skipped: this user may not mount a small disk");
        return;
    }
    lab.declare("full", &budget());
    let mut child = lab.start("full");
    until("a word", || {
        lab.said("full").contains("the disk is full").then_some(())
    });
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    mount("remount,size=1g").unwrap();
    assert!(child.wait().unwrap().success(), "{}", lab.said("full"));
    let unmounted = Command::new("umount").arg(&aside).status().unwrap();
    assert!(unmounted.success());
    let log = open_log(&lab.case.path("full"), "full", "full")
        .unwrap()
        .unwrap();
    assert_eq!(log.state().totals().rows.written, 30_000);
}
