//! What is old enough to leave a zone, and who holds it back. The rules that an entry must keep are in `expiry`; this is what a
//! writer proposes, and what commands show.
//!
//! Ages come from the times of entries, and clocks may be wrong. So only times count that agree with each other in the order of
//! versions, and a leap of the newest ones counts only after the log has gone on for a while since ([`now_by`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::entry::{Expire, Role};
use super::expiry::{Leaving, Reading, table_of};
use super::state::{LiveFile, State};
use super::{Draft, Log};
use crate::lock::lock;
use crate::record::SplitId;

/// Files of one `expire` entry, about: an entry of some 100 KB, and some thousand times fewer entries than files.
pub const EXPIRE_AT_ONCE: usize = 1000;
/// Files of one entry after which they are deleted: on an object store that takes some seconds, and commits wait for it.
pub const RELEASE_AT_ONCE: usize = 100;
/// While so many files wait for their deletion (an archive is away), no more expire.
const LEAVING_MAX: usize = 100_000;

/// Entries of one writer are seldom further apart: a pipeline that runs once a day is not a clock that leaps.
const LEAP_LEAST: Duration = Duration::from_secs(2 * 24 * 3600);
/// A leap of more than this part of the retention is not believed at once.
const LEAP_SHARE: u32 = 4;
/// Rows leave when they are older than the retention by this part of it, or …
const SLACK_SHARE: u32 = 100;
/// … by this time at most: so they leave together, and not one file with each entry.
const SLACK_MAX: Duration = Duration::from_secs(3600);
/// A pipeline looks this often within the shortest of its times, …
const LOOKS: u32 = 20;
/// … but not more often than this, and at least this often.
const LOOK_LEAST: Duration = Duration::from_millis(200);
const LOOK_MOST: Duration = Duration::from_secs(60);
/// Where somebody holds back what is old, all live files were looked at in vain: then it looks so many times less often.
const IN_VAIN: u32 = 5;

/// Why data expires where nobody asked for it by hand.
const RETENTION: &str = "retention";

/// How long data stays in a zone, and what becomes of it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// `sink.retention`; `None`: rows stay.
    pub rows: Option<Duration>,
    /// `errors.dlq.retention`; `None`: dead letters stay.
    pub dead_letters: Option<Duration>,
    /// `retention.grace`: from the entry by which a file expires to its deletion.
    pub grace: Duration,
    /// Whether there is an `archive.url`.
    pub archive: bool,
}

/// Default of `retention.grace`: queries that began before may take so long.
pub const GRACE: Duration = Duration::from_secs(3600);

impl Default for Keep {
    fn default() -> Keep {
        Keep {
            rows: None,
            dead_letters: None,
            grace: GRACE,
            archive: false,
        }
    }
}

impl Keep {
    fn of(&self, role: Role) -> Option<Duration> {
        match role {
            Role::Rows => self.rows,
            Role::DeadLetters => self.dead_letters,
            Role::Keys => None,
        }
    }

    fn look_every(&self) -> Duration {
        let times = [self.rows, self.dead_letters, Some(self.grace)];
        let least = times.into_iter().flatten().min().unwrap_or(LOOK_MOST);
        (least / LOOKS).clamp(LOOK_LEAST, LOOK_MOST)
    }
}

/// What a log does next about data that is old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Something expires.
    Expire,
    /// Something that expired may be deleted.
    Release,
}

/// Who needs rows beside the registered readers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held<'a> {
    /// Positions that this log must be able to go back to, because another log may ask for it.
    pub positions: Option<&'a BTreeMap<SplitId, i64>>,
    /// Dead letters from this version on are not in their topic yet.
    pub dead_letters: Option<u64>,
}

/// Why a file that is old does not leave.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// It has not read all of it.
    Reader {
        name: String,
        split: SplitId,
        /// `None`: it has not registered this split yet.
        at: Option<i64>,
    },
    /// The log that is read may be put back to this offset, and this one would have to follow.
    Input { split: SplitId, at: i64 },
    /// Dead letters from this version on are not in their topic yet.
    Topic { version: u64 },
    /// Rows of the same splits that are older stay.
    Older,
}

/// What is old.
#[derive(Debug, Default)]
pub struct Old<'a> {
    /// What leaves now, the oldest first; without keys, which go with their rows.
    pub leaves: Vec<&'a LiveFile>,
    /// What stays, and because of whom.
    pub held: Vec<(Holder, &'a LiveFile)>,
    /// There is more than one entry should name.
    pub more: bool,
}

