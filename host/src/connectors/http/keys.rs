//! The keys of `sink.type = "http"`, and the checks between them.

use std::sync::Arc;

use reqwest::Url;

use super::body::{BodyConfig, Form, Join};
use super::statuses::{Statuses, Verdicts};
use super::template::{Template, WHOLE};
use super::{Auth, Exhausted, HttpSinkConfig, Order, Waits};
use crate::config::keys::Default::{Derived, Is, Required, Unset};
use crate::config::keys::Group::Sink;
use crate::config::keys::Importance::{High, Low, Medium};
use crate::config::keys::{HEADERS_PREFIX as HEADERS, KeyDef, Scope, keys};
use crate::config::raw::Entry;
use crate::config::shape::Shape;
use crate::config::shape::unit::{DAY, HOUR, KIB, MIB, MINUTE, MS, SECOND, bytes, duration, int};
use crate::config::{BuiltSink, Checker, Gives, Prefixed, SinkType, Trust, problem, store_keys};
use crate::connectors::zone;

const HTTP: Scope = Scope::Sink("http");
/// No idempotency key is sent.
const NONE: &str = "none";

pub const SINK: SinkType = SinkType {
    name: "http",
    keys: KEYS,
    prefixed: Some(Prefixed {
        prefix: HEADERS,
        doc: "Headers of each request, as sink.http.headers.<name>.",
        check: header,
    }),
    leaves: &[
        "sink.table",
        "sink.keep.value",
        "sink.retention",
        "sink.rotate.bytes",
        "sink.rotate.age",
        "sink.rotate.rows",
    ],
    check,
    build,
};

