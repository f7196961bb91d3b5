//! Everything that a plugin can call: the log, and the calls that a language runtime makes at its start, which get
//! empty answers. Everything else is refused by name when the component is loaded.

use std::sync::{Arc, Mutex};

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasSelf, Linker, Resource, ResourceType};
use wasmtime::{Engine, ResourceLimiter, StoreContextMut};

use super::log::LogBook;
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::plugin::boundary::bindings::weir::plugin::log::{self as guest_log, Level};
use crate::plugin::boundary::bindings::{IoError, Plugin, StreamError};
use crate::plugin::{HOST_CALL, MAX_HOST_TALK};

/// Most parts of a component. A plugin in Rust has three core instances, one memory and two tables.
pub const MAX_CORE_INSTANCES: usize = 10;
pub const MAX_MEMORIES: usize = 4;
pub const MAX_TABLES: usize = 10;
/// Entries of all tables together: each takes eight bytes of the host.
pub const MAX_TABLE_ENTRIES: usize = 100_000;
/// Stream and pollable handles that a guest may hold at once.
const MAX_HANDLES: usize = 1_000;

/// What a store knows beside the guest's own memory.
#[derive(Debug)]
pub struct State {
    pub memory: Memory,
    pub book: Arc<Mutex<LogBook>>,
    /// `exit` was called.
    pub exited: bool,
    handles: usize,
    /// Bytes that this call may still write to the host, and whether it wanted more.
    talk: usize,
    pub talked_out: bool,
}

impl State {
    pub fn new(memory: usize, book: Arc<Mutex<LogBook>>) -> Self {
        let memory = Memory {
            limit: memory,
            used: 0,
            table_entries: 0,
            denied: false,
        };
        State {
            memory,
            book,
            exited: false,
            handles: 0,
            talk: MAX_HOST_TALK,
            talked_out: false,
        }
    }

    /// A new call of the guest.
    pub fn begin_call(&mut self) {
        self.memory.denied = false;
        self.talk = MAX_HOST_TALK;
    }

    /// Counts a host call with so many bytes against what this call of the guest may exchange.
    fn charge(&mut self, bytes: usize) -> wasmtime::Result<()> {
        match self.talk.checked_sub(bytes.saturating_add(HOST_CALL)) {
            Some(left) => self.talk = left,
            None => {
                self.talked_out = true;
                wasmtime::bail!("said more than {MAX_HOST_TALK} bytes to its log and host");
            }
        }
        Ok(())
    }

    fn handle<T: 'static>(&mut self, rep: u32) -> wasmtime::Result<Resource<T>> {
        self.charge(0)?;
        self.handles += 1;
        if self.handles > MAX_HANDLES {
            self.talked_out = true;
            wasmtime::bail!("more than {MAX_HANDLES} stream handles open");
        }
        Ok(Resource::new_own(rep))
    }

    fn write(&self, stream: &Resource<Output>, bytes: &[u8]) {
        let mut book = lock(&self.book);
        book.write(bytes, stream.rep() == STDERR);
    }
}

