//! The answers from which web consoles make forms: the list of classes and plugins, all keys, validation; and the
//! document of all routes.

use serde_json::{Value, json};

use crate::rest_rig::{Reply, Rig};

fn texts(value: &Value) -> Vec<&str> {
    let all = value.as_array().expect("an array").iter();
    all.map(|one| one.as_str().expect("a string")).collect()
}

fn is(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.text());
}

#[test]
fn plugins_are_listed_with_all_their_keys() {
    let rig = Rig::new(&[]);
    std::fs::write(rig.dir.path().join("plugins/loose.wasm"), b"no component").expect("written");
    let sinks = rig.get("/connector-plugins").json();
    let of = |list: &Value, class: &str| {
        let all = list.as_array().expect("an array").iter();
        all.filter(|one| one["class"] == class)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&sinks, "weir")[0]["type"], "sink");
    let file = "org.apache.kafka.connect.file.FileStreamSourceConnector";
    assert_eq!(of(&sinks, file)[0]["type"], "source");
    assert!(of(&sinks, "loose").is_empty());
    let all = rig.get("/connector-plugins/?connectorsOnly=False").json();
    assert_eq!(
        of(&all, "loose"),
        [json!({ "class": "loose", "type": "transformation" })]
    );
    for plugin in [
        "weir",
        file,
        "FileStreamSource",
        "FileStreamSourceConnector",
    ] {
        let keys = rig.get(&format!("/connector-plugins/{plugin}/config"));
        is(&keys, 200);
        let name = &keys.json()[0]["name"];
        assert!(name.is_string(), "{plugin}: {name}");
    }
    let text = rig.get("/connector-plugins/weir/config").text();
    let order = [
        "name",
        "type",
        "required",
        "default_value",
        "importance",
        "documentation",
        "group",
        "width",
        "display_name",
        "dependents",
        "order",
    ];
    let mut at = 0;
    for field in order {
        let found = text[at..].find(&format!("\"{field}\":"));
        at += found.unwrap_or_else(|| panic!("{field} in its place: {text}"));
    }
}

#[test]
fn validation_answers_with_every_key_and_its_errors() {
    let rig = Rig::new(&[]);
    let put = |plugin: &str, body: &Value| {
        rig.send(
            "PUT",
            &format!("/connector-plugins/{plugin}/config/validate"),
            body,
        )
    };
    let empty = put("weir", &json!({}));
    is(&empty, 200);
    let empty = empty.json();
    assert_eq!(empty["name"], "weir");
    let configs = empty["configs"].as_array().expect("configs").clone();
    let one = |configs: &[Value], name: &str| {
        let found = configs.iter().find(|c| c["value"]["name"] == name);
        found
            .unwrap_or_else(|| panic!("{name}: {configs:?}"))
            .clone()
    };
    let url = one(&configs, "sink.url");
    assert_eq!(url["definition"]["required"], true);
    assert!(!texts(&url["value"]["errors"]).is_empty(), "{url}");
    assert_eq!(one(&configs, "tasks.max")["value"]["value"], "1");
    assert_eq!(
        one(&configs, "errors.tolerance")["value"]["recommended_values"],
        json!(["none", "all"])
    );
    let sum: usize = configs
        .iter()
        .map(|c| texts(&c["value"]["errors"]).len())
        .sum();
    assert_eq!(empty["error_count"], sum);
    assert!(
        texts(&empty["groups"]).contains(&"Sink"),
        "{}",
        empty["groups"]
    );
    for config in &configs {
        assert_eq!(config["value"]["visible"], true);
        if config["definition"].is_object() {
            assert_eq!(config["definition"]["dependents"], json!([]));
        }
    }

    let mut good = rig.config("v");
    good["name"] = json!("v");
    let answer = put("weir", &good);
    is(&answer, 200);
    assert_eq!(answer.json()["error_count"], 0, "{}", answer.text());
    assert_eq!(rig.get("/connectors").json(), json!([]), "nothing was kept");

    good["sink.urk"] = json!("x");
    good["watch"] = Value::Null;
    let answer = put("weir", &good).json();
    let configs = answer["configs"].as_array().expect("configs");
    let unknown = one(configs, "sink.urk");
    assert!(unknown["definition"].is_null());
    assert!(
        texts(&unknown["value"]["errors"])[0].contains("sink.url"),
        "{unknown}"
    );
    assert!(texts(&one(configs, "watch")["value"]["errors"])[0].contains("Null value"));

    let mismatch = put("FileStreamSink", &json!({ "connector.class": "weir" }));
    is(&mismatch, 400);
    let message = "Included connector type weir does not match request type FileStreamSink";
    assert_eq!(mismatch.message(), message);
    is(&put("FileStreamSink", &json!({})), 400);
    let nothing = put("Nothing", &json!({ "connector.class": "Nothing" }));
    is(&nothing, 400);
    assert!(
        nothing
            .message()
            .starts_with("Failed to find any class that implements Connector")
    );
    let alias = json!({ "connector.class": "FileStreamSink", "topics": "a", "name": "f", "file": "/tmp/f" });
    is(
        &put(
            "org.apache.kafka.connect.file.FileStreamSinkConnector",
            &alias,
        ),
        200,
    );
    is(&rig.get("/connector-plugins/weir/config/validate"), 405);
}

