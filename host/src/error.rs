//! The one error type between modules: its kind, the operation, the place, and what to do now.
//!
//! The pipeline matches on [`Kind::remedy`] and on nothing else. Inside a module use small enums; convert once, here,
//! with the place (topic, partition, offset, path, key) as context.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words an operator can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The configuration is invalid; found before any record was read.
    ConfigInvalid,
    /// A broker cannot be reached or does not answer; it may come back.
    SourceUnavailable,
    /// Records that should have been read are gone, or a topic was recreated: going on would hide a loss.
    SourceLost,
    /// A store cannot be reached, is full, or timed out; it may come back.
    StoreUnavailable,
    /// A store refuses, and will refuse again.
    StoreFailed,
    /// The system that takes a pipeline's rows cannot be reached, or asks to come back later.
    SinkUnavailable,
    /// The system that takes a pipeline's rows refuses, and will refuse the next time too.
    SinkRefused,
    /// The commit log breaks one of the rules of the protocol, or an entry or file is missing or altered.
    LogCorrupt,
    /// Another writer committed first; what was prepared is dropped and read again.
    Conflict,
    /// A record was refused and `errors.tolerance` is `none`.
    RecordRefused,
    /// A plugin cannot be loaded: missing, wrong world, forbidden import, config refused.
    PluginRefused,
    /// A plugin trapped, failed or broke the contract in a way that bisecting cannot resolve.
    PluginBroken,
    /// A named limit was reached.
    LimitReached,
    /// It was told to stop, by a signal or a deadline.
    Stopped,
    /// A daemon that was asked over HTTP cannot be reached, broke off or failed.
    DaemonUnavailable,
    /// A defect of Weir itself.
    Bug,
}

/// What the pipeline does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// Pause, report it, try the same again.
    Retry,
    /// Drop what is not committed and begin again at the log's positions.
    RestartTask,
    /// Stop the pipeline; a person has to act.
    StopPipeline,
}

/// Every kind there is.
const KINDS: [Kind; 16] = [
    Kind::ConfigInvalid,
    Kind::SourceUnavailable,
    Kind::SourceLost,
    Kind::StoreUnavailable,
    Kind::StoreFailed,
    Kind::SinkUnavailable,
    Kind::SinkRefused,
    Kind::LogCorrupt,
    Kind::Conflict,
    Kind::RecordRefused,
    Kind::PluginRefused,
    Kind::PluginBroken,
    Kind::LimitReached,
    Kind::Stopped,
    Kind::DaemonUnavailable,
    Kind::Bug,
];

impl Kind {
    /// The inverse of [`Kind::code`].
    pub fn of_code(code: &str) -> Option<Kind> {
        KINDS.into_iter().find(|kind| kind.code() == code)
    }

    pub fn remedy(self) -> Remedy {
        match self {
            Kind::SourceUnavailable | Kind::StoreUnavailable | Kind::SinkUnavailable => {
                Remedy::Retry
            }
            Kind::Conflict => Remedy::RestartTask,
            Kind::ConfigInvalid
            | Kind::SourceLost
            | Kind::RecordRefused
            | Kind::StoreFailed
            | Kind::SinkRefused
            | Kind::LogCorrupt
            | Kind::PluginRefused
            | Kind::PluginBroken
            | Kind::LimitReached
            | Kind::Stopped
            | Kind::DaemonUnavailable
            | Kind::Bug => Remedy::StopPipeline,
        }
    }

    /// Stable code for logs, JSON and `docs/errors.md`.
    pub fn code(self) -> &'static str {
        match self {
            Kind::ConfigInvalid => "config_invalid",
            Kind::SourceUnavailable => "source_unavailable",
            Kind::SourceLost => "source_lost",
            Kind::StoreUnavailable => "store_unavailable",
            Kind::StoreFailed => "store_failed",
            Kind::SinkUnavailable => "sink_unavailable",
            Kind::SinkRefused => "sink_refused",
            Kind::LogCorrupt => "log_corrupt",
            Kind::Conflict => "conflict",
            Kind::RecordRefused => "record_refused",
            Kind::PluginRefused => "plugin_refused",
            Kind::PluginBroken => "plugin_broken",
            Kind::LimitReached => "limit_reached",
            Kind::Stopped => "stopped",
            Kind::DaemonUnavailable => "daemon_unavailable",
            Kind::Bug => "bug",
        }
    }
}

/// `Display` is one line: message, operation, context. `source()` has the rest.
pub struct Error {
    kind: Kind,
    op: &'static str,
    message: String,
    hint: Option<String>,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// `op` names the operation in progress (`log.commit`, `kafka.poll`); `message` says what was expected and found.
    pub fn new(kind: Kind, op: &'static str, message: impl Into<String>) -> Self {
        Error {
            kind,
            op,
            message: message.into(),
            hint: None,
            context: Vec::new(),
            source: None,
        }
    }

    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.context.push((key, value.to_string()));
        self
    }

    /// The command or change that fixes it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same once more, for somebody else. What caused it is a text then.
    #[must_use]
    pub fn again(&self) -> Self {
        Error {
            kind: self.kind,
            op: self.op,
            message: self.message.clone(),
            hint: self.hint.clone(),
            context: self.context.clone(),
            source: self.source.as_ref().map(|cause| cause.to_string().into()),
        }
    }

    /// The same, where it means something else to whoever passes it on.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn remedy(&self) -> Remedy {
        self.kind.remedy()
    }

    pub fn op(&self) -> &'static str {
        self.op
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    /// For people, over several lines: code and message, operation, every cause, hint.
    pub fn trace(&self) -> String {
        let mut out = format!("{}: {}", self.kind.code(), self.message);
        for (key, value) in &self.context {
            out.push_str(&format!("\n    {key}={value}"));
        }
        out.push_str(&format!("\n  during {}", self.op));
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            out.push_str(&format!("\n  caused by: {error}"));
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("\n  hint: {hint}"));
        }
        out
    }

    /// One line: message, context, cause; without the hint.
    pub fn one_line(&self) -> String {
        let mut out = self.message.clone();
        if !self.context.is_empty() {
            let pair = |(key, value): &(&str, String)| format!("{key}={value}");
            let pairs: Vec<String> = self.context.iter().map(pair).collect();
            out.push_str(&format!(" [{}]", pairs.join(" ")));
        }
        if let Some(source) = &self.source {
            out.push_str(&format!(": {source}"));
        }
        out
    }

    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} during {}: {self}", self.kind.code(), self.op)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}
