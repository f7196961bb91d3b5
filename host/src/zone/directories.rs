//! In which directory each row lies, below its table: by a time, by columns, or by Kafka's partition. A row that has no place is
//! refused, with the reason.
//!
//! Directories of times are those that Kafka Connect's TimeBasedPartitioner names: the local time is rounded down to the duration
//! (toward zero before 1970), taken back to UTC, and written by the pattern.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit as Unit};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;

use super::layout::{Partition, escape, no_parent, unfit};
use crate::chain::{Applied, Column, Reason};
use crate::config::{Directories, TimeDirectories, TimeOf, TimeUnit};
use crate::error::{Error, Kind, Result};
use crate::instant;
use crate::joda::Local;
use crate::json::Json;
use crate::record::Batch;
use crate::sink::json;
use crate::store::PathLimits;

/// Why a row has no directory.
const NO_PLACE: &str = "no_directory";

/// Names of times that are kept: with a pattern to the minute they are those of some days.
const KNOWN_MAX: usize = 4096;

const MINUTE_MS: i64 = 60_000;

/// 1972-01-08: since then the offset of each zone is whole minutes. Liberia's was the last with seconds.
const WHOLE_MINUTES_MS: i64 = 737 * 24 * 60 * MINUTE_MS;

/// The directories of a batch's rows.
#[derive(Debug, Default)]
pub struct Placed {
    pub names: Vec<Arc<str>>,
    /// Of each row, its index in `names`.
    pub of_row: Vec<u32>,
    /// Ascending.
    pub refused: Vec<(usize, Reason)>,
    /// Where in `names` each is.
    at: HashMap<Arc<str>, u32>,
}

/// Names directories. Keeps the names of times, which follow each other.
#[derive(Debug)]
pub struct Placing {
    how: Directories,
    /// A column with the whole value as JSON, in which fields are looked for that no column has.
    json: Option<String>,
    /// Of the store.
    limits: PathLimits,
    known: HashMap<i64, Option<Arc<str>>>,
}

impl Placing {
    pub fn new(how: Directories, json: Option<String>, limits: PathLimits) -> Placing {
        Placing {
            how,
            json,
            limits,
            known: HashMap::new(),
        }
    }

    /// Refuses the rows whose directory is one in which no file could get its name. `path` is that of a file in a directory; where
    /// even the table's own takes none, or no row can have another directory, the file is refused when it is begun.
    pub fn refuse_unfit(&self, placed: &mut Placed, path: impl Fn(&str) -> String) {
        let field = match &self.how {
            Directories::Columns { names, .. } => match names.as_slice() {
                [name] => Some(name),
                // Not one of them alone is to blame.
                _ => None,
            },
            Directories::Time(by) => match &by.of {
                TimeOf::Column { name, .. } => Some(name),
                TimeOf::Record => None,
                TimeOf::Clock => return,
            },
            _ => return,
        };
        if unfit(&self.limits, &path("")).is_some() {
            return;
        }
        let why = |name: &Arc<str>| unfit(&self.limits, &path(name));
        let whys: Vec<Option<String>> = placed.names.iter().map(why).collect();
        if whys.iter().all(Option::is_none) {
            return;
        }
        let gone: BTreeSet<usize> = placed.refused.iter().map(|(row, _)| *row).collect();
        for (row, at) in placed.of_row.iter().enumerate() {
            let why = whys.get(*at as usize).and_then(Option::as_ref);
            if let Some(why) = why.filter(|_| !gone.contains(&row)) {
                let message = format!("no file can be in its directory: {why}");
                placed.refused.push((row, no_place(field, message)));
            }
        }
        placed.refused.sort_by_key(|(row, _)| *row);
    }

