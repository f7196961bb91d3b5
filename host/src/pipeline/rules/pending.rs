//! Requests for a swap from a command to a running process: small files beside the log, not part of the protocol.
//!
//! ```text
//! pending/<ulid>.json         the request: a swap of the rules
//! pending/<ulid>.taken        the creator of this file answers: a running process, or the requester, which then writes the entry
//! pending/<ulid>.answer.json  what became of it
//! ```
//! The entry in the log is the atomic point. A request may be lost, repeated or late: `replaces` in the swap names the
//! generation that it replaces, so it comes into force at most once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::commit::{LogName, Swap};
use crate::error::{Error, Kind, Result};
use crate::store::{Created, Store};

/// Time for a running process to take a request, in addition to the time between two looks.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// After this further time the requester has taken its request back.
const WAITED_FOR: Duration = Duration::from_secs(4);
const REQUEST: &str = ".json";
const TAKEN: &str = ".taken";
const ANSWER: &str = ".answer.json";

/// The id of a request; sorted by the time it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(String);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// In force by this version of the log.
    InForce(u64),
    /// Nothing was written, for this reason.
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

    /// Time between two looks of a running process.
    pub fn look_every(&self) -> Duration {
        self.store.news_every()
    }

    /// After this time no running process takes a request any more.
    pub fn taken_within(&self) -> Duration {
        self.look_every() + TAKEN_WITHIN
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

    /// False: another process took it.
    pub fn take(&self, id: &Id, by: &str) -> Result<bool> {
        let path = self.path(id, TAKEN);
        // It is ours if it contains our name: `Exists` may be the answer to the second of two tries.
        let created = self.store.create(&path, by.as_bytes());
        if matches!(created, Ok(Created::Done)) {
            return Ok(true);
        }
        match self.store.get(&path)? {
            Some(found) => Ok(*found == *by.as_bytes()),
            None => created.map(|_| false),
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

    /// At a start: requests that an earlier process took are given back, and requests that nobody waits for any more
    /// are deleted. A request that was just made stays: this process can take it as well as the one before.
    pub fn forget_old(&self, now: SystemTime) -> Result<()> {
        let fresh = |id: &Id| {
            let made = ulid::Ulid::from_string(&id.0).ok().map(|id| id.datetime());
            made.is_some_and(|made| made + self.taken_within() + WAITED_FOR > now)
        };
        let keep: Vec<Id> = self.open()?.into_iter().filter(fresh).collect();
        for listed in self.store.list(&self.dir)? {
            let name = listed.path.rsplit('/').next().unwrap_or_default();
            let id = name.split('.').next().unwrap_or_default();
            if !keep.iter().any(|kept| kept.0 == id) {
                self.store.delete(&listed.path)?;
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store;

    #[test]
    fn a_start_leaves_what_was_just_asked_and_gives_back_what_was_taken() {
        let store = store::open_url("memory:pending").expect("store");
        let pending = Pending::new(store.clone(), &LogName::new("p", "z"));
        let swap = Swap {
            replaces: 0,
            transforms: Vec::new(),
            actor: "a".into(),
            reason: String::new(),
            block: Vec::new(),
            force: false,
            declared: None,
        };
        let [fresh, taken] = [(); 2].map(|()| pending.ask(&swap).expect("asked"));
        assert!(pending.take(&taken, "a process that ended").expect("store"));
        pending.forget_old(SystemTime::now()).expect("store");
        assert_eq!(pending.open().expect("store"), [fresh]);
        assert!(!pending.is_taken(&taken).expect("store"));
        pending
            .forget_old(SystemTime::now() + TAKEN_WITHIN + WAITED_FOR)
            .expect("store");
        assert_eq!(pending.open().expect("store"), []);
        assert!(store.list(&pending.dir).expect("store").is_empty());
    }
}
