//! The page about dead letters: a shell runs its commands for reading refused records again, word for word.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::check::root;
use crate::friday::{commands, copy, shell};

#[test]
fn refused_records_are_read_again_by_the_page_and_nothing_is_doubled() {
    let dir = tempfile::tempdir().unwrap();
    copy(&root().join("conf"), &dir.path().join("conf"));
    let page = fs::read_to_string(root().join("docs/dead-letters.md")).unwrap();
    let script = commands(&page);
    assert!(script.lines().count() > 9, "{script}");
    let (before, after) = script.split_once("sed -i").unwrap();
    // What a reader of the zone sees before and after, kept aside for the test.
    let keep = |name: &str| format!("weir dlq show books-raw -n 0 --json > {name}.jsonl\n");
    let script = [
        "trap 'kill ${WEIR_BROKER_PID:-} 2>/dev/null || true' ERR\n",
        before,
        &keep("before"),
        "sed -i",
        &after.replace("weir dlq ls", &(keep("after") + "weir dlq ls")),
    ]
    .concat();
    let ran = shell(dir.path(), &script);
    let told = format!(
        "{}\n{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(ran.status.success(), "{told}");

    let letters = |name: &str| -> Vec<Value> {
        let lines = fs::read_to_string(dir.path().join(name)).unwrap();
        let lines = lines.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let (before, after) = (letters("before.jsonl"), letters("after.jsonl"));
    type Place = (String, i64, i64, Option<i64>);
    let places = |letters: &[Value]| -> BTreeSet<Place> {
        let place = |l: &Value| {
            let topic = l["topic"].as_str().unwrap().to_owned();
            let number = |name: &str| l[name].as_i64();
            (
                topic,
                number("partition").unwrap(),
                number("offset").unwrap(),
                number("row"),
            )
        };
        letters.iter().map(place).collect()
    };
    let of = |letters: &[Value], code: &str| {
        let is = |l: &&Value| l["errors"].to_string().contains(code);
        letters.iter().filter(is).count()
    };
    assert_eq!(places(&after).len(), after.len(), "each is there once");
    assert!(
        places(&after).is_subset(&places(&before)),
        "the same places, fewer of them"
    );
    assert!(of(&after, "below_min") < of(&before, "below_min"), "{told}");
    assert_eq!(of(&after, "malformed_xml"), of(&before, "malformed_xml"));
    assert!(of(&after, "malformed_xml") > 0);
}
