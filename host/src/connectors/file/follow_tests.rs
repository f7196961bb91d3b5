//! Files that grow, are renamed, cut and replaced while they are followed, and while nobody reads.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::follow::Follower;
use super::shared::Shared;
use super::tests::{LIMITS, World, starts};
use super::{FileConfig, Files, followed};
use crate::error::{Error, Kind};
use crate::source::{Change, Connector as _, Lost, Position, ReadLimits, Source, lost};
use crate::store::{self, Fault, FaultStore, Script, Verb};

const WAIT: Duration = Duration::from_millis(100);
/// Longer than a file that was renamed is still looked at, at [`WAIT`] a call.
const CALLS: usize = 80;

/// A run of the source: where it stands by partition, and what it read.
struct Run {
    files: Files,
    source: Box<dyn Source>,
    at: Vec<Position>,
    lines: Vec<String>,
}

fn world(keys: &[(&str, &str)]) -> World {
    let follow = [("source.follow", "true"), ("tasks.max", "2")];
    World::new(&[&follow[..], keys].concat())
}

fn append(world: &World, path: &str, text: &str) {
    let file = File::options()
        .create(true)
        .append(true)
        .open(world.at(path));
    file.expect("opened")
        .write_all(text.as_bytes())
        .expect("written");
}

impl Run {
    fn new(world: &World, at: Option<Vec<Position>>) -> Run {
        let config: FileConfig = world.config();
        let files = Files::new(config, world.clock.clone()).expect("opened");
        Run::of(files, at, LIMITS)
    }

    fn of(files: Files, at: Option<Vec<Position>>, limits: ReadLimits) -> Run {
        let at = at.unwrap_or_else(|| starts(&files));
        let source = files.open(&at, &limits).expect("opened");
        let lines = Vec::new();
        Run {
            files,
            source,
            at,
            lines,
        }
    }

    /// The next trigger.
    fn look(&self) {
        for _ in 0..2 {
            self.files.shared.look_again().expect("listed");
            self.files.shared.waits_for_listing();
        }
    }

    /// Reads for some time; what came.
    fn read(&mut self) -> Result<Vec<String>, Error> {
        let before = self.lines.len();
        for _ in 0..CALLS {
            self.look();
            let Some(batch) = self.source.next(WAIT)? else {
                continue;
            };
            let covers = &batch.covers;
            let at = self.at.iter_mut().find(|at| at.split == covers.split);
            let at = at.expect("a partition that was assigned");
            assert_eq!(at.next, covers.range.from);
            at.next = covers.range.to;
            let mut last = covers.range.from - 1;
            for (offset, line) in batch.offset.values().iter().zip(batch.value.iter()) {
                assert!(*offset > last && *offset < covers.range.to);
                last = *offset;
                let line = line.expect("a value");
                self.lines.push(String::from_utf8_lossy(line).into_owned());
            }
        }
        Ok(self.lines[before..].to_vec())
    }

    fn reads(&mut self, want: &[&str]) {
        let mut got = self.read().expect("read");
        got.sort();
        let mut want = want.to_vec();
        want.sort_unstable();
        assert_eq!(got, want);
    }

    fn fails(&mut self, part: &str) -> Error {
        let error = self.read().expect_err("an error");
        assert_eq!(error.kind(), Kind::SourceLost, "{error}");
        assert!(error.to_string().contains(part), "{error}");
        error
    }

    /// Goes on behind the gap that stands for what an error says is lost; how many positions it counts.
    fn skips(&mut self, error: &Error) -> i64 {
        let Some(Lost::AgedOut(ranges)) = lost(error) else {
            panic!("{error} says what is lost");
        };
        let range = ranges[0].clone();
        let at = self.at.iter_mut().find(|at| at.split == range.split);
        let at = at.expect("a partition that was assigned");
        assert_eq!(at.next, range.from);
        at.next = range.to;
        let at = at.clone();
        self.source.seek(&[at]).expect("put behind it");
        range.to - range.from
    }

    /// A clean end, after which it goes on there.
    fn ends(self) -> Vec<Position> {
        self.files.shared.keep_marks(true);
        self.at
    }
}

