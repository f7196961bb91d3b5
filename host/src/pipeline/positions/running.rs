//! Whether a pipeline runs on this machine now.

use super::open;
use crate::commit::Writer;
use crate::config::PipelineConfig;
use crate::error::Result;

/// The process on this machine that wrote the newest entry, if it is alive: then the pipeline most likely runs. A hint
/// for people; the log itself makes sure that two writers do no harm.
pub fn running(config: &PipelineConfig) -> Result<Option<String>> {
    let clock = crate::clock::SystemClock::shared();
    let log = open(&config.home.at, &config.name, &config.home.zone, &clock)?;
    let Some(writer) = log.as_ref().and_then(|log| log.state().last_writer()) else {
        return Ok(None);
    };
    let own = Writer::this_process(clock.as_ref()).id;
    let split = |id: &str| {
        id.rsplit_once(':')
            .map(|(host, pid)| (host.to_owned(), pid.to_owned()))
    };
    let (Some((here, me)), Some((host, pid))) = (split(&own), split(&writer.id)) else {
        return Ok(None);
    };
    // Process ids are reused: it must also be this program.
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let same = host == here && pid != me && program(&pid).is_some_and(|p| Some(p) == program(&me));
    Ok(same.then(|| writer.id.clone()))
}
