//! A full disk, a missing right and a fast clock for the real program, by a library that is loaded before libc (`preload.c`): the program meets
//! them where it would meet the real ones, and has no switch for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Compiled once for all tests of this process.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/suite/preload.c");
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(dir).unwrap();
        let library = dir.join("preload.so");
        let new = dir.join(format!("preload-{}.so", std::process::id()));
        let built = Command::new("cc")
            .args(["-O1", "-shared", "-fPIC", "-o"])
            .args([&new, &source])
            .status();
        assert!(built.unwrap().success(), "preload.c is not compiled");
        fs::rename(&new, &library).unwrap();
        library
    })
}

/// A disk that is full for some files of a process, or lets some not be deleted, from when a test says so until it says otherwise.
pub struct Disk {
    full: PathBuf,
    stuck: PathBuf,
}

impl Disk {
    pub fn new(dir: &Path) -> Disk {
        Disk {
            full: dir.join("full"),
            stuck: dir.join("stuck"),
        }
    }

    /// The process will write to this disk.
    pub fn of(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library());
        command.env("WEIR_TEST_FULL", &self.full);
        command.env("WEIR_TEST_STUCK", &self.stuck);
    }

    /// Files with this text in their path take so many bytes more.
    pub fn is_full(&self, files: &str, after: u64) {
        put(&self.full, &format!("{files}\n{after}\n"));
    }

    pub fn has_room(&self) {
        fs::remove_file(&self.full).unwrap();
    }

    /// Files with this text in their path cannot be deleted.
    pub fn keeps(&self, files: &str) {
        put(&self.stuck, &format!("{files}\n"));
    }

    pub fn lets_go(&self) {
        fs::remove_file(&self.stuck).unwrap();
    }
}

/// Whole, or not at all.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A wall clock that runs too fast from now on, the same for all processes that get it.
#[derive(Clone)]
pub struct FastClock(String);

impl FastClock {
    pub fn from_now(factor: u32) -> FastClock {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        FastClock(format!("{} {factor}", now.as_secs()))
    }

    pub fn of(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library());
        command.env("WEIR_TEST_CLOCK", &self.0);
    }
}
