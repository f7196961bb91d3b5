//! The file list: which files a pipeline reads, in which order and at which positions. Durable in its home, under
//! `_system/<pipeline>/<zone>/files/`, as numbered documents that are put only where none is yet.
//!
//! - A file stands in the list before any record of it is read, and what stands there never changes.
//! - Of two processes that add files at once one is first; the other reads what it added and goes on behind it.
//! - In memory are a few numbers for each document, a few documents, and 40 to 80 bytes for each file: a list of a million files takes less
//!   than 80 MB.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;

use crate::error::{Error, Kind, Result};
use crate::store::{Created, Found, Store};

/// Of the documents. Another number: another version of Weir wrote them.
const FORMAT: u32 = 1;
/// Files of one document: about a megabyte.
pub(super) const DOCUMENT_FILES: usize = 5_000;
/// Documents in memory beside those that are being read.
const CACHED: usize = 4;
/// Documents that are fetched together when the list is read from its beginning.
const FETCHED: usize = 16;
/// Records of a packed file (compressed, Parquet) for which there is room beside [`PACKED_RECORDS`] for each of its bytes.
const PACKED_ROOM: i64 = 1 << 20;
/// Positions of a file that is followed, whose size nobody knows: bytes. A partition has room for two million of them.
pub(super) const FOLLOWED_ROOM: i64 = 1 << 42;
/// gzip makes at most 1032 bytes of one, and a record has one at least.
const PACKED_RECORDS: i64 = 1_032;

/// Names that are followed at one time: each has its place in every state of the log.
const FOLLOWED_MAX: i32 = 1_000;

const OP: &str = "file.list";

/// A file in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Below `source.url`.
    pub path: String,
    pub size: u64,
    /// Microseconds since 1970 UTC.
    pub modified: i64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub identity: String,
    pub partition: i32,
    /// Its first position in the partition.
    pub at: i64,
    /// How many positions are its own.
    pub room: i64,
    /// The byte at which reading begins, where a person said so: what lies before it, here and in the entries before, is passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

impl Entry {
    pub(super) fn end(&self) -> i64 {
        self.at.saturating_add(self.room)
    }

    /// Whether it stands for whichever file will have this name.
    pub(super) fn is_open(&self) -> bool {
        self.identity.is_empty()
    }

    /// The position of the byte at which reading begins.
    pub(super) fn first(&self) -> i64 {
        let from = i64::try_from(self.from.unwrap_or(0)).unwrap_or(i64::MAX);
        self.at.saturating_add(from.min(self.room - 1))
    }

    pub(super) fn found(&self) -> Found {
        Found {
            path: self.path.clone(),
            size: self.size,
            modified: self.modified,
            identity: self.identity.clone(),
        }
    }
}

/// Whether positions in a file count records instead of bytes.
pub(super) fn is_packed(path: &str, parquet: bool) -> bool {
    parquet || super::reader::compression(path).is_some()
}

/// How many positions a file gets. One more than it has bytes: its end is not the beginning of the next one.
pub(super) fn room(size: u64, packed: bool) -> i64 {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    match packed {
        true => size
            .saturating_mul(PACKED_RECORDS)
            .saturating_add(PACKED_ROOM),
        false => size.saturating_add(1),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub format: u32,
    pub number: u64,
    /// `source.url` and the format with its keys: what positions mean.
    pub url: String,
    pub reads: String,
    pub files: Vec<Entry>,
}

/// What is known of a file that stands in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Digest of size, time and identity.
    print: u64,
    /// Its number among all files.
    pub ordinal: u32,
}

fn print(found: &Found, follows: bool) -> u64 {
    let time = match found.has_etag() {
        true => 0,
        false => found.modified,
    };
    let text = match follows {
        true => found.node().unwrap_or_default().to_owned(),
        false => format!("{}\n{time}\n{}", found.size, found.identity),
    };
    // Half of it tells two files of one name apart.
    XxHash3_128::oneshot(text.as_bytes()) as u64
}

/// What stands for one document while it is not in memory.
#[derive(Debug)]
struct Known {
    /// Where each partition ends with it.
    ends: Vec<i64>,
    /// Files of all documents with it.
    files: u32,
}

