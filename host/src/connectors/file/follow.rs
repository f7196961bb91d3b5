//! Files that are read while they grow: `source.follow`.
//!
//! - A line is a record when its end is there. A last one without an end waits, until its file has another name and nothing comes
//!   to it any more.
//! - A file is recognised by its inode and by the bytes before the position (`marks`). Under another name it is read to its end,
//!   then the new one of its name. What was cut, written anew or replaced is a bad file.
//! - One task reads its files in turn, so that one that is written all the time keeps nobody else waiting.

use std::sync::Arc;
use std::time::Duration;

use super::list::{Entry, Place};
use super::marks::Mark;
use super::places::may_be_read;
use super::shared::{Shared, before};
use super::source::{told, wait};
use super::split::Stop;
use super::text::{IDLE, Line, Text};
use super::unknown;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, BatchBuilder, Covers, OffsetRange, SplitId};
use crate::source::{Position, ReadLimits, Source};
use crate::store::{Found, Input};

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;
/// How often it is looked which file has the name now.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A file that has another name is left when nothing came for this time: its writer may still have it open.
const QUIET: Duration = Duration::from_secs(5);
/// The part of a task's memory that lines without an end may take, of all its files together.
const OPEN_PART: usize = 4;
/// Longest sleep at a time while nothing comes.
const STEP: Duration = Duration::from_millis(100);
/// A deleted file may come back under another name: its directory is listed this often at most, after [`STEP`] at first. (A new file of
/// its name is found by the source's listing.)
const LOOK_GONE_MAX: Duration = Duration::from_secs(30);
const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    limits: ReadLimits,
    lanes: Vec<Lane>,
    /// The lane that is read next.
    turn: usize,
    /// What ended the last batch, and is told when that batch is given away.
    stopped: Option<Error>,
    paused: bool,
    builder: BatchBuilder,
}

/// One partition: the files of one name.
#[derive(Debug)]
struct Lane {
    at: Position,
    open: Option<Growing>,
    /// Everything that was there is read.
    at_end: bool,
    /// Nothing is to be read of the file at the position: it was deleted when all that was known of it was read, or its name is
    /// not followed any more.
    gone: bool,
    /// A deleted file was told.
    told_gone: bool,
    /// Nothing is looked for until then.
    rests: Option<Rest>,
    /// Its line without an end was let go: it is read again when the file is another than this.
    let_go: Option<Found>,
}

/// Why nothing is looked for in a lane now.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Duration,
    wait: Duration,
    /// Where the list ended: behind it stands a file to go on with.
    end: i64,
}

impl Rest {
    /// Twice as long as the one before.
    fn after(before: Option<Rest>, now: Duration, end: i64) -> Rest {
        let wait = before.map_or(STEP, |rest| rest.wait * 2).min(LOOK_GONE_MAX);
        Rest {
            until: now.saturating_add(wait),
            wait,
            end,
        }
    }
}

impl Lane {
    fn at(at: Position) -> Lane {
        Lane {
            at,
            open: None,
            at_end: false,
            gone: false,
            told_gone: false,
            rests: None,
            let_go: None,
        }
    }

    fn open_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.text.rest().len())
    }
}

/// A file that is open.
#[derive(Debug)]
struct Growing {
    place: Place,
    input: Box<dyn Input>,
    text: Text,
    /// When it was looked which file has the name.
    looked: Option<Duration>,
    /// Since when another one has it, and nothing came from this one.
    renamed: Option<Duration>,
    /// Since when no file has its name, and nothing came from this one.
    nameless: Option<Duration>,
    /// No file of its directory is this one any more. It stays open, so that nobody gets its inode.
    deleted: bool,
}

