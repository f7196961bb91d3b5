//! Values that may hold references: `${env:NAME}`, `${env:NAME:-default}`, `${file:path:key}`, `${directory:path:name}`.
//!
//! A [`Text`] keeps what was typed. [`Text::resolve`] reads the environment or the file at the moment of use, if the
//! [`Reach`] of its config allows it. What is printed, logged, stored or compared is always the reference. This is the
//! only file that reads the environment.

use std::fmt;
use std::path::{Path, PathBuf};

use super::reach::Reach;
use crate::error::{Error, Kind, Result};
use crate::fs::{self, Limit};

/// A string as typed, references unresolved. `Display`, `Debug` and JSON show the references, never their values.
#[derive(Clone)]
pub struct Text {
    typed: String,
    /// The text behind `typed`, if it came from another file.
    held: Option<Box<Text>>,
    reach: Reach,
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.typed == other.typed
    }
}

impl Eq for Text {}

/// What a config's references refer to, without a check whether it exists.
#[derive(Debug, PartialEq, Eq)]
pub enum Referred {
    Env(String),
    File(PathBuf),
}

/// One piece of a typed string.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Plain(&'a str),
    Env {
        name: &'a str,
        default: Option<&'a str>,
    },
    File {
        path: &'a str,
        key: &'a str,
    },
    /// The whole file is the value, as with secrets that are mounted into containers.
    Directory {
        path: &'a str,
        name: &'a str,
    },
}

impl Text {
    /// A text of the operator.
    pub fn new(typed: impl Into<String>) -> Text {
        Text::within(typed, &Reach::default())
    }

    /// A text of a config with this reach.
    pub fn within(typed: impl Into<String>, reach: &Reach) -> Text {
        Text {
            typed: typed.into(),
            held: None,
            reach: reach.clone(),
        }
    }

    /// A text that resolves to `value`; people see `shown`, which is a reference like any other.
    pub fn held(shown: impl Into<String>, value: Text) -> Text {
        Text {
            typed: shown.into(),
            reach: value.reach.clone(),
            held: Some(Box::new(value)),
        }
    }

    /// The text as typed, with references unresolved.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    pub fn has_reference(&self) -> bool {
        self.held.is_some()
            || match pieces(&self.typed) {
                Ok(all) => all.iter().any(|piece| !matches!(piece, Piece::Plain(_))),
                Err(_) => true,
            }
    }

    /// What its references refer to; empty if they are not well formed.
    pub fn refers_to(&self) -> Vec<Referred> {
        let of = |piece| match piece {
            Piece::Plain(_) => None,
            Piece::Env { name, .. } => Some(Referred::Env(name.to_owned())),
            Piece::File { path, .. } => Some(Referred::File(path.into())),
            Piece::Directory { path, name } => Some(Referred::File(Path::new(path).join(name))),
        };
        let all = pieces(&self.typed).unwrap_or_default();
        all.into_iter().filter_map(of).collect()
    }

    /// For a key whose value is secret: whether the secret itself is written there, without a reference or as a
    /// reference's default.
    pub fn is_literal_secret(&self) -> bool {
        if self.held.is_some() {
            return false;
        }
        let default = |piece: &Piece<'_>| {
            matches!(
                piece,
                Piece::Env {
                    default: Some(_),
                    ..
                }
            )
        };
        match pieces(&self.typed) {
            Ok(all) => !self.has_reference() || all.iter().any(default),
            Err(_) => false,
        }
    }

    /// What is wrong with how the references are written, without resolving any.
    pub fn check_form(&self) -> Result<(), String> {
        match &self.held {
            Some(held) => held.check_form(),
            None => pieces(&self.typed).map(drop),
        }
    }

    /// The value with its references resolved now. Do not keep it longer than needed.
    pub fn resolve(&self) -> Result<String> {
        if let Some(held) = &self.held {
            return held.resolve();
        }
        let mut out = String::new();
        for piece in pieces(&self.typed).map_err(unresolved)? {
            match piece {
                Piece::Plain(text) => out.push_str(text),
                piece => out.push_str(&self.value(&piece)?),
            }
        }
        Ok(out)
    }

    /// What each of its references stands for now, for whoever must not show it.
    pub fn referred(&self) -> Result<Vec<String>> {
        if let Some(held) = &self.held {
            return Ok(vec![held.resolve()?]);
        }
        let all = pieces(&self.typed).map_err(unresolved)?;
        let references = all.iter().filter(|p| !matches!(p, Piece::Plain(_)));
        references.map(|piece| self.value(piece)).collect()
    }

    fn value(&self, piece: &Piece<'_>) -> Result<String> {
        match piece {
            Piece::Plain(text) => Ok((*text).to_owned()),
            Piece::Env { name, default } => {
                let denied = |d: super::reach::Denied| d.into_error("config.resolve");
                self.reach.env(name).map_err(denied)?;
                from_env(name, *default)
            }
            Piece::File { path, key } => from_file(&self.reach, path, key),
            Piece::Directory { path, name } => whole_file(&self.reach, &Path::new(path).join(name)),
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.typed)
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&self.typed)
    }
}

impl From<&str> for Text {
    fn from(typed: &str) -> Text {
        Text::new(typed)
    }
}

