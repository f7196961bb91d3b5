//! Properties of a store on HDFS: two clients that race, servers that die, and each refusal by its name.

use std::io::Write as _;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use weir::config::{Location, Options};
use weir::error::Kind;
use weir::store::{self, Created, Place, Published, Renamed, Renames, Seal, Store, Way, probe};

use crate::brokers::until;
use crate::hdfs_cluster::{BLOCK, Hdfs, hdfs, own_hdfs};

const HOME: &str = "_system/p/z";
const RACES: u64 = 200;
/// Much longer than any test.
const NOT_IDLE: Duration = Duration::from_secs(600);

fn client(hdfs: &Hdfs, path: &str) -> Arc<dyn Store> {
    store::open_url(&hdfs.url(path)).unwrap()
}

fn place(n: u64) -> Place {
    let id = ulid::Ulid::from_parts(1_700_000_000_000, u128::from(n)).to_string();
    let path = format!("books/day=1/{id}.parquet");
    Place::new(HOME, id, path)
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

/// A busy data node may report a block so late that the name node gives no further one: then again, as a pipeline does.
fn sealed(store: &Arc<dyn Store>, place: &Place, bytes: usize) -> Seal {
    until("a sealed file", || {
        let mut file = store.begin(place).ok()?;
        file.write_all(&content(bytes)).ok()?;
        file.seal().ok()
    })
}

fn renames(store: &dyn Store) -> &dyn Renames {
    match store.way() {
        Way::Rename(renames) => renames,
        Way::Complete(_) => panic!("HDFS renames"),
    }
}

/// Two processes, as far as the name node can tell.
#[test]
fn of_two_clients_one_wins_and_the_other_leaves_nothing() {
    let Some(hdfs) = hdfs() else { return };
    let path = hdfs.path("races");
    let clients = [client(hdfs, &path), client(hdfs, &path)];
    let barrier = Barrier::new(2);
    let mut wins = [0; 2];
    for round in 0..RACES {
        let name = format!("log/{round:020}.json");
        let bytes = |client: usize| vec![b'0' + client as u8; 300 + client];
        let race = |client: usize| {
            barrier.wait();
            clients[client].create(&name, &bytes(client)).unwrap()
        };
        let created: [Created; 2] = std::thread::scope(|scope| {
            let race = &race;
            [0, 1]
                .map(|client| scope.spawn(move || race(client)))
                .map(|thread| thread.join().unwrap())
        });
        let won: Vec<usize> = (0..2).filter(|c| created[*c] == Created::Done).collect();
        assert_eq!(won.len(), 1, "round {round}: {created:?}");
        let there = clients[1 - won[0]].get(&name).unwrap().unwrap();
        assert!(there == bytes(won[0]), "round {round}");
        wins[won[0]] += 1;
    }
    let there = hdfs.files(&path);
    assert_eq!(there.len() as u64, RACES, "losers leave nothing: {there:?}");
    println!("{wins:?} wins of two clients");
}

#[test]
fn of_two_renames_to_one_name_one_wins() {
    let Some(hdfs) = hdfs() else { return };
    let path = hdfs.path("renames");
    let clients = [client(hdfs, &path), client(hdfs, &path)];
    let barrier = Barrier::new(2);
    for round in 0..20 {
        let to = format!("t/d={round}/x");
        let from = |client: usize| format!("s/{round}-{client}");
        for (client, store) in clients.iter().enumerate() {
            store.create(&from(client), &content(client + 1)).unwrap();
        }
        let race = |client: usize| {
            barrier.wait();
            renames(clients[client].as_ref())
                .rename(&from(client), &to)
                .unwrap()
        };
        let renamed: [Renamed; 2] = std::thread::scope(|scope| {
            let race = &race;
            [0, 1]
                .map(|client| scope.spawn(move || race(client)))
                .map(|thread| thread.join().unwrap())
        });
        let won = renamed.iter().position(|r| *r == Renamed::Done).unwrap();
        assert_eq!(renamed[1 - won], Renamed::TargetExists, "round {round}");
        let size = clients[0].size(&to).unwrap();
        assert_eq!(size, Some(won as u64 + 1), "round {round}");
    }
}

/// Sizes around the borders of parts and blocks.
#[test]
fn files_of_many_blocks_are_read_back_whole_and_in_ranges() {
    let Some(hdfs) = hdfs() else { return };
    let store = client(hdfs, &hdfs.path("blocks"));
    for (n, bytes) in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK + 7]
        .into_iter()
        .enumerate()
    {
        let place = place(n as u64);
        let seal = sealed(&store, &place, bytes);
        assert_eq!(seal.bytes, bytes as u64);
        assert!(matches!(
            store.publish(&place, &seal).unwrap(),
            Published::Done
        ));
        let whole = content(bytes);
        assert!(store.get(place.path()).unwrap().unwrap() == whole);
        for (from, to) in [(0, 1), (BLOCK - 2, bytes), (bytes - 8, bytes)] {
            let range = from.min(bytes)..to.min(bytes);
            let found = store
                .get_range(place.path(), range.start as u64..range.end as u64)
                .unwrap();
            assert!(found == whole[range.clone()], "{bytes}: {range:?}");
        }
        let beyond = store.get_range(place.path(), 0..bytes as u64 + 1);
        assert_eq!(beyond.unwrap_err().kind(), Kind::LogCorrupt);
    }
    probe(&store, HOME, "books").unwrap();
}

