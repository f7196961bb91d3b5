//! Each target has one writer: a file of a file sink belongs to one sink only, and none may lie in a pipeline's zone.
//!
//! Files are compared by device and inode, zones by their real path: another name for the same thing makes no
//! difference.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Job;
use crate::config::{PipelineConfig, Place, Problem, problem};
use crate::filestream::FileJob;
use crate::fs::{self, Identity};
use crate::store;

/// Problems of a sink that wants to write a file.
pub fn of_file(others: &[Arc<Job>], name: &str, file: &Path) -> Vec<Problem> {
    let (identity, whole) = (Identity::of(file), fs::resolve(file).ok());
    let taken = |job: &Arc<Job>| match &**job {
        Job::File(FileJob::Sink(theirs)) => {
            let same = identity.is_some() && Identity::of(&theirs.file) == identity;
            same.then(|| format!("is written by the connector `{}`", theirs.name))
        }
        Job::Pipeline(theirs) => {
            let inside = lies_in(whole.as_deref(), zone(theirs).as_deref());
            inside.then(|| format!("lies in the zone of the pipeline `{}`", theirs.name))
        }
        Job::File(FileJob::Source(_)) => None,
    };
    let of = |why: String| {
        let message = format!("`file`: {} {why}", file.display());
        Problem::new(Place::start_of(name), "file", problem::SAME_TABLE, message)
            .hint("a file has one writer; give this connector another")
    };
    others.iter().find_map(taken).map(of).into_iter().collect()
}

/// Problems of a pipeline's zone: a file of a file sink lies in it.
pub fn of_zone(others: &[Arc<Job>], new: &PipelineConfig) -> Vec<Problem> {
    let zone = zone(new);
    let inside = |job: &&Arc<Job>| match &***job {
        Job::File(FileJob::Sink(theirs)) => {
            lies_in(fs::resolve(&theirs.file).ok().as_deref(), zone.as_deref())
        }
        Job::Pipeline(_) | Job::File(FileJob::Source(_)) => false,
    };
    let of = |job: &Arc<Job>| {
        let message = format!(
            "`sink.url`: the connector `{}` writes a file there",
            job.name()
        );
        new.problem("sink.url", problem::SAME_TABLE, message)
            .hint("a zone has one writer; give this pipeline another directory")
    };
    others.iter().find(inside).map(of).into_iter().collect()
}

fn zone(config: &PipelineConfig) -> Option<PathBuf> {
    fs::resolve(&store::directory_of(&config.home.at.url)?).ok()
}

fn lies_in(file: Option<&Path>, zone: Option<&Path>) -> bool {
    matches!((file, zone), (Some(file), Some(zone)) if file.starts_with(zone))
}
