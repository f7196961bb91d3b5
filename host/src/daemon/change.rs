//! Changes of the daemon's pipelines: each is checked, then journalled, then done.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::book::{Entry, FILES, Record, Registry, Supervisor, info, status};
use super::guard::Act;
use super::journal::{Change, Recorded, What};
use super::readers::failed;
use super::{Actor, Asker, Info, Job, Origin, Readers, Refused, Standing, Status, Target};
use super::{check, jobs, offsets, reach, targets};
use crate::config::keys::TRANSFORM_PREFIX;
use crate::config::secrets::literal_secrets;
use crate::config::{self, PipelineConfig, Place, Problem, Source, problem};
use crate::connect::Offset;
use crate::error::{Kind, Result};
use crate::filestream::{self, FileJob};
use crate::lock::lock;
use crate::operations::swap::SwapPlan;
use crate::pipeline::rules::namespace;
use crate::pipeline::{Changed, Edit};

/// Time for a deleted pipeline to drain before a new one of its name is created; after it the client may try again.
const LEFT_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Time for a running pipeline to put new rules in force before its config is replaced; after it the entry is written
/// here.
const SWAPPED_WITHIN: Duration = Duration::from_secs(10);

impl Supervisor {
    /// The job, or all problems: of the config by itself, and with the other pipelines.
    pub(super) fn checked(
        &self,
        name: &str,
        config: &BTreeMap<String, String>,
        origin: Origin,
    ) -> Result<Arc<Job>, Vec<Problem>> {
        let others = |job: &Job| beside(&lock(&self.book), name, job);
        self.read(name, config, origin, &others)
    }

    /// The same for a config that is only validated: conflicts with other pipelines are no problem here, and clients
    /// validate under arbitrary names.
    pub(super) fn checked_alone(
        &self,
        name: &str,
        config: &BTreeMap<String, String>,
        origin: Origin,
    ) -> Result<Arc<Job>, Vec<Problem>> {
        self.read(name, config, origin, &|_| Vec::new())
    }

    fn read(
        &self,
        name: &str,
        config: &BTreeMap<String, String>,
        origin: Origin,
        others: &dyn Fn(&Job) -> Vec<Problem>,
    ) -> Result<Arc<Job>, Vec<Problem>> {
        let errors = |mut problems: Vec<Problem>| {
            problems.retain(Problem::is_error);
            problems
        };
        // Checked first: messages about other problems must not contain a secret.
        let secrets = literal_secrets(name, config);
        if !secrets.is_empty() {
            return Err(secrets);
        }
        let reach = origin.reach(&self.bounds);
        let job = match jobs::job(&self.worker, name, config, &reach) {
            Ok(job) => job,
            Err(problems) => {
                let mut problems = errors(problems);
                let part = jobs::stand_in(&self.worker, name, config, &reach, &problems);
                if let Some(part) = part {
                    problems.extend(errors(self.of_plugins(&part)));
                }
                return Err(problems);
            }
        };
        let mut problems = others(&job);
        if let Some(config) = jobs::pipeline_of(&job) {
            problems.extend(config.unresolved());
            let mut found = self.of_plugins(config);
            found.retain(|p| !problems.iter().any(|known| known.key == p.key));
            problems.extend(found);
        }
        match problems.iter().any(Problem::is_error) {
            true => Err(errors(problems)),
            false => Ok(Arc::new(job)),
        }
    }

    fn of_plugins(&self, config: &PipelineConfig) -> Vec<Problem> {
        match self.plugins_of(config) {
            Ok(plugins) => {
                let read = self.columns_read_by(config);
                let mut problems = check::plugins(config, &plugins, read.as_ref());
                if let Some(columns) = &read {
                    problems.extend(namespace::clashes_of_reader(config, columns));
                }
                problems
            }
            Err(error) => {
                let code = problem::PLUGIN_CONFIG;
                vec![config.problem("plugin.path", code, error.to_string())]
            }
        }
    }

    fn record(
        &self,
        book: &mut Registry,
        name: &str,
        by: &Actor,
        what: What,
    ) -> Result<(), Refused> {
        let change = Change {
            name: name.to_owned(),
            time: self.clock.now_micros(),
            by: by.0.clone(),
            what,
        };
        book.journal.append(&change).map_err(Refused::Failed)
    }

    pub fn create(
        &self,
        name: &str,
        config: BTreeMap<String, String>,
        target: Target,
        readers: Readers,
        by: &Actor,
    ) -> Result<Info, Refused> {
        self.create_as(name, config, target, (Origin::Rest, readers), by)
    }

