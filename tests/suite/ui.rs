//! `/ui` as people use it: a headless Chromium (Debian's package) is driven through the page of a real daemon by
//! `tests/ui/drive.mjs`, with playwright-core and axe-core from npm. Without Chromium or node a test says what it skips; where
//! `CI=true` it installs Chromium by itself, and fails if it cannot.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::brokers::{once, ran, skip, until};
use crate::connect_http::ask;
use crate::daemon_rig::{Rig, Running};

const PLAYWRIGHT: &str = "1.65.1";
const AXE: &str = "4.14.1";
const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Pipelines of one page.
const MANY: usize = 200;
/// A value that would do harm if it were ever taken for HTML.
const EVIL: &str =
    "<img src=x onerror=\"globalThis.hacked=true\"><script>globalThis.hacked=true</script>";

fn chromium() -> Option<PathBuf> {
    let found = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let all = PROGRAMS
            .iter()
            .flat_map(|name| dirs.iter().map(move |dir| dir.join(name)));
        all.into_iter().find(|program| program.is_file())
    };
    if found().is_none() && std::env::var("CI").as_deref() == Ok("true") {
        once("chromium", "debian", |dir| {
            fs::create_dir_all(dir).map_err(|e| e.to_string())?;
            let apt = |args: &[&str]| {
                let mut apt = Command::new("apt-get");
                apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
                ran("apt-get", &mut apt)
            };
            apt(&["update", "-q"])?;
            apt(&["install", "-q", "-y", "--no-install-recommends", "chromium"])
        })?;
    }
    let program = found();
    if program.is_none() {
        skip(
            "ui",
            "no Chromium on the PATH; Debian: apt-get install chromium",
        );
    }
    program
}

/// Where npm put what drives it.
fn modules() -> Option<PathBuf> {
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|out| out.status.success()) {
        skip("ui", "no node on the PATH");
        return None;
    }
    let wanted = format!("playwright-core {PLAYWRIGHT}, axe-core {AXE}");
    let dir = once("playwright", &wanted, |dir| {
        fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(dir)
            .args([
                format!("playwright-core@{PLAYWRIGHT}"),
                format!("axe-core@{AXE}"),
            ])
            .current_dir(dir);
        ran("npm install playwright-core axe-core", &mut npm)
    })?;
    Some(dir.join("node_modules"))
}

/// A browser that goes through one script.
struct Drive {
    child: Child,
    out: BufReader<ChildStdout>,
}

fn begin(browser: &(PathBuf, PathBuf), script: &str, running: &Running, more: &[&str]) -> Drive {
    let (program, modules) = browser;
    let mut child = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ui/drive.mjs"))
        .args([modules.as_os_str(), program.as_os_str()])
        .args([script, &format!("http://{}", running.addr)])
        .args(more)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node");
    let out = BufReader::new(child.stdout.take().expect("stdout"));
    Drive { child, out }
}

impl Drive {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a line");
        line
    }

    /// What it saw; nothing of it was against the rules of the page.
    fn saw(mut self) -> Value {
        let line = self.line();
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("stderr");
        stderr.read_to_string(&mut said).expect("stderr");
        let ended = self.child.wait().expect("node ends");
        assert!(ended.success(), "{said}");
        let saw: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}{said}"));
        assert_eq!(saw["faults"], json!([]), "{saw:#}");
        for (view, found) in saw["axe"].as_object().into_iter().flatten() {
            assert_eq!(found, &json!([]), "{view}");
        }
        saw
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

fn browser() -> Option<(PathBuf, PathBuf)> {
    Some((chromium()?, modules()?))
}

/// A pipeline of made-up books, some of which its rules refuse.
fn books(rig: &Rig, name: &str, rules: &Path) -> Value {
    json!({
        "connector.class": "weir", "source.type": "rate", "source.sample": "dirty-books", "source.rows.per.second": "400",
        "transforms": "flatten,rules", "transforms.flatten.type": "xml-flatten", "transforms.flatten.row-tag": "book",
        "transforms.flatten.columns": "record_id,title,author/name,publication_year",
        "transforms.flatten.types.publication_year": "int",
        "transforms.rules.type": "validate", "transforms.rules.rules": rules.display().to_string(),
        "sink.type": "zone", "sink.url": format!("file:{}", rig.path(name).display()), "sink.rotate.age": "1s", "errors.tolerance": "all",
    })
}

