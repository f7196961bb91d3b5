//! The plugin that is examined, and its keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;

use super::build::{self, Built, Say};
use super::{Outcome, failed, invalid};
use crate::chain::{Table, Transform};
use crate::config::{self, Overlay, Text};
use crate::connectors::CATALOG;
use crate::error::{Error, Kind, Result};
use crate::plugin::{
    Canonical, Component, FILE_OF_RULES, Keys, Limits, Places, Plugins, SetupError, SetupProblem,
    Stage,
};

/// A loaded component, and the crate it comes from.
#[derive(Debug)]
pub struct Subject {
    pub component: Component,
    /// Where samples lie by default.
    pub dir: PathBuf,
    pub built: Option<Built>,
}

impl Subject {
    /// `what` is a crate's folder (it is built), a `.wasm` file, or the name of a plugin in `plugin_path` or its store.
    pub fn find(what: &Path, plugin_path: &Path, say: Say) -> Result<Subject> {
        if what.is_dir() {
            let built = build::build(what, say)?;
            let component = load(&built.wasm)?;
            let said = &component.info().name;
            if *said != built.name {
                let message = format!(
                    "the crate is called {}, the plugin calls itself {said}",
                    built.name
                );
                return Err(
                    failed(message).hint("const NAME: &'static str = env!(\"CARGO_PKG_NAME\");")
                );
            }
            return Ok(Subject {
                component,
                dir: what.to_owned(),
                built: Some(built),
            });
        }
        let component = match what.extension().is_some_and(|e| e == "wasm") {
            true => load(what)?,
            false => named(what, plugin_path)?,
        };
        Ok(Subject {
            component,
            dir: what.parent().unwrap_or(Path::new(".")).to_owned(),
            built: None,
        })
    }

    /// The keys in their canonical form, or every problem they have.
    pub fn canonical(&self, settings: &Settings) -> Result<Canonical> {
        let keys = Keys {
            config: &settings.keys,
            resolve: &resolve,
            read_file: &|path| crate::fs::read(&settings.base.join(path), FILE_OF_RULES),
        };
        let told = |problems| settings.refused(SetupError::Problems(problems), None);
        self.component.canonical(&keys).map_err(told)
    }

    /// The configured plugin for these input columns.
    pub fn transform(&self, settings: &Settings, input: &SchemaRef) -> Result<Box<dyn Transform>> {
        let config = self.canonical(settings)?;
        let stage = stage(&self.component.info().name, input);
        let told = |error| settings.refused(error, Some(input));
        self.component.transform(stage, config).map_err(told)
    }

    /// Units of fuel that one call with this table burns; about one an instruction, the same on every machine.
    pub fn fuel(&self, settings: &Settings, input: &Table) -> Result<u64> {
        let config = self.canonical(settings)?;
        let stage = stage(&self.component.info().name, &input.schema);
        let told = |error| settings.refused(error, Some(&input.schema));
        self.component.fuel_of(stage, config, input).map_err(told)
    }
}

/// Applies it to the table.
pub fn apply(transform: &mut dyn Transform, input: &Table) -> Result<Outcome> {
    let output = transform.apply(input)?;
    Ok(Outcome::of(&output, transform, &input.schema))
}

fn stage<'a>(name: &'a str, input: &SchemaRef) -> Stage<'a> {
    Stage {
        transform: name,
        input: SchemaRef::clone(input),
        limits: Limits::default(),
        resolve: &resolve,
    }
}

fn resolve(text: &str) -> Result<String> {
    Text::new(text).resolve()
}

/// The newest of a name: the loose file of `dir`, or what was pushed into its store.
fn named(name: &Path, dir: &Path) -> Result<Component> {
    let plain = name.file_name() == Some(name.as_os_str());
    match name.to_str().filter(|_| plain) {
        Some(name) => Plugins::open(places(dir))?.find(name, &|_, _| true),
        None => Err(invalid(format!("{} is not there", name.display()))
            .hint("give a plugin's folder, its .wasm file, or its name and --plugin-path DIR")),
    }
}

fn places(dir: &Path) -> Places {
    Places {
        path: dir.to_owned(),
        store: dir.join("store"),
        cache: dir.join(".cache"),
    }
}

/// A component by its file, whatever that is called.
fn load(file: &Path) -> Result<Component> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let plugins = Plugins::open(places(dir))?;
    let loaded = plugins.from_bytes(super::input::read(file)?);
    loaded.map_err(|e| e.with("plugin", file.display()))
}

