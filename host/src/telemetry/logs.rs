//! Log lines: text or JSON, on stderr, through whatever draws there.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::checked::{LogConfig, LogFormat};
use crate::error::{Error, Kind, Result};

static DRAWING: OnceLock<MultiProgress> = OnceLock::new();

/// The drawing on stderr. Log lines step aside for it.
pub(super) fn drawing() -> &'static MultiProgress {
    DRAWING.get_or_init(MultiProgress::new)
}

/// Once per process, before the first event. A second call changes nothing.
pub fn init(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        Error::new(
            Kind::ConfigInvalid,
            "telemetry.init",
            "log.level is not a level",
        )
        .source(error)
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AsideStderr);
    let done = match config.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
    };
    if let Err(error) = done {
        tracing::debug!(%error, "log lines were set up before");
    }
    Ok(())
}

/// One buffer per event, written with the bars out of the way.
#[derive(Debug, Clone, Copy)]
struct AsideStderr;

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for AsideStderr {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::new() }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.bytes);
        drawing().suspend(|| io::stderr().lock().write_all(&bytes))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A closed stderr must not stop a pipeline.
        let _closed = self.flush();
    }
}
