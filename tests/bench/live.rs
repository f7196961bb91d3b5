//! Measures what happens while records flow: rules are swapped, and a large component is compiled.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use weir::clock::SystemClock;

use crate::child::{Place, Ran, raw_sets};

/// One run over the topic while rules were swapped.
pub struct Swapped {
    pub ran: Ran,
    pub swaps: usize,
    /// The longest time that one task spent on going over to new rules instead of reading.
    pub longest_pause_ms: f64,
}

/// Rule files that say the same in other bytes: each is a swap, and the rows stay comparable.
pub fn rules(place: &Place) -> [PathBuf; 2] {
    let rules = fs::read_to_string(place.root.join("conf/rules/books.toml")).unwrap();
    ["a", "b"].map(|name| {
        let path = place.dir.join(format!("{name}.toml"));
        fs::write(&path, format!("# {name}\n{rules}")).unwrap();
        path
    })
}

/// Swaps as fast as `weir pipeline swap` can, from the first commit to the end of the topic.
pub fn swapped(place: &Place, bootstrap: &str, topic: &str) -> Swapped {
    let zone = "live_zone";
    let [a, b] = rules(place);
    let sets = |rules: &Path| {
        let mut sets = raw_sets(bootstrap, topic, &place.zone(zone));
        sets.push("sink.rotate.age=500ms".to_owned());
        sets.push(format!("transforms.rules.rules={}", rules.display()));
        sets
    };
    let mut next = [&b, &a].into_iter().cycle();
    let mut swaps = 0;
    let ran = place.raw_while(&sets(&a), zone, &mut |child| {
        while child.try_wait().unwrap().is_none() {
            let mut command = place.verb(&["pipeline", "swap", "conf/books-raw.toml", "--reload"]);
            for set in sets(next.next().unwrap()) {
                command.args(["--set", &set]);
            }
            command.stdout(Stdio::null()).stderr(Stdio::null());
            // Before the log is there, and after the end of the run, there is nothing to swap.
            swaps += usize::from(command.status().unwrap().success());
        }
    });
    let said = fs::read_to_string(place.dir.join("weir.log")).unwrap();
    let micros = said.lines().filter_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let went = line["message"] == "went over to new rules";
        went.then(|| line["micros"].as_str()?.parse::<f64>().ok())
            .flatten()
    });
    let longest = micros.fold(0.0, f64::max);
    Swapped {
        ran,
        swaps,
        longest_pause_ms: longest / 1e3,
    }
}

/// Wall time of a run over the topic; `push` is pushed again and again beside it.
pub fn pushed_beside(place: &Place, bootstrap: &str, topic: &str, push: Option<&Path>) -> f64 {
    let zone = "live_zone";
    let sets = raw_sets(bootstrap, topic, &place.zone(zone));
    let clock = SystemClock::shared();
    let begun = Instant::now();
    let mut ended = begun;
    let ran = place.raw_while(&sets, zone, &mut |child| {
        let mut beside: Option<Child> = None;
        while child.try_wait().unwrap().is_none() {
            let idle = beside
                .as_mut()
                .is_none_or(|p| p.try_wait().unwrap().is_some());
            if let Some(file) = push.filter(|_| idle) {
                beside = Some(pushing(place, file));
            }
            clock.sleep(Duration::from_millis(10));
        }
        ended = Instant::now();
        if let Some(mut push) = beside {
            push.wait().unwrap();
        }
    });
    ran.total.records.read as f64 / (ended - begun).as_secs_f64()
}

/// Into an empty store, with an empty cache: it is compiled each time.
fn pushing(place: &Place, file: &Path) -> Child {
    place.empty("pushed");
    let mut command = place.verb(&["plugin", "push"]);
    command.arg(file);
    for (flag, dir) in [("--plugin-store", "store"), ("--plugin-cache", "cache")] {
        command.arg(flag).arg(place.dir.join("pushed").join(dir));
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The same component in other bytes, by a custom section that nobody reads.
pub fn another(mut component: Vec<u8>) -> Vec<u8> {
    let stamp = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let said = format!("\x05bench{}", stamp.as_nanos());
    component.push(0); // section: custom
    leb(&mut component, said.len());
    component.extend(said.into_bytes());
    component
}

/// The validate component with a core module beside it that brings it to `bytes`: all of it is compiled.
pub fn large_component(place: &Place, bytes: usize) -> PathBuf {
    let mut component = fs::read(place.plugins.join("validate.wasm")).unwrap();
    let module = core_module(bytes.saturating_sub(component.len()));
    component.push(1); // section: core module
    leb(&mut component, module.len());
    component.extend(module);
    let path = place.dir.join("validate.wasm");
    fs::write(&path, component).unwrap();
    path
}

/// Functions of about 2 KiB each that add, shift and branch.
fn core_module(bytes: usize) -> Vec<u8> {
    let mut body = vec![0]; // no locals
    for n in 0..100u8 {
        // local = (local + n) << 1; if local { local = local ^ n }
        body.extend([0x20, 0, 0x41, n & 0x3f, 0x6a, 0x41, 1, 0x74, 0x21, 0]);
        body.extend([
            0x20,
            0,
            0x04,
            0x40,
            0x20,
            0,
            0x41,
            n & 0x3f,
            0x73,
            0x21,
            0,
            0x0b,
        ]);
    }
    body.extend([0x20, 0, 0x0b]);
    let count = bytes / (body.len() + 3);
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 1, 0x7f, 1, 0x7f]); // one type: i32 -> i32
    let mut functions = Vec::new();
    leb(&mut functions, count);
    functions.resize(functions.len() + count, 0);
    section(&mut module, 3, &functions);
    let mut code = Vec::new();
    leb(&mut code, count);
    for _ in 0..count {
        leb(&mut code, body.len());
        code.extend(&body);
    }
    section(&mut module, 10, &code);
    module
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    leb(module, content.len());
    module.extend(content);
}

/// Unsigned LEB128.
fn leb(out: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

impl Place {
    /// Any other verb, where the configs of `conf/` are.
    fn verb(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .current_dir(&self.root)
            .args(args)
            .stdin(Stdio::null());
        if args[0] == "pipeline" {
            for set in self.plugin_sets() {
                command.args(["--set", &set]);
            }
        }
        command
    }

    /// Kafka → RAW into `zone`, from nothing, with something else going on until the child ends.
    fn raw_while(&self, sets: &[String], zone: &str, beside: &mut dyn FnMut(&mut Child)) -> Ran {
        self.empty(zone);
        let mut command = self.weir("conf/books-raw.toml", sets, "warn,weir::pipeline=debug");
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let lines = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines();
            lines.map(Result::unwrap).collect::<Vec<_>>()
        });
        beside(&mut child);
        child.wait().unwrap();
        self.ran(
            "conf/books-raw.toml",
            &self.at(zone),
            "books-raw",
            zone,
            lines.join().unwrap(),
        )
    }
}
