//! What must be true before the first record is read, in this order: rules can be built → topics found by id → tables
//! belong to nobody else (so far nothing is written, so a refused config leaves nothing behind) → store proved → tables
//! owned → log opened (publishes redone, orphans collected) → rules in force → starts pinned in the log (W1) →
//! positions inside what the source still has → deliveries of processes that died finished or given up (P1, W8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_schema::SchemaRef;

use super::archive::Archiver;
use super::committer::{at_log, gap, other_rules, position};
use super::rules::{self, Built};
use super::{Host, Report, Stop, retry, until_settled};
use crate::chain::TransformChain;
use crate::commit::{
    self, Draft, Keep, Log, LogName, Open, Rule, Writer, may_own_table, own_table,
};
use crate::config::{PipelineConfig, SourceConfig};
use crate::connectors;
use crate::error::{Error, Kind, Result};
use crate::record::{SplitId, TopicPartition, input_schema};
use crate::sink::{Base, Patience, Receiver, SinkConnector, SinkContext};
use crate::source::{Acknowledge, Connector, PartitionInfo, Policy, Position, TopicInfo};
use crate::store::{self, Store};

const OP: &str = "pipeline.start";

/// Everything that is needed to make tasks and committer.
#[derive(Debug)]
pub struct Ready {
    pub store: Arc<dyn Store>,
    pub log: Log,
    pub connector: Box<dyn Connector>,
    pub topics: Vec<TopicInfo>,
    pub acknowledge: Box<dyn Acknowledge>,
    pub sink: Box<dyn SinkConnector>,
    pub receiver: Box<dyn Receiver>,
    /// The proved version that the sinks opened by `sink` use.
    pub base: Base,
    /// One list for each task: at least one, never more than there are partitions.
    pub assigned: Vec<Vec<Position>>,
    /// One per task.
    pub chains: Vec<TransformChain>,
    /// With the transform that was inferred or the schema that was found, if one was.
    pub config: PipelineConfig,
}

impl Ready {
    /// The columns of the rules in force.
    pub fn columns(&self) -> SchemaRef {
        let chain = self.chains.first();
        chain.map_or_else(input_schema, TransformChain::output_schema)
    }
}

/// `None`: the transform is to be inferred from records, and there are none yet.
pub fn prepare(
    host: &Host,
    config: &PipelineConfig,
    source: &dyn SourceConfig,
) -> Result<Option<Ready>> {
    let config = &*retry(host, || rules::completed(config))?;
    let declared = rules::declared_rules(host, config)?;
    // If the rules cannot be built and there is no log yet, nothing is written.
    if matches!(&declared, Some((_, Err(_))))
        && store::open_existing(&config.home.at)?.is_none()
        && let Some((_, Err(error))) = declared
    {
        return Err(error);
    }
    let connector = retry(host, || source.connect(&host.clock))?;
    let topics = retry(host, || connector.topics())?;

    let first = host.declared.last().is_none();
    let (store, mut log, built) = open_log(host, config, &topics, declared)?;
    let built_of = log.state().generation();

    let policy = connector.policy();
    not_recreated(&log, &topics, policy)?;
    pin_starts(host, &mut log, connector.as_ref(), &topics, !first)?;
    still_there(host, &mut log, connector.as_ref(), &topics)?;
    let acknowledge = connector.acknowledge()?;
    if first {
        group_is_ahead(host, &mut log, acknowledge.as_ref(), &topics)?;
    }
    let (sink, receiver, base) = writes(host, config, &store, &mut log)?;
    // Another process put other rules in force after the chains were built.
    if log.state().generation() != built_of {
        return Err(other_rules(log.state()));
    }

    let Some((config, Built { parts, chain })) = found(host, (config, source), &mut log, built)?
    else {
        return Ok(None);
    };
    let assigned = assign(&log, &topics, config.tasks_max);
    let mut chains = vec![chain];
    while chains.len() < assigned.len() {
        chains.push(parts.chain(&config)?);
    }
    Ok(Some(Ready {
        store,
        log,
        connector,
        topics,
        acknowledge,
        sink,
        receiver,
        base,
        assigned,
        chains,
        config,
    }))
}

type Declared = Option<(rules::Parts, Result<TransformChain>)>;

