//! Tests whether a store keeps the promises that the commit log relies on, before anything is written to it.

use std::io::Write as _;
use std::sync::Arc;

use super::{Created, Place, Published, Renamed, Renames, Seal, Store, Uploads, Way};
use crate::error::{Error, Kind, Result};

const PREFIX: &str = ".probe-";
/// Directory below the table, on stores without real directories: what a killed probe left there is found by the next
/// one.
const DIRECTORY: &str = ".probe";
/// Milliseconds. No probe takes longer, so a file that is older was left by a kill.
const STALE: u64 = 600_000;

/// Whether a killed probe left the begun file of this name; `now` in milliseconds since 1970 UTC.
pub fn is_left_by_probe(name: &str, now: u64) -> bool {
    let id = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split('-').next());
    let begun = id.and_then(|id| ulid::Ulid::from_string(id).ok());
    begun.is_some_and(|id| id.timestamp_ms().saturating_add(STALE) < now)
}

/// Proves that a second create of a name is refused, and that a file of this home is published in the table as its way
/// promises: a rename crosses from one to the other and refuses to overwrite, or an upload shows nothing before it is completed
/// and nothing after it is over (O9). Leaves nothing behind; a kill may leave a file `.probe-…` that no reader takes for data, and
/// that a later probe of an object store takes away.
pub fn probe(store: &Arc<dyn Store>, home: &str, table: &str) -> Result<()> {
    probe_steps(store, home, table, &mut |_| {})
}

