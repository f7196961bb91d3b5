//! Values become columns by their schemas. The Avro bytes are those of Confluent's own serializer, which had registered the schemas
//! (`tests/connect/avro.json`, made with confluent-kafka 2.16 and Apicurio Registry 3.0.9).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use arrow_array::ArrayRef;
use arrow_cast::cast;
use arrow_cast::display::array_value_to_string;
use arrow_schema::DataType;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weir::commit::{Log, Role};
use weir::config::{PipelineConfig, from_map};
use weir::connectors::CATALOG;
use weir::pipeline::{Stop, run};
use weir::store;
use weir::zone::read_file;

use crate::api::{Api, Reaction};
use crate::brokers::files;
use crate::case::{Case, said};
use crate::world::{TOPIC, World, open_log};

static RECORDED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../connect/avro.json")).unwrap());

/// The values that the serializer wrote with one schema.
pub fn values(schema: &str) -> Vec<Vec<u8>> {
    let values = RECORDED["records"][schema]["values"].as_array().unwrap();
    let decoded = values
        .iter()
        .map(|value| STANDARD.decode(value.as_str().unwrap()));
    decoded.map(Result::unwrap).collect()
}

/// A registry with the schemas that were registered.
pub fn registry() -> (Api, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = down.clone();
    let api = Api::new(move |request, _| {
        if is_down.load(Ordering::SeqCst) {
            return Reaction::Drop;
        }
        let id = request.path.strip_prefix("/schemas/ids/").unwrap();
        match RECORDED["schemas"].get(id) {
            Some(schema) => {
                let answer = serde_json::json!({ "schema": schema });
                Reaction::Say(200, Vec::new(), answer.to_string())
            }
            None => unknown(),
        }
    });
    (api, down)
}

/// As a registry says it.
pub fn unknown() -> Reaction {
    let said = r#"{"error_code":40403,"message":"Schema 99 not found"}"#;
    Reaction::Say(404, Vec::new(), said.to_owned())
}

pub fn url(api: &Api) -> String {
    format!("http://127.0.0.1:{}", api.port)
}

pub struct Zone(pub World);

impl Zone {
    pub fn new() -> Zone {
        Zone(World::new(1))
    }

    pub fn config(&self, api: &Api, more: &[(&str, &str)]) -> PipelineConfig {
        let url = url(api);
        let store = self.0.path("store").display().to_string();
        let mut keys = vec![
            ("value.format", "avro"),
            ("schema.registry.url", url.as_str()),
            ("schema.registry.unknown.wait", "0s"),
            ("plugin.store", store.as_str()),
            ("errors.tolerance", "all"),
            ("retry.max.backoff", "200ms"),
        ];
        keys.extend(more);
        self.0.raw(&keys)
    }

    pub fn send(&self, values: &[Vec<u8>]) {
        self.0
            .produce(values.iter().map(|value| (0, value.as_slice())));
    }

    /// Takes what is there; must end well.
    pub fn take(&self, config: &PipelineConfig) {
        for ended in self.0.run(std::slice::from_ref(config)) {
            ended.result.unwrap();
        }
    }

    /// Takes what is there; says why it stopped.
    pub fn stops(&self, config: &PipelineConfig) -> String {
        // What fails stops the others of its run.
        let stop = Stop::new(self.0.clock.clone());
        let mut ended = run(std::slice::from_ref(config), &self.0.clock, &stop, &|_| {
            self.0.told.clone()
        });
        ended.remove(0).result.unwrap_err().to_string()
    }

    pub fn log(&self) -> Log {
        open_log(&self.0.path("raw"), "raw", "raw")
            .unwrap()
            .unwrap()
    }

    pub fn rows(&self, role: Role, columns: &[&str]) -> Vec<String> {
        rows_of(&self.0.path("raw"), &self.log(), role, columns)
    }

    pub fn codes(&self) -> Vec<String> {
        self.rows(Role::DeadLetters, &["code"])
    }
}

