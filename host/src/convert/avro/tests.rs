//! What is read under another schema, by the bytes of each; and schemas that claim more than they are.

use std::time::Instant;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_cast::cast;
use arrow_cast::display::array_value_to_string;
use arrow_schema::DataType;

use super::*;

/// A record of these fields, each `name: type` or `name = default: type`.
fn record(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, of)| match name.split_once(" = ") {
            None => format!(r#"{{"name":"{name}","type":{of}}}"#),
            Some((name, default)) => {
                format!(r#"{{"name":"{name}","type":{of},"default":{default}}}"#)
            }
        })
        .collect();
    format!(
        r#"{{"type":"record","name":"R","namespace":"n","fields":[{}]}}"#,
        fields.join(",")
    )
}

/// Rows of values as `column=value`, or as the code of a refusal; `Err`: the schema cannot be read under the one in force.
fn read(
    in_force: &str,
    written: &str,
    values: &[&[u8]],
) -> std::result::Result<Vec<String>, String> {
    let mut avro = reads(in_force, written)?;
    let values: Vec<(u32, &[u8])> = (0..).zip(values.iter().copied()).collect();
    let decoded = avro.decode(&values).map_err(|e| e.one_line())?;
    let mut rows: BTreeMap<u32, String> = decoded
        .rejects
        .iter()
        .map(|reject| (reject.row, reject.code.clone()))
        .collect();
    for (at, row) in decoded.rows.iter().enumerate() {
        let cells = decoded
            .columns
            .iter()
            .zip(&avro.fields)
            .map(|(column, field)| {
                let text = shown(column, at);
                format!("{}={text}", field.name())
            });
        rows.insert(*row, cells.collect::<Vec<_>>().join(" "));
    }
    Ok(rows.into_values().collect())
}

/// Reads values that are written by one schema under another one.
fn reads(in_force: &str, written: &str) -> std::result::Result<Avro, String> {
    let (expanded, _) = expand::checked(in_force)?;
    let mut avro = Avro {
        schema: in_force.into(),
        expanded,
        fields: columns(in_force)?,
        framed: false,
        wrong: Wrong::Stop,
        schemas: None,
        follows: false,
        left_out: Vec::new(),
        writers: Vec::new(),
    };
    let writer = avro.writer(&written.into())?;
    avro.writers.push((0, Ok(writer)));
    Ok(avro)
}

fn shown(column: &ArrayRef, at: usize) -> String {
    let plain = match column.data_type() {
        DataType::Timestamp(unit, Some(_)) => {
            cast(column, &DataType::Timestamp(*unit, None)).expect("without its zone")
        }
        _ => column.clone(),
    };
    // There is no text of a very late year.
    array_value_to_string(&plain, at).unwrap_or_else(|_| "later".to_owned())
}

fn logical(of: &str, logical: &str) -> String {
    format!(r#"{{"type":"{of}","logicalType":"{logical}"}}"#)
}

fn decimal(digits: u8, places: u8) -> String {
    format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{digits},"scale":{places}}}"#)
}

