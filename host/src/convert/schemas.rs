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
use crate::error::{Error, Kind, Remedy, Result};
use crate::fs::{self, Limit, Replace};
use crate::hash::sha256;

const OP: &str = "registry.schema";
/// Ids that nobody knows, which are remembered at a time.
const UNKNOWN_MAX: usize = 10_000;
/// An id that nobody knows is asked for again after this time,
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// and one whose records are refused after this.
const ASK_REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// Longest time for the questions of one batch: a stop is noticed after it.
const ASK_FOR: Duration = Duration::from_secs(10);
/// Bytes of a schema with all that it refers to.
pub const SCHEMA_MAX: usize = 4 << 20;
/// Schemas to which one refers, and those to which they refer.
const REFERENCES_MAX: usize = 200;
const KEPT: Limit = Limit {
    // A quote or a line end has two bytes there.
    bytes: 2 * SCHEMA_MAX as u64 + 4096,
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
    /// There is one, which is no Avro or too large; says so.
    Other(String),
    /// Nobody knows it, or what it refers to, and it was waited for; says so.
    Unknown(String),
}

/// What became of some ids.
#[derive(Debug, Default)]
pub struct Looked {
    /// With the reason, which is in memory no longer than this.
    pub unknown: BTreeMap<u32, String>,
    /// These wait, for this reason.
    pub waits: Vec<u32>,
    pub error: Option<Error>,
}

/// One try.
enum Tried {
    Found(Found),
    /// The registry answers, and does not know it yet.
    NotYet(Error),
    Away(Error),
}

enum Answer {
    Kept(Kept),
    /// There is one, which cannot be read; says why.
    Other(String),
    /// The registry lacks something; says what.
    Lacks(String),
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
    /// What the registry lacks.
    why: String,
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

    /// Looks up all of these, so that those which nobody knows wait together. `Err` waits for none of them.
    pub fn look_up(&mut self, ids: &[u32]) -> Result<Looked> {
        self.look_up_for(ids, ASK_FOR)
    }

    /// `longest`: time for questions to the registry.
    fn look_up_for(&mut self, ids: &[u32], longest: Duration) -> Result<Looked> {
        let (began, mut looked, mut is_away) = (Instant::now(), Looked::default(), false);
        let mut ids = ids.to_vec();
        // Where the time does not suffice for all, each has its turn.
        ids.sort_by_key(|id| self.unknown.get(id).map(|asked| asked.last));
        for id in ids {
            let is_late = began.elapsed() >= longest;
            let tried = match is_away || is_late {
                false => Some(self.tried(id)?),
                // Those that are refused need not be asked for anew: more than can be asked would hold each other for ever.
                true => {
                    let now = Instant::now();
                    let known = self.at_hand(id, now);
                    known.or_else(|| self.refused(id, now).filter(|_| !is_away))
                }
            };
            match tried {
                Some(Tried::Found(Found::Unknown(why))) => drop(looked.unknown.insert(id, why)),
                Some(Tried::Found(_)) => {}
                Some(Tried::NotYet(error)) => {
                    looked.waits.push(id);
                    looked.error = looked.error.or(Some(error));
                }
                Some(Tried::Away(error)) => {
                    is_away = true;
                    looked.waits.push(id);
                    looked.error = Some(error);
                }
                None => looked.waits.push(id),
            }
        }
        if !looked.waits.is_empty() && looked.error.is_none() {
            let message = format!(
                "the schema registry is asked for {} more schemas",
                looked.waits.len()
            );
            looked.error = Some(self.away(message));
        }
        Ok(looked)
    }

    /// `Err` waits: the registry is away, or does not know the id yet.
    pub fn get(&mut self, id: u32) -> Result<Found> {
        match self.tried(id)? {
            Tried::Found(found) => Ok(found),
            Tried::NotYet(error) | Tried::Away(error) => Err(error),
        }
    }

