//! Which logs may name what is in a plugin store: without them nobody knows what may be deleted (docs/plugin-store.md).
//!
//! ```text
//! users/<64 hex>.json   a log: the URL of its zone, its name, since when it is known here; the name is a digest of the first two
//! collected             empty; when it was last looked what nobody needs
//! ```

use std::fs::{self, File};
use std::io;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::store::{
    Item, PluginStore, cannot_write, damaged, list, now, read, replace, sync_up, to_json,
};
use crate::commit::LogName;
use crate::error::Result;
use crate::hash::sha256;

/// A log whose rules are in this store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Root of its zone, without options: those are of whoever runs it.
    pub url: String,
    pub pipeline: String,
    pub zone: String,
    /// Microseconds since 1970 UTC, by the clock of whoever said so first.
    pub since: i64,
}

impl User {
    pub fn log(&self) -> LogName {
        LogName::new(&self.pipeline, &self.zone)
    }
}

impl PluginStore {
    /// Says for good that this log names what is here.
    pub fn used_by(&self, url: &str, log: &LogName, now: i64) -> Result<()> {
        let user = User {
            url: url.to_owned(),
            pipeline: log.pipeline.clone(),
            zone: log.zone.clone(),
            since: now,
        };
        let digest = sha256(format!("{url}\n{log}").as_bytes());
        let name = format!("{}.json", digest.trim_start_matches("sha256:"));
        let path = self.root().join("users").join(name);
        if path.exists() {
            return Ok(());
        }
        replace(&path, &to_json(&user)?)
            .and_then(|()| sync_up(&path, self.root()))
            .map_err(|e| cannot_write(&path, e))
    }

    pub fn users(&self) -> Result<Vec<User>> {
        let dir = self.root().join("users");
        let mut users = Vec::new();
        for name in list(&dir)?
            .into_iter()
            .filter(|name| name.ends_with(".json"))
        {
            let path = dir.join(name);
            let Some(bytes) = read(&path)? else { continue };
            let user = serde_json::from_slice(&bytes);
            users.push(user.map_err(|e| damaged(&path, format!("names no log: {e}")))?);
        }
        Ok(users)
    }

    /// True once in so much time, for one of all processes that ask; the first time begins with the first question.
    pub fn is_due(&self, every: Duration) -> Result<bool> {
        let path = self.root().join("collected");
        if !self.root().is_dir() {
            return Ok(false);
        }
        let last = fs::metadata(&path).and_then(|found| found.modified());
        let due = last
            .as_ref()
            .is_ok_and(|last| now().duration_since(*last).is_ok_and(|age| age >= every));
        let is_new = last.is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        if due || is_new {
            let touched = File::create(&path).and_then(|file| file.set_modified(now()));
            touched.map_err(|e| cannot_write(&path, e))?;
        }
        Ok(due)
    }
}

impl Item {
    /// False: somebody has kept it since, or it is gone. Under another name first, so that whoever keeps it meanwhile writes it anew.
    pub fn remove_if_older(&self, than: SystemTime) -> Result<bool> {
        let aside = self.path.with_extension("old");
        match fs::rename(&self.path, &aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            renamed => renamed.map_err(|e| cannot_write(&self.path, e))?,
        }
        let modified = fs::metadata(&aside).and_then(|found| found.modified());
        let old = modified.is_ok_and(|modified| modified <= than);
        let done = match old {
            true => fs::remove_file(&aside),
            false => fs::rename(&aside, &self.path),
        };
        done.map_err(|e| cannot_write(&aside, e))?;
        Ok(old)
    }
}
