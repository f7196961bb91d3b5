//! Which login may do what over HTTP, and whose name is in log and store; and a daemon that is not there.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::brokers::until;
use crate::check::root;
use crate::remote::{Daemon, lines};
use crate::store::guest;
use crate::swap_rig::{PIPELINE, produce, text};

#[test]
fn who_may_do_what_is_told_and_who_did_it_stands_in_log_and_store() {
    let (certificate, key) = self_signed();
    let secrets = "rest.auth.bearer.carla = \"${file:{dir}/secrets.properties:carla}\"\n\
                   rest.auth.basic.ben = \"${file:{dir}/secrets.properties:ben}\"\n\
                   rest.auth.read.only = \"ben\"\n\
                   rest.tls.certificate = \"{dir}/../weir-remote-cert.pem\"\nrest.tls.key = \"{dir}/../weir-remote-key.pem\"";
    // Beside the rig's folder, which the daemon makes itself.
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| -> PathBuf {
        let path = place.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let certificate = file("cert.pem", &certificate);
    let secret = file("secrets.properties", b"carla=c-token\nben=b-password\n");
    let more = secrets
        .replace("{dir}/secrets.properties", secret.to_str().unwrap())
        .replace(
            "{dir}/../weir-remote-cert.pem",
            certificate.to_str().unwrap(),
        )
        .replace(
            "{dir}/../weir-remote-key.pem",
            file("key.pem", &key).to_str().unwrap(),
        );
    let mut daemon = Daemon::with(&more, "https");
    let (token, password) = (
        file("token", b"c-token\n"),
        file("password", b"ben:b-password\n"),
    );
    let (token, password) = (
        token.to_str().unwrap().to_owned(),
        password.to_str().unwrap().to_owned(),
    );

    let nobody = daemon.weir(&["pipeline", "ls"]);
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
    assert!(
        text(&nobody.stderr).contains("does not prove who it is"),
        "{nobody:?}"
    );
    let ca = ["--ca".to_owned(), certificate.to_str().unwrap().to_owned()];
    daemon.doors = ca.to_vec();
    let nobody = daemon.weir(&["pipeline", "ls"]);
    assert_eq!(nobody.status.code(), Some(2), "{nobody:?}");
    assert!(text(&nobody.stderr).contains("--token-file"), "{nobody:?}");

    daemon
        .doors
        .extend(["--token-file".to_owned(), token.clone()]);
    fs::write(daemon.rig.path("new.wasm"), guest()).unwrap();
    daemon.said(&["plugin", "push", "new.wasm"]);
    let listed = lines(&daemon.said(&["plugin", "ls", "--json"]));
    let pushed = listed
        .iter()
        .find(|one| one["plugin"] == "guest-table")
        .unwrap();
    assert_eq!(pushed["pushed"]["by"], "carla", "{pushed}");
    produce(&daemon.rig, 0..10);
    daemon.said(&["pipeline", "create", "numbers.toml"]);
    until("a log", || {
        daemon.json(&["pipeline", "status", PIPELINE])["log"]["version"]
            .as_u64()
            .filter(|v| *v > 1)
    });
    daemon.json(&[
        "pipeline",
        "swap",
        PIPELINE,
        "rules=guest-table",
        "--allow-breaking",
        "--reason",
        "why",
    ]);
    let last = daemon.rig.periods().pop().unwrap();
    assert_eq!(
        (last.actor.as_str(), last.reason.as_str()),
        ("carla", "why")
    );
    let ref_of = fs::read_to_string(daemon.rig.path("store/refs/guest-table/1.0.0.json")).unwrap();
    assert!(ref_of.contains("\"by\":\"carla\""), "{ref_of}");

    // Ben may look and nothing else.
    daemon.doors = [&ca[..], &["--password-file".to_owned(), password]].concat();
    assert!(
        daemon
            .said(&["log", PIPELINE])
            .contains("guest-table@1.0.0"),
        "a swap is in the log"
    );
    for verb in [
        &["plugin", "push", "new.wasm"][..],
        &["plugin", "yank", "guest-table@1.0.0"],
        &["pipeline", "swap", PIPELINE, "--reload"],
        &["pipeline", "rollback", PIPELINE],
        &["pipeline", "stop", PIPELINE],
    ] {
        let refused = daemon.weir(verb);
        assert_eq!(refused.status.code(), Some(2), "{verb:?}: {refused:?}");
        let told = text(&refused.stderr);
        assert!(
            told.contains("ben") && told.contains("read"),
            "{verb:?}: {told}"
        );
    }
    assert_eq!(daemon.rig.periods().len(), 2);
    // By the environment; the command line names no secret.
    let mut by_env = daemon.command(&["pipeline", "ls"]);
    let by_env = by_env
        .env("WEIR_URL", &daemon.url)
        .args(&ca)
        .env("WEIR_TOKEN", "c-token");
    assert!(
        by_env
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .status
            .success()
    );
    let mut wrong = daemon.command(&["pipeline", "ls"]);
    let wrong = wrong
        .env("WEIR_URL", &daemon.url)
        .args(&ca)
        .env("WEIR_TOKEN", "guess")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(!text(&wrong.stderr).contains("guess"), "{wrong:?}");
}

#[test]
fn a_daemon_that_is_not_there_is_told_and_files_stay_files() {
    let daemon = Daemon::start("");
    daemon.running();
    let unused = TcpStream::connect("127.0.0.1:1").is_err();
    assert!(unused);
    let gone = daemon
        .command(&["pipeline", "ls", "--url", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(
        text(&gone.stderr).contains("error[daemon_unavailable]"),
        "{gone:?}"
    );
    // What is a file stays a file, whatever the environment says.
    let here = daemon
        .command(&["log", "numbers.toml"])
        .env("WEIR_URL", "http://127.0.0.1:1")
        .output()
        .unwrap();
    assert!(here.status.success(), "{here:?}");
    let refused = daemon.weir(&["log", PIPELINE, "--verify"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let set = daemon.weir(&["pipeline", "swap", PIPELINE, "--reload", "--set", "a=b"]);
    assert!(
        text(&set.stderr).contains("--set is of files here"),
        "{set:?}"
    );
}

/// PEM of a certificate for 127.0.0.1 and of its key.
fn self_signed() -> (Vec<u8>, Vec<u8>) {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
    use openssl::x509::{X509, X509NameBuilder};
    let key = openssl::pkey::PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "weir test").unwrap();
    let name = name.build();
    let mut made = X509::builder().unwrap();
    made.set_version(2).unwrap();
    made.set_subject_name(&name).unwrap();
    made.set_issuer_name(&name).unwrap();
    made.set_pubkey(&key).unwrap();
    made.set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    made.set_not_after(&Asn1Time::days_from_now(2).unwrap())
        .unwrap();
    made.append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&made.x509v3_context(None, None))
        .unwrap();
    made.append_extension(names).unwrap();
    made.sign(&key, MessageDigest::sha256()).unwrap();
    (
        made.build().to_pem().unwrap(),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
}

/// Everything between ```sh daemon and ```, in order.
fn commands(page: &str) -> String {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let block = page.split("```sh daemon\n").nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

#[test]
fn the_guides_commands_against_a_daemon_are_run() {
    let daemon = Daemon::start("");
    let path = |below: &str| daemon.rig.path(below);
    fs::create_dir_all(path("data/plugins")).unwrap();
    fs::create_dir_all(path("conf")).unwrap();
    fs::copy(
        path("plugins/validate.wasm"),
        path("data/plugins/validate.wasm"),
    )
    .unwrap();
    let config = fs::read_to_string(path("numbers.toml")).unwrap();
    let config = config.replace("name = \"numbers\"", "name = \"books-raw\"");
    fs::write(path("conf/books-raw.toml"), config).unwrap();
    produce(&daemon.rig, 0..10);
    let shell = |script: &str| {
        let weir = Path::new(env!("CARGO_BIN_EXE_weir")).parent().unwrap();
        let search = format!("{}:{}", weir.display(), std::env::var("PATH").unwrap());
        let ran = Command::new("bash")
            .args(["-e", "-u", "-o", "pipefail", "-c", script])
            .env("PATH", search)
            .env("WEIR_URL", &daemon.url)
            .current_dir(daemon.rig.dir.path())
            .output()
            .unwrap();
        let told = format!("{}{}", text(&ran.stdout), text(&ran.stderr));
        assert!(ran.status.success(), "{told}");
        told
    };
    let told = shell(&commands("docs/plugin-store.md"));
    assert!(told.contains("back in use"), "{told}");
    let page = commands("docs/change-a-rule.md");
    let (create, rest) = page.split_once('\n').unwrap();
    shell(create);
    until("rows and letters", || {
        let (_, one) = daemon.get("/pipelines/books-raw");
        (one["log"]["records"]["read"] == 20).then_some(())
    });
    fs::write(path("low.toml"), "[columns.n]\nrequired = true\nmax = 59\n").unwrap();
    let told = shell(rest);
    for line in [
        "columns: same",
        "the archive delivers books since 1990",
        "blocks sha256:",
        "in the running process",
        "books-raw: deleted",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
}
