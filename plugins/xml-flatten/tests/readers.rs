//! The fast reader against the event reader: over a hundred thousand seeded documents, a third of them mutated, the rows, the
//! refusals and their words must be equal, under every option that changes how a document is walked.
use weir_sdk::testing::Bench;
use xml_flatten::Flatten;

const SEEDS: [&str; 8] = [
    include_str!("../testdata/library.xml"),
    "<l><book><record_id>1</record_id><t>a</t><t>b</t><year>5</year></book><book/></l>",
    "<book a='1' b=\"2\">x&amp;y<![CDATA[z]]><?p q?><!-- c --><title>&#65;</title></book>",
    "<?xml version='1.0'?>\n<l>\r\n<x:book xmlns:x='u' a='&lt;'><title>\u{e9}\u{1F600}<i>m</i>n</title></x:book></l>",
    "<library>\n  <book  a='en' shelf=\"A&amp;7\">\n    <record_id>9</record_id>\n    <title lang='de'>T</title>\n    \
     <author>\n      <name> <![CDATA[N]]>\t</name><country/>\n    </author>\n    <year>2001</year>\n  </book>\n</library>\n",
    "<book><book><title>a<title>b</title></title></book><author ><name\n>x]]</name ></author><u><book/><title>n</title></u></book>",
    "<l><!-- r --><book><title/><title></title><very_long_element_name>v</very_long_element_name><year> 7 </year></book></l><!-- e -->",
    "<book>own<record_id>1</record_id><t>2</t><title>3</title><author><name>4</name></author></book>",
];
const PIECES: [&str; 36] = [
    "<",
    ">",
    "&",
    "]]>",
    "<![CDATA[",
    "-->",
    "<!--",
    "--",
    "'",
    "\"",
    "/",
    "/>",
    "=",
    "\r",
    "\n",
    " ",
    "\0",
    "<book>",
    "</book>",
    "<title>",
    "</title>",
    "<year>",
    "é",
    "\u{FFFE}",
    "\u{FEFF}",
    "?>",
    "<?p ",
    "<?xml ",
    "<!DOCTYPE l>",
    "&lt;",
    "&#xD;",
    "&none;",
    ";",
    " a='1'",
    ":",
    "<t>1</t>",
];
const OPTIONS: [&[(&str, &str)]; 8] = [
    &[],
    &[("null-value", "n"), ("repeat.t", "first")],
    &[
        ("explode", "author"),
        ("repeat.title", "json"),
        ("mixed-content", "all"),
    ],
    &[("mixed-content", "all"), ("namespaces", "keep")],
    &[("mixed-content", "reject"), ("repeat", "json")],
    &[("repeat", "last"), ("ignore-surrounding-spaces", "false")],
    &[
        ("explode", "title"),
        ("max-depth", "4"),
        ("empty-as-null", "true"),
    ],
    &[
        ("max-text-bytes", "3"),
        ("max-attributes", "1"),
        ("max-rows", "1"),
        ("max-namespaces", "0"),
    ],
];
const ROUNDS: usize = 100_000;
const BATCH: usize = 100;
const COLUMNS: &str = "record_id,@a,t,title,title/@lang,author/name,author/country,very_long_element_name,\
                       an_element_name_of_more_than_thirty_two_bytes,year,price,published,_VALUE";
const NAMES: [&str; 12] = [
    "record_id",
    "t",
    "title",
    "author",
    "name",
    "country",
    "very_long_element_name",
    "an_element_name_of_more_than_thirty_two_bytes",
    "year",
    "price",
    "published",
    "unknown",
];
const TEXTS: [&str; 34] = [
    "",
    "x",
    " x ",
    "Tom &amp; Jerry",
    "&lt;&gt;&quot;&apos;",
    "&#65;&#x1F600;",
    "<![CDATA[a <b> &c; ]]>",
    "x<![CDATA[]]]]>y<![CDATA[>]]>",
    "a<!-- c -->b",
    "<?pi d?>",
    "a > b",
    "a]] >b",
    "\u{e9}t\u{e9} \u{20ac}\u{1F600}",
    "\u{FFFD}\u{D7FF}\u{E000}",
    "sixteen bytes xx",
    "a text of more than thirty-two bytes, not of more than 64",
    "a text of more than sixty-four bytes, which is copied in one go and not in pieces",
    "two\nlines\r\nor\rthree",
    "n",
    "m<i>n</i>o",
    "0",
    "-12",
    "+7",
    "12345678",
    "123456789",
    "2147483648",
    "12.5",
    "12.50",
    "123456.99",
    "12345678.99",
    "123456789.99",
    "2021-02-29",
    "2020-02-29",
    "1969-12-31",
];
const ATTRIBUTES: [&str; 13] = [
    " a='1'",
    " a='x\ty'",
    " a=\"en\"",
    " lang=\"de\"",
    " x:lang='\u{e9}'",
    "  lang = 'f' ",
    " a='&lt;&#9;'",
    " a='b > c'",
    " b='two\nlines\tor tabs'",
    " xmlns='urn:x'",
    " xmlns:x=\"urn:y\"",
    " an-attribute-name-of-more-than-thirty-two-bytes=''",
    " c='a value of more than sixteen bytes'",
];
const PROLOGS: [&str; 7] = [
    "",
    "",
    "\u{FEFF}",
    "<?xml version='1.0'?>",
    "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone='yes'?>\n",
    "<!-- c --> <?p q?>\n",
    "\r\n",
];
const GAPS: [&str; 5] = ["", "\n  ", "\n\t", "\r\n", " "];

