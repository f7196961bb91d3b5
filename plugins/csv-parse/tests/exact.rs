//! 20,000 texts and more against values that were worked out without the SDK.
#[path = "../../sdk/tests/oracle/mod.rs"]
mod oracle;

use csv_parse::CsvParse;
use oracle::{COUNT, Random, TYPES, check, samples};
use weir_sdk::testing::Bench;

#[test]
fn every_text_becomes_its_value_or_is_refused() {
    let mut random = Random::new(2);
    for spec in TYPES {
        let samples = samples(&mut random, spec, false);
        let messages: Vec<String> = samples.iter().map(|s| format!("\"{}\"", s.text)).collect();
        let values: Vec<_> = messages.iter().map(|m| Some(m.as_bytes())).collect();
        let bench = Bench::default()
            .key("columns", "v")
            .key("types.v", spec)
            .bytes("value", &values);
        check(spec, &samples, &bench.run::<CsvParse>(COUNT), None);
    }
}
