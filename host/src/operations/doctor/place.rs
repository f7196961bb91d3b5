//! Checks directories of this machine that are written: whether they can be written, whether there is room, and whether
//! their file system's clock agrees with ours.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Patient;
use crate::config::{PipelineConfig, Source};
use crate::finding::Finding;
use crate::fs::{self, Replace};
use crate::store;

const LOOK: &str = "directory";
const CLOCK: &str = "clock";
/// File that is written as a test. Readers of a zone ignore names that begin with a dot.
const PROBE: &str = ".doctor";
/// Below this a full disk is near, for any use.
const FREE_LEAST: u64 = 64 << 20;
/// A warning is given if the free space holds fewer rounds of files than this.
const ROUNDS: u64 = 10;
/// Least number of files that may still be created.
const INODES_LEAST: u64 = 1_000;
const INODES_FEW: u64 = 100_000;
/// Largest difference to a file system's clock: leftovers of killed writers are recognised by their age.
const SKEW_MOST: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: PathBuf,
    /// The key that names it.
    key: &'static str,
    /// Only speed depends on it.
    spare: bool,
    /// Bytes that may be written there between two commits.
    round: u64,
}

/// Each directory once, in the order of the configs.
pub(super) fn all(patient: &Patient<'_>) -> Vec<Place> {
    let mut found: Vec<Place> = Vec::new();
    let mut add = |path: &Path, key, spare, round| {
        match found.iter_mut().find(|there| there.path == path) {
            Some(there) => {
                there.round += round;
                there.spare &= spare;
            }
            None => found.push(Place {
                path: path.to_owned(),
                key,
                spare,
                round,
            }),
        };
    };
    for (_, worker) in patient.workers {
        add(&worker.data_dir, "data.dir", false, 0);
        add(&worker.plugin_store, "plugin.store", false, 0);
        add(&worker.plugin_cache, "plugin.cache", true, 0);
    }
    for pipeline in patient.pipelines {
        if let Some(dir) = store::directory_of(&pipeline.home.at.url) {
            add(&dir, "sink.url", false, round(pipeline));
        }
        if let Source::Zone(zone) = &pipeline.source {
            add(&zone.spill_dir, "spill.dir", false, 0);
        }
        add(&pipeline.plugin_store, "plugin.store", false, 0);
        add(&pipeline.plugin_cache, "plugin.cache", true, 0);
    }
    found
}

/// Most bytes of a pipeline's open files: uncommitted data is stored beside committed data.
fn round(pipeline: &PipelineConfig) -> u64 {
    pipeline.sink.bytes_at_once() * pipeline.tasks_max as u64
}

impl Place {
    pub(super) fn examine(&self, tell: &mut dyn FnMut(Finding)) {
        let shown = self.path.display().to_string();
        let at = Some(shown.as_str());
        let there = nearest(&self.path);
        let whole = there == self.path;
        let written = match written(&there) {
            Ok(time) => time,
            Err(e) => {
                tell(self.refused(at, &there, &e));
                return;
            }
        };
        tell(self.room(at, &there, whole));
        if self.key == "sink.url" {
            tell(agrees(at, written));
        }
    }

    fn refused(&self, at: Option<&str>, there: &Path, e: &io::Error) -> Finding {
        let says = match there == self.path {
            true => format!("{} cannot be written: {e}", self.key),
            false => format!(
                "{} is not there, and {} cannot be written: {e}",
                self.key,
                there.display()
            ),
        };
        let hint = format!(
            "give this user the right to write there, or change {}",
            self.key
        );
        match self.spare {
            true => Finding::warn(LOOK, at, format!("{says}; it is only slower without"), hint),
            false => Finding::fail(LOOK, at, says, hint),
        }
    }

