//! The plugin store: everything that a pipeline ever ran, by digest; versions by name, written once and never changed.
//!
//! ```text
//! blobs/sha256/<2 hex>/<64 hex>     components, rule files, tables: any bytes
//! configs/<64 hex>.json             a canonical config; the name is the hex of its digest
//! refs/<name>/<version>.json        what was pushed; `<version>.yanked` beside it takes it out of use
//! ```
//! Bytes are on disk before their name is, and are checked against their digest whenever they are read: damaged files
//! are reported and never used. Nothing here is native code, so a user who can write here can at worst make a pipeline
//! refuse to start.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::SystemClock;
use crate::error::{Error, Kind, Result};
use crate::fs::Replace;
use crate::hash::sha256;
use crate::plugin::config::canonical::{Attached, Canonical, digest_of};
use crate::plugin::config::tables;
use crate::plugin::run::component::{plain_name, plain_version};

const OP: &str = "plugin.store";

#[derive(Clone, Debug)]
pub struct PluginStore {
    root: PathBuf,
}

/// A pushed version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    pub name: String,
    pub version: String,
    pub pushed: Pushed,
    pub yanked: bool,
}

/// `refs/<name>/<version>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    pub digest: String,
    /// Microseconds since 1970 UTC, by the clock of the user who pushed; for people.
    pub at: i64,
    pub by: String,
}

/// `configs/<64 hex>.json`: key → digest of the blob.
#[derive(Debug, Serialize, Deserialize)]
pub struct StoredConfig {
    pub text: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, String>,
}

