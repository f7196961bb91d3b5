//! Files for what does not fit into memory while a batch runs. They have no name: the system takes them away when they
//! are closed, also after an error or a kill.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};
use crate::store::errno::meaning;

const OP: &str = "zone.spill";
/// Only its owner reads what is written there.
const MODE: u32 = 0o600;

/// `spill.*`: where, and how many bytes at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillPlace {
    pub dir: PathBuf,
    pub max_bytes: u64,
}

/// The files of one batch.
#[derive(Clone, Debug)]
pub struct Spill {
    place: Arc<SpillPlace>,
    used: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Spill {
    pub fn new(place: SpillPlace) -> Spill {
        Spill {
            place: Arc::new(place),
            used: Arc::default(),
            written: Arc::default(),
        }
    }

    pub fn file(&self) -> Result<SpillFile> {
        let dir = &self.place.dir;
        let opened = std::fs::create_dir_all(dir).and_then(|()| nameless(dir));
        Ok(SpillFile {
            file: opened.map_err(|e| self.failed(e))?,
            bytes: 0,
            spill: self.clone(),
        })
    }

    /// Bytes written so far, those of files that are gone too.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let max = self.place.max_bytes;
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.written.fetch_add(bytes, Ordering::Relaxed);
        if used <= max {
            return Ok(());
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        let message = format!("a batch needs more than the {max} bytes of spill.max.bytes");
        Err(Error::new(Kind::StoreUnavailable, OP, message)
            .with("spill.dir", self.place.dir.display())
            .hint("raise spill.max.bytes, or memory.budget; the batch is tried again until it has room"))
    }

    fn failed(&self, e: io::Error) -> Error {
        let (kind, what, hint) = meaning(&e);
        Error::new(kind, OP, format!("rows cannot be laid aside: {what}"))
            .with("spill.dir", self.place.dir.display())
            .hint(format!("{hint}; spill.dir names another place"))
            .source(e)
    }
}

/// Grows at its end; read anywhere.
#[derive(Debug)]
pub struct SpillFile {
    file: File,
    bytes: u64,
    spill: Spill,
}

impl SpillFile {
    pub fn len(&self) -> u64 {
        self.bytes
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.put(self.bytes, bytes)
    }

    /// Over what is there, or at the end and beyond it.
    pub fn put(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let end = at + bytes.len() as u64;
        self.spill.take(end.saturating_sub(self.bytes))?;
        self.bytes = self.bytes.max(end);
        let put = self.file.write_all_at(bytes, at);
        put.map_err(|e| self.spill.failed(e))
    }

    pub fn get(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let got = self.file.read_exact_at(bytes, at);
        got.map_err(|e| self.spill.failed(e))
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        self.spill.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Appends; an error of the file is inside the [`io::Error`].
impl Write for SpillFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes `at..end` of a file, one after the other.
#[derive(Debug)]
pub struct Section {
    pub file: Arc<SpillFile>,
    pub at: u64,
    pub end: u64,
}

impl Read for Section {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let take = left.min(bytes.len());
        let got = self.file.get(self.at, &mut bytes[..take]);
        got.map_err(io::Error::other)?;
        self.at += take as u64;
        Ok(take)
    }
}

/// The error that a reader or writer of other people wrapped.
pub fn unwrapped(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => {
            Error::new(Kind::Bug, OP, "rows that were laid aside are not whole").source(error)
        }
    }
}

#[cfg(target_os = "linux")]
fn nameless(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    match options.clone().custom_flags(libc::O_TMPFILE).open(dir) {
        Err(e) if cannot(&e) => named(dir, &options),
        opened => opened,
    }
}

/// A file system without files that have no name.
#[cfg(target_os = "linux")]
fn cannot(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL)
    )
}

#[cfg(not(target_os = "linux"))]
fn nameless(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    named(dir, &options)
}

/// Has a name for the moment between two calls. A kill in between leaves an empty file, which the next one takes away;
/// those of others that are taken away with it are open, and need their names no more.
fn named(dir: &Path, options: &OpenOptions) -> io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    sweep(dir, |path| std::fs::remove_file(path))?;
    let id = std::process::id();
    loop {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("weir-{id}-{next}.spill"));
        match options.clone().create_new(true).open(&path) {
            // Another user's process of this number left it.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
            Ok(file) => return std::fs::remove_file(&path).or_else(absent).map(|()| file),
        }
    }
}

fn absent(e: io::Error) -> io::Result<()> {
    match e.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(e),
    }
}

/// Takes away what kills have left. In a directory of all users (sticky, as `/tmp`) those of another user stay, for a process of theirs.
fn sweep(dir: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("weir-") && name.ends_with(".spill") {
            match remove(&path).or_else(absent) {
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_user_left_stays_and_keeps_nobody_from_a_file() {
        let dir = tempfile::tempdir().expect("dir");
        for name in ["weir-1-0.spill", "weir-2-0.spill", "other"] {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        let theirs = |path: &Path| match path.ends_with("weir-1-0.spill") {
            true => Err(io::Error::from_raw_os_error(libc::EPERM)),
            false => std::fs::remove_file(path),
        };
        sweep(dir.path(), theirs).expect("swept");
        let left = |name: &str| dir.path().join(name).exists();
        assert!(left("weir-1-0.spill") && left("other") && !left("weir-2-0.spill"));
        let broken = |_: &Path| Err(io::Error::from_raw_os_error(libc::EIO));
        assert!(sweep(dir.path(), broken).is_err());
    }
}
