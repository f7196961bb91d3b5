//! The daemon's config: a flat map in TOML, or Kafka Connect's worker `.properties`.
//!
//! It is read once; all problems are reported at once, each with place, code and hint. A [`WorkerConfig`] is valid:
//! nothing has to be checked again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checked::{LogConfig, LogFormat};
use super::problem::{self, Problem};
use super::raw::{Entry, Raw};
use super::shape::Value;
use super::text::Text;
use crate::backoff::Backoff;
use crate::nearest::nearest;

mod allow;
pub mod connect;
pub mod keys;
pub mod theirs;

pub use allow::AllowConfig;
pub use connect::{CONVERTERS, Client, DECIDED, Idle, Overrides, Theirs};

use keys::{BASIC, BEARER, KEYS, STORE_MAP};

#[derive(Clone)]
pub struct WorkerConfig {
    pub data_dir: PathBuf,
    /// Config files of pipelines to create if the journal has never known them.
    pub pipelines: Vec<String>,
    pub rest: RestConfig,
    /// The default brokers, for configs of Connect's classes.
    pub bootstrap_servers: Option<String>,
    pub plugin_path: PathBuf,
    pub plugin_store: PathBuf,
    pub plugin_cache: PathBuf,
    /// URL prefix of another system → ours.
    pub stores: Vec<(String, String)>,
    /// What configs by REST may use of this machine.
    pub allow: AllowConfig,
    pub shutdown_timeout: Duration,
    pub restart: RestartConfig,
    pub log: LogConfig,
    pub log_dir: Option<PathBuf>,
    pub webhook: Option<WebhookConfig>,
    /// Settings of a Connect worker's file for connectors.
    pub theirs: Theirs,
    /// Keys of a Connect worker that decide nothing here.
    pub idle: Idle,
    /// As typed, references unresolved.
    pub raw: Raw,
}

/// Where progress is posted. References are resolved for each message.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub url: Text,
    pub authorization: Option<Text>,
}

#[derive(Clone, Debug)]
pub struct RestConfig {
    /// At least one.
    pub listen: Vec<Listen>,
    pub advertised: Option<String>,
    pub tls: Option<TlsFiles>,
    /// User → password, name → token; references, resolved at use.
    pub basic: BTreeMap<String, Text>,
    pub bearer: BTreeMap<String, Text>,
    pub read_only: BTreeSet<String>,
    pub open_to_network: bool,
    pub max_body: usize,
    pub max_plugin: usize,
    pub max_header: usize,
    pub max_connections: usize,
    /// Most connections of one peer that is not this machine.
    pub max_per_peer: usize,
    pub max_rate: u32,
    pub request_timeout: Duration,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub allow_origin: Option<String>,
    pub allow_methods: Option<String>,
}

/// Where to listen. An empty host means every address of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// When a pipeline that failed begins again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    pub backoff: Backoff,
    pub attempts: u64,
    /// After this time without a failure the count of attempts begins again.
    pub reset: Duration,
}

impl Listen {
    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for WorkerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt(f)
    }
}

/// Reads the file, applies `--set key=value` and checks everything. `None`: at least one of the problems is an error.
pub fn load(file: &str, set: &[String]) -> (Option<WorkerConfig>, Vec<Problem>) {
    let (mut raw, mut problems) = super::read::read(file);
    let unreadable = [problem::UNREADABLE, problem::SYNTAX];
    let readable = !problems.iter().any(|p| unreadable.contains(&p.code));
    for (number, assignment) in (1u32..).zip(set) {
        match assignment.split_once('=') {
            Some((key, value)) => raw.set(key.trim(), value.trim(), number),
            None => problems.push(
                Problem::new(
                    problem::Place::Set(number),
                    assignment.as_str(),
                    problem::SYNTAX,
                    format!("`--set {assignment}` has no `=`"),
                )
                .hint("write --set key=value"),
            ),
        }
    }
    if !readable {
        return (None, problems);
    }
    if let Some(problem) = super::What::of(&raw).no_worker(&raw) {
        problems.push(problem);
        return (None, problems);
    }
    let failed = problems.iter().any(Problem::is_error);
    let (config, found) = check(raw);
    problems.extend(found);
    (config.filter(|_| !failed), problems)
}

