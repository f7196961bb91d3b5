//! Two engines: one with a time limit, which does the work, and one with a fuel limit, which decides about single
//! records.
//!
//! Both give the same results for the same bytes: NaN is canonical, relaxed SIMD and threads are off.

use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Config, Engine, OperatorCost, Strategy};

use super::cache;
use super::child as compile;
use crate::error::{Error, Kind, Result};
use crate::hash::hex;

pub const TICK: Duration = Duration::from_millis(10);
/// Units of fuel that an instruction burns; each byte moved by `memory.copy` and similar instructions burns one. A
/// machine that does `FUEL_PER_SECOND` instructions moves fewer bytes than this many times that number: 160 GB a
/// second.
pub const INSTRUCTION: u64 = 32;

/// What stops a guest that does not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Time,
    Fuel,
}

impl Stop {
    /// The name for `weir plugin compile`.
    pub fn name(self) -> &'static str {
        match self {
            Stop::Time => "time",
            Stop::Fuel => "fuel",
        }
    }
}

#[derive(Debug)]
pub struct Engines {
    pub cache_dir: PathBuf,
    time: Engine,
    fuel: OnceLock<Engine>,
    cache_trusted: OnceLock<bool>,
    /// The `weir` program, if it is not this process.
    compiler: OnceLock<PathBuf>,
}

impl Engines {
    pub fn new(cache_dir: PathBuf) -> Result<Self> {
        let time = engine(Stop::Time)?;
        let weak = time.weak();
        // Ends by itself, at most one tick after the last engine handle.
        thread::Builder::new()
            .name("plugin-ticker".into())
            .spawn(move || {
                while let Some(engine) = weak.upgrade() {
                    engine.increment_epoch();
                    drop(engine);
                    thread::sleep(TICK);
                }
            })
            .map_err(|e| {
                Error::new(Kind::Bug, "plugin.engine", "cannot start the ticker").source(e)
            })?;
        Ok(Engines {
            cache_dir,
            time,
            fuel: OnceLock::new(),
            cache_trusted: OnceLock::new(),
            compiler: OnceLock::new(),
        })
    }

    pub fn set_compiler(&self, program: PathBuf) {
        self.compiler.get_or_init(|| program);
    }

    pub fn get(&self, stop: Stop) -> Result<&Engine> {
        if stop == Stop::Time {
            return Ok(&self.time);
        }
        if let Some(engine) = self.fuel.get() {
            return Ok(engine);
        }
        let made = engine(stop)?;
        Ok(self.fuel.get_or_init(|| made))
    }

    /// The native code of `bytes`: from the cache if it is intact, otherwise compiled and cached for the next start.
    pub fn component(&self, stop: Stop, digest: &str, bytes: &[u8]) -> Result<Component> {
        let engine = self.get(stop)?;
        let slot = cache::Slot::new(&self.cache_dir, &key(engine), digest);
        let trusted = *self
            .cache_trusted
            .get_or_init(|| cache::trusted(&self.cache_dir));
        let kept = trusted.then(|| slot.read()).flatten();
        if let Some(component) = kept.and_then(|image| native(engine, &image)) {
            return Ok(component);
        }
        let compiler = self.compiler.get().map(PathBuf::as_path);
        let image = compile::compile(compiler.or(compile::program()), stop, bytes)
            .map_err(|e| e.with("digest", digest))?;
        if trusted && let Err(e) = slot.write(&image) {
            tracing::warn!(cache = %self.cache_dir.display(), "native image not kept: {e}");
        }
        native(engine, &image).ok_or_else(|| {
            Error::new(
                Kind::Bug,
                "plugin.compile",
                "a fresh native image cannot be loaded",
            )
            .with("digest", digest)
        })
    }
}

#[allow(
    unsafe_code,
    reason = "native images are code: wasmtime cannot check them, our own hash beside them can"
)]
fn native(engine: &Engine, image: &[u8]) -> Option<Component> {
    // SAFETY: `image` was made by `precompile_component` of this program, either just now or in an earlier run whose
    // bytes still have the SHA-256 written then, in a directory that only this user can write (`cache::trusted`). It is in memory, so it
    // cannot change between the check and here; wasmtime itself refuses images of other versions and settings.
    match unsafe { Component::deserialize(engine, image) } {
        Ok(component) => Some(component),
        Err(e) => {
            tracing::warn!("native image refused, compiling anew: {e:#}");
            None
        }
    }
}

pub fn engine(stop: Stop) -> Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .epoch_interruption(stop == Stop::Time)
        .consume_fuel(stop == Stop::Fuel);
    if stop == Stop::Fuel {
        config.operator_cost(costs()?);
    }
    Engine::new(&config).map_err(|e| {
        Error::new(
            Kind::Bug,
            "plugin.engine",
            format!("wasmtime refuses: {e:#}"),
        )
    })
}

/// wasmtime's own table charges an instruction like a moved byte; here instructions cost more. Growing memory is a call
/// to the host and costs even more; the requested size does not count, because memory has its own limits.
fn costs() -> Result<OperatorCost> {
    let dearer = |mut table: serde_json::Value| {
        for cost in table.as_object_mut()?.values_mut() {
            if let Some(n) = cost.as_u64() {
                *cost = (n * INSTRUCTION).into();
            }
        }
        let mut table: OperatorCost = serde_json::from_value(table).ok()?;
        (table.MemoryGrow, table.TableGrow) = (u8::MAX, u8::MAX);
        table.variable.table_grow_per_element = 0;
        Some(table)
    };
    let table = serde_json::to_value(OperatorCost::default()).ok();
    table.and_then(dearer).ok_or_else(|| {
        Error::new(
            Kind::Bug,
            "plugin.engine",
            "wasmtime's table of costs has another shape",
        )
    })
}

/// A key for images that this engine can load on this processor.
fn key(engine: &Engine) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut sha = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    hex(&sha.0.finalize())[..16].to_owned()
}
