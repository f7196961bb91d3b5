//! Which paths a store takes. A file gets its final name after its commit, and a name that the store does not take would be found out
//! only then; so each path is checked before its file is begun.

/// Most bytes of one name in a path: file systems and HDFS take as many, and servers of objects that keep them in a file system.
pub const NAME_MAX: usize = 255;
/// Most bytes of an object's key: that of S3 and Google Cloud Storage, and Azure counts characters.
pub(super) const KEY_MAX: usize = 1024;
/// Most bytes of a path of Linux without the zero at its end.
pub(super) const PATH_MAX: usize = 4095;
/// Most characters of a path that a name node takes.
pub(super) const HDFS_PATH_MAX: usize = 8000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathLimits {
    /// Bytes of a path below the root.
    pub bytes: usize,
    /// A character that no name may have.
    pub without: Option<char>,
}

impl PathLimits {
    /// `bytes` with the root, which is so long.
    pub(super) fn below(root: &str, bytes: usize) -> PathLimits {
        let root = root.trim_end_matches('/').len();
        PathLimits {
            bytes: bytes.saturating_sub(root + 1),
            without: None,
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
        path.split('/').find_map(|name| match name {
            "" | "." | ".." => Some(format!("a name in its path would be `{name}`")),
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
        let limits = PathLimits {
            without: Some(':'),
            ..PathLimits::below("/srv/lake/", PATH_MAX)
        };
        assert_eq!(limits.bytes, PATH_MAX - "/srv/lake/".len());
        let (name, path) = ("x".repeat(NAME_MAX), "d/".repeat(limits.bytes / 2));
        for good in [
            "t/a=1/f.json",
            "t/é%3A/f",
            &name,
            path.trim_end_matches('/'),
        ] {
            assert_eq!(limits.unfit(good), None, "{good}");
        }
        let (name, path) = (format!("{name}x"), format!("{path}dd"));
        for (bad, part) in [
            (name.as_str(), "256 bytes"),
            (&path, "below the root"),
            ("t//f", "``"),
            ("t/../f", "`..`"),
            ("t/./f", "`.`"),
            ("t/a:b/f", "':'"),
            ("t/a\nb/f", "'\\n'"),
        ] {
            let why = limits.unfit(bad).unwrap_or_default();
            assert!(why.contains(part), "{bad}: {why}");
        }
    }
}
