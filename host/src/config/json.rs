//! Connect's JSON, `{"name": …, "config": {…}}` or the config object alone, as key-value pairs with their places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

#[derive(Debug)]
pub struct Pair {
    pub key: String,
    pub value: String,
    pub line: u32,
    pub column: u32,
}

#[derive(Debug)]
pub struct Fault {
    pub message: String,
    pub line: u32,
    pub column: u32,
}

/// An object's members in order, including repeated keys.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of keys and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(All)
    }
}

pub fn flat(text: &str) -> Result<Vec<Pair>, Fault> {
    let members: Members = serde_json::from_str(text).map_err(|error| Fault {
        message: error.to_string(),
        line: u32::try_from(error.line()).unwrap_or(1).max(1),
        column: u32::try_from(error.column()).unwrap_or(1).max(1),
    })?;
    let mut finder = Finder { text, from: 0 };
    let mut out: Vec<Pair> = Vec::new();
    for (key, value) in members.0 {
        let at = finder.next(&key);
        match value {
            Value::Object(config) if key == "config" => {
                for (key, value) in config {
                    out.push(pair(&mut Finder { text, from: at }, key, &value)?);
                }
            }
            value => out.push(pair(&mut Finder { text, from: at }, key, &value)?),
        }
    }
    // Connect repeats the name inside the config.
    let names: Vec<&String> = out
        .iter()
        .filter(|p| p.key == "name")
        .map(|p| &p.value)
        .collect();
    if names.len() == 2 && names.first() == names.last() {
        let first = out.iter().position(|p| p.key == "name");
        out.remove(first.unwrap_or(0));
    }
    Ok(out)
}

fn pair(finder: &mut Finder<'_>, key: String, value: &Value) -> Result<Pair, Fault> {
    let byte = finder.next(&key);
    let before = finder.text.get(..byte).unwrap_or("");
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = small(before.matches('\n').count() + 1);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = small(before.get(start..).unwrap_or("").chars().count() + 1);
    let value = match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            return Err(Fault {
                message: format!("`{key}` is not a text, a number or a truth value"),
                line,
                column,
            });
        }
    };
    Ok(Pair {
        key,
        value,
        line,
        column,
    })
}

/// Finds keys as they are written, without escapes; a key that cannot be found gets the place where the search began.
struct Finder<'a> {
    text: &'a str,
    from: usize,
}

impl Finder<'_> {
    fn next(&mut self, key: &str) -> usize {
        let quoted = format!("\"{key}\"");
        let rest = self.text.get(self.from..).unwrap_or("");
        for (at, _) in rest.match_indices(&quoted) {
            let after = rest.get(at + quoted.len()..).unwrap_or("");
            if after.trim_start().starts_with(':') {
                return self.from + at;
            }
        }
        self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_repeats_the_name() {
        let text = "{\n \"name\": \"n\",\n \"config\": {\"name\": \"n\", \"tasks.max\": 2}\n}";
        let pairs = flat(text).expect("flat");
        let got: Vec<(&str, &str, u32)> = pairs
            .iter()
            .map(|p| (p.key.as_str(), p.value.as_str(), p.line))
            .collect();
        assert_eq!(got, [("name", "n", 3), ("tasks.max", "2", 3)]);
        assert!(flat("{\"a\": [1]}").is_err());
        assert_eq!(flat("{\"a\": 1,\n}").expect_err("comma").line, 2);
    }
}
