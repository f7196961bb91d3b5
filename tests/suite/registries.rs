//! A schema registry that is slow to know, stands behind a proxy, or asks who is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};
use serde_json::json;
use weir::commit::Role;

use crate::api::{Api, Reaction};
use crate::converters::{Zone, registry, unknown, url, values};
use crate::papers::Paper;

/// A registry that knows these, numbered from 1.
pub fn knows(schemas: Vec<String>) -> Api {
    Api::new(move |request, _| {
        let id = request.path.strip_prefix("/schemas/ids/");
        let id = id.and_then(|id| id.parse::<usize>().ok());
        match id.and_then(|id| schemas.get(id - 1)) {
            Some(schema) => schema_is(&json!({ "schema": schema })),
            None => unknown(),
        }
    })
}

fn schema_is(answer: &serde_json::Value) -> Reaction {
    Reaction::Say(200, Vec::new(), answer.to_string())
}

pub fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"Order","namespace":"shop","fields":[{fields}]}}"#)
}

pub fn framed(id: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], bytes].concat()
}

/// At the first record and at any other: 64 ids one after the other would take more than a minute.
#[test]
fn ids_that_nobody_knows_wait_together() {
    let (api, _) = registry();
    let zone = Zone::new();
    let mut records: Vec<Vec<u8>> = (1000..1064).map(|id| framed(id, &[0])).collect();
    records.extend(values("v1"));
    zone.send(&records);
    let began = Instant::now();
    zone.take(&zone.config(&api, &[("schema.registry.unknown.wait", "1s")]));
    let took = began.elapsed();
    assert!((1..40).contains(&took.as_secs()), "{took:?}");
    assert_eq!(zone.rows(Role::Rows, &["id"]), ["id=1", "id=2"]);
    let codes = zone.codes();
    assert!(codes.len() == 64 && codes.iter().all(|code| code == "code=unknown_schema"));
}

/// A proxy says 404 too, while what is behind it begins; and a copy that is behind says it for all that know better.
#[test]
fn only_a_registry_says_that_a_schema_is_unknown() {
    let begins = Arc::new(AtomicUsize::new(0));
    let asked = begins.clone();
    let schema = record(r#"{"name":"x","type":"int"}"#);
    let answer = json!({ "schema": schema });
    let proxied = Api::new(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
        0..=2 => Reaction::Say(
            404,
            Vec::new(),
            "<html>default backend - 404</html>".to_owned(),
        ),
        _ => schema_is(&answer),
    });
    let zone = Zone::new();
    zone.send(&[framed(1, &[2])]);
    zone.take(&zone.config(&proxied, &[]));
    assert_eq!(
        (zone.rows(Role::Rows, &["x"]).len(), zone.codes().len()),
        (1, 0)
    );
    let told = zone.0.told.last("waiting").unwrap();
    assert!(
        told.contains("not from a schema registry") && told.contains("schema.registry.url"),
        "{told}"
    );

    let (behind, knowing) = (knows(Vec::new()), knows(vec![schema]));
    let both = format!("{},{}", url(&behind), url(&knowing));
    let zone = Zone::new();
    zone.send(&[framed(1, &[2]), framed(2, &[2])]);
    zone.take(&zone.config(&behind, &[("schema.registry.url", &both)]));
    assert_eq!(zone.rows(Role::Rows, &["x"]), ["x=1"]);
    assert_eq!(zone.codes(), ["code=unknown_schema"]);
    assert!(!behind.requests().is_empty());
}

