//! A directory as a place where others put files.
//!
//! Only regular files are read. A link is followed where it leads to a file or a directory below the root; what leads out of
//! it is said once and is as if it were not there. That is asked of what was opened, not of its name, because a name may become
//! a link at any moment. A file is read through the handle that was opened, so a rename over its name changes nothing for
//! whoever reads it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::directory::Directory;
use crate::error::{Error, Kind, Result};
use crate::fs;
use crate::store::input::INODE;
use crate::store::{Found, Input, Inputs, Moved};

/// Directories inside each other. Above it links go round in a circle.
const DEPTH_MAX: usize = 128;
const OP: &str = "store.walk";

fn found(path: &str, about: &Metadata) -> Found {
    let modified = about.mtime().saturating_mul(1_000_000);
    Found {
        path: path.to_owned(),
        size: about.len(),
        modified: modified.saturating_add(about.mtime_nsec() / 1_000),
        // The nanoseconds too: two writes may fall into one microsecond.
        identity: format!("{INODE}{}.{}", about.ino(), about.mtime_nsec() % 1_000),
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

    /// The real path of what was opened. An error, as if it were not there, if that is not below the root.
    fn place_below(&self, opened: &File) -> io::Result<PathBuf> {
        let place = fs::place_of(opened)?;
        match place.starts_with(self.root()) {
            true => Ok(place),
            false => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    fn folder(&self, dir: &str) -> io::Result<Folder> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        let opened = options.open(self.place(dir))?;
        self.place_below(&opened)?;
        Ok(Folder { opened })
    }

    /// The same, made where it is not there.
    fn made_folder(&self, dir: &str) -> io::Result<Folder> {
        let mut folder = self.folder("")?;
        let mut path = String::new();
        for name in dir.split('/').filter(|name| !name.is_empty()) {
            path = below(&path, name);
            folder = match self.folder(&path) {
                Err(e) if is_absent(&e) => {
                    std::fs::create_dir(folder.at(name))?;
                    self.folder(&path)?
                }
                folder => folder?,
            };
        }
        Ok(folder)
    }

    /// A regular file below the root.
    fn opened(&self, path: &str) -> io::Result<(File, Metadata)> {
        let place = self.place(path);
        if !std::fs::metadata(&place)?.is_file() {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        let file = fs::open(&place)?;
        self.place_below(&file)?;
        let about = file.metadata()?;
        Ok((file, about))
    }

    /// The files in a directory; returns the directories in it.
    fn list_directory(
        &self,
        dir: &str,
        each: &mut dyn FnMut(Found) -> Result<()>,
    ) -> Result<Vec<String>> {
        let folder = self.folder(dir);
        let entries = match folder.and_then(|folder| std::fs::read_dir(folder.at(""))) {
            Ok(entries) => entries,
            Err(e) => return self.absent::<()>(OP, dir, e).map(|_| Vec::new()),
        };
        let mut inside = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| self.io_failed(OP, dir, e))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let file = self.place(dir).join(&name);
                if self.is_news(&file) {
                    tracing::warn!(file = %file.display(), "a file whose name is not UTF-8 is not read; rename it");
                }
                continue;
            };
            let path = below(dir, name);
            // One that vanishes meanwhile was never there.
            let Ok(mut about) = entry.metadata() else {
                continue;
            };
            if about.is_symlink() {
                let file = self.place(&path);
                match self.followed(&file).map(std::fs::metadata) {
                    Some(Ok(leads)) => about = leads,
                    Some(Err(_)) => continue,
                    None => {
                        if self.is_news(&file) {
                            tracing::warn!(file = %file.display(), "a link that leads out of the directory, or to nothing, is not followed");
                        }
                        continue;
                    }
                }
            }
            if about.is_dir() {
                inside.push(path);
            } else if about.is_file() {
                each(found(&path, &about))?;
            }
        }
        Ok(inside)
    }

    fn walk_directory(
        &self,
        dir: &str,
        depth: usize,
        each: &mut dyn FnMut(Found) -> Result<()>,
    ) -> Result<()> {
        let inside = self.list_directory(dir, each)?;
        if depth >= DEPTH_MAX && !inside.is_empty() {
            let message = format!("more than {DEPTH_MAX} directories lie inside each other");
            return Err(Error::new(Kind::LimitReached, OP, message)
                .with("store", self.root().display())
                .with("path", dir)
                .hint("a link may lead back to a directory above it: take it away"));
        }
        let mut inside = inside.iter();
        inside.try_for_each(|dir| self.walk_directory(dir, depth + 1, each))
    }

    /// A link first: it never lies over another file. A file that is itself a link gives the archive what it leads to.
    fn moved(&self, from: &str, to: &str) -> io::Result<Moved> {
        let (file, about) = match self.opened(from) {
            Err(e) if is_absent(&e) && self.root().is_dir() => return Ok(Moved::SourceMissing),
            opened => opened?,
        };
        let real = self.place_below(&file)?;
        let real = real.strip_prefix(self.root()).ok().and_then(Path::to_str);
        let Some(real) = real else {
            return Ok(Moved::SourceMissing);
        };
        let (real_dir, real_name) = split(real);
        let (to_dir, to_name) = split(to);
        let real_folder = self.folder(real_dir)?;
        let to_folder = self.made_folder(to_dir)?;
        let (source, target) = (real_folder.at(real_name), to_folder.at(to_name));
        match std::fs::hard_link(&source, &target) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                // A kill came between the link and the removal.
                let there = std::fs::symlink_metadata(&target)?;
                if (there.dev(), there.ino()) != (about.dev(), about.ino()) {
                    return Ok(Moved::TargetExists);
                }
            }
            Err(e) if is_absent(&e) => return Ok(Moved::SourceMissing),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                // A file system without links.
                if std::fs::symlink_metadata(&target).is_ok() {
                    return Ok(Moved::TargetExists);
                }
                return std::fs::rename(&source, &target).map(|()| Moved::Done);
            }
            Err(e) => return Err(e),
        }
        self.removed(from).map(|()| Moved::Done)
    }

    fn removed(&self, path: &str) -> io::Result<()> {
        let (dir, name) = split(path);
        let removed = self
            .folder(dir)
            .and_then(|folder| std::fs::remove_file(folder.at(name)));
        match removed {
            Err(e) if !is_absent(&e) => Err(e),
            _ => Ok(()),
        }
    }
}

