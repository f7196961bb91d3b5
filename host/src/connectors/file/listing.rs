//! Files that were found and do not stand in the list yet, in the order in which they will.
//!
//! A million of them are small: names lie in one text, and what else is known of a file takes 40 bytes.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use super::Limits;
use super::list::DOCUMENT_FILES;
use crate::store::Found;

/// Names that are told at most of what a listing left out, and changes that are remembered as told.
pub(super) const TOLD_MAX: usize = 10_000;

#[derive(Debug)]
struct One {
    name: Range<usize>,
    identity: usize,
    size: u64,
    modified: i64,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Paths and identities, one after the other.
    text: String,
    /// In the order in which they are taken, from `next` on.
    all: Vec<One>,
    next: usize,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.next >= self.all.len()
    }

    pub(super) fn clear(&mut self) {
        *self = Pending::default();
    }

    pub(super) fn push(&mut self, found: &Found) {
        let begins = self.text.len();
        self.text.push_str(&found.path);
        let ends = self.text.len();
        self.text.push_str(&found.identity);
        self.all.push(One {
            name: begins..ends,
            identity: self.text.len(),
            size: found.size,
            modified: found.modified,
        });
    }

    /// Oldest first, or newest; by name where times are equal.
    pub(super) fn sort(&mut self, latest_first: bool) {
        let Pending { text, all, .. } = self;
        let name = |one: &One| text.get(one.name.clone()).unwrap_or_default();
        all.sort_unstable_by(|a, b| {
            let times = match latest_first {
                false => a.modified.cmp(&b.modified),
                true => b.modified.cmp(&a.modified),
            };
            times.then_with(|| name(a).cmp(name(b)))
        });
    }

    fn at(&self, index: usize) -> Option<Found> {
        let one = self.all.get(index)?;
        let text = |range: Range<usize>| self.text.get(range).unwrap_or_default().to_owned();
        Some(Found {
            path: text(one.name.clone()),
            identity: text(one.name.end..one.identity),
            size: one.size,
            modified: one.modified,
        })
    }

    /// The next files, as many as the limits and one document allow; at least one if there is any. What was taken of the limits
    /// is taken off them.
    pub(super) fn group(&self, limits: &mut Limits) -> Vec<Found> {
        let mut group = Vec::new();
        while group.len() < DOCUMENT_FILES {
            if limits.files == Some(0) {
                break;
            }
            let Some(found) = self.at(self.next + group.len()) else {
                break;
            };
            match &mut limits.bytes {
                Some(left) if *left == 0 => break,
                Some(left) if found.size > *left && !group.is_empty() => {
                    *left = 0;
                    break;
                }
                Some(left) => *left = left.saturating_sub(found.size.max(1)),
                None => {}
            }
            if let Some(left) = &mut limits.files {
                *left -= 1;
            }
            group.push(found);
        }
        group
    }

    pub(super) fn taken(&mut self, files: usize) {
        self.next = self.next.saturating_add(files);
        if self.is_empty() {
            self.clear();
        }
    }
}

/// What was seen of files that may still be written.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    seen: HashMap<String, Seen>,
    listings: u64,
}

#[derive(Debug)]
struct Seen {
    found: Found,
    since: Duration,
    /// The last listing that met it.
    listing: u64,
}

