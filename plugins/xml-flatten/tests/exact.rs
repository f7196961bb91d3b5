//! 20,000 texts and more against values that were worked out without the SDK.
#[path = "../../sdk/tests/oracle/mod.rs"]
mod oracle;

use oracle::{COUNT, Random, TYPES, check, samples};
use weir_sdk::testing::Bench;
use xml_flatten::Flatten;

#[test]
fn every_text_becomes_its_value_or_is_refused_by_both_readers() {
    let mut random = Random::new(1);
    for spec in TYPES {
        let samples = samples(&mut random, spec, false);
        let messages = samples.iter().map(|s| format!("<r><v>{}</v></r>", s.text));
        let messages: Vec<String> = messages.collect();
        let values: Vec<_> = messages.iter().map(|m| Some(m.as_bytes())).collect();
        let bench = Bench::default()
            .key("row-tag", "r")
            .key("columns", "v")
            .key("types.v", spec)
            .bytes("value", &values);
        let (mut fast, plan) = bench.init::<Flatten>();
        check(spec, &samples, &bench.batch(&mut fast, &plan, COUNT), None);
        let mut events = fast.by_events();
        check(
            spec,
            &samples,
            &bench.batch(&mut events, &plan, COUNT),
            None,
        );
    }
}
