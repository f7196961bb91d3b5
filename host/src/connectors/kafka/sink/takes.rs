//! The cluster that takes the rows of a pipeline: transactions under the pipeline's own id.

use super::outbox::Takes;
use super::{at_sink, packet};
use crate::error::{Error, Kind, Result};
use crate::kafka::{KafkaProps, Mark, Transactional};

/// Connects when it is asked to take over, and anew after each error.
#[derive(Debug)]
pub struct Cluster {
    props: KafkaProps,
    /// Transactional id, and the group of its marks.
    id: String,
    open: Option<Transactional>,
}

impl Cluster {
    pub fn new(props: KafkaProps, id: String) -> Cluster {
        Cluster {
            props,
            id,
            open: None,
        }
    }

    fn open(&self) -> Result<&Transactional> {
        self.open.as_ref().ok_or_else(|| {
            Error::new(
                Kind::Bug,
                "kafka.outbox",
                "a transaction before taking over",
            )
        })
    }
}

impl Takes for Cluster {
    fn take_over(&mut self) -> Result<()> {
        self.open = None;
        self.open = Some(Transactional::open(&self.props, &self.id).map_err(at_sink)?);
        Ok(())
    }

    fn mark(&mut self, topic: &str) -> Result<Option<Mark>> {
        self.open()?.mark(topic).map_err(at_sink)
    }

    fn carry(&mut self, topic: &str, mark: &Mark, packet: Option<&[u8]>) -> Result<()> {
        let carried = self.open()?.run(topic, mark, |send| match packet {
            Some(packet) => packet::each(packet, send),
            None => Ok(()),
        });
        carried.map_err(at_sink)
    }
}