    /// `None`: the directories are by the time of ingestion, as `layout` has them. `now`: microseconds since 1970 UTC.
    pub fn place(&mut self, batch: &Batch, applied: &Applied, now: i64) -> Result<Option<Placed>> {
        let rows = applied.table.rows;
        let how = self.how.clone();
        let placed = match &how {
            Directories::Ingested => return Ok(None),
            Directories::None => all(rows, ""),
            Directories::Partition => all(rows, format!("partition={}", batch.covers.tp.partition)),
            Directories::Columns { names, escape } => {
                self.by_columns(batch, applied, names, *escape)?
            }
            Directories::Time(by) => match &by.of {
                TimeOf::Clock => match self.named(by, now) {
                    Some(name) => all(rows, &*name),
                    // A time outside of the calendar means a broken clock.
                    None => all(rows, "unknown"),
                },
                TimeOf::Record => {
                    let time = |row: usize| {
                        let record = applied.record.get(row).map_or(0, |at| *at as usize);
                        match batch.timestamp.is_null(record) {
                            true => Err("the record has no time".to_owned()),
                            false => Ok(batch.timestamp.value(record)),
                        }
                    };
                    self.by_time(by, rows, None, time)
                }
                TimeOf::Column { name, unit } => {
                    let column = self.column(batch, applied, name)?;
                    let time = |row: usize| time_of(&column, row, unit);
                    self.by_time(by, rows, Some(name), time)
                }
            },
        };
        Ok(Some(placed))
    }

    fn by_time(
        &mut self,
        by: &TimeDirectories,
        rows: usize,
        field: Option<&String>,
        time: impl Fn(usize) -> Result<i64, String>,
    ) -> Placed {
        let mut placed = Placed::default();
        for row in 0..rows {
            let named = time(row).and_then(|micros| {
                let outside = || format!("{micros} µs since 1970 is outside of the calendar");
                self.named(by, micros).ok_or_else(outside)
            });
            match named {
                Ok(name) => placed.push(&name),
                Err(message) => placed.refuse(row, field, message),
            }
        }
        placed
    }

    /// The directory of a moment. `None`: it is in no year of the calendar.
    fn named(&mut self, by: &TimeDirectories, micros: i64) -> Option<Arc<str>> {
        let ms = micros.div_euclid(1000);
        let fine = by.floor.is_some_and(|floor| millis(floor) % MINUTE_MS != 0);
        let key = match fine || by.path.has_seconds() || ms < WHOLE_MINUTES_MS {
            true => return name_of(by, ms).map(Arc::from),
            false => ms.div_euclid(MINUTE_MS),
        };
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let name: Option<Arc<str>> = name_of(by, ms).map(Arc::from);
        self.known.insert(key, name.clone());
        name
    }

    fn by_columns(
        &self,
        batch: &Batch,
        applied: &Applied,
        names: &[String],
        escaped: bool,
    ) -> Result<Placed> {
        let columns = names.iter().map(|name| self.column(batch, applied, name));
        let columns = columns.collect::<Result<Vec<Found<'_>>>>()?;
        for (name, column) in names.iter().zip(&columns) {
            column.may_name(name)?;
        }
        let mut placed = Placed::default();
        for row in 0..applied.table.rows {
            let mut path = String::new();
            let mut wrong = None;
            for (name, column) in names.iter().zip(&columns) {
                match column.text(row) {
                    Ok(value) => {
                        let value = value.as_deref();
                        match escaped {
                            true => escaped_part(&mut path, name, value),
                            false => plain_part(&mut path, name, value, self.limits.without),
                        }
                    }
                    Err(message) => wrong = wrong.or(Some((name, message))),
                }
            }
            match wrong {
                Some((name, message)) => placed.refuse(row, Some(name), message),
                None => placed.push(&path),
            }
        }
        Ok(placed)
    }

