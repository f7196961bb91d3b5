//! The producer of samples: libraries of books as XML, made from a seed, with flaws on request, counted exactly.
//!
//! The same seed gives the same bytes for ever (the generator is our own). A flaw is put in on purpose and tallied: at
//! most one per book, none in a malformed message, and a repeated book is an earlier clean one, word for word. So after
//! flattening, validation and first-wins dedup by `record_id` exactly [`Tally::unique`] books remain.

mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::Result;
use crate::kafka::{KafkaProps, Outgoing, Producer};

/// Earlier books that may be repeated.
const MEMORY: usize = 1_024;
/// How many books a message holds: 1 to 5, and about 800 bytes on average.
const BOOKS: &[usize] = &[1, 1, 1, 1, 2, 2, 2, 3, 4, 5];

/// Shares, 0 to 1: of messages for `malformed`, of books for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dirty {
    pub malformed: f64,
    pub bad_year: f64,
    pub missing: f64,
    pub repeated: f64,
}

impl Dirty {
    pub const NONE: Dirty = Dirty {
        malformed: 0.0,
        bad_year: 0.0,
        missing: 0.0,
        repeated: 0.0,
    };
    /// The flaws that `--dirty` and the demo use.
    pub const SOME: Dirty = Dirty {
        malformed: 0.01,
        bad_year: 0.01,
        missing: 0.01,
        repeated: 0.02,
    };
}

/// A book as it ought to be read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Book {
    pub record_id: String,
    pub title: String,
    pub author_name: String,
    pub author_country: String,
    /// 2000 to 2023.
    pub publication_year: i32,
    /// `YYYY-MM-DD` of that year.
    pub published: String,
    /// Two decimals.
    pub price: String,
    pub currency: &'static str,
    pub lang: &'static str,
}

/// What was done to a book on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The text in the place of the year is no number.
    NoNumber(&'static str),
    /// It is a number, but not from 2000 to 2023.
    OutOfRange(&'static str),
    /// This element is left out: `record_id`, `title` or `name`.
    Missing(&'static str),
    /// An earlier clean book, again.
    Repeated,
}

/// How a message is no XML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Truncated,
    WrongEndTag,
    UnknownEntity,
    NotXml,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// A UUID of its own.
    pub key: String,
    pub value: Vec<u8>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// What was written; of a malformed message, what would have been.
    pub books: Vec<(Book, Option<Flaw>)>,
    pub malformed: Option<Malformed>,
}

/// What a reader must find.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub messages: u64,
    /// Bytes of all values.
    pub bytes: u64,
    /// Messages that are no XML.
    pub malformed: u64,
    /// Books in the messages that are.
    pub books: u64,
    /// Books whose year is no number, or no year from 2000 to 2023.
    pub bad_year: u64,
    pub year_no_number: u64,
    pub year_out_of_range: u64,
    /// Books without a required element, and which.
    pub missing: u64,
    pub missing_by_element: BTreeMap<String, u64>,
    /// Clean books that came before.
    pub repeated: u64,
    /// Clean books, each counted once: what PROCESSED must hold.
    pub unique: u64,
}

impl Tally {
    /// Rows that pass validation: the unique and the repeated ones.
    pub fn clean(&self) -> u64 {
        self.unique + self.repeated
    }

    pub fn add(&mut self, sample: &Sample) {
        self.messages += 1;
        self.bytes += sample.value.len() as u64;
        if sample.malformed.is_some() {
            self.malformed += 1;
            return;
        }
        for (_, flaw) in &sample.books {
            self.books += 1;
            match flaw {
                None => self.unique += 1,
                Some(Flaw::Repeated) => self.repeated += 1,
                Some(Flaw::NoNumber(_)) => {
                    self.bad_year += 1;
                    self.year_no_number += 1;
                }
                Some(Flaw::OutOfRange(_)) => {
                    self.bad_year += 1;
                    self.year_out_of_range += 1;
                }
                Some(Flaw::Missing(element)) => {
                    self.missing += 1;
                    let of = self.missing_by_element.entry((*element).to_owned());
                    *of.or_default() += 1;
                }
            }
        }
    }
}

/// SplitMix64: our own implementation, so that a seed gives the same result in every version.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`, which is small.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }

    fn chance(&mut self, share: f64) -> bool {
        ((self.next() >> 11) as f64) < share * (1u64 << 53) as f64
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy + Default>(&mut self, of: &[T]) -> T {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }

    /// A random UUID (version 4).
    fn uuid(&mut self) -> String {
        let (high, low) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }
}

/// An endless, repeatable row of messages.
#[derive(Clone, Debug)]
pub struct Books {
    random: Random,
    dirty: Dirty,
    seed: u64,
    count: u64,
    earlier: Vec<Book>,
}

