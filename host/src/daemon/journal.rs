//! Keeps every acknowledged change: configs and target states with a bounded history, in one file that is appended to.
//!
//! ```text
//! <data.dir>/journal      weir-journal 1
//!                         <first 16 hex digits of SHA-256 of the JSON> <JSON of one Change>
//! <data.dir>/journal.new  the lines that are kept, while they are copied; whatever lies there at start is removed
//! <data.dir>/lock         held by the daemon that has the directory; says which one that is
//! ```
//! A record is durable once [`Journal::append`] has returned, and absent or whole before that: a torn last line is cut
//! off at the next open. Any other damage stops the daemon: a journal with a hole would have lost acknowledged changes.
//!
//! Lines that are no longer kept ([`Kept`]) are dead. When they are more than the rest, the others are copied unchanged
//! to a new file, which is made durable and then renamed over the old one: at any moment one of the two exists as a
//! whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::retention::{Bounds, Kept, Line};
use super::{Origin, Target};
use crate::clock::SystemClock;
use crate::error::{Error, Kind, Result};
use crate::hash::hex;

pub(super) const HEAD: &str = "weir-journal 1\n";
const DIGITS: usize = 16;
/// Beside the journal, while the lines that are kept are copied.
pub(super) const NEW: &str = "journal.new";
/// Longest line: twice the largest `rest.max.body`, since a config may be longer as JSON of strings than as it was
/// sent. Longer lines are neither written nor read.
const LINE_MAX: u64 = 2 << 30;

/// One acknowledged change of one pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Change {
    pub name: String,
    /// Wall clock, microseconds since 1970 UTC.
    pub time: i64,
    /// Who asked.
    pub by: String,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
#[schemars(inline)]
pub enum What {
    Created {
        config: BTreeMap<String, String>,
        target: Target,
        #[serde(default, skip_serializing_if = "Origin::is_rest")]
        origin: Origin,
    },
    /// A new config by REST (only a creation can have another origin).
    Config {
        config: BTreeMap<String, String>,
    },
    /// The config before it is valid again: the rules of the new one could not be put in force.
    TakenBack {
        config: BTreeMap<String, String>,
        why: String,
        #[serde(default, skip_serializing_if = "Origin::is_rest")]
        origin: Origin,
    },
    Target {
        target: Target,
        /// Why the guard of `errors.max` set it; empty for anybody else.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        why: String,
    },
    /// Offsets were moved by a person; the commit log has the positions.
    Offsets {
        message: String,
    },
    Restarted,
    Deleted,
}

/// The state of a pipeline after its changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub config: BTreeMap<String, String>,
    pub target: Target,
    /// Where the config came from.
    pub origin: Origin,
    /// Why the guard set this target.
    pub why: Option<String>,
}