impl Old<'_> {
    /// The files that an entry removes.
    pub fn ids(&self) -> Vec<String> {
        let rows = self.leaves.iter().map(|live| &live.file);
        rows.flat_map(|file| std::iter::once(&file.id).chain(&file.keys))
            .cloned()
            .collect()
    }
}

/// Versions and their times, as far as they agree: the longest part of them in which time never goes back.
#[derive(Debug)]
struct Times(Vec<(u64, i64)>);

impl Times {
    fn of(points: BTreeMap<u64, i64>) -> Times {
        // By length: the chain that ends with the smallest time, and before whom each point stands.
        let points: Vec<(u64, i64)> = points.into_iter().collect();
        let mut ends: Vec<usize> = Vec::new();
        let mut before: Vec<Option<usize>> = Vec::with_capacity(points.len());
        let time = |at: usize| points.get(at).map_or(i64::MIN, |point| point.1);
        for at in 0..points.len() {
            let length = ends.partition_point(|end| time(*end) <= time(at));
            before.push(length.checked_sub(1).and_then(|l| ends.get(l).copied()));
            match ends.get_mut(length) {
                Some(end) => *end = at,
                None => ends.push(at),
            }
        }
        let mut next = ends.last().copied();
        let mut chain = Vec::with_capacity(ends.len());
        while let Some(at) = next {
            chain.extend(points.get(at).copied());
            next = before.get(at).copied().flatten();
        }
        chain.reverse();
        Times(chain)
    }

    /// The newest version that was written at or before this time.
    fn version_at(&self, time: i64) -> Option<u64> {
        let after = self.0.partition_point(|point| point.1 <= time);
        let at = after.checked_sub(1)?;
        self.0.get(at).map(|point| point.0)
    }

