//! What a config may use beyond itself: which files, and which values its references may have.
//!
//! A config that the operator starts (`weir run`, the worker's `pipelines`) may use what the process may use. One that
//! came by REST is limited to what the worker's file allows, also after restarts. A [`Reach`] goes wherever its config
//! goes (in [`super::Raw`], in every [`super::Text`]), and each use checks it again: the target of a path may change
//! after the config was accepted.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind};
use crate::fs::{self, Limit};

pub const ROOTS: &str = "rest.files.roots";
pub const ENV: &str = "secrets.allow.env";
pub const FILES: &str = "secrets.allow.files";
pub const IDENTITY: &str = "secrets.allow.identity";

/// A chain of certificates has some KiB, those of all public authorities together some hundred.
const CERTIFICATES: Limit = Limit {
    bytes: 16 << 20,
    of: "a file of certificates or keys",
};
/// Directory in which a zone keeps its log: nothing else may write there.
pub const SYSTEM: &str = "_system";

/// By default the reach of the operator's configs.
#[derive(Clone, Default)]
pub struct Reach {
    confined: bool,
    bounds: Arc<Bounds>,
}

/// What the worker's file allows, with resolved paths.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Files and zones of configs by REST lie below these.
    pub roots: Vec<PathBuf>,
    /// The daemon's own directories: no config of any origin may write there, and none by REST may read there.
    pub own: Vec<PathBuf>,
    /// Names of variables that references by REST may use; `*` at the end matches any rest.
    pub env: Vec<String>,
    /// Files, and directories of files, that they may use.
    pub files: Vec<PathBuf>,
    /// URLs of stores that they may use with the credentials of this machine, and everything below them.
    pub identity: Vec<String>,
    /// The worker's plugin places.
    pub plugin_path: PathBuf,
    pub plugin_store: PathBuf,
    pub plugin_cache: PathBuf,
    /// Variables with the daemon's own secrets: never allowed, whatever `env` says.
    pub own_env: BTreeSet<String>,
}

/// Why something is not allowed. The text is the same whether or not the thing exists.
#[derive(Debug)]
pub struct Denied {
    pub message: String,
    pub hint: String,
}

impl Denied {
    pub fn into_error(self, op: &'static str) -> Error {
        Error::new(Kind::ConfigInvalid, op, self.message).hint(self.hint)
    }
}

impl From<Denied> for io::Error {
    fn from(denied: Denied) -> io::Error {
        let text = format!("{} ({})", denied.message, denied.hint);
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.confined { "confined" } else { "free" })
    }
}

impl Reach {
    /// For the operator's own configs in a daemon.
    pub fn free(bounds: &Arc<Bounds>) -> Reach {
        Reach {
            confined: false,
            bounds: bounds.clone(),
        }
    }

    /// For a config that came by REST.
    pub fn confined(bounds: &Arc<Bounds>) -> Reach {
        Reach {
            confined: true,
            bounds: bounds.clone(),
        }
    }

    pub fn is_confined(&self) -> bool {
        self.confined
    }

    // --------------------------------------------------------------- files

    /// Where a path leads, if the config may read there.
    pub fn path(&self, path: &Path) -> Result<PathBuf, Denied> {
        if !self.confined {
            return Ok(path.to_owned());
        }
        let whole = fs::resolve(path).map_err(|_| self.outside(path))?;
        self.inside(&whole)
            .then_some(whole)
            .ok_or_else(|| self.outside(path))
    }

    /// Where a directory leads, if the config may read all that lies below it.
    pub fn tree(&self, path: &Path) -> Result<PathBuf, Denied> {
        let whole = self.path(path)?;
        if self.confined {
            self.holds_none(path, &whole, &self.bounds.own)?;
            // A reference shows no one a secret; what is read as data goes to a sink.
            self.holds_none(path, &whole, &self.bounds.files)?;
        }
        Ok(whole)
    }

    /// Where a directory leads, if the config may take away what lies below it.
    pub fn target_tree(&self, path: &Path) -> Result<PathBuf, Denied> {
        let whole = self.target(path)?;
        self.holds_none(path, &whole, &self.bounds.own)?;
        Ok(whole)
    }

