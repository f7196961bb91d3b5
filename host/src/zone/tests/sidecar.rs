//! The key sidecar: a pinned form, equal values, and every kind of damage.

use std::sync::Arc;

use arrow_array::{ArrayRef, Decimal128Array, Float64Array, Int64Array};

use super::*;
use crate::commit::Role;
use crate::error::Kind;
use crate::store::Published;
use crate::zone::file::Birth;
use crate::zone::keys::{Key, KeyScheme, KeyStream, write_keys};
use crate::zone::read::Located;

fn scheme() -> KeyScheme {
    KeyScheme::new(&["id".to_owned()])
}

fn written(store: &Arc<dyn Store>, keys: &[Key]) -> AddedFile {
    let birth = Birth {
        place: log().place("01K", &log().keys("01K")),
        role: Role::Keys,
        partition: Vec::new(),
        pipeline: "p".into(),
    };
    let staged = write_keys(store, birth, &scheme(), keys, Vec::new()).expect("written");
    Box::new(staged).finish().expect("durable")
}

fn read(store: &Arc<dyn Store>, file: &AddedFile) -> Result<Vec<Key>, crate::error::Error> {
    KeyStream::open(Located::find(store, &log(), file)?, file, &scheme())?.collect()
}

#[test]
fn keys_come_back_and_the_format_is_pinned() {
    let store = memory();
    let keys: Vec<Key> = (0..40_000).map(|i| i << 100 | 5).collect();
    let file = written(&store, &keys);
    assert_eq!(read(&store, &file).expect("whole"), keys);
    let none = memory();
    let empty = written(&none, &[]);
    assert_eq!(read(&none, &empty).expect("whole"), []);
    assert_eq!(
        (empty.rows, empty.row_digest),
        (0, format!("xxh3:{:032x}", 0))
    );
    let three = written(&memory(), &[3, 7, 1 << 90]);
    assert_eq!(
        (three.rows, three.schema.as_str(), three.row_digest.as_str()),
        (
            3,
            "sha256:2066df8b35cd7a8e3dc145c040f8f1bb91636096fffcd85a6133498fde94db3c",
            "xxh3:b7be4cb0299cf39d9dc6081a2cc0ab4e"
        )
    );
}

#[test]
fn every_damaged_byte_and_every_cut_is_told() {
    let store = memory();
    let file = written(&store, &[3, 7, 1 << 90]);
    let path = staging("01K");
    let good = store.get(&path).expect("get").expect("there").to_vec();
    let put = |bytes: &[u8]| {
        store.delete(&path).expect("deleted");
        store.create(&path, bytes).expect("created");
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        put(&bad);
        let error = read(&store, &file).expect_err("damaged");
        assert_eq!(error.kind(), Kind::LogCorrupt, "byte {at}: {error}");
    }
    for len in 0..good.len() {
        put(&good[..len]);
        let short = AddedFile {
            bytes: len as u64,
            ..file.clone()
        };
        assert_eq!(
            read(&store, &short).expect_err("cut").kind(),
            Kind::LogCorrupt,
            "{len} bytes"
        );
    }
    put(&good);
    read(&store, &file).expect("whole again");
}

#[test]
fn a_store_that_holds_other_bytes_than_were_written_is_not_believed() {
    let store = memory();
    let birth = Birth {
        place: log().place("01K", &log().keys("01K")),
        role: Role::Keys,
        partition: Vec::new(),
        pipeline: "p".into(),
    };
    let mut staged = write_keys(&store, birth, &scheme(), &[1], Vec::new()).expect("written");
    staged.added_mut().bytes += 1;
    let error = Box::new(staged).finish().expect_err("one byte short");
    assert_eq!(error.kind(), Kind::StoreUnavailable);
}

#[test]
fn a_file_may_be_published_while_it_is_read() {
    let store = memory();
    let keys: Vec<Key> = (0..40_000).collect();
    let file = written(&store, &keys);
    let located = Located::find(&store, &log(), &file).expect("staged");
    let mut stream = KeyStream::open(located, &file, &scheme()).expect("header");
    assert_eq!(stream.next().expect("a key").expect("read"), 0);
    let published = store.publish(&file.place(&log()), &file.seal());
    assert!(matches!(published, Ok(Published::Done)));
    assert_eq!(stream.filter(|key| key.is_ok()).count(), 39_999);
}

fn key(values: ArrayRef) -> Vec<Option<Key>> {
    let field = Field::new("id", values.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![values]);
    scheme()
        .keys(&batch.expect("one column"))
        .expect("comparable")
}

#[test]
fn what_equals_what_does_not_depend_on_the_type_of_the_column() {
    let ints = key(Arc::new(Int64Array::from(vec![5, 0, -50])));
    let narrow = key(Arc::new(Int32Array::from(vec![5, 0, -50])));
    let decimal = |scale, values: Vec<i128>| {
        let array = Decimal128Array::from(values)
            .with_precision_and_scale(20, scale)
            .expect("fits");
        key(Arc::new(array))
    };
    assert_eq!(ints, narrow);
    assert_eq!(ints, decimal(2, vec![500, 0, -5000]));
    assert_ne!(ints[0], decimal(2, vec![501])[0]);
    let text = key(Arc::new(StringArray::from(vec![Some("5"), Some(""), None])));
    assert!(text[0] != ints[0] && text[1].is_some() && text[2].is_none());
    let floats = key(Arc::new(Float64Array::from(vec![
        0.0,
        -0.0,
        f64::NAN,
        -f64::NAN,
    ])));
    assert!(floats[0] == floats[1] && floats[2] == floats[3] && floats[0] != floats[2]);
}

#[test]
fn parts_of_a_key_do_not_run_into_each_other() {
    let scheme = KeyScheme::new(&["a".to_owned(), "b".to_owned()]);
    let field = |name: &str| Field::new(name, DataType::Utf8, true);
    let schema = Arc::new(Schema::new(vec![field("a"), field("b")]));
    let column = |v: Vec<Option<&str>>| Arc::new(StringArray::from(v)) as ArrayRef;
    // Without lengths the bytes of the last two would be the same.
    let columns = vec![
        column(vec![
            Some("x"),
            Some("xy"),
            None,
            Some("x"),
            Some("xs\0\0\0\0y"),
        ]),
        column(vec![
            Some("yz"),
            Some("z"),
            Some("z"),
            Some("ys\0\0\0\0z"),
            Some("z"),
        ]),
    ];
    let batch = RecordBatch::try_new(schema, columns).expect("two columns");
    let keys = scheme.keys(&batch).expect("comparable");
    assert!(keys[0] != keys[1] && keys[2].is_none() && keys[3] != keys[4]);
}