    pub(super) fn create_as(
        &self,
        name: &str,
        config: BTreeMap<String, String>,
        target: Target,
        (origin, readers): (Origin, Readers),
        by: &Actor,
    ) -> Result<Info, Refused> {
        let config = named(name, config)?;
        if self.find(name).is_ok() {
            return Err(exists(name));
        }
        let job = self
            .checked(name, &config, origin)
            .map_err(Refused::Invalid)?;
        self.predecessor_left(name)?;
        // Its zone may exist already.
        if let Some(planned) = self.readers_take(name, &job, readers, by)? {
            planned.execute(SWAPPED_WITHIN).map_err(failed)?;
        }
        let mut book = lock(&self.book);
        if book.entries.contains_key(name) {
            return Err(exists(name));
        }
        // Somebody else has created and deleted one meanwhile.
        if book.still_leaving(name) {
            return Err(draining(name));
        }
        none(beside(&book, name, &job))?;
        let recorded = Recorded {
            config: config.clone(),
            target,
            origin,
            why: None,
        };
        let what = What::Created {
            config,
            target,
            origin,
        };
        self.record(&mut book, name, by, what)?;
        let entry = match self.entry(name, &recorded) {
            Ok(entry) => entry,
            // It is in the journal, and must not begin at the next start.
            Err(error) => {
                self.record(&mut book, name, by, What::Deleted)?;
                return Err(Refused::Failed(error));
            }
        };
        book.entries.insert(name.to_owned(), entry.clone());
        drop(book);
        Ok(info(name, &entry.record(), &entry.unit.seen()))
    }

