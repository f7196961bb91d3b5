//! A file that is no pipeline's config gives one plain sentence, at every verb that takes one. All problems of a
//! config, from host and plugins, are reported at once.

use std::fs;

use serde_json::json;

use crate::check::root;
use crate::lake::{Lake, Said};
use crate::rest_rig::Rig;
use crate::world::plugins_dir;

/// Each verb that reads a pipeline's config.
const VERBS: &[&[&str]] = &[
    &["check"],
    &["run"],
    &["config", "convert"],
    &["pipeline", "create", "--url", "http://127.0.0.1:9"],
];

/// One error, with this sentence, from every verb.
fn everywhere(lake: &Lake, file: &str, sentence: &str) {
    for verb in VERBS {
        let (name, flags) = verb.split_at(verb.len().min(2));
        let said = lake.weir(&[name, &[file], flags].concat());
        assert_eq!(said.code, Some(2), "{verb:?} {file}: {}", said.err);
        let said = said.err;
        assert!(
            said.contains(sentence),
            "{verb:?} {file}: {sentence} in {said}"
        );
        assert_eq!(said.matches("error[").count(), 1, "{verb:?} {file}: {said}");
    }
}

#[test]
fn what_is_no_config_is_said_in_one_sentence() {
    let lake = Lake::new("columns = [\"id\"]");
    let put = |name: &str, bytes: &[u8]| fs::write(lake.path(name), bytes).unwrap();
    fs::create_dir_all(lake.path("conf")).unwrap();
    fs::create_dir_all(lake.path("zone/_system")).unwrap();
    put("empty.toml", b"# nothing\n");
    put("binary.toml", &[1, 0, 2]);
    put("plugin.wasm", b"\0asm\x0d\0\x01\0");
    put("rows.parquet", b"PAR1");
    put("latin.toml", b"name = \"\xe9\"");
    let yaml = "apiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaTopic\n";
    put("strimzi.yaml", yaml.as_bytes());
    put("unnamed", yaml.as_bytes());
    put("other.yml", b"- a\n");
    for shipped in ["conf/worker.toml", "conf/rules/books.toml"] {
        let name = shipped.rsplit('/').next().unwrap();
        fs::copy(root().join(shipped), lake.path(name)).unwrap();
    }
    for (file, sentence) in [
        ("absent.toml", "absent.toml: there is no such file"),
        ("conf", "conf is a directory, not a config file"),
        ("zone", "zone is a zone, not a config file"),
        ("file:zone", "file:zone is a URL, not a config file"),
        ("empty.toml", "empty.toml is empty"),
        (
            "binary.toml",
            "binary.toml: it is a binary file, not a config",
        ),
        (
            "plugin.wasm",
            "plugin.wasm is a plugin (WebAssembly), not a config file",
        ),
        (
            "rows.parquet",
            "rows.parquet is a Parquet file, not a config file",
        ),
        ("latin.toml", "latin.toml: it is not UTF-8 text"),
        ("strimzi.yaml", "not a connector in YAML: kind `KafkaTopic`"),
        ("unnamed", "not a connector in YAML: kind `KafkaTopic`"),
        ("other.yml", "not a connector in YAML: expected a map"),
        (
            "books.toml",
            "books.toml has rules of `validate`, it is not a pipeline's config",
        ),
    ] {
        everywhere(&lake, file, sentence);
        if file != "books.toml" && file != "empty.toml" {
            lake.weir(&["daemon", file]).refused(&[sentence]);
        }
    }
    lake.weir(&["daemon", "books.toml"])
        .refused(&["books.toml is a file of rules for `validate`, not the daemon's"]);
    lake.weir(&["daemon", "raw.toml"]).refused(&[
        "raw.toml is a pipeline's config, not the daemon's",
        "weir run raw.toml",
    ]);
    // The daemon's own: `check` knows it, the others say whose it is.
    let checked = lake.weir(&["check", "raw.toml", "worker.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    assert!(
        checked
            .out
            .contains("worker.toml: the daemon's config is fine"),
        "{}",
        checked.out
    );
    fs::write(
        lake.path("wrong.toml"),
        "data.dir = \"d\"\nrest.max.rate = \"many\"\n",
    )
    .unwrap();
    lake.weir(&["check", "raw.toml", "wrong.toml"])
        .refused(&["`rest.max.rate`: expected", "wrong.toml:2:1"]);
    lake.weir(&["run", "worker.toml"]).refused(&[
        "worker.toml is the daemon's config, not a pipeline's",
        "weir daemon worker.toml",
    ]);
}

#[test]
fn a_broker_is_no_web_address() {
    let lake = Lake::new("columns = [\"id\"]");
    let set = [
        "check",
        "raw.toml",
        "--set",
        "source.bootstrap.servers=http://broker:9092",
    ];
    lake.weir(&set).refused(&[
        "`source.bootstrap.servers`: expected host:port",
        "without `http://`",
        "http://broker:9092",
    ]);
}

/// Two transforms whose plugins refuse their keys, and a key of the host.
const WRONG: &[&str] = &["there is no key `sink.rotate.agee`", "`colums`", "`keeep`"];

fn wrong(lake: &Lake, host: bool) {
    let second = "[[transforms]]\nname = \"few\"\ntype = \"select@0.1\"\nkeeep = [\"id\"]\n";
    lake.raw(&format!("colums = [\"id\"]\n{second}"));
    if host {
        let raw = fs::read_to_string(lake.path("raw.toml")).unwrap();
        let raw = raw.replace(
            "url = \"file:zone\"",
            "url = \"file:zone\"\nrotate.agee = \"1s\"",
        );
        fs::write(lake.path("raw.toml"), raw).unwrap();
    }
}

fn says(said: &Said, parts: &[&str]) {
    said.refused(parts);
}

#[test]
fn all_that_is_wrong_is_told_in_one_round() {
    let lake = Lake::new("columns = [\"id\"]");
    lake.send(&[r#"{"id": "a"}"#]);
    lake.runs("raw.toml");
    wrong(&lake, true);
    says(&lake.weir(&["check", "raw.toml"]), WRONG);
    says(&lake.run("raw.toml"), WRONG);
    // Where the host has nothing to say: both plugins, at a swap and at a start.
    wrong(&lake, false);
    says(&lake.weir(&["check", "raw.toml"]), &WRONG[1..]);
    says(
        &lake.weir(&["pipeline", "swap", "raw.toml", "--reload"]),
        &WRONG[1..],
    );
    says(&lake.run("raw.toml"), &WRONG[1..]);
}

#[test]
fn a_form_over_http_has_every_problem_at_once() {
    let rig = Rig::new(&[]);
    for plugin in ["json-flatten", "select"] {
        let file = format!("{plugin}.wasm");
        fs::copy(
            plugins_dir().join(&file),
            rig.dir.path().join("plugins").join(&file),
        )
        .unwrap();
    }
    let config = json!({
        "connector.class": "weir", "name": "p", "source.type": "kafka", "source.topics": "t",
        "source.start": "earliest", "source.bootstrap.servers": "localhost:9092",
        "sink.type": "zone", "sink.url": format!("file:{}/zone", rig.dir.path().display()),
        "sink.rotate.agee": "1s", "transforms": "columns,few",
        "transforms.columns.type": "json-flatten", "transforms.columns.colums": "id",
        "transforms.few.type": "select", "transforms.few.keeep": "id",
    });
    let reply = rig.send("PUT", "/connector-plugins/weir/config/validate", &config);
    assert_eq!(reply.status, 200, "{}", reply.text());
    for part in WRONG {
        assert!(reply.text().contains(part), "{part} in {}", reply.text());
    }
    let reply = rig.send("PUT", "/connectors/p/config", &config);
    assert_eq!(reply.status, 400, "{}", reply.text());
    for part in WRONG {
        assert!(reply.text().contains(part), "{part} in {}", reply.text());
    }
}
