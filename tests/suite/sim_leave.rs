//! Simulated processes let rows leave as soon as they may, and a reader reads on: it is what holds them back.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use weir::commit::{Archived, Draft, Expire, Held, Keep, Log, Reader};
use weir::error::Result;

use crate::sim_world::{CHAINS, Loader, patiently, split};

/// Everything is old at once, and nobody waits for a grace.
pub fn keep() -> Keep {
    Keep {
        rows: Some(Duration::ZERO),
        dead_letters: Some(Duration::ZERO),
        grace: Duration::ZERO,
        archive: false,
    }
}

impl Loader {
    /// The reader of this zone registers, or goes on by some offsets. Whoever runs does it: two processes of it may.
    pub fn read_on(&self, log: &mut Log, random: &mut StdRng) -> Result<()> {
        let state = log.state();
        let known = state.readers.get("p/z");
        let mut position = BTreeMap::new();
        for n in 0..CHAINS {
            let at = &state.splits[&split(n)];
            let least = known.map_or(at.readable_from(), |reader| reader.position[&split(n)]);
            position.insert(split(n), random.random_range(least..=at.to.max(least)));
        }
        let reader = Reader {
            name: "p/z".into(),
            generation: known.map_or(0, |reader| reader.generation),
            version: log.version(),
            position,
        };
        self.commit(log, Draft::Reader(reader))
    }

    /// As a committer does after an entry; some files are to be archived first.
    pub fn let_leave(&self, log: &mut Log, random: &mut StdRng) -> Result<()> {
        patiently(|| log.redo())?;
        if let Some(Draft::Expire { files, expire }) = log.expire_draft(&Held::default()) {
            let expire = Expire {
                archive: random.random_bool(0.5),
                ..expire
            };
            self.commit(log, Draft::Expire { files, expire })?;
        }
        let release = log.releasable();
        if !release.is_empty() {
            self.commit(log, Draft::Gc(release))?;
        }
        let copies = log.to_archive(usize::MAX).into_iter();
        let copies: Vec<Archived> = copies
            .map(|leaving| Archived {
                copy: format!("memory:archive/{}", leaving.file.path),
                digest: leaving.file.digest,
                id: leaving.file.id,
            })
            .collect();
        match copies.is_empty() {
            true => Ok(()),
            false => self.commit(log, Draft::Archived(copies)),
        }
    }
}
