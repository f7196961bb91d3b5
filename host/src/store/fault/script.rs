//! Faults by a list: one at one place.

use std::sync::Mutex;

use super::{Fault, Faults, Op, Verb};
use crate::lock::lock;

/// One fault at one place, otherwise none.
#[derive(Debug)]
pub struct Script {
    step: Step,
    fault: Fault,
    seen: Mutex<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    /// The n-th (from 0) change of the store.
    Durable(u64),
    /// The n-th call of this kind whose path contains the text.
    On(Verb, String, u64),
}

impl Script {
    pub fn none() -> Script {
        Script::durable(u64::MAX, Fault::None)
    }

    pub fn durable(n: u64, fault: Fault) -> Script {
        Script {
            step: Step::Durable(n),
            fault,
            seen: Mutex::new(0),
        }
    }

    pub fn on(verb: Verb, path_contains: &str, n: u64, fault: Fault) -> Script {
        Script {
            step: Step::On(verb, path_contains.to_owned(), n),
            fault,
            seen: Mutex::new(0),
        }
    }

    /// How many calls of the watched kind there were.
    pub fn seen(&self) -> u64 {
        *lock(&self.seen)
    }
}

impl Faults for Script {
    fn decide(&self, op: &Op) -> Fault {
        let (counts, n) = match &self.step {
            Step::Durable(n) => (op.verb.is_durable(), *n),
            Step::On(verb, text, n) => (op.verb == *verb && op.path.contains(text.as_str()), *n),
        };
        if !counts {
            return Fault::None;
        }
        let mut seen = lock(&self.seen);
        *seen += 1;
        if *seen == n.saturating_add(1) {
            self.fault
        } else {
            Fault::None
        }
    }
}
