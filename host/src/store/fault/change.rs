//! What a request would change in a store: done, done by half, or only answered.

use std::io;

use bytes::Bytes;

use super::{Op, Verb};
use crate::error::{Error, Kind, Result};
use crate::store::{Completed, Created, Moved, Renamed, Renames, Store, Upload, Uploads, Way};

#[derive(Clone, Debug)]
pub(super) enum Change {
    Create(String, Vec<u8>),
    Delete(String),
    Rename(String, String),
    /// A written file.
    Write(String, Vec<u8>),
    Begin(String),
    /// Path, upload, number, bytes.
    Part(String, String, usize, Vec<Bytes>),
    Complete(String, Upload),
    /// The object of an accepted completion appears: path, upload.
    Link(String, String),
    Abort(String, String),
    Move(String, String),
    Remove(String),
}

pub(super) enum Reply {
    Created(Created),
    Renamed(Renamed),
    Begun(String),
    Part(Option<String>),
    Completed(Completed),
    Moved(Moved),
    Nothing,
}

impl Change {
    pub(super) fn op(&self) -> Op {
        let (verb, path) = match self {
            Change::Create(path, _) => (Verb::Create, path),
            Change::Delete(path) => (Verb::Delete, path),
            Change::Rename(from, _) => (Verb::Rename, from),
            Change::Write(path, _) => (Verb::Write, path),
            Change::Begin(path) => (Verb::Begin, path),
            Change::Part(path, ..) => (Verb::Part, path),
            Change::Complete(path, _) | Change::Link(path, _) => (Verb::Complete, path),
            Change::Abort(path, _) => (Verb::Abort, path),
            Change::Move(from, _) => (Verb::Move, from),
            Change::Remove(path) => (Verb::Remove, path),
        };
        Op {
            verb,
            path: path.clone(),
        }
    }

    pub(super) fn apply(&self, store: &dyn Store) -> Result<Reply> {
        Ok(match self {
            Change::Create(path, bytes) => Reply::Created(store.create(path, bytes)?),
            Change::Delete(path) => {
                store.delete(path)?;
                Reply::Nothing
            }
            Change::Rename(from, to) => Reply::Renamed(renames(store)?.rename(from, to)?),
            Change::Write(path, bytes) => {
                let mut file = renames(store)?.write(path)?;
                io::Write::write_all(&mut file, bytes).map_err(|e| failed(&self.op()).source(e))?;
                file.finish()?;
                Reply::Nothing
            }
            Change::Begin(path) => Reply::Begun(uploads(store)?.begin_upload(path)?),
            Change::Part(path, id, number, pieces) => {
                Reply::Part(uploads(store)?.put_part(path, id, *number, pieces.clone())?)
            }
            Change::Complete(path, upload) => {
                Reply::Completed(uploads(store)?.complete(path, upload)?)
            }
            Change::Link(path, id) => {
                uploads(store)?.link(path, id)?;
                Reply::Nothing
            }
            Change::Abort(path, id) => {
                uploads(store)?.abort(path, id)?;
                Reply::Nothing
            }
            Change::Move(from, to) => Reply::Moved(store.inputs().move_input(from, to)?),
            Change::Remove(path) => {
                store.inputs().remove_input(path)?;
                Reply::Nothing
            }
        })
    }

    /// Does half of a change: a plain file has half of its bytes, a rename has both names (linked, not unlinked), a
    /// completion has taken its upload. Others leave nothing. Returns the change that arrives later, if any.
    pub(super) fn tear(&self, store: &dyn Store) -> Result<Option<Change>> {
        match self {
            Change::Write(path, bytes) => {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                store.create(path, half)?;
            }
            Change::Rename(from, to) => {
                if let Some(bytes) = store.get(from)? {
                    store.create(to, &bytes)?;
                }
            }
            Change::Complete(path, upload) => {
                uploads(store)?.claim(path, upload)?;
                return Ok(Some(Change::Link(path.clone(), upload.id.clone())));
            }
            _ => {}
        }
        Ok(None)
    }

    pub(super) fn lie(&self) -> Reply {
        match self {
            Change::Create(..) => Reply::Created(Created::Done),
            Change::Rename(..) => Reply::Renamed(Renamed::Done),
            Change::Begin(_) => Reply::Begun("never-begun".to_owned()),
            Change::Part(..) => Reply::Part(Some("never-sent".to_owned())),
            Change::Complete(..) => Reply::Completed(Completed::Accepted),
            Change::Move(..) => Reply::Moved(Moved::Done),
            Change::Delete(_)
            | Change::Write(..)
            | Change::Link(..)
            | Change::Abort(..)
            | Change::Remove(_) => Reply::Nothing,
        }
    }
}

impl Reply {
    pub(super) fn denied(self) -> Reply {
        match self {
            Reply::Created(_) => Reply::Created(Created::Exists),
            Reply::Renamed(_) => Reply::Renamed(Renamed::SourceMissing),
            Reply::Completed(_) => Reply::Completed(Completed::Refused),
            Reply::Moved(_) => Reply::Moved(Moved::SourceMissing),
            other => other,
        }
    }
}

pub(super) fn renames(store: &dyn Store) -> Result<&dyn Renames> {
    match store.way() {
        Way::Rename(renames) => Ok(renames),
        Way::Complete(_) => Err(other_way()),
    }
}

pub(super) fn uploads(store: &dyn Store) -> Result<&dyn Uploads> {
    match store.way() {
        Way::Complete(uploads) => Ok(uploads),
        Way::Rename(_) => Err(other_way()),
    }
}

fn other_way() -> Error {
    let message = "a request of the other kind of store";
    Error::new(Kind::Bug, "store.fault", message)
}

pub(super) fn failed(op: &Op) -> Error {
    Error::new(
        Kind::StoreUnavailable,
        "store.fault",
        "the store gave no answer",
    )
    .with("path", &op.path)
}
