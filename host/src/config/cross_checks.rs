//! Checks keys against each other, inside one pipeline and between the pipelines of one run.

use super::check::{Checker, DLQ_TOPIC};
use super::checked::{PipelineConfig, Source, TableName};
use super::problem::{self, Problem};
use super::shape::{Shape, Value};
use super::values::show_bytes;

/// Contradictions inside one pipeline.
pub(super) fn check(checker: &mut Checker<'_>) {
    sizes(checker);
    tables(checker);
    zone_names(checker);
    dead_letters(checker);
    super::store_keys::check_archive(checker);
    inference(checker);
    rest(checker);
    super::converters::check(checker);
    if let Some(source) = checker.source {
        (source.check)(checker);
    }
    if let Some(sink) = checker.sink {
        (sink.check)(checker);
    }
}

fn contradiction(checker: &mut Checker<'_>, key: &str, message: String, hint: &str) {
    checker.contradiction(key, message, hint);
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

/// Either a person says what the rules are, or the records do.
fn inference(checker: &mut Checker<'_>) {
    const KEY: &str = "schema.inference";
    let infers = checker.value(KEY) == Some(Value::Flag(true));
    if infers && !checker.list("transforms").unwrap_or_default().is_empty() {
        let message = format!("`{KEY}` finds the transform, and `transforms` names some");
        let hint = "take one of them out; `weir plugin infer` prints a transform to which others can be added";
        contradiction(checker, KEY, message, hint);
    }
    for key in [
        "schema.sample.records",
        "schema.sample.bytes",
        "schema.sample.wait",
        "schema.rest",
    ] {
        if !infers && checker.typed(key) {
            let message = format!("`{key}` has no effect without `{KEY}`");
            contradiction(
                checker,
                key,
                message,
                "write schema.inference = true, or take it out",
            );
        }
    }
}

/// A row of CSV has no names for what stands behind its last column.
fn rest(checker: &mut Checker<'_>) {
    const KEY: &str = "schema.rest";
    if checker.typed(KEY) && checker.text("source.format").as_deref() == Some("csv") {
        let message = format!("`{KEY}`: csv-parse has no column for the rest");
        let hint = "take it out: a line of CSV with more fields is refused (`extra_fields`)";
        contradiction(checker, KEY, message, hint);
    }
}

/// The tables that a pipeline would own in its sink's zone, rows first.
fn tables(checker: &mut Checker<'_>) {
    if checker
        .sink
        .is_some_and(|sink| sink.leaves.contains(&"sink.table"))
    {
        return;
    }
    let topics = checker.topics().unwrap_or_default();
    let rows = match checker.table() {
        Some(TableName::Fixed(name)) => vec![name],
        Some(TableName::PerTopic) if checker.source.is_some_and(|s| s.topics.is_none()) => {
            let message = "`sink.table`: a zone source has no topic".to_owned();
            let hint = "name the table, or take the key out: it is source.table by default";
            contradiction(checker, "sink.table", message, hint);
            return;
        }
        Some(TableName::PerTopic) => topics,
        None => return,
    };
    let topics_key = checker
        .source
        .and_then(|s| s.topics)
        .unwrap_or("source.topics");
    let hidden = rows.iter().find(|name| name.starts_with(['_', '.', '-']));
    if let Some(topic) = hidden {
        // Shown as typed: the topic may come from a reference.
        let shown = checker.shown(topics_key, topic);
        let message = format!(
            "`sink.table`: engines do not see a directory with the topic's name, `{shown}`"
        );
        checker
            .problem("sink.table", problem::BAD_NAME, message)
            .hint = Some("give the table a name of its own: sink.table = \"…\"".to_owned());
    }
    if let Some(topic) = rows.iter().find(|name| name.contains("..")) {
        let shown = checker.shown(topics_key, topic);
        let message = format!(
            "`sink.table`: the log takes no path with `..`, and the topic's name is `{shown}`"
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
    if let (Some(from), Some(to)) = (checker.location("source.url"), checker.location("sink.url"))
        && from.is_same(&to)
        && checker.source.is_some_and(|source| source.name == "zone")
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
        let means = checker.catalog.takes(checker.source, checker.sink, key);
        if checker.typed(key) || !means {
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

/// What happens above a limit, and no limit.
fn limits_of_refusals(checker: &mut Checker<'_>) {
    let limits = ["errors.max.rate", "errors.max.count"];
    let (rate, count) = (checker.typed(limits[0]), checker.typed(limits[1]));
    for (key, has) in [
        ("errors.max.action", rate || count),
        ("errors.max.window", rate || count),
        ("errors.max.probation", rate || count),
        ("errors.max.min.records", rate),
    ] {
        if checker.typed(key) && !has {
            let without = match key {
                "errors.max.min.records" => "`errors.max.rate`",
                _ => "`errors.max.rate` or `errors.max.count`",
            };
            let message = format!("`{key}` has no effect without {without}");
            contradiction(
                checker,
                key,
                message,
                "set a limit, such as errors.max.rate = \"0.05\", or take the key out",
            );
        }
    }
}

fn dead_letters(checker: &mut Checker<'_>) {
    dead_letter_topic(checker);
    limits_of_refusals(checker);
    if checker.text("errors.tolerance").as_deref() != Some("none") {
        return;
    }
    for key in [
        "errors.dlq.type",
        "errors.dlq.table",
        "errors.unit",
        "errors.max.rate",
        "errors.max.count",
        DLQ_TOPIC,
    ] {
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

/// It is in a cluster that the config names, and nobody reads it as input or writes rows into it.
fn dead_letter_topic(checker: &mut Checker<'_>) {
    let Some(topic) = checker.text(DLQ_TOPIC) else {
        if checker.typed("errors.deadletterqueue.context.headers.enable") {
            let key = "errors.deadletterqueue.context.headers.enable";
            let message = format!("`{key}` has no effect without `{DLQ_TOPIC}`");
            contradiction(checker, key, message, "name the topic, or take the key out");
        }
        return;
    };
    let is_kafka = |name: Option<&str>| name == Some("kafka");
    let source = is_kafka(checker.source.map(|source| source.name));
    let sink = is_kafka(checker.sink.map(|sink| sink.name));
    if !source && !sink && checker.source.is_some() && checker.sink.is_some() {
        let message = format!(
            "`{DLQ_TOPIC}`: neither source nor sink is Kafka, so there is no cluster for the topic"
        );
        let hint = "dead letters are in the table errors.dlq.table; take the key out";
        contradiction(checker, DLQ_TOPIC, message, hint);
    }
    let read = source && checker.reads(&topic);
    let written = sink && checker.text("sink.topic.name").as_ref() == Some(&topic);
    if read || written {
        let what = if read { "is read" } else { "takes the rows" };
        let shown = checker.shown(DLQ_TOPIC, &topic);
        let message = format!("`{DLQ_TOPIC}`: the topic `{shown}` also {what}");
        contradiction(
            checker,
            DLQ_TOPIC,
            message,
            "dead letters need a topic of their own",
        );
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
            problems.extend(not_read_back(later, other));
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
        problems.extend(not_read_back(new, other));
        problems.extend(not_read_back(other, new));
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
    if earlier.name == later.name || !earlier.home.at.is_same(&later.home.at) {
        return None;
    }
    let (first, second) = (earlier.tables(), later.tables());
    let table = second.iter().find(|table| first.contains(*table))?;
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
        later.home.at.url, earlier.name, earlier.raw.file
    );
    Some(
        later
            .problem(key, problem::SAME_TABLE, message)
            .hint("a table has one owner; give this pipeline another table or another sink.url"),
    )
}

/// A pipeline that reads a zone whose files nothing here reads.
fn not_read_back(reader: &PipelineConfig, writer: &PipelineConfig) -> Option<Problem> {
    let Source::Zone(read) = &reader.source else {
        return None;
    };
    let format = writer.sink.files_of_rows();
    let same = read.pipeline == writer.name && read.at.is_same(&writer.home.at);
    (same && !format.is_parquet()).then(|| {
        let message = format!(
            "`source.pipeline`: the files of `{}` are {} (sink.format), and only Parquet is read back",
            writer.name,
            format.word()
        );
        reader
            .problem("source.pipeline", problem::CONTRADICTION, message)
            .hint("let that pipeline write sink.format = \"parquet\"; a second pipeline of the same topics can write the other format")
    })
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
    if !source.at.is_same(&writer.home.at) {
        return problem("source.url", format!("writes to {}", writer.home.at.url))
            .map(|p| p.hint(format!("write \"{}\"", writer.home.at.url)));
    }
    if source.zone != writer.home.zone {
        return problem(
            "source.zone",
            format!("names its zone `{}`", writer.home.zone),
        );
    }
    let tables = writer.tables();
    if !tables.contains(&source.table) && !writer.may_write(&source.table) {
        let all: Vec<String> = tables.into_iter().collect();
        let all = all.join("`, `");
        return problem("source.table", format!("writes only the tables `{all}`"));
    }
    None
}
