//! A pipeline's plugins: whether each is found, intact and loaded, and accepts its keys.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::config::{PipelineConfig, Problem};
use crate::finding::Finding;
use crate::operations::short;
use crate::pipeline::rules::columns_read;
use crate::pipeline::{part_of, problems_of};
use crate::plugin::{Places, Plugins};

const LOOK: &str = "plugin";

pub(super) fn examine(
    config: &PipelineConfig,
    clock: &Arc<dyn Clock>,
    tell: &mut dyn FnMut(Finding),
) {
    let plugins = match Plugins::open(Places::of(config)) {
        Ok(plugins) => plugins,
        Err(error) => return tell(Finding::failed("plugins", None, &error)),
    };
    let mut sound = true;
    for transform in &config.transforms {
        let at = Some(transform.name.as_str());
        let begun = Instant::now();
        match part_of(&plugins, config, transform) {
            Ok(part) => {
                if let Some(component) = part.by.component() {
                    let (info, digest) = (component.info(), short(component.digest()));
                    let says = format!("{}@{} ({digest}) is loaded", info.name, info.version);
                    tell(Finding::pass(LOOK, at, says).took(begun.elapsed()));
                }
            }
            Err(problems) => {
                sound = false;
                for problem in &problems {
                    tell(finding(at, problem).took(begun.elapsed()));
                }
            }
        }
    }
    if sound {
        // Without the zone's columns the keys are checked alone; that it cannot be read is told where it is examined.
        let read = columns_read(config, clock).unwrap_or_default();
        for problem in problems_of(&plugins, config, read.as_ref()) {
            tell(finding(None, &problem));
        }
    }
}

fn finding(at: Option<&str>, problem: &Problem) -> Finding {
    let hint = match &problem.hint {
        Some(hint) => hint.clone(),
        None => format!("`weir explain {}`", problem.code),
    };
    let message = problem.message.clone();
    match problem.is_error() {
        true => Finding::fail(LOOK, at, message, hint),
        false => Finding::warn(LOOK, at, message, hint),
    }
}
