//! `schema.inference = true`: the transform of a pipeline is found by looking at its first records, once, and kept beside its log.
//!
//! ```text
//! log begun without rules, starts pinned → the first records from there → inferred.json → swap → records are read from the same place
//! ```
//! `inferred.json` is created once (put-if-absent), before an entry names the rule: whoever starts later, or at the same time, has the same
//! transform, and nothing is looked at again. It is a part of the config from then on: starts, swaps and taps complete the config by it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::converters;
use super::in_force::{Built, Parts, put_in_force};
use crate::commit::{Log, LogName, State};
use crate::config::{
    self, Inference, Pin, PipelineConfig, PluginRef, SourceConfig, Text, TransformConfig, Trigger,
};
use crate::error::{Error, Kind, Result};
use crate::infer::{self, Format, Hints, Map};
use crate::pipeline::start;
use crate::pipeline::{Host, Rest, retry, stopped};
use crate::record::{Batch, fold};
use crate::source::{Change, Connector, PartitionInfo, Position, ReadLimits, Source};
use crate::store::{self, Created, Store};

/// Name of the transform in the pipeline, in its log and in dead letters.
pub const NAME: &str = "inferred";
/// The form of `inferred.json`. Another one is refused by name.
const FORM: u32 = 1;
/// Longest single wait for a record: a stop is noticed after it.
const POLL_WAIT: Duration = Duration::from_millis(50);
/// If no record comes for so long, a message says so.
const SAID_AFTER: Duration = Duration::from_secs(1);
const OP: &str = "rules.infer";
/// Plugins with the key `wildcard`.
const HAVE_REST: [&str; 2] = ["json-flatten", "xml-flatten"];

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inferred {
    form: u32,
    plugin: String,
    /// The keys of the transform, flat.
    keys: BTreeMap<String, String>,
    /// How many records were looked at, and how many of these cannot be read.
    records: usize,
    unread: usize,
    /// When, in UTC; for people.
    at: String,
    /// The transform as TOML, with what speaks for each key.
    evidence: String,
}

fn path(config: &PipelineConfig) -> String {
    let name = LogName::new(&config.name, &config.home.zone);
    format!("{}/inferred.json", name.dir())
}

/// The config with the transform that was inferred or the schema that was found, if one was; as it is, if none is to be.
pub fn completed(config: &PipelineConfig) -> Result<Cow<'_, PipelineConfig>> {
    if is_known(config) {
        return Ok(Cow::Borrowed(config));
    }
    let Some(store) = store::open_existing(&config.home.at)? else {
        return Ok(Cow::Borrowed(config));
    };
    if config.converters.waits_for_schema() {
        let completed = converters::completed(store.as_ref(), config)?;
        return Ok(completed.map_or(Cow::Borrowed(config), Cow::Owned));
    }
    let kept = kept(store.as_ref(), &path(config))?;
    Ok(match kept {
        Some(kept) => Cow::Owned(with(config, &kept)?),
        None => Cow::Borrowed(config),
    })
}

fn kept(store: &dyn Store, path: &str) -> Result<Option<Inferred>> {
    let Some(bytes) = store.get(path)? else {
        return Ok(None);
    };
    let damaged = |why: String| {
        Error::new(Kind::LogCorrupt, OP, "the inferred transform cannot be read")
            .with("path", path)
            .with("why", why)
            .hint("restore the file from a copy; or write the transform into the config, and take schema.inference out")
    };
    let kept: Inferred =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match kept.form {
        FORM => Ok(Some(kept)),
        other => Err(damaged(format!(
            "its form is {other}, and this version reads {FORM}"
        ))),
    }
}

fn with(config: &PipelineConfig, kept: &Inferred) -> Result<PipelineConfig> {
    let text = |(key, value): (&String, &String)| (key.clone(), config.raw.text(value));
    let mut keys: BTreeMap<String, Text> = kept.keys.iter().map(text).collect();
    if let Some(rest) = config.inference.as_ref().and_then(|i| i.rest.as_ref()) {
        if !HAVE_REST.contains(&kept.plugin.as_str()) {
            let message = format!("`schema.rest`: {} has no column for the rest", kept.plugin);
            return Err(Error::new(Kind::ConfigInvalid, OP, message)
                .hint("take it out: a line of CSV with more fields is refused (`extra_fields`)"));
        }
        if has_column(kept, rest) {
            let message = "`schema.rest`: a column of this name was found in the records";
            return Err(Error::new(Kind::ConfigInvalid, OP, message).hint("give it another name"));
        }
        keys.insert("wildcard".to_owned(), config.raw.text(rest));
    }
    let transform = TransformConfig {
        name: NAME.to_owned(),
        plugin: PluginRef {
            name: kept.plugin.clone(),
            pin: Pin::Any,
        },
        config: keys,
    };
    Ok(PipelineConfig {
        transforms: vec![transform],
        ..config.clone()
    })
}

