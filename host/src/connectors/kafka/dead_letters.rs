//! Dead letters in a topic beside the table of the home, for consumers that look for them there. The table is the truth; the topic
//! is made from committed files of it, so it never has a letter that is not committed.
//!
//! Each transaction carries letters and a mark that says how far the topic is: version of the log, and letters of that version.
//! Whoever goes on begins there. A mark that the broker forgot (`offsets.retention.minutes`) makes all of them come again: a letter is there
//! at least once, under an id that is always the same (header `weir.dead_letter.id`). So the mark is written again at each start and twice
//! a day.
//!
//! What a topic does not take of a letter is left out, and a header says so: the table has it. No letter stops the pipeline.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sink::transactional_id;
use crate::clock::Clock;
use crate::commit::{AddedFile, LogName};
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::kafka::{KafkaCluster, KafkaProps, Mark, Outgoing, Topic, TopicTakes, Transactional};
use crate::store::Store;
use crate::zone::deadletter::{self, Filter, Original, StoredDeadLetter};

/// Letters of one transaction, which has a minute to end …
const LETTERS_AT_ONCE: usize = 20_000;
/// … and bytes, about: so much is held in memory.
const BYTES_AT_ONCE: usize = 8 << 20;
/// Of the transactional id, where the sink has no key for it.
pub const PREFIX: &str = "weir-";
/// Of the transactional id: the pipeline's rows have the one without it.
const SUFFIX: &str = "-dead-letters";
/// A broker forgets a mark that nobody writes for `offsets.retention.minutes`, 7 days by default.
const MARK_AGAIN: Duration = Duration::from_secs(12 * 3600);
/// What this client sends at most: what librdkafka takes at most. The topic decides.
const RECORD_MAX: usize = 1_000_000_000;
/// Of a batch of records beside the largest record in it, and of a record beside key, value and headers.
const OVERHEAD: usize = 4096;
/// Of a header beside its name and value, as brokers count them at most.
const HEADER_BYTES: usize = 16;
/// A letter that is cut to this and refused all the same is refused for another reason.
const LEAST: usize = 1024;
/// Of a text in a header, where a letter does not fit.
const TEXT_MAX: usize = 200;

/// `<pipeline>/<topic>/<partition>/<offset>`, and `/<row>` for a piece.
const ID: &str = "weir.dead_letter.id";
/// Says what is missing of the record.
const LEFT_OUT: &str = "weir.dead_letter.left_out";
/// Milliseconds, where the topic does not take the record's timestamp.
const TIMESTAMP: &str = "weir.dead_letter.timestamp";

/// The topic of `errors.deadletterqueue.topic.name`.
#[derive(Debug)]
pub struct DeadLetterTopic {
    pub pipeline: String,
    pub topic: String,
    /// Also `__connect.errors.*`.
    pub context: bool,
    /// Of the transactional id.
    pub prefix: String,
    pub props: KafkaProps,
    pub store: Arc<dyn Store>,
    pub log: LogName,
    pub clock: Arc<dyn Clock>,
    pub kept: Kept,
    /// Once it has taken over.
    pub open: Option<Open>,
}

/// Over errors and connections.
#[derive(Debug, Default)]
pub struct Kept {
    /// Where the topic stood when this process last knew it.
    stood: Option<Stands>,
    /// There was no mark at the start, and nothing was sent since.
    lacks_mark: bool,
    /// What the broker refused so far of the letters that come next.
    refused: Option<Refused>,
}

#[derive(Debug)]
pub struct Open {
    client: Transactional,
    stands: Stands,
    marked: Duration,
    takes: TopicTakes,
}

/// All letters of versions below `version` are in the topic, and `letters` of that version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stands {
    version: u64,
    letters: usize,
}

