//! The worker's defaults for connectors: brokers and how to connect to them, converters, directories.

use std::path::PathBuf;

use super::Note;
use super::classes::{Class, STORAGE_SINKS};
use crate::config::raw::CONNECTOR_CLASS;
use crate::config::worker::{CONVERTERS, Client, Theirs};
use crate::config::{Problem, Raw, Reach, Text, problem};

const SERVERS: &str = "source.bootstrap.servers";
const SCHEMAS: &str = ".schemas.enable";
const VALUE: &str = "value.converter";

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
    /// Files are Parquet, whatever a config of Kafka Connect says.
    pub parquet_instead: bool,
    /// Where connectors that are pipelines without a zone have their logs.
    pub homes: PathBuf,
}

/// The registry that is asked if nothing names one.
const REGISTRY: &str = "${env:SCHEMA_REGISTRY_URL:-http://localhost:8081}";

impl Defaults {
    /// Takes a converter for a storage sink that names none, where no worker's file says one: the one that goes with its files.
    /// Returns what was assumed.
    pub fn assume(&mut self, raw: &Raw) -> Option<Note> {
        let typed = |key: &str| Some(raw.get(key)?.value.typed().trim().to_owned());
        let class = Class::find(&typed(CONNECTOR_CLASS)?)?;
        let known = raw.get(VALUE).is_some() || self.theirs.connector.contains_key(VALUE);
        if known || !STORAGE_SINKS.contains(&class.name) {
            return None;
        }
        let format = typed("format.class").unwrap_or_default();
        let (converter, more, files) = match format.rsplit('.').next().unwrap_or_default() {
            "JsonFormat" => (
                "org.apache.kafka.connect.json.JsonConverter",
                Some(("schemas.enable", "false")),
                "JSON",
            ),
            "ByteArrayFormat" => (
                "org.apache.kafka.connect.converters.ByteArrayConverter",
                None,
                "bytes",
            ),
            "StringFormat" => (
                "org.apache.kafka.connect.storage.StringConverter",
                None,
                "texts",
            ),
            _ => (
                "io.confluent.connect.avro.AvroConverter",
                Some(("schema.registry.url", REGISTRY)),
                "of a schema",
            ),
        };
        let keys = &mut self.theirs.connector;
        keys.insert(VALUE.to_owned(), converter.to_owned());
        if let Some((name, value)) = more {
            keys.insert(format!("{VALUE}.{name}"), value.to_owned());
        }
        // Its own keys would be passed over in Connect; here they say more about the converter.
        for (key, entry) in raw
            .iter()
            .filter(|(key, _)| key.starts_with("value.converter."))
        {
            keys.insert(key.to_owned(), entry.value.typed().to_owned());
        }
        let simple = converter.rsplit('.').next().unwrap_or(converter);
        let more = more.map(|(name, value)| format!(", {name}={value}"));
        Some(Note {
            key: VALUE.to_owned(),
            text: format!(
                "ASSUMED: {simple}{}, as the files are {files}; the config names no converter, so it had that of its worker. --worker FILE reads it from the worker's file",
                more.unwrap_or_default()
            ),
        })
    }

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
