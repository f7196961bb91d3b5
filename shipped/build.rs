//! Builds the workspace `plugins/` for WebAssembly and takes its components in.
//!
//! They are built in `guests/` of the target directory, as `make plugins` does, by the same cargo and with the same
//! settings, so that neither makes the other's work anew. `WEIR_SHIPPED=DIR` takes the `<name>.wasm` of a directory instead:
//! for machines without the WebAssembly target. An edit of a plugin builds that plugin and links the program again.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-wasip2";
/// Meant for the crate that asks for this build, not for the plugins.
const NOT_FOR_PLUGINS: [&str; 5] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
];

type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    match take_in() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// A crate of `plugins/` that becomes a component.
struct Plugin {
    name: String,
    version: String,
    dir: PathBuf,
}

fn take_in() -> Result<()> {
    let root = variable("CARGO_MANIFEST_DIR")?.join("..");
    let out = variable("OUT_DIR")?;
    let plugins = plugins(&root.join("plugins"))?;
    println!("cargo::rerun-if-env-changed=WEIR_SHIPPED");
    let built = match env::var_os("WEIR_SHIPPED") {
        Some(dir) => PathBuf::from(dir),
        None => build(&root, &plugins, &out)?,
    };
    let mut code = String::from("/// By name.\npub static PLUGINS: &[Plugin] = &[\n");
    for Plugin { name, version, .. } in &plugins {
        let names = [name.clone(), name.replace('-', "_")];
        let mut files = names.iter().map(|name| built.join(format!("{name}.wasm")));
        let file = files
            .find(|file| file.exists())
            .ok_or_else(|| format!("there is no {name}.wasm in {}", built.display()))?;
        let kept = out.join(format!("{name}.wasm"));
        fs::copy(&file, &kept)
            .map_err(|e| format!("{} to {}: {e}", file.display(), kept.display()))?;
        // Components that this script built are newer than its own beginning: named here, they would have it run again.
        if env::var_os("WEIR_SHIPPED").is_some() {
            println!("cargo::rerun-if-changed={}", file.display());
        }
        let entry = "    Plugin { name: NAME, version: VERSION, bytes: include_bytes!(FILE) },";
        let entry = entry.replace("NAME", &format!("{name:?}"));
        let entry = entry.replace("VERSION", &format!("{version:?}"));
        let entry = entry.replace("FILE", &format!("{:?}", kept.display().to_string()));
        writeln!(code, "{entry}").map_err(|e| e.to_string())?;
    }
    code.push_str("];\n");
    let file = out.join("plugins.rs");
    fs::write(&file, code).map_err(|e| format!("{}: {e}", file.display()))
}

fn variable(name: &str) -> Result<PathBuf> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| format!("cargo does not set {name}"))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The crates that give a component, by name.
fn plugins(workspace: &Path) -> Result<Vec<Plugin>> {
    let whole = version(&read(&workspace.join("Cargo.toml"))?);
    let entries = fs::read_dir(workspace).map_err(|e| format!("{}: {e}", workspace.display()))?;
    let mut found = Vec::new();
    for dir in entries.flatten().map(|entry| entry.path()) {
        let Ok(manifest) = fs::read_to_string(dir.join("Cargo.toml")) else {
            continue;
        };
        let (Some(name), true) = (dir.file_name(), manifest.contains("\"cdylib\"")) else {
            continue;
        };
        found.push(Plugin {
            name: name.to_string_lossy().into_owned(),
            version: version(&manifest)
                .or_else(|| whole.clone())
                .ok_or("a plugin without a version")?,
            dir,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The first `version = "…"` of a manifest: its own stands above those of its dependencies.
fn version(manifest: &str) -> Option<String> {
    let own = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \""));
    own.map(|rest| rest.trim_end_matches('"').to_owned())
}

/// Where cargo put the components.
fn build(root: &Path, plugins: &[Plugin], out: &Path) -> Result<PathBuf> {
    let workspace = root.join("plugins");
    for file in [
        "Cargo.toml",
        "Cargo.lock",
        ".cargo/config.toml",
        "sdk/Cargo.toml",
        "sdk/src",
        "../wit",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(file).display());
    }
    for plugin in plugins {
        for file in ["Cargo.toml", "src"] {
            println!(
                "cargo::rerun-if-changed={}",
                plugin.dir.join(file).display()
            );
        }
    }
    // cargo marks the directory that it was told to build in.
    let target = out
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists());
    let guests = target.unwrap_or(out).join("guests");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&guests)
        .current_dir(&workspace);
    for name in NOT_FOR_PLUGINS {
        cargo.env_remove(name);
    }
    let ended = cargo
        .status()
        .map_err(|e| format!("cargo does not start: {e}"))?;
    if !ended.success() {
        return Err(format!(
            "the shipped plugins are not built ({ended}): see above. They need `rustup target add {TARGET}`, \
             or WEIR_SHIPPED=DIR with <name>.wasm of each"
        ));
    }
    Ok(guests.join(TARGET).join("release"))
}
