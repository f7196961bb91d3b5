//! A table's columns are one namespace: those that the rules make, those that the host writes, those in the paths; case
//! is compared as SQL engines do. A clash is reported with both origins, in every way a config is checked.

use crate::lake::{Lake, TOPIC};

/// Told by `check`, and by a run before it leaves anything behind.
fn refused(columns: &str, parts: &[&str]) {
    let lake = Lake::new(columns);
    lake.weir(&["check", "raw.toml"])
        .refused(&[&["error[column_clash]", "raw.toml:"][..], parts].concat());
    lake.run("raw.toml").refused(parts);
    assert!(
        !lake.path("zone").exists(),
        "a refused start leaves nothing"
    );
}

#[test]
fn a_column_of_the_host_is_not_made_by_a_rule() {
    let message =
        "`_timestamp` of the transform `columns` and column `_timestamp` that every zone has";
    refused(
        "columns = [\"id\", \"_timestamp\"]\ntypes._timestamp = \"timestamp\"",
        &[message],
    );
    refused("columns = [\"id\", \"_timestamp\"]", &[message]);
    for (column, kind) in [
        ("_topic", "string"),
        ("_partition", "int"),
        ("_row", "int"),
        ("_offset", "long"),
    ] {
        let columns = format!("columns = [\"id\", \"{column}\"]\ntypes.{column} = \"{kind}\"");
        let lake = Lake::new(&columns);
        let told = format!("`{column}` that every zone has from the host");
        lake.weir(&["check", "raw.toml"]).refused(&[&told]);
    }
}

#[test]
fn twins_by_case_are_one_name() {
    refused(
        "columns = [\"id\", \"ID\", \"_OFFSET\"]",
        &[
            "`ID` of the transform `columns` and column `id` of the transform `columns` are one name",
        ],
    );
    let lake = Lake::new("columns = [\"id\", \"ID\", \"_OFFSET\"]");
    lake.weir(&["check", "raw.toml"]).refused(&[
        "`_OFFSET` of the transform `columns` and column `_offset`",
        "2 errors",
    ]);
}

#[test]
fn a_column_of_the_path_is_not_made_by_a_rule() {
    refused(
        "columns = [\"id\", \"ingest_date\", \"Ingest_Hour\", \"day\"]",
        &[
            "`ingest_date` of the transform `columns` and column `ingest_date` in the path of each file",
        ],
    );
    // PROCESSED: the partition `year`, and RAW's column `Year`; told where both are checked.
    let lake = Lake::new("columns = [\"id\", \"Year\", \"day\"]\ntypes.day = \"date\"");
    let both = ["check", "raw.toml", "processed.toml"];
    let told = "`Year` of the zone that is read and column `year` in the path of each file (sink.partition.name)";
    lake.weir(&both).refused(&[told, "processed.toml:"]);
    // Alone it is told at the start, by RAW's own files, and nothing is planned.
    lake.send(&[r#"{"id": "a", "Year": "model 7", "day": "2021-05-06"}"#]);
    lake.runs("raw.toml");
    let said = lake.run("processed.toml");
    said.refused(&["sink.partition.name `year` is also a column of the rows, `Year`"]);
    assert!(
        !lake.path("processed").exists(),
        "a refused start leaves nothing"
    );
    lake.processed("", "partition.name = \"day_year\"");
    lake.runs("processed.toml");
    assert_eq!(
        lake.rows("processed", "processed"),
        ["id=a Year=model 7 day=2021-05-06"]
    );
}

#[test]
fn what_a_chain_carries_through_is_the_hosts_own() {
    let lake = Lake::new("columns = [\"id\"]");
    let raw = std::fs::read_to_string(lake.path("raw.toml")).unwrap();
    let select =
        "type = \"select@0.1\"\nkeep = [\"value\", \"_topic\", \"_offset\", \"_timestamp\"]";
    let raw = raw.replace("type = \"json-flatten@0.1\"\ncolumns = [\"id\"]", select);
    std::fs::write(lake.path("raw.toml"), &raw).unwrap();
    lake.send(&["x"]);
    let checked = lake.weir(&["check", "raw.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.err);
    lake.runs("raw.toml");
    assert_eq!(lake.rows("raw", "zone").len(), 1, "{TOPIC}");
    // Under another column's values it is not.
    std::fs::write(
        lake.path("raw.toml"),
        raw.replace(
            "keep = [\"value\", \"_topic\", ",
            "rename.value = \"_topic\"\nkeep = [\"value\", ",
        ),
    )
    .unwrap();
    lake.weir(&["check", "raw.toml"])
        .refused(&["`_topic` of the transform `columns` and column `_topic`"]);
}
