//! The checks that every plugin must pass: its golden samples, the same rows for any division into batches, no failure
//! for any message; and the cost of a row.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::outcome::{Outcome, Refused, Row};
use super::sample::Sample;
use super::subject::{Subject, apply};
use super::{golden, hostile, input, outcome};
use crate::chain::{Table, Transform};
use crate::clock::SystemClock;
use crate::error::Result;
use crate::plugin::codes;
use crate::telemetry::plural;

/// Rows of a sample that are also run one by one.
const MAX_SINGLES: usize = 2_000;
/// A batch whose cost is measured has at least this many rows, so that the fixed cost of a call does not matter …
const COST_ROWS: usize = 1_000;
/// … but no more than this many bytes, so that one call is enough.
const COST_BYTES: usize = 1 << 20;

/// One check, done.
#[derive(Debug)]
pub struct Checked {
    pub name: &'static str,
    /// What was counted.
    pub found: String,
    /// Lines; empty if the plugin passes.
    pub faults: Vec<String>,
    pub time: Duration,
}

fn checked(
    name: &'static str,
    run: impl FnOnce(&mut Vec<String>) -> Result<String>,
) -> Result<Checked> {
    let clock = SystemClock::shared();
    let begun = clock.elapsed();
    let mut faults = Vec::new();
    let found = run(&mut faults)?;
    let time = clock.elapsed() - begun;
    Ok(Checked {
        name,
        found,
        faults,
        time,
    })
}

/// Lines of every sample as expected. With `update` they are written instead.
pub fn samples(subject: &Subject, samples: &[Sample], update: bool) -> Result<Checked> {
    checked("golden samples", |faults| {
        let (mut lines, mut written) = (0, 0);
        for sample in samples {
            let mut transform = subject.transform(&sample.settings, &sample.table.schema)?;
            let found = apply(&mut *transform, &sample.table)?.lines();
            lines += found.len();
            match update {
                true => written += usize::from(sample.update(&found)?),
                false => faults.extend(golden::compare(sample, &found)),
            }
        }
        let count = plural(samples.len() as u64, "sample");
        let lines = plural(lines as u64, "line");
        Ok(match update {
            true => format!("{count}, {lines}; {written} written"),
            false => format!("{count}, {lines}"),
        })
    })
}

/// The result of one input row: pieces with their values, and refusals.
type OfRow = (Vec<Row>, Vec<Refused>);

/// Runs a sample's batch again, cut, joined, repeated and reordered: each row must give the same result.
pub fn purity(subject: &Subject, samples: &[Sample], seed: u64) -> Result<Checked> {
    checked("same rows however batches fall", |faults| {
        let (mut ways, mut failing) = (0_u64, 0);
        for sample in samples {
            let new = || subject.transform(&sample.settings, &sample.table.schema);
            let mut used = new()?;
            let whole = apply(&mut *used, &sample.table)?;
            let rows = u32::try_from(sample.table.rows).unwrap_or(u32::MAX);
            for (way, fresh, batches) in batches(rows, seed) {
                ways += 1;
                let mut other;
                let transform = match fresh {
                    true => {
                        other = new()?;
                        &mut *other
                    }
                    false => &mut *used,
                };
                let told = differs(transform, &sample.table, &whole, &batches)?;
                let head = format!("{}: {way}: ", sample.name);
                // One difference is enough to show the fault.
                if let (Some(first), true) = (told.first(), faults.is_empty()) {
                    faults.push(format!("{head}{first}"));
                    faults.extend(told.iter().skip(1).cloned());
                }
                failing += usize::from(!told.is_empty());
            }
        }
        if failing > 1 {
            faults.push(format!("  and in {} more ways", failing - 1));
        }
        let rows: usize = samples.iter().map(|s| s.table.rows).sum();
        Ok(format!(
            "{} in {}",
            plural(rows as u64, "row"),
            plural(ways, "way")
        ))
    })
}