    /// None of these lies at or below a directory, nor the directory below one of them.
    fn holds_none(&self, path: &Path, whole: &Path, these: &[PathBuf]) -> Result<(), Denied> {
        let meets = |one: &PathBuf| one.starts_with(whole) || whole.starts_with(one);
        match these.iter().any(meets) {
            false => Ok(()),
            true => Err(Denied {
                message: format!(
                    "{} holds files of the daemon, or of secrets",
                    path.display()
                ),
                hint: "name a directory that holds nothing else than what is to be read".to_owned(),
            }),
        }
    }

    /// Where a path leads, if the config may write there.
    pub fn target(&self, path: &Path) -> Result<PathBuf, Denied> {
        let own = |what: &str| Denied {
            message: format!("{} is {what}", path.display()),
            hint: "give it a place of its own".to_owned(),
        };
        let Ok(whole) = fs::resolve(path) else {
            return match self.confined {
                true => Err(self.outside(path)),
                false => Err(own("no path that leads to one place")),
            };
        };
        // Checked first: a config by REST must not learn anything of what lies outside.
        if self.confined && !self.below_roots(&whole) {
            return Err(self.outside(path));
        }
        if self.is_own(&whole) {
            return Err(own("among the daemon's own files"));
        }
        if whole.components().any(|part| part.as_os_str() == SYSTEM) {
            return Err(own("inside the log of a zone"));
        }
        Ok(whole)
    }

    /// The whole file, if the config may read it, and it is a regular file within the limit.
    pub fn read(&self, path: &Path, limit: Limit) -> io::Result<Vec<u8>> {
        fs::read_open(self.open(path)?, limit)
    }

