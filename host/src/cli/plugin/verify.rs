//! `weir plugin test`: one line per check, exit code 1 if one fails.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::author::build::Say;
use crate::author::check::{self, Checked};
use crate::author::{Subject, sample};
use crate::cli::{Exit, say, say_value};
use crate::error::Result;
use crate::telemetry::time;

/// Tests a plugin with its golden samples and the checks that every plugin must pass.
///
/// Golden samples: samples/<case>/ with config.toml, one of messages.txt, messages/, rows.jsonl, and expected.jsonl.
/// The same batches again: repeated, halved, row by row, reordered, in fresh instances. Hostile input: nulls, empty and
/// huge values, invalid text, the ends of every range, deep nesting, noise, samples with wrong bytes, nulls among values.
/// Cost: fuel per row.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Folder of the crate (it is built), a .wasm file, or a name in --plugin-path
    #[arg(value_name = "DIR|FILE.wasm|NAME", default_value = ".")]
    plugin: PathBuf,
    /// Directory of loose plugins
    #[arg(long, value_name = "DIR", default_value = super::PLUGIN_PATH)]
    plugin_path: PathBuf,
    /// Folder of the samples [default: samples/ beside the crate]
    #[arg(long, value_name = "DIR")]
    samples: Option<PathBuf>,
    /// Write expected.jsonl of every sample as the plugin is now
    #[arg(long)]
    update: bool,
    /// Seed of random choices; by default another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Fail if a row costs more
    #[arg(long, value_name = "N")]
    max_fuel_per_row: Option<u64>,
    /// One JSON object per check
    #[arg(long)]
    json: bool,
}

pub(super) fn test(args: &TestArgs) -> Result<Exit> {
    let subject = Subject::find(&args.plugin, &args.plugin_path, Say::Errors)?;
    let dir = match &args.samples {
        Some(dir) => dir.clone(),
        None => match subject.dir == Path::new(".") {
            true => PathBuf::from("samples"),
            false => subject.dir.join("samples"),
        },
    };
    let samples = sample::read_all(&dir, &subject.component.info().name)?;
    let seed = args.seed.unwrap_or_else(check::any_seed);
    let checks = [
        check::samples(&subject, &samples, args.update)?,
        check::purity(&subject, &samples, seed)?,
        check::hostility(&subject, &samples, seed)?,
        check::cost(&subject, &samples, args.max_fuel_per_row)?,
    ];
    let failed = checks.iter().filter(|c| !c.faults.is_empty()).count();
    match args.json {
        true => checks.iter().for_each(|check| say_value(&as_json(check))),
        false => show(&subject, &dir, &checks, failed),
    }
    Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
}

fn as_json(check: &Checked) -> serde_json::Value {
    json!({
        "check": check.name, "ok": check.faults.is_empty(), "found": check.found, "faults": check.faults,
        "ms": check.time.as_millis() as u64,
    })
}

fn show(subject: &Subject, dir: &Path, checks: &[Checked], failed: usize) {
    let info = subject.component.info();
    let digest = &subject.component.digest()[..19];
    say(format!(
        "{} {} ({digest}…), {}",
        info.name,
        info.version,
        dir.display()
    ));
    let widest = |text: fn(&Checked) -> &str| checks.iter().map(|c| text(c).chars().count()).max();
    let name = widest(|check| check.name).unwrap_or(0);
    let found = widest(|check| &check.found).unwrap_or(0);
    for check in checks {
        let verdict = if check.faults.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        let took = time(check.time);
        say(format!(
            "  {verdict:<6}  {:<name$}  {:<found$}  {took}",
            check.name, check.found
        ));
    }
    for fault in checks.iter().flat_map(|check| &check.faults) {
        say(fault);
    }
    if failed > 0 {
        say(format!("{failed} of {} checks failed", checks.len()));
    }
}
