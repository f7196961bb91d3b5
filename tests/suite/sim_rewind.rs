//! Rewinds in the simulations: to any commit boundary, of one split or of all, whatever others do meanwhile.

use std::collections::BTreeMap;

use rand::Rng;
use rand::rngs::StdRng;
use weir::commit::{AddedFile, Draft, Log, Rewind, Straddling};
use weir::error::{Kind, Result};
use weir::record::SplitId;

use crate::sim_world::{CHAINS, Loader, log_name, split, write_rows};

impl Loader {
    /// One split or all of them, to some border below.
    pub fn go_back(&self, log: &mut Log, random: &mut StdRng) -> Result<()> {
        let first = random.random_range(0..CHAINS);
        let all = random.random_bool(0.3);
        let mut targets = BTreeMap::new();
        for n in (0..CHAINS).filter(|n| all || *n == first) {
            let state = log.state();
            let at = &state.splits[&split(n)];
            let gone = at.expired.to().unwrap_or(i64::MIN);
            let lowest = at.lowest(state.horizon).max(gone);
            let borders: Vec<_> = at.borders.iter().filter(|b| b.to >= lowest).collect();
            if borders.len() > 1 {
                let border = borders[random.random_range(0..borders.len() - 1)];
                targets.insert(split(n), border.to);
            }
        }
        match targets.is_empty() {
            true => Ok(()),
            false => self.go_back_to(log, &targets),
        }
    }

    pub fn go_back_to(&self, log: &mut Log, targets: &BTreeMap<SplitId, i64>) -> Result<()> {
        let draft = self.rewinding(log, targets)?;
        draft.map_or(Ok(()), |draft| self.commit(log, draft))
    }

    /// `None`: a file to be rewritten is gone, the rest was collected, or rows expired meanwhile.
    pub fn rewinding(
        &self,
        log: &mut Log,
        targets: &BTreeMap<SplitId, i64>,
    ) -> Result<Option<Draft>> {
        log.make_readable()?;
        let base = log.version();
        // The log may have been read on: what lies above a target may have expired.
        let Ok(back) = log.state().back_to(targets) else {
            return Ok(None);
        };
        let mut rests = Vec::new();
        for Straddling { file, rest } in &back.straddling {
            let Some(found) = self.store.readable(&file.place(&log_name()))? else {
                return Ok(None);
            };
            let Some(content) = self.store.get(&found.path)? else {
                return Ok(None);
            };
            let mut rows: Vec<(SplitId, i64)> = serde_json::from_slice(&content).unwrap();
            rows.retain(|(split, _)| rest.iter().any(|r| r.split == *split));
            let id = self.ids.next();
            let like = AddedFile {
                id: id.clone(),
                path: file.path.replace(&file.id, &id),
                ranges: rest.clone(),
                ..file.clone()
            };
            match write_rows(&self.store, like, &rows) {
                Ok(file) => rests.push(file),
                Err(e) if e.kind() == Kind::Conflict => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let rewind = Rewind {
            actor: "sim".into(),
            reason: String::new(),
            readers: Vec::new(),
            follows: None,
        };
        Ok(Some(Draft::Rewind {
            rewind,
            back,
            rests,
            base,
        }))
    }
}
