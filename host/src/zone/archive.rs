//! Copies a file that expired into an archive, reads the copy back and compares it: sha256 of all bytes, and the rows that its
//! footer counts (Parquet). Only then is it called archived. The copy lies in the same directories as in the zone.
//!
//! A copy that is there already counts if it is the same; nothing is ever written over another file.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::formats::is_parquet;
use super::read::Located;
use crate::commit::{AddedFile, Archived, LogName, new_file_id};
use crate::error::{Error, Kind, Result};
use crate::hash::hex;
use crate::store::{Place, Published, Seal, Store};

const OP: &str = "zone.archive";

/// How often a store is asked to show a copy that it has taken.
const SHOWS_TRIES: u32 = 5;

/// Nobody copies one file for so long: 64 GB at 20 MB/s.
const COPYING_MAX: Duration = Duration::from_secs(3600);

/// The copy of one file. `go_on` is asked between two pieces: an error of it ends the copying, and nothing is left to see.
pub fn archive(
    (zone, name): (&Arc<dyn Store>, &LogName),
    file: &AddedFile,
    archive: &Arc<dyn Store>,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Archived> {
    match archive.size(&file.path)? {
        None => copy((zone, name), file, archive, go_on)?,
        // Of a try that was killed before it had made the name durable.
        Some(_) => durable(file, archive)?,
    }
    go_on()?;
    is_the_same(name, file, archive)?;
    Ok(Archived {
        id: file.id.clone(),
        copy: format!("{}/{}", archive.url().trim_end_matches('/'), file.path),
        digest: file.digest.clone(),
    })
}

/// Whether an error is about this one file, so that others may be archived all the same.
pub fn is_of_the_file(error: &Error) -> bool {
    matches!(error.kind(), Kind::Conflict | Kind::LogCorrupt)
}

/// The name of a copy that is there, and those of the directories above it.
fn durable(file: &AddedFile, archive: &Arc<dyn Store>) -> Result<()> {
    let mut path = file.path.as_str();
    while let Some((dir, _)) = path.rsplit_once('/') {
        archive.sync(dir)?;
        path = dir;
    }
    archive.sync("")
}

/// Takes away what killed copies of this log left in the archive: begun, and not finished. `now`: microseconds since 1970 UTC.
/// Another process may copy at the same time, so what was begun a short time ago stays.
pub fn clear_left(archive: &Arc<dyn Store>, name: &LogName, now: i64) -> Result<()> {
    let home = name.dir();
    let oldest = u64::try_from(now / 1000).unwrap_or(0);
    let most = u64::try_from(COPYING_MAX.as_millis()).unwrap_or(u64::MAX);
    let oldest = oldest.saturating_sub(most);
    for left in archive.begun(&home)? {
        if archive.is_abandoned(&home, &left, Some(oldest))? {
            archive.discard(&home, &left)?;
        }
    }
    Ok(())
}

fn copy(
    (zone, name): (&Arc<dyn Store>, &LogName),
    file: &AddedFile,
    archive: &Arc<dyn Store>,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let source = Located::find(zone, name, file)?;
    // Each try has a name of its own, so that what a killed one left is in nobody's way.
    let id = new_file_id();
    let place = Place::new(name.dir(), &id, &file.path);
    let mut out = archive.begin(&place)?;
    let mut sum = Sha256::new();
    for chunk in source.chunks() {
        go_on()?;
        let chunk = chunk?;
        sum.update(&chunk);
        out.write_all(&chunk).map_err(|e| written(e, file))?;
    }
    let found = format!("sha256:{}", hex(&sum.finalize()));
    if found != file.digest {
        let message =
            "a file that expired is not what the log says; it is neither archived nor deleted";
        return Err(Error::new(Kind::LogCorrupt, OP, message)
            .with("file", &file.path)
            .with("expected", &file.digest)
            .with("found", found)
            .hint(
                "restore it from a copy of the store; `weir log --verify` lists every such file",
            ));
    }
    let shown = out
        .seal()
        .and_then(|seal| shows(archive, &place, &seal, file));
    if shown.is_err()
        && let Err(error) = archive.discard(&name.dir(), &id)
    {
        tracing::debug!(file = file.path, %error, "a copy that failed stays until it is an hour old");
    }
    shown
}

/// Its final name.
fn shows(archive: &Arc<dyn Store>, place: &Place, seal: &Seal, file: &AddedFile) -> Result<()> {
    for _ in 0..SHOWS_TRIES {
        match archive.publish(place, seal)? {
            Published::Done => return Ok(()),
            Published::NotYet(None) => {}
            Published::NotYet(Some(cause)) => return Err(cause),
            Published::Differs(_) => return Err(another(file)),
            Published::Nowhere => break,
        }
    }
    let message = "the archive does not show a file that it has taken";
    Err(Error::new(Kind::StoreUnavailable, OP, message).with("file", &file.path))
}

/// The error that the store's writer gave, if it is inside.
fn written(error: std::io::Error, file: &AddedFile) -> Error {
    let kind = error.kind();
    let inner = error.into_inner().map(|inner| inner.downcast::<Error>());
    match inner {
        Some(Ok(error)) => *error,
        _ => Error::new(
            Kind::StoreUnavailable,
            OP,
            format!("the archive takes no bytes: {kind}"),
        )
        .with("file", &file.path),
    }
}

/// Reads the copy, as anybody would who has only the archive.
fn is_the_same(name: &LogName, file: &AddedFile, archive: &Arc<dyn Store>) -> Result<()> {
    let alone = AddedFile {
        upload: None,
        ..file.clone()
    };
    let copy = match Located::find(archive, name, &alone) {
        Err(error) if error.kind() == Kind::LogCorrupt => return Err(another(file)),
        copy => copy?,
    };
    let same_rows =
        || -> Result<bool> { Ok(!is_parquet(&file.path) || copy.counted_rows()? == file.rows) };
    match copy.sha256()? == file.digest && same_rows()? {
        true => Ok(()),
        false => Err(another(file)),
    }
}

fn another(file: &AddedFile) -> Error {
    let message = "the archive has another file under this name; the zone keeps its own";
    Error::new(Kind::Conflict, OP, message)
        .with("file", &file.path)
        .hint("look at it, and move it away: it is not what the log says")
}