/// Opens or begins the log, with the tables of these topics, and puts in force what the config declares.
fn open_log(
    host: &Host,
    config: &PipelineConfig,
    topics: &[TopicInfo],
    mut declared: Declared,
) -> Result<(Arc<dyn Store>, Log, Built)> {
    let tables = tables(config, topics)?;
    let tables: BTreeSet<&str> = tables.iter().map(String::as_str).collect();
    // A log begins only with rules that can be built; an existing one may have others in force.
    let first = || match declared.take() {
        Some((parts, Ok(chain))) => {
            let rules = parts.rules();
            declared = Some((parts, Ok(chain)));
            Ok(rules)
        }
        Some((_, Err(error))) => Err(error),
        None => Err(Error::new(
            Kind::LogCorrupt,
            OP,
            "the log was there before and is gone",
        )),
    };
    let begun = begun(host, config, &tables, first)?;
    if let Some((parts, _)) = &declared {
        parts.keep(&host.plugins)?;
    }
    let (store, mut log) = open_zone(host, config, &tables, &begun)?;
    readers_take_format(config, log.state())?;
    let built = rules::at_start(host, config, &mut log, declared)?;
    Ok((store, log, built))
}

/// The rules with which records are read: those that were built, or at a first start with `schema.inference` or a schema those that
/// the first records show. `None`: there are no records yet.
fn found(
    host: &Host,
    (config, source): (&PipelineConfig, &dyn SourceConfig),
    log: &mut Log,
    built: Built,
) -> Result<Option<(PipelineConfig, Built)>> {
    match rules::is_known(config) || host.only_begins {
        true => Ok(Some((config.clone(), built))),
        false => rules::at_first(host, config, source, log),
    }
}

/// The tables that these topics have, and that of dead letters.
fn tables(config: &PipelineConfig, topics: &[TopicInfo]) -> Result<BTreeSet<String>> {
    let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    let letters = &config.errors.dlq_table;
    if config.sink.tables(&names).contains(letters) {
        // Where the config names the topics this was checked before.
        let message = format!(
            "the topic '{letters}' is read, and its rows would have the table of dead letters"
        );
        return Err(Error::new(Kind::ConfigInvalid, OP, message)
            .hint("set errors.dlq.table to a name that no topic has, or let source.subscribe.pattern leave this one out"));
    }
    Ok(config.tables_of(&names))
}

