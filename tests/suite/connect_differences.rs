//! Every difference between Weir's answers and those of a real Connect worker, with its reason.
//! docs/connect-differences.md has the same texts: one test compares the two, another checks that each row is true.

use crate::connect_diff::Row;

pub struct Difference {
    /// As the server's own list calls it, where it does.
    pub name: &'static str,
    pub connect: &'static str,
    pub weir: &'static str,
    pub why: &'static str,
    /// Where the script sees it; none where it cannot, and the text says so.
    pub rows: &'static [Row],
}

impl Difference {
    /// On the page.
    pub fn section(&self) -> String {
        let Difference {
            name,
            connect,
            weir,
            why,
            ..
        } = self;
        format!("### {name}\n\nConnect: {connect}\n\nWeir: {weir}\n\nWhy: {why}\n")
    }
}

macro_rules! differences {
    ($($name:literal { $connect:literal, $weir:literal, $why:literal $(; $rows:expr)* })*) => {
        &[$(Difference { name: $name, connect: $connect, weir: $weir, why: $why, rows: &[$($rows),*] }),*]
    };
}

/// A body that is gone because the answer is another one.
const BODY: &str = "/body*";

pub const DIFFERENCES: &[Difference] = differences! {
    "json-faults" {
        "500 with the parser's text for malformed JSON, an empty or missing body, wrong types, unknown members, and null in place of a config.",
        "400 that says what is wrong and where.",
        "It is the client's fault, and retrying does not help; no client known waits for the 500.";
        ("create/config-* create/unknown-field create/name-object create/malformed* create/not-utf-8 create/empty-body create/no-body create/array create/string create/null create/deep-nesting", "/status /body/error_code", "500", "400");
        ("put/nested put/null put/array put/malformed put/empty-body put/no-body", "/status /body/error_code", "500", "400");
        ("patch/nested patch/null patch/array patch/malformed patch/empty-body", "/status /body/error_code", "500", "400");
        ("offsets/patch-unknown-field offsets/patch-malformed offsets/patch-empty-body offsets/patch-array offsets/patch-offsets-object offsets/patch-entry-string", "/status /body/error_code", "500", "400");
        ("loggers/malformed loggers/empty-body loggers/array", "/status /body/error_code", "500", "400")
    }
    "nested-values" {
        "500 for a config with an object or a list as a value.",
        "400 that names the key.",
        "It is the client's fault.";
        ("create/config-nested create/config-list put/nested patch/nested validate/nested", "/status /body/error_code", "500", "400")
    }
    "null-values" {
        "A config with null as a value is created and stored so; PUT the same.",
        "400 that names the key. In PATCH null removes the key, as in Connect.",
        "A key without a value means nothing to any connector, and the next PATCH would read it as a removal.";
        ("create/config-null-value put/null-value", "/status", "*", "400");
        ("create/config-null-value put/null-value", BODY, "*", "*");
        ("create/config-null-value-goes", "/status", "204", "404")
    }
    "initial-state" {
        "500 for an unknown initial_state.",
        "400 that lists the states.",
        "It is the client's fault.";
        ("create/initial-state-*", "/status /body/error_code", "500", "400")
    }
    "names" {
        "A name with `/`, `\\` or `%` is created and can then be named by no path: it can be neither read nor deleted.",
        "400 at creation.",
        "Nobody could delete it.";
        ("names/slash names/percent names/backslash", "/status", "201", "400");
        ("names/slash names/percent names/backslash names/dots names/long", BODY, "*", "*");
        ("names/percent-delete names/slash-delete", "/status", "400", "404");
        ("names/percent-delete names/slash-delete names/backslash-get", "/body* /type", "*", "*");
        ("names/backslash-get", "/status", "400", "404");
        ("names/all", BODY, "*", "*")
    }
    "name-letters" {
        "Every letter but control characters: blanks, signs, letters beyond ASCII.",
        "ASCII letters, digits, `-`, `_` and `.`.",
        "The name is part of the names of directories and log files.";
        ("create/name-with-space-and-signs create/name-with-letters-beyond-ascii create/name-number", "/status", "201", "400");
        ("create/name-with-space-and-signs* create/name-with-letters-beyond-ascii* create/name-number", "/body* /location", "*", "*");
        ("create/name-with-*-is-found", "/status", "200", "404");
        ("create/name-with-*-goes create/name-number-goes", "/status", "204", "404")
    }
    "name-length" {
        "Any length; `.` and `..` too.",
        "400 above 200 bytes, and for `.` and `..`.",
        "Names are parts of file names.";
        ("names/long names/dots", "/status", "201", "400");
        ("names/dots-delete", "/status", "204", "404");
        ("names/dots-delete", "/body* /type", "*", "*")
    }
    "patch-name" {
        "PATCH may change `name`: the stored config then names another connector than its path.",
        "400.",
        "The stored config would contradict its path.";
        ("patch/other-name", "/status", "200", "400");
        ("patch/other-name", BODY, "*", "*")
    }
    "validate-class" {
        "500 where connector.class is missing or unknown, and for a malformed body.",
        "400 with the known classes.",
        "It is the client's fault.";
        ("validate/no-class validate/empty-map validate/unknown-class validate/malformed validate/empty-body validate/array validate/string", "/status /body/error_code", "500", "400")
    }
    "validate-body" {
        "connector.class must be given.",
        "For class `weir` its default is filled in. (The script cannot ask Connect for that class.)",
        "The key has a default there."
    }
    "error-texts" {
        "`Invalid value 0 for configuration tasks.max: …` and the like: one line for each error.",
        "The same first line with the count, one line for each error, the same pointer to validate; the lines in between are in our words.",
        "Texts are for people. The script compares whether there is one, and the whole text where a client reads it.";
        ("create/tasks-max-zero", "/body/message/1", "*", "*")
    }
    "media-type-of-errors" {
        "404, 405, 406 and 415 of the HTTP layer have a JSON body but no Content-Type; 400 of its server is an HTML page or nothing; a nonsensical Content-Type is answered by a third form of body.",
        "Every error has Connect's JSON body and says that it is JSON; requests that are no HTTP are answered 400 without a body.",
        "Clients read JSON.";
        ("*", "/type", "\"none\"", "\"application/json\"");
        ("create/content-type-nonsense", "/status", "400", "415");
        ("create/content-type-nonsense", BODY, "*", "*");
        ("put/creates-control-character http/length-and-chunked", "/body* /type", "*", "*");
        ("http/no-host http/two-hosts", "/body* /type", "*", "*");
        ("http/not-http http/tls-hello http/folded-header http/space-before-colon", "/body /type", "*", "*");
        ("http/unknown-version", "/status /body /type", "*", "*")
    }
    "allow" {
        "405 does not say which methods there are.",
        "405 has the header Allow.",
        "The standard asks for it.";
        ("*", "/allow", "null", "*")
    }
    "missing-type" {
        "415 for a body without Content-Type.",
        "It is read as JSON.",
        "Some scripts send none.";
        ("create/no-content-type", "/status", "415", "201");
        ("create/no-content-type", BODY, "*", "*");
        ("create/no-content-type-goes", "/status", "404", "204")
    }
    "ignored-bodies" {
        "A body of another type is 415 even where no body is read (pause).",
        "A body that is not read is not checked.",
        "It changes nothing.";
        ("pause/text-body", "/status", "415", "202");
        ("pause/text-body", "/body* /type", "*", "*")
    }
    "accept" {
        "`Accept: application/json;q=0` gets JSON.",
        "406.",
        "The client has said that it does not want it.";
        ("http/accept-refuses-json", "/status", "200", "406");
        ("http/accept-refuses-json", BODY, "*", "*")
    }
    "double-slash" {
        "400 as HTML for `//connectors`.",
        "As `/connectors`.",
        "Clients that join a base URL ending in `/` mean that.";
        ("http/double-slash", "/status", "400", "200");
        ("http/double-slash", "/body* /type", "*", "*")
    }
    "bad-escape" {
        "400 as HTML for a torn or non-UTF-8 `%` escape.",
        "400 as JSON.",
        "Clients read JSON.";
        ("http/encoded-nonsense http/encoded-half", "/body* /type", "*", "*")
    }
    "long-names-in-paths" {
        "400 as HTML for paths with `%2F`, `%25`, `%00`, `%2e%2e`, `\\`, and for very long ones.",
        "404 as JSON: no such name can exist.",
        "One rule for all names.";
        ("http/encoded-dot-dot http/encoded-slash http/encoded-percent http/encoded-nul http/backslash http/long-path", "/status", "400", "404");
        ("http/encoded-dot-dot http/encoded-slash http/encoded-percent http/encoded-nul http/backslash http/long-path", "/body* /type", "*", "*")
    }
    "path-spelling" {
        "`/connectors;a=b` is `/connectors`; `/%63onnectors` is nothing.",
        "The other way round.",
        "Nothing is cut off a path, and an escaped letter is that letter.";
        ("http/semicolon", "/status", "200", "404");
        ("http/encoded-letters", "/status", "404", "200");
        ("http/semicolon http/encoded-letters", "/body* /type", "*", "*")
    }
    "internal" {
        "The workers' own routes (POST tasks, PUT fence): 400 without a signature, 403 with a bad one, 503 without a key.",
        "Always 403.",
        "There are no workers to sign.";
        ("http/tasks-post-unsigned http/fence-unsigned", "/status /body/error_code", "400", "403")
    }
    "cluster-id" {
        "GET / has the id of the worker's Kafka cluster.",
        "`weir`.",
        "Pipelines of one daemon may read several clusters.";
        ("service/root* kcctl/info redpanda/root* http/accept-*", "/body/kafka_cluster_id", "*", "*")
    }
    "commit" {
        "GET / has the commit of the Connect release.",
        "`weir-` and the version of Weir; `version` is that of the Connect release that is matched. (The script compares neither.)",
        "It says what answers; clients switch features by `version`."
    }
    "plugin-list" {
        "GET /connector-plugins has what lay on plugin.path at the start.",
        "The classes that are part of Weir, and the plugins as they are now; converters and predicates are no plugins here, so `connectorsOnly=false` has none of those, and their `config` is 404.",
        "Plugins are pushed while it runs.";
        ("plugins/list plugins/list-all", BODY, "*", "*");
        ("plugins/config-converter", "/status", "200", "404");
        ("plugins/config-converter", BODY, "*", "*")
    }
    "plugin-versions" {
        "400 for `?version=` of a version that is not installed.",
        "The parameter is ignored: each class has one version.",
        "Classes are part of the program.";
        ("plugins/config-unknown-version", "/status", "400", "200");
        ("plugins/config-unknown-version", BODY, "*", "*")
    }
    "keys" {
        "Keys that pick the versions of converters, and each converter's own; `file` may be missing (standard input and output); defaults come from the worker; a transform has `predicate` and `negate` only where there are predicates.",
        "No such keys, but `value.converter.schemas.enable` is one of the connector's; `file` is required; a key without a default of its own has none; `predicate` and `negate` are always shown, with the text that they are not honoured.",
        "There are no converter plugins; a daemon's standard output is its log.";
        ("validate/* redpanda/validate* plugins/config-*", "*.plugin.version/*", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*.converter.schemas.enable*", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*/required", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*/type", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*/value/value", "*", "*");
        ("validate/* redpanda/validate*", "*/default_value", "*", "*");
        ("validate/sink-only-class validate/source-only-class validate/full-class redpanda/validate*", "*/file/value/errors", "0", "1");
        ("validate/source-only-class validate/full-class", "/body/error_count", "*", "*");
        ("validate/transform-*", "*.negate/*", "-", "*");
        ("validate/transform-*", "*.predicate/*", "-", "*");
        ("validate/string-converter", "*/value.converter.converter.*", "*", "-")
    }
    "validate-errors" {
        "A contradiction of two keys is an error of both; a value of the wrong type is one error as a type and one as a value; unknown keys are ignored; null is a value.",
        "One error, at the key to change; values of keys that are kept for Connect's clients and have no effect here are not checked; unknown keys are listed without a definition; null is an error.",
        "Each error is to be read once, by a person.";
        ("validate/sink-only-class redpanda/validate*", "*/topics.regex/value/errors", "1", "0");
        ("validate/topics-and-regex", "*/topics/value/errors", "1", "0");
        ("validate/dead-letters-in-topics", "*/errors", "*", "*");
        ("validate/tasks-max-word", "*/tasks.max/value/errors", "2", "1");
        ("validate/bad-boolean", "*/errors.log.enable/value/errors", "1", "0");
        ("validate/reload-unknown", "*/config.action.reload/value/errors", "1", "0");
        ("validate/null-value", "*/file/value/errors", "0", "2");
        ("validate/tasks-max-word validate/bad-boolean validate/topics-and-regex validate/reload-unknown validate/null-value", "/body/error_count", "*", "*");
        ("validate/transform-*", "*/transforms*/value/errors", "*", "*");
        ("validate/unknown-key", "*/made.up/*", "-", "*")
    }
    "form-hints" {
        "Orders, widths and groups of keys; no recommended values but for classes.",
        "Orders count within a group, the file connectors' keys have a group, and a key with a few possible values recommends them.",
        "Forms are drawn from them.";
        ("validate/* redpanda/validate* plugins/config-*", "*/order", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*/width", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*/group", "*", "*");
        ("validate/* redpanda/validate* plugins/config-*", "*/importance", "*", "*");
        ("validate/* redpanda/validate*", "*/recommended_values*", "*", "*");
        ("validate/* redpanda/validate*", "/body/groups*", "*", "*")
    }
    "failed-connectors" {
        "When a task fails the connector stays RUNNING; only the task is FAILED, with a trace, until somebody restarts it.",
        "The connector is FAILED with its trace, and its tasks with it; it begins again by itself (restart.backoff), and a restart of what failed restarts the connector too.",
        "A user who only looks at connectors must see the failure.";
        ("failed/comes failed/fails-again failed/in-the-list", "*/connector/state", "\"RUNNING\"", "\"FAILED\"");
        ("failed/comes failed/fails-again failed/in-the-list", "*/connector/trace", "-", "*");
        // It may have failed again before it is answered.
        ("failed/restart-only-failed", "/body/*state", "*", "*");
        ("failed/restart-only-failed", "*/trace", "*", "*")
    }
    "restart-of-a-stopped" {
        "Restarting a STOPPED connector shows RESTARTING for a moment; it stays stopped.",
        "It is STOPPED throughout.",
        "Nothing restarts.";
        ("stop/restart-of-a-stopped-with-tasks", "/body/connector/state", "\"RESTARTING\"", "\"STOPPED\"")
    }
    "offsets-faults" {
        "500 for negative offsets, unknown topics and partitions, and positions that a source cannot have.",
        "400 that says which.",
        "It is the client's fault.";
        ("offsets/patch-negative offsets/patch-unknown-topic offsets/patch-unknown-partition", "/status /body/error_code", "500", "400");
        ("offsets/source-patch-wrong-* offsets/source-patch-negative offsets/source-patch-word offsets/source-patch-number-as-text", "/status /body/error_code", "500", "400")
    }
    "offsets-borders" {
        "A sink's offsets can be put anywhere, at any time while it is STOPPED.",
        "File connectors too. A pipeline (class `weir`, Confluent's storage sinks) that has read goes back to the end of a commit: 400 names the ends beside an offset inside one, and below its start it cannot go. Before its first record it begins wherever it is put. (The script compares file connectors alone.)",
        "Rows and offsets are one commit, which stays or goes as a whole."
    }
    "group" {
        "The group `connect-<name>` is Stable and has members while the sink runs; kafka-consumer-groups cannot reset it then, and Connect reads its offsets.",
        "The group is Empty and only mirrors positions: a reset of it succeeds, moves nothing, and makes tools show a false lag until the next commit. (The script does not ask the broker.)",
        "Positions are in the commit log; `source.start = group:NAME` reads a group's offsets once."
    }
    "references" {
        "`${…}` is text in any key where the worker has no provider of that name; with one, a connector may refer to whatever it can read.",
        "400 for a reference in a key that holds no secret, and for one that secrets.allow.env and secrets.allow.files do not name.",
        "A user who may change connectors must not be able to read the daemon's secrets through topics, paths and addresses.";
        ("create/reference", "/status", "201", "400");
        ("create/reference", BODY, "*", "*");
        ("create/reference-goes", "/status", "204", "404");
        ("create/reference-goes", "/body* /type", "*", "*")
    }
    "literal-secrets" {
        "A password in a config is stored and shown as it is.",
        "400: a secret must be a reference, also under a key that has no effect here. `weir check` and `weir config convert` say so as a warning. (The script has no secrets.)",
        "Configs are kept, and every reader may see them."
    }
    "converter-keys" {
        "A key of a converter that the connector does not name (`value.converter.schemas.enable` alone) is ignored: the worker's converter has its own keys.",
        "400 unless the worker says the same. (The script's workers have no such keys.)",
        "The key says that messages are read in another way than they would be."
    }
    "worker-security" {
        "Security settings of the worker hold for its own clients; those of connectors have them from `consumer.` and `producer.` only, and for whatever brokers a connector names.",
        "They hold for the clients of all connectors that talk to the worker's brokers; a connector with other brokers says itself how to talk to them, or is refused. (The script's broker has no logins.)",
        "No connector talks in plain text where the worker's file asks for more, and the worker's login is shown to no other broker."
    }
    "loggers" {
        "Loggers are objects of classes: one level set for a prefix names all below it whose level changes by that.",
        "Loggers are prefixes: the level set is named alone, and always.",
        "There are no logger objects here.";
        ("loggers/set-parent-names-children loggers/unknown-field", "/body*", "*", "*")
    }
    "task-configs" {
        "GET tasks has each task's own config with task.class.",
        "Each task has the whole config; a file connector has one task whatever tasks.max says.",
        "Partitions are assigned to tasks at run time.";
        ("get/tasks* kafbat/tasks", "*/config/*", "*", "*");
        ("resume/one-task-again", "/body/tasks/1/*", "*", "-")
    }
    "state-version" {
        "States have the `version` of the connector and of each task (since 4.1).",
        "They do not.",
        "Classes are part of the program: there is one version, in GET /connector-plugins.";
        ("*", "*/version", "\"a version\"", "-")
    }
    "cross-site" {
        "A page of another site may send a change through a browser.",
        "403 if the browser says `Sec-Fetch-Site: cross-site` and access.control.allow.origin does not list the page.",
        "No page may move pipelines behind its reader's back.";
        ("http/cross-site", "/status /body/error_code", "404", "403")
    }
    "limits" {
        "No limits of size, rate and connections.",
        "408, 413, 429, 431 and 503.",
        "Everything is bounded; every limit is a key of the worker's config.";
        ("http/many-headers", "/status", "200", "431");
        ("http/many-headers", "/body* /type", "*", "*");
        ("http/huge-body", "/status", "200", "413");
        ("http/huge-body", BODY, "*", "*");
        ("http/huge-value", "/status", "500", "413")
    }
};
