//! The keys of a Connect worker's file beyond our own: clients, converters, providers, logins. Each is honoured or
//! refused by name; a key without effect here is reported once, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::java::{self, Said};
use super::super::problem;
use super::super::properties;
use super::super::text::Text;
use super::Reader;
use super::theirs::{self, Fate};

/// The worker's settings for clients of connectors, unless the connector has its own.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// `None`: the worker's `bootstrap.servers`.
    pub bootstrap_servers: Option<String>,
    /// librdkafka's property → value.
    pub properties: BTreeMap<String, Text>,
}

impl Client {
    /// The worker's properties for a client with properties of its `own`, without logins or certificates that its
    /// protocol does not use.
    pub fn beside(&self, own: &dyn Fn(&str) -> Option<String>) -> Vec<(String, Text)> {
        let protocol = own(PROTOCOL)
            .or_else(|| self.protocol())
            .unwrap_or_default();
        let protocol = protocol.to_uppercase();
        let used = |name: &str| match name.split('.').next() {
            Some("sasl") => protocol.starts_with("SASL_"),
            Some("ssl") => protocol.ends_with("SSL"),
            _ => true,
        };
        let more = self.properties.iter();
        more.filter(|(name, _)| own(name).is_none() && used(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Whether brokers and clients authenticate each other.
    pub fn is_secure(&self) -> bool {
        self.protocol()
            .is_some_and(|protocol| !protocol.eq_ignore_ascii_case("PLAINTEXT"))
    }

    fn protocol(&self) -> Option<String> {
        let typed = self.properties.get(PROTOCOL)?;
        Some(typed.resolve().ok()?.trim().to_owned())
    }
}

/// Which settings of clients a connector may override.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Overrides {
    #[default]
    All,
    None,
    /// Only its login.
    Principal,
    Listed(BTreeSet<String>),
}

const PROTOCOL: &str = "security.protocol";

/// Names of a Java client's login, and librdkafka's.
const PRINCIPAL: &[&str] = &[
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.jaas.config",
    "sasl.username",
    "sasl.password",
];

impl Overrides {
    /// As Connect calls it.
    pub fn word(&self) -> &'static str {
        match self {
            Overrides::All => "All",
            Overrides::None => "None",
            Overrides::Principal => "Principal",
            Overrides::Listed(_) => "Allowlist",
        }
    }

    pub fn allows(&self, setting: &str) -> bool {
        match self {
            Overrides::All => true,
            Overrides::None => false,
            Overrides::Principal => PRINCIPAL.contains(&setting),
            Overrides::Listed(names) => names.contains(setting),
        }
    }
}

/// Keys without effect, reported at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Key → why.
    pub keys: BTreeMap<String, String>,
    /// Keys on which somebody may rely, as whole sentences.
    pub missed: Vec<String>,
}

/// Everything of a Connect worker's file that is honoured and has no key of ours.
#[derive(Clone, Debug, Default)]
pub struct Theirs {
    pub consumer: Client,
    pub producer: Client,
    /// Defaults for keys that connectors of Kafka Connect leave out: converters, and other keys that are no client
    /// properties.
    pub connector: BTreeMap<String, String>,
    pub overrides: Overrides,
    /// Name of a provider → our own: `env` or `file`.
    pub providers: BTreeMap<String, &'static str>,
    /// User → password of the extension for logins.
    pub logins: BTreeMap<String, Text>,
}

pub const CONVERTERS: [&str; 3] = ["key.converter", "value.converter", "header.converter"];

/// Settings of clients that a connector decides itself, to keep its guarantees.
pub const DECIDED: &[&str] = &[
    "max.poll.records",
    "isolation.level",
    "acks",
    "enable.idempotence",
    "retries",
    "max.in.flight.requests.per.connection",
    "delivery.timeout.ms",
    "max.block.ms",
    "buffer.memory",
    "transactional.id",
    "transaction.timeout.ms",
];

/// Files that a provider gives secrets of: what `secrets.allow.files` says here.
pub(super) const ALLOWED_PATHS: &str = ".param.allowed.paths";
/// It only counts for Confluent's Control Center.
const MONITORING: &str = "io.confluent.monitoring.clients.interceptor.";
/// Properties whose values may be shown.
const OPEN: &[&str] = &["security.protocol", "sasl.mechanism", "sasl.mechanisms"];

