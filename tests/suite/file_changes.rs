//! `source.type = "file"`: rules that change in the middle of a file, and files that are changed, renamed, cut, still written or
//! taken away.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::brokers::{files, until, within};
use crate::file_rig::{Rig, lines, numbers, set_time};

#[test]
fn rules_change_in_the_middle_of_a_file() {
    // Read for longer than a swap takes, on any machine.
    const LINES: usize = 2_000_000;
    let rules = |most: usize| format!("[columns.n]\nrequired = true\nmax = {most}\n");
    let transforms = "sink.rotate.rows = 500\nbatch.max.rows = 100\n\
                      [[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = \"n\"\ntypes.n = \"long\"\n\
                      [[transforms]]\nname = \"rules\"\ntype = \"validate\"\nrules = \"rules.toml\"\n\
                      [errors]\ntolerance = \"all\"\n";
    let rig = Rig::new("source.format = \"jsonl\"\n", transforms);
    fs::write(rig.path("rules.toml"), rules(1_000_000)).unwrap();
    rig.write("a.jsonl", lines(1, LINES + 1));
    let child = rig.spawn();
    until("a commit", || (rig.settled() > 0).then_some(()));
    fs::write(rig.path("rules.toml"), rules(0)).unwrap();
    rig.done(&["pipeline", "swap", "files.toml", "--reload"]);
    until("rows of the new rules", || {
        let totals = rig.log()?.state().totals();
        (totals.dead_letters > 0).then_some(())
    });
    child.stop();
    let log = rig.log().unwrap();
    let totals = log.state().totals();
    assert!(totals.closes());
    let (rows, letters, read) = (
        totals.rows.written,
        totals.dead_letters,
        totals.records.read,
    );
    assert!(rows > 0 && read < LINES as u64, "{rows} of {read}");
    assert_eq!(rows + letters, read);
    assert_eq!(log.state().periods.len(), 2);
}

#[test]
fn the_same_name_again_is_not_read_and_another_name_is() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.write("device_01.jsonl", lines(0, 10));
    rig.run();
    // Dropped again, byte for byte, and with other bytes.
    rig.write("device_01.jsonl", lines(10, 30));
    let said = rig.run();
    assert_eq!(rig.texts().len(), 10);
    assert!(said.contains("has changed under the same name"), "{said}");
    assert!(said.contains("device_01.jsonl"), "{said}");
    // Renamed: read as a new file.
    fs::rename(
        rig.path("in/device_01.jsonl"),
        rig.path("in/device_01_v2.jsonl"),
    )
    .unwrap();
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..30).collect::<Vec<_>>());
    // As asked for, a changed file is read whole, or stops the pipeline.
    rig.write("device_01_v2.jsonl", lines(30, 35));
    rig.declare(
        "source.format = \"jsonl\"\nsource.on.change = \"fail\"\n",
        "",
    );
    let said = rig.fails();
    assert!(
        said.contains("under the same name") && said.contains("device_01_v2.jsonl"),
        "{said}"
    );
    rig.declare(
        "source.format = \"jsonl\"\nsource.on.change = \"read\"\n",
        "",
    );
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..35).collect::<Vec<_>>());
    rig.run();
    assert_eq!(rig.texts().len(), 35);
}

