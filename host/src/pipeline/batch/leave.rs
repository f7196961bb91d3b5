//! Old data of a zone that reads a zone: expires, is archived, is deleted; between batches, and while the pipeline rests.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Batches, InputZone, retry, until_settled};
use crate::commit::{Draft, Due, Held, Outcome};
use crate::error::Result;

/// While the pipeline rests between two batches, it looks this often whether something is old.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Batches<'_> {
    /// What is old leaves, and what was archived meanwhile is named and deleted. This zone goes back where its input goes back,
    /// so it keeps what it may have to take back.
    pub(super) fn let_leave(&mut self, input: Option<&InputZone>) -> Result<()> {
        let (name, none) = (self.log.name().to_string(), BTreeMap::new());
        let positions = match input {
            Some(input) => input.log.state().lowest_cut(&name).cloned(),
            None => Some(none),
        };
        let held = Held {
            positions: positions.as_ref(),
            dead_letters: None,
        };
        while !self.host.stop.asked()
            && let Some(due) = self.log.due(&held)
        {
            retry(self.host, || self.log.redo())?;
            let draft = match due {
                Due::Expire => self.log.expire_draft(&held),
                Due::Release => Some(Draft::Gc(self.log.releasable())),
            };
            match draft {
                Some(draft) => self.leaves(draft)?,
                None => break,
            }
        }
        match self.archiver.look(&self.log) {
            Some(files) => self.leaves(Draft::Archived(files)),
            None => Ok(()),
        }
    }

    fn leaves(&mut self, draft: Draft) -> Result<()> {
        if let Outcome::Committed { committed, .. } =
            until_settled(self.host, &mut self.log, draft)?
        {
            retry(self.host, || self.log.publish(&committed))?;
            self.log.checkpoint_if_due();
        }
        Ok(())
    }

    /// A run that ends with what is there copies all that waits, up to the first fault.
    pub(super) fn archive_the_rest(&mut self) -> Result<()> {
        while !self.host.stop.asked()
            && let Some(files) = self.archiver.finish(&self.log)
        {
            self.leaves(Draft::Archived(files))?;
        }
        Ok(())
    }

    /// Waits until the next batch. True: somebody asked to stop.
    pub(super) fn rest(&mut self, input: Option<&InputZone>, wait: Duration) -> Result<bool> {
        let until = self.host.clock.elapsed().saturating_add(wait);
        loop {
            let left = until.saturating_sub(self.host.clock.elapsed());
            let slice = match self.log.lets_leave() {
                true => left.min(LOOK_EVERY),
                false => left,
            };
            if self.host.stop.wait(slice) {
                return Ok(true);
            }
            if slice == left {
                return Ok(false);
            }
            self.let_leave(input)?;
        }
    }
}
