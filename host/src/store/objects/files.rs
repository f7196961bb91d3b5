//! A directory as a place where others put files.
//!
//! Only regular files are read. A link is followed where it leads to a file or a directory below the root; what leads out of
//! it is said once in a listing and left alone. A file is read through the handle that was opened, so a rename over its name
//! changes nothing for whoever reads it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::Directory;
use crate::error::{Error, Kind, Result};
use crate::fs;
use crate::store::{Found, Input, Inputs, Moved};

/// Directories inside each other. Above it links go round in a circle.
const DEPTH_MAX: usize = 128;

fn found(path: &str, about: &Metadata) -> Found {
    let modified = about.mtime().saturating_mul(1_000_000);
    Found {
        path: path.to_owned(),
        size: about.len(),
        modified: modified.saturating_add(about.mtime_nsec() / 1_000),
        // The nanoseconds too: two writes may fall into one microsecond.
        identity: format!("inode:{}.{}", about.ino(), about.mtime_nsec() % 1_000),
    }
}

fn is_absent(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl Directory {
    fn place(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// A missing file, unless the whole directory is away: then nobody can tell.
    fn absent<T>(&self, op: &'static str, path: &str, e: io::Error) -> Result<Option<T>> {
        match is_absent(&e) && self.root().is_dir() {
            true => Ok(None),
            false => Err(self.io_failed(op, path, e)),
        }
    }

    /// Where it leads, if that is below the root.
    fn followed(&self, link: &Path) -> Option<PathBuf> {
        let leads = link.canonicalize().ok()?;
        leads.starts_with(self.root()).then_some(leads)
    }

    fn walk_directory(
        &self,
        dir: &str,
        depth: usize,
        each: &mut dyn FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        const OP: &str = "store.walk";
        let entries = match std::fs::read_dir(self.place(dir)) {
            Ok(entries) => entries,
            Err(e) => return self.absent::<()>(OP, dir, e).map(|_| ()),
        };
        let mut below = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.io_failed(OP, dir, e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                tracing::warn!(file = %entry.path().display(), "a file whose name is not UTF-8 is not read; rename it");
                continue;
            };
            let path = match dir {
                "" => name.to_owned(),
                dir => format!("{dir}/{name}"),
            };
            // One that vanishes meanwhile was never there.
            let Ok(mut about) = entry.metadata() else {
                continue;
            };
            if about.is_symlink() {
                match self.followed(&entry.path()).map(std::fs::metadata) {
                    Some(Ok(leads)) => about = leads,
                    Some(Err(_)) => continue,
                    None => {
                        tracing::warn!(file = %entry.path().display(), "a link that leads out of the directory, or to nothing, is not followed");
                        continue;
                    }
                }
            }
            if about.is_dir() {
                below.push(path);
            } else if about.is_file() {
                each(found(&path, &about))?;
            }
        }
        if depth >= DEPTH_MAX && !below.is_empty() {
            let message = format!("more than {DEPTH_MAX} directories lie inside each other");
            return Err(Error::new(Kind::LimitReached, OP, message)
                .with("store", self.root().display())
                .with("path", dir)
                .hint("a link may lead back to a directory above it: take it away"));
        }
        let mut below = below.iter();
        below.try_for_each(|dir| self.walk_directory(dir, depth + 1, each))
    }
}

impl Inputs for Directory {
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        if !self.root().is_dir() {
            let gone = io::Error::from_raw_os_error(libc::ENOENT);
            return Err(self.io_failed("store.walk", below, gone));
        }
        self.walk_directory(below.trim_matches('/'), 0, each)
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        match std::fs::metadata(self.place(path)) {
            Ok(about) if about.is_file() => Ok(Some(found(path, &about))),
            Ok(_) => Ok(None),
            Err(e) => self.absent("store.look", path, e),
        }
    }

    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>> {
        const OP: &str = "store.open_input";
        let opened = fs::open(&self.place(path)).and_then(|file| {
            let about = file.metadata()?;
            Ok((file, about))
        });
        match opened {
            Ok((file, about)) => Ok(Some(Box::new(OpenFile {
                file,
                found: found(path, &about),
                directory: self.clone(),
            }))),
            Err(e) => self.absent(OP, path, e),
        }
    }

    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        const OP: &str = "store.move";
        let (source, target) = (self.place(from), self.place(to));
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(|e| self.io_failed(OP, to, e))?;
        }
        // A link first: it never lies over another file.
        match std::fs::hard_link(&source, &target) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(Moved::TargetExists),
            Err(e) if is_absent(&e) && !source.exists() => return Ok(Moved::SourceMissing),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                // A file system without links.
                return match (target.exists(), std::fs::rename(&source, &target)) {
                    (true, _) => Ok(Moved::TargetExists),
                    (false, Ok(())) => Ok(Moved::Done),
                    (false, Err(e)) => Err(self.io_failed(OP, from, e)),
                };
            }
            Err(e) => return Err(self.io_failed(OP, to, e)),
        }
        match std::fs::remove_file(&source) {
            Err(e) if !is_absent(&e) => Err(self.io_failed(OP, from, e)),
            _ => Ok(Moved::Done),
        }
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        match std::fs::remove_file(self.place(path)) {
            Err(e) if !is_absent(&e) => Err(self.io_failed("store.remove", path, e)),
            _ => Ok(()),
        }
    }
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    found: Found,
    directory: Directory,
}

impl Input for OpenFile {
    fn found(&self) -> &Found {
        &self.found
    }

    fn read(&mut self, from: u64, most: usize) -> Result<Bytes> {
        let left = self.found.size.saturating_sub(from);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        let mut bytes = vec![0; most];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, from + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(self.directory.io_failed("store.read", &self.found.path, e));
                }
            }
        }
        bytes.truncate(read);
        Ok(bytes.into())
    }

    fn is_unchanged(&mut self) -> Result<bool> {
        let about = self.file.metadata();
        let about =
            about.map_err(|e| self.directory.io_failed("store.look", &self.found.path, e))?;
        Ok(found(&self.found.path, &about).is_same(&self.found))
    }
}
