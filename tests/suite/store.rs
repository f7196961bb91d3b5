//! The plugin store: what is found, what is refused, what is kept, and what a damaged file can do (nothing).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;
use weir::error::{Error, Kind};
use weir::plugin::{Canonical, Component, Keys, Places, Plugins, Pushed};

use crate::brokers::files;

pub const WEIR: &str = env!("CARGO_BIN_EXE_weir");

pub fn guest_dir() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/plugins-test");
    std::env::var_os("WEIR_TEST_GUESTS").map_or_else(|| built.into(), PathBuf::from)
}

/// A place for plugins of its own; native images are shared by all tests.
pub struct Shelf {
    pub dir: tempfile::TempDir,
}

impl Shelf {
    pub fn new() -> Shelf {
        Shelf {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn places(&self) -> Places {
        Places {
            path: self.dir.path().to_owned(),
            store: self.dir.path().join("store"),
            cache: concat!(env!("CARGO_TARGET_TMPDIR"), "/native").into(),
        }
    }

    pub fn open(&self) -> Plugins {
        Plugins::open(self.places()).unwrap()
    }

    fn loose(&self, bytes: &[u8]) {
        fs::write(self.dir.path().join("guest-table.wasm"), bytes).unwrap();
    }

    fn push(&self, bytes: Vec<u8>) -> Result<String, Error> {
        let plugins = self.open();
        let component = plugins.from_bytes(bytes)?;
        let digest = component.digest().to_owned();
        plugins.store().put_blob(&digest, component.bytes())?;
        let info = component.info();
        let pushed = Pushed {
            digest: digest.clone(),
            at: 0,
            by: "test".to_owned(),
        };
        plugins.store().push(&info.name, &info.version, &pushed)?;
        Ok(digest)
    }

    pub fn weir(&self, args: &[&str]) -> Output {
        let path = self.dir.path().to_str().unwrap();
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/native");
        let places = ["--plugin-path", path, "--plugin-cache", cache];
        Command::new(WEIR)
            .current_dir(self.dir.path())
            .arg("plugin")
            .args(args)
            .args(places)
            .output()
            .unwrap()
    }
}

pub fn guest() -> Vec<u8> {
    fs::read(guest_dir().join("guest-table.wasm")).expect("guests built: `make guests`")
}

/// The guest as another version: its name for itself stands in the file once, as data.
pub fn version(text: &str) -> Vec<u8> {
    let mut bytes = guest();
    let at: Vec<usize> = (0..bytes.len() - 5)
        .filter(|n| &bytes[*n..*n + 5] == b"1.0.0")
        .collect();
    assert_eq!((at.len(), text.len()), (1, 5));
    bytes[at[0]..at[0] + 5].copy_from_slice(text.as_bytes());
    bytes
}

/// The same component with another digest: an empty custom section more.
pub fn rebuilt(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(b"\0\x05\x04made");
    bytes
}

pub fn canonical(component: &Component, config: &[(&str, &str)]) -> Canonical {
    let config: BTreeMap<String, String> = (config.iter())
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let keys = Keys {
        config: &config,
        resolve: &|typed| weir::config::Text::new(typed).resolve(),
        read_file: &|path| fs::read(path),
    };
    component.canonical(&keys).unwrap()
}

fn any(_: &str, _: &str) -> bool {
    true
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), Kind::PluginRefused, "{error}");
    error.to_string()
}

