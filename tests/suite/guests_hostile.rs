//! Documents that attack a parser go through the component and give dead letters within the limits; other records are
//! not affected, and the next batch works.

use weir::chain::Output;
use weir::plugin::Limits;

use crate::guests::{BOOKS, make, shipped_dir, table};

/// What one of them may be: Kafka's default for the largest message is 1 MiB.
const MIB: usize = 1 << 20;

fn run(documents: &[Vec<u8>]) -> Output {
    let mut transform =
        make(shipped_dir(), "xml-flatten", &BOOKS, Limits::default()).expect("made");
    let mut all: Vec<&[u8]> = Vec::new();
    for document in documents {
        all.extend([GOOD, document]);
    }
    all.push(GOOD);
    let output = transform.apply(&table(&all)).expect("the batch goes on");
    let again = transform.apply(&table(&[GOOD])).expect("the next batch");
    assert_eq!((again.table.rows, again.rejects.len()), (1, 0));
    output
}

const GOOD: &[u8] = b"<catalog><book id='1'><title>t</title><year>2000</year></book></catalog>";

/// Each document is refused whole; codes in their order.
fn refused(documents: &[(&str, Vec<u8>)]) -> Vec<String> {
    let bytes: Vec<Vec<u8>> = documents.iter().map(|(_, bytes)| bytes.clone()).collect();
    let output = run(&bytes);
    assert_eq!(
        output.table.rows,
        documents.len() + 1,
        "the good ones go on"
    );
    let rows: Vec<usize> = output.rejects.iter().map(|r| r.row as usize).collect();
    for (n, (what, _)) in documents.iter().enumerate() {
        let found = rows.iter().filter(|row| **row == 2 * n + 1).count();
        assert_eq!(found, 1, "{what}");
    }
    for reject in &output.rejects {
        assert!(reject.message.len() <= 512, "{}", reject.message.len());
        assert_eq!(reject.part, None);
    }
    output.rejects.into_iter().map(|r| r.code).collect()
}

fn nested(depth: usize) -> String {
    "<a>".repeat(depth) + &"</a>".repeat(depth)
}

#[test]
fn what_is_not_well_formed_is_a_dead_letter() {
    let texts = [
        "",
        " ",
        "text",
        "<",
        "<a",
        "<a>",
        "</a>",
        "<a></b>",
        "<a><b></a></b>",
        "<a/><b/>",
        "<a/>text",
        "text<a/>",
        "<a b></a>",
        "<a b=c/>",
        "<a b='1' b='2'/>",
        "<a b='1'c='2'/>",
        "<a b='<'/>",
        "<a>&nope;</a>",
        "<a>&</a>",
        "<a>&amp</a>",
        "<a>&#0;</a>",
        "<a>&#xD800;</a>",
        "<a>&#x110000;</a>",
        "<a>&#99999999999;</a>",
        "<a>\u{1}</a>",
        "<a>\u{fffe}</a>",
        "<a>]]></a>",
        "<a><![CDATA[</a>",
        "<a><!-- -- --></a>",
        "<a><!--</a>",
        "<a><?xml version='1.0'?></a>",
        " <?xml version='1.0'?><a/>",
        "<a><?></a>",
        "<1a/>",
        "<a:b:c/>",
        "<x:a/>",
        "<a x:b='1'/>",
        "< a/>",
        "<a / >",
        "<a>&lt</a>",
        "<a b='&nope;'/>",
        "<?xml version='1.0'?>",
        "<a><!DOCTYPE b></a>",
        "<a>\u{0}</a>",
        "<a\u{0}/>",
        "<!-->",
        "<a b='1\u{2}'/>",
        "<a b=\"1/>",
    ];
    let mut documents: Vec<(&str, Vec<u8>)> =
        texts.iter().map(|t| (*t, t.as_bytes().to_vec())).collect();
    documents.push(("no UTF-8", b"<a>\xff</a>".to_vec()));
    documents.push(("UTF-8 cut", b"<a>\xe2\x82</a>".to_vec()));
    documents.push(("overlong UTF-8", b"<a>\xc0\xbc</a>".to_vec()));
    documents.push(("surrogate in UTF-8", b"<a>\xed\xa0\x80</a>".to_vec()));
    let output = run(&documents.iter().map(|d| d.1.clone()).collect::<Vec<_>>());
    for (n, (what, _)) in documents.iter().enumerate() {
        let refused = output.rejects.iter().any(|r| r.row as usize == 2 * n + 1);
        assert!(refused, "{what:?} is taken");
    }
    assert_eq!(output.table.rows, documents.len() + 1);
}