/// The broker refused letters although it takes them, as far as it tells: they are sent without timestamps, and shorter.
#[derive(Clone, Copy, Debug)]
struct Refused {
    most: usize,
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

/// Of a client that sends letters: as large as their topic takes.
pub fn of_letters(props: KafkaProps) -> KafkaProps {
    props.producing("message.max.bytes", &RECORD_MAX.to_string())
}

impl DeadLetterTopic {
    /// The version from which on letters may be missing in the topic. Takes over where that was not done, after an error, and now
    /// and then; each time the mark is written again.
    pub fn stands(&mut self) -> Result<u64> {
        let is_young = |open: &&Open| self.clock.elapsed() < open.marked + MARK_AGAIN;
        if let Some(open) = self.open.as_ref().filter(is_young) {
            return Ok(open.stands.version);
        }
        self.open = None;
        let cluster = KafkaCluster::connect(&self.props)?;
        let takes = writable(&self.topic, &cluster)
            .map_err(|error| error.with("brokers", self.props.bootstrap()))?;
        let id = transactional_id(&self.prefix, self.store.as_ref(), &self.log)?;
        let batch = takes.batch_bytes.unwrap_or(usize::MAX);
        let batch = self.kept.refused.map_or(batch, |r| r.most.min(batch));
        let props = self.props.clone().batches_up_to(batch);
        let client = Transactional::open(&props, &format!("{id}{SUFFIX}"))?;
        let mark = client.mark(&self.topic)?;
        let stands = match (&mark, self.kept.stood) {
            (None, Some(stood)) => stood,
            _ => Stands::of(mark.as_ref()),
        };
        self.kept.lacks_mark = mark.is_none() && self.kept.stood.is_none();
        client.run(&self.topic, &stands.mark(), |_| Ok(()))?;
        self.kept.stood = Some(stands);
        self.open = Some(Open {
            client,
            stands,
            marked: self.clock.elapsed(),
            takes,
        });
        Ok(stands.version)
    }

    /// The topic had no mark at the start, and no letter was sent since. Asked for once.
    pub fn lacks_mark(&mut self) -> bool {
        std::mem::take(&mut self.kept.lacks_mark)
    }

    /// Sends what is missing of the letters of one version, whose files these are, by path.
    pub fn send(&mut self, version: u64, files: &[AddedFile]) -> Result<()> {
        loop {
            self.stands()?;
            let mut largest = 0;
            let Err(error) = self.try_send(version, files, &mut largest) else {
                return Ok(());
            };
            self.open = None;
            if error.kind() != Kind::RecordRefused {
                return Err(error);
            }
            let before = self.kept.refused.map_or(usize::MAX, |refused| refused.most);
            if before <= LEAST {
                // A person has to look at the topic; the pipeline goes on meanwhile, and its table has the letters.
                return Err(error.of_kind(Kind::SinkUnavailable));
            }
            tracing::debug!(%error, largest, "letters are sent shorter");
            let most = (largest.min(before) / 2).max(LEAST);
            self.kept.refused = Some(Refused { most });
        }
    }

    fn try_send(&mut self, version: u64, files: &[AddedFile], largest: &mut usize) -> Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let mut done = match open.stands.version == version {
            true => open.stands.letters,
            false => 0,
        };
        let filter = Filter::default();
        let letters = deadletter::read(&self.store, &self.log, files, &filter);
        let mut letters = letters.skip(done).peekable();
        loop {
            let as_record = AsRecord {
                pipeline: &self.pipeline,
                context: self.context,
                takes: &open.takes,
                refused: self.kept.refused,
                now: self.clock.now_micros().div_euclid(1000),
            };
            let (mut chunk, mut bytes) = (Vec::new(), 0);
            while chunk.len() < LETTERS_AT_ONCE
                && bytes < BYTES_AT_ONCE
                && let Some(letter) = letters.next()
            {
                let letter = as_record.of(letter?);
                bytes += letter.bytes();
                *largest = (*largest).max(letter.bytes());
                chunk.push(letter);
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
            let topic = &self.topic;
            open.client.run(topic, &next.mark(), |send| {
                let mut letters = chunk.iter();
                letters.try_for_each(|letter| letter.send(|out| send(topic, out)))
            })?;
            open.stands = next;
            open.marked = self.clock.elapsed();
            self.kept.stood = Some(next);
            self.kept.refused = None;
            *largest = 0;
            if last {
                return Ok(());
            }
        }
    }
}

/// The topic is there, and takes letters.
fn writable(topic: &str, cluster: &KafkaCluster) -> Result<TopicTakes> {
    let told = |what: &str, hint: &str| {
        let message = format!("topic '{topic}' for dead letters: {what}");
        Err(Error::new(Kind::ConfigInvalid, "kafka.dead_letters", message).hint(hint))
    };
    let rights = "the user needs WRITE, READ and DESCRIBE on the topic";
    match cluster.topic_takes(topic)? {
        Topic::None => told(
            "no such topic",
            "create it, or correct errors.deadletterqueue.topic.name",
        ),
        Topic::Hidden => told("this user may not see it", rights),
        Topic::Takes(takes) if takes.write == Some(false) => {
            told("this user may not write it", rights)
        }
        Topic::Takes(takes) if takes.wants_keys => told(
            "it is compacted, so letters of one key replace each other, and those without a key are refused",
            "set cleanup.policy = delete on the topic, or name another one",
        ),
        Topic::Takes(takes) => Ok(takes),
    }
}

/// What `weir doctor` asks. Nothing is changed, no transaction is begun.
pub fn examine(topic: &str, props: Result<Option<KafkaProps>>, tell: &mut dyn FnMut(Finding)) {
    const LOOK: &str = "errors.topic";
    let begun = Instant::now();
    let asked = || -> Result<Option<bool>> {
        let Some(props) = props? else {
            return Ok(None);
        };
        let cluster = KafkaCluster::connect(&props)?;
        let takes = writable(topic, &cluster)?;
        Ok(Some(takes.write.is_some()))
    };
    let finding = match asked() {
        Ok(None) => return,
        Ok(Some(true)) => Finding::pass(LOOK, Some(topic), "may be written".to_owned()),
        Ok(Some(false)) => Finding::pass(
            LOOK,
            Some(topic),
            "is there; the broker does not tell who may write it".to_owned(),
        ),
        Err(error) => Finding::failed(LOOK, Some(topic), &error),
    };
    tell(finding.took(begun.elapsed()));
}

/// How letters become records.
#[derive(Debug)]
struct AsRecord<'a> {
    pipeline: &'a str,
    context: bool,
    takes: &'a TopicTakes,
    refused: Option<Refused>,
    /// Milliseconds since 1970 UTC.
    now: i64,
}

