//! `infer`: makes the `[[transforms]]` table for messages without a description, with the evidence beside each key. It
//! uses only what is true of every sample. The result is tried on the samples, and remaining refusals are reported.

mod csv;
mod encoding;
mod json;
mod kinds;
mod render;
mod xml;

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};

pub use render::comment as plain;

/// What the messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Xml,
    Json,
    Csv,
}

impl Format {
    /// The plugin that reads it.
    pub fn plugin(self) -> &'static str {
        match self {
            Format::Xml => "xml-flatten",
            Format::Json => "json-flatten",
            Format::Csv => "csv-parse",
        }
    }

    /// Keys under which the plugin reads every message that it reads under any, as far as that depends on the message
    /// alone; none where the plugin needs to know what separates fields.
    pub fn widest(self) -> Option<&'static [(&'static str, &'static str)]> {
        match self {
            Format::Xml => Some(xml::WIDEST),
            Format::Json => Some(json::WIDEST),
            Format::Csv => None,
        }
    }
}

/// What the user says beside the messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// If not given, it is recognised by the beginning of the messages.
    pub format: Option<Format>,
    /// The element that is a row, instead of the one that would be found (XML).
    pub row_tag: Option<&'a str>,
    /// A file was taken as one message.
    pub whole: bool,
    /// Each message begins with the first line of its file (CSV): it must name the fields.
    pub headed: bool,
    /// The map is put in force as nobody looked at it: it must not drop a field that some messages have (CSV).
    pub kept: bool,
    /// What each message is called; where there is none, its number from 1.
    pub names: &'a [String],
    /// For each message: why the plugin refuses it whatever its config says. It gives no evidence then.
    pub refused: &'a [Option<String>],
}

/// A map, and the plugin that it is for.
#[derive(Clone, Debug)]
pub struct Map {
    page: render::Page,
    pub plugin: &'static str,
}

impl Map {
    /// The keys of the transform, without their prefix, as a flat config has them.
    pub fn keys(&self) -> BTreeMap<String, String> {
        self.page.keys()
    }

    /// A `[[transforms]]` table for people to edit, with the evidence beside each key.
    pub fn toml(&self) -> String {
        self.page.to_string()
    }

    /// Messages that gave no evidence, by their index: the plugin refuses them.
    pub fn unread(&self) -> &[usize] {
        &self.page.unread
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::ConfigInvalid, "plugin.infer", message)
}

/// The map of messages with these values; `Err` says why there is none.
pub fn infer(values: &[&[u8]], wanted: Hints<'_>) -> Result<Map> {
    let Hints {
        format,
        row_tag,
        whole,
        headed,
        kept,
        names,
        refused,
    } = wanted;
    let hint = match whole {
        true => "--lines where each line of the file is a message; it was taken as one",
        false => "--whole where the file is one message; each line was taken as one",
    };
    let format = match format.or_else(|| recognised(values)) {
        Some(format) => format,
        None => {
            let message = "these messages look neither like XML nor like JSON nor like CSV";
            return Err(invalid(message).hint(format!("--as xml or --as json or --as csv; {hint}")));
        }
    };
    let page = render::Page::of(names.to_vec(), refused.to_vec());
    let page = match format {
        Format::Xml => xml::infer(page, values, row_tag),
        Format::Json => json::infer(page, values),
        Format::Csv => csv::infer(page, values, csv::Wanted { headed, kept }),
    };
    let plugin = format.plugin();
    let map = |page| Map { page, plugin };
    page.map(map).map_err(|why| invalid(why).hint(hint))
}