    /// What time it is for something that stays for so long. `known`: how long this process has known the newest entry. A leap of
    /// the newest times is left out until the log has gone on for as long since: a machine whose clock is years ahead deletes nothing.
    fn now_by(&self, now: i64, known: Duration, than: Duration) -> i64 {
        let far = (than / LEAP_SHARE).max(LEAP_LEAST);
        let Some(&(_, last)) = self.0.last() else {
            return now;
        };
        let mut now = now.min(last.saturating_add(micros(far.max(known))));
        for pair in self.0.windows(2).rev() {
            let [(_, a), (_, b)] = pair else { continue };
            if last.saturating_sub(*b) >= micros(far) {
                break;
            }
            let leap = b.saturating_sub(*a);
            if leap > micros(far) {
                now = now.saturating_sub(leap);
            }
        }
        now
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

impl State {
    fn times(&self) -> Times {
        let files = self.live.values();
        let mut points: BTreeMap<u64, i64> = files.map(|l| (l.rows_at(), l.time())).collect();
        points.extend(self.ages.iter().map(|age| age.point()));
        Times::of(points)
    }

    /// What is older than `than` by a clock that shows `now`. For people, who look at what it names before they say yes: a leap
    /// of times counts.
    pub fn old_by_hand(
        &self,
        (now, than): (i64, Duration),
        role: Role,
        held: &Held<'_>,
        most: usize,
    ) -> Old<'_> {
        let cut = now.saturating_sub(micros(than));
        self.old_at(self.times().version_at(cut), role, held, most)
    }

    /// What was committed at or below a version, and may leave together: at most about `most` files.
    fn old_at(&self, cut: Option<u64>, role: Role, held: &Held<'_>, most: usize) -> Old<'_> {
        let mut tables: BTreeMap<&str, Vec<&LiveFile>> = BTreeMap::new();
        for live in self.live.values().filter(|live| live.file.role == role) {
            let table = tables.entry(table_of(&live.file.path)).or_default();
            table.push(live);
        }
        let mut old = Old::default();
        let reading = self.reading();
        let tables = match role {
            Role::Rows => together(tables),
            _ => tables.into_values().collect(),
        };
        for mut files in tables {
            files.sort_by(|a, b| {
                let key = |live: &LiveFile| (live.rows_at(), live.version);
                key(a).cmp(&key(b)).then_with(|| a.file.id.cmp(&b.file.id))
            });
            let end = files.partition_point(|live| Some(live.rows_at()) <= cut);
            let left = most.saturating_sub(old.leaves.len());
            self.leave_in_order((&files, end), (held, &reading), left, &mut old);
        }
        old
    }

    /// The oldest files of a table leave, up to the first one that somebody needs; `end`: as many are old.
    fn leave_in_order<'a>(
        &'a self,
        (files, end): (&[&'a LiveFile], usize),
        (held, reading): (&Held<'_>, &Reading<'a>),
        most: usize,
        old: &mut Old<'a>,
    ) {
        let mut stays = end;
        let mut behind = Holder::Older;
        for (at, live) in files.iter().take(end).enumerate() {
            if let Some(holder) = self.holder(live, held, reading) {
                (stays, behind) = (at, holder);
                break;
            }
        }
        let takes = cut_of(files, stays, most).unwrap_or(0);
        old.leaves.extend(files.iter().take(takes));
        // What could leave with the next entry, and what stays because older rows stay.
        let could = match takes < stays {
            true => cut_of(files, stays, usize::MAX).unwrap_or(0),
            false => takes,
        };
        old.more |= takes < could;
        let parted = files.iter().take(stays).skip(could);
        old.held.extend(parted.map(|live| (behind.clone(), *live)));
        for live in files.iter().take(end).skip(stays) {
            let own = self
                .holder(live, held, reading)
                .unwrap_or_else(|| behind.clone());
            old.held.push((own, live));
        }
    }

    fn holder<'a>(
        &'a self,
        live: &'a LiveFile,
        held: &Held<'_>,
        reading: &Reading<'a>,
    ) -> Option<Holder> {
        if let Some(needs) = reading.needed_by(&live.file) {
            return Some(Holder::Reader {
                name: needs.reader.to_owned(),
                split: needs.split.clone(),
                at: needs.at,
            });
        }
        let letters = live.file.role == Role::DeadLetters;
        if let Some(version) = held.dead_letters.filter(|v| letters && live.version >= *v) {
            return Some(Holder::Topic { version });
        }
        let positions = held.positions?;
        let above = live.file.ranges.iter().find_map(|range| {
            let start = self.splits.get(&range.split).map_or(0, |split| split.start);
            let at = positions.get(&range.split).copied().unwrap_or(start);
            (at < range.to).then(|| (range.split.clone(), at))
        });
        above.map(|(split, at)| Holder::Input { split, at })
    }
}

/// How many of the first `end` files leave together, about `most` of them: on no split may a row stay that is older than one that
/// leaves (V9). `None`: no number of them may.
fn cut_of(files: &[&LiveFile], end: usize, most: usize) -> Option<usize> {
    if end == 0 || most == 0 {
        return None;
    }
    // Of each split: the files with its rows, by their place in the order.
    let mut splits: BTreeMap<&SplitId, Vec<(usize, i64, i64)>> = BTreeMap::new();
    for (at, live) in files.iter().enumerate() {
        if live.file.role == Role::Rows {
            for range in &live.file.ranges {
                let of = splits.entry(&range.split).or_default();
                of.push((at, range.from, range.to));
            }
        }
    }
    // One more from a place on, one less from another on: cuts between them would part rows.
    let mut parted = vec![0_i64; files.len() + 2];
    let mut bump = |at: usize, by: i64| {
        if let Some(n) = parted.get_mut(at) {
            *n += by;
        }
    };
    for of in splits.values() {
        let mut least = i64::MAX;
        let mut least_from: Vec<i64> = Vec::with_capacity(of.len());
        for (_, from, _) in of.iter().rev() {
            least = least.min(*from);
            least_from.push(least);
        }
        least_from.reverse();
        let mut most_to = i64::MIN;
        for (pair, least_after) in of.windows(2).zip(least_from.iter().skip(1)) {
            let [(at, _, to), (next, ..)] = pair else {
                continue;
            };
            most_to = most_to.max(*to);
            if most_to > *least_after {
                bump(at + 1, 1);
                bump(next + 1, -1);
            }
        }
    }
    let (mut open, mut best) = (0, None);
    for (cut, change) in parted.iter().enumerate().take(end + 1) {
        open += change;
        if cut > 0 && open == 0 {
            best = Some(cut);
            if cut >= most {
                break;
            }
        }
        // The largest that is not too many; if there is none, the smallest.
        if cut >= most && best.is_some() {
            break;
        }
    }
    best
}

/// Tables with rows of the same split leave as one: V9 asks of all rows of a split, and a table may have got another name.
fn together<'a>(tables: BTreeMap<&str, Vec<&'a LiveFile>>) -> Vec<Vec<&'a LiveFile>> {
    type Table<'a> = (BTreeSet<&'a SplitId>, Vec<&'a LiveFile>);
    let mut all: Vec<Table<'a>> = Vec::new();
    for mut files in tables.into_values() {
        let ranges = files.iter().flat_map(|live| &live.file.ranges);
        let mut splits: BTreeSet<&SplitId> = ranges.map(|range| &range.split).collect();
        let (same, others): (Vec<Table<'a>>, Vec<Table<'a>>) = all
            .into_iter()
            .partition(|(of, _)| !of.is_disjoint(&splits));
        for (more, same) in same {
            splits.extend(more);
            files.extend(same);
        }
        all = others;
        all.push((splits, files));
    }
    all.into_iter().map(|(_, files)| files).collect()
}

