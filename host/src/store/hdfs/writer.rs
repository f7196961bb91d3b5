//! A file that is written block by block under a temporary name, and is durable before it gets its target name.

use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdfs_native::WriteOptions;
use hdfs_native::file::FileWriter as Remote;

use super::meaning::{is_absent, is_lost};
use super::{DATA_MAX, Hdfs, NO_TIME, names};
use crate::error::{Error, Kind, Result};
use crate::store::runtime;
use crate::store::{Created, StagedWriter};

const OP: &str = "store.write";

/// Bytes of a file that are given to the client at once.
const PART_BYTES: usize = 1 << 20;

/// The most that the client holds and no data node has confirmed: two queues of a hundred packets of 64 KiB.
const UNCONFIRMED_MAX_BYTES: u64 = 200 * (64 << 10);

/// How often the time of an open file is renewed: otherwise HDFS shows the time of its creation until it is closed. Far
/// below the age at which an unfinished file counts as left behind.
const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// The client asks the name node to complete a file as soon as the data nodes have the last byte, and sleeps for half a
/// second if their report has not arrived. That soon it seldom has. So the client's steps are slowed to the time that
/// such a report takes. Measured with one data node: 530 ms for a small file without this, 65 ms with it.
const STEP: Duration = Duration::from_millis(20);

pub(super) struct Writing {
    store: Hdfs,
    /// The target path.
    path: String,
    /// The temporary path, absolute; none once it is renamed or gone.
    under: Option<String>,
    remote: Option<Remote>,
    part: Vec<u8>,
    bytes: u64,
    /// Room left in the block that is being written, and the size of blocks. Known after the first part.
    room: u64,
    block: u64,
    /// When it was created, by the name node's clock, in milliseconds.
    born: u64,
    begun: Instant,
    touched: Duration,
    /// Something was lost: this file must never be finished.
    broken: bool,
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let under = self.under.as_deref().unwrap_or_default();
        write!(f, "Writing({} as {under}, {} bytes)", self.path, self.bytes)
    }
}

impl Writing {
    pub(super) fn begin(store: &Hdfs, path: &str) -> Result<Writing> {
        let under = store.full(&names::writing(path));
        let options = WriteOptions::default();
        let client = store.client();
        let created = store.ask(client.create(&under, options))?;
        let remote = created.map_err(|e| store.failed(OP, path, &e))?;
        Ok(Writing {
            store: store.clone(),
            path: path.to_owned(),
            under: Some(under),
            remote: Some(remote),
            part: Vec::new(),
            bytes: 0,
            room: 0,
            block: 0,
            born: 0,
            begun: Instant::now(),
            touched: Duration::ZERO,
            broken: false,
        })
    }

    fn put_part(&mut self) -> Result<()> {
        let part = Bytes::from(std::mem::take(&mut self.part));
        if self.broken {
            return Err(self.cut_short());
        }
        if part.is_empty() {
            return Ok(());
        }
        self.broken = true;
        if self.block == 0 {
            self.learn()?;
        }
        self.put(part)?;
        self.touch();
        self.broken = false;
        Ok(())
    }

    /// Reads the size of its blocks and its creation time, which only the name node knows.
    fn learn(&mut self) -> Result<()> {
        let under = self.under.clone().unwrap_or_default();
        let client = self.store.client();
        let status = self.store.ask(client.get_file_info(&under))?;
        let status = status.map_err(|e| self.failed(&e))?;
        self.block = status.blocksize.unwrap_or(0);
        self.born = status.modification_time;
        if self.block == 0 {
            let message = "HDFS says that the file's blocks have no size";
            return Err(Error::new(Kind::StoreFailed, OP, message).with("path", &self.path));
        }
        self.room = self.block;
        Ok(())
    }

    /// Each block is made durable while it is the last one: no request can do so later.
    fn put(&mut self, mut part: Bytes) -> Result<()> {
        while !part.is_empty() {
            if self.room == 0 {
                self.hsync()?;
                self.room = self.block;
            }
            let fits = usize::try_from(self.room)
                .unwrap_or(usize::MAX)
                .min(part.len());
            let piece = part.split_to(fits);
            let Some(remote) = &mut self.remote else {
                return Err(self.cut_short());
            };
            let sent = self.store.within(DATA_MAX, remote.write_bytes(piece))?;
            sent.map_err(|e| self.failed(&e))?;
            self.room -= fits as u64;
            self.bytes += fits as u64;
        }
        Ok(())
    }

    fn hsync(&mut self) -> Result<()> {
        let Some(remote) = &mut self.remote else {
            return Err(self.cut_short());
        };
        let synced = self.store.within(DATA_MAX, remote.hsync())?;
        synced.map_err(|e| self.failed(&e))
    }

    /// A failure here is passed over, and the next part tries again a minute later. A file that is never touched for as long as
    /// leftovers may rest counts as left behind: another process may clear it, and then it is a conflict and its records are
    /// read again.
    fn touch(&mut self) {
        let age = self.begun.elapsed();
        if age.saturating_sub(self.touched) < TOUCH_EVERY {
            return;
        }
        self.touched = age;
        let now = self.born + u64::try_from(age.as_millis()).unwrap_or(0);
        let under = self.under.clone().unwrap_or_default();
        let client = self.store.client();
        let touched = self.store.ask(client.set_times(&under, now, NO_TIME));
        let error = match touched {
            Ok(Ok(())) => return,
            Ok(Err(e)) => self.failed(&e),
            Err(e) => e,
        };
        tracing::debug!(path = %self.path, %error, "an unfinished file was not touched");
    }

