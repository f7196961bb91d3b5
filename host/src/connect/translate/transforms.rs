//! The chain of transforms: plugins stay, Connect's own become plugins that do the same, the others are refused by
//! name.

use std::collections::BTreeSet;

use super::columns::{self, Column, Keys};
use super::converters::{self, Start, VALUE};
use super::{Line, Work, aiven};
use crate::config::{FileFormat, TRANSFORMS_MAX, plugin_ref, problem, too_many_transforms};
use crate::connect::smt::{Side, Smt};

mod apply;

pub use apply::SMT_TABLE;

/// One listed transform.
struct Step {
    alias: String,
    what: What,
}

enum What {
    /// With its pin.
    Plugin(String),
    Smt(Smt),
}

/// What transforms have made so far.
#[derive(Default)]
struct Chain {
    names: Vec<String>,
    /// `None`: a plugin has made them, so they are not known here.
    columns: Option<Vec<Column>>,
    /// The value is still one text or bytes, and keys and headers are columns beside it.
    whole: bool,
    /// That value is JSON.
    json: bool,
    /// The json-flatten that reads messages.
    flatten: Option<String>,
    /// Columns are the fields of a schema, structs among them.
    by_schema: bool,
}

impl Chain {
    /// What a line of a file is, where a value is still whole.
    fn line(&self) -> Option<Line> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let plain = matches!(columns, [one] if one.name == "value");
        (self.whole && plain).then_some(if self.json { Line::Json } else { Line::Text })
    }
}

pub(super) fn translate(work: &mut Work<'_>, start: Start, sample: Option<&[Vec<u8>]>) {
    let mut listed = work.list("transforms");
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    // Each name is looked at once, however often it is there.
    listed.retain(|alias| {
        let new = seen.insert(alias.clone());
        if !new {
            twice.insert(alias.clone());
        }
        new
    });
    if listed.len() > TRANSFORMS_MAX {
        work.problem(
            "transforms",
            problem::OUT_OF_RANGE,
            too_many_transforms(listed.len()),
        );
        listed.truncate(TRANSFORMS_MAX);
    }
    for alias in twice.into_iter().take(TRANSFORMS_MAX) {
        let message = format!("`transforms`: `{alias}` is listed twice");
        work.problem("transforms", problem::DUPLICATE, message);
    }
    let steps: Vec<Step> = listed
        .iter()
        .filter_map(|alias| step(work, alias))
        .collect();
    let mut chain = Chain::default();
    let rest = match start {
        Start::Whole { text } => {
            whole(work, &mut chain, &steps, text);
            &steps[..]
        }
        Start::Json { envelope } => json(work, &mut chain, &steps, envelope, sample),
        Start::Columns => {
            chain.by_schema = true;
            &steps[..]
        }
        Start::Unknown => {
            work.columns_failed = true;
            &steps[..]
        }
    };
    for step in rest {
        match &step.what {
            What::Plugin(plugin) => {
                let keys = own_keys(work, &step.alias);
                chain.columns = None;
                chain.whole = false;
                emit(work, &mut chain, &step.alias, plugin, keys, &step.alias);
            }
            What::Smt(smt) => apply::apply(work, &mut chain, &step.alias, *smt),
        }
    }
    work.line = chain.line();
    beside(work, &chain);
    nulls(work, &chain);
    if !chain.names.is_empty() {
        let from = if work.is_there("transforms") {
            "transforms"
        } else {
            VALUE
        };
        work.put("transforms", chain.names.join(","), from);
    }
}

/// Columns beside a whole value, where a line of CSV is to have the value alone.
fn beside(work: &mut Work<'_>, chain: &Chain) {
    let csv = work.files == FileFormat::Csv && aiven::is_one(work.class);
    if csv && chain.whole && work.line.is_none() {
        work.refuse("transforms", "they add to a value that is whole, and a line of CSV would have the key and headers too", "take them out; or let a plugin first make columns of the value: json-flatten, csv-parse, xml-flatten");
    }
}