#[derive(Debug)]
pub struct Memory {
    limit: usize,
    /// Linear memory of the instance, all memories together. It never shrinks.
    pub used: usize,
    /// Entries of all tables.
    table_entries: usize,
    /// More was requested than the limit allows.
    pub denied: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used + (desired - current);
        if used > self.limit {
            self.denied = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let entries = self.table_entries + (desired - current);
        if entries > MAX_TABLE_ENTRIES {
            self.denied = true;
            return Ok(false);
        }
        self.table_entries = entries;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

impl guest_log::Host for State {
    fn emit(&mut self, level: Level, row: Option<u32>, message: String) -> wasmtime::Result<()> {
        self.charge(message.len())?;
        let mut book = lock(&self.book);
        book.emit(level, row, &message);
        Ok(())
    }
}

// Resources of wasi: only their numbers are used.
pub struct Input;
pub struct Output;
pub struct Pollable;
pub struct Terminal;

const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Interfaces and functions that a component may import; a version's last number is free.
const SERVED: [(&str, &str, &[&str]); 14] = [
    ("weir:plugin/log", "0.1.", &["emit"]),
    (
        "wasi:cli/environment",
        "0.2.",
        &["get-environment", "get-arguments", "initial-cwd"],
    ),
    ("wasi:cli/exit", "0.2.", &["exit"]),
    ("wasi:cli/stdin", "0.2.", &["get-stdin"]),
    ("wasi:cli/stdout", "0.2.", &["get-stdout"]),
    ("wasi:cli/stderr", "0.2.", &["get-stderr"]),
    ("wasi:cli/terminal-input", "0.2.", &[]),
    ("wasi:cli/terminal-output", "0.2.", &[]),
    ("wasi:cli/terminal-stdin", "0.2.", &["get-terminal-stdin"]),
    ("wasi:cli/terminal-stdout", "0.2.", &["get-terminal-stdout"]),
    ("wasi:cli/terminal-stderr", "0.2.", &["get-terminal-stderr"]),
    (
        "wasi:io/poll",
        "0.2.",
        &["[method]pollable.block", "[method]pollable.ready", "poll"],
    ),
    (
        "wasi:io/streams",
        "0.2.",
        &[
            "[method]input-stream.read",
            "[method]input-stream.blocking-read",
            "[method]input-stream.subscribe",
            "[method]output-stream.check-write",
            "[method]output-stream.write",
            "[method]output-stream.flush",
            "[method]output-stream.blocking-flush",
            "[method]output-stream.blocking-write-and-flush",
            "[method]output-stream.subscribe",
        ],
    ),
    ("wasi:io/error", "0.2.", &["[method]error.to-debug-string"]),
];

/// Refuses a component that imports more than is served, and names all of it.
pub fn check_imports(engine: &Engine, component: &Component) -> Result<()> {
    let mut wanted = Vec::new();
    let mut hint = None;
    for (name, item) in component.component_type().imports(engine) {
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let ComponentItem::ComponentInstance(instance) = &item.ty else {
            wanted.push(name.to_owned());
            continue;
        };
        let functions = instance.exports(engine).filter_map(|(function, item)| {
            matches!(item.ty, ComponentItem::ComponentFunc(_)).then_some(function)
        });
        match SERVED.iter().find(|(served, ..)| *served == interface) {
            Some((_, prefix, allowed)) if version.starts_with(prefix) => {
                let refused = functions.filter(|f| !allowed.contains(f));
                wanted.extend(refused.map(|f| format!("{name} {f}")));
            }
            Some((_, prefix, _)) => wanted.push(format!("{name} (served: {prefix}x)")),
            None => {
                let functions: Vec<&str> = functions.collect();
                // An interface without functions only lends its types to another, which has the better hint.
                if !functions.is_empty() {
                    hint = hint.or(Some(remedy(interface)));
                }
                wanted.push(
                    format!("{name} {}", functions.join(" "))
                        .trim_end()
                        .to_owned(),
                );
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let message = format!("imports what no plugin may have: {}", wanted.join(", "));
    Err(Error::new(Kind::PluginRefused, "plugin.load", message)
        .hint(hint.unwrap_or_else(|| remedy(""))))
}

fn remedy(interface: &str) -> &'static str {
    match interface.split('/').next() {
        Some("wasi:random") => {
            "a plugin has no randomness: use BTreeMap and BTreeSet instead of HashMap and HashSet, no random ids"
        }
        Some("wasi:clocks") => {
            "a plugin has no clock: take times from its columns, such as `_timestamp`"
        }
        Some("wasi:filesystem") => {
            "a plugin opens no files: mark a config key \"format\": \"weir-file\" and the host reads it"
        }
        Some("wasi:sockets" | "wasi:http") => "a plugin has no network: it computes rows from rows",
        Some("weir:plugin") => {
            "rebuild the plugin with the contract of this release (wit/weir.wit)"
        }
        _ => {
            "a plugin may import weir:plugin/log and the inert part of wasi:cli and wasi:io; remove the rest"
        }
    }
}

/// The linker that serves exactly [`SERVED`].
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    Plugin::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    cli(&mut linker)?;
    io(&mut linker)?;
    Ok(linker)
}

type Ctx<'a> = StoreContextMut<'a, State>;

fn cli(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut environment = linker.instance("wasi:cli/environment@0.2.0")?;
    environment.func_wrap("get-environment", |mut ctx: Ctx<'_>, ()| {
        ctx.data_mut().charge(0)?;
        Ok((Vec::<(String, String)>::new(),))
    })?;
    environment.func_wrap("get-arguments", |mut ctx: Ctx<'_>, ()| {
        ctx.data_mut().charge(0)?;
        Ok((Vec::<String>::new(),))
    })?;
    environment.func_wrap("initial-cwd", |mut ctx: Ctx<'_>, ()| {
        ctx.data_mut().charge(0)?;
        Ok((None::<String>,))
    })?;
    let mut exit = linker.instance("wasi:cli/exit@0.2.0")?;
    exit.func_wrap(
        "exit",
        |mut ctx: Ctx<'_>, (_,): (std::result::Result<(), ()>,)| {
            ctx.data_mut().exited = true;
            Err::<(), _>(wasmtime::format_err!("called exit"))
        },
    )?;
    let mut stdin = linker.instance("wasi:cli/stdin@0.2.0")?;
    stdin.func_wrap("get-stdin", |mut ctx: Ctx<'_>, ()| {
        Ok((ctx.data_mut().handle::<Input>(0)?,))
    })?;
    for (name, rep) in [("stdout", STDOUT), ("stderr", STDERR)] {
        let mut stream = linker.instance(&format!("wasi:cli/{name}@0.2.0"))?;
        stream.func_wrap(&format!("get-{name}"), move |mut ctx: Ctx<'_>, ()| {
            Ok((ctx.data_mut().handle::<Output>(rep)?,))
        })?;
    }
    // Standard streams are no terminals, so the two resources are never made and need no type of their own.
    for name in ["terminal-input", "terminal-output"] {
        let mut terminal = linker.instance(&format!("wasi:cli/{name}@0.2.0"))?;
        terminal.resource(name, ResourceType::host::<Terminal>(), |_, _| Ok(()))?;
    }
    for name in ["stdin", "stdout", "stderr"] {
        let mut terminal = linker.instance(&format!("wasi:cli/terminal-{name}@0.2.0"))?;
        terminal.func_wrap(&format!("get-terminal-{name}"), |mut ctx: Ctx<'_>, ()| {
            ctx.data_mut().charge(0)?;
            Ok((None::<Resource<Terminal>>,))
        })?;
    }
    Ok(())
}