#[test]
fn a_file_that_is_not_what_was_taken_is_never_read_as_if_it_were() {
    // Taken on, and not read: a rewind leaves it so.
    let taken = |source: &str| {
        let rig = Rig::new(source, "");
        rig.write("a.jsonl", lines(0, 100));
        rig.write("b.jsonl", lines(100, 110));
        set_time(&rig.path("in/a.jsonl"), 60);
        set_time(&rig.path("in/b.jsonl"), 30);
        rig.run();
        rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
        rig
    };
    let skip = "source.format = \"jsonl\"\nsource.on.bad.file = \"skip\"\n";
    let says = |rig: &Rig, part: &str| {
        let said = rig.fails();
        for part in ["source_lost", "a.jsonl", part] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(rig.rows().is_empty());
    };
    let plain = "source.format = \"jsonl\"\n";
    // Cut.
    let rig = taken(plain);
    rig.write("a.jsonl", lines(0, 50));
    says(&rig, "changed after it was taken");
    // Replaced by one of the same size and time.
    let rig = taken(plain);
    let time = fs::metadata(rig.path("in/a.jsonl"))
        .unwrap()
        .modified()
        .unwrap();
    rig.write("new", lines(0, 100).replace("1", "2"));
    fs::File::options()
        .append(true)
        .open(rig.path("in/new"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    fs::rename(rig.path("in/new"), rig.path("in/a.jsonl")).unwrap();
    says(&rig, "another file of this name");
    // Renamed: gone under the old name. With skip it is read under the new one.
    let rig = taken(plain);
    fs::rename(rig.path("in/a.jsonl"), rig.path("in/c.jsonl")).unwrap();
    says(&rig, "removed or renamed");
    rig.declare(skip, "");
    let said = rig.run();
    assert!(
        said.contains("recorded as a gap") && said.contains("a.jsonl"),
        "{said}"
    );
    let files: Vec<String> = rig.values().into_iter().map(|(file, _)| file).collect();
    assert_eq!(numbers(&rig.texts()), (0..110).collect::<Vec<_>>());
    assert!(!files.contains(&"a.jsonl".to_owned()));
    let version = rig.version();
    rig.run();
    assert_eq!(rig.version(), version);
}

#[test]
fn a_file_that_is_still_written_is_waited_for() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.replace("source.settle.time = \"0s\"", "source.settle.time = \"5s\"");
    rig.write("done.jsonl", lines(0, 5));
    set_time(&rig.path("in/done.jsonl"), 60);
    let slow = rig.path("in/slow.jsonl");
    let mut n = 5;
    let child = rig.spawn();
    // It grows for longer than a file settles, and is never read half.
    within(Duration::from_millis(6_500), || {
        let file = fs::File::options().create(true).append(true).open(&slow);
        file.unwrap().write_all(lines(n, n + 1).as_bytes()).unwrap();
        n += 1;
        None::<()>
    });
    until("all rows", || {
        let written = rig.log()?.state().totals().rows.written;
        (written == n as u64).then_some(())
    });
    child.stop();
    assert_eq!(numbers(&rig.texts()), (0..n).collect::<Vec<_>>());
}

#[test]
fn what_is_read_is_archived_or_deleted_and_an_archive_can_be_read_again() {
    let source = "source.format = \"jsonl\"\nsource.clean.source = \"archive\"\n";
    let rig = Rig::new(source, "tasks.max = 2\n");
    rig.write("a.jsonl", lines(0, 10));
    rig.write("sub/b.jsonl", lines(10, 20));
    rig.run();
    let left = |rig: &Rig| -> Vec<PathBuf> { files(&rig.path("in"), "") };
    assert_eq!(
        left(&rig),
        [
            rig.path("in/_archive/a.jsonl"),
            rig.path("in/_archive/sub/b.jsonl")
        ]
    );
    // The same name again: ignored as ever, or a new file where that is asked for, which is archived beside the old one.
    rig.declare(
        &format!("{source}source.on.change = \"read\"\n"),
        "tasks.max = 2\n",
    );
    rig.write("a.jsonl", lines(20, 25));
    rig.run();
    let before = rig.rows();
    assert_eq!(before.len(), 25);
    assert_eq!(left(&rig).len(), 3);
    rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
    rig.run();
    assert_eq!(rig.rows(), before);

    let rig = Rig::new(
        "source.format = \"jsonl\"\nsource.clean.source = \"delete\"\n",
        "",
    );
    rig.write("a.jsonl", lines(0, 10));
    rig.run();
    assert!(left(&rig).is_empty());
    assert_eq!(rig.texts().len(), 10);
    rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
    assert!(rig.fails().contains("source.clean.source = delete"));
}
