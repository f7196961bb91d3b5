//! The child process that runs the pipelines, and what its progress lines say.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

use super::{DemoArgs, PLUGINS, PROCESSED, PROCESSED_ZONE, RAW, RAW_ZONE};
use crate::cli::say_words;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::kafka::MockBroker;
use crate::telemetry::count;

/// Between two looks at the child.
const LOOK: Duration = Duration::from_millis(20);

/// What the progress lines of one child have said so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub raw_commits: u64,
    pub raw_version: u64,
    pub raw_records: u64,
    /// `topic/partition@offset` where its first commit began.
    pub raw_starts: Vec<String>,
}

pub struct Child {
    process: std::process::Child,
    lines: Receiver<Value>,
    seen: Seen,
    stderr: std::path::PathBuf,
}

impl Child {
    pub fn start(
        args: &DemoArgs,
        broker: &MockBroker,
        name: &str,
        flags: &[&str],
    ) -> Result<Child> {
        let failed = |e: std::io::Error| {
            Error::new(Kind::Bug, "demo.child", "the pipelines cannot be started").source(e)
        };
        let plugins = match &args.plugin_path {
            Some(dir) => std::path::absolute(dir).map_err(failed)?,
            None => PLUGINS.into(),
        };
        let set = [
            format!("source.bootstrap.servers={}", broker.bootstrap()),
            format!("books-raw:sink.url=file:{RAW_ZONE}"),
            format!("books-processed:source.url=file:{RAW_ZONE}"),
            format!("books-processed:sink.url=file:{PROCESSED_ZONE}"),
            "books-raw:sink.rotate.age=1s".to_owned(),
            "books-processed:trigger=every:3s".to_owned(),
            format!("plugin.path={}", plugins.display()),
        ];
        let stderr = args.dir.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.current_dir(&args.dir).args([
            "run",
            RAW,
            PROCESSED,
            "--progress",
            "json",
            "--log-level",
            "info",
        ]);
        for set in set {
            command.args(["--set", &set]);
        }
        command
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.stderr(File::create(&stderr).map_err(failed)?);
        let mut process = command.spawn().map_err(failed)?;
        let (tell, lines) = channel();
        if let Some(stdout) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout)
                    .lines()
                    .map_while(std::io::Result::ok)
                {
                    let Ok(line) = serde_json::from_str(&line) else {
                        continue;
                    };
                    if tell.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Child {
            process,
            lines,
            seen: Seen::default(),
            stderr,
        })
    }

    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Reads progress until a condition holds; a child that ends before that has failed.
    pub fn until(
        &mut self,
        clock: &Arc<dyn Clock>,
        patience: Duration,
        what: &str,
        done: impl Fn(&Seen) -> bool,
    ) -> Result<()> {
        let deadline = clock.elapsed() + patience;
        while !done(&self.seen) {
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => self.take(&line),
                Err(RecvTimeoutError::Timeout) if clock.elapsed() < deadline => {}
                Err(_) => return Err(self.failed(format!("{what} did not come"))),
            }
        }
        Ok(())
    }

    pub fn kill(&mut self) -> Result<()> {
        let killed = self.process.kill().and_then(|()| self.process.wait());
        killed
            .map(drop)
            .map_err(|e| self.failed("it cannot be killed".to_owned()).source(e))
    }

    /// SIGTERM, and the drain it asks for.
    pub fn stop(&mut self, clock: &Arc<dyn Clock>, patience: Duration) -> Result<()> {
        let term = format!("kill -TERM {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &term]).status();
        sent.map_err(|e| self.failed("no SIGTERM can be sent".to_owned()).source(e))?;
        self.wait(clock, patience)
    }

    pub fn wait(&mut self, clock: &Arc<dyn Clock>, patience: Duration) -> Result<()> {
        let deadline = clock.elapsed() + patience;
        let status: ExitStatus = loop {
            while let Ok(line) = self.lines.try_recv() {
                self.take(&line);
            }
            match self.process.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if clock.elapsed() < deadline => clock.sleep(LOOK),
                _ => return Err(self.failed("it does not end".to_owned())),
            }
        };
        while let Ok(line) = self.lines.recv_timeout(LOOK) {
            self.take(&line);
        }
        match status.success() {
            true => Ok(()),
            false => Err(self.failed(format!("it ended with {status}"))),
        }
    }

    fn take(&mut self, line: &Value) {
        let number = |key: &str| line[key].as_u64().unwrap_or(0);
        let name = line["name"].as_str().unwrap_or("");
        let mut told = format!(
            "  {name:<16} commit {:<4} {:>6} read  {:>6} rows",
            number("batchId"),
            count(number("numInputRows")),
            count(line["sink"]["numOutputRows"].as_u64().unwrap_or(0)),
        );
        for (key, what) in [
            ("deadLetters", "dead letters"),
            ("duplicates", "duplicates"),
        ] {
            let n = line["weir"][key].as_u64().unwrap_or(0);
            if n > 0 {
                told.push_str(&format!("  {:>4} {what}", count(n)));
            }
        }
        say_words(told);
        if name == "books-raw" {
            if self.seen.raw_commits == 0 {
                self.seen.raw_starts = starts(line);
            }
            self.seen.raw_commits += 1;
            self.seen.raw_version = number("batchId");
            self.seen.raw_records += number("numInputRows");
        }
    }

    fn failed(&self, message: String) -> Error {
        Error::new(
            Kind::Bug,
            "demo.child",
            format!("the pipelines' process: {message}"),
        )
        .hint(format!("its log: {}", self.stderr.display()))
    }
}

impl Drop for Child {
    /// Ends the child, so that no process of the demo is left.
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            let _gone = self
                .process
                .kill()
                .and_then(|()| self.process.wait().map(drop));
        }
    }
}

fn starts(line: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for source in line["sources"].as_array().into_iter().flatten() {
        for (topic, partitions) in source["startOffset"].as_object().into_iter().flatten() {
            for (partition, offset) in partitions.as_object().into_iter().flatten() {
                all.push(format!("{topic}/{partition}@{offset}"));
            }
        }
    }
    all
}
