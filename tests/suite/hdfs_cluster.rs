//! Apache HDFS for tests: a name node and a data node as two processes, from Maven Central, which tests can kill and
//! start again.
//!
//! Fetched once into `target/test-servers`, offline afterwards. They end with the test process, however that ends. Without java
//! or mvn a test says what it skips, and fails where `CI=true`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::brokers::{Held, copy, free_ports, jars, servers, until};
use crate::connect_http as http;

pub const NAME_NODE: &str = "org.apache.hadoop.hdfs.server.namenode.NameNode";
pub const DATA_NODE: &str = "org.apache.hadoop.hdfs.server.datanode.DataNode";
/// What the name node says about itself.
pub const STATE: &str = "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState";
/// The smallest that a name node allows: most files of a test then have several blocks.
pub const BLOCK: usize = 1 << 20;

/// One cluster with its own directory and ports.
pub struct Hdfs {
    jars: PathBuf,
    dir: tempfile::TempDir,
    /// Of the name node: RPC and HTTP. Of the data node: data, HTTP and IPC.
    ports: [u16; 5],
    name: Option<Held>,
    data: Option<Held>,
}

/// The cluster that all tests of this process share; `None` where it cannot run.
pub fn hdfs() -> Option<&'static Hdfs> {
    static SHARED: OnceLock<Option<Hdfs>> = OnceLock::new();
    SHARED.get_or_init(own_hdfs).as_ref()
}

/// A cluster for one test, to be killed and started again.
pub fn own_hdfs() -> Option<Hdfs> {
    let jars = jars("hdfs")?;
    let formatted = formatted(&jars);
    let (a, b) = free_ports();
    let (c, d) = free_ports();
    let (e, _) = free_ports();
    let mut hdfs = Hdfs {
        jars,
        dir: tempfile::tempdir().unwrap(),
        ports: [a, b, c, d, e],
        name: None,
        data: None,
    };
    configure(hdfs.dir.path(), hdfs.ports);
    copy(&formatted.join("name"), &hdfs.dir.path().join("name"));
    hdfs.start_name_node();
    hdfs.start_data_node();
    hdfs.ready();
    Some(hdfs)
}

