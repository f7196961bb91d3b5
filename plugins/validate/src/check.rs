//! The rules of one column: what they read and make, and the checks of one value in their fixed order.
//!
//! Order: trim, case, empty text of another type to null, default, required, length, format, pattern, type, range, enum.
use std::borrow::Cow;
use std::cmp::Ordering;

use weir_sdk::{Config, Refusal, Type, Value, shown};

use crate::pattern::Pattern;
use crate::rules::{Case, ColumnRules, Format, Literal, Place};

/// The rules of one column, ready to run.
#[derive(Debug)]
pub struct Check {
    pub name: String,
    /// The type that goes on.
    pub kind: Type,
    /// The type that comes in.
    pub from: Type,
    pub required: bool,
    pub default: Option<String>,
    trim: bool,
    case: Option<Case>,
    format: Option<Format>,
    pattern: Option<Pattern>,
    length: (usize, usize),
    min: Option<Bound>,
    max: Option<Bound>,
    one_of: Option<OneOf>,
}

#[derive(Debug)]
struct Bound {
    value: Value<'static>,
    text: String,
}

#[derive(Debug)]
struct OneOf {
    texts: Vec<String>,
    /// Empty for text columns.
    values: Vec<Value<'static>>,
}

/// A quick check that is enough for most values of a column.
#[derive(Debug, Clone, Copy)]
pub struct Range<T> {
    min: Option<T>,
    max: Option<T>,
    /// No rule but these two.
    whole: bool,
}

impl<T: PartialOrd> Range<T> {
    #[inline]
    pub fn holds(&self, value: T) -> bool {
        self.whole
            && self.min.as_ref().is_none_or(|min| value >= *min)
            && self.max.as_ref().is_none_or(|max| value <= *max)
    }
}

impl Check {
    /// `from` is the type of the input column, or the rule's own where the column is missing and has a default.
    pub fn new(rules: &ColumnRules, from: Type, config: &mut Config) -> Self {
        let kind = rules
            .kind
            .as_ref()
            .map_or_else(|| from.clone(), |(kind, _)| kind.clone());
        let mut tell = Teller {
            config,
            name: &rules.name,
        };
        tell.not_text(rules, &from, &kind);
        let min = rules
            .min
            .as_ref()
            .and_then(|literal| tell.bound("min", literal, &kind));
        let max = rules
            .max
            .as_ref()
            .and_then(|literal| tell.bound("max", literal, &kind));
        if let (Some(low), Some(high), Some((_, at))) = (&min, &max, &rules.max)
            && low.value > high.value
        {
            let message = format!("max {} is below min {}", high.text, low.text);
            tell.problem(*at, "empty_range", message);
        }
        let default = rules.default.as_ref().map(|(literal, at)| {
            if typed(literal, &kind).is_none() && kind != Type::Text {
                tell.problem(
                    *at,
                    "bad_value",
                    format!("default `{}` is no {kind}", literal.0),
                );
            }
            literal.0.clone()
        });
        Self {
            name: rules.name.clone(),
            required: rules.required,
            default,
            trim: rules.trim.is_some(),
            case: rules.case.map(|(case, _)| case),
            format: rules.format.map(|(format, _)| format),
            pattern: rules
                .pattern
                .as_ref()
                .and_then(|pattern| tell.pattern(pattern)),
            length: (
                rules.min_length.map_or(0, |(n, _)| n),
                rules.max_length.map_or(usize::MAX, |(n, _)| n),
            ),
            min,
            max,
            one_of: rules
                .one_of
                .as_ref()
                .map(|(list, _)| tell.one_of(list, &kind)),
            from,
            kind,
        }
    }

    /// Whether a value may come out other than it went in.
    pub fn changes(&self) -> bool {
        self.trim || self.case.is_some() || self.default.is_some()
    }

    pub fn casts(&self) -> bool {
        self.kind.format() != self.from.format()
    }

