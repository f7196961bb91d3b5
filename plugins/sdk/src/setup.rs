//! What a `RowPlugin` gets when the pipeline starts: its config, files, tables and secrets, the columns of the stage
//! before; and what it may ask for: counters, other names of columns, columns that end here.
use crate::config::Config;
use crate::contract::{Problem, Setup};
use crate::rowwise::InputRow;
use crate::schema::Schema;
use crate::table::Table;

/// A number that rows add to, by `Rows::count`; what other engines call an accumulator. It is added when the batch
/// commits, so it is exact over every repeat and crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counter(pub(crate) usize);

/// A field of `input!` or `output!`, and the column that it stands for.
type Named = (&'static str, String);

/// The start of a `RowPlugin`. All problems are kept and told together.
#[derive(Debug)]
pub struct RowSetup<'a> {
    /// The keys of the transform.
    pub config: Config,
    given: &'a Setup,
    pub(crate) counters: Vec<String>,
    pub(crate) reads: Vec<Named>,
    pub(crate) makes: Vec<Named>,
    pub(crate) dropped: Vec<String>,
    pub(crate) explodes: bool,
}

impl<'a> RowSetup<'a> {
    pub(crate) fn new(given: &'a Setup, explodes: bool) -> Self {
        Self {
            config: Config::parse(&given.config),
            given,
            counters: Vec::new(),
            reads: Vec::new(),
            makes: Vec::new(),
            dropped: Vec::new(),
            explodes,
        }
    }

    /// The columns of the stage before.
    pub fn input(&self) -> Schema<'a> {
        Schema::of(self.given)
    }

    /// The bytes of the file that `key` names (`"format": "weir-file"` in the schema). Nothing, and a problem, where
    /// the key is missing; ask `config.get(key)` first where it may be.
    pub fn file(&mut self, key: &str, meaning: &str) -> Option<&'a [u8]> {
        let named = self.config.require(key, meaning);
        let found = self.given.files.iter().find(|file| file.key == key);
        if found.is_none() && !named.is_empty() {
            let message = format!("the host gave no file for `{key}`");
            self.config.problem(key, "missing_file", message);
        }
        found.map(|file| file.bytes.as_slice())
    }

    /// `file`, of UTF-8.
    pub fn text_file(&mut self, key: &str, meaning: &str) -> Option<&'a str> {
        match str::from_utf8(self.file(key, meaning)?) {
            Ok(text) => Some(text),
            Err(e) => {
                let message = format!("the file is not UTF-8: {e}");
                self.config.problem(key, "not_utf8", message);
                None
            }
        }
    }

    /// The table that `key` names (`"format": "weir-table"` in the schema); as `file` where there is none.
    pub fn table(&mut self, key: &str, meaning: &str) -> Option<Table<'a>> {
        Table::require(self.given, key, meaning, &mut self.config)
    }

    /// The rows of `table`, as an `input!` struct: what other engines call a broadcast variable. Columns of a CSV
    /// file are texts. The rows are there while the plugin starts; keep what rows need.
    pub fn lookup<R: InputRow<'a>>(&mut self, key: &str, meaning: &str) -> Vec<R> {
        let Some(table) = self.table(key, meaning) else {
            return Vec::new();
        };
        table.rows_as().unwrap_or_else(|message| {
            self.config.problem(key, "bad_table", message);
            Vec::new()
        })
    }

    /// The plain text of a reference such as `${env:…}` (`"format": "weir-secret"` in the schema). It must stand in no
    /// problem, refusal, row or log line.
    pub fn secret(&mut self, key: &str, meaning: &str) -> String {
        self.config.require(key, meaning)
    }

    /// A counter of this name; the same one for the same name.
    pub fn counter(&mut self, name: &str) -> Counter {
        let known = self.counters.iter().position(|known| known == name);
        Counter(known.unwrap_or_else(|| {
            self.counters.push(name.to_owned());
            self.counters.len() - 1
        }))
    }

    /// Field `field` of the input reads `column`, not the column of its own name.
    pub fn read(&mut self, field: &'static str, column: &str) {
        self.reads.push((field, column.to_owned()));
    }

    /// Field `field` of the output makes `column`, not a column of its own name.
    pub fn make(&mut self, field: &'static str, column: &str) {
        self.makes.push((field, column.to_owned()));
    }

    /// The column does not go on. What is read may be dropped too.
    pub fn drop(&mut self, column: &str) {
        match self.input().find(column) {
            Ok(_) => self.dropped.push(column.to_owned()),
            Err(message) => self.config.problem("", "unknown_column", message),
        }
    }

    /// Whether one row may become several, where the config decides about it.
    pub fn explode(&mut self, explodes: bool) {
        self.explodes = explodes;
    }

    pub(crate) fn finish(self) -> Result<(), Vec<Problem>> {
        self.config.finish()
    }
}

/// The column that a field stands for.
pub(crate) fn column_of<'n>(field: &'n str, named: &'n [Named]) -> &'n str {
    let other = named.iter().rev().find(|(known, _)| *known == field);
    other.map_or(field, |(_, column)| column.as_str())
}
