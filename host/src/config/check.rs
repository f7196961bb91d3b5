//! Raw → checked: checks every key against the table of keys, then keys against each other. Reports all problems, not
//! only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::checked::*;
use super::connector::{Catalog, SinkType, SourceType};
use super::keys::{
    Default, FAMILIAR, KAFKA_PREFIX, KeyDef, Scope, TRANSFORM_PREFIX, TRANSFORMS_MAX,
};
use super::location::{self, Location};
use super::pattern::TopicPattern;
use super::problem::{self, Problem};
use super::raw::{Entry, Raw};
use super::shape::{Shape, Value};
use super::values::{plugin_ref, too_many_transforms};
use crate::backoff::Backoff;
use crate::nearest::nearest;

pub(super) const DLQ_TOPIC: &str = "errors.deadletterqueue.topic.name";

/// `None`: at least one of the problems is an error.
pub fn check(raw: Raw, catalog: &'static Catalog) -> (Option<PipelineConfig>, Vec<Problem>) {
    let mut checker = Checker {
        source: catalog.source_of(&raw),
        sink: catalog.sink_of(&raw),
        catalog,
        values: BTreeMap::new(),
        problems: Vec::new(),
        raw: &raw,
    };
    checker.each_key();
    checker.missing();
    let transforms = checker.transforms();
    super::cross_checks::check(&mut checker);
    let failed = checker.problems.iter().any(Problem::is_error);
    let config = if failed {
        None
    } else {
        checker.build(transforms)
    };
    let mut problems = checker.problems;
    problems.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
    (config, problems)
}