const KEYS: &[KeyDef] = keys! {
    "sink.http.url": Shape::Text, Required("where each batch is sent, such as `https://api.example.com/v1/books`"), High, Sink, HTTP,
        "Where each batch is sent. May hold references; what stands behind `?` is never shown.";
    "sink.http.method": Shape::Choice(&["POST", "PUT", "PATCH"]), Is("POST"), Low, Sink, HTTP,
        "Method of each request.";
    "sink.http.body": Shape::Choice(&["json", "jsonl", "template"]), Is("json"), High, Sink, HTTP,
        "How the rows of a batch are written: one JSON array, a line of JSON for each row, or `sink.http.template.row` for each.";
    "sink.http.json.column": Shape::Field, Unset, Medium, Sink, HTTP,
        "Column whose text is JSON already: it is sent as the row. A null or text that is no JSON is refused. Not set: a row is an object of all its columns.";
    "sink.http.coordinates": Shape::Flag, Is("false"), Low, Sink, HTTP,
        "Also send `_topic`, `_partition`, `_offset`, `_row` and `_timestamp` of each row.";
    "sink.http.template.row": Shape::Text, Unset, Medium, Sink, HTTP,
        "Text of a row, with `${column}` in it: a JSON value, or escaped text where it stands inside a JSON string. `${_json}` is the row as JSON.";
    "sink.http.template.head": Shape::Text, Unset, Low, Sink, HTTP,
        "Text before the first row of a batch.";
    "sink.http.template.tail": Shape::Text, Unset, Low, Sink, HTTP,
        "Text after the last row of a batch.";
    "sink.http.template.join": Shape::Choice(&["comma", "newline", "nothing"]), Is("comma"), Low, Sink, HTTP,
        "What stands between the rows of a template; `newline`: after each row.";
    "sink.http.content.type": Shape::Text, Derived("`application/json; charset=utf-8`, and `application/x-ndjson` for `jsonl`"), Low, Sink, HTTP,
        "Header `Content-Type` of each request.";
    "sink.http.batch.rows": int(1, 100_000), Is("100"), High, Sink, HTTP,
        "Most rows of a request. A batch holds rows of one partition.";
    "sink.http.batch.bytes": bytes(KIB, 64 * MIB), Is("1MiB"), Medium, Sink, HTTP,
        "Most bytes of a request's rows. A single larger row goes alone.";
    "sink.http.in.flight": int(1, 256), Is("10"), High, Sink, HTTP,
        "Requests on their way at the same time, of all tasks of the pipeline in this process.";
    "sink.http.commit.rows": int(1, 1_000_000), Is("10000"), Medium, Sink, HTTP,
        "Send and commit after so many rows, which is looked at after each `batch.max.rows` records. A crash sends at most these again, under the same keys.";
    "sink.http.commit.age": duration(100 * MS, DAY), Is("1s"), Medium, Sink, HTTP,
        "Send and commit when the oldest row has waited so long.";
    "sink.http.tries": int(1, 1_000), Is("3"), High, Sink, HTTP,
        "How often a batch is sent before `sink.http.on.exhausted` says what comes of it.";
    "sink.http.backoff.first": duration(MS, HOUR), Is("1s"), Medium, Sink, HTTP,
        "Wait before the second try; doubles each time. Half of it is random, so that many senders do not come back at once.";
    "sink.http.backoff.max": duration(MS, HOUR), Is("8s"), Medium, Sink, HTTP,
        "Longest of these waits.";
    "sink.http.retry.after.max": duration(SECOND, DAY), Is("5m"), Low, Sink, HTTP,
        "Longest wait that the header `Retry-After` of an answer can ask for.";
    "sink.http.deadline": duration(SECOND, DAY), Is("5m"), Medium, Sink, HTTP,
        "All tries of one batch and the waits between them, without those that the API or the rate asks for; after it the tries count as used up.";
    "sink.http.timeout.connect": duration(10 * MS, 10 * MINUTE), Is("5s"), Low, Sink, HTTP,
        "Longest time to connect.";
    "sink.http.timeout.request": duration(10 * MS, HOUR), Is("30s"), Medium, Sink, HTTP,
        "Longest time of one request, from its first byte to the status of the answer.";
    "sink.http.on.exhausted": Shape::Choice(&["wait", "stop", "dead-letters"]), Is("wait"), High, Sink, HTTP,
        "What comes of a batch whose tries are used up: `wait` (say so, and try on for as long as it takes), `stop` the pipeline, or make its rows dead letters.";
    "sink.http.statuses.again": Shape::Text, Is("408,409,425,429,500-599"), Medium, Sink, HTTP,
        "Statuses after which a batch is sent again, as codes and ranges. A 409 that stays until the deadline is a refusal.";
    "sink.http.statuses.stop": Shape::Text, Is("300-399,401,403,404,405,407"), Medium, Sink, HTTP,
        "Statuses that stop the pipeline: they are about the URL or the credentials, not about the rows.";
    "sink.http.statuses.letters": Shape::Text, Unset, Low, Sink, HTTP,
        "Statuses after which the rows of a batch become dead letters. All 4xx that are in no list are such.";
    "sink.http.bisect": Shape::Flag, Is("false"), Medium, Sink, HTTP,
        "Send a refused batch again in halves, until the single rows are known that are refused. For an API that takes all of a batch or nothing.";
    "sink.http.order": Shape::Choice(&["none", "partition", "key"]), Is("none"), Medium, Sink, HTTP,
        "Which batches wait for each other: none, all of a partition, or those of a partition that share a value of `sink.http.key.column`.";
    "sink.http.key.column": Shape::Field, Unset, Medium, Sink, HTTP,
        "Column whose equal values are sent in order, with `sink.http.order = \"key\"`.";
    "sink.http.requests.per.second": int(0, 1_000_000), Is("0"), Medium, Sink, HTTP,
        "Most requests that begin in a second, of all tasks of the pipeline in this process, tries included. 0: no limit.";
    "sink.http.idempotency.header": Shape::Text, Is("Idempotency-Key"), Low, Sink, HTTP,
        "Header with the key of a batch: the same for each try, also after a restart. `none`: none is sent.";
    "sink.http.response.bytes": bytes(0, MIB), Is("2KiB"), Low, Sink, HTTP,
        "Bytes of a refusal's answer that are kept in its dead letters.";
    "sink.http.auth": Shape::Choice(&["none", "bearer", "basic", "oauth2"]), Is("none"), High, Sink, HTTP,
        "How requests are authorized; `oauth2` is a token by client credentials, fetched and renewed. Client certificates: `sink.http.tls.certificate`.";
    "sink.http.bearer.token": Shape::Text, Unset, Medium, Sink, HTTP,
        "The token, as a reference. Read again for each request.";
    "sink.http.basic.user": Shape::Text, Unset, Medium, Sink, HTTP,
        "Name of the user, for `basic`.";
    "sink.http.basic.password": Shape::Text, Unset, Medium, Sink, HTTP,
        "The password, as a reference.";
    "sink.http.oauth2.url": Shape::Text, Unset, Medium, Sink, HTTP,
        "Token endpoint, asked for a token by client credentials.";
    "sink.http.oauth2.client.id": Shape::Text, Unset, Medium, Sink, HTTP,
        "Id of the client at the token endpoint.";
    "sink.http.oauth2.client.secret": Shape::Text, Unset, Medium, Sink, HTTP,
        "Its secret, as a reference.";
    "sink.http.oauth2.scope": Shape::Text, Unset, Low, Sink, HTTP,
        "Scope that is asked for.";
    "sink.http.oauth2.audience": Shape::Text, Unset, Low, Sink, HTTP,
        "Audience that is asked for, where the token endpoint wants one.";
    "sink.http.oauth2.credentials": Shape::Choice(&["header", "body"]), Is("header"), Low, Sink, HTTP,
        "Where the token endpoint reads id and secret.";
    "sink.http.tls.ca": Shape::Path, Unset, Medium, Sink, HTTP,
        "PEM file of certificates that are trusted beside those of the system.";
    "sink.http.tls.certificate": Shape::Path, Unset, Medium, Sink, HTTP,
        "PEM file of the client's certificate, with those that signed it behind it.";
    "sink.http.tls.key": Shape::Path, Unset, Medium, Sink, HTTP,
        "PEM file of its private key (PKCS #8).";
};

