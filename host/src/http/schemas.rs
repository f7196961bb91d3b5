//! JSON Schemas of what goes in and out, by the names that `/openapi.json` gives them.

use serde_json::{Value, json};

/// A schema by its name in [`all`] (or in another module's list).
pub(super) fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

pub(super) fn whole() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// An object with these members, all of them always there.
pub(super) fn object(members: &[(&str, Value)]) -> Value {
    with_optional(members, &[])
}

pub(super) fn with_optional(always: &[(&str, Value)], sometimes: &[(&str, Value)]) -> Value {
    let properties: serde_json::Map<String, Value> = always
        .iter()
        .chain(sometimes)
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    let required: Vec<&str> = always.iter().map(|(name, _)| *name).collect();
    json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    })
}

fn or_null(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

const STATES: &[&str] = &[
    "UNASSIGNED",
    "RUNNING",
    "PAUSED",
    "FAILED",
    "RESTARTING",
    "STOPPED",
];
const TASK_STATES: &[&str] = &["UNASSIGNED", "RUNNING", "PAUSED", "FAILED", "RESTARTING"];

fn connector_state(states: &[&str]) -> Value {
    with_optional(
        &[("state", one_of(states)), ("worker_id", text())],
        &[("trace", text())],
    )
}

fn task_state() -> Value {
    with_optional(
        &[
            ("id", whole()),
            ("state", one_of(TASK_STATES)),
            ("worker_id", text()),
        ],
        &[("trace", text())],
    )
}

fn task_id() -> Value {
    object(&[("connector", text()), ("task", whole())])
}

fn offset(offset: Value) -> Value {
    object(&[
        ("partition", json!({ "type": "object" })),
        ("offset", offset),
    ])
}

fn key_info() -> Value {
    let kinds = [
        "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD",
    ];
    object(&[
        ("name", text()),
        ("type", one_of(&kinds)),
        ("required", json!({ "type": "boolean" })),
        ("default_value", or_null("string")),
        ("importance", one_of(&["HIGH", "MEDIUM", "LOW"])),
        ("documentation", text()),
        ("group", or_null("string")),
        ("width", one_of(&["NONE", "SHORT", "MEDIUM", "LONG"])),
        ("display_name", text()),
        ("dependents", list(text())),
        ("order", json!({ "type": "integer" })),
    ])
}

/// A value of a config: what is no string becomes one.
fn value(more: &[&str]) -> Value {
    let kinds: Vec<&str> = ["string", "number", "boolean"]
        .iter()
        .chain(more)
        .copied()
        .collect();
    json!({ "type": kinds })
}

/// Connect's shapes, and the error that every route answers with.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    let strings = json!({ "type": "object", "additionalProperties": text() });
    let config = json!({ "type": "object", "additionalProperties": value(&[]) });
    vec![
        (
            "Error",
            with_optional(
                &[
                    (
                        "error_code",
                        json!({ "type": "integer", "minimum": 400, "maximum": 599 }),
                    ),
                    ("message", or_null("string")),
                ],
                &[("details", json!({}))],
            ),
        ),
        (
            "ServerInfo",
            object(&[
                ("version", text()),
                ("commit", text()),
                ("kafka_cluster_id", text()),
            ]),
        ),
        (
            "WorkerStatus",
            object(&[
                ("status", one_of(&["healthy", "starting", "unhealthy"])),
                ("message", text()),
            ]),
        ),
        ("StoredConfig", strings),
        ("Config", config),
        (
            "ConfigChanges",
            json!({
                "type": "object", "additionalProperties": value(&["null"]),
                "description": "null removes a key",
            }),
        ),
        (
            "CreateConnector",
            with_optional(
                &[("name", value(&[])), ("config", named("Config"))],
                &[(
                    "initial_state",
                    json!({
                        "type": ["string", "null"],
                        "pattern": "^([Rr][Uu][Nn][Nn][Ii][Nn][Gg]|[Pp][Aa][Uu][Ss][Ee][Dd]|[Ss][Tt][Oo][Pp][Pp][Ee][Dd])$",
                    }),
                )],
            ),
        ),
        (
            "ConnectorInfo",
            object(&[
                ("name", text()),
                ("config", named("StoredConfig")),
                ("tasks", list(task_id())),
                ("type", one_of(&["source", "sink", "unknown"])),
            ]),
        ),
        (
            "ConnectorStateInfo",
            object(&[
                ("name", text()),
                ("connector", connector_state(STATES)),
                ("tasks", list(named("TaskState"))),
                ("type", one_of(&["source", "sink", "unknown"])),
            ]),
        ),
        ("TaskState", task_state()),
        (
            "TaskInfo",
            object(&[("id", task_id()), ("config", named("StoredConfig"))]),
        ),
        (
            "Connectors",
            json!({ "oneOf": [
                list(text()),
                { "type": "object", "additionalProperties": with_optional(&[], &[
                    ("status", named("ConnectorStateInfo")), ("info", named("ConnectorInfo")),
                ]) },
            ]}),
        ),
        (
            "ActiveTopics",
            json!({
                "type": "object",
                "additionalProperties": object(&[("topics", list(text()))]),
            }),
        ),
        (
            "Offsets",
            object(&[(
                "offsets",
                list(offset(json!({ "type": ["object", "null"] }))),
            )]),
        ),
        (
            "AlterOffsets",
            object(&[(
                "offsets",
                json!({
                    "type": "array", "minItems": 1,
                    "items": offset(json!({ "type": ["object", "null"] })),
                }),
            )]),
        ),
        ("Message", object(&[("message", text())])),
        (
            "PluginInfo",
            with_optional(
                &[
                    ("class", text()),
                    (
                        "type",
                        one_of(&[
                            "sink",
                            "source",
                            "converter",
                            "header_converter",
                            "transformation",
                            "predicate",
                        ]),
                    ),
                ],
                &[("version", text())],
            ),
        ),
        ("ConfigKeyInfo", key_info()),
        (
            "ConfigValueInfo",
            object(&[
                ("name", text()),
                ("value", or_null("string")),
                ("recommended_values", list(text())),
                ("errors", list(text())),
                ("visible", json!({ "type": "boolean" })),
            ]),
        ),
        (
            "ConfigInfos",
            object(&[
                ("name", text()),
                ("error_count", whole()),
                ("groups", list(text())),
                (
                    "configs",
                    list(object(&[
                        (
                            "definition",
                            json!({ "oneOf": [named("ConfigKeyInfo"), { "type": "null" }] }),
                        ),
                        ("value", named("ConfigValueInfo")),
                    ])),
                ),
            ]),
        ),
        (
            "LoggerLevel",
            object(&[("level", text()), ("last_modified", or_null("integer"))]),
        ),
        (
            "Loggers",
            json!({ "type": "object", "additionalProperties": named("LoggerLevel") }),
        ),
        (
            "SetLevel",
            json!({ "type": "object", "properties": { "level": value(&[]) }, "required": ["level"] }),
        ),
    ]
}
