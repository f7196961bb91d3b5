//! A seed repeats, the tally is exact, what is sent is counted.

use sha2::Digest as _;

use super::*;

#[test]
fn a_seed_means_the_same_for_ever() {
    let samples: Vec<Sample> = Books::new(7, Dirty::SOME).take(200).collect();
    assert_eq!(
        samples,
        Books::new(7, Dirty::SOME).take(200).collect::<Vec<_>>()
    );
    assert_ne!(
        samples[0],
        Books::new(8, Dirty::SOME).next().expect("endless")
    );
    let mut digest = sha2::Sha256::new();
    for sample in &samples {
        digest.update(&sample.key);
        digest.update(&sample.value);
    }
    let digest: String = digest
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(
        digest,
        "82ffffe1ae66cfb3893bf40d0ec6ac14b0171a42e25e6d1f04d2bc474dca5800"
    );
}

#[test]
fn the_tally_is_what_is_there() {
    let mut tally = Tally::default();
    let mut ids = std::collections::BTreeSet::new();
    for sample in Books::new(1, Dirty::SOME).take(20_000) {
        tally.add(&sample);
        let xml = String::from_utf8(sample.value).expect("utf-8");
        match sample.malformed {
            None => assert_eq!(xml.matches("<book ").count(), sample.books.len()),
            Some(Malformed::Truncated) => assert!(!xml.contains("</library>")),
            Some(_) => {}
        }
        if sample.malformed.is_none() {
            for (book, flaw) in &sample.books {
                assert!(
                    book.published
                        .starts_with(&book.publication_year.to_string())
                );
                match flaw {
                    None => assert!(ids.insert(book.record_id.clone()), "a second time"),
                    Some(Flaw::Repeated) => assert!(ids.contains(&book.record_id)),
                    Some(_) => {}
                }
            }
        }
    }
    assert_eq!(tally.unique, ids.len() as u64);
    let sum = tally.clean() + tally.bad_year + tally.missing;
    assert_eq!(tally.books, sum);
    let near = |n: u64, of: u64, percent: u64| (of * percent / 200..of * percent / 50).contains(&n);
    assert!(near(tally.malformed, tally.messages, 1), "{tally:?}");
    assert!(near(tally.bad_year, tally.books, 1) && near(tally.missing, tally.books, 1));
    assert!(near(tally.repeated, tally.books, 2), "{tally:?}");
    let mean = tally.bytes / tally.messages;
    assert!((700..900).contains(&mean), "{mean} bytes a message");
}

#[test]
fn what_is_sent_is_counted() {
    let mock = crate::kafka::MockBroker::start().expect("mock");
    mock.create_topic("books", 6).expect("topic");
    let props = KafkaProps::new(mock.bootstrap(), "g", &BTreeMap::new()).expect("props");
    let options = ProduceOptions {
        topic: "books".to_owned(),
        count: Some(500),
        rate: 0.0,
        seed: 3,
        dirty: Dirty::SOME,
    };
    let clock = crate::clock::SystemClock::shared();
    let mut last = None;
    let stop = AtomicBool::new(false);
    let report = produce(&props, &options, &clock, &stop, &mut |t| {
        last = Some(t.clone())
    });
    let report = report.expect("produced");
    assert_eq!(report.tally.messages, 500);
    assert_eq!(last, Some(report.tally));
    let cluster = crate::kafka::KafkaCluster::connect(&props).expect("cluster");
    let topic = cluster.describe("books").expect("describe");
    assert_eq!(topic.partitions.iter().map(|p| p.high).sum::<i64>(), 500);
}
