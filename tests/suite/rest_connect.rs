//! Every route of Kafka Connect: codes, shapes, order of fields, quirks, and the deliberate differences.

use serde_json::json;

use crate::rest_rig::{Reply, Rig};

fn is(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.text());
}

#[test]
fn the_worker_says_what_it_is_and_how() {
    let rig = Rig::new(&[]);
    let reply = rig.get("/");
    is(&reply, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(
        reply
            .text()
            .starts_with("{\"version\":\"4.1.1\",\"commit\":\"weir-"),
        "{}",
        reply.text()
    );
    let health = rig.get("/health");
    is(&health, 200);
    assert_eq!(
        health.text(),
        "{\"status\":\"healthy\",\"message\":\"Worker has completed startup and is ready to handle requests.\"}"
    );
    for probe in ["/livez", "/readyz"] {
        is(&rig.get(probe), 200);
    }
    let metrics = rig.get("/metrics");
    is(&metrics, 200);
    let kind = metrics.header("content-type");
    assert!(kind.is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
}

#[test]
fn a_config_comes_back_as_it_was_given() {
    let rig = Rig::new(&[]);
    let mut config = rig.config("a b:c+d");
    config["tasks.max"] = json!(1);
    config["watch"] = json!(false);
    let body = json!({ "name": "  a b:c+d ", "config": config, "initial_state": "Stopped" });
    let reply = rig.send("POST", "/connectors/", &body);
    is(&reply, 400);
    // The pipeline's own rule for names is stricter than the route's.
    assert!(reply.message().contains("name"), "{}", reply.text());

    let mut config = rig.config("orders");
    config["tasks.max"] = json!(1);
    config["watch"] = json!(false);
    let body = json!({ "name": "  orders ", "config": config, "initial_state": "Stopped" });
    let reply = rig.send("POST", "/connectors/", &body);
    is(&reply, 201);
    assert_eq!(
        reply.header("location"),
        Some("http://localhost:8083/connectors/orders")
    );
    let mut want = config.clone();
    want["tasks.max"] = json!("1");
    want["watch"] = json!("false");
    want["name"] = json!("orders");
    let order = [
        "{\"name\":\"orders\",\"config\":{",
        "},\"tasks\":[],\"type\":\"sink\"}",
    ];
    for piece in order {
        assert!(reply.text().contains(piece), "{piece}: {}", reply.text());
    }
    assert_eq!(reply.json()["config"], want);
    assert_eq!(rig.get("//connectors/orders/config/").json(), want);
    assert_eq!(rig.get("/connectors/%6frders").json()["config"], want);
    assert_eq!(rig.get("/connectors").json(), json!(["orders"]));

    let again = rig.send("POST", "/connectors", &body);
    is(&again, 409);
    assert_eq!(again.message(), "Connector orders already exists");

    // PUT replaces as a whole, PATCH changes single keys.
    let put = rig.send("PUT", "/connectors/orders/config", &rig.config("orders"));
    is(&put, 200);
    assert!(put.json()["config"].get("watch").is_none());
    let patch = json!({ "watch": true, "trigger": null });
    let reply = rig.send("PATCH", "/connectors/orders/config", &patch);
    is(&reply, 200);
    assert_eq!(reply.json()["config"]["watch"], "true");
    assert!(reply.json()["config"].get("trigger").is_none());
    let other = rig.send(
        "PATCH",
        "/connectors/orders/config",
        &json!({ "name": "x" }),
    );
    is(&other, 400);
    let created = rig.send("PUT", "/connectors/second/config", &rig.config("second"));
    is(&created, 201);
    assert!(
        created
            .header("location")
            .is_some_and(|l| l.ends_with("/connectors/second"))
    );
    is(&rig.bare("DELETE", "/connectors/second/"), 204);
    let gone = rig.get("/connectors/second/status");
    is(&gone, 404);
    assert_eq!(gone.message(), "No status found for connector second");
}

#[test]
fn states_change_as_told_and_the_codes_are_connects() {
    let rig = Rig::new(&[]);
    rig.stopped("p");
    let status = rig.get("/connectors/p/status");
    let text = status.text();
    assert!(
        text.starts_with(
            "{\"name\":\"p\",\"connector\":{\"state\":\"STOPPED\",\"worker_id\":\"127.0.0.1:"
        ),
        "{text}"
    );
    assert!(text.ends_with("\"tasks\":[],\"type\":\"sink\"}"), "{text}");
    for _ in 0..2 {
        is(&rig.bare("PUT", "/connectors/p/pause"), 202);
    }
    is(&rig.bare("PUT", "/connectors/p/stop/"), 204);
    is(&rig.bare("POST", "/connectors/p/restart"), 204);
    let restart = rig.bare(
        "POST",
        "/connectors/p/restart?includeTasks=True&onlyFailed=maybe",
    );
    is(&restart, 202);
    assert_eq!(restart.json()["name"], "p");
    is(
        &rig.bare("POST", "/connectors/p/restart?includeTasks=yes"),
        204,
    );
    is(&rig.bare("POST", "/connectors/p/tasks/0/restart"), 409);
    is(&rig.get("/connectors/p/tasks/0/status"), 404);
    is(&rig.get("/connectors/p/tasks/x/status"), 404);
    assert_eq!(rig.get("/connectors/p/tasks").json(), json!([]));
    assert_eq!(
        rig.get("/connectors/p/topics").json(),
        json!({ "p": { "topics": [] } })
    );
    is(&rig.bare("PUT", "/connectors/p/topics/reset"), 202);
    is(&rig.bare("PUT", "/connectors/p/resume"), 202);

    let both = rig
        .get("/connectors?expand=status&expand=info&expand=nonsense")
        .json();
    assert_eq!(both["p"]["info"]["name"], "p");
    assert_eq!(both["p"]["status"]["type"], "sink");
    let status = rig.get("/connectors?expand=status").json();
    assert!(status["p"].get("info").is_none() && status["p"].get("status").is_some());
    assert_eq!(
        rig.get("/connectors?expand=nonsense").json(),
        json!({ "p": {} })
    );

    is(&rig.bare("POST", "/connectors/p/tasks"), 403);
    is(&rig.bare("PUT", "/connectors/p/fence"), 403);
}

#[test]
fn what_is_unknown_is_404_in_connects_words() {
    let rig = Rig::new(&[]);
    let config = json!({ "a": "b" });
    for (method, path, message) in [
        ("GET", "/connectors/no", "Connector no not found"),
        ("DELETE", "/connectors/no", "Connector no not found"),
        ("GET", "/connectors/no/config", "Connector no not found"),
        ("PATCH", "/connectors/no/config", "Connector no not found"),
        (
            "GET",
            "/connectors/no/status",
            "No status found for connector no",
        ),
        ("GET", "/connectors/no/tasks", "Connector no not found"),
        (
            "GET",
            "/connectors/no/tasks/7/status",
            "No status found for task no-7",
        ),
        (
            "POST",
            "/connectors/no/tasks/7/restart",
            "Unknown connector: no",
        ),
        ("POST", "/connectors/no/restart", "Unknown connector: no"),
        ("PUT", "/connectors/no/pause", "Unknown connector no"),
        ("PUT", "/connectors/no/resume", "Unknown connector no"),
        ("PUT", "/connectors/no/stop", "Unknown connector no"),
        ("GET", "/connectors/no/offsets", "Connector no not found"),
        ("DELETE", "/connectors/no/offsets", "Connector no not found"),
        ("GET", "/connectors/no/tasks-config", "HTTP 404 Not Found"),
        ("GET", "/nowhere", "HTTP 404 Not Found"),
        ("GET", "/admin/loggers/no", "Logger no not found."),
    ] {
        let reply = match method {
            "PATCH" => rig.send(method, path, &config),
            _ => rig.bare(method, path),
        };
        is(&reply, 404);
        assert_eq!(reply.message(), message, "{method} {path}");
    }
    assert_eq!(
        rig.get("/connectors/no/topics").json(),
        json!({ "no": { "topics": [] } })
    );
    is(&rig.bare("PUT", "/connectors/no/topics/reset"), 202);
    is(&rig.get("/connector-plugins/no/config"), 404);
}

#[test]
fn wrong_requests_are_told_what_is_wrong() {
    let rig = Rig::new(&[]);
    let json_kind = [("Content-Type", "application/json")];
    let good = rig.config("x").to_string();
    let create = |members: &str| format!("{{{members}}}");
    let cases: Vec<(&str, &str, String, u16, &str)> = vec![
        ("POST", "/connectors", "{".into(), 400, "not JSON"),
        ("POST", "/connectors", " ".into(), 400, "no body"),
        ("POST", "/connectors", "[]".into(), 400, "an array"),
        (
            "POST",
            "/connectors",
            create("\"name\":\"x\""),
            400,
            "no `config`",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":{},\"config\":{}"),
            400,
            "an object",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"x\",\"config\":null"),
            400,
            "null",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"x\",\"config\":{},\"n\":1"),
            400,
            "unknown member \"n\"",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\" \",\"config\":{}"),
            400,
            "String may not be empty",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"a/b\",\"config\":{}"),
            400,
            "'/'",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"a%b\",\"config\":{}"),
            400,
            "'%'",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"a\\u0007b\",\"config\":{}"),
            400,
            "control characters",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"..\",\"config\":{}"),
            400,
            "`..`",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"x\",\"config\":{\"name\":\"y\"}"),
            400,
            "Connector name configuration (y) doesn't match connector name in the URL (x)",
        ),
        (
            "POST",
            "/connectors",
            format!("{{\"name\":\"x\",\"config\":{good},\"initial_state\":\"UP\"}}"),
            400,
            "RUNNING, PAUSED or STOPPED",
        ),
        (
            "POST",
            "/connectors",
            create("\"name\":\"x\",\"config\":{\"a\":null}"),
            400,
            "contains the following 1 error(s):\na: Null value can not be supplied as the configuration value.\nYou can also find",
        ),
        (
            "PUT",
            "/connectors/x/config",
            create("\"a\":{\"b\":1}"),
            400,
            "\"a\" is an object",
        ),
        (
            "PUT",
            "/connectors/x/config",
            create("\"a\":[1]"),
            400,
            "\"a\" is an array",
        ),
        ("PUT", "/connectors/a%2Fb/config", "{}".into(), 400, "'/'"),
        (
            "PUT",
            "/connectors/a%0Ab/config",
            "{}".into(),
            400,
            "control characters",
        ),
        (
            "PUT",
            "/connectors/x/config",
            create("\"connector.class\":\"weir\",\"source.type\":\"zone\""),
            400,
            "Connector configuration is invalid and contains the following ",
        ),
        (
            "PUT",
            "/admin/loggers/root",
            "{}".into(),
            400,
            "Desired 'level' parameter was not specified in request.",
        ),
        (
            "PUT",
            "/admin/loggers/root",
            create("\"level\":\"LOUD\""),
            404,
            "LOUD",
        ),
        (
            "PATCH",
            "/connectors/x/offsets",
            create("\"offsets\":[]"),
            400,
            "need to be provided",
        ),
        (
            "PATCH",
            "/connectors/x/offsets",
            "{}".into(),
            400,
            "need to be provided",
        ),
        (
            "PATCH",
            "/connectors/x/offsets",
            create("\"offsets\":[{\"offset\":null}]"),
            400,
            "partition",
        ),
        (
            "PATCH",
            "/connectors/x/offsets",
            create("\"offsets\":{}"),
            400,
            "an object",
        ),
    ];
    for (method, path, body, status, says) in cases {
        let reply = rig.ask(method, path, &json_kind, body.as_bytes());
        assert_eq!(
            reply.status,
            status,
            "{method} {path} {body}: {}",
            reply.text()
        );
        assert!(
            reply.message().contains(says),
            "{body}: {}",
            reply.message()
        );
    }
    assert_eq!(
        rig.get("/connectors").json(),
        json!([]),
        "nothing came of them"
    );
    let invalid = rig.send(
        "PUT",
        "/connectors/x/config",
        &json!({ "connector.class": "weir", "source.type": "zone" }),
    );
    let message = invalid.message();
    let first = message.lines().next().unwrap_or_default();
    let count: usize = first
        .split(' ')
        .find_map(|word| word.parse().ok())
        .expect("a count");
    assert_eq!(
        message.lines().count(),
        count + 2,
        "one line each: {message}"
    );
    assert!(message.contains("\nsink.url: "), "{message}");
}