/// Records without a value.
fn nulls(work: &mut Work<'_>, chain: &Chain) {
    const KEY: &str = "behavior.on.null.values";
    let Some(behaviour) = work.get(KEY) else {
        return;
    };
    match (behaviour.to_lowercase().as_str(), &chain.flatten) {
        ("fail", _) if chain.by_schema => {
            work.put("value.on.null", "refuse", KEY);
            work.note(KEY, "a record without a value is refused (empty_value)");
        }
        ("ignore", _) if chain.by_schema => {
            work.put("value.on.null", "drop", KEY);
            work.note(
                KEY,
                "a record without a value is dropped, and counted as filtered",
            );
        }
        ("ignore", _) if work.has("schema.inference") => {
            work.refuse(KEY, "`ignore`: columns that are found in the first records refuse a record without a value", "write fail; or list a json-flatten with empty=drop and the columns");
        }
        ("fail", Some(_)) => work.note(KEY, "a record without a value is refused (empty_value)"),
        ("ignore", Some(alias)) => {
            work.put(&format!("transforms.{alias}.empty"), "drop", KEY);
            work.note(
                KEY,
                "a record without a value is dropped, and counted as filtered",
            );
        }
        ("fail", None) if chain.whole => {
            work.put("sink.tombstones", "refuse", KEY);
            work.note(KEY, "a record without a value is refused (no_value)");
        }
        ("ignore", None) if chain.whole => {
            work.put("sink.tombstones", "drop", KEY);
            work.note(
                KEY,
                "a record without a value is dropped, and counted as filtered",
            );
        }
        ("write", None) if chain.whole => {
            work.put("sink.tombstones", "write", KEY);
            work.note(KEY, "a record without a value is a row without one in the same files, not in files of their own");
        }
        ("fail" | "ignore", None) => {
            work.note(
                KEY,
                "no effect: the first transform decides what becomes of a record without a value",
            );
        }
        (other, _) => {
            let reason = format!("`{other}`: columns cannot be made of a record without a value");
            work.refuse(KEY, reason, "write fail or ignore");
        }
    }
}

/// `None`: it is refused, which was reported.
fn step(work: &mut Work<'_>, alias: &str) -> Option<Step> {
    let key = |name: &str| format!("transforms.{alias}.{name}");
    let (typed, version) = (work.get(&key("type")), work.get(&key("plugin.version")));
    let (predicate, negate) = (work.get(&key("predicate")), work.flag(&key("negate")));
    if predicate.is_some() {
        work.refuse(
            &key("predicate"),
            "a rule sees every record; there are no predicates",
            "a plugin of your own can decide by topic, key and headers",
        );
    } else if negate == Some(true) {
        work.refuse(
            &key("negate"),
            "there is no predicate to negate",
            "take the key out",
        );
    }
    let Some(typed) = typed else {
        let message = format!("`{}` is missing", key("type"));
        work.problem(&key("type"), problem::MISSING, message);
        return None;
    };
    let what = if let Some(smt) = Smt::find(&typed) {
        if version.is_some() {
            work.note(&key("plugin.version"), "no effect: it is of a Java class");
        }
        What::Smt(smt)
    } else if java(&typed) {
        used(work, alias);
        work.refuse(
            &key("type"),
            format!("`{typed}` is a Java class that cannot be loaded"),
            stranger(&typed),
        );
        return None;
    } else {
        let pinned = match version {
            Some(version) if !typed.contains('@') => format!("{typed}@{version}"),
            _ => typed,
        };
        if let Err(refusal) = plugin_ref(&pinned) {
            let message = format!(
                "`{}`: expected {}, found `{pinned}`",
                key("type"),
                refusal.expected
            );
            work.problem(&key("type"), refusal.code, message).hint = refusal.hint;
            used(work, alias);
            return None;
        }
        What::Plugin(pinned)
    };
    Some(Step {
        alias: alias.to_owned(),
        what,
    })
}

