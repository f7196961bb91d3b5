//! The zone that a batch reads: whether it is there, and what is said while it is not.

use std::sync::Arc;
use std::time::Duration;

use super::OP;
use crate::commit::{Log, LogName, Writer};
use crate::config::ZoneSourceConfig;
use crate::error::{Error, Kind, Result};
use crate::pipeline::{Host, Rest, retry};
use crate::store::{self, Store};

/// If the zone to be read does not exist after this time, a message says so: perhaps its name is mistyped.
const EXPECTED_WITHIN: Duration = Duration::from_secs(30);

/// The zone that is read.
pub(super) struct InputZone {
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Log,
}

/// Which messages about a zone without rows were already given: one that it has none yet, one that this is unusual.
#[derive(Default)]
pub(super) struct Missing {
    said: bool,
    since: Option<Duration>,
    warned: bool,
}

impl Missing {
    pub(super) fn empty(&mut self, host: &Host, wait: Duration) {
        if !std::mem::replace(&mut self.said, true) {
            host.report.resting(Rest::NothingYet, wait);
        }
    }

    pub(super) fn still_missing(&mut self, host: &Host, source: &ZoneSourceConfig) {
        let now = host.clock.elapsed();
        let since = *self.since.get_or_insert(now);
        if !self.warned && now.saturating_sub(since) >= EXPECTED_WITHIN {
            self.warned = true;
            let error = nothing_there(source, Kind::SourceUnavailable);
            host.report.waiting(&error);
        }
    }

    pub(super) fn found(&mut self, host: &Host) {
        if std::mem::take(&mut self.warned) {
            host.report.resumed();
        }
    }
}

/// `None`: its pipeline has not begun yet.
pub(super) fn open_input(host: &Host, source: &ZoneSourceConfig) -> Result<Option<InputZone>> {
    retry(host, || {
        let Some(store) = store::open_existing(&source.at)? else {
            return Ok(None);
        };
        let name = LogName::new(&source.pipeline, &source.zone);
        let writer = Writer::this_process(host.clock.as_ref());
        let Some(mut log) = Log::open(store.clone(), name, host.clock.clone(), writer)? else {
            return Ok(None);
        };
        log.make_readable()?;
        Ok(Some(InputZone { store, log }))
    })
}

pub(super) fn nothing_there(source: &ZoneSourceConfig, kind: Kind) -> Error {
    let message = format!(
        "pipeline '{}' has no log in {} yet",
        source.pipeline, source.at.url
    );
    Error::new(kind, OP, message)
        .hint("source.url, source.pipeline and source.zone must name a zone that has been written")
}
