//! (signatures only, until the store lands: take theirs on merge)

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use crate::error::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    Done,
    Exists,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    Done,
    SourceMissing,
    TargetExists,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub path: String,
    pub size: u64,
}

pub trait FileWriter: io::Write + Send {
    fn finish(self: Box<Self>) -> Result<u64>;
    fn abort(self: Box<Self>);
}

pub trait Store: Send + Sync + Debug {
    fn create(&self, path: &str, bytes: &[u8]) -> Result<Created>;
    fn get(&self, path: &str) -> Result<Option<Bytes>>;
    fn get_range(&self, path: &str, range: Range<u64>) -> Result<Bytes>;
    fn size(&self, path: &str) -> Result<Option<u64>>;
    fn list(&self, prefix: &str) -> Result<Vec<Listed>>;
    fn delete(&self, path: &str) -> Result<()>;
    fn rename(&self, from: &str, to: &str) -> Result<Renamed>;
    fn write(&self, path: &str) -> Result<Box<dyn FileWriter>>;
    fn url(&self) -> &str;
    fn local_path(&self, path: &str) -> Option<PathBuf>;
}