impl PluginStore {
    /// Nothing is read or created before it is needed.
    pub fn at(root: impl Into<PathBuf>) -> PluginStore {
        PluginStore { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn blob_path(&self, digest: &str) -> Result<PathBuf> {
        let hex = hex_of(digest)?;
        Ok(self.root.join("blobs/sha256").join(&hex[..2]).join(hex))
    }

    fn config_path(&self, digest: &str) -> Result<PathBuf> {
        let name = format!("{}.json", hex_of(digest)?);
        Ok(self.root.join("configs").join(name))
    }

    /// The bytes of a blob; None: it does not exist.
    pub fn blob(&self, digest: &str) -> Result<Option<Vec<u8>>> {
        let path = self.blob_path(digest)?;
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let found = sha256(&bytes);
        if found == digest {
            return Ok(Some(bytes));
        }
        Err(
            damaged(&path, format!("its bytes have the digest {found}")).hint(
                "push or run the same build again, which repairs it, or restore the file from a copy",
            ),
        )
    }

    /// Keeps `bytes` for good; a damaged blob is repaired.
    pub fn put_blob(&self, digest: &str, bytes: &[u8]) -> Result<()> {
        self.keep(&self.blob_path(digest)?, bytes)
    }

    pub fn put_config(&self, config: &Canonical) -> Result<()> {
        let mut stored = StoredConfig {
            text: config.text().to_owned(),
            files: BTreeMap::new(),
            tables: BTreeMap::new(),
        };
        for Attached {
            key,
            digest,
            bytes,
            table,
        } in config.attached()
        {
            self.put_blob(digest, bytes)?;
            let list = match table {
                Some(_) => &mut stored.tables,
                None => &mut stored.files,
            };
            list.insert(key.clone(), digest.clone());
        }
        self.keep(&self.config_path(config.digest())?, &to_json(&stored)?)
    }

    /// A config without its files, checked against its digest; None: it does not exist.
    pub fn stored_config(&self, digest: &str) -> Result<Option<StoredConfig>> {
        let path = self.config_path(digest)?;
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let stored: StoredConfig = serde_json::from_slice(&bytes)
            .map_err(|e| damaged(&path, format!("no config: {e}")).hint(RESTORE))?;
        let listed: BTreeMap<&str, &str> = (stored.files.iter().chain(&stored.tables))
            .map(|(key, digest)| (key.as_str(), digest.as_str()))
            .collect();
        let found = digest_of(&stored.text, listed.into_iter());
        if found == digest {
            return Ok(Some(stored));
        }
        Err(damaged(&path, format!("its content has the digest {found}")).hint(RESTORE))
    }

    /// A config with its files and tables.
    pub fn config(&self, digest: &str) -> Result<Option<Canonical>> {
        let Some(stored) = self.stored_config(digest)? else {
            return Ok(None);
        };
        let listed = (stored.files.iter().map(|(key, blob)| (key, blob, false)))
            .chain(stored.tables.iter().map(|(key, blob)| (key, blob, true)));
        let mut attached = Vec::new();
        for (key, blob, is_table) in listed {
            let bytes = self.blob(blob)?.ok_or_else(|| {
                let at = self.root.display();
                refused(format!(
                    "{at} has no {blob}, which config {digest} names as `{key}`"
                ))
                .hint(RESTORE)
            })?;
            let table = match is_table {
                true => Some(
                    tables::kept(&bytes)
                        .map_err(|e| refused(format!("{blob} is no table: {e}")))?,
                ),
                false => None,
            };
            attached.push(Attached {
                key: key.clone(),
                digest: blob.clone(),
                bytes: bytes.into(),
                table,
            });
        }
        attached.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some(Canonical::new(stored.text, attached)))
    }

    /// Names a stored component `name@version`, once and for all. The same component again is accepted; another build
    /// is refused.
    pub fn push(&self, name: &str, version: &str, pushed: &Pushed) -> Result<()> {
        let path = self.ref_path(name, version, "json");
        create(&path, &to_json(pushed)?)
            .and_then(|_| sync_up(&path, &self.root))
            .map_err(|e| cannot_write(&path, e))?;
        // The file that is there counts, whoever wrote it first.
        self.may_push(name, version, &pushed.digest)
    }

    /// Refuses another build of an existing version, and a yanked version.
    pub fn may_push(&self, name: &str, version: &str, digest: &str) -> Result<()> {
        if !self.ref_path(name, version, "json").exists() {
            return Ok(());
        }
        let there = self.pushed(name, version)?;
        let old = &there.pushed.digest;
        if old != digest {
            return Err(refused(format!(
                "{name}@{version} is {old} already, this build is {digest}"
            ))
            .hint(
                "a version never changes: raise the version in the plugin, build and push again",
            ));
        }
        if there.yanked {
            return Err(
                refused(format!("{name}@{version} was pushed before and yanked")).hint(format!(
                    "`weir plugin yank {name}@{version} --undo` puts it back into use"
                )),
            );
        }
        Ok(())
    }

    /// Takes a version out of use, or back into it.
    pub fn yank(&self, name: &str, version: &str, yanked: bool) -> Result<()> {
        self.pushed(name, version)?;
        let path = self.ref_path(name, version, "yanked");
        match yanked {
            true => create(&path, b"").map(drop),
            false => match fs::remove_file(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        }
        .and_then(|()| sync_up(&path, &self.root))
        .map_err(|e| cannot_write(&path, e))
    }

    /// All versions of a plugin, in no order.
    pub fn refs(&self, name: &str) -> Result<Vec<Ref>> {
        let mut refs = Vec::new();
        if !plain_name(name) {
            return Ok(refs);
        }
        for file in list(&self.root.join("refs").join(name))? {
            if let Some(version) = file.strip_suffix(".json") {
                refs.push(self.pushed(name, version)?);
            }
        }
        Ok(refs)
    }

    pub fn all_refs(&self) -> Result<Vec<Ref>> {
        let mut refs = Vec::new();
        for name in list(&self.root.join("refs"))? {
            refs.extend(self.refs(&name)?);
        }
        Ok(refs)
    }

    /// Digests of all blobs.
    pub fn blobs(&self) -> Result<Vec<String>> {
        let items = self.items()?.into_iter();
        Ok(items.filter_map(|item| item.blob).collect())
    }

    /// All files but the refs: blobs, configs, and files that a crash left unfinished.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        let (blobs, configs) = (self.root.join("blobs/sha256"), self.root.join("configs"));
        let digest = |hex: &str| Some(format!("sha256:{hex}")).filter(|d| hex_of(d).is_ok());
        for prefix in list(&blobs)? {
            for name in list(&blobs.join(&prefix))? {
                let item = Item::at(blobs.join(&prefix).join(&name))?;
                items.extend(item.map(|item| Item {
                    blob: digest(&name),
                    ..item
                }));
            }
        }
        for name in list(&configs)? {
            let item = Item::at(configs.join(&name))?;
            items.extend(item.map(|item| Item {
                config: name.strip_suffix(".json").and_then(digest),
                ..item
            }));
        }
        Ok(items)
    }

    fn ref_path(&self, name: &str, version: &str, extension: &str) -> PathBuf {
        let file = format!("{version}.{extension}");
        self.root.join("refs").join(name).join(file)
    }

    /// A pushed version, yanked or not.
    pub fn pushed(&self, name: &str, version: &str) -> Result<Ref> {
        let path = self.ref_path(name, version, "json");
        // Other names could lead out of the store.
        let found = match plain_name(name) && plain_version(version) {
            true => read(&path)?,
            false => None,
        };
        let bytes = found.ok_or_else(|| {
            refused(format!("{} has no {name}@{version}", self.root.display()))
                .hint("`weir plugin ls` lists what is there")
        })?;
        let pushed: Pushed = serde_json::from_slice(&bytes)
            .map_err(|e| damaged(&path, format!("no ref: {e}")).hint(RESTORE))?;
        hex_of(&pushed.digest)?;
        Ok(Ref {
            name: name.to_owned(),
            version: version.to_owned(),
            pushed,
            yanked: self.ref_path(name, version, "yanked").exists(),
        })
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        if read(path)?.is_some_and(|kept| kept == bytes) {
            // Gives it the age of a new file, because `gc` spares files that are about to be named. If this process
            // cannot write, it cannot delete either.
            File::open(path)
                .and_then(|file| file.set_modified(now()))
                .ok();
            // Somebody may be deleting it, because it was old.
            if path.exists() {
                return Ok(());
            }
        }
        replace(path, bytes)
            .and_then(|()| sync_up(path, &self.root))
            .map_err(|e| cannot_write(path, e))
    }
}

/// One file of the store.
#[derive(Clone, Debug)]
pub struct Item {
    pub path: PathBuf,
    /// Its digest, if it is a blob; or `config`, if it is a config; neither: it was never finished.
    pub blob: Option<String>,
    pub config: Option<String>,
    pub bytes: u64,
    pub modified: SystemTime,
}

impl Item {
    /// None: it vanished meanwhile.
    fn at(path: PathBuf) -> Result<Option<Item>> {
        match fs::metadata(&path).and_then(|found| Ok((found.len(), found.modified()?))) {
            Ok((bytes, modified)) => Ok(Some(Item {
                path,
                blob: None,
                config: None,
                bytes,
                modified,
            })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(refused(format!("{} cannot be read", path.display())).source(e)),
        }
    }

    pub fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot_write(&self.path, e)),
            _ => Ok(()),
        }
    }
}