impl Growing {
    /// Of the entry's file from a byte on; `None` where nothing of this name is there yet.
    fn open(shared: &Shared, place: Place, from: u64) -> Result<Option<Growing>, Stop> {
        let Some(entry) = place.entry().filter(|entry| !entry.is_open()) else {
            return Ok(None);
        };
        let of = (entry, place.ordinal);
        let mut input = recognised(shared, of)?;
        let has = input.look_again().map_err(Stop::Failed)?.size;
        if has < from {
            return Err(changed(from, has));
        }
        if !is_marked(shared, of, input.as_mut())? {
            let mark = shared.mark(entry.partition, place.ordinal);
            return Err(other_bytes(mark.map_or(from, |mark| mark.byte)));
        }
        let before = before(input.as_mut(), from).map_err(Stop::Failed)?;
        let text = Text::at(from, before, shared.config.cr_ends);
        Ok(Some(Growing {
            place,
            input,
            text,
            looked: None,
            renamed: None,
            nameless: None,
            deleted: false,
        }))
    }

    /// Reads more; false at the end of the file. Bytes that do not continue what was read are not used. `open_max`: of a line that has
    /// no end.
    fn more(&mut self, record_max: usize, open_max: usize) -> Result<bool, Stop> {
        let open = self.text.rest().len();
        let (end, tail) = (self.text.end(), self.text.tail().to_vec());
        let has = self.input.look_again().map_err(Stop::Failed)?.size;
        if has < end {
            return Err(changed(end, has));
        }
        if open > open_max {
            let why = format!(
                "a line begins here of which {open} bytes have no end yet: a task holds {open_max} of them at most, a quarter of its share of memory.budget; raise memory.budget"
            );
            return Err(Stop::Bad {
                at: self.text.at,
                why,
            });
        }
        if has == end {
            self.text.shrink();
            return Ok(false);
        }
        if open > record_max {
            let why = format!(
                "a line begins here that is longer than {record_max} bytes (source.record.max.bytes)"
            );
            return Err(Stop::Bad {
                at: self.text.at,
                why,
            });
        }
        let from = end - tail.len() as u64;
        let read = self.input.read(from, tail.len() + CHUNK);
        let read = read.map_err(Stop::Failed)?;
        match read.strip_prefix(tail.as_slice()) {
            Some(more) => {
                self.text.add(more);
                self.renamed = None;
                self.nameless = None;
                self.deleted = false;
                Ok(!more.is_empty())
            }
            None => Err(other_bytes(end)),
        }
    }

    /// Whether it has another name, a new file has this one, and nothing comes to it any more. Of one that is deleted: whether its
    /// partition was given to another name.
    fn is_left(&mut self, shared: &Shared) -> Result<bool> {
        let Some(entry) = self.place.entry() else {
            return Ok(false);
        };
        let now = shared.clock.elapsed();
        let since = self.looked.map(|looked| now.saturating_sub(looked));
        if since.is_none_or(|since| since >= LOOK_EVERY) {
            self.looked = Some(now);
            let named = shared.input.inputs().look(&entry.path)?;
            match named {
                Some(named) if named.node() != self.input.found().node() => {
                    self.renamed.get_or_insert(now);
                    (self.nameless, self.deleted) = (None, false);
                }
                Some(_) => (self.renamed, self.nameless, self.deleted) = (None, None, false),
                // The new one will come.
                None => {
                    self.renamed = None;
                    let since = *self.nameless.get_or_insert(now);
                    if !self.deleted && now.saturating_sub(since) >= QUIET {
                        self.deleted = is_gone(shared, &self.place);
                        self.nameless = None;
                    }
                }
            }
        }
        if self.deleted && shared.end(entry.partition) > entry.end() {
            return Ok(true);
        }
        let quiet = self.renamed.map(|since| now.saturating_sub(since));
        Ok(quiet.is_some_and(|quiet| quiet >= QUIET))
    }
}

fn changed(end: u64, has: u64) -> Stop {
    Stop::Bad {
        at: has,
        why: format!("it has {has} bytes, and {end} were read: it was cut or replaced"),
    }
}

fn other_bytes(end: u64) -> Stop {
    Stop::Bad {
        at: end,
        why: format!(
            "it has other bytes before byte {end} than those that were read: it was cut or replaced"
        ),
    }
}

