//! HDFS in secure mode: a Kerberos server, a name node and a data node as Hadoop has them, and a client with a ticket cache. All that
//! travels is encrypted (`privacy`, between client, name node and data node).
//!
//! Tickets are taken by the machine's own Kerberos library from the key file, as `kinit -k -t` does.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use weir::commit::LogName;

use crate::brokers::{Held, copy, free_ports, jars, skip, until};
use crate::case::{Case, said};
use crate::connect_http as http;
use crate::doctor::doctor_with;
use crate::hdfs_cluster::{DATA_NODE, NAME_NODE, STATE, formatted, java, of_any, write};
use crate::rate::listed;

const REALM: &str = "WEIR.TEST";
/// Name node and data node; to HDFS its user `hdfs` may do everything.
const SERVICE: &str = "hdfs/localhost";
const USER: &str = "alice";
const LIBRARY: &str = "libgssapi_krb5.so.2";
const MINI_KDC: &str = "org.apache.hadoop.minikdc.MiniKdc";
const SHELL: &str = "org.apache.hadoop.fs.FsShell";
/// `retry.max.backoff` of the pipeline that waits.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// Of a ticket that is to run out. The server gives none that is as good as over when it is asked for.
const SHORT: Duration = Duration::from_secs(12);

/// One secure cluster, where any user may make directories below `/lake`.
struct Secure {
    jars: PathBuf,
    dir: tempfile::TempDir,
    port: u16,
    /// Of the name node: what it says of itself. Of the data node: data.
    shown: [u16; 2],
    kdc: Held,
    name: Option<Held>,
    data: Option<Held>,
    /// When `short.tickets` was taken.
    short: Instant,
}

/// The cluster that the tests here share, one after the other; `None` where it cannot run.
fn secure() -> Option<MutexGuard<'static, Secure>> {
    static SHARED: OnceLock<Option<Mutex<Secure>>> = OnceLock::new();
    let cluster = SHARED.get_or_init(|| Secure::start().map(Mutex::new));
    let cluster = cluster.as_ref()?.lock();
    Some(cluster.unwrap_or_else(|failed| failed.into_inner()))
}

fn has_library() -> bool {
    let known = Command::new("ldconfig").arg("-p").output();
    known.is_ok_and(|known| String::from_utf8_lossy(&known.stdout).contains(LIBRARY))
}