#[test]
fn the_highest_version_that_the_pin_takes_is_found() {
    let shelf = Shelf::new();
    let [one, two, nine] = ["1.0.0", "1.2.0", "1.9.0"].map(|v| shelf.push(version(v)).unwrap());
    let found = |takes: &dyn Fn(&str, &str) -> bool| {
        let found = shelf.open().find("guest-table", takes).unwrap();
        (found.info().version.clone(), found.digest().to_owned())
    };
    assert_eq!(found(&any), ("1.9.0".into(), nine.clone()));
    assert_eq!(found(&|v, _| v.starts_with("1.0")), ("1.0.0".into(), one));
    // A loose build wins over its own version and the lower ones, not over a higher one.
    let fresh = rebuilt(version("1.2.0"));
    shelf.loose(&fresh);
    assert_eq!(found(&any).1, nine);
    assert_ne!(found(&|v, _| v.starts_with("1.2")).1, two);
    // Yanked: no version any more, but still a digest, whole or its beginning.
    shelf
        .open()
        .store()
        .yank("guest-table", "1.9.0", true)
        .unwrap();
    assert_eq!(found(&any).0, "1.2.0");
    assert_eq!(found(&|_, digest| digest.starts_with(&nine[..30])).1, nine);
    assert_eq!(
        shelf.open().component(&nine).unwrap().info().version,
        "1.9.0"
    );
    let told = refusal(shelf.open().find("guest-table", &|v, _| v == "1.9.0"));
    assert!(
        told.contains("1.9.0") && told.contains("(yanked)"),
        "{told}"
    );
    shelf
        .open()
        .store()
        .yank("guest-table", "1.9.0", false)
        .unwrap();
    assert_eq!(found(&any).1, nine);
}

#[test]
fn a_version_never_becomes_another_build() {
    let shelf = Shelf::new();
    let digest = shelf.push(guest()).unwrap();
    assert_eq!(
        shelf.push(guest()).unwrap(),
        digest,
        "the same again is fine"
    );
    let told = refusal(shelf.push(rebuilt(guest())));
    assert!(
        told.contains(&digest) && told.contains("raise the version"),
        "{told}"
    );
    // A ref that somebody altered by hand leads to no other build.
    shelf.push(version("1.2.0")).unwrap();
    let refs = shelf.dir.path().join("store/refs/guest-table");
    fs::copy(refs.join("1.0.0.json"), refs.join("1.2.0.json")).unwrap();
    let told = refusal(shelf.open().find("guest-table", &|v, _| v == "1.2.0"));
    assert!(told.contains("calls itself guest-table@1.0.0"), "{told}");
}

#[test]
fn what_is_loaded_is_not_loaded_again() {
    let shelf = Shelf::new();
    shelf.loose(&guest());
    let plugins = shelf.open();
    let first = plugins.find("guest-table", &any).unwrap();
    for again in [
        plugins.find("guest-table", &any).unwrap(),
        plugins.clone().component(first.digest()).unwrap(),
    ] {
        assert!(std::ptr::eq(first.bytes(), again.bytes()));
    }
}

#[test]
fn damaged_files_are_named_and_repaired_by_the_same_again() {
    let shelf = Shelf::new();
    let table = shelf.dir.path().join("t.csv");
    fs::write(&table, "a,b\n1,\n").unwrap();
    let (plugins, digest) = (shelf.open(), shelf.push(guest()).unwrap());
    let component = plugins.component(&digest).unwrap();
    let config = canonical(&component, &[("table", table.to_str().unwrap())]);
    plugins.keep(&component, &config).unwrap();
    let store = shelf.dir.path().join("store");
    let blobs = files(&store.join("blobs"), "");
    let configs = files(&store.join("configs"), ".json");
    assert_eq!(
        (blobs.len(), configs.len()),
        (2, 1),
        "component and table; config"
    );
    let load = || {
        let plugins = shelf.open();
        plugins.component(&digest)?;
        plugins.config(config.digest())
    };
    for path in blobs.iter().chain(&configs) {
        let whole = fs::read(path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
            fs::write(path, damaged).unwrap();
            let told = refusal(load());
            assert!(
                told.contains("is damaged") && told.contains(path.to_str().unwrap()),
                "{told}"
            );
            plugins.keep(&component, &config).unwrap();
            assert_eq!(load().unwrap().text(), config.text());
        }
    }
    assert_eq!(
        files(&store, "").len(),
        4,
        "three files and the ref; nothing half written is left"
    );
    for path in &blobs {
        fs::remove_file(path).unwrap();
        let told = refusal(load());
        assert!(
            told.contains("no ") && told.contains("plugin store"),
            "{told}"
        );
        plugins.keep(&component, &config).unwrap();
    }
    let nobody = format!("sha256:{}", "0".repeat(64));
    assert!(refusal(plugins.component(&nobody)).contains("bring the plugin store"));
    assert!(refusal(plugins.config(&nobody)).contains("no config"));
    assert!(refusal(plugins.component("sha256:../../x")).contains("is no digest"));
}

