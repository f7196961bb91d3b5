//! What becomes of files whose records are all committed: `source.clean.source`.
//!
//! A file is taken away only behind a commit that covers its end, and only if it is still the one that was read. A kill in
//! between leaves it where it is: a later listing meets it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Clean;
use super::list::Entry;
use super::shared::Shared;
use crate::error::Result;
use crate::lock::lock;
use crate::record::TopicPartition;
use crate::source::{Acknowledge, Position};
use crate::store::{Found, Inputs, Moved};

/// Files that one call takes away at most: a trigger must not wait for all of a million.
const AT_ONCE: usize = 10_000;

/// Hears of commits.
#[derive(Debug)]
pub(super) struct Cleaner {
    shared: Arc<Shared>,
}

impl Cleaner {
    pub(super) fn new(shared: Arc<Shared>) -> Cleaner {
        Cleaner { shared }
    }
}

impl Acknowledge for Cleaner {
    fn acknowledge(&self, positions: &[Position]) {
        let mut committed = lock(&self.shared.committed);
        for at in positions {
            committed.insert(at.tp.partition, at.next);
        }
    }

    /// The last commits of a run are cleaned up here: nobody lists any more.
    fn flush(&self, wait: Duration) -> bool {
        self.shared.keep_marks(true);
        let clock = &self.shared.clock;
        let until = clock.elapsed().saturating_add(wait);
        loop {
            match clean(&self.shared) {
                Ok(0) => return true,
                Ok(_) if clock.elapsed() < until => {}
                Ok(_) => return false,
                Err(error) => {
                    tracing::warn!(%error, "files that were read stay where they are until the next start");
                    return false;
                }
            }
        }
    }

    fn committed(&self, _: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        Ok(BTreeMap::new())
    }

    fn name(&self) -> &str {
        ""
    }
}

/// Takes away the files that were committed since the last call, from where each partition stood when it was first read; how many.
pub(super) fn clean(shared: &Shared) -> Result<usize> {
    // The first listing looks whether files may be taken away here.
    if shared.config.clean == Clean::Off || !shared.is_begun() {
        return Ok(0);
    }
    for ordinal in shared.met() {
        if let Some(place) = shared.file(ordinal)?
            && let Some(entry) = place.entry()
            && shared.began_behind(entry)
        {
            take_away(shared, entry)?;
        }
    }
    let mut cleaned = 0;
    let partitions: Vec<i32> = lock(&shared.committed).keys().copied().collect();
    for partition in partitions {
        while cleaned < AT_ONCE {
            let Some(from) = shared.cleaned(partition) else {
                break;
            };
            let Some(place) = shared.file_at(partition, from)? else {
                break;
            };
            let Some(entry) = place.entry().filter(|entry| shared.is_committed(entry)) else {
                break;
            };
            take_away(shared, entry)?;
            shared.has_cleaned(partition, from, entry.end());
            cleaned += 1;
        }
    }
    Ok(cleaned)
}

/// Where an archived file lies. One of the same name that was archived before keeps its place.
pub(super) fn archived(dir: &str, entry: &Entry) -> [String; 2] {
    let path = format!("{dir}/{}", entry.path);
    let again = format!("{path}~{}.{}", entry.partition, entry.at);
    [path, again]
}

fn take_away(shared: &Shared, entry: &Entry) -> Result<()> {
    let inputs = shared.input.inputs();
    let there = inputs.look(&entry.path)?;
    let Some(there) = there.filter(|there| there.is_same(&entry.found())) else {
        return Ok(());
    };
    match &shared.config.clean {
        Clean::Off => Ok(()),
        Clean::Delete => inputs.remove_input(&there.path),
        Clean::Archive(dir) => archive(inputs, &there, archived(dir, entry)),
    }
}

pub(super) fn archive(
    inputs: &dyn Inputs,
    there: &Found,
    [path, again]: [String; 2],
) -> Result<()> {
    match inputs.move_input(&there.path, &path)? {
        Moved::SourceMissing => Ok(()),
        // Under a name that other files may have a copy must show that it is one.
        Moved::Done if there.has_etag() => match inputs.look(&path)? {
            Some(copy) if !copy.may_be_copy_of(there) => inputs.move_input(&path, &again).map(drop),
            _ => Ok(()),
        },
        Moved::Done => Ok(()),
        Moved::TargetExists => match inputs.move_input(&there.path, &again)? {
            Moved::Done | Moved::SourceMissing => Ok(()),
            // A kill came between the copy and the removal.
            Moved::TargetExists => match inputs.look(&again)? {
                Some(copy) if is_own_copy(&copy, there) => inputs.remove_input(&there.path),
                _ => Ok(()),
            },
        },
    }
}

/// Of what lies under the second name of [`archived`].
pub(super) fn is_own_copy(copy: &Found, of: &Found) -> bool {
    copy.is_same(of) || (copy.has_etag() && copy.size == of.size)
}