    /// The column of this name, a part of a struct (`customer.city`), or a field of the JSON.
    fn column<'a>(&self, batch: &Batch, applied: &'a Applied, name: &str) -> Result<Found<'a>> {
        let table = &applied.table;
        let found = |at: usize| table.columns.get(at);
        if let Some(column) = table.schema.index_of(name).ok().and_then(found) {
            return Ok(Found::of(column));
        }
        let one = |values: ArrayRef| Found::constant(values);
        match name {
            crate::record::TOPIC => {
                let topic = batch.covers.tp.topic.as_ref();
                return Ok(one(Arc::new(arrow_array::StringArray::from(vec![topic]))));
            }
            crate::record::PARTITION => {
                let partition = batch.covers.tp.partition;
                return Ok(one(Arc::new(arrow_array::Int32Array::from(vec![
                    partition,
                ]))));
            }
            crate::record::TIMESTAMP => {
                return Ok(Found {
                    values: Arc::new(batch.timestamp.clone()),
                    at: At::Record(&applied.record),
                    path: Vec::new(),
                });
            }
            _ => {}
        }
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let first = path
            .first()
            .and_then(|first| table.schema.index_of(first).ok());
        if let (Some(column), true) = (first.and_then(found), path.len() > 1)
            && let Some(values) = inner(&column.values, &path[1..])
        {
            let at = if column.constant { At::First } else { At::Row };
            let path = Vec::new();
            return Ok(Found { values, at, path });
        }
        let json = self
            .json
            .as_ref()
            .and_then(|json| table.schema.index_of(json).ok());
        if let Some(column) = json.and_then(found) {
            return Ok(Found {
                path,
                ..Found::of(column)
            });
        }
        let names: Vec<&str> = table
            .schema
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect();
        let message =
            format!("directories are named by `{name}`, which is not a column of the rows");
        Err(Error::new(Kind::ConfigInvalid, "zone.directories", message)
            .with("columns", names.join(","))
            .hint("name one of the columns in sink.partition.columns"))
    }
}

impl Placed {
    pub fn name(&self, at: u32) -> Option<Arc<str>> {
        self.names.get(at as usize).cloned()
    }

    fn push(&mut self, name: &str) {
        // Rows of one directory mostly follow each other.
        let last = self.of_row.last().copied();
        let same = |at: &u32| {
            let last = self.names.get(*at as usize);
            last.is_some_and(|last| **last == *name)
        };
        let known = || self.at.get(name).copied();
        let at = last.filter(same).or_else(known).unwrap_or_else(|| {
            let name: Arc<str> = name.into();
            let at = self.names.len() as u32;
            self.at.insert(name.clone(), at);
            self.names.push(name);
            at
        });
        self.of_row.push(at);
    }

    /// The row keeps a number, which nobody reads.
    fn refuse(&mut self, row: usize, field: Option<&String>, message: String) {
        self.of_row.push(0);
        self.refused.push((row, no_place(field, message)));
    }
}

fn no_place(field: Option<&String>, message: String) -> Reason {
    Reason {
        code: NO_PLACE.to_owned(),
        field: field.cloned(),
        message,
    }
}

fn all(rows: usize, name: impl Into<Arc<str>>) -> Placed {
    Placed {
        names: vec![name.into()],
        of_row: vec![0; rows],
        ..Placed::default()
    }
}

/// One column, or a field of the JSON in it.
struct Found<'a> {
    values: ArrayRef,
    at: At<'a>,
    path: Vec<String>,
}

/// Where the value of a row stands.
enum At<'a> {
    Row,
    First,
    /// By its record.
    Record(&'a [u32]),
}

impl<'a> Found<'a> {
    fn of(column: &Column) -> Found<'a> {
        Found {
            values: column.values.clone(),
            at: if column.constant { At::First } else { At::Row },
            path: Vec::new(),
        }
    }

    fn constant(values: ArrayRef) -> Found<'a> {
        Found {
            values,
            at: At::First,
            path: Vec::new(),
        }
    }

    fn at(&self, row: usize) -> usize {
        match self.at {
            At::Row => row,
            At::First => 0,
            At::Record(records) => records.get(row).map_or(0, |at| *at as usize),
        }
    }

    /// Kafka Connect takes whole numbers, texts and booleans; what is exact as a text is taken here too.
    fn may_name(&self, name: &str) -> Result<()> {
        let kind = self.values.data_type();
        let not = |kind: &DataType| {
            matches!(
                kind,
                DataType::Float16
                    | DataType::Float32
                    | DataType::Float64
                    | DataType::List(_)
                    | DataType::Struct(_)
            )
        };
        if !self.path.is_empty() || !not(kind) {
            return Ok(());
        }
        let message = format!("directories are named by `{name}`, which is {kind}");
        Err(Error::new(Kind::ConfigInvalid, "zone.directories", message)
            .hint("name a column of whole numbers, texts, booleans, dates or times in sink.partition.columns"))
    }

    /// As it stands in a directory's name. `None`: null.
    fn text(&self, row: usize) -> Result<Option<String>, String> {
        let at = self.at(row);
        if !self.path.is_empty() {
            return match self.json(at)? {
                None | Some(Json::Null) => Ok(None),
                Some(Json::Text(text)) => Ok(Some(text)),
                Some(value @ (Json::Bool(_) | Json::Number(_))) => {
                    let text = value.to_string();
                    match text.contains(['.', 'e', 'E']) {
                        true => Err(format!("{text} is not a whole number")),
                        false => Ok(Some(text)),
                    }
                }
                Some(_) => Err("it is an object or a list".to_owned()),
            };
        }
        if self.values.is_null(at) {
            return Ok(None);
        }
        Ok(Some(json::plain(&self.values, at)))
    }

    /// The field of the JSON. `None`: it is not there.
    fn json(&self, at: usize) -> Result<Option<Json>, String> {
        if self.values.is_null(at) {
            return Ok(None);
        }
        let bytes = match self.values.data_type() {
            DataType::Utf8 => self.values.as_string::<i32>().value(at).as_bytes(),
            DataType::Binary => self.values.as_binary::<i32>().value(at),
            _ => return Ok(None),
        };
        let whole = Json::parse(bytes)?;
        let mut inner = Some(&whole);
        for name in &self.path {
            inner = inner.and_then(|inner| inner.get(name));
        }
        Ok(inner.cloned())
    }
}

