//! 20,000 texts and more against values that were worked out without the SDK.
#[path = "../../sdk/tests/oracle/mod.rs"]
mod oracle;

use cast::Cast;
use oracle::{COUNT, Random, TYPES, check, samples};
use weir_sdk::testing::Bench;

#[test]
fn every_text_becomes_its_value_or_is_refused() {
    let mut random = Random::new(3);
    for spec in TYPES {
        let samples = samples(&mut random, spec, false);
        let values: Vec<_> = samples.iter().map(|s| Some(s.text.as_str())).collect();
        let bench = Bench::default()
            .key("types.v", spec)
            .column("v", "string", &values);
        check(spec, &samples, &bench.run::<Cast>(COUNT), None);
    }
}

#[test]
fn every_value_survives_being_a_text() {
    let mut random = Random::new(7);
    for spec in TYPES {
        let samples = samples(&mut random, spec, false);
        let good: Vec<_> = samples.iter().filter(|s| s.value.is_some()).collect();
        let values: Vec<_> = good.iter().map(|s| Some(s.text.as_str())).collect();
        let bench = Bench::default().key("types.v", "string");
        let texts = bench.column("v", spec, &values).run::<Cast>(good.len());
        let texts = texts.lines();
        let values: Vec<_> = texts.iter().map(|text| Some(text.as_str())).collect();
        let bench = Bench::default().key("types.v", spec);
        let again = bench.column("v", "string", &values).run::<Cast>(good.len());
        let expected = good.iter().map(|s| s.value.clone().unwrap());
        assert_eq!(again.lines(), expected.collect::<Vec<_>>(), "{spec}");
    }
}