fn dropped(mut ctx: Ctx<'_>, _: u32) -> wasmtime::Result<()> {
    let state = ctx.data_mut();
    state.handles = state.handles.saturating_sub(1);
    Ok(())
}

type Streamed<T> = std::result::Result<T, StreamError>;

fn io(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut error = linker.instance("wasi:io/error@0.2.0")?;
    error.resource("error", ResourceType::host::<IoError>(), dropped)?;
    error.func_wrap(
        "[method]error.to-debug-string",
        |mut ctx: Ctx<'_>, (_,): (Resource<IoError>,)| {
            ctx.data_mut().charge(0)?;
            Ok(("closed".to_owned(),))
        },
    )?;
    poll(linker)?;
    streams(linker)
}

fn poll(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut poll = linker.instance("wasi:io/poll@0.2.0")?;
    poll.resource("pollable", ResourceType::host::<Pollable>(), dropped)?;
    poll.func_wrap(
        "[method]pollable.block",
        |mut ctx: Ctx<'_>, (_,): (Resource<Pollable>,)| ctx.data_mut().charge(0),
    )?;
    poll.func_wrap(
        "[method]pollable.ready",
        |mut ctx: Ctx<'_>, (_,): (Resource<Pollable>,)| {
            ctx.data_mut().charge(0)?;
            Ok((true,))
        },
    )?;
    poll.func_wrap(
        "poll",
        |mut ctx: Ctx<'_>, (list,): (Vec<Resource<Pollable>>,)| {
            ctx.data_mut()
                .charge(list.len().saturating_mul(HOST_CALL))?;
            Ok(((0..list.len() as u32).collect::<Vec<u32>>(),))
        },
    )?;
    Ok(())
}

fn streams(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut streams = linker.instance("wasi:io/streams@0.2.0")?;
    streams.resource("input-stream", ResourceType::host::<Input>(), dropped)?;
    streams.resource("output-stream", ResourceType::host::<Output>(), dropped)?;
    for name in ["read", "blocking-read"] {
        let name = format!("[method]input-stream.{name}");
        streams.func_wrap(&name, |mut ctx: Ctx<'_>, (_, _): (Resource<Input>, u64)| {
            ctx.data_mut().charge(0)?;
            Ok((Streamed::<Vec<u8>>::Err(StreamError::Closed),))
        })?;
    }
    streams.func_wrap(
        "[method]input-stream.subscribe",
        |mut ctx: Ctx<'_>, (_,): (Resource<Input>,)| Ok((ctx.data_mut().handle::<Pollable>(0)?,)),
    )?;
    streams.func_wrap(
        "[method]output-stream.subscribe",
        |mut ctx: Ctx<'_>, (_,): (Resource<Output>,)| Ok((ctx.data_mut().handle::<Pollable>(0)?,)),
    )?;
    streams.func_wrap(
        "[method]output-stream.check-write",
        |mut ctx: Ctx<'_>, (_,): (Resource<Output>,)| {
            ctx.data_mut().charge(0)?;
            Ok((Streamed::Ok(4096u64),))
        },
    )?;
    for name in ["write", "blocking-write-and-flush"] {
        let name = format!("[method]output-stream.{name}");
        streams.func_wrap(
            &name,
            |mut ctx: Ctx<'_>, (to, bytes): (Resource<Output>, Vec<u8>)| {
                ctx.data_mut().charge(bytes.len())?;
                ctx.data().write(&to, &bytes);
                Ok((Streamed::Ok(()),))
            },
        )?;
    }
    for name in ["flush", "blocking-flush"] {
        let name = format!("[method]output-stream.{name}");
        streams.func_wrap(&name, |mut ctx: Ctx<'_>, (_,): (Resource<Output>,)| {
            ctx.data_mut().charge(0)?;
            Ok((Streamed::Ok(()),))
        })?;
    }
    Ok(())
}