fn inner(values: &ArrayRef, path: &[String]) -> Option<ArrayRef> {
    match path.split_first() {
        None => Some(values.clone()),
        Some((first, rest)) => {
            let of = values.as_struct_opt()?.column_by_name(first)?;
            inner(of, rest)
        }
    }
}

/// Microseconds since 1970 UTC.
fn time_of(column: &Found<'_>, row: usize, unit: &TimeUnit) -> Result<i64, String> {
    let at = column.at(row);
    if !column.path.is_empty() {
        return match column.json(at)? {
            Some(Json::Text(text)) => of_text(&text, unit),
            Some(number @ Json::Number(_)) => {
                let text = number.to_string();
                let number = text
                    .parse()
                    .map_err(|_| format!("{text} is not a whole number"))?;
                of_number(number, unit)
            }
            None | Some(Json::Null) => Err("it is missing or null".to_owned()),
            Some(_) => Err("it is neither a number nor a text".to_owned()),
        };
    }
    let values = &column.values;
    if values.is_null(at) {
        return Err("it is null".to_owned());
    }
    match values.data_type() {
        DataType::Int32 => of_number(values.as_primitive::<Int32Type>().value(at).into(), unit),
        DataType::Int64 => of_number(values.as_primitive::<Int64Type>().value(at), unit),
        DataType::Utf8 => of_text(values.as_string::<i32>().value(at), unit),
        DataType::Binary => match std::str::from_utf8(values.as_binary::<i32>().value(at)) {
            Ok(text) => of_text(text, unit),
            Err(_) => Err("its bytes are no text".to_owned()),
        },
        DataType::Timestamp(Unit::Microsecond, _) => {
            Ok(values.as_primitive::<TimestampMicrosecondType>().value(at))
        }
        DataType::Date32 => {
            let days = values.as_primitive::<Date32Type>().value(at);
            let outside = || format!("day {days} is outside of the calendar");
            i64::from(days)
                .checked_mul(86_400_000_000)
                .ok_or_else(outside)
        }
        other => Err(format!("it is {other}, and no time")),
    }
}

fn of_number(number: i64, unit: &TimeUnit) -> Result<i64, String> {
    let each = match unit {
        TimeUnit::Auto => 1000,
        TimeUnit::Seconds => 1_000_000,
        TimeUnit::Micros => 1,
        TimeUnit::Pattern(_) => return of_text(&number.to_string(), unit),
    };
    let outside = || format!("{number} is outside of the calendar");
    number.checked_mul(each).ok_or_else(outside)
}