/// Plugins are named by a word.
fn java(typed: &str) -> bool {
    let name = typed.split('@').next().unwrap_or(typed);
    name.contains(['$', '.'])
}

fn stranger(class: &str) -> String {
    match class {
        "io.debezium.transforms.ExtractNewRecordState" => "Debezium's row is at /payload/after (without schemas /after): json-flatten with columns from there".to_owned(),
        _ => "plugins that are shipped: select, cast, mask, validate, enrich, json-flatten, xml-flatten, csv-parse; or write one: weir plugin new".to_owned(),
    }
}

fn used(work: &mut Work<'_>, alias: &str) {
    for name in work.below(&format!("transforms.{alias}.")) {
        work.used(&format!("transforms.{alias}.{name}"));
    }
}

/// A plugin's keys, references unresolved.
fn own_keys(work: &mut Work<'_>, alias: &str) -> Keys {
    let prefix = format!("transforms.{alias}.");
    let mut keys = Keys::new();
    for name in work.below(&prefix) {
        let key = format!("{prefix}{name}");
        work.used(&key);
        let host = ["type", "plugin.version", "predicate", "negate"];
        if !host.contains(&name.as_str())
            && let Some(entry) = work.raw.get(&key)
        {
            keys.insert(name, entry.value.typed().to_owned());
        }
    }
    keys
}

/// `from`: the transform that it was made of; the native one is called `alias`.
fn emit(work: &mut Work<'_>, chain: &mut Chain, alias: &str, plugin: &str, keys: Keys, from: &str) {
    let of = |name: &str, work: &Work<'_>| {
        let key = format!("transforms.{from}.{name}");
        match work.is_there(&key) {
            true => key,
            false if work.is_there(&format!("transforms.{from}.type")) => {
                format!("transforms.{from}.type")
            }
            false => VALUE.to_owned(),
        }
    };
    let key = of("type", work);
    work.put(&format!("transforms.{alias}.type"), plugin, &key);
    for (name, value) in keys {
        let key = of(&name, work);
        work.put(&format!("transforms.{alias}.{name}"), value, &key);
    }
    chain.names.push(alias.to_owned());
}

/// A name that no listed transform has.
fn free(steps: &[Step], wanted: &str) -> String {
    let taken = |name: &str| steps.iter().any(|step| step.alias == name);
    let mut name = wanted.to_owned();
    while taken(&name) {
        name.push_str("-0");
    }
    name
}

/// Strings and bytes: columns `value`, `key`, `headers`, or what the first plugin makes of them.
fn whole(work: &mut Work<'_>, chain: &mut Chain, steps: &[Step], text: bool) {
    if let Some(What::Plugin(_)) = steps.first().map(|step| &step.what) {
        return;
    }
    if !matches!(work.files, FileFormat::Json | FileFormat::Bytes) {
        work.note(VALUE, "rows hold the whole value in column value, with key and headers beside it; a plugin such as json-flatten, csv-parse or xml-flatten makes columns of it");
    }
    chain.whole = true;
    let kind = if text { "string" } else { "bytes" };
    chain.columns = Some(vec![Column {
        name: "value".to_owned(),
        kind: kind.to_owned(),
    }]);
    let hoisted = steps
        .iter()
        .any(|step| matches!(step.what, What::Smt(smt) if smt.name == "Cast"));
    if text && !hoisted && work.files != FileFormat::Bytes {
        let keys = Keys::from([("types.value".to_owned(), "string".to_owned())]);
        emit(work, chain, &free(steps, "text"), "cast", keys, "");
        work.note(
            VALUE,
            "values that are not UTF-8 are refused (bad_string), where Java puts a question mark",
        );
    }
}

