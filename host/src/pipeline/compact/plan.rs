//! Which files of a zone become one, and which stay and why. Follows from one state of the log and a time; nothing is read.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Options;
use crate::commit::{AddedFile, LiveFile, Role, State, place_of};
use crate::zone::is_hour;

/// A directory that gets rows for an hour gets no more of them when this has passed since its last file was begun.
const HOUR_OVER: i64 = 2 * 3600 * 1_000_000;
/// The same of one for a day, such as dead letters have.
const DAY_OVER: i64 = 26 * 3600 * 1_000_000;
/// Rows of one file differ in age by this part of their retention at most.
const AGES_SHARE: u32 = 10;
/// … and by this time at most, so that somebody who wants a retention later finds files that can leave.
const AGES_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
/// Inputs of one merge: their footers are in memory, and their entry names each of them.
const INPUTS_MAX: usize = 200;

/// Files of one directory that become one.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Each with its key sidecar, in the order in which they were begun.
    pub inputs: Vec<(AddedFile, Option<AddedFile>)>,
}

impl Group {
    pub fn directory(&self) -> &str {
        let first = self.inputs.first();
        first.map_or("", |(file, _)| directory(file))
    }

    pub fn role(&self) -> Role {
        self.inputs
            .first()
            .map_or(Role::Rows, |(file, _)| file.role)
    }

    pub fn rows(&self) -> u64 {
        self.inputs.iter().map(|(file, _)| file.rows).sum()
    }

    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|(file, _)| file.bytes).sum()
    }
}

/// Small files that stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    pub files: u64,
    pub rows: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub groups: Vec<Group>,
    /// By reason, in words.
    pub held: BTreeMap<String, Held>,
}

pub fn directory(file: &AddedFile) -> &str {
    file.path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// When a file was begun, microseconds since 1970 UTC: its id says so.
fn begun(file: &AddedFile) -> i64 {
    let id = ulid::Ulid::from_string(&file.id).map_or(0, |id| id.timestamp_ms());
    i64::try_from(id).unwrap_or(0).saturating_mul(1000)
}

/// `now`: microseconds since 1970 UTC.
pub fn plan(state: &State, now: i64, options: &Options) -> Plan {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for live in state.live.values() {
        let at = last.entry(directory(&live.file)).or_default();
        *at = begun(&live.file).max(*at);
    }
    let mut places: BTreeMap<_, Vec<&LiveFile>> = BTreeMap::new();
    for live in state.live.values().filter(|live| options.takes(&live.file)) {
        places.entry(place_of(&live.file)).or_default().push(live);
    }
    let mut plan = Plan::default();
    for ((dir, ..), mut files) in places {
        if files.len() < 2 {
            continue;
        }
        files.sort_by(|a, b| a.file.id.cmp(&b.file.id));
        let last = last.get(dir).copied().unwrap_or_default();
        if let Some(why) = open(&files, last, now, options) {
            hold(&mut plan, why, files.into_iter());
            continue;
        }
        let (old, young): (Vec<&LiveFile>, Vec<&LiveFile>) = files
            .into_iter()
            .partition(|live| live.version <= state.horizon);
        for live in young {
            let why = younger(state, live, options);
            hold(&mut plan, why, std::iter::once(live));
        }
        divide(state, &old, options, &mut plan);
    }
    plan
}

fn hold<'a>(plan: &mut Plan, why: String, files: impl Iterator<Item = &'a LiveFile>) {
    let held = plan.held.entry(why).or_default();
    for live in files {
        held.files += 1;
        held.rows += live.file.rows;
        held.bytes += live.file.bytes;
    }
}

/// Why a directory may still get rows. It would be no harm to merge its files, but work done twice.
fn open(files: &[&LiveFile], last: i64, now: i64, options: &Options) -> Option<String> {
    let first = files.first()?;
    let directory = directory(&first.file);
    let over = match is_hour(directory) || first.file.role != Role::DeadLetters {
        true => HOUR_OVER,
        false => DAY_OVER,
    };
    if now.saturating_sub(last) < over {
        return Some("rows were written to the same directory a short time ago".to_owned());
    }
    let (by, days) = options.lookback.as_ref()?;
    let value = first.file.partition_values.get(&by.name)?;
    let near = by.near(by.period(value), by.at(now), *days);
    near.then(|| "the date is within sink.dedup.lookback of today".to_owned())
}

/// Why a file lies above the horizon.
fn younger(state: &State, live: &LiveFile, options: &Options) -> String {
    let holders = state.holders();
    match holders.first() {
        Some(holder) if holder.needs <= live.version => {
            format!("{} has not read as far", holder.reader)
        }
        _ => match &options.reads {
            Some(input) => format!(
                "younger than commit.log.retention, of this pipeline or of {input}, which it reads: a rewind may still reach them"
            ),
            None => "younger than commit.log.retention: a rewind may still reach them".to_owned(),
        },
    }
}

