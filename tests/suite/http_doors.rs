//! How requests of `sink.type = "http"` are authorized and encrypted, and which configs are refused before anything is sent.

use std::fs;

use openssl::ssl::{SslAcceptor, SslMethod, SslVerifyMode};

use crate::api::{Api, Reaction, Request, say};
use crate::brokers::until;
use crate::http_sink::{Rig, said};
use crate::papers::Paper;

const SECRET: &str = "hunter22-very-secret";

/// Nothing that the program wrote shows it.
fn shows_no_secret(rig: &Rig, output: &std::process::Output) {
    let mut all = said(output) + &String::from_utf8_lossy(&output.stdout);
    for path in crate::brokers::files(&rig.path("home"), ".json") {
        all += &fs::read_to_string(path).unwrap();
    }
    assert!(!all.contains(SECRET), "{all}");
}

#[test]
fn credentials_reach_the_api_and_nobody_else() {
    let secrets = format!("token = {SECRET}\n");
    for (keys, header) in [
        (
            "http.auth = \"bearer\"\nhttp.bearer.token = \"${file:secrets.properties:token}\"\n",
            format!("Bearer {SECRET}"),
        ),
        (
            "http.auth = \"basic\"\nhttp.basic.user = \"me\"\nhttp.basic.password = \"${file:secrets.properties:token}\"\n",
            "Basic bWU6aHVudGVyMjItdmVyeS1zZWNyZXQ=".to_owned(),
        ),
        (
            "http.headers.authorization = \"Key ${file:secrets.properties:token}\"\n",
            format!("Key {SECRET}"),
        ),
    ] {
        let api = Api::new(|_, _| Reaction::Take);
        let rig = Rig::new(&api, "rows.total = 10\n", keys, "");
        fs::write(rig.path("secrets.properties"), &secrets).unwrap();
        let output = rig.run();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(api.requests()[0].headers["authorization"], header);
        shows_no_secret(&rig, &output);

        // Refused: it stops, says why, and repeats nothing that the API repeats.
        let api =
            Api::new(move |_, _| Reaction::Say(401, Vec::new(), format!("bad token {SECRET}")));
        let rig = Rig::new(
            &api,
            "rows.total = 10\n",
            keys,
            "[errors]\ntolerance = \"all\"\n",
        );
        fs::write(rig.path("secrets.properties"), &secrets).unwrap();
        let output = rig.run();
        assert_eq!(output.status.code(), Some(1));
        for part in ["sink_refused", "401", "bad token …", "sink.http.auth"] {
            assert!(said(&output).contains(part), "{part}: {}", said(&output));
        }
        assert_eq!((api.requests().len(), rig.settled()), (1, 0));
        shows_no_secret(&rig, &output);
    }
}

#[test]
fn a_token_is_fetched_once_renewed_when_it_is_refused_and_its_endpoint_may_fail() {
    let mut granted = 0;
    let mut fails = 2;
    let api = Api::new(move |request: &Request, _| {
        if request.path == "/v1/token" {
            if fails > 0 {
                fails -= 1;
                return say(503);
            }
            assert_eq!(
                request.headers["authorization"],
                "Basic bWU6aHVudGVyMjItdmVyeS1zZWNyZXQ="
            );
            assert_eq!(
                request.body,
                "grant_type=client_credentials&scope=rows.write"
            );
            granted += 1;
            let token = format!("{{\"access_token\":\"t{granted}\",\"expires_in\":\"3600\"}}");
            return Reaction::Say(200, Vec::new(), token);
        }
        // The first token ends early.
        match request.headers["authorization"].as_str() {
            "Bearer t1" if request.numbers()[0] >= 50 => say(401),
            "Bearer t1" | "Bearer t2" => Reaction::Take,
            other => panic!("{other}"),
        }
    });
    let token = api.url().replace("/v1/rows", "/v1/token");
    let keys = format!(
        "http.auth = \"oauth2\"\nhttp.oauth2.url = \"{token}\"\nhttp.oauth2.client.id = \"me\"\n\
         http.oauth2.client.secret = \"${{file:secrets.properties:token}}\"\nhttp.oauth2.scope = \"rows.write\"\n\
         http.batch.rows = 10\nhttp.order = \"partition\"\n"
    );
    let rig = Rig::new(&api, "rows.total = 100\n", &keys, "");
    fs::write(
        rig.path("secrets.properties"),
        format!("token = {SECRET}\n"),
    )
    .unwrap();
    let output = rig.run();
    assert!(output.status.success(), "{}", said(&output));
    rig.adds_up(100, 0);
    shows_no_secret(&rig, &output);
    let tokens = api
        .requests()
        .iter()
        .filter(|r| r.path == "/v1/token")
        .count();
    assert_eq!(
        tokens, 4,
        "two that failed, one, and one more after the 401"
    );
}