/// Whether a column that is listed with its name has this one, as SQL engines compare names. Others the plugin compares.
fn has_column(kept: &Inferred, wanted: &str) -> bool {
    let listed = kept.keys.get("columns").into_iter();
    let listed = listed.flat_map(|list| list.split(','));
    let listed = listed.map(|item| item.split_once('=').map_or(item, |(name, _)| name));
    let own = kept.keys.keys();
    let mut names = listed.chain(own.filter_map(|key| key.strip_prefix("columns.")));
    names.any(|name| fold(name) == fold(wanted))
}

/// The rules do not depend on what the first records are.
pub fn is_known(config: &PipelineConfig) -> bool {
    let infers = config.inference.is_some() && config.transforms.is_empty();
    !infers && !config.converters.waits_for_schema()
}

/// Looks at the first records from where the log stands, and puts what follows from them in force. `None`: there are none yet, and the
/// run takes only what is there.
pub fn at_first(
    host: &Host,
    config: &PipelineConfig,
    source: &dyn SourceConfig,
    log: &mut Log,
) -> Result<Option<(PipelineConfig, Built)>> {
    if let Some(finder) = converters::Finder::new(config)? {
        return first_schema(host, config, source, log, finder);
    }
    let Some(limits) = config.inference.clone() else {
        return Ok(None);
    };
    let records = sampled(
        host,
        config,
        source,
        log.state(),
        (limits, &mut |_| Ok(false)),
    )?;
    if records.is_empty() {
        return Ok(None);
    }
    let inferred = inferred(host, config, source, &records)?;
    let (store, path) = (log.store().clone(), path(config));
    let bytes = serde_json::to_vec_pretty(&inferred)
        .map_err(|error| Error::new(Kind::Bug, OP, error.to_string()))?;
    // Another process may have been first, and has seen other records.
    let kept = retry(host, || match store.create(&path, &bytes)? {
        Created::Done => Ok(inferred.clone()),
        Created::Exists => kept(store.as_ref(), &path)?.ok_or_else(|| gone(&path)),
    })?;
    let config = with(config, &kept)?;
    let reason = format!("inferred from {} records", kept.records);
    tracing::info!(
        pipeline = config.name,
        records = kept.records,
        unread = kept.unread,
        path,
        "transform inferred:\n{}",
        kept.evidence.trim_end()
    );
    in_force(host, config, log, &reason)
}

/// The schema of the first record that shows one, in force.
fn first_schema(
    host: &Host,
    config: &PipelineConfig,
    source: &dyn SourceConfig,
    log: &mut Log,
    mut finder: converters::Finder,
) -> Result<Option<(PipelineConfig, Built)>> {
    let (mut looked, mut schema) = (0, None);
    let mut shows = |values: &[Vec<u8>]| {
        let new = values.get(looked..).unwrap_or_default();
        looked = values.len();
        schema = retry(host, || finder.first_of(new))?;
        Ok(schema.is_some())
    };
    let limits = converters::LOOKED_AT;
    let records = sampled(host, config, source, log.state(), (limits, &mut shows))?;
    if records.is_empty() {
        return Ok(None);
    }
    let schema = schema.ok_or_else(|| {
        let message = format!("none of the first {} records shows a schema", records.len());
        Error::new(Kind::RecordRefused, OP, message)
            .hint("look at value.format; or name the schema: value.schema.file")
    })?;
    let store = log.store().clone();
    let now = host.clock.now_micros();
    let keep = || converters::keep_first(store.as_ref(), config, &schema, now);
    let kept = retry(host, keep)?;
    let config = converters::with(config, &kept.schema);
    tracing::info!(
        pipeline = config.name,
        schema = kept.schema,
        "schema in force"
    );
    in_force(host, config, log, "the schema of the first record")
}

/// Puts in force what a completed config declares.
fn in_force(
    host: &Host,
    config: PipelineConfig,
    log: &mut Log,
    reason: &str,
) -> Result<Option<(PipelineConfig, Built)>> {
    let parts = Parts::declared(&host.plugins, &config).map_err(|found| config::refused(&found))?;
    let chain = parts.chain(&config)?;
    parts.keep(&host.plugins)?;
    start::keep_rules_at(host, log.store().url(), log.name());
    let built = put_in_force(host, &config, log, (parts, chain), reason)?;
    Ok(Some((config, built)))
}

fn gone(path: &str) -> Error {
    Error::new(
        Kind::StoreUnavailable,
        OP,
        "the inferred transform was there and is gone",
    )
    .with("path", path)
}

/// What follows from these records.
fn inferred(
    host: &Host,
    config: &PipelineConfig,
    source: &dyn SourceConfig,
    records: &[Vec<u8>],
) -> Result<Inferred> {
    let values: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let hint = source.message_hint();
    let json = config.converters.value.format == config::Format::Json;
    let hints = Hints {
        format: match json {
            true => Some(Format::Json),
            false => hint.format.and_then(format_of),
        },
        row_tag: hint.row_tag,
        headed: hint.headed,
        kept: true,
        ..Hints::default()
    };
    let map = infer::infer(&values, hints).map_err(|error| {
        let message = format!("schema.inference: {}", error.message());
        Error::new(Kind::ConfigInvalid, OP, message)
            .hint("write the transforms into the config, and take schema.inference out; `weir plugin infer` shows what it sees")
    })?;
    let keys = without_references(&map)?;
    Ok(Inferred {
        form: FORM,
        plugin: map.plugin.to_owned(),
        keys,
        records: records.len(),
        unread: map.unread().len(),
        at: crate::instant::utc(host.clock.now_micros(), 0),
        evidence: map.toml(),
    })
}

