//! What every store must do, in whichever way it publishes: put-if-absent, and the life of a data file: alone, in a
//! race, and interrupted at each request. A new store is one line in [`stores`]. Real servers are used by two clients,
//! and killed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use weir::error::{Kind, Result};
use weir::store::{
    self, Created, Fault, FaultStore, Place, Published, Readable, Script, Seal, Store, Way,
    open_uploads,
};

use crate::brokers::until;
use crate::hdfs_cluster::hdfs;
use crate::object_servers::{Server, azure, own_s3, s3};

const HOME: &str = "_system/p/z";

/// Rounds of each race. Every round is over in well under a millisecond where nothing waits for a disk.
const ROUNDS: u64 = 30;
/// Of two clients of a real server, for one name.
const ROUNDS_OF_TWO: u64 = 200;
/// More than one part of a real upload.
const TWO_PARTS: usize = (8 << 20) + 1;

/// One of each kind, new and empty. Parts of 1000 bytes, so that most files have several.
fn stores(test: &str) -> Vec<(Arc<dyn Store>, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file:{}", dir.path().display());
    let mut stores = vec![(store::open_url(&url).unwrap(), Some(dir))];
    let mut urls = vec![format!("memory:any-{test}")];
    for answers in ["refuses", "lenient", "varies", "fails"] {
        urls.push(format!(
            "memory+upload:any-{test}?part=1000&answers={answers}"
        ));
    }
    if let Some(hdfs) = hdfs() {
        let at = hdfs.url(&hdfs.path(&format!("any-{test}")));
        stores.push((store::open_url(&at).unwrap(), None));
    }
    stores.extend(urls.iter().map(|url| (store::open_url(url).unwrap(), None)));
    stores.extend(servers().map(|server| (server.open(&server.bucket(test), ""), None)));
    stores
}

/// Those that can run here.
fn servers() -> impl Iterator<Item = &'static Server> {
    [s3(), azure()].into_iter().flatten()
}

/// An object store on a server: it may take a completion and show nothing yet.
fn is_served(store: &dyn Store) -> bool {
    ["s3://", "az://"]
        .iter()
        .any(|scheme| store.url().starts_with(scheme))
}

fn each(test: &str, check: impl Fn(&Arc<dyn Store>)) {
    for (store, _dir) in stores(test) {
        eprintln!("{}", store.url());
        check(&store);
    }
}

fn new_place() -> Place {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::SeqCst);
    let id = ulid::Ulid::from_parts(1_700_000_000_000, u128::from(n)).to_string();
    let path = format!("books/day=1/{id}.parquet");
    Place::new(HOME, id, path)
}

/// Different for each file and place in it.
fn content(place: &Place, bytes: usize) -> Vec<u8> {
    let salt = place.file().bytes().map(usize::from).sum::<usize>();
    (0..bytes).map(|i| ((i * 31 + salt) % 251) as u8).collect()
}

fn sealed(store: &Arc<dyn Store>, place: &Place, bytes: usize) -> Result<Seal> {
    let mut file = store.begin(place)?;
    file.write_all(&content(place, bytes)).map_err(|e| {
        let inner = e.into_inner().expect("the store's own error");
        *inner.downcast::<weir::error::Error>().expect("ours")
    })?;
    file.seal()
}

fn gone(store: &Arc<dyn Store>, place: &Place, seal: &Seal) -> bool {
    store.retire(&[(place.clone(), seal.clone())]).unwrap() == 1
}

#[track_caller]
fn shows(store: &Arc<dyn Store>, place: &Place, bytes: usize) {
    let found = store.get(place.path()).unwrap().expect("it shows");
    assert!(found == content(place, bytes), "{}: not whole", store.url());
    let listed = store.list("books").unwrap();
    let size = bytes as u64;
    assert!(
        listed
            .iter()
            .any(|l| l.path == place.path() && l.size == size)
    );
    let readable = store.readable(place).unwrap().unwrap();
    let path = place.path().to_owned();
    assert_eq!(readable, Readable { path, bytes: size });
}

#[track_caller]
fn hidden(store: &Arc<dyn Store>, place: &Place) {
    assert_eq!(store.size(place.path()).unwrap(), None, "{}", store.url());
    assert_eq!(store.get(place.path()).unwrap(), None);
    let listed = store.list("books").unwrap();
    assert!(listed.iter().all(|l| l.path != place.path()));
}