/// Decoders of large schemas give way to each other within one batch.
#[test]
fn large_schemas_of_one_batch_are_read_one_after_the_other() {
    let more: Vec<String> = (0..9000)
        .map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#))
        .collect();
    let small = r#"{"name":"x","type":"int"}"#;
    let large = |first: &str| record(&format!("{first},{small},{}", more.join(",")));
    let of = |name: &str| large(&format!(r#"{{"name":"{name}","type":"int"}}"#));
    let api = knows(vec![record(small), of("a"), of("b"), of("c")]);
    let zone = Zone::new();
    let long = [&[0, 4][..], &vec![0; 9000]].concat();
    zone.send(&[
        framed(1, &[2]),
        framed(2, &long),
        framed(3, &long),
        framed(4, &long),
        framed(2, &long),
    ]);
    zone.take(&zone.config(&api, &[]));
    assert_eq!(
        zone.rows(Role::Rows, &["x"]),
        ["x=1", "x=2", "x=2", "x=2", "x=2"]
    );
    assert!(zone.codes().is_empty());
}

#[test]
fn what_a_schema_refers_to_is_waited_for_and_is_not_without_end() {
    let large = Arc::new(AtomicBool::new(false));
    let is_large = large.clone();
    let part = |n: usize, doc: usize| {
        let doc = "d".repeat(doc);
        format!(
            r#"{{"type":"record","name":"Part{n}","namespace":"shop","doc":"{doc}","fields":[]}}"#
        )
    };
    let api = Api::new(move |request, _| {
        let refers = |id: usize, to: Vec<usize>| {
            let to: Vec<_> = to
                .into_iter()
                .map(|n| json!({"name": format!("shop.Part{n}"), "subject": format!("p{n}"), "version": 1}))
                .collect();
            let field = match id {
                1 => r#"{"name":"x","type":"int"}"#.to_owned(),
                _ => r#"{"name":"x","type":"int"},{"name":"p","type":"Part0"}"#.to_owned(),
            };
            schema_is(&json!({"schema": record(&field), "references": to}))
        };
        match request.path.as_str() {
            "/schemas/ids/1" => refers(1, vec![]),
            "/schemas/ids/2" => refers(2, vec![0]),
            "/schemas/ids/3" => refers(3, vec![0, 404]),
            "/schemas/ids/4" => refers(4, (0..201).collect()),
            "/schemas/ids/5" => refers(5, (1000..1005).collect()),
            path => {
                let n = path
                    .strip_prefix("/subjects/p")
                    .and_then(|p| p.strip_suffix("/versions/1"));
                match n.unwrap().parse::<usize>().unwrap() {
                    404 => Reaction::Say(
                        404,
                        Vec::new(),
                        r#"{"error_code":40402,"message":"Version not found"}"#.to_owned(),
                    ),
                    n @ 0..=999 => schema_is(&json!({"schema": part(n, 0)})),
                    n => {
                        is_large.store(true, Ordering::SeqCst);
                        schema_is(&json!({"schema": part(n, 1 << 20)}))
                    }
                }
            }
        }
    });
    let zone = Zone::new();
    zone.send(&[1, 2, 3, 4, 5].map(|id| framed(id, &[2])));
    zone.take(&zone.config(&api, &[("schema.on.incompatible", "dead-letters")]));
    assert_eq!(
        zone.rows(Role::Rows, &["_offset", "x"]),
        ["_offset=0 x=1", "_offset=1 x=1"]
    );
    assert!(large.load(Ordering::SeqCst));
    let letters = zone.rows(Role::DeadLetters, &["code", "message"]);
    for (letter, part) in letters.iter().zip([
        "unknown_schema message=the schema registry lacks version 1 of `p404`, to which schema 3 refers",
        "refers to more than 200 others",
        "bytes with what it refers to, and at most 4194304 are read",
    ]) {
        assert!(letter.contains(part), "{letter}");
    }
    assert_eq!(letters.len(), 3);
}

/// Its own authority, a certificate of ours, and a login that is read anew for each request.
#[test]
fn a_registry_is_trusted_by_its_authority_and_knows_us_by_certificate_and_login() {
    let zone = Zone::new();
    let dir = zone.0.path("");
    let ca = Paper::new("our own CA", None);
    let (server, client) = (
        Paper::new("localhost", Some(&ca)),
        Paper::new("client", Some(&ca)),
    );
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    acceptor.set_private_key(&server.key).unwrap();
    acceptor.set_certificate(&server.certificate).unwrap();
    acceptor
        .cert_store_mut()
        .add_cert(ca.certificate.clone())
        .unwrap();
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    let answer = json!({ "schema": record(r#"{"name":"x","type":"int"}"#) });
    let expected = format!("Basic {}", STANDARD.encode("weir:good-secret"));
    let api = Api::tls(acceptor.build(), move |request, _| {
        match request.headers.get("authorization") == Some(&expected) {
            true => schema_is(&answer),
            false => Reaction::Say(401, Vec::new(), r#"{"error_code":401}"#.to_owned()),
        }
    });
    let secrets = dir.join("secrets.properties");
    std::fs::write(&secrets, "registry = weir:bad-secret\n").unwrap();
    let (ca, certificate, key) = (
        ca.certificate(&dir, "ca.pem"),
        client.certificate(&dir, "client.pem"),
        client.key(&dir, "client.key"),
    );
    let address = format!("https://localhost:{}", api.port);
    let login = format!("${{file:{}:registry}}", secrets.display());
    let at = ("schema.registry.url", address.as_str());
    let trusting = ("schema.registry.tls.ca", ca.as_str());
    let certified = [
        at,
        trusting,
        ("schema.registry.tls.certificate", certificate.as_str()),
        ("schema.registry.tls.key", key.as_str()),
        ("schema.registry.basic.auth.user.info", login.as_str()),
    ];
    zone.send(&[framed(1, &[2])]);
    for (keys, part) in [
        (&[at][..], "name that in schema.registry.tls.ca"),
        (&[at, trusting], "schema.registry.tls.certificate"),
        (&certified, "schema.registry.basic.auth.user.info"),
    ] {
        let why = zone.stops(&zone.config(&api, keys));
        assert!(why.contains(part) && !why.contains("secret"), "{why}");
    }
    std::fs::write(&secrets, "registry = weir:good-secret\n").unwrap();
    zone.take(&zone.config(&api, &certified));
    assert_eq!(zone.rows(Role::Rows, &["x"]), ["x=1"]);
}

/// Bytes that are no record of a registry name ids that no registry has, and each registry says so in its own way: Confluent's as to a
/// path that it does not have, which is waited for; others that the id is none.
#[test]
fn a_record_whose_id_cannot_be_one_holds_nobody() {
    let answer = json!({ "schema": record(r#"{"name":"x","type":"int"}"#) });
    let refused = |status, code, message| {
        let said = json!({ "error_code": code, "message": message });
        Reaction::Say(status, Vec::new(), said.to_string())
    };
    let asked = AtomicUsize::new(0);
    let api = Api::new(move |request, _| match request.path.as_str() {
        "/schemas/ids/1" => schema_is(&answer),
        "/schemas/ids/7" => refused(400, 400, "id is not valid"),
        "/schemas/ids/8" => refused(422, 42202, "the version is not valid"),
        // It would be asked for ever: a refusal ends that.
        _ => match asked.fetch_add(1, Ordering::SeqCst) {
            0..3 => refused(404, 404, "HTTP 404 Not Found"),
            _ => refused(401, 401, "asked too often"),
        },
    });
    let zone = Zone::new();
    let ids = [1, u32::MAX, 7, 8, 1 << 31, 1];
    zone.send(&ids.map(|id| framed(id, &[2])));
    zone.take(&zone.config(&api, &[]));
    assert_eq!(
        zone.rows(Role::Rows, &["_offset", "x"]),
        ["_offset=0 x=1", "_offset=5 x=1"]
    );
    let codes = [
        "no_schema_id",
        "unknown_schema",
        "unknown_schema",
        "no_schema_id",
    ];
    assert_eq!(zone.codes(), codes.map(|code| format!("code={code}")));
    // What answers so and is no registry is not believed.
    let proxy = Api::new(|_, _| Reaction::Say(400, Vec::new(), "<html>400</html>".to_owned()));
    let zone = Zone::new();
    zone.send(&[framed(1, &[2])]);
    let why = zone.stops(&zone.config(&proxy, &[]));
    assert!(why.contains("answered HTTP 400"), "{why}");
}

/// A schema is a JSON string in the answer, where each quote of it has two bytes, and each `\\"` four.
#[test]
fn the_longest_schema_is_read_whatever_its_answer_is() {
    let doc = "\\\"".repeat(1_100_000);
    let schema = record(r#"{"name":"x","type":"int"}"#).replace(
        r#""name":"Order""#,
        &format!(r#""name":"Order","doc":"{doc}""#),
    );
    let api = knows(vec![schema]);
    let zone = Zone::new();
    zone.send(&[framed(1, &[2])]);
    zone.take(&zone.config(&api, &[]));
    assert_eq!(zone.rows(Role::Rows, &["x"]), ["x=1"]);
}
