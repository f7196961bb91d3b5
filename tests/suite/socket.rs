//! `source.type = "socket"`: lines of a server, each once from the moment they are on the disk. The tests read the listed files and
//! what the program says.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use arrow_array::cast::AsArray;
use weir::commit::{LogName, verify};
use weir::store;
use weir::zone::read_file;

use crate::brokers::{files, until};
use crate::case::{Case, said};
use crate::world::open_log;

const SPOOL: &str = "zone/_system/lines/zone/socket";

/// The pipeline `lines`, which reads a server of the test.
struct Rig {
    case: Case,
    server: TcpListener,
}

impl Rig {
    fn new(more: &str) -> Rig {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let rig = Rig {
            case: Case::new("lines", "zone"),
            server,
        };
        rig.declare("100ms", more);
        rig
    }

    fn port(&self) -> u16 {
        self.server.local_addr().unwrap().port()
    }

    fn declare(&self, age: &str, more: &str) {
        let keys = format!(
            "source.type = \"socket\"\nsource.host = \"127.0.0.1\"\nsource.port = {}\n\
             sink.type = \"zone\"\nsink.url = \"file:zone\"\nsink.rotate.age = \"{age}\"\n{more}",
            self.port()
        );
        self.case.declare(&keys, "");
    }

    /// The program has connected.
    fn connection(&self) -> TcpStream {
        self.server.accept().unwrap().0
    }

    fn spool(&self) -> PathBuf {
        self.case.path(SPOOL)
    }

    fn received(&self) -> u64 {
        received(&self.case)
    }

    fn lines(&self) -> Vec<String> {
        lines(&self.case.path("zone"))
    }

    fn says(&self) -> String {
        fs::read_to_string(self.case.path("weir.log")).unwrap()
    }
}

/// Bytes of whole lines that were received and are not deleted.
fn received(case: &Case) -> u64 {
    let all = files(&case.path(SPOOL), ".lines");
    let bytes = |path: &PathBuf| fs::metadata(path).map_or(0, |found| found.len());
    all.iter().map(bytes).sum()
}

/// Every line that is listed, by its position.
fn lines(zone: &Path) -> Vec<String> {
    let name = LogName::new("lines", "zone");
    let store = store::open_url(&format!("file:{}", zone.display())).unwrap();
    let verified = verify(store.as_ref(), &name).unwrap().unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    let log = open_log(zone, &name.pipeline, &name.zone).unwrap().unwrap();
    let mut all = Vec::new();
    for path in files(&zone.join("socket"), ".parquet") {
        let id = path.file_stem().unwrap().to_string_lossy().into_owned();
        for batch in read_file(&store, &name, &log.state().live[&id].file).unwrap() {
            let batch = batch.unwrap();
            let value = batch.column_by_name("value").unwrap().as_binary::<i32>();
            let offset = batch.column_by_name("_offset").unwrap();
            let offset = offset.as_primitive::<arrow_array::types::Int64Type>();
            let text = |row| String::from_utf8(value.value(row).to_vec()).unwrap();
            all.extend((0..batch.num_rows()).map(|row| (offset.value(row), text(row))));
        }
    }
    all.sort();
    all.into_iter().map(|(_, line)| line).collect()
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("line {n}\n")).collect()
}

