//! After an error a sink holds half a batch: it is discarded before anything else.

use std::time::Duration;

use crate::chain::Applied;
use crate::error::{Error, Kind, Result};
use crate::record::{Batch, SplitId};
use crate::sink::{Gathered, Sealed, Sink};

/// A sink that refuses `write` and `seal` after an error, until it was discarded. So no sink has to look after that itself.
#[derive(Debug)]
pub struct Guarded {
    sink: Box<dyn Sink>,
    broken: bool,
}

impl Guarded {
    pub fn new(sink: Box<dyn Sink>) -> Guarded {
        Guarded {
            sink,
            broken: false,
        }
    }

    fn once<T>(&mut self, step: impl FnOnce(&mut dyn Sink) -> Result<T>) -> Result<T> {
        if self.broken {
            let message = "the sink failed before; discard what it holds first";
            return Err(Error::new(Kind::Bug, "sink.guarded", message));
        }
        // A panic leaves it broken too.
        self.broken = true;
        let done = step(self.sink.as_mut())?;
        self.broken = false;
        Ok(done)
    }
}

impl Sink for Guarded {
    fn write(&mut self, batch: &Batch, applied: Applied) -> Result<()> {
        self.once(|sink| sink.write(batch, applied))
    }

    fn should_roll(&self) -> bool {
        self.sink.should_roll()
    }

    fn seal(&mut self) -> Result<Option<Sealed>> {
        self.once(|sink| sink.seal())
    }

    fn waits(&self) -> bool {
        self.sink.waits()
    }

    fn awaited(&self) -> Vec<SplitId> {
        self.sink.awaited()
    }

    fn put_off(&mut self, split: &SplitId, passed: Duration) {
        self.sink.put_off(split, passed);
    }

    fn lost(&mut self, split: &SplitId) {
        self.sink.lost(split);
    }

    fn discard(&mut self) {
        self.sink.discard();
        self.broken = false;
    }

    fn gathered(&self) -> Gathered {
        self.sink.gathered()
    }

    fn memory(&self) -> usize {
        self.sink.memory()
    }
}
