//! The daemon as a process: what survives a kill, which daemon may use a directory, how it ends, and rules put in force
//! by a PUT.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::{Rng, SeedableRng as _};
use serde_json::{Value, json};
use weir::clock::SystemClock;
use weir::commit::{Kind, decode};

use crate::brokers::until;
use crate::check::{root, snapshot};
use crate::daemon_rig::Rig;
use crate::world::open_log;

const TERM: i32 = 15;

#[test]
fn the_page_of_the_daemons_keys_is_up_to_date() {
    let path = root().join("docs/daemon.md");
    let page = fs::read_to_string(&path).expect("docs/daemon.md");
    let (head, rest) = page
        .split_once("from host/src/config/worker/keys.rs) -->\n")
        .expect("mark");
    let (_, tail) = rest.split_once("<!-- keys: end -->").expect("mark");
    let keys = weir::config::worker::keys::markdown();
    let fresh =
        format!("{head}from host/src/config/worker/keys.rs) -->\n{keys}\n<!-- keys: end -->{tail}");
    snapshot(&path, &fresh);
}

#[test]
fn the_shipped_config_is_good() {
    let path = root().join("conf/worker.toml");
    let (config, problems) = weir::config::worker::load(path.to_str().expect("utf-8"), &[]);
    assert!(config.is_some() && problems.is_empty(), "{problems:?}");
}

/// Requests flow, the process is killed, and what comes back is what was answered last, or the one request that was under
/// way. Rows and positions go on from the log.
#[test]
fn killed_under_load_it_knows_all_that_it_answered() {
    let mut rig = Rig::new(&["a", "b"]);
    let mut random = rand::rngs::SmallRng::seed_from_u64(7);
    let clock = SystemClock::shared();
    // What each pipeline may be found with: the last answered, then the one under way.
    let mut known: BTreeMap<&str, Vec<(String, &str)>> = BTreeMap::new();
    let daemon = rig.start(&[]);
    for topic in ["a", "b"] {
        let answer = daemon.put_config(topic, &rig.config(topic, &[("sink.rotate.rows", "1000")]));
        assert_eq!(answer.status, 201, "{}", answer.text());
        known.insert(topic, vec![("1000".to_owned(), "RUNNING")]);
    }
    let mut daemon = Some(daemon);
    let mut acknowledged = 0;
    for round in 0..6 {
        let running = daemon.take().expect("a daemon");
        rig.produce("a", &["x"; 10]);
        let stop_after = Duration::from_millis(random.random_range(50..900));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (over, running, known, acknowledged) =
                (&over, &running, &mut known, &mut acknowledged);
            let rig = &rig;
            let seed = random.random::<u64>();
            scope.spawn(move || {
                let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
                while !over.load(Ordering::SeqCst) {
                    let name = ["a", "b"][random.random_range(0..2)];
                    let may = known.get_mut(name).expect("known");
                    let (rows, target) = may.first().cloned().expect("known");
                    let (next, answered) = match random.random_range(0..4) {
                        0 => {
                            let next = (rows, "PAUSED");
                            may.push(next.clone());
                            (
                                next,
                                running.try_ask("PUT", &format!("/connectors/{name}/pause"), None),
                            )
                        }
                        1 => {
                            let next = (rows, "RUNNING");
                            may.push(next.clone());
                            (
                                next,
                                running.try_ask("PUT", &format!("/connectors/{name}/resume"), None),
                            )
                        }
                        _ => {
                            let rows = random.random_range(1..100_000).to_string();
                            let next = (rows.clone(), target);
                            may.push(next.clone());
                            let config = rig.config(name, &[("sink.rotate.rows", &rows)]);
                            let target = format!("/connectors/{name}/config");
                            (next, running.try_ask("PUT", &target, Some(&json!(config))))
                        }
                    };
                    // Cut off in the middle: either way is right.
                    let Some(answer) = answered.filter(|a| a.status != 0) else {
                        return;
                    };
                    assert!(answer.status < 300, "{}: {}", answer.status, answer.text());
                    *may = vec![next];
                    *acknowledged += 1;
                }
            });
            clock.sleep(stop_after);
            running.signal(9);
            over.store(true, Ordering::SeqCst);
        });
        drop(running);
        if round % 2 == 1 {
            // A torn write, as a power cut leaves it.
            rig.journal()
                .write_all(b"0123456789abcdef {\"name\":\"a\",")
                .expect("torn");
        }
        let running = rig.start(&[]);
        for name in ["a", "b"] {
            let config = running.get(&format!("/connectors/{name}/config"));
            let rows = config["sink.rotate.rows"].as_str().unwrap_or("").to_owned();
            let state = until("a state that stays", || {
                let state = running.state(name);
                ["RUNNING", "PAUSED"]
                    .contains(&state.as_str())
                    .then_some(state)
            });
            let found = known[name].iter().find(|(r, t)| *r == rows && *t == state);
            let found = found.unwrap_or_else(|| panic!("{name} {rows} {state}: {:?}", known[name]));
            let found = found.clone();
            known.insert(name, vec![found]);
        }
        daemon = Some(running);
    }
    assert!(acknowledged > 20, "{acknowledged}");
    let daemon = daemon.expect("a daemon");
    daemon.ask("PUT", "/connectors/a/resume", None);
    until("all rows", || daemon.position("a").filter(|at| *at == 60));
    let log = open_log(&rig.path("zone"), "a", "zone")
        .expect("log")
        .expect("begun");
    assert_eq!(log.state().totals().rows.written, 60);
    assert!(
        daemon.get("/pipelines/a/history").is_object()
            || daemon.get("/pipelines/a/history").is_array()
    );
}