/// As [`probe`], and names each step as soon as it is proved.
pub fn probe_steps(
    store: &Arc<dyn Store>,
    home: &str,
    table: &str,
    proved: &mut dyn FnMut(&'static str),
) -> Result<()> {
    let name = format!("{PREFIX}{}", ulid::Ulid::generate());
    let refuse = Refuse { store, home, table };
    let (done, places) = match store.way() {
        Way::Rename(renames) => {
            let place = Place::new(home, &name, format!("{table}/{name}"));
            let done = renaming(store, renames, &place, &refuse, proved);
            (done, vec![place])
        }
        Way::Complete(uploads) => {
            let place = |n: u8| {
                let file = format!("{name}-{n}");
                let path = format!("{table}/{DIRECTORY}/{file}");
                Place::new(home, file, path)
            };
            let places = [0, 1, 2].map(place);
            let done = completing(store, uploads, &places, &refuse, proved);
            (done, places.into())
        }
    };
    for place in &places {
        let left = store.discard(home, place.file());
        let cleared = left.and_then(|()| store.delete(place.path()));
        if done.is_ok() {
            cleared?;
        }
    }
    done?;
    if matches!(store.way(), Way::Complete(_)) {
        clear_left(store.as_ref(), &format!("{table}/{DIRECTORY}"))?;
    }
    proved("clear away");
    Ok(())
}

/// Objects of probes that were killed.
fn clear_left(store: &dyn Store, dir: &str) -> Result<()> {
    let now = ulid::Ulid::generate().timestamp_ms();
    for left in store.list(dir)? {
        let name = left.path.rsplit('/').next().unwrap_or_default();
        if is_left_by_probe(name, now) {
            store.delete(&left.path)?;
        }
    }
    Ok(())
}

fn renaming(
    store: &Arc<dyn Store>,
    renames: &dyn Renames,
    place: &Place,
    refuse: &Refuse<'_>,
    proved: &mut dyn FnMut(&'static str),
) -> Result<()> {
    creates(store.as_ref(), &place.staging(), refuse)?;
    proved("put-if-absent");
    prove_rename(store.as_ref(), renames, place, refuse)?;
    proved("rename");
    Ok(())
}

fn completing(
    store: &Arc<dyn Store>,
    uploads: &dyn Uploads,
    places: &[Place; 3],
    refuse: &Refuse<'_>,
    proved: &mut dyn FnMut(&'static str),
) -> Result<()> {
    let [object, upload, aborted] = places;
    creates(store.as_ref(), object.path(), refuse)?;
    proved("put-if-absent");
    prove_upload(store, uploads, upload, refuse)?;
    proved("upload");
    // If a service cannot abort, the parts expire by themselves.
    if uploads.aborts() {
        prove_discard(store, aborted, refuse)?;
        proved("abort");
    }
    Ok(())
}

struct Refuse<'a> {
    store: &'a Arc<dyn Store>,
    home: &'a str,
    table: &'a str,
}

impl Refuse<'_> {
    fn because(&self, message: &str, hint: &str) -> Error {
        Error::new(Kind::ConfigInvalid, "store.probe", message)
            .with("store", self.store.url())
            .with("home", self.home)
            .with("table", self.table)
            .hint(hint)
    }
}

fn creates(store: &dyn Store, name: &str, refuse: &Refuse<'_>) -> Result<()> {
    let unfit = "use a store with put-if-absent";
    // `Exists` may be the answer to the second of two tries: then the object is ours.
    if store.create(name, b"1")? != Created::Done && store.get(name)?.as_deref() != Some(b"1") {
        return Err(refuse.because("a new name is said to exist already", unfit));
    }
    if store.create(name, b"2")? != Created::Exists {
        return Err(refuse.because("a second create of one name is not refused", unfit));
    }
    if store.get(name)?.as_deref() != Some(b"1") {
        return Err(refuse.because("what was created does not read back", unfit));
    }
    Ok(())
}

fn prove_rename(
    store: &dyn Store,
    renames: &dyn Renames,
    place: &Place,
    refuse: &Refuse<'_>,
) -> Result<()> {
    let (staged, published) = (&place.staging(), place.path());
    let unfit = "use a store with renames that never overwrite";
    let one_disk = "keep _system and the tables on one file system";
    match renames.rename(staged, published) {
        Ok(Renamed::Done) => {}
        Ok(_) => {
            return Err(refuse.because("a rename from staging to the table does nothing", unfit));
        }
        // An outage proves nothing.
        Err(e) if e.kind() == Kind::StoreUnavailable => return Err(e),
        Err(e) => {
            let refused = refuse.because("cannot rename from staging to the table", one_disk);
            return Err(refused.source(e));
        }
    }
    if store.get(staged)?.is_some() || store.get(published)?.as_deref() != Some(b"1") {
        return Err(refuse.because("a rename left both names, or neither", unfit));
    }
    store.create(staged, b"2")?;
    if renames.rename(staged, published)? != Renamed::TargetExists
        || store.get(published)?.as_deref() != Some(b"1")
    {
        return Err(refuse.because("a rename overwrites", unfit));
    }
    Ok(())
}

/// How often one upload is completed in a row: a store may be slow to show what it accepted.
const PUBLISH_TRIES: usize = 5;
const UNFIT: &str =
    "use a store that shows an upload when it is completed, and never before or again";

fn upload(store: &Arc<dyn Store>, place: &Place, bytes: &[u8]) -> Result<Seal> {
    let mut file = store.begin(place)?;
    file.write_all(bytes).map_err(|e| {
        Error::new(
            Kind::StoreUnavailable,
            "store.probe",
            "an upload was cut short",
        )
        .source(e)
    })?;
    file.seal()
}

fn shows(store: &dyn Store, place: &Place) -> Result<bool> {
    let dir = place.path().rsplit_once('/').map_or("", |(dir, _)| dir);
    let listed = store.list(dir)?;
    Ok(store.size(place.path())?.is_some() || listed.iter().any(|l| l.path == place.path()))
}

/// Repeats a completion that has no answer, or whose object appears a little later.
fn prove_shown(store: &dyn Store, place: &Place, seal: &Seal, refuse: &Refuse<'_>) -> Result<()> {
    let mut unanswered = None;
    for _ in 0..PUBLISH_TRIES {
        match store.publish(place, seal)? {
            Published::Done => return Ok(()),
            Published::NotYet(cause) => unanswered = cause,
            Published::Nowhere | Published::Differs(_) => break,
        }
    }
    let unfit = || refuse.because("an upload that is completed does not show", UNFIT);
    Err(unanswered.unwrap_or_else(unfit))
}

/// Uses two parts, so that the names of parts and their order are tested.
fn prove_upload(
    store: &Arc<dyn Store>,
    uploads: &dyn Uploads,
    place: &Place,
    refuse: &Refuse<'_>,
) -> Result<()> {
    let part = uploads.part_bytes();
    let mut bytes = Vec::with_capacity(part + 1);
    bytes.resize(part, b'1');
    bytes.push(b'2');
    let seal = upload(store, place, &bytes)?;
    if shows(store.as_ref(), place)? {
        return Err(refuse.because("an upload shows before it is completed", UNFIT));
    }
    for _ in 0..2 {
        prove_shown(store.as_ref(), place, &seal, refuse)?;
    }
    if store.get(place.path())?.as_deref() != Some(bytes.as_slice()) {
        return Err(refuse.because("an upload does not read back", UNFIT));
    }
    store.delete(place.path())?;
    store.publish(place, &seal)?;
    match shows(store.as_ref(), place)? {
        true => Err(refuse.because("an upload that is over comes back", UNFIT)),
        false => Ok(()),
    }
}

fn prove_discard(store: &Arc<dyn Store>, place: &Place, refuse: &Refuse<'_>) -> Result<()> {
    let seal = upload(store, place, b"1")?;
    store.discard(refuse.home, place.file())?;
    store.publish(place, &seal)?;
    match shows(store.as_ref(), place)? {
        true => Err(refuse.because("an upload that was aborted shows", UNFIT)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Fault, FaultStore, Faults, Op, Script, Verb, open_uploads, open_url};
    use super::*;

    #[test]
    fn honest_stores_pass_and_are_left_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let mut urls = vec![
            format!("file:{}", dir.path().display()),
            "memory:probe".to_owned(),
        ];
        urls.extend(
            ["refuses", "lenient", "varies", "fails"]
                .map(|answers| format!("memory+upload:probe?answers={answers}")),
        );
        for url in urls {
            let store = open_url(&url).unwrap();
            probe(&store, "_system/p/z", "books").unwrap();
            assert_eq!(store.list("").unwrap(), vec![]);
            assert_eq!(open_uploads(store.as_ref()), []);
        }
    }

    #[test]
    fn what_a_killed_probe_left_is_known_by_its_age() {
        let name = format!("{PREFIX}{}-2", ulid::Ulid::generate());
        let now = ulid::Ulid::generate().timestamp_ms();
        assert!(!is_left_by_probe(&name, now));
        assert!(is_left_by_probe(&name, now + 2 * STALE));
        assert!(!is_left_by_probe(
            "01M8KQSYQP8AQQX4NDS7C0XWZP",
            now + 2 * STALE
        ));
    }

    #[test]
    fn what_a_killed_probe_left_is_taken_away_and_what_runs_is_left() {
        let store = open_url("memory+upload:probe-left").unwrap();
        let new = format!("books/{DIRECTORY}/{PREFIX}{}-0", ulid::Ulid::generate());
        let old = format!(
            "books/{DIRECTORY}/{PREFIX}{}-0",
            ulid::Ulid::from_parts(1, 1)
        );
        for path in [&new, &old, &"books/rows".to_owned()] {
            store.create(path, b"1").unwrap();
        }
        probe(&store, "_system/p/z", "books").unwrap();
        let left: Vec<String> = store
            .list("")
            .unwrap()
            .into_iter()
            .map(|l| l.path)
            .collect();
        assert_eq!(left, [new, "books/rows".to_owned()]);
    }

    #[test]
    fn a_store_that_only_says_so_is_refused() {
        let renames = [(Verb::Create, 0), (Verb::Rename, 0), (Verb::Rename, 1)];
        let uploads = [
            (Verb::Create, 0),
            (Verb::Create, 1),
            (Verb::Part, 0),
            (Verb::Abort, 0),
        ];
        let renames = renames.map(|at| ("memory:probe-lying", at));
        let uploads = uploads.map(|at| ("memory+upload:probe-lying", at));
        for (url, (verb, nth)) in renames.into_iter().chain(uploads) {
            let script = Script::on(verb, "", nth, Fault::Lying);
            let store: Arc<dyn Store> = FaultStore::new(open_url(url).unwrap(), Arc::new(script));
            let refused = probe(&store, "_system/p/z", "books").unwrap_err();
            assert_eq!(
                refused.kind(),
                Kind::ConfigInvalid,
                "{url} {verb:?} {nth}: {refused}"
            );
        }
    }

    /// Does the same at each completion.
    #[derive(Debug)]
    struct Completions(Fault);

    impl Faults for Completions {
        fn decide(&self, op: &Op) -> Fault {
            match op.verb {
                Verb::Complete => self.0,
                _ => Fault::None,
            }
        }
    }

    #[test]
    fn an_outage_is_waited_for_and_an_empty_promise_refused() {
        let proved = |faults: Arc<dyn Faults>| {
            let store = open_url("memory+upload:probe-outage").unwrap();
            let store: Arc<dyn Store> = FaultStore::new(store, faults);
            probe(&store, "_system/p/z", "books").map_err(|e| e.kind())
        };
        let never = |fault| proved(Arc::new(Completions(fault)));
        assert_eq!(never(Fault::Lying), Err(Kind::ConfigInvalid));
        assert_eq!(never(Fault::FailBefore), Err(Kind::StoreUnavailable));
        for fault in [
            Fault::Lying,
            Fault::FailBefore,
            Fault::ReplyLost,
            Fault::Denied,
        ] {
            let once = Script::on(Verb::Complete, "", 0, fault);
            assert_eq!(proved(Arc::new(once)), Ok(()), "{fault:?}");
        }
        // Imitates the answer to a request that was sent twice.
        let twice = Script::on(Verb::Create, "", 0, Fault::Denied);
        assert_eq!(proved(Arc::new(twice)), Ok(()));
    }
}
