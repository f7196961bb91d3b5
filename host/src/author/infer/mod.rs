//! `infer`: the `[[transforms]]` table for messages that nobody has described, with what was seen beside each key. It
//! takes only what every sample bears out, so the map runs on the samples without refusing one for its type.

mod json;
mod kinds;
mod page;
mod xml;

use super::input::Message;
use super::invalid;
use crate::error::Result;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Xml,
    Json,
}

/// The map as TOML. `format` is told by the first signs of the messages where it is not given; `row_tag` overrides the
/// element that was found.
pub fn infer(
    messages: &[Message],
    format: Option<Format>,
    row_tag: Option<&str>,
) -> Result<String> {
    let values: Vec<&[u8]> = messages.iter().filter_map(|m| m.value.as_deref()).collect();
    let format = match format.or_else(|| looks(&values)) {
        Some(format) => format,
        None => {
            return Err(
                invalid("these messages look neither like XML nor like JSON")
                    .hint("--as xml or --as json; --whole where a file is one message"),
            );
        }
    };
    let page = match format {
        Format::Xml => xml::infer(&values, row_tag),
        Format::Json => json::infer(&values),
    };
    let hint = "--whole where the file is one message; a line is one otherwise";
    page.map(|page| page.to_string())
        .map_err(|why| invalid(why).hint(hint))
}

/// By the first sign of most messages.
fn looks(values: &[&[u8]]) -> Option<Format> {
    let first = |value: &&[u8]| {
        let value = value.strip_prefix(b"\xef\xbb\xbf").unwrap_or(value);
        value
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .copied()
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
        std::cmp::Ordering::Equal => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: &[&str]) -> String {
        let messages: Vec<Message> = messages
            .iter()
            .map(|text| Message {
                value: Some(text.as_bytes().to_vec()),
                ..Message::default()
            })
            .collect();
        infer(&messages, None, None).expect("a map")
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
            "# message 2 cannot be read: it ends inside an element\n",
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
        let messages = [Message {
            value: Some(
                b"<order><items><item><sku>a</sku></item><item><sku>b</sku></item></items></order>"
                    .to_vec(),
            ),
            ..Message::default()
        }];
        let map = infer(&messages, None, Some("order")).expect("a map");
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
    fn what_is_neither_is_told() {
        let text = Message {
            value: Some(b"apples, 3".to_vec()),
            ..Message::default()
        };
        infer(&[text], None, None).expect_err("text");
    }
}