/// A transform's own keys, and where the files that they name lie.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub keys: BTreeMap<String, String>,
    pub base: PathBuf,
    /// The name under which problems are reported.
    pub label: String,
}

impl Settings {
    /// Keys from a file that has only them, or one with a `[[transforms]]` table of this plugin. References stay as
    /// typed.
    pub fn read(path: &Path, plugin: &str) -> Result<Settings> {
        let name = path.display().to_string();
        let (raws, problems) =
            config::load_raw(std::slice::from_ref(&name), &Overlay::default(), &CATALOG);
        if problems.iter().any(config::Problem::is_error) {
            return Err(config::refused(&problems));
        }
        let raws: Vec<config::Raw> = raws.into_iter().map(|(raw, _)| raw).collect();
        let base = path.parent().unwrap_or(Path::new("")).to_owned();
        Settings::of_raws(&raws, base, name, plugin)
    }

    /// Keys from a text that is not in a file.
    pub fn of_text(label: &str, toml: &str, plugin: &str) -> Result<Settings> {
        let (raw, problems) = config::text(label, toml);
        if problems.iter().any(config::Problem::is_error) {
            return Err(config::refused(&problems));
        }
        Settings::of_raws(&[raw], PathBuf::new(), label.to_owned(), plugin)
    }

    fn of_raws(
        raws: &[config::Raw],
        base: PathBuf,
        label: String,
        plugin: &str,
    ) -> Result<Settings> {
        let mut keys = BTreeMap::new();
        for raw in raws {
            keys.extend(
                raw.iter()
                    .map(|(key, entry)| (key.to_owned(), entry.value.typed().to_owned())),
            );
        }
        let mut settings = Settings { keys, base, label };
        if let Some(names) = settings.keys.get("transforms").cloned() {
            // Paths in a pipeline's config are relative to the working directory of `weir`, not to the config.
            settings.base = PathBuf::new();
            settings.only(&names, plugin)?;
        }
        settings
            .keys
            .retain(|key, _| key != "name" && key != "type");
        Ok(settings)
    }

    /// Keeps the keys of the first transform that is this plugin.
    fn only(&mut self, names: &str, plugin: &str) -> Result<()> {
        let of = |name: &str| format!("transforms.{name}.");
        let is = |name: &&str| {
            let kind = self.keys.get(&format!("{}type", of(name)));
            kind.is_some_and(|kind| kind.split('@').next() == Some(plugin))
        };
        let Some(found) = names.split(',').find(is) else {
            let message = format!("{} has no transform of type {plugin}", self.label);
            return Err(invalid(message).hint(format!("its transforms: {names}")));
        };
        let prefix = of(found);
        let keys = self.keys.iter();
        self.keys = keys
            .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())))
            .collect();
        Ok(())
    }

    /// `key=value` over the others.
    pub fn set(&mut self, pairs: &[String]) -> Result<()> {
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| invalid(format!("`{pair}` is not KEY=VALUE")))?;
            self.keys.insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn refused(&self, error: SetupError, input: Option<&SchemaRef>) -> Error {
        let problems = match error {
            SetupError::Failed(error) => return error,
            SetupError::Problems(problems) => problems,
        };
        let label = if self.label.is_empty() {
            "config"
        } else {
            &self.label
        };
        let lines: Vec<String> = problems.iter().map(|p| line(label, p)).collect();
        let error = Error::new(Kind::ConfigInvalid, "plugin.init", lines.join("\n  "));
        let column = problems.iter().any(|p| p.code == "bad_input");
        let hint = problems.iter().find_map(|p| p.hint.clone());
        match (input.filter(|_| column), hint) {
            (Some(input), _) => error.hint(format!(
                "the columns are: {}",
                super::input::describe(input)
            )),
            (None, Some(hint)) => error.hint(hint),
            (None, None) => error,
        }
    }
}

fn line(label: &str, problem: &SetupProblem) -> String {
    let at = problem
        .at
        .map_or(String::new(), |(line, column)| format!(":{line}:{column}"));
    let key = match problem.key.as_str() {
        "" => String::new(),
        key => format!(" {key}{at}:"),
    };
    format!("{label}:{key} {} ({})", problem.message, problem.code)
}

/// The error if there are no samples.
pub fn no_samples(dir: &Path) -> Error {
    failed(format!("there are no samples in {}", dir.display())).hint(
        "samples/<case>/ holds config.toml and one of messages.txt, messages/, rows.jsonl; `weir plugin test --update` writes expected.jsonl",
    )
}