impl Reader<'_> {
    /// Handles a key that is not one of ours.
    pub(super) fn theirs(&mut self, key: &str, value: &Text) {
        let said = value.typed().trim().to_lowercase();
        match theirs::fate(key) {
            Some(Fate::Honoured(_) | Fate::Security) => {}
            Some(Fate::Refused { unless, .. }) if unless.contains(&said.as_str()) => {}
            Some(Fate::Refused { .. })
                if !theirs::is_listed(key) && super::meant(key).is_some() =>
            {
                self.unknown(key);
            }
            Some(Fate::Refused { reason, hint, .. }) => self.refuse(key, reason, hint),
            Some(Fate::Idle(why)) if self.lenient => self.idles(key, why),
            Some(Fate::Missed(_)) if said.is_empty() || said == "disabled" => {}
            Some(Fate::Missed(why)) if self.lenient => self.misses(key, why),
            Some(Fate::Idle(why) | Fate::Missed(why)) => {
                let message =
                    format!("`{key}` is a key of Connect's workers and decides nothing here");
                let hint = Some(format!("take it out: {why}"));
                self.problem(key, problem::UNKNOWN_KEY, message, hint);
            }
            None if self.lenient => match super::meant(key) {
                Some(near) => self.misses(key, &format!("no such key; did you mean `{near}`?")),
                None => self.idles(key, "it is no key of Connect's worker"),
            },
            None => self.unknown(key),
        }
    }

    fn refuse(&mut self, key: &str, reason: &str, hint: &str) {
        if self.problems.iter().any(|told| told.key == key) {
            return;
        }
        let message = format!("`{key}`: {reason}");
        let hint = Some(hint.to_owned());
        self.problem(key, problem::NOT_TRANSLATED, message, hint);
    }

    fn idles(&mut self, key: &str, why: &str) {
        self.idle.keys.insert(key.to_owned(), why.to_owned());
    }

    /// Notes such a key; keys with the same reason share one sentence.
    fn misses(&mut self, key: &str, why: &str) {
        let told = self.idle.missed.iter_mut();
        match told.into_iter().find(|told| told.ends_with(why)) {
            Some(told) => *told = format!("{key}, {told}"),
            None => self.idle.missed.push(format!("{key}: {why}")),
        }
    }

    pub(super) fn connect(&mut self) -> Theirs {
        Theirs {
            consumer: self.client("consumer.", false),
            producer: self.client("producer.", true),
            connector: self.connector_defaults(),
            overrides: self.overrides(),
            providers: self.providers(),
            logins: self.logins(),
        }
    }

    // ------------------------------------------------------------- clients

    /// The worker's own settings, overridden by those below the prefix.
    fn client(&mut self, prefix: &str, producer: bool) -> Client {
        let raw = self.raw;
        let mut client = Client::default();
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        for (key, _) in raw.iter() {
            let own = theirs::fate(key) == Some(Fate::Security) || key == "client.dns.lookup";
            if own {
                settings.insert(key.to_owned(), key.to_owned());
            }
        }
        for (key, _) in raw.iter() {
            if let Some(name) = key.strip_prefix(prefix) {
                settings.insert(name.to_owned(), key.to_owned());
            }
        }
        let beside = |name: &str| {
            let entry = raw.get(settings.get(name)?)?;
            entry.value.resolve().ok()
        };
        for (name, key) in &settings {
            let Some(entry) = raw.get(key) else { continue };
            if self.resolved(key, &entry.value).is_none() {
                continue;
            }
            match name.as_str() {
                "bootstrap.servers" => {
                    client.bootstrap_servers = Some(entry.value.typed().to_owned());
                    continue;
                }
                "auto.offset.reset" | "max.poll.records" if !producer => continue,
                "group.id" => {
                    self.idles(key, "the group of a connector is connect-<name>");
                    continue;
                }
                decided if DECIDED.contains(&decided) => {
                    self.idles(
                        key,
                        "the connector decides it, for the sake of its promises",
                    );
                    continue;
                }
                _ => {}
            }
            let (set, held) = said(name, &entry.value, &beside, producer);
            match set {
                Said::Is(properties) => {
                    for (property, text) in properties {
                        let text = match OPEN.contains(&property.as_str()) && !held {
                            true => text,
                            false => Text::held(format!("${{worker:{key}}}"), text),
                        };
                        client.properties.insert(property, text);
                    }
                }
                Said::Idle(why) => self.idles(key, &why),
                Said::Refused { reason, hint } if must_hold(name, entry.value.typed()) => {
                    self.refuse(key, &reason, &hint);
                }
                Said::Refused { reason, .. } => self.idles(key, &reason),
            }
        }
        self.protocol(&settings, &beside);
        client
    }

    /// Checks that the protocol exists and uses the logins that are set.
    fn protocol(
        &mut self,
        settings: &BTreeMap<String, String>,
        beside: &dyn Fn(&str) -> Option<String>,
    ) {
        let protocol = beside(PROTOCOL).unwrap_or_else(|| "PLAINTEXT".to_owned());
        let known = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];
        if !known.contains(&protocol.trim().to_uppercase().as_str()) {
            if let Some(key) = settings.get(PROTOCOL) {
                let choices = "write PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL";
                self.refuse(key, "there is no such protocol", choices);
            }
            return;
        }
        for (family, used) in [
            ("sasl.", protocol.to_uppercase().starts_with("SASL_")),
            ("ssl.", protocol.to_uppercase().ends_with("SSL")),
        ] {
            let first = settings.iter().find(|(name, _)| name.starts_with(family));
            if let Some((_, key)) = first.filter(|_| !used) {
                let why = format!("it has no effect while security.protocol is {protocol}");
                self.misses(key, &why);
            }
        }
    }

    fn connector_defaults(&mut self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (key, entry) in self.raw.iter() {
            let of = |family: &&str| {
                let rest = key.strip_prefix(*family);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let typed = entry.value.typed().to_owned();
            if CONVERTERS.iter().any(of) && !key.ends_with(".plugin.version") {
                out.insert(key.to_owned(), typed);
            } else if key == "consumer.auto.offset.reset" || key == "consumer.max.poll.records" {
                let name = key.strip_prefix("consumer.").unwrap_or(key);
                out.insert(format!("consumer.override.{name}"), typed);
            }
        }
        out
    }

    // -------------------------------------------------------------- access

    fn overrides(&mut self) -> Overrides {
        const KEY: &str = "connector.client.config.override.policy";
        const LIST: &str = "connector.client.config.override.allowlist";
        let listed = self.familiar(LIST).unwrap_or_default();
        let listed: BTreeSet<String> = list(&listed).map(str::to_owned).collect();
        let Some(typed) = self.familiar(KEY) else {
            return Overrides::All;
        };
        let simple = typed.rsplit('.').next().unwrap_or_default();
        let word = simple
            .strip_suffix("ConnectorClientConfigOverridePolicy")
            .unwrap_or(simple);
        match word.to_lowercase().as_str() {
            "all" => Overrides::All,
            "none" => Overrides::None,
            "principal" => Overrides::Principal,
            "allowlist" => Overrides::Listed(listed),
            _ => {
                let reason = format!("`{typed}` is a Java class that cannot be loaded");
                self.refuse(KEY, &reason, "write All, None, Principal or Allowlist");
                Overrides::None
            }
        }
    }

    fn providers(&mut self) -> BTreeMap<String, &'static str> {
        const KEY: &str = "config.providers";
        let mut out = BTreeMap::new();
        for name in list(&self.familiar(KEY).unwrap_or_default()) {
            let key = format!("{KEY}.{name}.class");
            let class = self.familiar(&key).unwrap_or_default();
            match class.rsplit('.').next().unwrap_or_default() {
                "FileConfigProvider" => out.insert(name.to_owned(), "file"),
                "EnvVarConfigProvider" => out.insert(name.to_owned(), "env"),
                "DirectoryConfigProvider" => out.insert(name.to_owned(), "directory"),
                "" => {
                    let message = format!("`{key}` is missing");
                    self.problem(&key, problem::MISSING, message, None);
                    continue;
                }
                other => {
                    let reason = format!("{other} is a Java class that cannot be loaded");
                    self.refuse(&key, &reason, "references are ${env:NAME}, ${file:/path:key} and ${directory:/path:name}: write FileConfigProvider, EnvVarConfigProvider or DirectoryConfigProvider, and put the secrets there");
                    continue;
                }
            };
            // `allowed.paths`, `allowlist.pattern`: which secrets a connector may name.
            let params = format!("{KEY}.{name}.param.");
            let keys = self.raw.iter().map(|(key, _)| key);
            let honoured = |key: &str| key.ends_with(ALLOWED_PATHS);
            let keys: Vec<String> = keys
                .filter(|key| key.starts_with(&params) && !honoured(key))
                .map(str::to_owned)
                .collect();
            for key in keys {
                self.refuse(
                    &key,
                    "of the parameters of providers only allowed.paths is known here",
                    "write secrets.allow.env = the names of the variables, where KAFKA_* is all that begin so, and take the key out",
                );
            }
        }
        out
    }

    /// Users of Connect's own extension for logins.
    fn logins(&mut self) -> BTreeMap<String, Text> {
        const KEY: &str = "rest.extension.classes";
        let mut out = BTreeMap::new();
        for class in list(&self.familiar(KEY).unwrap_or_default()) {
            if class.rsplit('.').next() != Some("BasicAuthSecurityRestExtension") {
                let reason = format!("{class} is a Java class that cannot be loaded");
                let hint = "logins are rest.auth.basic.<user> and rest.auth.bearer.<name>; take the key out";
                self.refuse(KEY, &reason, hint);
                continue;
            }
            match logins_of_jaas() {
                Ok(logins) => out.extend(logins),
                Err(why) => {
                    let reason = format!("its logins cannot be read: {why}");
                    let hint = "write them as rest.auth.basic.<user> = ${file:/etc/kafka/credentials.properties:<user>}, and take the key out";
                    self.refuse(KEY, &reason, hint);
                }
            }
        }
        out
    }

    // ---------------------------------------------------------- plugin.path

    /// The folder with components in a list of folders, which may be for Java.
    pub(super) fn plugin_folder(&mut self) -> Option<PathBuf> {
        const KEY: &str = "plugin.path";
        let typed = self.path(KEY)?;
        let text = typed.to_string_lossy().into_owned();
        let all: Vec<&str> = list(&text).collect();
        let [single] = all[..] else {
            let with: Vec<&str> = all.iter().copied().filter(|f| has_components(f)).collect();
            for other in all.iter().filter(|f| !with.contains(f)) {
                self.idles(&format!("{KEY} {other}"), NO_COMPONENTS);
            }
            return match with[..] {
                [] => self.default_folder(),
                [one] => Some(PathBuf::from(one)),
                _ => {
                    let message = format!("`{KEY}`: components lie in {}", with.join(" and in "));
                    let hint = Some("put them into one folder".to_owned());
                    self.problem(KEY, problem::CONTRADICTION, message, hint);
                    None
                }
            };
        };
        // A Java folder of a worker's file. A folder of ours may still be empty or missing.
        if self.lenient && !has_components(single) && holds_anything(single) {
            self.idles(&format!("{KEY} {single}"), NO_COMPONENTS);
            return self.default_folder();
        }
        Some(PathBuf::from(single))
    }

    fn default_folder(&self) -> Option<PathBuf> {
        match super::keys::find("plugin.path")?.default {
            super::super::keys::Default::Is(path) => Some(PathBuf::from(path)),
            _ => None,
        }
    }
}