/// Rows or dead letters of a zone, each as `column=value` of the columns that are named, by offset.
pub fn rows_of(root: &Path, log: &Log, role: Role, columns: &[&str]) -> Vec<String> {
    assert!(log.state().totals().closes());
    let store = store::open_url(&format!("file:{}", root.display())).unwrap();
    let mut found = BTreeMap::new();
    for live in log
        .state()
        .live
        .values()
        .filter(|live| live.file.role == role)
    {
        for batch in read_file(&store, log.name(), &live.file).unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let cell = |name: &&str| match batch.column_by_name(name) {
                    Some(column) => format!("{name}={}", shown(column, row)),
                    None => format!("{name}:none"),
                };
                let offset: i64 = cell(&"_offset")
                    .trim_start_matches("_offset=")
                    .parse()
                    .unwrap();
                let cells: Vec<String> = columns.iter().map(cell).collect();
                assert!(found.insert(offset, cells.join(" ")).is_none());
            }
        }
    }
    found.into_values().collect()
}

/// Times of zones are printed without their zone, which is UTC.
fn shown(column: &ArrayRef, row: usize) -> String {
    let plain = match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            cast(column, &DataType::Timestamp(*unit, None)).unwrap()
        }
        _ => column.clone(),
    };
    array_value_to_string(&plain, row).unwrap()
}

#[test]
fn every_type_becomes_a_column_and_what_is_known_needs_no_registry() {
    let (api, down) = registry();
    let zone = Zone::new();
    let config = zone.config(&api, &[]);
    // Without a record nothing is decided, and nobody is asked.
    zone.take(&config);
    assert!(api.requests().is_empty());
    zone.send(&values("rich"));
    zone.take(&config);
    assert_eq!(
        zone.rows(
            Role::Rows,
            &[
                "b", "i", "f", "d", "raw", "fix", "e", "price", "wide", "day", "at", "atu",
                "clock", "u", "tags", "m", "addr", "addr2"
            ]
        ),
        [
            "b=true i=-5 f=1.5 d=0.1 raw=00ff fix=6162 e=GREEN price=12.34 wide=-1.50 day=2024-02-29 at=2024-02-29T12:00:00.123 atu=2024-02-29T12:00:00.123456 clock=23:59:58.007 u=00000000-0000-0000-0000-000000000001 tags=[x, y] m=[{key: k, value: 9}] addr={street: Rue, no: 3} addr2=",
            "b=false i=2147483647 f=-0.25 d=1e300 raw= fix=0000 e=RED price=-0.01 wide=99.99 day=1969-12-31 at=1969-12-31T23:59:59.999 atu=1970-01-01T00:00:00 clock=00:00:00 u=ffffffff-ffff-ffff-ffff-ffffffffffff tags=[] m=[] addr= addr2={street: b, no: }",
        ]
    );
    let asked = api.requests().len();
    assert!((1..=2).contains(&asked), "one schema: {asked}");
    // Another process, while nobody answers.
    down.store(true, Ordering::SeqCst);
    zone.send(&values("rich"));
    zone.take(&config);
    assert_eq!(
        zone.rows(Role::Rows, &["i"]),
        ["i=-5", "i=2147483647", "i=-5", "i=2147483647"]
    );
    assert_eq!(api.requests().len(), asked);
    assert_eq!(zone.codes(), [""; 0]);
    // The rule is in the log, with its schema in the plugin store.
    let rules = zone.log().state().rules.transforms.clone();
    assert_eq!(
        (rules[0].transform.as_str(), rules[0].plugin.as_str()),
        ("value.converter", "avro")
    );
}

