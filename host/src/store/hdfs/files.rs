//! A directory of HDFS as a place where others put files.
//!
//! The name node tells a file's length and time of change, and no more. A file that is written, closed and replaced within one
//! millisecond by one of the same length cannot be told from the old one.

use bytes::Bytes;
use hdfs_native::client::FileStatus;

use super::meaning::is_absent;
use super::{DATA_MAX, DIRECTORY, Hdfs, name_of, names};
use crate::error::Result;
use crate::store::{Found, Input, Inputs, Moved, Renamed, Renames};

fn found(path: &str, status: &FileStatus) -> Found {
    let millis = i64::try_from(status.modification_time).unwrap_or(i64::MAX);
    Found {
        path: path.to_owned(),
        size: status.length as u64,
        modified: millis.saturating_mul(1_000),
        identity: String::new(),
    }
}

impl Inputs for Hdfs {
    fn walk(&self, below: &str, each: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        let mut open = vec![below.trim_matches('/').to_owned()];
        while let Some(dir) = open.pop() {
            for status in self.directory("store.walk", &dir)? {
                let name = name_of(&status);
                let path = match dir.as_str() {
                    "" => name.to_owned(),
                    dir => format!("{dir}/{name}"),
                };
                if status.isdir {
                    open.push(path);
                } else if names::target_of(name).is_none() {
                    each(found(&path, &status))?;
                }
            }
        }
        Ok(())
    }

    fn look(&self, path: &str) -> Result<Option<Found>> {
        let status = self.status("store.look", path)?;
        let file = status.filter(|status| !status.isdir);
        Ok(file.map(|status| found(path, &status)))
    }

    fn open_input(&self, path: &str) -> Result<Option<Box<dyn Input>>> {
        let Some(found) = self.look(path)? else {
            return Ok(None);
        };
        Ok(Some(Box::new(OpenFile {
            store: self.clone(),
            found,
        })))
    }

    fn move_input(&self, from: &str, to: &str) -> Result<Moved> {
        const OP: &str = "store.move";
        if let Some((parent, _)) = self
            .full(to)
            .rsplit_once('/')
            .filter(|(p, _)| !p.is_empty())
        {
            let client = self.client();
            let made = self.ask(client.mkdirs(parent, DIRECTORY, true))?;
            made.map_err(|e| self.failed(OP, to, &e))?;
        }
        Ok(match self.rename(from, to)? {
            Renamed::Done => Moved::Done,
            Renamed::TargetExists => Moved::TargetExists,
            Renamed::SourceMissing => Moved::SourceMissing,
        })
    }

    fn remove_input(&self, path: &str) -> Result<()> {
        self.remove(&self.full(path)).map(drop)
    }
}

#[derive(Debug)]
struct OpenFile {
    store: Hdfs,
    found: Found,
}

impl Input for OpenFile {
    fn found(&self) -> &Found {
        &self.found
    }

    fn read(&mut self, from: u64, most: usize) -> Result<Bytes> {
        const OP: &str = "store.read";
        let left = self.found.size.saturating_sub(from);
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        if most == 0 {
            return Ok(Bytes::new());
        }
        let (client, full) = (self.store.client(), self.store.full(&self.found.path));
        let read = async {
            let file = client.read(&full).await?;
            // A shorter one was cut or replaced.
            let length = file.file_length() as u64;
            let most = usize::try_from(length.saturating_sub(from))
                .unwrap_or(usize::MAX)
                .min(most);
            match most {
                0 => Ok(Bytes::new()),
                most => file.read_range(from as usize, most).await,
            }
        };
        match self.store.within(DATA_MAX, read)? {
            Ok(bytes) => Ok(bytes),
            Err(e) if is_absent(&e) => Ok(Bytes::new()),
            Err(e) => Err(self.store.failed(OP, &self.found.path, &e)),
        }
    }

    fn is_unchanged(&mut self) -> Result<bool> {
        let now = self.store.look(&self.found.path)?;
        Ok(now.is_some_and(|now| now.is_same(&self.found)))
    }
}
