//! `schema.inference = true`: the transform is what the first records show, is kept, and is the same after restarts, kills, swaps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_cast::display::array_value_to_string;
use weir::clock::{Clock, SystemClock};
use weir::commit::Role;
use weir::config::{PipelineConfig, from_map};
use weir::connectors::CATALOG;
use weir::pipeline::Stop;
use weir::store;
use weir::zone::read_file;

use crate::brokers::files;
use crate::file_rig::Rig;
use crate::world::{World, open_log, plugins_dir};

/// Rows of a table, each as `column=value` of the columns that are named, sorted.
fn rows(root: &Path, pipeline: &str, zone: &str, columns: &[&str]) -> Vec<String> {
    rows_or(root, pipeline, zone, columns, None)
}

/// `absent`: how a column that a file lacks is shown; without it every file must have all.
fn rows_or(
    root: &Path,
    pipeline: &str,
    zone: &str,
    columns: &[&str],
    absent: Option<&str>,
) -> Vec<String> {
    let log = open_log(root, pipeline, zone).unwrap().unwrap();
    assert!(log.state().totals().closes());
    let store = store::open_url(&format!("file:{}", root.display())).unwrap();
    let mut found = Vec::new();
    for live in log
        .state()
        .live
        .values()
        .filter(|live| live.file.role == Role::Rows)
    {
        for batch in read_file(&store, log.name(), &live.file).unwrap() {
            let batch = batch.unwrap();
            for row in 0..batch.num_rows() {
                let cell = |name: &&str| {
                    let column = match (batch.column_by_name(name), absent) {
                        (Some(column), _) => column,
                        (None, Some(absent)) => return format!("{name}:{absent}"),
                        (None, None) => panic!("{name}: {}", batch.schema()),
                    };
                    format!("{name}={}", array_value_to_string(column, row).unwrap())
                };
                found.push(columns.iter().map(cell).collect::<Vec<_>>().join(" "));
            }
        }
    }
    found.sort();
    found
}

const INFER: &str = "schema.inference = true\nerrors.tolerance = \"all\"\n";