/// JSON: a first `ExtractField` moves the place where the record begins, then json-flatten makes the columns. Returns
/// the steps after them.
fn json<'s>(
    work: &mut Work<'_>,
    chain: &mut Chain,
    steps: &'s [Step],
    envelope: bool,
    sample: Option<&[Vec<u8>]>,
) -> &'s [Step] {
    let mut root = String::new();
    let mut extracted = None;
    let mut rest = steps;
    let explicit = steps
        .iter()
        .any(|step| matches!(step.what, What::Plugin(_)));
    while let Some((first, after)) = rest.split_first() {
        let What::Smt(smt) = &first.what else { break };
        match (smt.name, smt.side) {
            ("ExtractField", Side::Value) => {
                root.push_str(&extract(work, &first.alias));
                extracted = Some(first.alias.clone());
            }
            _ if apply::inert(*smt) => apply::apply(work, chain, &first.alias, *smt),
            _ if explicit => {
                used(work, &first.alias);
                let key = format!("transforms.{}.type", first.alias);
                work.refuse(
                    &key,
                    "it works on columns, and stands before the plugin that makes them",
                    "list it behind that plugin",
                );
            }
            _ => break,
        }
        rest = after;
    }
    if let Some((first, after)) = rest.split_first()
        && let What::Plugin(plugin) = &first.what
    {
        let at = (envelope, root.as_str(), extracted);
        listed(work, chain, (&first.alias, plugin), at);
        return after;
    }
    if !envelope && sample.is_none() && root.is_empty() && rest.is_empty() && lines(work, chain) {
        return rest;
    }
    if !by_schema(work, chain, (steps, rest), (envelope, &root), sample) {
        if envelope {
            converters::flattened_envelope(work);
        }
        learned(work, chain, steps, (envelope, &root), sample);
    }
    rest
}

/// Where files have a line for each value, JSON needs no columns.
fn lines(work: &mut Work<'_>, chain: &mut Chain) -> bool {
    if !matches!(work.files, FileFormat::Json | FileFormat::Bytes) {
        return false;
    }
    chain.whole = true;
    chain.json = true;
    chain.columns = Some(vec![Column {
        name: "value".to_owned(),
        kind: "bytes".to_owned(),
    }]);
    work.note(
        VALUE,
        "each message is a line, as it is in the topic; one that is no JSON is refused (not_json)",
    );
    true
}

/// A plugin that is listed reads the messages. `extracted`: the transform that moved the place where the record begins.
fn listed(
    work: &mut Work<'_>,
    chain: &mut Chain,
    (own, plugin): (&str, &str),
    (envelope, root, extracted): (bool, &str, Option<String>),
) {
    if envelope {
        converters::flattened_envelope(work);
    }
    let mut keys = own_keys(work, own);
    if plugin.split('@').next() == Some(columns::PLUGIN) {
        if (envelope || !root.is_empty()) && keys.contains_key("wildcard") {
            no_wildcard(work, own);
        }
        columns::begin(&mut keys, envelope, root);
        chain.columns = Some(columns::named(&keys));
        chain.flatten = Some(own.to_owned());
    } else if let Some(alias) = extracted {
        let key = format!("transforms.{alias}.type");
        work.refuse(
            &key,
            format!("the plugin behind it, {plugin}, reads whole messages"),
            "put json-flatten behind it",
        );
    } else if envelope {
        work.note(
            VALUE,
            format!(
                "the plugin {plugin} reads whole messages, with the envelope around the payload"
            ),
        );
    }
    emit(work, chain, own, plugin, keys, own);
}

/// The schema in the messages, or the first of them, say what the columns are. False: neither does.
fn by_schema(
    work: &mut Work<'_>,
    chain: &mut Chain,
    (steps, rest): (&[Step], &[Step]),
    (envelope, root): (bool, &str),
    sample: Option<&[Vec<u8>]>,
) -> bool {
    let flattens = steps.iter().any(|step| matches!(step.what, What::Smt(smt) if smt.name == "Flatten" && smt.side == Side::Value));
    let says_more = |sample: &[Vec<u8>]| !columns::misread(sample, root).is_empty();
    let whole = root.is_empty();
    if envelope && whole && !flattens && sample.is_none_or(says_more) {
        converters::by_schema(work, "json-envelope");
        chain.by_schema = true;
        return true;
    }
    let first = !envelope && whole && sample.is_none() && rest.is_empty();
    if first {
        work.put("value.format", "json", VALUE);
        work.put("schema.inference", "true", VALUE);
        work.note(VALUE, "the columns are those of the first records, and stay; weir config convert FILE --sample MESSAGES writes them into the config");
    }
    first
}

