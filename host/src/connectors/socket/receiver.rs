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
/// Half of what the kernel takes from the server before Weir does (Linux doubles it, for what it needs beside the bytes): all that goes
/// with the process.
const RECEIVE_BYTES: usize = 128 << 10;
/// Most bytes that are still taken when it is told to stop.
const LAST_BYTES: usize = 16 << 20;
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
            searched: 0,
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
    /// So many bytes of it have no line end.
    searched: usize,
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
        let mut waited = false;
        while !self.asked.to_stop() {
            match Writer::take_on(&self.spool) {
                Ok(Some(writer)) => {
                    self.writer = Some(writer);
                    if waited {
                        self.spool.takes_over();
                    }
                    self.spool.tell(None);
                    return true;
                }
                Ok(None) => {
                    waited = true;
                    self.spool.tell(Some(Fault {
                        kind: Kind::SourceUnavailable,
                        message: format!(
                            "another process receives into {}",
                            self.spool.dir().display()
                        ),
                        hint: "this one goes on when that one has ended".to_owned(),
                    }));
                }
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

    /// Waits, and deletes meanwhile what is committed.
    fn rest(&self, time: Duration) {
        let until = self.clock.elapsed().saturating_add(time);
        while !self.asked.to_stop() && self.clock.elapsed() < until {
            self.clock.sleep(TICK.min(time));
            if self.writer.is_some()
                && let Err(error) = self.spool.clean()
            {
                tracing::debug!(%error, "committed lines cannot be deleted now");
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        self.asked.connecting.store(true, Ordering::SeqCst);
        // Asked again: whoever asks to stop does not wait for one that connects.
        if self.asked.to_stop() {
            return Err(io::Error::other("it was told to stop"));
        }
        let connected = self.connect_to_any();
        self.asked.connecting.store(false, Ordering::SeqCst);
        let stream = connected?;
        stream.set_read_timeout(Some(TICK))?;
        let alive = TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE_EVERY);
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&alive)?;
        socket.set_recv_buffer_size(RECEIVE_BYTES)?;
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
                self.take_last(&mut stream, &mut chunk);
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

    /// What is here already, where there is room for it.
    fn take_last(&mut self, stream: &mut TcpStream, chunk: &mut [u8]) {
        let mut taken = 0;
        if self.full || stream.set_nonblocking(true).is_err() {
            return;
        }
        while taken < LAST_BYTES
            && let Ok(read) = stream.read(chunk)
            && read > 0
        {
            let read = chunk.get(..read).unwrap_or_default();
            self.pending.extend_from_slice(read);
            taken += read.len();
            if self.is_too_long(read) {
                self.cut_long();
                return;
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

    /// Only the lines before the one that is too long are pending afterwards. Returns the bytes of the rest.
    fn cut_long(&mut self) -> usize {
        let max = self.config.record_max;
        let lines = self.pending.split_inclusive(|byte| *byte == b'\n');
        let good = lines.take_while(|line| line.len() <= max + 1 && line.ends_with(b"\n"));
        let good = good.map(<[u8]>::len).sum();
        let behind = self.pending.len() - good;
        self.pending.truncate(good);
        self.searched = 0;
        behind
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
        let unsynced = self.writer.as_ref().map_or(0, Writer::unsynced);
        let waiting = self.spool.waiting() + unsynced as u64;
        let most = self.config.spool_max;
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
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let new = self.pending.get(self.searched..).unwrap_or_default();
        let whole = new.iter().rposition(|byte| *byte == b'\n');
        let whole = whole.map(|at| self.searched + at + 1);
        if let Some(lines) = whole.and_then(|end| self.pending.get(..end)) {
            if writer.unsynced() == 0 {
                self.synced = now;
            }
            writer.append(lines)?;
            self.pending.drain(..whole.unwrap_or(0));
        }
        self.searched = self.pending.len();
        let due = writer.unsynced() >= SYNC_BYTES || now.saturating_sub(self.synced) >= TICK;
        if due {
            writer.sync()?;
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
                // It is a fault only if it stays away.
                tracing::info!(server, "the server has closed the connection");
                self.unavailable(format!("{server} has closed the connection"));
                true
            }
            Ended::Broken(error) => {
                self.flush();
                tracing::info!(server, %error, "the connection broke");
                self.unavailable(format!("the connection to {server} broke: {error}"));
                true
            }
            Ended::TooLong => {
                let behind = self.cut_long();
                self.flush();
                tracing::warn!(
                    bytes = behind,
                    server,
                    "a line that is too long, and what came behind it, is dropped"
                );
                self.spool.tell(Some(Fault {
                    kind: Kind::LimitReached,
                    message: format!(
                        "{server} sent a line of more than {} bytes",
                        self.config.record_max
                    ),
                    hint: "raise source.record.max.bytes, or let the server end its lines with LF"
                        .to_owned(),
                }));
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
            self.searched = 0;
        }
        goes_on
    }

    /// All whole lines onto the disk, however long that takes.
    fn flush(&mut self) {
        while self.keep() && self.writer.as_ref().is_some_and(|w| w.unsynced() > 0) {
            self.rest(TICK);
        }
        self.flush_whole();
    }

    /// Once.
    fn flush_whole(&mut self) {
        self.synced = Duration::ZERO;
        if let Err(error) = self.try_to_keep() {
            tracing::error!(%error, bytes = self.pending.len(), "lines that were received could not be written and are lost");
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.sync()
        {
            tracing::error!(%error, "lines that were received may not be on the disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpListener;

    use super::*;
    use crate::clock::SystemClock;
    use crate::connectors::socket::spool;

    /// Told to stop while lines are here that it has not read: they are in the spool, and half a line is not.
    #[test]
    fn what_is_here_when_it_is_told_to_stop_is_kept() {
        let dir = tempfile::tempdir().expect("dir");
        spool::make(dir.path(), "p/z").expect("made");
        let clock = SystemClock::shared();
        let server = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let spool = Arc::new(Spool::new(dir.path(), &clock));
        let mut work = Work {
            config: SocketConfig {
                topics: vec!["t".to_owned()],
                host: "127.0.0.1".to_owned(),
                port: server.local_addr().expect("an address").port(),
                record_max: 1 << 10,
                spool: dir.path().to_owned(),
                owner: "p/z".to_owned(),
                own_spool: true,
                spool_max: 1 << 30,
                receives: true,
            },
            spool: spool.clone(),
            clock,
            asked: Arc::default(),
            writer: None,
            pending: Vec::new(),
            searched: 0,
            synced: Duration::ZERO,
            full: false,
        };
        assert!(work.take_on());
        let stream = work.connect().expect("connected");
        let (mut other, _) = server.accept().expect("accepted");
        let lines = "a line\n".repeat(10_000);
        other.write_all(lines.as_bytes()).expect("sent");
        other.write_all(b"half").expect("sent");
        // Loopback has given all of it to this side's kernel when the last byte is there.
        let mut there = vec![0; lines.len() + 4];
        while stream.peek(&mut there).expect("peeked") < there.len() {}
        work.asked.stop.store(true, Ordering::SeqCst);
        let ended = work.receive(stream);
        assert!(!work.leave(ended));
        let end = i64::try_from(lines.len()).expect("small");
        assert_eq!(spool.range().expect("range"), (0, end));
    }
}