#[test]
fn methods_and_media_types() {
    let rig = Rig::new(&[]);
    let wrong = rig.bare("POST", "/connectors/x/status");
    is(&wrong, 405);
    assert_eq!(wrong.message(), "HTTP 405 Method Not Allowed");
    assert_eq!(wrong.header("allow"), Some("GET,HEAD,OPTIONS"));
    is(&rig.bare("BREW", "/connectors"), 405);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let reply = rig.ask("POST", "/connectors", &form, b"{}");
    is(&reply, 415);
    assert_eq!(reply.message(), "HTTP 415 Unsupported Media Type");
    let charset = [("Content-Type", "Application/JSON; charset=UTF-8")];
    is(&rig.ask("POST", "/connectors", &charset, b"{}"), 400);
    let xml = rig.ask("GET", "/connectors", &[("Accept", "application/xml")], b"");
    is(&xml, 406);
    assert_eq!(xml.message(), "HTTP 406 Not Acceptable");
    for accept in [
        "*/*",
        "application/json",
        "text/html, application/*;q=0.8",
        "",
    ] {
        is(
            &rig.ask("GET", "/connectors", &[("Accept", accept)], b""),
            200,
        );
    }
    let odd = [("Content-Type", "application/json"), ("Authorization", "")];
    is(&rig.ask("GET", "/connectors", &odd, b""), 200);
    let options = rig.bare("OPTIONS", "/connectors/x");
    is(&options, 200);
    assert_eq!(options.header("allow"), Some("GET,HEAD,DELETE,OPTIONS"));
}

