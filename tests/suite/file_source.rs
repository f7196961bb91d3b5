//! `source.type = "file"`: every record of every file once, over kills, rewinds and a second copy of the process, from a
//! directory, a bucket and HDFS. Read as people read it: the listed Parquet files, and what the program says.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use weir::store::{self, Store};

use crate::brokers::{files, until, within};
use crate::file_rig::{Rig, gz, lines, numbers, set_time};
use crate::hdfs_cluster::hdfs;
use crate::object_servers;

#[test]
fn all_that_is_there_is_read_once_and_a_second_run_adds_nothing() {
    let rig = Rig::new(
        "source.format = \"jsonl\"\nsource.path = \"**/*.jsonl\"\n",
        "tasks.max = 2\n",
    );
    rig.done(&["check", "files.toml"]);
    rig.write("b.jsonl", lines(0, 3000));
    rig.write("day=1/a.jsonl", lines(3000, 3100));
    rig.write("empty.jsonl", "");
    rig.write("other.json", "{}");
    rig.write("_hidden/x.jsonl", "no");
    rig.write(".x.jsonl", "no");
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..3100).collect::<Vec<_>>());
    let version = rig.version();
    rig.run();
    assert_eq!(rig.version(), version);
    // Another number of tasks is no other source: what is new is dealt out among more of them.
    rig.declare(
        "source.format = \"jsonl\"\nsource.path = \"**/*.jsonl\"\n",
        "tasks.max = 3\n",
    );
    for n in 0..6 {
        rig.write(&format!("c{n}.jsonl"), lines(3100 + n, 3101 + n));
    }
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..3106).collect::<Vec<_>>());
    assert_eq!(rig.log().unwrap().state().splits.len(), 3);
    // Where its bytes are is no secret: the position says it.
    let rows = rig.rows();
    let (_, at, text) = rows.iter().find(|(file, _, _)| file == "b.jsonl").unwrap();
    let (_, next, _) = &rows[rows.iter().position(|row| row.1 == *at).unwrap() + 1];
    assert_eq!(next - at, text.len() as i64 + 1);
}

#[test]
fn kills_lose_nothing_and_double_nothing() {
    let rig = Rig::new(
        "source.format = \"jsonl\"\n",
        "tasks.max = 2\nsink.rotate.rows = 700\n",
    );
    const EACH: usize = 2_000;
    let mut written = 0;
    let mut add = |name: &str, packed: bool| {
        let text = lines(written, written + EACH);
        written += EACH;
        match packed {
            true => rig.write(&format!("{name}.gz"), gz(text.as_bytes())),
            false => rig.write(name, text),
        }
    };
    for n in 0..4 {
        add(&format!("{n}.jsonl"), n % 2 == 1);
    }
    let mut random = rand::rngs::SmallRng::seed_from_u64(11);
    for kill in 0..20 {
        let before = rig.settled();
        let mut child = rig.spawn();
        if kill % 2 == 0 {
            until("a commit", || (rig.settled() > before).then_some(()));
        }
        let pause = Duration::from_millis(random.random_range(0..150));
        within(pause, || None::<()>);
        child.crash();
        add(&format!("k{kill}.jsonl"), kill % 3 == 0);
    }
    rig.run();
    assert_eq!(numbers(&rig.texts()), (0..written).collect::<Vec<_>>());
}

#[test]
fn two_copies_of_a_process_read_each_file_once() {
    const FILES: usize = 12;
    const EACH: usize = 500;
    let rig = Rig::new(
        "source.format = \"jsonl\"\n",
        "tasks.max = 2\nsink.rotate.rows = 300\n",
    );
    let write = |n: usize| rig.write(&format!("{n}.jsonl"), lines(n * EACH, (n + 1) * EACH));
    (0..FILES / 2).for_each(write);
    let mut copies = vec![rig.spawn(), rig.spawn()];
    until("a commit", || (rig.settled() > 0).then_some(()));
    // A third one begins while the others take files on.
    for n in FILES / 2..FILES {
        write(n);
        copies.push(rig.spawn());
        let mut oldest = copies.remove(0);
        oldest.crash();
    }
    until("all rows", || {
        let read = rig.log()?.state().totals().records.read;
        (read == (FILES * EACH) as u64).then_some(())
    });
    for mut copy in copies {
        assert!(copy.try_wait().unwrap().is_none(), "it ended by itself");
        copy.stop();
    }
    assert_eq!(numbers(&rig.texts()), (0..FILES * EACH).collect::<Vec<_>>());
}

