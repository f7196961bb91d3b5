//! What configs that come by REST may use of this machine, according to the worker's file.

use std::path::PathBuf;

use super::super::location;
use super::super::problem;
use super::super::reach::{ENV, FILES, IDENTITY, ROOTS};
use super::Reader;
use super::connect::ALLOWED_PATHS;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowConfig {
    /// Not set: the working directory.
    pub roots: Vec<PathBuf>,
    pub env: Vec<String>,
    pub files: Vec<PathBuf>,
    pub identity: Vec<String>,
}

impl Reader<'_> {
    pub(super) fn allow(&mut self) -> AllowConfig {
        let paths = |items: Vec<String>| items.into_iter().map(PathBuf::from).collect();
        let env = self.items(ENV);
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for name in &env {
            let begin = name.strip_suffix('*').unwrap_or(name);
            if !begin.chars().all(legal) {
                let message = format!("`{ENV}`: `{name}` is no name of a variable");
                let hint = "letters, digits and `_`; `KAFKA_*` stands for all that begin so";
                self.problem(ENV, problem::BAD_NAME, message, Some(hint.to_owned()));
            }
        }
        let raw = self.raw;
        let theirs =
            |key: &&str| key.starts_with("config.providers.") && key.ends_with(ALLOWED_PATHS);
        let mut files = self.items(FILES);
        for key in raw.iter().map(|(key, _)| key).filter(theirs) {
            let text = self.familiar(key).unwrap_or_default();
            let all = text
                .split(',')
                .map(str::trim)
                .filter(|path| !path.is_empty());
            files.extend(all.map(str::to_owned));
        }
        let mut identity = Vec::new();
        for typed in self.items(IDENTITY) {
            match store_prefix(&typed) {
                Some(url) => identity.push(url),
                None => {
                    let message = format!(
                        "`{IDENTITY}`: `{}` is no store's URL",
                        location::shown(&typed)
                    );
                    let hint = "`s3://bucket` or `s3://bucket/prefix`; `s3://` is every bucket";
                    self.problem(IDENTITY, problem::BAD_URL, message, Some(hint.to_owned()));
                }
            }
        }
        AllowConfig {
            identity,
            roots: paths(self.items(ROOTS)),
            env,
            files: paths(files),
        }
    }
}

/// A store's URL, or a scheme with `://` for all of its stores.
fn store_prefix(typed: &str) -> Option<String> {
    const ALL: &[&str] = &["s3://", "gs://", "az://", "abfss://", "hdfs://"];
    match ALL.contains(&typed) {
        true => Some(typed.to_owned()),
        false => location::canonical(typed).ok(),
    }
}
