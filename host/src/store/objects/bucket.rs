//! `s3:`, `gs:`, `az:`: a bucket or container and a prefix in it. Publishes by completing uploads, or (S3, `sink.publish =
//! "copy"`) by copying staged objects.
//!
//! Part names are kept as the service gave them. After a lost answer, a part that was sent again counts only if its
//! name shows that it has the same bytes (O2).

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{Attribute, Attributes, CopyOptions, PutMultipartOptions, PutPayload, TagSet};
use tokio::task::JoinHandle;

use super::answers;
use super::services::{self, Client};
use super::whole::Whole;
use super::{Objects, Remote, crypto, spawn, wait};
use crate::config::{Location, Options, Publish, System};
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::store::path_limits::PathLimits;
use crate::store::{
    Completed, Created, Inputs, Listed, PartSent, Renamed, Renames, StagedWriter, Store, Upload,
    Uploads, Way,
};

/// Bytes of every part but the last. S3 takes no smaller ones than 5 MiB and refuses them only when the upload is completed;
/// 10,000 of these are 78 GiB.
pub(super) const PART_BYTES: usize = 8 << 20;
/// Shortest time between two looks for news: one list each time makes 720 lists an hour, about a third of a cent on S3.
const NEWS_EVERY: Duration = Duration::from_secs(5);
/// First wait before a part is sent again; it doubles.
const PART_BACKOFF: Duration = Duration::from_millis(100);
const PART_BACKOFF_MAX: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Bucket {
    system: System,
    /// A client that retries requests.
    pub(super) objects: Objects,
    /// A client that sends each request once.
    once: Objects,
    pub(super) retrying: Client,
    single: Client,
    options: Arc<Options>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.objects.url).finish()
    }
}

type Opened = (Location, bool, Weak<Bucket>);

/// Open stores. Opening one again shares its connections and credentials.
static OPENED: LazyLock<Mutex<Vec<Opened>>> = LazyLock::new(Mutex::default);

/// The store of a location; its client is shared while somebody holds it.
pub(in crate::store) fn open(at: &Location) -> Result<Arc<dyn Store>> {
    let system = at.system().unwrap_or(System::S3);
    // A reference may resolve to something else in a config that came by REST, so confined and other stores are not
    // shared.
    let confined = at.options.secrets().any(|text| text.reach().is_confined());
    let mut opened = lock(&OPENED);
    opened.retain(|(_, _, store)| store.strong_count() > 0);
    let same = |(known, by, _): &&Opened| known == at && *by == confined;
    if let Some(store) = opened.iter().find(same).and_then(|(_, _, s)| s.upgrade()) {
        return Ok(store);
    }
    let store = Arc::new(Bucket::of(at, system)?);
    opened.push((at.clone(), confined, Arc::downgrade(&store)));
    Ok(store)
}

impl Bucket {
    fn of(at: &Location, system: System) -> Result<Bucket> {
        // Connections must be made on the runtime.
        let service = wait(async { services::connect(at, system) })??;
        let options = Arc::new(at.options.clone());
        let remote = Arc::new(Remote {
            options: options.clone(),
            watch: service.watch,
            signer: service.signer,
        });
        let (_, prefix) = at.bucket();
        let objects = |client: &Client| Objects {
            inner: client.objects.clone(),
            url: at.url.clone(),
            prefix: prefix.to_owned(),
            remote: Some(remote.clone()),
        };
        Ok(Bucket {
            system,
            objects: objects(&service.retrying),
            once: objects(&service.once),
            retrying: service.retrying,
            single: service.once,
            options,
        })
    }

    pub(super) fn tags(&self) -> TagSet {
        let mut tags = TagSet::default();
        for (name, value) in &self.options.tags {
            tags.push(name, value);
        }
        tags
    }

    /// For data files; objects of the log get the bucket's defaults.
    pub(super) fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        if let Some(class) = &self.options.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    fn code(error: &object_store::Error) -> (String, Option<u16>) {
        let said = answers::said(error);
        (said.code.unwrap_or_default(), said.status)
    }

    /// The upload does not exist. An absent bucket does not count.
    fn is_gone(error: &object_store::Error) -> bool {
        match Self::code(error) {
            (code, _) if code == "NoSuchUpload" => true,
            (code, Some(404)) => code.is_empty() || code == "NoSuchKey",
            _ => false,
        }
    }

    /// Whether the service said clearly that it did nothing and may do it later.
    fn did_nothing(error: &object_store::Error) -> bool {
        matches!(Self::code(error).1, Some(429 | 503)) || answers::never_sent(error)
    }

