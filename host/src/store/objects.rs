//! Stores on `object_store`: directories and memory.
//!
//! What it does not do for a directory is done here: names read are made durable (`sync`), and what a kill left of a write
//! (`NAME#1`, which its listing hides and nobody removes) can be found and cleared.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Runtime;

use super::errno;
use super::upload::Upload;
use super::{Created, FileWriter, Listed, Renamed, Store};
use crate::error::{Error, Kind, Result};

/// object_store's calls are short and block elsewhere: one worker is enough for timers and hand-overs.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("store")
        .enable_time()
        .build()
});

static MEMORY: Mutex<BTreeMap<String, Arc<Objects>>> = Mutex::new(BTreeMap::new());

pub(super) fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    match &*RUNTIME {
        Ok(runtime) => Ok(runtime.block_on(future)),
        Err(e) => Err(Error::new(
            Kind::LimitReached,
            "store.open",
            format!("the store's thread cannot be started: {e}"),
        )),
    }
}

#[derive(Debug)]
pub(super) struct Objects {
    inner: Arc<dyn ObjectStore>,
    url: String,
    /// Directories only.
    root: Option<PathBuf>,
}

pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    let invalid = |message: String| {
        Error::new(Kind::ConfigInvalid, "store.open", message)
            .with("url", url)
            .hint("write file:relative/path, file:///absolute/path or memory:name")
    };
    if let Some(name) = url.strip_prefix("memory:") {
        let mut stores = MEMORY.lock().unwrap_or_else(|e| e.into_inner());
        let store = stores.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Objects {
                inner: Arc::new(InMemory::new()),
                url: url.to_owned(),
                root: None,
            })
        });
        return Ok(Arc::clone(store) as Arc<dyn Store>);
    }
    let Some(path) = url.strip_prefix("file:") else {
        return Err(invalid("stores of this kind are not supported".to_owned()));
    };
    let path = match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        Some(_) => return Err(invalid("file: urls name no host".to_owned())),
        None => path,
    };
    if path.is_empty() {
        return Err(invalid("the url names no directory".to_owned()));
    }
    open_directory(FsPath::new(path)).map_err(|e| {
        Error::new(
            Kind::ConfigInvalid,
            "store.open",
            "cannot use this directory",
        )
        .with("url", url)
        .hint("make it a directory that this user may write to")
        .source(e)
    })
}

fn open_directory(path: &FsPath) -> io::Result<Arc<dyn Store>> {
    make_directory(path)?;
    let root = path.canonicalize()?;
    let inner = LocalFileSystem::new_with_prefix(&root)
        .map_err(io::Error::other)?
        .with_fsync(true);
    Ok(Arc::new(Objects {
        inner: Arc::new(inner),
        url: format!("file://{}", root.display()),
        root: Some(root),
    }))
}

/// Like `create_dir_all`, and durable.
fn make_directory(path: &FsPath) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => FsPath::new("."),
    };
    make_directory(parent)?;
    match std::fs::create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => std::fs::File::open(parent)?.sync_all(),
    }
}

impl Objects {
    fn path(op: &'static str, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|e| {
            Error::new(Kind::Bug, op, "not a path of a store")
                .with("path", path)
                .source(e)
        })
    }

    pub(super) fn failed(&self, op: &'static str, path: &str, e: object_store::Error) -> Error {
        let unknown = io::Error::from(io::ErrorKind::Other);
        let (kind, message, hint) = errno::meaning(io_error(&e).unwrap_or(&unknown));
        Error::new(kind, op, message)
            .with("store", &self.url)
            .with("path", path)
            .hint(hint)
            .source(e)
    }
}

pub(super) fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    io_error(error).map(io::Error::kind)
}

/// The io error at the bottom, if there is one.
fn io_error(error: &object_store::Error) -> Option<&io::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = e.source();
    }
    None
}