/// The keys of one pipeline while they are checked. Connectors check their own keys with it.
#[derive(Debug)]
pub struct Checker<'a> {
    pub raw: &'a Raw,
    /// The source that `source.type` names; `None`: none that is known.
    pub source: Option<&'static SourceType>,
    /// What `sink.type` says, likewise.
    pub sink: Option<&'static SinkType>,
    pub(super) catalog: &'static Catalog,
    values: BTreeMap<&'static str, Value>,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    pub fn problem(
        &mut self,
        key: &str,
        code: &'static str,
        message: impl Into<String>,
    ) -> &mut Problem {
        let problem = Problem::new(self.raw.place(key), key, code, message);
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    pub fn contradiction(&mut self, key: &str, message: String, hint: &str) {
        self.problem(key, problem::CONTRADICTION, message).hint = Some(hint.to_owned());
    }

    pub fn typed(&self, key: &str) -> bool {
        self.raw.get(key).is_some()
    }

    /// `value` of a key for a message: if it contains a reference, as typed, because the resolved value may be a
    /// secret.
    pub fn shown(&self, key: &str, value: &str) -> String {
        let typed = self.raw.get(key).map(|entry| &entry.value);
        match typed.filter(|typed| typed.has_reference()) {
            Some(typed) => typed.to_string(),
            None => value.to_owned(),
        }
    }

    // ------------------------------------------------------------ each key

    fn each_key(&mut self) {
        for (key, entry) in self.raw.iter() {
            if let Err(message) = entry.value.check_form() {
                self.problem(key, problem::BAD_REFERENCE, message);
            } else if let Some(def) = self.catalog.find(key) {
                self.known(def, entry);
            } else if let Some((scope, prefixed)) = self.catalog.prefixed(key) {
                let name = key.strip_prefix(prefixed.prefix).unwrap_or(key);
                match scope.takes(self.source, self.sink) {
                    true => (prefixed.check)(self, key, name, entry),
                    false => self.of_another(key, scope),
                }
            } else if !key.starts_with(TRANSFORM_PREFIX) {
                self.unknown(key);
            }
        }
    }

    fn known(&mut self, def: &'static KeyDef, entry: &Entry) {
        if !def.scope.takes(self.source, self.sink) {
            self.of_another(def.name, def.scope);
            return;
        }
        if let Some(sink) = self.sink.filter(|sink| sink.leaves.contains(&def.name)) {
            let message = format!(
                "`{}` means nothing to sink.type=\"{}\"",
                def.name, sink.name
            );
            self.problem(def.name, problem::DOES_NOT_APPLY, message)
                .hint = Some("take the key out".to_owned());
            return;
        }
        let text = match entry.value.resolve() {
            Ok(text) => text,
            Err(error) => {
                let message = format!("`{}`: {}", def.name, error.message());
                let hint = error.hint_text().map(str::to_owned);
                self.problem(def.name, problem::UNRESOLVED, message).hint = hint;
                return;
            }
        };
        match def.shape.parse(&text) {
            Ok(value) => {
                self.values.insert(def.name, value);
            }
            Err(refusal) => {
                // The message shows the reference, never its value.
                let found = match text.trim() {
                    "" => "nothing".to_owned(),
                    _ if def.shape == Shape::Url => {
                        format!("`{}`", location::shown(entry.value.typed()))
                    }
                    _ => format!("`{}`", entry.value),
                };
                let secret = entry.value.has_reference();
                // These name the part that is wrong.
                let quotes = matches!(def.shape, Shape::Trigger | Shape::Start | Shape::Pattern);
                let expected = match secret && quotes {
                    true => def.shape.describe(),
                    false => refusal.expected,
                };
                let message = format!("`{}`: expected {expected}, found {found}", def.name);
                let hint = refusal.hint.filter(|_| !secret);
                self.problem(def.name, refusal.code, message).hint = hint;
            }
        }
    }

    /// Reports a key that has no meaning for the source or the sink of this config.
    fn of_another(&mut self, key: &str, scope: Scope) {
        let source = self.source.map_or("", |source| source.name);
        let sink = self.sink.map_or("", |sink| sink.name);
        let message = match scope {
            Scope::Source(of) => {
                format!("`{key}` belongs to source.type=\"{of}\"; here it is \"{source}\"")
            }
            Scope::Sources(of) => format!(
                "`{key}` belongs to source.type=\"{}\"; here it is \"{source}\"",
                of.join("\" or \"")
            ),
            Scope::Sink(of) => {
                format!("`{key}` belongs to sink.type=\"{of}\"; here it is \"{sink}\"")
            }
            Scope::Always | Scope::Records => format!(
                "`{key}` belongs to sources of records; source.type=\"{source}\" gives rows"
            ),
        };
        self.problem(key, problem::DOES_NOT_APPLY, message).hint =
            Some("take the key out".to_owned());
    }

    fn unknown(&mut self, key: &str) {
        let familiar = FAMILIAR.iter().find(|(theirs, _, _)| *theirs == key);
        let hint = match familiar {
            Some((_, "", why)) => Some((*why).to_owned()),
            Some((_, ours, _)) => Some(format!("here it is called `{ours}`")),
            None => nearest(key, self.catalog.keys().map(|def| def.name))
                .map(|near| format!("did you mean `{near}`?"))
                .or_else(|| {
                    let kafka = key.strip_prefix("kafka.")?;
                    Some(format!(
                        "librdkafka's properties go under `{KAFKA_PREFIX}{kafka}`"
                    ))
                }),
        };
        self.problem(
            key,
            problem::UNKNOWN_KEY,
            format!("there is no key `{key}`"),
        )
        .hint = hint;
    }

    fn missing(&mut self) {
        for def in self.catalog.keys() {
            let Default::Required(choices) = def.default else {
                continue;
            };
            let wanted = match def.scope {
                Scope::Always => true,
                Scope::Records | Scope::Source(_) | Scope::Sources(_) => {
                    self.source.is_some() && def.scope.takes(self.source, self.sink)
                }
                Scope::Sink(_) => self.sink.is_some() && def.scope.takes(self.source, self.sink),
            };
            if wanted && !self.typed(def.name) && !self.says_otherwise(def.name) {
                let hint = match def.shape {
                    Shape::Choice(_) => format!("{choices}: {}", def.shape.describe()),
                    _ => choices.to_owned(),
                };
                let message = format!("`{}` is missing and has no default", def.name);
                self.problem(def.name, problem::MISSING, message).hint = Some(hint);
            }
        }
    }

    /// A pattern stands in the place of the topics' names.
    fn says_otherwise(&self, key: &str) -> bool {
        self.source.is_some_and(|source| {
            source.topics == Some(key) && source.pattern.is_some_and(|pattern| self.typed(pattern))
        })
    }

    // ---------------------------------------------------------- transforms

    fn transforms(&mut self) -> Vec<TransformConfig> {
        let mut listed = self.list("transforms").unwrap_or_default();
        if listed.len() > TRANSFORMS_MAX {
            let message = too_many_transforms(listed.len());
            self.problem("transforms", problem::OUT_OF_RANGE, message);
            listed.truncate(TRANSFORMS_MAX);
        }
        let list_is_good = self.values.contains_key("transforms") || !self.typed("transforms");
        let mut out = Vec::new();
        for name in &listed {
            if name.contains('.') {
                let message = format!(
                    "`{name}`: a transform's name has no dot, its keys would not tell where it ends"
                );
                self.problem("transforms", problem::BAD_NAME, message);
                continue;
            }
            out.extend(self.transform(name));
        }
        let raw = self.raw;
        let mut told: BTreeSet<&str> = BTreeSet::new();
        for (key, _) in raw.iter().filter(|_| list_is_good) {
            let Some(rest) = key.strip_prefix(TRANSFORM_PREFIX) else {
                continue;
            };
            let name = rest.split('.').next().unwrap_or(rest);
            let dotted = format!("{name}.");
            let known = |listed: &String| listed == name || listed.starts_with(&dotted);
            if listed.iter().any(known) || told.contains(name) {
                continue;
            }
            told.insert(name);
            let hint = match nearest(name, listed.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `transforms.{near}`?"),
                None => format!(
                    "add `{name}` to transforms, or write its table as [[transforms]] with name = \"{name}\""
                ),
            };
            let message = format!("`{key}` sets a transform that `transforms` does not list");
            self.problem(key, problem::UNLISTED_TRANSFORM, message).hint = Some(hint);
        }
        out
    }

    fn transform(&mut self, name: &str) -> Option<TransformConfig> {
        let prefix = format!("{TRANSFORM_PREFIX}{name}.");
        let type_key = format!("{prefix}type");
        let mut config = BTreeMap::new();
        let (mut plugin, mut version) = (None, None);
        let raw = self.raw;
        for (key, entry) in raw.iter() {
            match key.strip_prefix(&prefix) {
                None => {}
                Some("type") => plugin = Some(entry),
                Some("plugin.version") => version = Some(entry),
                Some(key) => {
                    config.insert(key.to_owned(), entry.value.clone());
                }
            }
        }
        let Some(entry) = plugin else {
            let (code, message) = match config.is_empty() {
                true => (
                    problem::UNLISTED_TRANSFORM,
                    format!("`transforms` lists `{name}`, which has no keys"),
                ),
                false => (
                    problem::MISSING,
                    format!("`{type_key}` is missing: which plugin is it?"),
                ),
            };
            let key = match config.is_empty() {
                true => "transforms",
                false => &type_key,
            };
            self.problem(key, code, message).hint =
                Some(format!("write {type_key} = \"plugin@version\""));
            return None;
        };
        let mut typed = entry.value.resolve().unwrap_or_default();
        // Connect's way to choose a version.
        if let Some(version) = version.and_then(|entry| entry.value.resolve().ok())
            && !typed.contains('@')
        {
            typed = format!("{}@{}", typed.trim(), version.trim());
        }
        match plugin_ref(&typed) {
            Ok(plugin) => Some(TransformConfig {
                name: name.to_owned(),
                plugin,
                config,
            }),
            Err(refusal) => {
                let message = format!(
                    "`{type_key}`: expected {}, found `{}`",
                    refusal.expected, entry.value
                );
                self.problem(&type_key, refusal.code, message).hint = refusal.hint;
                None
            }
        }
    }

    // -------------------------------------------------------------- values

    /// The value as typed, or the default; `None`: it was refused, or there is neither.
    pub fn value(&self, key: &str) -> Option<Value> {
        if let Some(value) = self.values.get(key) {
            return Some(value.clone());
        }
        let def = self.catalog.find(key)?;
        match def.default {
            Default::Is(default) if !self.typed(key) => def.shape.parse(default).ok(),
            _ => None,
        }
    }

    pub fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.value(key)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Number(n) => Some(n),
            _ => None,
        }
    }

    pub fn size(&self, key: &str) -> Option<usize> {
        usize::try_from(self.number(key)?).ok()
    }

    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(time) => Some(time),
            _ => None,
        }
    }

    pub fn trigger(&self) -> Option<Trigger> {
        match self.value("trigger") {
            Some(Value::Trigger(trigger)) => Some(trigger),
            None if self.typed("trigger") => None,
            _ => Some(
                self.source
                    .map_or(Trigger::Continuous, |source| source.trigger.clone()),
            ),
        }
    }

    fn is_required(&self, key: &str) -> bool {
        let def = self.catalog.find(key);
        def.is_some_and(|def| matches!(def.default, Default::Required(_)))
    }

    /// The pattern of the topics that are read, where they are named by one.
    pub fn pattern(&self) -> Option<TopicPattern> {
        TopicPattern::parse(&self.text(self.source?.pattern?)?).ok()
    }

    /// Whether a topic of this name is read, if it is there.
    pub fn reads(&self, topic: &str) -> bool {
        let named = self.topics().unwrap_or_default();
        named.iter().any(|name| name == topic)
            || self.pattern().is_some_and(|pattern| pattern.takes(topic))
    }

    /// The names of what is read, as far as the config says them.
    pub fn topics(&self) -> Option<Vec<String>> {
        let key = self.source?.topics?;
        if !self.typed(key) && self.pattern().is_some() {
            return Some(Vec::new());
        }
        match self.value(key) {
            Some(Value::List(topics)) => Some(topics),
            Some(Value::Text(topic)) => Some(vec![topic]),
            // One that is not named is called as the source.
            None if !self.typed(key) && !self.is_required(key) => {
                Some(vec![self.source?.name.to_owned()])
            }
            _ => None,
        }
    }

    /// Whether a flag is set, or a choice has this value.
    pub fn is(&self, key: &str, value: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Flag(flag) => Some(flag == (value == "true")),
            Value::Text(text) => Some(text == value),
            _ => None,
        }
    }

    /// `sink.table`, or its default.
    pub fn table(&self) -> Option<TableName> {
        match self.value("sink.table") {
            Some(Value::Table(table)) => Some(table),
            None if self.typed("sink.table") => None,
            _ => match self.source {
                Some(source) => (source.table)(self),
                None => Some(TableName::PerTopic),
            },
        }
    }

    /// Rows go to tables of the zone that are named after the topics.
    pub fn has_table_per_topic(&self) -> bool {
        let means = self
            .sink
            .is_some_and(|sink| !sink.leaves.contains(&"sink.table"));
        means && self.table() == Some(TableName::PerTopic)
    }

    /// The store that `sink.url` or `source.url` names, with its other keys. `None`: the URL was refused.
    pub fn location(&self, url: &str) -> Option<Location> {
        super::store_keys::location(self, url)
    }

    /// The zone's name: as typed, or the URL's last segment.
    pub fn zone(&self, key: &str, url: &str) -> Option<String> {
        match self.typed(key) {
            true => self.text(key),
            false => last_segment(&self.text(url)?).map(str::to_owned),
        }
    }

    // --------------------------------------------------------------- build

    /// `None` only if a problem was reported.
    fn inference(&self) -> Option<Inference> {
        if !self.is("schema.inference", "true").unwrap_or(false) {
            return None;
        }
        Some(Inference {
            records: self.size("schema.sample.records")?,
            bytes: self.size("schema.sample.bytes")?,
            wait: self.duration("schema.sample.wait")?,
            rest: self.text("schema.rest"),
        })
    }

    fn build(&self, transforms: Vec<TransformConfig>) -> Option<PipelineConfig> {
        let plugin_path = PathBuf::from(self.text("plugin.path")?);
        let plugin_cache = match self.text("plugin.cache") {
            Some(cache) => PathBuf::from(cache),
            None => plugin_path.join(".cache"),
        };
        let plugin_store = match self.text("plugin.store") {
            Some(store) => PathBuf::from(store),
            None => plugin_path.join("store"),
        };
        let (home, sink) = (self.catalog.sink(&self.text("sink.type")?)?.build)(self)?;
        Some(PipelineConfig {
            name: self.text("name")?,
            origin: None,
            plugin_path,
            plugin_cache,
            plugin_store,
            plugin_retention: self.duration("plugin.retention")?,
            watch: self.value("watch")? == Value::Flag(true),
            tasks_max: self.size("tasks.max")?,
            trigger: self.trigger()?,
            source: (self.source?.build)(self, &home)?,
            transforms,
            inference: self.inference(),
            converters: super::converters::build(self)?,
            home,
            sink,
            errors: ErrorsConfig {
                tolerance: match self.text("errors.tolerance")?.as_str() {
                    "all" => Tolerance::All,
                    _ => Tolerance::None,
                },
                unit: match self.text("errors.unit")?.as_str() {
                    "record" => Unit::Record,
                    _ => Unit::Row,
                },
                dlq_table: self.text("errors.dlq.table")?,
                dlq_topic: self.text(DLQ_TOPIC),
                dlq_context: self.is("errors.deadletterqueue.context.headers.enable", "true")?,
                max: self.errors_max(),
            },
            limits: self.limits()?,
            retry: Backoff::new(
                self.duration("retry.backoff")?,
                self.duration("retry.max.backoff")?,
            ),
            log_retention: self.duration("commit.log.retention")?,
            retention: Retention {
                rows: self.duration("sink.retention"),
                dead_letters: self.duration("errors.dlq.retention"),
                grace: self.duration("retention.grace")?,
                archive: self.location(super::store_keys::ARCHIVE_URL),
            },
            log: LogConfig {
                format: match self.text("log.format")?.as_str() {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                level: self.text("log.level")?,
            },
            progress: ProgressConfig {
                recent: self.size("progress.recent")?,
            },
            raw: self.raw.clone(),
        })
    }

    /// `None`: neither limit is set.
    fn errors_max(&self) -> Option<ErrorsMax> {
        let rate = match self.value("errors.max.rate") {
            Some(Value::Share(rate)) => Some(rate),
            _ => None,
        };
        let count = self.number("errors.max.count");
        rate.map(|_| ()).or(count.map(|_| ()))?;
        Some(ErrorsMax {
            rate,
            count,
            window: self.duration("errors.max.window")?,
            min_records: self.number("errors.max.min.records")?,
            probation: self.duration("errors.max.probation")?,
            action: match self.text("errors.max.action")?.as_str() {
                "pause" => OnTooMany::Pause,
                "rollback" => OnTooMany::Rollback,
                _ => OnTooMany::Warn,
            },
        })
    }

    fn limits(&self) -> Option<Limits> {
        Some(Limits {
            batch_rows: self.size("batch.max.rows")?,
            batch_bytes: self.size("batch.max.bytes")?,
            memory_budget: self.size("memory.budget")?,
            shutdown_timeout: self.duration("shutdown.timeout")?,
            plugin: PluginLimits {
                memory: self.size("plugin.memory")?,
                deadline: self.duration("plugin.deadline")?,
                init_deadline: self.duration("plugin.init.deadline")?,
                output_bytes: self.size("plugin.output")?,
            },
        })
    }
}

pub(super) fn last_segment(url: &str) -> Option<&str> {
    let rest = url.split_once(':').map_or(url, |(_, rest)| rest);
    rest.rsplit('/')
        .next()
        .filter(|segment| !segment.is_empty())
}