/// Refuses files that a pipeline which reads this zone could not read.
pub fn readers_take_format(config: &PipelineConfig, state: &commit::State) -> Result<()> {
    let format = config.sink.files_of_rows();
    if format.is_parquet() || state.readers.is_empty() {
        return Ok(());
    }
    let there = state.splits.values().map(|split| split.topic.as_str());
    let topics: Vec<&str> = config.topics().into_iter().chain(there).collect();
    let readers = state.readers_of(&config.sink.tables(&topics));
    let Some(first) = readers.first() else {
        return Ok(());
    };
    let message = format!(
        "`sink.format` is {}, and only Parquet is read back: {} reads this zone",
        format.word(),
        quoted(&readers)
    );
    Err(Error::new(Kind::ConfigInvalid, OP, message)
        .with("readers", readers.join(","))
        .hint(format!(
            "write other files with a pipeline of another name and sink.table; or, if it reads no more: weir zone forget-reader CONFIG {first}"
        )))
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// What a sink says while it waits.
#[derive(Debug)]
struct Waits {
    report: Arc<dyn Report>,
    stop: Stop,
}

impl Patience for Waits {
    fn waiting(&self, error: &Error) {
        self.report.waiting(error);
    }

    fn resumed(&self) {
        self.report.resumed();
    }

    fn stop_asked(&self) -> bool {
        self.stop.asked()
    }

    fn stop_overdue(&self) -> bool {
        self.stop.overdue()
    }
}

type Writes = (Box<dyn SinkConnector>, Box<dyn Receiver>, Base);

/// Opens what the pipeline writes to, and settles deliveries that others left.
fn writes(
    host: &Host,
    config: &PipelineConfig,
    store: &Arc<dyn Store>,
    log: &mut Log,
) -> Result<Writes> {
    let base = Base::default();
    let context = SinkContext {
        store: store.clone(),
        log: log.name().clone(),
        clock: host.clock.clone(),
        base: base.clone(),
        patience: Arc::new(Waits {
            report: host.report.clone(),
            stop: host.stop.clone(),
        }),
    };
    let sink = retry(host, || connectors::sink(config, context.clone()))?;
    let receiver = retry(host, || sink.receiver())?;
    retry(host, || {
        at_log::recover(log, receiver.as_ref(), |log, draft| {
            until_settled(host, log, draft)
        })
    })?;
    forget(host, log, None, &mut |log| {
        at_log::all_done(log, receiver.as_ref())
    })?;
    Ok((sink, receiver, base))
}

/// Says in the plugin store that this log names what is there.
fn keep_rules_of(host: &Host, config: &PipelineConfig, log: &Log) {
    let rules = log.state().periods.iter().any(|p| !p.transforms.is_empty());
    if !config.transforms.is_empty() || !config.converters.is_idle() || rules {
        keep_rules_at(host, log.store().url(), log.name());
    }
}

/// The same of a log that is about to name rules.
pub(super) fn keep_rules_at(host: &Host, url: &str, log: &LogName) {
    if url.starts_with("memory") {
        return;
    }
    let plugins = host.plugins.store();
    if let Err(error) = plugins.used_by(url, log, host.clock.now_micros()) {
        tracing::warn!(%error, "the plugin store does not learn which log uses it; whoever empties it does not look there");
    }
}

/// How long data stays in the zone of a pipeline.
pub fn keep(config: &PipelineConfig) -> Keep {
    let retention = &config.retention;
    Keep {
        rows: retention.rows,
        dead_letters: retention.dead_letters,
        grace: retention.grace,
        archive: retention.archive.is_some(),
    }
}

pub fn archiver(host: &Host, config: &PipelineConfig, log: &Log) -> Archiver {
    Archiver::new(
        (log.store().clone(), log.name().clone()),
        config.retention.archive.clone(),
        (&host.stop, host.clock.clone(), host.retry),
    )
}

/// Lets the log forget what nobody needs, and writes a checkpoint where one is due. `held`: see [`Log::forgettable`]. `all_done`:
/// makes sure that everything which the log names is done (V13).
pub fn forget(
    host: &Host,
    log: &mut Log,
    held: Option<&BTreeMap<SplitId, i64>>,
    all_done: &mut dyn FnMut(&mut Log) -> Result<()>,
) -> Result<()> {
    if let Some(version) = log.forgettable(held) {
        retry(host, || all_done(log))?;
        until_settled(host, log, Draft::Horizon(version))?;
    }
    log.checkpoint_if_due();
    Ok(())
}

/// The rules of a log's first entry.
#[derive(Debug)]
pub struct Begun(Vec<Rule>);

/// Looks at what is there, and writes nothing. If there is no log yet, it calls `rules`, which may refuse; it refuses a
/// table that belongs to another pipeline.
pub fn begun(
    host: &Host,
    config: &PipelineConfig,
    tables: &BTreeSet<&str>,
    rules: impl FnOnce() -> Result<Vec<Rule>>,
) -> Result<Begun> {
    let name = LogName::new(&config.name, &config.home.zone);
    let there = retry(host, || {
        let Some(store) = store::open_existing(&config.home.at)? else {
            return Ok(false);
        };
        for table in tables {
            may_own_table(store.as_ref(), &name, table)?;
        }
        commit::exists(store.as_ref(), &name)
    })?;
    let rules = if there { Vec::new() } else { rules()? };
    Ok(Begun(rules))
}

/// Proves the store for every table, opens or begins the pipeline's log, claims its tables.
pub fn open_zone(
    host: &Host,
    config: &PipelineConfig,
    tables: &BTreeSet<&str>,
    Begun(rules): &Begun,
) -> Result<(Arc<dyn Store>, Log)> {
    let name = LogName::new(&config.name, &config.home.zone);
    let store = retry(host, || {
        let store = store::open(&config.home.at)?;
        for table in tables {
            store::probe(&store, &name.dir(), table)?;
        }
        Ok(store)
    })?;
    for table in tables {
        retry(host, || own_table(store.as_ref(), &name, table))?;
    }
    let log = retry(host, || {
        let writer = Writer::this_process(host.clock.as_ref());
        Log::open_or_init(
            store.clone(),
            name.clone(),
            host.clock.clone(),
            writer,
            rules.clone(),
        )
    })?;
    let log = log.with_limits(limits(config));
    keep_rules_of(host, config, &log);
    host.report.opened(log.view());
    Ok((store, log))
}

pub fn limits(config: &PipelineConfig) -> commit::Limits {
    // Twice the age of a commit: what a task begins is committed before it is forgotten (W4).
    let late = commit::LATE.max(config.sink.commit_age() * 2);
    commit::Limits {
        retention: config.log_retention.max(late),
        late,
        keep: keep(config),
        ..commit::Limits::default()
    }
}

/// Fails if the log has a split of the same topic name and partition under another topic id: the topic was deleted and
/// created again.
fn not_recreated(log: &Log, topics: &[TopicInfo], policy: Policy) -> Result<()> {
    if policy.reads_recreated {
        return Ok(());
    }
    for topic in topics {
        let current: BTreeSet<&SplitId> = topic.partitions.iter().map(|p| &p.split).collect();
        let mut old = log
            .state()
            .splits
            .iter()
            .filter(|(_, c)| c.topic == *topic.name);
        if let Some((split, _)) = old.find(|(split, _)| !current.contains(split)) {
            return Err(recreated(policy, &topic.name, split.as_str(), &topic.id));
        }
    }
    Ok(())
}

pub fn recreated(policy: Policy, topic: &str, was: &str, now: &str) -> Error {
    let message = format!("topic '{topic}' {}", policy.recreated);
    Error::new(Kind::SourceLost, OP, message)
        .with("was", was)
        .with("now", now)
        .hint(policy.on_recreated)
}

pub fn open_at(split: &SplitId, tp: &TopicPartition, at: i64, start: &str) -> Open {
    Open {
        split: split.clone(),
        topic: tp.topic.to_string(),
        partition: tp.partition,
        offset: at,
        start: start.to_owned(),
    }
}

/// A partition whose records are all new.
pub fn open_at_low(partition: &PartitionInfo) -> Open {
    open_at(&partition.split, &partition.tp, partition.low, "earliest")
}

/// W1. If its topic name was read before, a new split belongs to a recreated topic or is a new partition: its records
/// are all new, whatever `source.start` says. So are those of a topic that a pattern finds later than the first ones (`again`: this
/// process began the pipeline before).
fn pin_starts(
    host: &Host,
    log: &mut Log,
    connector: &dyn Connector,
    topics: &[TopicInfo],
    again: bool,
) -> Result<()> {
    let mut opens = Vec::new();
    let began = again || !log.state().splits.is_empty();
    if !began {
        connector.begins(topics)?;
    }
    let later = connector.policy().finds_topics && began;
    for topic in topics {
        let splits = &log.state().splits;
        if topic
            .partitions
            .iter()
            .all(|p| splits.contains_key(&p.split))
        {
            continue;
        }
        let read_before = later || splits.values().any(|c| c.topic == *topic.name);
        if read_before {
            let new = topic.partitions.iter();
            let new = new.filter(|p| !splits.contains_key(&p.split));
            opens.extend(new.map(open_at_low));
        } else {
            let asked = connector.start();
            let starts = retry(host, || connector.starts(topic))?;
            let new = starts.iter().filter(|p| !splits.contains_key(&p.split));
            opens.extend(new.map(|p| open_at(&p.split, &p.tp, p.next, &asked)));
        }
    }
    if !opens.is_empty() {
        until_settled(host, log, Draft::Open(opens))?;
    }
    Ok(())
}

/// The first partition that ends below the position that the log has.
fn above<'a>(log: &Log, topics: &'a [TopicInfo]) -> Option<(&'a PartitionInfo, i64)> {
    let mut partitions = topics.iter().flat_map(|t| &t.partitions);
    partitions.find_map(|partition| {
        let at = log.state().splits.get(&partition.split)?.to;
        (at > partition.high).then_some((partition, at))
    })
}