/// Where a file stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub document: Arc<Document>,
    pub index: usize,
    /// Its number among all files.
    pub ordinal: u32,
}

impl Place {
    pub(super) fn entry(&self) -> Option<&Entry> {
        self.document.files.get(self.index)
    }
}

/// Of one name.
#[derive(Clone, Copy, Debug)]
struct Lane {
    partition: i32,
    /// Of its last entry, as long as no file was there for it.
    waits: Option<u64>,
}

/// What a list makes of the files in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Each file once, by its path.
    Paths,
    /// Each name once, in whichever directory.
    Names,
    /// What has a name now, as it grows.
    Growing,
}

#[derive(Debug)]
pub(super) struct FileList {
    dir: String,
    url: String,
    reads: String,
    name_only: bool,
    /// Files grow while they are read: each name has a partition of its own, in which the files that have it follow each other.
    follows: bool,
    known: Vec<Known>,
    seen: HashMap<u128, Seen>,
    /// Of files that are followed: the partition of each name.
    lanes: HashMap<u128, Lane>,
    /// Where a person said that a partition goes on, the last time.
    set: HashMap<i32, i64>,
    /// Partitions that another name may have.
    free: Vec<i32>,
    followed_max: i32,
    /// The newest time of change in the list.
    newest: Option<i64>,
    cache: VecDeque<Arc<Document>>,
}

impl FileList {
    pub(super) fn new(dir: String, url: String, reads: String, takes: Takes) -> FileList {
        FileList {
            dir,
            url,
            reads,
            name_only: takes == Takes::Names,
            follows: takes == Takes::Growing,
            known: Vec::new(),
            seen: HashMap::new(),
            lanes: HashMap::new(),
            set: HashMap::new(),
            free: Vec::new(),
            followed_max: FOLLOWED_MAX,
            newest: None,
            cache: VecDeque::new(),
        }
    }

    fn path(&self, number: u64) -> String {
        format!("{}/{number:020}.json", self.dir)
    }

    fn key(&self, path: &str) -> u128 {
        let name = match self.name_only {
            true => path.rsplit('/').next().unwrap_or(path),
            false => path,
        };
        XxHash3_128::oneshot(name.as_bytes())
    }

    /// Of files that were found together, those that are not in the list and are not one file twice.
    pub(super) fn fresh(&self, group: &[Found], reads_changed: bool) -> Vec<Found> {
        let mut keys = HashSet::new();
        let is_fresh = |found: &&Found| match self.has(found) {
            None => keys.insert(self.key(&found.path)),
            Some((same, _)) => !same && reads_changed,
        };
        group.iter().filter(is_fresh).cloned().collect()
    }

    pub(super) fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// `None`: it is not in the list. `Some(false)`: another file of this name is.
    pub(super) fn has(&self, found: &Found) -> Option<(bool, Seen)> {
        let seen = self.seen.get(&self.key(&found.path))?;
        // Where names count alone, a file of another directory is the same one.
        Some((
            self.name_only || seen.print == print(found, self.follows),
            *seen,
        ))
    }

    /// Of files that are followed: the partition of a name, once it is in the list.
    pub(super) fn lane(&self, path: &str) -> Option<i32> {
        self.lanes.get(&self.key(path)).map(|lane| lane.partition)
    }

    /// The last entry of a partition has no file yet.
    pub(super) fn waits(&self, partition: i32) -> bool {
        let mut lanes = self.lanes.values();
        lanes.any(|lane| lane.partition == partition && lane.waits.is_some())
    }

    /// Where a person said that a partition goes on, the last time.
    pub(super) fn set(&self, partition: i32) -> Option<i64> {
        self.set.get(&partition).copied()
    }

    /// Next position of a partition behind all of its files.
    pub(super) fn end(&self, partition: i32) -> i64 {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let last = self.known.last();
        last.and_then(|known| known.ends.get(index).copied())
            .unwrap_or(0)
    }

    pub(super) fn partitions(&self) -> i32 {
        let last = self.known.last();
        last.map_or(0, |known| {
            i32::try_from(known.ends.len()).unwrap_or(i32::MAX)
        })
    }

    pub(super) fn documents(&self) -> u64 {
        self.known.len() as u64
    }

    pub(super) fn files(&self) -> u32 {
        self.known.last().map_or(0, |known| known.files)
    }