/// JSON lines, then a file that does not fit, then one with another field: columns stay, what does not fit is a dead letter.
#[test]
fn files_are_looked_at_once_and_what_does_not_fit_is_refused() {
    let rig = Rig::new("source.format = \"jsonl\"\n", INFER);
    // Nothing is there: nothing is decided.
    rig.run();
    assert!(!rig.path("zone/_system/files/zone/inferred.json").exists());
    rig.write("a.jsonl", "{\"id\":1,\"on\":\"2024-01-31\",\"who\":{\"name\":\"x\"}}\n{\"id\":2,\"on\":\"2024-02-29\"}\n");
    rig.run();
    let kept = std::fs::read_to_string(rig.path("zone/_system/files/zone/inferred.json")).unwrap();
    assert!(
        kept.contains("\"plugin\": \"json-flatten\"") && kept.contains("\"types.on\": \"date\""),
        "{kept}"
    );
    rig.write(
        "b.jsonl",
        "{\"id\":\"three\",\"on\":\"2024-03-01\"}\n{\"id\":4,\"more\":true}\n",
    );
    rig.run();
    assert_eq!(
        rows(
            &rig.path("zone"),
            "files",
            "zone",
            &["id", "on", "who_name"]
        ),
        [
            "id=1 on=2024-01-31 who_name=x",
            "id=2 on=2024-02-29 who_name=",
            "id=4 on= who_name="
        ]
    );
    let letters = rig.output(&["dlq", "ls", "file:zone"]);
    let letters = String::from_utf8_lossy(&letters.stdout).into_owned();
    assert!(letters.contains("bad_int"), "{letters}");
    assert_eq!(
        std::fs::read_to_string(rig.path("zone/_system/files/zone/inferred.json")).unwrap(),
        kept
    );
    // The log says where the rule came from, and a swap to what the config says changes nothing.
    let log = rig.output(&["log", "file:zone", "--json"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("inferred from 2 records"), "{log}");
    let swap = rig.output(&["pipeline", "swap", "files.toml", "--reload"]);
    assert!(
        swap.status.success(),
        "{}",
        String::from_utf8_lossy(&swap.stderr)
    );
    assert!(
        String::from_utf8_lossy(&swap.stdout).contains("already"),
        "{}",
        String::from_utf8_lossy(&swap.stdout)
    );
    let tap = rig.output(&["tap", "files.toml", "--until", "now"]);
    let tap = String::from_utf8_lossy(&tap.stdout).into_owned();
    assert!(tap.contains("\"who_name\":\"x\""), "{tap}");
}

/// Before there is a record nobody knows the columns, and a config that names one is not wrong for that.
#[test]
fn a_column_that_the_first_records_show_may_be_the_line_of_a_file() {
    let sink = "sink.format = \"json\"\nsink.file.column = \"id\"\n";
    let rig = Rig::new("source.format = \"jsonl\"\n", &format!("{sink}{INFER}"));
    rig.done(&["check", "files.toml"]);
    rig.run();
    rig.write("a.jsonl", "{\"id\":1,\"who\":\"x\"}\n{\"id\":2}\n");
    rig.run();
    let file = files(&rig.path("zone/file"), ".json").remove(0);
    assert_eq!(std::fs::read_to_string(file).unwrap(), "1\n2\n");
    rig.done(&["check", "files.toml"]);
    // One that they do not show is told when they are known.
    rig.replace("\"id\"", "\"no\"");
    let said = rig.fails();
    assert!(said.contains("names `no`"), "{said}");
}

/// A field that the first records did not have is left out, or is in the column of the rest, which may come later.
#[test]
fn what_the_first_records_did_not_have_is_kept_where_a_column_is_named_for_it() {
    let rig = Rig::new("source.format = \"jsonl\"\n", INFER);
    rig.write("a.jsonl", "{\"id\":1}\n");
    rig.run();
    rig.write("b.jsonl", "{\"id\":2,\"city\":\"Ulm\"}\n");
    rig.run();
    let declared = std::fs::read_to_string(rig.path("files.toml")).unwrap();
    std::fs::write(
        rig.path("files.toml"),
        format!("schema.rest = \"more\"\n{declared}"),
    )
    .unwrap();
    rig.write("c.jsonl", "{\"id\":3,\"city\":\"Bonn\"}\n{\"id\":4}\n");
    rig.run();
    let found = rows_or(
        &rig.path("zone"),
        "files",
        "zone",
        &["id", "more"],
        Some("none"),
    );
    assert_eq!(
        found,
        [
            "id=1 more:none",
            "id=2 more:none",
            "id=3 more={\"/city\":\"Bonn\"}",
            "id=4 more="
        ]
    );
    let taken = Rig::new(
        "source.format = \"jsonl\"\n",
        &format!("{INFER}schema.rest = \"ID\"\n"),
    );
    taken.write("a.jsonl", "{\"id\":1}\n");
    let told = taken.fails();
    assert!(
        told.contains("`schema.rest`: a column of this name was found"),
        "{told}"
    );
    // A name of the host's is told before there is any record.
    for name in ["ingest_date", "Ingest_Hour"] {
        let host = Rig::new(
            "source.format = \"jsonl\"\n",
            &format!("{INFER}schema.rest = \"{name}\"\n"),
        );
        let told = host.fails();
        assert!(
            told.contains(&format!("`schema.rest`: `{name}` and column")),
            "{told}"
        );
    }
    let csv = Rig::new(
        "source.format = \"csv\"\n",
        &format!("{INFER}schema.rest = \"more\"\n"),
    );
    csv.write("a.csv", "id,title\n1,x\n");
    let told = csv.fails();
    assert!(
        told.contains("csv-parse has no column for the rest"),
        "{told}"
    );
}

/// The rules of the log stay until the next records are there; what follows from these is compared then.
#[test]
fn transforms_of_a_person_are_replaced_by_what_the_next_records_show() {
    let flatten = |columns: &str| {
        format!(
            "[[transforms]]\nname = \"f\"\ntype = \"json-flatten\"\ncolumns = \"{columns}\"\ntypes.id = \"int\"\n"
        )
    };
    let rig = Rig::new("source.format = \"jsonl\"\n", &flatten("id"));
    rig.write("a.jsonl", "{\"id\":1,\"city\":\"Ulm\"}\n");
    rig.run();
    rig.declare("source.format = \"jsonl\"\n", INFER);
    let check = rig.output(&["check", "files.toml", "--against", "file:zone"]);
    let told = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{told}");
    let swap = rig.output(&[
        "pipeline",
        "swap",
        "files.toml",
        "--reload",
        "--allow-breaking",
    ]);
    let told = String::from_utf8_lossy(&swap.stderr).into_owned();
    assert!(
        !swap.status.success() && told.contains("follow from its first records"),
        "{told}"
    );
    rig.run();
    rig.write("b.jsonl", "{\"id\":2,\"city\":\"Bonn\"}\n");
    rig.run();
    assert_eq!(
        rows_or(
            &rig.path("zone"),
            "files",
            "zone",
            &["id", "city"],
            Some("none")
        ),
        ["id=1 city:none", "id=2 city=Bonn"]
    );
    // A column that would go is told with the way, and goes where it is allowed.
    let other = Rig::new("source.format = \"jsonl\"\n", &flatten("id, city"));
    other.write("a.jsonl", "{\"id\":1,\"city\":\"Ulm\"}\n");
    other.run();
    other.declare("source.format = \"jsonl\"\n", INFER);
    other.write("b.jsonl", "{\"id\":2}\n");
    let refused = other.output(&["run", "files.toml", "--progress", "none"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && told.contains("`city` goes"),
        "{told}"
    );
    let swap = other.output(&[
        "pipeline",
        "swap",
        "files.toml",
        "--reload",
        "--allow-breaking",
    ]);
    assert!(
        swap.status.success(),
        "{}",
        String::from_utf8_lossy(&swap.stderr)
    );
    other.run();
    assert_eq!(
        rows_or(
            &other.path("zone"),
            "files",
            "zone",
            &["id", "city"],
            Some("none")
        ),
        ["id=1 city=Ulm", "id=2 city:none"]
    );
}

#[test]
fn csv_and_xml_files_become_columns() {
    let csv = Rig::new("source.format = \"csv\"\n", INFER);
    csv.write(
        "a.csv",
        "id,title,price\n1,\"Momo, the\",9.50\n2,Emil,7.25\n",
    );
    csv.run();
    assert_eq!(
        rows(
            &csv.path("zone"),
            "files",
            "zone",
            &["id", "title", "price"]
        ),
        [
            "id=1 title=Momo, the price=9.50",
            "id=2 title=Emil price=7.25"
        ]
    );
    let xml = Rig::new(
        "source.format = \"xml\"\nsource.row.tag = \"book\"\n",
        INFER,
    );
    xml.write(
        "a.xml",
        "<l><book id=\"1\"><t>x</t></book><book id=\"2\"><t>y</t></book></l>",
    );
    xml.run();
    assert_eq!(
        rows(&xml.path("zone"), "files", "zone", &["id", "t"]),
        ["id=1 t=x", "id=2 t=y"]
    );
}

/// The codes and texts of all dead letters.
fn letters(rig: &Rig) -> String {
    let letters = rig.output(&["dlq", "ls", "file:zone"]);
    String::from_utf8_lossy(&letters.stdout).into_owned()
}

/// Names are those of each file's first line; what a later row has and its columns cannot hold is refused, never changed or dropped.
#[test]
fn columns_of_csv_files_are_found_by_name_and_lose_nothing() {
    let rig = Rig::new("source.format = \"csv\"\n", INFER);
    rig.write(
        "a.csv",
        "id,zip,phone\n1,12345,+4917012\n2,23456,+4917013,more\n",
    );
    rig.write("b.csv", "phone,id,city\n+4917014,3,Ulm\n");
    rig.run();
    let columns = ["id", "zip", "phone", "city"];
    let found = || rows(&rig.path("zone"), "files", "zone", &columns);
    let first = [
        "id=1 zip=12345 phone=+4917012 city=",
        "id=3 zip= phone=+4917014 city=Ulm",
    ];
    assert_eq!(found(), first);
    let told = letters(&rig);
    assert!(
        told.contains("extra_fields") && !told.contains("bad_int"),
        "{told}"
    );
    rig.write(
        "c.csv",
        "id,zip,phone\n4,01234,5\n+5,12345,5\n6,12345,5\n7,12345,5,lost\n",
    );
    rig.run();
    let mut all = first.to_vec();
    all.push("id=6 zip=12345 phone=5 city=");
    assert_eq!(found(), all);
    let told = letters(&rig);
    assert!(told.contains("bad_int"), "{told}");
}

/// A row is never taken for names.
#[test]
fn csv_files_without_a_header_are_told_how_to_say_so() {
    let rig = Rig::new("source.format = \"csv\"\n", INFER);
    rig.write("a.csv", "1,a,2\n2,b,3\n3,c,4\n");
    let told = rig.fails();
    assert!(
        told.contains("(1, a, 2) looks like a row") && told.contains("source.header = "),
        "{told}"
    );
    let other = Rig::new("source.format = \"csv\"\nsource.header = \"none\"\n", INFER);
    other.write("a.csv", "1,a,2\n2,b,3\n");
    other.run();
    assert_eq!(
        rows(
            &other.path("zone"),
            "files",
            "zone",
            &["column_1", "column_2", "column_3"]
        ),
        [
            "column_1=1 column_2=a column_3=2",
            "column_1=2 column_2=b column_3=3"
        ]
    );
}

fn topic(world: &World, more: &[(&str, &str)]) -> Result<PipelineConfig, String> {
    let url = format!("file:{}", world.path("raw").display());
    let plugins = plugins_dir().display().to_string();
    let cache = world.path("cache").display().to_string();
    let store = world.path("store").display().to_string();
    let mut map = BTreeMap::from([
        ("name", "raw"),
        ("source.type", "kafka"),
        ("source.topics", "books"),
        ("source.start", "earliest"),
        ("source.bootstrap.servers", world.broker.bootstrap()),
        ("sink.type", "zone"),
        ("sink.url", &url),
        ("sink.rotate.age", "100ms"),
        ("plugin.path", &plugins),
        ("plugin.cache", &cache),
        ("plugin.store", &store),
        ("schema.inference", "true"),
        ("errors.tolerance", "all"),
    ]);
    map.extend(more.iter().copied());
    from_map("test", map, &CATALOG).map_err(|problems| format!("{problems:?}"))
}

/// From `latest`: the records that were looked at are read too, in the same run.
#[test]
fn a_topic_is_looked_at_from_where_it_is_read() {
    let world = World::new(2);
    world.produce([(0, &b"old, and no JSON"[..])].into_iter());
    let config = topic(
        &world,
        &[("source.start", "latest"), ("schema.sample.records", "3")],
    )
    .unwrap();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let stop = Stop::new(clock.clone());
    let thread = {
        let (stop, told, clock) = (stop.clone(), world.told.clone(), clock.clone());
        std::thread::spawn(move || weir::pipeline::run(&[config], &clock, &stop, &|_| told.clone()))
    };
    world.until("nothing yet", || world.told.has("resting NothingYet"));
    let messages = [&b"{\"n\":1}"[..], b"{\"n\":2}", b"{\"n\":3}", b"{\"n\":4}"];
    world.produce(
        messages
            .iter()
            .enumerate()
            .map(|(at, text)| ((at % 2) as i32, *text)),
    );
    let read = || {
        let log = open_log(&world.path("raw"), "raw", "raw").unwrap();
        log.is_some_and(|log| log.state().totals().rows.written == 4)
    };
    world.until("four rows", read);
    stop.ask(Duration::from_secs(20));
    thread.join().unwrap().pop().unwrap().result.unwrap();
    assert_eq!(
        rows(&world.path("raw"), "raw", "raw", &["n"]),
        ["n=1", "n=2", "n=3", "n=4"]
    );
}

/// What a message says is never taken for a reference, and rules of a person are never put aside.
#[test]
fn what_cannot_be_inferred_stops_with_the_reason() {
    let world = World::new(1);
    for (text, part) in [
        ("{\"${env:HOME}\":1}", "takes for a reference"),
        ("just words", "neither like XML nor like JSON nor like CSV"),
    ] {
        let world = World::new(1);
        world.produce([(0, text.as_bytes())].into_iter());
        let config = topic(&world, &[("trigger", "available-now")]).unwrap();
        let error = world.run(&[config]).pop().unwrap().result.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    for (more, part) in [
        (
            &[("transforms", "a"), ("transforms.a.type", "select")][..],
            "`transforms` names some",
        ),
        (
            &[("schema.inference", "false"), ("schema.sample.wait", "1s")],
            "no effect without",
        ),
    ] {
        let refused = topic(&world, more).unwrap_err();
        assert!(refused.contains(part), "{refused}");
    }
    // A table that has rows as they came does not lose its columns.
    world.produce([(0, &b"{\"n\":1}"[..])].into_iter());
    let now = ("trigger", "available-now");
    let plain = topic(&world, &[now, ("schema.inference", "false")]).unwrap();
    world.run(&[plain]).pop().unwrap().result.unwrap();
    world.produce([(0, &b"{\"n\":2}"[..])].into_iter());
    let error = world
        .run(&[topic(&world, &[now]).unwrap()])
        .pop()
        .unwrap()
        .result
        .unwrap_err();
    assert!(error.to_string().contains("`value` goes"), "{error}");
}
