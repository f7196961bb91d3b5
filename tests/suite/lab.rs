//! The laboratory of docs/questions-002.md: a shell runs its commands word for word, and this reads what they leave and say.

use std::fs;

use crate::check::root;
use crate::friday::{commands, shell};

#[test]
fn the_laboratory_is_walked_word_for_word() {
    let dir = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(root().join("docs/questions-002.md")).unwrap();
    let script = commands(&page);
    assert!(script.lines().count() > 50, "{script}");
    let ran = shell(dir.path(), &format!("exec 2>&1\n{script}"));
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}");
    // In this order, each after the one before.
    let mut rest = said.as_str();
    for part in [
        "|     e1|       D1|21.5|",
        "device_01.json",
        "--- metadata ---\n{\"id\":\"",
        "--- sources/0/0 ---\nv1\n{\"batchId\":0,\"path\":\"file:data/input/device_01.json\"",
        "{\"logOffset\":0}",
        "--- commits/0 ---\nv1\n{\"nextBatchWatermarkMs\":0}",
        // Dropped again, renamed, changed.
        "has changed under the same name",
        "0 records, 0 rows",
        "1 record, 2 rows",
        "has changed under the same name",
        "0 records, 0 rows",
        // The newest entry deleted, and the way that is supported.
        "1 record, 2 rows",
        "1 record, 2 rows",
        "published, but no entry of the log names it",
        "1 difference",
        "log, files and digests agree",
        "122 again",
        "not yet",
        "1 record, 2 rows",
        "log, files and digests agree",
        "3 records, 6 rows",
        // The older entry.
        "log_corrupt",
        "version 1 of the log is missing",
        "refused, as it should be",
        "0 records, 0 rows",
        "log, files and digests agree",
    ] {
        let at = rest.find(part);
        let at = at.unwrap_or_else(|| panic!("`{part}` is not in\n{rest}\nof\n{said}"));
        rest = &rest[at + part.len()..];
    }
    let ids: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("{\"id\":\""))
        .collect();
    assert!(
        ids.len() == 3 && ids[0] == ids[1] && ids[1] != ids[2],
        "{ids:?}"
    );
}
