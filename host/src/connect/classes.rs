//! The connector classes that a config may name, each with all its keys as Connect's ConfigDef describes them. Web
//! consoles make forms of them; REST's plugin list, `config` and `validate` return them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Serialize;

use super::framework::{self, Def};
use super::{ConnectorKind, smt, storage};
use crate::config::keys::{self, Default, GROUPS, KeyDef, TRANSFORMS_MAX};
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::shape::Shape;
use crate::connectors::CATALOG;

pub const FILE_SOURCE: &str = "org.apache.kafka.connect.file.FileStreamSourceConnector";
pub const FILE_SINK: &str = "org.apache.kafka.connect.file.FileStreamSinkConnector";
pub const S3_SINK: &str = "io.confluent.connect.s3.S3SinkConnector";
pub const HDFS_SINK: &str = "io.confluent.connect.hdfs.HdfsSinkConnector";
pub const HDFS3_SINK: &str = "io.confluent.connect.hdfs3.Hdfs3SinkConnector";
pub const GCS_SINK: &str = "io.confluent.connect.gcs.GcsSinkConnector";
pub const AZURE_BLOB_SINK: &str = "io.confluent.connect.azure.blob.AzureBlobStorageSinkConnector";
pub const AZURE_GEN1_SINK: &str =
    "io.confluent.connect.azure.datalake.gen1.AzureDataLakeGen1StorageSinkConnector";
pub const AZURE_GEN2_SINK: &str =
    "io.confluent.connect.azure.datalake.gen2.AzureDataLakeGen2SinkConnector";
pub const AIVEN_S3_SINK: &str = "io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector";
pub const AIVEN_GCS_SINK: &str = "io.aiven.kafka.connect.gcs.GcsSinkConnector";
/// Confluent's sinks that write files: each becomes a pipeline here.
pub const STORAGE_SINKS: [&str; 7] = [
    S3_SINK,
    HDFS_SINK,
    HDFS3_SINK,
    GCS_SINK,
    AZURE_BLOB_SINK,
    AZURE_GEN1_SINK,
    AZURE_GEN2_SINK,
];

/// A supported value of `connector.class`.
#[derive(Debug)]
pub struct Class {
    /// The full name.
    pub name: &'static str,
    /// Other accepted names: the simple name, and that without `Connector`.
    pub aliases: Vec<&'static str>,
    pub kind: ConnectorKind,
    pub version: &'static str,
    /// The connector's own keys first, then the framework's, as Connect lists them.
    pub keys: Vec<Key>,
}

/// `ConfigKeyInfo` of Connect's REST API; `dependents` is always empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub kind: Type,
    /// Has no default and must be given.
    pub required: bool,
    /// `None`: null.
    pub default: Option<String>,
    pub importance: Importance,
    pub documentation: String,
    pub group: String,
    /// Within its group, from 1.
    pub order: i32,
    pub width: Width,
    pub display_name: String,
    /// Values that a form may offer.
    pub recommended: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Type {
    Boolean,
    String,
    Int,
    Long,
    List,
    Class,
    Password,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Importance {
    High,
    Medium,
    Low,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum Width {
    None,
    Short,
    Medium,
    Long,
}

impl Type {
    pub fn word(self) -> &'static str {
        match self {
            Type::Boolean => "BOOLEAN",
            Type::String => "STRING",
            Type::Int => "INT",
            Type::Long => "LONG",
            Type::List => "LIST",
            Type::Class => "CLASS",
            Type::Password => "PASSWORD",
        }
    }
}

impl Importance {
    pub fn word(self) -> &'static str {
        match self {
            Importance::High => "HIGH",
            Importance::Medium => "MEDIUM",
            Importance::Low => "LOW",
        }
    }
}

impl Width {
    pub fn word(self) -> &'static str {
        match self {
            Width::None => "NONE",
            Width::Short => "SHORT",
            Width::Medium => "MEDIUM",
            Width::Long => "LONG",
        }
    }
}

impl Class {
    pub fn find(name: &str) -> Option<&'static Class> {
        let name = name.trim();
        classes()
            .iter()
            .find(|class| class.name == name || class.aliases.contains(&name))
    }

    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Every class, ours first.
