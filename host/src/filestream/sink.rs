//! Writes records as lines of a file, each once: the file's length and the positions are saved together, and before
//! lines are written, the number of their bytes is saved. Lines that a kill left are cut off at the next start, and
//! nothing else.

use std::cell::Cell;
use std::fs::{File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use arrow_array::Array;

use super::state::{Length, Read, State, store};
use super::{FileContext, FileSink, print};
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Remedy, Result};
use crate::kafka::{GroupOffsets, KafkaCluster, KafkaSource, Limits, Start};
use crate::record::Batch;
use crate::source::{Acknowledge as _, Change, Position, Source as _, TopicInfo};

/// Lines and positions are made durable after this time.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Or when this many bytes wait.
const SAVE_BYTES: usize = 8 << 20;
/// Longest wait for records before stop is looked at.
const POLL: Duration = Duration::from_millis(100);
/// New partitions are looked for this often.
const REFRESH: Duration = Duration::from_secs(30);
/// Waits before a broker or disk that is away is tried again.
const RETRY: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

pub(super) fn run(job: &FileSink, ctx: &FileContext) -> Result<()> {
    patient(ctx, |there| once(job, ctx, there))
}

/// Begins again after failures that may pass; each time it reads the saved positions. `body` reports when everything
/// works again.
pub(super) fn patient(
    ctx: &FileContext,
    mut body: impl FnMut(&dyn Fn()) -> Result<()>,
) -> Result<()> {
    let mut backoff = RETRY;
    let waiting = Cell::new(false);
    let there = || {
        if waiting.replace(false) {
            ctx.report.resumed();
        }
    };
    loop {
        let begun = ctx.clock.elapsed();
        match body(&there) {
            Err(error) if error.remedy() == Remedy::Retry => {
                waiting.set(true);
                ctx.report.waiting(&error);
                if ctx.clock.elapsed().saturating_sub(begun) > RETRY.max {
                    backoff.reset();
                }
                if ctx.stop.wait(backoff.next_wait()) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == Kind::Stopped => return Ok(()),
            done => return done,
        }
    }
}

struct Writer<'a> {
    job: &'a FileSink,
    ctx: &'a FileContext,
    state: State,
    file: File,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    /// Positions behind those lines.
    moved: Vec<Position>,
    /// When the oldest of them came.
    since: Option<Duration>,
    group: Option<GroupOffsets>,
    waiting: bool,
}

fn once(job: &FileSink, ctx: &FileContext, there: &dyn Fn()) -> Result<()> {
    let props = job.kafka.props()?;
    let mut state = State::load(&ctx.state_dir, &job.name)?;
    let file = open(job, &mut state)?;
    let cluster = KafkaCluster::connect(&props)?;
    let mut topics = Vec::new();
    let mut positions = Vec::new();
    for name in &job.topics {
        if cluster.is_gone(name) {
            return Err(Error::new(
                Kind::SourceUnavailable,
                "file.sink",
                format!("there is no topic {name} yet"),
            )
            .hint("create it, or correct `topics`"));
        }
        let topic = cluster.describe(name)?;
        positions.extend(begin(&cluster, &topic, job.start, &state)?);
        topics.push(topic);
    }
    remember(&mut state, &topics, &positions);
    state.save(&ctx.state_dir, &job.name)?;
    there();
    let mut writer = Writer {
        job,
        ctx,
        state,
        file,
        lines: Vec::new(),
        moved: Vec::new(),
        since: None,
        group: GroupOffsets::open(&props).ok(),
        waiting: false,
    };
    let mut source = KafkaSource::open(&props, &positions, Limits::default(), ctx.clock.clone())?;
    writer.copy(&mut source, &cluster, &mut topics)
}

/// The file, without lines that the positions do not account for; it is created if it is not there.
fn open(job: &FileSink, state: &mut State) -> Result<File> {
    let path = &job.file;
    let failed = |what: &'static str| move |e| store(what, path, e);
    let mut file = job.reach.create(path).map_err(failed("cannot be opened"))?;
    alone(&file, path)?;
    let there = file
        .metadata()
        .map_err(failed("cannot be looked at"))?
        .len();
    let mut written = Length {
        file: path.clone(),
        bytes: there,
        begun: 0,
    };
    match state.written.take() {
        Some(known) if known.file == *path => written = known,
        Some(other) => other.leave()?,
        None => {}
    }
    written.settle(&file, there)?;
    file.seek(SeekFrom::End(0))
        .map_err(failed("cannot be sought in"))?;
    file.sync_all().map_err(failed("cannot be synced"))?;
    sync_parent(path).map_err(failed("has a directory that cannot be synced"))?;
    state.written = Some(written);
    Ok(file)
}

/// The lock belongs to the file and not to its name: it also holds for a second name, and for a second daemon.
fn alone(file: &File, path: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            Kind::ConfigInvalid,
            "file.sink",
            format!(
                "{} is written by another connector or daemon",
                path.display()
            ),
        )
        .hint("a file has one writer; give this connector another, or end the other one")),
        Err(TryLockError::Error(e)) => Err(store("cannot be locked", path, e)),
    }
}

fn sync_parent(path: &Path) -> std::io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Saved positions; where a partition has none, where it begins.
fn begin(
    cluster: &KafkaCluster,
    topic: &TopicInfo,
    start: Start,
    state: &State,
) -> Result<Vec<Position>> {
    let saved = state.topics.get(topic.name.as_ref());
    // A partition that was added later is read whole.
    let start = if saved.is_some_and(|s| !s.is_empty()) {
        Start::Earliest
    } else {
        start
    };
    let mut positions = cluster.start(topic, start)?;
    for position in &mut positions {
        let Some(read) = saved.and_then(|saved| saved.get(&position.tp.partition)) else {
            continue;
        };
        if !read.id.is_empty() && read.id != topic.id {
            return Err(Error::new(
                Kind::SourceLost,
                "file.sink",
                format!("the topic {} was deleted and created again", topic.name),
            )
            .hint("stop the connector and reset its offsets (DELETE /connectors/NAME/offsets): it then reads the new one"));
        }
        position.next = read.next;
    }
    Ok(positions)
}

