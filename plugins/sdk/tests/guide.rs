//! The guide prints a plugin that compiles and passes: the one in `decade.rs`.

#[test]
fn the_guide_prints_the_tested_plugin() {
    let guide = include_str!("../../../docs/write-a-plugin.md");
    let tested = include_str!("decade.rs");
    let (_, code) = tested.split_once('\n').unwrap();
    assert!(
        guide.contains(code),
        "docs/write-a-plugin.md and sdk/tests/decade.rs differ"
    );
}
