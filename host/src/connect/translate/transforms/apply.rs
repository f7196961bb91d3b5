//! Each of Connect's transforms, and the plugin that does the same.

use super::super::Work;
use super::super::columns::{Column, Keys};
use super::{Chain, emit, used};
use crate::config::problem;
use crate::connect::smt::{Side, Smt};

/// Transform, what it becomes, and what differs. The documentation page is made from this table.
pub const SMT_TABLE: &[(&str, &str, &str)] = &[
    (
        "`Cast$Value`",
        "`cast`",
        "Exact or refused, never cut off. `int8` and `int16` become `int`, `float32` becomes `double`.",
    ),
    (
        "`ReplaceField$Value`",
        "`select`",
        "`include`, `exclude`, `renames` (and `whitelist`, `blacklist`).",
    ),
    (
        "`MaskField$Value`",
        "`mask`",
        "With `replacement`: `redact`, for texts. Without: texts become empty; other types are refused, as nothing here makes a zero of them.",
    ),
    (
        "`ExtractField$Value`",
        "`json-flatten`",
        "In front of all others, with JsonConverter: the columns are read from below that field.",
    ),
    (
        "`Flatten$Value`",
        "`json-flatten`",
        "Columns are flat already; `delimiter` names them where they are learned from a sample.",
    ),
    (
        "`HoistField$Value`",
        "`select`",
        "With StringConverter and ByteArrayConverter: names the column of the whole value.",
    ),
    (
        "`InsertField$Value`",
        "`select`",
        "`static.field`, `static.value`. Topic, partition, offset and time are in `_topic`, `_partition`, `_offset`, `_timestamp` of every row; other names for them are refused.",
    ),
    (
        "`TimestampConverter$Value`",
        "`cast`",
        "`target.type` `Timestamp` and `Date`, from texts (`format`) and numbers (`unix.precision`). The others are refused.",
    ),
    (
        "`SetSchemaMetadata`, `ValueToKey`, `InsertHeader`, `DropHeaders`, `HeaderFrom` with `copy`, and all `…$Key`",
        "nothing",
        "They change keys, headers or names of schemas, which a rule that reads values does not write. Refused where values are kept whole, as keys and headers are columns there.",
    ),
    (
        "`HeaderFrom` with `move`",
        "refused",
        "`ReplaceField` with `exclude` drops the columns.",
    ),
    (
        "`Filter`",
        "refused",
        "It needs a predicate, and rules see every record.",
    ),
    (
        "`RegexRouter`, `TimestampRouter`",
        "refused",
        "Tables are named by topics (`sink.table`); directories are named by hours.",
    ),
    ("any `predicate`", "refused", "Rules see every record."),
    (
        "classes of others",
        "refused",
        "Java classes cannot be loaded.",
    ),
];

/// Whether it changes nothing that a rule, which reads only values, would write.
pub(super) fn inert(smt: Smt) -> bool {
    smt.side == Side::Key
        || [
            "SetSchemaMetadata",
            "ValueToKey",
            "InsertHeader",
            "DropHeaders",
        ]
        .contains(&smt.name)
}

pub(super) fn apply(work: &mut Work<'_>, chain: &mut Chain, alias: &str, smt: Smt) {
    let mut step = Step { alias, work, chain };
    step.used(smt);
    if inert(smt) {
        return step.inert(smt);
    }
    match smt.name {
        "Cast" => step.cast(),
        "ReplaceField" => step.replace_field(),
        "MaskField" => step.mask_field(),
        "InsertField" => step.insert_field(),
        "HoistField" => step.hoist_field(),
        "TimestampConverter" => step.timestamp(),
        "Flatten" if step.chain.by_schema => step.refuse_type("fields inside of fields are columns of structs", "queries read them as a.b; or list a json-flatten that names the columns"),
        "Flatten" if !step.chain.whole => {
            step.note("nothing left to do: the columns are flat already");
        }
        "ExtractField" => step.refuse_type("it must come before the columns are made", "list it first, before all other transforms"),
        "HeaderFrom" => step.header_from(),
        "Filter" => step.refuse_type("no record is dropped by a condition", "validate refuses rows that break a rule (they become dead letters); a plugin of your own can drop them"),
        "RegexRouter" | "TimestampRouter" => step.refuse_type("tables are named by topics, and directories by hours", "sink.table names one table for all topics"),
        other => {
            let reason = format!("{other} finds no fields in a value that is one text");
            step.refuse_type(&reason, "give the value to json-flatten, csv-parse or xml-flatten before");
        }
    }
}

