//! A pipeline is a flat map. It is read twice: raw (what was typed, with places) → checked (what it means).
//!
//! [`load_pipelines`] reads the files of one run and reports all their problems at once; nothing after [`checked`]
//! validates again. [`keys`] is the one table of keys, from which the checker, the documents and the schema come.

mod check;
pub mod checked;
mod connector;
mod converters;
mod cross_checks;
pub mod files;
pub mod java;
mod json;
pub mod keys;
pub mod librdkafka;
pub mod location;
mod pattern;
pub mod problem;
mod properties;
pub mod raw;
pub mod reach;
mod read;
pub mod reference;
pub mod schema;
pub mod secrets;
pub mod shape;
mod stand_in;
pub mod store_keys;
pub mod text;
mod trust;
mod values;
pub mod what;
pub mod worker;
mod yaml;

pub use check::Checker;
pub use checked::*;
pub use connector::{
    BuiltSink, Catalog, Gives, MessageHint, PerTrigger, Prefixed, SinkConfig, SinkType,
    SourceConfig, SourceType,
};
pub use converters::{
    Converters, Evolution, FILE as SCHEMA_FILE, Format, OnIncompatible, OnNull, RegistryConfig,
    URL as REGISTRY_URL, ValueConverter,
};
pub use files::{Directories, FileFormat, Files, TimeDirectories, TimeOf, TimeUnit, Tombstones};
pub use keys::TRANSFORMS_MAX;
pub use location::{Location, Options, Publish, Sse, System};
pub use pattern::TopicPattern;
pub use problem::{Place, Problem, Severity};
pub use raw::Raw;
pub use reach::Reach;
pub use stand_in::stand_in;
pub use text::Text;
pub use trust::Trust;
pub use values::{character, delimiter, duration, plugin_ref, show_bytes, too_many_transforms};
pub use what::What;

use crate::error::{Error, Kind, Result};

/// What overrides the files.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    /// `--profile`: at least one of the files has it.
    pub profile: Option<String>,
    /// `--set key=value`, for every file that the key can concern; `<pipeline>:key=value` for one of them.
    pub set: Vec<String>,
}

/// Where a config came from, to read it again.
#[derive(Debug, Clone)]
pub struct Origin {
    /// All files of the run.
    pub files: Vec<String>,
    pub overlay: Overlay,
    /// The function that read them: rooms above this one know what the classes of Kafka Connect mean.
    pub load: fn(&[String], &Overlay) -> Loaded,
}

/// The pipelines of one run, and the problems of their configs.
#[derive(Debug)]
pub struct Loaded {
    /// Those without errors, in the order of the files.
    pub pipelines: Vec<PipelineConfig>,
    /// Those with errors, as [`stand_in`]s, so that their plugins can still check their keys.
    pub others: Vec<PipelineConfig>,
    /// In the order of files, lines and keys; warnings too.
    pub problems: Vec<Problem>,
}

impl Loaded {
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// The same pipeline, read again from its files; itself if it has none. `Err`: all problems of the files.
pub fn reload(config: &PipelineConfig) -> std::result::Result<PipelineConfig, Vec<Problem>> {
    let Some(origin) = &config.origin else {
        return Ok(config.clone());
    };
    let loaded = (origin.load)(&origin.files, &origin.overlay);
    if loaded.has_errors() {
        return Err(loaded.problems);
    }
    let mut found = loaded.pipelines.into_iter();
    found.find(|now| now.name == config.name).ok_or_else(|| {
        let message = format!("the pipeline `{}` is no longer in it", config.name);
        vec![config.problem("name", problem::BAD_NAME, message)]
    })
}

/// As [`reload`]; the present config if the files have errors now.
pub fn reloaded(config: &PipelineConfig) -> PipelineConfig {
    reload(config).unwrap_or_else(|_| config.clone())
}

/// One pipeline from a map of keys, for a test, a demo or a REST call; `label` is used in place of a file's name.
pub fn from_map<'a>(
    label: &str,
    map: impl IntoIterator<Item = (&'a str, &'a str)>,
    catalog: &'static Catalog,
) -> Result<PipelineConfig> {
    let mut raw = Raw::new(label);
    for (key, value) in map {
        let place = raw.start_of_file();
        raw.insert(key.to_owned(), value.to_owned(), place)
            .map_err(|p| refused(&[p]))?;
    }
    let (pipeline, problems) = check::check(raw, catalog);
    pipeline.ok_or_else(|| refused(&problems))
}