/// Whether the file at a position has so many bytes by now. One that cannot be found now decides nothing.
pub(super) fn may_go_on_at(shared: &Shared, partition: i32, next: i64) -> Result<()> {
    let place = shared.file_at(partition, next)?;
    let ordinal = place.as_ref().map_or(0, |place| place.ordinal);
    let Some(entry) = place.as_ref().and_then(Place::entry) else {
        return Ok(());
    };
    let byte = u64::try_from(next.saturating_sub(entry.at)).unwrap_or(0);
    if entry.is_open() {
        return Ok(());
    }
    match recognised(shared, (entry, ordinal)) {
        Ok(mut input) => is_inside(&entry.path, byte, input.look_again()?.size),
        Err(_) => Ok(()),
    }
}

/// A byte that a person names of a file of so many bytes.
pub(super) fn is_inside(path: &str, byte: u64, size: u64) -> Result<()> {
    if byte <= size {
        return Ok(());
    }
    let message = format!("{path} has {size} bytes, and byte {byte} lies behind its end");
    Err(Error::new(Kind::ConfigInvalid, "file.position", message)
        .hint(format!("name a byte from 0 to {size}, where a line begins")))
}

/// The file of an entry is in its directory no more.
pub(super) fn is_gone(shared: &Shared, place: &Place) -> bool {
    let of = |entry| recognised(shared, (entry, place.ordinal));
    let found = place.entry().map(of);
    matches!(found, Some(Err(Stop::Gone { .. })))
}

/// The file of an entry, with its number in the list, under whichever name of its directory it has now. Under another name it has what was
/// read of it: another file may have got its inode.
fn recognised(shared: &Shared, (entry, ordinal): (&Entry, u32)) -> Result<Box<dyn Input>, Stop> {
    let inputs = shared.input.inputs();
    let node = entry.found().node().map(str::to_owned);
    let is = |input: &dyn Input| input.found().node() == node.as_deref();
    let named = inputs.open_input(&entry.path).map_err(Stop::Failed)?;
    let is_there = named.is_some();
    let may = |path: &str| may_be_read(&shared.config, shared.input.as_ref(), path);
    if let Some(input) = named.filter(|input| is(input.as_ref())) {
        return may(&entry.path).map(|()| input).map_err(Stop::Failed);
    }
    let dir = entry.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut other = None;
    let walked = inputs.list_dir(dir, &mut |found| {
        if found.node() == node.as_deref() {
            other.get_or_insert(found.path);
        }
        Ok(())
    });
    walked.map_err(Stop::Failed)?;
    if let Some(path) = other
        && let Some(mut input) = inputs.open_input(&path).map_err(Stop::Failed)?
        && is(input.as_ref())
        && is_marked(shared, (entry, ordinal), input.as_mut())?
    {
        may(&path).map_err(Stop::Failed)?;
        tracing::info!(
            store = shared.config.at.url,
            path = entry.path,
            now = path,
            "the file has another name now; it is read to its end there"
        );
        return Ok(input);
    }
    Err(Stop::Gone { replaced: is_there })
}

/// Whether a file has the bytes that were read last of an entry's. True where none were.
fn is_marked(
    shared: &Shared,
    (entry, ordinal): (&Entry, u32),
    input: &mut dyn Input,
) -> Result<bool, Stop> {
    let Some(mark) = shared.mark(entry.partition, ordinal) else {
        return Ok(true);
    };
    let has = input.look_again().map_err(Stop::Failed)?.size;
    Ok(has >= mark.byte && mark.is(&before(input, mark.byte).map_err(Stop::Failed)?))
}

