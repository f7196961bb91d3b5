//! A trial: what other rules would make of the newest committed records, beside what the rules in force make of them.
//!
//! The records are read once more where they came from: out of the source's partitions just below the log's positions, or
//! out of the zone that is read. Nothing is written and no position moves. It is bounded in records and in time, one batch at a time is
//! in memory, and the plugins run under the limits that they have in the pipeline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Refused, Why};
use crate::chain::{Applied, Table, TransformChain};
use crate::clock::Clock;
use crate::commit::State;
use crate::config::{PipelineConfig, Source as Configured, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::lock::try_lock;
use crate::pipeline::rules::{Parts, rows_read_in};
use crate::record::{Batch, OFFSET, PARTITION, SYSTEM, SplitId, TOPIC};
use crate::sink::json::write_value;
use crate::source::{Connector, Position, ReadLimits};

const OP: &str = "pipeline.trial";
/// Most records of a trial: seconds of work for the shipped plugins, and enough to see one in a thousand.
pub const RECORDS_MAX: u64 = 10_000;
/// Longest trial. What was looked at until then is told.
const TIME_MAX: Duration = Duration::from_secs(20);
/// How long one look at the source waits for records.
const LOOK: Duration = Duration::from_millis(200);
/// Examples of each outcome.
const EXAMPLES: usize = 5;
/// Rows of an example, and characters of a record or row.
const ROWS: usize = 3;
const WIDTH: usize = 1000;

/// What other rules would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Trial")]
pub struct Trial {
    /// Records, or rows of a zone, that were looked at.
    pub records: u64,
    /// The same rows and refusals.
    pub same: u64,
    /// Other rows, or other refusals of a record that was refused.
    pub changed: u64,
    /// Refused, whole or in part, and not by the rules in force.
    pub newly_refused: u64,
    /// Not refused, and refused by the rules in force.
    pub newly_accepted: u64,
    /// Of what the new rules refuse: transform → code → records.
    pub refusals: BTreeMap<String, BTreeMap<String, u64>>,
    /// The first of each outcome but `same`.
    pub examples: Vec<Example>,
    /// False: the time was over before all records were looked at.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Example {
    pub outcome: Outcome,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Its beginning, as text.
    pub record: String,
    pub before: Made,
    pub after: Made,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Outcome {
    Changed,
    NewlyRefused,
    NewlyAccepted,
}

/// What rules make of one record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Made {
    /// The first rows, as JSON.
    pub rows: Vec<String>,
    /// All of them.
    pub row_count: u64,
    /// `transform: code: message`, the first of them.
    pub refusals: Vec<String>,
}

/// All that is needed for a trial.
#[derive(Debug)]
pub struct Scene<'a> {
    pub config: &'a PipelineConfig,
    pub state: &'a State,
    pub old: &'a Parts,
    pub new: &'a Parts,
    pub clock: &'a Arc<dyn Clock>,
}

/// One at a time in a process: each has two chains of plugins, and reads beside the pipelines.
static RUNNING: Mutex<()> = Mutex::new(());

