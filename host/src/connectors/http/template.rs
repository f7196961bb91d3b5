//! Templates of a row: text with `${column}` in it. A column inside a JSON string becomes escaped text; one outside
//! becomes a JSON value, with quotation marks if it is text. `${_json}` is the whole row as an object.

use std::fmt;

/// The whole row.
pub const WHOLE: &str = "_json";

#[derive(Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Plain(String),
    /// A JSON value.
    Value(String),
    /// Text inside a JSON string.
    Inside(String),
}

impl Template {
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut in_string = false;
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let before = &rest[..start];
            in_string = ends_in_string(before, in_string);
            let Some(length) = rest[start..].find('}') else {
                return Err(format!("`{}` is never closed with a brace", &rest[start..]));
            };
            let name = rest[start + 2..start + length].trim().to_owned();
            if name.is_empty() {
                return Err("`${}` names no column".to_owned());
            }
            if !before.is_empty() {
                pieces.push(Piece::Plain(before.to_owned()));
            }
            pieces.push(match in_string {
                true => Piece::Inside(name),
                false => Piece::Value(name),
            });
            rest = &rest[start + length + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Plain(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Columns that it names.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Plain(_) => None,
            Piece::Value(name) | Piece::Inside(name) => Some(name.as_str()),
        })
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.columns()).finish()
    }
}

/// Whether the text ends inside a JSON string, if it begins inside (`inside`) or outside of one.
fn ends_in_string(text: &str, mut inside: bool) -> bool {
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            _ => {}
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_knows_whether_it_stands_in_a_string() {
        let template =
            Template::parse(r#"{"id":${id},"t":"\"${title}\" by ${author}","all":${_json}}"#);
        let template = template.unwrap();
        let kinds: Vec<&Piece> = template
            .pieces()
            .iter()
            .filter(|p| !matches!(p, Piece::Plain(_)))
            .collect();
        let (value, inside) = (
            |n: &str| Piece::Value(n.into()),
            |n: &str| Piece::Inside(n.into()),
        );
        assert_eq!(
            kinds,
            [
                &value("id"),
                &inside("title"),
                &inside("author"),
                &value("_json")
            ]
        );
        assert!(Template::parse("${a").is_err() && Template::parse("${ }").is_err());
    }
}
