//! One task's share: partition after partition, one file open at a time, the file that was taken first before the others.

use std::sync::Arc;
use std::time::Duration;

use super::list::{Entry, Place};
use super::reader::{self, Reader, counts_records};
use super::shared::Shared;
use super::split::{Stop, gone};
use super::unknown;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId};
use crate::source::{Lost, LostRange, Position, ReadLimits, Source};

/// Longest sleep at a time while the first listing is under way.
const BEGIN_STEP: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct FileSource {
    shared: Arc<Shared>,
    limits: ReadLimits,
    shares: Vec<Share>,
    /// The share that is being read, and its file.
    open: Option<(usize, Open)>,
    /// What ended the last batch, and is told when that batch is given away.
    stopped: Option<Error>,
    paused: bool,
    builder: BatchBuilder,
}

/// One partition.
#[derive(Debug)]
struct Share {
    at: Position,
    /// The file in which it stands, or its next one, once it was looked for.
    file: Option<Place>,
}

#[derive(Debug)]
struct Open {
    place: Place,
    reader: Reader,
}

/// What became of one file.
enum Step {
    /// Records of it are in the batch, perhaps its end too.
    Read,
    /// It is not what it was when it was opened, or the store does not say.
    Changed(Option<Error>),
    NoFile,
    /// Records of it are still to be passed over.
    Passing,
}

impl FileSource {
    pub(super) fn new(shared: Arc<Shared>, limits: ReadLimits) -> FileSource {
        FileSource {
            shared,
            limits,
            shares: Vec::new(),
            open: None,
            stopped: None,
            paused: false,
            builder: BatchBuilder::new(),
        }
    }

    /// The file of a share that is read next; looked for once.
    fn file_of(&mut self, index: usize) -> Result<Option<Place>> {
        let Some(share) = self.shares.get_mut(index) else {
            return Ok(None);
        };
        if share.file.is_none() {
            let partition = share.at.tp.partition;
            share.file = self.shared.file_at(partition, share.at.next)?;
        }
        Ok(share.file.clone())
    }

    /// The share whose next file was taken first.
    fn choose(&mut self) -> Result<Option<usize>> {
        if let Some((index, _)) = self.open {
            return Ok(Some(index));
        }
        let mut first: Option<(u32, usize)> = None;
        for index in 0..self.shares.len() {
            if let Some(place) = self.file_of(index)?
                && first.is_none_or(|(ordinal, _)| place.ordinal < ordinal)
            {
                first = Some((place.ordinal, index));
            }
        }
        Ok(first.map(|(_, index)| index))
    }

    fn is_full(&self) -> bool {
        self.builder.len() >= self.limits.batch_records
            || self.builder.bytes() >= self.limits.batch_bytes
    }

    /// As many records of one partition as a batch holds, of one file or of several.
    fn batch(&mut self, index: usize) -> Result<Option<Batch>> {
        let Some(from) = self.shares.get(index).map(|share| share.at.next) else {
            return Ok(None);
        };
        while !self.is_full() {
            match self.read_on(index) {
                Ok(Step::Read) => {}
                Ok(Step::NoFile | Step::Passing) => break,
                Ok(Step::Changed(why)) => return self.forget(index, from, why),
                // What came before it is given first.
                Err(error) => {
                    self.open = None;
                    if let Some(share) = self.shares.get_mut(index) {
                        share.file = None;
                    }
                    self.stopped = Some(error);
                    break;
                }
            }
        }
        let Some(share) = self.shares.get(index) else {
            return Ok(None);
        };
        self.shared.has_read(share.at.tp.partition, share.at.next);
        let covers = Covers {
            split: share.at.split.clone(),
            epoch: share.at.epoch,
            tp: share.at.tp.clone(),
            range: OffsetRange {
                from,
                to: share.at.next,
            },
        };
        let moved = from < share.at.next;
        match (moved, self.stopped.take()) {
            (true, stopped) => {
                self.stopped = stopped;
                Ok(Some(self.builder.finish(covers)))
            }
            (false, Some(error)) => Err(error),
            (false, None) => Ok(None),
        }
    }

