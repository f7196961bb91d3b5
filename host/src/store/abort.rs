//! A test's way to end this process at a chosen change of the store, as a kill -9 would: no unwinding, no farewell.
//!
//! `WEIR_ABORT_AT=n` ends it right before the n-th change (from 0) of any store of the process, counted over all of them.
//! Before n + 1 is after n, so a run over all n stops between any two steps of the protocol. Unset, nothing is wrapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Fault, FaultStore, Faults, Op, Store};

pub const VARIABLE: &str = "WEIR_ABORT_AT";

static CHANGES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct AbortAt(u64);

impl Faults for AbortAt {
    fn decide(&self, op: &Op) -> Fault {
        if op.verb.is_durable() && CHANGES.fetch_add(1, Ordering::SeqCst) == self.0 {
            tracing::warn!(verb = ?op.verb, path = op.path, "{VARIABLE}: the process ends here");
            std::process::abort();
        }
        Fault::None
    }
}

/// The store itself, unless a test asked for an end.
pub fn wrapped(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let step = std::env::var(VARIABLE).ok().and_then(|n| n.parse().ok());
    match step {
        Some(n) => FaultStore::new(store, Arc::new(AbortAt(n))),
        None => store,
    }
}