#[test]
fn a_native_image_of_another_engine_is_not_run() {
    let shelf = Shelf::new();
    let cache = shelf.dir.path().join("cache");
    shelf.loose(&guest());
    let find = || {
        let places = Places {
            cache: cache.clone(),
            ..shelf.places()
        };
        let found = Plugins::open(places).unwrap().find("guest-table", &any);
        found.unwrap().digest().to_owned()
    };
    let digest = find();
    let image = files(&cache, ".cwasm").remove(0);
    let whole = fs::read(&image).unwrap();
    let fuel = compiled(&guest(), "fuel");
    assert!(fuel.status.success() && fuel.stdout != whole);
    // Both sums fit: what refuses is wasmtime, and what is loaded in the end was compiled anew.
    for forged in [&fuel.stdout[..], &whole[..whole.len() / 2]] {
        fs::write(&image, forged).unwrap();
        fs::write(image.with_extension("sum"), weir::commit::digest(forged)).unwrap();
        assert_eq!(find(), digest);
        assert!(
            fs::read(&image).unwrap() == whole,
            "the cache is whole again"
        );
    }
}

fn compiled(component: &[u8], stop: &str) -> Output {
    let mut child = Command::new(WEIR)
        .args(["plugin", "compile", "--stop", stop])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = component.to_owned();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bytes));
    let output = child.wait_with_output().unwrap();
    drop(writer.join());
    output
}

#[test]
fn components_are_compiled_in_a_process_of_their_own() {
    let shelf = Shelf::new();
    let with = |program: &Path, bytes: &[u8]| {
        let cache = tempfile::tempdir().unwrap();
        let places = Places {
            cache: cache.path().to_owned(),
            ..shelf.places()
        };
        let plugins = Plugins::open(places).unwrap().with_compiler(program);
        plugins
            .from_bytes(bytes.to_owned())
            .map(|c| c.info().version.clone())
    };
    assert_eq!(with(WEIR.as_ref(), &guest()).unwrap(), "1.0.0");
    let told = refusal(with(WEIR.as_ref(), b"\0asm\x0d\0\x01\0garbage"));
    assert!(told.contains("not a valid component: "), "{told}");
    let script = shelf.dir.path().join("compiler");
    for (does, says) in [
        ("kill -9 $$", "killed by signal 9"),
        (
            "echo too much >&2; kill -ABRT $$",
            "ran out of memory or aborted: too much",
        ),
        ("kill -XCPU $$", "ran out of processor time"),
        ("exit 101", "exit status: 101"),
        ("echo no image", "a fresh native image cannot be loaded"),
    ] {
        // Written by a process that has ended: a script that a fork of this one holds open for writing cannot be run.
        let text = format!("#!/bin/sh\n{does}\n");
        let made = Command::new("sh")
            .args([
                "-c",
                "printf %s \"$1\" > \"$2\" && chmod 700 \"$2\"",
                "sh",
                &text,
            ])
            .arg(&script)
            .status();
        assert!(made.unwrap().success());
        let error = with(&script, &guest()).unwrap_err().to_string();
        assert!(error.contains(says), "{does}: {error}");
    }
    let told = refusal(with(&shelf.dir.path().join("absent"), &guest()));
    assert!(told.contains("the compiler does not start"), "{told}");
}

