//! Schemas by their ids: from memory, from the plugin store, from the registry, in this order.
//!
//! ```text
//! <plugin.store>/schemas/<16 hex of the registry's URLs>/<id>.json
//! ```
//! A schema never changes under its id, so what is kept is good for ever. Where the store cannot be written, the pipeline goes on and
//! says so once: a replay then needs the registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::avro::schema;
use super::registry::Registry;
use crate::config::RegistryConfig;
use crate::error::{Error, Kind, Result};
use crate::fs::{self, Limit, Replace};
use crate::hash::sha256;

const OP: &str = "registry.schema";
/// Ids that nobody knows, which are remembered at a time.
const UNKNOWN_MAX: usize = 10_000;
/// An id that nobody knows is asked for again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Schemas to which one refers, and those to which they refer.
const REFERENCES_MAX: usize = 200;
const KEPT: Limit = Limit {
    bytes: 8 << 20,
    of: "a schema that was kept",
};
const HOW: Replace = Replace {
    durable: false,
    shared: true,
    mode: 0o666,
};

#[derive(Clone, Debug)]
pub enum Found {
    Schema(Arc<str>),
    /// There is one, which is no Avro; says so.
    Other(String),
    /// Nobody knows it, and it was waited for.
    Unknown,
}

/// As it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The registry's word for what it is.
    kind: String,
    /// With everything that it refers to.
    schema: String,
}

/// Since when an id is asked for, and when it was last.
#[derive(Debug)]
struct Asked {
    first: Instant,
    last: Instant,
}

#[derive(Debug)]
pub struct Schemas {
    registry: Registry,
    dir: PathBuf,
    /// With the number of its last use.
    memory: BTreeMap<u32, (u64, Found)>,
    uses: u64,
    unknown: BTreeMap<u32, Asked>,
    said: bool,
}

impl Schemas {
    pub fn new(config: &RegistryConfig, store: &Path) -> Result<Schemas> {
        let urls: BTreeSet<&str> = config.urls.iter().map(String::as_str).collect();
        let urls: Vec<&str> = urls.into_iter().collect();
        let digest = sha256(urls.join(",").as_bytes());
        let name = digest
            .trim_start_matches("sha256:")
            .get(..16)
            .unwrap_or_default();
        Ok(Schemas {
            registry: Registry::new(config)?,
            dir: store.join("schemas").join(name),
            memory: BTreeMap::new(),
            uses: 0,
            unknown: BTreeMap::new(),
            said: false,
        })
    }

    /// `Err` waits: the registry is away, or does not know the id yet.
    pub fn get(&mut self, id: u32) -> Result<Found> {
        self.uses += 1;
        if let Some((used, found)) = self.memory.get_mut(&id) {
            *used = self.uses;
            return Ok(found.clone());
        }
        if let Some(kept) = self.kept(id) {
            return Ok(self.remember(id, &kept));
        }
        let now = Instant::now();
        if let Some(asked) = self.unknown.get(&id)
            && now.duration_since(asked.last) < ASK_AGAIN
        {
            return self.still_unknown(id, now);
        }
        match self.registry.get(&format!("/schemas/ids/{id}"))? {
            Some(answer) => {
                self.unknown.remove(&id);
                let kept = self.answered(id, &answer)?;
                self.keep(id, &kept);
                Ok(self.remember(id, &kept))
            }
            None => {
                if self.unknown.len() >= UNKNOWN_MAX {
                    self.unknown.clear();
                }
                let asked = self.unknown.entry(id).or_insert(Asked {
                    first: now,
                    last: now,
                });
                asked.last = now;
                self.still_unknown(id, now)
            }
        }
    }

    fn still_unknown(&self, id: u32, now: Instant) -> Result<Found> {
        let wait = self.registry.config().unknown_wait;
        let first = self.unknown.get(&id).map_or(now, |asked| asked.first);
        if now.duration_since(first) >= wait {
            return Ok(Found::Unknown);
        }
        let message =
            format!("the schema registry knows no schema of id {id}; it is waited for {wait:?}");
        Err(Error::new(Kind::SourceUnavailable, OP, message)
            .with("registry", &self.registry.config().shown))
    }

