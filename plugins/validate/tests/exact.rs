//! 20,000 texts and more against values that were worked out without the SDK.
#[path = "../../sdk/tests/oracle/mod.rs"]
mod oracle;

use oracle::{COUNT, Random, TYPES, check, samples};
use validate::Validate;
use weir_sdk::testing::Bench;

#[test]
fn every_text_becomes_its_value_or_is_refused() {
    let mut random = Random::new(4);
    for spec in TYPES {
        let samples = samples(&mut random, spec, false);
        let values: Vec<_> = samples.iter().map(|s| Some(s.text.as_str())).collect();
        let bench = Bench::default()
            .key("rules", "rules.toml")
            .file("rules", &format!("[columns.v]\ntype = \"{spec}\""))
            .column("v", "string", &values);
        check(
            spec,
            &samples,
            &bench.run::<Validate>(COUNT),
            Some("bad_type"),
        );
    }
}