/// A native map, checked.
pub fn check_raw(raw: Raw, catalog: &'static Catalog) -> (Option<PipelineConfig>, Vec<Problem>) {
    check::check(raw, catalog)
}

/// Reads TOML that is not in a file; `label` is used in place of its name.
pub fn text(label: &str, toml: &str) -> (Raw, Vec<Problem>) {
    read::text(label, toml)
}

/// As [`from_map`], with every problem and the places of the map's keys in a file named `label`.
pub fn check_map(
    label: &str,
    map: &std::collections::BTreeMap<String, String>,
    catalog: &'static Catalog,
) -> std::result::Result<PipelineConfig, Vec<Problem>> {
    let mut raw = Raw::new(label);
    for (key, value) in map {
        let place = raw.start_of_file();
        raw.insert(key.clone(), value.clone(), place)
            .map_err(|p| vec![p])?;
    }
    let (pipeline, problems) = check::check(raw, catalog);
    pipeline.ok_or(problems)
}

/// Conflicts between pipelines of one process: a name, a table, a source.
pub fn between(pipelines: &[PipelineConfig]) -> Vec<Problem> {
    cross_checks::between(pipelines)
}

/// Conflicts of a further pipeline of the same process with `others`: a name, a table, a source.
pub fn beside<'a>(
    new: &PipelineConfig,
    others: impl IntoIterator<Item = &'a PipelineConfig>,
) -> Vec<Problem> {
    cross_checks::beside(new, others)
}

/// The problem of a reference in a config that came by REST, in a key whose value appears in messages, paths and logs.
pub fn reference_shows(raw: &Raw, key: &str) -> Problem {
    let message = format!(
        "`{key}`: no reference may stand here, as the value shows in messages, paths and logs"
    );
    Problem::new(raw.place(key), key, problem::REFERENCE_SHOWS, message)
        .hint("write the value itself; references are for passwords, tokens and keys")
}

/// Most problems that one error shows; the others are counted.
const TOLD: usize = 20;

/// Makes one error of all problems.
pub fn refused(problems: &[Problem]) -> Error {
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.is_error()).collect();
    let told = |p: &&Problem| match &p.hint {
        Some(hint) if errors.len() > 1 => format!("{} ({}); {hint}", p.message, p.place),
        _ => format!("{} ({})", p.message, p.place),
    };
    let (message, hint) = match &errors[..] {
        [] => ("the config was refused".to_owned(), None),
        [one] => (told(one), one.hint.clone()),
        all => {
            let numbered = (1..).zip(all.iter().take(TOLD));
            let lines: Vec<String> = numbered
                .map(|(n, p)| format!("({n}) {}", told(p)))
                .collect();
            let more = match all.len().saturating_sub(TOLD) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let message = format!("{} problems: {}{more}", all.len(), lines.join(" "));
            (message, None)
        }
    };
    let no_memory = !errors.is_empty() && errors.iter().all(|p| p.code == problem::NO_MEMORY);
    let kind = match no_memory {
        true => Kind::LimitReached,
        false => Kind::ConfigInvalid,
    };
    let error = Error::new(kind, "config.load", message).with("problems", errors.len());
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Whether a file is the daemon's config, by its keys.
pub fn is_worker(file: &str) -> bool {
    let (raws, _) = read_all(&[file.to_owned()]);
    let mut raws = raws.iter();
    raws.any(|(raw, readable)| *readable && What::of(raw) == What::Worker)
}

/// As [`load_raw`]; files that hold something else than a pipeline are reported as what they are.
pub fn load_pipelines(
    files: &[String],
    overlay: &Overlay,
    catalog: &Catalog,
) -> (Vec<(Raw, bool)>, Vec<Problem>) {
    let (mut raws, mut problems) = load_raw(files, overlay, catalog);
    for (raw, readable) in &mut raws {
        if *readable && let Some(problem) = What::of(raw).no_pipeline(raw) {
            *readable = false;
            problems.push(problem);
        }
    }
    (raws, problems)
}