#[test]
fn what_is_taken_back_comes_again_as_it_was() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "sink.rotate.rows = 300\n");
    rig.write("a.jsonl", lines(0, 1000));
    rig.write("b.jsonl.gz", gz(lines(1000, 2000).as_bytes()));
    rig.run();
    let before = rig.rows();
    assert_eq!(before.len(), 2000);
    rig.done(&["pipeline", "rewind", "files.toml", "file/0=5000"]);
    let kept = rig.rows();
    assert!(
        kept.len() < 600 && before.starts_with(&kept),
        "{}",
        kept.len()
    );
    rig.run();
    assert_eq!(rig.rows(), before);
    rig.done(&["pipeline", "rewind", "files.toml", "--all=start"]);
    assert!(rig.rows().is_empty());
    rig.run();
    assert_eq!(rig.rows(), before);
}

#[test]
fn files_are_taken_in_groups_by_age_and_order() {
    let source = "source.format = \"jsonl\"\nsource.max.files.per.trigger = 2\n";
    let rig = Rig::new(source, "");
    for (n, age) in [(0, 50), (1, 40), (2, 30), (3, 20), (4, 10)] {
        rig.write(&format!("{n}.jsonl"), lines(n, n + 1));
        set_time(&rig.path("in").join(format!("{n}.jsonl")), age);
    }
    let list = |rig: &Rig| {
        let lists = files(&rig.path("zone/_system/files/zone/files"), ".json");
        let mut taken: Vec<Vec<String>> = Vec::new();
        for path in lists {
            let document: serde_json::Value =
                serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            let names = document["files"].as_array().unwrap().iter();
            taken.push(
                names
                    .map(|f| f["path"].as_str().unwrap().to_owned())
                    .collect(),
            );
        }
        taken
    };
    rig.run();
    assert_eq!(
        list(&rig),
        [
            vec!["0.jsonl", "1.jsonl"],
            vec!["2.jsonl", "3.jsonl"],
            vec!["4.jsonl"]
        ]
    );
    assert_eq!(rig.texts().len(), 5);
    // What is older than the newest by more than this is left, and said.
    rig.declare(
        "source.format = \"jsonl\"\nsource.max.file.age = \"1m\"\n",
        "",
    );
    rig.write("old.jsonl", lines(5, 6));
    set_time(&rig.path("in/old.jsonl"), 3600);
    rig.write("new.jsonl", lines(6, 7));
    let said = rig.run();
    assert!(
        said.contains("older than source.max.file.age") && said.contains("old.jsonl"),
        "{said}"
    );
    assert_eq!(numbers(&rig.texts()), [0, 1, 2, 3, 4, 6]);

    let rig = Rig::new(
        "source.format = \"jsonl\"\nsource.latest.first = true\nsource.max.bytes.per.trigger = \"1KiB\"\nsource.file.name.only = true\n",
        "",
    );
    for (name, n, age) in [
        ("x/a.jsonl", 0, 30),
        ("b.jsonl", 1, 20),
        ("y/a.jsonl", 2, 10),
    ] {
        rig.write(name, lines(n, n + 1));
        set_time(&rig.path("in").join(name), age);
    }
    rig.run();
    assert_eq!(list(&rig), [vec!["y/a.jsonl", "b.jsonl"]]);
}