#[test]
fn the_compiler_limits_itself_before_it_reads() {
    let mut child = Command::new(WEIR)
        .args(["plugin", "compile", "--stop", "time"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let begun = std::time::Instant::now();
    let limited = |text: &str| {
        let of = |what: &str, most: &str| {
            let line = text.lines().find(|line| line.starts_with(what));
            line.is_some_and(|line| line.split_whitespace().any(|word| word == most))
        };
        of("Max cpu time", "60")
            && of("Max address space", "2147483648")
            && of("Max core file", "0")
    };
    while !limited(&fs::read_to_string(&limits).unwrap()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no limits");
        std::thread::yield_now();
    }
    drop(child.stdin.take());
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "nothing is no component"
    );
}

#[test]
fn push_ls_inspect_yank_on_the_command_line() {
    let shelf = Shelf::new();
    let file = shelf.dir.path().join("build.wasm");
    fs::write(&file, guest()).unwrap();
    let file = file.to_str().unwrap();
    let said = |args: &[&str], code: i32| {
        let output = shelf.weir(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        text
    };
    said(&["push", file, "--dry-run"], 0);
    assert!(
        !shelf.dir.path().join("store").exists(),
        "a dry run writes nothing"
    );
    assert!(said(&["push", file], 0).contains("pushed guest-table@1.0.0"));
    fs::write(file, rebuilt(guest())).unwrap();
    for dry in [vec!["push", file], vec!["push", file, "--dry-run"]] {
        assert!(said(&dry, 1).contains("raise the version"));
    }
    fs::write(file, guest_of_another_world()).unwrap();
    assert!(said(&["push", file], 1).contains("imports what no plugin may have"));
    fs::remove_file(file).unwrap();

    let about: Value =
        serde_json::from_str(&said(&["inspect", "guest-table@1", "--json"], 0)).unwrap();
    assert_eq!(about["version"], "1.0.0");
    assert_eq!(about["exports"][0], "weir:plugin/transform@0.1.0");
    let imports = about["imports"].as_array().unwrap();
    let log = imports
        .iter()
        .find(|i| i["name"] == "weir:plugin/log@0.1.0")
        .unwrap();
    assert_eq!(log["functions"][0], "emit");
    let kinds: Vec<&str> = (about["keys"].as_array().unwrap().iter())
        .map(|key| key["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["string", "string", "file", "secret", "table", "table"]
    );
    let text = said(&["inspect", "guest-table"], 0);
    for wanted in [
        "What it may touch",
        "emit",
        "weir:plugin/log",
        "secret",
        "core modules",
    ] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }

    said(&["yank", "guest-table@1.0.0"], 0);
    let listed = said(&["ls", "--json"], 0);
    let listed = listed.lines().map(serde_json::from_str::<Value>);
    let own = listed.map(Result::unwrap).filter(|l| l["shipped"] == false);
    let [listed] = &own.collect::<Vec<_>>()[..] else {
        panic!("one version is its own");
    };
    assert_eq!(
        (&listed["yanked"], &listed["version"]),
        (&Value::Bool(true), &Value::from("1.0.0"))
    );
    assert!(said(&["ls"], 0).contains("store, yanked"));
    assert!(said(&["inspect", "guest-table"], 1).contains("(yanked)"));
    let digest = listed["digest"].as_str().unwrap();
    assert!(said(&["inspect", digest], 0).contains("guest-table@1.0.0"));
    assert!(said(&["yank", "guest-table@9.9.9"], 1).contains("weir plugin ls"));
    said(&["yank", "guest-table@1.0.0", "--undo"], 0);
    said(&["inspect", "guest-table"], 0);
}

fn guest_of_another_world() -> Vec<u8> {
    fs::read(guest_dir().join("guest-clock.wasm")).unwrap()
}

/// Makes every file below a directory a day old.
pub fn age(dir: &Path) {
    let day = Duration::from_secs(86_400);
    for path in files(dir, "") {
        let file = File::open(&path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified.checked_sub(day).unwrap_or(UNIX_EPOCH))
            .unwrap();
    }
}