    fn room(&self, at: Option<&str>, there: &Path, whole: bool) -> Finding {
        let state = match whole {
            true => format!("{} can be written", self.key),
            false => format!("{} is not there yet and can be made", self.key),
        };
        let room = match fs::room(there) {
            Ok(room) => room,
            Err(e) => {
                let says = format!("{state}; how much room there is cannot be read: {e}");
                return Finding::warn(LOOK, at, says, "look at the disk by other means");
            }
        };
        let files = room.files.map(|n| format!(" and {n} files"));
        let says = format!(
            "{state}; room for {}{}",
            mib(room.bytes),
            files.unwrap_or_default()
        );
        const FREE: &str = "free space, or name a directory on a larger disk";
        let short = |bytes: u64, files: u64| {
            room.bytes < bytes || room.files.is_some_and(|found| found < files)
        };
        match () {
            () if short(self.round.max(FREE_LEAST), INODES_LEAST) => {
                Finding::fail(LOOK, at, says, FREE)
            }
            () if short(self.round * ROUNDS, INODES_FEW) => Finding::warn(LOOK, at, says, FREE),
            () => Finding::pass(LOOK, at, says),
        }
    }
}

fn mib(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ 0..10_240 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}

/// The directory itself, or the nearest existing one above it.
fn nearest(path: &Path) -> PathBuf {
    let mut dirs = path.ancestors();
    let found = dirs.find(|dir| !dir.as_os_str().is_empty() && dir.exists());
    found.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// Writes a small file and removes it. Returns the time that its file system gave it.
fn written(dir: &Path) -> io::Result<SystemTime> {
    let how = Replace {
        durable: false,
        shared: true,
        mode: 0o600,
    };
    let file = fs::write_beside(&dir.join(PROBE), b"weir doctor", how)?;
    let time = std::fs::metadata(&file).and_then(|found| found.modified());
    std::fs::remove_file(&file)?;
    time
}

fn agrees(at: Option<&str>, written: SystemTime) -> Finding {
    let now = SystemTime::now();
    let off = match now.duration_since(written) {
        Ok(off) => off,
        Err(e) => e.duration(),
    };
    let says = format!(
        "its file system and this machine are {} ms apart",
        off.as_millis()
    );
    match off > SKEW_MOST {
        true => Finding::warn(CLOCK, at, says, "set the clocks of both by NTP"),
        false => Finding::pass(CLOCK, at, says),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    fn place(path: &Path, round: u64) -> Place {
        Place {
            path: path.to_owned(),
            key: "sink.url",
            spare: false,
            round,
        }
    }

    fn looks(place: &Place) -> Vec<Finding> {
        let mut found = Vec::new();
        place.examine(&mut |finding| found.push(finding));
        found
    }

    #[test]
    fn a_directory_that_cannot_be_written_fails_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let found = looks(&place(&dir.path().join("a/b"), 0));
        assert!(found[0].says.contains("can be made"), "{found:?}");
        assert_eq!(found[1].look, CLOCK);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

        let file = dir.path().join("file");
        std::fs::write(&file, b"").unwrap();
        // Nobody can write below /proc, not even root.
        for path in [file.join("zone"), PathBuf::from("/proc/zone")] {
            let found = looks(&place(&path, 0));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].verdict, Verdict::Fail, "{found:?}");
            assert!(found[0].hint.as_ref().unwrap().contains("sink.url"));
            let spare = Place {
                spare: true,
                ..place(&path, 0)
            };
            assert_eq!(looks(&spare)[0].verdict, Verdict::Warn);
        }
    }

    #[test]
    fn a_disk_without_room_for_what_is_open_fails() {
        let dir = tempfile::tempdir().unwrap();
        let verdict = |round| looks(&place(dir.path(), round))[0].verdict;
        let free = fs::room(dir.path()).unwrap().bytes;
        assert_eq!(verdict(free * 2), Verdict::Fail);
        assert_eq!(verdict(free / 2), Verdict::Warn);
    }

    #[test]
    fn a_clock_that_is_off_is_told() {
        let now = SystemTime::now();
        let off = |seconds| agrees(None, now + Duration::from_secs(seconds)).verdict;
        assert_eq!(off(0), Verdict::Pass);
        assert_eq!(off(3600), Verdict::Warn);
        let before = agrees(None, now - Duration::from_secs(3600));
        assert_eq!(before.verdict, Verdict::Warn);
    }
}
