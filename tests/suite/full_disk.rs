//! A disk that fills up in the middle of archiving, of a compaction, of a checkpoint: the real program meets ENOSPC half-way through
//! a file. It says so, leaves nothing half done behind, loses nothing, and goes on by itself once there is room. And files that nobody
//! may delete.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use weir::commit::{LogName, Role};

use crate::brokers::{duckdb_query, files, until};
use crate::case::{Case, Running};
use crate::daemon_rig;
use crate::lake::Lake;
use crate::old_zone::{age, later, open};
use crate::preload::Disk;

/// What the program says of the full disk, whatever it was doing.
const FULL: &str = "the disk is full";

/// Every file below a directory, hidden and half-written ones too.
fn all_files(dir: &Path) -> Vec<String> {
    let found = files(dir, "");
    let names = found.iter().map(|path| path.strip_prefix(dir).unwrap());
    names.map(|path| path.display().to_string()).collect()
}

fn said(dir: &Path) -> String {
    fs::read_to_string(dir.join("weir.log")).unwrap_or_default()
}

/// Rows, and different offsets, of all these files.
fn counted(globs: &[String]) -> Option<(String, String)> {
    let globs: Vec<String> = globs.iter().map(|glob| format!("'{glob}'")).collect();
    let sql = format!(
        "SELECT count(*) AS n, count(DISTINCT (_partition, _offset)) AS d FROM read_parquet([{}])",
        globs.join(", ")
    );
    let rows = duckdb_query(&sql)?.unwrap();
    let text = |name: &str| rows[0][name].to_string().trim_matches('"').to_owned();
    Some((text("n"), text("d")))
}

#[test]
fn the_disk_of_the_archive_fills_up_in_the_middle_of_a_copy() {
    let case = Case::new("raw", "zone");
    let source = "source.type = \"rate\"\nsource.rows.per.second = 500\nsource.partitions = 2\n";
    let sink = "sink.type = \"zone\"\nsink.url = \"file:zone\"\nsink.rotate.age = \"100ms\"\n";
    let keep = "sink.retention = \"1s\"\nretention.grace = \"0ms\"\narchive.url = \"file:archive\"\nretry.max.backoff = \"300ms\"\n";
    case.declare(&format!("{source}{sink}{keep}"), "");
    let disk = Disk::new(case.root());
    disk.is_full("/archive/", 400);
    let running = case.spawn_with(|command| disk.of(command));
    until("it says that the archive's disk is full", || {
        let said = said(case.root());
        let what = "files that expired cannot be archived; they stay until they can";
        (said.contains(what) && said.contains(FULL)).then_some(())
    });
    // Commits do not wait for it.
    let before = case.version();
    let state = until("the pipeline goes on", || {
        let state = case.log()?.state().clone();
        (state.version >= before + 3 && state.leaving.len() >= 3).then_some(state)
    });
    assert_eq!(state.left["rate"].archived_files, 0);
    until("nothing half-written stays", || {
        all_files(&case.path("archive")).is_empty().then_some(())
    });
    disk.has_room();
    until("what waited is archived", || {
        let log = case.log()?;
        let waited = |id: &String| log.state().leaving.contains_key(id);
        (!state.leaving.keys().any(waited)).then_some(())
    });
    running.stop();
    let state = case.log().unwrap().state().clone();
    let archived = files(&case.path("archive"), ".parquet").len() as u64;
    assert!(archived >= state.left["rate"].archived_files);
    assert!(files(&case.path("archive/_system"), "").is_empty());
    case.done(&["zone", "verify", "raw.toml"]);
    case.done(&["zone", "archive", "raw.toml"]);
    let places = ["zone/rate", "archive/rate"].map(|dir| case.path(dir));
    let globs = places.map(|dir| format!("{}/**/*.parquet", dir.display()));
    if let Some(found) = counted(&globs) {
        let settled = case.settled().to_string();
        assert_eq!(found, (settled.clone(), settled));
    }
}

