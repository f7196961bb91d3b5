//! One instance of a component: called with a deadline or a fuel budget, and not used again after its first failure.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::{Store, Trap, WasmBacktrace};

use super::linker::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLES, State};
use super::log::LogBook;
use crate::error::{Error, Kind};
use crate::lock::lock;
use crate::plugin::boundary::bindings::exports::weir::plugin::transform as wit;
use crate::plugin::boundary::bindings::{Plugin, PluginPre};
use crate::plugin::codes;
use crate::plugin::compile::engine::{INSTRUCTION, Stop, TICK};
use crate::plugin::text::{cut, printable};
use crate::plugin::{FUEL_PER_SECOND, Limits, MAX_REJECTS_TEXT};

/// Frames of a trap in the message.
const FRAMES: usize = 3;

/// Why a call failed. The instance must not be called again.
#[derive(Debug)]
pub struct Failure {
    /// One of `codes`.
    pub code: &'static str,
    pub message: String,
    /// Time ran out, which does not show which record is the cause.
    pub timeout: bool,
}

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: message.into(),
            timeout: false,
        }
    }
}

/// The operating system's message if there is no address space or memory for an instance.
const NO_MEMORY: &str = "Cannot allocate memory";

impl Failure {
    /// The error, if it does not start for lack of memory, which is no fault of plugin or config.
    pub fn no_memory(&self) -> Option<Error> {
        self.message.contains(NO_MEMORY).then(|| {
            let message = format!("no memory is left to start the plugin: {}", self.message);
            Error::new(Kind::LimitReached, "plugin.start", message)
                .hint(
                    "free memory, or raise this process's limit (ulimit -v, the memory of the container); tasks.max and \
                     plugin.memory lower what is asked for",
                )
        })
    }
}

pub struct Instance {
    store: Store<State>,
    plugin: Plugin,
    stop: Stop,
    limits: Limits,
    book: Arc<Mutex<LogBook>>,
    calls: u64,
    /// Memory in use after `init`: rules and tables, which a new instance would need as well.
    settled: usize,
}

impl Instance {
    pub fn new(
        pre: &PluginPre<State>,
        stop: Stop,
        limits: &Limits,
        book: &Arc<Mutex<LogBook>>,
    ) -> Result<Self, Failure> {
        let mut store = Store::new(pre.engine(), State::new(limits.memory, Arc::clone(book)));
        store.limiter(|state| &mut state.memory);
        // Lists of the output and the records that hold them.
        store.set_hostcall_fuel(limits.output_bytes.saturating_add(8 * MAX_REJECTS_TEXT));
        lock(book).begin_call(0);
        arm(&mut store, stop, limits.init_deadline, limits);
        match pre.instantiate(&mut store) {
            Ok(plugin) => Ok(Instance {
                store,
                plugin,
                stop,
                limits: limits.clone(),
                book: Arc::clone(book),
                calls: 0,
                settled: 0,
            }),
            Err(e) => Err(start_failure(&store, &e, limits.init_deadline)),
        }
    }

    pub fn describe(&mut self) -> Result<wit::Info, Failure> {
        let guest = self.plugin.weir_plugin_transform();
        guest
            .call_describe(&mut self.store)
            .map_err(|e| failure(&self.store, &e, self.limits.init_deadline))
    }

    pub fn init(
        &mut self,
        setup: wit::Setup<'_>,
    ) -> Result<Result<wit::Plan, Vec<wit::Problem>>, Failure> {
        arm(
            &mut self.store,
            self.stop,
            self.limits.init_deadline,
            &self.limits,
        );
        let guest = self.plugin.weir_plugin_transform();
        let plan = guest
            .call_init(&mut self.store, setup)
            .map_err(|e| failure(&self.store, &e, self.limits.init_deadline));
        self.settled = self.store.data().memory.used;
        plan
    }

    /// `base`: the row of the batch that the guest sees as its row 0.
    pub fn run(
        &mut self,
        base: u32,
        rows: u32,
        columns: &[wit::ColumnParam<'_>],
        deadline: Duration,
    ) -> Result<wit::Output, Failure> {
        self.calls += 1;
        lock(&self.book).begin_call(base);
        self.store.data_mut().begin_call();
        arm(&mut self.store, self.stop, deadline, &self.limits);
        let guest = self.plugin.weir_plugin_transform();
        match guest.call_run(&mut self.store, rows, columns) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(told)) => Err(Failure::new(codes::ERROR, printable(cut(&told, 1000)))),
            Err(e) => Err(failure(&self.store, &e, deadline)),
        }
    }

    /// What the last call burnt, in instructions as `Limits::fuel` counts them. Only on the engine with fuel.
    pub fn burnt(&self) -> u64 {
        let left = self.store.get_fuel().unwrap_or(0);
        budget(&self.limits)
            .saturating_sub(left)
            .div_ceil(INSTRUCTION)
    }

    /// Whether it must be replaced: it was used for long, or has taken much of the memory that `init` left free.
    pub fn worn(&self) -> bool {
        let used = self.store.data().memory.used;
        self.calls >= crate::plugin::MAX_BATCHES || outgrown(used, self.settled, self.limits.memory)
    }
}

