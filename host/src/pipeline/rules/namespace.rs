//! Finds two columns of one name in the table that a pipeline writes, compared as SQL engines compare names. The
//! problem is reported at the key that made the column, with both origins. Columns that a chain passes through
//! unchanged are the record's own, and no clash.

use std::sync::Arc;

use arrow_schema::{FieldRef, Schema, SchemaRef};

use crate::chain::Transform;
use crate::config::{PipelineConfig, Problem, Source, ZoneSourceConfig, problem};
use crate::connectors;
use crate::convert;
use crate::plugin::Plugins;
use crate::record::SYSTEM;
use crate::zone::{
    Clash, Origin, clashes as among, host_fields, is_system, reserved, unfit_columns,
};

use super::{always_read, columns_after, columns_of, is_known, transforms_of};

/// What is wrong with transforms that start with the columns of `input`: columns of one name, and rows of a zone that would
/// lose their coordinates.
pub fn problems(
    config: &PipelineConfig,
    transforms: &[Box<dyn Transform>],
    input: &SchemaRef,
) -> Vec<Problem> {
    let mut problems = clashes(config, transforms, input);
    problems.extend(no_rest(config));
    if problems.is_empty() {
        problems.extend(no_file(config, &columns_after(transforms, input)));
    }
    if let Source::Zone(_) = &config.source {
        let mut exploding = transforms.iter().filter(|transform| transform.explodes());
        problems.extend(
            exploding
                .next()
                .map(|transform| explodes(config, transform.as_ref())),
        );
    }
    problems
}

/// Columns that files of the chosen format cannot have. Those that the first records show are not known before: they are looked at
/// when they are.
fn no_file(config: &PipelineConfig, columns: &Schema) -> Option<Problem> {
    let sink = connectors::zone::sink(config).ok()?;
    if matches!(config.source, Source::Zone(_)) || !is_known(config) {
        return None;
    }
    let (key, error) = unfit_columns(&in_files(config, columns), &sink.files)?;
    let told = config.problem(
        key,
        problem::CONTRADICTION,
        format!("`{key}`: {}", error.message()),
    );
    Some(match error.hint_text() {
        Some(hint) => told.hint(hint.to_owned()),
        None => told,
    })
}

/// `schema.rest` may have no name of the host's, whatever the first records show.
fn no_rest(config: &PipelineConfig) -> Option<Problem> {
    const KEY: &str = "schema.rest";
    let rest = config.inference.as_ref()?.rest.as_deref()?;
    if is_known(config) {
        return None;
    }
    let found = among(reserved(keeps_value(config)), [(rest, Origin::Record)]);
    let clash = found.first()?;
    let message = format!(
        "`{KEY}`: `{rest}` and column `{}` {} are one name to SQL engines",
        clash.other, clash.other_by
    );
    let told = config.problem(KEY, problem::COLUMN_CLASH, message);
    Some(told.hint("give the column for the rest another name"))
}

/// With those of the host.
fn in_files(config: &PipelineConfig, columns: &Schema) -> SchemaRef {
    let own = columns.fields().iter().filter(|f| !is_system(f.name()));
    let fields: Vec<FieldRef> = own
        .cloned()
        .chain(host_fields(keeps_value(config)))
        .collect();
    Arc::new(Schema::new(fields))
}

/// `_row` numbers the rows of a record once, in the zone that is read.
fn explodes(config: &PipelineConfig, transform: &dyn Transform) -> Problem {
    let name = &transform.identity().transform;
    let message = format!(
        "`{name}` makes several rows of one, and rows of a zone keep the coordinates that they have"
    );
    config
        .problem(
            &format!("transforms.{name}.type"),
            problem::DOES_NOT_APPLY,
            message,
        )
        .hint("put it into the pipeline that fills the zone")
}

/// From the columns that the transforms declare.
fn clashes(
    config: &PipelineConfig,
    transforms: &[Box<dyn Transform>],
    input: &SchemaRef,
) -> Vec<Problem> {
    let columns = columns_after(transforms, input);
    let layout = match &config.source {
        Source::Records(_) => None,
        Source::Zone(source) => Some(&source.layout),
    };
    let mut own = Vec::new();
    for (field, maker) in columns.fields().iter().zip(makers(transforms, input)) {
        match maker {
            Some(maker) => {
                let name = transforms[maker].identity().transform.clone();
                own.push((field.name().as_str(), Origin::Transform(name)));
            }
            // The host writes its own columns again, with the same values.
            None if is_system(field.name()) => {}
            None if layout.is_some() => own.push((field.name().as_str(), Origin::Source)),
            None => own.push((field.name().as_str(), Origin::Record)),
        }
    }
    let found = match layout {
        None => among(reserved(keeps_value(config)), own),
        Some(layout) => {
            // A partition may have the name of its field: the field is then not in the files.
            let (name, field) = (&layout.partition_name, &layout.partition_field);
            own.retain(|(column, _)| column != name || name != field);
            let path = (name.as_str(), Origin::Path("sink.partition.name"));
            let system = SYSTEM.map(|name| (name, Origin::System));
            among(system.into_iter().chain([path]), own)
        }
    };
    found.iter().map(|clash| problem(config, clash)).collect()
}