    /// Reads the whole list, or what others have added since. The first costs a listing and a request for each document, the
    /// second one request more than there are new documents.
    pub(super) fn load(&mut self, store: &dyn Store) -> Result<()> {
        // Others add few: they are asked for one by one.
        while self.documents() > 0 {
            let path = self.path(self.documents());
            let Some(bytes) = store.get(&path)? else {
                return Ok(());
            };
            let document = self.decode(&path, &bytes)?;
            self.add(document)?;
        }
        let count = self.count(store)?;
        let mut number = 0;
        while number < count {
            let to = count.min(number + FETCHED as u64);
            let paths: Vec<String> = (number..to).map(|n| self.path(n)).collect();
            let got = store.get_many(&paths)?;
            for (path, bytes) in paths.iter().zip(got) {
                let bytes = bytes.ok_or_else(|| self.corrupt(path, "it is not there"))?;
                let document = self.decode(path, &bytes)?;
                self.add(document)?;
            }
            number = to;
        }
        Ok(())
    }

    /// Whether its first document was written with this config: all that follow it were.
    pub(super) fn fits(&self, store: &dyn Store) -> Result<()> {
        let path = self.path(0);
        match store.get(&path)? {
            Some(bytes) => self.decode(&path, &bytes).map(drop),
            None => Ok(()),
        }
    }

    /// Documents in the store. One that is missing in between is a loss.
    fn count(&self, store: &dyn Store) -> Result<u64> {
        let mut count = 0;
        for listed in store.list(&self.dir)? {
            let name = listed.path.rsplit('/').next().unwrap_or_default();
            let number = name
                .strip_suffix(".json")
                .and_then(|n| n.parse::<u64>().ok());
            let Some(number) = number else {
                continue;
            };
            if number != count {
                return Err(self.corrupt(&self.path(count), "it is not there"));
            }
            count += 1;
        }
        Ok(count)
    }

    fn corrupt(&self, path: &str, what: &str) -> Error {
        Error::new(
            Kind::LogCorrupt,
            OP,
            format!("a document of the file list cannot be used: {what}"),
        )
        .with("document", path)
        .hint("restore it from a copy of the home, or give the pipeline another name: it then reads all files again")
    }

    fn decode(&self, path: &str, bytes: &[u8]) -> Result<Document> {
        let decoded: serde_json::Result<Document> = serde_json::from_slice(bytes);
        let document = decoded.map_err(|e| self.corrupt(path, &e.to_string()))?;
        if document.format != FORMAT {
            let what = format!(
                "it has format {}, this version reads {FORMAT}",
                document.format
            );
            return Err(self.corrupt(path, &what));
        }
        for (key, was, now) in [
            ("source.url", &document.url, &self.url),
            ("source.format", &document.reads, &self.reads),
        ] {
            if was != now {
                return Err(Error::new(
                    Kind::ConfigInvalid,
                    OP,
                    format!("this pipeline reads `{was}` ({key}), and the config says `{now}`: its positions would mean other records"),
                )
                .with("pipeline files", path)
                .hint("put source.url, source.format and the keys of the format back, or give the pipeline another name"));
            }
        }
        Ok(document)
    }

    /// The next document of the list.
    fn add(&mut self, document: Document) -> Result<()> {
        let path = self.path(document.number);
        let mut ends = self
            .known
            .last()
            .map_or_else(Vec::new, |known| known.ends.clone());
        let first = self.files();
        for (entry, ordinal) in document.files.iter().zip(first..) {
            let index = usize::try_from(entry.partition).unwrap_or(usize::MAX);
            if index >= ends.len() && index < usize::from(u16::MAX) {
                ends.resize(index + 1, 0);
            }
            match ends.get_mut(index) {
                Some(end) if *end == entry.at && entry.room > 0 => *end = entry.end(),
                _ => return Err(self.corrupt(&path, "its positions do not follow those before")),
            }
            self.newest = self.newest.max(Some(entry.modified));
            let seen = Seen {
                print: print(&entry.found(), self.follows),
                ordinal,
            };
            let key = self.key(&entry.path);
            self.seen.insert(key, seen);
            if self.follows {
                let waits = entry.is_open().then_some(entry.from.unwrap_or(0));
                let partition = entry.partition;
                // A name that was deleted gave its partition away.
                let is_other =
                    |other: &u128, lane: &Lane| *other != key && lane.partition == partition;
                self.lanes.retain(|other, lane| !is_other(other, lane));
                self.lanes.insert(key, Lane { partition, waits });
            }
            if entry.from.is_some() {
                self.set.insert(entry.partition, entry.first());
            }
        }
        let added = u32::try_from(document.files.len()).unwrap_or(u32::MAX);
        let files = first.checked_add(added).ok_or_else(|| {
            Error::new(Kind::LimitReached, OP, "the file list has 2^32 files").hint(
                "give the pipeline another name; files that are read should be moved away before",
            )
        })?;
        self.known.push(Known { ends, files });
        self.keep(Arc::new(document));
        Ok(())
    }