fn expected(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

#[test]
fn lines_that_were_received_survive_kills_and_servers_that_go_away_and_come_once() {
    let rig = Rig::new("");
    // Nothing is committed before the kill: what it must keep lies in the spool alone.
    rig.declare("1h", "");
    let mut first = rig.case.spawn();
    let mut server = rig.connection();
    server.write_all(numbers(0..1000).as_bytes()).unwrap();
    let bytes = numbers(0..1000).len() as u64;
    until("all lines in the spool", || {
        (rig.received() == bytes).then_some(())
    });
    server.write_all(b"the end of this line").unwrap();
    first.crash();
    drop(server);

    rig.declare("100ms", "");
    let second = rig.case.spawn();
    let mut server = rig.connection();
    server.write_all(numbers(1000..1500).as_bytes()).unwrap();
    // An empty line, one that CR LF ends, and one that the end of the stream ends.
    server
        .write_all("\nwith a return\r\nhalf é".as_bytes())
        .unwrap();
    drop(server);
    let mut server = rig.connection();
    server.write_all(numbers(1500..1501).as_bytes()).unwrap();
    let mut all = expected(0..1500);
    all.extend(["", "with a return", "half é", "line 1500"].map(str::to_owned));
    let end: usize = numbers(0..1501).len() + "\nwith a return\r\nhalf é\n".len();
    until("the last line committed", || {
        (rig.case.settled() == i64::try_from(end).unwrap()).then_some(())
    });
    // What the server has sent before a stop is not lost, committed or not.
    server.write_all(numbers(1501..2001).as_bytes()).unwrap();
    second.stop();
    drop(server);
    let end = end + numbers(1501..2001).len();
    assert_eq!(rig.received(), end as u64);
    let third = rig.case.spawn();
    until("the rest committed", || {
        (rig.case.settled() == i64::try_from(end).unwrap()).then_some(())
    });
    third.stop();
    all.extend(expected(1501..2001));
    assert_eq!(rig.lines(), all);
    let says = rig.says();
    assert!(says.contains("has closed the connection"), "{says}");
    assert!(!rig.lines().iter().any(|line| line.contains("the end of")));

    // A spool that was emptied is another one, and nothing goes on as if it were not.
    fs::remove_dir_all(rig.spool()).unwrap();
    let output = rig
        .case
        .output(&["run", "lines.toml", "--progress", "none"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    assert!(
        text.contains("source_lost") && text.contains("that directory was emptied"),
        "{text}"
    );
    assert_eq!(rig.lines(), all);
}

#[test]
fn a_server_that_is_not_there_is_said_and_waited_for_and_one_process_receives() {
    let rig = Rig::new("");
    let at = rig.port();
    let Rig { case, server } = rig;
    drop(server);
    let mut first = case.spawn();
    let says = || fs::read_to_string(case.path("weir.log")).unwrap();
    until("what is missing", || {
        says()
            .contains(&format!("127.0.0.1:{at} cannot be connected to"))
            .then_some(())
    });
    assert!(says().contains("start the server"), "{}", says());
    // A second copy takes nothing from the server; it goes on where the first one was when that has ended.
    let second = case.spawn();
    until("who receives", || {
        says()
            .contains("another process receives into")
            .then_some(())
    });
    let server = TcpListener::bind(("127.0.0.1", at)).unwrap();
    let rig = Rig { case, server };
    let mut connection = rig.connection();
    connection.write_all(b"a\n").unwrap();
    // Published too: who runs already leaves that of another process to the next start.
    until("the first line", || {
        (files(&rig.case.path("zone/socket"), ".parquet").len() == 1).then_some(())
    });
    first.crash();
    let mut connection = rig.connection();
    connection.write_all(b"b\n").unwrap();
    until("the second line", || {
        (rig.case.settled() == 4).then_some(())
    });
    second.stop();
    assert_eq!(rig.lines(), ["a", "b"]);
}

#[test]
fn a_server_that_comes_and_goes_holds_no_commit_back() {
    let rig = Rig::new("");
    rig.declare("3s", "");
    let running = rig.case.spawn();
    let mut sent = 0;
    // It goes away after each line, more often than a commit falls due, and then for good.
    while rig.case.settled() == 0 {
        let mut server = rig.connection();
        server.write_all(format!("{sent}\n").as_bytes()).unwrap();
        sent += 1;
        assert!(sent < 100, "nothing was committed");
    }
    until("all committed while the server is away", || {
        let all: u64 = (0..sent).map(|n: u64| format!("{n}\n").len() as u64).sum();
        (rig.received() == all && rig.case.settled().cast_unsigned() == all).then_some(())
    });
    running.stop();
    let all: Vec<String> = (0..sent).map(|n| n.to_string()).collect();
    assert_eq!(rig.lines(), all);
}

#[test]
fn what_waits_is_bounded_and_goes_when_it_is_committed() {
    /// More than one file of the spool, and in the last one more than may wait.
    const LINES: usize = 22;
    let line = format!("{}\n", "x".repeat(1 << 20));
    let rig = Rig::new("");
    let port = rig.port();
    // More comes between two commits than may wait, also on a slow machine.
    rig.declare("1s", "source.spool.max.bytes = \"4MiB\"\n");
    let first = rig.case.spawn();
    let mut server = rig.connection();
    let second = rig.case.spawn();
    until("who receives", || {
        let says = rig.says();
        says.contains("another process receives").then_some(())
    });
    for _ in 0..LINES {
        server.write_all(line.as_bytes()).unwrap();
    }
    let total = LINES * line.len();
    until("all committed", || {
        (rig.case.settled() == i64::try_from(total).unwrap()).then_some(())
    });
    // Also while no server is there.
    drop((server, rig.server));
    until("committed lines are deleted", || {
        (received(&rig.case) < total as u64).then_some(())
    });
    first.stop();
    // The second one goes on where the first one was, though it has read nothing until now.
    let rig = Rig {
        server: TcpListener::bind(("127.0.0.1", port)).unwrap(),
        case: rig.case,
    };
    let mut server = rig.connection();
    server.write_all(b"z\n").unwrap();
    until("the last line", || {
        (rig.case.settled() == i64::try_from(total + 2).unwrap()).then_some(())
    });
    second.stop();
    assert_eq!(rig.lines().len(), LINES + 1);
    assert!(rig.says().contains("nothing more is taken from the server"));
    // What is deleted cannot be read again, and no line begins inside of one.
    let rewind = |to: &str| {
        let output = rig.case.output(&["pipeline", "rewind", "lines.toml", to]);
        assert!(!output.status.success(), "{output:?}");
        said(&output)
    };
    let gone = rewind("socket/0=0");
    assert!(
        gone.contains("the source no longer has the records"),
        "{gone}"
    );
    let inside = rewind(&format!("socket/0={}", total - 5));
    assert!(inside.contains("no line begins at socket/0@"), "{inside}");
    // Another pipeline does not take its lines.
    let other = fs::read_to_string(rig.case.config()).unwrap();
    let spool = format!("source.spool.dir = \"{}\"\n", rig.spool().display());
    let other = other.replace("name = \"lines\"", "name = \"other\"");
    fs::write(rig.case.path("other.toml"), format!("{other}{spool}")).unwrap();
    let output = rig
        .case
        .output(&["run", "other.toml", "--progress", "none"]);
    let text = said(&output);
    assert!(
        text.contains("holds the lines of another pipeline, lines/zone"),
        "{text}"
    );
}

#[test]
fn a_line_without_an_end_stops_it_by_name_and_bad_keys_are_told_at_once() {
    let rig = Rig::new("source.record.max.bytes = \"1KiB\"\n");
    let mut running = rig.case.spawn();
    let mut server = rig.connection();
    server.write_all(b"short\n").unwrap();
    until("the short line", || (rig.case.settled() == 6).then_some(()));
    server.write_all(&[b'x'; 4096]).unwrap();
    let status = until("its end", || running.try_wait().unwrap());
    assert_eq!(status.code(), Some(1));
    let says = rig.says();
    assert!(
        says.contains("sent a line of more than 1024 bytes")
            && says.contains("source.record.max.bytes"),
        "{says}"
    );
    assert_eq!(rig.lines(), ["short"]);
    // What waits is shown without a connection.
    let found = rig.case.done(&["doctor", "lines.toml"]);
    assert!(found.contains("0 bytes of lines in") || found.contains("6 bytes of lines in"));

    rig.case.declare(
        "source.type = \"socket\"\nsource.port = 70000\ntrigger = \"available-now\"\n\
         sink.type = \"zone\"\nsink.url = \"s3://bucket/zone\"\n",
        "",
    );
    let output = rig.case.output(&["check", "lines.toml"]);
    assert!(!output.status.success());
    let text = format!(
        "{}{}",
        said(&output),
        String::from_utf8_lossy(&output.stdout)
    );
    for part in [
        "source.host",
        "source.port",
        "a socket has no end",
        "source.spool.dir",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