    /// O2. A part may be sent again with the same bytes. After a lost answer, only its name can show that the stored
    /// part has these bytes (the etag is their MD5, except under some kinds of encryption).
    async fn part(self, at: Path, id: String, number: usize, pieces: Vec<Bytes>) -> PartAnswer {
        let (mut tries, mut unknown, begun) = (0, false, Instant::now());
        let mut backoff = PART_BACKOFF;
        loop {
            let payload = PutPayload::from_iter(pieces.iter().cloned());
            let sent = self.single.parts.put_part(&at, &id, number - 1, payload);
            let error = match sent.await {
                Ok(part) => {
                    let same = || crypto::is_md5(&part.content_id, &pieces);
                    return match unknown && self.system != System::Azure && !same() {
                        true => PartAnswer::Unsure,
                        false => PartAnswer::Name(part.content_id),
                    };
                }
                Err(error) if Self::is_gone(&error) => return PartAnswer::Gone,
                Err(error) => error,
            };
            unknown |= !Self::did_nothing(&error);
            let passes = self.objects.meaning(&error).0 == Kind::StoreUnavailable;
            let late = begun.elapsed() >= self.options.retry_timeout;
            if !passes || late || tries >= self.options.retries {
                return PartAnswer::Failed(error);
            }
            tries += 1;
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(PART_BACKOFF_MAX);
        }
    }
}

#[derive(Debug)]
enum PartAnswer {
    Name(String),
    Gone,
    /// The part is there, perhaps with other bytes.
    Unsure,
    Failed(object_store::Error),
}

#[derive(Debug)]
struct Sending {
    store: Bucket,
    path: String,
    /// Dropping it gives up the request.
    task: Option<JoinHandle<PartAnswer>>,
}