/// Whether three quarters of the memory that `init` left free are taken.
fn outgrown(used: usize, settled: usize, most: usize) -> bool {
    let free = most.saturating_sub(settled);
    used.saturating_sub(settled) >= free / 4 * 3
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let memory = self.store.data().memory.used;
        f.debug_struct("Instance")
            .field("calls", &self.calls)
            .field("memory", &memory)
            .finish()
    }
}

fn arm(store: &mut Store<State>, stop: Stop, deadline: Duration, limits: &Limits) {
    match stop {
        Stop::Time => {
            let ticks = deadline.as_millis().div_ceil(TICK.as_millis());
            // One more: the tick now running may end at once.
            store.set_epoch_deadline(
                u64::try_from(ticks)
                    .unwrap_or(u64::MAX / 2)
                    .saturating_add(1),
            );
        }
        // Fails only on engines without fuel.
        Stop::Fuel => drop(store.set_fuel(budget(limits))),
    }
}

/// Units of fuel for one call: enough for everything that any machine can do within the deadline.
fn budget(limits: &Limits) -> u64 {
    let nanos = u64::try_from(limits.deadline.as_nanos()).unwrap_or(u64::MAX);
    let least = nanos.saturating_mul(FUEL_PER_SECOND / 1_000_000_000);
    limits.fuel.max(least).saturating_mul(INSTRUCTION)
}

/// A failure before any export is called: in start functions, or because of the number of the component's parts.
fn start_failure(store: &Store<State>, error: &wasmtime::Error, deadline: Duration) -> Failure {
    let cause = error.root_cause().to_string();
    if !cause.starts_with("resource limit exceeded") {
        return failure(store, error, deadline);
    }
    let most = format!(
        "at most {MAX_CORE_INSTANCES} core instances, {MAX_MEMORIES} memories and {MAX_TABLES} tables"
    );
    Failure::new(codes::OUT_OF_MEMORY, format!("{cause}; {most}"))
}

fn failure(store: &Store<State>, error: &wasmtime::Error, deadline: Duration) -> Failure {
    let state = store.data();
    let trap = error.downcast_ref::<Trap>();
    let denied = state.memory.denied
        && matches!(
            trap,
            None | Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds)
        );
    match trap {
        Some(Trap::Interrupt) => Failure {
            timeout: true,
            ..Failure::new(codes::TRAPPED, format!("ran longer than {deadline:?}"))
        },
        Some(Trap::OutOfFuel) => Failure::new(codes::FUEL_EXHAUSTED, "burnt all its fuel"),
        _ if denied => Failure::new(
            codes::OUT_OF_MEMORY,
            "asked for more memory or table entries than its limit",
        ),
        Some(
            trap @ (Trap::InvalidChar
            | Trap::InvalidDiscriminant
            | Trap::ListOutOfBounds
            | Trap::StringOutOfBounds
            | Trap::UnalignedPointer),
        ) => Failure::new(codes::OUTPUT_INVALID, trap.to_string()),
        Some(trap) => Failure::new(codes::TRAPPED, story(state, &trap.to_string(), error)),
        None if state.talked_out => {
            Failure::new(codes::TRAPPED, printable(&error.root_cause().to_string()))
        }
        None if state.exited => Failure::new(codes::TRAPPED, story(state, "called exit", error)),
        None => Failure::new(
            codes::OUTPUT_INVALID,
            printable(&error.root_cause().to_string()),
        ),
    }
}

/// What happened, where, and what the guest said about it.
fn story(state: &State, what: &str, error: &wasmtime::Error) -> String {
    let mut story = what.to_owned();
    if let Some(trace) = error.downcast_ref::<WasmBacktrace>() {
        let frame = |frame: &wasmtime::FrameInfo| match frame.func_name() {
            Some(name) => name.to_owned(),
            None => format!("function {}", frame.func_index()),
        };
        let frames: Vec<String> = trace.frames().iter().take(FRAMES).map(frame).collect();
        if !frames.is_empty() {
            story.push_str(&format!(" in {}", frames.join(" < ")));
        }
    }
    let words = lock(&state.book).last_words();
    if !words.is_empty() {
        story.push_str(": ");
        story.push_str(&words);
    }
    story
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_since_init_wears_an_instance_out() {
        let (settled, most) = (40 << 20, 64 << 20);
        // Memory of rules and tables does not count as growth, however much it is.
        assert!(!outgrown(settled, settled, most));
        assert!(!outgrown(settled + (17 << 20), settled, most));
        assert!(outgrown(settled + (18 << 20), settled, most));
        assert!(!outgrown(47 << 20, 0, most));
        assert!(outgrown(48 << 20, 0, most));
        // Memory that shrank does not count either.
        assert!(!outgrown(1 << 20, settled, most));
    }
}