    /// Waits until a deleted pipeline of the same name has drained.
    fn predecessor_left(&self, name: &str) -> Result<(), Refused> {
        let until = self.clock.elapsed() + LEFT_WITHIN;
        while lock(&self.book).still_leaving(name) {
            if self.clock.elapsed() >= until {
                return Err(draining(name));
            }
            self.clock.sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub fn put(
        &self,
        name: &str,
        config: BTreeMap<String, String>,
        readers: Readers,
        by: &Actor,
    ) -> Result<(Info, bool), Refused> {
        if self.find(name).is_err() {
            match self.create(name, config.clone(), Target::Running, readers, by) {
                Err(Refused::Exists(_)) => {}
                created => return created.map(|info| (info, true)),
            }
        }
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        self.replace(&entry, config, readers, by)
            .map(|info| (info, false))
    }

    pub fn patch(
        &self,
        name: &str,
        changes: BTreeMap<String, Option<String>>,
        readers: Readers,
        by: &Actor,
    ) -> Result<Info, Refused> {
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        let mut config = entry.record().config;
        for (key, value) in changes {
            match value {
                Some(value) => config.insert(key, value),
                None => config.remove(&key),
            };
        }
        self.replace(&entry, config, readers, by)
    }

    /// The caller holds the entry's `changes`.
    fn replace(
        &self,
        entry: &Entry,
        config: BTreeMap<String, String>,
        readers: Readers,
        by: &Actor,
    ) -> Result<Info, Refused> {
        let name = &entry.name;
        let config = named(name, config)?;
        let before = entry.record();
        if before.deleted {
            return Err(gone(name));
        }
        let origin = match before.config == config {
            true => before.origin,
            false => Origin::Rest,
        };
        let job = self
            .checked(name, &config, origin)
            .map_err(Refused::Invalid)?;
        if before.config == config {
            // It may declare other rules now: a rule file or a plugin may have changed.
            if readers == Readers::Broken
                && let Some(planned) = self.readers_take(name, &job, readers, by)?
            {
                planned.execute(SWAPPED_WITHIN).map_err(failed)?;
                entry.unit.want(Entry::wanted(&before));
            }
            return Ok(info(name, &before, &entry.unit.seen()));
        }
        if is_read_otherwise(&before.config, &config) {
            fits_home(name, &job)?;
        }
        let what = What::Config {
            config: config.clone(),
        };
        let differs = match (&before.job, before.target) {
            (Ok(now), Target::Running) => differs(now, &job),
            _ => Differs::More,
        };
        let swap = match differs {
            Differs::More => self.readers_take(name, &job, readers, by)?,
            Differs::InRules | Differs::Nowhere => None,
        };
        {
            let mut book = lock(&self.book);
            none(beside(&book, name, &job))?;
            self.record(&mut book, name, by, what)?;
            // Others must not take its tables from now on.
            if matches!(differs, Differs::More) {
                entry.is_now(&config, &job);
            }
        }
        self.put_in_force(entry, (before, &config, &job), (differs, swap), readers, by)
    }

    /// The config is in the journal: a running pipeline changes to it, or begins again with it.
    fn put_in_force(
        &self,
        entry: &Entry,
        (before, config, job): (Record, &BTreeMap<String, String>, &Arc<Job>),
        (differs, mut swap): (Differs, Option<SwapPlan>),
        readers: Readers,
        by: &Actor,
    ) -> Result<Info, Refused> {
        let name = &entry.name;
        let edited = match (differs, jobs::pipeline_of(job)) {
            (Differs::InRules, Some(config)) => {
                let breaks = readers == Readers::Broken;
                let edit = Edit::over_http(config, &by.0, breaks);
                entry.unit.edit(edit, job)
            }
            (Differs::Nowhere, _) => Some(Changed::Same),
            _ => None,
        };
        if let Some(Changed::Refused(why)) = edited {
            let back = (before.config, before.origin);
            return Err(self.take_back(entry, back, &why, by));
        }
        // No pipeline ran that could have checked it.
        if edited.is_none() && matches!(differs, Differs::InRules) {
            swap = match self.readers_take(name, job, readers, by) {
                Ok(swap) => swap,
                Err(Refused::Invalid(problems)) => {
                    let why = config::refused(&problems).to_string();
                    let back = (before.config, before.origin);
                    return Err(self.take_back(entry, back, &why, by));
                }
                Err(refused) => return Err(refused),
            };
        }
        let record = entry.is_now(config, job);
        if edited.is_none() {
            let swapped = swap.map(|planned| planned.execute(SWAPPED_WITHIN));
            entry.unit.want(Entry::wanted(&record));
            swapped.transpose().map_err(failed)?;
        }
        Ok(info(name, &record, &entry.unit.seen()))
    }

    /// The rules of a recorded config could not be put in force: the pipeline keeps the config before it.
    fn take_back(
        &self,
        entry: &Entry,
        (config, origin): (BTreeMap<String, String>, Origin),
        why: &str,
        by: &Actor,
    ) -> Refused {
        let name = &entry.name;
        let what = What::TakenBack {
            config,
            why: why.to_owned(),
            origin,
        };
        if let Err(refused) = self.record(&mut lock(&self.book), name, by, what) {
            return refused;
        }
        let message = format!("`transforms`: the rules cannot be put in force: {why}");
        let place = Place::start_of(name);
        let problem = Problem::new(place, "transforms", problem::PLUGIN_CONFIG, message);
        Refused::Invalid(vec![problem.hint("the rules before are still in force")])
    }

    /// Config and status go; zone and log stay.
    pub fn delete(&self, name: &str, by: &Actor) -> Result<(), Refused> {
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        let mut book = lock(&self.book);
        if lock(&entry.record).deleted {
            return Err(gone(name));
        }
        self.record(&mut book, name, by, What::Deleted)?;
        lock(&entry.record).deleted = true;
        book.entries.remove(name);
        book.leaving.retain(|entry| !entry.unit.has_ended());
        book.leaving.push(entry.clone());
        drop(book);
        entry.unit.quit(self.worker.shutdown_timeout);
        self.meters.forget(name);
        Ok(())
    }

    /// Returns when the change is recorded, not when it is carried out.
    pub fn set_target(&self, name: &str, target: Target, by: &Actor) -> Result<(), Refused> {
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        match standing_target(&entry)? {
            now if now == target => Ok(()),
            _ => self.record_target(&entry, target, "", by),
        }
    }

    /// The guard's pause, and why: of what runs, and not if it is `void` by now. A person's pause or stop stays as it is.
    pub(super) fn pause_unless(
        &self,
        name: &str,
        why: &str,
        by: &Actor,
        void: &dyn Fn() -> bool,
    ) -> Result<Act, Refused> {
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        match standing_target(&entry)? {
            Target::Running if void() => Ok(Act::OtherRules),
            Target::Running => self
                .record_target(&entry, Target::Paused, why, by)
                .map(|()| Act::Done(0)),
            other => Ok(Act::At(other)),
        }
    }

    /// The caller holds the entry's `changes`.
    fn record_target(
        &self,
        entry: &Entry,
        target: Target,
        why: &str,
        by: &Actor,
    ) -> Result<(), Refused> {
        let why = why.to_owned();
        self.record(
            &mut lock(&self.book),
            &entry.name,
            by,
            What::Target { target, why },
        )?;
        lock(&entry.record).target = target;
        entry.unit.want(Entry::wanted(&entry.record()));
        Ok(())
    }

    /// The tasks of a pipeline commit together, so they begin again together.
    pub fn restart(
        &self,
        name: &str,
        _tasks: bool,
        only_failed: bool,
        by: &Actor,
    ) -> Result<Status, Refused> {
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        if entry.record().deleted {
            return Err(gone(name));
        }
        let failed = entry.unit.seen().standing == Standing::Failed;
        if entry.record().target == Target::Running && (failed || !only_failed) {
            self.record(&mut lock(&self.book), name, by, What::Restarted)?;
            entry.unit.restart();
        }
        Ok(status(name, &entry.record(), &entry.unit.seen()))
    }

    pub fn restart_task(&self, name: &str, task: usize, by: &Actor) -> Result<(), Refused> {
        let entry = self.find(name)?;
        let seen = entry.unit.seen();
        if entry.record().target == Target::Stopped {
            let message = format!("Connector {name} is stopped and has no tasks to restart");
            return Err(Refused::Conflict(message));
        }
        if task >= seen.tasks {
            return Err(Refused::NotFound(format!("Unknown task: {name}-{task}")));
        }
        self.restart(name, true, false, by).map(drop)
    }

    // ------------------------------------------------------------- offsets

    pub fn offsets(&self, name: &str, asker: &Asker) -> Result<Vec<Offset>, Refused> {
        let job = self.find(name)?.record().job.map_err(Refused::Invalid)?;
        reach::still_within(&job).map_err(Refused::Failed)?;
        let read = match &*job {
            Job::File(job) => filestream::offsets(job, &self.worker.data_dir.join(FILES)),
            Job::Pipeline(_) => match self.log_of(name, asker)? {
                None => Ok(Vec::new()),
                Some(log) => log.read(offsets::shown),
            },
        };
        read.map_err(Refused::Failed)
    }

    pub fn alter_offsets(
        &self,
        name: &str,
        wanted: Vec<Offset>,
        by: &Actor,
    ) -> Result<String, Refused> {
        self.move_offsets(name, by, |job, dir| {
            let own = (&self.clock, self.pool.as_ref());
            let message = offsets::alter(job, dir, own, &wanted, by)?;
            Ok((message.to_owned(), message.to_owned()))
        })
    }

    pub fn reset_offsets(&self, name: &str, by: &Actor) -> Result<String, Refused> {
        self.move_offsets(name, by, |job, dir| {
            let own = (&self.clock, self.pool.as_ref());
            let message = offsets::reset(job, dir, own, by)?;
            Ok((message.to_owned(), message.to_owned()))
        })
    }

    /// Moves positions of a stopped pipeline by `change`, and records that.
    pub fn rewind<T>(
        &self,
        name: &str,
        by: &Actor,
        change: impl FnOnce(&PipelineConfig) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.move_offsets(name, by, |job, _| {
            let config = jobs::pipeline_of(job).ok_or_else(|| {
                Refused::Bad(format!("{name} is no pipeline but a file connector"))
            })?;
            Ok((change(config)?, "rewound".to_owned()))
        })
    }

    /// Only if nothing of it runs, and nothing can begin meanwhile. `change` also returns what is recorded.
    fn move_offsets<T>(
        &self,
        name: &str,
        by: &Actor,
        change: impl FnOnce(&Job, &Path) -> Result<(T, String), Refused>,
    ) -> Result<T, Refused> {
        let entry = self.find(name)?;
        let _one = lock(&entry.changes);
        let record = entry.record();
        if record.deleted {
            return Err(gone(name));
        }
        if record.target != Target::Stopped {
            return Err(Refused::Bad(format!(
                "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the \
                 specified connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
            )));
        }
        if !entry.unit.seen().at_rest {
            let message = format!("Connector {name} is stopping: its tasks have not ended yet");
            return Err(Refused::Conflict(message));
        }
        let job = record.job.map_err(Refused::Invalid)?;
        reach::still_within(&job).map_err(Refused::Failed)?;
        let (done, message) = change(&job, &self.worker.data_dir.join(FILES))?;
        let what = What::Offsets { message };
        // The change is done and in the commit log: only the daemon's own history would lack it.
        if let Err(refused) = self.record(&mut lock(&self.book), name, by, what) {
            let error = refused.into_error();
            tracing::warn!(pipeline = name, %error, "altered offsets are missing in the history");
        }
        Ok(done)
    }
}

impl Registry {
    fn still_leaving(&mut self, name: &str) -> bool {
        self.leaving.retain(|entry| !entry.unit.has_ended());
        self.leaving.iter().any(|entry| entry.name == name)
    }
}

fn draining(name: &str) -> Refused {
    Refused::Conflict(format!(
        "Connector {name} was deleted and is still draining"
    ))
}

/// Another config may give the positions of a file source another meaning.
fn is_read_otherwise(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> bool {
    let reads = |(key, _): &(&String, &String)| *key == "file" || key.starts_with("source.");
    !before.iter().filter(reads).eq(now.iter().filter(reads))
}

/// Refuses a config under which the positions that a file source has would mean other records. A home that cannot be read now is
/// ignored; the start checks again.
fn fits_home(name: &str, job: &Job) -> Result<(), Refused> {
    let (config, key) = match job {
        Job::Pipeline(config) => (config.as_ref(), "source.url"),
        Job::File(FileJob::Source(job)) => (&job.pipeline, "file"),
        Job::File(FileJob::Sink(_)) => return Ok(()),
    };
    let Source::Records(source) = &config.source else {
        return Ok(());
    };
    let error = match source.fits_home() {
        Err(error) if error.kind() == Kind::ConfigInvalid => error,
        _ => return Ok(()),
    };
    let message = format!("`{key}`: {}", error.message());
    let hint = match (job, error.hint_text()) {
        (Job::Pipeline(_), Some(hint)) => hint.to_owned(),
        _ => "name a file of the directory before, or give the connector another name: it then begins with the file's first line".to_owned(),
    };
    let problem = Problem::new(Place::start_of(name), key, problem::CONTRADICTION, message);
    Err(Refused::Invalid(vec![problem.hint(hint)]))
}

fn none(problems: Vec<Problem>) -> Result<(), Refused> {
    match problems.iter().any(Problem::is_error) {
        true => Err(Refused::Invalid(problems)),
        false => Ok(()),
    }
}

/// Conflicts of names, tables and files with other pipelines, including those that still drain.
fn beside(book: &Registry, name: &str, job: &Job) -> Vec<Problem> {
    let new = match job {
        Job::Pipeline(new) => new,
        Job::File(FileJob::Source(_)) => return Vec::new(),
        Job::File(FileJob::Sink(new)) => {
            return targets::of_file(&others(book, name), name, &new.file);
        }
    };
    // Two pipelines on one table while one drains do no harm: the log lets only one of them commit.
    let there = book.entries.values().filter(|entry| entry.name != name);
    let there: Vec<Arc<Job>> = there.filter_map(|entry| entry.record().job.ok()).collect();
    let pipelines = there.iter().filter_map(|job| jobs::pipeline_of(job));
    let mut problems = config::beside(new, pipelines);
    problems.extend(targets::of_zone(&others(book, name), new));
    problems
}

/// The other jobs, including those that still drain.
fn others(book: &Registry, name: &str) -> Vec<Arc<Job>> {
    let leaving = book.leaving.iter().filter(|entry| !entry.unit.has_ended());
    let others = book.entries.values().chain(leaving);
    let others = others.filter(|entry| entry.name != name);
    others.filter_map(|entry| entry.record().job.ok()).collect()
}

/// The config with its name in it.
fn named(
    name: &str,
    mut config: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Refused> {
    match config.get("name") {
        Some(other) if other != name => Err(Refused::Bad(format!(
            "Connector name configuration ({other}) doesn't match connector name in the URL ({name})"
        ))),
        Some(_) => Ok(config),
        None => {
            config.insert("name".to_owned(), name.to_owned());
            Ok(config)
        }
    }
}

/// How two configs of a pipeline differ.
#[derive(Clone, Copy)]
enum Differs {
    Nowhere,
    /// Only in the transforms: no reason to stop.
    InRules,
    More,
}

fn differs(now: &Job, next: &Job) -> Differs {
    let (Some(now), Some(next)) = (jobs::pipeline_of(now), jobs::pipeline_of(next)) else {
        return Differs::More;
    };
    let reads_zone = matches!(next.source, Source::Zone(_));
    let (now, next) = (now.canonical(), next.canonical());
    if now == next {
        return Differs::Nowhere;
    }
    let rule = |key: &String| key == "transforms" || key.starts_with(TRANSFORM_PREFIX);
    let rest = |map: &BTreeMap<String, String>| -> Vec<(String, String)> {
        let rest = map.iter().filter(|(key, _)| !rule(key));
        rest.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    // A pipeline that reads a zone begins anew: its batches take the rules from the log.
    match rest(&now) == rest(&next) && !reads_zone {
        true => Differs::InRules,
        false => Differs::More,
    }
}

fn standing_target(entry: &Entry) -> Result<Target, Refused> {
    let record = lock(&entry.record);
    match record.deleted {
        true => Err(gone(&entry.name)),
        false => Ok(record.target),
    }
}

fn exists(name: &str) -> Refused {
    Refused::Exists(format!("Connector {name} already exists"))
}

fn gone(name: &str) -> Refused {
    Refused::NotFound(format!("Connector {name} not found"))
}
