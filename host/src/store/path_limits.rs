//! Which paths a store takes. A file gets its final name after its commit, and a name that the store does not take would be found out
//! only then; so each path is checked before its file is begun.

use crate::config::System;

/// Most bytes of one name in a path: file systems and HDFS take as many, and servers of objects that keep them in a file system.
pub const NAME_MAX: usize = 255;
/// Most bytes of an object's key: that of S3 and Google Cloud Storage, and Azure counts characters.
pub(super) const KEY_MAX: usize = 1024;
/// Most bytes of a path of Linux without the zero at its end.
pub(super) const PATH_MAX: usize = 4095;
/// Most characters of a path that a name node takes, and most names in it.
const HDFS_PATH_MAX: usize = 8000;
const HDFS_LEVELS_MAX: usize = 1000;
/// Most names in the path of a blob where Azure keeps real directories: 63 with those of account and container. A URL does not say whether
/// it does; elsewhere it takes 254.
const AZURE_LEVELS_MAX: usize = 61;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLimits {
    /// Bytes of a path below the root.
    pub bytes: usize,
    /// Names in it.
    pub levels: usize,
    /// A character that no name may have.
    pub without: Option<char>,
    /// A name that the store keeps for itself.
    pub reserved: Option<&'static str>,
}

impl PathLimits {
    /// `bytes` with the root, which is so long.
    pub(super) fn below(root: &str, bytes: usize) -> PathLimits {
        let root = root.trim_end_matches('/').len();
        PathLimits {
            bytes: bytes.saturating_sub(root + 1),
            levels: usize::MAX,
            without: None,
            reserved: None,
        }
    }

    /// A name node takes no colon in a name, and keeps one name for the snapshots of each directory.
    pub(super) fn of_hdfs(root: &str) -> PathLimits {
        PathLimits {
            without: Some(':'),
            reserved: Some(".snapshot"),
            ..PathLimits::below(root, HDFS_PATH_MAX).with_levels(root, HDFS_LEVELS_MAX)
        }
    }

    pub(super) fn of_bucket(system: System, prefix: &str) -> PathLimits {
        let limits = PathLimits::below(prefix, KEY_MAX);
        match system {
            System::Azure => limits.with_levels(prefix, AZURE_LEVELS_MAX),
            _ => limits,
        }
    }

    /// At most so many names with those of the root.
    fn with_levels(self, root: &str, most: usize) -> PathLimits {
        let of_root = root.split('/').filter(|name| !name.is_empty()).count();
        PathLimits {
            levels: most.saturating_sub(of_root),
            ..self
        }
    }

    /// Why no file of this path can be there.
    pub fn unfit(&self, path: &str) -> Option<String> {
        if path.len() > self.bytes {
            return Some(format!(
                "its path would have {} bytes, and below the root the store takes {}",
                path.len(),
                self.bytes
            ));
        }
        let levels = path.split('/').count();
        if levels > self.levels {
            return Some(format!(
                "its path would have {levels} names, and below the root the store takes {}",
                self.levels
            ));
        }
        path.split('/').find_map(|name| match name {
            "" | "." | ".." => Some(format!("a name in its path would be `{name}`")),
            name if self.reserved == Some(name) => {
                Some(format!("a name in its path would be `{name}`"))
            }
            name if name.len() > NAME_MAX => Some(format!(
                "a name in its path would have {} bytes, and at most {NAME_MAX} may be",
                name.len()
            )),
            name => {
                let bad = |c: char| c.is_ascii_control() || self.without == Some(c);
                let bad = name.chars().find(|c| bad(*c))?;
                Some(format!(
                    "a name in its path would have a {bad:?}, which the store does not take"
                ))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_store_takes_is_told_before() {
        let limits = PathLimits::of_hdfs("/srv/lake/");
        assert_eq!(limits.bytes, 8000 - "/srv/lake/".len());
        let name = "x".repeat(NAME_MAX);
        let path = format!("{name}/").repeat(limits.bytes / (NAME_MAX + 1));
        for good in [
            "t/a=1/f.json",
            "t/é%3A/.snapshots/f",
            &name,
            path.trim_end_matches('/'),
        ] {
            assert_eq!(limits.unfit(good), None, "{good}");
        }
        let (name, path) = (format!("{name}x"), format!("{path}{name}"));
        for (bad, part) in [
            (name.as_str(), "256 bytes"),
            (&path, "below the root"),
            ("t//f", "``"),
            ("t/../f", "`..`"),
            ("t/./f", "`.`"),
            ("t/a=1/.snapshot/f", "`.snapshot`"),
            ("t/a:b/f", "':'"),
            ("t/a\nb/f", "'\\n'"),
        ] {
            let why = limits.unfit(bad).unwrap_or_default();
            assert!(why.contains(part), "{bad}: {why}");
        }
        let deep = |levels: usize| vec!["d"; levels].join("/");
        let azure = PathLimits::of_bucket(System::Azure, "lake/raw");
        for (limits, most) in [(limits, 998), (azure, 59)] {
            assert_eq!(limits.unfit(&deep(most)), None);
            let why = limits.unfit(&deep(most + 1)).unwrap_or_default();
            let part = format!(
                "{} names, and below the root the store takes {most}",
                most + 1
            );
            assert!(why.contains(&part), "{why}");
        }
        let others = PathLimits::of_bucket(System::S3, "lake/raw");
        assert_eq!(others.unfit(&deep(500)), None);
        assert_eq!(others.unfit("t/.snapshot/a:b"), None);
    }
}
