//! Lines of a file as records, in order, each at least once: the position is saved after the broker has acknowledged the
//! lines before it, so a kill between the two sends the last batch again.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::time::Duration;

use super::sink::patient;
use super::state::{State, store};
use super::{FileContext, FileSource, Written};
use crate::error::{Error, Kind, Remedy, Result};
use crate::kafka::{KafkaCluster, Outgoing, Producer};

/// Read at once.
const CHUNK: usize = 1 << 20;
/// A line that does not end within this stops the connector: it is no text file.
const MAX_LINE: usize = 64 << 20;
/// How often the end of the file, or a file that is not there, is looked at again. Connect's is 1 s.
const PAUSE: Duration = Duration::from_millis(500);
/// How often acknowledgements are looked for.
const TICK: Duration = Duration::from_millis(5);

pub(super) fn run(job: &FileSource, ctx: &FileContext) -> Result<()> {
    patient(ctx, |there| once(job, ctx, there))
}

fn once(job: &FileSource, ctx: &FileContext, there: &dyn Fn()) -> Result<()> {
    let mut state = State::load(&ctx.state_dir, &job.name)?;
    let props = job.kafka.props()?;
    // A producer alone would wait for a broker that refuses it.
    KafkaCluster::connect(&props)?;
    let producer = Producer::open(&props)?;
    let position = state.files.get(&job.filename).copied().unwrap_or(0);
    let Some(mut file) = wait_for(job, ctx)? else {
        return Ok(());
    };
    let failed = |what: &'static str| move |e| store(what, &job.file, e);
    let long = file
        .metadata()
        .map_err(failed("cannot be looked at"))?
        .len();
    if long < position {
        return Err(Error::new(
            Kind::SourceLost,
            "file.source",
            format!("{} has {long} bytes, and {position} were read: it was cut or replaced", job.file.display()),
        )
        .hint("stop the connector and reset its offsets (DELETE /connectors/NAME/offsets) to read the file from its beginning"));
    }
    file.seek(SeekFrom::Start(position))
        .map_err(failed("cannot be sought in"))?;
    let mut text = Lines {
        pending: Vec::new(),
        given: 0,
        position,
    };
    let mut sent = 0u64;
    loop {
        let mut batch = 0;
        while batch < job.batch {
            let before = text.position;
            let Some(line) = text.next() else { break };
            let value = written(&line, job.written);
            let out = Outgoing {
                value: Some(&value),
                ..Outgoing::default()
            };
            if let Err(error) = producer.send(&job.topic, out) {
                // What stands before a line that is refused for good is not sent again and again.
                if error.remedy() != Remedy::Retry
                    && acknowledged(&producer, sent + batch as u64, ctx)?
                {
                    state.files.insert(job.filename.clone(), before);
                    state.save(&ctx.state_dir, &job.name)?;
                }
                return Err(error.with("byte", before).with("file", job.file.display()));
            }
            batch += 1;
        }
        if batch > 0 {
            sent += batch as u64;
            if !acknowledged(&producer, sent, ctx)? {
                return Ok(());
            }
            there();
            ctx.report.topic(&job.topic);
            state.files.insert(job.filename.clone(), text.position);
            state.save(&ctx.state_dir, &job.name)?;
        }
        if ctx.stop.asked() {
            return Ok(());
        }
        if batch < job.batch && !text.fill(&mut file).map_err(failed("cannot be read"))? {
            if text.open() > MAX_LINE {
                return Err(too_long(job, &text));
            }
            ctx.stop.wait(PAUSE);
        } else if text.open() > MAX_LINE + CHUNK {
            return Err(too_long(job, &text));
        }
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

/// What was read and not given away, and where it begins in the file.
struct Lines {
    pending: Vec<u8>,
    /// Bytes of `pending` that were given away.
    given: usize,
    position: u64,
}

impl Lines {
    /// False at the end of the file.
    fn fill(&mut self, file: &mut File) -> std::io::Result<bool> {
        self.pending.drain(..self.given);
        self.given = 0;
        let read = file.take(CHUNK as u64).read_to_end(&mut self.pending)?;
        Ok(read > 0)
    }

    /// Bytes of a line that has not ended.
    fn open(&self) -> usize {
        self.pending.len() - self.given
    }

    /// The next whole line. It ends with LF, CR LF, or a CR that something else follows.
    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = self.pending.get(self.given..)?;
        let end = rest.iter().position(|b| *b == b'\n' || *b == b'\r')?;
        let after = match (rest.get(end), rest.get(end + 1)) {
            (Some(b'\r'), Some(b'\n')) => end + 2,
            (Some(b'\r'), None) => return None,
            _ => end + 1,
        };
        let line = rest.get(..end)?.to_vec();
        self.given += after;
        self.position += after as u64;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_as_in_java_and_positions_follow() {
        let mut text = Lines {
            pending: b"a\nb\r\nc\rd\n\nlast\r".to_vec(),
            given: 0,
            position: 10,
        };
        let mut got = Vec::new();
        while let Some(line) = text.next() {
            got.push((String::from_utf8(line).expect("utf-8"), text.position));
        }
        let want = [("a", 12), ("b", 15), ("c", 17), ("d", 19), ("", 20)];
        assert_eq!(got, want.map(|(line, at)| (line.to_owned(), at)));
        text.pending.extend_from_slice(b"\nx");
        assert_eq!(text.next().as_deref(), Some(&b"last"[..]));
        assert_eq!((text.next(), text.position), (None, 26));
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
