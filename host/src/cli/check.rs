//! `weir check`: all problems of all configs at once.

use arrow_schema::SchemaRef;
use clap::Args;
use serde_json::{Value, json};

use super::doctor::{Looked, look, shown};
use super::place::is_url;
use super::{Configs, Exit, print_problems, say_lines, say_value, say_words};
use crate::clock::SystemClock;
use crate::config::{self, PipelineConfig, Problem, Source, problem};
use crate::connectors::CATALOG;
use crate::error::Result;
use crate::operations::{self, doctor::Told};
use crate::pipeline::{self, rules::namespace};
use crate::plugin::{Places, Plugins};

/// Find everything that is wrong with configs, without touching a broker or a store.
///
/// Each problem comes with file, line, key, code and hint. The plugins are loaded too, and check their own keys. Exit
/// code 2 if a config would not run; 0 if there are only warnings. With --connect, brokers, stores and this machine are
/// checked as by `weir doctor`, and the exit code is 1 if one of them fails. With --against ZONE each config is also compared
/// with what a pipeline of its name wrote there: exit code 2 if a start would be refused.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Config files, one pipeline each: TOML, .properties or Connect's JSON; the daemon's config too
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    files: Vec<String>,
    /// Override a key; PIPELINE:KEY=VALUE for one pipeline of several
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Apply the tables [profile.NAME] of the files
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Print the problems as one JSON object on stdout
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of a config and exit
    #[arg(long)]
    schema: bool,
    /// Also check brokers, stores and this machine, as `weir doctor` does
    #[arg(long)]
    connect: bool,
    /// Also compare each config with a zone that is there (its root): what may change, what is refused
    #[arg(long, value_name = "ZONE", conflicts_with = "schema")]
    against: Option<String>,
    /// Do not load the plugins
    #[arg(long)]
    no_plugins: bool,
}

pub(super) fn check(args: &CheckArgs) -> Result<Exit> {
    if args.schema {
        say_lines(format!("{:#}", config::schema::schema(&CATALOG)));
        return Ok(Exit::Ok);
    }
    let (files_of_workers, files): (Vec<String>, Vec<String>) = args
        .files
        .iter()
        .cloned()
        .partition(|file| config::is_worker(file));
    let mut problems: Vec<Problem> = Vec::new();
    let mut workers = Vec::new();
    for file in &files_of_workers {
        let (worker, found) = config::worker::load(file, &[]);
        problems.extend(found);
        workers.extend(worker.map(|worker| (file.clone(), worker)));
    }
    let configs = Configs {
        files,
        set: args.set.clone(),
        profile: args.profile.clone(),
    };
    let loaded = configs.load();
    problems.extend(loaded.problems);
    for pipeline in &loaded.pipelines {
        // A check may run on a machine without the secrets: missing ones are reported, but are no error.
        let missing = pipeline.unresolved();
        problems.extend(missing.into_iter().map(Problem::warning));
    }
    if !args.no_plugins {
        problems.extend(plugins_of_all(&loaded.pipelines));
        problems.extend(loaded.others.iter().flat_map(by_itself));
    }
    let failed = problems.iter().any(Problem::is_error);
    if !args.json {
        print_problems(&problems);
        if !failed {
            all_fine(&files_of_workers, &loaded.pipelines);
        }
    }
    let looked = match args.connect {
        true => Some(look(&workers, &loaded.pipelines, !args.json)?),
        false => None,
    };
    let compared = match &args.against {
        Some(zone) => Some(compare(zone, &loaded.pipelines, !args.json)?),
        None => None,
    };
    let failed = failed
        || compared
            .as_ref()
            .is_some_and(|compared| compared.sums.fail > 0);
    if args.json {
        let names: Vec<&str> = loaded.pipelines.iter().map(|p| p.name.as_str()).collect();
        let mut answer = json!({
            "ok": !failed, "pipelines": names, "workers": files_of_workers,
        });
        complete(&mut answer, &problems, looked.as_ref(), compared.as_ref())?;
        say_value(&answer);
    }
    Ok(match looked {
        Some(looked) => looked.exit(failed),
        None if failed => Exit::Usage,
        None => Exit::Ok,
    })
}

