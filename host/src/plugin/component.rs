//! Components on disk: found by name, refused with a reason, or loaded and able to become transforms.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::bindings::PluginPre;
use super::config::{Setup, SetupError, canonical};
use super::engine::{Engines, Stop};
use super::instance::Instance;
use super::linker::{self, State};
use super::log::{LogBook, cut, printable};
use super::transform::PluginTransform;
use super::{Limits, MAX_COMPONENT_BYTES, MAX_NAME, MAX_SCHEMA, MAX_SUMMARY, cache};
use crate::chain::Transform;
use crate::error::{Error, Kind, Result};

/// A directory of `<name>.wasm`, and one of native images that may be deleted at any time.
#[derive(Clone, Debug)]
pub struct Plugins {
    dir: PathBuf,
    engines: Arc<Engines>,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// JSON Schema of its config.
    pub config_schema: String,
}

/// A loaded component: allowed imports, the contract's exports, a name that is its file's.
#[derive(Clone)]
pub struct Component {
    inner: Arc<Inner>,
}

struct Inner {
    info: Info,
    digest: String,
    bytes: Vec<u8>,
    engines: Arc<Engines>,
    time: PluginPre<State>,
    fuel: OnceLock<PluginPre<State>>,
}

impl Plugins {
    pub fn new(dir: impl Into<PathBuf>, cache_dir: impl Into<PathBuf>) -> Result<Plugins> {
        Ok(Plugins {
            dir: dir.into(),
            engines: Arc::new(Engines::new(cache_dir.into())?),
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Reads, checks, compiles (or finds compiled) and describes `<dir>/<name>.wasm`.
    pub fn find(&self, name: &str) -> Result<Component> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=MAX_NAME).contains(&name.len()) || !name.chars().all(plain) {
            return Err(refused(format!("`{name}` is no plugin name"))
                .hint("letters, digits, - and _; the file is <plugin.path>/<name>.wasm"));
        }
        let path = self.dir.join(format!("{name}.wasm"));
        self.load(name, &path)
            .map_err(|e| e.with("plugin", path.display()))
    }

    fn load(&self, name: &str, path: &Path) -> Result<Component> {
        let bytes = read(path)?;
        let digest = cache::digest(&bytes);
        let pre = link(&self.engines, Stop::Time, &digest, &bytes)?;
        let book = Arc::new(Mutex::new(LogBook::new("describe", name)));
        let mut instance = Instance::new(&pre, Stop::Time, &Limits::default(), &book)
            .map_err(|f| refused(format!("does not start: {}: {}", f.code, f.message)))?;
        let info = instance
            .describe()
            .map_err(|f| refused(format!("describe failed: {}: {}", f.code, f.message)))?;
        if info.name != name {
            let said = printable(cut(&info.name, MAX_NAME));
            return Err(
                refused(format!("the plugin says that its name is `{said}`")).hint(format!(
                    "call the file {said}.wasm, or change the name in `describe`"
                )),
            );
        }
        let version = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        if !(1..=MAX_NAME).contains(&info.version.len()) || !info.version.chars().all(version) {
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
        let info = Info {
            name: info.name,
            version: info.version,
            summary: printable(&info.summary),
            config_schema: info.config_schema,
        };
        Ok(Component {
            inner: Arc::new(Inner {
                info,
                digest,
                bytes,
                engines: Arc::clone(&self.engines),
                time: pre,
                fuel: OnceLock::new(),
            }),
        })
    }
}

impl Component {
    pub fn info(&self) -> &Info {
        &self.inner.info
    }

    /// `sha256:…` of the file.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// Checks the config, reads its files, calls `init` and holds the plan to the input's columns.
    pub fn transform(
        &self,
        setup: Setup<'_>,
    ) -> std::result::Result<Box<dyn Transform>, SetupError> {
        let schema = &self.inner.info.config_schema;
        let config =
            canonical(schema, setup.config, setup.read_file).map_err(SetupError::Problems)?;
        let transform = PluginTransform::new(
            self.clone(),
            setup.transform,
            config,
            setup.input,
            setup.limits,
        )?;
        Ok(Box::new(transform))
    }

    pub(super) fn pre(&self, stop: Stop) -> Result<&PluginPre<State>> {
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

fn refused(message: String) -> Error {
    Error::new(Kind::PluginRefused, "plugin.load", message)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let told = |e: std::io::Error| {
        let missing = e.kind() == std::io::ErrorKind::NotFound;
        let hint = if missing {
            "`make plugins` builds the shipped ones"
        } else {
            "check its permissions"
        };
        refused("cannot read the plugin".into())
            .source(e)
            .hint(hint)
    };
    let size = fs::metadata(path).map_err(told)?.len();
    if size > MAX_COMPONENT_BYTES as u64 {
        return Err(
            refused(format!("{size} bytes; at most {MAX_COMPONENT_BYTES}"))
                .hint("build it with --release and strip = true"),
        );
    }
    let bytes = fs::read(path).map_err(told)?;
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(bytes),
        Some(b"\0asm\x01\0\0\0") => {
            Err(refused("a core module, not a component".into()).hint("build it for wasm32-wasip2"))
        }
        _ => Err(refused("no WebAssembly component".into()).hint("build it for wasm32-wasip2")),
    }
}

fn link(engines: &Engines, stop: Stop, digest: &str, bytes: &[u8]) -> Result<PluginPre<State>> {
    let component = engines.component(stop, digest, bytes)?;
    let engine = engines.get(stop)?;
    linker::check_imports(engine, &component)?;
    let contract = |e: wasmtime::Error| {
        refused(format!(
            "does not fit the contract weir:plugin@0.1.0: {e:#}"
        ))
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
