//! Dead letters in a topic beside the table of the home, for consumers that look for them there. The table is the truth; the topic
//! is made from committed files of it, so it never has a letter that is not committed.
//!
//! Each transaction carries letters and a mark that says how far the topic is: version of the log, and letters of that version.
//! Whoever goes on begins there. A mark that the broker forgot (`offsets.retention.minutes`) makes all of them come again: a letter is there
//! at least once, under an id that is always the same (header `weir.dead_letter.id`).

use std::fmt::Write as _;
use std::sync::Arc;

use super::sink::transactional_id;
use crate::commit::{AddedFile, LogName};
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaCluster, KafkaProps, Mark, Outgoing, Transactional};
use crate::store::Store;
use crate::zone::deadletter::{self, Filter, StoredDeadLetter};

/// Letters of one transaction, which has a minute to end.
const LETTERS_AT_ONCE: usize = 20_000;
const PREFIX: &str = "weir-";
/// Of the transactional id: the pipeline's rows have the one without it.
const SUFFIX: &str = "-dead-letters";

/// The topic of `errors.deadletterqueue.topic.name`.
#[derive(Debug)]
pub struct DeadLetterTopic {
    pub pipeline: String,
    pub topic: String,
    /// Also `__connect.errors.*`.
    pub context: bool,
    pub props: KafkaProps,
    pub store: Arc<dyn Store>,
    pub log: LogName,
    /// With where it stands, once it has taken over.
    pub open: Option<(Transactional, Stands)>,
}

/// All letters of versions below `version` are in the topic, and `letters` of that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    version: u64,
    letters: usize,
}

impl Stands {
    fn of(mark: Option<&Mark>) -> Stands {
        let number = mark.and_then(|mark| u64::try_from(mark.number).ok());
        Stands {
            version: number.unwrap_or(0),
            letters: mark.map_or(0, |mark| mark.text.parse().unwrap_or(0)),
        }
    }

    fn mark(self) -> Mark {
        Mark {
            number: i64::try_from(self.version).unwrap_or(i64::MAX),
            text: self.letters.to_string(),
        }
    }
}

impl DeadLetterTopic {
    /// The version from which on letters may be missing in the topic. Takes over where that was not done, or after an error.
    pub fn stands(&mut self) -> Result<u64> {
        if let Some((_, stands)) = &self.open {
            return Ok(stands.version);
        }
        let cluster = KafkaCluster::connect(&self.props)?;
        if cluster.partitions(&self.topic)?.is_none() {
            let message = format!("topic '{}' for dead letters: no such topic", self.topic);
            return Err(
                Error::new(Kind::ConfigInvalid, "kafka.dead_letters", message)
                    .with("brokers", self.props.bootstrap())
                    .hint("create it, or correct errors.deadletterqueue.topic.name"),
            );
        }
        let id = transactional_id(PREFIX, self.store.as_ref(), &self.log)?;
        let client = Transactional::open(&self.props, &format!("{id}{SUFFIX}"))?;
        let mark = client.mark(&self.topic)?;
        let stands = Stands::of(mark.as_ref());
        self.open = Some((client, stands));
        Ok(stands.version)
    }

    /// Sends what is missing of the letters of one version, whose files these are, by path.
    pub fn send(&mut self, version: u64, files: &[AddedFile]) -> Result<()> {
        self.stands()?;
        let sent = self.try_send(version, files);
        if sent.is_err() {
            self.open = None;
        }
        sent
    }

    fn try_send(&mut self, version: u64, files: &[AddedFile]) -> Result<()> {
        let Some((client, stands)) = &mut self.open else {
            return Ok(());
        };
        let mut done = match stands.version == version {
            true => stands.letters,
            false => 0,
        };
        let filter = Filter::default();
        let letters = deadletter::read(&self.store, &self.log, files, &filter);
        let mut letters = letters.skip(done).peekable();
        loop {
            let mut chunk = Vec::new();
            while chunk.len() < LETTERS_AT_ONCE
                && let Some(letter) = letters.next()
            {
                chunk.push(letter?);
            }
            let last = letters.peek().is_none();
            done += chunk.len();
            let next = match last {
                true => Stands {
                    version: version + 1,
                    letters: 0,
                },
                false => Stands {
                    version,
                    letters: done,
                },
            };
            client.run(&self.topic, &next.mark(), |send| {
                let mut letters = chunk.iter();
                letters.try_for_each(|letter| {
                    letter_as_record(&self.pipeline, self.context, letter, |out| {
                        send(&self.topic, out)
                    })
                })
            })?;
            *stands = next;
            if last {
                return Ok(());
            }
        }
    }
}

/// As Kafka Connect writes it: the record as it was read, and headers that say why it is here.
fn letter_as_record(
    pipeline: &str,
    context: bool,
    letter: &StoredDeadLetter,
    send: impl FnOnce(Outgoing<'_>) -> Result<()>,
) -> Result<()> {
    let own = headers(pipeline, context, letter);
    let original = &letter.original;
    let kept = original.headers.iter();
    let kept = kept.map(|(name, value)| (name.as_str(), value.as_deref()));
    let own = own
        .iter()
        .map(|(name, value)| (*name, Some(value.as_bytes())));
    let headers: Vec<(&str, Option<&[u8]>)> = kept.chain(own).collect();
    send(Outgoing {
        key: original.key.as_deref(),
        value: original.value.as_deref(),
        headers: &headers,
        partition: None,
        timestamp: letter.timestamp.map(|micros| micros.div_euclid(1000)),
    })
}

fn headers(
    pipeline: &str,
    context: bool,
    letter: &StoredDeadLetter,
) -> Vec<(&'static str, String)> {
    let StoredDeadLetter {
        topic,
        partition,
        offset,
        row,
        transform,
        plugin,
        version,
        reasons,
        ..
    } = letter;
    let piece = row.map_or_else(String::new, |row| format!("/{row}"));
    let id = format!("{pipeline}/{topic}/{partition}/{offset}{piece}");
    let mut all = vec![("weir.dead_letter.id", id)];
    if !context {
        return all;
    }
    let first = reasons.first();
    let mut trace = String::new();
    for reason in reasons {
        let field = reason
            .field
            .as_ref()
            .map_or_else(String::new, |field| format!(" in {field}"));
        // Writing into a string does not fail.
        let _unfailing = writeln!(trace, "{}{field}: {}", reason.code, reason.message);
    }
    let stage = match transform.as_str() {
        "sink" => "TASK_PUT",
        _ => "TRANSFORMATION",
    };
    all.extend([
        ("__connect.errors.topic", topic.clone()),
        ("__connect.errors.partition", partition.to_string()),
        ("__connect.errors.offset", offset.to_string()),
        ("__connect.errors.connector.name", pipeline.to_owned()),
        ("__connect.errors.task.id", "0".to_owned()),
        ("__connect.errors.stage", stage.to_owned()),
        ("__connect.errors.class.name", format!("{plugin}@{version}")),
        (
            "__connect.errors.exception.class.name",
            first.map_or_else(String::new, |reason| reason.code.clone()),
        ),
        (
            "__connect.errors.exception.message",
            first.map_or_else(String::new, |reason| reason.message.clone()),
        ),
        ("__connect.errors.exception.stacktrace", trace),
    ]);
    all
}
