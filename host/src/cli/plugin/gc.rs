//! `weir plugin gc`: deletes from the plugin store what no version, log or config needs.
//!
//! A log keeps every digest in its entries, in whatever field it is. Files written within [`GRACE`] stay, because a
//! swap stores files before the log names them.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use serde_json::json;

use super::PlacesArgs;
use crate::cli::place::{self, Where};
use crate::cli::{Exit, print_problems, say, say_value};
use crate::clock::SystemClock;
use crate::config::{self, Overlay};
use crate::connect;
use crate::error::{Error, Kind, Result};
use crate::operations::collect::Needed;
use crate::pipeline;
use crate::plugin::{Item, Places, Plugins};
use crate::telemetry::{bytes, plural};

/// Longer than any swap waits between storing and its entry.
const GRACE: Duration = Duration::from_secs(3_600);

#[derive(Debug, Args)]
pub(super) struct GcArgs {
    /// Keep what the logs of this zone name; give every zone that uses the store, one --zone each
    #[arg(long, value_name = "NAME|URL|FILE")]
    zone: Vec<String>,
    /// Keep what the configs in this directory point to
    #[arg(long, value_name = "DIR", default_value = "conf")]
    conf: String,
    /// No zone uses this store: delete all that no version and no config needs
    #[arg(long, conflicts_with = "zone")]
    all_unreferenced: bool,
    #[command(flatten)]
    places: PlacesArgs,
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    dry_run: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn gc(args: &GcArgs) -> Result<Exit> {
    if args.zone.is_empty() && !args.all_unreferenced && !args.dry_run {
        let message = "no zone was named, so nobody knows what logs still need";
        return Err(Error::new(Kind::ConfigInvalid, "plugin.gc", message).hint(
            "--zone for every zone that uses this store; --all-unreferenced if none does; --dry-run to look",
        ));
    }
    let places = args.places.places();
    let plugins = Plugins::open(places.clone())?;
    let store = plugins.store();
    let mut needed = Needed::of_versions(store)?;
    for at in &args.zone {
        let place = Where {
            conf: args.conf.clone(),
            ..Where::at(at)
        };
        let found = place.find()?;
        for name in &found.logs {
            let log = place::open(&found, name)?;
            needed.of_log(found.store.as_ref(), name, &log, &|| Ok(()))?;
        }
    }
    if !of_configs(&mut needed, Path::new(&args.conf), &places)? {
        return Ok(Exit::Usage);
    }
    needed.follow(store)?;
    let now = now();
    let (gone, kept): (Vec<Item>, Vec<Item>) = (store.items()?.into_iter())
        .partition(|item| !needed.holds(item) && age(now, item.modified) > GRACE);
    let sum = |items: &[Item]| items.iter().map(|item| item.bytes).sum::<u64>();
    let (freed, left) = (sum(&gone), sum(&kept));
    let would = if args.dry_run {
        "would delete"
    } else {
        "deleting"
    };
    if args.json {
        let paths: Vec<String> = (gone.iter())
            .map(|i| i.path.display().to_string())
            .collect();
        say_value(
            &json!({ "dry_run": args.dry_run, "delete": paths, "bytes": freed, "kept": kept.len(), "kept_bytes": left }),
        );
    } else {
        for item in &gone {
            say(format!(
                "{would} {} ({})",
                item.path.display(),
                bytes(item.bytes)
            ));
        }
        say(format!(
            "{would} {} ({}), {} stay ({})",
            plural(gone.len() as u64, "file"),
            bytes(freed),
            kept.len(),
            bytes(left)
        ));
    }
    if !args.dry_run {
        gone.iter().try_for_each(Item::remove)?;
    }
    Ok(Exit::Ok)
}

fn now() -> SystemTime {
    let micros = SystemClock::shared().now_micros();
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// None: by this machine's clock it was written in the future.
fn age(now: SystemTime, modified: SystemTime) -> Duration {
    now.duration_since(modified).unwrap_or_default()
}

/// What each config in a directory needs now. False: one cannot be understood; its problems are on stderr.
fn of_configs(needed: &mut Needed, dir: &Path, places: &Places) -> Result<bool> {
    for file in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = file.path();
        let readable = path
            .extension()
            .is_some_and(|e| e == "toml" || e == "properties" || e == "json");
        let Some(path) = path.to_str().filter(|_| readable) else {
            continue;
        };
        let loaded = connect::load(&[path.to_owned()], &Overlay::default());
        if loaded.has_errors() {
            print_problems(&loaded.problems);
            return Ok(false);
        }
        for pipeline in &loaded.pipelines {
            let plugins = Plugins::open(Places {
                store: places.store.clone(),
                ..Places::of(pipeline)
            })?;
            for transform in &pipeline.transforms {
                match pipeline::part_of(&plugins, pipeline, transform) {
                    Ok(part) => {
                        if let Some(component) = part.by.component() {
                            needed.add(component.digest());
                        }
                        needed.add(part.config.digest());
                    }
                    // A config that cannot be built has nothing in the store that could be determined here.
                    Err(problems) => print_problems(
                        &problems
                            .into_iter()
                            .map(config::Problem::warning)
                            .collect::<Vec<_>>(),
                    ),
                }
            }
        }
    }
    Ok(true)
}