    fn keep(&mut self, document: Arc<Document>) {
        if self.cache.len() >= CACHED {
            self.cache.pop_front();
        }
        self.cache.push_back(document);
    }

    fn document(&mut self, store: &dyn Store, number: u64) -> Result<Arc<Document>> {
        if let Some(found) = self.cache.iter().find(|d| d.number == number) {
            return Ok(found.clone());
        }
        let path = self.path(number);
        let bytes = store.get(&path)?;
        let bytes = bytes.ok_or_else(|| self.corrupt(&path, "it is not there"))?;
        let document = Arc::new(self.decode(&path, &bytes)?);
        self.keep(document.clone());
        Ok(document)
    }

    fn first_of(&self, number: usize) -> u32 {
        let before = number.checked_sub(1).and_then(|n| self.known.get(n));
        before.map_or(0, |known| known.files)
    }

    /// The file of a partition in which a position lies, or the first behind it. `None`: it is at the end.
    pub(super) fn file_at(
        &mut self,
        store: &dyn Store,
        partition: i32,
        position: i64,
    ) -> Result<Option<Place>> {
        let index = usize::try_from(partition).unwrap_or(usize::MAX);
        let end = |known: &Known| known.ends.get(index).copied().unwrap_or(0);
        let number = self.known.partition_point(|known| end(known) <= position);
        if number >= self.known.len() {
            return Ok(None);
        }
        let document = self.document(store, number as u64)?;
        let mut files = document.files.iter();
        let at = files.position(|e| e.partition == partition && e.end() > position);
        let place = at.map(|index| Place {
            ordinal: self
                .first_of(number)
                .saturating_add(u32::try_from(index).unwrap_or(u32::MAX)),
            document: document.clone(),
            index,
        });
        match place {
            Some(place) => Ok(Some(place)),
            None => Err(self.corrupt(&self.path(number as u64), "a file is missing in it")),
        }
    }

    /// By its number among all files.
    pub(super) fn file(&mut self, store: &dyn Store, ordinal: u32) -> Result<Option<Place>> {
        let number = self.known.partition_point(|known| known.files <= ordinal);
        if number >= self.known.len() {
            return Ok(None);
        }
        let index = ordinal.saturating_sub(self.first_of(number)) as usize;
        let document = self.document(store, number as u64)?;
        Ok(Some(Place {
            document,
            index,
            ordinal,
        }))
    }

    /// Adds files behind all others, dealt out among `partitions` so that each has about the same number of bytes. Others may
    /// have been first: then what they added is in the list, and `false` says that nothing of these is.
    pub(super) fn append(
        &mut self,
        store: &dyn Store,
        files: Vec<Found>,
        (partitions, parquet): (i32, bool),
    ) -> Result<bool> {
        let entries = self.dealt(files, partitions, parquet)?;
        self.put(store, entries)
    }

    /// Of files that are followed: whichever file has this name is read from that byte on, the next time that it is read.
    pub(super) fn go_on_at(&mut self, store: &dyn Store, path: &str, from: u64) -> Result<bool> {
        let whichever = Found {
            path: path.to_owned(),
            size: 0,
            modified: 0,
            identity: String::new(),
        };
        let entries = self.followed(vec![whichever], Some(from))?;
        self.put(store, entries)
    }

