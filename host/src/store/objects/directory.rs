//! `file:`: a directory, which publishes by rename.
//!
//! Adds what `object_store` does not do: names that were read are made durable (`sync`), and what a killed write left
//! (`NAME#1`, which the crate's listing hides and nothing else removes) can be found and cleared.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;

use super::writer::Parts;
use super::{Objects, io_kind, is_too_long, wait};
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::store::path_limits::{PATH_MAX, PathLimits};
use crate::store::{Created, Inputs, Listed, Renamed, Renames, StagedWriter, Store, Way};

#[derive(Clone, Debug)]
pub(super) struct Directory {
    objects: Objects,
    root: PathBuf,
    /// Files that are not read, and were said.
    told: Arc<Mutex<BTreeSet<PathBuf>>>,
}

/// Files that are said at most: a directory is listed every second.
const TOLD_MAX: usize = 1_000;

/// `file:relative/or/absolute`, `file:///absolute`. Created if it does not exist.
pub(in crate::store) fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(Directory::of(url)?))
}

impl Directory {
    pub(super) fn of(url: &str) -> Result<Directory> {
        let invalid = |message: &str| {
            Error::new(Kind::ConfigInvalid, "store.open", message)
                .with("url", url)
                .hint("write file:relative/path, file:///absolute/path or memory:name")
        };
        let Some(path) = url.strip_prefix("file:") else {
            return Err(invalid("stores of this kind are not supported"));
        };
        let path = match path.strip_prefix("//") {
            Some(absolute) if absolute.starts_with('/') => absolute,
            Some(_) => return Err(invalid("file: urls name no host")),
            None => path,
        };
        if path.is_empty() {
            return Err(invalid("the url names no directory"));
        }
        Directory::at(FsPath::new(path)).map_err(|e| {
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

    fn at(path: &FsPath) -> io::Result<Directory> {
        make_directory(path)?;
        let root = path.canonicalize()?;
        let inner = LocalFileSystem::new_with_prefix(&root)
            .map_err(io::Error::other)?
            .with_fsync(true);
        let objects = Objects {
            inner: Arc::new(inner),
            url: format!("file://{}", root.display()),
            prefix: String::new(),
            remote: None,
        };
        Ok(Directory {
            objects,
            root,
            told: Arc::default(),
        })
    }

    pub(super) fn objects(&self) -> &Objects {
        &self.objects
    }

    pub(super) fn root(&self) -> &FsPath {
        &self.root
    }

    /// Whether it is to be said of a file that it is not read: once.
    pub(super) fn is_news(&self, file: &FsPath) -> bool {
        let mut told = lock(&self.told);
        told.len() < TOLD_MAX && told.insert(file.to_owned())
    }

    pub(super) fn io_failed(&self, op: &'static str, path: &str, e: io::Error) -> Error {
        let e = object_store::Error::Generic {
            store: "directory",
            source: Box::new(e),
        };
        self.objects.failed(op, path, e)
    }
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

impl Store for Directory {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        self.objects.create(path, bytes)
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.objects.get(path)
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.objects.get_range(path, range)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        self.objects.size(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.objects.list(prefix)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.objects.delete(path)
    }

    fn sync(&self, dir: &str) -> Result<()> {
        let path = self.root.join(dir);
        match std::fs::File::open(&path).and_then(|d| d.sync_all()) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => Ok(()),
            Err(e) => Err(self.io_failed("store.sync", dir, e)),
        }
    }

    fn absent_dirs(&self, mut dirs: Vec<String>) -> Result<Vec<String>> {
        dirs.retain(|dir| !self.root.join(dir).exists());
        Ok(dirs)
    }

    /// The file system refuses to remove a directory that holds something.
    fn remove_empty_dir(&self, dir: &str) -> Result<()> {
        std::fs::remove_dir(self.root.join(dir)).ok();
        Ok(())
    }

    fn url(&self) -> &str {
        &self.objects.url
    }

    fn path_limits(&self) -> PathLimits {
        PathLimits::below(&self.root.to_string_lossy(), PATH_MAX)
    }

    fn way(&self) -> Way<'_> {
        Way::Rename(self)
    }

    fn inputs(&self) -> &dyn Inputs {
        self
    }
}

impl Renames for Directory {
    /// A hard link and then an unlink, each made durable before the next step: the file is never without a name. Two
    /// processes that rename one file at once both succeed.
    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        const OP: &str = "store.rename";
        let (source, target) = (self.objects.at(OP, from)?, self.objects.at(OP, to)?);
        match wait(self.objects.inner.rename_if_not_exists(&source, &target))? {
            Ok(()) => Ok(Renamed::Done),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Renamed::TargetExists),
            // It can never be there: whoever named it so goes on as with a file that is lost.
            Err(e) if is_too_long(&e) => Ok(Renamed::SourceMissing),
            Err(e)
                if matches!(e, object_store::Error::NotFound { .. })
                    || io_kind(&e) == Some(io::ErrorKind::NotFound) =>
            {
                match self.size(from)? {
                    None => Ok(Renamed::SourceMissing),
                    Some(_) => Err(self.objects.failed(OP, to, e)),
                }
            }
            Err(e) => Err(self.objects.failed(OP, to, e)),
        }
    }

    fn write(&self, path: &str) -> Result<Box<dyn StagedWriter>> {
        const OP: &str = "store.write";
        let at = self.objects.at(OP, path)?;
        match wait(self.objects.inner.put_multipart(&at))? {
            Ok(upload) => Ok(Box::new(Parts::new(self.clone(), upload, path))),
            Err(e) => Err(self.objects.failed(OP, path, e)),
        }
    }

    /// Ages are measured by the file system's own clock.
    fn leftovers(&self, dir: &str, idle: Duration) -> Result<Vec<String>> {
        const OP: &str = "store.leftovers";
        let path = self.root.join(dir);
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
            // A file that vanishes meanwhile was no leftover.
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
        let target = self.root.join(path);
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

    use super::super::writer::PART_BYTES;
    use super::*;

    /// Of zones that were written before names were checked: such a file is lost, and a rewind goes on.
    #[test]
    fn a_name_that_is_too_long_is_that_of_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::at(dir.path()).unwrap();
        assert_eq!(store.create("s/f", b"x").unwrap(), Created::Done);
        store.create("t/a", b"x").unwrap();
        let long = format!("t/{}/f", "x".repeat(256));
        assert_eq!(store.size(&long).unwrap(), None);
        assert_eq!(store.rename("s/f", &long).unwrap(), Renamed::SourceMissing);
        assert_eq!(store.size("s/f").unwrap(), Some(1));
        store.delete(&long).unwrap();
        store.sync(long.trim_end_matches("/f")).unwrap();
    }

    fn suite(store: &Directory) {
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
    fn directory_store_makes_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("new/zone");
        suite(&Directory::of(&format!("file:{}", root.display())).unwrap());
        suite(&Directory::of(&format!("file://{}", dir.path().join("two").display())).unwrap());
    }

    #[test]
    fn what_a_killed_write_leaves_is_found_and_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::of(&format!("file:{}", dir.path().display())).unwrap();
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
        let store = Directory::of(&format!("file:{}", dir.path().display())).unwrap();
        let mut file = store.write("staging/X").unwrap();
        file.write_all(b"rows").unwrap();
        store.clear_leftovers("staging/X").unwrap();
        assert_eq!(file.finish().unwrap_err().kind(), Kind::Conflict);
    }

    #[test]
    fn a_full_disk_is_an_outage_and_says_so() {
        let store = Directory::at(tempfile::tempdir().unwrap().path()).unwrap();
        let full = store.io_failed(
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
