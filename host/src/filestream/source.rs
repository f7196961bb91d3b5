//! Sends lines of a file as records, in order, each at least once: the position is saved after the broker has
//! acknowledged the lines before it, so after a kill between the two the last batch is sent again.
//!
//! The file is recognised by device and inode, and by its last bytes before the position. A file that was truncated, or
//! replaced while the connector did not run, stops it, because the position is not valid in it. A file that is renamed
//! while it is read is read to its end, and then the new one from its beginning.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::time::Duration;

use super::mark::{self, BEFORE, Mark};
use super::sink::patient;
use super::state::{State, store};
use super::{FileContext, FileSource, Written};
use crate::error::{Error, Kind, Remedy, Result};
use crate::kafka::{KafkaCluster, Outgoing, Producer};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;
/// A line that does not end within this stops the connector: it is no text file.
const MAX_LINE: usize = 64 << 20;
/// How often the end of the file, or a missing file, is checked again. Connect does it every second.
const PAUSE: Duration = Duration::from_millis(500);
/// A renamed file is left after nothing came for this time: its writer may still have it open.
const QUIET: Duration = Duration::from_secs(5);
/// How often acknowledgements are looked for.
const TICK: Duration = Duration::from_millis(5);

pub(super) fn run(job: &FileSource, ctx: &FileContext) -> Result<()> {
    patient(ctx, |there| once(job, ctx, there))
}

fn once(job: &FileSource, ctx: &FileContext, there: &dyn Fn()) -> Result<()> {
    let state = State::load(&ctx.state_dir, &job.name)?;
    let props = job.kafka.props()?;
    // A producer alone would wait for a broker that refuses it.
    KafkaCluster::connect(&props)?;
    let producer = Producer::open(&props)?;
    let Some(file) = wait_for(job, ctx)? else {
        return Ok(());
    };
    let mut reader = Reader::open((job, ctx), producer, state, file)?;
    reader.run(there)
}

struct Reader<'a> {
    job: &'a FileSource,
    ctx: &'a FileContext,
    producer: Producer,
    state: State,
    file: File,
    text: Lines,
    sent: u64,
    /// Since when the name belongs to another file and nothing came from this one.
    renamed: Option<Duration>,
}