impl PartSent for Sending {
    fn wait(mut self: Box<Self>) -> Result<Option<String>> {
        const OP: &str = "store.write";
        let lost = || {
            Error::new(
                Kind::StoreUnavailable,
                OP,
                "what became of a part of this file is not known",
            )
            .with("store", &self.store.objects.url)
            .with("path", &self.path)
            .hint("the file is dropped, and its records are read again")
        };
        let Some(task) = self.task.take() else {
            return Err(lost());
        };
        match wait(task)? {
            Ok(PartAnswer::Name(name)) => Ok(Some(name)),
            Ok(PartAnswer::Gone) => Ok(None),
            Ok(PartAnswer::Failed(error)) => Err(self.store.objects.failed(OP, &self.path, error)),
            Ok(PartAnswer::Unsure) | Err(_) => Err(lost()),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Store for Bucket {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        self.objects.create(path, bytes)
    }

    fn create_once(&self, path: &str, bytes: &[u8]) -> Result<Created> {
        self.once.create(path, bytes)
    }

    fn get(&self, path: &str) -> Result<Option<Bytes>> {
        self.objects.get(path)
    }

    fn get_many(&self, paths: &[String]) -> Result<Vec<Option<Bytes>>> {
        self.objects.get_many(paths)
    }

    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes> {
        self.objects.get_range(path, range)
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        self.objects.size(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        self.objects.list(prefix)
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.objects.delete(path)
    }

    /// Nothing to do: an acknowledged request is durable.
    fn sync(&self, _dir: &str) -> Result<()> {
        Ok(())
    }

    fn is_far(&self) -> bool {
        true
    }

    /// As of its last answer, which tells whole seconds.
    fn clock_ahead(&self, _home: &str) -> Result<Option<i64>> {
        let remote = self.objects.remote.as_ref();
        let seconds = remote.and_then(|remote| remote.watch.skew());
        Ok(seconds.map(|seconds| seconds.saturating_mul(1000)))
    }

    fn url(&self) -> &str {
        &self.objects.url
    }

    fn path_limits(&self) -> PathLimits {
        PathLimits::of_bucket(self.system, &self.objects.prefix)
    }

    fn way(&self) -> Way<'_> {
        match self.options.publish {
            Publish::Complete => Way::Complete(self),
            Publish::Copy => Way::Rename(self),
        }
    }

    fn news_every(&self) -> Duration {
        NEWS_EVERY
    }

    fn inputs(&self) -> &dyn Inputs {
        self
    }
}

impl Uploads for Bucket {
    fn part_bytes(&self) -> usize {
        PART_BYTES
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(self.options.lifetime)
    }

    /// Azure drops uncommitted blocks after a week, and not before.
    fn aborts(&self) -> bool {
        self.system != System::Azure
    }

    fn begin_upload(&self, path: &str) -> Result<String> {
        const OP: &str = "store.begin";
        let at = self.objects.at(OP, path)?;
        let options = PutMultipartOptions {
            tags: self.tags(),
            attributes: self.attributes(),
            ..PutMultipartOptions::default()
        };
        let begun = wait(self.retrying.parts.create_multipart_opts(&at, options))?;
        begun.map_err(|e| self.objects.failed(OP, path, e))
    }

    fn put_part(
        &self,
        path: &str,
        id: &str,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Result<Option<String>> {
        self.send_part(path, id, number, pieces).wait()
    }

    fn send_part(
        &self,
        path: &str,
        id: &str,
        number: usize,
        pieces: Vec<Bytes>,
    ) -> Box<dyn PartSent> {
        let sent = |task| {
            Box::new(Sending {
                store: self.clone(),
                path: path.to_owned(),
                task,
            })
        };
        let Ok(at) = self.objects.at("store.write", path) else {
            return sent(None);
        };
        let part = self.clone().part(at, id.to_owned(), number, pieces);
        sent(spawn(part).ok())
    }

    fn complete(&self, path: &str, upload: &Upload) -> Result<Completed> {
        const OP: &str = "store.complete";
        // Completing an upload without parts would put an empty object in its place.
        if upload.defect().is_some() {
            return Ok(Completed::Refused);
        }
        let at = self.objects.at(OP, path)?;
        let parts = upload.parts.iter().map(|name| PartId {
            content_id: name.clone(),
        });
        let completed = self
            .retrying
            .parts
            .complete_multipart(&at, &upload.id, parts.collect());
        match wait(completed)? {
            Ok(_) => Ok(Completed::Accepted),
            Err(e) if Self::is_gone(&e) => Ok(Completed::Refused),
            Err(e) => match Self::code(&e) {
                (code, Some(400 | 409 | 412)) if !code.starts_with("Expired") => {
                    tracing::debug!(path, code, "an upload was not completed");
                    let (kind, _, _) = self.objects.meaning(&e);
                    match kind {
                        Kind::ConfigInvalid => Err(self.objects.failed(OP, path, e)),
                        _ => Ok(Completed::Refused),
                    }
                }
                _ => Err(self.objects.failed(OP, path, e)),
            },
        }
    }

    fn abort(&self, path: &str, id: &str) -> Result<()> {
        const OP: &str = "store.abort";
        let at = self.objects.at(OP, path)?;
        match wait(self.retrying.parts.abort_multipart(&at, &id.to_owned()))? {
            Ok(()) => Ok(()),
            Err(e) if Self::is_gone(&e) => Ok(()),
            Err(e) => Err(self.objects.failed(OP, path, e)),
        }
    }

    fn give_up(&self, path: &str, id: &str) -> Result<()> {
        const OP: &str = "store.abort";
        let at = self.objects.at(OP, path)?;
        let aborted = wait(self.single.parts.abort_multipart(&at, &id.to_owned()))?;
        aborted.map_err(|e| self.objects.failed(OP, path, e))
    }

    fn copies(&self) -> Option<&dyn Renames> {
        (self.system == System::S3).then_some(self)
    }
}

/// Publishes by copying staged objects. Each name belongs to one file only, so a copy that is made twice does no harm.
impl Renames for Bucket {
    fn rename(&self, from: &str, to: &str) -> Result<Renamed> {
        const OP: &str = "store.copy";
        let bytes = match (self.size(from)?, self.size(to)?) {
            (None, _) => return Ok(Renamed::SourceMissing),
            (Some(_), Some(_)) => return Ok(Renamed::TargetExists),
            (Some(bytes), None) => bytes,
        };
        let (source, target) = (self.objects.at(OP, from)?, self.objects.at(OP, to)?);
        let copied = self
            .retrying
            .objects
            .copy_opts(&source, &target, CopyOptions::new());
        match wait(copied)? {
            Ok(()) => {}
            Err(object_store::Error::NotFound { .. }) if self.size(from)?.is_none() => {
                return Ok(Renamed::SourceMissing);
            }
            Err(e) => return Err(self.objects.failed(OP, to, e)),
        }
        match self.size(to)? {
            Some(there) if there == bytes => {
                self.delete(from)?;
                Ok(Renamed::Done)
            }
            there => Err(Error::new(
                Kind::StoreUnavailable,
                OP,
                format!("{bytes} bytes were copied, and the store shows {there:?}"),
            )
            .with("store", &self.objects.url)
            .with("path", to)),
        }
    }

    fn write(&self, path: &str) -> Result<Box<dyn StagedWriter>> {
        Ok(Box::new(Whole::new(self, path)))
    }

    /// A killed write leaves an upload that no listing shows: the bucket's rule for incomplete uploads ends it.
    fn leftovers(&self, _dir: &str, _idle: Duration) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn clear_leftovers(&self, _path: &str) -> Result<()> {
        Ok(())
    }

    fn comes_late(&self) -> bool {
        true
    }

    fn uploads(&self) -> Option<&dyn Uploads> {
        Some(self)
    }
}
