//! Copies what expired into the archive, in a thread of its own: no commit waits for it. It takes some files at a time; the log
//! names them (`archived`) before the next ones. An archive that is away or full is told once, and asked again after growing pauses:
//! until then nothing that should be archived is deleted.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Stop, panicked, stopped};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::commit::{Archived, Leaving, Log, LogName};
use crate::config::Location;
use crate::error::{Error, Kind};
use crate::store::{self, Store};
use crate::zone;

/// Files of one thread's work: about as many as may be deleted with one entry.
const FILES_AT_ONCE: usize = 64;
/// And their bytes, so that a kill loses little: at 100 MB/s some ten seconds of copying and reading back.
const BYTES_AT_ONCE: u64 = 1 << 30;

/// Where files go, and the copying that is under way.
#[derive(Debug)]
pub struct Archiver {
    /// `archive.url`; `None`: the config names none any more.
    at: Option<Location>,
    zone: Arc<dyn Store>,
    name: LogName,
    /// A child of the pipeline's.
    stop: Stop,
    clock: Arc<dyn Clock>,
    backoff: Backoff,
    /// The archive is not asked before this time of the clock.
    again_at: Duration,
    /// Without an archive: whether it was said that files wait for one.
    said: bool,
    work: Option<JoinHandle<Worked>>,
}

/// What was copied, and what stopped it.
type Worked = (Vec<Archived>, Option<Error>);

impl Archiver {
    pub fn new(
        (zone, name): (Arc<dyn Store>, LogName),
        at: Option<Location>,
        (stop, clock, backoff): (&Stop, Arc<dyn Clock>, Backoff),
    ) -> Archiver {
        Archiver {
            at,
            zone,
            name,
            stop: stop.child(),
            clock,
            backoff,
            again_at: Duration::ZERO,
            said: false,
            work: None,
        }
    }

    /// Begins to copy what waits, and says what was copied since. Costs nothing while nothing waits.
    pub fn look(&mut self, log: &Log) -> Option<Vec<Archived>> {
        if self.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return None;
        }
        if let Some(work) = self.work.take() {
            let done = self.ended(work);
            return (!done.is_empty()).then_some(done);
        }
        if log.state().leaving.is_empty() || self.clock.elapsed() < self.again_at {
            return None;
        }
        let files = some(log.to_archive(FILES_AT_ONCE));
        if !files.is_empty() {
            self.begin(files);
        }
        None
    }

    /// For a run that ends when all is done: copies what waits, up to the first fault. `None`: nothing more.
    pub fn finish(&mut self, log: &Log) -> Option<Vec<Archived>> {
        if self.work.is_none() {
            self.look(log);
        }
        let work = self.work.take()?;
        let done = self.ended(work);
        (!done.is_empty()).then_some(done)
    }

    fn begin(&mut self, files: Vec<Leaving>) {
        let Some(at) = self.at.clone() else {
            if !std::mem::replace(&mut self.said, true) {
                tracing::warn!(
                    log = %self.name, files = files.len(),
                    "files that expired wait for an archive, and the config names none; set archive.url again, or copy them with `weir zone archive`"
                );
            }
            self.again_at = self.clock.elapsed() + self.backoff.next_wait();
            return;
        };
        let (zone, name, stop) = (self.zone.clone(), self.name.clone(), self.stop.clone());
        let now = self.clock.now_micros();
        let thread = std::thread::Builder::new().name("archive".to_owned());
        match thread.spawn(move || copy((&zone, &name), &at, &files, (&stop, now))) {
            Ok(work) => self.work = Some(work),
            Err(error) => self.failed(
                &Error::new(
                    Kind::LimitReached,
                    "pipeline.archive",
                    "no thread can be started",
                )
                .source(error),
            ),
        }
    }

    fn ended(&mut self, work: JoinHandle<Worked>) -> Vec<Archived> {
        let (done, error) = match work.join() {
            Ok(worked) => worked,
            Err(panic) => (Vec::new(), Some(panicked(panic.as_ref()))),
        };
        match error {
            Some(error) if error.kind() == Kind::Stopped => {}
            Some(error) => self.failed(&error),
            None => {
                if self.backoff.is_waiting() {
                    tracing::info!(log = %self.name, "the archive takes files again");
                }
                self.backoff.reset();
            }
        }
        done
    }

    fn failed(&mut self, error: &Error) {
        if !self.backoff.is_waiting() {
            tracing::warn!(
                log = %self.name, code = error.kind().code(), %error,
                "files that expired cannot be archived; they stay until they can"
            );
        }
        self.again_at = self.clock.elapsed() + self.backoff.next_wait();
    }
}

impl Drop for Archiver {
    /// What is half copied is taken away by a later archiver.
    fn drop(&mut self) {
        self.stop.ask(Duration::ZERO);
        if let Some(work) = self.work.take() {
            drop(work.join());
        }
    }
}

/// The first of them, by bytes; at least one.
fn some(mut files: Vec<Leaving>) -> Vec<Leaving> {
    let mut bytes = 0;
    let fits = files.iter().position(|leaving| {
        bytes += leaving.file.bytes;
        bytes > BYTES_AT_ONCE
    });
    files.truncate(fits.map_or(files.len(), |at| at.max(1)));
    files
}

/// A file that cannot be archived at all keeps no other one from it: the first such fault is told.
fn copy(
    zone: (&Arc<dyn Store>, &LogName),
    at: &Location,
    files: &[Leaving],
    (stop, now): (&Stop, i64),
) -> Worked {
    let go_on = || match stop.asked() {
        true => Err(stopped()),
        false => Ok(()),
    };
    let opened = store::open(at).and_then(|archive| {
        zone::clear_left(&archive, zone.1, now)?;
        Ok(archive)
    });
    let archive = match opened {
        Ok(archive) => archive,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let (mut done, mut fault) = (Vec::new(), None);
    for leaving in files {
        match zone::archive(zone, &leaving.file, &archive, &go_on) {
            Ok(archived) => done.push(archived),
            Err(error) if zone::is_of_the_file(&error) => fault = fault.or(Some(error)),
            Err(error) => return (done, Some(error)),
        }
    }
    (done, fault)
}