/// A record of the topic.
#[derive(Debug)]
struct Letter {
    /// Without what is left out: that needs no memory any more.
    original: Arc<Original>,
    own: Vec<(&'static str, String)>,
    timestamp: Option<i64>,
}

impl AsRecord<'_> {
    /// As Kafka Connect writes it: the record as it was read, and headers that say why it is here.
    fn of(&self, letter: StoredDeadLetter) -> Letter {
        let mut own = headers(self.pipeline, self.context, &letter);
        let millis = letter.timestamp.map(|micros| micros.div_euclid(1000));
        let timestamp = millis.filter(|at| self.takes_timestamp(*at));
        if let Some(millis) = millis.filter(|_| timestamp.is_none()) {
            own.push((TIMESTAMP, millis.to_string()));
        }
        let most = self.takes.batch_bytes.unwrap_or(RECORD_MAX);
        let most = most.saturating_sub(OVERHEAD);
        let most = self.refused.map_or(most, |refused| refused.most.min(most));
        let mut record = Letter {
            original: letter.original,
            own,
            timestamp,
        };
        if record.bytes() > most {
            record.leave_out_value();
        }
        if record.bytes() > most {
            record.leave_out_the_rest();
        }
        record
    }

    fn takes_timestamp(&self, at: i64) -> bool {
        self.refused.is_none() && self.takes.takes_timestamp(at, self.now, 0)
    }
}

impl Letter {
    fn leave_out_value(&mut self) {
        let Original {
            value,
            key,
            headers,
        } = self.original.as_ref();
        let bytes = value.as_ref().map_or(0, Vec::len);
        self.original = Arc::new(Original {
            value: None,
            key: key.clone(),
            headers: headers.clone(),
        });
        self.own.push((LEFT_OUT, format!("value ({bytes} bytes)")));
    }

    fn leave_out_the_rest(&mut self) {
        self.original = Arc::new(Original {
            value: None,
            key: None,
            headers: Vec::new(),
        });
        for (name, text) in &mut self.own {
            if *name == LEFT_OUT {
                text.push_str(", key, headers");
            }
            if text.len() > TEXT_MAX && *name != ID {
                let cut = (0..=TEXT_MAX).rev().find(|at| text.is_char_boundary(*at));
                text.truncate(cut.unwrap_or(0));
                text.push('…');
                text.shrink_to_fit();
            }
        }
    }

    fn value(&self) -> Option<&[u8]> {
        self.original.value.as_deref()
    }

    fn key(&self) -> Option<&[u8]> {
        self.original.key.as_deref()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let kept = self.original.headers.iter();
        let kept = kept.map(|(name, value)| (name.as_str(), value.as_deref()));
        let own = self.own.iter();
        kept.chain(own.map(|(name, value)| (*name, Some(value.as_bytes()))))
    }

    fn bytes(&self) -> usize {
        let of = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let headers = self.headers();
        let headers = headers.map(|(name, value)| name.len() + of(value) + HEADER_BYTES);
        of(self.key()) + of(self.value()) + headers.sum::<usize>()
    }