    /// The default, as a value of the column's type.
    pub fn default_value(&self) -> Option<Value<'_>> {
        let text = self.default.as_deref()?;
        match self.kind {
            Type::Text => Some(Value::Text(text)),
            _ => typed(&Literal(text.to_owned()), &self.kind),
        }
    }

    /// The text after trim and case. Borrowed unless a letter changed: then only its ends may be gone.
    #[inline]
    pub fn clean<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let text = if self.trim { trim(text) } else { text };
        match self.case {
            None => Cow::Borrowed(text),
            Some(case) => cased(text, case),
        }
    }

    pub fn missing(&self, refuse: &mut impl FnMut(Refusal)) {
        if self.required {
            let message = "required, but missing or empty";
            refuse(Refusal::of_field("required_missing", &self.name, message));
        }
    }

    /// Checks of a text that are about its letters.
    #[inline]
    pub fn text(&self, text: &[u8], refuse: &mut impl FnMut(Refusal)) {
        let (least, most) = self.length;
        if least > 0 || most < usize::MAX {
            self.check_length(text, refuse);
        }
        if let Some(format) = self.format
            && !format.accepts(text)
        {
            let name = crate::rules::FORMATS.iter().find(|(_, f)| *f == format);
            let name = name.map_or("", |(name, _)| name);
            self.refuse(refuse, "bad_format", text, &format!("a valid {name}"));
        }
        if let Some(pattern) = &self.pattern
            && !pattern.matches(text)
        {
            self.refuse(
                refuse,
                "pattern_mismatch",
                text,
                &format!("all of it to match `{pattern}`"),
            );
        }
        if let Some(one_of) = &self.one_of
            && matches!(self.kind, Type::Text)
            && !one_of.texts.iter().any(|t| t.as_bytes() == text)
        {
            self.refuse(refuse, "not_in_enum", text, &one_of.expected());
        }
    }

    /// A text has between a quarter of its bytes and its bytes as characters: most need no counting.
    #[inline]
    fn check_length(&self, text: &[u8], refuse: &mut impl FnMut(Refusal)) {
        let (least, most) = self.length;
        if text.len() <= most && text.len().div_ceil(4) >= least {
            return;
        }
        let count = text.iter().filter(|b| **b & 0xC0 != 0x80).count();
        if count < least {
            self.refuse(
                refuse,
                "too_short",
                text,
                &format!("at least {least} characters, not {count}"),
            );
        } else if count > most {
            self.refuse(
                refuse,
                "too_long",
                text,
                &format!("at most {most} characters, not {count}"),
            );
        }
    }

    /// The value of a text, or nothing and a refusal.
    #[inline]
    pub fn cast<'a>(&self, text: &'a [u8], refuse: &mut impl FnMut(Refusal)) -> Option<Value<'a>> {
        let value = self.kind.read(text);
        if value.is_none() {
            self.refuse(refuse, "bad_type", text, &self.kind.expected(text));
        }
        value
    }

    /// The bounds, as `of` takes them out of their values.
    pub fn range<T>(&self, of: fn(Value<'static>) -> Option<T>) -> Range<T> {
        let bound = |bound: &Option<Bound>| bound.as_ref().and_then(|bound| of(bound.value));
        let (min, max) = (bound(&self.min), bound(&self.max));
        let told = min.is_some() == self.min.is_some() && max.is_some() == self.max.is_some();
        Range {
            whole: told && self.one_of.is_none(),
            min,
            max,
        }
    }

    /// Checks of a value that are about its size.
    #[inline]
    pub fn value(&self, value: Value<'_>, refuse: &mut impl FnMut(Refusal)) {
        if let Some(min) = &self.min
            && !matches!(
                value.partial_cmp(&min.value),
                Some(Ordering::Greater | Ordering::Equal)
            )
        {
            self.refuse_value(
                refuse,
                "below_min",
                value,
                &format!("at least {}", min.text),
            );
        }
        if let Some(max) = &self.max
            && !matches!(
                value.partial_cmp(&max.value),
                Some(Ordering::Less | Ordering::Equal)
            )
        {
            self.refuse_value(refuse, "above_max", value, &format!("at most {}", max.text));
        }
        if let Some(one_of) = &self.one_of
            && !one_of.values.contains(&value)
        {
            self.refuse_value(refuse, "not_in_enum", value, &one_of.expected());
        }
    }

    fn refuse_value(
        &self,
        refuse: &mut impl FnMut(Refusal),
        code: &'static str,
        value: Value<'_>,
        expected: &str,
    ) {
        let found = self.kind.show(value);
        self.refuse(refuse, code, found.as_bytes(), expected);
    }

    fn refuse(
        &self,
        refuse: &mut impl FnMut(Refusal),
        code: &'static str,
        found: &[u8],
        expected: &str,
    ) {
        let message = format!("found {}, expected {expected}", shown(found));
        refuse(Refusal::of_field(code, &self.name, message));
    }
}

impl OneOf {
    fn expected(&self) -> String {
        format!("one of {}", self.texts.join(", "))
    }
}

