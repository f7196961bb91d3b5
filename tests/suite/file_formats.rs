//! `source.type = "file"`: each format and each packing gives the records that its plugin reads, and what is broken is named.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::brokers::files;
use crate::file_rig::{Rig, bz2, flattened, gz, lines};

#[test]
fn each_packing_is_read_and_a_torn_one_is_named() {
    let rig = Rig::new("source.format = \"jsonl\"\n", "");
    let text = lines(0, 500);
    rig.write("a.jsonl", &text);
    // Two streams one after the other are one file.
    let (head, tail) = text.split_at(text.find("{\"n\":250}").unwrap());
    rig.write(
        "b.jsonl.gz",
        [gz(head.as_bytes()), gz(tail.as_bytes())].concat(),
    );
    rig.write("c.jsonl.zst", zstd::encode_all(text.as_bytes(), 3).unwrap());
    rig.write(
        "d.jsonl.bz2",
        [bz2(head.as_bytes()), bz2(tail.as_bytes())].concat(),
    );
    rig.run();
    let mut by_file: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, value) in rig.values() {
        by_file.entry(file).or_default().push(value);
    }
    assert_eq!(by_file.len(), 4);
    for (file, values) in by_file {
        assert_eq!(values.concat(), text.replace('\n', ""), "{file}");
    }
    let whole = gz(lines(500, 3000).as_bytes());
    rig.write("e.jsonl.gz", &whole[..whole.len() / 2]);
    let said = rig.fails();
    for part in ["source_lost", "e.jsonl.gz", "torn", "source.on.bad.file"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    rig.write("f.jsonl", lines(3000, 3010));
    rig.declare(
        "source.format = \"jsonl\"\nsource.on.bad.file = \"skip\"\n",
        "",
    );
    let said = rig.run();
    assert!(said.contains("e.jsonl.gz"), "{said}");
    let values = rig.values();
    let of = |name: &str| values.iter().filter(|(file, _)| file == name).count();
    assert_eq!(of("f.jsonl"), 10);
    assert!(of("e.jsonl.gz") > 0 && of("e.jsonl.gz") < 2500);
    rig.write("g.jsonl.xz", "x");
    let said = rig.run();
    assert!(said.contains("files packed as .xz are not read"), "{said}");
}

#[test]
fn each_format_gives_what_its_plugin_reads() {
    let rig = Rig::new("", "");
    rig.write("array.json", "[{\"n\":1}, {\"n\":2},\n[3]]");
    rig.write("follow.json", "\u{feff}{\"n\":4}\n{\"n\":\n5}");
    rig.run();
    assert_eq!(
        rig.texts(),
        ["{\"n\":1}", "{\"n\":2}", "[3]", "{\"n\":4}", "{\"n\":\n5}"]
    );

    let rig = Rig::new("source.format = \"text\"\n", "");
    rig.write("a.log", b"one\r\n\ntw\xff\n");
    rig.run();
    assert_eq!(rig.texts(), ["one", "", "tw\u{fffd}"]);

    let parse = "[[transforms]]\nname = \"parse\"\ntype = \"csv-parse\"\nheader-line = true\n\
                 columns = [\"id\", \"value=text\"]\ncarry = [\"key\"]\nextra = \"ignore\"\n";
    let rig = Rig::new("source.format = \"csv\"\n", parse);
    rig.write(
        "a.csv",
        "id,text\n1,plain\n2,\"two\nlines, \"\"quoted\"\"\"\n",
    );
    rig.write("b.csv", "text,more,id\r\nother,x,3\r\n");
    rig.run();
    let (rows, _) = flattened(&rig);
    assert_eq!(
        rows,
        [
            ("a.csv", "1", "plain"),
            ("a.csv", "2", "two\nlines, \"quoted\""),
            ("b.csv", "3", "other")
        ]
        .map(|(file, id, text)| format!("{file} {id} {text}"))
    );

    let parse = "[[transforms]]\nname = \"parse\"\ntype = \"xml-flatten\"\nrow-tag = \"book\"\n\
                 columns = \"id=@id, value=title\"\n";
    let rig = Rig::new(
        "source.format = \"xml\"\nsource.row.tag = \"book\"\n",
        parse,
    );
    let latin = b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><l><!-- <book/> --><book id=\"1\"><title>Caf\xe9</title></book>\n\
                  <book id=\"2\"><title>b</title></book></l>";
    rig.write("a.xml", latin);
    rig.run();
    let (rows, _) = flattened(&rig);
    assert_eq!(rows, [" 1 Caf\u{e9}", " 2 b"]);
}

