//! `weir check`: all problems of all configs at once.

use clap::Args;
use serde_json::json;

use super::doctor::look;
use super::{Configs, Exit, print_problems, say_lines, say_value, say_words};
use crate::config::{self, PipelineConfig, Problem, Source, problem};
use crate::connectors::CATALOG;
use crate::error::Result;
use crate::operations;
use crate::pipeline::{self, rules::namespace};
use crate::plugin::{Places, Plugins};

/// Find everything that is wrong with configs, without touching a broker or a store.
///
/// Each problem comes with file, line, key, code and hint. The plugins are loaded too, and check their own keys. Exit
/// code 2 if a config would not run; 0 if there are only warnings. With --connect, brokers, stores and this machine are
/// checked as by `weir doctor`, and the exit code is 1 if one of them fails.
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
        problems.extend(loaded.others.iter().flat_map(check_plugins));
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
    if args.json {
        let all: Vec<_> = problems.iter().map(Problem::to_json).collect();
        let names: Vec<&str> = loaded.pipelines.iter().map(|p| p.name.as_str()).collect();
        let broken = looked.as_ref().is_some_and(|looked| looked.sums.fail > 0);
        let mut answer = json!({
            "ok": !failed && !broken, "pipelines": names, "workers": files_of_workers, "problems": all,
        });
        if let Some(looked) = &looked {
            answer["looks"] = json!(looked.looks);
            answer["sums"] = operations::to_json(&looked.sums)?;
        }
        say_value(&answer);
    }
    Ok(match looked {
        Some(looked) => looked.exit(failed),
        None if failed => Exit::Usage,
        None => Exit::Ok,
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
    let mut problems: Vec<Problem> = pipelines.iter().flat_map(check_plugins).collect();
    for reader in pipelines {
        let Source::Zone(zone) = &reader.source else {
            continue;
        };
        let writer = pipelines.iter().find(|other| other.name == zone.pipeline);
        let columns = writer.and_then(|writer| {
            let plugins = Plugins::open(Places::of(writer)).ok()?;
            namespace::table(&plugins, writer)
        });
        let columns = columns.unwrap_or_default();
        problems.extend(namespace::clashes_of_reader(reader, &columns));
    }
    problems
}

/// Loads each transform's plugin and lets it check its keys; a missing plugin is a problem at `transforms.<name>.type`.
pub fn check_plugins(pipeline: &PipelineConfig) -> Vec<Problem> {
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
    pipeline::problems_of(&plugins, pipeline)
}
