//! 20,000 texts and more against values that were worked out without the SDK.
#[path = "../../sdk/tests/oracle/mod.rs"]
mod oracle;

use json_flatten::Flatten;
use oracle::{COUNT, Random, Sample, TYPES, check, samples};
use weir_sdk::testing::{Bench, Table};

#[test]
fn every_text_becomes_its_value_or_is_refused() {
    let mut random = Random::new(5);
    for spec in TYPES {
        let samples = samples(&mut random, spec, false);
        let table = run(spec, &samples, "\"");
        check(spec, &samples, &table, None);
    }
}

#[test]
fn every_number_becomes_its_value_or_is_refused() {
    let mut random = Random::new(6);
    let numbers = |spec: &&str| !["boolean", "date", "timestamp"].contains(spec);
    for spec in TYPES.into_iter().filter(numbers) {
        let samples = samples(&mut random, spec, true);
        let table = run(spec, &samples, "");
        check(spec, &samples, &table, None);
    }
}

fn run(spec: &str, samples: &[Sample], quote: &str) -> Table {
    let message = |s: &Sample| format!("{{\"v\":{quote}{}{quote}}}", s.text);
    let messages: Vec<String> = samples.iter().map(message).collect();
    let values: Vec<_> = messages.iter().map(|m| Some(m.as_bytes())).collect();
    Bench::default()
        .key("columns", "v")
        .key("types.v", spec)
        .key("quoted-values", "true")
        .bytes("value", &values)
        .run::<Flatten>(COUNT)
}
