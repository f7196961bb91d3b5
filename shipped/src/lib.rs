//! The plugins that are part of the program, so that it runs where nothing else was installed. The build script makes
//! them of `plugins/`.

/// One component.
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    pub name: &'static str,
    /// Of its crate, which is what it says of itself.
    pub version: &'static str,
    pub bytes: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/plugins.rs"));