const RESTORE: &str = "restore the plugin store from a copy (docs/plugin-store.md)";

pub(super) fn now() -> SystemTime {
    let micros = SystemClock::shared().now_micros();
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// `sha256:` and 64 lower-case hex digits, which are a safe file name; the digits.
fn hex_of(digest: &str) -> Result<&str> {
    let digit = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(digit))
        .ok_or_else(|| {
            refused(format!("`{digest}` is no digest")).hint("sha256: and 64 hex digits")
        })
}

fn refused(message: String) -> Error {
    Error::new(Kind::PluginRefused, OP, message)
}

pub(super) fn damaged(path: &Path, what: String) -> Error {
    refused(format!("{} is damaged: {what}", path.display()))
}

pub(super) fn cannot_write(path: &Path, e: io::Error) -> Error {
    let message = format!("{} cannot be written", path.display());
    Error::new(Kind::StoreUnavailable, OP, message)
        .source(e)
        .hint("plugin.store names a directory that this user can write to")
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let bad = |e| Error::new(Kind::Bug, OP, "cannot be written as JSON").source(e);
    serde_json::to_vec(value).map_err(bad)
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match crate::fs::read(path, crate::plugin::KEPT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(refused(format!("{} cannot be read", path.display())).source(e)),
    }
}

/// Names in a directory, sorted; empty if it does not exist.
pub(super) fn list(dir: &Path) -> Result<Vec<String>> {
    let unreadable = |e| refused(format!("{} cannot be read", dir.display())).source(e);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(
            entry
                .map_err(unreadable)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    names.sort();
    Ok(names)
}

/// Several processes may push to one store.
const SHARED: Replace = Replace {
    shared: true,
    ..Replace::DURABLE
};

fn folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    folder_of(path)?;
    crate::fs::replace(path, bytes, SHARED)
}

/// False: `path` exists already.
fn create(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    folder_of(path)?;
    let temporary = crate::fs::write_beside(path, bytes, SHARED)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).ok();
    match linked {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes the names from `path` up to `root`, and root's own, survive a power cut.
pub(super) fn sync_up(path: &Path, root: &Path) -> io::Result<()> {
    let mut dirs = path.ancestors().skip(1);
    for dir in dirs.by_ref() {
        File::open(dir)?.sync_all()?;
        if dir == root {
            break;
        }
    }
    match dirs.next() {
        Some(above) if !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
        _ => Ok(()),
    }
}