/// From a map, as a test has it.
pub fn from_map<'a>(
    label: &str,
    map: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> crate::error::Result<WorkerConfig> {
    let mut raw = Raw::new(label);
    for (key, value) in map {
        let place = raw.start_of_file();
        raw.insert(key.to_owned(), value.to_owned(), place)
            .map_err(|p| super::refused(&[p]))?;
    }
    let (config, problems) = check(raw);
    config.ok_or_else(|| super::refused(&problems))
}

fn check(raw: Raw) -> (Option<WorkerConfig>, Vec<Problem>) {
    let mut reader = Reader {
        lenient: Path::new(raw.file.as_ref())
            .extension()
            .is_some_and(|e| e == "properties"),
        raw: &raw,
        values: BTreeMap::new(),
        idle: Idle::default(),
        problems: Vec::new(),
    };
    reader.each_key();
    let built = reader.build();
    let mut problems = reader.problems;
    problems.sort_by(|a, b| (&a.place, &a.key).cmp(&(&b.place, &b.key)));
    let failed = problems.iter().any(Problem::is_error);
    (built.filter(|_| !failed), problems)
}

struct Reader<'a> {
    raw: &'a Raw,
    /// It is a Connect worker's file: keys without a meaning here are ignored.
    lenient: bool,
    values: BTreeMap<&'static str, Value>,
    idle: Idle,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn problem(&mut self, key: &str, code: &'static str, message: String, hint: Option<String>) {
        let mut problem = Problem::new(self.raw.place(key), key, code, message);
        problem.hint = hint;
        self.problems.push(problem);
    }

    fn each_key(&mut self) {
        let raw = self.raw;
        for (key, entry) in raw.iter() {
            if let Some(def) = keys::find(key) {
                self.known(def, entry);
            } else if let Some(name) = key.strip_prefix(BASIC).or(key.strip_prefix(BEARER)) {
                self.secret(key, name, &entry.value);
            } else if !key.starts_with(STORE_MAP) {
                self.theirs(key, &entry.value);
            }
        }
        for profile in raw.profiles() {
            let key = format!("profile.{profile}");
            let message = "the daemon's config has no profiles".to_owned();
            self.problem(&key, problem::UNKNOWN_KEY, message, None);
        }
    }

    fn unknown(&mut self, key: &str) {
        let hint = match meant(key) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if super::keys::is_pipelines(key) => Some(
                "that is a key of a pipeline: put it into the pipeline's own config".to_owned(),
            ),
            None => None,
        };
        let message = format!("the daemon's config has no key `{key}`");
        self.problem(key, problem::UNKNOWN_KEY, message, hint);
    }

    fn resolved(&mut self, key: &str, value: &Text) -> Option<String> {
        if let Err(message) = value.check_form() {
            self.problem(key, problem::BAD_REFERENCE, message, None);
            return None;
        }
        match value.resolve() {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) => {
                let hint = error.hint_text().map(str::to_owned);
                let message = format!("`{key}`: {}", error.message());
                self.problem(key, problem::UNRESOLVED, message, hint);
                None
            }
        }
    }

    fn known(&mut self, def: &'static keys::WorkerKey, entry: &Entry) {
        let Some(text) = self.resolved(def.name, &entry.value) else {
            return;
        };
        match def.shape.parse(&text) {
            Ok(value) => {
                self.values.insert(def.name, value);
            }
            Err(refusal) => {
                let found = match text.as_str() {
                    "" => "nothing".to_owned(),
                    _ => format!("`{}`", entry.value),
                };
                let expected = refusal.expected;
                let message = format!("`{}`: expected {expected}, found {found}", def.name);
                let hint = refusal.hint.filter(|_| !entry.value.has_reference());
                self.problem(def.name, refusal.code, message, hint);
            }
        }
    }

    /// Passwords and tokens must be references, and must resolve to a value.
    fn secret(&mut self, key: &str, name: &str, value: &Text) {
        if name.is_empty() || name.contains(|c: char| c == ':' || c.is_control()) {
            let message = format!("`{key}` needs a name without `:` behind its last dot");
            self.problem(key, problem::BAD_NAME, message, None);
        }
        if value.is_literal_secret() {
            let message = format!("`{key}` holds the secret itself");
            let hint = format!(
                "write {key} = \"${{env:NAME}}\" or \"${{file:/etc/weir/secrets.properties:{name}}}\", without a default"
            );
            self.problem(key, problem::LITERAL_SECRET, message, Some(hint));
        } else if self
            .resolved(key, value)
            .is_some_and(|text| text.is_empty())
        {
            let message = format!("`{key}`: {} is empty", value.typed());
            self.problem(key, problem::UNRESOLVED, message, None);
        }
    }

    // -------------------------------------------------------------- values

    fn value(&self, key: &str) -> Option<Value> {
        if let Some(value) = self.values.get(key) {
            return Some(value.clone());
        }
        let def = keys::find(key)?;
        match def.default {
            super::keys::Default::Is(default) => def.shape.parse(default).ok(),
            _ => None,
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn items(&self, key: &str) -> Vec<String> {
        let text = self.text(key).unwrap_or_default();
        let items = text.split(',').map(str::trim);
        items.filter(|i| !i.is_empty()).map(str::to_owned).collect()
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    fn number(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::Number(n) => Some(n),
            _ => None,
        }
    }

    fn size(&self, key: &str) -> Option<usize> {
        usize::try_from(self.number(key)?).ok()
    }

    fn duration(&self, key: &str) -> Option<Duration> {
        match self.value(key)? {
            Value::Duration(time) => Some(time),
            _ => None,
        }
    }

    /// The value of Connect's key that corresponds to one of ours.
    fn familiar(&mut self, key: &str) -> Option<String> {
        let entry = self.raw.get(key)?;
        self.resolved(key, &entry.value)
    }

    // --------------------------------------------------------------- build

    /// `None` only if a problem was reported.
    fn build(&mut self) -> Option<WorkerConfig> {
        let theirs = self.connect();
        let rest = self.rest(&theirs.logins);
        let shutdown_timeout = self.shutdown_timeout();
        let stores = self.stores();
        let plugin_path = self.plugin_folder()?;
        let restart = RestartConfig {
            backoff: Backoff::new(
                self.duration("restart.backoff")?,
                self.duration("restart.max.backoff")?,
            ),
            attempts: self.number("restart.attempts")?,
            reset: self.duration("restart.reset")?,
        };
        if restart.backoff.first > restart.backoff.max {
            let message = "`restart.backoff` is longer than `restart.max.backoff`".to_owned();
            let hint = Some("lower the first wait".to_owned());
            self.problem("restart.backoff", problem::CONTRADICTION, message, hint);
        }
        Some(WorkerConfig {
            data_dir: self.path("data.dir")?,
            pipelines: self.items("pipelines"),
            rest: rest?,
            bootstrap_servers: self.text("bootstrap.servers"),
            plugin_store: (self.path("plugin.store")).unwrap_or_else(|| plugin_path.join("store")),
            plugin_cache: (self.path("plugin.cache")).unwrap_or_else(|| plugin_path.join(".cache")),
            plugin_path,
            stores,
            allow: self.allow(),
            shutdown_timeout: shutdown_timeout?,
            restart,
            log: LogConfig {
                format: match self.text("log.format")?.as_str() {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                level: self.text("log.level")?,
            },
            log_dir: self.path("log.dir"),
            webhook: self.webhook(),
            theirs,
            idle: std::mem::take(&mut self.idle),
            raw: self.raw.clone(),
        })
    }

    fn webhook(&mut self) -> Option<WebhookConfig> {
        const URL: &str = "progress.webhook.url";
        const AUTHORIZATION: &str = "progress.webhook.authorization";
        let typed = |key: &str| self.raw.get(key).map(|entry| entry.value.clone());
        let (url, authorization) = (typed(URL), typed(AUTHORIZATION));
        if let (None, Some(_)) = (&url, &authorization) {
            let message = format!("`{AUTHORIZATION}` has no effect without `{URL}`");
            self.problem(AUTHORIZATION, problem::CONTRADICTION, message, None);
        }
        if authorization
            .as_ref()
            .is_some_and(|text| !text.has_reference())
        {
            let message = format!("`{AUTHORIZATION}` holds the secret itself");
            let hint = Some(format!("write {AUTHORIZATION} = \"Bearer ${{env:NAME}}\""));
            self.problem(AUTHORIZATION, problem::LITERAL_SECRET, message, hint);
        }
        Some(WebhookConfig {
            url: url?,
            authorization,
        })
    }

    fn shutdown_timeout(&mut self) -> Option<Duration> {
        const THEIRS: &str = "task.shutdown.graceful.timeout.ms";
        match self.familiar(THEIRS) {
            Some(text) if !self.values.contains_key("shutdown.timeout") => match text.parse() {
                Ok(ms) => Some(Duration::from_millis(ms)),
                Err(_) => {
                    let message = format!("`{THEIRS}`: expected milliseconds, found `{text}`");
                    self.problem(THEIRS, problem::WRONG_TYPE, message, None);
                    None
                }
            },
            _ => self.duration("shutdown.timeout"),
        }
    }

    fn stores(&mut self) -> Vec<(String, String)> {
        let raw = self.raw;
        let mut out = Vec::new();
        for (key, entry) in raw.iter() {
            let Some(prefix) = key.strip_prefix(STORE_MAP) else {
                continue;
            };
            let Some(text) = self.resolved(key, &entry.value) else {
                continue;
            };
            match super::shape::Shape::Url.parse(&text) {
                Ok(Value::Text(url)) if !prefix.is_empty() => out.push((prefix.to_owned(), url)),
                Ok(_) => {
                    let message = format!("`{key}` needs a URL's beginning behind its last dot");
                    self.problem(key, problem::BAD_URL, message, None);
                }
                Err(refusal) => {
                    let message = format!("`{key}`: expected {}", refusal.expected);
                    self.problem(key, refusal.code, message, refusal.hint);
                }
            }
        }
        out
    }

    fn rest(&mut self, logins: &BTreeMap<String, Text>) -> Option<RestConfig> {
        let tls = self.tls();
        let secrets = |prefix: &str| {
            let of = |(key, entry): (&str, &Entry)| {
                Some((key.strip_prefix(prefix)?.to_owned(), entry.value.clone()))
            };
            self.raw.iter().filter_map(of).collect()
        };
        let (basic, bearer): (BTreeMap<_, _>, BTreeMap<_, _>) = (secrets(BASIC), secrets(BEARER));
        let basic: BTreeMap<_, _> = logins.clone().into_iter().chain(basic).collect();
        let read_only: BTreeSet<String> = self.items("rest.auth.read.only").into_iter().collect();
        for name in &read_only {
            if !basic.contains_key(name) && !bearer.contains_key(name) {
                let key = "rest.auth.read.only";
                let message = format!("`{key}` lists `{name}`, of whom nothing else is said");
                let hint = Some(format!("add {BASIC}{name} or {BEARER}{name}"));
                self.problem(key, problem::CONTRADICTION, message, hint);
            }
        }
        let listen = self.listen(tls.is_some());
        let open_to_network = self.value("rest.open.to.network")? == Value::Flag(true);
        if basic.is_empty() && bearer.is_empty() && !open_to_network {
            self.only_this_machine(&listen);
        }
        let max_connections = self.size("rest.max.connections")?;
        let max_per_peer = match self.size("rest.max.connections.per.peer") {
            Some(given) => given,
            None => max_connections.div_ceil(2),
        };
        Some(RestConfig {
            advertised: self.advertised(&listen),
            listen,
            tls,
            basic,
            bearer,
            read_only,
            open_to_network,
            max_body: self.size("rest.max.body")?,
            max_plugin: self.size("rest.max.plugin")?,
            max_header: self.size("rest.max.header")?,
            max_connections,
            max_per_peer,
            max_rate: u32::try_from(self.number("rest.max.rate")?).ok()?,
            request_timeout: self.duration("rest.request.timeout")?,
            header_timeout: self.duration("rest.header.timeout")?,
            body_timeout: self.duration("rest.body.timeout")?,
            allow_origin: self.text("access.control.allow.origin"),
            allow_methods: self.text("access.control.allow.methods"),
        })
    }

    fn tls(&mut self) -> Option<TlsFiles> {
        match (self.path("rest.tls.certificate"), self.path("rest.tls.key")) {
            (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
            (None, None) => None,
            (certificate, _) => {
                let (has, lacks) = match certificate {
                    Some(_) => ("rest.tls.certificate", "rest.tls.key"),
                    None => ("rest.tls.key", "rest.tls.certificate"),
                };
                let message = format!("`{has}` without `{lacks}`");
                let hint = Some("TLS needs both files".to_owned());
                self.problem(has, problem::CONTRADICTION, message, hint);
                None
            }
        }
    }

    /// Checks a daemon without logins: only this machine may reach it.
    fn only_this_machine(&mut self, listen: &[Listen]) {
        let Some(beyond) = listen.iter().find(|l| !l.is_loopback()) else {
            return;
        };
        let key = match self.raw.get("rest.listen") {
            Some(_) => "rest.listen",
            None => "listeners",
        };
        let message = format!(
            "`{key}`: {beyond} can be reached from the network, and nobody has to say who they are"
        );
        let hint = format!(
            "listen on 127.0.0.1:{}, or add {BASIC}<user>, or write rest.open.to.network = true",
            beyond.port
        );
        self.problem(key, problem::CONTRADICTION, message, Some(hint));
    }

    fn advertised(&mut self, listen: &[Listen]) -> Option<String> {
        let host = self.familiar("rest.advertised.host.name");
        let port = self.familiar("rest.advertised.port");
        let first = listen.first();
        self.text("rest.advertised").or(match (host, port, first) {
            (Some(host), Some(port), _) => Some(format!("{host}:{port}")),
            (Some(host), None, Some(first)) => Some(format!("{host}:{}", first.port)),
            _ => None,
        })
    }

    fn listen(&mut self, has_tls: bool) -> Vec<Listen> {
        let theirs = self.familiar("listeners");
        let (key, text) = match (theirs, self.raw.get("rest.listen")) {
            (Some(text), None) => ("listeners", text),
            _ => ("rest.listen", self.text("rest.listen").unwrap_or_default()),
        };
        let mut out = Vec::new();
        for one in text.split(',').map(str::trim) {
            match listener(one, has_tls) {
                Some(listen) if listen.tls && !has_tls => {
                    let message = format!("`{key}`: {one} needs a certificate");
                    let hint = Some("set rest.tls.certificate and rest.tls.key".to_owned());
                    self.problem(key, problem::CONTRADICTION, message, hint);
                }
                Some(listen) => out.push(listen),
                None => {
                    let message = format!("`{key}`: expected host:port, found `{one}`");
                    let hint =
                        Some("for instance 127.0.0.1:8083 or http://127.0.0.1:8083".to_owned());
                    self.problem(key, problem::WRONG_TYPE, message, hint);
                }
            }
        }
        out
    }
}

/// The key that a misspelt one probably means: one of ours, one below a prefix of ours, or one of Connect's that is
/// honoured.
fn meant(key: &str) -> Option<String> {
    let honoured = theirs::THEIRS.iter();
    let honoured = honoured.filter(|(_, fate)| matches!(fate, theirs::Fate::Honoured(_)));
    let ours = KEYS.iter().map(|def| def.name);
    let known = ours.chain(honoured.map(|(name, _)| *name));
    if let Some(near) = nearest(key, known) {
        return Some(near.to_owned());
    }
    // The rest after the prefix is a name that the user chooses.
    [BASIC, BEARER, STORE_MAP].into_iter().find_map(|prefix| {
        let dots = prefix.matches('.').count();
        let (end, _) = key.match_indices('.').nth(dots - 1)?;
        let (typed, name) = key.split_at(end + 1);
        nearest(typed, [prefix]).map(|prefix| format!("{prefix}{name}"))
    })
}

/// `host:port`, `http://host:port`, `https://:port`.
/// A place to listen: `host:port` or `http://host:port`, without TLS.
pub fn listener_without_tls(text: &str) -> Option<Listen> {
    listener(text, false).filter(|listen| !listen.tls)
}

fn listener(text: &str, has_tls: bool) -> Option<Listen> {
    let (tls, place) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        Some(_) => return None,
        None => (has_tls, text),
    };
    let (host, port) = place.trim_end_matches('/').rsplit_once(':')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    let bare_v6 = host.contains(':') && !host.starts_with('[');
    if bare_v6 || !host.chars().all(legal) {
        return None;
    }
    Some(Listen {
        host: host.to_owned(),
        port: port.parse().ok()?,
        tls,
    })
}

#[cfg(test)]
#[path = "worker/tests.rs"]
mod tests;
