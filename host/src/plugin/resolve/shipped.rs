//! The plugins that are part of this program: used if neither `plugin.path` nor the plugin store has the requested
//! plugin.

use std::sync::OnceLock;

use crate::hash::sha256;

#[derive(Debug)]
pub struct Shipped {
    pub name: &'static str,
    pub version: &'static str,
    pub bytes: &'static [u8],
    pub digest: String,
}

/// By name.
pub fn all() -> &'static [Shipped] {
    static ALL: OnceLock<Vec<Shipped>> = OnceLock::new();
    ALL.get_or_init(|| {
        let plugins = weir_shipped::PLUGINS.iter();
        let shipped = plugins.map(|plugin| Shipped {
            name: plugin.name,
            version: plugin.version,
            bytes: plugin.bytes,
            digest: sha256(plugin.bytes),
        });
        shipped.collect()
    })
}

/// The build with this digest.
pub fn build(digest: &str) -> Option<&'static Shipped> {
    all().iter().find(|shipped| shipped.digest == digest)
}