#[test]
fn a_transforms_own_keys_are_part_of_the_form() {
    let plugins = crate::check::root()
        .join("target/plugins")
        .display()
        .to_string();
    let rig = Rig::new(&[("plugin.path", &plugins)]);
    let keys = rig.get("/connector-plugins/xml-flatten/config");
    is(&keys, 200);
    let first = keys.json()[0]["name"].as_str().expect("a key").to_owned();
    let body = json!({ "transforms": "x", "transforms.x.type": "xml-flatten" });
    let answer = rig
        .send("PUT", "/connector-plugins/weir/config/validate", &body)
        .json();
    let name = format!("transforms.x.{first}");
    let configs = answer["configs"].as_array().expect("configs");
    let own = configs.iter().find(|c| c["value"]["name"] == name.as_str());
    let own = own.unwrap_or_else(|| panic!("{name}: {answer}"));
    assert_eq!(own["definition"]["group"], "Transforms: x");
    assert!(texts(&answer["groups"]).contains(&"Transforms: x"));
}

#[test]
fn what_a_reference_stands_for_is_in_no_error() {
    let rig = Rig::new(&[]);
    let file = rig.dir.path().join("secrets.properties");
    std::fs::write(&file, "token=_t0ps3cret\nbare=t0ps3cret\n").expect("secrets");
    let of = |key: &str| format!("${{file:{}:{key}}}", file.display());
    for (table, letters) in [(of("bare"), of("bare")), ("rows".to_owned(), of("token"))] {
        let mut config = rig.config("p");
        config["sink.table"] = json!(table);
        config["errors.dlq.table"] = json!(letters);
        let body = json!({ "name": "p", "config": config });
        for reply in [
            rig.send(
                "PUT",
                "/connector-plugins/weir/config/validate",
                &body["config"],
            ),
            rig.send("POST", "/connectors", &body),
        ] {
            assert!(!reply.text().contains("t0ps3cret"), "{}", reply.text());
        }
        let _made_or_not = rig.bare("DELETE", "/connectors/p");
    }
    // Nor is a file read that nobody allowed, whatever it is.
    let mut config = rig.config("p");
    config["sink.table"] = json!("${file:/dev/zero:key}");
    let reply = rig.send(
        "POST",
        "/connectors",
        &json!({ "name": "p", "config": config }),
    );
    assert!(
        reply.status == 400 && reply.text().contains("no reference may stand here"),
        "{}",
        reply.text()
    );
}

#[test]
fn two_sinks_of_one_file_are_refused() {
    let rig = Rig::new(&[("bootstrap.servers", "127.0.0.1:1")]);
    let sink = |name: &str, file: &str| {
        let path = rig.dir.path().join(file).display().to_string();
        json!({ "name": name, "initial_state": "STOPPED", "config": {
            "connector.class": "FileStreamSink", "topics": "t", "file": path,
        } })
    };
    assert_eq!(
        rig.send("POST", "/connectors", &sink("a", "out.txt"))
            .status,
        201
    );
    let refused = rig.send("POST", "/connectors", &sink("b", "out.txt"));
    assert_eq!(refused.status, 400);
    assert!(
        refused.text().contains("written by the connector `a`"),
        "{}",
        refused.text()
    );
    assert_eq!(
        rig.send("POST", "/connectors", &sink("b", "other.txt"))
            .status,
        201
    );
}

#[test]
fn the_document_describes_every_route_and_resolves() {
    let rig = Rig::new(&[]);
    let document = rig.get("/openapi.json").json();
    assert_eq!(document, weir::http::openapi());
    let schemas = document["components"]["schemas"]
        .as_object()
        .expect("schemas");
    let mut todo = vec![&document];
    while let Some(value) = todo.pop() {
        match value {
            Value::Object(map) => {
                if let Some(to) = map.get("$ref").and_then(Value::as_str) {
                    let name = to.trim_start_matches("#/components/schemas/");
                    assert!(schemas.contains_key(name), "{to}");
                }
                todo.extend(map.values());
            }
            Value::Array(all) => todo.extend(all),
            _ => {}
        }
    }
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for (method, _) in operations.as_object().expect("operations") {
            let reply = rig.bare(&method.to_ascii_uppercase(), &path.replace(['{', '}'], ""));
            let described = &operations[method]["responses"][reply.status.to_string()];
            assert!(described.is_object(), "{method} {path}: {}", reply.text());
        }
    }
}

#[test]
fn without_locks_only_names_of_this_machine_are_answered() {
    let rig = Rig::new(&[("rest.advertised", "weir-1.example.com:8083")]);
    let under = |host: &str| {
        let head = format!("GET /connectors HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        rig.raw(head.as_bytes()).status
    };
    for own in [
        "localhost",
        "127.0.0.1:8083",
        "[::1]:8083",
        "Weir-1.example.com:1",
    ] {
        assert_eq!(under(own), 200, "{own}");
    }
    for other in [
        "evil.example:8083",
        "127.0.0.1.evil.example",
        "10.0.0.1:8083",
    ] {
        assert_eq!(under(other), 403, "{other}");
    }
}
