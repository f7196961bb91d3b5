//! Names of files that are being written: `.<name>.<ulid>.writing` beside the name that they are for.
//!
//! Engines skip names that begin with a dot, and listings of this store hide them. They lie in the same directory as
//! their target, so quota, encryption zone and rights are the same, and no rename goes from one zone or quota to
//! another.

const END: &str = ".writing";
const ULID: usize = 26;

/// A name that is never used twice.
pub(super) fn writing(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let id = ulid::Ulid::generate();
    let slash = if dir.is_empty() { "" } else { "/" };
    format!("{dir}{slash}.{name}.{id}{END}")
}

/// The last part of the target's path, taken from this name.
pub(super) fn target_of(name: &str) -> Option<&str> {
    let (target, id) = name
        .strip_prefix('.')?
        .strip_suffix(END)?
        .rsplit_once('.')?;
    let is_id = id.len() == ULID && id.bytes().all(|b| b.is_ascii_alphanumeric());
    (is_id && !target.is_empty()).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unfinished_files_are_known_and_no_others() {
        for path in ["log/00000000000000000001.json", "x", "a/b/.hidden"] {
            let writing = writing(path);
            let (dir, name) = writing.rsplit_once('/').unwrap_or(("", &writing));
            let (want_dir, want) = path.rsplit_once('/').unwrap_or(("", path));
            assert_eq!((dir, target_of(name)), (want_dir, Some(want)));
        }
        for other in [
            "",
            "x",
            ".x.writing",
            "x.01ARZ3NDEKTSV4RRFFQ69G5FAV.writing",
            "..writing",
        ] {
            assert_eq!(target_of(other), None, "{other}");
        }
    }
}
