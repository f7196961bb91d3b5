//! Lines that were received and wait for their commit: files of one directory, each named after the position of its first byte.
//!
//! - A position is a byte of all that was ever received. What lies below the end is on the disk, in whole lines.
//! - One process receives: it has the lock of the directory, and it alone knows the end and deletes.
//! - The last file stays when all is committed, as it says where the next line begins. Without any, the spool is another one: its id says so.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::{Clock, Wake};
use crate::error::{Error, Kind, Result};
use crate::fs::{Limit, Replace, durable_dir, read_text, write_beside};
use crate::lock::lock;
use crate::record::TopicPartition;
use crate::source::{Acknowledge, Position};

/// After so many bytes another file is begun: what is committed is deleted in such pieces.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Bytes that are looked at together for the last line end of a file.
const TAIL_BYTES: u64 = 64 << 10;
const ENDING: &str = ".lines";
const ID: &str = "id";
const ID_LIMIT: Limit = Limit {
    bytes: 1024,
    of: "the id of a spool",
};

/// Why nothing comes. It is told to each who asks, until it is over.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub kind: Kind,
    pub message: String,
    pub hint: String,
}

impl Fault {
    pub(super) fn error(&self) -> Error {
        Error::new(self.kind, "socket.receive", &self.message).hint(&self.hint)
    }
}

#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    state: Mutex<State>,
    /// Rung when the end moves, and when something is wrong.
    came: Arc<Wake>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct State {
    /// First positions of the files, ascending; each file ends where the next one begins.
    files: Vec<i64>,
    /// Behind the last line that may be read. `None`: not known before this process has the lock.
    end: Option<i64>,
    /// Behind what the log has, as far as this process was told.
    committed: Option<i64>,
    fault: Option<Fault>,
    /// Another process received before this one, until then.
    taken_over: Option<Duration>,
}

/// What a reader meets.
#[derive(Debug)]
pub(super) struct Standing {
    pub first: i64,
    pub end: i64,
}

/// Makes the directory, and its id where it has none. `owner`: the pipeline's log; another one's lines would be taken from it.
pub(super) fn make(dir: &Path, owner: &str) -> Result<()> {
    let made = || -> io::Result<()> {
        durable_dir(dir)?;
        let path = dir.join(ID);
        if path.try_exists()? {
            return Ok(());
        }
        let how = Replace {
            durable: true,
            shared: true,
            mode: 0o666,
        };
        let id = format!("{} {owner}\n", ulid::Ulid::generate());
        let beside = write_beside(&path, id.as_bytes(), how)?;
        // Of two processes one names it.
        let named = match fs::hard_link(&beside, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            named => named,
        };
        fs::remove_file(&beside).ok();
        named?;
        File::open(dir)?.sync_all()
    };
    made().map_err(|error| failed("cannot be made", dir, error))?;
    match read_id(dir)? {
        Some((_, of)) if of != owner => {
            let message = format!("source.spool.dir holds the lines of another pipeline, {of}");
            Err(Error::new(Kind::ConfigInvalid, "socket.spool", message)
                .with("directory", dir.display())
                .hint("give each pipeline a directory of its own"))
        }
        _ => Ok(()),
    }
}

/// `None`: it is not there.
pub(super) fn id(dir: &Path) -> Result<Option<String>> {
    Ok(read_id(dir)?.map(|(id, _)| id))
}

/// With its owner.
fn read_id(dir: &Path) -> Result<Option<(String, String)>> {
    match read_text(&dir.join(ID), ID_LIMIT) {
        Ok(text) => {
            let (id, owner) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
            Ok(Some((id.to_owned(), owner.to_owned())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("cannot be read", dir, error)),
    }
}

/// A disk that is full or away may come back.
pub(super) fn failed(what: &str, dir: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => Kind::StoreFailed,
        _ => Kind::StoreUnavailable,
    };
    let message = format!("source.spool.dir {what}: {error}");
    Error::new(kind, "socket.spool", message).with("directory", dir.display())
}

fn name_of(from: i64) -> String {
    format!("{from:020}{ENDING}")
}

fn from_of(entry: &DirEntry) -> Option<i64> {
    let name = entry.file_name();
    name.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

/// The first positions of the files, and the end of whole lines in the last one.
fn listed(dir: &Path) -> io::Result<(Vec<i64>, i64)> {
    let mut files = Vec::new();
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                files.extend(from_of(&entry?));
            }
        }
    }
    files.sort_unstable();
    let Some(last) = files.last().copied() else {
        return Ok((files, 0));
    };
    let file = crate::fs::open(&dir.join(name_of(last)))?;
    let whole = whole_lines(&file)?;
    Ok((files, last.saturating_add(signed(whole))))
}