struct Step<'s, 'w> {
    alias: &'s str,
    work: &'s mut Work<'w>,
    chain: &'s mut Chain,
}

impl Step<'_, '_> {
    fn key(&self, name: &str) -> String {
        format!("transforms.{}.{name}", self.alias)
    }

    fn used(&mut self, smt: Smt) {
        for def in smt.keys() {
            let key = self.key(def.name);
            self.work.used(&key);
        }
        for name in ["replace.null.with.default", "field.syntax.version"] {
            let key = self.key(name);
            self.work.used(&key);
        }
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let key = self.key(name);
        self.work.get(&key)
    }

    fn list(&mut self, name: &str) -> Vec<String> {
        let key = self.key(name);
        self.work.list(&key)
    }

    fn note(&mut self, text: &str) {
        let key = self.key("type");
        self.work.note(&key, text);
    }

    fn refuse(&mut self, name: &str, reason: &str, hint: &str) {
        let key = self.key(name);
        self.work.refuse(&key, reason, hint);
    }

    fn refuse_type(&mut self, reason: &str, hint: &str) {
        used(self.work, self.alias);
        self.refuse("type", reason, hint);
    }

    fn missing(&mut self, name: &str) {
        let key = self.key(name);
        let message = format!("`{key}` is missing");
        self.work.problem(&key, problem::MISSING, message);
    }

    fn emit(&mut self, plugin: &str, keys: Keys) {
        emit(self.work, self.chain, self.alias, plugin, keys, self.alias);
    }

    /// If the columns are known, names of missing columns have no effect, as in Connect.
    fn known(&mut self, name: &str, columns: Vec<String>) -> Vec<String> {
        let Some(there) = &self.chain.columns else {
            return columns;
        };
        let is = |column: &String| there.iter().any(|c| c.name == *column);
        let (known, unknown): (Vec<String>, Vec<String>) = columns.into_iter().partition(is);
        if !unknown.is_empty() {
            let key = self.key(name);
            let text = format!(
                "no column is called {}: no effect on it, as in Connect",
                unknown.join(", ")
            );
            self.work.note(&key, text);
        }
        known
    }

    fn kind(&self, column: &str) -> Option<&str> {
        let all = self.chain.columns.as_ref()?;
        all.iter()
            .find(|c| c.name == column)
            .map(|c| c.kind.as_str())
    }

    fn set_kind(&mut self, column: &str, kind: &str) {
        for known in self.chain.columns.iter_mut().flatten() {
            if known.name == column {
                known.kind = kind.to_owned();
            }
        }
    }

    // ------------------------------------------------------------- each one

    fn inert(&mut self, smt: Smt) {
        if self.chain.whole {
            let reason = format!(
                "{} would change a column: keys and headers are written where values are kept whole",
                smt.name
            );
            self.refuse_type(
                &reason,
                "take the transform out, or let a plugin make columns of the value first",
            );
        } else {
            used(self.work, self.alias);
            self.note("no effect: keys, headers and names of schemas are not written");
        }
    }

    fn cast(&mut self) {
        let spec = self.list("spec");
        if spec.is_empty() {
            return self.missing("spec");
        }
        let mut keys = Keys::new();
        for item in spec {
            let (column, typed) = match item.rsplit_once(':') {
                Some((column, typed)) => (column.trim().to_owned(), typed.trim().to_owned()),
                None if self.chain.whole => ("value".to_owned(), item),
                None => {
                    self.refuse(
                        "spec",
                        "rows have columns, so there is no whole value to cast",
                        "write field:type",
                    );
                    continue;
                }
            };
            let kind = match typed.as_str() {
                "int8" | "int16" | "int32" => "int",
                "int64" => "long",
                "float32" | "float64" => "double",
                "boolean" => "boolean",
                "string" => "string",
                other => {
                    let reason = format!("`{other}` is no type that Cast knows");
                    self.refuse(
                        "spec",
                        &reason,
                        "int8, int16, int32, int64, float32, float64, boolean or string",
                    );
                    continue;
                }
            };
            if ["int8", "int16", "float32"].contains(&typed.as_str()) {
                let key = self.key("spec");
                self.work.note(
                    &key,
                    format!("{column} becomes `{kind}`: zones have no {typed}"),
                );
            }
            if self.known("spec", vec![column.clone()]).is_empty() {
                continue;
            }
            self.set_kind(&column, kind);
            keys.insert(format!("types.{column}"), kind.to_owned());
        }
        if !keys.is_empty() {
            self.note("exact or refused: nothing is cut off or rounded, where Connect does");
            let to = |kind: &str| keys.values().any(|made| made == kind);
            if to("boolean") {
                self.note("the text 1 is true and other words are refused, where Connect makes false of both");
            }
            if to("string") {
                self.note(
                    "doubles are written as 100 and 0.0001, where Java writes 100.0 and 1.0E-4",
                );
            }
            self.emit("cast", keys);
        }
    }

