//! Raw → checked: every key against the table of keys, then against each other. All problems, not the first.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::checked::*;
use super::keys::{self, Default, FAMILIAR, KAFKA_PREFIX, KEYS, KeyDef, Scope, TRANSFORM_PREFIX};
use super::librdkafka::{self, Property, Side, property};
use super::nearest::nearest;
use super::problem::{self, Problem};
use super::raw::{Entry, Raw};
use super::shape::Value;
use super::values::plugin_ref;
use crate::backoff::Backoff;

/// `None` where one of the problems is an error.
pub fn check(raw: Raw) -> (Option<PipelineConfig>, Vec<Problem>) {
    let mut checker = Checker {
        scope: scope(&raw),
        values: BTreeMap::new(),
        problems: Vec::new(),
        raw: &raw,
    };
    checker.each_key();
    checker.missing();
    let transforms = checker.transforms();
    super::together::check(&mut checker);
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

pub(super) struct Checker<'a> {
    pub(super) raw: &'a Raw,
    /// What `source.type` says; `None` where it says nothing that is known.
    pub(super) scope: Option<Scope>,
    values: BTreeMap<&'static str, Value>,
    problems: Vec<Problem>,
}

pub(super) fn scope(raw: &Raw) -> Option<Scope> {
    let typed = raw.get("source.type")?.value.resolve().ok()?;
    match typed.trim() {
        "kafka" => Some(Scope::Kafka),
        "zone" => Some(Scope::Zone),
        _ => None,
    }
}