/// `go_on`: an error if nobody waits for the answer any more.
///
/// # Errors
/// Those of the source, and of plugins that do not start. Another trial that runs now: `Unavailable`.
pub fn run(
    scene: &Scene<'_>,
    records: u64,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Trial, Refused> {
    let Some(_one) = try_lock(&RUNNING) else {
        let error = Error::new(Kind::LimitReached, OP, "another trial runs in this process")
            .hint("ask again when it has ended, in some seconds");
        return Err(Refused::new(Why::Unavailable, error));
    };
    let until = scene.clock.elapsed() + TIME_MAX;
    let goes_on = || -> Result<bool> {
        go_on()?;
        Ok(scene.clock.elapsed() < until)
    };
    let records = records.clamp(1, RECORDS_MAX);
    Ok(match &scene.config.source {
        Configured::Records(source) => of_records(scene, source, records, &goes_on)?,
        Configured::Zone(_) => of_rows(scene, records, &goes_on)?,
    })
}

/// The last part of each partition that was committed, so that all of them together are as many.
fn shares(state: &State, records: u64) -> BTreeMap<SplitId, (i64, i64)> {
    let read = |at: &crate::commit::SplitState| at.to - at.start();
    let mut left: Vec<_> = state.splits.iter().filter(|(_, at)| read(at) > 0).collect();
    // Partitions with few records leave their share to the others.
    left.sort_by_key(|(_, at)| read(at));
    let (mut rest, mut all) = (records, BTreeMap::new());
    let count = left.len() as u64;
    for (n, (id, at)) in (0..).zip(left) {
        let share = rest.div_ceil(count - n);
        let taken = share.min(u64::try_from(read(at)).unwrap_or(0));
        rest -= taken.min(rest);
        if taken > 0 {
            let from = at.to - i64::try_from(taken).unwrap_or(0);
            all.insert(id.clone(), (from, at.to));
        }
    }
    all
}

fn of_records(
    scene: &Scene<'_>,
    source: &Arc<dyn SourceConfig>,
    records: u64,
    goes_on: &dyn Fn() -> Result<bool>,
) -> Result<Trial> {
    let looking = source.only_looking(true);
    let connector = looking.as_ref().unwrap_or(source).connect(scene.clock)?;
    let (positions, mut open) = there(connector.as_ref(), shares(scene.state, records))?;
    let limits = ReadLimits {
        batch_records: scene.config.limits.batch_rows,
        batch_bytes: scene.config.limits.batch_bytes,
        memory: scene.config.limits.memory_budget,
    };
    let (mut old, mut new) = (
        scene.old.chain(scene.config)?,
        scene.new.chain(scene.config)?,
    );
    let mut source = connector.open(&positions, &limits)?;
    let mut found = Comparing::default();
    while !open.is_empty() {
        if !goes_on()? {
            return Ok(found.told(false));
        }
        let Some(batch) = source.next(LOOK)? else {
            continue;
        };
        let split = batch.covers.split.clone();
        let Some(to) = open.get(&split).copied() else {
            continue;
        };
        let ends = batch.covers.range.to >= to;
        let batch = if ends { batch.cut(to).0 } else { batch };
        if !batch.is_empty() {
            let (before, after) = (old.apply(&batch)?, new.apply(&batch)?);
            found.batch(&Seen::Records(&batch), &before, &after);
        }
        if ends {
            open.remove(&split);
        }
    }
    Ok(found.told(true))
}

/// Of what is wanted, what the source still has: where to begin, and where each partition ends.
fn there(
    connector: &dyn Connector,
    wanted: BTreeMap<SplitId, (i64, i64)>,
) -> Result<(Vec<Position>, BTreeMap<SplitId, i64>)> {
    let (mut positions, mut ends) = (Vec::new(), BTreeMap::new());
    for topic in connector.topics()? {
        for partition in topic.partitions {
            let Some((from, to)) = wanted.get(&partition.split).copied() else {
                continue;
            };
            let from = from.max(partition.low);
            if from < to && to <= partition.high {
                ends.insert(partition.split.clone(), to);
                positions.push(Position {
                    split: partition.split,
                    epoch: 0,
                    tp: partition.tp,
                    next: from,
                });
            }
        }
    }
    if positions.is_empty() {
        let message = "no record that was committed is in the source any more";
        return Err(Error::new(Kind::ConfigInvalid, OP, message).hint(
            "a trial reads records again: of a topic those that its retention has kept, of files none. `weir plugin test` and \
             `weir tap FILE --from earliest` show what rules do without a log",
        ));
    }
    Ok((positions, ends))
}

fn of_rows(scene: &Scene<'_>, records: u64, goes_on: &dyn Fn() -> Result<bool>) -> Result<Trial> {
    let Configured::Zone(source) = &scene.config.source else {
        return Ok(Trial::default());
    };
    let none = || {
        Error::new(
            Kind::ConfigInvalid,
            OP,
            "no row that was committed is in the zone that is read any more",
        )
        .hint("a trial reads rows again; theirs have expired, or this pipeline has read none yet")
    };
    let wanted = shares(scene.state, records);
    let reader = rows_read_in(source, Some(&wanted), scene.clock)?.ok_or_else(none)?;
    let columns = reader.schema().clone();
    let chain = |parts: &Parts| -> Result<Option<TransformChain>> {
        let made = (!parts.is_empty()).then(|| parts.chain_on(scene.config, &columns));
        made.transpose()
    };
    let (mut old, mut new) = (chain(scene.old)?, chain(scene.new)?);
    let apply = |chain: &mut Option<TransformChain>, table: Table| match chain {
        Some(chain) => chain.apply_rows(table),
        None => TransformChain::new(Vec::new(), scene.config.errors.unit)?.apply_rows(table),
    };
    let mut found = Comparing::default();
    for rows in reader {
        if !goes_on()? {
            return Ok(found.told(false));
        }
        let left = usize::try_from(records.saturating_sub(found.trial.records)).unwrap_or(0);
        let rows = rows?.batch;
        let most = scene.config.limits.batch_rows.min(left);
        for from in (0..rows.num_rows().min(left)).step_by(most.max(1)) {
            let part = rows.slice(from, most.min(rows.num_rows().min(left) - from));
            let table = Table::of(&part);
            let (before, after) = (
                apply(&mut old, table.clone())?,
                apply(&mut new, table.clone())?,
            );
            found.batch(&Seen::Rows(&table), &before, &after);
        }
        if found.trial.records >= records {
            break;
        }
    }
    Ok(found.told(true))
}

/// What was read, before the rules.
enum Seen<'a> {
    Records(&'a Batch),
    Rows(&'a Table),
}

impl Seen<'_> {
    fn len(&self) -> usize {
        match self {
            Seen::Records(batch) => batch.len(),
            Seen::Rows(table) => table.rows,
        }
    }

    fn record(&self, at: usize) -> String {
        match self {
            Seen::Records(batch) => match arrow_array::Array::is_valid(&batch.value, at) {
                true => cut(&String::from_utf8_lossy(batch.value.value(at))),
                false => "null".to_owned(),
            },
            Seen::Rows(table) => cut(&row(table, at).to_string()),
        }
    }

    fn coordinates(&self, at: usize) -> (String, i32, i64) {
        match self {
            Seen::Records(batch) => {
                let tp = &batch.covers.tp;
                (tp.topic.to_string(), tp.partition, batch.offset.value(at))
            }
            Seen::Rows(table) => {
                let of = |name: &str| value(table, name, at);
                let partition = of(PARTITION).as_i64().unwrap_or(0);
                (
                    of(TOPIC).as_str().unwrap_or("").to_owned(),
                    i32::try_from(partition).unwrap_or(0),
                    of(OFFSET).as_i64().unwrap_or(0),
                )
            }
        }
    }
}

#[derive(Default)]
struct Comparing {
    trial: Trial,
    shown: BTreeMap<Outcome, usize>,
}

impl Comparing {
    fn told(mut self, complete: bool) -> Trial {
        self.trial.complete = complete;
        self.trial.examples.sort_by_key(|example| example.outcome);
        self.trial
    }

    fn batch(&mut self, seen: &Seen<'_>, before: &Applied, after: &Applied) {
        let (mut old, mut new) = (ByRecord::of(before), ByRecord::of(after));
        for at in 0..seen.len() {
            let record = u32::try_from(at).unwrap_or(u32::MAX);
            self.one(seen, at, (&old.next(record), &new.next(record)));
        }
    }

    fn one(&mut self, seen: &Seen<'_>, at: usize, (old, new): (&Whole, &Whole)) {
        let trial = &mut self.trial;
        trial.records += 1;
        for (transform, code) in &new.codes {
            let codes = trial.refusals.entry(transform.clone()).or_default();
            *codes.entry(code.clone()).or_default() += 1;
        }
        let outcome = match (old.codes.is_empty(), new.codes.is_empty()) {
            (true, false) => Outcome::NewlyRefused,
            (false, true) => Outcome::NewlyAccepted,
            _ if old.rows == new.rows && old.codes == new.codes => {
                trial.same += 1;
                return;
            }
            _ => Outcome::Changed,
        };
        match outcome {
            Outcome::Changed => trial.changed += 1,
            Outcome::NewlyRefused => trial.newly_refused += 1,
            Outcome::NewlyAccepted => trial.newly_accepted += 1,
        }
        let shown = self.shown.entry(outcome).or_default();
        if *shown == EXAMPLES {
            return;
        }
        *shown += 1;
        let (topic, partition, offset) = seen.coordinates(at);
        trial.examples.push(Example {
            outcome,
            topic,
            partition,
            offset,
            record: seen.record(at),
            before: old.made(),
            after: new.made(),
        });
    }
}

/// What became of one record.
#[derive(Debug, Default)]
struct Whole {
    rows: Vec<Value>,
    /// (transform, code), each once, in order.
    codes: Vec<(String, String)>,
    told: Vec<String>,
}

impl Whole {
    fn made(&self) -> Made {
        let rows = self.rows.iter().take(ROWS);
        Made {
            rows: rows.map(|row| cut(&row.to_string())).collect(),
            row_count: self.rows.len() as u64,
            refusals: self.told.iter().take(ROWS).map(|told| cut(told)).collect(),
        }
    }
}

/// Walks through what a chain made, record by record.
struct ByRecord<'a> {
    applied: &'a Applied,
    row: usize,
    letter: usize,
}

