//! Finds two columns of one name in the table that a pipeline writes, compared as SQL engines compare names. The
//! problem is reported at the key that made the column, with both origins. Columns that a chain passes through
//! unchanged are the record's own, and no clash.

use crate::chain::Transform;
use crate::config::{PipelineConfig, Problem, Source, ZoneSourceConfig, problem};
use crate::plugin::Plugins;
use crate::record::input_schema;
use crate::zone::{Clash, Origin, clashes as among, is_system, reserved};

use super::{columns_of, transforms_of};

/// For a pipeline that reads records, from the columns that its transforms declare.
pub fn clashes(config: &PipelineConfig, transforms: &[Box<dyn Transform>]) -> Vec<Problem> {
    let columns = columns_of(transforms);
    let mut own = Vec::new();
    for (field, maker) in columns.fields().iter().zip(makers(transforms)) {
        match maker {
            Some(maker) => {
                let name = transforms[maker].identity().transform.clone();
                own.push((field.name().as_str(), Origin::Transform(name)));
            }
            // The host writes its own columns again, with the same values.
            None if is_system(field.name()) => {}
            None => own.push((field.name().as_str(), Origin::Record)),
        }
    }
    let found = among(reserved(keeps_value(config)), own);
    found.iter().map(|clash| problem(config, clash)).collect()
}

/// Which transform made each column of the last one; `None`: it is the record's own.
fn makers(transforms: &[Box<dyn Transform>]) -> Vec<Option<usize>> {
    let mut makers = vec![None; input_schema().fields().len()];
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

/// The columns of a pipeline's table, for pipelines that read it. `None`: its plugins do not start.
pub fn table(plugins: &Plugins, config: &PipelineConfig) -> Option<Vec<String>> {
    let (transforms, problems) = transforms_of(plugins, config, &input_schema());
    problems.is_empty().then(|| table_of(config, &transforms))
}

fn table_of(config: &PipelineConfig, transforms: &[Box<dyn Transform>]) -> Vec<String> {
    let columns = columns_of(transforms);
    let mut names: Vec<String> = columns.fields().iter().map(|f| f.name().clone()).collect();
    names.retain(|name| !is_system(name));
    let host = reserved(keeps_value(config)).into_iter();
    names.extend(
        host.filter(|(_, origin)| !matches!(origin, Origin::Path(_)))
            .map(|(name, _)| name.to_owned()),
    );
    names
}

/// For a pipeline that reads a zone, given the columns of the table it reads.
pub fn clashes_of_reader(config: &PipelineConfig, columns: &[String]) -> Vec<Problem> {
    let Source::Zone(ZoneSourceConfig { layout, .. }) = &config.source else {
        return Vec::new();
    };
    let found = of_partition(
        &layout.partition_name,
        &layout.partition_field,
        columns.iter().map(String::as_str),
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
