//! Keys against each other, inside one pipeline and between the pipelines of one run.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::check::Checker;
use super::checked::{PipelineConfig, Source, Start, TableName, Trigger};
use super::keys::{KAFKA_PREFIX, Scope};
use super::librdkafka::{Property, Side, property};
use super::problem::{self, Problem};
use super::shape::Shape;
use super::values::show_bytes;
use crate::record::{SYSTEM, fold};

/// Contradictions inside one pipeline.
pub(super) fn check(checker: &mut Checker<'_>) {
    trigger_and_tasks(checker);
    sizes(checker);
    transforms_of_a_zone(checker);
    tables(checker);
    zone_names(checker);
    partition(checker);
    dead_letters(checker);
    security(checker);
    start(checker);
}

fn contradiction(checker: &mut Checker<'_>, key: &str, message: String, hint: &str) {
    checker.problem(key, problem::CONTRADICTION, message).hint = Some(hint.to_owned());
}

fn trigger_and_tasks(checker: &mut Checker<'_>) {
    if checker.scope != Some(Scope::Zone) {
        return;
    }
    if checker.trigger() == Some(Trigger::Continuous) {
        let message = "`trigger`: a zone is read in batches, never continuously".to_owned();
        contradiction(
            checker,
            "trigger",
            message,
            "write `every:1h` or `available-now`",
        );
    }
    if checker.number("tasks.max").is_some_and(|tasks| tasks > 1) {
        let message = "`tasks.max`: a pipeline that reads a zone has one task".to_owned();
        contradiction(checker, "tasks.max", message, "take the key out");
    }
}

fn sizes(checker: &mut Checker<'_>) {
    let group = checker.number("sink.row.group.bytes");
    let (tasks, budget) = (checker.number("tasks.max"), checker.number("memory.budget"));
    if let (Some(group), Some(tasks), Some(budget)) = (group, tasks, budget)
        && group.saturating_mul(tasks) > budget
    {
        let message = format!(
            "`memory.budget` of {} does not hold one row group of {} for each of {tasks} tasks",
            show_bytes(budget),
            show_bytes(group)
        );
        let hint = "raise memory.budget, or lower sink.row.group.bytes or tasks.max";
        contradiction(checker, "memory.budget", message, hint);
    }
    let (first, max) = (
        checker.duration("retry.backoff"),
        checker.duration("retry.max.backoff"),
    );
    if first.is_some() && max.is_some() && first > max {
        let message = "`retry.backoff` is longer than `retry.max.backoff`".to_owned();
        contradiction(checker, "retry.backoff", message, "lower the first wait");
    }
}

/// Rows of a zone were transformed on their way into it; this version does not do it again on the way out.
fn transforms_of_a_zone(checker: &mut Checker<'_>) {
    let listed = checker.list("transforms").unwrap_or_default();
    if checker.scope == Some(Scope::Zone) && !listed.is_empty() {
        let message =
            "`transforms`: a pipeline that reads a zone has none in this version".to_owned();
        checker
            .problem("transforms", problem::DOES_NOT_APPLY, message)
            .hint = Some("put them into the pipeline that fills the zone".to_owned());
    }
}

/// The tables that a pipeline would own in its sink's zone, rows first.
fn tables(checker: &mut Checker<'_>) {
    let topics = checker.list("source.topics").unwrap_or_default();
    let rows = match checker.table() {
        Some(TableName::Fixed(name)) => vec![name],
        Some(TableName::PerTopic) if checker.scope == Some(Scope::Zone) => {
            let message = "`sink.table`: a zone source has no topic".to_owned();
            let hint = "name the table, or take the key out: it is source.table by default";
            contradiction(checker, "sink.table", message, hint);
            return;
        }
        Some(TableName::PerTopic) => topics,
        None => return,
    };
    let hidden = rows.iter().find(|name| name.starts_with(['_', '.', '-']));
    if let Some(topic) = hidden {
        // As typed: the topic may have come out of a reference.
        let shown = checker.shown("source.topics", topic);
        let message = format!(
            "`sink.table`: engines do not see a directory with the topic's name, `{shown}`"
        );
        checker
            .problem("sink.table", problem::BAD_NAME, message)
            .hint = Some("give the table a name of its own: sink.table = \"…\"".to_owned());
    }
    let Some(letters) = checker.text("errors.dlq.table") else {
        return;
    };
    if rows.contains(&letters) {
        let shown = checker.shown("errors.dlq.table", &letters);
        let message = format!("`errors.dlq.table`: `{shown}` is also the table of the rows");
        let hint = "dead letters and rows need a table each";
        contradiction(checker, "errors.dlq.table", message, hint);
    }
    if let (Some(from), Some(to)) = (checker.text("source.url"), checker.text("sink.url"))
        && same_place(&from, &to)
        && checker.scope == Some(Scope::Zone)
        && checker
            .text("source.table")
            .is_some_and(|table| rows.contains(&table) || table == letters)
    {
        let message =
            "`sink.url`: the pipeline would write into the table that it reads".to_owned();
        let hint = "give the sink an own url, or an own table";
        contradiction(checker, "sink.url", message, hint);
    }
}

