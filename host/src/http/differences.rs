//! Where these routes answer otherwise than Kafka Connect 4.1 does, on purpose. `docs/connect-differences.md` explains each.

/// One deliberate difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub code: &'static str,
    pub route: &'static str,
    pub connect: &'static str,
    pub here: &'static str,
    pub why: &'static str,
}

macro_rules! differences {
    ($($code:literal: $route:literal, $connect:literal, $here:literal, $why:literal;)*) => {
        &[$(Difference { code: $code, route: $route, connect: $connect, here: $here, why: $why }),*]
    };
}

pub const DIFFERENCES: &[Difference] = differences! {
    "json-faults": "every route with a body", "500 with the parser's text for malformed JSON, an empty body, wrong types and unknown members",
        "400 that says what is wrong and where", "the client's fault; no client known depends on 500";
    "nested-values": "POST /connectors, PUT and PATCH config", "500", "400 that names the key", "the client's fault";
    "initial-state": "POST /connectors", "500 for an unknown initial_state", "400 that lists the states", "the client's fault";
    "null-values": "POST /connectors, PUT config", "stored as null where the key may be null", "400 that names the key", "a config is of strings";
    "name-letters": "POST /connectors, PUT config of class weir", "spaces, signs and letters beyond ASCII are fine", "400: letters, digits, `.`, `_`, `-`",
        "the name of a pipeline is a part of its commit log's path";
    "names": "POST /connectors, PUT config", "a name with `/`, `\\` or `%` is created and can then be named by no path", "400 at creation",
        "nobody could delete it";
    "name-length": "POST /connectors, PUT config", "any length", "400 above 200 bytes, and for `.` and `..`", "names are parts of file names";
    "patch-name": "PATCH config", "a changed `name` is stored", "400", "the stored config would contradict its path";
    "validate-class": "PUT validate", "500 for a missing or unknown connector.class; 500 for a malformed body", "400 with the known classes",
        "the client's fault";
    "validate-body": "PUT validate of class weir", "connector.class must be given", "its default is filled in", "the key has a default here";
    "double-slash": "//connectors", "400 as HTML", "as /connectors", "clients that join a base URL ending in `/` mean that";
    "bad-escape": "any path with a torn or non-UTF-8 `%` escape", "400 as HTML", "400 as JSON", "clients read JSON";
    "long-names-in-paths": "any path with `%2F`, `%25`", "400 as HTML", "404 as JSON: no such name can exist", "one rule for all names";
    "internal": "POST tasks, PUT fence", "400 without signature, 403 with a bad one, 503 without a key", "always 403", "there are no workers to sign";
    "cluster-id": "GET /", "the id of the worker's Kafka cluster", "`weir`", "pipelines of one daemon may read several clusters";
    "commit": "GET /", "commit of the Connect release", "`weir-` and the version of Weir", "says what answers";
    "plugin-list": "GET /connector-plugins", "frozen at start", "as the directories are now", "plugins are pushed while it runs";
    "loggers": "GET /admin/loggers/{l}", "answers for every logger that exists", "404 for one without a level of its own", "loggers are prefixes here, not objects";
    "task-configs": "GET tasks", "each task's own config with task.class", "each task has the whole config", "partitions are shared out at run time";
    "cross-site": "what changes something", "a page of another site may send it through a browser", "403 if the browser says `Sec-Fetch-Site: cross-site` and access.control.allow.origin does not list the page",
        "no page may move pipelines behind its reader's back";
    "limits": "all", "no limits of size, rate and connections", "408, 413, 429, 431, 503", "bounded; every limit is a key of the worker's config";
    "plugin-versions": "GET plugin config", "`?version=` of a version that is not there: 400", "the parameter is ignored", "there is one version of a class";
    "path-spelling": "/connectors;a=b", "as /connectors", "404", "not in use by any client";
    "media-type-of-errors": "requests that the HTTP layer refuses", "400 or 505 as HTML", "400, 414 or 431, mostly without a body", "nothing to say beyond the status";
    "allow": "405", "no Allow header, and no Content-Type", "both", "RFC 9110";
    "missing-type": "bodies without Content-Type", "415", "read as JSON", "some scripts send none";
};