impl Log {
    /// Whether data may ever leave by its age, or waits for it.
    pub fn lets_leave(&self) -> bool {
        let Keep {
            rows, dead_letters, ..
        } = self.limits.keep;
        rows.is_some() || dead_letters.is_some() || !self.state.leaving.is_empty()
    }

    /// Whether something is old enough to leave the zone, or to be deleted. Looks now and then; in between it says `None` at
    /// once.
    pub fn due(&self, held: &Held<'_>) -> Option<Due> {
        if !self.lets_leave() {
            return None;
        }
        let keep = &self.limits.keep;
        let now = self.clock.elapsed();
        let known = self.known_for(now);
        if now < Duration::from_micros(self.look_due_at.load(Ordering::Relaxed)) {
            return None;
        }
        if !self.releasable().is_empty() {
            return Some(Due::Release);
        }
        let mut wait = keep.look_every();
        if self.state.leaving.len() < LEAVING_MAX && self.looks_old() {
            if !self.old(known, held).leaves.is_empty() {
                return Some(Due::Expire);
            }
            wait *= IN_VAIN;
        }
        let next = u64::try_from((now + wait).as_micros()).unwrap_or(u64::MAX);
        self.look_due_at.store(next, Ordering::Relaxed);
        None
    }

    /// What was due could not be done as things stand: it is looked at again after a while.
    pub fn look_later(&self) {
        let next = self.clock.elapsed() + self.limits.keep.look_every();
        let next = u64::try_from(next.as_micros()).unwrap_or(u64::MAX);
        self.look_due_at.store(next, Ordering::Relaxed);
    }

    /// How long this process has known the newest entry.
    fn known_for(&self, now: Duration) -> Duration {
        let mut since = lock(&self.known_since);
        if since.0 != self.state.version {
            *since = (self.state.version, now);
        }
        now.saturating_sub(since.1)
    }

    /// Asks all files for their age, and nothing else: names do not tell it, a merged file has a new one.
    fn looks_old(&self) -> bool {
        let now = self.clock.now_micros();
        let oldest = |role: Role| {
            let live = self.state.live.values();
            let files = live.filter(move |live| live.file.role == role);
            files.map(LiveFile::time).min()
        };
        [Role::Rows, Role::DeadLetters].into_iter().any(|role| {
            let Some(than) = self.limits.keep.of(role) else {
                return false;
            };
            let slack = (than / SLACK_SHARE).min(SLACK_MAX);
            oldest(role).is_some_and(|time| time <= now.saturating_sub(micros(than + slack)))
        })
    }