const NO_COMPONENTS: &str =
    "there are no components (*.wasm) in this folder, and Java classes cannot be loaded";

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn entries(folder: &str) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Loose ones, or the store of pushed ones.
fn has_components(folder: &str) -> bool {
    let is = |path: &Path| path.extension().is_some_and(|e| e == "wasm") || path.ends_with("store");
    entries(folder).any(|path| is(&path))
}

fn holds_anything(folder: &str) -> bool {
    entries(folder).next().is_some()
}

/// Settings that may change what is read, or who may read it: it would be wrong to ignore them.
fn must_hold(name: &str, value: &str) -> bool {
    let classes = || list(value).any(|class| !class.starts_with(MONITORING));
    java::is_security(name) || name == "interceptor.classes" && classes()
}

/// The value as typed; if all of it is a reference, the resolved value, which must not be shown.
fn said(
    name: &str,
    value: &Text,
    beside: &dyn Fn(&str) -> Option<String>,
    producer: bool,
) -> (Said, bool) {
    let typed = java::setting(name, value.typed(), beside, producer);
    if let (Said::Refused { .. }, true) = (&typed, value.has_reference())
        && let Ok(text) = value.resolve()
    {
        return (java::setting(name, &text, beside, producer), true);
    }
    (typed, false)
}

