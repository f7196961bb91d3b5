//! Schemas of Connect's JsonConverter, and how a payload written by one of them is read under another.
//!
//! Other than the Java code this refuses what it does not mean: there a text is the number 0 where a number is expected.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::{OF_A_STRUCT, codes, strange};
use super::cell::Cell;
use crate::json::{Decimal, Json};
use crate::record::timestamp_type;

/// Types inside each other, as plugins take them.
const MAX_DEPTH: usize = 16;
/// Digits of the widest decimal.
const DIGITS: u8 = 38;
const MICROS_OF_DAY: i64 = 86_400_000_000;

/// Bytes of all defaults of a schema: each stands in every row that lacks its field;
const DEFAULTS_MAX: usize = 64 << 10;
/// and of those inside an item of a list or a map, which has a few bytes itself.
const DEFAULTS_OF_ITEM_MAX: usize = 1 << 10;

/// Why a payload is refused, with the field if it is one.
type Refused = (Option<String>, Why);

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Why {
    pub code: &'static str,
    pub text: String,
}

impl Why {
    fn not_decodable(text: impl Into<String>) -> Why {
        Why {
            code: codes::NOT_DECODABLE,
            text: text.into(),
        }
    }

    fn out_of_range(text: impl Into<String>) -> Why {
        Why {
            code: codes::OUT_OF_RANGE,
            text: text.into(),
        }
    }

    /// Of a field of a struct.
    fn of(self, field: &str) -> Why {
        Why {
            text: format!("`{field}`: {}", self.text),
            ..self
        }
    }
}

/// A type as a schema says it.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed {
    kind: Kind,
    optional: bool,
    /// As written in JSON; read by the same rules as a payload.
    default: Option<Json>,
    /// What a number means, where it is no number of Connect's own: `io.debezium.time.MicroTimestamp`.
    name: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Bool,
    /// Bits.
    Whole(u8),
    Float,
    Double,
    Text,
    Bytes,
    Decimal(u8, u8),
    Date,
    Time,
    Timestamp,
    List(Box<Typed>),
    Map(Box<Typed>, Box<Typed>),
    Struct(Vec<(String, Typed)>),
}