/// `${topic}` and other braces without a provider are plain text: they are filled in elsewhere.
fn pieces(typed: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut out = Vec::new();
    let mut rest = typed;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else {
            return Err(format!("`{}` is never closed with a brace", &rest[start..]));
        };
        let (whole, inside) = (
            &rest[start..=start + length],
            &rest[start + 2..start + length],
        );
        let piece = match inside.split_once(':') {
            None => Piece::Plain(whole),
            Some(("env", name)) => env_piece(whole, name)?,
            Some(("file", place)) => file_piece(whole, place)?,
            Some(("directory", place)) => directory_piece(whole, place)?,
            Some((provider, _)) => {
                return Err(format!(
                    "`{whole}` names the provider `{provider}`; the providers are env, file and directory"
                ));
            }
        };
        if start > 0 {
            out.push(Piece::Plain(&rest[..start]));
        }
        out.push(piece);
        rest = &rest[start + length + 1..];
    }
    if !rest.is_empty() {
        out.push(Piece::Plain(rest));
    }
    Ok(out)
}

fn env_piece<'a>(whole: &str, inside: &'a str) -> Result<Piece<'a>, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(legal) {
        return Err(format!(
            "`{whole}` needs the name of an environment variable: ${{env:NAME}} or ${{env:NAME:-default}}"
        ));
    }
    Ok(Piece::Env { name, default })
}

fn file_piece<'a>(whole: &str, inside: &'a str) -> Result<Piece<'a>, String> {
    match inside.rsplit_once(':') {
        Some((path, key)) if !path.is_empty() && !key.is_empty() => Ok(Piece::File { path, key }),
        _ => Err(format!(
            "`{whole}` needs a path and a key: ${{file:/etc/weir/secrets.properties:password}}"
        )),
    }
}

fn directory_piece<'a>(whole: &str, inside: &'a str) -> Result<Piece<'a>, String> {
    let named = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
    match inside.rsplit_once(':') {
        Some((path, name)) if !path.is_empty() && named(name) => {
            Ok(Piece::Directory { path, name })
        }
        _ => Err(format!(
            "`{whole}` needs a directory and the name of a file in it: ${{directory:/run/secrets/kafka:password}}"
        )),
    }
}

fn from_env(name: &str, default: Option<&str>) -> Result<String> {
    match (std::env::var(name), default) {
        (Ok(value), _) => Ok(value),
        (Err(std::env::VarError::NotPresent), Some(default)) => Ok(default.to_owned()),
        (Err(_), _) => Err(Error::new(
            Kind::ConfigInvalid,
            "config.resolve",
            format!("the environment variable {name} is not set"),
        )
        .hint(format!("set {name}, or give a default: ${{env:{name}:-…}}"))),
    }
}

/// A variable that the tools of a cloud or a system read themselves; empty counts as not set. Never used for references
/// of a config.
pub fn machine(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Largest file of secrets: real ones have some KiB.
const SECRETS: Limit = Limit {
    bytes: 1 << 20,
    of: "a file of secrets",
};

/// As Connect's DirectoryConfigProvider: byte for byte, including a newline at the end.
fn whole_file(reach: &Reach, path: &Path) -> Result<String> {
    let place = reach.secrets(path);
    let place = place.map_err(|denied| denied.into_error("config.resolve"))?;
    fs::read_text(&place, SECRETS).map_err(|e| {
        unresolved(format!(
            "the secrets file {} cannot be read: {e}",
            path.display()
        ))
    })
}

fn from_file(reach: &Reach, path: &str, key: &str) -> Result<String> {
    let text = whole_file(reach, Path::new(path))?;
    super::properties::parse(&text)
        .into_iter()
        .rev()
        .find(|line| line.key == key)
        .map(|line| line.value)
        .ok_or_else(|| unresolved(format!("the secrets file {path} has no key {key}")))
}

/// Reads an operator's plain file of bounded size.
pub(super) fn small_file(path: &str) -> Result<String> {
    fs::read_text(Path::new(path), SECRETS)
        .map_err(|e| unresolved(format!("the secrets file {path} cannot be read: {e}")))
}

fn unresolved(message: String) -> Error {
    Error::new(Kind::ConfigInvalid, "config.resolve", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_shown_never_resolved() {
        let text = Text::new("user=${env:HOME} ${topic}");
        assert_eq!(text.to_string(), "user=${env:HOME} ${topic}");
        assert_eq!(format!("{text:?}"), "\"user=${env:HOME} ${topic}\"");
        assert!(text.has_reference());
        assert!(!Text::new("${topic}").has_reference());
        assert!(text.resolve().expect("HOME is set").ends_with(" ${topic}"));
    }

    #[test]
    fn defaults_and_files_resolve_at_use() {
        let text = Text::new("${env:WEIR_TEST_NOT_SET:-localhost:9092},b");
        assert_eq!(text.resolve().expect("default"), "localhost:9092,b");
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("secrets.properties");
        std::fs::write(&path, "# no\npassword = s3:cr=t\n").expect("write");
        let text = Text::new(format!("${{file:{}:password}}", path.display()));
        assert_eq!(text.resolve().expect("file"), "s3:cr=t");
        let name = "secrets.properties";
        let whole = Text::new(format!("${{directory:{}:{name}}}", dir.path().display()));
        assert_eq!(
            whole.resolve().expect("whole"),
            "# no\npassword = s3:cr=t\n"
        );
        assert_eq!(whole.refers_to(), vec![Referred::File(path.clone())]);
        let missing = Text::new(format!("${{file:{}:other}}", path.display()));
        assert!(missing.resolve().is_err());
    }

    #[test]
    fn bad_references_say_what_is_missing() {
        for (typed, says) in [
            ("${env:", "never closed"),
            ("${env:A-B}", "name of an environment variable"),
            ("${file:/x}", "path and a key"),
            ("${vault:x:y}", "providers are env, file and directory"),
            (
                "${directory:/run/secrets}",
                "directory and the name of a file",
            ),
            (
                "${directory:/run/secrets:../x}",
                "directory and the name of a file",
            ),
        ] {
            let message = Text::new(typed).check_form().expect_err(typed);
            assert!(message.contains(says), "{typed}: {message}");
        }
    }
}