#[test]
fn entity_bombs_do_not_go_off() {
    let lol = (1..10).fold(String::from("<!ENTITY l0 'lol'>"), |dtd, n| {
        let ten = format!("&l{};", n - 1).repeat(10);
        format!("{dtd}<!ENTITY l{n} '{ten}'>")
    });
    let codes = refused(&[
        (
            "billion laughs",
            format!("<!DOCTYPE a [{lol}]><a>&l9;</a>").into_bytes(),
        ),
        (
            "in itself",
            b"<!DOCTYPE a [<!ENTITY x '&x;'>]><a>&x;</a>".to_vec(),
        ),
        (
            "a file",
            b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>".to_vec(),
        ),
        (
            "a parameter",
            b"<!DOCTYPE a [<!ENTITY % x SYSTEM 'http://h/x'> %x;]><a/>".to_vec(),
        ),
        (
            "quadratic",
            format!(
                "<!DOCTYPE a [<!ENTITY x '{}'>]><a>{}</a>",
                "x".repeat(50_000),
                "&x;".repeat(50_000)
            )
            .into_bytes(),
        ),
    ]);
    assert!(
        codes.iter().all(|code| !code.starts_with("plugin_")),
        "{codes:?}"
    );
}

#[test]
fn size_in_every_direction_stays_within_the_limits() {
    let long = "x".repeat(MIB + 1);
    let names: String = (0..60_000).map(|n| format!(" xmlns:n{n}='u'")).collect();
    let million = "<b xmlns='u'/>".repeat(1_000_000);
    let attributes: String = (0..80_000).map(|n| format!(" a{n}=''")).collect();
    let title = |text: &str| format!("<catalog><book><title>{text}</title></book></catalog>");
    let catalog = |inside: &str| format!("<catalog>{inside}</catalog>");
    let cases: &[(&str, String)] = &[
        ("too_deep", nested(1_000_000)),
        ("too_deep", "<a>".repeat(1_000_000)),
        ("too_many_namespaces", catalog(&million)),
        (
            "too_many_attributes",
            format!("<catalog{names}><book/></catalog>"),
        ),
        (
            "malformed_xml",
            format!("<catalog{}/>", " xmlns:n='u'".repeat(80_000)),
        ),
        (
            "too_many_attributes",
            format!("<catalog{attributes}><book/></catalog>"),
        ),
        ("text_too_long", format!("<catalog b='{long}'/>")),
        ("text_too_long", title(&long)),
        ("text_too_long", title(&"&#65;".repeat(MIB + 1))),
        (
            "text_too_long",
            title(&format!("<![CDATA[{}]]>", &long[1..]).repeat(2)),
        ),
        ("no_rows", format!("<{long}/>")),
        ("no_rows", catalog(&format!("<!--{long}-->"))),
        ("no_rows", catalog(&format!("<?p {long}?>"))),
        ("too_many_rows", catalog(&"<book/>".repeat(200_000))),
        ("malformed_xml", "<".repeat(MIB)),
        ("malformed_xml", format!("<a>{}</a>", "&".repeat(MIB))),
    ];
    let wanted: Vec<&str> = cases.iter().map(|(code, _)| *code).collect();
    let cases = cases.iter();
    let documents: Vec<_> = cases
        .map(|(code, d)| (*code, d.clone().into_bytes()))
        .collect();
    assert_eq!(refused(&documents), wanted);
}
