//! What goes on and in which order, what crosses, constants of every type, and every mistake of a config.
use select::Select;
use weir_sdk::testing::Bench;
use weir_sdk::{Batch, Field, MadeColumn, PlannedColumn, RowMap, Transform};

fn abc() -> Bench {
    Bench::default()
        .column("a", "int", &[Some("1"), None])
        .column("b", "string", &[Some("x"), Some("y")])
        .column("c", "boolean", &[None, Some("true")])
}

fn told(bench: &Bench) -> Vec<String> {
    let problems = bench.problems::<Select>();
    problems
        .iter()
        .map(|p| format!("{} {}", p.at, p.code))
        .collect()
}

#[test]
fn columns_are_kept_in_the_order_of_the_list_or_dropped() {
    let kept = abc().key("keep", "c, a").run::<Select>(2);
    assert_eq!(
        (kept.names.join(","), kept.lines().join("/")),
        ("c,a".into(), "∅|1/true|∅".into())
    );
    let dropped = abc().key("drop", "b").run::<Select>(2);
    assert_eq!(dropped.names, ["a", "c"]);
    assert_eq!(abc().run::<Select>(2).names, ["a", "b", "c"]);
}

#[test]
fn only_renamed_columns_cross_and_nothing_comes_back() {
    let bench = abc().key("drop", "c").key("rename.b", "title");
    let (mut plugin, plan) = bench.init::<Select>();
    assert_eq!(plan.reads, [1]);
    assert_eq!(plan.output[0], PlannedColumn::Carry(0));
    let batch = Batch::new(2, vec![bench.columns()[1].clone()]);
    let output = plugin.run(&batch).unwrap();
    assert_eq!(output.rows, RowMap::Every);
    assert_eq!(output.columns, [MadeColumn::Unchanged(0)]);
    let table = bench.run::<Select>(2);
    assert_eq!(
        (table.names.join(","), table.lines().join("/")),
        ("a,title".into(), "1|x/∅|y".into())
    );
}

#[test]
fn names_can_be_exchanged() {
    let table = abc()
        .key("keep", "a,b")
        .key("rename.a", "b")
        .key("rename.b", "a")
        .run::<Select>(2);
    assert_eq!(
        (table.names.join(","), table.lines().join("/")),
        ("b,a".into(), "1|x/∅|y".into())
    );
}

#[test]
fn a_rename_to_the_same_name_is_none() {
    let (_, plan) = abc().key("rename.a", "a").init::<Select>();
    assert!(plan.reads.is_empty());
}

#[test]
fn nested_columns_are_renamed_whole() {
    let mut setup = abc().key("rename.tags", "labels").setup();
    let node = |name: &str, format: &str, children| Field {
        name: name.into(),
        format: format.into(),
        nullable: true,
        children,
        extension: None,
    };
    setup
        .input
        .push(vec![node("tags", "+l", 1), node("item", "u", 0)]);
    let (_, plan) = Select::init(&setup).unwrap();
    let expected = vec![node("labels", "+l", 1), node("item", "u", 0)];
    assert_eq!(plan.output[3], PlannedColumn::Make(expected));
    assert_eq!(plan.reads, [3]);
}

#[test]
fn constants_have_a_type_and_stand_at_the_end() {
    let bench = abc()
        .key("keep", "a")
        .key("constant.z", "x")
        .key("constant.day", "2024-02-29")
        .key("types.day", "date")
        .key("constant.n", "")
        .key("types.n", "long")
        .key("constant.e", "");
    let table = bench.run::<Select>(2);
    assert_eq!(table.names, ["a", "day", "e", "n", "z"]);
    assert_eq!(table.lines(), ["1|19782||∅|x", "∅|19782||∅|x"]);
    let (mut plugin, _) = bench.init::<Select>();
    for column in plugin.run(&Batch::new(2, Vec::new())).unwrap().columns {
        assert!(matches!(column, MadeColumn::Made(column) if column.constant));
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let bench = abc()
        .key("keep", "a,x")
        .key("drop", "y")
        .key("rename.b", "z")
        .key("rename.w", "z")
        .key("constant.a", "1")
        .key("constant.k", "x")
        .key("types.k", "int")
        .key("types.b", "int")
        .key("types.a", "text")
        .key("kep", "a");
    assert_eq!(
        told(&bench),
        [
            "/drop keep_and_drop",
            "/keep unknown_column",
            "/drop unknown_column",
            "/rename.b not_kept",
            "/rename.w unknown_column",
            "/constant.a duplicate_column",
            "/types.a bad_type",
            "/constant.k bad_value",
            "/types.b unknown_column",
            "/kep unknown_key"
        ]
    );
    assert_eq!(told(&abc().key("drop", "a,b,c")), ["/keep no_columns"]);
    assert_eq!(told(&abc().key("keep", "a,a")), ["/keep duplicate_column"]);
    assert_eq!(
        told(&abc().key("rename.a", "b")),
        ["/keep duplicate_column"]
    );
    assert_eq!(
        told(&abc().key("rename.b", "a")),
        ["/rename.b duplicate_column"]
    );
    assert_eq!(told(&abc().key("rename.b", "")), ["/rename.b bad_name"]);
}