#[track_caller]
fn nothing_is_left(store: &Arc<dyn Store>) {
    assert_eq!(store.list("").unwrap(), vec![], "{}", store.url());
    let uploads = open_uploads(store.as_ref());
    assert!(uploads.iter().all(|u| u.parts.is_empty()), "{uploads:?}");
    if let (Some((_, path)), Some(hdfs)) = (store.url().split_once("/any-"), hdfs()) {
        // Nothing hidden either.
        assert_eq!(hdfs.files(&format!("any-{path}")), BTreeMap::new());
    }
    let bucket = store.url().strip_prefix("s3://");
    if let Some((server, bucket)) = s3().zip(bucket) {
        assert!(server.parts(bucket).is_empty());
    }
}

/// Until it shows, where a server may be slow to show.
fn published(store: &Arc<dyn Store>, place: &Place, seal: &Seal) -> Published {
    until("a publication", || {
        let published = store.publish(place, seal).unwrap();
        let waits = is_served(store.as_ref()) && matches!(published, Published::NotYet(_));
        (!waits).then_some(published)
    })
}

#[test]
fn small_objects_are_put_if_absent() {
    each("small", |store| {
        assert_eq!(store.list("a").unwrap(), vec![]);
        assert_eq!(store.get("a/b").unwrap(), None);
        assert_eq!(store.size("a/b").unwrap(), None);
        assert_eq!(store.create("a/b", b"one").unwrap(), Created::Done);
        assert_eq!(store.create("a/b", b"two").unwrap(), Created::Exists);
        assert_eq!(store.create("a/c/d", b"").unwrap(), Created::Done);
        assert_eq!(store.create("ab", b"beside").unwrap(), Created::Done);
        assert_eq!(store.get("a/b").unwrap().unwrap().as_ref(), b"one");
        assert_eq!(store.get_range("a/b", 1..3).unwrap().as_ref(), b"ne");
        assert!(store.get_range("a/b", 1..9).is_err());
        assert!(store.get_range("a/x", 0..1).is_err());
        let below = |prefix| -> Vec<String> {
            let listed = store.list(prefix).unwrap();
            listed.into_iter().map(|l| l.path).collect()
        };
        assert_eq!(below("a"), ["a/b", "a/c/d"]);
        assert_eq!(below(""), ["a/b", "a/c/d", "ab"]);
        store.sync("a").unwrap();
        store.sync("nowhere").unwrap();
        for _ in 0..2 {
            store.delete("a/b").unwrap();
        }
        assert_eq!(store.create("a/b", b"two").unwrap(), Created::Done);
    });
}

#[test]
fn of_many_that_create_one_name_one_wins() {
    each("create-race", |store| {
        for round in 0..ROUNDS {
            let name = format!("log/{round}");
            let wins: Vec<Vec<u8>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|n| {
                        let (store, name) = (Arc::clone(store), name.clone());
                        scope.spawn(move || {
                            let bytes = vec![n; 100 + usize::from(n)];
                            let created = store.create(&name, &bytes).unwrap();
                            (created == Created::Done).then_some(bytes)
                        })
                    })
                    .collect();
                let ended = threads.into_iter().filter_map(|t| t.join().unwrap());
                ended.collect()
            });
            assert_eq!(wins.len(), 1, "{}", store.url());
            assert!(store.get(&name).unwrap().unwrap() == wins[0]);
        }
    });
}

