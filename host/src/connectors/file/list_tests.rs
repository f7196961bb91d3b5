//! The file list on a store that loses answers, with two processes that add to it.

use std::sync::Arc;

use super::list::{FileList, Takes};
use crate::error::{Kind, Result};
use crate::store::{self, Fault, FaultStore, Found, Script, Store, Verb};

const DIR: &str = "_system/files/zone/files";

fn memory(test: &str) -> Arc<dyn Store> {
    store::open_url(&format!("memory:file-list-{test}")).expect("store")
}

fn list(name_only: bool) -> FileList {
    list_of("file:in", "text", name_only)
}

fn list_of(url: &str, reads: &str, name_only: bool) -> FileList {
    let takes = match name_only {
        true => Takes::Names,
        false => Takes::Paths,
    };
    FileList::new(DIR.to_owned(), url.to_owned(), reads.to_owned(), takes)
}

fn file(path: &str, size: u64) -> Found {
    Found {
        path: path.to_owned(),
        size,
        modified: 1_000_000,
        identity: format!("inode:{size}"),
    }
}

fn append(list: &mut FileList, store: &dyn Store, files: &[Found]) -> Result<bool> {
    list.append(store, files.to_vec(), (2, false))
}

/// Paths by position, of both partitions.
fn paths(list: &mut FileList, store: &dyn Store) -> Vec<(i32, i64, String)> {
    let mut found = Vec::new();
    for ordinal in 0..list.files() {
        let place = list.file(store, ordinal).expect("list").expect("a file");
        let entry = place.entry().expect("an entry");
        found.push((entry.partition, entry.at, entry.path.clone()));
        let at = list.file_at(store, entry.partition, entry.at);
        assert_eq!(at.expect("list").expect("a file").ordinal, ordinal);
    }
    found
}

#[test]
fn of_two_processes_that_add_at_once_one_is_first_and_both_read_the_same() {
    let store = memory("two");
    let (mut one, mut two) = (list(false), list(false));
    assert!(append(&mut one, store.as_ref(), &[file("a", 10), file("b", 5)]).expect("added"));
    // Nothing of the second one's is in the list; it goes on behind what it finds there.
    assert!(!append(&mut two, store.as_ref(), &[file("b", 5), file("c", 7)]).expect("asked"));
    assert_eq!((two.documents(), two.files()), (1, 2));
    let fresh = two.fresh(&[file("b", 5), file("c", 7)], false);
    assert_eq!(fresh, [file("c", 7)]);
    assert!(append(&mut two, store.as_ref(), &fresh).expect("added"));
    one.load(store.as_ref()).expect("loaded");
    let mut three = list(false);
    three.load(store.as_ref()).expect("loaded");
    let all = paths(&mut three, store.as_ref());
    assert_eq!(all.len(), 3);
    assert_eq!(paths(&mut one, store.as_ref()), all);
    assert_eq!(paths(&mut two, store.as_ref()), all);
    // Asked for one by one, or listed from the beginning: nothing is taken on twice.
    assert_eq!((one.end(0), one.end(1)), (three.end(0), three.end(1)));
    assert!(!store.list(DIR).expect("listed").is_empty());
}

#[test]
fn an_answer_that_is_lost_adds_once() {
    for (fault, adds) in [
        (Fault::None, true),
        (Fault::ReplyLost, true),
        (Fault::Denied, true),
        (Fault::Late, false),
    ] {
        let name = format!("{fault:?}");
        let inner = memory(&name);
        let script = Arc::new(Script::on(Verb::Create, DIR, 0, fault));
        let store = FaultStore::new(inner.clone(), script);
        let mut ours = list(false);
        let added = append(&mut ours, store.as_ref(), &[file("a", 1)]);
        assert_eq!(
            added.as_ref().is_ok_and(|added| *added),
            adds,
            "{name}: {added:?}"
        );
        if !adds {
            // The same again, with what was found meanwhile; then the first request arrives.
            let group = [file("a", 1), file("b", 2)];
            assert!(
                append(&mut ours, store.as_ref(), &group).expect("added"),
                "{name}"
            );
            store.land();
        }
        let mut read = list(false);
        read.load(inner.as_ref()).expect("loaded");
        assert_eq!(
            paths(&mut read, inner.as_ref()),
            paths(&mut ours, store.as_ref()),
            "{name}"
        );
        assert_eq!(read.documents(), 1, "{name}");
    }
}

#[test]
fn a_list_with_a_hole_or_of_another_source_is_refused() {
    let store = memory("hole");
    let mut ours = list(false);
    for n in 0..3 {
        let found = file(&format!("{n}"), 1);
        assert!(append(&mut ours, store.as_ref(), &[found]).expect("added"));
    }
    for (url, reads, key) in [
        ("file:other", "text", "source.url"),
        ("file:in", "jsonl", "source.format"),
    ] {
        let refused = list_of(url, reads, false).load(store.as_ref());
        let refused = refused.expect_err(key);
        assert_eq!(refused.kind(), Kind::ConfigInvalid);
        assert!(refused.to_string().contains(key), "{refused}");
    }
    store
        .delete(&format!("{DIR}/{:020}.json", 1))
        .expect("deleted");
    let refused = list(false).load(store.as_ref()).expect_err("a hole");
    assert_eq!(refused.kind(), Kind::LogCorrupt);
    let text = format!("{refused:?}");
    assert!(
        text.contains("00001.json") && text.contains("not there"),
        "{text}"
    );
    // Nor one whose positions do not follow each other.
    let first = store.get(&format!("{DIR}/{:020}.json", 0)).expect("read");
    let again = String::from_utf8(first.expect("there").to_vec()).expect("text");
    let again = again.replace("\"number\":0", "\"number\":1");
    let path = format!("{DIR}/{:020}.json", 1);
    store.create(&path, again.as_bytes()).expect("created");
    let refused = list(false).load(store.as_ref()).expect_err("positions");
    assert!(
        format!("{refused:?}").contains("do not follow"),
        "{refused:?}"
    );
}

#[test]
fn where_names_count_alone_a_file_of_another_directory_is_the_same_one() {
    let store = memory("names");
    let group = [file("x/a", 1), file("y/a", 2), file("b", 3)];
    for (name_only, fresh) in [(true, vec!["x/a", "b"]), (false, vec!["x/a", "y/a", "b"])] {
        let ours = list(name_only);
        let found = ours.fresh(&group, true);
        let found: Vec<&str> = found.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(found, fresh);
    }
    let mut ours = list(true);
    assert!(append(&mut ours, store.as_ref(), &[file("x/a", 1)]).expect("added"));
    assert!(ours.fresh(&[file("z/a", 9)], true).is_empty());
    let changed = list(false);
    assert_eq!(changed.fresh(&[file("z/a", 9)], false).len(), 1);
}