/// Bytes up to and with the last line end.
fn whole_lines(file: &File) -> io::Result<u64> {
    let mut to = file.metadata()?.len();
    while to > 0 {
        let from = to.saturating_sub(TAIL_BYTES);
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
        file.read_exact_at(&mut bytes, from)?;
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        to = from;
    }
    Ok(0)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Spool {
    pub(super) fn new(dir: &Path, clock: &Arc<dyn Clock>) -> Spool {
        let came = Arc::new(Wake::default());
        clock.rings(&came);
        Spool {
            dir: dir.to_owned(),
            state: Mutex::default(),
            came,
            clock: clock.clone(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What is on the disk now: the first position, and that behind the last whole line.
    pub(super) fn range(&self) -> Result<(i64, i64)> {
        let state = self.state();
        if let (Some(first), Some(end)) = (state.files.first(), state.end) {
            return Ok((*first, end));
        }
        drop(state);
        let (files, end) =
            listed(&self.dir).map_err(|error| failed("cannot be listed", &self.dir, error))?;
        Ok((files.first().copied().unwrap_or(0), end))
    }

    /// For one who does not receive: takes over what is there.
    pub(super) fn look(&self) -> Result<()> {
        let (files, end) =
            listed(&self.dir).map_err(|error| failed("cannot be listed", &self.dir, error))?;
        let mut state = self.state();
        (state.files, state.end) = (files, Some(end));
        drop(state);
        self.came.ring();
        Ok(())
    }

    /// `None`: nothing can be said yet. Waits at most `wait` for what lies above `at`.
    pub(super) fn above(&self, at: i64, wait: Duration) -> Option<Standing> {
        let until = self.clock.elapsed().saturating_add(wait);
        loop {
            let held = self.came.hold();
            let state = self.state();
            let standing = state.end.map(|end| Standing {
                first: state.files.first().copied().unwrap_or(end),
                end,
            });
            let comes = standing.as_ref().is_some_and(|there| there.end != at);
            let now = self.clock.elapsed();
            if comes || now >= until {
                return standing;
            }
            drop(state);
            self.came
                .wait(held, until.saturating_sub(now), self.clock.as_ref());
        }
    }

    pub(super) fn committed(&self) -> Option<i64> {
        self.state().committed
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.state().fault.clone()
    }

    /// Reading begins at what the log has.
    pub(super) fn begins(&self, at: &Position) {
        self.state().committed = Some(at.next);
    }

    /// Another process has received until now: this one's positions may be older than what that one has committed.
    pub(super) fn takes_over(&self) {
        self.state().taken_over = Some(self.clock.elapsed());
    }

    pub(super) fn took_over_within(&self, time: Duration) -> bool {
        let now = self.clock.elapsed();
        let at = self.state().taken_over;
        at.is_some_and(|at| now.saturating_sub(at) < time)
    }

    /// Whether a line begins there.
    pub(super) fn begins_line(&self, at: i64) -> io::Result<bool> {
        let (files, end) = listed(&self.dir)?;
        let above = files.partition_point(|from| *from <= at);
        let from = above.checked_sub(1).and_then(|n| files.get(n));
        let Some(from) = from.filter(|from| **from < at && at < end) else {
            return Ok(true);
        };
        let mut byte = [0];
        let before = u64::try_from(at - from - 1).unwrap_or(0);
        self.open(*from)?.read_exact_at(&mut byte, before)?;
        Ok(byte == *b"\n")
    }

    /// Something is wrong, or (`None`) not any more.
    pub(super) fn tell(&self, fault: Option<Fault>) {
        self.state().fault = fault;
        self.came.ring();
    }

    /// The file in which a position lies, by its first position, and where the next file begins.
    pub(super) fn file_of(&self, at: i64) -> Option<(i64, Option<i64>)> {
        let state = self.state();
        let above = state.files.partition_point(|from| *from <= at);
        let from = state.files.get(above.checked_sub(1)?)?;
        Some((*from, state.files.get(above).copied()))
    }

    pub(super) fn open(&self, from: i64) -> io::Result<File> {
        crate::fs::open(&self.dir.join(name_of(from)))
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> u64 {
        let state = self.state();
        let first = state.committed.or(state.files.first().copied());
        let behind = state.end.zip(first).map_or(0, |(end, first)| end - first);
        u64::try_from(behind).unwrap_or(0)
    }

    /// Deletes files of which every line is committed.
    pub(super) fn clean(&self) -> io::Result<()> {
        loop {
            let state = self.state();
            let (first, next) = (state.files.first().copied(), state.files.get(1).copied());
            let (Some(first), Some(next), Some(committed)) = (first, next, state.committed) else {
                return Ok(());
            };
            if next > committed {
                return Ok(());
            }
            drop(state);
            match fs::remove_file(self.dir.join(name_of(first))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.state().files.retain(|from| *from != first);
        }
    }

    fn moved(&self, end: i64) {
        self.state().end = Some(end);
        self.came.ring();
    }
}

/// The one that writes: it has the lock.
#[derive(Debug)]
pub(super) struct Writer {
    spool: Arc<Spool>,
    _lock: File,
    file: File,
    from: i64,
    /// Of whole lines in the file.
    bytes: u64,
    /// Written behind what is surely on the disk, and kept: after a sync that failed the system may have dropped it.
    unsynced: Vec<u8>,
    failed: bool,
}

impl Writer {
    /// `None`: another process receives. What a kill left of a line is cut off.
    pub(super) fn take_on(spool: &Arc<Spool>) -> io::Result<Option<Writer>> {
        let lock = crate::fs::create(&spool.dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let (mut files, end) = listed(&spool.dir)?;
        let (file, from) = match files.last() {
            Some(from) => (crate::fs::change(&spool.dir.join(name_of(*from)))?, *from),
            None => {
                files.push(end);
                (begin(&spool.dir, end)?, end)
            }
        };
        let bytes = u64::try_from(end - from).unwrap_or(0);
        let torn = file.metadata()?.len().saturating_sub(bytes);
        if torn > 0 {
            tracing::warn!(bytes = torn, directory = %spool.dir.display(), "a line of which the end was never received is dropped");
            file.set_len(bytes)?;
        }
        file.sync_all()?;
        let mut state = spool.state();
        state.files = files;
        drop(state);
        spool.moved(end);
        Ok(Some(Writer {
            spool: spool.clone(),
            _lock: lock,
            file,
            from,
            bytes,
            unsynced: Vec::new(),
            failed: false,
        }))
    }

    /// Whole lines. After an error it may be called again with the same ones: they take the same place.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.bytes >= SEGMENT_BYTES {
            self.sync()?;
            let from = self.from + signed(self.bytes);
            self.file = begin(&self.spool.dir, from)?;
            (self.from, self.bytes) = (from, 0);
            let mut state = self.spool.state();
            if state.files.last() != Some(&from) {
                state.files.push(from);
            }
        }
        self.file.write_all_at(lines, self.bytes)?;
        self.bytes += lines.len() as u64;
        self.unsynced.extend_from_slice(lines);
        Ok(())
    }

    /// Bytes that may not be on the disk yet.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// After this the lines may be read.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        if std::mem::replace(&mut self.failed, true) {
            let from = self.bytes - self.unsynced.len() as u64;
            self.file.write_all_at(&self.unsynced, from)?;
        }
        self.file.sync_data()?;
        self.failed = false;
        self.unsynced.clear();
        self.spool.moved(self.from + signed(self.bytes));
        Ok(())
    }
}

fn begin(dir: &Path, from: i64) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(dir.join(name_of(from)))?;
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Hears of commits. The receiver deletes what they cover.
#[derive(Debug)]
pub(super) struct Commits(pub Arc<Spool>);

impl Acknowledge for Commits {
    fn acknowledge(&self, positions: &[Position]) {
        if let Some(at) = positions.last() {
            self.0.state().committed = Some(at.next);
        }
    }

    fn flush(&self, _: Duration) -> bool {
        true
    }

    fn committed(&self, _: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        Ok(BTreeMap::new())
    }

    fn name(&self) -> &str {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn spool(dir: &Path) -> Arc<Spool> {
        make(dir, "p/z").expect("made");
        Arc::new(Spool::new(dir, &SystemClock::shared()))
    }

    fn writer(spool: &Arc<Spool>) -> Writer {
        Writer::take_on(spool).expect("taken on").expect("the lock")
    }

    #[test]
    fn what_a_kill_left_of_a_line_is_cut_off_and_whole_lines_stay() {
        let dir = tempfile::tempdir().expect("dir");
        let first = spool(dir.path());
        let id_was = id(dir.path()).expect("id");
        let other = make(dir.path(), "q/z").expect_err("of another pipeline");
        assert!(other.message().contains("another pipeline, p/z"), "{other}");
        let mut one = writer(&first);
        one.append(b"a\nbc\n").expect("append");
        // Not synced, and still there after a kill. Half a line never was a line.
        one.file.write_all_at(b"half", 5).expect("write");
        assert!(
            Writer::take_on(&first).expect("asked").is_none(),
            "one receives"
        );
        drop(one);
        let again = spool(dir.path());
        assert_eq!(again.range().expect("range"), (0, 5));
        let mut two = writer(&again);
        assert_eq!(again.above(0, Duration::ZERO).map(|at| at.end), Some(5));
        two.append(b"d\n").expect("append");
        assert_eq!(
            again.above(5, Duration::ZERO).map(|at| at.end),
            Some(5),
            "not synced"
        );
        two.sync().expect("sync");
        assert_eq!(again.above(5, Duration::ZERO).map(|at| at.end), Some(7));
        let bytes = fs::read(dir.path().join(name_of(0))).expect("read");
        assert_eq!(bytes, b"a\nbc\nd\n");
        assert_eq!(id(dir.path()).expect("id"), id_was);
        let line = |at| again.begins_line(at).expect("read");
        assert_eq!(
            [0, 1, 2, 3, 5, 7].map(line),
            [true, false, true, false, true, true]
        );
    }

    #[test]
    fn lines_that_are_written_again_after_an_error_take_the_same_place() {
        let dir = tempfile::tempdir().expect("dir");
        let spool = spool(dir.path());
        let mut writer = writer(&spool);
        writer.append(b"a\n").expect("append");
        // As a full disk leaves it.
        writer.file.write_all_at(b"bbb", 2).expect("write");
        writer.append(b"bbbb\n").expect("append");
        writer.sync().expect("sync");
        let bytes = fs::read(dir.path().join(name_of(0))).expect("read");
        assert_eq!(bytes, b"a\nbbbb\n");
    }

    #[test]
    fn files_go_when_all_of_them_is_committed_and_the_last_one_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let spool = spool(dir.path());
        let mut writer = writer(&spool);
        let mut line = vec![b'x'; usize::try_from(SEGMENT_BYTES).expect("small")];
        line.push(b'\n');
        for _ in 0..3 {
            writer.append(&line).expect("append");
        }
        writer.sync().expect("sync");
        let size = signed(SEGMENT_BYTES) + 1;
        assert_eq!(spool.range().expect("range"), (0, 3 * size));
        let commits = Commits(spool.clone());
        let committed = |next| {
            commits.acknowledge(&[Position {
                split: crate::record::SplitId::new("s"),
                epoch: 0,
                tp: TopicPartition {
                    topic: "t".into(),
                    partition: 0,
                },
                next,
            }]);
            spool.clean().expect("clean");
            spool.range().expect("range").0
        };
        assert_eq!(committed(size - 1), 0);
        assert_eq!(spool.waiting(), u64::try_from(2 * size + 1).expect("small"));
        assert_eq!(committed(size), size);
        assert_eq!(committed(3 * size), 2 * size);
        assert_eq!(spool.file_of(size), None);
        drop(writer);
        let again = Spool::new(dir.path(), &SystemClock::shared());
        assert_eq!(again.range().expect("range"), (2 * size, 3 * size));
    }
}
