//! Compactions in the simulations: all files of one kind below the horizon become one, whatever others do meanwhile.

use std::collections::BTreeMap;

use weir::commit::{AddedFile, Draft, FileRange, Log, Role, place_of};
use weir::error::{Kind, Result};
use weir::record::SplitId;

use crate::sim_world::{Loader, log_name, write_rows};

impl Loader {
    pub fn compact(&self, log: &mut Log) -> Result<()> {
        match self.compacting(log)? {
            Some(draft) => self.commit(log, draft),
            None => Ok(()),
        }
    }

    /// `None`: there is nothing to compact, or an input is gone, or the new file was collected meanwhile.
    pub fn compacting(&self, log: &mut Log) -> Result<Option<Draft>> {
        log.make_readable()?;
        let base = log.version();
        let state = log.state();
        let mut groups: BTreeMap<_, Vec<AddedFile>> = BTreeMap::new();
        for live in state.live.values() {
            if live.version <= state.horizon && live.file.role != Role::Keys {
                let group = groups.entry(place_of(&live.file)).or_default();
                group.push(live.file.clone());
            }
        }
        let Some(inputs) = groups.into_values().find(|files| files.len() > 1) else {
            return Ok(None);
        };
        let (mut rows, mut digest): (Vec<(SplitId, i64)>, u128) = (Vec::new(), 0);
        for file in &inputs {
            let Some(found) = self.store.readable(&file.place(&log_name()))? else {
                return Ok(None);
            };
            let Some(content) = self.store.get(&found.path)? else {
                return Ok(None);
            };
            rows.extend(serde_json::from_slice::<Vec<(SplitId, i64)>>(&content).unwrap());
            let hex = file.row_digest.strip_prefix("xxh3:").unwrap();
            digest += u128::from_str_radix(hex, 16).unwrap();
        }
        let id = self.ids.next();
        let like = AddedFile {
            id: id.clone(),
            path: inputs[0].path.replace(&inputs[0].id, &id),
            ranges: cover(&inputs),
            row_digest: format!("xxh3:{digest:032x}"),
            ..inputs[0].clone()
        };
        let remove = inputs.into_iter().map(|file| file.id).collect();
        match write_rows(&self.store, like, &rows) {
            Ok(file) => Ok(Some(Draft::Compact {
                remove,
                add: vec![file],
                base,
            })),
            Err(e) if e.kind() == Kind::Conflict => Ok(None),
            Err(e) => Err(e),
        }
    }
}

pub fn cover(files: &[AddedFile]) -> Vec<FileRange> {
    let mut all: BTreeMap<SplitId, FileRange> = BTreeMap::new();
    for range in files.iter().flat_map(|file| &file.ranges) {
        let of = all.entry(range.split.clone()).or_insert_with(|| FileRange {
            rows: 0,
            ..range.clone()
        });
        of.from = of.from.min(range.from);
        of.to = of.to.max(range.to);
        of.rows += range.rows;
    }
    all.into_values().collect()
}