    fn put(&mut self, store: &dyn Store, files: Vec<Entry>) -> Result<bool> {
        let number = self.documents();
        let document = Document {
            format: FORMAT,
            number,
            url: self.url.clone(),
            reads: self.reads.clone(),
            files,
        };
        let path = self.path(number);
        let bytes = serde_json::to_vec(&document).map_err(|e| {
            Error::new(
                Kind::Bug,
                OP,
                "a document of the file list cannot be written",
            )
            .source(e)
        })?;
        let created = store.create(&path, &bytes);
        // Whatever the answer was: what lies there counts.
        let ours = match created {
            Ok(Created::Done) => true,
            _ => match store.get(&path)? {
                Some(there) => there.as_ref() == bytes.as_slice(),
                None => return created.map(|_| false),
            },
        };
        // Whoever had them has them now, whoever was first.
        self.free.clear();
        match ours {
            true => self.add(document)?,
            false => self.load(store)?,
        }
        Ok(ours)
    }

    /// Of files that are followed: there are not enough partitions for these.
    pub(super) fn is_full_with(&self, fresh: &[Found]) -> bool {
        let added = i32::try_from(fresh.len()).unwrap_or(i32::MAX);
        self.follows && self.partitions().saturating_add(added) > self.followed_max
    }

    /// Partitions whose names are deleted and read.
    pub(super) fn free(&mut self, free: Vec<i32>) {
        self.free = free;
    }

    #[cfg(test)]
    pub(super) fn set_followed_max(&mut self, most: i32) {
        self.followed_max = most;
    }

    /// A name that is new gets the next partition, and when there are as many as may be that of a name whose files are deleted and read.
    fn followed(&self, files: Vec<Found>, from: Option<u64>) -> Result<Vec<Entry>> {
        let mut entries = Vec::with_capacity(files.len());
        let new = self.partitions()..self.followed_max;
        let mut new = new.chain(self.free.iter().copied());
        for found in files {
            let lane = self.lanes.get(&self.key(&found.path));
            let partition = lane.map(|lane| lane.partition).or_else(|| new.next());
            let partition = partition.ok_or_else(|| {
                let message = format!(
                    "{} names are followed, and {} would be one more",
                    self.followed_max, found.path
                );
                Error::new(Kind::LimitReached, OP, message)
                    .hint("delete or move away files that are read and not written any more: a few seconds later their names are free; or let source.path name fewer; a pipeline without source.follow reads any number of files that are complete")
            })?;
            let at = self.end(partition);
            at.checked_add(FOLLOWED_ROOM).ok_or_else(|| {
                Error::new(
                    Kind::LimitReached,
                    OP,
                    "the positions of a partition are used up",
                )
                .hint("give the pipeline another name")
            })?;
            entries.push(Entry {
                path: found.path,
                size: found.size,
                modified: found.modified,
                identity: found.identity,
                partition,
                at,
                room: FOLLOWED_ROOM,
                from: from.or(lane.and_then(|lane| lane.waits)),
            });
        }
        Ok(entries)
    }

    fn dealt(&self, files: Vec<Found>, partitions: i32, parquet: bool) -> Result<Vec<Entry>> {
        if self.follows {
            return self.followed(files, None);
        }
        let partitions = partitions.max(1);
        let mut loads: Vec<(u64, i32)> = (0..partitions).map(|p| (0, p)).collect();
        // Single files go round.
        let turn = self.files() as usize % loads.len();
        loads.rotate_left(turn);
        let mut ends: HashMap<i32, i64> = HashMap::new();
        let mut entries = Vec::with_capacity(files.len());
        for found in files {
            let Some(load) = loads.iter_mut().min_by_key(|(bytes, _)| *bytes) else {
                break;
            };
            load.0 = load.0.saturating_add(found.size).saturating_add(1);
            let partition = load.1;
            let end = ends.entry(partition).or_insert_with(|| self.end(partition));
            let room = room(found.size, is_packed(&found.path, parquet));
            let at = *end;
            *end = at.checked_add(room).ok_or_else(|| {
                Error::new(Kind::LimitReached, OP, "the positions of a partition are used up")
                    .hint("give the pipeline another name; files that are read should be moved away before")
            })?;
            entries.push(Entry {
                path: found.path,
                size: found.size,
                modified: found.modified,
                identity: found.identity,
                partition,
                at,
                room,
                from: None,
            });
        }
        Ok(entries)
    }
}
