//! The file list as a config has it; where a file that is followed alone stands, and where a person says that it goes on. Nothing here reads the file.

use super::FileConfig;
use super::follow::is_inside;
use super::list::{FileList, Place, Takes};
use super::places::{open_input, plain};
use crate::config::SourceConfig;
use crate::error::{Error, Kind, Result};
use crate::store;

const OP: &str = "file.followed";

fn config(source: &dyn SourceConfig) -> Result<(&FileConfig, String)> {
    let config = source.as_any().downcast_ref::<FileConfig>();
    let config = config.filter(|config| config.follows);
    let named = config.and_then(|config| Some((config, plain(&config.path)?)));
    named.ok_or_else(|| Error::new(Kind::Bug, OP, "a source that follows no single file"))
}

/// The file list of a config, of which nothing is read yet.
pub(super) fn list(config: &FileConfig) -> FileList {
    FileList::new(
        format!("{}/files", config.log.dir()),
        config.at.url.clone(),
        config.reads(),
        match (config.follows, config.name_only) {
            (true, _) => Takes::Growing,
            (false, true) => Takes::Names,
            (false, false) => Takes::Paths,
        },
    )
}

/// How many bytes of the file are read, where the log stands at `next` of a partition (`None`: it has no position). `None`: nothing is known
/// of it, or it was put back to its beginning.
pub fn stands(source: &dyn SourceConfig, next: impl Fn(i32) -> Option<i64>) -> Result<Option<u64>> {
    let (config, path) = config(source)?;
    let Some(home) = store::open_existing(&config.home)? else {
        return Ok(None);
    };
    let mut list = list(config);
    list.load(home.as_ref())?;
    // Another file of its directory may have been followed before.
    let Some(partition) = list.lane(&path) else {
        return Ok(None);
    };
    let next = next(partition);
    let (unread, next) = (next.is_none(), next.unwrap_or(0));
    let set = list.set(partition).filter(|set| *set > next);
    if set.is_none() && unread {
        return Ok(None);
    }
    let at = set.unwrap_or(next);
    let place = list.file_at(home.as_ref(), partition, at)?;
    let Some(entry) = place.as_ref().and_then(Place::entry) else {
        return Ok(None);
    };
    let byte = u64::try_from(at.saturating_sub(entry.at)).unwrap_or(0);
    Ok(Some(byte).filter(|byte| *byte > 0 || set.is_none()))
}

/// Whichever file has the name when the pipeline is started next is read from that byte on. One that is there has to have so many bytes.
pub fn go_on_at(source: &dyn SourceConfig, byte: u64) -> Result<()> {
    let (config, path) = config(source)?;
    if byte > 0
        && let Ok(input) = open_input(config)
        && let Some(found) = input.inputs().look(&path)?
    {
        is_inside(&path, byte, found.size)?;
    }
    let home = store::open(&config.home)?;
    let mut list = list(config);
    list.load(home.as_ref())?;
    while !list.go_on_at(home.as_ref(), &path, byte)? {}
    Ok(())
}
