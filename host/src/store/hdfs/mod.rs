//! `hdfs:`: a directory of HDFS, which publishes by rename. The only folder that names `hdfs_native`, a client without
//! Java.
//!
//! - A name appears by one rename that never overwrites, after the file is on the disks of its data nodes (`hsync`) and
//!   closed. If two writers race for a name, the name node gives it to one of them.
//! - A file that is being written lies beside its target under a name that engines and listings skip (`names`). What a
//!   kill leaves is found by its age, measured by the name node's clock.
//! - Calls for which the client would wait without end have a time limit here. When it is reached the outcome is
//!   unknown, as after every error, and the next call uses a new connection.

mod address;
mod files;
mod meaning;
mod names;
mod writer;

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hdfs_native::client::FileStatus;
use hdfs_native::{Client, HdfsError};

use self::address::Address;
use self::meaning::{Said, is_absent, is_denied};
use self::writer::Writing;
use super::path_limits::PathLimits;
use super::place::staging_dir;
use super::runtime::wait;
use super::{Created, Inputs, Listed, Location, Renamed, Renames, StagedWriter, Store, Way};
use crate::error::{Error, Kind, Result};
use crate::lock::lock;

/// Longest wait for data nodes to take or give the bytes of one call. It is above the client's own limit for one data
/// node (60 s) plus the change to another.
const DATA_MAX: Duration = Duration::from_secs(180);

/// Rights of new directories, before the name node's own mask; the same as Hadoop's tools use.
const DIRECTORY: u32 = 0o755;

/// What a file is called whose birth tells the name node's time; it is never finished.
const CLOCK: &str = "clock";

/// Tells the name node to leave the access time as it is (-1).
const NO_TIME: u64 = u64::MAX;

#[derive(Clone)]
pub(super) struct Hdfs {
    address: Arc<Address>,
    client: Arc<Mutex<Client>>,
    /// HDFS has answered a request of this process for this place, so it knew who that was.
    accepted: Arc<AtomicBool>,
}

/// Options can hold secrets, which no log may show.
impl std::fmt::Debug for Hdfs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hdfs({})", self.address.url)
    }
}

/// `hdfs://nameservice/path` or `hdfs://host:port/path`. It asks no server: if one is away, the first request waits for
/// it.
pub(super) fn open(at: &Location) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Hdfs::of(at)?))
}

/// As `open`; `None`: the directory does not exist.
pub(super) fn open_existing(at: &Location) -> Result<Option<Arc<dyn Store>>> {
    let store = Hdfs::of(at)?;
    match store.status("store.open", "")? {
        Some(_) => Ok(Some(Arc::new(store))),
        None => Ok(None),
    }
}

/// What a process knows of a place, whichever of its threads opened it.
fn accepted(url: &str) -> Arc<AtomicBool> {
    static KNOWN: Mutex<BTreeMap<String, Arc<AtomicBool>>> = Mutex::new(BTreeMap::new());
    lock(&KNOWN).entry(url.to_owned()).or_default().clone()
}

impl Hdfs {
    fn of(at: &Location) -> Result<Hdfs> {
        let address = Address::of(at)?;
        let client = address.connect()?;
        let accepted = accepted(&address.url);
        Ok(Hdfs {
            address: Arc::new(address),
            client: Arc::new(Mutex::new(client)),
            accepted,
        })
    }

    fn client(&self) -> Client {
        lock(&self.client).clone()
    }

    fn full(&self, path: &str) -> String {
        match path {
            "" if self.address.root.is_empty() => "/".to_owned(),
            "" => self.address.root.clone(),
            path => format!("{}/{path}", self.address.root),
        }
    }

    /// Waits for name nodes, `request.timeout` at most.
    fn ask<T>(
        &self,
        call: impl Future<Output = hdfs_native::Result<T>>,
    ) -> Result<hdfs_native::Result<T>> {
        self.within(self.address.patience, call)
    }

