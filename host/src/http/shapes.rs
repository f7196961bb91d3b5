//! JSON Schemas of what `/plugins` and `/pipelines` take and give, beside Connect's in `schemas`.

use serde_json::{Value, json};

use super::schemas::{list, named, object, text, whole, with_optional};

type Members = Vec<(&'static str, Value)>;

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn any_object() -> Value {
    json!({ "type": "object" })
}

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

/// Members that are text, then others.
fn with(texts: &[&'static str], more: Members) -> Value {
    let texts = texts.iter().map(|name| (*name, text()));
    object(&texts.chain(more).collect::<Members>())
}

fn ledgers() -> Members {
    let numbers = |names: &[&'static str]| {
        object(
            &names
                .iter()
                .map(|name| (*name, whole()))
                .collect::<Members>(),
        )
    };
    let records = [
        "read",
        "with_rows",
        "refused",
        "filtered",
        "refused_in_part",
    ];
    let rows = [
        "made",
        "written",
        "refused",
        "filtered",
        "duplicates",
        "late",
    ];
    vec![
        ("records", numbers(&records)),
        ("rows", numbers(&rows)),
        ("closes", flag()),
        ("positions", list(named("Position"))),
    ]
}

pub(super) fn all() -> Members {
    [plugins(), rules(), commits(), letters()].concat()
}

fn plugins() -> Members {
    let id = ["plugin", "version", "digest"];
    let key = vec![("default", or_null(text())), ("required", flag())];
    let import = vec![("functions", list(text()))];
    vec![
        ("PluginKey", with(&["key", "kind", "about"], key)),
        (
            "PushedPlugin",
            with(
                &[&id[..], &["store"]].concat(),
                vec![
                    ("bytes", whole()),
                    ("dry_run", flag()),
                    ("new", flag()),
                    ("keys", list(named("PluginKey"))),
                ],
            ),
        ),
        (
            "ListedPlugin",
            with(
                &[&id[..], &["note"]].concat(),
                vec![
                    ("bytes", or_null(whole())),
                    ("path", or_null(text())),
                    ("pushed", or_null(with(&["at", "by"], Vec::new()))),
                    ("shipped", flag()),
                    ("yanked", flag()),
                ],
            ),
        ),
        (
            "Plugin",
            with(
                &[&id[..], &["summary"]].concat(),
                vec![
                    ("bytes", whole()),
                    ("components", whole()),
                    ("core_modules", whole()),
                    ("shipped", flag()),
                    ("exports", list(text())),
                    ("imports", list(with(&["name", "means"], import))),
                    ("keys", list(named("PluginKey"))),
                    ("config", any_object()),
                ],
            ),
        ),
        (
            "YankedPlugin",
            with(
                &id,
                vec![
                    ("yanked", flag()),
                    ("in_force", list(with(&["pipeline", "zone"], Vec::new()))),
                    ("dry_run", flag()),
                ],
            ),
        ),
    ]
}

fn rules() -> Members {
    let request = |own: Members| {
        let how = [
            ("reason", or_null(text())),
            ("dry_run", or_null(flag())),
            ("wait_ms", or_null(whole())),
        ];
        with_optional(&[], &[&own[..], &how].concat())
    };
    let wanted = json!({
        "type": ["object", "null"], "additionalProperties": text(),
        "description": "transform: plugin[@version|@sha256:…]",
    });
    let rule = ["transform", "plugin", "version", "component", "config"];
    let effect = vec![("effect", one_of(&["same", "additive", "breaking"]))];
    let effects = one_of(&["unknown", "same", "additive", "breaking"]);
    let columns = [
        ("changes", list(with(&["column", "from", "to"], effect))),
        ("why", text()),
    ];
    let range = vec![
        ("topic", or_null(text())),
        ("partition", or_null(whole())),
        ("from", whole()),
        ("to", whole()),
    ];
    let moved = ["partition", "from", "asked", "to"].map(|name| (name, whole()));
    let moved = moved.to_vec();
    vec![
        ("Rule", with(&rule, Vec::new())),
        (
            "SwapRequest",
            request(vec![
                ("rules", wanted),
                ("reload", or_null(flag())),
                ("allow_breaking", or_null(flag())),
                ("force", or_null(flag())),
            ]),
        ),
        ("RollbackRequest", request(vec![("to", or_null(whole()))])),
        (
            "RewindRequest",
            with_optional(
                &[],
                &[
                    ("to", or_null(list(text()))),
                    ("all", or_null(one_of(&["start"]))),
                    ("reason", or_null(text())),
                    ("dry_run", or_null(flag())),
                ],
            ),
        ),
        (
            "Rewound",
            with(
                &["pipeline"],
                vec![
                    ("dry_run", flag()),
                    ("version", or_null(whole())),
                    ("moved", list(with(&["topic"], moved))),
                ],
            ),
        ),
        (
            "Swap",
            with(
                &["log"],
                vec![
                    ("state", one_of(&["dry_run", "already", "in_force"])),
                    ("version", or_null(whole())),
                    ("by_process", flag()),
                    ("from", whole()),
                    ("replaces", list(named("Rule"))),
                    ("rules", list(named("Rule"))),
                    ("bar", list(text())),
                    ("columns", with_optional(&[("effect", effects)], &columns)),
                    ("hints", list(text())),
                ],
            ),
        ),
        (
            "Era",
            with(
                &["log", "actor", "reason"],
                vec![
                    ("gen", whole()),
                    ("until", or_null(whole())),
                    ("ranges", list(with(&["chain"], range))),
                    ("rules", list(named("Rule"))),
                    ("time", json!({ "type": "integer" })),
                    ("bar", list(text())),
                    ("force", flag()),
                    ("in_force", flag()),
                    ("blocked", flag()),
                ],
            ),
        ),
        (
            "History",
            with(
                &["log", "url"],
                vec![("eras", list(named("Era"))), ("more", flag())],
            ),
        ),
        (
            "Changes",
            object(&[
                ("changes", list(any_object())),
                ("more", flag()),
                ("next", or_null(whole())),
            ]),
        ),
    ]
}

fn commits() -> Members {
    let position = vec![("partition", whole()), ("start", whole()), ("to", whole())];
    let log = vec![
        ("version", whole()),
        ("gen", whole()),
        ("rules", list(named("Rule"))),
        ("letters", whole()),
    ];
    let page = vec![
        ("version", whole()),
        ("entries", list(any_object())),
        ("next", or_null(whole())),
        ("before", or_null(whole())),
        ("counters", any_object()),
    ];
    let trace = || ("trace", or_null(text()));
    let task = with(&["state"], vec![("id", whole()), trace()]);
    vec![
        ("Position", with(&["chain", "topic"], position)),
        (
            "PipelineLog",
            with(&["log", "url"], [log, ledgers()].concat()),
        ),
        (
            "Pipeline",
            with(
                &["name", "state"],
                vec![
                    ("type", one_of(&["source", "sink", "unknown"])),
                    ("target", one_of(&["RUNNING", "PAUSED", "STOPPED"])),
                    ("tasks", list(task)),
                    trace(),
                    ("log", or_null(named("PipelineLog"))),
                ],
            ),
        ),
        ("LogPage", with(&["log"], [page, ledgers()].concat())),
    ]
}

fn letters() -> Members {
    let letter = [
        "topic",
        "transform",
        "plugin",
        "version",
        "component",
        "config",
        "file",
    ];
    let field = || ("field", or_null(text()));
    let reason = with(&["code", "message"], vec![field()]);
    let header = with(&["name"], vec![("value", or_null(text()))]);
    vec![
        (
            "LetterCount",
            with(&["pipeline", "code"], vec![field(), ("letters", whole())]),
        ),
        (
            "Letter",
            with(
                &letter,
                vec![
                    ("partition", whole()),
                    ("offset", whole()),
                    ("row", or_null(whole())),
                    ("timestamp", or_null(text())),
                    ("errors", list(reason)),
                    ("holds_bytes", flag()),
                    ("key", or_null(text())),
                    ("value", or_null(text())),
                    ("value_text", or_null(text())),
                    ("headers", list(header)),
                ],
            ),
        ),
        (
            "Letters",
            object(&[
                ("letters", list(named("Letter"))),
                ("next", or_null(text())),
            ]),
        ),
    ]
}
