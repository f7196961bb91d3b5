//! Lets a test end this process, or one of its threads, at a chosen change of the store.
//!
//! `WEIR_ABORT_AT=n` ends the process right before the n-th change (from 0) of any store of the process, counted over
//! all of them, as a kill -9 would: no unwinding, no cleaning up. "Before n + 1" is "after n", so a run over all n
//! stops between any two steps of the protocol. `WEIR_PANIC_AT=n` panics there in the thread that makes the change.
//! Unset, nothing is wrapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Fault, FaultStore, Faults, Op, Store};

pub const ABORT: &str = "WEIR_ABORT_AT";
pub const PANIC: &str = "WEIR_PANIC_AT";

static CHANGES: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct EndAt {
    change: u64,
    panics: bool,
}

impl Faults for EndAt {
    #[expect(clippy::panic, reason = "what WEIR_PANIC_AT asks for")]
    fn decide(&self, op: &Op) -> Fault {
        if op.verb.is_durable() && CHANGES.fetch_add(1, Ordering::SeqCst) == self.change {
            if self.panics {
                panic!("{PANIC}: {:?} {}", op.verb, op.path);
            }
            tracing::warn!(verb = ?op.verb, path = op.path, "{ABORT}: the process ends here");
            std::process::abort();
        }
        Fault::None
    }
}

/// The store itself, unless a test asked for such an end.
pub fn wrapped(store: Arc<dyn Store>) -> Arc<dyn Store> {
    let named = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let (change, panics) = match (named(ABORT), named(PANIC)) {
        (Some(change), _) => (change, false),
        (None, Some(change)) => (change, true),
        (None, None) => return store,
    };
    FaultStore::new(store, Arc::new(EndAt { change, panics }))
}