/// Without Unicode's white space at both ends.
#[inline]
fn trim(text: &[u8]) -> &[u8] {
    match text {
        [first, .., last] if first.is_ascii_graphic() && last.is_ascii_graphic() => text,
        _ => str::from_utf8(text).map_or(text, |text| text.trim().as_bytes()),
    }
}

#[inline]
fn cased(text: &[u8], case: Case) -> Cow<'_, [u8]> {
    let other = match case {
        Case::Upper => any(text, |b| b.is_ascii_lowercase() | !b.is_ascii()),
        Case::Lower => any(text, |b| b.is_ascii_uppercase() | !b.is_ascii()),
    };
    if !other {
        return Cow::Borrowed(text);
    }
    match (str::from_utf8(text), case) {
        (Ok(text), Case::Upper) => Cow::Owned(text.to_uppercase().into_bytes()),
        (Ok(text), Case::Lower) => Cow::Owned(text.to_lowercase().into_bytes()),
        (Err(_), _) => Cow::Borrowed(text),
    }
}

/// Every byte is looked at, without a branch: so it is done 16 at a time.
#[inline]
fn any(text: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let (chunks, rest) = text.as_chunks::<16>();
    let count = |bytes: &[u8]| bytes.iter().fold(0, |found, b| found | u8::from(is(*b)));
    let chunks = chunks.iter().fold(0, |found, chunk| found | count(chunk));
    chunks | count(rest) != 0
}

/// A literal as a value of `kind`; TOML's own dates are read by the default pattern too.
fn typed(literal: &Literal, kind: &Type) -> Option<Value<'static>> {
    let text = literal.0.as_bytes();
    let plain = || Type::of_format(&kind.format())?.read_static(text);
    kind.read_static(text).or_else(plain)
}

/// Tells problems of one column's rules.
struct Teller<'a> {
    config: &'a mut Config,
    name: &'a str,
}

impl Teller<'_> {
    /// Casts and rules of texts, on a column that is none.
    fn not_text(&mut self, rules: &ColumnRules, from: &Type, kind: &Type) {
        if *from == Type::Text {
            return;
        }
        if kind.format() != from.format() {
            let at = rules.kind.as_ref().map_or(rules.at, |(_, at)| *at);
            self.problem(
                at,
                "cannot_cast",
                format!("the column is {from}; only texts are cast"),
            );
        }
        let texts = [
            ("trim", rules.trim),
            ("case", rules.case.map(|(_, at)| at)),
            ("format", rules.format.map(|(_, at)| at)),
            ("pattern", rules.pattern.as_ref().map(|(_, at)| *at)),
            ("min-length", rules.min_length.map(|(_, at)| at)),
            ("max-length", rules.max_length.map(|(_, at)| at)),
        ];
        for (rule, at) in texts {
            if let Some(at) = at {
                self.problem(
                    at,
                    "needs_text",
                    format!("`{rule}` is for texts; it is {from}"),
                );
            }
        }
    }

    fn problem(&mut self, at: Place, code: &str, message: String) {
        let name = self.name;
        self.config
            .problem_in_file("rules", at, code, format!("{name}: {message}"));
    }

    fn bound(
        &mut self,
        rule: &str,
        (literal, at): &(Literal, Place),
        kind: &Type,
    ) -> Option<Bound> {
        if matches!(kind, Type::Text | Type::Bool) {
            let message =
                format!("`{rule}` needs a type that has an order, such as type = \"int\"");
            self.problem(*at, "needs_order", message);
            return None;
        }
        let value = typed(literal, kind);
        if value.is_none() {
            self.problem(
                *at,
                "bad_value",
                format!("{rule} `{}` is no {kind}", literal.0),
            );
        }
        value.map(|value| Bound {
            value,
            text: literal.0.clone(),
        })
    }

    fn pattern(&mut self, (pattern, at): &(String, Place)) -> Option<Pattern> {
        match Pattern::compile(pattern) {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.problem(
                    *at,
                    "bad_pattern",
                    format!("pattern `{pattern}`: {message}"),
                );
                None
            }
        }
    }

    fn one_of(&mut self, list: &[(Literal, Place)], kind: &Type) -> OneOf {
        let texts = list.iter().map(|(literal, _)| literal.0.clone()).collect();
        let mut values = Vec::new();
        if *kind != Type::Text {
            for (literal, at) in list {
                match typed(literal, kind) {
                    Some(value) => values.push(value),
                    None => self.problem(*at, "bad_value", format!("`{}` is no {kind}", literal.0)),
                }
            }
        }
        OneOf { texts, values }
    }
}
