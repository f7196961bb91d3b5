//! Copies of several archivers: each leaves those of the others alone, and takes away its own that failed.

use std::io::Write as _;

use super::*;
use crate::commit::new_file_id;
use crate::store::Place;
use crate::zone::clear_left;

const HOUR: i64 = 3_600 * 1_000_000;

/// What another process has begun to copy, sealed or not, is its own; what it has left for more than an hour is nobody's.
#[test]
fn an_archiver_leaves_the_copies_of_another_one_alone() {
    for kind in ["memory", "memory+upload"] {
        let archive = store::open_url(&format!("{kind}:archive-of-two")).expect("a store");
        let home = log().dir();
        let id = new_file_id();
        let path = format!("books/{id}.parquet");
        let place = Place::new(&home, &id, &path);
        let mut copy = archive.begin(&place).expect("begun");
        copy.write_all(&[7; 100]).expect("written");
        let seal = copy.seal().expect("sealed");
        // As if another machine had begun it: its intent names no process of this one.
        let staging = staging(&id);
        if seal.upload.is_some() {
            let intent = archive.get(&staging).expect("read").expect("an intent");
            let mut intent: serde_json::Value = serde_json::from_slice(&intent).expect("JSON");
            let intent = intent.as_object_mut().expect("an object");
            intent.remove("by");
            let text = serde_json::to_vec(&intent).expect("JSON");
            archive.delete(&staging).expect("deleted");
            archive.create(&staging, &text).expect("created");
        }
        let id_time = ulid::Ulid::from_string(&id).expect("an id").timestamp_ms();
        let begun = i64::try_from(id_time).expect("a time") * 1_000;
        clear_left(&archive, &log(), begun + HOUR - 1_000_000).expect("cleared");
        assert_eq!(
            archive.begun(&home).expect("listed"),
            std::slice::from_ref(&id),
            "{kind}"
        );
        let shown = archive.publish(&place, &seal).expect("published");
        assert!(matches!(shown, Published::Done), "{kind}: {shown:?}");

        let left = Place::new(&home, new_file_id(), "books/left.parquet");
        archive.begin(&left).expect("begun").seal().expect("sealed");
        clear_left(&archive, &log(), begun + 2 * HOUR).expect("cleared");
        assert!(archive.begun(&home).expect("listed").is_empty(), "{kind}");
        assert_eq!(archive.size(&path).expect("asked"), Some(100), "{kind}");
    }
}