impl ByRecord<'_> {
    fn of(applied: &Applied) -> ByRecord<'_> {
        ByRecord {
            applied,
            row: 0,
            letter: 0,
        }
    }

    fn next(&mut self, record: u32) -> Whole {
        let mut whole = Whole::default();
        while self.applied.record.get(self.row) == Some(&record) {
            whole.rows.push(row(&self.applied.table, self.row));
            self.row += 1;
        }
        while let Some(letter) = self.applied.dead_letters.get(self.letter) {
            if letter.record != record {
                break;
            }
            for reason in &letter.reasons {
                let transform = &letter.by.transform;
                let code = (transform.clone(), reason.code.clone());
                if !whole.codes.contains(&code) {
                    whole.codes.push(code);
                }
                whole
                    .told
                    .push(format!("{transform}: {}: {}", reason.code, reason.message));
            }
            self.letter += 1;
        }
        whole
    }
}

/// The rules' own columns of a row, by name: their order makes no row another one.
fn row(table: &Table, at: usize) -> Value {
    let fields = table.schema.fields().iter().zip(&table.columns);
    let own = fields.filter(|(field, _)| !SYSTEM.contains(&field.name().as_str()));
    let row: Map<String, Value> = own
        .map(|(field, column)| {
            let at = if column.constant { 0 } else { at };
            (field.name().clone(), cell(&column.values, at))
        })
        .collect();
    Value::Object(row)
}