#[test]
fn parquet_rows_are_json_objects() {
    // A zone's own files are Parquet that somebody else wrote.
    let first = Rig::new("source.format = \"jsonl\"\n", "");
    first.write("a.jsonl", lines(0, 3000));
    first.run();
    let rig = Rig::new("source.format = \"parquet\"\n", "sink.rotate.rows = 500\n");
    let made = files(&first.path("zone/file"), ".parquet");
    for (n, path) in made.iter().enumerate() {
        rig.write(&format!("{n}.parquet"), fs::read(path).unwrap());
    }
    rig.run();
    let rows = rig.rows();
    assert_eq!(rows.len(), 3000);
    let parsed: Vec<serde_json::Value> = rows
        .iter()
        .map(|(_, _, text)| serde_json::from_str(text).unwrap())
        .collect();
    let one = &parsed[0];
    assert_eq!(one["_topic"], "file");
    assert_eq!(one["_offset"], 0);
    assert_eq!(one["key"], "YS5qc29ubA==");
    assert!(one["_timestamp"].as_str().unwrap().ends_with('Z'), "{one}");
    rig.done(&["pipeline", "rewind", "files.toml", "file/0=1700"]);
    assert!(rig.rows().len() < 2000);
    rig.run();
    assert_eq!(rig.rows(), rows);
    // One that is cut is named, and passed over where that is asked for.
    let whole = fs::read(&made[0]).unwrap();
    rig.write("x.parquet", &whole[..whole.len() / 2]);
    let said = rig.fails();
    for part in [
        "x.parquet",
        "no readable Parquet file",
        "source.on.bad.file",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    rig.write("y.parquet", &whole);
    rig.declare(
        "source.format = \"parquet\"\nsource.on.bad.file = \"skip\"\n",
        "sink.rotate.rows = 500\n",
    );
    let said = rig.run();
    assert!(
        said.contains("x.parquet") && said.contains("recorded as a gap"),
        "{said}"
    );
    let more = rig.values();
    let of = |name: &str| more.iter().filter(|(file, _)| file == name).count();
    assert_eq!((of("x.parquet"), of("y.parquet")), (0, of("0.parquet")));
    assert_eq!(more.len(), 3000 + of("0.parquet"));
}

#[test]
fn a_bad_piece_is_a_dead_letter_and_its_neighbours_are_rows() {
    let flatten = "[[transforms]]\nname = \"flatten\"\ntype = \"json-flatten\"\ncolumns = \"n\"\ntypes.n = \"int\"\n\
                   [errors]\ntolerance = \"all\"\n";
    let rig = Rig::new("", flatten);
    rig.write(
        "a.json",
        b"[{\"n\":1},{\"n\":tru},{\"n\":\"\xff\"},{\"n\":4}]",
    );
    rig.run();
    let totals = rig.log().unwrap().state().totals();
    assert!(totals.closes());
    assert_eq!((totals.rows.written, totals.dead_letters), (2, 2));
    // What is no JSON as a whole is named with its byte.
    rig.write("b.json", "[{\"n\":1}");
    let said = rig.fails();
    assert!(
        said.contains("b.json: the array that began is not closed"),
        "{said}"
    );
    assert!(said.contains("byte=8"), "{said}");
    // Its element was committed; the array is torn all the same.
    let before = rig.settled();
    let said = rig.fails();
    assert!(
        said.contains("b.json: the array that began is not closed"),
        "{said}"
    );
    assert_eq!(rig.settled(), before);
}

#[test]
fn a_hundred_thousand_rows_of_csv_with_json_over_several_lines() {
    const ROWS: usize = 100_000;
    let parse = "[[transforms]]\nname = \"parse\"\ntype = \"csv-parse\"\nheader-line = true\n\
                 columns = [\"id\", \"value=json_data\"]\ncarry = [\"key\"]\n";
    let rig = Rig::new("source.format = \"csv\"\n", parse);
    let mut text = "id,json_data\n".to_owned();
    for n in 0..ROWS {
        let _unfailing = write!(
            text,
            "{n},\"{{\n  \"\"n\"\": {n},\n  \"\"a,b\"\": [1]\n}}\"\r\n"
        );
    }
    rig.write("a.csv", text);
    rig.run();
    let (rows, letters) = flattened(&rig);
    assert_eq!((rows.len(), letters), (ROWS, 0));
    let last = format!("a.csv {0} {{\n  \"n\": {0},\n  \"a,b\": [1]\n}}", ROWS - 1);
    assert!(rows.contains(&last), "{:?}", rows.last());
}

/// TOML's `"\t"`, `"\n"` and `" "` are characters, and none of them is taken off as a blank. What CSV has no form for is a dead letter.
#[test]
fn blanks_are_delimiters_and_csv_has_no_bytes() {
    let source = "source.format = \"csv\"\nsource.header = \"none\"\nsource.delimiter = \"\\t\"\n\
                  errors.tolerance = \"all\"\n";
    let csv = "sink.format = \"csv\"\nsink.file.column = \"value\"\nsink.file.header = false\n\
               sink.file.delimiter = \" \"\n";
    let rig = Rig::new(source, csv);
    rig.write("a.tsv", b"1\t\"x\ny\"\na b\n\xff\xfe\n//4=\n");
    rig.run();
    let zone = rig.path("zone/file");
    let texts = |ending: &str| -> Vec<String> {
        let found = files(&zone, ending).into_iter();
        found
            .map(|file| fs::read_to_string(file).unwrap())
            .collect()
    };
    assert_eq!(
        texts(".csv").concat(),
        "\"1\t\"\"x\ny\"\"\"\n\"a b\"\n//4=\n",
        "a quote begins a field behind a tab, and one with a blank is quoted"
    );
    let letters = rig.done(&["dlq", "ls", "file:zone"]);
    assert!(letters.contains("not_in_format"), "{letters}");
    let shown = rig.done(&["dlq", "show", "file:zone", "--json"]);
    assert!(shown.contains("//4="), "its bytes, in base64: {shown}");

    rig.declare(
        source,
        "sink.format = \"bytes\"\nsink.file.separator = \"\\n\"\n",
    );
    rig.write("b.tsv", "2\tz\n");
    rig.run();
    assert_eq!(texts(".bin"), ["2\tz\n"]);
    // The same on the command line, and what is no delimiter is shown so that it can be read.
    rig.done(&["check", "files.toml", "--set", "sink.file.separator= "]);
    rig.declare(&source.replace("\\t", "\\n"), csv);
    let said = rig.fails();
    assert!(said.contains("or `tab`, found `\\n`"), "{said}");
}