    /// Nothing is handed on of what was read since a position: it may be of a file that was written to meanwhile. The next
    /// call reads on from there.
    fn forget(&mut self, index: usize, from: i64, why: Option<Error>) -> Result<Option<Batch>> {
        self.open = None;
        self.builder = BatchBuilder::new();
        if let Some(share) = self.shares.get_mut(index) {
            share.at.next = from;
            share.file = None;
        }
        why.map_or(Ok(None), Err)
    }

    /// Records of one file until the batch is full or the file has ended.
    fn read_on(&mut self, index: usize) -> Result<Step> {
        let mut open = match self.open.take() {
            Some((_, open)) => open,
            None => match self.open_next(index)? {
                Some(open) => open,
                None => return Ok(Step::NoFile),
            },
        };
        let (limits, builder) = (self.limits, &mut self.builder);
        let Some(share) = self.shares.get_mut(index) else {
            return Ok(Step::NoFile);
        };
        let Open { place, reader } = &mut open;
        let Some(entry) = place.entry() else {
            return Ok(Step::NoFile);
        };
        let arrived = reader.has_arrived();
        let filled = arrived.and_then(|arrived| match arrived {
            true => fill((builder, limits), (reader, entry), &mut share.at.next),
            false => Ok(Filled::Passing),
        });
        match reader.still_the_same() {
            Ok(true) => {}
            Ok(false) => return Ok(Step::Changed(None)),
            Err(error) => return Ok(Step::Changed(Some(error))),
        }
        match filled {
            Ok(Filled::Batch) => {
                self.open = Some((index, open));
                Ok(Step::Read)
            }
            Ok(Filled::Passing) => {
                self.open = Some((index, open));
                Ok(Step::Passing)
            }
            Ok(Filled::Ended) => {
                share.at.next = entry.end();
                share.file = following(place, share.at.tp.partition);
                Ok(Step::Read)
            }
            Err(stop) => {
                let at = share.at.clone();
                Err(self.told(stop, entry, &at))
            }
        }
    }

    fn open_next(&mut self, index: usize) -> Result<Option<Open>> {
        let Some(place) = self.file_of(index)? else {
            return Ok(None);
        };
        let (Some(entry), Some(share)) = (place.entry(), self.shares.get(index)) else {
            return Ok(None);
        };
        let from = share.at.next.saturating_sub(entry.at);
        let shared = &self.shared;
        match reader::open(shared.input.as_ref(), &shared.config, entry, from) {
            Ok(reader) => Ok(Some(Open {
                place: place.clone(),
                reader,
            })),
            Err(stop) => Err(self.told(stop, entry, &share.at)),
        }
    }

    fn told(&self, stop: Stop, entry: &Entry, at: &Position) -> Error {
        told(&self.shared, stop, entry, (at, entry.end()))
    }

    fn wait(&self, time: Duration) {
        wait(&self.shared, time);
    }

    fn index_of(&self, split: &SplitId) -> Option<usize> {
        let mut shares = self.shares.iter();
        shares.position(|share| share.at.split == *split)
    }
}

pub(super) fn wait(shared: &Shared, time: Duration) {
    if !time.is_zero() {
        shared.clock.sleep(time);
    }
}

/// A file that cannot be read on: with what is left of it, from a position to another, for a gap.
pub(super) fn told(
    shared: &Shared,
    stop: Stop,
    entry: &Entry,
    (at, to): (&Position, i64),
) -> Error {
    let (byte, why) = match stop {
        Stop::Failed(error) => return error,
        Stop::Bad { at, why } => (at, why),
        Stop::Gone { replaced } => (0, gone(replaced).to_owned()),
    };
    let config = &shared.config;
    let inside = at.next.saturating_sub(entry.at);
    let read = match counts_records(config, &entry.path) {
        true => format!("{inside} records"),
        false => format!("{inside} bytes"),
    };
    if config.skips_bad {
        tracing::warn!(
            store = config.at.url,
            path = entry.path,
            byte,
            read,
            why,
            "a file cannot be read to its end; what is left of it is skipped"
        );
    }
    let lost = Lost::AgedOut(vec![LostRange {
        split: at.split.clone(),
        tp: at.tp.clone(),
        from: at.next,
        to,
    }]);
    Error::new(
        Kind::SourceLost,
        "file.read",
        format!("{}: {why}", entry.path),
    )
    .with("store", &config.at.url)
    .with("byte", byte)
    .with("read", read)
    .with("position", format!("{}@{}", at.tp, at.next))
    .hint(match config.follows {
        true => FOLLOWED_HINT,
        false => BAD_HINT,
    })
    .source(lost)
}