impl Checker<'_> {
    pub(super) fn problem(
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

    pub(super) fn typed(&self, key: &str) -> bool {
        self.raw.get(key).is_some()
    }

    /// `value` of a key for a message: as typed where a reference was, which may be a secret's.
    pub(super) fn shown(&self, key: &str, value: &str) -> String {
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
            } else if let Some(def) = keys::find(key) {
                self.known(def, entry);
            } else if let Some(name) = key.strip_prefix(KAFKA_PREFIX) {
                self.kafka_property(key, name, entry);
            } else if !key.starts_with(TRANSFORM_PREFIX) {
                self.unknown(key);
            }
        }
    }

    fn known(&mut self, def: &'static KeyDef, entry: &Entry) {
        if let Some(scope) = self.scope
            && def.scope != Scope::Always
            && def.scope != scope
        {
            let (needs, has) = match def.scope {
                Scope::Kafka => ("kafka", "zone"),
                _ => ("zone", "kafka"),
            };
            let message = format!(
                "`{}` belongs to source.type=\"{needs}\"; here it is \"{has}\"",
                def.name
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
                // The reference is shown, never what it stands for.
                let found = match text.trim() {
                    "" => "nothing".to_owned(),
                    _ => format!("`{}`", entry.value),
                };
                let message = format!(
                    "`{}`: expected {}, found {found}",
                    def.name, refusal.expected
                );
                let secret = entry.value.has_reference();
                let hint = refusal.hint.filter(|_| !secret);
                self.problem(def.name, refusal.code, message).hint = hint;
            }
        }
    }

    fn kafka_property(&mut self, key: &str, name: &str, entry: &Entry) {
        if self.scope == Some(Scope::Zone) {
            let message = format!("`{key}` belongs to source.type=\"kafka\"; here it is \"zone\"");
            self.problem(key, problem::DOES_NOT_APPLY, message).hint =
                Some("take the key out".to_owned());
            return;
        }
        match property(name) {
            Property::Allowed(allowed) if allowed.side == Side::Producer => {
                let message = format!("`{name}` is a property of producers; this is a consumer");
                self.problem(key, problem::DOES_NOT_APPLY, message).hint =
                    Some("take the key out".to_owned());
            }
            Property::Allowed(allowed) => {
                // What a reference stands for is looked at when a client is made of it.
                let typed = Some(entry.value.typed()).filter(|_| !entry.value.has_reference());
                if let Some(Err(expected)) = typed.map(|typed| allowed.takes.check(typed)) {
                    let message = format!("`{key}`: expected {expected}");
                    self.problem(key, problem::WRONG_TYPE, message).hint =
                        Some(librdkafka::LIST.to_owned());
                }
            }
            Property::Owned(why) => {
                let message = format!("`{name}` is decided by the host, not by the config");
                self.problem(key, problem::OWNED_PROPERTY, message).hint = Some(why.to_owned());
            }
            Property::Never(why) => {
                let message = format!("`{name}` cannot be set: {why}");
                self.problem(key, problem::REFUSED_PROPERTY, message).hint =
                    Some(librdkafka::LIST.to_owned());
            }
            Property::Unknown { hint } => {
                let message = format!("`{name}` is not among the Kafka properties that can be set");
                self.problem(key, problem::UNKNOWN_KEY, message).hint =
                    hint.or(Some(librdkafka::LIST.to_owned()));
            }
        }
    }

    fn unknown(&mut self, key: &str) {
        let familiar = FAMILIAR.iter().find(|(theirs, _, _)| *theirs == key);
        let hint = match familiar {
            Some((_, "", why)) => Some((*why).to_owned()),
            Some((_, ours, _)) => Some(format!("here it is called `{ours}`")),
            None => nearest(key, KEYS.iter().map(|def| def.name))
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
        for def in KEYS {
            let Default::Required(choices) = def.default else {
                continue;
            };
            let wanted = def.scope == Scope::Always || self.scope == Some(def.scope);
            if wanted && !self.typed(def.name) {
                let message = format!("`{}` is missing and has no default", def.name);
                self.problem(def.name, problem::MISSING, message).hint = Some(choices.to_owned());
            }
        }
    }

    // ---------------------------------------------------------- transforms

    fn transforms(&mut self) -> Vec<TransformConfig> {
        let listed = self.list("transforms").unwrap_or_default();
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
        let mut told: Vec<&str> = Vec::new();
        for (key, _) in raw.iter().filter(|_| list_is_good) {
            let Some(rest) = key.strip_prefix(TRANSFORM_PREFIX) else {
                continue;
            };
            let name = rest.split('.').next().unwrap_or(rest);
            let dotted = format!("{name}.");
            let known = |listed: &String| listed == name || listed.starts_with(&dotted);
            if listed.iter().any(known) || told.contains(&name) {
                continue;
            }
            told.push(name);
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
        // Connect's way to say which one.
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

    /// The value as typed, or the default; `None` where it was refused or has neither.
    pub(super) fn value(&self, key: &str) -> Option<Value> {
        if let Some(value) = self.values.get(key) {
            return Some(value.clone());
        }
        let def = keys::find(key)?;
        match def.default {
            Default::Is(default) if !self.typed(key) => def.shape.parse(default).ok(),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(&self, key: &str) -> Option<Vec<String>> {
        match self.value(key)? {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Number(n) => Some(n),
            _ => None,
        }
    }

    fn size(&self, key: &str) -> Option<usize> {
        usize::try_from(self.number(key)?).ok()
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(time) => Some(time),
            _ => None,
        }
    }

    pub(super) fn trigger(&self) -> Option<Trigger> {
        match (self.value("trigger"), self.scope) {
            (Some(Value::Trigger(trigger)), _) => Some(trigger),
            (None, _) if self.typed("trigger") => None,
            (_, Some(Scope::Zone)) => Some(Trigger::Every(Duration::from_secs(3600))),
            _ => Some(Trigger::Continuous),
        }
    }

    pub(super) fn start(&self) -> Option<Start> {
        match self.value("source.start")? {
            Value::Start(start) => Some(start),
            _ => None,
        }
    }

    /// `sink.table`, or what it is by default.
    pub(super) fn table(&self) -> Option<TableName> {
        match (self.value("sink.table"), self.scope) {
            (Some(Value::Table(table)), _) => Some(table),
            (None, _) if self.typed("sink.table") => None,
            (_, Some(Scope::Zone)) => self.text("source.table").map(TableName::Fixed),
            _ => Some(TableName::PerTopic),
        }
    }

    /// The zone's name: as typed, or the URL's last segment.
    pub(super) fn zone(&self, key: &str, url: &str) -> Option<String> {
        match self.typed(key) {
            true => self.text(key),
            false => last_segment(&self.text(url)?).map(str::to_owned),
        }
    }

    /// As typed, or by the finest part of the format.
    pub(super) fn partition_name(&self) -> Option<String> {
        if self.typed("sink.partition.name") {
            return self.text("sink.partition.name");
        }
        let format = self.text("sink.partition.format")?;
        let finest = [("%d", "date"), ("%m", "month")];
        let found = finest.iter().find(|(part, _)| format.contains(part));
        Some(found.map_or("year", |(_, name)| name).to_owned())
    }

    // --------------------------------------------------------------- build

    /// `None` only where a problem was told.
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
        Some(PipelineConfig {
            name: self.text("name")?,
            origin: None,
            plugin_path,
            plugin_cache,
            plugin_store,
            watch: self.value("watch")? == Value::Flag(true),
            tasks_max: self.size("tasks.max")?,
            trigger: self.trigger()?,
            source: self.source()?,
            transforms,
            sink: self.sink()?,
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
            },
            limits: self.limits()?,
            retry: Backoff::new(
                self.duration("retry.backoff")?,
                self.duration("retry.max.backoff")?,
            ),
            log: LogConfig {
                format: match self.text("log.format")?.as_str() {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                level: self.text("log.level")?,
            },
            raw: self.raw.clone(),
        })
    }

    fn source(&self) -> Option<Source> {
        if self.scope? == Scope::Zone {
            return Some(Source::Zone(ZoneSourceConfig {
                url: self.text("source.url")?,
                pipeline: self.text("source.pipeline")?,
                zone: self.zone("source.zone", "source.url")?,
                table: self.text("source.table")?,
                on_type_change: match self.text("source.on.type.change")?.as_str() {
                    "cast" => OnTypeChange::Cast,
                    "new-column" => OnTypeChange::NewColumn,
                    _ => OnTypeChange::Fail,
                },
            }));
        }
        let properties = self.raw.iter().filter_map(|(key, entry)| {
            let name = key.strip_prefix(KAFKA_PREFIX)?;
            Some((name.to_owned(), entry.value.clone()))
        });
        Some(Source::Kafka(KafkaSourceConfig {
            topics: self.list("source.topics")?,
            start: self.start()?,
            bootstrap_servers: self.raw.get("source.bootstrap.servers")?.value.clone(),
            group_id: match self.text("source.group.id") {
                Some(group) => group,
                None => self.text("name")?,
            },
            properties: properties.collect(),
            on_data_loss: match self.text("source.on.data.loss")?.as_str() {
                "gap" => OnDataLoss::Gap,
                _ => OnDataLoss::Fail,
            },
            on_topic_recreated: match self.text("source.on.topic.recreated")?.as_str() {
                "continue" => OnTopicRecreated::Continue,
                _ => OnTopicRecreated::Fail,
            },
            metadata_refresh: self.duration("source.metadata.refresh")?,
        }))
    }

    fn sink(&self) -> Option<ZoneSinkConfig> {
        let mode = match self.scope? {
            Scope::Zone => ZoneMode::Processed(ProcessedZoneConfig {
                partition_field: self.text("sink.partition.field")?,
                partition_format: self.text("sink.partition.format")?,
                partition_name: self.partition_name()?,
                dedup_key: self.list("sink.dedup.key").unwrap_or_default(),
                dedup_lookback_days: u32::try_from(self.number("sink.dedup.lookback")?).ok()?,
                sort: self.list("sink.sort").unwrap_or_default(),
            }),
            _ => ZoneMode::Raw(RawZoneConfig {
                rotate: Rotate {
                    bytes: self.number("sink.rotate.bytes")?,
                    age: self.duration("sink.rotate.age")?,
                    rows: self.number("sink.rotate.rows").filter(|rows| *rows > 0),
                },
                keep_value: self.value("sink.keep.value")? == Value::Flag(true),
            }),
        };
        Some(ZoneSinkConfig {
            url: self.text("sink.url")?,
            zone: self.zone("sink.zone", "sink.url")?,
            table: self.table()?,
            compression: match self.value("sink.compression")? {
                Value::Compression(compression) => compression,
                _ => return None,
            },
            row_group_bytes: self.size("sink.row.group.bytes")?,
            mode,
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