/// Each pair has the same bytes, or a number that is promoted, and another meaning.
#[test]
fn what_means_something_else_is_incompatible() {
    let of = |name: &str| format!(r#"{{"type":"long","connect.name":"{name}"}}"#);
    let long = "\"long\"".to_owned();
    for (written, wanted, told) in [
        (
            logical("long", "timestamp-micros"),
            logical("long", "timestamp-millis"),
            "timestamp-micros cannot be read as timestamp-millis",
        ),
        (
            logical("long", "timestamp-millis"),
            long.clone(),
            "timestamp-millis cannot be read as long",
        ),
        (
            long.clone(),
            logical("long", "local-timestamp-micros"),
            "long cannot be read as local-",
        ),
        (
            "\"int\"".to_owned(),
            logical("int", "date"),
            "int cannot be read as date",
        ),
        (
            logical("int", "date"),
            long.clone(),
            "date cannot be read as long",
        ),
        (
            logical("int", "time-millis"),
            logical("long", "time-micros"),
            "time-millis cannot be read",
        ),
        (
            decimal(10, 2),
            decimal(12, 4),
            "decimal(10, 2) cannot be read as decimal(12, 4)",
        ),
        (
            decimal(12, 2),
            decimal(10, 2),
            "decimal(12, 2) cannot be read as decimal(10, 2)",
        ),
        (
            "\"bytes\"".to_owned(),
            decimal(10, 2),
            "bytes cannot be read as decimal(10, 2)",
        ),
        (
            of("io.debezium.time.MicroTimestamp"),
            of("io.debezium.time.Timestamp"),
            "io.debezium.time.MicroTimestamp cannot be read as io.debezium.time.Timestamp",
        ),
    ] {
        let both = |inside: &dyn Fn(&str) -> String| {
            let record = |of: &str| record(&[("a", "\"int\""), ("x", &inside(of))]);
            read(&record(&wanted), &record(&written), &[]).unwrap_err()
        };
        for why in [
            both(&|of| of.to_owned()),
            both(&|of| format!(r#"["null",{of}]"#)),
            both(&|of| format!(r#"{{"type":"array","items":{of}}}"#)),
            both(&|of| format!(r#"{{"type":"map","values":["null",{of}]}}"#)),
            both(&|of| {
                format!(r#"{{"type":"record","name":"I","fields":[{{"name":"y","type":{of}}}]}}"#)
            }),
            // Null may be in only one of the two.
            read(
                &record(&[("x", &wanted)]),
                &record(&[("x", &format!(r#"["null",{written}]"#))]),
                &[],
            )
            .unwrap_err(),
            read(
                &record(&[("x", &format!(r#"["null",{wanted}]"#))]),
                &record(&[("x", &written)]),
                &[],
            )
            .unwrap_err(),
        ] {
            assert!(why.contains("`x`: ") && why.contains(told), "{why}");
        }
    }
    // Another name, and still the same field.
    let renamed = |of: &str| {
        format!(
            r#"{{"type":"record","name":"R","namespace":"n","fields":[{{"name":"y","aliases":["x"],"type":{of}}}]}}"#
        )
    };
    let (millis, micros) = (
        logical("long", "timestamp-millis"),
        logical("long", "timestamp-micros"),
    );
    read(&renamed(&millis), &record(&[("x", &micros)]), &[]).unwrap_err();
    read(&record(&[("x", &millis)]), &renamed(&micros), &[]).unwrap_err();
}

#[test]
fn what_means_the_same_is_read() {
    let connect = r#"{"type":"long","connect.version":1,"connect.name":"org.apache.kafka.connect.data.Timestamp","logicalType":"timestamp-millis"}"#;
    for (written, wanted, value, cell) in [
        (
            connect.to_owned(),
            logical("long", "timestamp-millis"),
            &[2][..],
            "1970-01-01T00:00:00.001",
        ),
        ("\"int\"".to_owned(), "\"double\"".to_owned(), &[2], "1.0"),
        (
            "\"string\"".to_owned(),
            logical("string", "unknown"),
            &[2, b'x'],
            "x",
        ),
        (decimal(4, 2), decimal(12, 2), &[2, 5], "0.05"),
        // A logical type that is none of its type.
        (
            logical("int", "timestamp-millis"),
            "\"int\"".to_owned(),
            &[2],
            "1",
        ),
        (
            r#"["null","int"]"#.to_owned(),
            "\"long\"".to_owned(),
            &[2, 2],
            "1",
        ),
        (
            r#"["int","null"]"#.to_owned(),
            r#"["null","long"]"#.to_owned(),
            &[0, 2],
            "1",
        ),
        (
            r#"[{"type":"null"},"int"]"#.to_owned(),
            r#"["null","int"]"#.to_owned(),
            &[2, 2],
            "1",
        ),
        (
            r#"["int","string"]"#.to_owned(),
            "\"string\"".to_owned(),
            &[2, 2, b'x'],
            "x",
        ),
    ] {
        let rows = read(
            &record(&[("x", &wanted)]),
            &record(&[("x", &written)]),
            &[value],
        );
        assert_eq!(rows, Ok(vec![format!("x={cell}")]), "{written} as {wanted}");
    }
    // Null where none may be, and a number where a text is.
    let rows = read(
        &record(&[("x", "\"string\"")]),
        &record(&[("x", r#"["null","int","string"]"#)]),
        &[&[0], &[2, 2], &[4, 2, b'x']],
    );
    assert_eq!(rows.unwrap(), ["not_decodable", "not_decodable", "x=x"]);
}

/// Below a union that is read as one type the decoder resolves nothing.
#[test]
fn a_struct_that_may_be_null_now_is_not_read_by_its_old_fields() {
    let inner = |of: &str| {
        format!(r#"{{"type":"record","name":"I","fields":[{{"name":"y","type":"{of}"}}]}}"#)
    };
    let now_null = |of: &str| format!(r#"["null",{}]"#, inner(of));
    let reads = |of: &str| {
        read(
            &record(&[("x", &inner("double"))]),
            &record(&[("x", &now_null(of))]),
            &[&[2, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f]],
        )
    };
    assert_eq!(reads("double"), Ok(vec!["x={y: 1.5}".to_owned()]));
    assert!(reads("long").unwrap_err().contains("it may be null"));
    let several = read(
        &record(&[("x", r#"["null","string"]"#)]),
        &record(&[("x", r#"["null","int","string"]"#)]),
        &[],
    );
    assert!(several.unwrap_err().contains("a union of several types"));
}

/// A type that changed, and is first used at a place of which the schema in force knows nothing.
#[test]
fn a_type_that_changed_is_read_wherever_it_is_named() {
    let address = |more: &str| {
        format!(
            r#"{{"type":"record","name":"Address","fields":[{{"name":"street","type":"string"}}{more},{{"name":"no","type":"int"}}]}}"#
        )
    };
    let state = |symbols: &str| format!(r#"{{"type":"enum","name":"State","symbols":{symbols}}}"#);
    let in_force = record(&[
        ("addr", &address("")),
        ("state", &state(r#"["NEW","SENT"]"#)),
        ("other", "\"Address\""),
    ]);
    let written = record(&[
        ("billing", &address(r#",{"name":"zip","type":"long"}"#)),
        ("was", &state(r#"["SENT","NEW"]"#)),
        ("addr", "\"Address\""),
        ("state", "\"State\""),
        ("other", "[\"null\", \"Address\"]"),
    ]);
    let same = written.replace("[\"null\", \"Address\"]", "\"n.Address\"");
    let one = [2, b'b', 18, 2];
    let bytes = [&one[..], &[0], &[2, b'a', 20, 4], &[0], &[2, b'c', 22, 6]].concat();
    assert_eq!(
        read(&in_force, &same, &[&bytes]).unwrap(),
        ["addr={street: a, no: 2} state=SENT other={street: c, no: 3}"]
    );
    assert!(
        read(&in_force, &written, &[])
            .unwrap_err()
            .contains("`other`: it may be null")
    );
    // An alias counts in the namespace of its type.
    let renamed = record(&[(
        "x",
        r#"{"type":"enum","name":"Now","aliases":["Was"],"symbols":["A"]}"#,
    )]);
    let was = record(&[("x", r#"{"type":"enum","name":"Was","symbols":["A"]}"#)]);
    assert_eq!(read(&renamed, &was, &[&[0]]).unwrap(), ["x=A"]);
}

#[test]
fn a_decimal_with_more_digits_than_its_column_is_refused_alone() {
    let unscaled = [12, 0, 1, 0, 0, 0, 5]; // 2^32 + 5
    let four = decimal(4, 2);
    let list = format!(r#"{{"type":"array","items":{four}}}"#);
    let inner = format!(
        r#"{{"type":"record","name":"I","fields":[{{"name":"y","type":["null",{four}]}}]}}"#
    );
    for (of, before, after, good) in [
        (&four, &[][..], &[][..], "x=0.05"),
        (&list, &[2], &[0], "x=[0.05]"),
        (&inner, &[2], &[], "x={y: 0.05}"),
    ] {
        let schema = record(&[("x", of)]);
        let value = |bytes: &[u8]| [before, bytes, after].concat();
        let values = [value(&[2, 5]), value(&unscaled), value(&[2, 5])];
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        assert_eq!(
            read(&schema, &schema, &values).unwrap(),
            [good, "out_of_range", good]
        );
    }
}

/// As Avro writes a long.
fn long(n: i64) -> Vec<u8> {
    let mut rest = ((n << 1) ^ (n >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// "For ever" as people write it: 9999-12-31 west of Greenwich, 0001-01-01 east of it, the largest number.
#[test]
fn days_and_times_of_any_year_are_rows_if_their_type_holds_them() {
    let (day, ms) = (logical("int", "date"), logical("long", "timestamp-millis"));
    let us = logical("long", "timestamp-micros");
    let local = logical("long", "local-timestamp-micros");
    for (of, n) in [
        (&day, 2_932_897),
        (&day, -719_163),
        (&day, i64::from(i32::MAX)),
        (&ms, 253_402_329_599_000),
        (&ms, i64::MAX / 1000),
        (&us, i64::MAX),
        (&us, -62_135_600_400_000_000),
        (&local, i64::MIN),
    ] {
        let schema = record(&[("x", of)]);
        let mut avro = reads(&schema, &schema).expect("the same schema");
        let value = long(n);
        let decoded = avro.decode(&[(0, &value)]).expect("decoded");
        let number = match decoded.columns[0].data_type() {
            DataType::Date32 => decoded.columns[0]
                .as_primitive::<Date32Type>()
                .value(0)
                .into(),
            _ => {
                let micros = decoded.columns[0].as_primitive::<TimestampMicrosecondType>();
                micros.value(0) / if *of == ms { 1000 } else { 1 }
            }
        };
        assert_eq!((number, decoded.rejects.len()), (n, 0), "{of}");
    }
}

/// Each beside the last value that is in range. However many there are, they are found together.
#[test]
fn times_that_their_type_cannot_hold_are_refused_alone() {
    let ms = logical("long", "local-timestamp-millis");
    let list = format!(r#"{{"type":"array","items":{ms}}}"#);
    let map = format!(r#"{{"type":"map","values":{ms}}}"#);
    let inner =
        format!(r#"{{"type":"record","name":"I","fields":[{{"name":"y","type":["null",{ms}]}}]}}"#);
    let numbers = [
        i64::MAX / 1000,
        i64::MAX,
        i64::MIN / 1000,
        i64::MIN,
        i64::MAX / 1000 + 1,
        0,
    ];
    let expected = [false, true, false, true, true, false];
    for (of, before, after) in [
        (&ms, &[][..], &[][..]),
        (&list, &[4, 0], &[0]),
        (&map, &[2, 2, b'k'], &[0]),
        (&inner, &[2], &[]),
    ] {
        let schema = record(&[("a", "\"int\""), ("x", of)]);
        let values = numbers.map(|n| [&[2], before, &long(n), after].concat());
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let rows = read(&schema, &schema, &values).unwrap();
        let bad: Vec<bool> = rows.iter().map(|row| row == "out_of_range").collect();
        assert_eq!(bad, expected, "{rows:?}");
        assert!(rows[5].starts_with("a=1 x=") && rows[5].contains("1970-01-01"));

        let mut decoder = decoder(&schema, None).unwrap();
        values
            .iter()
            .for_each(|value| whole(&mut decoder, value).unwrap());
        let batch = decoder.flush().unwrap().unwrap();
        let to = &columns(&schema).unwrap()[1];
        assert_eq!(fit::misfits(batch.column(1), to).unwrap(), expected, "{of}");
    }
}

/// A decoder for each of them takes more than a hundred times as long.
#[test]
fn a_batch_of_values_that_do_not_fit_is_read_once() {
    let ms = logical("long", "timestamp-millis");
    let names: Vec<String> = (0..300).map(|n| format!("f{n}")).collect();
    let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "\"int\"")).collect();
    fields.push(("x", &ms));
    let schema = record(&fields);
    let of = |n: i64| [vec![2; 300], long(n)].concat();
    let (good, bad) = (of(0), of(i64::MAX));
    let took = |values: &[&[u8]]| {
        let values: Vec<(u32, &[u8])> = (0..).zip(values.iter().copied()).collect();
        let mut avro = reads(&schema, &schema).expect("the same schema");
        let began = Instant::now();
        (avro.decode(&values).expect("decoded"), began.elapsed())
    };
    let fit = vec![&*good; ROWS];
    let (_, usual) = took(&fit);
    let mut values = vec![&*bad; ROWS];
    values[1000] = &good;
    // The least of three: a machine may be busy.
    let (decoded, first) = took(&values);
    let least = [first, took(&values).1, took(&values).1].into_iter().min();
    assert!(
        least < Some(30 * usual),
        "{least:?}, and {usual:?} for values that fit"
    );
    let of_rows: Vec<u32> = decoded.rejects.iter().map(|reject| reject.row).collect();
    assert_eq!((&*decoded.rows, of_rows.len()), (&[1000][..], ROWS - 1));
    assert!(
        decoded
            .rejects
            .iter()
            .all(|reject| reject.code == codes::OUT_OF_RANGE)
    );
}

#[test]
fn an_id_that_no_registry_gives_is_none() {
    let framed =
        |id: u32| super::framed(&[&[0], &id.to_be_bytes()[..], &[2]].concat()).map(|(id, _)| id);
    assert_eq!(framed(i32::MAX as u32), Ok(2_147_483_647));
    for id in [1 << 31, u32::MAX] {
        let why = framed(id).unwrap_err();
        assert!(why.contains(&id.to_string()), "{why}");
    }
}

/// Of two topics that share a field, or of one whose namespace was renamed. Avro compares the last part of a name.
#[test]
fn records_of_other_names_are_read_by_their_fields() {
    let address = r#"{"type":"record","name":"Address","fields":[{"name":"no","type":"int"}]}"#;
    let state = r#"{"type":"enum","name":"State","symbols":["NEW","SENT"]}"#;
    let key = r#"{"type":"fixed","name":"Key","size":2}"#;
    let in_force = record(&[
        ("addr", address),
        ("was", "[\"null\",\"Address\"]"),
        ("all", r#"{"type":"array","items":"Address"}"#),
        ("state", state),
        ("key", key),
    ]);
    let value = [2, 2, 4, 2, 6, 0, 2, 1, 2];
    let row = "addr={no: 1} was={no: 2} all=[{no: 3}] state=SENT key=0102";
    for (from, to) in [
        (r#""namespace":"n""#, r#""namespace":"n.v2""#),
        (r#""name":"R""#, r#""name":"Other""#),
        (r#""name":"R","namespace":"n""#, r#""name":"Other""#),
    ] {
        let written = in_force.replace(from, to);
        assert_ne!(written, in_force);
        assert_eq!(read(&in_force, &written, &[&value]).unwrap(), [row], "{to}");
    }
    // A type inside of it that has another name is another type.
    let other = in_force.replace("Address", "Place");
    assert!(
        read(&in_force, &other, &[])
            .unwrap_err()
            .contains("mismatch")
    );
}

/// Rows of nulls and defaults would be all that it gives.
#[test]
fn a_schema_of_other_fields_is_incompatible() {
    let text = r#"["null","string"]"#;
    let of = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("{name} = null")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text)).collect();
        record(&fields)
    };
    assert_eq!(
        read(&of(&["id", "customer"]), &of(&["action", "at"]), &[]).unwrap_err(),
        "none of its fields (action, at) is a column (id, customer)"
    );
    let value: &[u8] = &[2, 2, b'a', 2, 2, b'b'];
    assert_eq!(
        read(&of(&["id", "customer"]), &of(&["at", "id"]), &[value]).unwrap(),
        ["id=b customer="]
    );
    // By the alias of either side.
    let alias =
        |schema: String| schema.replace(r#""name":"was""#, r#""name":"now","aliases":["was"]"#);
    for (in_force, written) in [
        (alias(of(&["was"])), of(&["was"])),
        (of(&["was"]), alias(of(&["was"]))),
    ] {
        assert!(read(&in_force, &written, &[&value[..3]]).is_ok());
    }
    // Inside of a column: `after` of two tables, say.
    let inside = |names: &[&str]| {
        let inner = of(names).replace(r#""name":"R","namespace":"n""#, r#""name":"Value""#);
        record(&[
            ("op", "\"int\""),
            ("after = null", &format!(r#"["null",{inner}]"#)),
        ])
    };
    assert_eq!(
        read(
            &inside(&["id", "customer"]),
            &inside(&["action", "at"]),
            &[]
        )
        .unwrap_err(),
        "`after`: none of its fields (action, at) is a field of the struct in force (id, customer)"
    );
    assert_eq!(
        read(
            &inside(&["id"]),
            &inside(&["at", "id"]),
            &[&[2, 2, 2, 2, b'a', 2, 2, b'b']]
        )
        .unwrap(),
        ["op=1 after={id: b}"]
    );
    // There is nothing that would be lost.
    assert_eq!(
        read(&of(&["id"]), &of(&[]), &[&[]]),
        Ok(vec!["id=".to_owned()])
    );
}

/// `levels` types, each of which names the next one twice.
fn doubling(levels: usize) -> String {
    let mut inner = "\"int\"".to_owned();
    for level in (0..levels).rev() {
        let again = match level + 1 == levels {
            true => "\"int\"".to_owned(),
            false => format!("\"n.R{}\"", level + 1),
        };
        inner = format!(
            r#"{{"type":"record","name":"R{level}","namespace":"n","fields":[{{"name":"a","type":{inner}}},{{"name":"b","type":{again}}}]}}"#
        );
    }
    inner
}

#[test]
fn few_bytes_of_a_schema_never_stand_for_much_memory() {
    let began = Instant::now();
    let why = columns(&doubling(24)).unwrap_err();
    assert!(
        why.contains("33554431 types") && why.contains("10000"),
        "{why}"
    );
    assert!(
        columns(&doubling(40))
            .unwrap_err()
            .contains("more than 32 types inside each other")
    );
    // Each of them in full would take hours.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    assert_eq!(columns(&doubling(10)).unwrap().len(), 2);
    // Each names the one that is defined behind it.
    let chain: Vec<String> = (0..5000)
        .map(|n| format!(r#"{{"name":"f{n}","type":{{"type":"record","name":"T{n}","fields":[{{"name":"x","type":"T{}"}}]}}}}"#, n + 1))
        .collect();
    let chain = format!(
        r#"{{"type":"record","name":"R","fields":[{}]}}"#,
        chain.join(",")
    );
    assert!(columns(&chain).unwrap_err().contains("inside each other"));
    for (fields, part) in [
        (
            &[("x", r#"["null","R"]"#)][..],
            "`n.R` is a type that contains itself",
        ),
        (
            &[("x", r#"["null","Nowhere"]"#)],
            "it defines no type `n.Nowhere`",
        ),
        (
            &[(
                "x",
                r#"["null",{"type":"fixed","name":"F","size":100000000}]"#,
            )],
            "a row of nulls and defaults takes 100000000 bytes",
        ),
        (
            &[(
                "x",
                r#"{"type":"array","items":["null",{"type":"fixed","name":"F","size":2000}]}"#,
            )],
            "an item of a list or a map takes 2000 bytes",
        ),
        (
            &[(
                "x",
                r#"{"type":"array","items":{"type":"record","name":"N","fields":[{"name":"n","type":"null"}]}}"#,
            )],
            "no bytes",
        ),
    ] {
        let why = columns(&record(fields)).unwrap_err();
        assert!(why.contains(part), "{why}");
    }
    let long = format!("x = \"{}\"", "d".repeat(70_000));
    let why = columns(&record(&[(&long, "\"string\"")])).unwrap_err();
    assert!(why.contains("70000 bytes"), "{why}");
    let of_items = |fields: &str| {
        let item = format!(r#"{{"type":"record","name":"I","fields":[{fields}]}}"#);
        record(&[("x", &format!(r#"{{"type":"array","items":{item}}}"#))])
    };
    let optional = |n: usize, of: &str| -> String {
        let field = |n| format!(r#"{{"name":"f{n}","type":["null",{of}],"default":null}}"#);
        (0..n).map(field).collect::<Vec<_>>().join(",")
    };
    // Each field that is null has a byte.
    for of in [
        "\"long\"",
        r#"{"type":"string","avro.java.string":"String"}"#,
    ] {
        let wide = of_items(&optional(200, of));
        let value = [&[2][..], &[0; 200], &[0]].concat();
        let rows = read(&wide, &wide, &[&value]).unwrap();
        assert!(rows[0].starts_with("x=[{f0: , f1: ,"), "{rows:?}");
    }
    // One byte leaves out a struct of all of them, and a writer that does not know them none.
    let wide = of_items(&optional(200, "\"long\""));
    let inner = format!(
        r#"{{"type":"record","name":"J","fields":[{}]}}"#,
        optional(200, "\"long\"")
    );
    let why = columns(&of_items(&optional(1, &inner))).unwrap_err();
    assert!(why.contains("a map takes 1600 bytes"), "{why}");
    let lacks = of_items(r#"{"name":"f0","type":"int"}"#);
    let why = read(
        &wide.replace(
            r#"["null","long"],"default":null"#,
            "\"long\",\"default\":0",
        ),
        &lacks,
        &[],
    );
    let why = why.unwrap_err();
    assert!(why.contains("a map takes 1592 bytes"), "{why}");
    let why = read(&wide, &of_items(&optional(1, "\"long\"")), &[]).unwrap_err();
    assert!(why.contains("a map takes 1600 bytes"), "{why}");
    let most = of_items(&optional(100, "\"long\""));
    assert!(read(&wide, &most, &[]).is_ok());
    // A writer may have what is not read.
    let more = record(&[
        ("x", "\"int\""),
        (
            "f",
            r#"["null",{"type":"fixed","name":"F","size":100000000}]"#,
        ),
    ]);
    assert_eq!(
        read(&record(&[("x", "\"int\"")]), &more, &[&[2, 0]]).unwrap(),
        ["x=1"]
    );
}

/// A rename is no new field: the column that is there has its values.
#[test]
fn a_renamed_field_is_not_followed_as_a_new_one() {
    let old = record(&[("who", "\"string\"")]);
    let new = old.replace(r#"{"name":"who","#, r#"{"name":"name","aliases":["who"],"#);
    assert_eq!(merged(Form::Avro, &old, &new), Ok(None));
    assert_eq!(merged(Form::Avro, &new, &old), Ok(None));
    assert_eq!(read(&old, &new, &[&[2, b'x']]).unwrap(), ["who=x"]);
    let more = new.replace("\"fields\":[", r#""fields":[{"name":"zip","type":"int"},"#);
    let (_, names) = merged(Form::Avro, &old, &more).unwrap().unwrap();
    assert_eq!(names, ["zip"]);
}

/// A column of text holds what a producer adds to an enum, and never the default of the enum for it.
#[test]
fn a_symbol_that_an_enum_gets_is_read_as_its_text() {
    let state = |symbols: &str| {
        format!(r#"{{"type":"enum","name":"State","symbols":[{symbols}],"default":"NEW"}}"#)
    };
    let (old, new) = (state(r#""NEW","SENT""#), state(r#""LOST","NEW","SENT""#));
    let plain = |of: &str| of.replace(r#","default":"NEW""#, "");
    for (in_force, written) in [
        (old.clone(), new.clone()),
        (plain(&old), plain(&new)),
        (new, old),
    ] {
        let symbols = match written.contains("LOST") {
            true => ["LOST", "SENT"],
            false => ["NEW", "SENT"],
        };
        let last = match written.contains("LOST") {
            true => 4,
            false => 2,
        };
        let of = |state: &str| {
            let inner = format!(
                r#"{{"type":"record","name":"I","fields":[{{"name":"y","type":{state}}}]}}"#
            );
            record(&[
                ("x", state),
                ("may", r#"["null","State"]"#),
                ("all", r#"{"type":"array","items":"State"}"#),
                ("in", &inner.replace(state, "\"n.State\"")),
            ])
        };
        let value = [0, 2, last, 4, 0, last, 0, last];
        let [first, then] = symbols;
        assert_eq!(
            read(&of(&in_force), &of(&written), &[&value]).unwrap(),
            [format!(
                "x={first} may={then} all=[{first}, {then}] in={{y: {then}}}"
            )]
        );
    }
    // May be null now.
    let (in_force, written) = (state(r#""NEW""#), state(r#""NEW","LOST""#));
    let rows = read(
        &record(&[("x", &in_force)]),
        &record(&[("x", &format!(r#"["null",{written}]"#))]),
        &[&[2, 2], &[2, 0], &[0]],
    );
    assert_eq!(rows.unwrap(), ["x=LOST", "x=NEW", "not_decodable"]);
}

/// An own name beats an alias, as it does where records are read.
#[test]
fn a_field_that_has_the_name_of_another_one_as_its_alias_is_new() {
    let old = record(&[("a", "\"int\"")]);
    let new = record(&[("a", "\"int\""), ("b", "\"string\"")]);
    let new = new.replace(r#"{"name":"b","#, r#"{"name":"b","aliases":["a"],"#);
    let (both, names) = merged(Form::Avro, &old, &new).unwrap().unwrap();
    assert_eq!(names, ["b"]);
    assert_eq!(read(&both, &new, &[&[2, 2, b'x']]).unwrap(), ["a=1 b=x"]);
    assert_eq!(read(&both, &old, &[&[2]]).unwrap(), ["a=1 b="]);
}

/// Of two topics each has a type of one name. The column that is added has the fields of its own.
#[test]
fn a_type_that_is_defined_otherwise_elsewhere_is_not_taken_for_it() {
    let item = |fields: &str| {
        format!(
            r#"{{"type":"record","name":"Item","fields":[{{"name":"id","type":"int"}}{fields}]}}"#
        )
    };
    let sku = item(r#",{"name":"sku","type":["null","string"],"default":null}"#);
    let price = item(r#",{"name":"price","type":"long"}"#);
    let may = format!(r#"["null",{sku}],"default":null"#);
    let old = record(&[("id", "\"int\""), ("a", &may)]);
    let list = format!(r#"{{"type":"array","items":{price}}}"#);
    let new = record(&[("id", "\"int\""), ("b", &list), ("c", "\"n.Item\"")]);
    let (both, names) = merged(Form::Avro, &old, &new).unwrap().unwrap();
    assert_eq!(names, ["b", "c"]);
    assert_eq!(
        read(&both, &new, &[&[2, 2, 4, 6, 0, 8, 10]]).unwrap(),
        ["id=1 a= b=[{id: 2, price: 3}] c={id: 4, price: 5}"]
    );
    assert_eq!(
        read(&both, &old, &[&[2, 2, 4, 2, 2, b'x']]).unwrap(),
        ["id=1 a={id: 2, sku: x} b= c="]
    );
    // One that is the same stays one type.
    let same = record(&[("id", "\"int\""), ("a", &may), ("b", "\"n.Item\"")]);
    let (both, _) = merged(Form::Avro, &old, &same).unwrap().unwrap();
    assert_eq!(both.matches("\"sku\"").count(), 1, "{both}");
}

#[test]
fn nulls_and_words_of_a_schema_do_not_stand_for_much_memory() {
    let nulls = vec!["\"null\""; 1000].join(",");
    let schema = record(&[("x", &format!("[{nulls}]"))]);
    let why = expand::checked(&schema).unwrap_err();
    assert!(why.contains("null twice"), "{why}");
    // Each use has all symbols.
    let symbols: Vec<String> = (0..20_000).map(|n| format!("\"S{n}\"")).collect();
    let symbols = format!(
        r#"{{"type":"enum","name":"E","symbols":[{}]}}"#,
        symbols.join(",")
    );
    let names: Vec<String> = (0..2000).map(|n| format!("f{n}")).collect();
    let mut fields: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "\"n.E\"")).collect();
    fields[0].1 = &symbols;
    let why = expand::checked(&record(&fields)).unwrap_err();
    assert!(why.contains("when each name is replaced"), "{why}");
    assert!(expand::checked(&record(&fields[..100])).is_ok());
}

#[test]
fn unions_and_wrappers_are_no_types_of_their_own() {
    let field = |of: &str| {
        (0..6000)
            .map(|n| format!(r#"{{"name":"f{n}","type":{of}}}"#))
            .collect::<Vec<_>>()
            .join(",")
    };
    for of in [
        r#"["null","int"]"#,
        r#"{"type":{"type":"int"}}"#,
        r#"["null",{"type":{"type":"int"}}]"#,
    ] {
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, field(of));
        assert_eq!(expand::checked(&schema).unwrap().1, 6001, "{of}");
    }
    // What is expanded with them is counted.
    let nulls = format!(
        r#"{{"type":"record","name":"N","fields":[{}]}}"#,
        field("\"null\"")
    );
    let twice = record(&[("x", &nulls), ("y", "\"N\"")]);
    assert!(expand::checked(&twice).unwrap_err().contains("12003 types"));
}

/// An attribute that means nothing to a reader makes no other type.
#[test]
fn a_type_in_its_long_form_is_that_type() {
    let inner = |of: &str| {
        format!(r#"{{"type":"record","name":"I","fields":[{{"name":"y","type":{of}}}]}}"#)
    };
    let text = r#"{"type":"string","avro.java.string":"String"}"#;
    for (in_force, written) in [("\"string\"", text), (text, "\"string\"")] {
        let rows = read(
            &record(&[("x", &inner(in_force))]),
            &record(&[("x", &format!(r#"["null",{}]"#, inner(written)))]),
            &[&[2, 2, b'z']],
        );
        assert_eq!(rows, Ok(vec!["x={y: z}".to_owned()]));
    }
}
