//! The thread that takes lines from the server and puts them into the spool.

use std::io::{self, Read as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use super::SocketConfig;
use super::spool::{Fault, Spool, Writer, failed};
use crate::clock::Clock;
use crate::error::{Error, Kind, Result};

/// Time for one connection to be made, to one address.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// From a connection that could not be made, or ended, to the next.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest wait for bytes at a time, and longest time that a line waits to be on the disk.
const TICK: Duration = Duration::from_millis(100);
/// Bytes after which it does not wait so long.
const SYNC_BYTES: usize = 4 << 20;
/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;
/// A server that says nothing for so long is asked by the kernel whether it is there (TCP keepalive), then so often.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// Receives until it is dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    asked: Arc<Asked>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Asked {
    stop: AtomicBool,
    /// It may be waiting for an answer that nobody can cut short.
    connecting: AtomicBool,
}

impl Asked {
    fn to_stop(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

impl Receiver {
    pub(super) fn start(
        config: SocketConfig,
        spool: Arc<Spool>,
        clock: Arc<dyn Clock>,
    ) -> Result<Receiver> {
        let asked = Arc::new(Asked::default());
        let work = Work {
            config,
            spool,
            clock,
            asked: asked.clone(),
            writer: None,
            pending: Vec::new(),
            unsynced: 0,
            synced: Duration::ZERO,
            full: false,
        };
        let thread = std::thread::Builder::new().name("socket".to_owned());
        let begun = thread.spawn(move || work.run()).map_err(|error| {
            Error::new(
                Kind::LimitReached,
                "socket.receive",
                "no thread can be started",
            )
            .source(error)
        })?;
        Ok(Receiver {
            asked,
            thread: Some(begun),
        })
    }
}

impl Drop for Receiver {
    /// What was received is in the spool afterwards, or the thread is connecting and has received nothing.
    fn drop(&mut self) {
        self.asked.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && !self.asked.connecting.load(Ordering::SeqCst)
        {
            thread.join().ok();
        }
    }
}

/// How a connection ended.
enum Ended {
    ByServer,
    Broken(io::Error),
    TooLong,
    /// Somebody asked for it.
    Stopped,
}

struct Work {
    config: SocketConfig,
    spool: Arc<Spool>,
    clock: Arc<dyn Clock>,
    asked: Arc<Asked>,
    writer: Option<Writer>,
    /// Received, and not in the spool: at most one line without its end, but for what a disk does not take.
    pending: Vec<u8>,
    /// Bytes in the spool that may not be on the disk yet.
    unsynced: usize,
    /// When all was on the disk.
    synced: Duration,
    /// More waits than may.
    full: bool,
}

impl Work {
    fn run(mut self) {
        if !self.take_on() {
            return;
        }
        while !self.asked.to_stop() {
            match self.connect() {
                Ok(stream) => {
                    self.spool.tell(None);
                    tracing::info!(server = self.config.server(), "connected");
                    let ended = self.receive(stream);
                    if !self.leave(ended) {
                        return;
                    }
                }
                Err(error) => self.unavailable(format!(
                    "{} cannot be connected to: {error}",
                    self.config.server()
                )),
            }
            self.rest(AGAIN_AFTER);
        }
    }

    fn unavailable(&self, message: String) {
        self.spool.tell(Some(Fault {
            kind: Kind::SourceUnavailable,
            message,
            hint: "start the server, or correct source.host and source.port; it is tried again every second"
                .to_owned(),
        }));
    }

    /// Waits until no other process receives. False: it was told to stop.
    fn take_on(&mut self) -> bool {
        while !self.asked.to_stop() {
            match Writer::take_on(&self.spool) {
                Ok(Some(writer)) => {
                    self.writer = Some(writer);
                    return true;
                }
                Ok(None) => self.spool.tell(Some(Fault {
                    kind: Kind::SourceUnavailable,
                    message: format!(
                        "another process receives into {}",
                        self.spool.dir().display()
                    ),
                    hint: "stop it; or, if it is of another pipeline, give each a source.spool.dir of its own"
                        .to_owned(),
                })),
                Err(error) => self.disk("cannot be taken on", error),
            }
            self.rest(AGAIN_AFTER);
        }
        false
    }

    fn disk(&self, what: &str, error: io::Error) {
        let error = failed(what, self.spool.dir(), error);
        self.spool.tell(Some(Fault {
            kind: error.kind(),
            message: error.one_line(),
            hint: "make room, or give the process the right to write there".to_owned(),
        }));
    }

    fn rest(&self, time: Duration) {
        let until = self.clock.elapsed().saturating_add(time);
        while !self.asked.to_stop() && self.clock.elapsed() < until {
            self.clock.sleep(TICK.min(time));
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        self.asked.connecting.store(true, Ordering::SeqCst);
        let connected = self.connect_to_any();
        self.asked.connecting.store(false, Ordering::SeqCst);
        let stream = connected?;
        stream.set_read_timeout(Some(TICK))?;
        let alive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_EVERY);
        SockRef::from(&stream).set_tcp_keepalive(&alive)?;
        Ok(stream)
    }

    fn connect_to_any(&self) -> io::Result<TcpStream> {
        let mut last = None;
        for at in (self.config.host.as_str(), self.config.port).to_socket_addrs()? {
            if self.asked.to_stop() {
                break;
            }
            match TcpStream::connect_timeout(&at, CONNECT_WAIT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::other("its name has no address")))
    }

    fn receive(&mut self, mut stream: TcpStream) -> Ended {
        let mut chunk = vec![0; CHUNK];
        loop {
            if self.asked.to_stop() || !self.keep() {
                return Ended::Stopped;
            }
            match stream.read(&mut chunk) {
                Ok(0) => return Ended::ByServer,
                Ok(read) => {
                    let read = chunk.get(..read).unwrap_or_default();
                    self.pending.extend_from_slice(read);
                    if self.is_too_long(read) {
                        return Ended::TooLong;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Ended::Broken(error),
                },
            }
        }
    }

    /// Of what is pending, which ends with `read`.
    fn is_too_long(&self, read: &[u8]) -> bool {
        let max = self.config.record_max;
        // Only a line that begins before this chunk can be longer than a chunk.
        let before = self.pending.len() - read.len();
        let first = read.iter().position(|byte| *byte == b'\n');
        before + first.unwrap_or(read.len()) > max
            || read
                .split(|byte| *byte == b'\n')
                .any(|line| line.len() > max)
    }

    /// Only the lines before the one that is too long are pending afterwards.
    fn cut_long(&mut self) {
        let max = self.config.record_max;
        let lines = self.pending.split_inclusive(|byte| *byte == b'\n');
        let good = lines.take_while(|line| line.len() <= max + 1 && line.ends_with(b"\n"));
        let good = good.map(<[u8]>::len).sum();
        self.pending.truncate(good);
    }

    /// What came goes into the spool, and onto the disk when it is time. Waits for a disk and for commits. False: it was told to
    /// stop meanwhile.
    fn keep(&mut self) -> bool {
        loop {
            match self.try_to_keep() {
                Err(error) => self.disk("cannot be written", error),
                Ok(()) => {
                    if self.spool.fault().is_some() {
                        self.spool.tell(None);
                    }
                    if !self.is_full() {
                        return true;
                    }
                }
            }
            if self.asked.to_stop() {
                return false;
            }
            self.rest(TICK);
        }
    }

    /// Said when it becomes so, and when it ends: what is slow is behind the spool, and says more.
    fn is_full(&mut self) -> bool {
        let (waiting, most) = (self.spool.waiting(), self.config.spool_max);
        let full = waiting > most;
        if full != std::mem::replace(&mut self.full, full) {
            let server = self.config.server();
            match full {
                true => tracing::warn!(
                    server,
                    waiting,
                    "source.spool.max.bytes are not committed: nothing more is taken from the server until commits have made room"
                ),
                false => tracing::info!(server, waiting, "lines are taken from the server again"),
            }
        }
        full
    }

    fn try_to_keep(&mut self) -> io::Result<()> {
        let now = self.clock.elapsed();
        let whole = self.pending.iter().rposition(|byte| *byte == b'\n');
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        if let Some(lines) = whole.and_then(|at| self.pending.get(..=at)) {
            writer.append(lines)?;
            if self.unsynced == 0 {
                self.synced = now;
            }
            self.unsynced += lines.len();
            self.pending.drain(..=whole.unwrap_or(0));
        }
        let due = self.unsynced >= SYNC_BYTES || now.saturating_sub(self.synced) >= TICK;
        if self.unsynced > 0 && due {
            writer.sync()?;
            self.unsynced = 0;
        }
        self.spool.clean()
    }

    /// False: nothing more is received.
    fn leave(&mut self, ended: Ended) -> bool {
        let server = self.config.server();
        let goes_on = match ended {
            Ended::ByServer => {
                // The end of the stream ends its last line, as for BufferedReader.readLine.
                if self.pending.last().is_some_and(|byte| *byte != b'\n') {
                    self.pending.push(b'\n');
                }
                self.flush();
                self.unavailable(format!("{server} has closed the connection"));
                true
            }
            Ended::Broken(error) => {
                self.flush();
                self.unavailable(format!("the connection to {server} broke: {error}"));
                true
            }
            Ended::TooLong => {
                self.spool.tell(Some(Fault {
                    kind: Kind::LimitReached,
                    message: format!(
                        "{server} sent a line of more than {} bytes",
                        self.config.record_max
                    ),
                    hint: "raise source.record.max.bytes, or let the server end its lines with LF"
                        .to_owned(),
                }));
                self.cut_long();
                self.flush_whole();
                false
            }
            Ended::Stopped => {
                self.flush_whole();
                false
            }
        };
        if !self.pending.is_empty() {
            tracing::warn!(
                bytes = self.pending.len(),
                server,
                "a line of which the end was not received is dropped"
            );
            self.pending.clear();
        }
        goes_on
    }

    /// All whole lines onto the disk, however long that takes.
    fn flush(&mut self) {
        while self.keep() && self.unsynced > 0 {
            self.rest(TICK);
        }
        self.flush_whole();
    }

    /// Once.
    fn flush_whole(&mut self) {
        self.synced = Duration::ZERO;
        if let Err(error) = self.try_to_keep() {
            tracing::error!(%error, bytes = self.pending.len() + self.unsynced, "lines that were received could not be written and are lost");
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.sync()
        {
            tracing::error!(%error, "lines that were received may not be on the disk");
        }
        self.unsynced = 0;
    }
}
