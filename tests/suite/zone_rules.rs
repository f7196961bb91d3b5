//! Rules on rows of a zone: RAW to PROCESSED through plugins, run as people run it. Refusals with their coordinates, ledgers, swaps
//! between two batches and in the middle of one, kills at each durable step, rewinds of both zones.
//!
//! Every row of RAW holds one number. Rules `low` take numbers below fifty and refuse the others, rules `high` take the others: what
//! became of a row says under which rules it was read, and the plan of its batch says under which it should have been.

use std::fs;
use std::process::Stdio;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use serde_json::{Value, json};
use weir::commit::{Kind, Role};
use weir::zone::read_file;

use crate::brokers::until;
use crate::case::said;
use crate::daemon_rig::Rig;
use crate::world::open_log;
use crate::zone_lab::{CHECKED, Lab, RULES, text};

const STEPS_MAX: u64 = 60;

/// A refused row is in the dead letters with everything that finds it again, and never wins a key.
#[test]
fn a_refused_row_is_a_dead_letter_and_wins_no_key() {
    let lab = Lab::new();
    lab.declare(RULES, "sink.dedup.key = [\"id\"]\n");
    let rows = [
        ("a", Value::from(70)),
        ("b", Value::from(1)),
        ("b", Value::from(2)),
        ("a", Value::from(3)),
        ("c", Value::from(99)),
        ("d", Value::Null),
    ];
    // All of one day, so that keys meet.
    let file =
        rows.map(|(id, n)| serde_json::json!({"id": id, "day": "2024-03-01", "n": n}).to_string());
    fs::write(lab.case.path("in/one.jsonl"), file.join("\n") + "\n").unwrap();
    lab.case.done(&["run", "raw.toml", "--progress", "none"]);
    lab.processed();

    let written = lab.rows("checked", "checked");
    let numbers: Vec<i64> = written.values().copied().collect();
    assert_eq!(numbers, [1, 3], "the first that is good");
    let log = lab.log();
    let totals = log.state().totals();
    let rows = totals.rows;
    assert_eq!(
        (
            rows.made,
            rows.written,
            rows.refused,
            rows.duplicates,
            rows.filtered
        ),
        (6, 2, 3, 1, 0)
    );
    let records = totals.records;
    assert_eq!(
        (records.read, records.with_rows, records.refused),
        (6, 2, 3)
    );
    assert_eq!((records.filtered, totals.dead_letters), (1, 3));
    assert!(totals.closes());

    let shown = text(&lab.case.output(&[
        "dlq",
        "show",
        "checked.toml",
        "--code",
        "above_max",
        "-n",
        "0",
        "--json",
    ]));
    let letters: Vec<Value> = shown
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(letters.len(), 2, "{shown}");
    let first = &letters[0];
    assert_eq!(
        (&first["partition"], &first["offset"], &first["row"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert_eq!(first["errors"][0]["field"], "n");
    assert_eq!(
        (&first["transform"], &first["plugin"]),
        (&"rules".into(), &"validate".into())
    );
    let value: Value = serde_json::from_str(first["value_text"].as_str().unwrap()).unwrap();
    assert_eq!(
        value,
        serde_json::json!({"id": "a", "day": "2024-03-01", "n": 70})
    );
    assert_eq!(first["headers"][0]["name"], "weir.file");
    let file = first["headers"][0]["value"].as_str().unwrap();
    use base64::Engine as _;
    let file = base64::engine::general_purpose::STANDARD
        .decode(file)
        .unwrap();
    let file = String::from_utf8(file).unwrap();
    assert!(lab.case.path("raw_zone").join(&file).is_file(), "{file}");
    let told = text(&lab.case.output(&["dlq", "show", "checked.toml", "-n", "1"]));
    assert!(told.contains("row 0") && told.contains(&file), "{told}");
    let verified = lab.case.output(&["log", "checked.toml", "--verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
}

/// Rows that RAW made of one record: each is judged by itself and has its own dead letter, and the record counts once.
#[test]
fn rows_of_one_record_are_refused_one_by_one() {
    let lab = Lab::new();
    let exploding = "explode = \"/items\"\ncolumns = [\"id\", \"day\", \"n=./n\"]\n";
    lab.case
        .replace("columns = [\"id\", \"day\", \"n\"]\n", exploding);
    let line = |id: &str, numbers: &[i64]| {
        let items: Vec<Value> = numbers
            .iter()
            .map(|n| serde_json::json!({ "n": n }))
            .collect();
        serde_json::json!({"id": id, "day": "2024-03-01", "items": items}).to_string()
    };
    let lines = [
        line("a", &[1, 60, 2, 70]),
        line("b", &[80, 90]),
        line("c", &[3]),
    ];
    fs::write(lab.case.path("in/one.jsonl"), lines.join("\n") + "\n").unwrap();
    lab.case.done(&["run", "raw.toml", "--progress", "none"]);
    lab.declare(RULES, "errors.max.count = 1\n");
    let told = lab.processed();
    assert!(told.contains("2 of 3 records were refused"), "{told}");
    let totals = lab.log().state().totals();
    let (records, rows) = (totals.records, totals.rows);
    assert_eq!((records.read, records.with_rows), (3, 2), "{records:?}");
    assert_eq!((records.refused, records.refused_in_part), (1, 2));
    assert_eq!((rows.made, rows.written, rows.refused), (7, 3, 4));
    let shown = lab
        .case
        .output(&["dlq", "show", CHECKED, "-n", "0", "--json"]);
    let shown = text(&shown);
    let letters = shown
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let found: Vec<(i64, i64)> = letters
        .map(|letter: Value| {
            let value = letter["value_text"].as_str().unwrap();
            let value: Value = serde_json::from_str(value).unwrap();
            assert_eq!(letter["holds_bytes"], true);
            (
                letter["row"].as_i64().unwrap(),
                value["n"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(found, [(1, 60), (3, 70), (0, 80), (1, 90)]);
    let tapped = lab
        .case
        .output(&["tap", CHECKED, "--refused", "--where", "code=above_max"]);
    assert_eq!(text(&tapped).lines().count(), 4, "{}", said(&tapped));
    let schema = text(&lab.case.output(&["tap", CHECKED, "--schema"]));
    assert!(
        schema.contains("n  int") && schema.contains("_row  int"),
        "{schema}"
    );
    // A file of rows through the same transforms, without the zone.
    fs::write(lab.case.path("types.toml"), "n = \"int\"\n").unwrap();
    fs::write(lab.case.path("try.jsonl"), "{\"n\":70}\n{\"n\":7}\n").unwrap();
    let tried = ["plugin", "run", "try.jsonl", "--transforms", CHECKED];
    let wrong = lab.case.output(&tried);
    assert!(said(&wrong).contains("--rows"), "{}", said(&wrong));
    let tried = lab.case.output(&[&tried[..], &["--rows"]].concat());
    assert!(text(&tried).contains("1 refusal"), "{}", text(&tried));
}

/// The columns of the zone are those that the rules make: casts, renames, columns that are left out. Rows keep their coordinates.
#[test]
fn rows_have_the_columns_that_the_rules_make() {
    let lab = Lab::new();
    let rules = "[[transforms]]\nname = \"types\"\ntype = \"cast@0.1\"\ntypes.day = \"date\"\ntypes.n = \"long\"\n\
        [[transforms]]\nname = \"shape\"\ntype = \"select@0.1\"\nkeep = [\"n\", \"day\"]\nrename.n = \"number\"\n\
        constant.batch = \"7\"\n";
    lab.declare(rules, "sink.sort = [\"number\"]\nbatch.max.rows = 7\n");
    lab.add_numbers("one", 100);
    lab.processed();
    let (log, store) = (lab.log(), lab.store("checked"));
    let (mut seen, raw) = (0, lab.rows("raw_zone", "raw"));
    let live = log.state().live.values();
    for live in live.filter(|live| live.file.role == Role::Rows) {
        for batch in read_file(&store, log.name(), &live.file).unwrap() {
            let batch = batch.unwrap();
            let schema = batch.schema();
            let names: Vec<String> = schema
                .fields()
                .iter()
                .map(|f| format!("{} {}", f.name(), f.data_type()))
                .collect();
            assert_eq!(
                names[..3],
                ["number Int64", "day Date32", "batch Utf8"],
                "{names:?}"
            );
            assert_eq!(names.len(), 3 + 5, "and those of the host");
            let numbers = batch
                .column(0)
                .as_primitive::<Int64Type>()
                .values()
                .to_vec();
            assert!(numbers.is_sorted());
            let offsets = batch.column_by_name("_offset").unwrap();
            let offsets = offsets.as_primitive::<Int64Type>().values();
            for (number, offset) in numbers.iter().zip(offsets) {
                let of = raw.iter().find(|((_, _, at), _)| at == offset).unwrap();
                assert_eq!(number, of.1, "a row keeps its coordinates");
            }
            seen += batch.num_rows();
        }
    }
    assert_eq!(seen, 100);
    // A type that rules change under rows that are there is held to source.on.type.change.
    let text = rules.replace("types.n = \"long\"", "types.n = \"string\"");
    lab.declare(&text, "");
    let refused = lab.pipeline(&["swap", "--reload"]);
    assert!(
        said(&refused).contains("`number` was Int64"),
        "{}",
        said(&refused)
    );
    lab.asked(&["swap", "--reload", "--allow-breaking"]);
    lab.add_numbers("two", 10);
    let failed = lab.process(None);
    let told = said(&failed);
    assert!(
        told.contains("as the transforms make it") && told.contains("new-column"),
        "{told}"
    );
    lab.declare(&text, "source.on.type.change = \"cast\"\n");
    lab.processed();
    assert_eq!(lab.log().state().totals().rows.written, 110);
    let log = lab.log();
    let counted = &log.state().counters["columns"];
    assert_eq!(counted.values().sum::<u64>(), 10, "{counted:?}");
}

/// `errors.tolerance = none`: the row is named, nothing of its batch is written, and rules that take it go on from there.
#[test]
fn where_nothing_may_be_refused_the_first_refusal_stops() {
    let lab = Lab::new();
    lab.declare(RULES, "");
    let strict = fs::read_to_string(lab.case.path(CHECKED)).unwrap();
    let strict = strict.replace("errors.tolerance = \"all\"", "errors.tolerance = \"none\"");
    fs::write(lab.case.path(CHECKED), &strict).unwrap();
    lab.add_numbers("good", 1);
    lab.processed();
    lab.add(
        "bad",
        [("x".to_owned(), 3.into()), ("y".to_owned(), 88.into())].into_iter(),
    );
    for _ in 0..3 {
        let failed = lab.process(None);
        let told = said(&failed);
        assert!(!failed.status.success());
        for part in [
            "record_refused",
            "above_max",
            "file/0@",
            ".parquet",
            "errors.tolerance",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        let log = lab.log();
        assert_eq!(log.state().totals().rows.written, 1, "nothing of the batch");
        assert!(
            log.state().plan.is_none(),
            "no plan is left that must fail again"
        );
    }
    fs::write(lab.case.path("low.toml"), "[columns.n]\nmax = 90\n").unwrap();
    lab.processed();
    assert_eq!(lab.log().state().totals().rows.written, 3);
}

/// Killed at each durable step, with other rules declared before each start: whatever the log planned is done by the rules of its plan.
#[test]
fn kills_at_each_step_and_swaps_between_lose_double_and_mix_nothing() {
    let lab = Lab::new();
    let (mut rules, mut pinned) = ("low", 0);
    for step in 0..STEPS_MAX {
        lab.add_numbers(&format!("f{step}"), 7);
        let declared = RULES.replace("low", rules);
        lab.declare(&declared, "");
        let whole = lab.process(Some(step)).status.success();
        let open = open_log(&lab.case.path("checked"), "checked", "checked");
        let open = open.unwrap().and_then(|log| log.state().plan.clone());
        // By hand and by an edit in turn, while the plan is open or not.
        rules = if rules == "low" { "high" } else { "low" };
        if step % 2 == 0 && open.is_some() {
            let swapped = lab.swap_to(rules);
            assert_eq!(swapped["state"], "in_force", "{swapped}");
        }
        let before = lab.log_version();
        lab.declare(&RULES.replace("low", rules), "");
        lab.processed();
        lab.exact();
        if let Some(open) = open {
            let wanted = lab.name_of(&open.plan.rules.transforms);
            assert_ne!(wanted, rules, "other rules were put in force meanwhile");
            let entries = lab.entries();
            let batch = entries.iter().find(|entry| {
                let input = entry.input.as_ref();
                entry.version > before && input.is_some_and(|input| input.plan == open.version)
            });
            let made_by = batch.and_then(|batch| batch.rules.clone()).unwrap();
            assert_eq!(lab.name_of(&made_by.transforms), wanted, "step {step}");
            pinned += 1;
        }
        if whole {
            assert!(step > 8 && pinned > 2, "{step} steps, {pinned} in a plan");
            let made = lab.exact();
            assert!(made["low"] > 0 && made["high"] > 0, "{made:?}");
            history_is_right(&lab);
            return;
        }
    }
    panic!("no step of {STEPS_MAX} lets a batch through");
}

/// The history names for each offset the rules that made its row, also where a swap came between plan and batch.
fn history_is_right(lab: &Lab) {
    let log = lab.log();
    let mut settled = 0;
    for entry in lab.entries() {
        let Some(rules) = entry.rules.filter(|_| entry.kind == Kind::Batch) else {
            continue;
        };
        let mut periods = log.state().periods.iter();
        let period = periods.find(|period| period.generation == rules.generation);
        for span in &entry.spans {
            let (from, to) = period.unwrap().ranges[&span.split];
            assert!(from <= span.from && span.to <= to, "{span:?}");
            settled += 1;
        }
    }
    assert!(settled > 8);
}

/// A swap holds from the next batch on, is seen before it is done, and is in the history; a rollback closes an open plan.
#[test]
fn a_swap_holds_from_the_next_batch_on_and_a_rollback_closes_an_open_plan() {
    let lab = Lab::new();
    lab.add_numbers("one", 10);
    lab.processed();
    let high = "transforms.rules.rules=high.toml";
    let dry = lab.asked(&["swap", "--reload", "--set", high, "--dry-run"]);
    assert_eq!(
        (&dry["state"], &dry["columns"]["effect"]),
        (&"dry_run".into(), &"same".into())
    );
    let version = lab.log_version();
    assert_eq!(lab.log().state().generation(), 0, "nothing was written");
    // Rules that this zone's columns do not fit are refused at once.
    fs::write(
        lab.case.path("other.toml"),
        "[columns.nosuch]\nrequired = true\n",
    )
    .unwrap();
    let wrong = lab.pipeline(&[
        "swap",
        "--reload",
        "--set",
        "transforms.rules.rules=other.toml",
    ]);
    assert!(
        !wrong.status.success() && said(&wrong).contains("nosuch"),
        "{}",
        said(&wrong)
    );
    assert_eq!(lab.log_version(), version);

    lab.declare(&RULES.replace("low", "high"), "");
    lab.asked(&["swap", "--reload", "--reason", "others"]);
    lab.add_numbers("two", 10);
    lab.processed();
    let made = lab.exact();
    assert_eq!((made["low"], made["high"]), (10, 10));
    let history = text(&lab.pipeline(&["history"]));
    assert_eq!(history.matches("validate@0.1").count(), 2, "{history}");
    assert!(history.contains("others"), "{history}");

    // In the middle of a plan of `high`, which is rolled back: its rules are blocked, so the rows are planned anew.
    lab.add_numbers("three", 10);
    let mut step = 0;
    while lab.log().state().plan.is_none() {
        assert!(
            !lab.process(Some(step)).status.success(),
            "no plan was left open"
        );
        step += 1;
    }
    lab.asked(&["rollback", "--reason", "not these"]);
    assert!(lab.log().state().plan.is_none());
    let told = lab.processed();
    assert!(
        told.contains("the rules in force are those of the log"),
        "{told}"
    );
    let made = lab.exact();
    assert_eq!((made["low"], made["high"]), (20, 10));
}

/// A process that runs takes an edit and a swap by the next batch.
#[test]
fn a_process_that_runs_takes_other_rules_with_its_next_batch() {
    let lab = Lab::new();
    lab.declare(RULES, "watch = true\n");
    let text = fs::read_to_string(lab.case.path(CHECKED)).unwrap();
    fs::write(lab.case.path(CHECKED), text.replace("every:1h", "every:1s")).unwrap();
    lab.add_numbers("one", 10);
    let log = fs::File::create(lab.case.path("run.log")).unwrap();
    let mut running = lab.case.weir(&["run", CHECKED, "--progress", "none"]);
    let mut running = running.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let rows = |count: usize| {
        until("rows", || {
            let log = open_log(&lab.case.path("checked"), "checked", "checked").unwrap()?;
            (log.state().totals().rows.made as usize == count).then_some(())
        });
    };
    rows(10);
    lab.swap_to("high");
    lab.add_numbers("two", 10);
    rows(20);
    fs::write(
        lab.case.path("low.toml"),
        "[columns.n]\nrequired = true\nmax = 49\nmin = 0\n",
    )
    .unwrap();
    until("the edit", || {
        let log = lab.log();
        (lab.name_of(&log.state().rules.transforms) == "low").then_some(())
    });
    lab.add_numbers("three", 10);
    rows(30);
    // An edit that is no rule file changes nothing, and is said.
    fs::write(lab.case.path("low.toml"), "[columns.n\n").unwrap();
    until("a word", || {
        let said = fs::read_to_string(lab.case.path("run.log")).unwrap();
        said.contains("an edit was refused").then_some(())
    });
    running.kill().unwrap();
    running.wait().unwrap();
    let made = lab.exact();
    assert_eq!((made["low"], made["high"]), (20, 10));
}

/// RAW goes back and comes again, and PROCESSED follows with its dead letters; then PROCESSED alone is made anew by other rules.
#[test]
fn rewinds_take_dead_letters_back_with_the_rows() {
    let lab = Lab::new();
    for name in ["one", "two", "three"] {
        lab.add_numbers(name, 20);
        lab.processed();
    }
    let made = lab.exact();
    assert_eq!(made["low"], 60);
    let rewound = lab
        .case
        .output(&["pipeline", "rewind", "raw.toml", "--all=start"]);
    assert!(rewound.status.success(), "{}", said(&rewound));
    lab.processed();
    assert!(lab.rows("checked", "checked").is_empty() && lab.letters().is_empty());
    lab.case.done(&["run", "raw.toml", "--progress", "none"]);
    lab.processed();
    assert_eq!(lab.exact()["low"], 60);

    lab.declare(&RULES.replace("low", "high"), "");
    lab.asked(&["rewind", "--all=start"]);
    lab.processed();
    let made = lab.exact();
    assert_eq!((made.get("low"), made["high"]), (None, 60));
}

/// Everything that is wrong is said before anything is written; a config by itself is checked as far as that goes without the zone.
#[test]
fn check_finds_what_is_wrong_with_rules_of_a_zone() {
    let lab = Lab::new();
    let check = |files: &[&str]| {
        let output = lab.case.output(&[&["check"], files].concat());
        (output.status.code(), said(&output))
    };
    assert_eq!(check(&["raw.toml", CHECKED]).0, Some(0));
    assert_eq!(check(&[CHECKED]).0, Some(0));
    fs::write(
        lab.case.path("low.toml"),
        "[columns.nosuch]\nrequired = true\n",
    )
    .unwrap();
    let (code, told) = check(&["raw.toml", CHECKED]);
    assert!(code == Some(2) && told.contains("nosuch"), "{told}");
    assert_eq!(
        check(&[CHECKED]).0,
        Some(0),
        "the zone's columns are not known"
    );
    // The zone is there: a start and a comparison with it know them.
    lab.add_numbers("one", 3);
    let failed = lab.process(None);
    assert!(said(&failed).contains("nosuch"), "{}", said(&failed));
    assert!(!lab.case.path("checked").exists(), "nothing was written");
    let looked = text(&lab.case.output(&["doctor", CHECKED]));
    assert!(looked.contains("no column `nosuch`"), "{looked}");

    let exploding = "[[transforms]]\nname = \"many\"\ntype = \"json-flatten@0.1\"\ninput = \"id\"\nexplode = \"\"\ncolumns = [\"x=./x\"]\n";
    let cases: [(&str, &str, &str); 4] = [
        (exploding, "", "makes several rows of one"),
        (RULES, "errors.unit = \"record\"\n", "refused one by one"),
        (
            "[[transforms]]\nname = \"t\"\ntype = \"select@0.1\"\nrename.n = \"date\"\n",
            "",
            "sink.partition.name",
        ),
        (
            "[[transforms]]\nname = \"t\"\ntype = \"nosuch\"\n",
            "",
            "nosuch",
        ),
    ];
    for (transforms, more, says) in cases {
        lab.declare(transforms, more);
        let (code, told) = check(&["raw.toml", CHECKED]);
        assert!(code == Some(2) && told.contains(says), "{says}: {told}");
        let failed = lab.process(None);
        assert!(
            !failed.status.success() && said(&failed).contains(says),
            "{says}: {}",
            said(&failed)
        );
        assert!(!lab.case.path("checked").exists(), "nothing was written");
    }
}

/// Rules on a pipeline that had none, on a table with rows: a swap, as for any pipeline.
#[test]
fn rules_come_to_a_zone_that_had_none_and_go_again() {
    let lab = Lab::new();
    lab.declare("", "");
    lab.add_numbers("one", 10);
    lab.processed();
    lab.declare(RULES, "");
    let against = lab.case.output(&["check", CHECKED, "--against", "checked"]);
    assert!(
        text(&against).contains("other rules than those in force"),
        "{}",
        text(&against)
    );
    lab.add_numbers("two", 10);
    lab.processed();
    let totals = lab.log().state().totals().rows;
    assert_eq!((totals.made, totals.written, totals.refused), (20, 16, 4));
    // Taken out again, with a column that the rules had made: that is a column less.
    let more = format!(
        "{RULES}[[transforms]]\nname = \"shape\"\ntype = \"select@0.1\"\nconstant.batch = \"7\"\n"
    );
    lab.declare(&more, "");
    lab.add_numbers("three", 10);
    lab.processed();
    lab.declare("", "");
    let failed = lab.process(None);
    assert!(said(&failed).contains("`batch` goes"), "{}", said(&failed));
}

/// A plan without rules that cannot be done, because a text of RAW is no number, is closed too: rules that refuse the text make a plan of
/// their own.
#[test]
fn a_plan_without_rules_that_cannot_be_done_holds_no_rules_up() {
    let lab = Lab::new();
    let cast = "source.on.type.change = \"cast\"\n";
    lab.declare("", cast);
    lab.add_numbers("one", 10);
    lab.processed();
    lab.case.replace("types.n = \"int\"\n", "");
    let retyped = [
        "pipeline",
        "swap",
        "raw.toml",
        "--reload",
        "--allow-breaking",
    ];
    lab.case.done(&retyped);
    let texts = [("x", "7"), ("y", "abc")];
    let texts = texts.map(|(id, n)| (id.to_owned(), Value::from(n)));
    lab.add("two", texts.into_iter());
    for _ in 0..2 {
        let failed = lab.process(None);
        assert!(
            said(&failed).contains("config_invalid"),
            "{}",
            said(&failed)
        );
        assert!(lab.log().state().plan.is_none(), "no plan is left open");
    }
    fs::write(
        lab.case.path("low.toml"),
        "[columns.n]\npattern = \"[0-9]+\"\n",
    )
    .unwrap();
    lab.declare(RULES, cast);
    lab.processed();
    let totals = lab.log().state().totals();
    assert_eq!((totals.rows.written, totals.rows.refused), (11, 1));
    assert_eq!(totals.records.refused_in_part, 0, "it was the whole record");
}

/// Rules that this process does not have are another process's, and so is the plan that was made with them.
#[test]
fn whoever_lacks_the_rules_of_a_plan_leaves_it_to_others() {
    let lab = Lab::new();
    lab.add_numbers("one", 10);
    lab.processed();
    lab.declare(&RULES.replace("low", "high"), "");
    lab.asked(&["swap", "--reload"]);
    lab.add_numbers("two", 10);
    lab.processed();
    // Rules that the log alone names, and a plan of them that a kill left open.
    lab.asked(&["rollback", "--reason", "not these"]);
    lab.add_numbers("three", 10);
    let mut step = 0;
    while lab.log().state().plan.is_none() {
        let ended = lab.process(Some(step));
        assert!(!ended.status.success(), "no plan was left open");
        step += 1;
    }
    let version = lab.log_version();
    let elsewhere = [
        "run",
        CHECKED,
        "--available-now",
        "--progress",
        "none",
        "--set",
        "plugin.store=elsewhere",
    ];
    let failed = lab.case.output(&elsewhere);
    assert!(!failed.status.success(), "{}", said(&failed));
    assert!(
        said(&failed).contains("restore plugin.store"),
        "{}",
        said(&failed)
    );
    assert!(
        lab.log().state().plan.is_some(),
        "the plan stays: {}",
        said(&failed)
    );
    assert_eq!(lab.log_version(), version);
    lab.processed();
    let made = lab.exact();
    assert_eq!((made["low"], made["high"]), (20, 10));
}

/// As a start refuses it.
#[test]
fn a_config_over_http_that_takes_all_rules_out_is_refused() {
    let mut rig = Rig::new(&["t"]);
    let daemon = rig.start(&[]);
    let raw = rig.config(
        "t",
        &[
            ("transforms", "columns"),
            ("transforms.columns.type", "json-flatten@0.1"),
            ("transforms.columns.columns", "id,day"),
        ],
    );
    rig.produce("t", &[r#"{"id": "a", "day": "2024-01-01"}"#]);
    assert_eq!(daemon.put_config("raw", &raw).status, 201);
    until("a row", || daemon.position("raw").filter(|at| *at == 1));
    let checked = |rules: bool| {
        let (zone, sink) = (
            &raw["sink.url"],
            format!("file:{}", rig.path("checked").display()),
        );
        let mut map = json!({
            "connector.class": "weir", "trigger": "every:1s", "source.type": "zone", "source.url": zone,
            "source.pipeline": "raw", "source.table": "t", "sink.type": "zone", "sink.url": sink,
            "sink.table": "t", "sink.partition.field": "day", "errors.dlq.table": "dead-checked"
        });
        if rules {
            map["transforms"] = "shape".into();
            map["transforms.shape.type"] = "select@0.1".into();
            map["transforms.shape.constant.batch"] = "7".into();
        }
        map
    };
    let put = |rules| daemon.ask("PUT", "/connectors/checked/config", Some(&checked(rules)));
    let made = put(true);
    assert_eq!(made.status, 201, "{}", made.text());
    until("a row with the column", || {
        let log = open_log(&rig.path("checked"), "checked", "checked").ok()??;
        (log.state().totals().rows.written == 1).then_some(())
    });
    let refused = put(false);
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(
        refused.text().contains("`batch` goes"),
        "{}",
        refused.text()
    );
    assert_eq!(put(true).status, 200);
}

/// Rows that were written have readers, also while the zone that is read has none.
#[test]
fn a_swap_is_compared_with_readers_while_the_zone_that_is_read_is_empty() {
    let lab = Lab::new();
    let shape = "[[transforms]]\nname = \"shape\"\ntype = \"select@0.1\"\nconstant.batch = \"7\"\n";
    lab.declare(&format!("{RULES}{shape}"), "");
    lab.add_numbers("one", 10);
    lab.processed();
    lab.case
        .done(&["pipeline", "rewind", "raw.toml", "file/0=0"]);
    assert!(lab.rows("raw_zone", "raw").is_empty());
    assert!(!lab.rows("checked", "checked").is_empty());
    lab.declare(RULES, "");
    let refused = lab.pipeline(&["swap", "--reload"]);
    assert!(!refused.status.success(), "{}", text(&refused));
    assert!(
        said(&refused).contains("`batch` goes"),
        "{}",
        said(&refused)
    );
    let more = format!("{RULES}{shape}constant.more = \"8\"\n");
    lab.declare(&more, "");
    let dry = lab.asked(&["swap", "--reload", "--dry-run"]);
    assert_eq!(dry["columns"]["effect"], "additive");
}
