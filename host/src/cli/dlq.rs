//! `weir dlq`: what was refused, why, and the original bytes.

use clap::{Args, Subcommand};

use super::Exit;
use super::place::{self, Where};
use crate::commit::{AddedFile, Role};
use crate::error::{Error, Kind, Result};

#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    verb: DlqVerb,
}

#[derive(Debug, Subcommand)]
enum DlqVerb {
    /// Count dead letters by code and field
    Ls {
        #[command(flatten)]
        place: Where,
        /// One JSON object per line
        #[arg(long)]
        json: bool,
    },
    /// Show dead letters: the reasons, the rule that refused, the record's coordinates and bytes
    Show {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        filter: FilterArgs,
        /// At most so many; 0 shows all
        #[arg(short = 'n', value_name = "N", default_value_t = 10)]
        limit: usize,
        /// One JSON object per line, bytes in base64
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only letters with this code
    #[arg(long)]
    code: Option<String>,
    /// Only records of this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only records of this partition
    #[arg(long)]
    partition: Option<i32>,
    /// Only the record at this offset
    #[arg(long)]
    offset: Option<i64>,
}

pub(super) fn dlq(args: &DlqArgs) -> Result<Exit> {
    let place = match &args.verb {
        DlqVerb::Ls { place, .. } | DlqVerb::Show { place, .. } => place,
    };
    let found = place.find()?;
    for name in &found.logs {
        let log = place::open(&found, name)?;
        let letters = log
            .state()
            .live
            .values()
            .filter(|l| l.file.role == Role::Letters);
        let _files: Vec<AddedFile> = letters.map(|l| l.file.clone()).collect();
    }
    Err(Error::new(
        Kind::Bug,
        "dlq",
        "dead letters are not wired to the command line",
    ))
}
