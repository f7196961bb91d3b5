//! The start of a pipeline that has never read: at another consumer's group offsets, or where a person says before its
//! first record.
//!
//! A start is pinned in the log (W1) before anything is read, whoever chose it. If there is no log yet, it is begun
//! with the rules of the config, as the first start would do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::records::Asked;
use super::{Moved, To, bad};
use crate::clock::Clock;
use crate::commit::{Log, LogName, Open, State, Writer, may_own_table, own_table};
use crate::config::{self, PipelineConfig};
use crate::error::Result;
use crate::pipeline::rules::Parts;
use crate::pipeline::start::open_at;
use crate::plugin::Plugins;
use crate::source::{Connector, TopicInfo};
use crate::store;

/// The word in entries for a start that a person named by offset.
const BY_OFFSET: &str = "offset";

/// What to pin for partitions that were never read: those in the request, and the other partitions of a topic that was
/// never read, which begin as the config says. `known`: the log's state, if there is one.
pub(super) fn opens(
    connector: &dyn Connector,
    known: Option<&State>,
    (topics, asked): (&BTreeMap<&str, TopicInfo>, &[Asked<'_>]),
) -> Result<(Vec<Open>, Vec<Moved>)> {
    let (mut opens, mut moved) = (Vec::new(), Vec::new());
    for Asked { wanted, at } in asked {
        let To::Offset(offset) = wanted.to else {
            continue;
        };
        if offset < at.low || offset > at.high {
            return Err(bad(format!(
                "the partition holds offsets {} to {}, {offset} lies outside",
                at.low, at.high
            ))
            .with("partition", &at.tp));
        }
        opens.push(open_at(&at.split, &at.tp, offset, BY_OFFSET));
        moved.push(Moved {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            from: at.low,
            asked: offset,
            to: offset,
        });
    }
    let named: BTreeSet<&str> = moved.iter().map(|m| m.topic.as_str()).collect();
    for name in named {
        let read = |state: &State| state.splits.values().any(|split| split.topic == name);
        let Some(topic) = topics.get(name).filter(|_| !known.is_some_and(read)) else {
            continue;
        };
        // A partition that is not pinned now would later count as new.
        let asked = connector.start();
        for p in connector.starts(topic)? {
            if !opens.iter().any(|open| open.split == p.split) {
                opens.push(open_at(&p.split, &p.tp, p.next, &asked));
            }
        }
    }
    Ok((opens, moved))
}

/// Begins the log of a pipeline that never ran, and claims its tables.
pub(super) fn begin(
    (config, tables): (&PipelineConfig, &BTreeSet<String>),
    clock: &Arc<dyn Clock>,
    plugins: &Plugins,
) -> Result<Log> {
    let parts = Parts::declared(plugins, config).map_err(|found| config::refused(&found))?;
    // If the plugins do not start, no log is begun.
    parts.chain(config)?;
    let name = LogName::new(&config.name, &config.home.zone);
    if let Some(there) = store::open_existing(&config.home.at)? {
        for table in tables {
            may_own_table(there.as_ref(), &name, table)?;
        }
    }
    parts.keep(plugins)?;
    let store = store::open(&config.home.at)?;
    for table in tables {
        store::probe(&store, &name.dir(), table)?;
        own_table(store.as_ref(), &name, table)?;
    }
    let writer = Writer::this_process(clock.as_ref());
    Log::open_or_init(store, name, clock.clone(), writer, parts.rules())
}
