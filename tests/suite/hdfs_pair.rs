//! A name service of HDFS: two name nodes that share their edits, of which one is active, and a data node. Hadoop's own
//! `haadmin` sets which one is active. Weir goes on with either.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir::config::{Location, Options, Text};

use crate::brokers::{Held, copy, free_ports, jars, kafka, tail, until};
use crate::connect_http as http;
use crate::hdfs_cluster::{DATA_NODE, NAME_NODE, STATE, formatted, java, of_any, write};
use crate::kill::{Estate, kill, logs_agree, produce};
use crate::listed::{finish, log_totals, still_runs};

const ADMIN: &str = "org.apache.hadoop.hdfs.tools.DFSHAAdmin";
const SERVICE: &str = "lake";
const NAMES: [&str; 2] = ["one", "two"];
/// What a name node says of itself, as it is now.
const STATUS: &str = "/jmx?qry=Hadoop:service=NameNode,name=NameNodeStatus";

/// None of them is active at first.
struct Pair {
    jars: PathBuf,
    dir: tempfile::TempDir,
    /// Of each name node: RPC and HTTP.
    ports: [[u16; 2]; 2],
    names: [Option<Held>; 2],
    _data: Option<Held>,
}

impl Pair {
    fn start() -> Option<Pair> {
        let jars = jars("hdfs")?;
        let formatted = formatted(&jars).join("name");
        let dir = tempfile::tempdir().unwrap();
        let pair = || <[u16; 2]>::from(free_ports());
        let ports = [pair(), pair()];
        let ([data, data_http], [data_ipc, _]) = (pair(), pair());
        let own = of_any([data, data_http, data_ipc]);
        for (node, name) in NAMES.iter().enumerate() {
            configure(dir.path(), node, ports, &own);
            copy(&formatted, &dir.path().join(name));
        }
        // Edits that are shared begin with whose they are.
        let shared = dir.path().join("shared/current");
        fs::create_dir_all(&shared).unwrap();
        fs::copy(formatted.join("current/VERSION"), shared.join("VERSION")).unwrap();
        let mut pair = Pair {
            jars,
            dir,
            ports,
            names: [None, None],
            _data: None,
        };
        pair.start_name_node(0);
        pair.start_name_node(1);
        pair._data = Some(pair.held(0, DATA_NODE, "data.log"));
        pair.ready(0);
        pair.ready(1);
        Some(pair)
    }

    fn conf(&self, node: usize) -> PathBuf {
        conf(self.dir.path(), node)
    }

    /// A place, with what a client needs to find it.
    fn at(&self, path: &str) -> Location {
        let conf = self.conf(0).display().to_string();
        Location {
            url: format!("hdfs://{SERVICE}/{path}"),
            options: Options {
                hadoop_conf_dir: Some(Text::new(&conf)),
                ..Options::default()
            },
        }
    }

    fn held(&self, node: usize, class: &str, log: &str) -> Held {
        let log = self.dir.path().join(log);
        let log = File::options().create(true).append(true).open(log).unwrap();
        let err = log.try_clone().unwrap();
        let command = java(&self.jars, &self.conf(node), &[class]);
        Held::start(&command, log.into(), Stdio::from(err))
    }

    fn start_name_node(&mut self, node: usize) {
        let log = format!("{}.log", NAMES[node]);
        self.names[node] = Some(self.held(node, NAME_NODE, &log));
    }

    /// kill -9; its directory and ports stay.
    fn kill(&mut self, node: usize) {
        self.names[node] = None;
    }

    fn says(&self, node: usize, what: &str) -> Option<serde_json::Value> {
        let at = SocketAddr::from(([127, 0, 0, 1], self.ports[node][1]));
        let answer = http::ask(at, "GET", what, &[], None).ok()?;
        Some(answer.json()["beans"][0].clone())
    }

    /// Until a name node has read all edits and has heard of the data node.
    fn ready(&self, node: usize) {
        until("a name node with a data node", || {
            let process = self.names[node].as_ref().unwrap();
            assert!(process.alive(), "it ended: {}", self.log(node));
            let state = self.says(node, STATE)?;
            let works = state["FSState"] == "Operational" && state["NumLiveDataNodes"] == 1;
            works.then_some(())
        });
    }