/// An option of the JVM names the JAAS file, and that file names another one with users and passwords.
fn logins_of_jaas() -> Result<BTreeMap<String, Text>, String> {
    const OPTION: &str = "-Djava.security.auth.login.config=";
    let options = Text::new("${env:KAFKA_OPTS:-}").resolve();
    let options = options.map_err(|error| error.message().to_owned())?;
    let path = options
        .split_whitespace()
        .find_map(|o| o.strip_prefix(OPTION));
    let path = path.ok_or_else(|| format!("KAFKA_OPTS has no {OPTION}FILE"))?;
    let text = super::super::text::small_file(path).map_err(|e| e.to_string())?;
    let users = users_file(&text).ok_or_else(|| {
        format!(
            "{path} has no section `KafkaConnect` with one PropertyFileLoginModule and file=\"…\""
        )
    })?;
    let text = super::super::text::small_file(&users).map_err(|e| e.to_string())?;
    let mut out = BTreeMap::new();
    for line in properties::parse(&text) {
        if line.key.contains([':', '}']) || users.contains('}') {
            return Err(format!(
                "{users}: the user `{}` has a sign that no reference can name",
                line.key
            ));
        }
        let password = Text::new(format!("${{file:{users}:{}}}", line.key));
        out.insert(line.key, password);
    }
    match out.is_empty() {
        true => Err(format!("{users} has no users")),
        false => Ok(out),
    }
}