#[test]
fn a_second_daemon_changes_nothing_and_says_who_is_there() {
    let mut rig = Rig::new(&["a"]);
    let daemon = rig.start(&[]);
    let config = rig.config("a", &[]);
    assert_eq!(daemon.put_config("a", &config).status, 201);
    let before = fs::read(rig.path("data/journal")).expect("journal");
    let out = rig.command(&[]).output().expect("a second daemon");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    let who = format!("pid {} at {}", daemon.pid(), daemon.addr);
    assert!(said.contains(&who), "{who} in {said}");
    assert_eq!(fs::read(rig.path("data/journal")).expect("journal"), before);
    assert_eq!(daemon.state("a"), "RUNNING");
    // Once it is gone, however it went, the directory is free.
    daemon.kill();
    let daemon = rig.start(&[]);
    assert_eq!(daemon.get("/connectors"), json!(["a"]));
}

#[test]
fn a_wrong_config_is_told_whole_and_starts_nothing() {
    let rig = Rig::new(&[]);
    let out = rig
        .command(&["rest.listen=0.0.0.0:1", "restart.atempts=1"])
        .output()
        .expect("weir");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    for part in [
        "rest.open.to.network",
        "did you mean `restart.attempts`?",
        "2 errors",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!rig.path("data").exists());
}