/// `None` only if a problem was reported.
fn build(checker: &Checker<'_>) -> Option<BuiltSink> {
    let home = zone::home(checker)?;
    let statuses = |key| Statuses::parse(&checker.text(key).unwrap_or_default()).ok();
    let text = |key: &str| checker.raw.get(key).map(|entry| entry.value.clone());
    let headers = checker.raw.iter().filter_map(|(key, entry)| {
        let name = key.strip_prefix(HEADERS)?;
        Some((name.to_owned(), entry.value.clone()))
    });
    let header = checker.text("sink.http.idempotency.header")?;
    let config = HttpSinkConfig {
        url: text("sink.http.url")?,
        method: checker.text("sink.http.method")?,
        body: body(checker)?,
        content_type: checker.text("sink.http.content.type"),
        batch_rows: checker.size("sink.http.batch.rows")?,
        batch_bytes: checker.size("sink.http.batch.bytes")?,
        in_flight: checker.size("sink.http.in.flight")?,
        commit_rows: checker.size("sink.http.commit.rows")?,
        commit_age: checker.duration("sink.http.commit.age")?,
        waits: Waits {
            tries: checker.number("sink.http.tries")?,
            first: checker.duration("sink.http.backoff.first")?,
            max: checker.duration("sink.http.backoff.max")?,
            retry_after_max: checker.duration("sink.http.retry.after.max")?,
            deadline: checker.duration("sink.http.deadline")?,
            connect: checker.duration("sink.http.timeout.connect")?,
            request: checker.duration("sink.http.timeout.request")?,
            per_second: checker.number("sink.http.requests.per.second")?,
        },
        exhausted: match checker.text("sink.http.on.exhausted")?.as_str() {
            "stop" => Exhausted::Stop,
            "dead-letters" => Exhausted::Letters,
            _ => Exhausted::Wait,
        },
        verdicts: Verdicts {
            again: statuses("sink.http.statuses.again")?,
            stop: statuses("sink.http.statuses.stop")?,
            letters: statuses("sink.http.statuses.letters")?,
        },
        bisect: checker.is("sink.http.bisect", "true")?,
        order: match checker.text("sink.http.order")?.as_str() {
            "partition" => Order::Partition,
            "key" => Order::Key(checker.text("sink.http.key.column")?),
            _ => Order::None,
        },
        idempotency_header: Some(header).filter(|header| header != NONE),
        response_bytes: checker.size("sink.http.response.bytes")?,
        headers: headers.collect(),
        auth: auth(checker)?,
        trust: Trust::of(
            [
                "sink.http.tls.ca",
                "sink.http.tls.certificate",
                "sink.http.tls.key",
            ],
            text,
        ),
    };
    Some((home, Arc::new(config)))
}