pub fn classes() -> &'static [Class] {
    static CLASSES: LazyLock<Vec<Class>> = LazyLock::new(|| {
        let file = |defs: &[Def], more: &[Def]| own(defs).chain(own(more)).collect::<Vec<_>>();
        let mut all = vec![
            class(OUR_CLASS, &["Weir"], ConnectorKind::Sink, weir()),
            class(
                FILE_SOURCE,
                &["FileStreamSourceConnector", "FileStreamSource"],
                ConnectorKind::Source,
                file(framework::FILE_SOURCE, framework::SOURCE),
            ),
            class(
                FILE_SINK,
                &["FileStreamSinkConnector", "FileStreamSink"],
                ConnectorKind::Sink,
                file(framework::FILE_SINK, framework::SINK),
            ),
            class(
                S3_SINK,
                &["S3SinkConnector", "S3Sink"],
                ConnectorKind::Sink,
                file(storage::S3, framework::SINK),
            ),
            class(
                HDFS_SINK,
                &["HdfsSinkConnector", "HdfsSink"],
                ConnectorKind::Sink,
                file(storage::HDFS, framework::SINK),
            ),
            class(
                HDFS3_SINK,
                &["Hdfs3SinkConnector", "Hdfs3Sink"],
                ConnectorKind::Sink,
                file(storage::HDFS, framework::SINK),
            ),
            class(
                GCS_SINK,
                &["GcsSinkConnector", "GcsSink"],
                ConnectorKind::Sink,
                file(storage::GCS, framework::SINK),
            ),
            class(
                AZURE_BLOB_SINK,
                &["AzureBlobStorageSinkConnector", "AzureBlobStorageSink"],
                ConnectorKind::Sink,
                file(storage::AZURE_BLOB, framework::SINK),
            ),
            class(
                AZURE_GEN1_SINK,
                &[
                    "AzureDataLakeGen1StorageSinkConnector",
                    "AzureDataLakeGen1StorageSink",
                ],
                ConnectorKind::Sink,
                file(storage::AZURE_GEN1, framework::SINK),
            ),
            class(
                AZURE_GEN2_SINK,
                &["AzureDataLakeGen2SinkConnector", "AzureDataLakeGen2Sink"],
                ConnectorKind::Sink,
                file(storage::AZURE_GEN2, framework::SINK),
            ),
        ];
        all.extend(aiven());
        all
    });
    &CLASSES
}

fn aiven() -> [Class; 2] {
    let keys = |defs: &[Def]| own(defs).chain(own(framework::SINK)).collect();
    [
        class(
            AIVEN_S3_SINK,
            &[
                "AivenKafkaConnectS3SinkConnector",
                "io.aiven.kafka.connect.s3.S3SinkConnector",
            ],
            ConnectorKind::Sink,
            keys(storage::AIVEN_S3),
        ),
        class(
            AIVEN_GCS_SINK,
            &[],
            ConnectorKind::Sink,
            keys(storage::AIVEN_GCS),
        ),
    ]
}

/// The names in a list of transforms or predicates, each once, and no more than a config may have: an answer has a block of keys for
/// each.
pub fn aliases<'a>(config: &'a BTreeMap<String, String>, list: &str) -> Vec<&'a str> {
    let listed = config.get(list).map_or("", String::as_str);
    let mut seen = BTreeSet::new();
    let names = listed.split(',').map(str::trim).filter(|a| !a.is_empty());
    let names = names.filter(|alias| seen.insert(*alias));
    names.take(TRANSFORMS_MAX).collect()
}

/// The keys that a config can have: those of its class, and a block for each transform and predicate that it lists.
/// `None`: its class is missing or unknown.
pub fn definitions(config: &BTreeMap<String, String>) -> Option<Vec<Key>> {
    let class = Class::find(config.get(CONNECTOR_CLASS)?)?;
    let typed = config.get("source.type");
    let source = typed
        .and_then(|typed| CATALOG.source(typed))
        .filter(|_| class.name == OUR_CLASS);
    let ours = class.name == OUR_CLASS;
    let sink = config.get("sink.type");
    let sink = sink.and_then(|typed| CATALOG.sink(typed)).filter(|_| ours);
    let other = |key: &&Key| CATALOG.takes(source, sink, &key.name);
    let mut all: Vec<Key> = class.keys.iter().filter(other).cloned().collect();
    for (list, title) in [("transforms", "Transforms"), ("predicates", "Predicates")] {
        for alias in aliases(config, list) {
            let group = format!("{title}: {alias}");
            let typed = config.get(&format!("{list}.{alias}.type"));
            let defs = match list {
                "transforms" => smt::keys(typed.map_or("", String::as_str), ours),
                _ => framework::PREDICATE.to_vec(),
            };
            let block = (1..).zip(defs.iter()).map(|(order, def)| {
                let mut key = def.key(&group, order);
                key.name = format!("{list}.{alias}.{}", def.name);
                key
            });
            all.extend(block);
        }
    }
    Some(all)
}