impl Store for Objects {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        const OP: &str = "store.create";
        let at = Self::path(OP, path)?;
        let payload = Bytes::copy_from_slice(bytes).into();
        let options = PutOptions::from(PutMode::Create);
        match wait(self.inner.put_opts(&at, payload, options))? {
            Ok(_) => Ok(Created::Done),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Created::Exists),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        const OP: &str = "store.get";
        let at = Self::path(OP, path)?;
        let read = async { self.inner.get(&at).await?.bytes().await };
        match wait(read)? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        const OP: &str = "store.get_range";
        let at = Self::path(OP, path)?;
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let bytes = match wait(self.inner.get_range(&at, range.clone()))? {
            Ok(bytes) => bytes,
            Err(e) => return Err(self.failed(OP, path, e)),
        };
        if bytes.len() as u64 != wanted {
            return Err(Error::new(
                Kind::LogCorrupt,
                OP,
                format!("expected bytes {range:?}, the file ends before"),
            )
            .with("store", &self.url)
            .with("path", path));
        }
        Ok(bytes)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        const OP: &str = "store.size";
        let at = Self::path(OP, path)?;
        match wait(self.inner.head(&at))? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        const OP: &str = "store.list";
        let at = Self::path(OP, prefix)?;
        let listed = self.inner.list(Some(&at)).try_collect::<Vec<_>>();
        let mut found: Vec<Listed> = match wait(listed)? {
            Ok(metas) => metas
                .into_iter()
                .map(|m| Listed {
                    path: m.location.to_string(),
                    size: m.size,
                })
                .collect(),
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(e) => return Err(self.failed(OP, prefix, e)),
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn delete(&self, path: &str) -> Result<()> {
        const OP: &str = "store.delete";
        let at = Self::path(OP, path)?;
        match wait(self.inner.delete(&at))? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    /// A hard link and an unlink, each made durable before the next: the file is never without a name. Two processes that
    /// rename one file at once both end well.
    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        const OP: &str = "store.rename";
        let (source, target) = (Self::path(OP, from)?, Self::path(OP, to)?);
        match wait(self.inner.rename_if_not_exists(&source, &target))? {
            Ok(()) => Ok(Renamed::Done),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Renamed::TargetExists),
            Err(e)
                if matches!(e, object_store::Error::NotFound { .. })
                    || io_kind(&e) == Some(io::ErrorKind::NotFound) =>
            {
                match self.size(from)? {
                    None => Ok(Renamed::SourceMissing),
                    Some(_) => Err(self.failed(OP, to, e)),
                }
            }
            Err(e) => Err(self.failed(OP, to, e)),
        }
    }

    fn write(&self, path: &str) -> Result<Box<dyn FileWriter>> {
        const OP: &str = "store.write";
        let at = Self::path(OP, path)?;
        match wait(self.inner.put_multipart(&at))? {
            Ok(upload) => {
                let store = Objects {
                    inner: Arc::clone(&self.inner),
                    url: self.url.clone(),
                    root: self.root.clone(),
                };
                Ok(Box::new(Upload::new(store, upload, path)))
            }
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn sync(&self, dir: &str) -> Result<()> {
        let Some(path) = self.local_path(dir) else {
            return Ok(());
        };
        match std::fs::File::open(&path).and_then(|d| d.sync_all()) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(self.io_failed("store.sync", dir, e)),
        }
    }

    /// Ages are the file system's own: written files against its clock now.
    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>> {
        const OP: &str = "store.leftovers";
        let Some(path) = self.local_path(dir) else {
            return Ok(Vec::new());
        };
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.io_failed(OP, dir, e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.io_failed(OP, dir, e))?;
            let name = entry.file_name();
            let Some(target) = name.to_str().and_then(leftover_of) else {
                continue;
            };
            // One that vanishes meanwhile was no leftover.
            let age = entry.metadata().and_then(|m| m.modified());
            let old = age.is_ok_and(|t| t.elapsed().is_ok_and(|age| age >= idle));
            if old {
                found.push(format!("{dir}/{target}"));
            }
        }
        found.sort();
        Ok(found)
    }

