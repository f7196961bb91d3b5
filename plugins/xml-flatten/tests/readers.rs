//! The scan against the event reader: over tens of thousands of seeded mutants the rows, the refusals and their words
//! must be equal, under every option that changes how a document is walked.
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
const OPTIONS: [&[(&str, &str)]; 6] = [
    &[],
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
const ROUNDS: usize = 60_000;
const BATCH: usize = 100;

/// xorshift64*: the same messages on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }

    fn mutant(&mut self) -> Vec<u8> {
        let mut text = SEEDS[self.roll(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..self.roll(4) {
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
        text
    }
}

#[test]
fn the_scan_and_the_event_reader_say_the_same() {
    let mut dice = Dice(0xB00C);
    let (mut rows, mut refusals) = (0, 0);
    for options in OPTIONS {
        let columns = "record_id,@a,t,title,title/@lang,author/name,author/country,very_long_element_name,year,_VALUE";
        let mut bench = Bench::default()
            .key("row-tag", "book")
            .key("columns", columns);
        if !options.iter().any(|(key, _)| *key == "repeat") {
            bench = bench.key("types.year", "int");
        }
        for (key, value) in options {
            bench = bench.key(key, value);
        }
        let (mut scan, plan) = bench.clone().bytes("value", &[]).init::<Flatten>();
        let (events, _) = bench.clone().bytes("value", &[]).init::<Flatten>();
        let mut events = events.by_events();
        for _ in 0..ROUNDS / BATCH / OPTIONS.len() {
            let mutants: Vec<Vec<u8>> = (0..BATCH).map(|_| dice.mutant()).collect();
            let messages: Vec<Option<&[u8]>> = mutants.iter().map(|m| Some(m.as_slice())).collect();
            let mut both = |messages: &[Option<&[u8]>]| {
                let bench = bench.clone().bytes("value", messages);
                let fast = bench.batch(&mut scan, &plan, messages.len());
                (fast, bench.batch(&mut events, &plan, messages.len()))
            };
            let (fast, slow) = both(&messages);
            rows += fast.rows.len();
            refusals += fast.rejects.len();
            if fast != slow {
                for message in &messages {
                    let (fast, slow) = both(&[*message]);
                    let shown = message.map(String::from_utf8_lossy);
                    assert_eq!(fast, slow, "{options:?} {shown:?}");
                }
            }
            assert!(fast == slow, "{options:?}: only together: {messages:?}");
        }
    }
    assert!(
        rows > ROUNDS / 4 && refusals > ROUNDS / 4,
        "{rows} rows, {refusals} refusals"
    );
}