#[test]
fn positions_are_listed_and_moved_only_while_stopped() {
    let rig = Rig::new(&[]);
    rig.stopped("p");
    assert_eq!(
        rig.get("/connectors/p/offsets").json(),
        json!({ "offsets": [] })
    );
    is(&rig.bare("PUT", "/connectors/p/pause"), 202);
    let one = json!({ "offsets": [{ "partition": { "kafka_topic": "t", "kafka_partition": 0 }, "offset": null }] });
    let reply = rig.send("PATCH", "/connectors/p/offsets", &one);
    is(&reply, 400);
    is(&rig.bare("DELETE", "/connectors/p/offsets"), 400);
}

#[test]
fn a_class_of_connects_runs_under_its_own_name() {
    let rig = Rig::new(&[("bootstrap.servers", "localhost:1")]);
    let (from, to) = (rig.dir.path().join("in.txt"), "lines");
    std::fs::write(&from, "one\n").expect("a file");
    let config =
        json!({ "connector.class": "FileStreamSource", "file": from, "topic": to, "tasks.max": 1 });
    let body = json!({ "name": 12, "config": config, "initial_state": "paused" });
    let reply = rig.send("POST", "/connectors", &body);
    is(&reply, 201);
    assert_eq!(reply.json()["type"], "source");
    assert_eq!(reply.json()["config"]["tasks.max"], "1");
    assert_eq!(rig.get("/connectors/12").json(), reply.json());
}

