//! A daemon instead of files: its address, and the login.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{place, to_stderr};
use crate::error::{Error, Kind, Result};
use crate::http::client::{Client, Credentials};

/// The default address of a daemon.
const DEFAULT_URL: &str = "http://127.0.0.1:8083";

/// Heading of these options alone: set for the struct, clap would put the later options of a command below it too.
const HEADING: &str = "Against a daemon";

#[derive(Debug, Clone, Default, Args)]
pub(super) struct Remote {
    /// Ask the daemon there instead of files here [env: WEIR_URL]
    #[arg(long, help_heading = HEADING, value_name = "URL")]
    url: Option<String>,
    /// File with a token that the daemon knows [env: WEIR_TOKEN]
    #[arg(long, help_heading = HEADING, value_name = "FILE", conflicts_with = "password_file")]
    token_file: Option<PathBuf>,
    /// File with USER:PASSWORD [env: WEIR_USER and WEIR_PASSWORD]
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// PEM file of the certificates to trust, instead of the system's
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Remote {
    /// `None`: local files. WEIR_URL is ignored for a file, a directory or a zone's URL; an empty --url means none.
    pub(super) fn client(&self, at: &str) -> Result<Option<Client>> {
        let here = || place::is_url(at) || Path::new(at).exists();
        match &self.url {
            Some(url) if url.is_empty() => Ok(None),
            Some(url) => self.connect(url).map(Some),
            None => match variable("WEIR_URL") {
                Some(url) if !here() => self.connect(&url).map(Some),
                _ => Ok(None),
            },
        }
    }

    /// For verbs that need a daemon.
    pub(super) fn daemon(&self) -> Result<Client> {
        match self.client("")? {
            Some(client) => Ok(client),
            None => self.connect(DEFAULT_URL),
        }
    }

    /// For requests that need no login: none is sent.
    pub(super) fn without_login(&self) -> Result<Client> {
        let named = self.url.clone().filter(|url| !url.is_empty());
        let url = named.or_else(|| variable("WEIR_URL"));
        let url = url.as_deref().unwrap_or(DEFAULT_URL);
        Client::new(url, &Credentials::None, self.ca.as_deref())
    }

    /// Whether the command line itself names a daemon.
    pub(super) fn is_named(&self) -> bool {
        self.url.as_ref().is_some_and(|url| !url.is_empty())
    }

    fn connect(&self, url: &str) -> Result<Client> {
        let client = Client::new(url, &self.credentials()?, self.ca.as_deref())?;
        if client.bares_a_secret() {
            to_stderr(&format!(
                "warning: {url} is not encrypted: whoever listens on the way can read the token or password\n"
            ));
        }
        Ok(client)
    }

    /// Files before variables, a token before a password.
    fn credentials(&self) -> Result<Credentials> {
        let split = |text: &str| {
            let (user, password) = text.split_once(':')?;
            Some(Credentials::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        if let Some(file) = &self.token_file {
            return Ok(Credentials::Token(first_line(file)?));
        }
        if let Some(file) = &self.password_file {
            return split(&first_line(file)?)
                .ok_or_else(|| usage(format!("{} is not USER:PASSWORD", file.display())));
        }
        if let Some(token) = variable("WEIR_TOKEN") {
            return Ok(Credentials::Token(token));
        }
        match (variable("WEIR_USER"), variable("WEIR_PASSWORD")) {
            (Some(user), Some(password)) => Ok(Credentials::Password { user, password }),
            (None, None) => Ok(Credentials::None),
            _ => Err(usage("WEIR_USER and WEIR_PASSWORD go together")),
        }
    }
}

/// Options of a local command that mean nothing to a daemon: `(option, whether it was given)`.
pub(super) fn local_only(options: &[(&str, bool)]) -> Result<()> {
    match options.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(usage(format!(
            "{option} is of files here; a daemon goes by its own"
        ))
        .hint("leave it out, or leave out --url (and WEIR_URL)")),
    }
}

/// A daemon's answer as the value that a local command makes.
pub(super) fn read<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).map_err(|e| {
        Error::new(
            Kind::DaemonUnavailable,
            "daemon.ask",
            "the daemon's answer has another form than this program reads",
        )
        .source(e)
        .hint("use the `weir` of the daemon's release")
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn first_line(file: &Path) -> Result<String> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| usage(format!("{} cannot be read", file.display())).source(e))?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(usage(format!("{} is empty", file.display()))),
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, "daemon.ask", message)
}