type Way = (&'static str, bool, Vec<Vec<u32>>);

/// Ways to divide the rows `0..rows` into batches; true: with a fresh instance.
fn batches(rows: u32, seed: u64) -> Vec<Way> {
    let all: Vec<u32> = (0..rows).collect();
    let (first, second) = all.split_at(all.len() / 2);
    let halves = [first, second].into_iter().filter(|half| !half.is_empty());
    let singles = all.iter().take(MAX_SINGLES).map(|row| vec![*row]);
    let mut shuffled = all.clone();
    shuffled.shuffle(&mut SmallRng::seed_from_u64(seed));
    vec![
        ("the same batch again", false, vec![all.clone()]),
        ("a fresh instance", true, vec![all.clone()]),
        ("two halves", false, halves.map(<[u32]>::to_vec).collect()),
        ("each row alone", false, singles.collect()),
        (
            "rows in reverse",
            false,
            vec![all.iter().rev().copied().collect()],
        ),
        ("rows shuffled", true, vec![shuffled]),
        (
            "each row twice",
            false,
            vec![all.iter().flat_map(|row| [*row, *row]).collect()],
        ),
    ]
}

/// The first row with another result; none if all are the same.
fn differs(
    transform: &mut dyn Transform,
    table: &Table,
    whole: &Outcome,
    batches: &[Vec<u32>],
) -> Result<Vec<String>> {
    let wanted = by_row(whole);
    let nothing = OfRow::default();
    let mut counters: BTreeMap<String, u64> = BTreeMap::new();
    for batch in batches {
        let part = apply(transform, &input::take(table, batch)?)?;
        for (name, n) in &part.counters {
            *counters.entry(name.clone()).or_default() += n;
        }
        let found = by_row(&part);
        for (at, row) in (0u32..).zip(batch) {
            let mut found = found.get(&at).cloned().unwrap_or_default();
            found.0.iter_mut().for_each(|piece| piece.row = *row);
            found.1.iter_mut().for_each(|refused| refused.row = *row);
            let wanted = wanted.get(row).unwrap_or(&nothing);
            if found != *wanted {
                return Ok(vec![
                    format!("row {row} comes to something else"),
                    format!("  - {}", lines(whole, wanted)),
                    format!("  + {}", lines(whole, &found)),
                ]);
            }
        }
    }
    let mut seen: Vec<u32> = batches.concat();
    let times = seen.len() as u64 / u64::try_from(table.rows).unwrap_or(1).max(1);
    seen.sort_unstable();
    seen.dedup();
    let counted = whole.counters.iter().filter(|_| seen.len() == table.rows);
    for (name, n) in counted {
        let found = counters.get(name).copied().unwrap_or(0);
        if found != n * times {
            return Ok(vec![format!(
                "counter {name} comes to {found}, expected {}",
                n * times
            )]);
        }
    }
    Ok(Vec::new())
}

fn by_row(outcome: &Outcome) -> BTreeMap<u32, OfRow> {
    let mut rows: BTreeMap<u32, OfRow> = BTreeMap::new();
    for row in &outcome.rows {
        rows.entry(row.row).or_default().0.push(row.clone());
    }
    for refused in &outcome.refused {
        rows.entry(refused.row).or_default().1.push(refused.clone());
    }
    rows
}

fn lines(of: &Outcome, (rows, refused): &OfRow) -> String {
    let lines = Outcome {
        columns: of.columns.clone(),
        rows: rows.clone(),
        refused: refused.clone(),
        counters: Vec::new(),
    };
    match lines.lines() {
        lines if lines.is_empty() => "nothing".into(),
        lines => lines.join(" "),
    }
}

/// Unexpected values in every column of the samples. Rows and refusals are fine; anything else is a fault.
pub fn hostility(subject: &Subject, samples: &[Sample], seed: u64) -> Result<Checked> {
    checked("hostile input", |faults| {
        let (mut rows, mut shapes) = (0, 0);
        for sample in samples {
            let mut transform = subject.transform(&sample.settings, &sample.table.schema)?;
            let mut rng = SmallRng::seed_from_u64(seed);
            for shape in hostile::SHAPES {
                shapes += 1;
                let mut found = Vec::new();
                for _ in 0..shape.batches {
                    let table = hostile::table(shape, &sample.table, &mut rng);
                    rows += table.rows;
                    found.extend(broken(&mut *transform, &table));
                }
                let count = found.len();
                let first = found.into_iter().next();
                faults.extend(first.map(|first| {
                    let more = if count > 1 {
                        format!(" (and {} more)", count - 1)
                    } else {
                        String::new()
                    };
                    format!(
                        "{}: {}: {first}{more}; --seed {seed} makes it again",
                        sample.name, shape.name
                    )
                }));
            }
        }
        Ok(format!(
            "{} of {} shapes, seed {seed}",
            plural(rows as u64, "row"),
            shapes
        ))
    })
}

/// Rows on which the plugin itself failed: it trapped, returned an error, broke the contract or exceeded a limit.
fn broken(transform: &mut dyn Transform, table: &Table) -> Vec<String> {
    const ASIDE: &[&str] = &[
        codes::TRAPPED,
        codes::ERROR,
        codes::OUTPUT_INVALID,
        codes::OUT_OF_MEMORY,
        codes::FUEL_EXHAUSTED,
    ];
    let output = match transform.apply(table) {
        Ok(output) => output,
        Err(error) => return vec![error.to_string()],
    };
    let aside = output
        .rejects
        .iter()
        .filter(|r| r.part.is_none() && ASIDE.contains(&r.code.as_str()));
    aside
        .map(|r| {
            format!(
                "{}: {} on {}",
                r.code,
                r.message,
                hostile::shown(table, r.row as usize)
            )
        })
        .collect()
}

/// Fuel per row, on the metered engine: the same number on every machine. `most` is the allowed maximum.
pub fn cost(subject: &Subject, samples: &[Sample], most: Option<u64>) -> Result<Checked> {
    checked("cost", |faults| {
        let mut worst = (0, String::new());
        for sample in samples {
            let table = repeated(&sample.table)?;
            let rows = table.rows as u64;
            let each = subject
                .fuel(&sample.settings, &table)?
                .div_ceil(rows.max(1));
            if each >= worst.0 {
                worst = (each, sample.name.clone());
            }
            if let Some(most) = most.filter(|most| each > *most) {
                let name = &sample.name;
                faults.push(format!(
                    "{name}: {each} fuel a row, more than --max-fuel-per-row {most}"
                ));
            }
        }
        let number = crate::telemetry::count(worst.0);
        let sample = if samples.len() > 1 {
            format!(" ({})", worst.1)
        } else {
            String::new()
        };
        Ok(format!(
            "{number} fuel a row{sample}; about one an instruction, the same everywhere"
        ))
    })
}

/// The rows over and over, up to a batch of ordinary size.
pub fn repeated(table: &Table) -> Result<Table> {
    let size = outcome::bytes(table).max(1) / table.rows.max(1) + 1;
    let rows = COST_ROWS.min(COST_BYTES / size).max(1);
    let rows = rows.div_ceil(table.rows) * table.rows;
    let order = (0..rows).map(|n| u32::try_from(n % table.rows).unwrap_or(0));
    input::take(table, &order.collect::<Vec<u32>>())
}

/// A seed for those who give none: checks find more when each run tries something else.
pub fn any_seed() -> u64 {
    SmallRng::from_os_rng().random_range(0..1_000_000)
}