    /// Waits for an answer. If none comes, the connection counts as dead.
    fn within<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = hdfs_native::Result<T>>,
    ) -> Result<hdfs_native::Result<T>> {
        let answer = wait(async { tokio::time::timeout(limit, call).await })?;
        let answered = |answer: &hdfs_native::Result<T>| match answer {
            Ok(_) => true,
            Err(e) => is_absent(e),
        };
        if answer.as_ref().is_ok_and(answered) {
            self.accepted.store(true, Ordering::Relaxed);
        }
        answer.map_err(|_| {
            match self.address.connect() {
                Ok(fresh) => *lock(&self.client) = fresh,
                Err(e) => tracing::debug!(error = %e, "no new connection"),
            }
            let message = format!("HDFS has not answered for {} s", limit.as_secs());
            Error::new(Kind::StoreUnavailable, "store.ask", message)
                .with("store", &self.address.url)
                .hint("check that the name node and the data nodes are up and can be reached from here; work goes on by itself")
        })
    }

    fn failed(&self, op: &'static str, path: &str, e: &HdfsError) -> Error {
        let means = match self.accepted.load(Ordering::Relaxed) {
            true => meaning::of_known(e),
            false => meaning::of(e),
        };
        Error::new(means.kind, op, means.what)
            .with("store", &self.address.url)
            .with("path", path)
            .hint(self.address.hint(means.hint))
            .source(Said::new(e))
    }

    /// The status of a file or a directory.
    fn status(&self, op: &'static str, path: &str) -> Result<Option<FileStatus>> {
        let (client, full) = (self.client(), self.full(path));
        match self.ask(client.get_file_info(&full))? {
            Ok(status) => Ok(Some(status)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed(op, path, &e)),
        }
    }

    /// The size of a file.
    fn stat(&self, op: &'static str, path: &str) -> Result<Option<u64>> {
        let status = self.status(op, path)?;
        Ok(status.filter(|s| !s.isdir).map(|s| s.length as u64))
    }

    /// False: it was not there. It is never moved to a trash.
    fn remove(&self, full: &str) -> Result<bool> {
        let client = self.client();
        match self.ask(client.delete(full, false))? {
            Ok(was_there) => Ok(was_there),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(self.failed("store.delete", full, &e)),
        }
    }

    /// All entries of one directory, hidden names too. Empty if the directory does not exist.
    fn directory(&self, op: &'static str, path: &str) -> Result<Vec<FileStatus>> {
        let (client, full) = (self.client(), self.full(path));
        match self.ask(client.list_status(&full, false))? {
            // HDFS lists a file as its own entry.
            Ok(found) => Ok(found.into_iter().filter(|s| s.path != full).collect()),
            Err(e) if is_absent(&e) => Ok(Vec::new()),
            Err(e) => Err(self.failed(op, path, &e)),
        }
    }

    /// `None`: no such file.
    fn read(
        &self,
        op: &'static str,
        path: &str,
        range: Option<Range<u64>>,
    ) -> Result<Option<Bytes>> {
        let (client, full) = (self.client(), self.full(path));
        let read = async {
            let file = client.read(&full).await?;
            let length = file.file_length() as u64;
            let range = range.clone().unwrap_or(0..length);
            if range.end > length || range.start > range.end {
                return Ok(None);
            }
            let (from, to) = (range.start as usize, range.end as usize);
            file.read_range(from, to - from).await.map(Some)
        };
        match self.within(DATA_MAX, read)? {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => {
                let message = format!("expected bytes {range:?}, the file ends before");
                Err(Error::new(Kind::LogCorrupt, op, message)
                    .with("store", &self.address.url)
                    .with("path", path))
            }
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed(op, path, &e)),
        }
    }

    /// The name node's time in milliseconds, taken from the modification time of a new file.
    fn now(&self, dir: &str) -> Result<u64> {
        let clock = Writing::begin(self, &format!("{dir}/{CLOCK}"))?;
        clock.born()
    }
}

fn name_of(status: &FileStatus) -> &str {
    status.path.rsplit('/').next().unwrap_or_default()
}

impl Store for Hdfs {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        // Most losers come late, and need not write anything.
        if self.stat("store.create", path)?.is_some() {
            return Ok(Created::Exists);
        }
        Writing::begin(self, path)?.create(bytes)
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.read("store.get", path, None)
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        const OP: &str = "store.get_range";
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.read(OP, path, Some(range))?.ok_or_else(|| {
            Error::new(Kind::StoreUnavailable, OP, "the file is not there")
                .with("store", &self.address.url)
                .with("path", path)
        })
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        self.stat("store.size", path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut found = BTreeMap::new();
        let mut open = vec![prefix.trim_matches('/').to_owned()];
        while let Some(dir) = open.pop() {
            for status in self.directory("store.list", &dir)? {
                let name = name_of(&status);
                let path = match dir.as_str() {
                    "" => name.to_owned(),
                    dir => format!("{dir}/{name}"),
                };
                if status.isdir {
                    open.push(path);
                } else if names::target_of(name).is_none() {
                    found.insert(path, status.length as u64);
                }
            }
        }
        let listed = found.into_iter().map(|(path, size)| Listed { path, size });
        Ok(listed.collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.remove(&self.full(path)).map(drop)
    }

    /// The name node shows a change before it is on its disk, and makes changes durable in their order. So once a
    /// change of our own is durable, everything that we saw before it is too. That change sets the directory's time to
    /// its present value.
    fn sync(&self, dir: &str) -> Result<()> {
        const OP: &str = "store.sync";
        let Some(status) = self.status(OP, dir)? else {
            return Ok(());
        };
        let (client, full) = (self.client(), self.full(dir));
        match self.ask(client.set_times(&full, status.modification_time, NO_TIME))? {
            // A process that may not write here has nothing to make durable.
            Err(e) if !is_absent(&e) && !is_denied(&e) => Err(self.failed(OP, dir, &e)),
            _ => Ok(()),
        }
    }

    fn absent_dirs(&self, mut dirs: Vec<String>) -> Result<Vec<String>> {
        let mut absent = Vec::new();
        for dir in dirs.drain(..) {
            if self.status("store.absent_dirs", &dir)?.is_none() {
                absent.push(dir);
            }
        }
        Ok(absent)
    }

    /// The name node refuses to delete a directory that holds something.
    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        let (client, full) = (self.client(), self.full(dir));
        let _kept_or_gone = self.ask(client.delete(&full, false))?;
        Ok(())
    }

