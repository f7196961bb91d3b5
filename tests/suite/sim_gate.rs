//! Turns: only one thread of a simulation runs at a time, from one call of the store to the next.
//!
//! Who is next, and whether its call fails, comes from the seed. A thread that gets no turn for long is a sleeping writer.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use weir::store::{Fault, Faults, Op};

#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<usize, Op>,
    granted: Option<(usize, Fault)>,
    /// Threads that are neither waiting nor finished.
    running: usize,
    over: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Runs `body` on a thread of its own; it may call a store whose faults are [`Turns`] of this gate.
    pub fn spawn<T: Send + 'static>(
        self: &Arc<Gate>,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        self.lock().running += 1;
        let done = Done(Arc::clone(self));
        std::thread::spawn(move || {
            let _done = done;
            body()
        })
    }

    /// Waits until every thread waits for its turn or has ended, and says who waits for what.
    pub fn waiting(&self) -> BTreeMap<usize, Op> {
        let mut state = self.lock();
        while state.running > 0 || state.granted.is_some() {
            state = self.changed.wait(state).unwrap();
        }
        state.waiting.clone()
    }

    pub fn grant(&self, id: usize, fault: Fault) {
        self.lock().granted = Some((id, fault));
        self.changed.notify_all();
    }

    /// Whoever waits, now or later, crashes.
    pub fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }
}

struct Done(Arc<Gate>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        self.0.changed.notify_all();
    }
}

/// One thread's seat at the gate.
#[derive(Debug)]
pub struct Turns {
    pub gate: Arc<Gate>,
    pub id: usize,
}

impl Faults for Turns {
    fn decide(&self, op: &Op) -> Fault {
        let mut state = self.gate.lock();
        state.waiting.insert(self.id, op.clone());
        state.running -= 1;
        self.gate.changed.notify_all();
        loop {
            let mine = match state.granted {
                Some((id, fault)) if id == self.id => Some(fault),
                _ if state.over => Some(Fault::CrashBefore),
                _ => None,
            };
            if let Some(fault) = mine {
                if !state.over {
                    state.granted = None;
                }
                state.waiting.remove(&self.id);
                state.running += 1;
                return fault;
            }
            state = self.gate.changed.wait(state).unwrap();
        }
    }
}