/// xorshift64*: the same messages on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn one_of(&mut self, texts: &[&'static str]) -> &'static str {
        texts[self.roll(texts.len())]
    }

    fn mutate(&mut self, text: &mut Vec<u8>) {
        for _ in 0..1 + self.roll(3) {
            let at = self.roll(text.len() + 1);
            match self.roll(5) {
                0 | 1 => drop(text.splice(at..at, PIECES[self.roll(PIECES.len())].bytes())),
                2 => drop(text.drain(at..(at + 1 + self.roll(8)).min(text.len()).max(at))),
                3 if at < text.len() => text[at] = self.roll(256) as u8,
                _ => {
                    let from = self.roll(text.len() + 1).min(at);
                    let copy = text[from..at.min(from + 40)].to_vec();
                    drop(text.splice(at..at, copy));
                }
            }
        }
    }

    fn element(&mut self, name: &str, gap: &str, depth: usize, out: &mut String) {
        let prefix = if self.roll(20) == 0 { "x:" } else { "" };
        *out += gap;
        *out += &format!("<{prefix}{name}");
        for _ in 0..self.roll(20).saturating_sub(17) {
            *out += self.one_of(&ATTRIBUTES);
        }
        match self.roll(24) {
            0 => return *out += "/>",
            1 => *out += " >",
            _ => *out += ">",
        }
        if name == "author" || name == "book" || name == "unknown" && depth < 3 {
            // Mostly the same children in the same order, as messages have them.
            let all = if name == "author" {
                &NAMES[4..6]
            } else {
                &NAMES[..]
            };
            for name in all {
                let times = match self.roll(60) {
                    0 => 2,
                    1..6 => 0,
                    _ => 1,
                };
                let deep = depth > 0 && *name == "author" || depth > 1;
                (0..times)
                    .filter(|_| !deep)
                    .for_each(|_| self.element(name, gap, depth + 1, out));
            }
        } else {
            let typed = ["year", "price", "published"]
                .iter()
                .position(|n| *n == name);
            let good: &[&str] = match typed {
                Some(0) => &["1999", "7"],
                Some(1) => &["12.5", "0.99", "7"],
                Some(_) => &["2021-03-11", "1970-01-01", "2000-02-28"],
                None => &["Of Mice and Men", "0b7e1f7c-7f4c-4f0e-9c39-1f1f1b1f2f31"],
            };
            match self.roll(4) {
                0 if typed.is_none() || self.roll(8) == 0 => *out += self.one_of(&TEXTS),
                _ => *out += good[self.roll(good.len())],
            }
        }
        *out += gap;
        *out += &format!(
            "</{prefix}{name}{}>",
            if self.roll(30) == 0 { "\n" } else { "" }
        );
    }

    fn document(&mut self) -> Vec<u8> {
        let mut out = String::from(self.one_of(&PROLOGS));
        let gap = self.one_of(&GAPS);
        out += if self.roll(5) == 0 {
            "<l xmlns='u'>"
        } else {
            "<l>"
        };
        for _ in 0..self.roll(4) {
            self.element("book", gap, 0, &mut out);
        }
        out += gap;
        out += "</l>";
        out += self.one_of(&GAPS);
        out.into_bytes()
    }

    fn message(&mut self) -> Vec<u8> {
        let mut text = match self.roll(4) {
            0 => SEEDS[self.roll(SEEDS.len())].as_bytes().to_vec(),
            _ => self.document(),
        };
        if self.roll(3) == 0 {
            self.mutate(&mut text);
        }
        text
    }
}