/// Texts without an offset are UTC.
fn of_text(text: &str, unit: &TimeUnit) -> Result<i64, String> {
    if let TimeUnit::Pattern(pattern) = unit {
        let wrong = |e: jiff::Error| format!("`{text}` is not like {pattern}: {e}");
        let read = BrokenDownTime::parse(pattern, text).map_err(wrong)?;
        if read.offset().is_some() {
            return Ok(read.to_timestamp().map_err(wrong)?.as_microsecond());
        }
        let date = read.to_date().map_err(wrong)?;
        let time = read.to_time().unwrap_or(jiff::civil::Time::midnight());
        return Ok(instant::micros(date.to_datetime(time)));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if (1..=19).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        let number = text
            .parse()
            .map_err(|_| format!("{text} is outside of the calendar"))?;
        return of_number(number, unit);
    }
    if let Some(time) = instant::parse(text, true) {
        return Ok(instant::micros(time));
    }
    match text.parse::<Date>() {
        Ok(date) => Ok(instant::micros(
            date.to_datetime(jiff::civil::Time::midnight()),
        )),
        Err(_) => Err(format!("`{text}` is neither a number nor ISO 8601")),
    }
}

/// One directory more, with the name that Hive gives it.
fn escaped_part(path: &mut String, name: &str, value: Option<&str>) {
    if !path.is_empty() {
        path.push('/');
    }
    let escaped = format!("{}={}", escape(name), escape(value.unwrap_or_default()));
    path.push_str(&no_parent(&escaped));
}

/// One directory more, or several. Whatever the value is, it stays below the table, and all characters are such as the store takes;
/// how many is checked later ([`Placing::refuse_unfit`]).
fn plain_part(path: &mut String, name: &str, value: Option<&str>, without: Option<char>) {
    if !path.is_empty() {
        path.push('/');
    }
    let whole = format!("{name}={}", value.unwrap_or("null"));
    let parts = whole.split('/').map(|part| match part {
        "" => "%2F".to_owned(),
        "." => "%2E".to_owned(),
        part => {
            let taken = |c: char| match c.is_control() || c == '\\' || Some(c) == without {
                true => format!("%{:02X}", u32::from(c)),
                false => c.to_string(),
            };
            no_parent(part).chars().map(taken).collect()
        }
    });
    path.push_str(&parts.collect::<Vec<String>>().join("/"));
}

/// The names and values in a directory's path, as an entry names them; a directory that is no `name=value` has none.
pub fn values_of(directory: &str, how: &Directories) -> Partition {
    let escaped = matches!(how, Directories::Columns { escape: true, .. });
    let named = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let value = match escaped {
            true => plain(value),
            false => value.to_owned(),
        };
        (!name.is_empty()).then(|| (name.to_owned(), value))
    };
    directory.split('/').filter_map(named).collect()
}

/// An escaped value as it was.
fn plain(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code =
            code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn name_of(by: &TimeDirectories, ms: i64) -> Option<String> {
    let at = match by.floor {
        None => ms,
        Some(floor) => {
            let floor = millis(floor);
            let local = ms.checked_add(offset(&by.zone, ms)?)?;
            to_utc(&by.zone, local / floor * floor)?
        }
    };
    let offset = offset(&by.zone, at)?;
    let local = Local {
        at: instant::civil(at.checked_add(offset)?.checked_mul(1000)?)?,
        offset_seconds: i32::try_from(offset / 1000).ok()?,
        zone: &by.zone_name,
    };
    let mut name = String::new();
    by.path.write(&mut name, local);
    Some(name)
}

/// Milliseconds that local time is ahead of UTC.
fn offset(zone: &TimeZone, ms: i64) -> Option<i64> {
    let at = Timestamp::from_millisecond(ms).ok()?;
    Some(i64::from(zone.to_offset(at).seconds()) * 1000)
}

/// As Joda-Time's `convertLocalToUTC`, which is lenient: a local time in the gap of a clock that was put forward is read with the
/// offset before it.
fn to_utc(zone: &TimeZone, local: i64) -> Option<i64> {
    let as_if_utc = offset(zone, local)?;
    let found = offset(zone, local - as_if_utc)?;
    if as_if_utc != found && as_if_utc < 0 {
        let next = |ms: i64| {
            let at = Timestamp::from_millisecond(ms).ok()?;
            zone.following(at)
                .next()
                .map(|next| next.timestamp().as_millisecond())
        };
        if next(local - as_if_utc) != next(local - found) {
            return Some(local - as_if_utc);
        }
    }
    Some(local - found)
}

#[cfg(test)]
#[path = "directories_tests.rs"]
mod tests;