    fn clear_leftovers(&self, path: &str) -> Result<()> {
        const OP: &str = "store.clear_leftovers";
        let Some(target) = self.local_path(path) else {
            return Ok(());
        };
        let (Some(dir), Some(name)) = (target.parent(), target.file_name()) else {
            return Ok(());
        };
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.io_failed(OP, path, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| self.io_failed(OP, path, e))?;
            let found = entry.file_name();
            if found.to_str().and_then(leftover_of) != name.to_str() {
                continue;
            }
            match std::fs::remove_file(entry.path()) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(self.io_failed(OP, path, e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn local_path(&self, path: &str) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join(path))
    }
}

impl Objects {
    fn io_failed(&self, op: &'static str, path: &str, e: io::Error) -> Error {
        let e = object_store::Error::Generic {
            store: "directory",
            source: Box::new(e),
        };
        self.failed(op, path, e)
    }
}

/// `NAME` of `NAME#12`.
fn leftover_of(name: &str) -> Option<&str> {
    let (target, number) = name.rsplit_once('#')?;
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (digits && !target.is_empty()).then_some(target)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::upload::PART_BYTES;
    use super::*;

    fn suite(store: &dyn Store) {
        assert_eq!(store.list("a").unwrap(), vec![]);
        assert_eq!(store.get("a/b").unwrap(), None);
        assert_eq!(store.size("a/b").unwrap(), None);
        assert_eq!(store.create("a/b", b"one").unwrap(), Created::Done);
        assert_eq!(store.create("a/b", b"two").unwrap(), Created::Exists);
        assert_eq!(store.get("a/b").unwrap().unwrap().as_ref(), b"one");
        assert_eq!(store.get_range("a/b", 1..3).unwrap().as_ref(), b"ne");
        assert!(store.get_range("a/b", 1..9).is_err());
        let mut file = store.write("s/x").unwrap();
        let big = vec![7u8; PART_BYTES * 2 + 5];
        file.write_all(&big).unwrap();
        assert_eq!(store.size("s/x").unwrap(), None);
        assert_eq!(file.finish().unwrap(), big.len() as u64);
        assert_eq!(store.size("s/x").unwrap(), Some(big.len() as u64));
        assert_eq!(store.rename("s/x", "t/d=1/x").unwrap(), Renamed::Done);
        assert_eq!(
            store.rename("s/x", "t/d=1/x").unwrap(),
            Renamed::SourceMissing
        );
        assert_eq!(
            store.rename("a/b", "t/d=1/x").unwrap(),
            Renamed::TargetExists
        );
        assert_eq!(store.size("t/d=1/x").unwrap(), Some(big.len() as u64));
        let paths: Vec<String> = store
            .list("")
            .unwrap()
            .into_iter()
            .map(|l| l.path)
            .collect();
        assert_eq!(paths, ["a/b", "t/d=1/x"]);
        store.delete("a/b").unwrap();
        store.delete("a/b").unwrap();
        assert_eq!(store.list("a").unwrap(), vec![]);
        store.sync("nowhere").unwrap();
        drop(store.write("s/y").unwrap());
        assert_eq!(
            store.leftovers("s", Duration::ZERO).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn memory_store() {
        let store = open("memory:objects-suite").unwrap();
        suite(&*store);
        store.create("shared", b"").unwrap();
        let again = open("memory:objects-suite").unwrap();
        assert_eq!(again.size("shared").unwrap(), Some(0));
    }

    #[test]
    fn directory_store_makes_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("new/zone");
        suite(&*open(&format!("file:{}", root.display())).unwrap());
        suite(&*open(&format!("file://{}", dir.path().join("two").display())).unwrap());
    }

    #[test]
    fn what_a_killed_write_leaves_is_found_and_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("file:{}", dir.path().display())).unwrap();
        let mut file = store.write("staging/X").unwrap();
        file.write_all(&[1; PART_BYTES + 1]).unwrap();
        std::mem::forget(file); // a kill
        assert_eq!(store.list("staging").unwrap(), vec![]);
        assert_eq!(
            store
                .leftovers("staging", Duration::from_secs(600))
                .unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(
            store.leftovers("staging", Duration::ZERO).unwrap(),
            ["staging/X"]
        );
        store.clear_leftovers("staging/X").unwrap();
        assert_eq!(
            store.leftovers("staging", Duration::ZERO).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_write_whose_file_was_collected_is_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&format!("file:{}", dir.path().display())).unwrap();
        let mut file = store.write("staging/X").unwrap();
        file.write_all(b"rows").unwrap();
        store.clear_leftovers("staging/X").unwrap();
        assert_eq!(file.finish().unwrap_err().kind(), Kind::Conflict);
    }

    #[test]
    fn a_full_disk_is_an_outage_and_says_so() {
        let store = open_directory(tempfile::tempdir().unwrap().path()).unwrap();
        let root = store.local_path("").unwrap();
        let objects = Objects {
            inner: Arc::new(InMemory::new()),
            url: "file:x".into(),
            root: Some(root),
        };
        let full = objects.io_failed(
            "store.write",
            "a",
            io::Error::from_raw_os_error(libc::ENOSPC),
        );
        assert_eq!(full.kind(), Kind::StoreUnavailable);
        assert!(full.to_string().contains("free space"), "{full}");
    }

    #[test]
    fn urls_that_mean_nothing_are_refused() {
        for url in ["s3://bucket", "file:", "file://host/x", "zone"] {
            assert_eq!(open(url).unwrap_err().kind(), Kind::ConfigInvalid, "{url}");
        }
    }
}
