//! Recognises what kind of file was given as a config; if it is not a config, one sentence says what it is and what to
//! do with it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::problem::{self, Place, Problem};
use super::raw::{CONNECTOR_CLASS, Raw};
use super::worker::{keys as worker, theirs};

/// Far above any config: one with a thousand topics has 100 KiB.
pub const CONFIG_MAX_BYTES: u64 = 4 << 20;

/// Why the file cannot be read as text, and what to do.
pub type NoText = (String, Option<String>);

/// The file's text. `Err`: it is no config of any kind.
pub fn text(path: &str) -> Result<String, NoText> {
    let file = Path::new(path);
    let about = match std::fs::metadata(file) {
        Ok(about) => about,
        Err(_) if is_url(path) => {
            let message = format!("{path} is a URL, not a config file");
            return Err(hinted(
                message,
                "give the config that has it as its sink.url",
            ));
        }
        Err(error) => return Err(plain(path, &why(&error))),
    };
    if about.is_dir() {
        return Err(directory(path, file));
    }
    let mut bytes = Vec::new();
    // A pipe of the shell is allowed like a file, but a device has no end.
    let most = CONFIG_MAX_BYTES + 1;
    let read = File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(|error| plain(path, &why(&error)))?;
    if bytes.len() as u64 > CONFIG_MAX_BYTES {
        let mib = CONFIG_MAX_BYTES >> 20;
        return Err(plain(path, &format!("a config has at most {mib} MiB")));
    }
    if let Some(no_text) = binary(path, &bytes) {
        return Err(no_text);
    }
    String::from_utf8(bytes).map_err(|_| plain(path, "it is not UTF-8 text"))
}

fn why(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    }
}

fn plain(path: &str, why: &str) -> NoText {
    (format!("{path}: {why}"), None)
}

fn hinted(message: String, hint: &str) -> NoText {
    (message, Some(hint.to_owned()))
}

fn is_url(path: &str) -> bool {
    let scheme = path.split_once(':').map_or("", |(scheme, _)| scheme);
    scheme.len() > 1
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn directory(path: &str, file: &Path) -> NoText {
    if file.join("_system").is_dir() {
        let message = format!("{path} is a zone, not a config file");
        return hinted(message, "give the config that has it as its sink.url");
    }
    let message = format!("{path} is a directory, not a config file");
    hinted(
        message,
        &format!(
            "name the files in it: {}/*.toml",
            path.trim_end_matches('/')
        ),
    )
}

fn binary(path: &str, bytes: &[u8]) -> Option<NoText> {
    if bytes.starts_with(b"\0asm") {
        let message = format!("{path} is a plugin (WebAssembly), not a config file");
        return Some(hinted(
            message,
            "a config names it with transforms.<name>.type; `weir plugin inspect` shows its keys",
        ));
    }
    if bytes.starts_with(b"PAR1") {
        let message = format!("{path} is a Parquet file, not a config file");
        return Some(hinted(
            message,
            "give the config of the pipeline that wrote it",
        ));
    }
    let is_binary = bytes.contains(&0);
    is_binary.then(|| plain(path, "it is a binary file, not a config"))
}

/// Recognises YAML by the file's name, or by its first line with content.
pub(super) fn is_yaml(path: &str, text: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|e| e.to_str());
    let named =
        extension.is_some_and(|e| e.eq_ignore_ascii_case("yaml") || e.eq_ignore_ascii_case("yml"));
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    named || first.is_some_and(|line| line == "---" || line.starts_with("apiVersion:"))
}

/// What kind of config the keys of a file belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Pipeline,
    /// The daemon's own config.
    Worker,
    /// Rules of a `validate` transform.
    Rules,
    /// Neither keys nor anything else.
    Empty,
}

impl What {
    pub fn of(raw: &Raw) -> What {
        let keys: Vec<&str> = raw.iter().map(|(key, _)| key).collect();
        if keys.is_empty() && raw.profiles().next().is_none() {
            return What::Empty;
        }
        let pipeline = |key: &&str| {
            [CONNECTOR_CLASS, "name", "transforms", "topics"].contains(key)
                || ["source.", "sink.", "transforms."]
                    .iter()
                    .any(|p| key.starts_with(p))
        };
        if keys.iter().any(pipeline) {
            return What::Pipeline;
        }
        let of_rules = |key: &&str| *key == "unknown" || key.starts_with("columns.");
        if keys.iter().all(of_rules) && keys.iter().any(|key| key.starts_with("columns.")) {
            return What::Rules;
        }
        let of_worker = |key: &&str| {
            !super::keys::is_pipelines(key)
                && (worker::find(key).is_some()
                    || [worker::BASIC, worker::BEARER, worker::STORE_MAP]
                        .iter()
                        .any(|p| key.starts_with(p))
                    || theirs::fate(key).is_some())
        };
        match keys.iter().any(of_worker) {
            true => What::Worker,
            false => What::Pipeline,
        }
    }

    /// The problem, if a pipeline's config was expected. `None`: it is one, as far as its keys show.
    pub fn no_pipeline(self, raw: &Raw) -> Option<Problem> {
        let file = raw.file.as_ref();
        let (message, hint) = match self {
            What::Pipeline => return None,
            What::Empty => (
                format!("{file} is empty"),
                "conf/minimal.toml is the shortest config; docs/config.md has every key".to_owned(),
            ),
            What::Worker => (
                format!("{file} is the daemon's config, not a pipeline's"),
                format!("start it with `weir daemon {file}`"),
            ),
            What::Rules => (
                format!("{file} has rules of `validate`, it is not a pipeline's config"),
                format!(
                    "a pipeline names it: transforms.<name>.rules = \"{file}\"; check that pipeline's config"
                ),
            ),
        };
        Some(not_it(raw, message, hint))
    }

    /// The problem, if the daemon's config was expected, which may be empty.
    pub fn no_worker(self, raw: &Raw) -> Option<Problem> {
        let file = raw.file.as_ref();
        let (what, hint) = match self {
            What::Worker | What::Empty => return None,
            What::Pipeline if !is_pipeline(raw) => return None,
            What::Pipeline => (
                "a pipeline's config",
                format!("run it with `weir run {file}`, or name it in the daemon's `pipelines`"),
            ),
            What::Rules => (
                "a file of rules for `validate`",
                format!("a pipeline names it: transforms.<name>.rules = \"{file}\""),
            ),
        };
        Some(not_it(
            raw,
            format!("{file} is {what}, not the daemon's"),
            hint,
        ))
    }
}

/// Whether it surely is a pipeline: a single key may be a mistake.
fn is_pipeline(raw: &Raw) -> bool {
    let has = |key: &str| raw.get(key).is_some();
    has("name") && (has(CONNECTOR_CLASS) || has("source.type") || has("sink.type"))
}

fn not_it(raw: &Raw, message: String, hint: String) -> Problem {
    let place = Place::File {
        file: raw.file.clone(),
        line: 1,
        column: 1,
    };
    Problem::new(place, "", problem::UNREADABLE, message).hint(hint)
}