/// Why no more is read of a lane now.
enum Filled {
    /// The batch is full.
    Batch,
    /// Nothing more is there.
    End,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, limits: ReadLimits) -> Follower {
        Follower {
            shared,
            limits,
            lanes: Vec::new(),
            turn: 0,
            stopped: None,
            paused: false,
            builder: BatchBuilder::new(),
        }
    }

    /// The next batch of a lane. `None`: nothing came.
    fn batch(&mut self, index: usize) -> Result<Option<Batch>> {
        let Some(lane) = self.lanes.get_mut(index) else {
            return Ok(None);
        };
        let from = lane.at.next;
        let filled = fill(&self.shared, (&mut self.builder, self.limits), lane);
        match filled {
            Ok(filled) => lane.at_end = matches!(filled, Filled::End),
            Err(failed) => {
                let open = lane.open.take();
                marked(&self.shared, &lane.at, open.as_ref());
                self.stopped = Some(match *failed {
                    (Stop::Failed(error), _) => error,
                    (stop, Some(entry)) => {
                        let to = given_up(&self.shared, &entry, lane.at.next, open);
                        told(&self.shared, stop, &entry, (&lane.at, to))
                    }
                    (stop, None) => unknown("file.follow", &lane.at).with("why", stop),
                });
            }
        }
        let to = lane.at.next;
        if from == to {
            return self.stopped.take().map_or(Ok(None), Err);
        }
        marked(&self.shared, &lane.at, lane.open.as_ref());
        self.shared.has_read(lane.at.tp.partition, to);
        Ok(Some(self.builder.finish(Covers {
            split: lane.at.split.clone(),
            epoch: lane.at.epoch,
            tp: lane.at.tp.clone(),
            range: OffsetRange { from, to },
        })))
    }

    /// Of lines that have no end yet.
    pub(super) fn open_bytes(&self) -> usize {
        self.lanes.iter().map(Lane::open_bytes).sum()
    }

    /// Lines without an end stay within the task's share: those of other lanes than the one that was just read are let go. A file that was
    /// renamed keeps its line: it is left in a moment.
    fn let_go(&mut self, read: usize) {
        let most = self.limits.memory / OPEN_PART;
        let mut held = self.open_bytes();
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let bytes = lane.open_bytes();
            let may = |open: &&Growing| open.renamed.is_none() && bytes > IDLE && index != read;
            if held <= most {
                return;
            }
            let found = lane.open.as_ref().filter(may);
            if let Some(found) = found.map(|open| open.input.found().clone()) {
                lane.let_go = Some(found);
                lane.open = None;
                held -= bytes;
            }
        }
    }

    fn index_of(&self, split: &SplitId) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.at.split == *split)
    }

    /// The list has nothing behind the file that is read.
    fn is_last(&self, lane: &Lane) -> bool {
        let shared = &self.shared;
        let partition = lane.at.tp.partition;
        let entry = lane.open.as_ref().and_then(|open| open.place.entry());
        let end = entry.map_or(lane.at.next, Entry::end);
        lane.gone || shared.end(partition) <= end || shared.waits(partition)
    }
}

/// Boxed, as it is large and rare.
type Failed = Box<(Stop, Option<Entry>)>;

/// Remembers what was read last of a file.
fn marked(shared: &Shared, at: &Position, open: Option<&Growing>) {
    // A mark at the beginning would be one of any file.
    if let Some(open) = open.filter(|open| open.text.at > 0) {
        let text = &open.text;
        let mark = Mark::of(open.place.ordinal, text.at, text.before());
        shared.has_marked(at.tp.partition, mark);
    }
}

/// Where the gap ends that stands for the rest of a file which cannot be read on. What is left of it is counted where it is the file that
/// was read; of one that was cut, replaced or deleted nobody knows how much is lost, and one byte stands for it. The positions behind have
/// no records.
fn given_up(shared: &Shared, entry: &Entry, next: i64, open: Option<Growing>) -> i64 {
    let rest = open.and_then(|mut open| {
        let found = open.input.look_again().ok()?.clone();
        let at = open.text.at;
        let there = before(open.input.as_mut(), at).ok()?;
        let is_same = found.size > at && there == open.text.before();
        is_same.then(|| (found.size - at, found))
    });
    let (bytes, same) = rest.map_or((1, None), |(bytes, found)| (bytes, Some(found)));
    let to = next.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    let to = to.min(entry.end());
    shared.leaves(entry, to, same);
    to
}