const BAD_HINT: &str = "put the file back as it was when it was taken; or set source.on.bad.file = \"skip\": what is left of it is then \
                        recorded as a gap, and reading goes on with the next file";
const FOLLOWED_HINT: &str = "put the file back as it was; or set source.on.bad.file = \"skip\": what was left of it is then recorded as a \
                             gap, and the file that has its name now is read from its beginning";

/// Why no more is read of a file now.
enum Filled {
    /// The batch is full.
    Batch,
    /// It has taken long enough without a record.
    Passing,
    /// The file has ended.
    Ended,
}

/// `next` is where reading goes on.
fn fill(
    (builder, limits): (&mut BatchBuilder, ReadLimits),
    (reader, entry): (&mut Reader, &Entry),
    next: &mut i64,
) -> Result<Filled, Stop> {
    while builder.len() < limits.batch_records && builder.bytes() < limits.batch_bytes {
        let Some(record) = reader.next()? else {
            return Ok(match reader.has_its_end()? {
                true => Filled::Ended,
                false => Filled::Passing,
            });
        };
        builder.push(
            entry.at.saturating_add(record.at),
            Some(entry.modified),
            Some(entry.path.as_bytes()),
            Some(record.value),
            std::iter::empty(),
        );
        *next = entry.at.saturating_add(record.next);
    }
    Ok(Filled::Batch)
}

/// The next file of a partition, if it stands in the same document.
fn following(place: &Place, partition: i32) -> Option<Place> {
    let behind = place.document.files.iter().enumerate();
    let mut behind = behind.skip(place.index + 1);
    let (index, _) = behind.find(|(_, entry)| entry.partition == partition)?;
    let step = u32::try_from(index - place.index).ok()?;
    Some(Place {
        document: place.document.clone(),
        index,
        ordinal: place.ordinal.checked_add(step)?,
    })
}

impl Source for FileSource {
    fn next(&mut self, wait: Duration) -> Result<Option<Batch>> {
        if let Some(error) = self.stopped.take() {
            return Err(error);
        }
        if self.paused {
            self.wait(wait);
            return Ok(None);
        }
        if !self.shared.has_begun()? {
            self.wait(wait.min(BEGIN_STEP));
            return Ok(None);
        }
        if let Some(index) = self.choose()? {
            return self.batch(index);
        }
        if !self.shared.take_more()? {
            self.wait(wait);
        }
        Ok(None)
    }

    fn seek(&mut self, positions: &[Position]) -> Result<()> {
        self.open = None;
        self.stopped = None;
        for position in positions {
            let index = self.index_of(&position.split);
            let share = index.and_then(|index| self.shares.get_mut(index));
            let share = share.ok_or_else(|| unknown("file.seek", position))?;
            share.at = position.clone();
            share.file = None;
            let partition = position.tp.partition;
            self.shared.begins(partition, position.next);
            self.shared.has_read(partition, position.next);
        }
        Ok(())
    }

    fn assign(&mut self, positions: &[Position]) -> Result<()> {
        for at in positions {
            self.shared.begins(at.tp.partition, at.next);
            self.shared.has_read(at.tp.partition, at.next);
            self.shares.push(Share {
                at: at.clone(),
                file: None,
            });
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool) -> Result<()> {
        self.paused = paused;
        Ok(())
    }

    fn caught_up(&self) -> bool {
        let mut shares = self.shares.iter();
        self.stopped.is_none()
            && shares.all(|share| self.shared.is_at_end(share.at.tp.partition, share.at.next))
    }

    fn has_more(&self, split: &SplitId) -> bool {
        let share = self.index_of(split).and_then(|at| self.shares.get(at));
        share.is_some_and(|share| {
            let shared = &self.shared;
            shared.has_more(share.at.tp.partition, share.at.next)
        })
    }

    /// How many records wait in files nobody knows before they are read.
    fn lag(&self) -> Option<u64> {
        self.caught_up().then_some(0)
    }
}
