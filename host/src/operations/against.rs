//! A config beside a zone that is there: what of it is as before, what may change and what that does, what is refused.
//! The page is docs/change-a-pipeline.md. Nothing is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::swap::SwapPlanner;
use crate::clock::Clock;
use crate::commit::{LogName, Role, State, may_own_table};
use crate::config::{Location, PipelineConfig, Source};
use crate::error::Result;
use crate::finding::Finding;
use crate::pipeline::{self, rules::columns};
use crate::plugin::{Places, Plugins};
use crate::store::{self, Store};

const LOG: &str = "log";
const TABLE: &str = "sink.table";
const FORMAT: &str = "sink.format";
const TOPICS: &str = "source.topics";
const RULES: &str = "transforms";
/// Who asks, if rules are compared; nothing is written.
const ACTOR: &str = "weir check";

/// Compares the config with the zone at `url`; without one, with its own.
pub fn against(config: &PipelineConfig, url: Option<&str>, clock: &Arc<dyn Clock>) -> Vec<Finding> {
    let mut config = config.clone();
    if let Some(url) = url {
        config.home.at = Location {
            url: Location::of(url).url,
            ..config.home.at
        };
    }
    let mut found = Vec::new();
    if let Err(error) = compare(&config, clock, &mut found) {
        found.push(Finding::failed(LOG, None, &error));
    }
    found
}

fn compare(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    found: &mut Vec<Finding>,
) -> Result<()> {
    let url = config.home.at.url.as_str();
    let Some(store) = store::open_existing(&config.home.at)? else {
        let says = format!("{url} is not there; a start would make it");
        let hint = "give the root of a zone that has `_system/`";
        found.push(Finding::fail(LOG, None, says, hint));
        return Ok(());
    };
    let name = LogName::new(&config.name, &config.home.zone);
    found.extend(owners(config, store.as_ref(), &name)?);
    if !crate::commit::exists(store.as_ref(), &name)? {
        found.push(no_log(store.as_ref(), &name)?);
        return Ok(());
    }
    let log = super::open(&store, &name, clock)?;
    let state = log.state();
    found.push(Finding::pass(
        LOG,
        None,
        format!("{} at version {}", name.log_dir(), state.version),
    ));
    match &config.source {
        Source::Records(_) => {
            found.push(topics(config, state));
            found.push(tables(config, state));
            found.push(match pipeline::readers_take_format(config, state) {
                Ok(()) => Finding::pass(FORMAT, None, config.sink.files_of_rows().word()),
                Err(error) => Finding::failed(FORMAT, None, &error),
            });
            found.push(rules(config, clock, state));
        }
        Source::Zone(source) => {
            found.push(tables(config, state));
            found.extend(pipeline::layout(config, source, &store, &log)?);
            found.push(rules(config, clock, state));
        }
    }
    Ok(())
}

/// Tables that belong to another pipeline.
fn owners(config: &PipelineConfig, store: &dyn Store, name: &LogName) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for table in config.tables_needed() {
        match may_own_table(store, name, &table) {
            Ok(()) => {}
            Err(error) if error.kind() == crate::error::Kind::ConfigInvalid => {
                found.push(Finding::failed(TABLE, Some(&table), &error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn no_log(store: &dyn Store, name: &LogName) -> Result<Finding> {
    let there = super::logs_in(store)?;
    let there: Vec<String> = there
        .iter()
        .map(|log| format!("{}/{}", log.pipeline, log.zone))
        .collect();
    let says = format!(
        "{}/{} has no log here: a start would begin one at `source.start`",
        name.pipeline, name.zone
    );
    let hint = match there.as_slice() {
        [] => "there is no log of any pipeline: is this the root of a zone?".to_owned(),
        there => format!(
            "logs that are here: {}. A pipeline that gets another `name` is another pipeline",
            there.join(", ")
        ),
    };
    Ok(Finding::warn(LOG, None, says, hint))
}

/// By name or by a pattern.
fn reads(config: &PipelineConfig, topic: &str) -> bool {
    match &config.source {
        Source::Records(source) => source.reads(topic),
        Source::Zone(_) => false,
    }
}

fn topics(config: &PipelineConfig, state: &State) -> Finding {
    let wanted: BTreeSet<&str> = config.topics().into_iter().collect();
    let mut there: BTreeMap<&str, usize> = BTreeMap::new();
    for split in state.splits.values() {
        *there.entry(&split.topic).or_default() += 1;
    }
    let new: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|topic| !there.contains_key(topic))
        .collect();
    let gone: Vec<&str> = there
        .keys()
        .copied()
        .filter(|topic| !reads(config, topic))
        .collect();
    if !gone.is_empty() {
        let says = format!(
            "{} would not be read any more; its rows and its position stay",
            named(&gone)
        );
        let hint =
            "a topic that comes back is read on from where it stood, if the source still has it";
        return Finding::warn(TOPICS, None, says, hint);
    }
    Finding::pass(
        TOPICS,
        None,
        match new.as_slice() {
            [] => "as in the log; `source.start` is for partitions that are new".to_owned(),
            new => format!("{} would be new, read from `source.start`", named(new)),
        },
    )
}

fn tables(config: &PipelineConfig, state: &State) -> Finding {
    let wanted = config.tables_needed();
    let rows = state
        .live
        .values()
        .filter(|live| matches!(live.file.role, Role::Rows | Role::DeadLetters));
    let there: BTreeSet<&str> = rows
        .filter_map(|live| live.file.path.split_once('/').map(|(table, _)| table))
        .collect();
    let left: Vec<&str> = there
        .into_iter()
        .filter(|table| !wanted.contains(*table) && !config.may_write(table))
        .collect();
    if left.is_empty() {
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        return Finding::pass(TABLE, None, named(&wanted));
    }
    let says = format!(
        "{} would get no more rows; those that are there stay",
        named(&left)
    );
    let hint = "rows are not moved between tables; a pipeline that reads the old table waits for ever: change its `source.table`";
    Finding::warn(TABLE, None, says, hint)
}

fn rules(config: &PipelineConfig, clock: &Arc<dyn Clock>, state: &State) -> Finding {
    let planner = Plugins::open(Places::of(config))
        .map_err(super::Refused::from)
        .and_then(|plugins| SwapPlanner::open(config.clone(), plugins, clock, ACTOR));
    let planner = match planner {
        Ok(planner) => planner,
        Err(refused) => return Finding::failed(RULES, None, &refused.error),
    };
    if planner.declares_what_is_in_force() {
        let says = format!("those in force, generation {}", state.generation());
        return Finding::pass(RULES, None, says);
    }
    match planner.declared_columns(&columns::way(&config.name)) {
        Ok(()) => Finding::warn(
            RULES,
            None,
            "other rules than those in force: they hold from the next start on, for what is read then",
            format!(
                "rows that are there stay as they are; to make them anew: weir pipeline rewind {}",
                config.name
            ),
        ),
        Err(error) => Finding::failed(RULES, None, &error),
    }
}

fn named(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