    fn log(&self, node: usize) -> String {
        let log = self.dir.path().join(format!("{}.log", NAMES[node]));
        tail(&fs::read_to_string(log).unwrap_or_default()).to_owned()
    }

    fn haadmin(&self, args: &[&str]) {
        let args = [&[ADMIN][..], args].concat();
        let out = java(&self.jars, &self.conf(0), &args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{args:?}: {said}");
    }

    /// The other one is dead or standby; it is not asked.
    fn activate(&self, node: usize) {
        self.haadmin(&["-transitionToActive", "--forceactive", NAMES[node]]);
        until("an active name node", || {
            (self.says(node, STATUS)?["State"] == "active").then_some(())
        });
    }

    /// Both are there: the one becomes standby, then the other active.
    fn hand_over(&self, from: usize, to: usize) {
        self.haadmin(&["-failover", NAMES[from], NAMES[to]]);
        until("the other name node", || {
            (self.says(to, STATUS)?["State"] == "active").then_some(())
        });
    }
}

fn conf(dir: &Path, node: usize) -> PathBuf {
    dir.join(format!("conf-{}", NAMES[node]))
}

fn configure(dir: &Path, node: usize, ports: [[u16; 2]; 2], own: &[(&'static str, String)]) {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let file = |below: &str| format!("file://{}", dir.join(below).display());
    let mut hdfs = own.to_vec();
    hdfs.extend([
        ("dfs.nameservices", SERVICE.to_owned()),
        ("dfs.ha.namenodes.lake", NAMES.join(",")),
        ("dfs.namenode.rpc-address.lake.one", at(ports[0][0])),
        ("dfs.namenode.rpc-address.lake.two", at(ports[1][0])),
        ("dfs.namenode.http-address.lake.one", at(ports[0][1])),
        ("dfs.namenode.http-address.lake.two", at(ports[1][1])),
        ("dfs.ha.namenode.id", NAMES[node].to_owned()),
        ("dfs.namenode.name.dir", file(NAMES[node])),
        ("dfs.namenode.shared.edits.dir", file("shared")),
        ("dfs.datanode.data.dir", file("data")),
        ("dfs.ha.fencing.methods", "shell(/bin/true)".to_owned()),
        (
            "dfs.client.failover.proxy.provider.lake",
            "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider".to_owned(),
        ),
        // A standby that takes over has little to read.
        ("dfs.ha.tail-edits.period", "1".to_owned()),
        ("dfs.ha.log-roll.period", "1".to_owned()),
    ]);
    let core = [("fs.defaultFS", format!("hdfs://{SERVICE}"))];
    write(&conf(dir, node), &core, &hdfs);
}

/// The active name node hands over, comes back as standby, and the one that is active by then is killed; rows go on each time,
/// nothing is lost or doubled, and Weir is never started again.
#[test]
fn a_name_service_whose_active_name_node_changes_under_load_is_followed() {
    let (Some(broker), Some(mut pair)) = (kafka(), Pair::start()) else {
        return;
    };
    let mut estate = Estate::new(broker, "name-service");
    estate.bucket = Some(pair.at("zones"));
    let done = Arc::new(AtomicBool::new(false));
    let producer = produce(&estate, None, done.clone());
    // Nobody is active: it is waited for.
    let mut child = estate.weir(&[]).spawn().unwrap();
    until("a word about it", || {
        estate
            .said()
            .contains("no name node is active")
            .then_some(())
    });
    pair.activate(0);
    let goes_on = |what: &str| {
        let before = log_totals(&estate).0;
        until(what, || (log_totals(&estate).0 > before).then_some(()));
    };
    goes_on("rows by the first name node");
    pair.hand_over(0, 1);
    goes_on("rows by the second, while the first is standby");
    pair.kill(1);
    pair.activate(0);
    goes_on("rows by the first, while the second is dead");
    pair.start_name_node(1);
    pair.ready(1);
    goes_on("rows while the second is standby");
    still_runs(&mut child, &estate, 0);
    done.store(true, Ordering::Relaxed);
    let produced = producer.join().unwrap();
    kill(child);
    finish(&estate);
    logs_agree(&estate, &produced);
    let said = estate.said();
    assert!(said.contains("going on"), "{said}");
    println!(
        "{} messages, {} waits",
        produced.messages,
        said.matches("waiting").count()
    );
}