/// The flat maps after profile and `--set`; false: the file could not be read as a map.
pub fn load_raw(
    files: &[String],
    overlay: &Overlay,
    catalog: &Catalog,
) -> (Vec<(Raw, bool)>, Vec<Problem>) {
    let (mut raws, mut problems) = read_all(files);
    if let Some(profile) = &overlay.profile {
        problems.extend(apply_profile(&mut raws, profile));
    }
    for (number, assignment) in (1u32..).zip(&overlay.set) {
        problems.extend(apply_set(&mut raws, number, assignment, catalog));
    }
    (raws, problems)
}

/// The flat maps as typed; false: the file could not be read as a map.
fn read_all(files: &[String]) -> (Vec<(Raw, bool)>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut raws: Vec<(Raw, bool)> = Vec::new();
    for file in files {
        let (raw, found) = read::read(file);
        let unreadable = [problem::UNREADABLE, problem::SYNTAX];
        let broken = |p: &Problem| p.key.is_empty() || unreadable.contains(&p.code);
        raws.push((raw, !found.iter().any(broken)));
        problems.extend(found);
    }
    (raws, problems)
}

fn apply_profile(raws: &mut [(Raw, bool)], profile: &str) -> Option<Problem> {
    let mut found = raws.iter().any(|(_, readable)| !readable);
    for (raw, _) in raws.iter_mut() {
        found |= raw.apply_profile(profile);
    }
    let (first, _) = raws.first().filter(|_| !found)?;
    let mut known: Vec<&str> = raws.iter().flat_map(|(raw, _)| raw.profiles()).collect();
    known.sort_unstable();
    known.dedup();
    let hint = match known.is_empty() {
        true => format!("add a table [profile.{profile}]"),
        false => format!("the profiles are: {}", known.join(", ")),
    };
    let message = format!("no file of this run has a profile `{profile}`");
    Some(Problem::new(first.start_of_file(), "", problem::UNKNOWN_PROFILE, message).hint(hint))
}

fn apply_set(
    raws: &mut [(Raw, bool)],
    number: u32,
    assignment: &str,
    catalog: &Catalog,
) -> Option<Problem> {
    let place = Place::Set(number);
    let Some((key, value)) = assignment.split_once('=') else {
        let message = format!("`--set {assignment}` has no `=`");
        return Some(
            Problem::new(place, assignment, problem::SYNTAX, message).hint("write --set key=value"),
        );
    };
    let (pipeline, key) = match key.split_once(':') {
        Some((pipeline, key)) => (Some(pipeline.trim()), key.trim()),
        None => (None, key.trim()),
    };
    let alone = raws.len() == 1;
    let mut hit = false;
    for (raw, _) in raws.iter_mut() {
        let name = raw.get("name").map(|entry| entry.value.typed().to_owned());
        let meant = match pipeline {
            Some(pipeline) => name.as_deref() == Some(pipeline),
            None => alone || concerns(raw, key, catalog),
        };
        if meant {
            let exact = catalog
                .find(key)
                .is_some_and(|def| def.shape == shape::Shape::Exact);
            raw.set(key, if exact { value } else { value.trim() }, number);
            hit = true;
        }
    }
    if hit {
        return None;
    }
    let message = format!("`--set {assignment}` concerns no pipeline of this run");
    Some(
        Problem::new(place, key, problem::UNKNOWN_KEY, message)
            .hint("name one: --set pipeline:key=value"),
    )
}

/// With several files, a key without a pipeline's name overrides those that it can concern.
fn concerns(raw: &Raw, key: &str, catalog: &Catalog) -> bool {
    use keys::TRANSFORM_PREFIX;
    if let Some(transform) = key.strip_prefix(TRANSFORM_PREFIX) {
        let name = transform.split('.').next().unwrap_or(transform);
        let listed = raw
            .get("transforms")
            .map_or("", |entry| entry.value.typed());
        return listed.split(',').any(|one| one.trim() == name);
    }
    catalog.takes(catalog.source_of(raw), catalog.sink_of(raw), key)
}
