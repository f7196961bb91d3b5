//! `bench`: measures the component and the same code built natively, in interleaved rounds. The component runs a second
//! time as control: differences as small as between these two cannot be measured.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch};
use serde_json::Value;

use super::subject::{Settings, Subject};
use super::{failed, outcome};
use crate::chain::{Column, Table, Transform};
use crate::clock::SystemClock;
use crate::error::{Error, Result};
use crate::plugin::{Crossing, crossing};

/// About the time of one leg of a round: far above the resolution of any clock, and short compared with disturbances of
/// a machine.
const LEG: Duration = Duration::from_millis(60);
/// The first bytes of the file for the native build (`weir_sdk::native::MAGIC`).
const MAGIC: &[u8] = b"weir-native-2\n";

/// Nanoseconds a row, one number a round.
#[derive(Debug)]
pub struct Race {
    pub rows: usize,
    pub bytes: usize,
    pub component: Vec<f64>,
    /// The same component in another instance.
    pub control: Vec<f64>,
    /// Empty where there is no native build.
    pub native: Vec<f64>,
}

/// Runs `rounds` rounds on the table's batch; the order of the three changes with each round.
pub fn run(
    subject: &Subject,
    settings: &Settings,
    table: &Table,
    native: Option<&Path>,
    rounds: usize,
) -> Result<Race> {
    let mut component = subject.transform(settings, &table.schema)?;
    let mut control = subject.transform(settings, &table.schema)?;
    let dir = subject.built.as_ref().and_then(|built| built.wasm.parent());
    let mut native = match (native, dir) {
        (Some(program), Some(dir)) => Some(Native::start(program, dir, subject, settings, table)?),
        _ => None,
    };
    let times = calibrate(&mut *component, table)?;
    leg(&mut *control, table, times)?;
    if let Some(native) = &mut native {
        native.leg(times)?;
    }
    let mut race = Race {
        rows: table.rows,
        bytes: outcome::bytes(table),
        component: Vec::new(),
        control: Vec::new(),
        native: Vec::new(),
    };
    for round in 0..rounds {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => race.component.push(leg(&mut *component, table, times)?),
                1 => race.control.push(leg(&mut *control, table, times)?),
                _ => {
                    if let Some(native) = &mut native {
                        race.native.push(native.leg(times)?);
                    }
                }
            }
        }
    }
    Ok(race)
}

/// How many batches make a leg; the first calls, which warm everything up, do not count.
fn calibrate(transform: &mut dyn Transform, table: &Table) -> Result<u32> {
    leg(transform, table, 2)?;
    let nanos = leg(transform, table, 3)? * table.rows as f64;
    Ok((LEG.as_nanos() as f64 / nanos.max(1.0))
        .ceil()
        .clamp(1.0, 1e6) as u32)
}

fn leg(transform: &mut dyn Transform, table: &Table, times: u32) -> Result<f64> {
    let clock = SystemClock::shared();
    let begun = clock.elapsed();
    for _ in 0..times {
        std::hint::black_box(transform.apply(table)?);
    }
    Ok((clock.elapsed() - begun).as_nanos() as f64 / f64::from(times) / table.rows as f64)
}

/// Median and the middle half.
pub fn quartiles(numbers: &[f64]) -> (f64, f64, f64) {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let place = part * (sorted.len().max(1) - 1) as f64;
        sorted
            .get(place.round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    };
    (at(0.25), at(0.5), at(0.75))
}