fn value(table: &Table, name: &str, at: usize) -> Value {
    let Some((index, _)) = table.schema.column_with_name(name) else {
        return Value::Null;
    };
    let column = table.columns.get(index);
    column.map_or(Value::Null, |column| {
        cell(&column.values, if column.constant { 0 } else { at })
    })
}

fn cell(array: &dyn arrow_array::Array, at: usize) -> Value {
    let mut text = Vec::new();
    write_value(&mut text, array, at);
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::commit::{Log, LogName, Writer};

    /// A panic of one trial is its own: a later one finds the place free.
    #[test]
    fn a_trial_that_panics_refuses_no_later_one() {
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let store = crate::store::open_url("memory:trial-panics").expect("store");
        let writer = Writer::this_process(&*clock);
        let log = Log::open_or_init(store, LogName::new("p", "z"), clock.clone(), writer, vec![])
            .expect("log");
        let keys = [
            ("name", "p"),
            ("source.type", "rate"),
            ("sink.type", "zone"),
            ("sink.url", "memory:trial-panics"),
        ];
        let catalog = &crate::connectors::CATALOG;
        let config = crate::config::from_map("test", keys, catalog).expect("a config");
        let parts = Parts::default();
        let scene = Scene {
            config: &config,
            state: log.state(),
            old: &parts,
            new: &parts,
            clock: &clock,
        };
        let one = || {
            let _one = try_lock(&RUNNING);
            panic!("in a trial");
        };
        assert!(std::thread::spawn(one).join().is_err());
        // It looks at the source; nothing was committed yet.
        let next = run(&scene, 1, &|| Ok(())).expect_err("no records");
        let told = next.to_string();
        assert!(told.contains("no record that was committed"), "{told}");
    }
}
