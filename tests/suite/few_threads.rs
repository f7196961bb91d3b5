//! If the system allows few threads, a pipeline fails with the reason, and no C library ends the process.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use weir::kafka::MockBroker;

use crate::brokers::skip;

/// Nobody else runs as this one, so its limit counts the threads of one process.
const ALONE: u32 = 54_321;

#[test]
fn a_run_under_a_low_limit_of_threads_says_so_and_is_not_aborted() {
    let dir = tempfile::tempdir().expect("directory");
    let open = |path: &std::path::Path| {
        let path = path.to_owned();
        std::os::unix::fs::chown(&path, Some(ALONE), Some(ALONE))
    };
    if open(dir.path()).is_err() {
        skip("few_threads", "only root may run as another user");
        return;
    }
    let broker = MockBroker::start().expect("broker");
    broker.create_topic("t", 1).expect("topic");
    let config = format!(
        "name = \"p\"\n[source]\ntype = \"kafka\"\ntopics = [\"t\"]\nstart = \"earliest\"\nbootstrap.servers = \"{}\"\n\
         [sink]\ntype = \"zone\"\nurl = \"file:zone\"\n",
        broker.bootstrap()
    );
    fs::write(dir.path().join("p.toml"), config).expect("config");
    let weir = dir.path().join("weir");
    fs::copy(env!("CARGO_BIN_EXE_weir"), &weir).expect("the program where that user may read it");
    let mut command = Command::new("prlimit");
    command.current_dir(dir.path()).env("HOME", dir.path());
    command.uid(ALONE).gid(ALONE);
    command.args(["--nproc=30", "./weir", "run", "p.toml"]);
    command.args(["--available-now", "--progress", "none"]);
    let output = command.output().expect("weir runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), None, "{told}");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("limit_reached"), "{told}");
    assert!(told.contains("ulimit -u"), "{told}");
}