/// Recognises the format by the first character of most messages; CSV by its lines.
pub fn recognised(values: &[&[u8]]) -> Option<Format> {
    let first = |value: &&[u8]| {
        // Byte order marks and the zero bytes of UTF-16 do not count.
        let no_sign =
            |byte: &&u8| !byte.is_ascii_whitespace() && !b"\xef\xbb\xbf\xff\xfe\0".contains(byte);
        value.iter().find(no_sign).copied()
    };
    let count = |signs: &[u8]| {
        values
            .iter()
            .filter(|value| first(value).is_some_and(|byte| signs.contains(&byte)))
            .count()
    };
    let (xml, json) = (count(b"<"), count(b"{["));
    match xml.cmp(&json) {
        std::cmp::Ordering::Greater => Some(Format::Xml),
        std::cmp::Ordering::Less => Some(Format::Json),
        std::cmp::Ordering::Equal => csv::looks(values).then_some(Format::Csv),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: &[&str]) -> String {
        let values: Vec<&[u8]> = messages.iter().map(|text| text.as_bytes()).collect();
        infer(&values, Hints::default()).expect("a map").toml()
    }

    #[test]
    fn the_repeated_element_is_the_row_and_its_values_are_columns() {
        let map = of(&[
            "<l><b id='1'><t>x</t><a><n>N</n></a><y>1999</y><p>1.50</p></b><b id='2'><t/><y>2001</y><g>u</g><g>v</g></b></l>",
            "<l><b id='3'><t>z</t><y>2002</y></b></l>",
            "<l><b>",
        ]);
        for wanted in [
            "# xml-flatten: 2 of 3 messages read\n",
            "# row element `b`: 3 in all, 1 to 2 a message\n",
            "# message 3 cannot be read: it ends inside an element\n",
            "type = \"xml-flatten\"\nrow-tag = \"b\"\n",
            "  \"id=@id\", ",
            "  \"a/n\",",
            "types.id = \"int\"",
            "types.y = \"int\" ",
            "# 1999, 2001, 2002\n",
            "types.p = \"decimal(18,2)\"",
            "repeat.g = \"json\"",
        ] {
            assert!(map.contains(wanted), "{wanted}\n{map}");
        }
        assert!(!map.contains("types.t "), "{map}");
    }

    #[test]
    fn one_row_a_message_and_values_around_rows_are_seen() {
        let map = of(&["<env><order><id>7</id><sum>1</sum></order></env>"]);
        assert!(map.contains("row-tag = \"order\""), "{map}");
        let map = of(&[
            "<order><id>7</id><items><item><sku>a</sku></item><item><sku>b</sku></item></items></order>",
        ]);
        assert!(map.contains("row-tag = \"item\""), "{map}");
        assert!(map.contains("row-tag = \"order\" makes a row"), "{map}");
        let message: &[u8] =
            b"<order><items><item><sku>a</sku></item><item><sku>b</sku></item></items></order>";
        let order = Hints {
            row_tag: Some("order"),
            ..Hints::default()
        };
        let map = infer(&[message], order).expect("a map").toml();
        assert!(map.contains("explode = \"items/item\""), "{map}");
    }

    #[test]
    fn json_becomes_pointers_types_and_rows() {
        let map = of(&[
            r#"{"id":1,"a":{"n":"x"},"on":"2020-01-01","tags":["p"],"ok":true,"mix":1}"#,
            r#"{"id":2,"a":{"n":null},"on":"2020-02-29","mix":"one","price":1.25}"#,
        ]);
        for wanted in [
            "type = \"json-flatten\"\n",
            "  \"a_n=/a/n\",",
            "types.id = \"int\"",
            "types.on = \"date\"",
            "types.tags = \"json\"",
            "types.ok = \"boolean\"",
            "types.mix = \"json\"",
            "types.price = \"decimal(18,2)\"",
            "explode = \"/tags\"",
        ] {
            assert!(map.contains(wanted), "{wanted}\n{map}");
        }
        let map = of(&[r#"{"books":[{"t":"a"},{"t":"b"}]}"#]);
        assert!(
            map.contains("explode = \"/books\"") && map.contains("\"t=./t\","),
            "{map}"
        );
        let map = of(&[r#"[{"t":"a"}]"#]);
        assert!(map.contains("explode = \"\""), "{map}");
    }

    #[test]
    fn no_name_is_proposed_that_a_table_has_already() {
        let map = of(&[r#"{"Id":1,"id":2,"_offset":3,"ingest_date":"x","_KEY":"k"}"#]);
        for wanted in [
            "\"Id=/Id\"",
            "\"id_2=/id\"",
            "\"_offset_2=/_offset\"",
            "\"ingest_date_2=/ingest_date\"",
            "\"_KEY_2=/_KEY\"",
            "_offset_2: `_offset` is taken",
        ] {
            assert!(map.contains(wanted), "{wanted}\n{map}");
        }
        let map = of(&[
            "<l><b><Dup>1</Dup><dup>2</dup><ingest_hour>3</ingest_hour></b><b><Dup>4</Dup></b></l>",
        ]);
        for wanted in [
            "\"Dup\"",
            "\"dup_2=dup\"",
            "\"ingest_hour_2=ingest_hour\"",
            "is taken",
        ] {
            assert!(map.contains(wanted), "{wanted}\n{map}");
        }
    }

    #[test]
    fn what_is_neither_is_told() {
        infer(&[b"apples, 3"], Hints::default()).expect_err("text");
    }

    #[test]
    fn csv_becomes_columns_with_types() {
        let map =
            of(&["id;Book Title;price;sold\n1;Momo;9,50;29.02.2024\n2;\"a; b\";;01.01.1970\n"]);
        for wanted in [
            "# csv-parse: 1 of 1 messages read, 3 lines a message\n",
            "type = \"csv-parse\"\nseparator = \";\"\nheader-line = true",
            "  \"id\",\n  \"Book_Title=Book Title\",",
            "types.id = \"int\"",
            "types.sold = \"date(dd.MM.yyyy)\"",
        ] {
            assert!(map.contains(wanted), "{wanted}\n{map}");
        }
        let lines = ["1,a, x", "2,b,y", "3,NULL", "4,d,z,more"].map(str::as_bytes);
        infer(&lines, Hints::default()).expect_err("too uneven to be taken for CSV");
        let csv = Hints {
            format: Some(Format::Csv),
            ..Hints::default()
        };
        let map = infer(&lines, csv).expect("a map").toml();
        for wanted in [
            "\"column_1\",",
            "types.column_1 = \"int\"",
            "missing = \"null\"",
            "trim = true",
            "null-value = \"NULL\"",
        ] {
            assert!(map.contains(wanted), "{wanted}\n{map}");
        }
        assert!(!map.contains("header-line"), "{map}");
    }

    /// As records of files with `source.header = "repeat"`.
    fn kept(messages: &[&str]) -> Result<String> {
        let values: Vec<&[u8]> = messages.iter().map(|text| text.as_bytes()).collect();
        let hints = Hints {
            format: Some(Format::Csv),
            headed: true,
            kept: true,
            ..Hints::default()
        };
        Ok(infer(&values, hints)?.toml())
    }

    #[test]
    fn the_first_lines_of_files_name_the_fields() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["id,2024,2025\n1,5,6"], &["\"id\",", "\"2024\","]),
            (&["id,,amt\n1,a,2"], &["\"column_2=\",", "\"amt\","]),
            (&["x=y,z\n1,a"], &["\"x_y=x=y\","]),
            (
                &["id,name\n1,a", "name,id,more\nx,2,new"],
                &[
                    "\"id\",",
                    "\"name\",",
                    "\"more\",",
                    "types.id = \"int\"",
                    "missing = \"null\"",
                ],
            ),
        ];
        for (messages, wanted) in cases {
            let map = kept(messages).expect("a map");
            assert!(map.contains("header-line = true"), "{map}");
            for wanted in *wanted {
                assert!(map.contains(wanted), "{wanted}\n{map}");
            }
        }
    }

    #[test]
    fn first_lines_that_name_no_fields_are_told() {
        let row = "looks like a row, not like names";
        let cases: &[(&[&str], &str)] = &[
            (&["1,a,2\n2,b,3", "1,a,2\n3,c,4"], row),
            (&["n/a,a,2\n2,b,3", "n/a,a,2\n3,c,4"], row),
            (&["bonn,open\nulm,shut", "bonn,open\nbonn,shut"], row),
            (
                &["id,id,name\n1,2,x"],
                "(id, id, name) has two fields called \"id\"",
            ),
            (&["id,name\n1,a", "x,y\nb,c"], "shares no name"),
            (&["id,\"a,b\"\n1,c"], "cannot hold the name \"a,b\""),
        ];
        for (messages, wanted) in cases {
            let told = kept(messages).expect_err("no map").to_string();
            assert!(told.contains(wanted), "{told}");
        }
    }

    #[test]
    fn a_map_that_is_kept_drops_nothing_that_comes_later() {
        let messages = [
            "id,name,amt\n1,a,1.50",
            "id,name,amt\n2,b,3,extra",
            "id,name,amt\n3,c,4",
        ];
        let map = kept(&messages).expect("a map");
        assert!(!map.contains("extra ="), "{map}");
        assert!(
            map.contains("# 1 of 3 lines have more fields: they are refused"),
            "{map}"
        );
        assert!(map.contains("numbers = \"plain\""), "{map}");
        let csv = Hints {
            format: Some(Format::Csv),
            ..Hints::default()
        };
        let map = infer(&[messages.join("\n").as_bytes()], csv).expect("a map");
        let map = map.toml();
        assert!(map.contains("extra = \"ignore\""), "{map}");
    }
}
