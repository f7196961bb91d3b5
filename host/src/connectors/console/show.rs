//! Rows as text: a table as Spark's `show` prints it, or lines of JSON.

use std::fmt::Write as _;

use super::Form;
use crate::text::{printable, printable_json};

/// Rows of one commit that are shown, of one set of columns.
#[derive(Debug, Default)]
pub(super) struct Shown {
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
}

impl Shown {
    pub(super) fn new(columns: Vec<String>) -> Shown {
        Shown {
            columns,
            rows: Vec::new(),
        }
    }

    pub(super) fn is_of(&self, columns: &[String]) -> bool {
        self.columns == columns
    }

    pub(super) fn push(&mut self, row: Vec<Option<String>>) {
        self.rows.push(row);
    }

    pub(super) fn bytes(&self) -> usize {
        let cells = self.rows.iter().flatten().flatten();
        cells.map(|cell| cell.len() + size_of::<String>()).sum()
    }

    /// Values of a JSON form are JSON already.
    pub(super) fn text(&self, form: Form, truncate: usize) -> String {
        match form {
            Form::Table => self.table(truncate),
            Form::Json => self.lines(),
        }
    }

    fn lines(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let cells = self.columns.iter().zip(row);
            let cells = cells.map(|(name, value)| {
                let name = serde_json::Value::from(name.as_str());
                format!("{name}:{}", value.as_deref().unwrap_or("null"))
            });
            let line = format!("{{{}}}\n", cells.collect::<Vec<_>>().join(","));
            out.push_str(&printable_json(&line));
        }
        out
    }

    /// Cells stand to the right, as in Spark.
    fn table(&self, truncate: usize) -> String {
        let cell = |value: &Option<String>| match value {
            Some(text) => cut(&printable(text), truncate),
            None => "NULL".to_owned(),
        };
        let head: Vec<String> = self
            .columns
            .iter()
            .map(|name| printable(name).into_owned())
            .collect();
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(cell).collect())
            .collect();
        let width = |at: usize| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let cells = cells.chain(head.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let border: String = widths
            .iter()
            .map(|width| format!("+{}", "-".repeat(*width)))
            .collect();
        let border = format!("{border}+\n");
        let mut out = border.clone();
        for (n, row) in std::iter::once(&head).chain(&rows).enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                let _unfailing = write!(out, "|{cell:>width$}");
            }
            out.push_str("|\n");
            if n == 0 {
                out.push_str(&border);
            }
        }
        out.push_str(&border);
        out
    }
}

/// As Spark cuts: the last three characters say so.
fn cut(text: &str, most: usize) -> String {
    const DOTS: usize = 3;
    if text.chars().count() <= most {
        return text.to_owned();
    }
    match most {
        ..=DOTS => text.chars().take(most).collect(),
        _ => text
            .chars()
            .take(most - DOTS)
            .chain("...".chars())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_as_spark_shows_it() {
        let mut shown = Shown::new(vec!["id".into(), "name".into()]);
        shown.push(vec![
            Some("1".into()),
            Some("a name that is too long to show".into()),
        ]);
        shown.push(vec![Some("200".into()), None]);
        let expected = "\
+---+--------------------+
| id|                name|
+---+--------------------+
|  1|a name that is to...|
|200|                NULL|
+---+--------------------+
";
        assert_eq!(shown.text(Form::Table, 20), expected);
    }

    #[test]
    fn what_others_wrote_does_not_rule_the_terminal() {
        let mut shown = Shown::new(vec!["a".into()]);
        shown.push(vec![Some("\u{1b}[2J".into())]);
        assert!(!shown.text(Form::Table, 20).contains('\u{1b}'));
        let mut shown = Shown::new(vec!["a\"b".into()]);
        shown.push(vec![Some("\"x\"".into())]);
        assert_eq!(shown.text(Form::Json, 0), "{\"a\\\"b\":\"x\"}\n");
    }
}