    /// What leaves now, by the retention of this log.
    fn old(&self, known: Duration, held: &Held<'_>) -> Old<'_> {
        let (state, wall) = (&self.state, self.clock.now_micros());
        let times = state.times();
        let mut all = Old::default();
        for role in [Role::Rows, Role::DeadLetters] {
            let Some(than) = self.limits.keep.of(role) else {
                continue;
            };
            let cut = times.now_by(wall, known, than).saturating_sub(micros(than));
            let left = EXPIRE_AT_ONCE.saturating_sub(all.leaves.len());
            let old = state.old_at(times.version_at(cut), role, held, left);
            all.leaves.extend(old.leaves);
            all.held.extend(old.held);
            all.more |= old.more;
        }
        all
    }

    /// The entry by which old data leaves now. `None`: nothing does. After [`Log::redo`].
    pub fn expire_draft(&self, held: &Held<'_>) -> Option<Draft> {
        let keep = &self.limits.keep;
        let files = self.old(self.known_for(self.clock.elapsed()), held).ids();
        let expire = Expire {
            actor: super::actor(),
            reason: RETENTION.to_owned(),
            archive: keep.archive,
        };
        (!files.is_empty()).then_some(Draft::Expire { files, expire })
    }

    /// Files that expired, need no archive, and whose time of grace is over; the oldest first.
    pub fn releasable(&self) -> Vec<String> {
        let leaving = self.over_grace();
        let mut due = leaving
            .filter(|leaving| !leaving.archive)
            .collect::<Vec<_>>();
        due.sort_by_key(|leaving| leaving.version);
        let due = due.into_iter().take(RELEASE_AT_ONCE);
        due.map(|leaving| leaving.file.id.clone()).collect()
    }

    /// Files that expired, are to be archived, and whose time of grace is over; the oldest first.
    pub fn to_archive(&self, most: usize) -> Vec<Leaving> {
        let mut due: Vec<&Leaving> = self.over_grace().filter(|l| l.archive).collect();
        due.sort_by_key(|leaving| leaving.version);
        due.into_iter().take(most).cloned().collect()
    }

    /// Without keys, which go with their rows.
    fn over_grace(&self) -> impl Iterator<Item = &Leaving> {
        let grace = self.limits.keep.grace;
        let (now, elapsed) = (self.clock.now_micros(), self.clock.elapsed());
        let run = elapsed.saturating_sub(self.opened_at);
        let leaving = self.state.leaving.values();
        leaving.filter(move |leaving| {
            // Where another clock is ahead of this one, this process waits as long itself.
            let over = now.saturating_sub(leaving.time) >= micros(grace);
            leaving.file.role != Role::Keys && (over || leaving.time > now && run >= grace)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600 * 1_000_000;
    const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

    fn times(days: &[i64]) -> Times {
        let points = days.iter().enumerate();
        Times::of(points.map(|(v, day)| (v as u64, day * DAY)).collect())
    }

    #[test]
    fn a_time_that_fits_no_other_does_not_count() {
        // One clock in 1970, one in 2038: the versions around them say when it was.
        assert_eq!(
            times(&[20, 21, 0, 22, 99, 23]).0,
            times(&[20, 21, 0, 22, 99, 23])
                .0
                .into_iter()
                .filter(|(v, _)| ![2, 4].contains(v))
                .collect::<Vec<_>>()
        );
        let some = times(&[20, 21, 0, 22, 99, 23]);
        assert_eq!(some.version_at(19 * DAY), None);
        assert_eq!(some.version_at(21 * DAY), Some(1));
        assert_eq!(some.version_at(22 * DAY), Some(3));
        assert_eq!(some.version_at(50 * DAY), Some(5));
    }

    #[test]
    fn a_leap_counts_when_the_log_has_gone_on_for_a_while_since() {
        let now = |days: &[i64], now: i64| {
            times(days).now_by(now * DAY, Duration::ZERO, MONTH) as f64 / DAY as f64
        };
        assert_eq!(now(&[1, 2, 3, 4], 4), 4.0);
        // A process whose clock is ahead reads the log, then writes to it.
        assert_eq!(now(&[1, 2, 3, 4], 5000), 11.5);
        assert_eq!(now(&[1, 2, 3, 4, 5000], 5000), 4.0);
        assert_eq!(now(&[1, 2, 3, 4, 5000, 5007], 5007), 11.0);
        // It was no wrong clock: nothing ran meanwhile.
        assert_eq!(now(&[1, 2, 3, 4, 5000, 5001, 5008], 5008), 5008.0);
        // A clock that is behind.
        assert_eq!(now(&[1, 2, 3, 4], 2), 2.0);
        // A process that runs on while nothing is written.
        let idle = times(&[1, 2]).now_by(90 * DAY, Duration::from_micros(88 * DAY as u64), MONTH);
        assert_eq!(idle, 90 * DAY);
        // A pipeline that runs once a week.
        let weekly = times(&[0, 7, 14, 21]).now_by(21 * DAY, Duration::ZERO, MONTH);
        assert_eq!(weekly, 21 * DAY);
    }
}
