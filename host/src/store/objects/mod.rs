//! Stores on the crate `object_store`, which is named in this folder only.

mod directory;
mod writer;

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Runtime;

pub(super) use self::directory::open as directory;
use super::errno;
use super::{Created, Listed};
use crate::error::{Error, Kind, Result};

/// object_store's calls are short and block elsewhere: one worker is enough for timers and hand-overs.
static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("store")
        .enable_time()
        .build()
});

fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    match &*RUNTIME {
        Ok(runtime) => Ok(runtime.block_on(future)),
        Err(e) => Err(Error::new(
            Kind::LimitReached,
            "store.open",
            format!("the store's thread cannot be started: {e}"),
        )),
    }
}

/// A store of that crate: the requests that are the same for each kind.
#[derive(Clone, Debug)]
struct Objects {
    inner: Arc<dyn ObjectStore>,
    url: String,
}

impl Objects {
    fn path(op: &'static str, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|e| {
            Error::new(Kind::Bug, op, "not a path of a store")
                .with("path", path)
                .source(e)
        })
    }

    fn failed(&self, op: &'static str, path: &str, e: object_store::Error) -> Error {
        let unknown = io::Error::from(io::ErrorKind::Other);
        let (kind, message, hint) = errno::meaning(io_error(&e).unwrap_or(&unknown));
        Error::new(kind, op, message)
            .with("store", &self.url)
            .with("path", path)
            .hint(hint)
            .source(e)
    }
}

fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    io_error(error).map(io::Error::kind)
}

/// The io error at the bottom, if there is one.
fn io_error(error: &object_store::Error) -> Option<&io::Error> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = e.source();
    }
    None
}

impl Objects {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        const OP: &str = "store.create";
        let at = Self::path(OP, path)?;
        let payload = Bytes::copy_from_slice(bytes).into();
        let options = PutOptions::from(PutMode::Create);
        match wait(self.inner.put_opts(&at, payload, options))? {
            Ok(_) => Ok(Created::Done),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(Created::Exists),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        const OP: &str = "store.get";
        let at = Self::path(OP, path)?;
        let read = async { self.inner.get(&at).await?.bytes().await };
        match wait(read)? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        const OP: &str = "store.get_range";
        let at = Self::path(OP, path)?;
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let bytes = match wait(self.inner.get_range(&at, range.clone()))? {
            Ok(bytes) => bytes,
            Err(e) => return Err(self.failed(OP, path, e)),
        };
        if bytes.len() as u64 != wanted {
            return Err(Error::new(
                Kind::LogCorrupt,
                OP,
                format!("expected bytes {range:?}, the file ends before"),
            )
            .with("store", &self.url)
            .with("path", path));
        }
        Ok(bytes)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        const OP: &str = "store.size";
        let at = Self::path(OP, path)?;
        match wait(self.inner.head(&at))? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        const OP: &str = "store.list";
        let at = Self::path(OP, prefix)?;
        let listed = self.inner.list(Some(&at)).try_collect::<Vec<_>>();
        let mut found: Vec<Listed> = match wait(listed)? {
            Ok(metas) => metas
                .into_iter()
                .map(|m| Listed {
                    path: m.location.to_string(),
                    size: m.size,
                })
                .collect(),
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(e) => return Err(self.failed(OP, prefix, e)),
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn delete(&self, path: &str) -> Result<()> {
        const OP: &str = "store.delete";
        let at = Self::path(OP, path)?;
        match wait(self.inner.delete(&at))? {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }
}