/// What the token endpoint refuses is about the credentials, not about the rows.
#[test]
fn a_token_that_is_refused_stops_and_is_no_dead_letter() {
    // It repeats what it was sent, as some do.
    let api = Api::new(|request: &Request, _| match request.path.as_str() {
        "/v1/token" => {
            let told = format!(
                "invalid_client: {} {}",
                request.headers.get("authorization").map_or("", |a| a),
                request.body
            );
            Reaction::Say(400, Vec::new(), told)
        }
        _ => Reaction::Take,
    });
    let token = api.url().replace("/v1/rows", "/v1/token");
    for credentials in ["header", "body"] {
        let keys = format!(
            "http.auth = \"oauth2\"\nhttp.oauth2.url = \"{token}\"\nhttp.oauth2.client.id = \"me\"\n\
             http.oauth2.client.secret = \"${{file:secrets.properties:token}}\"\n\
             http.oauth2.audience = \"api://rows\"\nhttp.oauth2.credentials = \"{credentials}\"\n"
        );
        let tolerant = "[errors]\ntolerance = \"all\"\n";
        let rig = Rig::new(&api, "rows.total = 10\n", &keys, tolerant);
        let secrets = format!("token = {SECRET}/+\n");
        fs::write(rig.path("secrets.properties"), secrets).unwrap();
        let output = rig.run();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        for part in [
            "sink_refused",
            "400",
            "invalid_client",
            "sink.http.oauth2.client.secret",
        ] {
            assert!(said(&output).contains(part), "{part}: {}", said(&output));
        }
        assert!(
            !said(&output).contains("sink.http.url"),
            "{}",
            said(&output)
        );
        shows_no_secret(&rig, &output);
        // Nor the login, which is as good as the secret: "me:hunter22…" in base64.
        assert!(!said(&output).contains("bWU6aHVudGVy"), "{}", said(&output));
        assert_eq!(rig.settled(), 0);
        assert_eq!(rig.log().unwrap().state().totals().dead_letters, 0);
        let sent = api.requests().last().unwrap().clone();
        assert!(
            sent.body.contains("audience=api%3A%2F%2Frows"),
            "{}",
            sent.body
        );
        assert_eq!(sent.body.contains("client_secret="), credentials == "body");

        let output = rig.weir(&["doctor", "post.toml"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
        assert!(
            !output.status.success() && told.contains("invalid_client"),
            "{told}"
        );
    }
}

#[test]
fn a_secrets_file_that_is_gone_for_a_moment_is_waited_for() {
    let api = Api::new(|_, _| Reaction::Take);
    let keys = "http.auth = \"bearer\"\nhttp.bearer.token = \"${file:secrets.properties:token}\"\n";
    let rig = Rig::new(&api, "rows.total = 1000000\n", keys, "");
    let config = fs::read_to_string(rig.path("post.toml")).unwrap();
    let config = config.replace("rows.per.second = 1000000", "rows.per.second = 500");
    fs::write(rig.path("post.toml"), config).unwrap();
    let secrets = rig.path("secrets.properties");
    fs::write(&secrets, format!("token = {SECRET}\n")).unwrap();
    let mut child = rig.spawn();
    until("rows", || (rig.settled() > 0).then_some(()));
    fs::remove_file(&secrets).unwrap();
    until("it says so", || {
        let told = fs::read_to_string(rig.path("weir.log")).unwrap_or_default();
        told.contains("secrets.properties cannot be read")
            .then_some(())
    });
    let before = rig.settled();
    fs::write(&secrets, "token = another\n").unwrap();
    until("it goes on", || (rig.settled() > before).then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let last = api.requests().last().unwrap().headers["authorization"].clone();
    assert_eq!(last, "Bearer another");
}

#[test]
fn tls_is_checked_against_the_own_authority_and_shows_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
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
    let api = Api::tls(acceptor.build(), |_, _| Reaction::Take);
    let trusted = format!(
        "http.tls.ca = \"{}\"\n",
        ca.certificate(dir.path(), "ca.pem")
    );
    let ours = format!(
        "{trusted}http.tls.certificate = \"{}\"\nhttp.tls.key = \"{}\"\n",
        client.certificate(dir.path(), "client.pem"),
        client.key(dir.path(), "client.key"),
    );
    let rig = Rig::new(&api, "rows.total = 10\n", &ours, "");
    rig.ran();
    rig.adds_up(10, 0);

    // Somebody else's authority: no try will be better.
    let rig = Rig::new(&api, "rows.total = 10\n", "", "");
    let output = rig.run();
    assert_eq!(output.status.code(), Some(1));
    for part in ["sink_refused", "certificate", "sink.http.tls.ca"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    // It knows nobody without a certificate.
    let output = Rig::new(&api, "rows.total = 10\n", &trusted, "").run();
    assert_eq!(output.status.code(), Some(1));
    for part in ["sink_refused", "sink.http.tls.certificate"] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    let rig = Rig::new(&api, "rows.total = 10\n", "http.tls.ca = \"no.pem\"\n", "");
    let output = rig.run();
    assert!(
        !output.status.success() && said(&output).contains("cannot be read"),
        "{}",
        said(&output)
    );
}

#[test]
fn keys_that_contradict_each_other_are_all_named_before_anything_is_sent() {
    let api = Api::new(|_, _| Reaction::Take);
    for (keys, codes) in [
        (
            "http.auth = \"bearer\"\n",
            vec!["contradiction sink.http.auth"],
        ),
        (
            "http.bearer.token = \"${env:HOME}\"\n",
            vec!["contradiction sink.http.bearer.token"],
        ),
        (
            "http.template.row = \"x\"\n",
            vec!["contradiction sink.http.template.row"],
        ),
        (
            "http.body = \"template\"\n",
            vec!["contradiction sink.http.body"],
        ),
        (
            "http.order = \"key\"\n",
            vec!["contradiction sink.http.order"],
        ),
        (
            "http.statuses.again = \"400-499\"\n",
            vec!["contradiction sink.http.statuses.stop"],
        ),
        (
            "http.statuses.stop = \"4xx\"\n",
            vec!["out_of_range sink.http.statuses.stop"],
        ),
        (
            "http.tls.key = \"k.pem\"\n",
            vec!["contradiction sink.http.tls.key"],
        ),
        (
            "http.coordinates = true\n",
            vec!["contradiction sink.http.coordinates"],
        ),
        (
            "http.body = \"template\"\nhttp.template.row = '${value}'\nhttp.coordinates = true\n",
            vec![
                "contradiction sink.http.json.column",
                "contradiction sink.http.coordinates",
            ],
        ),
        (
            "http.idempotency.header = \"Content-Type\"\n",
            vec!["contradiction sink.http.idempotency.header"],
        ),
        (
            "http.idempotency.header = \"x-key\"\nhttp.headers.X-Key = \"1\"\n",
            vec!["contradiction sink.http.idempotency.header"],
        ),
        ("table = \"t\"\n", vec!["does_not_apply sink.table"]),
        (
            "rotate.age = \"1s\"\nkeep.value = true\n",
            vec![
                "does_not_apply sink.rotate.age",
                "does_not_apply sink.keep.value",
            ],
        ),
        (
            "http.headers.host = \"h\"\n",
            vec!["owned_property sink.http.headers.host"],
        ),
        (
            "http.timeout.request = \"20m\"\n",
            vec!["contradiction sink.http.timeout.request"],
        ),
    ] {
        let rig = Rig::new(&api, "rows.total = 10\n", keys, "");
        let output = rig
            .weir(&["check", "post.toml", "--json"])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{keys}");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        for code in codes {
            let (code, key) = code.split_once(' ').unwrap();
            assert!(
                told.contains(&format!("\"{code}\"")) && told.contains(&format!("\"{key}\"")),
                "{keys}: {told}"
            );
        }
    }
    let config = fs::read_to_string(Rig::new(&api, "", "", "").path("post.toml")).unwrap();
    for (from, to, code) in [
        (api.url(), "ftp://x/y".to_owned(), "bad_url"),
        (api.url(), "http://me:pw@x/y".to_owned(), "contradiction"),
    ] {
        let rig = Rig::new(&api, "", "", "");
        fs::write(rig.path("post.toml"), config.replace(&from, &to)).unwrap();
        let output = rig.weir(&["check", "post.toml"]).output().unwrap();
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
        assert!(
            told.contains(code) && told.contains("sink.http.url"),
            "{told}"
        );
    }
    assert!(api.requests().is_empty());
}

#[test]
fn the_doctor_asks_the_api_and_a_rewind_says_what_it_cannot_take_back() {
    let api = Api::new(
        |request: &Request, _| match request.headers.get("authorization") {
            Some(_) => say(405),
            None => say(401),
        },
    );
    let rig = Rig::new(&api, "rows.total = 10\n", "", "");
    let output = rig.weir(&["doctor", "post.toml"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(
        !output.status.success() && told.contains("sink.api") && told.contains("401"),
        "{told}"
    );
    let keys = "http.headers.authorization = \"${file:secrets.properties:token}\"\n";
    let rig = Rig::new(&api, "rows.total = 10\n", keys, "");
    fs::write(
        rig.path("secrets.properties"),
        format!("token = {SECRET}\n"),
    )
    .unwrap();
    let output = rig.weir(&["doctor", "post.toml"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(told.contains("answers HTTP 405 to HEAD"), "{told}");
    assert!(
        api.requests()
            .iter()
            .all(|r| r.method == "HEAD" && r.body.is_empty())
    );

    api.now_reacts(|_, _| Reaction::Take);
    rig.ran();
    let output = rig
        .weir(&["pipeline", "rewind", "post.toml", "rate/0=0"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
    assert!(
        output.status.success() && told.contains("cannot be taken back"),
        "{told}"
    );
}