/// Offsets that aged out while nobody read are an error, or are recorded as a gap.
fn still_there(
    host: &Host,
    log: &mut Log,
    connector: &dyn Connector,
    topics: &[TopicInfo],
) -> Result<()> {
    let policy = connector.policy();
    // Another process of this pipeline may have read on since the source was asked.
    if above(log, topics).is_some()
        && let now = retry(host, || connector.topics())?
        && let Some((partition, at)) = above(log, &now)
    {
        return Err(Error::new(
            Kind::SourceLost,
            OP,
            "the committed position lies above the end of the partition",
        )
        .with("partition", &partition.tp)
        .with("position", at)
        .with("end", partition.high)
        .hint(policy.on_above));
    }
    let mut gaps = Vec::new();
    for partition in topics.iter().flat_map(|t| &t.partitions) {
        let Some(at) = log.state().splits.get(&partition.split) else {
            continue;
        };
        if at.to < partition.low {
            if !policy.gaps {
                return Err(Error::new(
                    Kind::SourceLost,
                    OP,
                    format!(
                        "offsets {}..{} aged out before they were read",
                        at.to, partition.low
                    ),
                )
                .with("partition", &partition.tp)
                .hint(policy.on_lost));
            }
            tracing::warn!(at = %partition.tp, from = at.to, to = partition.low, "offsets lost, recorded as a gap");
            gaps.push(gap(&partition.split, at.epoch, at.to, partition.low));
        }
    }
    if !gaps.is_empty() {
        until_settled(host, log, Draft::Gap(gaps))?;
    }
    Ok(())
}

