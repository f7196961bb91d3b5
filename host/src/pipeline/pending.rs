//! Requests for a swap, between a command and a running process: small files beside the log, no part of the protocol.
//!
//! ```text
//! pending/<ulid>.json         the request: a swap of the rules
//! pending/<ulid>.taken        whoever makes this file answers: a running process, or the asker, who then writes the entry
//! pending/<ulid>.answer.json  what became of it
//! ```
//! The entry in the log is the atomic point. A request may be lost, repeated or late: `from` in the swap names the rules it
//! replaces, so it comes into force at most once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::commit::{LogName, Swap};
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Store};

const REQUEST: &str = ".json";
const TAKEN: &str = ".taken";
const ANSWER: &str = ".answer.json";

/// Which request; by the time it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// By this version of the log.
    InForce(u64),
    /// Why nothing was written.
    Refused(String),
}

/// The requests of one log.
#[derive(Clone, Debug)]
pub struct Pending {
    store: Arc<dyn Store>,
    dir: String,
}

impl Pending {
    pub fn new(store: Arc<dyn Store>, log: &LogName) -> Pending {
        Pending {
            store,
            dir: log.pending_dir(),
        }
    }

    fn path(&self, id: &Id, ending: &str) -> String {
        format!("{}/{}{ending}", self.dir, id.0)
    }

    pub fn ask(&self, swap: &Swap) -> Result<Id> {
        let id = Id(ulid::Ulid::generate().to_string());
        self.store
            .create(&self.path(&id, REQUEST), &encode(swap)?)?;
        Ok(id)
    }

    /// Requests that nobody has taken, the oldest first.
    pub fn open(&self) -> Result<Vec<Id>> {
        let listed = self.store.list(&self.dir)?;
        let names: Vec<&str> = listed
            .iter()
            .filter_map(|l| l.path.rsplit('/').next())
            .collect();
        let id = |name: &&str| name.strip_suffix(REQUEST).map(|id| Id(id.to_owned()));
        let taken = |id: &Id| names.contains(&format!("{}{TAKEN}", id.0).as_str());
        let ids = names.iter().filter(|name| !name.ends_with(ANSWER));
        Ok(ids.filter_map(id).filter(|id| !taken(id)).collect())
    }

    /// False: somebody else did.
    pub fn take(&self, id: &Id, by: &str) -> Result<bool> {
        let path = self.path(id, TAKEN);
        match self.store.create(&path, by.as_bytes()) {
            Ok(Created::Done) => Ok(true),
            Ok(Created::Exists) => Ok(false),
            // Unknown: mine only where my name stands in it.
            Err(error) => match self.store.get(&path)? {
                Some(found) => Ok(*found == *by.as_bytes()),
                None => Err(error),
            },
        }
    }

    pub fn is_taken(&self, id: &Id) -> Result<bool> {
        Ok(self.store.size(&self.path(id, TAKEN))?.is_some())
    }

    /// `None`: it was taken back.
    pub fn read(&self, id: &Id) -> Result<Option<Swap>> {
        self.decoded(&self.path(id, REQUEST))
    }

    pub fn tell(&self, id: &Id, answer: &Answer) -> Result<()> {
        let bytes = encode(answer)?;
        self.store.create(&self.path(id, ANSWER), &bytes).map(drop)
    }

    pub fn answer(&self, id: &Id) -> Result<Option<Answer>> {
        self.decoded(&self.path(id, ANSWER))
    }

    pub fn forget(&self, id: &Id) -> Result<()> {
        for ending in [REQUEST, ANSWER, TAKEN] {
            self.store.delete(&self.path(id, ending))?;
        }
        Ok(())
    }

    /// At the start of a process: whoever asked sees that nobody answers, and writes the entry.
    pub fn forget_all(&self) -> Result<()> {
        for listed in self.store.list(&self.dir)? {
            self.store.delete(&listed.path)?;
        }
        Ok(())
    }

    fn decoded<T: for<'a> Deserialize<'a>>(&self, path: &str) -> Result<Option<T>> {
        let Some(bytes) = self.store.get(path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            Error::new(
                Kind::LogCorrupt,
                "pending.read",
                "not a request for a swap, nor an answer",
            )
            .with("file", path)
            .source(e)
            .hint("delete the file; the log does not need it")
        })
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| {
        Error::new(
            Kind::Bug,
            "pending.write",
            "a request cannot be written as JSON",
        )
        .source(e)
    })
}