/// The journal; holds the directory as long as it lives.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    /// Readers of a page share it, even after another file got its name.
    file: Arc<File>,
    /// Number of bytes that are complete and durable.
    len: u64,
    kept: Kept,
    /// Why nothing can be appended any more.
    broken: Option<String>,
    /// The file's name may not survive a loss of power yet: nothing is acknowledged before it does.
    unnamed: bool,
    /// Number of dead bytes at which rewriting is tried again. `None`: the last try succeeded.
    again_at: Option<u64>,
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
    /// Takes the directory, and returns the recorded pipelines. Changes nothing if another daemon holds it.
    pub fn open(dir: &Path, address: &str) -> Result<(Journal, AllRecorded)> {
        Journal::open_within(dir, address, Bounds::DAEMON)
    }

    pub(super) fn open_within(
        dir: &Path,
        address: &str,
        bounds: Bounds,
    ) -> Result<(Journal, AllRecorded)> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        crate::fs::durable_dir(&dir).map_err(|e| {
            failed("the daemon's directory cannot be made", &dir)
                .source(e)
                .hint("data.dir names it")
        })?;
        let lock = hold(&dir)?;
        let path = dir.join("journal");
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|e| failed("cannot be opened", &path).source(e))?;
        let mut kept = Kept::new(bounds);
        let mut stands = AllRecorded::new();
        let (whole, all) = read(&file, &path, |change, line| {
            kept.add(&change.name, &change.what, line);
            fold(&mut stands, change);
        })?;
        let mut journal = Journal {
            dir,
            file: Arc::new(file),
            len: whole,
            kept,
            broken: None,
            unnamed: false,
            again_at: None,
            lock,
        };
        if whole < all {
            tracing::warn!(
                path = %path.display(),
                bytes = all - whole,
                "the journal's last change was never acknowledged and is cut off"
            );
            journal.cut()?;
        }
        if journal.len == 0 {
            journal.write(HEAD.as_bytes())?;
        }
        // The rest of an interrupted copy; if it cannot be removed, the next copy reports it.
        let _gone = std::fs::remove_file(journal.new_path());
        // The file's name must be durable too; its creator may have died before that.
        (journal.name_lasts()).map_err(|e| failed("cannot be made durable", &path).source(e))?;
        journal.say_who(address)?;
        Ok((journal, stands))
    }

    /// From now on the oldest deleted names are forgotten, except that these names stay known as deleted.
    pub fn settle(&mut self, never_forgotten: BTreeSet<String>) {
        self.kept.never_forget(never_forgotten);
        self.shrink();
    }

    /// Whether a pipeline of this name exists, or existed and is not forgotten.
    pub fn knows(&self, name: &str) -> bool {
        self.kept.knows(name)
    }

    /// The change is durable when this returns, and absent if it fails.
    pub fn append(&mut self, change: &Change) -> Result<()> {
        if let Some(why) = &self.broken {
            return Err(
                failed("the journal cannot be written any more", &self.path())
                    .with("since", why)
                    .hint("free or repair the disk, then restart the daemon; pipelines run on"),
            );
        }
        let json = serde_json::to_string(change).map_err(|e| {
            Error::new(Kind::Bug, "daemon.journal", "a change is no JSON").source(e)
        })?;
        let bytes = format!("{} {json}\n", digest(json.as_bytes())).into_bytes();
        let line = Line {
            at: self.len,
            len: bytes.len() as u64,
        };
        if line.len > LINE_MAX {
            let message = format!(
                "a change of {} bytes is too long: the journal takes {LINE_MAX} at most",
                line.len
            );
            return Err(Error::new(Kind::LimitReached, "daemon.journal", message)
                .hint("nothing was changed; make the config shorter"));
        }
        self.write(&bytes)?;
        self.kept.add(&change.name, &change.what, line);
        self.shrink();
        Ok(())
    }

    /// Up to `most` changes of one name, the newest ones after `skip`; also of a deleted one. They are read later,
    /// without delaying writers. `None`: no such name, or it is forgotten.
    pub fn page(&self, name: &str, skip: usize, most: usize, bytes: u64) -> Option<Page> {
        if !self.kept.knows(name) {
            return None;
        }
        let all = self.kept.lines(name);
        let after = all.len().saturating_sub(skip);
        let (mut lines, mut held) = (Vec::new(), 0);
        for line in all.rev().skip(skip).take(most) {
            held += line.len;
            if held > bytes && !lines.is_empty() {
                break;
            }
            lines.push(line);
        }
        let more = lines.len() < after;
        lines.reverse();
        Some(Page {
            path: self.path(),
            file: self.file.clone(),
            next: more.then_some(skip + lines.len()),
            lines,
        })
    }

    /// The reason why no change can be acknowledged, if there is one.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Writes the address into the lock file, to show who holds the directory.
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

    pub(super) fn path(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(super) fn new_path(&self) -> PathBuf {
        self.dir.join(NEW)
    }

    fn name_lasts(&mut self) -> std::io::Result<()> {
        self.unnamed = true;
        File::open(&self.dir)?.sync_all()?;
        self.unnamed = false;
        Ok(())
    }

    fn dead(&self) -> u64 {
        self.len - (HEAD.len() as u64).min(self.len) - self.kept.bytes()
    }

    /// Rewrites the file if most of it is dead. A failure does not affect the change that is being made.
    fn shrink(&mut self) {
        let (dead, least) = (self.dead(), self.kept.bounds().dead);
        let worth = dead > least.max(self.kept.bytes()) && self.broken.is_none();
        if !worth || self.again_at.is_some_and(|at| dead < at) {
            return;
        }
        let before = self.len;
        match self.compact() {
            Ok(()) => {
                self.again_at = None;
                tracing::info!(
                    path = %self.path().display(),
                    before,
                    after = self.len,
                    "the journal was written anew without what is not kept of its history"
                );
            }
            Err(error) => {
                if self.again_at.is_none() {
                    tracing::warn!(
                        path = %self.path().display(),
                        %error,
                        "the journal could not be written anew: the old one stays in use, and grows. Is the disk full?"
                    );
                }
                self.again_at = Some(dead + least);
            }
        }
    }

    /// After an error the old file stays in use.
    fn compact(&mut self) -> Result<()> {
        let (path, new_path) = (self.path(), self.new_path());
        let all = self.kept.all();
        let (new, len) = match self.copy(&all) {
            Ok(copied) => copied,
            Err(error) => {
                // It may be the file that fills the disk.
                let _gone = std::fs::remove_file(&new_path);
                return Err(error);
            }
        };
        if let Err(error) = std::fs::rename(&new_path, &path) {
            let _gone = std::fs::remove_file(&new_path);
            return Err(failed("cannot be renamed", &new_path).source(error));
        }
        self.file = Arc::new(new);
        self.len = len;
        self.kept.moved(&all, HEAD.len() as u64);
        // If this fails now, it is done before the next change is acknowledged.
        let _later = self.name_lasts();
        Ok(())
    }

    /// Copies the kept lines to a durable second file. Returns it with its length.
    fn copy(&self, all: &[Line]) -> Result<(File, u64)> {
        let path = self.new_path();
        let failed = |e| failed("cannot be written", &path).source(e);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(failed)?;
        let permissions = self.file.metadata().map_err(failed)?.permissions();
        file.set_permissions(permissions).map_err(failed)?;
        let mut out = BufWriter::new(&file);
        out.write_all(HEAD.as_bytes()).map_err(failed)?;
        let mut len = HEAD.len() as u64;
        for line in all {
            let bytes = at(&self.file, *line, &self.path())?;
            out.write_all(&bytes).map_err(failed)?;
            len += line.len;
        }
        out.flush().map_err(failed)?;
        drop(out);
        file.sync_all().map_err(failed)?;
        Ok((file, len))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut file: &File = &self.file;
        let mut written = (file.write_all(bytes)).and_then(|()| file.sync_data());
        if self.unnamed {
            written = written.and_then(|()| self.name_lasts());
        }
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

    /// Cuts the file back to its complete part.
    fn cut(&mut self) -> Result<()> {
        let cut = (self.file.set_len(self.len)).and_then(|()| self.file.sync_all());
        cut.map_err(|e| failed("a torn change cannot be cut off", &self.path()).source(e))
    }
}

/// A child that the holder was just starting has its files for a moment after the holder has ended, and so its lock.
fn try_for_a_moment(lock: &File) -> std::result::Result<(), TryLockError> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_millis(30);
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => SystemClock::shared().sleep(PAUSE),
            answer => return answer,
        }
    }
    lock.try_lock()
}

