//! `source.type = "socket"`: lines that a server sends over TCP, like Spark's socket source.
//!
//! A server sends a line once, so a line is put on a disk of this machine before it is a record: the *spool*. From there on it is
//! read as any source's record, by position, exactly once. What the server sent and the spool did not get yet, a tenth of a
//! second at most, is lost with a kill.

mod keys;
mod receiver;
mod source;
mod spool;

use std::any::Any;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::SourceConfig;
use crate::error::{Error, Kind, Result};
use crate::finding::Finding;
use crate::lock::lock;
use crate::record::{SplitId, TopicPartition};
use crate::source::{
    Acknowledge, Change, Connector, PartitionInfo, Policy, Position, ReadLimits, Source, TopicInfo,
};

pub use keys::SOURCE;
use receiver::Receiver;
use source::SocketSource;
use spool::Spool;

/// The id of a spool that is not there yet, for those who only look.
const NO_SPOOL: &str = "none";

/// The checked keys.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// One name, as the topic's.
    topics: Vec<String>,
    host: String,
    port: u16,
    /// Bytes of the longest line.
    record_max: usize,
    spool: PathBuf,
    /// The pipeline's log.
    owner: String,
    /// A person named the directory.
    own_spool: bool,
    /// Bytes that may wait.
    spool_max: u64,
    /// False: it only reads what waits.
    receives: bool,
}

impl SocketConfig {
    fn server(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl SourceConfig for SocketConfig {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn describe(&self) -> String {
        format!("socket[{}]", self.server())
    }

    fn connect(&self, clock: &Arc<dyn Clock>) -> Result<Box<dyn Connector>> {
        if self.receives {
            spool::make(&self.spool, &self.owner)?;
        }
        Ok(Box::new(Socket {
            config: self.clone(),
            spool: Arc::new(Spool::new(&self.spool, clock)),
            clock: clock.clone(),
            receiver: Mutex::new(None),
        }))
    }

    /// The server is not connected to: one that takes a single connection would end.
    fn examine(&self, clock: &Arc<dyn Clock>, tell: &mut dyn FnMut(Finding)) {
        let looked = self
            .looking()
            .connect(clock)
            .and_then(|looking| looking.topics());
        tell(match looked {
            Ok(topics) => {
                let parts = topics.iter().flat_map(|topic| &topic.partitions);
                let bytes: i64 = parts.map(|part| part.high - part.low).sum();
                let says = format!(
                    "{bytes} bytes of lines in {}, also committed ones that are not deleted yet; {} was not connected to, as that could take lines from it",
                    self.spool.display(),
                    self.server()
                );
                Finding::pass("source", None, says)
            }
            Err(error) => Finding::failed("source", None, &error),
        });
    }

    fn only_looking(&self, _: bool) -> Option<Arc<dyn SourceConfig>> {
        Some(Arc::new(self.looking()))
    }

    fn targets(&self) -> Vec<(&'static str, PathBuf)> {
        match self.own_spool {
            true => vec![("source.spool.dir", self.spool.clone())],
            // Beside the log, where no config chose it.
            false => Vec::new(),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl SocketConfig {
    fn looking(&self) -> SocketConfig {
        SocketConfig {
            receives: false,
            ..self.clone()
        }
    }
}

#[derive(Debug)]
struct Socket {
    config: SocketConfig,
    spool: Arc<Spool>,
    clock: Arc<dyn Clock>,
    /// Since the first task was opened.
    receiver: Mutex<Option<Receiver>>,
}

impl Connector for Socket {
    fn topics(&self) -> Result<Vec<TopicInfo>> {
        let names = self.config.topics.iter();
        names.map(|name| self.topic(name)).collect()
    }

    fn topic(&self, name: &str) -> Result<TopicInfo> {
        let id = spool::id(&self.config.spool)?.unwrap_or_else(|| NO_SPOOL.to_owned());
        let (low, high) = self.spool.range()?;
        let name: Arc<str> = name.into();
        Ok(TopicInfo {
            partitions: vec![PartitionInfo {
                split: SplitId::new(format!("socket/{name}/{id}/0")),
                tp: TopicPartition {
                    topic: name.clone(),
                    partition: 0,
                },
                low,
                high,
            }],
            name,
            id,
        })
    }

    fn starts(&self, topic: &TopicInfo) -> Result<Vec<Position>> {
        Ok(topic.partitions.iter().map(PartitionInfo::first).collect())
    }

    fn start(&self) -> String {
        "earliest".to_owned()
    }

    fn may_go_on_at(&self, at: &PartitionInfo, next: i64) -> Result<()> {
        let begins = self.spool.begins_line(next);
        match begins.map_err(|error| spool::failed("cannot be read", &self.config.spool, error))? {
            true => Ok(()),
            false => Err(Error::new(
                Kind::ConfigInvalid,
                "socket.rewind",
                format!("no line begins at {}@{next}", at.tp),
            )
            .hint("name the `_offset` of a row, or the end of a commit as `weir log` shows it")),
        }
    }

    fn open(&self, positions: &[Position], limits: &ReadLimits) -> Result<Box<dyn Source>> {
        let mut source = SocketSource::new(self.spool.clone(), *limits, self.clock.clone());
        source.assign(positions)?;
        let mut receiver = lock(&self.receiver);
        match self.config.receives {
            false => self.spool.look()?,
            true if receiver.is_none() => {
                *receiver = Some(Receiver::start(
                    self.config.clone(),
                    self.spool.clone(),
                    self.clock.clone(),
                )?);
            }
            true => {}
        }
        Ok(Box::new(source))
    }

    fn changes(&self, _: &[TopicInfo]) -> Result<Vec<Change>> {
        match self.config.receives {
            true => {}
            // Another process may receive.
            false => self.spool.look()?,
        }
        Ok(Vec::new())
    }

    fn changes_every(&self) -> Option<Duration> {
        (!self.config.receives).then_some(LOOK_EVERY)
    }

    fn policy(&self) -> Policy {
        Policy {
            recreated: "has another source.spool.dir than the one that was read, or that directory was emptied",
            on_recreated: "put the directory back; if its lines are not wanted, give the pipeline another name",
            on_lost: "lines are deleted when they are committed: they cannot be read again",
            on_above: "source.spool.dir is older than the log: put the newer one back, or give the pipeline another name",
            ..Policy::default()
        }
    }

    fn acknowledge(&self) -> Result<Box<dyn Acknowledge>> {
        Ok(Box::new(spool::Commits(self.spool.clone())))
    }
}

/// How often one who only looks asks what another process has received.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn unknown(op: &'static str, position: &Position) -> Error {
    Error::new(Kind::Bug, op, "a partition that is not read").with("partition", &position.tp)
}