/// A zone's name that follows from its URL must be a legal one.
fn zone_names(checker: &mut Checker<'_>) {
    for (key, url) in [("sink.zone", "sink.url"), ("source.zone", "source.url")] {
        if checker.typed(key) {
            continue;
        }
        if let Some(zone) = checker.zone(key, url)
            && Shape::Name.parse(&zone).is_err()
        {
            let message = format!("`{key}`: the last segment of `{url}` cannot be the zone's name");
            checker.problem(url, problem::BAD_NAME, message).hint =
                Some(format!("set {key} to letters, digits, `.`, `_`, `-`"));
        }
    }
}

fn partition(checker: &mut Checker<'_>) {
    if checker.scope != Some(Scope::Zone) {
        return;
    }
    let Some(name) = checker.partition_name() else {
        return;
    };
    let mut columns = checker
        .text("sink.partition.field")
        .into_iter()
        .collect::<Vec<_>>();
    columns.extend(checker.list("sink.dedup.key").unwrap_or_default());
    columns.extend(checker.list("sink.sort").unwrap_or_default());
    columns.extend(SYSTEM.map(str::to_owned));
    if columns.iter().any(|column| fold(column) == fold(&name)) {
        let message = format!(
            "`sink.partition.name`: `{name}` is also a column, and engines would read one for the other"
        );
        let hint = "choose a name that no column has, such as `published_date`";
        contradiction(checker, "sink.partition.name", message, hint);
    }
    let lookback = checker.number("sink.dedup.lookback").unwrap_or(0);
    if lookback > 0 && !checker.typed("sink.dedup.key") {
        let message = "`sink.dedup.lookback` without `sink.dedup.key` looks for nothing".to_owned();
        contradiction(
            checker,
            "sink.dedup.lookback",
            message,
            "name the key, or take the lookback out",
        );
    }
}

fn dead_letters(checker: &mut Checker<'_>) {
    if checker.text("errors.tolerance").as_deref() != Some("none") {
        return;
    }
    for key in ["errors.dlq.type", "errors.dlq.table", "errors.unit"] {
        if checker.typed(key) {
            let message = format!(
                "`{key}` has no effect: errors.tolerance is `none`, so the first refused record stops the pipeline"
            );
            let problem = checker.problem(key, problem::DOES_NOT_APPLY, message);
            problem.severity = problem::Severity::Warning;
            problem.hint = Some("write errors.tolerance = \"all\"".to_owned());
        }
    }
}

fn security(checker: &mut Checker<'_>) {
    let raw = checker.raw;
    let get = |name: &str| {
        let entry = raw.get(&format!("source.kafka.{name}"))?;
        entry.value.resolve().ok()
    };
    let protocol = get("security.protocol").unwrap_or_else(|| "plaintext".to_owned());
    let protocol = protocol.to_lowercase();
    let key = "source.kafka.security.protocol";
    if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol.as_str()) {
        let message = format!("`{key}`: expected plaintext, ssl, sasl_plaintext or sasl_ssl");
        checker.problem(key, problem::NOT_A_CHOICE, message);
        return;
    }
    let given = |prefix: &str| {
        let prefix = format!("source.kafka.{prefix}");
        let known = |key: &str| {
            let name = key.strip_prefix(KAFKA_PREFIX).unwrap_or(key);
            let allowed = |p| matches!(p, Property::Allowed(a) if a.side != Side::Producer);
            key.starts_with(&prefix) && allowed(property(name))
        };
        let found = raw.iter().find(|(key, _)| known(key));
        found.map(|(key, _)| key.to_owned())
    };
    if let Some(sasl) = given("sasl.").filter(|_| !protocol.starts_with("sasl_")) {
        let message = format!("`{sasl}` has no effect while security.protocol is {protocol}");
        let hint = "set source.kafka.security.protocol to SASL_SSL or SASL_PLAINTEXT";
        contradiction(checker, &sasl, message, hint);
    }
    if let Some(ssl) = given("ssl.").filter(|_| !protocol.ends_with("ssl")) {
        let message = format!("`{ssl}` has no effect while security.protocol is {protocol}");
        let hint = "set source.kafka.security.protocol to SSL or SASL_SSL";
        contradiction(checker, &ssl, message, hint);
    }
}