fn body(checker: &Checker<'_>) -> Option<BodyConfig> {
    let form = match checker.text("sink.http.body")?.as_str() {
        "jsonl" => Form::Lines,
        "template" => Form::Template {
            row: Template::parse(&checker.text("sink.http.template.row")?).ok()?,
            head: checker.text("sink.http.template.head").unwrap_or_default(),
            tail: checker.text("sink.http.template.tail").unwrap_or_default(),
            join: match checker.text("sink.http.template.join")?.as_str() {
                "newline" => Join::Newline,
                "nothing" => Join::Nothing,
                _ => Join::Comma,
            },
        },
        _ => Form::Json,
    };
    Some(BodyConfig {
        form,
        json_column: checker.text("sink.http.json.column"),
        coordinates: checker.is("sink.http.coordinates", "true")?,
    })
}

fn auth(checker: &Checker<'_>) -> Option<Auth> {
    let text = |key: &str| checker.raw.get(key).map(|entry| entry.value.clone());
    Some(match checker.text("sink.http.auth")?.as_str() {
        "bearer" => Auth::Bearer(text("sink.http.bearer.token")?),
        "basic" => Auth::Basic {
            user: text("sink.http.basic.user")?,
            password: text("sink.http.basic.password")?,
        },
        "oauth2" => Auth::OAuth2 {
            url: text("sink.http.oauth2.url")?,
            id: text("sink.http.oauth2.client.id")?,
            secret: text("sink.http.oauth2.client.secret")?,
            scope: text("sink.http.oauth2.scope"),
            audience: text("sink.http.oauth2.audience"),
            in_body: checker.is("sink.http.oauth2.credentials", "body")?,
        },
        _ => Auth::None,
    })
}

fn check(checker: &mut Checker<'_>) {
    store_keys::check(checker, "sink.url");
    if checker.source.is_some_and(|s| s.gives == Gives::Rows) {
        let message =
            "`sink.type`: rows of a zone are written to a zone, in this version".to_owned();
        let hint =
            "write sink.type = \"zone\", or send the rows from the pipeline that fills the zone";
        checker.contradiction("sink.type", message, hint);
    }
    urls(checker);
    bodies(checker);
    waits(checker);
    statuses(checker);
    credentials(checker);
    key_header(checker);
}

/// The key has a header of its own.
fn key_header(checker: &mut Checker<'_>) {
    const KEY: &str = "sink.http.idempotency.header";
    let Some(name) = checker.text(KEY).filter(|name| name != NONE) else {
        return;
    };
    if !is_header(&name) {
        let message = format!("`{KEY}`: expected the name of a header, or `none`");
        checker.problem(KEY, problem::BAD_NAME, message);
        return;
    }
    let same = |other: &str| other.eq_ignore_ascii_case(&name);
    let ours = OURS.iter().any(|(ours, _)| same(ours)) || same("authorization");
    let typed = checker.raw.iter().map(|(key, _)| key);
    let twice = typed
        .filter_map(|key| Some((key, key.strip_prefix(HEADERS)?)))
        .find(|(_, other)| same(other))
        .map(|(key, _)| key.to_owned());
    if ours {
        let message = format!("`{KEY}`: `{name}` has another meaning in each request");
        checker.contradiction(KEY, message, "name a header of its own, or `none`");
    } else if let Some(other) = twice {
        let message = format!("`{KEY}` and `{other}` are one header");
        checker.contradiction(KEY, message, "take one of them out");
    }
}

fn url(checker: &mut Checker<'_>, key: &str) -> Option<Url> {
    let typed = checker.text(key)?;
    let parsed = Url::parse(&typed).ok();
    match parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
        Some(url) if url.password().is_none() && url.username().is_empty() => Some(url),
        Some(_) => {
            let message = format!("`{key}`: a login in a URL would be shown in logs");
            checker.problem(key, problem::CONTRADICTION, message).hint = Some(
                "write sink.http.auth = \"basic\", sink.http.basic.user and .password".to_owned(),
            );
            None
        }
        None => {
            let message = format!("`{key}`: expected a URL that begins with http:// or https://");
            checker.problem(key, problem::BAD_URL, message);
            None
        }
    }
}

