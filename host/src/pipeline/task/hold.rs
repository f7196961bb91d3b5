//! A record that waits, for a schema registry that is away or for rules with the fields of its schema: what stands before it is
//! written, it and what is behind it in its batch is laid back, and the task goes on to seal and to listen.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::machine::POLL_WAIT;
use super::{Task, committer_gone};
use crate::backoff::Backoff;
use crate::chain::{Held, NewSchema, On};
use crate::error::Result;
use crate::record::Batch;

/// Rules that a task needs for its next record. They come as every change of rules does; only a refusal is answered.
#[derive(Debug)]
pub struct Wanted {
    pub new: NewSchema,
    pub answer: Sender<LeftOut>,
}

/// There will be no such rules: the record is read under those in force.
#[derive(Debug)]
pub struct LeftOut;

#[derive(Debug)]
pub struct Hold {
    to: Sender<Wanted>,
    backoff: Backoff,
    /// Not tried before this time.
    until: Option<Duration>,
    asked: Option<(NewSchema, Receiver<LeftOut>)>,
}

impl Hold {
    pub fn new(to: Sender<Wanted>, backoff: Backoff) -> Hold {
        Hold {
            to,
            backoff,
            until: None,
            asked: None,
        }
    }

    /// Whatever was waited for, the next record is tried at once.
    pub fn forget(&mut self) {
        self.until = None;
        self.asked = None;
    }
}

impl Task {
    /// Lays a batch back in which a record waits.
    pub(super) fn before(&mut self, batch: Batch, held: &Held) -> Result<()> {
        self.measured.in_hand = 0;
        let first = held.from as usize;
        if first > 0 && first < batch.len() {
            // What stands before it is the next batch.
            let (before, rest) = batch.cut(batch.offset.value(first));
            self.portion.give_back(rest);
            self.portion.give_back(before);
            return Ok(());
        }
        self.portion.give_back(batch);
        match &held.on {
            On::Fault(error) => {
                if !self.hold.backoff.is_waiting() {
                    self.report.waiting(error);
                }
                let wait = self.hold.backoff.next_wait();
                self.hold.until = Some(self.clock.elapsed().saturating_add(wait));
            }
            On::Schema(new) => {
                let (answer, answered) = bounded(1);
                let wanted = Wanted {
                    new: new.clone(),
                    answer,
                };
                self.hold.to.send(wanted).map_err(|_| committer_gone())?;
                self.hold.asked = Some((new.clone(), answered));
            }
        }
        Ok(())
    }

    /// So long no record is tried. `None`: the next one is.
    pub(super) fn still_held(&mut self, now: Duration) -> Option<Duration> {
        if let Some(until) = self.hold.until {
            if now < until {
                return Some(POLL_WAIT.min(until.saturating_sub(now)));
            }
            self.hold.until = None;
        }
        let (new, answered) = self.hold.asked.as_ref()?;
        match answered.try_recv() {
            Err(TryRecvError::Empty) => return Some(POLL_WAIT),
            Ok(LeftOut) => self.chain.leave_out(new),
            // It is in force, or it is asked for again.
            Err(TryRecvError::Disconnected) => {}
        }
        self.hold.asked = None;
        None
    }

    /// A batch went through the rules.
    pub(super) fn went_on(&mut self) {
        if self.hold.backoff.is_waiting() {
            self.hold.backoff.reset();
            self.report.resumed();
        }
    }
}
