//! A pattern for names of topics: a regular expression that matches whole names, as consumers of Kafka subscribe by one.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

use super::problem;
use super::shape::{Parsed, refuse};

/// Bytes that a compiled pattern may take: names are short, and a pattern may come by REST.
const SIZE_MAX: usize = 1 << 20;
/// Topics of Kafka itself, such as `__consumer_offsets`: a pattern never means them.
const INTERNAL: &str = "__";

#[derive(Clone)]
pub struct TopicPattern(Regex, String);

/// As typed.
impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.1)
    }
}

impl TopicPattern {
    pub fn parse(text: &str) -> Parsed<TopicPattern> {
        if text.is_empty() {
            return Err(refuse(problem::MISSING, "a pattern, not nothing"));
        }
        // Names of topics are ASCII, and so are the classes of Java's expressions.
        let whole = format!(r"\A(?:{text})\z");
        let built = RegexBuilder::new(&whole)
            .unicode(false)
            .size_limit(SIZE_MAX)
            .build();
        built.map(|regex| TopicPattern(regex, text.to_owned())).map_err(|error| {
            let error = error.to_string();
            let why = error.lines().last().unwrap_or_default();
            let why = why.trim_start_matches("error: ");
            refuse(problem::WRONG_TYPE, format!("a regular expression ({why})"))
                .hint("it matches whole names, for instance `orders-.*`; it has no look-around and no back references")
        })
    }

    pub fn takes(&self, topic: &str) -> bool {
        !topic.starts_with(INTERNAL) && self.0.is_match(topic.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match_and_internal_ones_never() {
        let takes = |text: &str, topic: &str| TopicPattern::parse(text).expect(text).takes(topic);
        assert!(takes("orders-.*", "orders-eu") && !takes("orders-.*", "old-orders-eu"));
        assert!(takes("a|bc", "bc") && !takes("a|bc", "abc") && !takes("a", "aa"));
        assert!(takes(r"t\d+", "t12") && !takes(r"t\d+", "t"));
        assert!(takes(".*", "_schemas") && !takes(".*", "__consumer_offsets"));
        for (text, part) in [
            ("", "nothing"),
            ("a(", "unclosed group"),
            ("(?=a)b", "look-around"),
            ("a{999999}{999}", "size limit"),
        ] {
            let refused = TopicPattern::parse(text).expect_err(text);
            assert!(refused.expected.contains(part), "{}", refused.expected);
        }
    }
}