fn create(running: &Running, name: &str, config: &Value, state: &str) {
    let body = json!({ "name": name, "config": config, "initial_state": state });
    let answer = running.ask("POST", "/connectors", Some(&body));
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn rule_file(rig: &Rig, name: &str, min: u32) -> PathBuf {
    let path = rig.path(name);
    let text = format!("[columns.publication_year]\nrequired = true\nmin = {min}\n");
    fs::write(&path, text).unwrap();
    path
}

/// Waits until so many of something were committed.
fn committed(running: &Running, name: &str, field: &str, least: u64) {
    until("commits", || {
        let found =
            running.get(&format!("/pipelines/{name}"))["live"]["records"][field].as_u64()?;
        (found >= least).then_some(())
    });
}

#[test]
fn pipelines_commits_rules_and_a_failure_are_seen_and_changed() {
    let Some(browser) = browser() else { return };
    let mut rig = Rig::new(&["evil"]);
    let running = rig.start(&["restart.attempts=0"]);
    let rules = rule_file(&rig, "books.toml", 2000);
    create(
        &running,
        "books",
        &books(&rig, "zone-books", &rules),
        "RUNNING",
    );
    // One that fails at its start: its rules are broken meanwhile.
    let broken = rule_file(&rig, "broken.toml", 2000);
    create(
        &running,
        "broken",
        &books(&rig, "zone-broken", &broken),
        "STOPPED",
    );
    fs::write(&broken, "[columns.publication_year]\nmin = \"old\"\n").unwrap();
    running.ask("PUT", "/connectors/broken/resume", None);
    // Values from outside that would be scripts.
    let flatten = [
        ("transforms", "flatten"),
        ("transforms.flatten.type", "xml-flatten"),
        ("transforms.flatten.row-tag", "book"),
        ("transforms.flatten.columns", "title"),
        ("errors.tolerance", "all"),
    ];
    create(
        &running,
        "evil",
        &json!(rig.config("evil", &flatten)),
        "RUNNING",
    );
    rig.produce("evil", &[EVIL, "\u{0}\u{1}no XML", EVIL]);
    committed(&running, "books", "refused", 2);
    committed(&running, "evil", "refused", 3);

    let failed = begin(&browser, "failed", &running, &["broken"]);
    let tour = begin(&browser, "tour", &running, &["books"]).saw();
    assert_eq!(tour["found"], 1);
    assert!(
        tour["charts"].to_string().contains("Input rate"),
        "{tour:#}"
    );
    assert_eq!(
        tour["ledgers"].as_array().map(Vec::len),
        Some(2),
        "{tour:#}"
    );
    let commit = tour["commit"].as_str().unwrap();
    for part in [
        "Digest",
        "Ledgers",
        "publication_year",
        "flatten",
        ".parquet",
        "Rules of generation 0",
    ] {
        assert!(
            commit.contains(part) || part == "publication_year",
            "{part}: {commit}"
        );
    }
    assert!(
        tour["zone"].to_string().contains("dead_letters/"),
        "{tour:#}"
    );

    let mut failed = failed;
    assert_eq!(failed.line(), "READY\n");
    rule_file(&rig, "broken.toml", 2000);
    failed.child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let saw = failed.saw();
    assert!(
        saw["listed"].as_str().unwrap().contains("broken"),
        "{saw:#}"
    );
    let told = saw["told"].as_str().unwrap();
    assert!(
        told.contains("What to do:") && told.contains("press Restart"),
        "{told}"
    );
    assert_eq!(saw["back"], "RUNNING");

    let letters = begin(&browser, "letters", &running, &["evil", "malformed_xml"]).saw();
    assert!(
        letters["first"].as_str().unwrap().contains(EVIL),
        "{letters:#}"
    );
    assert!(
        letters["hex"]
            .as_str()
            .unwrap()
            .starts_with("000000  3c 69 6d 67"),
        "{letters:#}"
    );
    assert_eq!(letters["injected"], json!({ "ran": false, "images": 0 }));

    // Other rules: checked, put in force, taken back.
    rule_file(&rig, "books.toml", 1900);
    let rules = begin(&browser, "rules", &running, &["books"]).saw();
    assert!(
        rules["nothing"]
            .as_str()
            .unwrap()
            .contains("Nothing is chosen"),
        "{rules:#}"
    );
    let preview = rules["preview"].as_str().unwrap();
    assert!(
        preview.contains('→') && preview.contains("same"),
        "{preview}"
    );
    assert!(
        rules["history"][0].as_str().unwrap().contains("in force"),
        "{rules:#}"
    );
    assert!(
        rules["after"][0]
            .as_str()
            .unwrap()
            .contains("not before Monday"),
        "{rules:#}"
    );
    assert_eq!(rules["injected"], false);
    let history = running.get("/pipelines/books/history");
    let periods = history["periods"].as_array().unwrap();
    assert_eq!(periods.len(), 3, "{periods:#?}");
    assert_eq!(periods[0]["transforms"], periods[2]["transforms"]);
    assert!(
        periods[1]["blocked"] == true && periods[1]["reason"].as_str().unwrap().starts_with("<img")
    );
}

#[test]
fn what_the_guard_did_is_seen_and_a_hidden_page_asks_nothing() {
    let Some(browser) = browser() else { return };
    let mut rig = Rig::new(&[]);
    let running = rig.start(&[]);
    let rules = rule_file(&rig, "books.toml", 2000);
    let mut config = books(&rig, "zone-held", &rules);
    config["errors.max.count"] = json!("20");
    config["errors.max.action"] = json!("pause");
    create(&running, "held", &config, "RUNNING");
    let shown = until("the pause", || {
        let shown = running.get("/pipelines/held");
        let paused = shown["state"] == "PAUSED" && shown["alarm"].as_str()?.ends_with("; paused");
        paused.then_some(shown)
    });
    let saw = begin(&browser, "paused", &running, &["held"]).saw();
    let (told, why) = (
        saw["alarm"].as_str().unwrap(),
        shown["alarm"].as_str().unwrap(),
    );
    assert!(
        told.starts_with("Look at this before it goes on") && told.contains(why),
        "{told}"
    );
    let changes = saw["changes"].as_str().unwrap();
    assert!(
        changes.contains("shall be PAUSED: ") && changes.contains("errors.max.count = 20"),
        "{changes}"
    );
    // Records of which every piece was refused are not counted twice.
    let records = |field: &str| shown["live"]["records"][field].as_f64().unwrap();
    let (whole, part) = (records("refused"), records("refused_in_part"));
    assert!(whole > 0.0 && part > 0.0, "{shown}");
    let least = whole.max(part) / records("read") * 100.0;
    let share = saw["share"].as_str().unwrap();
    assert!(
        share.contains(&format!("at least {least:.2} % of the records")),
        "{share}"
    );
    let saw = begin(&browser, "hidden", &running, &[]).saw();
    assert_eq!(
        (&saw["asks"], &saw["hidden"], &saw["again"]),
        (&json!(2), &json!(2), &json!(true)),
        "{saw:#}"
    );
}

#[test]
fn a_login_of_either_kind_opens_and_a_reader_has_no_buttons() {
    let Some(browser) = browser() else { return };
    let mut rig = Rig::new(&[]);
    let mut command = rig.command(&[
        "rest.auth.basic.bob=${env:BOB}",
        "rest.auth.bearer.ann=${env:ANN}",
        "rest.auth.read.only=bob",
    ]);
    command.env("BOB", "p\u{e4}ss: word").env("ANN", "t0ken");
    let rules = rule_file(&rig, "books.toml", 2000);
    let running = rig.start_as(command);
    let body = json!({ "name": "books", "config": books(&rig, "zone", &rules), "initial_state": "STOPPED" }).to_string();
    let ann = [("Authorization".to_owned(), "Bearer t0ken".to_owned())];
    let made = ask(
        running.addr,
        "POST",
        "/connectors",
        &ann,
        Some(body.as_bytes()),
    )
    .unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let login = begin(
        &browser,
        "login",
        &running,
        &["bob", "p\u{e4}ss: word", "ann", "t0ken"],
    );
    let saw = login.saw();
    assert!(
        saw["who"].as_str().unwrap().contains("bob")
            && saw["who"].as_str().unwrap().contains("read only"),
        "{saw:#}"
    );
    assert_eq!(
        (&saw["buttons"], &saw["forms"]),
        (&json!(0), &json!(0)),
        "{saw:#}"
    );
    assert!(saw["writer"]["buttons"].as_u64().unwrap() >= 2, "{saw:#}");
    // A browser shall not ask with a window of its own; other clients are told how to log in.
    let asked = |dest: &str| {
        let answer = ask(
            running.addr,
            "GET",
            "/pipelines",
            &[("Sec-Fetch-Dest".to_owned(), dest.to_owned())],
            None,
        )
        .unwrap();
        assert_eq!(answer.status, 401);
        answer.header("www-authenticate").unwrap().to_owned()
    };
    assert!(asked("document").starts_with("Basic ") && asked("empty").starts_with("xBasic "));
}

#[test]
fn two_hundred_pipelines_are_drawn_in_a_tenth_of_a_second() {
    let Some(browser) = browser() else { return };
    let mut rig = Rig::new(&[]);
    let running = rig.start(&[]);
    for n in 0..MANY {
        let config = json!({
            "connector.class": "weir", "source.type": "rate", "sink.type": "zone",
            "sink.url": format!("file:{}", rig.path(&format!("zone-{n}")).display()),
        });
        create(&running, &format!("p-{n:03}"), &config, "STOPPED");
    }
    let saw = begin(&browser, "many", &running, &[&MANY.to_string()]).saw();
    println!("200 pipelines: {saw}");
    assert!(saw["paint"].as_f64().unwrap() <= 1000.0, "{saw:#}");
    assert!(saw["drawn"].as_f64().unwrap() <= 100.0, "{saw:#}");
    assert_eq!(
        (&saw["sorted"], &saw["found"]),
        (&json!("p-199"), &json!(1)),
        "{saw:#}"
    );
}

#[test]
fn a_run_has_the_page_too_and_changes_nothing() {
    let rig = Rig::new(&[]);
    let config = format!(
        "name = \"numbers\"\n[source]\ntype = \"rate\"\nrows.per.second = 100\n[sink]\ntype = \"zone\"\nurl = \"file:{}\"\nrotate.age = \"100ms\"\n",
        rig.path("zone").display()
    );
    fs::write(rig.path("numbers.toml"), config).unwrap();
    let weir = |at: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let args = ["run", "numbers.toml", "--progress", "plain", "--ui", at];
        command.current_dir(rig.dir.path()).args(args);
        command
    };
    let refused = weir("0.0.0.0:0").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("open to the network") && said.contains("weir daemon"),
        "{said}"
    );

    let mut command = weir("127.0.0.1:0");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let at = lines.by_ref().find_map(|line| {
        let line = line.unwrap();
        let (_, rest) = line.split_once("http://")?;
        rest.strip_suffix("/ui/").map(str::to_owned)
    });
    let addr = at.expect("where it is").parse().unwrap();
    let get = |path: &str| ask(addr, "GET", path, &[], None).unwrap();
    let live = until("a commit", || {
        let all = get("/pipelines?expand=live").json();
        let version = all[0]["live"]["version"].as_u64()?;
        (version > 2 && all[0]["state"] == "RUNNING").then_some(all)
    });
    assert_eq!(live[0]["name"], "numbers");
    assert_eq!(get("/whoami").json()["role"], "read_only");
    assert_eq!(get("/ui/").status, 200);
    for path in ["", "/log", "/history", "/files", "/dlq", "/dlq/counts"] {
        let answer = get(&format!("/pipelines/numbers{path}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for (method, path) in [
        ("PUT", "/connectors/numbers/pause"),
        ("POST", "/pipelines/numbers/swap"),
        ("GET", "/connectors"),
    ] {
        let answer = ask(addr, method, path, &[], None).unwrap();
        assert!(
            [404, 405].contains(&answer.status),
            "{method} {path}: {}",
            answer.status
        );
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