#[test]
fn a_line_is_a_record_when_its_end_is_there_and_each_name_is_read_beside_the_others() {
    let world = world(&[("source.path", "*.log")]);
    world.write("in/a.log", "one\ntwo");
    world.write("in/b.log", "\u{feff}first\n");
    world.write("in/other.txt", "no\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one", "first"]);
    append(&world, "in/a.log", "!\r\n\nfour\nfi");
    append(&world, "in/b.log", "second\n");
    run.reads(&["two!", "", "four", "second"]);
    assert!(run.source.caught_up());
    // A file that comes later has a partition of its own, and the state of the log has its place already.
    assert_eq!(run.at.len(), 2);
    let at = run.ends();
    let mut run = Run::new(&world, Some(at));
    append(&world, "in/a.log", "ve\n");
    run.reads(&["five"]);
    let a = run.at.iter().find(|at| at.tp.partition == 0).expect("one");
    assert_eq!(a.next, 21, "a position is a byte");
    // Back to the second line.
    let mut back = run.at.clone();
    back[0].next = 4;
    run.source.seek(&back).expect("sought");
    run.at = back;
    run.reads(&["two!", "", "four", "five"]);
}

#[test]
fn a_file_that_is_renamed_is_read_to_its_end_and_then_the_new_one() {
    let world = world(&[("source.path", "a.log")]);
    world.write("in/a.log", "one\n");
    let writer = File::options().append(true).open(world.at("in/a.log"));
    let mut writer = writer.expect("opened");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    fs::rename(world.at("in/a.log"), world.at("in/a.log.1")).expect("renamed");
    world.write("in/a.log", "new\n");
    // Its writer has it open still, and leaves its last line without an end.
    writer.write_all(b"two\nthree").expect("written");
    run.reads(&["two", "three", "new"]);
    assert_eq!(run.lines, ["one", "two", "three", "new"], "in order");

    // Nobody reads: it is found by what it is.
    let at = run.ends();
    append(&world, "in/a.log", "more\n");
    fs::rename(world.at("in/a.log"), world.at("in/a.log.2")).expect("renamed");
    world.write("in/a.log", "newest\n");
    let mut run = Run::new(&world, Some(at));
    run.reads(&["more", "newest"]);
    assert_eq!(run.lines, ["more", "newest"], "in order");

    // What it was read under is gone, and nothing of its directory is it.
    let at = run.ends();
    fs::remove_file(world.at("in/a.log")).expect("removed");
    world.write("in/x", "so that the inode is taken\n");
    world.write("in/a.log", "another\n");
    let mut run = Run::new(&world, Some(at));
    run.fails("replaced");
}

#[test]
fn a_file_that_is_cut_or_written_anew_is_never_read_as_if_it_went_on() {
    let long = "a line that is longer than all that was there\nand one more\n";
    for (after, restarts) in [
        ("", false),
        ("x\n", false),
        (long, false),
        (long, true),
        ("x\n", true),
    ] {
        let world = world(&[("source.on.bad.file", "skip")]);
        world.write("in/a.log", "one\ntwo\nthree\n");
        let mut run = Run::new(&world, None);
        run.reads(&["one", "two", "three"]);
        if restarts {
            let at = run.ends();
            world.write("in/a.log", after);
            run = Run::new(&world, Some(at));
        } else {
            world.write("in/a.log", after);
        }
        let error = run.fails("cut or replaced");
        // It stays so, whatever is written to it.
        append(&world, "in/a.log", "alpha\nbeta\n");
        let mut run = Run::new(&world, Some(run.ends()));
        run.fails("cut or replaced");
        assert!(run.lines.is_empty());
        // `source.on.bad.file` = skip: behind the gap the file is read from its beginning, by this process and by another. How much of the
        // old one is lost nobody knows.
        assert_eq!(run.skips(&error), 1);
        if restarts {
            run = Run::new(&world, Some(run.ends()));
            let again = run.fails("cut or replaced");
            assert_eq!(run.skips(&again), 1);
        }
        let want = format!("{after}alpha\nbeta\n");
        run.reads(&want.lines().collect::<Vec<_>>());
    }
}