    fn tried(&mut self, id: u32) -> Result<Tried> {
        let now = Instant::now();
        if let Some(tried) = self.at_hand(id, now) {
            return Ok(tried);
        }
        match self.asked(id) {
            Ok(Answer::Kept(kept)) => {
                self.unknown.remove(&id);
                self.keep(id, &kept);
                Ok(Tried::Found(self.remember(id, &kept)))
            }
            Ok(Answer::Other(why)) => {
                self.unknown.remove(&id);
                Ok(Tried::Found(self.in_memory(id, Found::Other(why))))
            }
            Ok(Answer::Lacks(why)) => {
                let wait = self.registry.config().unknown_wait;
                if self.unknown.len() >= UNKNOWN_MAX && !self.unknown.contains_key(&id) {
                    self.unknown
                        .retain(|_, asked| now.duration_since(asked.first) < wait);
                }
                if self.unknown.len() >= UNKNOWN_MAX && !self.unknown.contains_key(&id) {
                    return Ok(Tried::Found(Found::Unknown(why)));
                }
                let first = self.unknown.get(&id).map_or(now, |asked| asked.first);
                let asked = Asked {
                    first,
                    last: now,
                    why,
                };
                let tried = self.not_yet(&asked, now);
                self.unknown.insert(id, asked);
                Ok(tried)
            }
            Err(error) if error.remedy() == Remedy::Retry => Ok(Tried::Away(error)),
            Err(error) => Err(error),
        }
    }

    /// What can be said without a question to the registry.
    fn at_hand(&mut self, id: u32, now: Instant) -> Option<Tried> {
        self.uses += 1;
        if let Some((used, found)) = self.memory.get_mut(&id) {
            *used = self.uses;
            return Some(Tried::Found(found.clone()));
        }
        if let Some(kept) = self.kept(id) {
            return Some(Tried::Found(self.remember(id, &kept)));
        }
        let asked = self.unknown.get(&id)?;
        let again = match now.duration_since(asked.first) >= self.registry.config().unknown_wait {
            true => ASK_REFUSED_AGAIN,
            false => ASK_AGAIN,
        };
        (now.duration_since(asked.last) < again).then(|| self.not_yet(asked, now))
    }

    /// An id that was waited for as long as it may be.
    fn refused(&self, id: u32, now: Instant) -> Option<Tried> {
        let asked = self.unknown.get(&id)?;
        match self.not_yet(asked, now) {
            Tried::Found(found) => Some(Tried::Found(found)),
            _ => None,
        }
    }

    fn not_yet(&self, asked: &Asked, now: Instant) -> Tried {
        let wait = self.registry.config().unknown_wait;
        match now.duration_since(asked.first) >= wait {
            true => Tried::Found(Found::Unknown(asked.why.clone())),
            false => Tried::NotYet(self.away(format!("{}; it is waited for {wait:?}", asked.why))),
        }
    }

    fn away(&self, message: String) -> Error {
        Error::new(Kind::SourceUnavailable, OP, message)
            .with("registry", &self.registry.config().shown)
    }

    fn remember(&mut self, id: u32, kept: &Kept) -> Found {
        let found = match kept.kind.as_str() {
            "AVRO" => Found::Schema(kept.schema.as_str().into()),
            other => Found::Other(format!("it is {other}, expected AVRO")),
        };
        self.in_memory(id, found)
    }