    /// Puts all bytes written so far on the disks of the data nodes, and closes the file. It does not have its target
    /// name yet.
    fn close(&mut self) -> Result<()> {
        self.put_part()?;
        self.broken = true;
        self.hsync()?;
        let Some(mut remote) = self.remote.take() else {
            return Err(self.cut_short());
        };
        let closed = self.store.within(DATA_MAX, unhurried(remote.close()))?;
        closed.map_err(|e| self.failed(&e))
    }

    /// Gives it the target name, unless that is taken. If a request has no answer, the temporary file is removed, or
    /// found gone, before the outcome is read from the store.
    fn rename(&mut self) -> Result<Named> {
        let under = self.under.clone().unwrap_or_default();
        let to = self.store.full(&self.path);
        let client = self.store.client();
        let answer = self.store.ask(client.rename(&under, &to, false));
        let error = match answer {
            Ok(Ok(())) => {
                self.under = None;
                return Ok(Named::Done);
            }
            Ok(Err(hdfs_native::HdfsError::AlreadyExists(_))) => return Ok(Named::Taken),
            Ok(Err(e)) if is_absent(&e) => {
                self.under = None;
                return Ok(Named::Gone);
            }
            Ok(Err(e)) => self.failed(&e),
            Err(e) => e,
        };
        // After this, a request that is still on its way finds nothing to rename.
        match self.store.remove(&under)? {
            true => Err(error),
            false => {
                self.under = None;
                Ok(Named::Gone)
            }
        }
    }

    /// The creation time in milliseconds, by the name node's clock.
    pub(super) fn born(mut self) -> Result<u64> {
        self.learn()?;
        Ok(self.born)
    }

    /// Whose file it is: as whom the name node knows this process.
    pub(super) fn owner(self) -> Result<String> {
        let under = self.under.clone().unwrap_or_default();
        let client = self.store.client();
        let status = self.store.ask(client.get_file_info(&under))?;
        Ok(status.map_err(|e| self.failed(&e))?.owner)
    }

    /// Put-if-absent of a whole object.
    pub(super) fn create(mut self, bytes: &[u8]) -> Result<Created> {
        self.part = bytes.to_vec();
        // Somebody removed the temporary file. That decides nothing, and the caller tries again.
        self.close().map_err(|e| match e.kind() {
            Kind::Conflict => self.cut_short().source(e),
            _ => e,
        })?;
        match self.rename()? {
            Named::Done => Ok(Created::Done),
            Named::Taken => Ok(Created::Exists),
            // It was renamed by this very call, or cleared by somebody who thought that this process was dead. The
            // caller reads back.
            Named::Gone => match self.store.stat(OP, &self.path)? {
                Some(_) => Ok(Created::Exists),
                None => Err(self.cut_short()),
            },
        }
    }

    fn failed(&self, e: &hdfs_native::HdfsError) -> Error {
        match is_lost(e) {
            true => self.collected(),
            false => self.store.failed(OP, &self.path, e),
        }
    }

    fn collected(&self) -> Error {
        let message = "the file was collected by another process before it was committed";
        Error::new(Kind::Conflict, OP, message)
            .with("store", &self.store.address.url)
            .with("path", &self.path)
    }

    fn cut_short(&self) -> Error {
        let message = "a part of this file was not written";
        Error::new(Kind::StoreUnavailable, OP, message)
            .with("store", &self.store.address.url)
            .with("path", &self.path)
    }
}

enum Named {
    Done,
    /// Somebody else's file has the name.
    Taken,
    /// There is nothing to rename any more.
    Gone,
}

impl io::Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.part.capacity() == 0 {
            self.part.reserve_exact(PART_BYTES);
        }
        let taken = bytes.len().min(PART_BYTES - self.part.len());
        self.part
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.part.len() >= PART_BYTES {
            self.put_part().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Nothing is durable before `finish`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StagedWriter for Writing {
    fn held(&self) -> usize {
        let unconfirmed = self.bytes.min(UNCONFIRMED_MAX_BYTES);
        self.part.capacity() + usize::try_from(unconfirmed).unwrap_or(usize::MAX)
    }

    fn finish(mut self: Box<Self>) -> Result<u64> {
        self.close()?;
        let named = self.rename()?;
        // W2: the size in the store is the size that was written.
        match (self.store.stat(OP, &self.path)?, named) {
            (Some(bytes), Named::Done | Named::Gone) if bytes == self.bytes => Ok(bytes),
            (None, _) => Err(self.collected()),
            (Some(bytes), _) => {
                let message = format!("wrote {} bytes, the file has {bytes}", self.bytes);
                Err(Error::new(Kind::StoreUnavailable, OP, message)
                    .with("store", &self.store.address.url)
                    .with("path", &self.path))
            }
        }
    }
}

/// An unfinished file is removed if the name node answers; otherwise it is found later.
impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(under) = self.under.take()
            && let Err(e) = self.store.remove(&under)
        {
            tracing::debug!(path = %self.path, error = %e, "left for the next sweep");
        }
        // The client closes its connection to the data nodes only in this call. Nobody waits for it, and the name node
        // refuses it.
        if let (Some(mut remote), Ok(runtime)) = (self.remote.take(), runtime::handle()) {
            runtime.spawn(async move {
                let closed = tokio::time::timeout(DATA_MAX, remote.close()).await;
                tracing::trace!(?closed, "a dropped file is closed");
            });
        }
    }
}

/// Polls the client's work no more often than once per [`STEP`].
async fn unhurried<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = futures::poll!(work.as_mut()) {
            return done;
        }
        tokio::time::sleep(STEP).await;
    }
}