    /// The name node's clock, by which leftovers grow old.
    fn clock_ahead(&self, home: &str) -> Result<Option<i64>> {
        let there = i64::try_from(self.now(&staging_dir(home))?).unwrap_or(i64::MAX);
        let here = SystemTime::now().duration_since(UNIX_EPOCH);
        let here = here.map_or(0, |here| {
            i64::try_from(here.as_millis()).unwrap_or(i64::MAX)
        });
        Ok(Some(there.saturating_sub(here)))
    }

    /// The owner that the name node gives to a new file.
    fn known_as(&self, home: &str) -> Result<Option<String>> {
        let clock = Writing::begin(self, &format!("{}/{CLOCK}", staging_dir(home)))?;
        clock.owner().map(Some)
    }

    fn url(&self) -> &str {
        &self.address.url
    }

    fn path_limits(&self) -> PathLimits {
        PathLimits::of_hdfs(&self.address.root)
    }

    fn way(&self) -> Way<'_> {
        Way::Rename(self)
    }

    fn inputs(&self) -> &dyn Inputs {
        self
    }
}

impl Renames for Hdfs {
    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        const OP: &str = "store.rename";
        let (source, target) = (self.full(from), self.full(to));
        let client = self.client();
        let ask = || self.ask(client.rename(&source, &target, false));
        let missing = match ask()? {
            Ok(()) => return Ok(Renamed::Done),
            Err(HdfsError::AlreadyExists(_)) => return Ok(Renamed::TargetExists),
            Err(e) if is_absent(&e) => e,
            Err(e) => return Err(self.failed(OP, to, &e)),
        };
        // One of two is missing: the file, or its target directory.
        if self.stat(OP, from)?.is_none() {
            return Ok(Renamed::SourceMissing);
        }
        let Some((parent, _)) = target.rsplit_once('/').filter(|(dir, _)| !dir.is_empty()) else {
            return Err(self.failed(OP, to, &missing));
        };
        let made = self.ask(client.mkdirs(parent, DIRECTORY, true))?;
        made.map_err(|e| self.failed(OP, to, &e))?;
        match ask()? {
            Ok(()) => Ok(Renamed::Done),
            Err(HdfsError::AlreadyExists(_)) => Ok(Renamed::TargetExists),
            Err(e) if is_absent(&e) && self.stat(OP, from)?.is_none() => Ok(Renamed::SourceMissing),
            Err(e) => Err(self.failed(OP, to, &e)),
        }
    }

    fn write(&self, path: &str) -> Result<Box<dyn StagedWriter>> {
        Ok(Box::new(Writing::begin(self, path)?))
    }

    /// Both times are the name node's.
    /// A file that only told the time, before a kill, is nobody's target: it goes with its age.
    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>> {
        let mut unfinished = self.directory("store.leftovers", dir)?;
        unfinished.retain(|status| names::target_of(name_of(status)).is_some());
        if unfinished.is_empty() {
            return Ok(Vec::new());
        }
        let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let now = if idle == 0 { u64::MAX } else { self.now(dir)? };
        unfinished.retain(|status| now.saturating_sub(status.modification_time) >= idle);
        let mut found = Vec::new();
        for status in unfinished {
            match names::target_of(name_of(&status)) {
                Some(CLOCK) => {
                    self.remove(&status.path)?;
                }
                Some(target) => found.push(format!("{dir}/{target}")),
                None => {}
            }
        }
        found.sort();
        Ok(found)
    }

    fn clear_leftovers(&self, path: &str) -> Result<()> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        for status in self.directory("store.clear_leftovers", dir)? {
            if names::target_of(name_of(&status)) == Some(name) {
                self.remove(&status.path)?;
            }
        }
        Ok(())
    }
}