/// Puts in what was found.
fn complete(
    answer: &mut Value,
    problems: &[Problem],
    looked: Option<&Looked>,
    compared: Option<&Looked>,
) -> Result<()> {
    let problems: Vec<_> = problems.iter().map(Problem::to_json).collect();
    answer["problems"] = json!(problems);
    if let Some(looked) = looked {
        if looked.sums.fail > 0 {
            answer["ok"] = json!(false);
        }
        answer["looks"] = json!(looked.looks);
        answer["sums"] = operations::to_json(&looked.sums)?;
    }
    if let Some(compared) = compared {
        answer["against"] = json!(compared.looks);
    }
    Ok(())
}

/// Each config beside the zone.
fn compare(zone: &str, pipelines: &[PipelineConfig], as_text: bool) -> Result<Looked> {
    let url = match is_url(zone) {
        true => zone.trim_end_matches('/').to_owned(),
        false => format!("file:{}", zone.trim_end_matches('/')),
    };
    let clock = SystemClock::shared();
    shown(as_text, &mut |tell| {
        for pipeline in pipelines {
            for finding in operations::against::against(pipeline, Some(&url), &clock) {
                let of = pipeline.name.clone();
                tell(Told { of, finding });
            }
        }
    })
}

fn all_fine(workers: &[String], pipelines: &[PipelineConfig]) {
    for file in workers {
        say_words(format!("{file}: the daemon's config is fine"));
    }
    for pipeline in pipelines {
        let what = describe(pipeline);
        say_words(format!("{}: {what} is fine", pipeline.raw.file));
    }
}

fn describe(pipeline: &PipelineConfig) -> String {
    let mut path = vec![pipeline.source_description()];
    path.extend(pipeline.transforms.iter().map(|t| t.plugin.to_string()));
    path.push(pipeline.sink_description());
    format!("{} ({})", pipeline.name, path.join(" -> "))
}

/// Problems that the plugins of all pipelines find, and clashes of columns in pipelines that read a zone of the same
/// run.
fn plugins_of_all(pipelines: &[PipelineConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for pipeline in pipelines {
        let read = columns_read_by(pipeline, pipelines);
        problems.extend(check_plugins(pipeline, read.as_ref()));
        if let Some(columns) = &read {
            problems.extend(namespace::clashes_of_reader(pipeline, columns));
        }
    }
    problems
}

/// The columns of the zone that a pipeline reads, if one of these writes it.
fn columns_read_by(reader: &PipelineConfig, all: &[PipelineConfig]) -> Option<SchemaRef> {
    let Source::Zone(zone) = &reader.source else {
        return None;
    };
    let writer = all.iter().find(|other| other.name == zone.pipeline)?;
    let plugins = Plugins::open(Places::of(writer)).ok()?;
    namespace::table(&plugins, writer)
}

fn by_itself(pipeline: &PipelineConfig) -> Vec<Problem> {
    check_plugins(pipeline, None)
}

/// Loads each transform's plugin and lets it check its keys; a missing plugin is a problem at `transforms.<name>.type`. `read`: the
/// columns of the zone that is read, if they are known.
pub fn check_plugins(pipeline: &PipelineConfig, read: Option<&SchemaRef>) -> Vec<Problem> {
    let plugins = match Plugins::open(Places::of(pipeline)) {
        Ok(plugins) => plugins,
        Err(error) => {
            return vec![pipeline.problem(
                "plugin.path",
                problem::PLUGIN_CONFIG,
                error.to_string(),
            )];
        }
    };
    pipeline::problems_of(&plugins, pipeline, read)
}