/// The rest is counted, and the same bytes are not read again.
#[test]
fn what_is_left_of_a_file_with_a_line_that_is_too_long_is_one_gap() {
    let world = world(&[
        ("source.path", "*.log"),
        ("source.record.max.bytes", "1KiB"),
        ("source.on.bad.file", "skip"),
    ]);
    // Longer than what is read at a time, so that its end is not seen.
    let long = "x".repeat(3 << 20);
    world.write("in/a.log", &format!("one\n{long}"));
    world.write("in/b.log", &long);
    let mut run = Run::new(&world, None);
    let mut lost = Vec::new();
    for _ in 0..2 {
        let error = run.fails("source.record.max.bytes");
        lost.push(run.skips(&error));
    }
    assert_eq!(lost, [3 << 20; 2]);
    run.reads(&[]);
    assert_eq!(run.lines, ["one"]);
    assert!(run.source.caught_up());
    // Nor by the next process, as far as something of it was read.
    fs::remove_file(world.at("in/b.log")).expect("removed");
    let mut run = Run::new(&world, Some(run.ends()));
    run.reads(&[]);
    fs::rename(world.at("in/a.log"), world.at("in/a.1")).expect("renamed");
    world.write("in/a.log", "two\n");
    run.reads(&["two"]);
}

#[test]
fn what_is_renamed_to_another_name_of_the_pattern_is_not_read_twice() {
    let world = world(&[("source.path", "*.log")]);
    world.write("in/a.log", "one\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    fs::rename(world.at("in/a.log"), world.at("in/a-1.log")).expect("renamed");
    world.write("in/a.log", "two\n");
    run.reads(&["two"]);
    let mut run = Run::new(&world, Some(run.ends()));
    run.reads(&[]);
}

#[test]
fn where_a_person_says_that_a_file_goes_on_counts_from_the_next_start_on() {
    let world = world(&[("source.path", "a.log")]);
    world.write("in/a.log", "one\ntwo\nthree\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one", "two", "three"]);
    let at = run.ends();
    let set = |byte| followed::go_on_at(&world.config(), byte).expect("set");
    let stands = |at: &[Position]| {
        let next = |partition| {
            let at = at.iter().find(|at| at.tp.partition == partition);
            at.map(|at| at.next)
        };
        followed::stands(&world.config(), next).expect("known")
    };
    assert_eq!(stands(&at), Some(14));
    set(4);
    assert_eq!(stands(&at), Some(4));
    let mut run = Run::new(&world, Some(at));
    run.reads(&["two", "three"]);
    append(&world, "in/a.log", "four\n");
    run.reads(&["four"]);
    let at = run.ends();
    assert_eq!(stands(&at), Some(19));
    // Whichever file it is then, also where there is none yet.
    fs::remove_file(world.at("in/a.log")).expect("removed");
    set(0);
    assert_eq!(stands(&at), None);
    let mut run = Run::new(&world, Some(at));
    run.reads(&[]);
    assert!(run.source.caught_up());
    world.write("in/a.log", "1\n");
    run.reads(&["1"]);
    let mut run = Run::new(&world, Some(run.ends()));
    append(&world, "in/a.log", "2\n");
    run.reads(&["2"]);
}

