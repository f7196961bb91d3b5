//! The guide prints plugins that compile and pass: those in `decade.rs` and `till.rs`, and the one that `weir plugin new`
//! writes.

const GUIDE: &str = include_str!("../../../docs/write-a-plugin.md");

#[test]
fn the_guide_prints_the_tested_plugins() {
    for (name, tested) in [
        ("decade.rs", include_str!("decade.rs")),
        ("till.rs", include_str!("till.rs")),
    ] {
        let (_, code) = tested.split_once('\n').unwrap();
        assert!(
            GUIDE.contains(code),
            "docs/write-a-plugin.md and sdk/tests/{name} differ"
        );
    }
}

#[test]
fn the_guide_prints_what_new_writes() {
    let template = include_str!("../../../host/src/author/template/lib.rs.txt");
    assert!(
        GUIDE.contains(&template.replace("{{name}}", "order-lines")),
        "docs/write-a-plugin.md and the template differ"
    );
}
