//! Keys of Connect's framework that a connector of Kafka Connect may have here, and those of its two file connectors.

use super::classes::{Importance, Key, Type, Width};

/// One key as the tables write it.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    pub name: &'static str,
    pub kind: Type,
    pub default: Value,
    pub importance: Importance,
    pub group: &'static str,
    pub recommended: &'static [&'static str],
    pub doc: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Must be given.
    Required,
    Null,
    Is(&'static str),
}

impl Def {
    pub fn key(&self, group: &str, order: i32) -> Key {
        Key {
            name: self.name.to_owned(),
            kind: self.kind,
            required: matches!(self.default, Value::Required),
            default: match self.default {
                Value::Is(value) => Some(value.to_owned()),
                Value::Required | Value::Null => None,
            },
            importance: self.importance,
            documentation: self.doc.to_owned(),
            group: group.to_owned(),
            order,
            width: match self.kind {
                Type::Boolean | Type::Int | Type::Long => Width::Short,
                Type::List | Type::Class => Width::Long,
                Type::String | Type::Password => Width::Medium,
            },
            display_name: display_name(self.name),
            recommended: self.recommended.iter().map(|v| (*v).to_owned()).collect(),
        }
    }
}

/// `errors.retry.timeout` → `Errors retry timeout`.
pub fn display_name(key: &str) -> String {
    let words = key.replace(['.', '-'], " ");
    let mut letters = words.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => words,
    }
}

/// `name: type, default, importance, [recommended], doc;` below the title of a group.
macro_rules! defs {
    ($($group:literal { $($name:literal: $kind:ident, $default:expr, $importance:ident, [$($choice:literal),*], $doc:literal;)* })*) => {
        &[$($($crate::connect::framework::Def {
            name: $name,
            kind: $crate::connect::classes::Type::$kind,
            default: $default,
            importance: $crate::connect::classes::Importance::$importance,
            group: $group,
            recommended: &[$($choice),*],
            doc: $doc,
        }),*),*]
    };
}
pub(super) use defs;

use self::Value::{Is, Null, Required};

/// Keys of every sink.
pub static SINK: &[Def] = defs! {
    "Common" {
        "name": String, Required, High, [],
            "Name of the connector. It names the commit log, so another name begins a new one.";
        "connector.class": Class, Required, High, [],
            "Which connector it is: the full class, its simple name, or that without `Connector`.";
        "connector.plugin.version": String, Null, Medium, [],
            "Version of the connector. Connectors of Kafka Connect are part of this program: it has one.";
        "tasks.max": Int, Is("1"), High, [],
            "Threads that read, transform and write; partitions are shared out among them.";
        "tasks.max.enforce": Boolean, Is("true"), Low, ["true", "false"],
            "Kept for Connect's clients; tasks.max always holds.";
        "key.converter": Class, Null, Low, ["org.apache.kafka.connect.storage.StringConverter", "org.apache.kafka.connect.converters.ByteArrayConverter", "org.apache.kafka.connect.json.JsonConverter"],
            "How keys are read. Zones hold no keys where rows come from a rule, so it seldom matters.";
        "value.converter": Class, Null, High, ["org.apache.kafka.connect.storage.StringConverter", "org.apache.kafka.connect.converters.ByteArrayConverter", "org.apache.kafka.connect.json.JsonConverter", "io.confluent.connect.avro.AvroConverter"],
            "How values are read: strings, bytes, JSON, or Avro.";
        "value.converter.schemas.enable": Boolean, Is("true"), Medium, ["true", "false"],
            "JSON only: whether each message is an envelope of schema and payload.";
        "header.converter": Class, Null, Low, [],
            "Headers are kept as bytes; no converter is asked.";
        "config.action.reload": String, Is("restart"), Low, ["restart", "none"],
            "Kept for Connect's clients: references to secrets are read at each start.";
    }
    "Transforms" {
        "transforms": List, Is(""), Low, [],
            "Names of the transforms in their order, with `transforms.<name>.type` and its keys for each: those of Connect that have an equal here, or plugins of this worker.";
    }
    "Predicates" {
        "predicates": List, Is(""), Low, [],
            "Conditions of transforms. Rules here see every record, so a transform with a predicate is refused.";
    }
    "Error Handling" {
        "errors.retry.timeout": Long, Is("0"), Medium, [],
            "Kept for Connect's clients: brokers and stores that are away are waited for, without end.";
        "errors.retry.delay.max.ms": Long, Is("60000"), Medium, [],
            "Kept for Connect's clients; see retry.backoff.ms.";
        "errors.tolerance": String, Is("none"), Medium, ["none", "all"],
            "`none`: the first refused record stops the connector. `all`: refused records become dead letters.";
        "errors.log.enable": Boolean, Is("false"), Medium, ["true", "false"],
            "Kept for Connect's clients: every dead letter holds its reason.";
        "errors.log.include.messages": Boolean, Is("false"), Medium, ["true", "false"],
            "Kept for Connect's clients: records are never written into logs.";
    }
    "Common" {
        "topics": List, Is(""), High, [],
            "Topics to read, separated by commas.";
        "topics.regex": String, Is(""), High, [],
            "Read all topics whose whole name this expression matches, those too that are made later; each has its table. Not for file sinks.";
    }
    "Error Handling" {
        "errors.deadletterqueue.topic.name": String, Is(""), Medium, [],
            "Becomes the table of the dead letters, in the same commit as the rows.";
        "errors.deadletterqueue.topic.replication.factor": Int, Is("3"), Medium, [],
            "Kept for Connect's clients: dead letters are a table, not a topic.";
        "errors.deadletterqueue.context.headers.enable": Boolean, Is("false"), Medium, ["true", "false"],
            "Kept for Connect's clients: dead letters always hold where they come from and why.";
    }
};

