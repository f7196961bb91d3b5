//! Native images on disk: they can be made again, only this user can read them, and they are loaded only if their hash
//! matches.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::fs::Replace;
use crate::hash::sha256;

/// The image of one component for one engine: `<cache>/<engine key>/<digest>.cwasm`, its hash in `.sum`.
#[derive(Debug)]
pub struct Slot {
    image: PathBuf,
    sum: PathBuf,
}

impl Slot {
    pub fn new(cache: &Path, engine_key: &str, component: &str) -> Slot {
        let name = component.trim_start_matches("sha256:");
        let dir = cache.join(engine_key);
        Slot {
            image: dir.join(format!("{name}.cwasm")),
            sum: dir.join(format!("{name}.sum")),
        }
    }

    /// The image, if it exists and is intact.
    pub fn read(&self) -> Option<Vec<u8>> {
        let sum = crate::fs::read_text(&self.sum, crate::plugin::IMAGE).ok()?;
        let image = crate::fs::read(&self.image, crate::plugin::IMAGE).ok()?;
        if sha256(&image) == sum {
            return Some(image);
        }
        tracing::warn!(image = %self.image.display(), "native image is damaged, compiling anew");
        None
    }

    pub fn write(&self, image: &[u8]) -> io::Result<()> {
        if let Some(dir) = self.image.parent() {
            private_dir(dir)?;
        }
        replace(&self.image, image)?;
        replace(&self.sum, sha256(image).as_bytes())
    }
}

/// Whether only this user can write there. Images are native code: a folder that others can write to is not used at
/// all.
pub fn trusted(dir: &Path) -> bool {
    let told = check_owner(dir);
    if let Err(e) = &told {
        tracing::warn!(cache = %dir.display(), "native images are neither read nor kept: {e}");
    }
    told.is_ok()
}

#[cfg(unix)]
fn check_owner(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    private_dir(dir)?;
    // A new file shows as which user this process writes.
    let probe = dir.join(format!("probe-{}", ulid::Ulid::generate()));
    let made = fs::File::create_new(&probe).and_then(|file| file.metadata());
    fs::remove_file(&probe).ok();
    let (made, found) = (made?, fs::metadata(dir)?);
    if found.uid() != made.uid() || found.mode() & 0o022 != 0 {
        let message = "another user can write there; chmod go-w it, or name another plugin.cache";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(dir: &Path) -> io::Result<()> {
    private_dir(dir)
}

fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// A reader that finds image and sum of two writers sees a wrong hash and compiles.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let how = Replace {
        durable: false,
        shared: true,
        mode: 0o600,
    };
    crate::fs::replace(path, bytes, how)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_that_others_write_to_is_not_used() {
        let dir = tempfile::tempdir().expect("dir");
        let cache = dir.path().join("native");
        assert!(trusted(&cache), "made by ourselves");
        for (mode, wanted) in [(0o777, false), (0o720, false), (0o755, true)] {
            fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).expect("mode");
            assert_eq!(trusted(&cache), wanted, "{mode:o}");
        }
        assert_eq!(
            fs::read_dir(&cache).expect("list").count(),
            0,
            "no probe is left"
        );
    }
}