impl<'a> Reader<'a> {
    fn open(
        (job, ctx): (&'a FileSource, &'a FileContext),
        producer: Producer,
        state: State,
        file: File,
    ) -> Result<Reader<'a>> {
        let position = state.files.get(&job.filename).copied().unwrap_or(0);
        let mut reader = Reader {
            job,
            ctx,
            producer,
            state,
            file,
            text: Lines::at(position, Vec::new()),
            sent: 0,
            renamed: None,
        };
        let there = reader.metadata()?;
        if there.len() < position {
            return Err(reader.changed(format!("has {} bytes", there.len())));
        }
        let before = mark::before(&reader.file, position);
        let before = before.map_err(|e| store("cannot be read", &job.file, e))?;
        if let Some(mark) = reader
            .state
            .marks
            .get(&job.filename)
            .filter(|_| position > 0)
        {
            if !mark.is_file(&there) {
                return Err(reader.changed("is another file".to_owned()));
            }
            if *mark != Mark::of(&there, &before) {
                return Err(reader.changed("has other bytes before".to_owned()));
            }
        }
        let failed = |e| store("cannot be sought in", &job.file, e);
        reader
            .file
            .seek(SeekFrom::Start(position))
            .map_err(failed)?;
        reader.text = Lines::at(position, before);
        Ok(reader)
    }

    fn run(&mut self, there: &dyn Fn()) -> Result<()> {
        loop {
            let batch = self.send_lines()?;
            if batch > 0 && !self.settle(there)? {
                return Ok(());
            }
            if self.ctx.stop.asked() {
                return Ok(());
            }
            let open = self.text.open();
            if batch < self.job.batch && !self.more()? {
                if open > MAX_LINE {
                    return Err(too_long(self.job, &self.text));
                }
                if self.is_left()? {
                    if !self.next_file(there)? {
                        return Ok(());
                    }
                } else {
                    self.ctx.stop.wait(PAUSE);
                }
            } else if open > MAX_LINE + CHUNK {
                return Err(too_long(self.job, &self.text));
            }
        }
    }

    /// At most a batch of whole lines.
    fn send_lines(&mut self) -> Result<usize> {
        let mut batch = 0;
        while batch < self.job.batch {
            let Some((line, length)) = self.text.line() else {
                break;
            };
            self.send(&line)?;
            self.text.give(length);
            batch += 1;
        }
        Ok(batch)
    }

    fn send(&mut self, line: &[u8]) -> Result<()> {
        let value = written(line, self.job.written);
        let out = Outgoing {
            value: Some(&value),
            ..Outgoing::default()
        };
        if let Err(error) = self.producer.send(&self.job.topic, out) {
            // Lines before a line that is refused for good must not be sent again and again.
            if error.remedy() != Remedy::Retry && self.acknowledged()? {
                self.save()?;
            }
            let (byte, file) = (self.text.position, self.job.file.display());
            return Err(error.with("byte", byte).with("file", file));
        }
        self.sent += 1;
        Ok(())
    }

    /// Waits for the broker and saves the position; false when the time for draining is over first.
    fn settle(&mut self, there: &dyn Fn()) -> Result<bool> {
        if !self.acknowledged()? {
            return Ok(false);
        }
        there();
        self.ctx.report.topic(&self.job.topic);
        self.save()?;
        Ok(true)
    }

    fn acknowledged(&self) -> Result<bool> {
        acknowledged(&self.producer, self.sent, self.ctx)
    }

    fn save(&mut self) -> Result<()> {
        let mark = Mark::of(&self.metadata()?, &self.text.before);
        let name = &self.job.filename;
        self.state.marks.insert(name.clone(), mark);
        self.state.files.insert(name.clone(), self.text.position);
        self.state.save(&self.ctx.state_dir, &self.job.name)
    }

    fn metadata(&self) -> Result<std::fs::Metadata> {
        let looked = self.file.metadata();
        looked.map_err(|e| store("cannot be looked at", &self.job.file, e))
    }

    /// Reads more; false at the end of the file. Bytes that do not continue what was read are not used.
    fn more(&mut self) -> Result<bool> {
        let end = self.text.end();
        let failed = |e| store("cannot be read", &self.job.file, e);
        let read = self.text.fill(&mut self.file).map_err(failed)?;
        let there = self.metadata()?.len();
        if there < end {
            return Err(self.changed(format!("has {there} bytes")));
        }
        if read && mark::before(&self.file, end).map_err(failed)? != self.text.last(end) {
            return Err(self.changed("has other bytes before".to_owned()));
        }
        if read {
            self.renamed = None;
        }
        Ok(read)
    }

    fn changed(&self, found: String) -> Error {
        Error::new(
            Kind::SourceLost,
            "file.source",
            format!(
                "{} {found}, and {} were read: it was cut or replaced",
                self.job.file.display(),
                self.text.end()
            ),
        )
        .hint("stop the connector; then reset its offsets (DELETE /connectors/NAME/offsets) to read the file from its beginning, or put them (PATCH) where reading is to go on")
    }

    /// Whether the file was renamed, a new file has its name, and nothing more came from it.
    fn is_left(&mut self) -> Result<bool> {
        let named = match std::fs::metadata(&self.job.file) {
            Ok(named) => named,
            // The new one will come.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(store("cannot be looked at", &self.job.file, e)),
        };
        if mark::same_file(&named, &self.metadata()?) {
            self.renamed = None;
            return Ok(false);
        }
        let now = self.ctx.clock.elapsed();
        let since = *self.renamed.get_or_insert(now);
        Ok(now.saturating_sub(since) >= QUIET)
    }

    /// Sends the text after the last line end as a line too; then opens the new file.
    fn next_file(&mut self, there: &dyn Fn()) -> Result<bool> {
        let rest = self.text.rest();
        if !rest.is_empty() {
            self.send(&rest)?;
            self.text.give(self.text.open());
            if !self.settle(there)? {
                return Ok(false);
            }
        }
        let Some(file) = wait_for(self.job, self.ctx)? else {
            return Ok(false);
        };
        tracing::info!(connector = self.job.name, file = %self.job.file.display(), bytes = self.text.position, "the file was renamed and is read; going on with the new one");
        self.file = file;
        self.text = Lines::at(0, Vec::new());
        self.renamed = None;
        self.save()?;
        Ok(true)
    }
}

fn too_long(job: &FileSource, text: &Lines) -> Error {
    Error::new(
        Kind::LimitReached,
        "file.source",
        format!(
            "a line of more than {MAX_LINE} bytes begins at byte {} of {}",
            text.position,
            job.file.display()
        ),
    )
    .hint("it is no file of lines")
}

/// `None`: asked to stop before the file was there.
fn wait_for(job: &FileSource, ctx: &FileContext) -> Result<Option<File>> {
    let mut told = false;
    loop {
        match job.reach.open(&job.file) {
            Ok(file) => return Ok(Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if !std::mem::replace(&mut told, true) {
                    tracing::info!(connector = job.name, file = %job.file.display(), "the file is not there yet; waiting for it");
                }
                if ctx.stop.wait(PAUSE) {
                    return Ok(None);
                }
            }
            Err(e) => return Err(store("cannot be opened", &job.file, e)),
        }
    }
}