#[test]
fn told_to_stop_it_commits_what_was_read_and_tells_the_service_manager() {
    let mut rig = Rig::new(&["a"]);
    let path = rig.path("notify");
    let socket = UnixDatagram::bind(&path).expect("socket");
    socket
        .set_read_timeout(Some(crate::brokers::DEADLINE))
        .expect("timeout");
    let told = || {
        let mut bytes = [0; 64];
        let n = socket.recv(&mut bytes).expect("a word");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    let logs = format!("log.dir={}", rig.path("logs").display());
    let mut command = rig.command(&[&logs]);
    command.env("NOTIFY_SOCKET", &path);
    let daemon = rig.start_as(command);
    assert_eq!(told(), "READY=1");
    rig.produce("a", &["x"; 25]);
    // Nothing but the end of the process makes this one commit.
    let slow = [("sink.rotate.age", "1h")];
    assert_eq!(daemon.put_config("a", &rig.config("a", &slow)).status, 201);
    until("the records to be read", || {
        let metrics = daemon.ask("GET", "/metrics", None).text();
        let lag = "weir_lag_records{pipeline=\"a\"} 0.0";
        (daemon.state("a") == "RUNNING" && metrics.lines().any(|l| l == lag)).then_some(())
    });
    daemon.signal(TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(daemon.wait().code(), Some(0), "{}", rig.log());
    let log = open_log(&rig.path("zone"), "a", "zone")
        .expect("log")
        .expect("begun");
    assert_eq!(log.state().totals().rows.written, 25);
    // Its own file has what its threads said, and nothing of the process.
    let own = fs::read_to_string(rig.path("logs/a.log")).expect("a log file");
    assert!(
        own.contains("\"committed\"") && own.contains("\"to\":\"RUNNING\""),
        "{own}"
    );
    assert!(!own.contains("daemon ready"), "{own}");
}

#[test]
fn another_set_of_transforms_comes_into_force_without_a_stop() {
    let mut rig = Rig::new(&["a"]);
    let [low, high] = ["low.toml", "high.toml"].map(|file| rig.path(file).display().to_string());
    fs::write(&low, "[columns.n]\nrequired = true\nmax = 49\n").expect("rules");
    fs::write(&high, "[columns.n]\nrequired = true\nmin = 50\n").expect("rules");
    let with = |rules: &str| {
        rig.config(
            "a",
            &[
                ("errors.tolerance", "all"),
                ("transforms", "flatten,rules"),
                ("transforms.flatten.type", "xml-flatten"),
                ("transforms.flatten.row-tag", "r"),
                ("transforms.flatten.columns", "n"),
                ("transforms.flatten.types.n", "int"),
                ("transforms.rules.type", "validate"),
                ("transforms.rules.rules", rules),
            ],
        )
    };
    let (first, second, broken) = (with(&low), with(&high), with("no-such-file.toml"));
    let daemon = rig.start(&[]);
    let created = daemon.put_config("a", &first);
    assert_eq!(created.status, 201, "{}", created.text());
    let message = |n: u32| format!("<m><r><n>{n}</n></r></m>");
    rig.produce("a", &[&message(10), &message(90)]);
    until("the first rows", || {
        daemon.position("a").filter(|at| *at == 2)
    });

    let answer = daemon.put_config("a", &second);
    assert_eq!(answer.status, 200, "{}", answer.text());
    // In force when it is answered, recorded with who asked, and the pipeline never began again.
    let log = open_log(&rig.path("zone"), "a", "zone")
        .expect("log")
        .expect("begun");
    assert!(log.state().generation() > 0);
    let path = log.name().entry(log.state().generation());
    let bytes = log.store().get(&path).expect("store").expect("entry");
    let entry = decode(&bytes, &path).expect("an entry");
    assert_eq!(entry.kind, Kind::Swap);
    let swap = entry.swap.expect("swap");
    assert!(swap.actor.contains("127.0.0.1"), "{}", swap.actor);
    assert_eq!(rig.log().matches("pipeline started").count(), 1);
    rig.produce("a", &[&message(11), &message(91)]);
    until("more rows", || daemon.position("a").filter(|at| *at == 4));
    let totals = open_log(&rig.path("zone"), "a", "zone")
        .expect("log")
        .expect("begun");
    let totals = totals.state().totals();
    assert_eq!((totals.rows.written, totals.dead_letters), (2, 2));

    // Rules that do not come up are refused, and nothing changes.
    let answer = daemon.put_config("a", &broken);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("no-such-file.toml"),
        "{}",
        answer.text()
    );
    assert_eq!(daemon.state("a"), "RUNNING");
    let mut stored = second.clone();
    stored.insert("name".to_owned(), "a".to_owned());
    assert_eq!(daemon.get("/connectors/a/config"), json!(stored));
    // The next process runs the rules that were put in force, and swaps nothing.
    daemon.kill();
    let generation = log.state().generation();
    let daemon = rig.start(&[]);
    rig.produce("a", &[&message(12)]);
    until("the last row", || {
        daemon.position("a").filter(|at| *at == 5)
    });
    let log = open_log(&rig.path("zone"), "a", "zone")
        .expect("log")
        .expect("begun");
    assert_eq!(log.state().generation(), generation);
    assert_eq!(log.state().totals().dead_letters, 3);
    let _: Value = daemon.get("/connectors/a/status");
}
