//! One component: refused with a reason, or loaded, to make transforms of it.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use super::instance::Instance;
use super::linker::{self, State};
use super::log::LogBook;
use super::transform::PluginTransform;
use crate::chain::Transform;
use crate::error::{Error, Kind, Result};
use crate::plugin::boundary::bindings::PluginPre;
use crate::plugin::boundary::bindings::exports::weir::plugin::transform as wit;
use crate::plugin::compile::engine::{Engines, Stop};
use crate::plugin::config::canonical::{Canonical, canonical, sound_part};
use crate::plugin::config::setup::{Keys, SetupError, SetupProblem, Stage};
use crate::plugin::text::{cut, printable};
use crate::plugin::{Limits, MAX_COMPONENT_BYTES, MAX_NAME, MAX_SCHEMA, MAX_SUMMARY};

/// The package of `wit/weir.wit`.
pub const CONTRACT: &str = "weir:plugin@0.1.0";

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// JSON Schema of its config.
    pub config_schema: String,
}

/// A loaded component: allowed imports, the contract's exports, a name and a version.
#[derive(Clone)]
pub struct Component {
    inner: Arc<Inner>,
}

struct Inner {
    info: Info,
    digest: String,
    bytes: Arc<[u8]>,
    engines: Arc<Engines>,
    time: PluginPre<State>,
    fuel: OnceLock<PluginPre<State>>,
}

impl Info {
    /// Checks the answer of `describe` against the limits for commits, lists and forms.
    fn checked(info: wit::Info) -> Result<Info> {
        if !plain_name(&info.name) {
            let said = printable(cut(&info.name, MAX_NAME));
            return Err(
                refused(format!("the plugin says that its name is `{said}`"))
                    .hint(format!("1 to {MAX_NAME} letters, digits, - and _")),
            );
        }
        if !plain_version(&info.version) {
            return Err(refused(format!(
                "its version is no version of at most {MAX_NAME} bytes: `{}`",
                printable(cut(&info.version, MAX_NAME))
            ))
            .hint("digits, letters, . - +, as in 0.1.2"));
        }
        for (what, bytes, most) in [
            ("summary", info.summary.len(), MAX_SUMMARY),
            ("config schema", info.config_schema.len(), MAX_SCHEMA),
        ] {
            if bytes > most {
                return Err(refused(format!(
                    "its {what} has {bytes} bytes; at most {most}"
                )));
            }
        }
        let schema: std::result::Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_str(&info.config_schema);
        if let Err(e) = schema {
            return Err(refused(format!("its config schema is no JSON object: {e}")));
        }
        Ok(Info {
            name: info.name,
            version: info.version,
            summary: printable(&info.summary),
            config_schema: info.config_schema,
        })
    }
}

/// A name that can be a file's.
pub(in crate::plugin) fn plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain)
}

/// A version that can be part of a file's name.
pub(in crate::plugin) fn plain_version(version: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    (1..=MAX_NAME).contains(&version.len()) && version.chars().all(plain)
}

impl Component {
    /// Checks, compiles (or finds compiled) and describes the component in `bytes`.
    pub(in crate::plugin) fn load(
        engines: &Arc<Engines>,
        digest: &str,
        bytes: Arc<[u8]>,
    ) -> Result<Component> {
        check_kind(&bytes)?;
        let pre = link(engines, Stop::Time, digest, &bytes)?;
        let book = Arc::new(Mutex::new(LogBook::new("describe", digest)));
        let mut instance =
            Instance::new(&pre, Stop::Time, &Limits::default(), &book).map_err(|f| {
                f.no_memory().unwrap_or_else(|| {
                    refused(format!("does not start: {}: {}", f.code, f.message))
                })
            })?;
        let info = instance
            .describe()
            .map_err(|f| refused(format!("describe failed: {}: {}", f.code, f.message)))?;
        Ok(Component {
            inner: Arc::new(Inner {
                info: Info::checked(info)?,
                digest: digest.to_owned(),
                bytes,
                engines: Arc::clone(engines),
                time: pre,
                fuel: OnceLock::new(),
            }),
        })
    }

