//! Every key of the daemon's config, once: name, type, default, group, text. The checker and `docs/daemon.md` read it.

use super::super::keys::Default;
use super::super::shape::Shape;
use super::super::shape::unit::{
    DAY, GIB, HOUR, KIB, MIB, MINUTE, MS, SECOND, bytes, duration, int,
};

#[derive(Debug)]
pub struct WorkerKey {
    pub name: &'static str,
    pub shape: Shape,
    pub default: Default,
    pub group: &'static str,
    pub doc: &'static str,
}

/// A family of keys: the prefix, what follows it, the text.
#[derive(Debug)]
pub struct WorkerPrefix {
    pub prefix: &'static str,
    pub rest: &'static str,
    pub values: &'static str,
    pub group: &'static str,
    pub doc: &'static str,
}

pub const BASIC: &str = "rest.auth.basic.";
pub const BEARER: &str = "rest.auth.bearer.";
pub const STORE_MAP: &str = "store.map.";

pub const GROUPS: &[&str] = &[
    "Files",
    "REST",
    "Access",
    "Limits of REST",
    "Pipelines",
    "Restarts",
    "Logging",
    "Progress",
];

macro_rules! keys {
    ($($name:literal: $shape:expr, $default:expr, $group:literal, $doc:expr;)*) => {
        &[$(WorkerKey { name: $name, shape: $shape, default: $default, group: $group, doc: $doc }),*]
    };
}

use self::Default::{Derived, Is, Unset};

pub static KEYS: &[WorkerKey] = keys! {
    "data.dir": Shape::Path, Is("data/daemon"), "Files",
        "Directory of the daemon's own journal: configs and target states with their history. One daemon at a time. No row and no offset lies here.";
    "pipelines": Shape::Text, Unset, "Files",
        "Config files, as a list, of pipelines to create when the journal has never known their name. After that the journal decides.";
    "rest.listen": Shape::Text, Is("127.0.0.1:8083"), "REST",
        "host:port to listen on; several as a list. Port 0 takes a free one. Connect's `listeners=http://…,https://…` means the same.";
    "rest.advertised": Shape::Text, Derived("the address it listens on"), "REST",
        "host:port that stands as `worker_id` in states.";
    "rest.tls.certificate": Shape::Path, Unset, "REST",
        "PEM file with the certificate and its chain. With it the listeners speak TLS, unless a listener says `http://`.";
    "rest.tls.key": Shape::Path, Unset, "REST",
        "PEM file with the certificate's private key.";
    "access.control.allow.origin": Shape::Text, Unset, "REST",
        "Origin that a browser's page may come from; `*` for any. Not set: no page of another origin may ask.";
    "access.control.allow.methods": Shape::Text, Unset, "REST",
        "Methods that such a page may use, as a list. Not set: GET, POST, HEAD.";
    "rest.auth.read.only": Shape::Text, Unset, "Access",
        "Names, as a list, of those under `rest.auth.basic.` and `rest.auth.bearer.` who may look and change nothing.";
    "rest.open.to.network": Shape::Flag, Is("false"), "Access",
        "Must be `true` to listen beyond this machine without any `rest.auth.*`. Whoever reaches the port can then run plugins, and write files below `rest.files.roots`.";
    "rest.files.roots": Shape::Text, Derived("the working directory"), "Access",
        "Directories, as a list, that configs which come by REST may use, with all below them: rules and tables, files of file connectors, `file:` URLs of zones, certificates. Links are followed before it is looked; the daemon's own directories are never among them, those of `store.map.` always are. `/` is every file that this user may open.";
    "secrets.allow.env": Shape::Text, Unset, "Access",
        "Variables, as a list, that `${env:…}` in configs which come by REST may use; `KAFKA_*` is all that begin so. Not set: none. Those that this file itself uses are never among them.";
    "secrets.allow.files": Shape::Text, Unset, "Access",
        "Files, and directories of files, as a list, that `${file:…}` in configs which come by REST may use. Not set: none. Those that this file itself uses are never among them.";
    "secrets.allow.identity": Shape::Text, Unset, "Access",
        "URLs of stores, as a list, that configs which come by REST may reach with the credentials of this machine (environment, profile, instance, ticket cache), with all below them: `s3://lake`; `s3://` is every bucket. Not set: none, they bring their own by reference.";
    "rest.max.body": bytes(KIB, GIB), Is("1MiB"), "Limits of REST",
        "Largest body of a request, other than a plugin.";
    "rest.max.plugin": bytes(KIB, GIB), Is("64MiB"), "Limits of REST",
        "Largest plugin that can be pushed.";
    "rest.max.header": bytes(8 * KIB, MIB), Is("16KiB"), "Limits of REST",
        "Most bytes of a request's line and headers.";
    "rest.max.connections": int(1, 100_000), Is("256"), "Limits of REST",
        "Most open connections. For one more an idle client is disconnected; where all are busy, only probes are answered, the rest gets 503.";
    "rest.max.connections.per.peer": int(1, 100_000), Derived("half of `rest.max.connections`, rounded up"), "Limits of REST",
        "Most open connections of one address. Addresses of this machine may have all: a proxy may stand there.";
    "rest.max.rate": int(1, 1_000_000), Is("1000"), "Limits of REST",
        "Most requests in a second from one peer; more are answered with 429.";
    "rest.request.timeout": duration(SECOND, HOUR), Is("90s"), "Limits of REST",
        "Longest time for an answer; then 500, as Connect does.";
    "rest.header.timeout": duration(100 * MS, 10 * MINUTE), Is("10s"), "Limits of REST",
        "Longest time for a request's line and headers to arrive.";
    "rest.body.timeout": duration(100 * MS, HOUR), Is("30s"), "Limits of REST",
        "Longest time for a request's body to arrive; of a pushed plugin, for the next piece of it.";
    "bootstrap.servers": Shape::Brokers, Unset, "Pipelines",
        "Brokers for configs of Connect's classes, which name none themselves.";
    "plugin.path": Shape::Path, Is("data/plugins"), "Pipelines",
        "Directory of your own plugins, `<plugin>.wasm` each, for pipelines that do not say; the shipped ones are part of the program. Of a list, as a Connect worker has it, the one with components in it.";
    "plugin.store": Shape::Path, Derived("`store` below `plugin.path`"), "Pipelines",
        "Directory of the plugin store, for pipelines that do not say.";
    "plugin.cache": Shape::Path, Derived("`.cache` below `plugin.path`"), "Pipelines",
        "Directory of compiled plugins, for pipelines that do not say. May be deleted at any time.";
    "shutdown.timeout": duration(SECOND, HOUR), Is("30s"), "Pipelines",
        "From SIGTERM to the last commit of all pipelines. After it the process ends with 3, and what was not committed is read again.";
    "restart.backoff": duration(10 * MS, HOUR), Is("1s"), "Restarts",
        "Wait before a pipeline that failed begins again; doubles with each failure.";
    "restart.max.backoff": duration(10 * MS, DAY), Is("5m"), "Restarts",
        "Longest wait before a pipeline begins again.";
    "restart.attempts": int(0, 1_000_000), Is("10"), "Restarts",
        "So often a pipeline that fails begins again by itself; then it stays FAILED until somebody restarts it. 0: never by itself.";
    "restart.reset": duration(SECOND, 30 * DAY), Is("10m"), "Restarts",
        "A pipeline that ran so long without a failure has all its attempts again.";
    "log.format": Shape::Choice(&["text", "json"]), Is("text"), "Logging",
        "Form of the log lines on stderr and in `log.dir`.";
    "log.level": Shape::Level, Is("info"), "Logging",
        "`error`, `warn`, `info`, `debug`, `trace`, or a list such as `info,weir::kafka=debug`. Changed at run time by `/admin/loggers`.";
    "log.dir": Shape::Path, Unset, "Logging",
        "Directory for one log file per pipeline, `<name>.log`, beside stderr. Not set: none. A file that is moved away is begun anew.";
    "progress.webhook.url": Shape::Text, Unset, "Progress",
        "Where a message is posted for each start, commit, swap and end of a pipeline: `https://hooks.example.com/weir`. It may be a reference, and is never shown. Configs by REST cannot set it.";
    "progress.webhook.authorization": Shape::Text, Unset, "Progress",
        "Header `Authorization` of these messages, such as `Bearer ${env:TOKEN}`, by reference.";
};