fn class(
    name: &'static str,
    aliases: &[&'static str],
    kind: ConnectorKind,
    keys: Vec<Key>,
) -> Class {
    Class {
        name,
        aliases: aliases.to_vec(),
        kind,
        version: env!("CARGO_PKG_VERSION"),
        keys: ordered(keys),
    }
}

fn own(defs: &[Def]) -> impl Iterator<Item = Key> {
    defs.iter().map(|def| def.key(def.group, 0))
}

/// Numbers each group's keys.
fn ordered(mut keys: Vec<Key>) -> Vec<Key> {
    let mut last: BTreeMap<String, i32> = BTreeMap::new();
    for key in &mut keys {
        let order = last.entry(key.group.clone()).or_default();
        *order += 1;
        key.order = *order;
    }
    keys
}

fn weir() -> Vec<Key> {
    CATALOG.keys().map(of_ours).collect()
}

fn of_ours(def: &KeyDef) -> Key {
    let required = matches!(def.default, Default::Required(_));
    let (default, more) = match def.default {
        Default::Is(value) => (Some(value.to_owned()), String::new()),
        Default::Required(how) => (None, format!(" Give {how}.")),
        Default::Derived(how) => (Some(String::new()), format!(" Not given: {how}.")),
        Default::Unset => (Some(String::new()), String::new()),
    };
    let kind = match def.shape {
        Shape::Names | Shape::Topics | Shape::Fields => Type::List,
        Shape::Int { .. } => Type::Long,
        Shape::Flag => Type::Boolean,
        _ if def.name == CONNECTOR_CLASS => Type::Class,
        _ => Type::String,
    };
    let recommended = match def.shape {
        Shape::Choice(choices) => choices.iter().map(|c| (*c).to_owned()).collect(),
        Shape::Flag => vec!["true".to_owned(), "false".to_owned()],
        _ => Vec::new(),
    };
    let group = GROUPS.iter().find(|(group, _)| *group == def.group);
    Key {
        name: def.name.to_owned(),
        kind,
        required,
        default,
        importance: match def.importance {
            keys::Importance::High => Importance::High,
            keys::Importance::Medium => Importance::Medium,
            keys::Importance::Low => Importance::Low,
        },
        documentation: format!("{}{more} Type: {}.", def.doc, def.shape.describe()),
        group: group.map_or("", |(_, title)| title).to_owned(),
        order: 0,
        width: match kind {
            Type::List => Width::Long,
            Type::Boolean | Type::Long => Width::Short,
            _ => Width::Medium,
        },
        display_name: framework::display_name(def.name),
        recommended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_answer_to_their_names_and_describe_each_key_once() {
        for (typed, name) in [
            ("weir", OUR_CLASS),
            ("FileStreamSource", FILE_SOURCE),
            ("FileStreamSinkConnector", FILE_SINK),
            (" io.confluent.connect.s3.S3SinkConnector ", S3_SINK),
            ("HdfsSink", HDFS_SINK),
            ("GcsSink", GCS_SINK),
            ("AzureBlobStorageSinkConnector", AZURE_BLOB_SINK),
            ("AzureDataLakeGen2Sink", AZURE_GEN2_SINK),
        ] {
            assert_eq!(Class::find(typed).map(|c| c.name), Some(name), "{typed}");
        }
        assert!(Class::find("JdbcSinkConnector").is_none());
        for class in classes() {
            let mut seen = std::collections::BTreeSet::new();
            for key in &class.keys {
                assert!(seen.insert(&key.name), "{}: {} twice", class.name, key.name);
                assert!(key.documentation.len() > 15, "{}: {}", class.name, key.name);
                assert!(key.order > 0 && !key.group.is_empty() && !key.display_name.is_empty());
                assert!(!key.required || key.default.is_none(), "{}", key.name);
            }
            for must in [CONNECTOR_CLASS, "name", "tasks.max", "transforms"] {
                assert!(class.key(must).is_some(), "{}: {must}", class.name);
            }
        }
    }

    #[test]
    fn a_config_has_a_block_for_each_transform_and_no_key_of_the_other_source() {
        let config = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            definitions(&pairs.collect()).expect("known class")
        };
        let zone = config(&[("connector.class", "weir"), ("source.type", "zone")]);
        let named = |keys: &[Key], name: &str| keys.iter().any(|key| key.name == name);
        assert!(named(&zone, "source.table") && !named(&zone, "source.topics"));
        let s3 = config(&[
            ("connector.class", "S3Sink"),
            ("transforms", "a, b"),
            (
                "transforms.a.type",
                "org.apache.kafka.connect.transforms.Cast$Value",
            ),
        ]);
        assert!(named(&s3, "transforms.a.spec") && !named(&s3, "transforms.b.spec"));
        assert!(named(&s3, "transforms.b.predicate"));
        assert!(s3.iter().any(|key| key.group == "Transforms: b"));
    }
}
