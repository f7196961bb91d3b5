//! Finds components and configs: in loose files of a directory, in the plugin store, and in the program itself.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::shipped;
use super::store::{PluginStore, Ref};
use super::version;
use crate::config::PipelineConfig;
use crate::error::{Error, Result};
use crate::hash::sha256;
use crate::lock::lock;
use crate::plugin::MAX_COMPONENT_BYTES;
use crate::plugin::compile::engine::Engines;
use crate::plugin::config::canonical::Canonical;
use crate::plugin::run::component::{Component, plain_name, refused, too_large};

/// Most components kept loaded, so that finding them again costs nothing. The least recently used one is dropped first;
/// pipelines that still run it keep it.
const MAX_LOADED: usize = 32;

/// Directories. `cache` holds native images and may be deleted at any time; the others are the user's.
#[derive(Clone, Debug)]
pub struct Places {
    /// `<name>.wasm`: loose builds.
    pub path: PathBuf,
    pub store: PathBuf,
    pub cache: PathBuf,
}

impl Places {
    /// The directories of a pipeline's config: `plugin.path`, `plugin.store`, `plugin.cache`.
    pub fn of(config: &PipelineConfig) -> Places {
        Places {
            path: config.plugin_path.clone(),
            store: config.plugin_store.clone(),
            cache: config.plugin_cache.clone(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Plugins {
    path: PathBuf,
    store: PluginStore,
    engines: Arc<Engines>,
    loaded: Arc<Mutex<Vec<Arc<Slot>>>>,
}

/// One digest: the first caller loads it while the others wait.
#[derive(Debug)]
struct Slot {
    digest: String,
    component: Mutex<Option<Component>>,
}

impl Plugins {
    pub fn open(places: Places) -> Result<Plugins> {
        Ok(Plugins {
            path: places.path,
            store: PluginStore::at(places.store),
            engines: Arc::new(Engines::new(places.cache)?),
            loaded: Arc::default(),
        })
    }

    /// Compiles in children of this `weir` program; for processes that are not `weir` themselves.
    #[must_use]
    pub fn with_compiler(self, program: impl Into<PathBuf>) -> Plugins {
        self.engines.set_compiler(program.into());
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn store(&self) -> &PluginStore {
        &self.store
    }

    /// The highest version that `takes` (version, digest) accepts, of the loose file and of pushed versions that are
    /// not yanked; the loose file if both have it, and the shipped plugin if neither has it. A digest finds its build
    /// even if its version was yanked.
    pub fn find(&self, name: &str, takes: &dyn Fn(&str, &str) -> bool) -> Result<Component> {
        if !plain_name(name) {
            return Err(refused(format!("`{name}` is not a name for a plugin"))
                .hint("letters, digits, - and _; the file is <plugin.path>/<name>.wasm"));
        }
        // Only a pin by digest accepts a build without a version and refuses one without a digest.
        let by_digest = |digest: &str| takes("", digest) && !takes("", "");
        let loose = self.loose(name)?;
        let refs = self.store.refs(name)?;
        let pushed = (refs.iter())
            .filter(|r| !r.yanked && takes(&r.version, &r.pushed.digest))
            .max_by(|a, b| version::order(&a.version, &b.version));
        let fresh = (loose.as_ref()).filter(|l| takes(&l.info().version, l.digest()));
        let found = match (fresh, pushed) {
            (Some(fresh), Some(pushed))
                if version::order(&fresh.info().version, &pushed.version) == Ordering::Less =>
            {
                Some(self.pushed(pushed)?)
            }
            (Some(fresh), _) => Some(fresh.clone()),
            (None, Some(pushed)) => Some(self.pushed(pushed)?),
            (None, None) => match self.store.blobs()?.iter().find(|digest| by_digest(digest)) {
                Some(digest) => Some(self.component(digest)?).filter(|c| c.info().name == name),
                None => {
                    let yanked = |s: &&shipped::Shipped| {
                        let of = |r: &Ref| r.version == s.version || r.pushed.digest == s.digest;
                        refs.iter().any(|r| r.yanked && of(r))
                    };
                    let named = shipped::all().iter().filter(|s| s.name == name);
                    let mut taken = named.filter(|s| takes(s.version, &s.digest));
                    match taken.find(|s| by_digest(&s.digest) || !yanked(s)) {
                        Some(found) => Some(self.load(&found.digest, found.bytes.to_vec())?),
                        None => None,
                    }
                }
            },
        };
        found.ok_or_else(|| self.nothing(name, loose.as_ref(), &refs))
    }

    /// The build with this digest: from the store, a loose file that has it, or a shipped one.
    pub fn component(&self, digest: &str) -> Result<Component> {
        if let Some(loaded) = self.loaded(digest) {
            return Ok(loaded);
        }
        if let Some(bytes) = self.store.blob(digest)? {
            return self
                .load(digest, bytes)
                .map_err(|e| e.with("plugin", digest));
        }
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_some_and(|e| e == "wasm")
                && let Some(bytes) = read(&path)?
                && sha256(&bytes) == digest
            {
                return self
                    .load(digest, bytes)
                    .map_err(|e| e.with("plugin", path.display()));
            }
        }
        if let Some(shipped) = shipped::build(digest) {
            return self.load(digest, shipped.bytes.to_vec());
        }
        let (store, path) = (self.store.root().display(), self.path.display());
        Err(refused(format!("no component {digest} in {store} or {path}"))
            .hint("bring the plugin store of the machine that ran it (plugin.store), or push that build again"))
    }

    /// A stored config with its files and tables.
    pub fn config(&self, digest: &str) -> Result<Canonical> {
        self.store.config(digest)?.ok_or_else(|| {
            refused(format!(
                "no config {digest} in {}",
                self.store.root().display()
            ))
            .hint("bring the plugin store of the machine that ran it (plugin.store)")
        })
    }

    /// Stores both for good, to be found by digest. After this a log may name them.
    pub fn keep(&self, component: &Component, config: &Canonical) -> Result<()> {
        self.store.put_blob(component.digest(), component.bytes())?;
        self.store.put_config(config)
    }

    /// The component in `bytes`, wherever they come from.
    pub fn from_bytes(&self, bytes: Vec<u8>) -> Result<Component> {
        self.load(&sha256(&bytes), bytes)
    }

    /// `<path>/<name>.wasm`, if it is there.
    fn loose(&self, name: &str) -> Result<Option<Component>> {
        let path = self.path.join(format!("{name}.wasm"));
        let named = |e: Error| e.with("plugin", path.display());
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let component = self.from_bytes(bytes).map_err(named)?;
        let said = &component.info().name;
        if said == name {
            return Ok(Some(component));
        }
        let message = format!("the plugin says that its name is `{said}`");
        let hint = format!("call the file {said}.wasm, or change the name in `describe`");
        Err(named(refused(message).hint(hint)))
    }

    fn pushed(&self, found: &Ref) -> Result<Component> {
        let component = self.component(&found.pushed.digest)?;
        let info = component.info();
        if info.name == found.name && info.version == found.version {
            return Ok(component);
        }
        let (name, version) = (&found.name, &found.version);
        Err(refused(format!(
            "{name}@{version} leads to a build that calls itself {}@{}",
            info.name, info.version
        ))
        .with("digest", &found.pushed.digest)
        .hint("the ref was altered: remove it from the plugin store and push the build again"))
    }

    fn nothing(&self, name: &str, loose: Option<&Component>, refs: &[Ref]) -> Error {
        let mut there: Vec<String> = Vec::new();
        if let Some(loose) = loose {
            let path = self.path.display();
            there.push(format!(
                "{path} holds {name}@{}, {}",
                loose.info().version,
                loose.digest()
            ));
        }
        for Ref {
            version,
            pushed,
            yanked,
            ..
        } in refs
        {
            let yanked = if *yanked { " (yanked)" } else { "" };
            there.push(format!(
                "pushed: {name}@{version}, {}{yanked}",
                pushed.digest
            ));
        }
        let shipped = shipped::all().iter().filter(|s| s.name == name);
        there.extend(shipped.map(|s| format!("shipped: {name}@{}, {}", s.version, s.digest)));
        if there.is_empty() {
            let (path, store) = (self.path.display(), self.store.root().display());
            let shipped: Vec<&str> = shipped::all().iter().map(|s| s.name).collect();
            let shipped = shipped.join(", ");
            return refused(format!(
                "no plugin `{name}`: not in {path}, not in {store}, and not shipped"
            ))
            .hint(format!(
                "shipped are {shipped}; plugin.path names the directory of your own, <name>.wasm each"
            ));
        }
        refused(format!("no build of `{name}` is the one asked for")).hint(there.join("; "))
    }

    fn load(&self, digest: &str, bytes: Vec<u8>) -> Result<Component> {
        let slot = self.slot(digest);
        let mut component = lock(&slot.component);
        if let Some(loaded) = &*component {
            return Ok(loaded.clone());
        }
        let loaded = Component::load(&self.engines, digest, bytes.into())?;
        Ok(component.insert(loaded).clone())
    }

    fn loaded(&self, digest: &str) -> Option<Component> {
        lock(&self.slot(digest).component).clone()
    }

    /// The slot of a digest, now the most recently used.
    fn slot(&self, digest: &str) -> Arc<Slot> {
        let mut slots = lock(&self.loaded);
        let slot = match slots.iter().position(|slot| slot.digest == digest) {
            Some(at) => slots.remove(at),
            None => Arc::new(Slot {
                digest: digest.to_owned(),
                component: Mutex::default(),
            }),
        };
        slots.push(Arc::clone(&slot));
        if slots.len() > MAX_LOADED {
            slots.remove(0);
        }
        slot
    }
}

/// The bytes of a loose file that is not too large; None where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let told = |e: std::io::Error| {
        refused("cannot read the plugin".into())
            .with("plugin", path.display())
            .source(e)
            .hint("check its permissions")
    };
    let opened = match crate::fs::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(told(e)),
    };
    let size = opened.metadata().map_err(told)?.len();
    if size > MAX_COMPONENT_BYTES as u64 {
        return Err(too_large(size).with("plugin", path.display()));
    }
    crate::fs::read_open(opened, crate::plugin::KEPT)
        .map(Some)
        .map_err(told)
}