impl Books {
    pub fn new(seed: u64, dirty: Dirty) -> Books {
        Books {
            random: Random(seed),
            dirty,
            seed,
            count: 0,
            earlier: Vec::new(),
        }
    }

    fn book(&mut self) -> Book {
        let r = &mut self.random;
        let year = 2000 + r.below(24);
        let (month, day) = (1 + r.below(12), 1 + r.below(28));
        Book {
            record_id: r.uuid(),
            title: format!("{} {}", r.pick(words::SUBJECTS), r.pick(words::FORMS)),
            author_name: format!(
                "{} {}",
                r.pick(words::FIRST_NAMES),
                r.pick(words::LAST_NAMES)
            ),
            author_country: r.pick(words::COUNTRIES).to_owned(),
            publication_year: i32::try_from(year).unwrap_or(2000),
            published: format!("{year}-{month:02}-{day:02}"),
            price: format!("{}.{:02}", 3 + r.below(90), r.below(100)),
            currency: r.pick(words::CURRENCIES),
            lang: r.pick(words::LANGUAGES),
        }
    }

    fn flawed(&mut self) -> (Book, Option<Flaw>) {
        let book = self.book();
        let Dirty {
            bad_year,
            missing,
            repeated,
            ..
        } = self.dirty;
        let r = &mut self.random;
        if r.chance(bad_year) {
            let flaw = match r.one_in(2) {
                true => Flaw::NoNumber(r.pick(words::NO_NUMBERS)),
                false => Flaw::OutOfRange(r.pick(words::OUT_OF_RANGE)),
            };
            return (book, Some(flaw));
        }
        if r.chance(missing) {
            return (
                book,
                Some(Flaw::Missing(r.pick(&["record_id", "title", "name"]))),
            );
        }
        if r.chance(repeated) {
            let i = r.below(self.earlier.len());
            if let Some(earlier) = self.earlier.get(i) {
                return (earlier.clone(), Some(Flaw::Repeated));
            }
        }
        (book, None)
    }

    fn remember(&mut self, books: &[(Book, Option<Flaw>)]) {
        for (book, _) in books.iter().filter(|(_, flaw)| flaw.is_none()) {
            if self.earlier.len() < MEMORY {
                self.earlier.push(book.clone());
            } else {
                let i = self.random.below(MEMORY);
                if let Some(place) = self.earlier.get_mut(i) {
                    *place = book.clone();
                }
            }
        }
    }
}

impl Iterator for Books {
    type Item = Sample;

    fn next(&mut self) -> Option<Sample> {
        let malformed = self.random.chance(self.dirty.malformed).then(|| {
            [
                Malformed::Truncated,
                Malformed::WrongEndTag,
                Malformed::UnknownEntity,
                Malformed::NotXml,
            ][self.random.below(4)]
        });
        let count = self.random.pick(BOOKS);
        let books: Vec<_> = (0..count)
            .map(|_| match malformed {
                None => self.flawed(),
                Some(_) => (self.book(), None),
            })
            .collect();
        let xml = library(&mut self.random, &books);
        let value = match malformed {
            None => {
                self.remember(&books);
                xml
            }
            Some(how) => broken(&mut self.random, how, &xml),
        };
        let sample = Sample {
            key: self.random.uuid(),
            value: value.into_bytes(),
            headers: vec![
                ("content-type", b"application/xml".to_vec()),
                (
                    "sample",
                    format!("{}/{}", self.seed, self.count).into_bytes(),
                ),
            ],
            books,
            malformed,
        };
        self.count += 1;
        Some(sample)
    }
}

// === XML ===

fn library(r: &mut Random, books: &[(Book, Option<Flaw>)]) -> String {
    let mut xml = String::with_capacity(400 * books.len() + 100);
    if r.one_in(4) {
        xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    }
    xml.push_str("<library>\n");
    for (book, flaw) in books {
        if r.one_in(16) {
            let remark = r.pick(words::REMARKS);
            line(&mut xml, format_args!("  <!-- {remark} -->"));
        }
        write_book(r, &mut xml, book, *flaw);
    }
    xml.push_str("</library>\n");
    xml
}

fn line(xml: &mut String, args: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let written = xml.write_fmt(args);
    debug_assert!(written.is_ok());
    xml.push('\n');
}

