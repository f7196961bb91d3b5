//! The rule file as typed: TOML, with the place of every value, so that each mistake is told with line and column.
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use weir_sdk::{Config, Type};

/// What the file says, before it meets the columns.
#[derive(Debug, Default)]
pub struct RuleFile {
    pub unknown: Unknown,
    pub columns: Vec<ColumnRules>,
}

/// What happens to a column without a rule.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub enum Unknown {
    #[default]
    Allow,
    Reject,
    Drop,
}

/// One `[columns.<name>]` table.
#[derive(Debug, Default)]
pub struct ColumnRules {
    pub name: String,
    pub at: Place,
    pub kind: Option<(Type, Place)>,
    pub required: bool,
    pub trim: Option<Place>,
    pub case: Option<(Case, Place)>,
    pub format: Option<(Format, Place)>,
    pub pattern: Option<(String, Place)>,
    pub min: Option<(Literal, Place)>,
    pub max: Option<(Literal, Place)>,
    pub min_length: Option<(usize, Place)>,
    pub max_length: Option<(usize, Place)>,
    pub one_of: Option<(Vec<(Literal, Place)>, Place)>,
    pub default: Option<(Literal, Place)>,
}

/// Line and column, from 1.
pub type Place = (usize, usize);

/// A bound, a default or an allowed value, as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal(pub String);

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Case {
    Upper,
    Lower,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Format {
    Uuid,
    Email,
    Url,
    Ipv4,
    Isbn,
}

pub const FORMATS: [(&str, Format); 5] = [
    ("uuid", Format::Uuid),
    ("email", Format::Email),
    ("url", Format::Url),
    ("ipv4", Format::Ipv4),
    ("isbn", Format::Isbn),
];

const UNKNOWNS: [(&str, Unknown); 3] = [
    ("allow", Unknown::Allow),
    ("reject", Unknown::Reject),
    ("drop", Unknown::Drop),
];
const CASES: [(&str, Case); 2] = [("upper", Case::Upper), ("lower", Case::Lower)];
const RULES: [&str; 12] = [
    "type",
    "required",
    "default",
    "trim",
    "case",
    "format",
    "pattern",
    "min",
    "max",
    "min-length",
    "max-length",
    "one-of",
];

/// Reads the file; every problem goes to `config`.
pub fn read(text: &str, config: &mut Config) -> RuleFile {
    let mut reader = Reader { text, config };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = reader.place(error.span().map_or(0, |span| span.start));
        reader.problem(at, "bad_toml", error.message().to_owned());
    }
    if !errors.is_empty() {
        return RuleFile::default();
    }
    let mut file = RuleFile::default();
    for (key, value) in table.get_ref() {
        let at = reader.place(key.span().start);
        match key.get_ref().as_ref() {
            "unknown" => file.unknown = reader.choice(value, &UNKNOWNS).unwrap_or_default(),
            "columns" => match value.get_ref() {
                DeValue::Table(columns) => file.columns = reader.columns(columns),
                _ => reader.problem(at, "bad_value", "`columns` is not a table".into()),
            },
            other => {
                let message = format!("`{other}` is unknown here; there are `unknown`, `columns`");
                reader.problem(at, "unknown_key", message);
            }
        }
    }
    if file.columns.is_empty() {
        reader.problem(
            (1, 1),
            "no_rules",
            "no [columns.<name>] table: nothing to check".into(),
        );
    }
    file.columns.sort_by_key(|c| c.at);
    file
}

struct Reader<'a> {
    text: &'a str,
    config: &'a mut Config,
}

