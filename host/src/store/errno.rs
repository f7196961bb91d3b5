//! Which failures of a file system pass by themselves, and what to do about the others. A failure that is not listed
//! counts as lasting: a pipeline that waited for it would wait for ever.

use std::io;
use std::sync::OnceLock;

use crate::error::Kind;

/// Errors that may pass, and why.
const PASSES: [(i32, &str); 21] = [
    (libc::ENOSPC, "somebody frees space"),
    (libc::EDQUOT, "somebody frees space or raises the quota"),
    (
        libc::EIO,
        "a network mount or a disk that is lost for a moment",
    ),
    (libc::EROFS, "remounted for reading after a fault, and back"),
    (libc::ESTALE, "the server of a network mount began again"),
    (libc::ENOENT, "the mount is away"),
    (libc::ENODEV, "the mount is away"),
    (libc::ENXIO, "the mount is away"),
    (libc::ENOTCONN, "a mount whose server is away"),
    (libc::ETIMEDOUT, "a network mount"),
    (libc::ECONNREFUSED, "a network mount"),
    (libc::ECONNRESET, "a network mount"),
    (libc::ECONNABORTED, "a network mount"),
    (libc::EHOSTDOWN, "a network mount"),
    (libc::EHOSTUNREACH, "a network mount"),
    (libc::ENETUNREACH, "a network mount"),
    (libc::EBUSY, "another process holds it"),
    (libc::EAGAIN, "another process holds it"),
    (libc::EINTR, "a signal came in between"),
    (libc::ENOMEM, "the machine is short of memory"),
    (libc::ENFILE, "the machine is short of file handles"),
];

/// The error's kind, what it means, and what to do.
pub(crate) fn meaning(error: &io::Error) -> (Kind, &'static str, String) {
    let told = |kind, what, hint: &str| (kind, what, hint.to_owned());
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => told(
            Kind::StoreUnavailable,
            "the disk is full",
            "free space; work goes on by itself",
        ),
        Some(libc::ENOMEM) => told(
            Kind::StoreUnavailable,
            "the machine is short of memory",
            "work goes on by itself when there is some; lower memory.budget or tasks.max if it lasts",
        ),
        Some(libc::EACCES | libc::EPERM) => told(
            Kind::ConfigInvalid,
            "not allowed to do this in the store",
            "give this user the right to read and write below the store's root",
        ),
        Some(libc::EMFILE) => (
            Kind::LimitReached,
            "this process has no file handle left",
            format!(
                "{}raise it (ulimit -n, LimitNOFILE= of the service), or read fewer topics or with fewer tasks",
                handles_max().map_or_else(String::new, |max| format!("its limit is {max}: "))
            ),
        ),
        Some(libc::ENAMETOOLONG) => told(
            Kind::ConfigInvalid,
            "a name is longer than the file system takes",
            "choose a shorter sink.table, sink.zone or pipeline name; most file systems take 255 bytes",
        ),
        Some(errno) if PASSES.iter().any(|(passes, _)| *passes == errno) => told(
            Kind::StoreUnavailable,
            "the store cannot do it now",
            "check the disk or mount that holds the store",
        ),
        Some(_) => told(
            Kind::StoreFailed,
            "the store refuses this, and will not do it later either",
            "the cause below is the file system's own word for it; what is committed is safe",
        ),
        // The operating system gave no error number, so the cause is unknown.
        None => told(
            Kind::StoreUnavailable,
            "the store cannot do it now",
            "check the disk or mount that holds the store",
        ),
    }
}

/// How many files this process may hold open. Read early, because reading it needs a free handle.
pub(super) fn handles_max() -> Option<u64> {
    static MAX: OnceLock<Option<u64>> = OnceLock::new();
    *MAX.get_or_init(|| {
        let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
        let line = limits.lines().find(|l| l.starts_with("Max open files"))?;
        line.split_whitespace().nth(3)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_passes_is_not_waited_for() {
        let of = |errno| meaning(&io::Error::from_raw_os_error(errno)).0;
        for (errno, why) in PASSES {
            assert_eq!(of(errno), Kind::StoreUnavailable, "{errno}: {why}");
        }
        for (errno, kind) in [
            (libc::EACCES, Kind::ConfigInvalid),
            (libc::ENAMETOOLONG, Kind::ConfigInvalid),
            (libc::EMFILE, Kind::LimitReached),
            (libc::EINVAL, Kind::StoreFailed),
            (libc::EFBIG, Kind::StoreFailed),
            (libc::ENOTDIR, Kind::StoreFailed),
            (libc::EXDEV, Kind::StoreFailed),
            (libc::EMLINK, Kind::StoreFailed),
            (4095, Kind::StoreFailed),
        ] {
            assert_eq!(of(errno), kind, "{errno}");
        }
        let (_, _, hint) = meaning(&io::Error::from_raw_os_error(libc::EMFILE));
        assert!(
            hint.contains("ulimit -n") && hint.contains("its limit is "),
            "{hint}"
        );
    }
}