/// R4: warns once if a position that was passed on, such as a group's offset, lies above everything that its split ever
/// reached. The group is read first, and then the log again: another process of this pipeline may have committed in
/// between, and that is no fault.
fn group_is_ahead(
    host: &Host,
    log: &mut Log,
    group: &dyn Acknowledge,
    topics: &[TopicInfo],
) -> Result<()> {
    let partitions = || topics.iter().flat_map(|t| &t.partitions);
    let tps: Vec<TopicPartition> = partitions().map(|p| p.tp.clone()).collect();
    let offsets = match group.committed(&tps) {
        Ok(offsets) => offsets,
        Err(error) => {
            tracing::debug!(%error, "group offsets cannot be read; the log does not need them");
            return Ok(());
        }
    };
    let ahead = |log: &Log| -> Vec<(TopicPartition, i64, i64, bool)> {
        let splits = &log.state().splits;
        let of = |p: &PartitionInfo| {
            let (at, offset) = (splits.get(&p.split)?, *offsets.get(&p.tp)?);
            let is_new = at.peak == at.start();
            (offset > at.peak).then(|| (p.tp.clone(), offset, at.to, is_new))
        };
        partitions().filter_map(of).collect()
    };
    if ahead(log).is_empty() {
        return Ok(());
    }
    retry(host, || log.refresh())?;
    let found = ahead(log);
    let Some((tp, offset, to, _)) = found.first() else {
        return Ok(());
    };
    let at = format!("{tp}: group {offset}, log {to}");
    let (group, partitions) = (group.name(), found.len());
    if found.iter().all(|(_, _, _, is_new)| *is_new) {
        tracing::warn!(
            group,
            partitions,
            at,
            "this zone's log has read nothing of records that the consumer group has passed; the log decides, so they are \
             read from where it begins. If the zone was deleted, nothing is to do. If another consumer uses the group, set \
             source.group.id"
        );
    } else {
        tracing::error!(
            group,
            partitions,
            at,
            "the consumer group stands above the end of this zone's log; the log decides, so those records are read again. \
             If entries of the log were lost, stop and restore them from a copy: rows of them would be doubled. If another \
             consumer uses the group, set source.group.id"
        );
    }
    Ok(())
}

/// Gives the partitions to the tasks in turn: task i takes every n-th.
fn assign(log: &Log, topics: &[TopicInfo], tasks_max: usize) -> Vec<Vec<Position>> {
    let all: Vec<Position> = topics
        .iter()
        .flat_map(|t| &t.partitions)
        .filter_map(|p| position(log.state(), &p.split))
        .collect();
    let tasks = tasks_max.min(all.len()).max(1);
    let mut assigned = vec![Vec::new(); tasks];
    for (at, position) in all.into_iter().enumerate() {
        assigned[at % tasks].push(position);
    }
    assigned
}
