//! Real object stores for tests: versitygw (S3, built by Go's module proxy) and Azurite (Azure Blob, from npm), each on loopback.
//!
//! Fetched once into `target/test-servers`, offline afterwards. They end with the test process, however that ends. Without go,
//! node or npm a test says what it skips, and fails where `CI=true`.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir::config::{Location, Options, Publish, Text};
use weir::store::{self, Store};

use crate::brokers::{Held, files, free_ports, once, ran, servers, skip, until};

use crate::connect_http as http;

const VERSITYGW: &str = "v1.8.0";
const AZURITE: &str = "3.35.0";
/// Of the root user of versitygw. No secret: it listens on loopback, for the length of a test.
pub const ACCESS_KEY: &str = "weir-test";
pub const SECRET_KEY: &str = "weir-test-secret";
pub const REGION: &str = "us-east-1";
/// Azurite's own, in its documentation.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// How long a connection to a server that is about to listen may take.
const CONNECT: Duration = Duration::from_secs(1);

/// A server with its own directory and port.
pub struct Server {
    kind: Kind,
    program: PathBuf,
    dir: tempfile::TempDir,
    addr: SocketAddr,
    process: Option<Held>,
    more: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Versitygw,
    Azurite,
}

/// The S3 server that all tests of this process share; `None` where it cannot run.
pub fn s3() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(own_s3).as_ref()
}

/// A server for one test, to be killed and started again.
pub fn own_s3() -> Option<Server> {
    own_s3_with(&[])
}

/// With more arguments for all of its requests.
pub fn own_s3_with(more: &[&str]) -> Option<Server> {
    let program = versitygw()?;
    let mut server = Server::new(Kind::Versitygw, program);
    server.more = more.iter().map(|arg| (*arg).to_owned()).collect();
    // A directory of its root is a bucket.
    fs::create_dir(server.dir.path().join("buckets")).unwrap();
    Some(server.started())
}

/// The Azure server that all tests of this process share; `None` where it cannot run.
pub fn azure() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED
        .get_or_init(|| Some(Server::new(Kind::Azurite, azurite()?).started()))
        .as_ref()
}

fn versitygw() -> Option<PathBuf> {
    let dir = once("versitygw", VERSITYGW, |dir| {
        let mut go = Command::new("go");
        let module = format!("github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}");
        go.args(["install", &module])
            .env("GOBIN", dir)
            .current_dir(servers());
        ran("go install versitygw", &mut go)
    })?;
    Some(dir.join("versitygw"))
}

fn azurite() -> Option<PathBuf> {
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|out| out.status.success()) {
        skip("azurite", "no node on the PATH");
        return None;
    }
    let dir = once("azurite", AZURITE, |dir| {
        fs::create_dir_all(dir).map_err(|e| e.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
            .arg(dir)
            .arg(format!("azurite@{AZURITE}"))
            .current_dir(dir);
        ran("npm install azurite", &mut npm)
    })?;
    Some(dir.join("node_modules/azurite/dist/src/blob/main.js"))
}

impl Server {
    fn new(kind: Kind, program: PathBuf) -> Server {
        let (port, _) = free_ports();
        Server {
            kind,
            program,
            dir: tempfile::tempdir().unwrap(),
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
            process: None,
            more: Vec::new(),
        }
    }