    fn remember(&mut self, id: u32, kept: &Kept) -> Found {
        let found = match kept.kind.as_str() {
            "AVRO" => Found::Schema(kept.schema.as_str().into()),
            other => Found::Other(format!("it is {other}, expected AVRO")),
        };
        if self.memory.len() >= self.registry.config().cache
            && let Some(oldest) = self
                .memory
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(id, _)| *id)
        {
            self.memory.remove(&oldest);
        }
        self.memory.insert(id, (self.uses, found.clone()));
        found
    }

    fn answered(&self, id: u32, answer: &Value) -> Result<Kept> {
        let bad = |why: String| {
            Error::new(
                Kind::ConfigInvalid,
                OP,
                format!("the schema registry's answer for id {id} is no schema: {why}"),
            )
            .with("registry", &self.registry.config().shown)
        };
        let text = answer.get("schema").and_then(Value::as_str);
        let text = text.ok_or_else(|| bad("it has no `schema`".to_owned()))?;
        let kind = answer
            .get("schemaType")
            .and_then(Value::as_str)
            .unwrap_or("AVRO");
        let mut parts = Vec::new();
        if kind == "AVRO" {
            let mut seen = BTreeSet::new();
            self.referred(answer, &mut seen, &mut parts)?;
        }
        let schema = match parts.is_empty() {
            true => text.to_owned(),
            false => schema::joined(text, &parts).map_err(bad)?,
        };
        Ok(Kept {
            kind: kind.to_owned(),
            schema,
        })
    }

    /// The schemas to which this one refers.
    fn referred(
        &self,
        answer: &Value,
        seen: &mut BTreeSet<(String, i64)>,
        parts: &mut Vec<String>,
    ) -> Result<()> {
        let mut todo = vec![answer.clone()];
        while let Some(answer) = todo.pop() {
            let references = answer.get("references").and_then(Value::as_array);
            for reference in references.into_iter().flatten() {
                let subject = reference
                    .get("subject")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let version = reference
                    .get("version")
                    .and_then(Value::as_i64)
                    .unwrap_or(-1);
                if !seen.insert((subject.to_owned(), version)) {
                    continue;
                }
                if seen.len() > REFERENCES_MAX {
                    let message = format!("a schema refers to more than {REFERENCES_MAX} others");
                    return Err(Error::new(Kind::LimitReached, OP, message));
                }
                let path = format!("/subjects/{}/versions/{version}", escaped(subject));
                let gone = || {
                    let message = format!(
                        "the schema registry lacks version {version} of `{subject}`, to which a schema refers"
                    );
                    Error::new(Kind::SourceUnavailable, OP, message)
                };
                let part = self.registry.get(&path)?.ok_or_else(gone)?;
                parts.extend(
                    part.get("schema")
                        .and_then(Value::as_str)
                        .map(str::to_owned),
                );
                todo.push(part);
            }
        }
        Ok(())
    }

    fn path(&self, id: u32) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    fn kept(&self, id: u32) -> Option<Kept> {
        let bytes = fs::read(&self.path(id), KEPT).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn keep(&mut self, id: u32, kept: &Kept) {
        let path = self.path(id);
        let written = std::fs::create_dir_all(&self.dir).and_then(|()| {
            let bytes = serde_json::to_vec(kept)?;
            fs::replace(&path, &bytes, HOW)
        });
        if let Err(error) = written
            && !std::mem::replace(&mut self.said, true)
        {
            tracing::warn!(path = %path.display(), %error, "a schema cannot be kept in the plugin store; a replay needs the registry");
        }
    }
}

/// A subject as a part of a path.
fn escaped(subject: &str) -> String {
    let mut out = String::new();
    for byte in subject.bytes() {
        match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
