//! One task's share: reads the spool. All lines are of one partition, so one task has them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::spool::{Spool, failed};
use super::unknown;
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId};
use crate::source::{Lost, LostRange, Position, ReadLimits, Source};

/// Bytes that are read at a time; a longer line takes what it needs.
const CHUNK: usize = 1 << 20;
/// The pipeline sees what another process has committed within half a second; a slow store may take longer.
const CATCH_UP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct SocketSource {
    spool: Arc<Spool>,
    limits: ReadLimits,
    clock: Arc<dyn Clock>,
    at: Option<Position>,
    /// Where it was put last: what was given since then is not committed, unless the spool heard so.
    put: i64,
    /// What is wrong, as it was told.
    told: Option<String>,
    /// The file that was read last, by its first position.
    open: Option<(i64, File)>,
    paused: bool,
    builder: BatchBuilder,
    chunk: Vec<u8>,
}

impl SocketSource {
    pub(super) fn new(spool: Arc<Spool>, limits: ReadLimits, clock: Arc<dyn Clock>) -> Self {
        SocketSource {
            spool,
            limits,
            clock,
            at: None,
            put: 0,
            told: None,
            open: None,
            paused: false,
            builder: BatchBuilder::new(),
            chunk: Vec::new(),
        }
    }

    /// The end as far as it is known now.
    fn end(&self) -> Option<i64> {
        Some(self.spool.above(i64::MIN, Duration::ZERO)?.end)
    }

    /// Lines from `at` on, of one file.
    fn batch(&mut self, at: &Position, end: i64) -> Result<Option<Batch>> {
        let Some((from, next)) = self.spool.file_of(at.next) else {
            return Err(self.lost(Lost::AgedOut(range(at, end))));
        };
        let to = next.map_or(end, |next| next.min(end));
        match self.fill(from, at.next, to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.lost(Lost::AgedOut(range(at, to))));
            }
            Err(error) => return Err(failed("cannot be read", self.spool.dir(), error)),
        }
        let now = self.clock.now_micros();
        let mut position = at.next;
        for line in self.chunk.split_inclusive(|byte| *byte == b'\n') {
            let Some(value) = line.strip_suffix(b"\n") else {
                break;
            };
            let value = value.strip_suffix(b"\r").unwrap_or(value);
            self.builder
                .push(position, Some(now), None, Some(value), std::iter::empty());
            position += i64::try_from(line.len()).unwrap_or(0);
            if self.builder.len() >= self.limits.batch_records
                || self.builder.bytes() >= self.limits.batch_bytes
            {
                break;
            }
        }
        if position == at.next {
            return Err(self.lost(Lost::AgedOut(range(at, to))));
        }
        let covers = Covers {
            split: at.split.clone(),
            epoch: at.epoch,
            tp: at.tp.clone(),
            range: OffsetRange {
                from: at.next,
                to: position,
            },
        };
        self.at = Some(Position {
            next: position,
            ..at.clone()
        });
        Ok(Some(self.builder.finish(covers)))
    }

    /// The chunk begins at a position and has one whole line at least, if there is one below `to`.
    fn fill(&mut self, from: i64, at: i64, to: i64) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != from) {
            self.open = Some((from, self.spool.open(from)?));
        }
        let Some((_, file)) = &self.open else {
            return Ok(());
        };
        let there = usize::try_from(to - at).unwrap_or(0);
        let begin = u64::try_from(at - from).unwrap_or(0);
        let mut room = CHUNK;
        loop {
            self.chunk.resize(room.min(there), 0);
            match file.read_exact_at(&mut self.chunk, begin) {
                // Somebody cut the file.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.chunk.clear(),
                read => read?,
            }
            if room >= there || self.chunk.is_empty() || self.chunk.contains(&b'\n') {
                return Ok(());
            }
            room = room.saturating_mul(2);
        }
    }

    fn put(&mut self, position: &Position) -> Result<()> {
        if let Some(there) = self.spool.above(i64::MIN, Duration::ZERO)
            && let Some(gone) = Lost::of(position, there.first, there.end)
        {
            return Err(self.lost(gone));
        }
        self.spool.begins(position);
        self.put = position.next;
        self.at = Some(position.clone());
        Ok(())
    }

    /// Just after another process received, this one's positions may be older than what that one has committed and deleted: they are
    /// asked for again.
    fn lost(&self, gone: Lost) -> Error {
        match self.spool.took_over_within(CATCH_UP) {
            true => Error::new(
                Kind::SourceUnavailable,
                "socket.read",
                "another process received before; what it has committed is looked up",
            ),
            false => lost(gone),
        }
    }

    /// What is wrong, once, and when all that was given is committed: an error makes the task drop the rest and read it again, and a server
    /// that comes and goes more often than a commit falls due would let nothing be committed.
    fn fault(&mut self, next: i64) -> Option<Error> {
        let Some(fault) = self.spool.fault() else {
            self.told = None;
            return None;
        };
        let settled = next == self.put || self.spool.committed() >= Some(next);
        if !settled || self.told.as_ref() == Some(&fault.message) {
            return None;
        }
        self.told = Some(fault.message.clone());
        Some(fault.error())
    }
}

fn range(at: &Position, to: i64) -> Vec<LostRange> {
    vec![LostRange {
        split: at.split.clone(),
        tp: at.tp.clone(),
        from: at.next,
        to,
    }]
}

fn lost(lost: Lost) -> Error {
    Error::new(Kind::SourceLost, "socket.read", "lines that should be read are not in source.spool.dir")
        .hint("lines are deleted when they are committed, and a server sends them once: put source.spool.dir back, or give the pipeline another name")
        .source(lost)
}

impl Source for SocketSource {
    fn next(&mut self, wait: Duration) -> Result<Option<Batch>> {
        let Some(at) = self.at.clone().filter(|_| !self.paused) else {
            self.clock.sleep(wait);
            return Ok(None);
        };
        let standing = self.spool.above(at.next, wait);
        if let Some(there) = standing {
            if let Some(gone) = Lost::of(&at, there.first, there.end) {
                return Err(self.lost(gone));
            }
            if there.end > at.next {
                return self.batch(&at, there.end);
            }
        }
        match self.fault(at.next) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    fn seek(&mut self, positions: &[Position]) -> Result<()> {
        for position in positions {
            let known = self.at.as_ref().map(|at| &at.split);
            if known != Some(&position.split) {
                return Err(unknown("socket.seek", position));
            }
            self.put(position)?;
        }
        Ok(())
    }

    fn assign(&mut self, positions: &[Position]) -> Result<()> {
        positions.iter().try_for_each(|at| self.put(at))
    }

    fn pause(&mut self, paused: bool) -> Result<()> {
        self.paused = paused;
        Ok(())
    }

    fn caught_up(&self) -> bool {
        let next = self.at.as_ref().map(|at| at.next);
        next.is_none_or(|next| self.end().is_some_and(|end| next >= end))
    }

    fn has_more(&self, split: &SplitId) -> bool {
        let at = self.at.as_ref().filter(|at| at.split == *split);
        at.is_some_and(|at| self.end().is_some_and(|end| at.next < end))
    }

    /// How many lines wait in so many bytes is not known before they are read.
    fn lag(&self) -> Option<u64> {
        self.caught_up().then_some(0)
    }
}