#[test]
fn a_file_shows_when_it_is_published_and_never_again_when_it_is_retired() {
    each("life", |store| {
        let mut sizes = vec![0, 1, 999, 1000, 1001, 5000, 5_000_000];
        if is_served(store.as_ref()) {
            sizes.push(TWO_PARTS);
        }
        for bytes in sizes {
            let place = new_place();
            let seal = sealed(store, &place, bytes).unwrap();
            assert_eq!(seal.bytes, bytes as u64);
            assert!(seal.upload.as_ref().is_none_or(|u| u.defect().is_none()));
            hidden(store, &place);
            assert_eq!(store.begun(HOME).unwrap(), [place.file()]);
            let readable = store.readable(&place).unwrap();
            assert_eq!(readable.is_some(), store.reads_unpublished());
            if let Some(found) = readable {
                let read = store.get(&found.path).unwrap().unwrap();
                assert!(read == content(&place, bytes));
            }
            for _ in 0..3 {
                let published = store.publish(&place, &seal).unwrap();
                assert!(matches!(published, Published::Done), "{published:?}");
                shows(store, &place, bytes);
                assert!(store.begun(HOME).unwrap().is_empty());
            }
            for _ in 0..2 {
                assert!(gone(store, &place, &seal));
                hidden(store, &place);
                assert!(!matches!(
                    store.publish(&place, &seal).unwrap(),
                    Published::Done
                ));
            }
        }
        nothing_is_left(store);
    });
}

#[test]
fn a_file_that_is_retired_before_it_is_published_never_shows_again() {
    each("early-retire", |store| {
        let places: Vec<(Place, Seal)> = (0..5)
            .map(|_| {
                let place = new_place();
                let seal = sealed(store, &place, 2500).unwrap();
                (place, seal)
            })
            .collect();
        assert_eq!(store.retire(&places).unwrap(), places.len());
        for (place, seal) in &places {
            assert!(!matches!(
                store.publish(place, seal).unwrap(),
                Published::Done
            ));
            hidden(store, place);
        }
        nothing_is_left(store);
    });
}

#[test]
fn a_file_that_is_discarded_never_shows() {
    each("discard", |store| {
        let place = new_place();
        let seal = sealed(store, &place, 2500).unwrap();
        for _ in 0..2 {
            store.discard(HOME, place.file()).unwrap();
        }
        // Azure aborts nothing: there nobody completes what no entry adds.
        if !matches!(store.way(), Way::Complete(uploads) if !uploads.aborts()) {
            assert!(!matches!(
                store.publish(&place, &seal).unwrap(),
                Published::Done
            ));
        }
        hidden(store, &place);
        store.discard(HOME, new_place().file()).unwrap();
        nothing_is_left(store);
    });
}

#[test]
fn a_file_that_is_dropped_leaves_nothing() {
    each("drop", |store| {
        for bytes in [0, 10, 5000] {
            let place = new_place();
            let mut file = store.begin(&place).unwrap();
            file.write_all(&content(&place, bytes)).unwrap();
            drop(file);
            hidden(store, &place);
        }
        nothing_is_left(store);
    });
}

/// Another process thinks that this one is dead.
#[test]
fn a_file_that_is_collected_while_it_is_written_is_a_conflict() {
    each("collected", |store| {
        let place = new_place();
        let mut file = store.begin(&place).unwrap();
        file.write_all(&content(&place, 1500)).unwrap();
        // A directory's first part lies in memory until then: nobody can collect it, nor need to.
        store.discard(HOME, place.file()).unwrap();
        match file.seal() {
            Err(e) => assert_eq!(e.kind(), Kind::Conflict, "{e}"),
            Ok(_) => store.discard(HOME, place.file()).unwrap(),
        }
        hidden(store, &place);
        nothing_is_left(store);
    });
}

#[test]
fn publishers_that_race_all_see_one_whole_file() {
    each("publish-race", |store| {
        for _ in 0..ROUNDS {
            let place = new_place();
            let seal = sealed(store, &place, 2500).unwrap();
            let over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let publishers: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            let published = published(store, &place, &seal);
                            assert!(matches!(published, Published::Done), "{published:?}");
                            shows(store, &place, 2500);
                        })
                    })
                    .collect();
                scope.spawn(|| {
                    let mut seen = false;
                    while !over.load(Ordering::SeqCst) {
                        let size = store.size(place.path()).unwrap();
                        assert!(size == Some(2500) || size.is_none() && !seen, "{size:?}");
                        seen |= size.is_some();
                    }
                });
                for publisher in publishers {
                    publisher.join().unwrap();
                }
                over.store(true, Ordering::SeqCst);
            });
            assert!(gone(store, &place, &seal));
        }
        nothing_is_left(store);
    });
}