/// Eight files of RAW with sixteen rows, ten days old.
fn old_raw() -> (Lake, LogName) {
    let (lake, name) = (
        Lake::new("columns = [\"id\", \"day\"]"),
        LogName::new("raw", "zone"),
    );
    for n in 0..8 {
        let row = |part| format!(r#"{{"id": "k{n}{part}", "day": "2024-01-02"}}"#);
        lake.send(&[&row(0), &row(1)]);
        lake.runs("raw.toml");
    }
    age(&lake.path("zone"), &name, 10);
    (lake, name)
}

/// What it says goes to `weir.log`.
fn runs_on(lake: &Lake, keys: &[&str], disk: &Disk) -> Running {
    let mut command = lake.command(&["run", "raw.toml", "--progress", "none"]);
    for key in ["retry.max.backoff=300ms", "sink.rotate.age=200ms"]
        .iter()
        .chain(keys)
    {
        command.args(["--set", key]);
    }
    disk.of(&mut command);
    let log = fs::File::create(lake.path("weir.log")).unwrap();
    Running::of(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

#[test]
fn the_disk_fills_up_in_the_middle_of_a_compaction() {
    let (lake, name) = old_raw();
    let before = lake.rows("raw", "zone");
    let staging = lake.path("zone").join(name.dir()).join("staging");
    let disk = Disk::new(lake.dir.path());
    disk.is_full("/staging/", 700);
    let running = runs_on(&lake, &["sink.compact.every=1s"], &disk);
    until("it says so", || {
        let said = said(lake.dir.path());
        (said.contains("a compaction ended early; the next one goes on") && said.contains(FULL))
            .then_some(())
    });
    assert_eq!(files(&lake.path("zone/orders"), ".parquet").len(), 8);
    assert_eq!(lake.rows("raw", "zone"), before);
    until("nothing half-written stays", || {
        all_files(&staging).is_empty().then_some(())
    });
    // Now nothing can be written at all: the pipeline waits, and says it.
    disk.is_full("/zone/", 0);
    lake.send(&[r#"{"id": "new", "day": "2024-01-02"}"#]);
    until("the pipeline waits", || {
        said(lake.dir.path()).contains("waiting").then_some(())
    });
    disk.has_room();
    until("both go on", || {
        let log = open(&lake.path("zone"), &name);
        let rows = log.state().live.values();
        let rows = rows.filter(|live| live.file.role == Role::Rows);
        (rows.count() == 2 && log.state().totals().rows.written == 17).then_some(())
    });
    running.stop();
    let said = said(lake.dir.path());
    assert!(said.contains("compacted"), "{said}");
    assert_eq!(all_files(&staging), Vec::<String>::new());
    assert_eq!(lake.rows("raw", "zone").len(), 17);
    assert_eq!(files(&lake.path("zone/orders"), ".parquet").len(), 2);
    let verified = lake.weir(&["zone", "verify", "raw.toml"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
}

#[test]
fn the_disk_fills_up_in_the_middle_of_a_checkpoint() {
    let (lake, name) = old_raw();
    // A checkpoint is due after fifty entries.
    for _ in 0..12 {
        later(&lake.path("zone"), &name);
    }
    let home = lake.path("zone").join(name.dir());
    let kept = || ["checkpoint", "manifest"].map(|dir| all_files(&home.join(dir)));
    let disk = Disk::new(lake.dir.path());
    for (dir, after) in [
        ("/manifest/", 100),
        ("/checkpoint/", 0),
        ("/checkpoint/", 100),
    ] {
        disk.is_full(dir, after);
        let before = lake.rows("raw", "zone").len();
        let running = runs_on(&lake, &[], &disk);
        lake.send(&[r#"{"id": "more", "day": "2024-01-02"}"#]);
        until("it says so, and commits all the same", || {
            let said = said(lake.dir.path());
            let told =
                said.contains("no checkpoint was written; it is tried again with the next entry");
            (told && said.contains(FULL) && lake.rows("raw", "zone").len() > before).then_some(())
        });
        running.stop();
        assert!(
            all_files(&home.join("checkpoint")).is_empty(),
            "{dir} {after}: {:?}",
            kept()
        );
        let verified = lake.weir(&["log", "zone", "--verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
    }
    let half = files(&home, "")
        .into_iter()
        .filter(|path| path.to_string_lossy().contains('#'));
    assert_eq!(half.count(), 0, "{:?}", kept());
    disk.has_room();
    lake.send(&[r#"{"id": "last", "day": "2024-01-02"}"#]);
    lake.runs("raw.toml");
    let [checkpoints, manifests] = kept();
    assert_eq!(checkpoints.len(), 1, "{checkpoints:?}");
    assert!(!manifests.is_empty());
    assert_eq!(lake.rows("raw", "zone").len(), 20);
    let verified = lake.weir(&["log", "zone", "--verify"]);
    assert_eq!(verified.code, Some(0), "{}{}", verified.out, verified.err);
}

/// By hand the command fails, and names the file; the next one deletes it.
#[test]
fn a_command_that_cannot_delete_a_file_fails_and_names_it() {
    let case = Case::new("raw", "zone");
    let source =
        "source.type = \"rate\"\nsource.rows.total = 100\nsource.rows.per.second = 1000000\n";
    case.declare(
        &format!(
            "{source}sink.type = \"zone\"\nsink.url = \"file:zone\"\nretention.grace = \"0ms\"\n"
        ),
        "",
    );
    case.run();
    let disk = Disk::new(case.root());
    disk.keeps("/zone/rate/ingest_date");
    let expire = || {
        let mut command = case.weir(&["zone", "expire", "raw.toml", "--older-than", "1s"]);
        disk.of(&mut command);
        command.output().unwrap()
    };
    let refused = until("it is old", || {
        Some(expire()).filter(|o| !o.status.success())
    });
    let words = crate::case::said(&refused);
    assert!(
        words.contains("1 files that expired cannot be deleted"),
        "{words}"
    );
    let file = files(&case.path("zone/rate"), ".parquet")[0].clone();
    assert!(
        words.contains(file.file_name().unwrap().to_str().unwrap()),
        "{words}"
    );
    assert_eq!(expire().status.code(), Some(1), "it is still there");
    disk.lets_go();
    assert!(expire().status.success() && !file.exists());
    case.done(&["zone", "verify", "raw.toml"]);
}

/// As people meet it: a daemon whose user may not delete the files of a table.
#[test]
fn an_expired_file_that_cannot_be_deleted_is_said_and_commits_go_on() {
    let mut rig = daemon_rig::Rig::new(&[]);
    let url = format!("file:{}", rig.path("zone").display());
    let config: BTreeMap<String, String> = [
        ("connector.class", "weir"),
        ("source.type", "rate"),
        ("source.rows.per.second", "500"),
        ("sink.type", "zone"),
        ("sink.url", &url),
        ("sink.rotate.age", "100ms"),
        ("sink.retention", "1s"),
        ("retention.grace", "0ms"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let disk = Disk::new(rig.dir.path());
    disk.keeps("/zone/rate/ingest_date");
    let mut command = rig.command(&[]);
    disk.of(&mut command);
    let daemon = rig.start_as(command);
    assert_eq!(daemon.put_config("rate", &config).status, 201);
    let alarm = until("it is said", || {
        let shown = daemon.get("/pipelines/rate");
        shown["alarm"].as_str().map(str::to_owned)
    });
    assert!(
        alarm.contains("cannot be deleted") && alarm.contains("rate/"),
        "{alarm}"
    );
    let before = daemon.position("rate").unwrap();
    until("commits go on", || {
        daemon.position("rate").filter(|at| *at > before + 1_500)
    });
    assert_eq!(daemon.state("rate"), "RUNNING");
    assert_eq!(daemon.ask("GET", "/health", None).status, 200);
    let undeleted = || {
        let metrics = daemon.ask("GET", "/metrics", None).text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("weir_undeleted_files{"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    assert!(undeleted().unwrap() > 0.0);
    let words = "files that expired cannot be deleted; it is tried again, and commits go on";
    assert_eq!(rig.log().matches(words).count(), 1, "{}", rig.log());
    let oldest = files(&rig.path("zone/rate"), ".parquet")[0].clone();
    disk.lets_go();
    until("they are deleted", || {
        let gone = "files that had expired and could not be deleted are gone now";
        (undeleted()? == 0.0 && rig.log().contains(gone)).then_some(())
    });
    assert!(daemon.get("/pipelines/rate")["alarm"].is_null());
    assert!(!oldest.exists());
}
