//! Stores on the crate `object_store`. Only this folder names the crate.

mod answers;
mod bucket;
mod connect;
mod credentials;
mod crypto;
mod directory;
mod files;
mod keys;
mod services;
mod whole;
mod writer;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use self::answers::Scene;
pub(super) use self::bucket::open as bucket;
use self::connect::Watch;
pub(super) use self::directory::open as directory;
use super::errno;
use super::runtime::{spawn, wait};
use super::{Created, Listed};
use crate::config::Options;
use crate::error::{Error, Kind, Result};

/// Most requests for small objects in flight at a time.
const GETS_IN_FLIGHT: usize = 16;

/// A store of that crate, with the requests that are the same for each kind.
#[derive(Clone, Debug)]
struct Objects {
    inner: Arc<dyn ObjectStore>,
    url: String,
    /// Prefix of every path, without a slash at its end.
    prefix: String,
    /// `None`: a directory.
    remote: Option<Arc<Remote>>,
}

/// What messages about a service's errors need.
#[derive(Debug)]
struct Remote {
    options: Arc<Options>,
    watch: Arc<Watch>,
    signer: String,
}

impl Objects {
    /// The crate's path for one of our paths.
    fn at(&self, op: &'static str, path: &str) -> Result<Path> {
        let path = path.trim_end_matches('/');
        match (self.prefix.as_str(), path) {
            ("", path) => Self::path(op, path),
            (prefix, "") => Self::path(op, prefix),
            (prefix, path) => Self::path(op, &format!("{prefix}/{path}")),
        }
    }

    /// Our path for an object in a listing.
    fn below(&self, found: &str) -> Option<String> {
        if self.prefix.is_empty() {
            return Some(found.to_owned());
        }
        let rest = found.strip_prefix(&self.prefix)?;
        rest.strip_prefix('/').map(str::to_owned)
    }

    /// The error's kind, what it means, and what to do.
    fn meaning(&self, e: &object_store::Error) -> (Kind, String, String) {
        match &self.remote {
            Some(remote) => {
                if answers::is_expired(e) {
                    remote.watch.set_expired(true);
                }
                let scene = Scene {
                    options: &remote.options,
                    watch: &remote.watch,
                    signer: &remote.signer,
                };
                answers::meaning(e, &scene)
            }
            None => {
                let unknown = io::Error::from(io::ErrorKind::Other);
                let (kind, what, hint) = errno::meaning(io_error(e).unwrap_or(&unknown));
                (kind, what.to_owned(), hint)
            }
        }
    }

    fn path(op: &'static str, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|e| {
            Error::new(Kind::Bug, op, "not a path of a store")
                .with("path", path)
                .source(e)
        })
    }

    fn failed(&self, op: &'static str, path: &str, e: object_store::Error) -> Error {
        let (kind, message, hint) = self.meaning(&e);
        let error = Error::new(kind, op, message)
            .with("store", &self.url)
            .with("path", path)
            .hint(hint);
        match &self.remote {
            // The library's own error may hold signed addresses.
            Some(_) => error.source(answers::said(&e)),
            None => error.source(e),
        }
    }
}

fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    io_error(error).map(io::Error::kind)
}

/// A name that no file of this file system can have.
fn is_too_long(error: &object_store::Error) -> bool {
    io_error(error).and_then(io::Error::raw_os_error) == Some(libc::ENAMETOOLONG)
}

/// The io error that caused it, if there is one.
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
    /// The object does not exist. An absent bucket does not count, but the answer to a HEAD is 404 for both. A name that is too
    /// long for a file system is that of no file.
    fn is_absent(&self, e: &object_store::Error) -> bool {
        if self.remote.is_none() && is_too_long(e) {
            return true;
        }
        matches!(e, object_store::Error::NotFound { .. })
            && (self.remote.is_none() || !answers::lacks_bucket(e))
    }

    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        const OP: &str = "store.create";
        let at = self.at(OP, path)?;
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
        let at = self.at(OP, path)?;
        let read = async { self.inner.get(&at).await?.bytes().await };
        match wait(read)? {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if self.is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    /// One request for each, several in flight at a time.
    fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        const OP: &str = "store.get";
        let at: Vec<Path> = paths
            .iter()
            .map(|path| self.at(OP, path))
            .collect::<Result<_>>()?;
        let gets = at
            .iter()
            .map(|at| async move { self.inner.get(at).await?.bytes().await });
        let got = futures::stream::iter(gets).buffered(GETS_IN_FLIGHT);
        let got: Vec<object_store::Result<Bytes>> = wait(got.collect())?;
        let told = |(got, path): (object_store::Result<Bytes>, &String)| match got {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if self.is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        };
        got.into_iter().zip(paths).map(told).collect()
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        const OP: &str = "store.get_range";
        let at = self.at(OP, path)?;
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

    /// What is known of an object. The answer to a HEAD has no body, so a refusal does not say why: then a GET of one byte
    /// is asked for, and its answer counts.
    async fn head(&self, at: &Path) -> object_store::Result<ObjectMeta> {
        let bare = match self.inner.head(at).await {
            Err(error) if self.remote.is_some() && answers::gives_no_reason(&error) => error,
            answer => return answer,
        };
        let byte = GetOptions::new().with_range(Some(0..1));
        match self.inner.get_opts(at, byte).await {
            Ok(found) => Ok(found.meta),
            // An empty object has no such byte; whoever learns that may read it.
            Err(error) if answers::lacks_bytes(&error) => self.inner.head(at).await,
            Err(error) if answers::gives_no_reason(&error) => Err(bare),
            Err(error) => Err(error),
        }
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        const OP: &str = "store.size";
        let at = self.at(OP, path)?;
        match wait(self.head(&at))? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(e) if self.is_absent(&e) => Ok(None),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        const OP: &str = "store.list";
        let at = self.at(OP, prefix)?;
        let listed = self.inner.list(Some(&at)).try_collect::<Vec<_>>();
        let mut found: Vec<Listed> = match wait(listed)? {
            Ok(metas) => metas
                .into_iter()
                .filter_map(|m| {
                    let path = self.below(m.location.as_ref())?;
                    Some(Listed { path, size: m.size })
                })
                .collect(),
            Err(e) if self.is_absent(&e) => Vec::new(),
            Err(e) => return Err(self.failed(OP, prefix, e)),
        };
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn delete(&self, path: &str) -> Result<()> {
        const OP: &str = "store.delete";
        let at = self.at(OP, path)?;
        match wait(self.inner.delete(&at))? {
            Ok(()) => Ok(()),
            Err(e) if self.is_absent(&e) => Ok(()),
            Err(e) => Err(self.failed(OP, path, e)),
        }
    }
}