/// A directory below the root, whatever its name stands for by now.
struct Folder {
    opened: File,
}

impl Folder {
    /// A path by which the system finds the name in this very directory.
    fn at(&self, name: &str) -> PathBuf {
        let folder = format!("/proc/self/fd/{}", self.opened.as_raw_fd());
        Path::new(&folder).join(name)
    }
}

fn below(dir: &str, name: &str) -> String {
    match dir {
        "" => name.to_owned(),
        dir => format!("{dir}/{name}"),
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Inputs for Directory {
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        if !self.root().is_dir() {
            let gone = io::Error::from_raw_os_error(libc::ENOENT);
            return Err(self.io_failed(OP, below, gone));
        }
        self.walk_directory(below.trim_matches('/'), 0, each)
    }

    fn list_dir(&self, dir: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        self.list_directory(dir.trim_matches('/'), each).map(drop)
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        match self.opened(path) {
            Ok((_, about)) => Ok(Some(found(path, &about))),
            Err(e) => self.absent("store.look", path, e),
        }
    }

    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>> {
        match self.opened(path) {
            Ok((file, about)) => Ok(Some(Box::new(OpenFile {
                file,
                found: found(path, &about),
                directory: self.clone(),
            }))),
            Err(e) => self.absent("store.open_input", path, e),
        }
    }

    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        let moved = self.moved(from, to);
        moved.map_err(|e| self.io_failed("store.move", from, e))
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        let removed = self.removed(path);
        removed.map_err(|e| self.io_failed("store.remove", path, e))
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

    fn look_again(&mut self) -> Result<&Found> {
        let about = self.file.metadata();
        let about =
            about.map_err(|e| self.directory.io_failed("store.look", &self.found.path, e))?;
        self.found = found(&self.found.path, &about);
        Ok(&self.found)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(root: &Path) -> Directory {
        Directory::of(&format!("file:{}", root.display())).expect("directory")
    }

    fn text(store: &Directory, path: &str) -> Option<String> {
        let mut input = store.open_input(path).expect("asked")?;
        let bytes = input.read(0, 100).expect("read");
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn walked(store: &Directory) -> Vec<String> {
        let mut paths = Vec::new();
        store
            .walk("", &mut |found| {
                paths.push(found.path);
                Ok(())
            })
            .expect("walked");
        paths.sort();
        paths
    }

    #[test]
    fn nothing_outside_is_read_moved_or_removed_whatever_becomes_a_link() {
        let dir = tempfile::tempdir().expect("dir");
        let base = dir.path().canonicalize().expect("base");
        for below in ["in/real", "out/deep"] {
            std::fs::create_dir_all(base.join(below)).expect("dir");
            std::fs::write(base.join(below).join("f"), below).expect("write");
        }
        symlink(base.join("in/real"), base.join("in/near")).expect("link");
        symlink(base.join("in/real/f"), base.join("in/file")).expect("link");
        symlink(base.join("out"), base.join("in/away")).expect("link");
        symlink(base.join("out/deep/f"), base.join("in/leak")).expect("link");
        let store = directory(&base.join("in"));
        assert_eq!(walked(&store), ["file", "near/f", "real/f"]);
        assert_eq!(text(&store, "near/f").as_deref(), Some("in/real"));
        assert_eq!(text(&store, "file").as_deref(), Some("in/real"));
        for path in [
            "leak",
            "away/deep/f",
            "../out/deep/f",
            "real/../../out/deep/f",
        ] {
            assert_eq!(store.look(path).expect("asked"), None, "{path}");
            assert_eq!(text(&store, path), None, "{path}");
            assert_eq!(
                store.move_input(path, "x").expect("asked"),
                Moved::SourceMissing
            );
        }
        for path in ["away/deep/f", "../out/deep/f"] {
            store.remove_input(path).expect("as if it were not there");
        }
        // Nor is anything put there.
        assert!(store.move_input("real/f", "away/new/f").is_err());
        assert!(base.join("out/deep/f").exists() && !base.join("out/new").exists());
        assert!(base.join("in/real/f").exists());
    }

    #[test]
    fn a_move_that_was_killed_goes_on_and_a_link_gives_what_it_leads_to() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("done")).expect("dir");
        std::fs::write(at("a"), "a").expect("write");
        std::fs::hard_link(at("a"), at("done/a")).expect("link");
        let store = directory(dir.path());
        assert_eq!(store.move_input("a", "done/a").expect("moved"), Moved::Done);
        assert_eq!(walked(&store), ["done/a"]);
        std::fs::write(at("a"), "another").expect("write");
        let moved = store.move_input("a", "done/a").expect("asked");
        assert_eq!(moved, Moved::TargetExists);
        symlink("a", at("link")).expect("link");
        let moved = store.move_input("link", "done/deep/link").expect("moved");
        assert_eq!(moved, Moved::Done);
        assert_eq!(walked(&store), ["a", "done/a", "done/deep/link"]);
        assert_eq!(text(&store, "done/deep/link").as_deref(), Some("another"));
        let missing = store.move_input("link", "done/x").expect("asked");
        assert_eq!(missing, Moved::SourceMissing);
    }
}