/// Opens the file at the position of a lane; false: nothing is to be read there now.
fn open(shared: &Shared, lane: &mut Lane) -> Result<bool, Failed> {
    let store = |error: Error| Box::new((Stop::Failed(error), None));
    let partition = lane.at.tp.partition;
    let now = shared.clock.elapsed();
    if let Some(was) = &lane.let_go {
        let named = shared.input.inputs().look(&was.path).map_err(store)?;
        let same = |now: &Found| now.size == was.size && now.node() == was.node();
        if named.as_ref().is_some_and(same) {
            return Ok(false);
        }
        lane.let_go = None;
    }
    let rests = |rest: Rest| now < rest.until && shared.end(partition) == rest.end;
    if lane.rests.is_some_and(rests) {
        return Ok(false);
    }
    loop {
        let place = shared.file_at(partition, lane.at.next).map_err(store)?;
        let Some(place) = place else {
            return Ok(false);
        };
        let entry = place.entry().cloned();
        let is_ours = |entry: &Entry| shared.follows(&entry.path);
        lane.gone = !entry.as_ref().is_none_or(is_ours);
        if lane.gone {
            return Ok(false);
        }
        let at = entry.as_ref().map_or(0, |entry| entry.at);
        let from = u64::try_from(lane.at.next.saturating_sub(at)).unwrap_or(0);
        let opened = Growing::open(shared, place, from);
        let (replaced, entry) = match (opened, entry) {
            (Err(Stop::Gone { replaced }), Some(entry)) => (replaced, entry),
            (opened, entry) => {
                lane.open = opened.map_err(|stop| Box::new((stop, entry)))?;
                lane.rests = None;
                return Ok(lane.open.is_some());
            }
        };
        // One that was seen to be gone is not replaced by what comes later.
        if entry.found().size > from || replaced && !lane.told_gone {
            return Err(Box::new((Stop::Gone { replaced }, Some(entry))));
        }
        if !std::mem::replace(&mut lane.told_gone, true) && from > 0 {
            tracing::warn!(
                store = shared.config.at.url,
                path = entry.path,
                bytes = from,
                "the file was deleted while nobody read it; whether lines came to it after these bytes is not known. A new file of its name is read when it comes"
            );
        }
        let end = shared.end(partition);
        if end <= entry.end() {
            lane.gone = true;
            lane.rests = Some(Rest::after(lane.rests, now, end));
            return Ok(false);
        }
        lane.at.next = entry.end();
        lane.told_gone = false;
        lane.rests = None;
    }
}

/// Whole lines of a lane until the batch is full or nothing more is there. The position of the lane is where reading goes on.
fn fill(
    shared: &Shared,
    (builder, limits): (&mut BatchBuilder, ReadLimits),
    lane: &mut Lane,
) -> Result<Filled, Failed> {
    let store = |error: Error| Box::new((Stop::Failed(error), None));
    loop {
        if let Some(end) = shared.left_at(lane.at.tp.partition, lane.at.next) {
            lane.open = None;
            lane.at.next = end;
        }
        if let Some(set) = shared.set_behind(lane.at.tp.partition, lane.at.next) {
            lane.open = None;
            lane.at.next = set;
        }
        if lane.open.is_none() && !open(shared, lane)? {
            return Ok(Filled::End);
        }
        let Some(open) = &mut lane.open else {
            return Ok(Filled::End);
        };
        let Some(entry) = open.place.entry().cloned() else {
            return Ok(Filled::End);
        };
        while let Some(line) = open.text.line() {
            if builder.len() >= limits.batch_records || builder.bytes() >= limits.batch_bytes {
                return Ok(Filled::Batch);
            }
            let pushed = push((shared, builder), (&entry, &line), &mut open.text);
            pushed.map_err(|stop| Box::new((stop, Some(entry.clone()))))?;
            lane.at.next = position(&entry, open.text.at);
        }
        let failed = |stop| Box::new((stop, Some(entry.clone())));
        let most = (shared.config.record_max, limits.memory / OPEN_PART);
        if open.more(most.0, most.1).map_err(failed)? {
            continue;
        }
        if !open.is_left(shared).map_err(store)? {
            return Ok(Filled::End);
        }
        if let Some(line) = open.text.last() {
            let pushed = push((shared, builder), (&entry, &line), &mut open.text);
            pushed.map_err(failed)?;
        }
        tracing::info!(
            store = shared.config.at.url,
            path = entry.path,
            bytes = open.text.at,
            "the file was renamed or deleted and is read; going on with the next one"
        );
        lane.at.next = entry.end();
        lane.open = None;
    }
}