    fn in_memory(&mut self, id: u32, found: Found) -> Found {
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

    fn asked(&self, id: u32) -> Result<Answer> {
        let Some(answer) = self.registry.get(&format!("/schemas/ids/{id}"))? else {
            let why = format!("the schema registry knows no schema of id {id}");
            return Ok(Answer::Lacks(why));
        };
        let bad = |why: String| {
            let message = format!("the schema registry's answer for id {id} is no schema: {why}");
            Error::new(Kind::ConfigInvalid, OP, message)
                .with("registry", &self.registry.config().shown)
                .hint(format!(
                    "look at what schema.registry.url says at /schemas/ids/{id}"
                ))
        };
        let text = answer.get("schema").and_then(Value::as_str);
        let text = text.ok_or_else(|| bad("it has no `schema`".to_owned()))?;
        let kind = answer
            .get("schemaType")
            .and_then(Value::as_str)
            .unwrap_or("AVRO");
        let mut parts = Vec::new();
        if kind == "AVRO"
            && let Some(none) = self.referred(id, &answer, &mut parts)?
        {
            return Ok(none);
        }
        let schema = match parts.is_empty() {
            true => Ok(text.to_owned()),
            false => schema::joined(text, &parts),
        };
        let schema = match schema {
            Ok(schema) if schema.len() > SCHEMA_MAX => return Ok(too_large(schema.len())),
            Ok(schema) => schema,
            Err(why) => return Ok(Answer::Other(why)),
        };
        Ok(Answer::Kept(Kept {
            kind: kind.to_owned(),
            schema,
        }))
    }

    /// The schemas to which this one refers. `Some`: it cannot be had with all of them.
    fn referred(&self, id: u32, answer: &Value, parts: &mut Vec<String>) -> Result<Option<Answer>> {
        let (mut todo, mut seen, mut bytes) = (vec![answer.clone()], BTreeSet::new(), 0);
        while let Some(answer) = todo.pop() {
            let references = answer.get("references").and_then(Value::as_array);
            for reference in references.into_iter().flatten() {
                let subject = reference.get("subject").and_then(Value::as_str);
                let subject = subject.unwrap_or_default();
                let version = reference.get("version").and_then(Value::as_i64);
                let version = version.unwrap_or(-1);
                if !seen.insert((subject.to_owned(), version)) {
                    continue;
                }
                if seen.len() > REFERENCES_MAX {
                    let why = format!("it refers to more than {REFERENCES_MAX} others");
                    return Ok(Some(Answer::Other(why)));
                }
                let path = format!("/subjects/{}/versions/{version}", escaped(subject));
                let Some(part) = self.registry.get(&path)? else {
                    return Ok(Some(Answer::Lacks(format!(
                        "the schema registry lacks version {version} of `{subject}`, to which schema {id} refers"
                    ))));
                };
                let text = part.get("schema").and_then(Value::as_str);
                bytes += text.map_or(0, str::len);
                if bytes > SCHEMA_MAX {
                    return Ok(Some(too_large(bytes)));
                }
                parts.extend(text.map(str::to_owned));
                todo.push(part);
            }
        }
        Ok(None)
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

fn too_large(bytes: usize) -> Answer {
    Answer::Other(format!(
        "it has {bytes} bytes with what it refers to, and at most {SCHEMA_MAX} are read"
    ))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Trust;

    /// More of them than can be asked for in the time that there is. Nobody is asked here.
    #[test]
    fn ids_that_were_waited_for_are_refused_though_there_is_no_time_to_ask_again() {
        let config = |unknown_wait| RegistryConfig {
            urls: vec!["http://127.0.0.1:1".to_owned()],
            shown: "a registry".to_owned(),
            login: None,
            token: None,
            trust: Trust::of(["ca", "certificate", "key"], |_| None),
            timeout: Duration::from_secs(1),
            unknown_wait,
            cache: 10,
        };
        for (wait, is_refused) in [(Duration::ZERO, true), (Duration::from_secs(3600), false)] {
            let dir = Path::new("/nowhere");
            let mut schemas = Schemas::new(&config(wait), dir).expect("schemas");
            let now = Instant::now();
            let last = now
                .checked_sub(2 * ASK_REFUSED_AGAIN)
                .expect("a machine that runs for a while");
            for id in 1..=2 {
                let why = format!("nobody knows {id}");
                schemas.unknown.insert(
                    id,
                    Asked {
                        first: last,
                        last,
                        why,
                    },
                );
            }
            let looked = schemas
                .look_up_for(&[1, 2, 3], Duration::ZERO)
                .expect("looked up");
            let unknown: Vec<u32> = looked.unknown.keys().copied().collect();
            let expected: (&[u32], &[u32]) = match is_refused {
                true => (&[1, 2], &[3]),
                false => (&[], &[3, 1, 2]),
            };
            assert_eq!((&*unknown, &*looked.waits), expected);
            assert!(looked.error.is_some());
        }
    }
}