/// `examples/native.rs` of the crate, running.
struct Native {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Native {
    fn start(
        program: &Path,
        dir: &Path,
        subject: &Subject,
        settings: &Settings,
        table: &Table,
    ) -> Result<Native> {
        let config = subject.canonical(settings)?;
        let mut bytes = MAGIC.to_vec();
        put_bytes(&mut bytes, config.text().as_bytes());
        let attached = config.attached().iter();
        let (tables, files): (Vec<_>, Vec<_>) = attached.partition(|a| a.table.is_some());
        put_number(&mut bytes, files.len());
        for file in files {
            put_bytes(&mut bytes, file.key.as_bytes());
            put_bytes(&mut bytes, &file.bytes);
        }
        put_number(&mut bytes, tables.len());
        for (key, rows) in tables
            .iter()
            .filter_map(|a| Some((&a.key, a.table.as_ref()?)))
        {
            put_bytes(&mut bytes, key.as_bytes());
            put_number(&mut bytes, rows.num_rows());
            put_columns(&mut bytes, &crossing(&looked_up(rows))?);
        }
        let columns = crossing(table)?;
        put_number(&mut bytes, columns.len());
        columns
            .iter()
            .for_each(|column| put_type(&mut bytes, column));
        put_number(&mut bytes, table.rows);
        put_number(&mut bytes, columns.len());
        columns
            .iter()
            .for_each(|column| put_values(&mut bytes, column));
        let file = dir.join("native.batch");
        fs::write(&file, bytes)
            .map_err(|e| failed(format!("cannot write {}", file.display())).source(e))?;
        let cannot = |e| failed(format!("{} does not start", program.display())).source(e);
        let mut child = Command::new(program)
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot)?;
        match (child.stdin.take(), child.stdout.take()) {
            (to @ Some(_), Some(from)) => Ok(Native {
                child,
                to,
                from: BufReader::new(from),
            }),
            _ => Err(failed("the native build has no standard streams")),
        }
    }

    fn leg(&mut self, times: u32) -> Result<f64> {
        let ended = |e| -> Error {
            failed("the native build ended")
                .source(e)
                .hint("it says why, above")
        };
        if let Some(to) = &mut self.to {
            writeln!(to, "{times}")
                .and_then(|()| to.flush())
                .map_err(ended)?;
        }
        let mut line = String::new();
        self.from.read_line(&mut line).map_err(ended)?;
        let answer: Value = serde_json::from_str(&line).map_err(|e| ended(e.into()))?;
        match (answer["nanos"].as_f64(), answer["rows"].as_f64()) {
            (Some(nanos), Some(rows)) => Ok(nanos / f64::from(times) / rows),
            _ => Err(failed(format!(
                "the native build answered `{}`",
                line.trim()
            ))),
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.to = None; // the end of its input is the end of it
        let _ended = self.child.wait();
    }
}

/// A lookup table as a table of a chain.
fn looked_up(rows: &RecordBatch) -> Table {
    let column = |values: &ArrayRef| Column {
        values: ArrayRef::clone(values),
        constant: false,
    };
    Table {
        schema: rows.schema(),
        rows: rows.num_rows(),
        columns: rows.columns().iter().map(column).collect(),
    }
}

/// Types, then values.
fn put_columns(out: &mut Vec<u8>, columns: &[Crossing]) {
    put_number(out, columns.len());
    columns.iter().for_each(|column| put_type(out, column));
    put_number(out, columns.len());
    columns.iter().for_each(|column| put_values(out, column));
}

fn put_number(out: &mut Vec<u8>, number: usize) {
    out.extend((number as u32).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len());
    out.extend(bytes);
}

fn put_type(out: &mut Vec<u8>, column: &Crossing) {
    put_number(out, column.nodes.len());
    for node in &column.nodes {
        put_bytes(out, node.name.as_bytes());
        put_bytes(out, node.format.as_bytes());
        put_number(out, usize::from(node.nullable));
        put_number(out, node.children as usize);
        put_number(out, usize::from(node.extension.is_some()));
        if let Some(extension) = &node.extension {
            put_bytes(out, extension.as_bytes());
        }
    }
}

fn put_values(out: &mut Vec<u8>, column: &Crossing) {
    put_number(out, usize::from(column.constant));
    put_number(out, column.nodes.len());
    for node in &column.nodes {
        put_number(out, usize::from(node.validity.is_some()));
        if let Some(validity) = &node.validity {
            put_bytes(out, validity);
        }
        put_number(out, node.offsets.len());
        node.offsets
            .iter()
            .for_each(|offset| out.extend(offset.to_le_bytes()));
        put_bytes(out, &node.data);
    }
}