fn remember(state: &mut State, topics: &[TopicInfo], positions: &[Position]) {
    for position in positions {
        let topic = position.tp.topic.as_ref();
        let id = topics.iter().find(|t| t.name.as_ref() == topic);
        let read = Read {
            next: position.next,
            id: id.map_or(String::new(), |t| t.id.clone()),
        };
        let of_topic = state.topics.entry(topic.to_owned()).or_default();
        of_topic.insert(position.tp.partition, read);
    }
}

impl Writer<'_> {
    fn copy(
        &mut self,
        source: &mut KafkaSource,
        cluster: &KafkaCluster,
        topics: &mut [TopicInfo],
    ) -> Result<()> {
        let mut looked = self.ctx.clock.elapsed();
        loop {
            if self.ctx.stop.asked() {
                return self.save(topics);
            }
            match source.next(POLL) {
                Ok(Some(batch)) => {
                    if let Err(error) = self.take(&batch) {
                        // What came before the refused record is written.
                        self.save(topics)?;
                        return Err(error);
                    }
                    if std::mem::take(&mut self.waiting) {
                        self.ctx.report.resumed();
                    }
                }
                Ok(None) => {}
                Err(error) if error.remedy() == Remedy::Retry => {
                    self.waiting = true;
                    self.ctx.report.waiting(&error);
                }
                Err(error) => {
                    self.save(topics)?;
                    return Err(error);
                }
            }
            let now = self.ctx.clock.elapsed();
            let due = self
                .since
                .is_some_and(|since| now.saturating_sub(since) >= SAVE_EVERY);
            if due || self.lines.len() >= SAVE_BYTES {
                self.save(topics)?;
                self.ctx.report.lag(0, source.lag());
            }
            if now.saturating_sub(looked) >= REFRESH {
                looked = now;
                self.grow(source, cluster, topics)?;
            }
        }
    }

    fn take(&mut self, batch: &Batch) -> Result<()> {
        let tp = &batch.covers.tp;
        self.since.get_or_insert(self.ctx.clock.elapsed());
        for row in 0..batch.len() {
            let value = (!batch.value.is_null(row)).then(|| batch.value.value(row));
            let Err(why) = print::line(value, self.job.lines, &mut self.lines) else {
                self.lines.push(b'\n');
                continue;
            };
            let offset = batch.offset.value(row);
            let record = format!("{tp}/{offset}");
            if !self.job.tolerant {
                self.moved_to(batch, offset);
                return Err(Error::new(Kind::RecordRefused, "file.sink", why)
                    .with("record", record)
                    .hint("errors.tolerance = all passes over such records; or correct value.converter"));
            }
            tracing::warn!(connector = self.job.name, record, why, "record passed over");
        }
        self.moved_to(batch, batch.covers.range.to);
        Ok(())
    }

    fn moved_to(&mut self, batch: &Batch, next: i64) {
        let position = Position {
            split: batch.covers.split.clone(),
            epoch: batch.covers.epoch,
            tp: batch.covers.tp.clone(),
            next,
        };
        self.ctx.report.topic(&position.tp.topic);
        self.moved.retain(|p| p.tp != position.tp);
        self.moved.push(position);
    }

    /// Saves how many bytes will be written, then writes the lines, then saves the new length and positions.
    fn save(&mut self, topics: &[TopicInfo]) -> Result<()> {
        if self.moved.is_empty() {
            return Ok(());
        }
        let path = &self.job.file;
        let bytes = self.lines.len() as u64;
        if let Some(length) = self.state.written.as_mut().filter(|_| bytes > 0) {
            length.begun = bytes;
            self.state.save(&self.ctx.state_dir, &self.job.name)?;
        }
        let wrote = self
            .file
            .write_all(&self.lines)
            .and_then(|()| self.file.sync_data());
        wrote.map_err(|e| store("cannot be written", path, e))?;
        if let Some(length) = &mut self.state.written {
            length.bytes += bytes;
            length.begun = 0;
        }
        remember(&mut self.state, topics, &self.moved);
        self.state.save(&self.ctx.state_dir, &self.job.name)?;
        if let Some(group) = &self.group {
            group.acknowledge(&self.moved);
        }
        self.lines.clear();
        self.moved.clear();
        self.since = None;
        Ok(())
    }

    /// New partitions are read from their beginning; a topic that was created again stops the connector.
    fn grow(
        &mut self,
        source: &mut KafkaSource,
        cluster: &KafkaCluster,
        topics: &mut [TopicInfo],
    ) -> Result<()> {
        let Ok(changes) = cluster.refresh(topics) else {
            return Ok(()); // the source reports it if the cluster is away
        };
        for change in changes {
            let Change::NewPartitions(new) = change else {
                // The next start says what to do.
                self.save(topics)?;
                return Err(Error::new(
                    Kind::SourceUnavailable,
                    "file.sink",
                    "a topic is gone or was created again",
                ));
            };
            let positions: Vec<Position> = new
                .iter()
                .map(|p| Position {
                    split: p.split.clone(),
                    epoch: 0,
                    tp: p.tp.clone(),
                    next: p.low,
                })
                .collect();
            source.assign(&positions)?;
            for topic in topics.iter_mut() {
                let mine = new.iter().filter(|p| p.tp.topic == topic.name);
                topic.partitions.extend(mine.cloned());
            }
        }
        Ok(())
    }
}