fn position(entry: &Entry, byte: u64) -> i64 {
    let byte = i64::try_from(byte).unwrap_or(i64::MAX);
    entry.at.saturating_add(byte)
}

/// One line as a record.
fn push(
    (shared, builder): (&Shared, &mut BatchBuilder),
    (entry, line): (&Entry, &Line),
    text: &mut Text,
) -> Result<(), Stop> {
    let at = position(entry, text.at);
    if position(entry, text.at + line.with_end as u64) >= entry.end() {
        let most = entry.room - 1;
        return Err(Stop::Bad {
            at: text.at,
            why: format!("it is longer than {most} bytes, and is never renamed"),
        });
    }
    let mut value = text.rest().get(..line.length).unwrap_or_default();
    if text.at == 0 {
        value = value.strip_prefix(UTF8_BOM).unwrap_or(value);
        if value.starts_with(b"\xff\xfe") || value.starts_with(b"\xfe\xff") {
            let why = "it is UTF-16, and UTF-8 is expected".to_owned();
            return Err(Stop::Bad { at: 0, why });
        }
    }
    if !value.is_empty() || shared.config.keeps_empty_lines() {
        let none = std::iter::empty();
        let modified = Some(shared.clock.now_micros());
        builder.push(at, modified, Some(entry.path.as_bytes()), Some(value), none);
    }
    text.give(line.with_end);
    Ok(())
}

impl Source for Follower {
    fn next(&mut self, time: Duration) -> Result<Option<Batch>> {
        if let Some(error) = self.stopped.take() {
            return Err(error);
        }
        if self.paused {
            wait(&self.shared, time);
            return Ok(None);
        }
        if !self.shared.has_begun()? {
            wait(&self.shared, time.min(STEP));
            return Ok(None);
        }
        for _ in 0..self.lanes.len() {
            let index = self.turn % self.lanes.len().max(1);
            self.turn = index + 1;
            let batch = self.batch(index)?;
            self.let_go(index);
            if let Some(batch) = batch {
                return Ok(Some(batch));
            }
        }
        wait(&self.shared, time.min(STEP));
        Ok(None)
    }

    fn seek(&mut self, positions: &[Position]) -> Result<()> {
        self.stopped = None;
        for position in positions {
            let index = self.index_of(&position.split);
            let lane = index.and_then(|index| self.lanes.get_mut(index));
            let lane = lane.ok_or_else(|| unknown("file.seek", position))?;
            *lane = Lane::at(position.clone());
            self.shared.has_read(position.tp.partition, position.next);
        }
        Ok(())
    }

    fn assign(&mut self, positions: &[Position]) -> Result<()> {
        for at in positions {
            self.shared.has_read(at.tp.partition, at.next);
            self.lanes.push(Lane::at(at.clone()));
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool) -> Result<()> {
        self.paused = paused;
        Ok(())
    }

    /// The end moves on all the time: it is where the last look at each file found nothing more.
    fn caught_up(&self) -> bool {
        let mut lanes = self.lanes.iter();
        self.stopped.is_none()
            && self.shared.is_begun()
            && !self.shared.is_behind_the_list()
            && lanes.all(|lane| lane.at_end && self.is_last(lane))
    }

    fn has_more(&self, split: &SplitId) -> bool {
        let lane = self.index_of(split).and_then(|at| self.lanes.get(at));
        lane.is_some_and(|lane| !lane.at_end || !self.is_last(lane))
    }

    fn lag(&self) -> Option<u64> {
        self.caught_up().then_some(0)
    }
}