impl Typed {
    fn of(schema: &Json, depth: usize) -> Result<Typed, String> {
        if depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} types inside each other"));
        }
        let word = |key: &str| schema.get(key).and_then(Json::as_text);
        let inner = |key: &str| {
            let of = schema
                .get(key)
                .ok_or_else(|| format!("a type says no `{key}`"))?;
            Typed::of(of, depth + 1).map(Box::new)
        };
        let logical =
            word("name").and_then(|name| name.strip_prefix("org.apache.kafka.connect.data."));
        let kind = match (word("type").unwrap_or_default(), logical) {
            ("bytes", Some("Decimal")) => decimal(schema)?,
            ("int32", Some("Date")) => Kind::Date,
            ("int32", Some("Time")) => Kind::Time,
            ("int64", Some("Timestamp")) => Kind::Timestamp,
            ("boolean", _) => Kind::Bool,
            ("int8", _) => Kind::Whole(8),
            ("int16", _) => Kind::Whole(16),
            ("int32", _) => Kind::Whole(32),
            ("int64", _) => Kind::Whole(64),
            ("float", _) => Kind::Float,
            ("double", _) => Kind::Double,
            ("string", _) => Kind::Text,
            ("bytes", _) => Kind::Bytes,
            ("array", _) => Kind::List(inner("items")?),
            ("map", _) => Kind::Map(inner("keys")?, inner("values")?),
            ("struct", _) => Kind::Struct(fields(schema, depth)?),
            (other, _) => return Err(format!("`{other}` is no type of Connect")),
        };
        let is_number = matches!(kind, Kind::Whole(_) | Kind::Float | Kind::Double);
        Ok(Typed {
            name: word("name").filter(|_| is_number).map(str::to_owned),
            kind,
            optional: schema.get("optional") == Some(&Json::Bool(true)),
            default: schema.get("default").filter(|d| **d != Json::Null).cloned(),
        })
    }

    /// A whole schema.
    pub fn of_message(schema: &Json) -> Result<Typed, String> {
        let typed = Typed::of(schema, 0)?;
        let all = typed.defaults()?;
        match all > DEFAULTS_MAX {
            true => Err(format!(
                "its defaults have {all} bytes, and at most {DEFAULTS_MAX} are allowed"
            )),
            false => Ok(typed),
        }
    }

    /// Bytes of all defaults. `Err`: an item of a list has more than it may.
    fn defaults(&self) -> Result<usize, String> {
        let item = |bytes: usize| match bytes > DEFAULTS_OF_ITEM_MAX {
            true => Err(format!(
                "an item of a list or a map has defaults of {bytes} bytes, and at most {DEFAULTS_OF_ITEM_MAX} are allowed"
            )),
            false => Ok(bytes),
        };
        let inner = match &self.kind {
            Kind::List(items) => item(items.defaults()?)?,
            Kind::Map(keys, values) => item(keys.defaults()?.saturating_add(values.defaults()?))?,
            Kind::Struct(fields) => {
                let mut sum = 0usize;
                for (_, field) in fields {
                    sum = sum.saturating_add(field.defaults()?);
                }
                sum
            }
            _ => 0,
        };
        let own = self
            .default
            .as_ref()
            .map_or(0, |default| default.to_string().len());
        Ok(inner.saturating_add(own))
    }

    /// The columns of a struct.
    pub fn columns(&self) -> Result<Vec<FieldRef>, String> {
        match &self.kind {
            Kind::Struct(fields) => Ok(fields
                .iter()
                .map(|(name, typed)| Arc::new(typed.field(name)))
                .collect()),
            _ => Err("it is no struct, whose fields could be columns".to_owned()),
        }
    }

    fn field(&self, name: &str) -> Field {
        Field::new(name, self.data_type(), self.optional)
    }

    fn data_type(&self) -> DataType {
        match &self.kind {
            Kind::Bool => DataType::Boolean,
            Kind::Whole(64) => DataType::Int64,
            Kind::Whole(_) => DataType::Int32,
            Kind::Float | Kind::Double => DataType::Float64,
            Kind::Text | Kind::Time => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Decimal(digits, scale) => DataType::Decimal128(*digits, *scale as i8),
            Kind::Date => DataType::Date32,
            Kind::Timestamp => timestamp_type(),
            Kind::List(items) => DataType::List(Arc::new(items.field("item"))),
            Kind::Map(keys, values) => {
                let entry = vec![keys.field("key"), values.field("value")];
                DataType::List(Arc::new(Field::new(
                    "item",
                    DataType::Struct(entry.into()),
                    false,
                )))
            }
            Kind::Struct(fields) => {
                let fields: Vec<Field> = fields
                    .iter()
                    .map(|(name, typed)| typed.field(name))
                    .collect();
                DataType::Struct(fields.into())
            }
        }
    }

    fn told(&self) -> String {
        match &self.kind {
            _ if self.name.is_some() => self.name.clone().unwrap_or_default(),
            Kind::Whole(bits) => format!("int{bits}"),
            Kind::Decimal(_, scale) => format!("a Decimal with {scale} places"),
            Kind::List(_) => "array".to_owned(),
            Kind::Map(..) => "map".to_owned(),
            Kind::Struct(_) => "struct".to_owned(),
            Kind::Text => "string".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

fn fields(schema: &Json, depth: usize) -> Result<Vec<(String, Typed)>, String> {
    let list = schema
        .get("fields")
        .and_then(Json::as_list)
        .unwrap_or_default();
    let mut all = Vec::with_capacity(list.len());
    for field in list {
        let name = field
            .get("field")
            .and_then(Json::as_text)
            .ok_or("a field of a struct has no name")?;
        let typed = Typed::of(field, depth + 1).map_err(|why| format!("`{name}`: {why}"))?;
        all.push((name.to_owned(), typed));
    }
    Ok(all)
}

fn decimal(schema: &Json) -> Result<Kind, String> {
    let parameter = |key: &str| {
        let text = schema.get("parameters")?.get(key)?.as_text()?;
        text.parse::<u8>().ok()
    };
    let scale = parameter("scale").ok_or("a Decimal says no `scale`")?;
    let digits =
        parameter("connect.decimal.precision").filter(|digits| (1..=DIGITS).contains(digits));
    match scale <= DIGITS {
        true => Ok(Kind::Decimal(digits.unwrap_or(DIGITS).max(scale), scale)),
        false => Err(format!("a Decimal with {scale} places; at most {DIGITS}")),
    }
}

/// Reads payloads of one schema under another.
#[derive(Debug)]
pub struct Plan(Vec<Column>);

#[derive(Debug)]
struct Column {
    name: String,
    /// `None`: the message does not know it.
    written: Option<Typed>,
    wanted: Typed,
}

impl Plan {
    pub fn between(written: &Typed, wanted: &Typed) -> Result<Plan, String> {
        let (Kind::Struct(written), Kind::Struct(wanted)) = (&written.kind, &wanted.kind) else {
            return Err("it is no struct".to_owned());
        };
        shares(written, wanted, "a column")?;
        let columns = wanted.iter().map(|(name, wanted)| {
            let of = written
                .iter()
                .find(|(other, _)| other == name)
                .map(|(_, typed)| typed);
            fits(of, wanted).map_err(|why| format!("`{name}`: {why}"))?;
            Ok(Column {
                name: name.clone(),
                written: of.cloned(),
                wanted: wanted.clone(),
            })
        });
        columns.collect::<Result<Vec<Column>, String>>().map(Plan)
    }

    /// One cell for each column.
    pub fn cells(&self, payload: &Json) -> Result<Vec<Cell>, Refused> {
        if payload.as_object().is_none() {
            return Err((None, Why::not_decodable("its payload is no object")));
        }
        let cells = self.0.iter().map(|column| {
            let told = |why| (Some(column.name.clone()), why);
            let value = payload.get(&column.name).unwrap_or(&Json::Null);
            match &column.written {
                Some(written) => cell(value, written, &column.wanted).map_err(told),
                None => missing(&column.wanted).map_err(told),
            }
        });
        cells.collect()
    }
}

/// `what`: is a field of the second one. One without fields has nothing to lose.
fn shares(
    written: &[(String, Typed)],
    wanted: &[(String, Typed)],
    what: &str,
) -> Result<(), String> {
    let is_written = |(name, _): &(String, Typed)| written.iter().any(|(n, _)| n == name);
    if written.is_empty() || wanted.is_empty() || wanted.iter().any(is_written) {
        return Ok(());
    }
    let written = written.iter().map(|(name, _)| name.as_str());
    let wanted = wanted.iter().map(|(name, _)| name.as_str());
    Err(strange(written, what, wanted))
}

/// Whether values of one type can be read as another; by Avro's rules, which Connect's own tools keep to.
fn fits(written: Option<&Typed>, wanted: &Typed) -> Result<(), String> {
    let Some(written) = written else {
        return match wanted.optional || wanted.default.is_some() {
            true => Ok(()),
            false => Err("it is missing, may not be null and has no default".to_owned()),
        };
    };
    // Where only one is named, nothing says that they differ.
    let named = written.name.as_ref().zip(wanted.name.as_ref());
    let good = match (&written.kind, &wanted.kind) {
        _ if named.is_some_and(|(from, to)| from != to) => false,
        (Kind::Whole(from), Kind::Whole(to)) => from <= to,
        (Kind::Whole(_) | Kind::Float, Kind::Float | Kind::Double) => true,
        (Kind::Decimal(_, from), Kind::Decimal(_, to)) => from <= to,
        (Kind::List(from), Kind::List(to)) => return fits(Some(from), to),
        (Kind::Map(from, of), Kind::Map(to, what)) => {
            fits(Some(from), to)?;
            return fits(Some(of), what);
        }
        (Kind::Struct(from), Kind::Struct(to)) => {
            shares(from, to, OF_A_STRUCT)?;
            for (name, wanted) in to {
                let of = from
                    .iter()
                    .find(|(other, _)| other == name)
                    .map(|(_, typed)| typed);
                fits(of, wanted).map_err(|why| format!("`{name}`: {why}"))?;
            }
            true
        }
        (from, to) => from == to,
    };
    match good {
        true => Ok(()),
        false => Err(format!(
            "{} cannot be read as {}",
            written.told(),
            wanted.told()
        )),
    }
}

fn missing(wanted: &Typed) -> Result<Cell, Why> {
    match &wanted.default {
        Some(default) => value(default, &wanted.kind, &wanted.kind),
        None if wanted.optional => Ok(Cell::Null),
        None => Err(Why::not_decodable("it is missing")),
    }
}

fn cell(json: &Json, written: &Typed, wanted: &Typed) -> Result<Cell, Why> {
    if *json != Json::Null {
        return value(json, &written.kind, &wanted.kind);
    }
    if let Some(default) = &written.default {
        return value(default, &written.kind, &wanted.kind);
    }
    match written.optional {
        true if wanted.optional => Ok(Cell::Null),
        true => missing(wanted)
            .map_err(|_| Why::not_decodable("it is null, and may not be in the schema in force")),
        false => Err(Why::not_decodable(
            "it is null or missing, and its schema says that it may not be",
        )),
    }
}

fn unlike(expected: &str, json: &Json) -> Why {
    Why::not_decodable(format!("expected {expected}, found {}", short(json)))
}

/// `written` decides what the JSON means, `wanted` the type of the cell.
fn value(json: &Json, written: &Kind, wanted: &Kind) -> Result<Cell, Why> {
    let no = |expected: &str| Err(unlike(expected, json));
    Ok(match (written, wanted) {
        (Kind::Bool, _) => match json {
            Json::Bool(value) => Cell::Bool(*value),
            _ => return no("true or false"),
        },
        (Kind::Whole(bits), wanted) => {
            let Some(number) = whole(json, *bits) else {
                return no(&format!("a whole number of {bits} bits"));
            };
            match wanted {
                Kind::Float | Kind::Double => Cell::Double(number as f64),
                Kind::Whole(64) => Cell::Long(number),
                _ => Cell::Int(number as i32),
            }
        }
        (Kind::Float | Kind::Double, _) => Cell::Double(double(json, *written == Kind::Float)?),
        (Kind::Text, _) => match json {
            Json::Text(text) => Cell::Text(text.clone()),
            _ => return no("a text"),
        },
        (Kind::Bytes, _) => match bytes(json) {
            Some(bytes) => Cell::Bytes(bytes),
            None => return no("bytes in base64"),
        },
        (Kind::Decimal(_, from), Kind::Decimal(digits, to)) => {
            Cell::Decimal(decimal_of(json, *from, (*digits, *to))?)
        }
        (Kind::Date, _) => match whole(json, 32).map(|days| days as i32) {
            Some(days) => Cell::Int(days),
            None => return no("days since 1970"),
        },
        (Kind::Time, _) => {
            match whole(json, 32).filter(|ms| (0..MICROS_OF_DAY / 1000).contains(ms)) {
                Some(ms) => Cell::Text(clock(ms)),
                None => return no("milliseconds of a day"),
            }
        }
        (Kind::Timestamp, _) => match whole(json, 64).map(|ms| ms.checked_mul(1000)) {
            Some(Some(micros)) => Cell::Long(micros),
            Some(None) => {
                let found = short(json);
                return Err(Why::out_of_range(format!(
                    "{found} milliseconds have no place in microseconds of 64 bits"
                )));
            }
            None => return no("milliseconds since 1970"),
        },
        (written, wanted) => return longer(json, written, wanted),
    })
}

fn longer(json: &Json, written: &Kind, wanted: &Kind) -> Result<Cell, Why> {
    let no = |expected: &str| Err(unlike(expected, json));
    match (written, wanted) {
        (Kind::List(from), Kind::List(to)) => {
            let Some(items) = json.as_list() else {
                return no("a list");
            };
            let cells: Result<Vec<Cell>, Why> =
                items.iter().map(|item| cell(item, from, to)).collect();
            cells.map(Cell::List)
        }
        (Kind::Map(from, of), Kind::Map(to, what)) => {
            let entry = |key: &Json, value: &Json| {
                Ok(Cell::Struct(vec![
                    cell(key, from, to)?,
                    cell(value, of, what)?,
                ]))
            };
            let cells: Result<Vec<Cell>, Why> = match json {
                Json::Object(members) => {
                    let entries = members.iter();
                    entries
                        .map(|(key, value)| entry(&Json::Text(key.clone()), value))
                        .collect()
                }
                Json::List(pairs) => pairs
                    .iter()
                    .map(|pair| match pair.as_list() {
                        Some([key, value]) => entry(key, value),
                        _ => Err(unlike("a key and a value", pair)),
                    })
                    .collect(),
                _ => return no("an object, or a list of pairs"),
            };
            cells.map(Cell::List)
        }
        (Kind::Struct(from), Kind::Struct(to)) => {
            if json.as_object().is_none() {
                return no("an object");
            }
            let cells: Result<Vec<Cell>, Why> = to
                .iter()
                .map(|(name, wanted)| {
                    let of = from
                        .iter()
                        .find(|(other, _)| other == name)
                        .map(|(_, typed)| typed);
                    let found = match of {
                        Some(of) => cell(json.get(name).unwrap_or(&Json::Null), of, wanted),
                        None => missing(wanted),
                    };
                    found.map_err(|why| why.of(name))
                })
                .collect();
            cells.map(Cell::Struct)
        }
        _ => no("another type"),
    }
}

/// The beginning of a value, for messages.
fn short(json: &Json) -> String {
    const MOST: usize = 40;
    let text = json.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// `1.0` and `1e2` are whole numbers too.
fn whole(json: &Json, bits: u8) -> Option<i64> {
    let Json::Number(number) = json else {
        return None;
    };
    let number = i64::try_from(Decimal::parse(number.text())?.scaled(0)?).ok()?;
    let most = match bits {
        64 => i64::MAX,
        bits => (1 << (bits - 1)) - 1,
    };
    (-most - 1..=most).contains(&number).then_some(number)
}

/// Infinite only where the text says so.
fn double(json: &Json, is_float: bool) -> Result<f64, Why> {
    let (number, bits) = match json {
        Json::Number(number) => {
            let number: Option<f64> = number.text().parse().ok();
            let number = number.ok_or_else(|| unlike("a number", json))?;
            match is_float {
                // It is written with the digits that tell it from other floats.
                true => (f64::from(number as f32), 32),
                false => (number, 64),
            }
        }
        // As Jackson writes them.
        Json::Text(text) => {
            return match text.as_str() {
                "NaN" => Ok(f64::NAN),
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => Err(unlike("a number", json)),
            };
        }
        _ => return Err(unlike("a number", json)),
    };
    match number.is_finite() {
        true => Ok(number),
        false => Err(Why::out_of_range(format!(
            "{} is too large for {bits} bits",
            short(json)
        ))),
    }
}

fn bytes(json: &Json) -> Option<Vec<u8>> {
    STANDARD.decode(json.as_text()?).ok()
}

/// A number as it is written, or the bytes of the number without its scale in base64.
fn decimal_of(json: &Json, written: u8, (digits, scale): (u8, u8)) -> Result<i128, Why> {
    let unscaled = match json {
        Json::Number(number) => {
            let decimal = Decimal::parse(number.text());
            decimal.and_then(|d| d.scaled(scale)).ok_or_else(|| {
                let text = number.text();
                Why::not_decodable(format!("{text} is no number with at most {scale} places"))
            })?
        }
        _ => {
            let bytes = bytes(json).filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| unlike("a number or its bytes in base64", json))?;
            let zeros = 10i128.checked_pow(u32::from(scale.saturating_sub(written)));
            let number = big_endian(&bytes).zip(zeros);
            number
                .and_then(|(number, zeros)| number.checked_mul(zeros))
                .ok_or_else(|| Why::out_of_range("it has more than 38 digits"))?
        }
    };
    match unscaled.unsigned_abs() < 10u128.pow(u32::from(digits)) {
        true => Ok(unscaled),
        false => Err(Why::out_of_range(format!(
            "it has more than {digits} digits"
        ))),
    }
}

/// Two's complement, as Java's BigInteger writes it.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let fill = if first & 0x80 == 0 { 0 } else { 0xff };
    let cut = bytes.len().saturating_sub(16);
    let (extra, rest) = bytes.split_at(cut);
    let same_sign = rest.first().is_some_and(|b| b & 0x80 == fill & 0x80);
    if !extra.iter().all(|b| *b == fill) || !extra.is_empty() && !same_sign {
        return None;
    }
    let mut whole = [fill; 16];
    whole[16 - rest.len()..].copy_from_slice(rest);
    Some(i128::from_be_bytes(whole))
}

/// `hh:mm:ss`, and `.fff` if there are such.
fn clock(ms: i64) -> String {
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let text = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    match ms {
        0 => text,
        ms => format!("{text}.{ms:03}"),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