/// Its columns are those of the first record's schema.
#[test]
fn a_column_of_a_schema_may_be_the_line_of_a_file() {
    let (api, _) = registry();
    let zone = Zone::new();
    zone.send(&values("v1")[..1]);
    zone.take(&zone.config(&api, &[("sink.format", "csv"), ("sink.file.column", "who")]));
    let file = files(&zone.0.path("raw"), ".csv").remove(0);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "who\nada\n");
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_and_hurts_no_neighbour() {
    let (api, _) = registry();
    let zone = Zone::new();
    let good = values("v1");
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut value = good[0].clone();
        change(&mut value);
        value
    };
    let mut records = vec![
        good[0].clone(),
        b"{\"id\":1}".to_vec(),
        vec![0, 0, 0],
        changed(&|v| v[4] = 99),
        changed(&|v| v.truncate(7)),
        changed(&|v| v.push(0)),
        // The name is no UTF-8, which shows only when the column is made.
        changed(&|v| *v.last_mut().unwrap() = 0xff),
        good[1].clone(),
    ];
    records.push(good[0].clone());
    zone.send(&records);
    zone.take(&zone.config(&api, &[]));
    assert_eq!(
        zone.rows(Role::Rows, &["_offset", "who"]),
        [
            "_offset=0 who=ada",
            "_offset=7 who=böb",
            "_offset=8 who=ada"
        ]
    );
    assert_eq!(
        zone.codes(),
        [
            "no_schema_id",
            "no_schema_id",
            "unknown_schema",
            "not_decodable",
            "not_decodable",
            "not_decodable"
        ]
        .map(|code| format!("code={code}"))
    );
}

#[test]
fn newer_schemas_are_followed_by_swaps_or_left_out() {
    let (api, _) = registry();
    let records = [values("v1"), values("v2"), values("v1"), values("v4")].concat();
    // Pinned: the first record's schema, for good.
    let pinned = Zone::new();
    pinned.send(&records);
    pinned.take(&pinned.config(&api, &[]));
    let whos = ["ada", "böb", "cleo", "dan", "ada", "böb", "fay"];
    assert_eq!(
        pinned.rows(Role::Rows, &["who", "city"]),
        whos.map(|who| format!("who={who} city:none"))
    );

    let zone = Zone::new();
    let config = zone.config(&api, &[("schema.evolution", "follow")]);
    zone.send(&records);
    zone.take(&config);
    assert_eq!(
        zone.rows(Role::Rows, &["id", "who", "city", "tries", "zip"]),
        [
            "id=1 who=ada city:none tries:none zip:none",
            "id=2 who=böb city:none tries:none zip:none",
            "id=3 who=cleo city=Bonn tries=1 zip:none",
            "id=4 who=dan city= tries=2 zip:none",
            // Read under the newer one, with its defaults.
            "id=1 who=ada city= tries=7 zip:none",
            "id=2 who=böb city= tries=7 zip:none",
            "id=6 who=fay city= tries=7 zip=50667",
        ]
    );
    let reasons = |log: &Log| -> Vec<String> {
        log.state()
            .periods
            .iter()
            .map(|p| p.reason.clone())
            .collect()
    };
    let log = zone.log();
    let said = reasons(&log).join("; ");
    assert!(
        said.contains("schema 2 has new fields: city, tries")
            && said.contains("schema 4 has new fields: zip"),
        "{said}"
    );
    assert!(
        !pinned
            .log()
            .state()
            .periods
            .iter()
            .any(|p| p.reason.contains("new fields"))
    );
    // The next start finds all that it declares in force.
    let version = log.version();
    zone.take(&config);
    assert_eq!(
        reasons(&zone.log()).len(),
        reasons(&log).len(),
        "from version {version}"
    );
}

#[test]
fn an_incompatible_schema_stops_by_name_or_becomes_dead_letters() {
    let (api, _) = registry();
    let zone = Zone::new();
    zone.send(&[values("v1"), values("v3"), values("v1")].concat());
    let why = zone.stops(&zone.config(&api, &[]));
    assert!(
        why.contains("schema 3 cannot be read under the one in force"),
        "{why}"
    );
    zone.take(&zone.config(&api, &[("schema.on.incompatible", "dead-letters")]));
    assert_eq!(
        zone.rows(Role::Rows, &["id"]),
        ["id=1", "id=2", "id=1", "id=2"]
    );
    assert_eq!(zone.codes(), ["code=incompatible_schema"]);
}