impl Secure {
    fn start() -> Option<Secure> {
        let (hdfs, kerberos) = (jars("hdfs")?, jars("kdc")?);
        if !has_library() {
            let why = format!("{LIBRARY} is missing; apt-get install libgssapi-krb5-2");
            skip("HDFS with Kerberos", &why);
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let ((kdc, port), (name_http, data), (data_http, data_ipc)) =
            (free_ports(), free_ports(), free_ports());
        let kdc = kdc_of(dir.path(), &kerberos, kdc);
        let mut cluster = Secure {
            jars: hdfs,
            dir,
            port,
            shown: [name_http, data],
            kdc,
            name: None,
            data: None,
            short: Instant::now(),
        };
        let keys = cluster.path("all.keytab");
        until("a Kerberos server with its keys", || {
            assert!(cluster.kdc.alive(), "it ended: {}", cluster.said("kdc"));
            let there = TcpStream::connect(("127.0.0.1", port_of(cluster.dir.path()))).is_ok();
            (there && keys.is_file()).then_some(())
        });
        cluster.configure([data, data_http, data_ipc]);
        copy(
            &formatted(&cluster.jars).join("name"),
            &cluster.path("name"),
        );
        cluster.name = Some(cluster.held(NAME_NODE, "name"));
        cluster.data = Some(cluster.held(DATA_NODE, "data"));
        cluster.ready();
        cluster.ticket(USER, "short.tickets", Some(SHORT));
        cluster.short = Instant::now();
        cluster.ticket(SERVICE, "hdfs.tickets", None);
        let open = ["-Dfs.permissions.umask-mode=000", "-mkdir", "/lake"];
        cluster.hadoop(&open, "hdfs.tickets");
        cluster.ticket(USER, "alice.tickets", None);
        Some(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn configure(&self, data: [u16; 3]) {
        let file = |below: &str| format!("file://{}", self.shown(below));
        let mut hdfs = of_any(data);
        hdfs.extend([
            (
                "dfs.namenode.rpc-address",
                format!("localhost:{}", self.port),
            ),
            (
                "dfs.namenode.http-address",
                format!("127.0.0.1:{}", self.shown[0]),
            ),
            ("dfs.namenode.name.dir", file("name")),
            ("dfs.datanode.data.dir", file("data")),
            ("dfs.block.access.token.enable", "true".to_owned()),
            ("dfs.data.transfer.protection", "privacy".to_owned()),
            // Its pages need no certificate then; what it sends and takes is protected all the same.
            ("ignore.secure.ports.for.testing", "true".to_owned()),
        ]);
        for key in [
            "dfs.namenode.kerberos.principal",
            "dfs.datanode.kerberos.principal",
        ] {
            hdfs.push((key, format!("{SERVICE}@{REALM}")));
        }
        for key in ["dfs.namenode.keytab.file", "dfs.datanode.keytab.file"] {
            hdfs.push((key, self.shown("all.keytab")));
        }
        let core = [
            ("fs.defaultFS", format!("hdfs://localhost:{}", self.port)),
            ("hadoop.security.authentication", "kerberos".to_owned()),
            ("hadoop.security.authorization", "true".to_owned()),
            ("hadoop.rpc.protection", "privacy".to_owned()),
        ];
        write(&self.path("conf"), &core, &hdfs);
    }

    fn java(&self, args: &[&str]) -> Command {
        let krb5 = format!("-Djava.security.krb5.conf={}", self.shown("krb5.conf"));
        java(
            &self.jars,
            &self.path("conf"),
            &[&[krb5.as_str()], args].concat(),
        )
    }

    fn held(&self, class: &str, log: &str) -> Held {
        let log = File::create(self.path(&format!("{log}.log"))).unwrap();
        let err = log.try_clone().unwrap();
        Held::start(&self.java(&[class]), log.into(), err.into())
    }

    fn said(&self, log: &str) -> String {
        fs::read_to_string(self.path(&format!("{log}.log"))).unwrap_or_default()
    }

    fn ready(&self) {
        until("a secure name node with a data node", || {
            for process in [&self.name, &self.data].into_iter().flatten() {
                let logs = || format!("{}\n{}", self.said("name"), self.said("data"));
                assert!(process.alive(), "it ended: {}", logs());
            }
            let at = SocketAddr::from(([127, 0, 0, 1], self.shown[0]));
            let state = http::ask(at, "GET", STATE, &[], None).ok()?.json();
            let bean = &state["beans"][0];
            let works = bean["FSState"] == "Operational" && bean["NumLiveDataNodes"] == 1;
            (works && TcpStream::connect(("127.0.0.1", self.shown[1])).is_ok()).then_some(())
        });
    }

    /// Hadoop's own client, with a ticket cache.
    fn hadoop(&self, args: &[&str], cache: &str) {
        let mut command = self.java(&[&[SHELL], args].concat());
        let out = command.env("KRB5CCNAME", self.path(cache)).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{args:?}: {}", said(&out));
    }

    /// Takes a ticket into a file.
    fn ticket(&self, principal: &str, cache: &str, lifetime: Option<Duration>) {
        let case = self.case(
            "ticket",
            "nothing",
            &self.credentials(principal, cache, true),
        );
        let krb5 = self.path(&format!("{cache}.krb5.conf"));
        let life = lifetime.map_or(String::new(), |life| {
            format!("ticket_lifetime = {}s\n", life.as_secs())
        });
        fs::write(&krb5, krb5_conf(port_of(self.dir.path()), &life)).unwrap();
        let mut doctor = case.weir(&["doctor", "ticket.toml"]);
        let out = doctor.env("KRB5_CONFIG", &krb5).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(self.path(cache).is_file(), "{text}");
    }

    /// Keys of a ticket cache, and of the file it is taken from.
    fn credentials(&self, principal: &str, cache: &str, keytab: bool) -> String {
        let mut keys = format!(
            "sink.store.kerberos.principal = \"{principal}@{REALM}\"\nsink.store.kerberos.ticket.cache = \"{}\"\n",
            self.shown(cache)
        );
        if keytab {
            let from = self.shown("all.keytab");
            keys.push_str(&format!("sink.store.kerberos.keytab = \"{from}\"\n"));
        }
        keys
    }

    /// A pipeline whose zone is `/lake/<name>/raw`.
    fn case(&self, name: &'static str, source: &str, keys: &str) -> Case {
        let case = Case::new(name, "raw");
        let rows = match source {
            "endless" => "source.rows.per.second = 200\n",
            _ => "source.rows.per.second = 1000000\nsource.rows.total = 3000\n",
        };
        case.declare(
            &format!(
                "source.type = \"rate\"\n{rows}sink.type = \"zone\"\n\
                 sink.url = \"hdfs://localhost:{}/lake/{name}/raw\"\nsink.rotate.age = \"100ms\"\n\
                 sink.store.hadoop.conf.dir = \"{}\"\n{keys}",
                self.port,
                self.shown("conf")
            ),
            "",
        );
        case
    }

    /// Where the machine's Kerberos library finds the realm; no ticket but one that is given.
    fn prepare(&self, command: &mut Command) {
        command.env("KRB5_CONFIG", self.path("krb5.conf"));
        command.env("KRB5CCNAME", self.path("no.tickets"));
    }

    fn run(&self, case: &Case, more: impl FnOnce(&mut Command)) -> Output {
        let config = case.config();
        let config = config.file_name().unwrap().to_str().unwrap();
        let mut command = case.weir(&["run", config, "--available-now", "--progress", "none"]);
        self.prepare(&mut command);
        more(&mut command);
        command.output().unwrap()
    }
}

fn port_of(dir: &Path) -> u16 {
    let text = fs::read_to_string(dir.join("kdc.port")).unwrap();
    text.parse().unwrap()
}

fn krb5_conf(port: u16, more: &str) -> String {
    format!(
        "[libdefaults]\ndefault_realm = {REALM}\nudp_preference_limit = 1\ndns_lookup_kdc = false\n\
         dns_canonicalize_hostname = false\nrdns = false\n{more}\
         [realms]\n{REALM} = {{\nkdc = 127.0.0.1:{port}\n}}\n"
    )
}

/// Starts a Kerberos server with keys for all, which it writes into `all.keytab`.
fn kdc_of(dir: &Path, jars: &Path, port: u16) -> Held {
    fs::write(dir.join("kdc.port"), port.to_string()).unwrap();
    fs::write(dir.join("krb5.conf"), krb5_conf(port, "")).unwrap();
    let properties = format!(
        "org.name=WEIR\norg.domain=TEST\nkdc.bind.address=127.0.0.1\nkdc.port={port}\ninstance=DefaultKrbServer\n\
         transport=TCP\ndebug=false\nmax.ticket.lifetime=86400000\nmax.renewable.lifetime=604800000\n"
    );
    fs::write(dir.join("kdc.properties"), properties).unwrap();
    let work = dir.join("kdc");
    fs::create_dir(&work).unwrap();
    let files = [work, dir.join("kdc.properties"), dir.join("all.keytab")];
    let files = files.map(|file| file.display().to_string());
    let mut args = vec![MINI_KDC];
    args.extend(files.iter().map(String::as_str));
    args.extend([SERVICE, USER]);
    let log = File::create(dir.join("kdc.log")).unwrap();
    let err = log.try_clone().unwrap();
    Held::start(&java(jars, dir, &args), log.into(), err.into())
}

#[test]
fn rows_written_with_a_ticket_cache_are_read_back_by_hadoop() {
    let Some(cluster) = secure() else { return };
    // Both ways to name a ticket: as `kinit` leaves it to every program, and by keys.
    let keys = cluster.credentials(USER, "alice.tickets", false);
    for (name, keys, environment) in [
        ("by-environment", "", Some("alice.tickets")),
        ("by-keys", keys.as_str(), None),
    ] {
        let case = cluster.case(name, "", keys);
        let tickets = |command: &mut Command| {
            if let Some(cache) = environment {
                command.env("KRB5CCNAME", cluster.path(cache));
            }
        };
        let out = cluster.run(&case, tickets);
        assert!(out.status.success(), "{name}: {}", said(&out));
        let there = format!("/lake/{name}/raw");
        cluster.hadoop(
            &["-get", &there, &case.path("").display().to_string()],
            "alice.tickets",
        );
        let rows = listed(&case.path("raw"), &LogName::new(name, "raw"));
        let numbers: Vec<i64> = rows.into_keys().collect();
        assert_eq!(numbers, (0..3000).collect::<Vec<i64>>(), "{name}");
        let config = case.config().display().to_string();
        let looked = doctor_with(case.root(), &[&config], &|command| {
            cluster.prepare(command);
            tickets(command);
        });
        assert_eq!(looked.code, 0, "{}", looked.text);
        assert_eq!(looked.one("user")["says"], "known there as alice");
    }
}

#[test]
fn without_a_ticket_of_its_own_it_stops_and_says_how_to_get_one() {
    let Some(cluster) = secure() else { return };
    let absent = cluster.credentials(USER, "absent.tickets", false);
    let other = cluster.credentials("bob", "alice.tickets", false);
    let no_key = cluster.credentials("bob", "bob.tickets", true);
    for (name, keys, says, hint) in [
        (
            "no-ticket",
            "",
            "there is no Kerberos ticket",
            "`kinit <principal>`",
        ),
        (
            "absent",
            &absent,
            "there is no Kerberos ticket",
            "`kinit <principal>`",
        ),
        (
            "other",
            &other,
            "another principal's",
            "sink.store.kerberos.principal",
        ),
        (
            "no-key",
            &no_key,
            "there is no Kerberos ticket",
            "`klist -k`",
        ),
    ] {
        let case = cluster.case(name, "", keys);
        let out = cluster.run(&case, |_| ());
        let text = said(&out);
        assert!(!out.status.success(), "{name}: {text}");
        let told: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
        let told = told.first().copied().unwrap_or_default();
        assert!(told.contains(says) && told.contains(hint), "{name}: {text}");
    }
    // Hadoop's files of another cluster, or none.
    let case = cluster.case("plain", "", "");
    let empty = case.path("conf");
    write(&empty, &[], &[]);
    let conf = cluster.shown("conf");
    case.replace(&conf, &empty.display().to_string());
    let child = case.spawn_with(|command| cluster.prepare(command));
    let told = until("a word about it", || {
        let log = fs::read_to_string(case.path("weir.log")).ok()?;
        log.contains("closes the connection").then_some(log)
    });
    assert!(told.contains("sink.store.hadoop.conf.dir"), "{told}");
    drop(child);
    // Nor without the library: a file that is none stands in its place.
    let case = cluster.case("no-library", "", "");
    fs::write(case.path(LIBRARY), "no library").unwrap();
    let out = cluster.run(&case, |command| {
        command.env("LD_LIBRARY_PATH", case.root());
        command.env("KRB5CCNAME", cluster.path("alice.tickets"));
    });
    let text = said(&out);
    assert!(!out.status.success(), "{text}");
    assert!(text.contains("apt-get install libgssapi-krb5-2"), "{text}");
}

#[test]
fn a_ticket_that_is_over_or_gone_is_waited_for() {
    let Some(cluster) = secure() else { return };
    let keys = cluster.credentials(USER, "short.tickets", false)
        + "sink.store.request.timeout = \"2s\"\nretry.max.backoff = \"1s\"\n";
    let case = cluster.case("over", "endless", &keys);
    until("the end of a ticket", || {
        (cluster.short.elapsed() > SHORT + Duration::from_secs(1)).then_some(())
    });
    let config = case.config().display().to_string();
    let looked = doctor_with(case.root(), &[&config], &|command| cluster.prepare(command));
    looked.fails("store", "the Kerberos ticket is over", "`kinit`");
    let mut child = case.spawn_with(|command| cluster.prepare(command));
    let log = || fs::read_to_string(case.path("weir.log")).unwrap_or_default();
    // A busy machine may be waited for, too.
    let told = |text: &str| log().matches(text).count();
    let told_again = |text: &str, before: usize| {
        until(text, || (told(text) > before).then_some(()));
    };
    told_again("waiting", 0);
    assert_eq!(told("committed"), 0);
    // Somebody takes a new one.
    let renewed = || fs::copy(cluster.path("alice.tickets"), cluster.path("short.tickets"));
    renewed().unwrap();
    told_again("committed", 0);
    // The name node stops answering, so the connection is made anew, and by then the ticket is gone: it is waited for, for longer than
    // several tries take.
    let name = cluster.name.as_ref().unwrap().pid.to_string();
    let signal = |what: &str| Command::new("kill").args([what, &name]).status().unwrap();
    let before = told("waiting");
    signal("-STOP");
    told_again("waiting", before);
    fs::remove_file(cluster.path("short.tickets")).unwrap();
    signal("-CONT");
    let answers = Instant::now();
    until("several tries", || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", log());
        (answers.elapsed() > 4 * RETRY_MAX).then_some(())
    });
    let before = told("committed");
    renewed().unwrap();
    told_again("committed", before);
    child.stop();
    let get = [
        "-get",
        "/lake/over/raw",
        &case.path("").display().to_string(),
    ];
    cluster.hadoop(&get, "alice.tickets");
    let rows = listed(&case.path("raw"), &LogName::new("over", "raw"));
    let numbers: Vec<i64> = rows.into_keys().collect();
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<i64>>());
    assert!(!numbers.is_empty());
}