    pub fn info(&self) -> &Info {
        &self.inner.info
    }

    /// `sha256:…` of the file.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    pub fn bytes(&self) -> &[u8] {
        &self.inner.bytes
    }

    /// Whether the plugin's schema marks this key of its config as a secret.
    pub fn is_secret(&self, key: &str) -> bool {
        crate::plugin::config::canonical::is_secret_key(&self.info().config_schema, key)
    }

    /// Checks the keys against the plugin's schema and reads the files they name; no guest code runs.
    pub fn canonical(&self, keys: &Keys<'_>) -> std::result::Result<Canonical, Vec<SetupProblem>> {
        canonical(&self.inner.info.config_schema, keys)
    }

    /// Problems that the plugin itself finds after the schema has refused some keys: it checks the others, so that a
    /// person sees everything at once. Only problems of existing keys: a key that it misses may be a refused one.
    pub fn problems_of_the_others(&self, keys: &Keys<'_>, stage: Stage<'_>) -> Vec<SetupProblem> {
        let (sound, refused) = sound_part(&self.inner.info.config_schema, keys);
        match self.transform(stage, sound) {
            Err(SetupError::Problems(found)) => found
                .into_iter()
                .filter(|p| keys.config.contains_key(&p.key))
                .filter(|p| refused.iter().all(|r| r.key != p.key))
                .collect(),
            Ok(_) | Err(SetupError::Failed(_)) => Vec::new(),
        }
    }

    /// Resolves secrets, calls `init` and checks the plan against the input's columns.
    pub fn transform(
        &self,
        stage: Stage<'_>,
        config: Canonical,
    ) -> std::result::Result<Box<dyn Transform>, SetupError> {
        Ok(Box::new(PluginTransform::new(self.clone(), stage, config)?))
    }

    pub(in crate::plugin) fn pre(&self, stop: Stop) -> Result<&PluginPre<State>> {
        let inner = &self.inner;
        if stop == Stop::Time {
            return Ok(&inner.time);
        }
        if let Some(pre) = inner.fuel.get() {
            return Ok(pre);
        }
        let pre = link(&inner.engines, stop, &inner.digest, &inner.bytes)?;
        Ok(inner.fuel.get_or_init(|| pre))
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Info { name, version, .. } = self.info();
        write!(f, "{name} {version} {}", self.digest())
    }
}

pub(in crate::plugin) fn refused(message: String) -> Error {
    Error::new(Kind::PluginRefused, "plugin.load", message)
}

fn check_kind(bytes: &[u8]) -> Result<()> {
    if bytes.len() > MAX_COMPONENT_BYTES {
        return Err(too_large(bytes.len() as u64));
    }
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => {
            Err(refused("a core module, not a component".into()).hint("build it for wasm32-wasip2"))
        }
        _ => Err(refused("no WebAssembly component".into()).hint("build it for wasm32-wasip2")),
    }
}

pub(in crate::plugin) fn too_large(bytes: u64) -> Error {
    refused(format!("{bytes} bytes; at most {MAX_COMPONENT_BYTES}"))
        .hint("build it with --release and strip = true")
}

fn link(engines: &Engines, stop: Stop, digest: &str, bytes: &[u8]) -> Result<PluginPre<State>> {
    let component = engines.component(stop, digest, bytes)?;
    let engine = engines.get(stop)?;
    linker::check_imports(engine, &component)?;
    let contract = |e: wasmtime::Error| {
        refused(format!("does not fit the contract {CONTRACT}: {e:#}"))
            .hint("rebuild it with the contract of this release (wit/weir.wit)")
    };
    let linker = linker::linker(engine).map_err(|e| {
        Error::new(
            Kind::Bug,
            "plugin.link",
            format!("the linker refuses its own host: {e:#}"),
        )
    })?;
    let pre = linker.instantiate_pre(&component).map_err(contract)?;
    PluginPre::new(pre).map_err(contract)
}