/// A process died in the middle of a file; the name node's clock says when.
#[test]
fn what_a_killed_writer_leaves_is_hidden_and_cleared_when_it_is_old() {
    let Some(hdfs) = hdfs() else { return };
    let path = hdfs.path("killed-writer");
    let store = client(hdfs, &path);
    let place = place(0);
    let mut file = store.begin(&place).unwrap();
    file.write_all(&content(2 * BLOCK)).unwrap();
    std::mem::forget(file); // a kill
    let staging = format!("{HOME}/staging");
    let left = |idle| renames(store.as_ref()).leftovers(&staging, idle).unwrap();
    assert_eq!(store.list("").unwrap(), vec![]);
    assert_eq!(left(NOT_IDLE), [""; 0]);
    assert_eq!(
        left(Duration::ZERO),
        [format!("{staging}/{}", place.file())]
    );
    assert_eq!(store.begun(HOME).unwrap(), [""; 0]);

    // Another was killed while it asked for the time.
    let clock = format!("{path}/{staging}/.clock.{}.writing", ulid::Ulid::generate());
    let made = client(hdfs, "").create(&clock, b"");
    assert_eq!(made.unwrap(), Created::Done);
    hdfs.age_unfinished(&path);
    assert_eq!(store.begun(HOME).unwrap(), [place.file()]);
    store.discard(HOME, place.file()).unwrap();
    assert_eq!(hdfs.files(&path).len(), 0);
}

/// Acknowledged bytes are there after both servers died and came back: an entry, a sealed file, a published one.
#[test]
fn what_killed_servers_acknowledged_is_there_when_they_are_back() {
    let Some(mut hdfs) = own_hdfs() else { return };
    for round in 0..2 {
        let store = client(&hdfs, "p");
        let bytes = 2 * BLOCK + 1;
        let (waiting, shown) = (place(2 * round), place(2 * round + 1));
        let seal = sealed(&store, &waiting, bytes);
        let shown_seal = sealed(&store, &shown, bytes);
        let published = |store: &Arc<dyn Store>, place: &Place, seal: &Seal| {
            let published = store.publish(place, seal).unwrap();
            assert!(matches!(published, Published::Done), "{published:?}");
        };
        published(&store, &shown, &shown_seal);
        let entry = format!("log/{round:020}.json");
        assert_eq!(store.create(&entry, b"entry").unwrap(), Created::Done);
        hdfs.kill_name_node();
        hdfs.kill_data_node();
        let away = store.create("log/away", b"x").unwrap_err();
        assert_eq!(away.kind(), Kind::StoreUnavailable, "{away}");
        hdfs.start_name_node();
        hdfs.start_data_node();
        hdfs.ready();
        // Another process, which knows what the log says; and the one that waited.
        let other = client(&hdfs, "p");
        assert_eq!(other.get(&entry).unwrap().as_deref(), Some(&b"entry"[..]));
        published(&other, &waiting, &seal);
        for place in [&waiting, &shown] {
            assert!(store.get(place.path()).unwrap().unwrap() == content(bytes));
        }
        assert_eq!(store.create("log/away", b"x").unwrap(), Created::Done);
        store.delete("log/away").unwrap();
    }
    // One that is there and says nothing.
    let at = Location {
        url: hdfs.url("p"),
        options: Options {
            request_timeout: Duration::from_millis(700),
            ..Options::default()
        },
    };
    let store = store::open(&at).unwrap();
    assert_eq!(store.size("log/silent").unwrap(), None);
    hdfs.signal_name_node("-STOP");
    let silent = store.create("log/silent", b"x").unwrap_err();
    assert_eq!(silent.kind(), Kind::StoreUnavailable, "{silent}");
    assert!(silent.to_string().contains("has not answered"), "{silent}");
    hdfs.signal_name_node("-CONT");
    until("an answer", || store.create("log/silent", b"x").ok());
    assert_eq!(store.get("log/silent").unwrap().as_deref(), Some(&b"x"[..]));
}

