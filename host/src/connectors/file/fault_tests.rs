//! The source on a store that fails: at each of its calls once, whatever is asked.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::tests::{LIMITS, World, lines, starts};
use super::{Files, clean};
use crate::source::{Connector as _, Position};
use crate::store::{self, Fault, FaultStore, Script, Verb};

/// Lines of each file. Two batches.
const LINES: usize = 1_500;
/// Batches and errors until four files are read, at most: more means that a retry never gets on.
const STEPS_MAX: usize = 200;

/// Files of each way of reading, and what is in them, in order.
fn written(clean: &str) -> (World, Vec<String>) {
    let mut keys = vec![("source.clean.source", clean)];
    if clean == "archive" {
        keys.push(("source.archive.dir", "_read"));
    }
    let world = World::new(&keys);
    let mut all = Vec::new();
    for name in ["a", "b.zst", "c.gz", "d.bz2"] {
        let text = lines(name, LINES);
        all.extend(text.lines().map(str::to_owned));
        let bytes = match name {
            "b.zst" => zstd::encode_all(text.as_bytes(), 1).expect("packed"),
            "c.gz" => packed(
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()),
                &text,
            )
            .finish()
            .expect("packed"),
            "d.bz2" => packed(
                bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast()),
                &text,
            )
            .finish()
            .expect("packed"),
            _ => text.into_bytes(),
        };
        std::fs::write(world.at("in").join(name), bytes).expect("written");
    }
    (world, all)
}

fn packed<W: std::io::Write>(mut into: W, text: &str) -> W {
    into.write_all(text.as_bytes()).expect("packed");
    into
}

/// The source on a directory that fails as the script says.
fn files(world: &World, script: &Arc<Script>) -> Files {
    let config = world.config();
    let plain = store::open(&config.at).expect("opened");
    let script: Arc<Script> = Arc::clone(script);
    let shared = Shared::on(FaultStore::new(plain, script), config, world.clock.clone());
    Files {
        shared: Arc::new(shared.expect("opened")),
    }
}

/// All records, as a task reads them: after an error from the last position that was committed on. Also how many errors there
/// were.
fn all(files: &Files) -> (Vec<String>, i64, usize) {
    let begin = starts(files);
    let mut source = files.open(&begin, &LIMITS).expect("opened");
    let (mut records, mut at, mut errors) = (Vec::new(), begin[0].next, 0);
    let mut steps = 0;
    while steps < STEPS_MAX {
        match source.next(Duration::ZERO) {
            Ok(Some(batch)) => {
                steps += 1;
                assert_eq!(batch.covers.range.from, at, "without a hole");
                at = batch.covers.range.to;
                let texts = batch.value.iter().flatten();
                records.extend(texts.map(|text| String::from_utf8_lossy(text).into_owned()));
            }
            Ok(None) if source.caught_up() => return (records, at, errors),
            // The listing is under way.
            Ok(None) => std::thread::yield_now(),
            Err(error) => {
                steps += 1;
                assert!(error.remedy() == crate::error::Remedy::Retry, "{error}");
                errors += 1;
                let position = Position {
                    next: at,
                    ..begin[0].clone()
                };
                source.seek(&[position]).expect("back");
            }
        }
    }
    panic!(
        "not through after {STEPS_MAX} steps: {} records",
        records.len()
    );
}

#[test]
fn each_record_comes_once_whichever_call_fails() {
    let mut failed = 0;
    for (verb, fault) in [
        (Verb::Walk, Fault::FailBefore),
        (Verb::Walk, Fault::ReplyLost),
        (Verb::Look, Fault::FailBefore),
        (Verb::Open, Fault::FailBefore),
        (Verb::Read, Fault::FailBefore),
    ] {
        for n in 0.. {
            let (world, wanted) = written("off");
            let script = Arc::new(Script::on(verb, "", n, fault));
            let (records, _, errors) = all(&files(&world, &script));
            assert!(records == wanted, "{verb:?} {n}: {} records", records.len());
            if script.seen() <= n {
                break;
            }
            assert!(errors <= 1, "{verb:?} {n}: {errors} errors");
            failed += errors;
        }
    }
    assert!(failed > 10, "only {failed} faults were met");
}

#[test]
fn files_are_taken_away_once_whichever_call_fails() {
    for clean in ["archive", "delete"] {
        for (verb, fault) in [
            (Verb::Look, Fault::FailBefore),
            (Verb::Move, Fault::FailBefore),
            (Verb::Move, Fault::ReplyLost),
            (Verb::Move, Fault::Denied),
            (Verb::Remove, Fault::FailBefore),
            (Verb::Remove, Fault::ReplyLost),
        ] {
            for n in 0.. {
                let (world, wanted) = written(clean);
                let script = Arc::new(Script::on(verb, "", n, fault));
                let files = files(&world, &script);
                let begin = starts(&files);
                let (records, at, _) = all(&files);
                assert!(records == wanted, "{verb:?} {n}");
                let committed = Position {
                    next: at,
                    ..begin[0].clone()
                };
                let cleaner = files.acknowledge().expect("cleaner");
                cleaner.acknowledge(&[committed]);
                for _ in 0..5 {
                    // A fault is told, and tried again with the next listing.
                    drop(clean::clean(&files.shared));
                }
                let left = world.left();
                let names = ["a", "b.zst", "c.gz", "d.bz2"];
                match clean {
                    "delete" => assert_eq!(left, [""; 0], "{verb:?} {fault:?} {n}"),
                    _ => assert_eq!(
                        left,
                        names.map(|name| format!("_read/{name}")),
                        "{verb:?} {fault:?} {n}"
                    ),
                }
                if script.seen() <= n {
                    break;
                }
            }
        }
    }
}