/// Locks the directory; the lock ends with the process, however it ends.
fn hold(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| failed("cannot be opened", &path).source(e))?;
    match try_for_a_moment(&lock) {
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
                format!("{} is used by {who}", dir.display()),
            )
            .hint("this process has changed nothing; stop that daemon, or give this one another data.dir and rest.listen"))
        }
        Err(TryLockError::Error(e)) => Err(failed("cannot be locked", &path).source(e)),
    }
}

/// Reads every change, the oldest first. Returns the length of the complete part, and that of the file.
fn read(file: &File, path: &Path, mut each: impl FnMut(Change, Line)) -> Result<(u64, u64)> {
    let failed = |e| failed("cannot be read", path).source(e);
    let mut rest = BufReader::new(file);
    let mut bytes = Vec::new();
    let head = HEAD.len() as u64;
    (rest.by_ref().take(head).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes != HEAD.as_bytes() {
        return match HEAD.as_bytes().starts_with(&bytes) {
            true => Ok((0, bytes.len() as u64)),
            false => Err(corrupt(
                "this is no journal of a daemon, or of a later version".to_owned(),
                path,
            )),
        };
    }
    let mut whole = head;
    for number in 2.. {
        bytes.clear();
        let next = rest.by_ref().take(LINE_MAX).read_until(b'\n', &mut bytes);
        let len = next.map_err(failed)? as u64;
        if len == 0 {
            break;
        }
        let change = bytes.strip_suffix(b"\n").and_then(line);
        let what = match change {
            Some(Some(change)) => {
                each(change, Line { at: whole, len });
                whole += len;
                continue;
            }
            // Complete, and so acknowledged, but of a later version: it must not be cut off like a torn line.
            Some(None) => "is of a later version",
            // Only the last line can be torn: every other was durable before the next began.
            None if rest.fill_buf().map_err(failed)?.is_empty() => return Ok((whole, whole + len)),
            None => "is not what was written",
        };
        return Err(corrupt(format!("line {number} {what}"), path));
    }
    Ok((whole, whole))
}

/// Reads one complete line.
fn at(file: &File, line: Line, path: &Path) -> Result<Vec<u8>> {
    let len = usize::try_from(line.len).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, line.at)
        .map_err(|e| failed("cannot be read", path).source(e))?;
    match bytes.strip_suffix(b"\n").and_then(self::line) {
        Some(_) => Ok(bytes),
        None => Err(corrupt(
            format!("the line at byte {} is not what was written", line.at),
            path,
        )),
    }
}

