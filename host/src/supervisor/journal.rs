//! What was acknowledged survives: configs and target states with their history, one file, only ever appended to.
//!
//! ```text
//! <data.dir>/journal   weir-journal 1
//!                      <first 16 hex digits of SHA-256 of the JSON> <JSON of one Change>
//! <data.dir>/lock      held by the daemon that has the directory; says which one that is
//! ```
//! A record is there once [`Journal::append`] has returned, and not at all or whole before that: a torn last line is cut at
//! the next open. Anything else that is wrong stops the daemon: a journal with a hole would forget what somebody was told.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Origin, Target};
use crate::error::{Error, Kind, Result};

const HEAD: &str = "weir-journal 1\n";
const DIGITS: usize = 16;

/// One acknowledged change of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub name: String,
    /// Wall clock, microseconds since 1970 UTC.
    pub time: i64,
    /// Who asked.
    pub by: String,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    Created {
        config: BTreeMap<String, String>,
        target: Target,
        #[serde(default, skip_serializing_if = "Origin::is_rest")]
        origin: Origin,
    },
    /// By REST: only a beginning has another origin.
    Config {
        config: BTreeMap<String, String>,
    },
    /// The config before it stands again: its rules could not be put in force.
    TakenBack {
        config: BTreeMap<String, String>,
        why: String,
        #[serde(default, skip_serializing_if = "Origin::is_rest")]
        origin: Origin,
    },
    Target {
        target: Target,
    },
    /// By hand; the commit log has the positions.
    Offsets {
        message: String,
    },
    Restarted,
    Deleted,
}

/// What stands of a pipeline after its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub config: BTreeMap<String, String>,
    pub target: Target,
    /// Of the config.
    pub origin: Origin,
}

/// Holds the directory as long as it lives.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    /// Bytes that are whole and durable.
    len: u64,
    /// Why nothing can be appended any more.
    broken: Option<String>,
    lock: File,
}

#[derive(Serialize, Deserialize)]
struct Holder {
    pid: u32,
    address: String,
}

fn failed(message: &str, path: &Path) -> Error {
    Error::new(Kind::StoreUnavailable, "daemon.journal", message).with("path", path.display())
}

fn corrupt(message: String, path: &Path) -> Error {
    Error::new(Kind::LogCorrupt, "daemon.journal", message)
        .with("path", path.display())
        .hint("bring the file back from a copy, or move it away and create the pipelines again: zones and offsets do not depend on it")
}