/// The time that rows of one file share, in microseconds: it is divided into such parts from 1970 on. So that any two directories
/// are divided at the same commits: rows leave a zone up to a commit, and a file with rows on both sides of it stays.
fn ages(live: &LiveFile, options: &Options) -> i64 {
    let retention = match live.file.role {
        Role::DeadLetters => options.retention.1,
        _ => options.retention.0,
    };
    let share = retention.map_or(AGES_MOST, |retention| {
        (retention / AGES_SHARE).min(AGES_MOST)
    });
    i64::try_from(share.as_micros()).unwrap_or(i64::MAX).max(1)
}

/// Fills one group after the other, up to the target.
fn divide(state: &State, files: &[&LiveFile], options: &Options, plan: &mut Plan) {
    let small = |live: &&&LiveFile| live.file.bytes < options.target_bytes / 2;
    let mut open: Vec<&LiveFile> = Vec::new();
    let (mut bytes, mut memory, mut age) = (0, 0, i64::MIN);
    let part = files.first().map_or(1, |live| ages(live, options));
    let mut close = |open: &mut Vec<&LiveFile>| {
        let files = std::mem::take(open);
        if files.len() < options.min_files.max(2) {
            if files.len() > 1 {
                let why = "fewer than sink.compact.min.files of a directory".to_owned();
                hold(plan, why, files.into_iter());
            }
            return;
        }
        let input = |live: &LiveFile| {
            let keys = live.file.keys.as_ref().and_then(|id| state.live.get(id));
            (live.file.clone(), keys.map(|keys| keys.file.clone()))
        };
        plan.groups.push(Group {
            inputs: files.into_iter().map(input).collect(),
        });
    };
    // A file that was merged before has a new name and old rows.
    let mut files: Vec<&&LiveFile> = files.iter().filter(small).collect();
    files.sort_by_key(|live| (live.time().div_euclid(part), &live.file.id));
    for live in files {
        // A row group of each input is in memory while sorted files are merged.
        let group = live.file.bytes.min(options.parquet.row_group_bytes as u64);
        let own_age = live.time().div_euclid(part);
        let full = bytes + live.file.bytes > options.target_bytes
            || memory + group > options.memory
            || age != own_age
            || open.len() == INPUTS_MAX;
        if full {
            close(&mut open);
            (bytes, memory) = (0, 0);
        }
        age = own_age;
        open.push(live);
        bytes += live.file.bytes;
        memory += group;
    }
    close(&mut open);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::clock::ManualClock;
    use crate::commit::{Log, LogName, Writer};
    use crate::store;
    use crate::zone::ParquetOptions;

    const HOUR: i64 = 3600 * 1_000_000;
    const DAY: i64 = 24 * HOUR;

    fn state() -> State {
        let clock = ManualClock::at(0);
        let store = store::open_url("memory:compact-plan").expect("store");
        let writer = Writer::this_process(&*clock);
        let name = LogName::new("p", "z");
        let log = Log::open_or_init(store, name, clock, writer, Vec::new()).expect("log");
        let mut state = log.state().clone();
        state.horizon = 2_000_000;
        state
    }

    fn file(id: u64, date: usize, time: i64) -> LiveFile {
        let file = json!({
            "id": format!("{id:026}"), "path": format!("t/date={date}/{id:026}.parquet"), "role": "rows", "bytes": 1,
            "rows": 1, "digest": "", "ranges": [], "schema": "s", "row_digest": "",
        });
        LiveFile {
            file: serde_json::from_value(file).expect("a file"),
            version: id + 1,
            made: None,
            time,
        }
    }

    fn options(retention: Option<Duration>) -> Options {
        Options {
            min_files: 2,
            target_bytes: 1 << 30,
            sort: Vec::new(),
            parquet: ParquetOptions::default(),
            letters: false,
            partition: None,
            lookback: None,
            retention: (retention, None),
            reads: None,
            memory: 1 << 30,
        }
    }

    /// Two dates that get rows of the same hours for weeks; what was merged once comes again under a new name.
    #[test]
    fn rows_that_are_merged_share_a_part_of_time_whatever_their_directory_is() {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        for (retention, part) in [(None, 7), (Some(days(30)), 3), (Some(days(365)), 7)] {
            let mut state = state();
            let mut add = |id: u64, date: usize, time: i64| {
                let live = file(id, date, time);
                state.live.insert(live.file.id.clone(), live);
            };
            for hour in 0..24 * 30_u64 {
                add(2 * hour, 0, hour as i64 * HOUR);
                add(2 * hour + 1, 1, hour as i64 * HOUR + HOUR / 2);
            }
            // Merged: a new name, old rows.
            add(1_000_000, 0, 5 * HOUR);
            let plan = plan(&state, 100 * DAY, &options(retention));
            let mut parts = [BTreeSet::new(), BTreeSet::new()];
            for group in &plan.groups {
                let times = group
                    .inputs
                    .iter()
                    .map(|(file, _)| state.live[&file.id].time);
                let of: BTreeSet<i64> = times.map(|time| time.div_euclid(part * DAY)).collect();
                assert_eq!(of.len(), 1, "{retention:?}: {of:?}");
                let date = usize::from(group.directory() == "t/date=1");
                parts[date].extend(of);
            }
            assert_eq!(parts[0], parts[1], "{retention:?}");
            let files: usize = plan.groups.iter().map(|group| group.inputs.len()).sum();
            assert_eq!(files, state.live.len(), "{retention:?}: {:?}", plan.held);
        }
    }
}
