//! Compiles in a separate process: a component that makes the compiler hang, use too much memory or panic is refused,
//! and running pipelines are not affected.
//!
//! The parent starts the `weir` program with `plugin compile`, sends it the component and reads the native image. The
//! child sets its own limits before it reads a byte.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use super::engine::{self, Stop};
use crate::error::{Error, Kind, Result};
use crate::plugin::MAX_COMPONENT_BYTES;
use crate::plugin::text::printable;

const OP: &str = "plugin.compile";
/// Address space of the child; a component of 1 MiB takes about 50 MiB.
const MAX_MEMORY: u64 = 2 << 30;
/// Processor time of the child; a component of 1 MiB takes about a second, a whole interpreter about ten.
const MAX_SECONDS: u64 = 60;
/// Lower priority than pipelines: on a busy processor it gets about a tenth of the time. The lowest priority would give
/// it a sixtieth: but a start or a request waits for it, and compiling would take longer than `rest.request.timeout`.
const NICE: i32 = 10;
/// Most bytes of a child's error message that are kept.
const MAX_WORDS: usize = 600;
/// Exit code of a child that refuses the component (not a fault of the compiler): `Exit::Failed`.
const REFUSED: i32 = 1;

/// The path of the `weir` program, if this process is it.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Says that this process is the `weir` program: from now on it compiles in children of itself.
pub fn this_is_weir() {
    // The link in /proc leads to the running program, even after its file was replaced.
    let running = Path::new("/proc/self/exe");
    let program = match running.exists() {
        true => Some(running.to_owned()),
        false => std::env::current_exe().ok(),
    };
    if let Some(program) = program {
        PROGRAM.get_or_init(|| program);
    }
}

pub fn program() -> Option<&'static Path> {
    PROGRAM.get().map(PathBuf::as_path)
}

/// Native code of a component for the engine that `stop` stops. It is compiled in this process only if no program is
/// known.
pub fn compile(program: Option<&Path>, stop: Stop, component: &[u8]) -> Result<Vec<u8>> {
    match program {
        Some(program) => in_child(program, stop, component),
        None => here(stop, component).map_err(invalid),
    }
}

fn here(stop: Stop, component: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let engine = engine::engine(stop).map_err(|e| e.message().to_owned())?;
    engine
        .precompile_component(component)
        .map_err(|e| format!("{e:#}"))
}

fn invalid(why: String) -> Error {
    Error::new(
        Kind::PluginRefused,
        OP,
        format!("not a valid component: {why}"),
    )
    .hint("build it for wasm32-wasip2 as a cdylib (docs/write-a-plugin.md)")
}

fn in_child(program: &Path, stop: Stop, component: &[u8]) -> Result<Vec<u8>> {
    let failed = |what: &str, e: io::Error| {
        Error::new(Kind::PluginRefused, OP, what)
            .with("program", program.display())
            .source(e)
            .hint("compiling needs a process of its own: see whether this user may start one more")
    };
    let mut child = Command::new(program)
        .args(["plugin", "compile", "--stop", stop.name()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed("the compiler does not start", e))?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A child that dies closes its end of the pipe: its exit status is the reason, not this write.
        scope.spawn(|| stdin.map(|mut to| to.write_all(component)));
        child.wait_with_output()
    });
    let output = output.map_err(|e| failed("the compiler's answer cannot be read", e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words =
        printable(&words[words.ceil_char_boundary(words.len().saturating_sub(MAX_WORDS))..]);
    let words = words.trim();
    if output.status.code() == Some(REFUSED) {
        return Err(invalid(words.to_owned()));
    }
    let mut message = format!("the compiler gave up on it: {}", ending(output.status));
    if !words.is_empty() {
        message.push_str(": ");
        message.push_str(words);
    }
    Err(Error::new(Kind::PluginRefused, OP, message).hint(format!(
        "compiling may take {MAX_SECONDS} s of processor time and {} GiB: make the component smaller (--release, strip = true)",
        MAX_MEMORY >> 30
    )))
}

fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match signal {
            libc::SIGXCPU => "it ran out of processor time".to_owned(),
            libc::SIGABRT => "it ran out of memory or aborted".to_owned(),
            signal => format!("killed by signal {signal}"),
        };
    }
    status.to_string()
}

/// The child: compiles a component from stdin to native code on stdout. False: it failed; the reason is on stderr.
pub fn child(stop: Stop) -> io::Result<bool> {
    limit_this_process()?;
    let mut component = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_COMPONENT_BYTES as u64 + 1)
        .read_to_end(&mut component)?;
    match here(stop, &component) {
        Ok(image) => io::stdout().lock().write_all(&image).map(|()| true),
        Err(why) => io::stderr()
            .lock()
            .write_all(why.as_bytes())
            .map(|()| false),
    }
}

#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "limits of a process are raw calls; each gets a live pointer or plain numbers"
)]
fn limit_this_process() -> io::Result<()> {
    let limits = [
        (libc::RLIMIT_AS, MAX_MEMORY),
        (libc::RLIMIT_CPU, MAX_SECONDS),
        (libc::RLIMIT_CORE, 0),
    ];
    for (what, most) in limits {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: `limit` lives through both calls, and they keep no pointer to it.
        unsafe {
            if libc::getrlimit(what, &mut limit) != 0 {
                return Err(io::Error::last_os_error());
            }
            limit.rlim_cur = limit.rlim_max.min(most);
            if libc::setrlimit(what, &limit) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    // SAFETY: takes and returns a number. If it is refused, only the priority is not lowered.
    unsafe { libc::nice(NICE) };
    Ok(())
}

#[cfg(not(unix))]
fn limit_this_process() -> io::Result<()> {
    Ok(())
}