impl Journal {
    /// Takes the directory and reads all changes, the oldest first. Changes nothing where another daemon has it.
    pub fn open(dir: &Path, address: &str) -> Result<(Journal, Vec<Change>)> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        durable_dir(&dir).map_err(|e| {
            failed("the daemon's directory cannot be made", &dir)
                .source(e)
                .hint("data.dir names it")
        })?;
        let lock = hold(&dir)?;
        let path = dir.join("journal");
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| failed("cannot be opened", &path).source(e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|e| failed("cannot be read", &path).source(e))?;
        let (changes, whole) = read(&bytes, &path)?;
        let mut journal = Journal {
            dir,
            file,
            len: whole as u64,
            broken: None,
            lock,
        };
        if whole < bytes.len() {
            tracing::warn!(
                path = %path.display(),
                bytes = bytes.len() - whole,
                "the journal's last change was never acknowledged and is cut off"
            );
            journal.cut()?;
        }
        if journal.len == 0 {
            journal.write(HEAD.as_bytes())?;
        }
        // The file's name must last too; whoever made it may have died before this.
        let dir = File::open(&journal.dir).and_then(|dir| dir.sync_all());
        dir.map_err(|e| failed("cannot be made durable", &path).source(e))?;
        journal.say_who(address)?;
        Ok((journal, changes))
    }

    /// Durable when it returns; nothing of it is there when it fails.
    pub fn append(&mut self, change: &Change) -> Result<()> {
        if let Some(why) = &self.broken {
            return Err(failed("takes no changes any more", &self.path())
                .with("since", why)
                .hint("free or repair the disk, then restart the daemon; pipelines run on"));
        }
        let json = serde_json::to_string(change).map_err(|e| {
            Error::new(Kind::Bug, "daemon.journal", "a change is no JSON").source(e)
        })?;
        self.write(format!("{} {json}\n", digest(json.as_bytes())).as_bytes())
    }

    /// Every change of one name, the oldest first; of a deleted one too.
    pub fn so_far(&self) -> SoFar {
        SoFar {
            path: self.path(),
            len: self.len,
        }
    }

    /// Why no change can be acknowledged, if so.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// For whoever comes later and wants to know who has the directory.
    pub fn say_who(&mut self, address: &str) -> Result<()> {
        let holder = Holder {
            pid: std::process::id(),
            address: address.to_owned(),
        };
        let text = serde_json::to_string(&holder).unwrap_or_default();
        let written = (self.lock.set_len(0))
            .and_then(|()| self.lock.seek(SeekFrom::Start(0)))
            .and_then(|_| self.lock.write_all(text.as_bytes()));
        written.map_err(|e| failed("cannot be written", &self.dir.join("lock")).source(e))
    }

    fn path(&self) -> PathBuf {
        self.dir.join("journal")
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = (self.file.write_all(bytes)).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                let failure = failed("a change could not be made durable", &self.path())
                    .hint("nothing was changed; is the disk full?")
                    .source(error);
                if let Err(error) = self.cut() {
                    self.broken = Some(error.to_string());
                }
                Err(failure)
            }
        }
    }

    /// Back to what is whole.
    fn cut(&mut self) -> Result<()> {
        let cut = (self.file.set_len(self.len)).and_then(|()| self.file.sync_all());
        cut.map_err(|e| failed("a torn change cannot be cut off", &self.path()).source(e))
    }
}

/// The lock goes with the process, however it ends.
fn hold(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| failed("cannot be opened", &path).source(e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let holder = (lock.read_to_string(&mut text).ok())
                .and_then(|_| serde_json::from_str::<Holder>(&text).ok());
            let who = holder.map_or_else(
                || "another daemon".to_owned(),
                |h| format!("the daemon with pid {} at {}", h.pid, h.address),
            );
            Err(Error::new(
                Kind::LimitReached,
                "daemon.lock",
                format!("{} is in the hands of {who}", dir.display()),
            )
            .hint("this process has changed nothing; stop that daemon, or give this one another data.dir and rest.listen"))
        }
        Err(TryLockError::Error(e)) => Err(failed("cannot be locked", &path).source(e)),
    }
}

/// Every change, and the length of what is whole.
fn read(bytes: &[u8], path: &Path) -> Result<(Vec<Change>, usize)> {
    if bytes.len() < HEAD.len() && HEAD.as_bytes().starts_with(bytes) {
        return Ok((Vec::new(), 0));
    }
    let Some(mut rest) = bytes.strip_prefix(HEAD.as_bytes()) else {
        return Err(corrupt(
            "this is no journal of a daemon, or of a later version".to_owned(),
            path,
        ));
    };
    let mut changes = Vec::new();
    let mut whole = HEAD.len();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let change = match end.and_then(|end| line(rest.get(..end)?)) {
            // Whole, and so acknowledged, but of a later version: it must not be cut off as if it were torn.
            Some(None) => {
                let number = changes.len() + 2;
                return Err(corrupt(
                    format!("line {number} is of a later version"),
                    path,
                ));
            }
            Some(change) => change,
            None => None,
        };
        match (change, end) {
            (Some(change), Some(end)) => {
                changes.push(change);
                whole += end + 1;
                rest = &rest[end + 1..];
            }
            // Only the last one can be torn: every other was durable before the next began.
            (None, end) if end.is_none_or(|end| end + 1 == rest.len()) => break,
            _ => {
                let number = changes.len() + 2;
                return Err(corrupt(
                    format!("line {number} is not what was written"),
                    path,
                ));
            }
        }
    }
    Ok((changes, whole))
}

