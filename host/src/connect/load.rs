//! The pipelines of one run, from their files, of whichever class each config is.

use super::Defaults;
use crate::config::{self, Loaded, Origin, Overlay};
use crate::connectors::CATALOG;

/// Reads and checks the files of one run. Touches no broker, no store, no plugin.
pub fn load(files: &[String], overlay: &Overlay) -> Loaded {
    let (raws, mut problems) = config::load_pipelines(files, overlay, &CATALOG);
    let mut pipelines = Vec::new();
    let mut others = Vec::new();
    for (raw, readable) in raws {
        if readable {
            let defaults = Defaults::default();
            let (mut pipeline, found) = super::pipeline(raw.clone(), &defaults);
            if let Some(pipeline) = &mut pipeline {
                pipeline.origin = Some(Origin {
                    files: files.to_vec(),
                    overlay: overlay.clone(),
                    load,
                });
            }
            if pipeline.is_none() {
                others.extend(super::stand_in(raw, &defaults, &found));
            }
            pipelines.extend(pipeline);
            problems.extend(found);
        }
    }
    problems.extend(config::between(&pipelines));
    Loaded {
        pipelines,
        others,
        problems,
    }
}
