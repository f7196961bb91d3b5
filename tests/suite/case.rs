//! One pipeline in a directory of its own, run as people run it: its config, what the program says, the log in its home.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use weir::commit::Log;

use crate::world::{open_log, plugins_dir};

/// A directory with the config `NAME.toml` of the pipeline NAME, whose home lies in the directory of the same name as its zone.
pub struct Case {
    dir: tempfile::TempDir,
    name: &'static str,
    home: &'static str,
}

impl Case {
    pub fn new(name: &'static str, home: &'static str) -> Case {
        Case {
            dir: tempfile::tempdir().unwrap(),
            name,
            home,
        }
    }

    /// Writes the config: these keys, and the places of plugins.
    pub fn declare(&self, keys: &str, tables: &str) {
        let (name, plugins) = (self.name, plugins_dir());
        let plugins = plugins.display();
        let config = format!(
            "name = \"{name}\"\nplugin.path = \"{plugins}\"\nplugin.store = \"store\"\n\
             plugin.cache = \"{plugins}/../plugins-test/cache\"\n{keys}{tables}"
        );
        fs::write(self.config(), config).unwrap();
    }

    /// The config with one text in the place of another, which it must have.
    pub fn replace(&self, old: &str, new: &str) {
        let config = fs::read_to_string(self.config()).unwrap();
        assert!(config.contains(old), "{old}: {config}");
        fs::write(self.config(), config.replace(old, new)).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn config(&self) -> PathBuf {
        self.path(&format!("{}.toml", self.name))
    }

    pub fn weir(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.current_dir(self.dir.path()).args(args);
        command.stdin(Stdio::null());
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.weir(args).output().unwrap()
    }

    /// Must succeed; what it answered.
    pub fn done(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn now(&self) -> Output {
        let config = format!("{}.toml", self.name);
        self.output(&["run", &config, "--available-now", "--progress", "none"])
    }

    /// Runs until all that is there is committed; must succeed. What it said.
    pub fn run(&self) -> String {
        let output = self.now();
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Must fail; what it said.
    pub fn fails(&self) -> String {
        let output = self.now();
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Runs on; what it says goes to `weir.log`.
    pub fn spawn(&self) -> Running {
        self.spawn_with(|_| ())
    }

    /// The same, with an environment of its own.
    pub fn spawn_with(&self, environment: impl FnOnce(&mut Command)) -> Running {
        let config = format!("{}.toml", self.name);
        let mut command = self.weir(&["run", &config, "--progress", "none"]);
        environment(&mut command);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("weir.log"));
        command.stdout(Stdio::null()).stderr(log.unwrap());
        Running(command.spawn().unwrap())
    }

    pub fn log(&self) -> Option<Log> {
        open_log(&self.path(self.home), self.name, self.home).unwrap()
    }

    pub fn version(&self) -> u64 {
        self.log().unwrap().version()
    }

    /// Sum of the positions of all partitions.
    pub fn settled(&self) -> i64 {
        let log = self.log();
        log.map_or(0, |log| log.state().splits.values().map(|c| c.to).sum())
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that ends with the test, however that ends.
pub struct Running(Child);

impl Running {
    pub fn of(child: Child) -> Running {
        Running(child)
    }

    /// As an operator stops it; it must end well.
    pub fn stop(mut self) {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(self.0.wait().unwrap().success());
    }

    pub fn crash(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}