fn write_book(r: &mut Random, xml: &mut String, book: &Book, flaw: Option<Flaw>) {
    let year = book.publication_year.to_string();
    let year = match flaw {
        Some(Flaw::NoNumber(text) | Flaw::OutOfRange(text)) => text,
        _ => &year,
    };
    let is_missing = |element| flaw == Some(Flaw::Missing(element));
    match r.one_in(8) {
        true => line(
            xml,
            format_args!(
                "  <book  lang='{}' shelf=\"A&amp;{}\">",
                book.lang,
                r.below(90)
            ),
        ),
        false => line(xml, format_args!("  <book lang=\"{}\">", book.lang)),
    }
    if !is_missing("record_id") {
        line(
            xml,
            format_args!("    <record_id>{}</record_id>", book.record_id),
        );
    }
    if !is_missing("title") {
        line(
            xml,
            format_args!("    <title>{}</title>", text(r, &book.title)),
        );
    }
    line(xml, format_args!("    <author>"));
    if !is_missing("name") {
        line(
            xml,
            format_args!("      <name>{}</name>", text(r, &book.author_name)),
        );
    }
    let country = text(r, &book.author_country);
    line(xml, format_args!("      <country>{country}</country>"));
    line(xml, format_args!("    </author>"));
    line(
        xml,
        format_args!("    <publication_year>{year}</publication_year>"),
    );
    line(
        xml,
        format_args!("    <published>{}</published>", book.published),
    );
    let (price, currency) = (&book.price, book.currency);
    line(
        xml,
        format_args!("    <price currency=\"{currency}\">{price}</price>"),
    );
    line(xml, format_args!("  </book>"));
}

/// The same text in one of the ways XML can say it; blanks around it are to be trimmed.
fn text(r: &mut Random, text: &str) -> String {
    let written = match r.below(12) {
        0 => format!("<![CDATA[{text}]]>"),
        1 => text
            .chars()
            .map(|c| match c.is_ascii_alphanumeric() || c == ' ' {
                true => c.to_string(),
                false => format!("&#x{:X};", u32::from(c)),
            })
            .collect(),
        _ => text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('\'', "&apos;"),
    };
    match r.one_in(20) {
        true => format!("  {written}\t"),
        false => written,
    }
}

fn broken(r: &mut Random, how: Malformed, xml: &str) -> String {
    match how {
        Malformed::Truncated => {
            // Before the end tag of the root, wherever a character ends.
            let last = xml.len() - "</library>\n".len();
            let cut = last / 3 + r.below(last - last / 3);
            let cut = (0..=cut).rev().find(|i| xml.is_char_boundary(*i));
            xml.get(..cut.unwrap_or(0)).unwrap_or_default().to_owned()
        }
        Malformed::WrongEndTag => xml.replacen("</author>", "</writer>", 1),
        Malformed::UnknownEntity => xml.replacen("<country>", "<country>&nosuch; ", 1),
        Malformed::NotXml => format!("{{\"library\": [{}]}}", r.below(1_000)),
    }
}

// === produce ===

/// `weir produce books`.
#[derive(Clone, Debug)]
pub struct ProduceOptions {
    pub topic: String,
    /// Messages; `None` = until told to stop.
    pub count: Option<u64>,
    /// Messages per second; 0 = as fast as it goes.
    pub rate: f64,
    pub seed: u64,
    pub dirty: Dirty,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub topic: String,
    pub seed: u64,
    pub tally: Tally,
    pub seconds: f64,
}

/// Wait if it sends faster than the rate.
const PACE: Duration = Duration::from_millis(5);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Longest wait for the last messages (librdkafka gives up on a message after two minutes).
const FLUSH: Duration = Duration::from_secs(130);

/// Sends, flushes, and counts what the broker has acknowledged. `progress` sees the tally four times a second.
pub fn produce(
    props: &KafkaProps,
    options: &ProduceOptions,
    clock: &Arc<dyn Clock>,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Tally),
) -> Result<Report> {
    let producer = Producer::open(props)?;
    let mut books = Books::new(options.seed, options.dirty);
    let mut tally = Tally::default();
    let begun = clock.elapsed();
    let mut shown = begun;
    while options.count.is_none_or(|count| tally.messages < count) && !stop.load(Ordering::Relaxed)
    {
        let now = clock.elapsed();
        if now >= shown + PROGRESS_EVERY {
            shown = now;
            producer.check()?;
            progress(&tally);
        }
        let due = (now - begun).as_secs_f64() * options.rate;
        if options.rate > 0.0 && tally.messages as f64 >= due {
            clock.sleep(PACE);
            continue;
        }
        let Some(sample) = books.next() else {
            break;
        };
        let headers: Vec<(&str, Option<&[u8]>)> = sample
            .headers
            .iter()
            .map(|(name, value)| (*name, Some(value.as_slice())))
            .collect();
        let out = Outgoing {
            key: Some(sample.key.as_bytes()),
            value: Some(&sample.value),
            headers: &headers,
            ..Outgoing::default()
        };
        producer.send(&options.topic, out)?;
        tally.add(&sample);
    }
    producer.flush(FLUSH)?;
    progress(&tally);
    Ok(Report {
        topic: options.topic.clone(),
        seed: options.seed,
        tally,
        seconds: (clock.elapsed() - begun).as_secs_f64(),
    })
}

#[cfg(test)]
mod tests;