/// As kcctl's dry run asks: under a name that nobody means, of a connector that is there.
#[test]
fn a_config_is_not_wrong_because_somebody_has_its_file() {
    let rig = Rig::new(&[("bootstrap.servers", "127.0.0.1:1")]);
    let config = json!({
        "connector.class": "FileStreamSink", "topics": "t",
        "file": rig.dir.path().join("out").display().to_string(),
    });
    let body = json!({ "name": "there", "initial_state": "STOPPED", "config": config });
    is(&rig.send("POST", "/connectors", &body), 201);
    let mut asked = config.clone();
    asked["name"] = json!("dummy-name");
    let path = "/connector-plugins/FileStreamSink/config/validate";
    let reply = rig.send("PUT", path, &asked);
    is(&reply, 200);
    assert_eq!(reply.json()["error_count"], 0, "{}", reply.text());
    // Creating it is another matter.
    let body = json!({ "name": "other", "initial_state": "STOPPED", "config": config });
    let reply = rig.send("POST", "/connectors", &body);
    is(&reply, 400);
    assert!(
        reply.message().contains("is written by the connector"),
        "{}",
        reply.text()
    );
}

#[test]
fn what_a_connector_is_and_is_called_must_be_said() {
    let rig = Rig::new(&[]);
    let none = rig.send(
        "POST",
        "/connectors",
        &json!({ "name": "x", "config": { "topics": "t" } }),
    );
    is(&none, 400);
    assert!(
        none.message().starts_with("Connector config {")
            && none.message().contains("contains no connector type"),
        "{}",
        none.text()
    );
    let none = rig.send("PUT", "/connectors/x/config", &json!({}));
    is(&none, 400);
    assert!(
        none.message().contains("contains no connector type"),
        "{}",
        none.text()
    );
    let inside = rig.send("POST", "/connectors", &json!({ "config": rig.config("x") }));
    is(&inside, 400);
    let mut config = rig.config("x");
    config["name"] = json!("x");
    let inside = rig.send("POST", "/connectors", &json!({ "config": config }));
    is(&inside, 400);
    assert_eq!(
        inside.message(),
        "Connector name configuration (x) doesn't match connector name in the URL ()"
    );
    assert_eq!(rig.get("/connectors").json(), json!([]));
}