/// What a record says must never be taken for a reference to this machine's environment or files.
fn without_references(map: &Map) -> Result<BTreeMap<String, String>> {
    let mut keys = map.keys();
    // The plugin's name stands beside them.
    keys.remove("type");
    match keys.values().any(|value| value.contains("${")) {
        true => Err(Error::new(
            Kind::ConfigInvalid,
            OP,
            "schema.inference: a name in the records holds `${`, which a config takes for a reference",
        )
        .hint("write the transforms into the config, and take schema.inference out")),
        false => Ok(keys),
    }
}

fn format_of(name: &str) -> Option<Format> {
    match name {
        "json" => Some(Format::Json),
        "xml" => Some(Format::Xml),
        "csv" => Some(Format::Csv),
        _ => None,
    }
}

/// Whether these values are enough.
type Enough<'a> = &'a mut dyn FnMut(&[Vec<u8>]) -> Result<bool>;

/// The values of the first records: as many as the limits allow, of all partitions, until they are enough.
fn sampled(
    host: &Host,
    config: &PipelineConfig,
    source: &dyn SourceConfig,
    state: &State,
    (limits, enough): (Inference, Enough<'_>),
) -> Result<Vec<Vec<u8>>> {
    // A connection of its own: what it has read is read again by the tasks.
    let connector = retry(host, || source.connect(&host.clock))?;
    let topics = retry(host, || connector.topics())?;
    let at = |p: &PartitionInfo| Position {
        split: p.split.clone(),
        epoch: 0,
        tp: p.tp.clone(),
        next: state.splits.get(&p.split).map_or(p.low, |split| split.to),
    };
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    let positions: Vec<Position> = partitions.map(at).collect();
    let read = ReadLimits {
        batch_records: config.limits.batch_rows,
        batch_bytes: config.limits.batch_bytes,
        memory: config.limits.memory_budget,
    };
    let mut reader = retry(host, || connector.open(&positions, &read))?;
    let (wait, mut sample) = (limits.wait, Sample::new(limits));
    let begun = host.clock.elapsed();
    let (mut first, mut looked, mut said) = (None, begun, false);
    while !sample.is_full() {
        if host.stop.asked() {
            return Err(stopped());
        }
        let batch = retry(host, || reader.next(POLL_WAIT))?;
        let now = host.clock.elapsed();
        if let Some(batch) = batch {
            sample.take(&batch);
            if enough(&sample.values)? {
                break;
            }
        }
        if !sample.values.is_empty() {
            let first = *first.get_or_insert(now);
            if now.saturating_sub(first) >= wait {
                break;
            }
        } else if now >= begun + SAID_AFTER && !std::mem::replace(&mut said, true) {
            host.report.resting(Rest::NothingYet, POLL_WAIT);
        }
        if config.trigger != Trigger::Continuous && reader.caught_up() {
            break;
        }
        let every = connector.changes_every();
        if every.is_some_and(|every| now.saturating_sub(looked) >= every) {
            looked = now;
            let changes = retry(host, || connector.changes(&topics))?;
            assign_new(reader.as_mut(), connector.as_ref(), changes)?;
        }
    }
    Ok(sample.values)
}

/// A file source finds its first files here, a topic its first partitions.
fn assign_new(reader: &mut dyn Source, _: &dyn Connector, changes: Vec<Change>) -> Result<()> {
    let mut new = Vec::new();
    for change in changes {
        match change {
            Change::NewPartitions(partitions) => new.extend(partitions),
            Change::NewTopics(topics) => new.extend(topics.into_iter().flat_map(|t| t.partitions)),
            Change::Recreated { .. } | Change::Gone { .. } => {}
        }
    }
    match new.is_empty() {
        true => Ok(()),
        false => reader.assign(&new.iter().map(PartitionInfo::first).collect::<Vec<_>>()),
    }
}

struct Sample {
    limits: Inference,
    values: Vec<Vec<u8>>,
    bytes: usize,
}

impl Sample {
    fn new(limits: Inference) -> Sample {
        Sample {
            limits,
            values: Vec::new(),
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() >= self.limits.records || self.bytes >= self.limits.bytes
    }

    /// At least one record, however large.
    fn take(&mut self, batch: &Batch) {
        for value in batch.value.iter().flatten() {
            let fits = self.values.is_empty() || self.bytes + value.len() <= self.limits.bytes;
            if self.is_full() || !fits {
                self.bytes = self.limits.bytes;
                return;
            }
            self.bytes += value.len();
            self.values.push(value.to_vec());
        }
    }
}