/// `None`: the line is damaged; `Some(None)`: it is intact, but this version does not know it.
fn line(bytes: &[u8]) -> Option<Option<Change>> {
    let (sum, json) = (bytes.get(..DIGITS)?, bytes.get(DIGITS + 1..)?);
    let good = digest(json).as_bytes() == sum && bytes.get(DIGITS) == Some(&b' ');
    good.then(|| serde_json::from_slice(json).ok())
}

pub(super) fn digest(json: &[u8]) -> String {
    hex(&Sha256::digest(json)[..DIGITS / 2])
}

/// Some changes of one name, as of one moment.
#[derive(Debug)]
pub struct Page {
    path: PathBuf,
    file: Arc<File>,
    lines: Vec<Line>,
    /// `skip` of the page of older ones. `None`: there are none.
    pub next: Option<usize>,
}

impl Page {
    /// The oldest first.
    pub fn changes(&self) -> Result<Vec<Change>> {
        let change = |at_line: &Line| {
            let bytes = at(&self.file, *at_line, &self.path)?;
            let change = bytes.strip_suffix(b"\n").and_then(line).flatten();
            change.ok_or_else(|| corrupt("a line is not what was written".to_owned(), &self.path))
        };
        self.lines.iter().map(change).collect()
    }
}

/// All recorded pipelines; a deleted name is absent.
pub type AllRecorded = BTreeMap<String, Recorded>;

pub(super) fn fold(all: &mut AllRecorded, change: Change) {
    let name = change.name;
    match change.what {
        What::Created {
            config,
            target,
            origin,
        } => {
            let recorded = Recorded {
                config,
                target,
                origin,
                why: None,
            };
            all.insert(name, recorded);
        }
        What::Config { config } => {
            if let Some(recorded) = all.get_mut(&name) {
                recorded.config = config;
                recorded.origin = Origin::Rest;
            }
        }
        What::TakenBack { config, origin, .. } => {
            if let Some(recorded) = all.get_mut(&name) {
                recorded.config = config;
                recorded.origin = origin;
            }
        }
        What::Target { target, why } => {
            if let Some(recorded) = all.get_mut(&name) {
                recorded.target = target;
                recorded.why = (!why.is_empty()).then_some(why);
            }
        }
        What::Deleted => drop(all.remove(&name)),
        What::Offsets { .. } | What::Restarted => {}
    }
}