    fn replace_field(&mut self) {
        let pick = |step: &mut Self, new: &str, old: &str| {
            let list = step.list(new);
            if list.is_empty() {
                (old.to_owned(), step.list(old))
            } else {
                (new.to_owned(), list)
            }
        };
        let (include_key, include) = pick(self, "include", "whitelist");
        let (exclude_key, exclude) = pick(self, "exclude", "blacklist");
        let renames: Vec<(String, String)> = self
            .list("renames")
            .iter()
            .filter_map(|pair| pair.split_once(':'))
            .map(|(old, new)| (old.trim().to_owned(), new.trim().to_owned()))
            .collect();
        let included = !include.is_empty();
        let mut keep = self.known(&include_key, include);
        let mut drop = self.known(&exclude_key, exclude);
        if let Some(there) = &self.chain.columns {
            // Connect keeps the order of the fields.
            keep = there
                .iter()
                .map(|c| c.name.clone())
                .filter(|c| keep.contains(c))
                .collect();
        }
        keep.retain(|column| !drop.contains(column));
        if included && keep.is_empty() {
            return self.refuse(
                &include_key,
                "no column would be left",
                "name columns that are there",
            );
        }
        let goes_on = |column: &String| {
            if included {
                keep.contains(column)
            } else {
                !drop.contains(column)
            }
        };
        let olds: Vec<String> = renames.iter().map(|(old, _)| old.clone()).collect();
        let olds = self.known("renames", olds);
        let renames: Vec<(String, String)> = renames
            .into_iter()
            .filter(|(old, _)| olds.contains(old) && goes_on(old))
            .collect();
        if let Some(there) = &mut self.chain.columns {
            there.retain(|c| goes_on(&c.name));
            for column in there {
                if let Some((_, new)) = renames.iter().find(|(old, _)| *old == column.name) {
                    column.name.clone_from(new);
                }
            }
        }
        if included {
            drop.clear();
        }
        self.select(included.then_some(keep), &drop, renames);
    }

    fn select(
        &mut self,
        keep: Option<Vec<String>>,
        drop: &[String],
        renames: Vec<(String, String)>,
    ) {
        let mut keys = Keys::new();
        if let Some(keep) = keep {
            keys.insert("keep".to_owned(), keep.join(","));
        }
        if !drop.is_empty() {
            keys.insert("drop".to_owned(), drop.join(","));
        }
        for (old, new) in renames {
            keys.insert(format!("rename.{old}"), new);
        }
        if keys.is_empty() {
            self.note("nothing left to do");
        } else {
            self.emit("select", keys);
        }
    }

    fn mask_field(&mut self) {
        let fields = self.list("fields");
        if fields.is_empty() {
            return self.missing("fields");
        }
        let replacement = self.get("replacement");
        let fields = self.known("fields", fields);
        let mut keys = Keys::new();
        for field in fields {
            match self.kind(&field) {
                Some("string") => {}
                // The problem with the columns was already reported.
                None if self.work.columns_failed => continue,
                None if replacement.is_some() => {
                    let text = format!("{field} becomes a text, whatever it was");
                    let key = self.key("fields");
                    self.work.note(&key, text);
                }
                kind => {
                    let kind =
                        kind.map_or("a type that is not known here".to_owned(), str::to_owned);
                    let reason = format!(
                        "{field} is of type {kind}, and only texts are masked as Connect does"
                    );
                    self.refuse(
                        "fields",
                        &reason,
                        "transforms.<name>.type = mask with columns.<field> = null or hash",
                    );
                    continue;
                }
            }
            keys.insert(format!("columns.{field}"), "redact".to_owned());
        }
        if !keys.is_empty() {
            keys.insert("redact-with".to_owned(), replacement.unwrap_or_default());
            self.emit("mask", keys);
        }
    }