/// `None`: not what was written; `Some(None)`: what was written, and nothing that this version knows.
fn line(bytes: &[u8]) -> Option<Option<Change>> {
    let (sum, json) = (bytes.get(..DIGITS)?, bytes.get(DIGITS + 1..)?);
    let good = digest(json).as_bytes() == sum && bytes.get(DIGITS) == Some(&b' ');
    good.then(|| serde_json::from_slice(json).ok())
}

fn digest(json: &[u8]) -> String {
    let sum = Sha256::digest(json);
    sum.iter()
        .take(DIGITS / 2)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A directory that is there after a loss of power, its ancestors too.
pub(crate) fn durable_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        durable_dir(parent)?;
    }
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The journal up to a moment; read without holding up those who write it.
pub struct SoFar {
    path: PathBuf,
    len: u64,
}

impl SoFar {
    /// The changes of one name, the oldest first.
    pub fn history(&self, name: &str) -> Result<Vec<Change>> {
        let failed = |e| failed("cannot be read", &self.path).source(e);
        let file = File::open(&self.path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(self.len)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let (changes, _) = read(&bytes, &self.path)?;
        Ok(changes.into_iter().filter(|c| c.name == name).collect())
    }
}

/// What stands after all changes; a name that was deleted has none.
pub fn standing(changes: &[Change]) -> BTreeMap<String, Recorded> {
    let mut all: BTreeMap<String, Recorded> = BTreeMap::new();
    for change in changes {
        match &change.what {
            What::Created {
                config,
                target,
                origin,
            } => {
                let recorded = Recorded {
                    config: config.clone(),
                    target: *target,
                    origin: *origin,
                };
                all.insert(change.name.clone(), recorded);
            }
            What::Config { config } => {
                if let Some(recorded) = all.get_mut(&change.name) {
                    recorded.config = config.clone();
                    recorded.origin = Origin::Rest;
                }
            }
            What::TakenBack { config, origin, .. } => {
                if let Some(recorded) = all.get_mut(&change.name) {
                    recorded.config = config.clone();
                    recorded.origin = *origin;
                }
            }
            What::Target { target } => {
                if let Some(recorded) = all.get_mut(&change.name) {
                    recorded.target = *target;
                }
            }
            What::Deleted => {
                all.remove(&change.name);
            }
            What::Offsets { .. } | What::Restarted => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, what: What) -> Change {
        Change {
            name: name.to_owned(),
            time: 1,
            by: "a@b".to_owned(),
            what,
        }
    }

    fn created(name: &str) -> Change {
        let config = BTreeMap::from([("k".to_owned(), "line\nbreak ünï".to_owned())]);
        let target = Target::Running;
        let origin = Origin::Operator;
        change(
            name,
            What::Created {
                config,
                target,
                origin,
            },
        )
    }

    fn written(dir: &Path) -> Vec<Change> {
        let paused = What::Target {
            target: Target::Paused,
        };
        let all = vec![
            created("p"),
            created("q"),
            change("p", paused),
            change("q", What::Deleted),
        ];
        let (mut journal, before) = Journal::open(dir, "here:1").expect("open");
        assert_eq!(before, []);
        for one in &all {
            journal.append(one).expect("append");
        }
        all
    }

    /// A kill or a power cut at any byte leaves the changes before it, and the journal goes on.
    #[test]
    fn cut_at_every_byte_all_whole_changes_are_there() {
        let dir = tempfile::tempdir().expect("tempdir");
        let all = written(dir.path());
        let path = dir.path().join("journal");
        let bytes = std::fs::read(&path).expect("journal");
        let ends: Vec<usize> = (bytes.iter().enumerate())
            .filter(|(_, b)| **b == b'\n')
            .map(|(at, _)| at + 1)
            .collect();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).expect("write");
            let (mut journal, found) = Journal::open(dir.path(), "here:1").expect("open");
            let whole = ends.iter().skip(1).filter(|end| **end <= cut).count();
            assert_eq!(found, all[..whole], "{cut}");
            journal.append(&created("later")).expect("append");
            drop(journal);
            let (_, found) = Journal::open(dir.path(), "here:1").expect("open");
            assert_eq!(found.len(), whole + 1, "{cut}");
            assert_eq!(found.last(), Some(&created("later")));
        }
    }