/// `KafkaConnect { ….PropertyFileLoginModule required file="…"; };`
fn users_file(jaas: &str) -> Option<String> {
    let plain: Vec<&str> = jaas
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let plain = plain.join("\n");
    let (_, section) = plain.split_once("KafkaConnect")?;
    let section = section.trim_start().strip_prefix('{')?;
    let (inside, _) = section.split_once('}')?;
    let login = java::login(inside)?;
    if login.module.rsplit('.').next() != Some("PropertyFileLoginModule") {
        return None;
    }
    let file = login.options.into_iter().find(|(key, _)| key == "file");
    file.map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_users_is_found_where_it_is_simple() {
        let jaas = "// c\nKafkaConnect {\n  org.apache.kafka.connect.rest.basic.auth.extension.PropertyFileLoginModule required\n  file=\"/etc/users.properties\";\n};\n";
        assert_eq!(users_file(jaas).as_deref(), Some("/etc/users.properties"));
        for other in [
            "KafkaClient { x.PropertyFileLoginModule required file=\"/x\"; };",
            "KafkaConnect { x.LdapLoginModule required file=\"/x\"; };",
            "KafkaConnect { x.PropertyFileLoginModule required file=\"/x\"; y.Other required; };",
        ] {
            assert_eq!(users_file(other), None, "{other}");
        }
    }

    #[test]
    fn a_policy_lets_through_what_connects_does() {
        let listed = Overrides::Listed(BTreeSet::from(["fetch.min.bytes".to_owned()]));
        for (policy, setting, allowed) in [
            (&Overrides::All, "bootstrap.servers", true),
            (&Overrides::None, "fetch.min.bytes", false),
            (&Overrides::Principal, "sasl.jaas.config", true),
            (&Overrides::Principal, "bootstrap.servers", false),
            (&listed, "fetch.min.bytes", true),
            (&listed, "bootstrap.servers", false),
        ] {
            assert_eq!(policy.allows(setting), allowed, "{policy:?} {setting}");
        }
    }
}
