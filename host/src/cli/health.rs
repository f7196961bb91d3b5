//! `weir health`: is a daemon well? For probes of containers and service managers.

use clap::Args;

use super::remote::Remote;
use super::{Exit, say};
use crate::error::Result;

/// Ask a daemon whether it is well: exit code 0, or 1 and the reason.
///
/// Needs no login. Unhealthy is a daemon that answers and cannot do its work, for instance because its disk is full.
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