    #[test]
    fn a_flipped_bit_before_the_end_stops_the_daemon() {
        let dir = tempfile::tempdir().expect("tempdir");
        written(dir.path());
        let path = dir.path().join("journal");
        let mut bytes = std::fs::read(&path).expect("journal");
        let second = HEAD.len() + 40;
        bytes[second] ^= 1;
        std::fs::write(&path, &bytes).expect("write");
        let error = Journal::open(dir.path(), "here:1").expect_err("corrupt");
        assert_eq!(error.kind(), Kind::LogCorrupt);
        assert!(error.to_string().contains("line 2"), "{error}");
        assert_eq!(std::fs::read(&path).expect("journal"), bytes);
    }

    #[test]
    fn an_acknowledged_change_of_a_later_version_is_not_cut_off() {
        let dir = tempfile::tempdir().expect("tempdir");
        written(dir.path());
        let path = dir.path().join("journal");
        let mut bytes = std::fs::read(&path).expect("journal");
        let json = br#"{"name":"p","time":1,"by":"x","what":{"canary":1}}"#;
        bytes.extend_from_slice(format!("{} ", digest(json)).as_bytes());
        bytes.extend_from_slice(json);
        bytes.push(b'\n');
        std::fs::write(&path, &bytes).expect("write");
        let error = Journal::open(dir.path(), "here:1").expect_err("later");
        assert!(error.to_string().contains("later version"), "{error}");
        assert_eq!(std::fs::read(&path).expect("journal"), bytes);
    }

    #[test]
    fn what_stands_is_the_sum_of_the_changes() {
        let dir = tempfile::tempdir().expect("tempdir");
        let all = written(dir.path());
        let stands = standing(&all);
        assert_eq!(stands.keys().collect::<Vec<_>>(), ["p"]);
        assert_eq!(stands["p"].target, Target::Paused);
        assert_eq!(stands["p"].origin, Origin::Operator);
        // Whoever changes it by REST has it from then on; what is taken back is what it was.
        let config = stands["p"].config.clone();
        let back = What::TakenBack {
            config: config.clone(),
            why: "no".to_owned(),
            origin: Origin::Operator,
        };
        let changed = [all.clone(), vec![change("p", What::Config { config })]].concat();
        assert_eq!(standing(&changed)["p"].origin, Origin::Rest);
        let taken = [changed, vec![change("p", back)]].concat();
        assert_eq!(standing(&taken)["p"].origin, Origin::Operator);
        let (journal, _) = Journal::open(dir.path(), "here:1").expect("open");
        assert_eq!(
            journal.so_far().history("q").expect("history"),
            [all[1].clone(), all[3].clone()]
        );
    }

    #[test]
    fn a_second_daemon_hears_who_has_the_directory_and_changes_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (mut first, _) = Journal::open(dir.path(), "here:1").expect("open");
        first.append(&created("p")).expect("append");
        let before = std::fs::read(dir.path().join("journal")).expect("journal");
        let error = Journal::open(dir.path(), "there:2").expect_err("held");
        let who = format!("pid {} at here:1", std::process::id());
        assert!(error.to_string().contains(&who), "{error}");
        assert_eq!(
            std::fs::read(dir.path().join("journal")).expect("journal"),
            before
        );
        first.append(&created("q")).expect("append");
        drop(first);
        let (_, found) = Journal::open(dir.path(), "there:2").expect("open");
        assert_eq!(found.len(), 2);
    }
}