#[test]
fn what_is_no_file_or_leads_out_of_its_directory_is_told() {
    for (link, part) in [(true, "leads out"), (false, "a directory")] {
        let world = world(&[("source.path", "a.log")]);
        world.write("outside", "one\n");
        match link {
            true => std::os::unix::fs::symlink(world.at("outside"), world.at("in/a.log")),
            false => fs::create_dir(world.at("in/a.log")),
        }
        .expect("made");
        let mut run = Run::new(&world, None);
        let error = run.read().expect_err("told");
        assert_eq!(error.kind(), Kind::ConfigInvalid, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// An inode is given to another file when the first one is deleted; here the empty file itself comes back under another name.
#[test]
fn a_file_of_which_nothing_was_read_is_new_under_another_name() {
    let world = world(&[("source.path", "*.log")]);
    world.write("in/a.log", "one\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    fs::rename(world.at("in/a.log"), world.at("in/a.1")).expect("renamed");
    world.write("in/a.log", "");
    run.reads(&[]);
    fs::rename(world.at("in/a.log"), world.at("in/a.2")).expect("renamed");
    world.write("in/a.log", "two\n");
    run.reads(&["two"]);
    fs::rename(world.at("in/a.2"), world.at("in/b.log")).expect("renamed");
    append(&world, "in/b.log", "never read\n");
    run.reads(&["never read"]);
}

#[test]
fn whoever_takes_what_is_there_takes_every_name() {
    let world = world(&[("source.path", "*.log"), ("trigger", "available-now")]);
    for n in 0..5 {
        world.write(&format!("in/{n}.log"), &format!("{n}\n"));
    }
    let mut run = Run::new(&world, None);
    // As the run began: the listing may be done by now.
    let mut known = run.files.topics().expect("known");
    known[0].partitions.truncate(2);
    run.reads(&["0", "1"]);
    assert!(!run.source.caught_up(), "three names are not read yet");
    for change in run.files.changes(&known).expect("asked") {
        let Change::NewPartitions(new) = change else {
            panic!("{change:?}");
        };
        for partition in new {
            let at = Position {
                split: partition.split,
                epoch: 0,
                tp: partition.tp,
                next: partition.low,
            };
            run.source.assign(std::slice::from_ref(&at)).expect("taken");
            run.at.push(at);
        }
    }
    run.reads(&["2", "3", "4"]);
    assert!(run.source.caught_up());
}

#[test]
fn a_file_that_was_read_whole_and_then_deleted_is_waited_for() {
    let world = world(&[("source.path", "a.log")]);
    world.write("in/a.log", "one\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    let at = run.ends();
    // So that its inode stays taken.
    fs::hard_link(world.at("in/a.log"), world.at("kept")).expect("linked");
    fs::remove_file(world.at("in/a.log")).expect("removed");
    let mut run = Run::new(&world, Some(at));
    run.reads(&[]);
    assert!(run.source.caught_up());
    world.write("in/a.log", "two\n");
    run.reads(&["two"]);
}

#[test]
fn a_name_that_is_followed_no_more_is_not_read_on() {
    let keys = [("source.path", "a.log")];
    let mut world = world(&keys);
    world.write("in/a.log", "one\n");
    world.write("in/b.log", "first\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    let at = run.ends();
    world.set("source.path", "b.log");
    append(&world, "in/a.log", "two\n");
    let mut run = Run::new(&world, Some(at));
    run.reads(&["first"]);
    let next = |partition| (partition == 1).then_some(6);
    let stands = followed::stands(&world.config(), next).expect("known");
    assert_eq!(stands, Some(6), "of b.log");
}

#[test]
fn the_name_of_a_deleted_file_is_given_to_another() {
    let world = world(&[("source.path", "*.log")]);
    world.write("in/a.log", "one\n");
    world.write("in/b.log", "first\n");
    let mut run = Run::new(&world, None);
    run.files.shared.names_at_most(2);
    run.reads(&["one", "first"]);
    world.write("in/c.log", "third\n");
    let looks = |run: &Run| {
        let mut failed = None;
        for _ in 0..4 {
            failed = run.files.shared.look_again().err();
            run.files.shared.waits_for_listing();
        }
        failed
    };
    let full = looks(&run).expect("no name is free");
    assert_eq!(full.kind(), Kind::LimitReached);
    let said = full.to_string();
    assert!(
        said.contains("2 names") && said.contains("c.log") && said.contains("delete"),
        "{said}"
    );
    // What was read of it is not lost, whoever still writes into it meanwhile.
    let mut writer = File::options()
        .append(true)
        .open(world.at("in/a.log"))
        .expect("opened");
    fs::remove_file(world.at("in/a.log")).expect("removed");
    writer.write_all(b"two\nlast").expect("written");
    assert!(looks(&run).is_none());
    run.reads(&["two", "last", "third"]);
    assert_eq!(run.at.len(), 2);
    // The name that was given away is a new one when it comes back.
    world.write("in/a.log", "again\n");
    assert_eq!(looks(&run).map(|e| e.kind()), Some(Kind::LimitReached));
    fs::remove_file(world.at("in/b.log")).expect("removed");
    assert!(looks(&run).is_none());
    run.reads(&["again"]);
    append(&world, "in/c.log", "more\n");
    run.reads(&["more"]);
    // As a process that begins there.
    let at = run.ends();
    append(&world, "in/a.log", "more of a\n");
    fs::remove_file(world.at("in/c.log")).expect("removed");
    let config = world.config();
    let files = Files::new(config, world.clock.clone()).expect("opened");
    files.shared.names_at_most(2);
    world.write("in/d.log", "new\n");
    let mut run = Run::of(files, Some(at), LIMITS);
    run.reads(&["more of a", "new"]);
}

#[test]
fn a_deleted_file_is_looked_for_less_and_less_often() {
    let world = world(&[("source.path", "a.log")]);
    world.write("in/a.log", "one\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    let at = run.ends();
    fs::hard_link(world.at("in/a.log"), world.at("kept")).expect("linked");
    fs::remove_file(world.at("in/a.log")).expect("removed");
    let script = Arc::new(Script::on(Verb::Open, "a.log", u64::MAX, Fault::None));
    let config = world.config();
    let plain = store::open(&config.at).expect("opened");
    let store = FaultStore::new(plain, script.clone());
    let shared = Shared::on(store, config, world.clock.clone()).expect("opened");
    let shared = Arc::new(shared);
    let mut run = Run::of(Files { shared }, Some(at), LIMITS);
    run.reads(&[]);
    // Of 80 calls, at 0, 100, 300, 700, 1500 ms and so on.
    assert!((2..=8).contains(&script.seen()), "{}", script.seen());
    // A new file of the name is read at once all the same.
    world.write("in/a.log", "two\n");
    run.reads(&["two"]);
}

#[test]
fn lines_without_an_end_stay_within_the_memory_of_the_task() {
    const SHARE: usize = 256 << 10;
    const NAMES: [&str; 2] = ["a", "b"];
    let world = world(&[("source.path", "*.log")]);
    let limits = ReadLimits {
        memory: 4 * SHARE,
        ..LIMITS
    };
    let long = "x".repeat(200 << 10);
    for name in NAMES {
        world.write(&format!("in/{name}.log"), &long);
    }
    let config = world.config();
    let files = Files::new(config, world.clock.clone()).expect("opened");
    let mut follower = Follower::new(files.shared.clone(), limits);
    let at = starts(&files);
    follower.assign(&at).expect("taken");
    files.shared.begin();
    let mut read = |lines: &mut Vec<String>| {
        for _ in 0..CALLS {
            files.shared.waits_for_listing();
            while let Some(batch) = follower.next(WAIT)? {
                let value =
                    |line: Option<&[u8]>| line.map(|l| String::from_utf8_lossy(l).into_owned());
                lines.extend(batch.value.iter().filter_map(value));
            }
            let held = follower.open_bytes();
            assert!(held <= SHARE, "{held} bytes are held");
        }
        Ok::<(), Error>(())
    };
    let mut lines = Vec::new();
    read(&mut lines).expect("read");
    assert_eq!(lines, [""; 0]);
    for name in NAMES {
        append(
            &world,
            &format!("in/{name}.log"),
            &format!("{name}\nnext\n"),
        );
    }
    read(&mut lines).expect("read");
    let mut want: Vec<String> = NAMES.iter().map(|name| format!("{long}{name}")).collect();
    want.extend(NAMES.map(|_| "next".to_owned()));
    lines.sort();
    want.sort();
    assert!(lines == want, "{} lines", lines.len());
    append(&world, "in/a.log", &long);
    append(&world, "in/a.log", &long);
    let failed = read(&mut lines).expect_err("too long");
    assert_eq!(failed.kind(), Kind::SourceLost);
    let said = failed.to_string();
    assert!(
        said.contains("memory.budget") && said.contains("a.log"),
        "{said}"
    );
}

/// A byte that a person names has to be there.
#[test]
fn nobody_is_put_behind_the_end_of_a_file() {
    let world = world(&[("source.path", "a.log")]);
    world.write("in/a.log", "one\n");
    let mut run = Run::new(&world, None);
    run.reads(&["one"]);
    let partition = run.files.topic("file").expect("topic").partitions.remove(0);
    for (next, said) in [(0, None), (4, None), (5, Some("a.log has 4 bytes"))] {
        let told = run.files.may_go_on_at(&partition, next).err();
        let told = told.map(|e| (e.kind(), e.to_string()));
        match (told, said) {
            (None, None) => {}
            (Some((Kind::ConfigInvalid, told)), Some(said)) => {
                assert!(told.contains(said), "{told}")
            }
            other => panic!("{next}: {other:?}"),
        }
    }
    let refused = followed::go_on_at(&world.config(), 5).expect_err("refused");
    assert!(
        refused.to_string().contains("a.log has 4 bytes"),
        "{refused}"
    );
    followed::go_on_at(&world.config(), 4).expect("taken");
}
