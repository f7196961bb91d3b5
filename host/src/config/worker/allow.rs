//! What configs that come by REST may use of this machine, as the worker's file says it.

use std::path::PathBuf;

use super::super::problem;
use super::super::reach::{ENV, FILES, ROOTS};
use super::Reader;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowConfig {
    /// Not set: the working directory.
    pub roots: Vec<PathBuf>,
    pub env: Vec<String>,
    pub files: Vec<PathBuf>,
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
        AllowConfig {
            roots: paths(self.items(ROOTS)),
            env,
            files: paths(self.items(FILES)),
        }
    }
}