/// Keys of every source.
pub static SOURCE: &[Def] = defs! {
    "Common" {
        "name": String, Required, High, [],
            "Name of the connector.";
        "connector.class": Class, Required, High, [],
            "Which connector it is: the full class, its simple name, or that without `Connector`.";
        "connector.plugin.version": String, Null, Medium, [],
            "Version of the connector. Connectors of Kafka Connect are part of this program: it has one.";
        "tasks.max": Int, Is("1"), High, [],
            "A file is read by one task, whatever stands here.";
        "tasks.max.enforce": Boolean, Is("true"), Low, ["true", "false"],
            "Kept for Connect's clients; tasks.max always holds.";
        "key.converter": Class, Null, Low, [],
            "Lines have no key; no converter is asked.";
        "value.converter": Class, Null, Low, ["org.apache.kafka.connect.storage.StringConverter", "org.apache.kafka.connect.json.JsonConverter"],
            "How a line is written: as it is (the default here), or as JSON.";
        "value.converter.schemas.enable": Boolean, Is("true"), Low, ["true", "false"],
            "JSON only: write the envelope of schema and payload.";
        "header.converter": Class, Null, Low, [],
            "Lines have no headers; no converter is asked.";
        "config.action.reload": String, Is("restart"), Low, ["restart", "none"],
            "Kept for Connect's clients: references to secrets are read at each start.";
    }
    "Transforms" {
        "transforms": List, Is(""), Low, [],
            "Not honoured by file connectors.";
    }
    "Predicates" {
        "predicates": List, Is(""), Low, [],
            "Not honoured by file connectors.";
    }
    "Error Handling" {
        "errors.retry.timeout": Long, Is("0"), Medium, [],
            "Kept for Connect's clients: a broker that is away is waited for, without end.";
        "errors.retry.delay.max.ms": Long, Is("60000"), Medium, [],
            "Kept for Connect's clients.";
        "errors.tolerance": String, Is("none"), Medium, ["none", "all"],
            "Kept for Connect's clients: a line cannot be refused.";
        "errors.log.enable": Boolean, Is("false"), Medium, ["true", "false"],
            "Kept for Connect's clients.";
        "errors.log.include.messages": Boolean, Is("false"), Medium, ["true", "false"],
            "Kept for Connect's clients: records are never written into logs.";
    }
    "Topic Creation" {
        "topic.creation.groups": List, Is(""), Low, [],
            "Not honoured: create the topic before, or let the broker do it.";
    }
    "Exactly Once Support" {
        "exactly.once.support": String, Is("requested"), Medium, ["requested", "required"],
            "`required` is refused where the connector cannot keep it.";
        "transaction.boundary": String, Is("poll"), Medium, ["poll", "interval", "connector"],
            "Only `poll` is honoured: a transaction holds the lines of one read.";
        "transaction.boundary.interval.ms": Long, Null, Low, [],
            "Not honoured: transactions end with the lines of one read.";
    }
    "offsets.topic" {
        "offsets.storage.topic": String, Null, Low, [],
            "Not honoured: positions are not kept in a topic of their own.";
    }
};

pub static FILE_SOURCE: &[Def] = defs! {
    "File" {
        "file": String, Required, High, [],
            "Path of the file to read, on the worker's machine. It need not be there yet. Standard input is not read.";
        "topic": String, Required, High, [],
            "Topic that gets a record for each line.";
        "batch.size": Int, Is("2000"), Low, [],
            "Most lines that are read and sent at once.";
    }
};

pub static FILE_SINK: &[Def] = defs! {
    "File" {
        "file": String, Required, High, [],
            "Path of the file that lines are appended to, on the worker's machine. Standard output is not written.";
    }
};

pub static PREDICATE: &[Def] = defs! {
    "Predicates" {
        "type": Class, Required, High, [],
            "Class of the predicate. Transforms with predicates are refused here.";
    }
};

/// Keys of every transform in a connector of Kafka Connect.
pub static TRANSFORM: &[Def] = defs! {
    "Transforms" {
        "type": Class, Required, High, [],
            "A plugin of this worker (`name`, `name@version`, `name@sha256:…`), or a transform of Kafka Connect that has an equal here.";
        "plugin.version": String, Null, Medium, [],
            "Of a plugin: its version (`0.1`, `0.1.2`) or digest (`sha256:…`).";
        "predicate": String, Is(""), Medium, [],
            "Not honoured: rules here see every record.";
        "negate": Boolean, Is("false"), Medium, ["true", "false"],
            "Not honoured: there are no predicates.";
    }
};

/// Keys of every transform of our own class.
pub static PLUGIN: &[Def] = defs! {
    "Transforms" {
        "type": Class, Required, High, [],
            "The plugin: `name`, `name@version`, `name@sha256:…`. Its own keys stand beside it; its page lists them.";
        "plugin.version": String, Null, Medium, [],
            "Its version (`0.1`, `0.1.2`) or digest (`sha256:…`), where the type does not say it.";
    }
};
