//! Readers of a pipeline's table: whether they would accept the columns of another config, and problems of a reading
//! pipeline that can be found before it runs.

use arrow_schema::SchemaRef;

use super::book::Supervisor;
use super::{Actor, Job, Readers, Refused, jobs};
use crate::commit::LogName;
use crate::config::{PipelineConfig, Place, Problem, Source, problem};
use crate::operations;
use crate::operations::swap::{SwapPlan, SwapPlanner, SwapTarget};
use crate::pipeline::rules::columns::WAY_OVER_HTTP;
use crate::pipeline::rules::namespace;
use crate::pipeline::{self, RuleChanges};
use crate::store;

impl Supervisor {
    /// For a pipeline that reads the zone of another one in this daemon: the columns of that zone, as the other's rules make them.
    pub(super) fn columns_read_by(&self, config: &PipelineConfig) -> Option<SchemaRef> {
        let Source::Zone(zone) = &config.source else {
            return None;
        };
        let writer = self.pipeline(&zone.pipeline).ok()?;
        let plugins = self.plugins_of(&writer).ok()?;
        namespace::table(&plugins, &writer)
    }

    /// The way to change the rules of a running pipeline of this process. `None`: it does not run.
    pub fn rule_changes(&self, name: &str) -> Option<RuleChanges> {
        self.find(name).ok()?.unit.changes()
    }

    /// Refuses a config whose columns or files readers of the pipeline's table would not accept. If columns are allowed to break:
    /// returns the swap that puts the rules in force. A log that does not exist or cannot be read now is ignored; the
    /// start checks again.
    pub(super) fn readers_take(
        &self,
        name: &str,
        job: &Job,
        readers: Readers,
        by: &Actor,
    ) -> Result<Option<SwapPlan>, Refused> {
        if let Some(config) = jobs::pipeline_of(job) {
            self.readers_take_format(config)?;
        }
        // Of one that has none now their columns go.
        let has_rules = |config: &PipelineConfig| !config.transforms.is_empty();
        let had_rules = || self.pipeline(name).is_ok_and(|before| has_rules(&before));
        let wanted = |config: &&PipelineConfig| has_rules(config) || had_rules();
        let Some(config) = jobs::pipeline_of(job).filter(wanted) else {
            return Ok(None);
        };
        let plugins = self.plugins_of(config).map_err(Refused::Failed)?;
        let Ok(scene) = SwapPlanner::open(config.clone(), plugins, &self.clock, &by.0) else {
            return Ok(None);
        };
        let scene = scene.running(self.rule_changes(name));
        let Err(error) = scene.declared_columns(WAY_OVER_HTTP) else {
            return Ok(None);
        };
        if readers == Readers::Kept {
            let message = format!("`transforms`: {}", error.message());
            let place = Place::start_of(name);
            let problem = Problem::new(place, "transforms", problem::COLUMNS_BREAK, message);
            return Err(Refused::Invalid(vec![problem.hint(WAY_OVER_HTTP)]));
        }
        let wanted = SwapTarget {
            reload: true,
            allow_breaking: true,
            reason: "another config".to_owned(),
            ..SwapTarget::default()
        };
        scene.swap(&wanted).map(Some).map_err(failed)
    }

    /// No right of the caller lets readers break here: a start refuses it too.
    fn readers_take_format(&self, config: &PipelineConfig) -> Result<(), Refused> {
        const KEY: &str = "sink.format";
        if matches!(config.source, Source::Zone(_)) || config.sink.files_of_rows().is_parquet() {
            return Ok(());
        }
        let log = || {
            let store = store::open_existing(&config.home.at).ok()??;
            let name = LogName::new(&config.name, &config.home.zone);
            operations::open(&store, &name, &self.clock).ok()
        };
        let Some(log) = log() else { return Ok(()) };
        let Err(error) = pipeline::readers_take_format(config, log.state()) else {
            return Ok(());
        };
        let problem = config.problem(KEY, problem::CONTRADICTION, error.message());
        Err(Refused::Invalid(vec![match error.hint_text() {
            Some(hint) => problem.hint(hint),
            None => problem,
        }]))
    }
}

pub(super) fn failed(refused: operations::Refused) -> Refused {
    match refused.why {
        operations::Why::Conflict => Refused::Conflict(refused.to_string()),
        _ => Refused::Failed(*refused.error),
    }
}
