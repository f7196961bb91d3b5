//! Files that somebody else named: regular ones only, opened without waiting, no larger than a limit that is known before the
//! first byte is read. And files of our own that are replaced whole ([`replace`]).
//!
//! Opening a pipe would block, a device gives bytes without end, and a file can be replaced by either between a check
//! of its name and its opening. So the opened file is checked, not only the name.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// The largest size of a file, and what kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub bytes: u64,
    /// "a file of rules", for the message.
    pub of: &'static str,
}

/// Opened for reading. An error where it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // The name is checked first, because opening alone can make a device do something.
    regular(&std::fs::metadata(path)?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// Opens for writing and creates the file if it does not exist; its content is kept. An error if it is no regular file,
/// or its name is a link.
pub fn create(path: &Path) -> io::Result<File> {
    to_write(path, true)
}

/// As [`create`], for a file that exists.
pub fn change(path: &Path) -> io::Result<File> {
    to_write(path, false)
}

fn to_write(path: &Path, create: bool) -> io::Result<File> {
    match std::fs::symlink_metadata(path) {
        Ok(found) => regular(&found)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let file = OpenOptions::new()
        .write(true)
        .create(create)
        .truncate(false)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW)
        .open(path)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

/// The whole file.
pub fn read(path: &Path, limit: Limit) -> io::Result<Vec<u8>> {
    read_open(open(path)?, limit)
}

/// The whole file as text.
pub fn read_text(path: &Path, limit: Limit) -> io::Result<String> {
    let bytes = read(path, limit)?;
    String::from_utf8(bytes).map_err(|_| invalid("it is not UTF-8"))
}

/// The rest of an open file.
pub fn read_open(file: File, limit: Limit) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    if size > limit.bytes {
        return Err(too_large(size, limit));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // It may have grown since, and files below /proc say 0.
    file.take(limit.bytes.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit.bytes {
        true => Err(too_large(bytes.len() as u64, limit)),
        false => Ok(bytes),
    }
}

fn too_large(size: u64, limit: Limit) -> io::Error {
    invalid(format!(
        "it has {size} bytes or more, and {} has at most {}",
        limit.of, limit.bytes
    ))
}

fn regular(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a pipe",
        () if kind.is_symlink() => "a link",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(invalid(format!(
        "it is {what}, and a regular file is expected"
    )))
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

/// How a file is replaced by another.
#[derive(Clone, Copy, Debug)]
pub struct Replace {
    /// The new file survives a loss of power once [`replace`] has returned. False for files that can be made again.
    pub durable: bool,
    /// Others may replace the same file at the same moment, so each writes to a temporary file with its own name. A
    /// kill leaves that file. If there is only one writer, there is one such name, and the next replacement uses it
    /// again.
    pub shared: bool,
    /// Permissions of the new file; the umask takes some away.
    pub mode: u32,
}

impl Replace {
    /// Durable, by one writer.
    pub const DURABLE: Replace = Replace {
        durable: true,
        shared: false,
        mode: 0o666,
    };
}

/// Replaces the content of `path` by these bytes. A reader, also after a kill, finds the whole old file or the whole
/// new one.
pub fn replace(path: &Path, bytes: &[u8], how: Replace) -> io::Result<()> {
    let beside = write_beside(path, bytes, how)?;
    std::fs::rename(&beside, path).inspect_err(|_| {
        std::fs::remove_file(&beside).ok();
    })?;
    match path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        Some(dir) if how.durable => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// Writes these bytes to a new file beside `path`, which the caller renames or links. Returns its name.
pub fn write_beside(path: &Path, bytes: &[u8], how: Replace) -> io::Result<PathBuf> {
    let beside = match how.shared {
        true => path.with_added_extension(ulid::Ulid::generate().to_string()),
        false => path.with_added_extension("part"),
    };
    let mut options = OpenOptions::new();
    options.write(true).mode(how.mode);
    match how.shared {
        true => options.create_new(true),
        false => options.create(true).truncate(true),
    };
    let write = || {
        let mut file = options.open(&beside)?;
        file.write_all(bytes)?;
        match how.durable {
            true => file.sync_all(),
            false => Ok(()),
        }
    };
    match write() {
        Ok(()) => Ok(beside),
        Err(e) => {
            std::fs::remove_file(&beside).ok();
            Err(e)
        }
    }
}

/// Creates a directory that survives a loss of power, its ancestors too.
pub fn durable_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        durable_dir(parent)?;
    }
    match std::fs::create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// The free space of the file system of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that this user may still write.
    pub bytes: u64,
    /// Files that this user may still create. `None`: the file system does not count them.
    pub files: Option<u64>,
}

/// How much room there is.
#[allow(unsafe_code, reason = "statvfs has no safe wrapper in std")]
pub fn room(dir: &Path) -> io::Result<Room> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = std::ffi::CString::new(dir.as_os_str().as_bytes())
        .map_err(|_| invalid("a zero in the name"))?;
    let mut found = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the name is a C string and lives through the call; on success the kernel has filled the whole struct.
    let found = unsafe {
        if libc::statvfs(name.as_ptr(), found.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        found.assume_init()
    };
    Ok(Room {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        files: (found.f_files > 0).then_some(found.f_favail),
    })
}

/// The real path, with links and `..` resolved. If it does not exist yet, the nearest existing directory above is
/// resolved. An error if that is not certain: a link to nothing, a `..` after something that does not exist.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut there = whole.as_path();
    loop {
        match there.canonicalize() {
            Ok(mut found) => {
                missing.iter().rev().for_each(|name| found.push(name));
                return Ok(found);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        if std::fs::symlink_metadata(there).is_ok() {
            return Err(invalid("it is a link that leads to nothing"));
        }
        match (there.components().next_back(), there.parent()) {
            (Some(Component::Normal(name)), Some(parent)) => {
                missing.push(name.into());
                there = parent;
            }
            _ => {
                return Err(invalid(
                    "it leads back out of a directory that is not there",
                ));
            }
        }
    }
}

/// The real path of an open file, whatever name it was opened by.
pub fn place_of(file: &File) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The same file has the same identity under every name: links and linked directories make no difference. A file that
/// does not exist yet is identified by its future path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    Inode { device: u64, inode: u64 },
    Name(PathBuf),
}

impl Identity {
    /// `None`: it cannot be determined.
    pub fn of(path: &Path) -> Option<Identity> {
        let whole = resolve(path).ok()?;
        Some(match std::fs::metadata(&whole) {
            Ok(found) => Identity::Inode {
                device: found.dev(),
                inode: found.ino(),
            },
            Err(_) => Identity::Name(whole),
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has at most {} bytes", self.of, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const SMALL: Limit = Limit {
        bytes: 8,
        of: "a file of this test",
    };

    fn refusal(path: &Path) -> String {
        read(path, SMALL).expect_err("refused").to_string()
    }

    #[test]
    fn only_small_regular_files_are_read_and_nothing_waits() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("good"), "12345678").expect("write");
        std::fs::write(at("large"), "123456789").expect("write");
        symlink(at("good"), at("link")).expect("link");
        symlink("/dev/zero", at("zero")).expect("link");
        let made = std::process::Command::new("mkfifo")
            .arg(at("pipe"))
            .status();
        assert!(made.expect("mkfifo").success());
        assert_eq!(read(&at("good"), SMALL).expect("good"), b"12345678");
        assert_eq!(read(&at("link"), SMALL).expect("link"), b"12345678");
        assert!(
            refusal(&at("large")).contains("at most 8"),
            "{}",
            refusal(&at("large"))
        );
        assert!(refusal(&at("zero")).contains("a device"));
        assert!(refusal(&at("pipe")).contains("a pipe"));
        assert!(refusal(dir.path()).contains("a directory"));
        // Below /proc a file says that it is empty.
        assert!(refusal(Path::new("/proc/self/maps")).contains("at most 8"));
        assert!(create(&at("pipe")).is_err() && create(&at("zero")).is_err());
        create(&at("new")).expect("made");
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a");
        let shared = Replace {
            shared: true,
            mode: 0o600,
            ..Replace::DURABLE
        };
        // What a kill left.
        std::fs::write(dir.path().join("a.part"), "half a").expect("write");
        for (how, bytes) in [(Replace::DURABLE, "one"), (shared, "two")] {
            replace(&path, bytes.as_bytes(), how).expect("replaced");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), bytes);
            assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1);
        }
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(replace(dir.path(), b"x", Replace::DURABLE).is_err());
        assert!(!dir.path().with_added_extension("part").exists());
    }

    #[test]
    fn a_path_is_resolved_as_far_as_it_is_there() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().canonicalize().expect("root");
        std::fs::create_dir(root.join("in")).expect("dir");
        symlink(root.join("in"), root.join("also")).expect("link");
        symlink(root.join("nowhere"), root.join("dangling")).expect("link");
        for (path, leads) in [
            ("also/new/file", Some("in/new/file")),
            ("also/../in", Some("in")),
            ("new/../x", None),
            ("dangling", None),
            ("dangling/x", None),
        ] {
            let found = resolve(&root.join(path)).ok();
            assert_eq!(found, leads.map(|leads| root.join(leads)), "{path}");
        }
    }

    #[test]
    fn a_file_is_the_same_under_every_name() {
        let dir = tempfile::tempdir().expect("dir");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), "").expect("write");
        std::fs::hard_link(at("a"), at("hard")).expect("link");
        symlink(at("a"), at("soft")).expect("link");
        symlink(dir.path(), at("folder")).expect("link");
        let wanted = Identity::of(&at("a"));
        for name in ["hard", "soft", "folder/a", "./a"] {
            assert_eq!(Identity::of(&at(name)), wanted, "{name}");
        }
        assert_eq!(Identity::of(&at("new")), Identity::of(&at("folder/new")));
        assert_ne!(Identity::of(&at("new")), wanted);
    }
}
