//! `weir demo`: the whole system at work in a minute.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::error::{Error, Kind, Result};

/// See the whole system at work in a minute: broker, messages, two pipelines, a kill in the middle.
///
/// Starts an embedded broker for trying out, sends seeded XML messages, some of them broken, runs conf/books-raw.toml and
/// conf/books-processed.toml in a child process, kills it with SIGKILL in the middle, starts it again, and shows that
/// nothing was lost or doubled. Everything stays in --dir, with a summary.json.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Where everything is written; what an earlier demo left there is removed
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    pub dir: PathBuf,
    /// How many messages
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pub messages: u64,
    /// Seed of the sample data and of the moment of the kill
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Partitions of the topic
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=64))]
    pub partitions: i32,
    /// Do not kill the child in the middle
    #[arg(long)]
    pub no_kill: bool,
    /// Directory of the plugins
    #[arg(long, value_name = "DIR", default_value = "target/plugins")]
    pub plugin_path: PathBuf,
}

pub(super) fn demo(_args: &DemoArgs) -> Result<Exit> {
    Err(Error::new(
        Kind::Bug,
        "demo",
        "the demo is not wired to the command line",
    ))
}