/// While the registry is away, what stands before a record of a new schema is committed; it waits, which is said once.
#[test]
fn an_unknown_schema_waits_for_a_registry_that_is_away() {
    let (api, down) = registry();
    let zone = Zone::new();
    let config = zone.config(
        &api,
        &[("trigger", "continuous"), ("sink.rotate.age", "100ms")],
    );
    zone.send(&values("v1"));
    std::thread::scope(|scope| {
        scope.spawn(|| zone.take(&config));
        zone.0.until("the first rows", || settled(&zone) == 2);
        down.store(true, Ordering::SeqCst);
        zone.send(&[values("v1"), values("v2")].concat());
        zone.0
            .until("rows of the schema that is known", || settled(&zone) == 4);
        zone.0
            .until("a word of the wait", || zone.0.told.has("waiting"));
        let asked = api.requests().len();
        zone.0
            .until("more tries", || api.requests().len() > asked + 2);
        assert_eq!((settled(&zone), zone.0.told.count("waiting")), (4, 1));
        down.store(false, Ordering::SeqCst);
        zone.0.until("the others", || settled(&zone) == 6);
        zone.0.stop.ask(std::time::Duration::from_secs(20));
    });
    assert_eq!(
        zone.rows(Role::Rows, &["id"]),
        ["id=1", "id=2", "id=1", "id=2", "id=3", "id=4"]
    );
}

pub fn settled(zone: &Zone) -> i64 {
    let log = open_log(&zone.0.path("raw"), "raw", "raw").ok().flatten();
    log.map_or(0, |log| log.state().splits.values().map(|c| c.to).sum())
}