/// A name service of two name nodes, as Hadoop's files describe it; the first one is away.
#[test]
fn a_name_service_is_found_in_hadoops_files_and_its_next_name_node_asked() {
    let Some(hdfs) = hdfs() else { return };
    let conf = tempfile::tempdir().unwrap();
    let properties = [
        ("dfs.nameservices", "lake".to_owned()),
        ("dfs.ha.namenodes.lake", "one,two".to_owned()),
        (
            "dfs.namenode.rpc-address.lake.one",
            "127.0.0.1:1".to_owned(),
        ),
        ("dfs.namenode.rpc-address.lake.two", hdfs.authority()),
    ]
    .map(|(name, value)| format!("<property><name>{name}</name><value>{value}</value></property>"));
    let text = format!("<configuration>{}</configuration>", properties.concat());
    std::fs::write(conf.path().join("hdfs-site.xml"), text).unwrap();
    let named = |url: String| {
        let conf = conf.path().display().to_string();
        let options = Options {
            hadoop_conf_dir: Some(weir::config::Text::new(&conf)),
            ..Options::default()
        };
        store::open(&Location { url, options })
    };
    let path = hdfs.path("service");
    let store = named(format!("hdfs://lake/{path}")).unwrap();
    assert_eq!(store.create("log/x", b"x").unwrap(), Created::Done);
    let plain = client(hdfs, &path);
    assert_eq!(plain.get("log/x").unwrap().as_deref(), Some(&b"x"[..]));
    let unknown = named("hdfs://no-such-service/x".to_owned()).unwrap_err();
    assert_eq!(unknown.kind(), Kind::ConfigInvalid, "{unknown}");
    assert!(
        unknown.to_string().contains("dfs.ha.namenodes"),
        "{unknown}"
    );
}

#[test]
fn each_refusal_has_its_name_and_its_remedy() {
    let Some(hdfs) = hdfs() else { return };
    let path = hdfs.path("refusals");
    // Rights.
    hdfs.ask("PUT", &path, "MKDIRS&permission=700");
    let alice = Location {
        url: hdfs.url(&path),
        options: Options {
            hadoop_user: Some("alice".to_owned()),
            ..Options::default()
        },
    };
    let alice = store::open(&alice).unwrap();
    for refused in [
        alice.create("log/x", b"x").unwrap_err(),
        alice.begin(&place(0)).unwrap_err(),
        alice.list("").unwrap_err(),
    ] {
        assert_eq!(refused.kind(), Kind::ConfigInvalid, "{refused}");
        let said = refused.to_string();
        assert!(
            said.contains("alice") && said.contains("sink.store.hadoop.user"),
            "{said}"
        );
        assert!(!said.contains('\n'), "{said}");
    }
    // A quota passes when somebody raises it.
    let store = client(hdfs, &path);
    hdfs.ask("PUT", &path, "SETQUOTA&namespacequota=1");
    let full = store.create("log/x", b"x").unwrap_err();
    assert_eq!(full.kind(), Kind::StoreUnavailable, "{full}");
    assert!(full.to_string().contains("quota"), "{full}");
    hdfs.ask("PUT", &path, "SETQUOTA&namespacequota=100");
    assert_eq!(store.create("log/x", b"x").unwrap(), Created::Done);
    // A file where a directory is needed.
    let blocked = store.create("log/x/y", b"y").unwrap_err();
    assert_eq!(blocked.kind(), Kind::ConfigInvalid, "{blocked}");
    // A port where nobody listens: it may come back.
    let nobody = store::open_url("hdfs://127.0.0.1:1/x").unwrap();
    let away = nobody.size("y").unwrap_err();
    assert_eq!(away.kind(), Kind::StoreUnavailable, "{away}");
    assert!(
        store::open_existing(&Location::of(&hdfs.url("no/such/path")))
            .unwrap()
            .is_none()
    );
}
