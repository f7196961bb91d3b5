//! The worker's defaults for connectors: brokers and how to connect to them, converters, directories.

use std::path::PathBuf;

use crate::config::worker::{CONVERTERS, Client, Theirs};
use crate::config::{Problem, Raw, Reach, Text, problem};

const SERVERS: &str = "source.bootstrap.servers";
const SCHEMAS: &str = ".schemas.enable";

#[derive(Clone, Debug, Default)]
pub struct Defaults {
    pub bootstrap_servers: Option<String>,
    pub plugin_path: Option<PathBuf>,
    pub plugin_store: Option<PathBuf>,
    pub plugin_cache: Option<PathBuf>,
    /// Prefix of a store's URL (`s3://bucket`) → the `file:` URL that replaces it.
    pub stores: Vec<(String, String)>,
    /// Settings of a Connect worker's file.
    pub theirs: Theirs,
    /// The reach of the config that is read.
    pub reach: Reach,
    /// Where connectors that are pipelines without a zone have their logs.
    pub homes: PathBuf,
}

impl Defaults {
    pub(crate) fn places(&self) -> impl Iterator<Item = (&'static str, Text)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let all = [
            ("plugin.path", path(&self.plugin_path)),
            ("plugin.store", path(&self.plugin_store)),
            ("plugin.cache", path(&self.plugin_cache)),
        ];
        all.into_iter()
            .filter_map(|(key, value)| Some((key, Text::new(value?))))
    }

    /// Brokers for clients of this kind that name none.
    pub(crate) fn servers(&self, client: &Client) -> Option<String> {
        let own = client.bootstrap_servers.clone();
        own.or_else(|| self.bootstrap_servers.clone())
    }

    /// Adds native keys that a pipeline lacks. Returns a problem if the worker's settings cannot be used for its
    /// brokers.
    pub(super) fn complete(&self, native: &mut Raw, from: &str) -> Option<Problem> {
        for (key, value) in self.places() {
            native.default(key, value);
        }
        // Other sources have no brokers.
        let of_topics = native
            .get("source.type")
            .is_none_or(|entry| entry.value.typed().trim() == "kafka");
        if !of_topics {
            return None;
        }
        let typed = |key: &str| native.get(key).map(|entry| entry.value.typed().to_owned());
        let property = |name: &str| typed(&format!("source.kafka.{name}"));
        let more = self.of_client(&self.theirs.consumer, typed(SERVERS).as_deref(), &property);
        match more {
            Ok(more) => {
                if let Some(servers) = self.servers(&self.theirs.consumer) {
                    native.default(SERVERS, Text::new(servers));
                }
                for (name, value) in more {
                    native.default(&format!("source.kafka.{name}"), value);
                }
                None
            }
            Err(message) => Some(
                Problem::new(native.place(SERVERS), from, problem::CONTRADICTION, message).hint(
                    format!(
                        "say how to talk to them: `{}security.protocol` and what goes with it",
                        prefix(from)
                    ),
                ),
            ),
        }
    }

    /// Properties of the worker for a client, if it connects to the worker's brokers. The worker's logins are never
    /// sent to other brokers.
    pub(crate) fn of_client(
        &self,
        client: &Client,
        brokers: Option<&str>,
        own: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<(String, Text)>, String> {
        let others = brokers.is_some() && brokers != self.servers(client).as_deref();
        if !others {
            return Ok(client.beside(own));
        }
        match client.is_secure() && own("security.protocol").is_none() {
            true => Err("these brokers are not the worker's, so its security settings do not hold for them, and there are no others".to_owned()),
            false => Ok(Vec::new()),
        }
    }

    /// Adds keys that a connector of Kafka Connect lacks. Returns problems for keys of a converter that it does not
    /// name, which Connect ignores.
    pub(crate) fn keys(&self, raw: &mut Raw) -> Vec<Problem> {
        let mut problems = Vec::new();
        for family in CONVERTERS {
            let Some(class) = self.theirs.connector.get(family) else {
                continue;
            };
            let below = format!("{family}.");
            if raw.get(family).is_some() {
                continue;
            }
            for (key, entry) in raw.iter().filter(|(key, _)| key.starts_with(&below)) {
                let default = key.ends_with(SCHEMAS).then(|| "true".to_owned());
                let theirs = self.theirs.connector.get(key).cloned().or(default);
                if theirs.is_none_or(|theirs| theirs.trim() != entry.value.typed().trim()) {
                    let message = format!(
                        "`{key}` is a key of the connector's own converter, and it names none: the worker's is {class}, with keys of its own"
                    );
                    problems.push(
                        Problem::new(entry.place.clone(), key, problem::CONTRADICTION, message)
                            .hint(format!("name `{family}` too; Connect passes the key over and asks the worker's converter")),
                    );
                }
            }
            for (key, value) in &self.theirs.connector {
                if key == family || key.starts_with(&below) {
                    raw.default(key, Text::new(value.as_str()));
                }
            }
        }
        for (key, value) in &self.theirs.connector {
            if !CONVERTERS.iter().any(|family| key.starts_with(family)) {
                raw.default(key, Text::new(value.as_str()));
            }
        }
        problems
    }
}

/// Prefix of the properties that belong to the key that names brokers.
fn prefix(servers: &str) -> &str {
    match servers.strip_suffix("bootstrap.servers") {
        Some("source.") | None => "source.kafka.",
        Some(prefix) => prefix,
    }
}