/// Waits until the broker has all; false when the time for draining is over first.
fn acknowledged(producer: &Producer, sent: u64, ctx: &FileContext) -> Result<bool> {
    loop {
        producer.check()?;
        if producer.delivered().records >= sent {
            return Ok(true);
        }
        if ctx.stop.overdue() {
            return Ok(false);
        }
        ctx.clock.sleep(TICK);
    }
}

fn written(line: &[u8], how: Written) -> Vec<u8> {
    let text = || serde_json::Value::from(String::from_utf8_lossy(line)).to_string();
    match how {
        Written::Text => line.to_vec(),
        Written::Json => text().into_bytes(),
        Written::Envelope => format!(
            r#"{{"schema":{{"type":"string","optional":false}},"payload":{}}}"#,
            text()
        )
        .into_bytes(),
    }
}

/// What was read and not sent yet, and where it begins in the file.
struct Lines {
    pending: Vec<u8>,
    /// Bytes of `pending` that were given away.
    given: usize,
    position: u64,
    /// The last bytes before `position`.
    before: Vec<u8>,
}

impl Lines {
    fn at(position: u64, before: Vec<u8>) -> Lines {
        Lines {
            pending: Vec::new(),
            given: 0,
            position,
            before,
        }
    }

    /// False at the end of the file.
    fn fill(&mut self, file: &mut File) -> std::io::Result<bool> {
        self.pending.drain(..self.given);
        self.given = 0;
        let read = file.take(CHUNK as u64).read_to_end(&mut self.pending)?;
        Ok(read > 0)
    }

    fn unread(&self) -> &[u8] {
        self.pending.get(self.given..).unwrap_or_default()
    }

    /// Bytes of a line that has not ended.
    fn open(&self) -> usize {
        self.unread().len()
    }

    /// Where reading goes on.
    fn end(&self) -> u64 {
        self.position + self.open() as u64
    }

    /// The last bytes before `end`, which lies in what was read.
    fn last(&self, end: u64) -> Vec<u8> {
        let open = usize::try_from(end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let open = self.unread().get(..open).unwrap_or(self.unread());
        tail(&self.before, open)
    }

    /// The next whole line, and its length in the file. It ends with LF, CR LF, or a CR that something else follows.
    fn line(&self) -> Option<(Vec<u8>, usize)> {
        let rest = self.unread();
        let end = rest.iter().position(|b| *b == b'\n' || *b == b'\r')?;
        let after = match (rest.get(end), rest.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => end + 2,
            (Some(b'\r'), None) => return None,
            _ => end + 1,
        };
        Some((rest.get(..end)?.to_vec(), after))
    }

    /// What has no end.
    fn rest(&self) -> Vec<u8> {
        let rest = self.unread();
        rest.strip_suffix(b"\r").unwrap_or(rest).to_vec()
    }

    fn give(&mut self, length: usize) {
        let given = self.unread().get(..length).unwrap_or(self.unread());
        self.before = tail(&self.before, given);
        self.given += length;
        self.position += length as u64;
    }
}

/// The end of `a` and `b` together.
fn tail(a: &[u8], b: &[u8]) -> Vec<u8> {
    let own = b.len().min(BEFORE);
    let more = a.len().min(BEFORE - own);
    [&a[a.len() - more..], &b[b.len() - own..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_in_java_and_positions_follow() {
        let mut text = Lines::at(10, Vec::new());
        text.pending = b"a\nb\r\nc\rd\n\nlast\r".to_vec();
        let mut got = Vec::new();
        while let Some((line, length)) = text.line() {
            text.give(length);
            got.push((String::from_utf8(line).expect("utf-8"), text.position));
        }
        let want = [("a", 12), ("b", 15), ("c", 17), ("d", 19), ("", 20)];
        assert_eq!(got, want.map(|(line, at)| (line.to_owned(), at)));
        text.pending.extend_from_slice(b"\nx");
        assert_eq!(text.line(), Some((b"last".to_vec(), 6)));
        text.give(6);
        assert_eq!((text.line(), text.position), (None, 26));
        assert_eq!((text.rest(), text.end()), (b"x".to_vec(), 27));
        assert_eq!(text.last(27), b"a\nb\r\nc\rd\n\nlast\r\nx");
        let long = tail(&[1; 100], &[2; 60]);
        assert_eq!((long.len(), long[3], long[4]), (64, 1, 2));
    }

    #[test]
    fn a_line_is_written_as_its_converter_writes_it() {
        let line = "a \"b\"".as_bytes();
        assert_eq!(written(line, Written::Text), line);
        assert_eq!(written(line, Written::Json), br#""a \"b\"""#);
        assert_eq!(
            written(line, Written::Envelope),
            br#"{"schema":{"type":"string","optional":false},"payload":"a \"b\""}"#
        );
    }
}