impl Hdfs {
    /// `host:port` of the name node.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    pub fn url(&self, path: &str) -> String {
        format!("hdfs://{}/{path}", self.authority())
    }

    /// A path that nobody used before.
    pub fn path(&self, test: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{test}-{}", NEXT.fetch_add(1, Ordering::SeqCst))
    }

    /// Where the name node answers HTTP: WebHDFS and its own state.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[1]))
    }

    /// What WebHDFS answers, as the user that everything belongs to or another.
    pub fn ask(&self, method: &str, path: &str, op: &str) -> serde_json::Value {
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let target = format!("/webhdfs/v1/{path}?user.name={user}&op={op}");
        let answer = http::ask(self.http(), method, &target, &[], None).unwrap();
        answer.json()
    }

    /// Every file below a path with its length, hidden names too, as HDFS itself lists them.
    pub fn files(&self, root: &str) -> BTreeMap<String, u64> {
        let (mut found, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
        while let Some(dir) = open.pop() {
            let listed = self.ask("GET", &dir, "LISTSTATUS");
            let statuses = listed["FileStatuses"]["FileStatus"].as_array();
            for status in statuses.into_iter().flatten() {
                let path = format!("{dir}/{}", status["pathSuffix"].as_str().unwrap());
                match status["type"] == "DIRECTORY" {
                    true => open.push(path),
                    false => {
                        found.insert(path, status["length"].as_u64().unwrap());
                    }
                }
            }
        }
        found
    }

    /// What was being written and was not finished, below a path, was last touched long ago.
    pub fn age_unfinished(&self, root: &str) {
        for path in self.files(root).keys() {
            if path.ends_with(".writing") {
                self.ask("PUT", path, "SETTIMES&modificationtime=1700000000000");
            }
        }
    }

    /// SIGSTOP or SIGCONT: it is there and does not answer.
    pub fn signal_name_node(&self, signal: &str) {
        let pid = self.name.as_ref().unwrap().pid.to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// kill -9; its directory and ports stay.
    pub fn kill_name_node(&mut self) {
        self.name = None;
    }

    pub fn kill_data_node(&mut self) {
        self.data = None;
    }

    pub fn start_name_node(&mut self) {
        self.name = Some(self.start(NAME_NODE, "name.log"));
    }

    pub fn start_data_node(&mut self) {
        self.data = Some(self.start(DATA_NODE, "data.log"));
    }

    /// Until the name node takes changes and has heard of a data node.
    pub fn ready(&self) {
        until("a name node with a data node", || {
            for process in [&self.name, &self.data].into_iter().flatten() {
                assert!(process.alive(), "it ended: {}", self.logs());
            }
            let answer = http::ask(self.http(), "GET", STATE, &[], None).ok()?;
            let state = answer.json();
            let bean = &state["beans"][0];
            let works = bean["FSState"] == "Operational" && bean["NumLiveDataNodes"] == 1;
            let data = SocketAddr::from(([127, 0, 0, 1], self.ports[2]));
            (works && TcpStream::connect(data).is_ok()).then_some(())
        });
    }

    fn start(&self, class: &str, log: &str) -> Held {
        let log = self.dir.path().join(log);
        let log = File::options().create(true).append(true).open(log).unwrap();
        let err = log.try_clone().unwrap();
        let command = java(&self.jars, &self.dir.path().join("conf"), &[class]);
        Held::start(&command, log.into(), Stdio::from(err))
    }

    fn logs(&self) -> String {
        let read = |name| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        let text = format!("{}\n{}", read("name.log"), read("data.log"));
        let from = text.len().saturating_sub(6_000);
        text.get(from..).unwrap_or_default().to_owned()
    }
}

/// With the configuration in a directory.
pub fn java(jars: &Path, conf: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"])
        .arg(format!("-Dhadoop.tmp.dir={}", conf.join("tmp").display()))
        .arg("-cp")
        .arg(format!("{}:{}/*", conf.display(), jars.display()))
        .args(args);
    command
}

fn configure(dir: &Path, [name, name_http, data, data_http, data_ipc]: [u16; 5]) {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let file = |below: &str| format!("file://{}", dir.join(below).display());
    let mut hdfs = vec![
        ("dfs.namenode.rpc-address", at(name)),
        ("dfs.namenode.http-address", at(name_http)),
        ("dfs.namenode.name.dir", file("name")),
        ("dfs.datanode.data.dir", file("data")),
    ];
    hdfs.extend(of_any([data, data_http, data_ipc]));
    let core = [("fs.defaultFS", format!("hdfs://{}", at(name)))];
    write(&dir.join("conf"), &core, &hdfs);
}

/// What every cluster of tests has, and where its data node listens: data, HTTP and IPC.
pub fn of_any([data, data_http, data_ipc]: [u16; 3]) -> Vec<(&'static str, String)> {
    let at = |port: u16| format!("127.0.0.1:{port}");
    vec![
        ("dfs.datanode.address", at(data)),
        ("dfs.datanode.http.address", at(data_http)),
        ("dfs.datanode.ipc.address", at(data_ipc)),
        ("dfs.replication", "1".to_owned()),
        ("dfs.blocksize", BLOCK.to_string()),
        // A node that comes back is heard at once.
        ("dfs.heartbeat.interval", "1".to_owned()),
        ("dfs.namenode.safemode.extension", "0".to_owned()),
        // One data node that is lost is known as lost after 12 s.
        ("dfs.namenode.heartbeat.recheck-interval", "1000".to_owned()),
    ]
}

/// Hadoop's two files.
pub fn write(conf: &Path, core: &[(&str, String)], hdfs: &[(&str, String)]) {
    fs::create_dir_all(conf).unwrap();
    for (file, properties) in [("core-site.xml", core), ("hdfs-site.xml", hdfs)] {
        let lines = properties.iter().map(|(name, value)| {
            format!("<property><name>{name}</name><value>{value}</value></property>\n")
        });
        let text = format!(
            "<configuration>\n{}</configuration>\n",
            lines.collect::<String>()
        );
        fs::write(conf.join(file), text).unwrap();
    }
}

/// The directory of a new name node; made once, copied for each cluster.
pub fn formatted(jars: &Path) -> PathBuf {
    let lock = File::create(servers().join(".lock")).unwrap();
    lock.lock().unwrap();
    let dir = servers().join("hdfs-formatted");
    if dir.join("name/current/VERSION").exists() {
        return dir;
    }
    configure(&dir, [1, 2, 3, 4, 5]);
    let out = java(
        jars,
        &dir.join("conf"),
        &[NAME_NODE, "-format", "-force", "-nonInteractive"],
    )
    .output()
    .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(dir.join("name/current/VERSION").exists(), "format: {text}");
    dir
}