fn urls(checker: &mut Checker<'_>) {
    let to = url(checker, "sink.http.url");
    let token = url(checker, "sink.http.oauth2.url");
    let plain = |url: &Url| url.scheme() == "http";
    if to.as_ref().is_some_and(plain) {
        for key in [
            "sink.http.tls.ca",
            "sink.http.tls.certificate",
            "sink.http.tls.key",
        ] {
            if checker.typed(key) && token.as_ref().is_none_or(plain) {
                let message = format!("`{key}` has no effect: the URL begins with http://");
                checker.contradiction(key, message, "write https://, or take the key out");
            }
        }
    }
    let open = |url: &Url| plain(url) && !is_loopback(url);
    let secret = checker
        .text("sink.http.auth")
        .is_some_and(|auth| auth != NONE);
    for (key, url) in [("sink.http.url", &to), ("sink.http.oauth2.url", &token)] {
        if secret && url.as_ref().is_some_and(open) {
            let message = format!("`{key}`: credentials would travel unencrypted");
            let problem = checker.problem(key, problem::CONTRADICTION, message);
            problem.severity = problem::Severity::Warning;
            problem.hint = Some("write https://".to_owned());
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

fn bodies(checker: &mut Checker<'_>) {
    let template = checker.is("sink.http.body", "template").unwrap_or(false);
    match checker.text("sink.http.template.row") {
        Some(row) => {
            if let Err(why) = Template::parse(&row) {
                let message = format!("`sink.http.template.row`: {why}");
                checker.problem("sink.http.template.row", problem::WRONG_TYPE, message);
            }
        }
        None if template && !checker.typed("sink.http.template.row") => {
            let message = "`sink.http.body`: a template needs `sink.http.template.row`".to_owned();
            let hint = "write sink.http.template.row = '{\"id\": ${id}}', with your columns";
            checker.contradiction("sink.http.body", message, hint);
        }
        None => {}
    }
    for part in ["row", "head", "tail", "join"] {
        let key = format!("sink.http.template.{part}");
        if !template && checker.typed(&key) {
            let message = format!("`{key}` has no effect: sink.http.body is not `template`");
            checker.contradiction(&key, message, "write sink.http.body = \"template\"");
        }
    }
    objects(checker, template);
    let by_key = checker.is("sink.http.order", "key").unwrap_or(false);
    let named = checker.typed("sink.http.key.column");
    if by_key && !named {
        let message = "`sink.http.order`: `key` needs `sink.http.key.column`".to_owned();
        checker.contradiction(
            "sink.http.order",
            message,
            "name the column whose equal values keep their order",
        );
    } else if named && !by_key {
        let message =
            "`sink.http.key.column` has no effect: sink.http.order is not `key`".to_owned();
        checker.contradiction(
            "sink.http.key.column",
            message,
            "write sink.http.order = \"key\"",
        );
    }
}

/// Keys that say what the object of a row is, where no such object is sent.
fn objects(checker: &mut Checker<'_>, template: bool) {
    let row = checker.text("sink.http.template.row").unwrap_or_default();
    let parsed = Template::parse(&row);
    let parts = template
        && parsed.is_ok_and(|template| !row.is_empty() && template.columns().all(|c| c != WHOLE));
    let text = checker.typed("sink.http.json.column");
    let coordinates = checker.is("sink.http.coordinates", "true").unwrap_or(false);
    if text && parts {
        let key = "sink.http.json.column";
        let message = format!("`{key}` has no effect: the template has no ${{_json}}");
        checker.contradiction(
            key,
            message,
            "write ${_json} into the template, or take the key out",
        );
    }
    if coordinates && (text || parts) {
        let key = "sink.http.coordinates";
        let why = match text {
            true => "the row is the text of sink.http.json.column",
            false => "the template has no ${_json}",
        };
        let message = format!("`{key}` has no effect: {why}");
        let hint =
            "name them in a template: ${_topic}, ${_partition}, ${_offset}, ${_row}, ${_timestamp}";
        checker.contradiction(key, message, hint);
    }
}

fn waits(checker: &mut Checker<'_>) {
    let pairs = [
        (
            "sink.http.backoff.first",
            "sink.http.backoff.max",
            "lower the first wait",
        ),
        (
            "sink.http.timeout.request",
            "sink.http.deadline",
            "raise the deadline",
        ),
    ];
    for (first, second, hint) in pairs {
        let (a, b) = (checker.duration(first), checker.duration(second));
        if a.zip(b).is_some_and(|(a, b)| a > b) {
            let message = format!("`{first}` is longer than `{second}`");
            checker.contradiction(first, message, hint);
        }
    }
}

fn statuses(checker: &mut Checker<'_>) {
    let lists = ["again", "stop", "letters"].map(|list| format!("sink.http.statuses.{list}"));
    let mut parsed = Vec::new();
    for key in &lists {
        match Statuses::parse(&checker.text(key).unwrap_or_default()) {
            Ok(statuses) => parsed.push((key, statuses)),
            Err(why) => {
                let message = format!("`{key}`: {why}");
                checker.problem(key, problem::OUT_OF_RANGE, message);
            }
        }
    }
    for (at, (key, statuses)) in parsed.iter().enumerate() {
        let shared = parsed[..at]
            .iter()
            .find_map(|(other, of)| Some((other, statuses.shared(of)?)));
        if let Some((other, status)) = shared {
            let message = format!("`{key}` and `{other}` both have {status}");
            checker.contradiction(key, message, "a status has one meaning");
        }
    }
}

fn credentials(checker: &mut Checker<'_>) {
    const OF: &[(&str, &[&str], &[&str])] = &[
        ("bearer", &["sink.http.bearer.token"], &[]),
        (
            "basic",
            &["sink.http.basic.user", "sink.http.basic.password"],
            &[],
        ),
        (
            "oauth2",
            &[
                "sink.http.oauth2.url",
                "sink.http.oauth2.client.id",
                "sink.http.oauth2.client.secret",
            ],
            &[
                "sink.http.oauth2.scope",
                "sink.http.oauth2.audience",
                "sink.http.oauth2.credentials",
            ],
        ),
    ];
    let Some(auth) = checker.text("sink.http.auth") else {
        return;
    };
    for (kind, needs, may) in OF {
        for key in *needs {
            if *kind == auth && !checker.typed(key) {
                let message = format!("`sink.http.auth`: `{kind}` needs `{key}`");
                checker.contradiction("sink.http.auth", message, "add the key");
            }
        }
        for key in needs.iter().chain(*may) {
            if *kind != auth && checker.typed(key) {
                let message = format!("`{key}` has no effect: sink.http.auth is `{auth}`");
                let hint = format!("write sink.http.auth = \"{kind}\", or take the key out");
                checker.contradiction(key, message, &hint);
            }
        }
    }
    let pair = ["sink.http.tls.certificate", "sink.http.tls.key"];
    if checker.typed(pair[0]) != checker.typed(pair[1]) {
        let given = pair[usize::from(checker.typed(pair[1]))];
        let message = format!("`{given}`: a client certificate is two files");
        checker.contradiction(
            given,
            message,
            "give sink.http.tls.certificate and sink.http.tls.key",
        );
    }
}

/// Headers that every request has, and how their values come about.
const OURS: &[(&str, &str)] = &[
    ("host", "it follows from sink.http.url"),
    ("content-length", "it follows from the body"),
    ("transfer-encoding", "it follows from the body"),
    ("connection", "connections are kept by themselves"),
    ("content-type", "write sink.http.content.type"),
];

/// `sink.http.headers.<name>`.
fn header(checker: &mut Checker<'_>, key: &str, name: &str, entry: &Entry) {
    if !is_header(name) {
        let message = format!("`{key}`: `{name}` cannot be the name of a header");
        checker.problem(key, problem::BAD_NAME, message);
        return;
    }
    let lower = name.to_ascii_lowercase();
    if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == lower) {
        let message = format!("`{name}` is decided by the host, not by the config");
        checker.problem(key, problem::OWNED_PROPERTY, message).hint = Some((*why).to_owned());
        return;
    }
    let authorized = checker
        .text("sink.http.auth")
        .is_some_and(|auth| auth != NONE);
    if lower == "authorization" && authorized {
        let message = format!("`{key}` and `sink.http.auth` both say how requests are authorized");
        checker.contradiction(key, message, "take one of them out");
    }
    match entry.value.resolve() {
        Ok(value) if value.chars().all(|c| c == '\t' || !c.is_control()) => {}
        Ok(_) => {
            let message =
                format!("`{key}`: a header's value has no line breaks or control characters");
            checker.problem(key, problem::WRONG_TYPE, message);
        }
        Err(error) => {
            let message = format!("`{key}`: {}", error.message());
            let hint = error.hint_text().map(str::to_owned);
            checker.problem(key, problem::UNRESOLVED, message).hint = hint;
        }
    }
}

fn is_header(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(legal)
}