    fn send(&self, send: impl FnOnce(Outgoing<'_>) -> Result<()>) -> Result<()> {
        let headers: Vec<(&str, Option<&[u8]>)> = self.headers().collect();
        send(Outgoing {
            key: self.key(),
            value: self.value(),
            headers: &headers,
            partition: None,
            timestamp: self.timestamp,
        })
    }
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
    let mut all = vec![(ID, id)];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::deadletter::StoredReason;

    const NOW: i64 = 1_700_000_000_000;

    fn letter(value: usize, header: usize) -> StoredDeadLetter {
        StoredDeadLetter {
            file: "f".into(),
            original: Arc::new(Original {
                value: Some(vec![b'v'; value]),
                key: Some(b"k".to_vec()),
                headers: vec![("h".to_owned(), Some(vec![b'h'; header]))],
            }),
            topic: "books".into(),
            partition: 1,
            offset: 7,
            timestamp: Some(NOW * 1000),
            row: None,
            transform: "t".into(),
            plugin: "p".into(),
            version: "1".into(),
            component: String::new(),
            config: String::new(),
            reasons: vec![StoredReason {
                code: "c".into(),
                field: None,
                message: "é".repeat(3_000),
            }],
        }
    }

    fn as_record(takes: &TopicTakes, refused: Option<Refused>) -> AsRecord<'_> {
        AsRecord {
            pipeline: "p",
            context: true,
            takes,
            refused,
            now: NOW,
        }
    }

    fn header(letter: &Letter, name: &str) -> Option<String> {
        let found = letter.headers().find(|(n, _)| *n == name)?.1?;
        Some(String::from_utf8_lossy(found).into_owned())
    }

    #[test]
    fn a_letter_that_the_topic_does_not_take_goes_without_what_is_too_much() {
        let takes = TopicTakes {
            batch_bytes: Some(OVERHEAD + 20_000),
            ..TopicTakes::default()
        };
        let record = as_record(&takes, None);
        let whole = record.of(letter(1_000, 10));
        assert_eq!(whole.value().map(<[u8]>::len), Some(1_000));
        assert_eq!(header(&whole, LEFT_OUT), None);
        assert_eq!(whole.timestamp, Some(NOW));
        let without = record.of(letter(50_000, 10));
        assert!(without.value().is_none() && without.bytes() <= 20_000);
        assert_eq!(without.key(), Some(&b"k"[..]));
        assert_eq!(header(&without, LEFT_OUT).unwrap(), "value (50000 bytes)");
        let reasons = record.of(letter(50_000, 50_000));
        assert!(reasons.key().is_none() && reasons.bytes() <= 20_000);
        assert_eq!(header(&reasons, "h"), None);
        assert_eq!(
            header(&reasons, LEFT_OUT).unwrap(),
            "value (50000 bytes), key, headers"
        );
        assert_eq!(header(&reasons, ID).unwrap(), "p/books/1/7");
        // What the broker refused without having told is halved, down to little more than the id.
        let least = as_record(&takes, Some(Refused { most: LEAST }));
        let least = least.of(letter(2_000, 10));
        assert!(least.bytes() < 2 * LEAST, "{}", least.bytes());
        assert_eq!(header(&least, ID).unwrap(), "p/books/1/7");
    }

    /// As many letters are in memory at a time as they have bytes.
    #[test]
    fn what_is_left_out_of_a_letter_is_not_in_memory() {
        let takes = TopicTakes {
            batch_bytes: Some(OVERHEAD + 20_000),
            ..TopicTakes::default()
        };
        let record = as_record(&takes, None);
        for (value, header, kept) in [(1_000, 10, true), (50_000, 10, false), (10, 50_000, false)] {
            let letter = letter(value, header);
            let original = Arc::downgrade(&letter.original);
            let _letter = record.of(letter);
            assert_eq!(original.upgrade().is_some(), kept, "{value}, {header}");
        }
    }

    #[test]
    fn a_timestamp_that_the_topic_does_not_take_goes_as_a_header() {
        let takes = TopicTakes {
            after: Some(1_000),
            before: Some(5_000),
            ..TopicTakes::default()
        };
        let of = |ahead: i64| {
            let mut record = as_record(&takes, None);
            record.now = NOW - ahead;
            record.of(letter(1, 1))
        };
        for ahead in [-5_000, 0, 1_000] {
            assert_eq!(of(ahead).timestamp, Some(NOW), "{ahead}");
        }
        for ahead in [-5_001, 1_001] {
            let sent = of(ahead);
            assert_eq!(sent.timestamp, None, "{ahead}");
            assert_eq!(header(&sent, TIMESTAMP).unwrap(), NOW.to_string());
        }
    }
}