#[test]
fn publishers_bring_nothing_back_that_racing_removers_took() {
    each("retire-race", |store| {
        for _ in 0..ROUNDS {
            let place = new_place();
            let seal = sealed(store, &place, 2500).unwrap();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| store.publish(&place, &seal).unwrap());
                }
                for _ in 0..2 {
                    scope.spawn(|| while !gone(store, &place, &seal) {});
                }
            });
            hidden(store, &place);
            assert!(!matches!(
                store.publish(&place, &seal).unwrap(),
                Published::Done
            ));
            hidden(store, &place);
        }
        nothing_is_left(store);
    });
}

#[test]
fn writers_and_collectors_that_race_leave_nothing() {
    each("discard-race", |store| {
        for _ in 0..ROUNDS {
            let place = new_place();
            std::thread::scope(|scope| {
                scope.spawn(|| match sealed(store, &place, 2500) {
                    Ok(_) => {}
                    Err(e) => assert_eq!(e.kind(), Kind::Conflict, "{e}"),
                });
                scope.spawn(|| {
                    for id in store.begun(HOME).unwrap() {
                        store.discard(HOME, &id).unwrap();
                    }
                });
            });
            store.discard(HOME, place.file()).unwrap();
            hidden(store, &place);
        }
        nothing_is_left(store);
    });
}

/// How far the first process came.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Begun,
    Sealed,
    Published,
    Retired,
}

/// A life up to `end` through a store that fails as told; how far it came, and the seal.
fn lived(store: &Arc<dyn Store>, place: &Place, end: Life) -> (Life, Option<Seal>) {
    let Ok(seal) = sealed(store, place, 2500) else {
        return (Life::Begun, None);
    };
    let known = Some(seal.clone());
    if end == Life::Sealed {
        return (Life::Sealed, known);
    }
    if !matches!(store.publish(place, &seal), Ok(Published::Done)) {
        return (Life::Sealed, known);
    }
    if end == Life::Published {
        return (Life::Published, known);
    }
    match store.retire(&[(place.clone(), seal)]) {
        Ok(1) => (Life::Retired, known),
        _ => (Life::Published, known),
    }
}

/// One process dies or fails at each request of a life in turn; another brings it to each end that the log could ask for.
#[test]
fn whatever_is_cut_short_another_process_ends() {
    let faults = [
        Fault::FailBefore,
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::Torn,
        Fault::ReplyLost,
        Fault::Denied,
        Fault::Pending,
        Fault::Late,
    ];
    each("cut", |bare| {
        let mut steps = 0;
        // What a server does in the middle of a completion is its own affair.
        let played = |fault: &&Fault| {
            !is_served(bare.as_ref()) || !matches!(fault, Fault::Torn | Fault::Pending)
        };
        for fault in faults.iter().copied().filter(|fault| played(&fault)) {
            for lands_first in [true, false] {
                for end in [Life::Sealed, Life::Published, Life::Retired] {
                    for step in 0.. {
                        let place = new_place();
                        let script = Arc::new(Script::durable(step, fault));
                        let faulty =
                            FaultStore::new(Arc::clone(bare), Arc::<Script>::clone(&script));
                        let store: Arc<dyn Store> = Arc::<FaultStore>::clone(&faulty);
                        let (came, seal) = lived(&store, &place, end);
                        // A crash may come while the process was about to end, too.
                        drop(store);
                        cut_short(bare, &faulty, &place, (end, came, seal), lands_first);
                        steps = steps.max(step);
                        if script.seen() <= step {
                            break;
                        }
                    }
                }
            }
        }
        assert!(steps > 3, "{steps}");
    });
}