fn start(checker: &mut Checker<'_>) {
    let Some(Start::Timestamp(micros)) = checker.start() else {
        return;
    };
    if micros < 0 {
        let message = "`source.start`: a time before 1970".to_owned();
        checker.problem("source.start", problem::OUT_OF_RANGE, message);
    }
}

/// Problems between pipelines: same name, same table, a source that the other pipeline of the run does not write.
pub(super) fn between(pipelines: &[PipelineConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (n, later) in pipelines.iter().enumerate() {
        for earlier in pipelines.iter().take(n) {
            problems.extend(same_name(earlier, later));
            problems.extend(same_table(earlier, later));
        }
        for other in pipelines {
            problems.extend(not_its_zone(later, other));
        }
    }
    problems
}

/// The same for one more pipeline beside those that are there.
pub(super) fn beside<'a>(
    new: &PipelineConfig,
    others: impl IntoIterator<Item = &'a PipelineConfig>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for other in others {
        problems.extend(same_name(other, new));
        problems.extend(same_table(other, new));
        problems.extend(not_its_zone(new, other));
    }
    problems
}

fn same_name(earlier: &PipelineConfig, later: &PipelineConfig) -> Option<Problem> {
    let message = format!(
        "`name`: {} is a pipeline named `{}` too",
        earlier.raw.file, later.name
    );
    (earlier.name == later.name).then(|| {
        later
            .problem("name", problem::SAME_PIPELINE, message)
            .hint("two pipelines with one name would fight over one commit log")
    })
}

fn same_table(earlier: &PipelineConfig, later: &PipelineConfig) -> Option<Problem> {
    if earlier.name == later.name || !same_place(&earlier.sink.url, &later.sink.url) {
        return None;
    }
    let (first, second) = (owned(earlier), owned(later));
    let table = second.iter().find(|table| first.contains(table))?;
    let key = match *table == later.errors.dlq_table {
        true => "errors.dlq.table",
        false => "sink.table",
    };
    let typed = later.raw.get(key).map(|entry| &entry.value);
    let shown = match typed.filter(|typed| typed.has_reference()) {
        Some(typed) => typed.to_string(),
        None => table.to_string(),
    };
    let message = format!(
        "`{key}`: the table `{shown}` in {} belongs to the pipeline `{}` of {}",
        later.sink.url, earlier.name, earlier.raw.file
    );
    Some(
        later
            .problem(key, problem::SAME_TABLE, message)
            .hint("a table has one owner; give this pipeline another table or another sink.url"),
    )
}

/// Every table that the pipeline writes.
fn owned(pipeline: &PipelineConfig) -> Vec<String> {
    let mut tables = match (&pipeline.sink.table, &pipeline.source) {
        (TableName::Fixed(name), _) => vec![name.clone()],
        (TableName::PerTopic, Source::Kafka(kafka)) => kafka.topics.clone(),
        (TableName::PerTopic, Source::Zone(zone)) => vec![zone.table.clone()],
    };
    tables.push(pipeline.errors.dlq_table.clone());
    tables
}

/// `reader` names `writer` as its source, but reads elsewhere.
fn not_its_zone(reader: &PipelineConfig, writer: &PipelineConfig) -> Option<Problem> {
    let Source::Zone(source) = &reader.source else {
        return None;
    };
    if source.pipeline != writer.name {
        return None;
    }
    let problem = |key: &str, what: String| {
        let message = format!("`{key}`: the pipeline `{}` of this run {what}", writer.name);
        Some(reader.problem(key, problem::CONTRADICTION, message))
    };
    if !same_place(&source.url, &writer.sink.url) {
        return problem("source.url", format!("writes to {}", writer.sink.url))
            .map(|p| p.hint(format!("write \"{}\"", writer.sink.url)));
    }
    if source.zone != writer.sink.zone {
        return problem(
            "source.zone",
            format!("names its zone `{}`", writer.sink.zone),
        );
    }
    let tables = owned(writer);
    if !tables.contains(&source.table) {
        let all = tables.join("`, `");
        return problem("source.table", format!("writes only the tables `{all}`"));
    }
    None
}

/// Whether two URLs name one store.
fn same_place(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

fn normal(url: &str) -> Arc<Path> {
    let Some(path) = url.strip_prefix("file:") else {
        return Path::new(url).into();
    };
    let path = match path.strip_prefix("///") {
        Some(rest) => PathBuf::from(format!("/{rest}")),
        None => std::path::absolute(path).unwrap_or_else(|_| path.into()),
    };
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_many_urls() {
        assert!(same_place("file:data/raw", "file:./data/x/../raw"));
        assert!(same_place("file:///a/b", "file:/a/./b"));
        assert!(!same_place("file:data/raw", "file:data/raw2"));
        assert!(!same_place("memory:data", "file:data"));
    }
}