fn no_wildcard(work: &mut Work<'_>, alias: &str) {
    let key = format!("transforms.{alias}.wildcard");
    work.refuse(
        &key,
        "it would take what stands around the record too, the schema for instance",
        "name the columns",
    );
}

/// The field that `ExtractField` takes, as a pointer.
fn extract(work: &mut Work<'_>, alias: &str) -> String {
    let key = |name: &str| format!("transforms.{alias}.{name}");
    let syntax = work.get(&key("field.syntax.version"));
    work.used(&key("replace.null.with.default"));
    let Some(field) = work.get(&key("field")) else {
        let message = format!("`{}` is missing", key("field"));
        work.problem(&key("field"), problem::MISSING, message);
        return String::new();
    };
    let dotted = syntax.is_some_and(|v| v.eq_ignore_ascii_case("V2")) && !field.contains('`');
    let parts: Vec<&str> = if dotted {
        field.split('.').collect()
    } else {
        vec![&field]
    };
    work.note(
        &key("type"),
        format!(
            "the columns are read from below `{field}`; a message without it is refused (no_record)"
        ),
    );
    parts.into_iter().map(columns::part).collect()
}

fn learned(
    work: &mut Work<'_>,
    chain: &mut Chain,
    steps: &[Step],
    (envelope, root): (bool, &str),
    sample: Option<&[Vec<u8>]>,
) {
    let flatten = steps.iter().find(|step| matches!(step.what, What::Smt(smt) if smt.name == "Flatten" && smt.side == Side::Value));
    let delimiter = flatten.map(|step| {
        work.get(&format!("transforms.{}.delimiter", step.alias))
            .unwrap_or_else(|| ".".to_owned())
    });
    let Some(sample) = sample else {
        work.columns_failed = true;
        work.refuse(
            VALUE,
            "JSON has no columns of its own, and nothing here names them",
            "weir config convert FILE --sample MESSAGES learns them from messages, one a line; or list a transform of type json-flatten",
        );
        return;
    };
    let misread = if envelope {
        columns::misread(sample, root)
    } else {
        Vec::new()
    };
    if !misread.is_empty() {
        work.columns_failed = true;
        let reason = format!(
            "the sample's schema has what its JSON does not say: {}",
            misread.join(", ")
        );
        work.refuse(
            VALUE,
            reason,
            "list a json-flatten with the columns that you want: type long keeps the number of a time, type json the text; decimal.format=NUMERIC of the producer writes decimals as numbers",
        );
        return;
    }
    match columns::learn(sample, (envelope, root), delimiter.as_deref()) {
        Ok(mut keys) => {
            keys.remove("type");
            work.note(VALUE, format!("columns and types are those of {} sample messages; nested objects become columns of their own, arrays JSON texts", sample.len()));
            if keys.contains_key("explode") {
                work.note(
                    VALUE,
                    "each element of the one array of a message becomes a row",
                );
            }
            columns::begin(&mut keys, envelope, root);
            chain.columns = Some(columns::named(&keys));
            let alias = free(steps, "flatten");
            chain.flatten = Some(alias.clone());
            emit(work, chain, &alias, columns::PLUGIN, keys, "");
        }
        Err(why) => {
            work.columns_failed = true;
            let reason = format!("the sample tells no columns: {why}");
            work.refuse(
                VALUE,
                reason,
                "one JSON message a line, as they are in the topic",
            );
        }
    }
}