    /// As [`Reach::read`], but returns the open file.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let file = fs::open(&self.path(path)?)?;
        self.lies(path, &file, |place| self.inside(place))?;
        Ok(file)
    }

    /// Opens a file for writing, and creates it if it does not exist, if the config may write it.
    pub fn create(&self, path: &Path) -> io::Result<File> {
        let file = fs::create(&self.target(path)?)?;
        let may = |place: &Path| !self.is_own(place) && (!self.confined || self.below_roots(place));
        self.lies(path, &file, may)?;
        Ok(file)
    }

    /// The real path for a library that opens a file by name: a directory, or a regular file of a bounded size.
    pub fn library_file(&self, path: &Path) -> io::Result<PathBuf> {
        let whole = self.path(path)?;
        if self.confined && !whole.is_dir() {
            let size = fs::open(&whole)?.metadata()?.len();
            if size > CERTIFICATES.bytes {
                let message = format!("it has {size} bytes, and {CERTIFICATES}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
        }
        Ok(whole)
    }

    /// The worker's own place of plugins, or one that the config may read.
    pub fn plugin_path(&self, path: &Path) -> Result<(), Denied> {
        match self.is(path, &self.bounds.plugin_path) {
            true => Ok(()),
            false => self.path(path).map(drop),
        }
    }

    /// The worker's own store of plugins, or one that the config may write.
    pub fn plugin_store(&self, path: &Path) -> Result<(), Denied> {
        match !self.confined || self.is(path, &self.bounds.plugin_store) {
            true => Ok(()),
            false => self.target(path).map(drop),
        }
    }

    /// Compiled plugins are native code: only the worker's own are loaded for a config by REST.
    pub fn plugin_cache(&self, path: &Path) -> Result<(), Denied> {
        match !self.confined || self.is(path, &self.bounds.plugin_cache) {
            true => Ok(()),
            false => Err(Denied {
                message: format!(
                    "{} is not the worker's own plugin.cache, and compiled plugins are native code",
                    path.display()
                ),
                hint: "take the key out: the worker's plugin.cache is used".to_owned(),
            }),
        }
    }

    fn is(&self, path: &Path, own: &Path) -> bool {
        fs::resolve(path).is_ok_and(|whole| whole == own)
    }

    /// Checks that the opened file is where its path led when it was resolved: a directory may have become a link since
    /// then.
    fn lies(&self, path: &Path, file: &File, may: impl Fn(&Path) -> bool) -> io::Result<()> {
        if !self.confined && self.bounds.own.is_empty() {
            return Ok(());
        }
        match fs::place_of(file) {
            Ok(place) if may(&place) => Ok(()),
            _ => Err(self.outside(path).into()),
        }
    }

    fn below_roots(&self, whole: &Path) -> bool {
        self.bounds.roots.iter().any(|root| whole.starts_with(root))
    }

    fn is_own(&self, whole: &Path) -> bool {
        self.bounds.own.iter().any(|own| whole.starts_with(own))
    }

    fn inside(&self, whole: &Path) -> bool {
        !self.confined || self.below_roots(whole) && !self.is_own(whole)
    }

    fn outside(&self, path: &Path) -> Denied {
        Denied {
            message: format!(
                "{} is not among the files that a config by REST may use",
                path.display()
            ),
            hint: format!(
                "{ROOTS} in the worker's file names the directories; the daemon's own are never among them"
            ),
        }
    }

    // ---------------------------------------------------------- references

    /// Whether `${env:name}` may be resolved.
    pub fn env(&self, name: &str) -> Result<(), Denied> {
        let takes = |pattern: &String| match pattern.strip_suffix('*') {
            Some(begin) => name.starts_with(begin),
            None => pattern == name,
        };
        let bounds = &self.bounds;
        let may = bounds.env.iter().any(takes) && !bounds.own_env.contains(name);
        (!self.confined || may).then_some(()).ok_or_else(|| Denied {
            message: format!("${{env:{name}}} is not among the variables that a config by REST may use"),
            hint: format!("{ENV} in the worker's file names them; those that the worker's own file uses are never among them"),
        })
    }

    /// Whether a store may be used with the credentials of this machine: its environment, its files, its identity in a
    /// cloud.
    pub fn identity(&self, url: &str) -> Result<(), Denied> {
        let below = |allowed: &String| {
            let rest = url.strip_prefix(allowed.as_str());
            rest.is_some_and(|rest| {
                rest.is_empty() || allowed.ends_with('/') || rest.starts_with('/')
            })
        };
        let may = !self.confined || self.bounds.identity.iter().any(below);
        may.then_some(()).ok_or_else(|| Denied {
            message: format!(
                "{url} is not among the stores that a config by REST may reach with the credentials of this machine"
            ),
            hint: format!(
                "give it credentials of its own by reference, or name the store in {IDENTITY} of the worker's file"
            ),
        })
    }

    /// The file of `${file:path:…}`, if it may be resolved.
    pub fn secrets(&self, path: &Path) -> Result<PathBuf, Denied> {
        if !self.confined {
            return Ok(path.to_owned());
        }
        let denied = || Denied {
            message: format!(
                "{} is not among the files of secrets that a config by REST may use",
                path.display()
            ),
            hint: format!(
                "{FILES} in the worker's file names them; those that the worker's own file uses are never among them"
            ),
        };
        let whole = fs::resolve(path).map_err(|_| denied())?;
        let may = |allowed: &PathBuf| whole.starts_with(allowed);
        let may = self.bounds.files.iter().any(may) && !self.is_own(&whole);
        may.then_some(whole).ok_or_else(denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const LIMIT: Limit = Limit {
        bytes: 100,
        of: "a file of this test",
    };

    #[test]
    fn a_confined_config_stays_below_its_roots_whatever_a_path_says() {
        let dir = tempfile::tempdir().expect("dir");
        let base = dir.path().canonicalize().expect("base");
        let root = base.join("root");
        for below in ["root/data/daemon", "root/zone/_system", "root/ok", "out"] {
            std::fs::create_dir_all(base.join(below)).expect("dir");
        }
        for file in ["root/ok/f", "root/data/daemon/journal", "out/f"] {
            std::fs::write(base.join(file), "x").expect("write");
        }
        symlink(base.join("out"), root.join("away")).expect("link");
        symlink(base.join("out/f"), root.join("f")).expect("link");
        symlink(root.join("ok"), root.join("near")).expect("link");
        let bounds = Arc::new(Bounds {
            roots: vec![root.clone()],
            own: vec![root.join("data/daemon")],
            ..Bounds::default()
        });
        let (rest, free) = (Reach::confined(&bounds), Reach::free(&bounds));
        let mut away = Vec::new();
        for (path, reads, writes) in [
            ("root/ok/f", true, true),
            ("root/near/f", true, true),
            ("root/ok/new/deep", false, true),
            ("root/ok/../ok/f", true, true),
            ("root/../out/f", false, false),
            ("root/away/f", false, false),
            ("root/away/new", false, false),
            ("root/f", false, false),
            ("out/f", false, false),
            ("out/none", false, false),
            ("root/data/daemon/journal", false, false),
            ("root/zone/_system/log", false, false),
        ] {
            let path = base.join(path);
            let read = rest.read(&path, LIMIT);
            assert_eq!(read.is_ok(), reads, "{} {read:?}", path.display());
            assert_eq!(rest.target(&path).is_ok(), writes, "{}", path.display());
            if path.starts_with(base.join("out")) {
                let told = read.expect_err("outside").to_string();
                away.push(told.replace(&path.display().to_string(), "PATH"));
            }
        }
        // The text is the same for what exists and for what does not.
        assert_eq!(away[0], away[1]);
        assert!(away[0].contains(ROOTS), "{}", away[0]);
        assert!(free.read(&base.join("out/f"), LIMIT).is_ok());
        assert!(free.target(&root.join("data/daemon/journal")).is_err());
        assert!(free.create(&root.join("data/daemon/journal")).is_err());
    }

    #[test]
    fn a_directory_is_read_whole_only_if_nothing_of_the_daemon_lies_in_it() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().canonicalize().expect("base");
        for below in ["data/daemon", "in/deep", "zone/_system", "secrets/of"] {
            std::fs::create_dir_all(root.join(below)).expect("dir");
        }
        symlink(root.join("data"), root.join("in/link")).expect("link");
        let bounds = Arc::new(Bounds {
            roots: vec![root.clone()],
            own: vec![root.join("data/daemon/journal"), root.join("worker.toml")],
            files: vec![root.join("secrets/of")],
            ..Bounds::default()
        });
        let (rest, free) = (Reach::confined(&bounds), Reach::free(&bounds));
        for (path, reads, takes, free_takes) in [
            ("in", true, true, true),
            ("in/new", true, true, true),
            ("in/link", false, false, false),
            ("", false, false, false),
            ("data", false, false, false),
            ("data/daemon/journal", false, false, false),
            ("secrets", false, true, true),
            ("secrets/of/app", false, true, true),
            ("zone/_system", true, false, false),
            ("../out", false, false, true),
        ] {
            let path = root.join(path);
            let shown = path.display();
            assert_eq!(rest.tree(&path).is_ok(), reads, "{shown}");
            assert_eq!(rest.target_tree(&path).is_ok(), takes, "{shown}");
            assert!(free.tree(&path).is_ok(), "{shown}");
            assert_eq!(free.target_tree(&path).is_ok(), free_takes, "{shown}");
        }
    }

    #[test]
    fn references_by_rest_use_what_is_allowed_and_never_the_daemons_own() {
        let dir = tempfile::tempdir().expect("dir");
        let base = dir.path().canonicalize().expect("base");
        let bounds = Arc::new(Bounds {
            env: vec!["KAFKA_*".to_owned(), "TOKEN".to_owned()],
            own_env: BTreeSet::from(["KAFKA_ADMIN".to_owned()]),
            files: vec![base.join("allowed")],
            ..Bounds::default()
        });
        let rest = Reach::confined(&bounds);
        for (name, may) in [
            ("KAFKA_PW", true),
            ("TOKEN", true),
            ("TOKENS", false),
            ("KAFKA_ADMIN", false),
            ("HOME", false),
        ] {
            assert_eq!(rest.env(name).is_ok(), may, "{name}");
            assert!(Reach::free(&bounds).env(name).is_ok());
        }
        assert!(rest.secrets(&base.join("allowed/x")).is_ok());
        assert!(rest.secrets(&base.join("allowed/../other")).is_err());
    }
}