#[test]
fn a_hundred_thousand_small_files_take_a_bounded_time() {
    const FILES: usize = 100_000;
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.commits_rarely();
    for n in 0..FILES {
        let dir = format!("{:03}", n / 1000);
        if n % 1000 == 0 {
            fs::create_dir(rig.path("in").join(&dir)).unwrap();
        }
        fs::write(
            rig.path("in").join(dir).join(format!("{n}.json")),
            lines(n, n + 1),
        )
        .unwrap();
    }
    let begun = Instant::now();
    rig.run();
    let took = begun.elapsed();
    assert_eq!(numbers(&rig.texts()), (0..FILES).collect::<Vec<_>>());
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_large_file_takes_little_memory() {
    // One array, larger than what the process may hold.
    let rig = Rig::new("", "");
    rig.commits_rarely();
    let mut file = std::io::BufWriter::new(fs::File::create(rig.path("in/big.json")).unwrap());
    let filling = "x".repeat(2000);
    const ROWS: usize = 100_000;
    for n in 0..ROWS {
        let begins = if n == 0 { '[' } else { ',' };
        write!(file, "{begins}{{\"n\":{n},\"filling\":\"{filling}\"}}").unwrap();
    }
    write!(file, "]").unwrap();
    drop(file);
    let mut command = Command::new("/bin/sh");
    let limited = format!(
        "ulimit -v 2000000; exec {} run files.toml --available-now --progress none",
        env!("CARGO_BIN_EXE_weir")
    );
    let mut child = command
        .args(["-c", &limited])
        .current_dir(rig.root())
        .stdout(Stdio::null())
        .stderr(fs::File::create(rig.path("weir.log")).unwrap())
        .spawn()
        .unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut most = 0;
    let ended = until("its end", || {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        most = most.max(kib.unwrap_or(0));
        child.try_wait().unwrap()
    });
    let said = fs::read_to_string(rig.path("weir.log")).unwrap();
    assert!(ended.success(), "{said}");
    assert!(most < 200 << 10, "{most} KiB");
    let totals = rig.log().unwrap().state().totals();
    assert_eq!(totals.rows.written, ROWS as u64);
}

#[test]
fn another_source_under_the_same_name_is_refused() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    rig.write("a.jsonl", lines(0, 10));
    rig.run();
    rig.declare("source.format = \"text\"\n", "");
    let said = rig.fails();
    for part in ["`jsonl`", "`text`", "give the pipeline another name"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let config = fs::read_to_string(rig.path("files.toml")).unwrap();
    for (was, now, says) in [
        ("file:in", "file:nowhere", "there is no such directory"),
        ("file:in", "file:in/a.jsonl", "write source.url = "),
        ("file:in", "file:zone", "read the files that it writes"),
    ] {
        fs::write(rig.path("files.toml"), config.replace(was, now)).unwrap();
        let said = rig.fails();
        assert!(said.contains(says), "{now}: {said}");
    }
    rig.declare("source.format = \"csv\"\nsource.row.tag = \"x\"\nsource.delimiter = \"ab\"\nsource.path = \"[\"\nsource.archive.dir = \"../x\"\n", "");
    let said = rig.fails();
    for part in [
        "source.row.tag",
        "source.delimiter",
        "source.path",
        "source.archive.dir",
    ] {
        assert!(said.contains(part), "all problems at once: {said}");
    }
}

/// The same files from another store: read once, archived there, and read again from the archive.
fn read_from(rig: &Rig, url: &str, keys: &str, objects: &dyn Store) {
    let config = fs::read_to_string(rig.path("files.toml")).unwrap();
    let url = format!("source.url = \"{url}\"\n{keys}");
    let config = config.replace("source.url = \"file:in\"\n", &url);
    fs::write(rig.path("files.toml"), config).unwrap();
    let put = |name: &str, bytes: &[u8]| {
        objects.create(name, bytes).unwrap();
    };
    put("a/1.jsonl", lines(0, 2000).as_bytes());
    put("a/2.jsonl.gz", &gz(lines(2000, 2500).as_bytes()));
    let run = |args: &[&str]| {
        let mut command = rig.weir(args);
        command.envs(object_servers::credentials());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let now = ["run", "files.toml", "--available-now", "--progress", "none"];
    run(&now);
    let before = rig.rows();
    assert_eq!(numbers(&rig.texts()), (0..2500).collect::<Vec<_>>());
    let listed: Vec<String> = objects
        .list("")
        .unwrap()
        .into_iter()
        .map(|l| l.path)
        .collect();
    assert_eq!(listed, ["_archive/a/1.jsonl", "_archive/a/2.jsonl.gz"]);
    run(&now);
    run(&["pipeline", "rewind", "files.toml", "--all=start"]);
    run(&now);
    assert_eq!(rig.rows(), before);
}

const ARCHIVED: &str = "source.format = \"jsonl\"\nsource.clean.source = \"archive\"\n";

#[test]
fn objects_of_a_bucket_are_files_too() {
    let Some(server) = object_servers::s3() else {
        return;
    };
    let bucket = server.bucket("files");
    let at = server.at(&bucket, "in");
    let keys = object_servers::keys(&at)
        .into_iter()
        .map(|(key, value)| match key {
            "store.allow.http" => format!("source.{key} = {value}\n"),
            _ => format!("source.{key} = \"{value}\"\n"),
        });
    let keys: String = keys.collect();
    let objects = server.open(&bucket, "in");
    read_from(&Rig::new(ARCHIVED, ""), &at.url, &keys, objects.as_ref());
}

#[test]
fn files_of_hdfs_are_files_too() {
    let Some(hdfs) = hdfs() else {
        return;
    };
    let url = hdfs.url(&hdfs.path("files"));
    let objects = store::open_url(&url).unwrap();
    read_from(&Rig::new(ARCHIVED, ""), &url, "", objects.as_ref());
}

/// Each directory above the source is asked for a log: a pipeline that takes files away never takes those of a zone.
fn spares_a_zone_above(rig: &Rig, root: &str, objects: &dyn Store) {
    let config = fs::read_to_string(rig.path("files.toml")).unwrap();
    let reads = |below: &str| {
        let url = format!("source.url = \"{root}/{below}\"\n");
        let config = config.replace("source.url = \"file:in\"\n", &url);
        // Another directory is another source: it has a home of its own.
        let home = format!("file:zones/{below}/zone");
        let config = config.replace("file:zone", &home);
        fs::write(rig.path("files.toml"), config).unwrap();
        let mut command = rig.weir(&["run", "files.toml", "--available-now", "--progress", "none"]);
        command.envs(object_servers::credentials());
        command.output().unwrap()
    };
    let entry = "lake/_system/p/z/log/00000000000000000000.json";
    for (path, bytes) in [
        (entry, "{}"),
        ("lake/t/day/a.jsonl", "1\n"),
        ("beside/day/a.jsonl", "2\n"),
    ] {
        // A data node that is busy with other tests may break off.
        until(path, || objects.create(path, bytes.as_bytes()).ok());
    }
    for below in ["lake/t/day", "lake/t", "lake"] {
        let output = reads(below);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{below}: {said}");
        assert!(
            said.contains("would take away files of a zone") && said.contains("_system"),
            "{below}: {said}"
        );
    }
    assert!(
        objects.size("lake/t/day/a.jsonl").unwrap().is_some()
            && objects.size(entry).unwrap().is_some()
    );
    let output = reads("beside");
    assert!(output.status.success(), "{output:?}");
    assert!(
        objects.size("beside/day/a.jsonl").unwrap().is_none(),
        "it was archived"
    );
}

#[test]
fn no_files_are_taken_out_of_a_zone_in_hdfs() {
    let Some(hdfs) = hdfs() else {
        return;
    };
    let root = hdfs.url(&hdfs.path("above"));
    let objects = store::open_url(&root).unwrap();
    spares_a_zone_above(&Rig::new(ARCHIVED, ""), &root, objects.as_ref());
}