/// As Connect's JsonConverter writes it: 12.34 is `BNI=`.
#[test]
fn the_schema_of_an_envelope_decides() {
    let zone = Zone::new();
    let config = |more: &[(&str, &str)]| {
        let store = zone.0.path("store").display().to_string();
        let mut keys = vec![
            ("value.format", "json-envelope"),
            ("schema.evolution", "follow"),
            ("errors.tolerance", "all"),
            ("plugin.store", store.as_str()),
        ];
        keys.extend(more);
        zone.0.raw(&keys)
    };
    let logical = |field: &str, kind: &str, name: &str, more: &str| {
        format!(
            r#"{{"type":"{kind}","optional":true,"name":"org.apache.kafka.connect.data.{name}","version":1{more},"field":"{field}"}}"#
        )
    };
    let fields = [
        r#"{"type":"int32","optional":false,"field":"id"}"#.to_owned(),
        logical("price", "bytes", "Decimal", r#","parameters":{"scale":"2"}"#),
        logical("at", "int64", "Timestamp", ""),
        logical("day", "int32", "Date", ""),
        logical("clock", "int32", "Time", ""),
        r#"{"type":"bytes","optional":true,"field":"raw"}"#.to_owned(),
        r#"{"type":"string","optional":true,"default":"none","field":"state"}"#.to_owned(),
        r#"{"type":"array","items":{"type":"float","optional":false},"optional":true,"field":"f"}"#.to_owned(),
        r#"{"type":"map","keys":{"type":"string","optional":false},"values":{"type":"int64","optional":true},"optional":true,"field":"m"}"#.to_owned(),
    ]
    .join(",");
    let message = |fields: &str, payload: &str| {
        format!(r#"{{"schema":{{"type":"struct","fields":[{fields}],"optional":false,"name":"t"}},"payload":{payload}}}"#).into_bytes()
    };
    let newer = format!(r#"{fields},{{"type":"boolean","optional":false,"field":"vip"}}"#);
    zone.send(&[
        message(&fields, r#"{"id":1,"price":"BNI=","at":1709208000123,"day":19782,"clock":1000,"raw":"AP8=","state":null,"f":[1.5,0.1],"m":{"k":9,"n":null}}"#),
        message(&fields, r#"{"id":2,"price":12.3,"at":null,"day":null,"clock":null,"raw":null,"state":"x","f":null,"m":null}"#),
        message(&fields, r#"{"id":"3"}"#),
        message(&fields, r#"{"id":2147483648}"#),
        b"{\"id\":1}".to_vec(),
        b"no".to_vec(),
        message(&newer, r#"{"id":7,"vip":true}"#),
    ]);
    zone.take(&config(&[]));
    assert_eq!(
        zone.rows(
            Role::Rows,
            &[
                "id", "price", "at", "day", "clock", "raw", "state", "f", "m", "vip"
            ]
        ),
        [
            "id=1 price=12.34 at=2024-02-29T12:00:00.123 day=2024-02-29 clock=00:00:01 raw=00ff state=none f=[1.5, 0.10000000149011612] m=[{key: k, value: 9}, {key: n, value: }] vip:none",
            "id=2 price=12.30 at= day= clock= raw= state=x f= m= vip:none",
            "id=7 price= at= day= clock= raw= state=none f= m= vip=true",
        ]
    );
    let codes = ["not_decodable", "not_decodable", "no_envelope", "not_json"];
    assert_eq!(zone.codes(), codes.map(|code| format!("code={code}")));
}

#[test]
fn texts_and_keys_are_columns_of_text() {
    let zone = Zone::new();
    let config = |format: &str| {
        zone.0.raw(&[
            ("value.format", format),
            ("key.format", "string"),
            ("errors.tolerance", "all"),
        ])
    };
    zone.send(&[b"{\"a\":1}".to_vec(), b"plain".to_vec(), vec![0xff]]);
    zone.take(&config("json"));
    assert_eq!(
        zone.rows(Role::Rows, &["value", "key"]),
        ["value={\"a\":1} key="]
    );
    assert_eq!(zone.codes(), ["code=not_json", "code=not_utf8"]);
}

/// A whole file of a schema, values without ids; and rules behind the converter.
#[test]
fn a_schema_in_a_file_needs_no_registry() {
    let zone = Zone::new();
    let schema = RECORDED["schemas"]["1"].as_str().unwrap();
    std::fs::write(zone.0.path("order.avsc"), schema).unwrap();
    let file = zone.0.path("order.avsc").display().to_string();
    let store = zone.0.path("store").display().to_string();
    let bare: Vec<Vec<u8>> = values("v1")
        .iter()
        .map(|value| value[5..].to_vec())
        .collect();
    zone.send(&bare);
    let config = zone.0.raw(&[
        ("value.format", "avro"),
        ("value.avro.framing", "none"),
        ("value.schema.file", &file),
        ("plugin.store", &store),
        ("transforms", "s"),
        ("transforms.s.type", "select"),
        ("transforms.s.rename.id", "nr"),
    ]);
    zone.take(&config);
    assert_eq!(
        zone.rows(Role::Rows, &["who", "nr", "id"]),
        ["who=ada nr=1 id:none", "who=böb nr=2 id:none"]
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    let refused = |keys: &[(&str, &str)]| {
        let mut map = BTreeMap::from([
            ("name", "p"),
            ("source.type", "rate"),
            ("sink.type", "zone"),
            ("sink.url", "memory:x"),
        ]);
        map.extend(keys.iter().copied());
        let error = from_map("test", map, &CATALOG).unwrap_err();
        format!("{error} {error:?}")
    };
    let avro = ("value.format", "avro");
    let at = |url| ("schema.registry.url", url);
    for (keys, told) in [
        (&[avro][..], "is one of a schema registry"),
        (
            &[avro, ("value.avro.framing", "none")],
            "does not say its schema",
        ),
        (
            &[("value.on.null", "drop")],
            "`value.on.null` has no effect",
        ),
        (&[at("http://x")], "`schema.registry.url` has no effect"),
        (
            &[avro, at("http://u:p@x")],
            "a login in a URL would be shown",
        ),
        (&[avro, at("ftp://x")], "expected URLs that begin with http"),
        (
            &[avro, at("http://x"), ("schema.registry.tls.key", "k")],
            "a client certificate is two files",
        ),
        (
            &[("value.format", "string"), ("schema.inference", "true")],
            "`schema.inference` looks at bytes",
        ),
    ] {
        let said = refused(keys);
        assert!(said.contains(told), "{keys:?}: {said}");
    }
}

#[test]
fn several_topics_of_one_schema_are_a_warning() {
    let warnings = |more: &str| -> Vec<String> {
        let toml = format!(
            "name = \"p\"\nsource.type = \"kafka\"\nsource.bootstrap.servers = \"b:9092\"\nsource.start = \"earliest\"\nsink.type = \"zone\"\nsink.url = \"memory:x\"\n{more}"
        );
        let (raw, unread) = weir::config::text("p.toml", &toml);
        let (config, found) = weir::config::check_raw(raw, &CATALOG);
        assert!(config.is_some() && unread.is_empty(), "{more}: {found:#?}");
        found.iter().map(ToString::to_string).collect()
    };
    let envelope = "value.format = \"json-envelope\"\n";
    let avro = "value.format = \"avro\"\nschema.registry.url = \"http://r\"\n";
    let by_file =
        "value.format = \"avro\"\nvalue.avro.framing = \"none\"\nvalue.schema.file = \"a.avsc\"\n";
    let two = "source.topics = [\"orders\", \"events\"]\n";
    for (format, key, topics) in [
        (envelope, "source.topics", two),
        (avro, "source.topics", two),
        (
            avro,
            "source.subscribe.pattern",
            "source.subscribe.pattern = \"shop-.*\"\n",
        ),
    ] {
        let said = warnings(&format!("{format}{topics}"));
        assert_eq!(said.len(), 1, "{said:#?}");
        for told in [
            "warning[contradiction]",
            &format!("`{key}`: several topics are read by one schema"),
            "one pipeline for each schema",
        ] {
            assert!(said[0].contains(told), "{}", said[0]);
        }
    }
    for quiet in [
        format!("{envelope}source.topics = [\"orders\"]\n"),
        format!("{by_file}{two}"),
        two.to_owned(),
    ] {
        assert_eq!(warnings(&quiet), [""; 0], "{quiet}");
    }
}

/// A kill before each step that a run makes on its store, and then a run to the end: each record is one row, with its own values. Which of them were
/// read before a newer schema was in force depends on where it died: a schema that is kept is in force at the next start.
#[test]
fn kills_around_a_followed_schema_lose_double_and_mix_nothing() {
    let (api, _) = registry();
    let zone = Zone::new();
    zone.send(&[values("v1"), values("v2"), values("v1"), values("v4")].concat());
    let case = Case::new("raw", "raw");
    let (broker, url) = (zone.0.broker.bootstrap(), url(&api));
    case.declare(
        &format!("value.format = \"avro\"\nschema.registry.url = \"{url}\"\nschema.evolution = \"follow\"\ntrigger = \"available-now\"\n"),
        &format!("[source]\ntype = \"kafka\"\ntopics = [\"{TOPIC}\"]\nstart = \"earliest\"\nbootstrap.servers = \"{broker}\"\n[sink]\ntype = \"zone\"\nurl = \"file:raw\"\n"),
    );
    let mut killed = 0;
    for step in 0.. {
        let mut run = case.weir(&["run", "raw.toml", "--progress", "none"]);
        let ended = run.env("WEIR_ABORT_AT", step.to_string()).output().unwrap();
        if ended.status.success() {
            break;
        }
        killed += 1;
        assert!(step < 200, "{}", said(&ended));
    }
    assert!(killed > 10, "{killed}");
    let log = case.log().unwrap();
    assert_eq!(
        rows_of(&case.path("raw"), &log, Role::Rows, &["id", "who"]),
        [
            "id=1 who=ada",
            "id=2 who=böb",
            "id=3 who=cleo",
            "id=4 who=dan",
            "id=1 who=ada",
            "id=2 who=böb",
            "id=6 who=fay",
        ]
    );
}