#[test]
fn the_fast_reader_and_the_event_reader_say_the_same() {
    let mut dice = Dice(0xB00C);
    let (mut rows, mut refusals) = (0, 0);
    for options in OPTIONS {
        let mut bench = Bench::default()
            .key("row-tag", "book")
            .key("columns", COLUMNS);
        if !options.iter().any(|(key, _)| *key == "repeat") {
            bench = bench
                .key("types.year", "int")
                .key("types.price", "decimal(6,2)")
                .key("types.published", "date");
        }
        for (key, value) in options {
            bench = bench.key(key, value);
        }
        let (mut fast, plan) = bench.clone().bytes("value", &[]).init::<Flatten>();
        let (events, _) = bench.clone().bytes("value", &[]).init::<Flatten>();
        let mut events = events.by_events();
        for _ in 0..ROUNDS / BATCH / OPTIONS.len() {
            let mut all: Vec<Vec<u8>> = Vec::new();
            while all.len() < BATCH {
                let mut message = dice.message();
                // Now and then, what a message lacks is what follows it in memory.
                if dice.roll(8) == 0 {
                    let rest = message.split_off(dice.roll(message.len() + 1));
                    all.push(std::mem::replace(&mut message, rest));
                }
                all.push(message);
            }
            let messages: Vec<Option<&[u8]>> = all.iter().map(|m| Some(m.as_slice())).collect();
            let mut both = |messages: &[Option<&[u8]>]| {
                let bench = bench.clone().bytes("value", messages);
                let fast = bench.batch(&mut fast, &plan, messages.len());
                (fast, bench.batch(&mut events, &plan, messages.len()))
            };
            let (fast, slow) = both(&messages);
            rows += fast.rows.len();
            refusals += fast.rejects.len();
            if fast == slow {
                continue;
            }
            // The first message that differs, behind those that taught the fast reader what comes next.
            for n in 1..=messages.len() {
                let (fast, slow) = both(&messages[..n]);
                let shown = messages[n - 1].map(String::from_utf8_lossy);
                assert_eq!(fast.rejects, slow.rejects, "{options:?} {shown:?}");
                let differ = fast.rows.iter().zip(&slow.rows).find(|(a, b)| a != b);
                assert!(fast == slow, "{options:?} {shown:?} {differ:?}");
            }
            panic!("only together: {messages:?}");
        }
    }
    assert!(
        rows > ROUNDS / 4 && refusals > ROUNDS / 4,
        "{rows} rows, {refusals} refusals"
    );
}

fn same(bench: &Bench, messages: &[Vec<u8>]) {
    let messages: Vec<Option<&[u8]>> = messages.iter().map(|m| Some(m.as_slice())).collect();
    let bench = bench.clone().bytes("value", &messages);
    let (mut fast, plan) = bench.init::<Flatten>();
    let (events, _) = bench.init::<Flatten>();
    let (fast, slow) = (
        bench.batch(&mut fast, &plan, messages.len()),
        bench.batch(&mut events.by_events(), &plan, messages.len()),
    );
    let (rows, rejects) = (fast.rows.len(), fast.rejects.len());
    assert!(
        fast == slow,
        "{rows} of {} rows, {rejects} refusals",
        slow.rows.len()
    );
}

#[test]
fn a_message_ends_where_it_ends() {
    let bench = Bench::default()
        .key("row-tag", "book")
        .key("columns", "@a,title,_VALUE");
    let whole = "<?xml version='1.0'?><!-- c --><book a='1'>&lt;é<title x='2'>T&foo;</title><![CDATA[d]]></book>\r\n";
    let good = whole.replace("&foo;", "&#x41;");
    for text in [whole, &good, &good.replace('é', "e").replace('\r', "")] {
        // What is cut off follows as the next message; and each piece ends the batch once.
        let mut all = vec![Vec::new(), good.clone().into_bytes()];
        for at in 0..=text.len() {
            let (before, after) = text.as_bytes().split_at(at);
            all.extend([before.to_vec(), after.to_vec()]);
            same(&bench, &[good.clone().into_bytes(), before.to_vec()]);
        }
        same(&bench, &all);
    }
}

#[test]
fn limits_of_the_fast_reader_are_none_of_the_plugin() {
    let bench = Bench::default()
        .key("row-tag", "r")
        .key("columns", "a,b,_VALUE")
        .key("max-depth", "1024")
        .key("mixed-content", "all")
        .key("repeat", "last");
    let names = |count: usize| {
        (0..count)
            .map(|n| format!("<e{n}>{n}</e{n}>"))
            .collect::<String>()
    };
    let deep = |depth: usize| "<d>".repeat(depth) + "x" + &"</d>".repeat(depth);
    let long = |length: usize| format!("<{0}>x</{0}>", "n".repeat(length));
    let large = |bytes: usize| "<b>text &amp; more</b>".repeat(bytes / 22);
    let parts = [
        names(100),
        names(128),
        names(129),
        names(3000),
        deep(60),
        deep(1000),
        deep(1023),
        deep(1024),
        long(256),
        long(257),
        long(70_000),
        large(70_000),
        large(1 << 20),
        large((4 << 20) + 100),
    ];
    let messages = parts.map(|part| format!("<r><a>1</a>{part}<a>2</a></r>").into_bytes());
    same(&bench, &messages);
    messages
        .into_iter()
        .for_each(|message| same(&bench, &[message]));
}