/// Which transform made each column of the last one; `None`: it was read.
fn makers(transforms: &[Box<dyn Transform>], input: &SchemaRef) -> Vec<Option<usize>> {
    let mut makers = vec![None; input.fields().len()];
    for (at, transform) in transforms.iter().enumerate() {
        let columns = 0..transform.output_schema().fields().len();
        makers = columns
            .map(|column| match transform.carries(column) {
                Some(input) => makers.get(input).copied().flatten(),
                None => Some(at),
            })
            .collect();
    }
    makers
}

pub fn keeps_value(config: &PipelineConfig) -> bool {
    matches!(config.source, Source::Records(_)) && config.sink.keeps_bytes()
}

fn problem(config: &PipelineConfig, clash: &Clash) -> Problem {
    let key = match (&clash.by, &clash.other_by) {
        (Origin::Transform(name), _) | (_, Origin::Transform(name)) => {
            key_of(config, name, &clash.column)
        }
        (Origin::Path(key), _) | (_, Origin::Path(key)) if !key.is_empty() => (*key).to_owned(),
        _ => "transforms".to_owned(),
    };
    config
        .problem(&key, problem::COLUMN_CLASH, clash.to_string())
        .hint(format!(
            "give `{}` another name; `weir explain {}` has the names that are taken",
            clash.column,
            problem::COLUMN_CLASH
        ))
}

/// The transform's key that names the column, if one can be found; otherwise its `type`.
fn key_of(config: &PipelineConfig, transform: &str, column: &str) -> String {
    if convert::is_converter(transform) {
        return "value.format".to_owned();
    }
    let of = config.transforms.iter().find(|t| t.name == transform);
    let names = |value: &str| {
        let mut entries = value.split(',').map(str::trim);
        entries.any(|entry| entry == column || entry.split('=').next() == Some(column))
    };
    let key = of.and_then(|t| {
        let mut keys = t.config.iter();
        keys.find(|(key, value)| {
            names(value.typed()) || key.rsplit('.').next().is_some_and(|last| last == column)
        })
    });
    match key {
        Some((key, _)) => format!("transforms.{transform}.{key}"),
        None => format!("transforms.{transform}.type"),
    }
}

/// The columns of a pipeline's table, for pipelines that read it. `None`: its plugins do not start, or it reads a zone itself.
pub fn table(plugins: &Plugins, config: &PipelineConfig) -> Option<SchemaRef> {
    let input = always_read(config)?;
    let (transforms, problems) = transforms_of(plugins, config, &input);
    if !problems.is_empty() {
        return None;
    }
    Some(in_files(config, &columns_of(&transforms)))
}

/// For a pipeline that reads a zone, given the columns of the table it reads.
pub fn clashes_of_reader(config: &PipelineConfig, columns: &Schema) -> Vec<Problem> {
    let Source::Zone(ZoneSourceConfig { layout, .. }) = &config.source else {
        return Vec::new();
    };
    // Where there are transforms, they decide which columns there are.
    if !config.transforms.is_empty() {
        return Vec::new();
    }
    let found = of_partition(
        &layout.partition_name,
        &layout.partition_field,
        columns.fields().iter().map(|field| field.name().as_str()),
    );
    let told = |clash: &Clash| {
        let key = "sink.partition.name";
        let problem = config.problem(key, problem::COLUMN_CLASH, clash.to_string());
        problem
            .hint("set sink.partition.name to a name that no column has, such as `published_date`")
    };
    found.iter().map(told).collect()
}

/// A partition may have the name of its field: the field is then not in the files.
fn of_partition<'a>(
    name: &'a str,
    field: &str,
    columns: impl Iterator<Item = &'a str>,
) -> Vec<Clash> {
    let left = columns.filter(|column| !(*column == name && name == field));
    let read = left.map(|column| (column, Origin::Source));
    among([(name, Origin::Path("sink.partition.name"))], read)
}
