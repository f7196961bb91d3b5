//! What a newcomer sees first: the program works from any directory, progress is visible, the next commit and the next
//! look are announced, the first rows do not wait for an interval.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use weir::plugin::{Places, Plugins, shipped};

use crate::world::World;

/// For one line to come.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn weir(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(dir).stdin(Stdio::null());
    command
}

/// A child whose stdout is read line by line; it does not outlive the test.
struct Lines {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Lines {
    fn of(command: &mut Command) -> Lines {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                drop(tell.send(line));
            }
        });
        Lines {
            child,
            lines,
            said: Vec::new(),
        }
    }

    /// The next line that says all of it.
    fn until(&mut self, words: &[&str]) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with {words:?}: {:#?}", self.said);
            };
            self.said.push(line.clone());
            if words.iter().all(|word| line.contains(word)) {
                return line;
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn what_was_read_is_said_and_the_first_rows_wait_for_no_interval() {
    let world = World::new(1);
    world.produce((0..7).map(|_| (0, &b"a"[..])));
    let raw = format!(
        "name = \"raw\"\n[source]\ntype = \"kafka\"\nbootstrap.servers = \"{}\"\ntopics = [\"books\"]\n\
         start = \"earliest\"\n[sink]\ntype = \"zone\"\nurl = \"file:raw\"\nrotate.age = \"8s\"\n",
        world.broker.bootstrap()
    );
    let processed = "name = \"done\"\ntrigger = \"every:1h\"\n[source]\ntype = \"zone\"\nurl = \"file:raw\"\n\
        pipeline = \"raw\"\ntable = \"books\"\n[sink]\ntype = \"zone\"\nurl = \"file:done\"\ntable = \"books\"\n\
        partition.field = \"_timestamp\"\npartition.format = \"%Y\"\npartition.name = \"year\"\n";
    let dir = world.dir.path();
    std::fs::write(dir.join("raw.toml"), raw).unwrap();
    std::fs::write(dir.join("done.toml"), processed).unwrap();
    let mut run = weir(dir);
    run.args(["run", "raw.toml", "done.toml", "--progress", "plain"]);
    let mut run = Lines::of(&mut run);
    run.until(&["done", "nothing to read yet"]);
    run.until(&[
        "raw",
        "7 records read, not committed yet; next commit within",
    ]);
    run.until(&["raw", "commit", "7 records"]);
    // An hour is the interval; this comes within a second of the first commit.
    run.until(&["done", "commit", "7 records"]);
    let rests = run.until(&["done", "looks again at", "UTC, in"]);
    assert!(
        rests.contains(" in 59 min ") || rests.contains(" in 60 min "),
        "{rests}"
    );
    let widest = run.said.iter().map(|line| line.chars().count()).max();
    assert!(widest < Some(80), "{:#?}", run.said);
}

fn json(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn shipped_plugins_are_what_the_program_says_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let place = |below: &str| dir.path().join(below);
    let (path, store, cache) = (place("plugins"), place("store"), place("cache"));
    let plugins = Plugins::open(Places { path, store, cache }).unwrap();
    assert!(shipped().len() >= 8, "{:?}", shipped().len());
    for plugin in shipped() {
        let found = plugins.find(plugin.name, &|_, _| true).unwrap();
        let said = (found.info().version.as_str(), found.digest());
        assert_eq!(
            said,
            (plugin.version, plugin.digest.as_str()),
            "{}",
            plugin.name
        );
        let by_digest = plugins.component(&plugin.digest).unwrap();
        assert_eq!(by_digest.info().name, plugin.name);
    }
}

/// plugin.path, then the plugin store, then the program.
#[test]
fn a_users_build_comes_before_the_shipped_one() {
    let dir = tempfile::tempdir().unwrap();
    let weir = |args: &[&str]| weir(dir.path()).args(args).output().unwrap();
    let listed = json(&weir(&["plugin", "ls", "--json"]));
    let names: Vec<&str> = listed
        .iter()
        .map(|l| l["plugin"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"xml-flatten") && names.contains(&"mask"),
        "{names:?}"
    );
    assert!(listed.iter().all(|l| l["shipped"] == true), "{listed:?}");
    assert!(
        std::fs::read_dir(dir.path()).unwrap().next().is_none(),
        "a list makes nothing"
    );

    let of = |text: &str| {
        let found = json(&weir(&["plugin", "inspect", text, "--json"])).remove(0);
        let shipped = found["shipped"] == true;
        (found["digest"].as_str().unwrap().to_owned(), shipped)
    };
    let select = shipped().iter().find(|s| s.name == "select").unwrap();
    assert_eq!(of("select@0.1"), (select.digest.clone(), true));
    let told = weir(&["plugin", "inspect", "select"]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("shipped with weir"), "{told}");

    // The same with another custom section: another build of the same version.
    let mut own = select.bytes.to_vec();
    own.extend(b"\x00\x03\x01nx");
    std::fs::write(dir.path().join("own.wasm"), &own).unwrap();
    let pushed = json(&weir(&["plugin", "push", "own.wasm", "--json"])).remove(0);
    let pushed = pushed["digest"].as_str().unwrap().to_owned();
    assert_ne!(pushed, select.digest);
    assert_eq!(of("select"), (pushed.clone(), false));
    own.push(0);
    own.extend(b"\x03\x01nx");
    std::fs::write(dir.path().join("data/plugins/select.wasm"), &own).unwrap();
    let loose = of("select");
    assert!(!loose.1 && loose.0 != pushed, "{loose:?}");
    std::fs::remove_file(dir.path().join("data/plugins/select.wasm")).unwrap();
    assert_eq!(
        of(&format!("select@{}", select.digest)),
        (select.digest.clone(), true)
    );

    // Taken out of use: the shipped build of that version does not come back in its place.
    json(&weir(&["plugin", "yank", "select@0.1.0", "--json"]));
    let refused = weir(&["plugin", "inspect", "select"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(
        told.contains("(yanked)") && told.contains("shipped: select@0.1.0"),
        "{told}"
    );
}

/// Everything between ```sh try and ```, in order.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh try\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

/// The commands of the README's first pages, with a broker that has such a topic.
#[test]
fn the_readmes_way_from_json_to_parquet_is_gone() {
    let page = std::fs::read_to_string(crate::check::root().join("README.md")).unwrap();
    let head: Vec<&str> = page.lines().take(20).collect();
    assert!(
        head.iter().any(|line| line.starts_with("**Not for**")),
        "{head:#?}"
    );
    let script = commands(&page);
    assert!(script.lines().count() > 25, "{script}");
    let world = World::new(1);
    world.broker.create_topic("orders", 1).unwrap();
    let messages = script.lines().filter(|line| line.starts_with("{\"id\""));
    let messages: Vec<&str> = messages.collect();
    world.send(
        "orders",
        messages.iter().map(|message| (0, message.as_bytes())),
    );
    let bin = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-e", "-u", "-o", "pipefail", "-c", &script]);
    shell
        .env("PATH", path)
        .env("KAFKA_BOOTSTRAP_SERVERS", world.broker.bootstrap());
    let ran = shell.current_dir(world.dir.path()).output().unwrap();
    let told = String::from_utf8_lossy(&ran.stdout).into_owned();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{told}\n{errors}");
    // The table on the page is the one that it prints.
    let table = page
        .split("```text\n")
        .find(|block| block.starts_with("ROW"))
        .unwrap();
    let table = table.split("```").next().unwrap();
    assert!(told.contains(table), "{told}\nthe page has\n{table}");
    let rows = format!("= {} written", messages.len());
    assert!(told.contains(&rows), "{told}");
    let parquet = crate::brokers::files(&world.path("data/lake/orders"), ".parquet");
    assert_eq!(parquet.len(), 1, "{parquet:?}");
}