    fn started(mut self) -> Server {
        self.start();
        self
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn endpoint(&self) -> String {
        match self.kind {
            Kind::Versitygw => format!("http://{}", self.addr),
            Kind::Azurite => format!("http://{}/{AZURE_ACCOUNT}", self.addr),
        }
    }

    /// kill -9; its directory and port stay.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            until("the end of the server", || (!process.alive()).then_some(()));
        }
    }

    /// Starts it and waits until it listens.
    pub fn start(&mut self) {
        let log = self.dir.path().join("server.log");
        let log = File::options().create(true).append(true).open(log).unwrap();
        let err = log.try_clone().unwrap();
        let process = Held::start(&self.command(), log.into(), Stdio::from(err));
        until("a store that answers", || {
            assert!(process.alive(), "the server ended: {}", self.log());
            TcpStream::connect_timeout(&self.addr, CONNECT).ok()
        });
        self.process = Some(process);
    }

    fn command(&self) -> Command {
        let (dir, port) = (self.dir.path(), self.addr.port());
        match self.kind {
            Kind::Versitygw => {
                let mut command = Command::new(&self.program);
                command
                    .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY])
                    .args(["--region", REGION, "--port", &self.addr.to_string()])
                    .args(&self.more)
                    .args(["--quiet", "posix"])
                    .arg(dir.join("buckets"));
                command
            }
            Kind::Azurite => {
                let mut command = Command::new("node");
                command
                    .arg(&self.program)
                    .args(["--blobHost", "127.0.0.1", "--blobPort"])
                    .arg(port.to_string())
                    .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"])
                    .arg("--location")
                    .arg(dir);
                command
            }
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// A new, empty bucket or container.
    pub fn bucket(&self, test: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("{test}-{}", NEXT.fetch_add(1, Ordering::SeqCst));
        match self.kind {
            Kind::Versitygw => fs::create_dir(self.files(&name)).unwrap(),
            Kind::Azurite => self.create_container(&name),
        }
        name
    }

    /// Where versitygw keeps the objects of a bucket, as plain files.
    pub fn files(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("buckets").join(bucket)
    }

    /// Parts that versitygw keeps of uploads that are not over.
    pub fn parts(&self, bucket: &str) -> Vec<PathBuf> {
        let uploads = self.files(bucket).join(".sgwtmp/multipart");
        let number = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.parse::<u32>().is_ok()
        };
        let mut parts = files(&uploads, "");
        parts.retain(|path| number(path));
        parts
    }

    /// A place in a bucket, with all that is needed to reach it.
    pub fn at(&self, bucket: &str, prefix: &str) -> Location {
        self.at_by(&self.endpoint(), bucket, prefix)
    }

    /// The same, reached by another address.
    pub fn at_by(&self, endpoint: &str, bucket: &str, prefix: &str) -> Location {
        let text = |text: &str| Some(Text::new(text));
        let mut options = Options {
            endpoint: Some(endpoint.to_owned()),
            allow_http: true,
            ..Options::default()
        };
        let scheme = match self.kind {
            Kind::Versitygw => {
                options.region = Some(REGION.to_owned());
                options.access_key_id = text(ACCESS_KEY);
                options.secret_access_key = text(SECRET_KEY);
                "s3"
            }
            Kind::Azurite => {
                options.account_name = Some(AZURE_ACCOUNT.to_owned());
                options.account_key = text(AZURE_KEY);
                "az"
            }
        };
        let url = format!("{scheme}://{bucket}/{prefix}");
        Location {
            url: url.trim_end_matches('/').to_owned(),
            options,
        }
    }

    /// A client of its own.
    pub fn open(&self, bucket: &str, prefix: &str) -> Arc<dyn Store> {
        store::open(&self.at(bucket, prefix)).unwrap()
    }

    /// Azure's `SharedKey`, for the one request that no store of ours sends.
    fn create_container(&self, name: &str) {
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let (version, account) = ("2021-12-02", AZURE_ACCOUNT);
        let signed = format!(
            "PUT{}x-ms-date:{date}\nx-ms-version:{version}\n/{account}/{account}/{name}\nrestype:container",
            "\n".repeat(12)
        );
        let key = STANDARD.decode(AZURE_KEY).unwrap();
        let key = openssl::pkey::PKey::hmac(&key).unwrap();
        let digest = openssl::hash::MessageDigest::sha256();
        let mut signer = openssl::sign::Signer::new(digest, &key).unwrap();
        signer.write_all(signed.as_bytes()).unwrap();
        let signature = STANDARD.encode(signer.sign_to_vec().unwrap());
        let authorization = format!("SharedKey {account}:{signature}");
        let path = format!("/{account}/{name}?restype=container");
        let headers = [
            ("x-ms-date", date.as_str()),
            ("x-ms-version", version),
            ("authorization", &authorization),
            ("content-length", "0"),
            ("accept", ""),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = http::ask(self.addr, "PUT", &path, &headers, None).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
}

/// What a place needs beside its URL, as keys below `sink.` or `source.`.
pub fn keys(at: &Location) -> Vec<(&'static str, String)> {
    let options = &at.options;
    let mut keys = Vec::new();
    for (key, value) in [
        ("store.endpoint", &options.endpoint),
        ("store.region", &options.region),
        ("store.account.name", &options.account_name),
    ] {
        keys.extend(value.clone().map(|value| (key, value)));
    }
    if options.allow_http {
        keys.push(("store.allow.http", "true".to_owned()));
    }
    if let Some(dir) = &options.hadoop_conf_dir {
        keys.push(("store.hadoop.conf.dir", dir.resolve().unwrap()));
    }
    if options.publish == Publish::Copy {
        keys.push(("publish", "copy".to_owned()));
    }
    keys
}

/// Where the tools of S3 and Azure look for them.
pub fn credentials() -> [(&'static str, &'static str); 3] {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AZURE_STORAGE_ACCOUNT_KEY", AZURE_KEY),
    ]
}

/// Tells a command how to reach a place; `of` is `sink`, or `books-raw:sink` for one pipeline.
pub fn reach(command: &mut Command, at: &Location, of: &str) {
    for (key, value) in keys(at) {
        if key != "publish" || of.ends_with("sink") {
            command.args(["--set", &format!("{of}.{key}={value}")]);
        }
    }
    command.envs(credentials());
}

/// The same as lines below `[sink]`.
pub fn declared(at: &Location) -> String {
    let lines = keys(at).into_iter().map(|(key, value)| match key {
        "store.allow.http" => format!("{key} = {value}\n"),
        _ => format!("{key} = \"{value}\"\n"),
    });
    lines.collect()
}

#[test]
fn servers_are_there_and_begin_again_with_what_they_had() {
    let Some(mut server) = own_s3() else { return };
    let bucket = server.bucket("again");
    assert!(Path::new(&server.files(&bucket)).is_dir());
    let denied = |server: &Server| {
        let path = format!("/{bucket}/none");
        let answer = http::ask(server.addr(), "GET", &path, &[], None).unwrap();
        answer.status
    };
    assert_eq!(denied(&server), 403);
    server.kill();
    assert!(TcpStream::connect_timeout(&server.addr(), CONNECT).is_err());
    server.start();
    assert_eq!(denied(&server), 403);
    let Some(azure) = azure() else { return };
    assert!(azure.bucket("container").starts_with("container-"));
}