impl Unsettled {
    /// How long a file has still to stay as it is. Its age is by the store's clock, against that of this machine (`now`, wall
    /// clock; `elapsed`, since some start): where that says nothing, it counts how long it was seen unchanged.
    pub(super) fn rest(
        &mut self,
        found: &Found,
        settle: Duration,
        (now, elapsed): (i64, Duration),
    ) -> Option<Duration> {
        if settle.is_zero() {
            return None;
        }
        let age = now.saturating_sub(found.modified);
        if let Ok(age) = u64::try_from(age)
            && Duration::from_micros(age) >= settle
        {
            self.seen.remove(&found.path);
            return None;
        }
        let known = self.seen.get(&found.path);
        let known = known.filter(|known| known.found.is_same(found));
        let since = known.map_or(elapsed, |known| known.since);
        let seen = Seen {
            found: found.clone(),
            since,
            listing: self.listings,
        };
        self.seen.insert(found.path.clone(), seen);
        let unchanged = elapsed.saturating_sub(since);
        if unchanged >= settle {
            self.seen.remove(&found.path);
            return None;
        }
        // By whichever clock says so first.
        let by_age = u64::try_from(age).map_or(settle, |age| {
            settle.saturating_sub(Duration::from_micros(age))
        });
        Some(by_age.min(settle.saturating_sub(unchanged)))
    }

    /// A listing has met all that is there.
    pub(super) fn listed(&mut self) {
        let this = self.listings;
        self.seen.retain(|_, seen| seen.listing == this);
        self.listings += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, modified: i64) -> Found {
        Found {
            path: path.to_owned(),
            size,
            modified,
            identity: format!("inode:{size}"),
        }
    }

    fn names(group: &[Found]) -> Vec<&str> {
        group.iter().map(|f| f.path.as_str()).collect()
    }

    #[test]
    fn groups_follow_times_and_limits() {
        let mut pending = Pending::default();
        for found in [file("c", 5, 3), file("b", 7, 1), file("a", 1, 1)] {
            pending.push(&found);
        }
        pending.sort(false);
        let mut limits = Limits {
            files: Some(2),
            bytes: None,
        };
        let group = pending.group(&mut limits);
        assert_eq!(names(&group), ["a", "b"]);
        assert_eq!(group[1], file("b", 7, 1));
        assert!(pending.group(&mut limits).is_empty());
        let mut bytes = Limits {
            files: None,
            bytes: Some(1),
        };
        assert_eq!(names(&pending.group(&mut bytes)), ["a"]);
        assert!(pending.group(&mut bytes).is_empty());
        pending.taken(1);
        // One that is larger than the limit goes alone.
        bytes.bytes = Some(2);
        assert_eq!(names(&pending.group(&mut bytes)), ["b"]);
        pending.taken(1);
        pending.taken(1);
        assert!(pending.is_empty() && pending.text.is_empty());
        pending.push(&file("x", 1, 1));
        pending.push(&file("y", 1, 2));
        pending.sort(true);
        let mut all = Limits {
            files: None,
            bytes: None,
        };
        assert_eq!(names(&pending.group(&mut all)), ["y", "x"]);
    }

    #[test]
    fn a_file_settles_by_its_age_or_while_it_is_watched() {
        let second = Duration::from_secs(1);
        let mut unsettled = Unsettled::default();
        let old = file("old", 1, 0);
        assert_eq!(
            unsettled.rest(&old, second, (1_000_000, Duration::ZERO)),
            None
        );
        let young = file("young", 1, 900_000);
        let rest = unsettled.rest(&young, second, (1_000_000, Duration::ZERO));
        assert_eq!(rest, Some(Duration::from_millis(900)));
        // Written by a clock that is ahead.
        let ahead = file("ahead", 1, 9_000_000);
        let at = |secs| (0, Duration::from_secs(secs));
        assert_eq!(unsettled.rest(&ahead, second, at(5)), Some(second));
        assert_eq!(unsettled.rest(&ahead, second, at(6)), None);
        let grows = file("ahead", 2, 9_000_001);
        assert_eq!(unsettled.rest(&grows, second, at(6)), Some(second));
        assert_eq!(unsettled.rest(&grows, Duration::ZERO, at(6)), None);
        // Files that are gone are forgotten.
        unsettled.listed();
        assert_eq!(unsettled.seen.len(), 2);
        assert_eq!(unsettled.rest(&grows, second, at(6)), Some(second));
        unsettled.listed();
        assert_eq!(unsettled.seen.len(), 1);
    }
}