impl Reader<'_> {
    fn problem(&mut self, at: Place, code: &str, message: String) {
        self.config.problem_in_file("rules", at, code, message);
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        (line, column)
    }

    fn columns(&mut self, columns: &DeTable<'_>) -> Vec<ColumnRules> {
        let mut all = Vec::new();
        for (name, value) in columns {
            let at = self.place(name.span().start);
            match value.get_ref() {
                DeValue::Table(rules) => all.push(self.column(name.get_ref(), at, rules)),
                _ => {
                    let message = format!("write [columns.{}] and its rules below", name.get_ref());
                    self.problem(at, "bad_value", message);
                }
            }
        }
        all
    }

    fn column(&mut self, name: &str, at: Place, rules: &DeTable<'_>) -> ColumnRules {
        let mut column = ColumnRules {
            name: name.to_owned(),
            at,
            ..ColumnRules::default()
        };
        for (key, value) in rules {
            let at = self.place(value.span().start);
            match key.get_ref().as_ref() {
                "type" => column.kind = self.kind(value, at),
                "required" => column.required = self.flag(value),
                "trim" => column.trim = self.flag(value).then_some(at),
                "case" => column.case = self.choice(value, &CASES).map(|v| (v, at)),
                "format" => column.format = self.choice(value, &FORMATS).map(|v| (v, at)),
                "pattern" => column.pattern = self.string(value).map(|v| (v, at)),
                "min" => column.min = self.literal(value).map(|v| (v, at)),
                "max" => column.max = self.literal(value).map(|v| (v, at)),
                "min-length" => column.min_length = self.length(value).map(|v| (v, at)),
                "max-length" => column.max_length = self.length(value).map(|v| (v, at)),
                "default" => column.default = self.literal(value).map(|v| (v, at)),
                "one-of" => column.one_of = self.list(value).map(|v| (v, at)),
                other => {
                    let best = RULES
                        .iter()
                        .min_by_key(|r| weir_sdk::config::edits(r, other));
                    let best = best.map_or("", |rule| rule);
                    let message = format!("`{other}` is no rule; did you mean `{best}`?");
                    let at = self.place(key.span().start);
                    self.problem(at, "unknown_rule", message);
                }
            }
        }
        if let (Some((low, _)), Some((high, at))) = (column.min_length, column.max_length)
            && low > high
        {
            self.problem(
                at,
                "empty_range",
                format!("max-length {high} is below min-length {low}"),
            );
        }
        column
    }

    fn wrong<T>(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) -> Option<T> {
        let at = self.place(value.span().start);
        let found = value.get_ref().type_str();
        self.problem(
            at,
            "bad_value",
            format!("expected {expected}, found {found}"),
        );
        None
    }

    fn flag(&mut self, value: &Spanned<DeValue<'_>>) -> bool {
        let flag = value.get_ref().as_bool();
        flag.or_else(|| self.wrong(value, "true or false"))
            .unwrap_or(false)
    }

    fn string(&mut self, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        text.or_else(|| self.wrong(value, "a text in quotes"))
    }

    fn kind(&mut self, value: &Spanned<DeValue<'_>>, at: Place) -> Option<(Type, Place)> {
        match Type::parse(&self.string(value)?) {
            Ok(kind) => Some((kind, at)),
            Err(message) => {
                self.problem(at, "bad_value", message);
                None
            }
        }
    }

    fn choice<T: Copy>(&mut self, value: &Spanned<DeValue<'_>>, all: &[(&str, T)]) -> Option<T> {
        let text = self.string(value)?;
        let found = all
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, choice)| *choice);
        if found.is_none() {
            let at = self.place(value.span().start);
            let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
            let message = format!("found `{text}`, expected one of {}", names.join(", "));
            self.problem(at, "bad_value", message);
        }
        found
    }

    fn length(&mut self, value: &Spanned<DeValue<'_>>) -> Option<usize> {
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|i| i.as_str().parse().ok());
        number.or_else(|| self.wrong(value, "a number of characters"))
    }

    fn literal(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Literal> {
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.as_ref().to_owned()),
            DeValue::Integer(number) => {
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                parsed.ok().map(|n| n.to_string())
            }
            DeValue::Float(number) => Some(number.as_str().to_owned()),
            DeValue::Boolean(flag) => Some(flag.to_string()),
            DeValue::Datetime(when) => Some(when.to_string()),
            _ => None,
        };
        text.map(Literal)
            .or_else(|| self.wrong(value, "a text, number, boolean or date"))
    }

    fn list(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Vec<(Literal, Place)>> {
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong(value, "a list, such as [\"a\", \"b\"]");
        };
        let mut all = Vec::new();
        for item in array.iter() {
            let at = self.place(item.span().start);
            all.extend(self.literal(item).map(|literal| (literal, at)));
        }
        Some(all)
    }
}