pub static PREFIXES: &[WorkerPrefix] = &[
    WorkerPrefix {
        prefix: BASIC,
        rest: "user",
        values: "reference",
        group: "Access",
        doc: "Password of a user, as `${env:…}` or `${file:…}`; a literal one is refused.",
    },
    WorkerPrefix {
        prefix: BEARER,
        rest: "name",
        values: "reference",
        group: "Access",
        doc: "Token of somebody who shows it as `Authorization: Bearer`, as `${env:…}` or `${file:…}`; a literal one is refused.",
    },
    WorkerPrefix {
        prefix: STORE_MAP,
        rest: "url prefix",
        values: "URL",
        group: "Pipelines",
        doc: "Where a store of another system's config lies here: `store.map.\"s3://bucket\" = \"file:/mnt/bucket\"`.",
    },
];

pub fn find(name: &str) -> Option<&'static WorkerKey> {
    KEYS.iter().find(|key| key.name == name)
}

/// The tables of `docs/daemon.md`, one per group.
pub fn markdown() -> String {
    let mut out = String::new();
    for group in GROUPS {
        out.push_str(&format!(
            "\n### {group}\n\n| Key | Type | Default | |\n|---|---|---|---|\n"
        ));
        for key in KEYS.iter().filter(|key| key.group == *group) {
            let default = match key.default {
                Default::Required(_) => "**required**".to_owned(),
                Is(value) => format!("`{value}`"),
                Derived(how) => how.to_owned(),
                Unset => "not set".to_owned(),
            };
            let (name, shape, doc) = (key.name, key.shape.describe(), key.doc);
            out.push_str(&format!("| `{name}` | {shape} | {default} | {doc} |\n"));
        }
        for family in PREFIXES.iter().filter(|family| family.group == *group) {
            let WorkerPrefix {
                prefix,
                rest,
                values,
                doc,
                ..
            } = family;
            out.push_str(&format!(
                "| `{prefix}<{rest}>` | {values} | not set | {doc} |\n"
            ));
        }
    }
    out.push_str(&super::theirs::markdown());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_groups_are_known() {
        for key in KEYS {
            if let Is(value) = key.default {
                let parsed = key.shape.parse(value);
                assert!(parsed.is_ok(), "{}: {parsed:?}", key.name);
            }
            assert!(
                key.doc.ends_with('.') && GROUPS.contains(&key.group),
                "{}",
                key.name
            );
        }
    }
}
