//! `build`: compiles a crate to a component with cargo, without paths of this machine in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{failed, invalid, sdk};
use crate::error::{Error, Result};
use crate::fs::Replace;

pub const TARGET: &str = "wasm32-wasip2";
const INSTALL_RUST: &str =
    "install Rust: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";

/// A component that was just built, or found fresh.
#[derive(Clone, Debug)]
pub struct Built {
    /// Name of the package, and of the plugin.
    pub name: String,
    /// `<target directory>/plugin/<name>.wasm`.
    pub wasm: PathBuf,
    /// Number of files of the SDK beside the crate that were of another release and were rewritten.
    pub refreshed: usize,
}

/// How much of cargo's output is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// Progress, warnings, errors.
    All,
    /// Errors alone.
    Errors,
}

/// Builds the crate in `dir` and copies the component to its place. Compile errors go to stderr as cargo prints them.
pub fn build(dir: &Path, say: Say) -> Result<Built> {
    is_crate(dir)?;
    need(dir)?;
    let refreshed = sdk::refresh(dir)?;
    let mut cargo = cargo(dir, say);
    // Not RUSTFLAGS: it would replace the flags of .cargo/config.toml, and rebuild every crate.
    let flags: Vec<String> = remaps(dir)
        .iter()
        .map(|flag| Value::from(flag.as_str()).to_string())
        .collect();
    cargo
        .args(["--release", "--lib", "--target", TARGET, "--config"])
        .arg(format!("target.{TARGET}.rustflags=[{}]", flags.join(",")));
    let artifacts = run(cargo, "the plugin does not build")?;
    let (name, file) = artifacts
        .iter()
        .rev()
        .find_map(|artifact| component(artifact, dir))
        .ok_or_else(|| {
            failed(format!("{} makes no component", dir.display()))
                .hint("Cargo.toml needs [lib] crate-type = [\"cdylib\", \"rlib\"]")
        })?;
    // <target>/wasm32-wasip2/release/<crate>.wasm
    let target = file.ancestors().nth(3).unwrap_or(dir);
    let wasm = target.join("plugin").join(format!("{name}.wasm"));
    place(&file, &wasm)?;
    Ok(Built {
        name,
        wasm,
        refreshed,
    })
}

/// Builds `examples/native.rs`; `None`: the crate has none.
pub fn native(dir: &Path) -> Result<Option<PathBuf>> {
    if !dir.join("examples/native.rs").is_file() {
        return Ok(None);
    }
    let mut cargo = cargo(dir, Say::Errors);
    cargo.args(["--release", "--example", "native"]);
    let artifacts = run(cargo, "the native example does not build").map_err(|e| {
        e.hint("examples/native.rs: fn main() -> std::process::ExitCode { CRATE::native_main() }")
    })?;
    let found = artifacts
        .iter()
        .rev()
        .find_map(|a| a["executable"].as_str());
    Ok(found.map(PathBuf::from))
}

fn is_crate(dir: &Path) -> Result<()> {
    if dir.join("Cargo.toml").is_file() {
        return Ok(());
    }
    let message = format!(
        "{} is no plugin's crate: there is no Cargo.toml",
        dir.display()
    );
    Err(invalid(message)
        .hint("`weir plugin new NAME` makes one; or give its folder: weir plugin build DIR"))
}

/// Says what is missing in one line. rustup, where it is there, is asked for the target.
fn need(dir: &Path) -> Result<()> {
    let ask = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(dir)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if ask("cargo", &["--version"]).is_none() {
        return Err(failed("cargo is not there").hint(INSTALL_RUST));
    }
    let sysroot = ask("rustc", &["--print", "sysroot"]);
    let libs = sysroot.map(|root| Path::new(root.trim()).join("lib/rustlib").join(TARGET));
    if libs.is_some_and(|libs| libs.is_dir()) {
        return Ok(());
    }
    if ask("rustup", &["--version"]).is_none() {
        let message = format!("Rust has no target {TARGET}, and rustup is not there to add it");
        return Err(failed(message).hint(INSTALL_RUST));
    }
    let added = Command::new("rustup")
        .args(["target", "add", TARGET])
        .current_dir(dir)
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        _ => Err(failed(format!("Rust has no target {TARGET}"))
            .hint(format!("rustup target add {TARGET}"))),
    }
}

fn cargo(dir: &Path, say: Say) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(dir)
        .args(["build", "--message-format", "json-render-diagnostics"])
        // Flags for native builds would change the component.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if say == Say::Errors {
        cargo.arg("--quiet");
    }
    cargo
}

/// Runs cargo; what it made, one JSON object each.
fn run(mut cargo: Command, what: &str) -> Result<Vec<Value>> {
    let output = cargo.output().map_err(|e| {
        failed("cargo cannot be started")
            .source(e)
            .hint(INSTALL_RUST)
    })?;
    if !output.status.success() {
        return Err(failed(what).hint("cargo says why, above"));
    }
    let lines = output.stdout.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .collect())
}

/// Package and file, where the artifact is this crate's component.
fn component(artifact: &Value, dir: &Path) -> Option<(String, PathBuf)> {
    let manifest = fs::canonicalize(dir.join("Cargo.toml")).ok()?;
    let ours = artifact["manifest_path"].as_str()?;
    if fs::canonicalize(ours).ok()? != manifest {
        return None;
    }
    let mut files = artifact["filenames"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str);
    let file = files.find(|file| file.ends_with(".wasm"))?;
    // path+file:///…/decade#0.1.0 or …#decade@0.1.0
    let id = artifact["package_id"].as_str()?.rsplit('#').next()?;
    let name = match id.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => Path::new(ours).parent()?.file_name()?.to_str()?.to_owned(),
    };
    Some((name, file.into()))
}

/// The same sources give the same bytes in any directory: paths of this machine are replaced by fixed names.
fn remaps(dir: &Path) -> Vec<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(home?.join(".cargo")));
    let here = fs::canonicalize(dir).ok();
    // rustc uses the last match, so the longest path comes last.
    let places = [(cargo_home, "/cargo"), (here, "/plugin")];
    let known = places
        .into_iter()
        .filter_map(|(from, to)| Some((from?, to)));
    known
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect()
}

/// Copies by rename, so that readers see a whole file. An unchanged file keeps its time.
fn place(from: &Path, to: &Path) -> Result<()> {
    let cannot =
        |e: std::io::Error| -> Error { failed(format!("cannot write {}", to.display())).source(e) };
    let bytes = fs::read(from).map_err(cannot)?;
    if fs::read(to).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(cannot)?;
    }
    let how = Replace {
        durable: false,
        shared: true,
        mode: 0o666,
    };
    crate::fs::replace(to, &bytes, how).map_err(cannot)
}
