//! Which lines of the journal are kept, and where they are in the file; not their texts. A line that is not kept is not
//! shown either, even if the file still contains it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::journal::What;

/// Limits of what is kept in addition to the required lines of a pipeline: its creation, its newest config and its
/// newest target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Changes of one name.
    pub changes: usize,
    /// Bytes of one name's lines.
    pub bytes: u64,
    /// Deleted names.
    pub deleted: usize,
    /// Bytes of all of their lines.
    pub deleted_bytes: u64,
    /// Unneeded bytes of the file before it is rewritten.
    pub dead: u64,
}

impl Bounds {
    /// The size of the largest page, so that one request can show all changes.
    const CHANGES: usize = 1000;
    /// 1 MiB: about 500 configs of 2 KB; a thousand pipelines take at most 1 GiB and their required lines.
    const BYTES: u64 = 1 << 20;
    /// Names that a script creates and deletes must not fill disk or memory; a thousand are more than a person looks
    /// at.
    const DELETED: usize = 1000;
    /// 16 MiB: 16 names with the most that can be kept for one.
    const DELETED_BYTES: u64 = 16 << 20;
    /// 16 MiB: read in well under a second at start, and large enough that rewriting is rare.
    const DEAD: u64 = 16 << 20;

    pub const DAEMON: Bounds = Bounds {
        changes: Bounds::CHANGES,
        bytes: Bounds::BYTES,
        deleted: Bounds::DELETED,
        deleted_bytes: Bounds::DELETED_BYTES,
        dead: Bounds::DEAD,
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins in the file.
    pub at: u64,
    /// With its end of line.
    pub len: u64,
}

/// The required lines of a pipeline.
#[derive(Clone, Copy, Debug)]
struct Stands {
    created: u64,
    config: u64,
    target: u64,
}

#[derive(Debug, Default)]
struct Named {
    /// The oldest first.
    lines: VecDeque<Line>,
    bytes: u64,
    stands: Option<Stands>,
    /// Where the line of its deletion begins.
    deleted: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Kept {
    bounds: Bounds,
    names: BTreeMap<String, Named>,
    /// Deleted names, sorted by time of deletion; without those of which only the deletion is left.
    deleted: BTreeMap<u64, String>,
    /// Names of which at least the deletion is kept. `None`: not known yet, so none is forgotten.
    never_forgotten: Option<BTreeSet<String>>,
}

impl Named {
    fn add(&mut self, what: &What, line: Line) {
        let at = line.at;
        self.deleted = None;
        match (what, &mut self.stands) {
            (What::Created { .. }, stands) => {
                *stands = Some(Stands {
                    created: at,
                    config: at,
                    target: at,
                });
            }
            (What::Config { .. } | What::TakenBack { .. }, Some(stands)) => stands.config = at,
            (What::Target { .. }, Some(stands)) => stands.target = at,
            (What::Deleted, stands) => {
                *stands = None;
                self.deleted = Some(at);
            }
            (_, None) | (What::Offsets { .. } | What::Restarted, _) => {}
        }
        self.lines.push_back(line);
        self.bytes += line.len;
    }

    /// The newest is always kept.
    fn trim(&mut self, bounds: Bounds) {
        while self.lines.len() > bounds.changes || self.bytes > bounds.bytes {
            let older = self.lines.len().saturating_sub(1);
            let needed = |line: &Line| {
                self.stands
                    .is_some_and(|s| [s.created, s.config, s.target].contains(&line.at))
            };
            let Some(oldest) = self.lines.iter().take(older).position(|l| !needed(l)) else {
                return;
            };
            let gone = self.lines.remove(oldest);
            self.bytes -= gone.map_or(0, |line| line.len);
        }
    }

    fn only_its_deletion(&mut self) {
        let deleted = self.deleted;
        self.lines.retain(|line| Some(line.at) == deleted);
        self.bytes = self.lines.iter().map(|line| line.len).sum();
    }
}

impl Kept {
    pub fn new(bounds: Bounds) -> Kept {
        Kept {
            bounds,
            names: BTreeMap::new(),
            deleted: BTreeMap::new(),
            never_forgotten: None,
        }
    }

    /// The newest line of all.
    pub fn add(&mut self, name: &str, what: &What, line: Line) {
        let named = self.names.entry(name.to_owned()).or_default();
        if let Some(at) = named.deleted {
            self.deleted.remove(&at);
        }
        named.add(what, line);
        named.trim(self.bounds);
        if named.deleted.is_some() {
            self.deleted.insert(line.at, name.to_owned());
            self.forget();
        }
    }

    /// From now on deleted names are forgotten, except for these.
    pub fn never_forget(&mut self, names: BTreeSet<String>) {
        self.never_forgotten = Some(names);
        self.forget();
    }

    /// Forgets the names that were deleted first.
    fn forget(&mut self) {
        let Some(never) = &self.never_forgotten else {
            return;
        };
        let held = |name| self.names.get(name).map_or(0, |named| named.bytes);
        let mut bytes: u64 = self.deleted.values().map(held).sum();
        while self.deleted.len() > self.bounds.deleted || bytes > self.bounds.deleted_bytes {
            let Some((_, name)) = self.deleted.pop_first() else {
                return;
            };
            bytes -= self.names.get(&name).map_or(0, |named| named.bytes);
            match self.names.get_mut(&name) {
                Some(named) if never.contains(&name) => named.only_its_deletion(),
                _ => drop(self.names.remove(&name)),
            }
        }
    }

    pub fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The oldest first; none of a name that was never there or is forgotten.
    pub fn lines(&self, name: &str) -> impl DoubleEndedIterator<Item = Line> + ExactSizeIterator {
        let none = const { &VecDeque::new() };
        let lines = self.names.get(name).map_or(none, |named| &named.lines);
        lines.iter().copied()
    }

    pub fn bytes(&self) -> u64 {
        self.names.values().map(|named| named.bytes).sum()
    }

    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The kept lines of all names, in the order of the file.
    pub fn all(&self) -> Vec<Line> {
        let lines = self.names.values().flat_map(|named| &named.lines);
        let mut lines: Vec<Line> = lines.copied().collect();
        lines.sort_unstable_by_key(|line| line.at);
        lines
    }

    /// The lines of [`Kept::all`] now follow each other, from `first` on.
    pub fn moved(&mut self, all: &[Line], first: u64) {
        let mut next = first;
        let places = all.iter().map(|line| {
            let at = next;
            next += line.len;
            (line.at, at)
        });
        let places: BTreeMap<u64, u64> = places.collect();
        let to = |at: &mut u64| *at = places.get(at).copied().unwrap_or(*at);
        for named in self.names.values_mut() {
            named.lines.iter_mut().for_each(|line| to(&mut line.at));
            named.deleted.iter_mut().for_each(to);
            if let Some(stands) = &mut named.stands {
                to(&mut stands.created);
                to(&mut stands.config);
                to(&mut stands.target);
            }
        }
        let deleted = std::mem::take(&mut self.deleted).into_iter();
        self.deleted = deleted
            .map(|(mut at, name)| {
                to(&mut at);
                (at, name)
            })
            .collect();
    }
}