    fn insert_field(&mut self) {
        const SYSTEM: &[(&str, &str)] = &[
            ("topic.field", "_topic"),
            ("partition.field", "_partition"),
            ("offset.field", "_offset"),
            ("timestamp.field", "_timestamp"),
        ];
        for (name, column) in SYSTEM {
            let Some(wanted) = self.get(name) else {
                continue;
            };
            if wanted.trim_end_matches(['!', '?']) != *column {
                let reason = format!("every row has it in column {column}");
                self.refuse(
                    name,
                    &reason,
                    &format!("write {column}, or take the key out and read {column}"),
                );
            }
        }
        let field = self.get("static.field");
        let value = self.get("static.value");
        match (field, value) {
            (Some(field), Some(value)) => {
                let field = field.trim_end_matches(['!', '?']).to_owned();
                let keys = Keys::from([(format!("constant.{field}"), value)]);
                if let Some(there) = &mut self.chain.columns {
                    there.push(Column {
                        name: field,
                        kind: "string".to_owned(),
                    });
                }
                self.emit("select", keys);
            }
            (Some(_), None) => self.missing("static.value"),
            (None, _) => {}
        }
    }

    fn hoist_field(&mut self) {
        if !self.chain.whole {
            return self.refuse_type(
                "columns are not put into each other",
                "take the transform out: each field is a column",
            );
        }
        let Some(field) = self.get("field") else {
            return self.missing("field");
        };
        for column in self.chain.columns.iter_mut().flatten() {
            column.name.clone_from(&field);
        }
        let mut keys = Keys::from([("keep".to_owned(), "value".to_owned())]);
        if field != "value" {
            keys.insert("rename.value".to_owned(), field);
        }
        self.chain.whole = false;
        self.emit("select", keys);
    }

    fn timestamp(&mut self) {
        let Some(field) = self.get("field") else {
            return self.refuse("field", "the whole value is no column", "name the column");
        };
        let (target, format) = (self.get("target.type"), self.get("format"));
        let precision = self.get("unix.precision");
        let Some(target) = target else {
            return self.missing("target.type");
        };
        if self.known("field", vec![field.clone()]).is_empty() {
            return;
        }
        let number = match self.kind(&field) {
            Some("int" | "long") => true,
            Some("string") => false,
            Some(kind) if kind.starts_with(&target.to_lowercase()) => {
                return self.note("nothing left to do: the column is of this type already");
            }
            _ => format.is_none(),
        };
        let ours = match (target.as_str(), number) {
            ("Timestamp", true) => match precision.as_deref().unwrap_or("milliseconds") {
                "seconds" => "timestamp(epoch-seconds)".to_owned(),
                "milliseconds" => "timestamp(epoch-millis)".to_owned(),
                "microseconds" => "timestamp(epoch-micros)".to_owned(),
                other => {
                    let reason = format!("times have microseconds, so {other} would be cut off");
                    return self.refuse(
                        "unix.precision",
                        &reason,
                        "seconds, milliseconds or microseconds",
                    );
                }
            },
            ("Timestamp" | "Date", false) => {
                let Some(format) = format else {
                    return self.missing("format");
                };
                if let Some(letter) = unknown_letter(&format) {
                    let reason = format!("`{letter}` is no part of a pattern here");
                    return self.refuse(
                        "format",
                        &reason,
                        "parts are yyyy, MM, dd, HH, mm, ss, S, X, and 'literals'",
                    );
                }
                format!("{}({format})", target.to_lowercase())
            }
            (other, _) => {
                let reason = format!("nothing here makes a {other} of this column");
                return self.refuse("target.type", &reason, "Timestamp, or Date of a text");
            }
        };
        let kind = target.to_lowercase();
        self.set_kind(&field, &kind);
        self.note("a value that is none is refused; times without an offset are UTC");
        self.emit("cast", Keys::from([(format!("types.{field}"), ours)]));
    }

    fn header_from(&mut self) {
        match self.get("operation").as_deref() {
            Some("copy") if !self.chain.whole => self.note("no effect: headers are not written"),
            _ => self.refuse(
                "operation",
                "headers are not written, so a moved field would be lost",
                "ReplaceField with exclude drops a column; copy has no effect",
            ),
        }
    }
}

/// The first letter outside of quotes that patterns of `cast` do not have.
fn unknown_letter(format: &str) -> Option<char> {
    let mut quoted = false;
    format.chars().find(|c| {
        quoted ^= *c == '\'';
        !quoted && c.is_ascii_alphabetic() && !"yMdHmsSX".contains(*c)
    })
}