fn cut_short(
    bare: &Arc<dyn Store>,
    faulty: &FaultStore,
    place: &Place,
    (end, came, seal): (Life, Life, Option<Seal>),
    lands_first: bool,
) {
    let land = || {
        while faulty.late() > 0 {
            faulty.land();
        }
    };
    if lands_first {
        land();
    }
    let context = format!("{} {end:?} {came:?}", bare.url());
    match (end, seal) {
        // No entry adds it.
        (_, None) | (Life::Sealed | Life::Begun, _) => {
            bare.discard(HOME, place.file()).unwrap();
            land();
            for id in bare.begun(HOME).unwrap() {
                bare.discard(HOME, &id).unwrap();
            }
        }
        (Life::Published, Some(seal)) => {
            let mut published = bare.publish(place, &seal).unwrap();
            if faulty.late() > 0 && matches!(published, Published::NotYet(_)) {
                land();
                published = bare.publish(place, &seal).unwrap();
            }
            assert!(
                matches!(published, Published::Done),
                "{context} {published:?}"
            );
            shows(bare, place, 2500);
            land();
            shows(bare, place, 2500);
            assert!(gone(bare, place, &seal));
        }
        (Life::Retired, Some(seal)) => {
            let mut is_gone = gone(bare, place, &seal);
            if faulty.late() > 0 && !is_gone {
                land();
                is_gone = gone(bare, place, &seal);
            }
            assert!(is_gone, "{context}");
            land();
            assert!(!matches!(
                bare.publish(place, &seal).unwrap(),
                Published::Done
            ));
        }
    }
    hidden(bare, place);
    nothing_is_left(bare);
}

/// Two processes each, as far as the server can tell.
#[test]
fn of_two_clients_that_create_one_name_one_wins() {
    for server in servers() {
        let bucket = server.bucket("two-clients");
        // Clients of one place are shared inside of a process.
        let clients = [5, 6].map(|seconds| {
            let mut at = server.at(&bucket, "p");
            at.options.connect_timeout = Duration::from_secs(seconds);
            store::open(&at).unwrap()
        });
        let barrier = Barrier::new(2);
        let mut wins = [0; 2];
        for round in 0..ROUNDS_OF_TWO {
            let name = format!("log/{round:020}.json");
            let bytes = |client: usize| vec![b'0' + client as u8; 300 + client];
            let race = |client: usize| {
                barrier.wait();
                clients[client].create(&name, &bytes(client)).unwrap()
            };
            let created: Vec<Created> = std::thread::scope(|scope| {
                let race = &race;
                let threads = [0, 1].map(|client| scope.spawn(move || race(client)));
                threads.map(|thread| thread.join().unwrap()).into()
            });
            let won: Vec<usize> = (0..2).filter(|c| created[*c] == Created::Done).collect();
            assert_eq!(
                won.len(),
                1,
                "{}: round {round}: {created:?}",
                clients[0].url()
            );
            let there = clients[1 - won[0]].get(&name).unwrap().unwrap();
            assert!(
                there == bytes(won[0]),
                "{}: round {round}",
                clients[0].url()
            );
            wins[won[0]] += 1;
        }
        println!("{}: {wins:?} wins of two clients", clients[0].url());
    }
}

/// Acknowledged bytes are there when the server is killed and comes back: an entry, a sealed file, a published one.
#[test]
fn what_a_killed_server_acknowledged_is_there_when_it_is_back() {
    let Some(mut server) = own_s3() else { return };
    let bucket = server.bucket("killed");
    let mut at = server.at(&bucket, "p");
    at.options.retries = 0; // nobody waits for a server that is away
    for round in 0..5 {
        let store = store::open(&at).unwrap();
        let bytes = if round == 4 { TWO_PARTS } else { 2500 };
        let (waiting, shown) = (new_place(), new_place());
        let seal = sealed(&store, &waiting, bytes).unwrap();
        let shown_seal = sealed(&store, &shown, bytes).unwrap();
        let done = published(&store, &shown, &shown_seal);
        assert!(matches!(done, Published::Done), "{done:?}");
        let entry = format!("log/{round:020}.json");
        assert_eq!(store.create(&entry, b"entry").unwrap(), Created::Done);
        server.kill();
        let away = store.create("log/away", b"x").unwrap_err();
        assert_eq!(away.kind(), Kind::StoreUnavailable, "{away}");
        server.start();
        // Another process, which knows what the log says.
        let other = store::open(&at).unwrap();
        assert_eq!(other.get(&entry).unwrap().as_deref(), Some(&b"entry"[..]));
        shows(&other, &shown, bytes);
        hidden(&other, &waiting);
        let done = published(&other, &waiting, &seal);
        assert!(matches!(done, Published::Done), "{done:?}");
        shows(&store, &waiting, bytes);
        for (place, seal) in [(&waiting, &seal), (&shown, &shown_seal)] {
            assert!(gone(&other, place, seal));
            hidden(&store, place);
        }
        store.delete("log/away").unwrap();
    }
}
