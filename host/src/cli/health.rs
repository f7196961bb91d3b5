//! `weir health`: whether a daemon is healthy, for probes of containers and service managers.

use clap::Args;

use super::remote::Remote;
use super::{Exit, say};
use crate::error::Result;

/// Ask a daemon whether it is healthy: exit code 0, or 1 and the reason.
///
/// Needs no login. A daemon is unhealthy if it answers but cannot do its work, for instance because its disk is full.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    remote: Remote,
}

pub(super) fn health(args: &HealthArgs) -> Result<Exit> {
    let client = args.remote.without_login()?;
    let told = client.get("/health")?;
    let word = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    say(format!("{}: {}", word("status"), word("message")));
    Ok(Exit::Ok)
}
