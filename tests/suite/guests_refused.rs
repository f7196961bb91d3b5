//! Forbidden parts of a component are refused by name when it is loaded: imports, contract, number of parts, start
//! functions, `describe`. The components are written byte by byte here, or appended to a valid one.

use std::fs;

use weir::error::Kind;

use crate::guests::{evil_dir, plugins};

fn refused(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("guest-evil.wasm"), bytes).expect("write");
    let error = plugins(dir.path().into())
        .find("guest-evil", &|_, _| true)
        .expect_err("refused");
    assert_eq!(error.kind(), Kind::PluginRefused, "{error}");
    error.to_string()
}

fn sound() -> Vec<u8> {
    fs::read(evil_dir().join("guest-evil.wasm")).expect("guests built: `make guests`")
}

// === bytes ===

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn leb(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [leb(bytes.len()), bytes.to_vec()].concat()
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [vec![id], sized(body)].concat()
}

/// A name of a component's import or export.
fn extern_name(name: &str) -> Vec<u8> {
    [vec![0], sized(name.as_bytes())].concat()
}

/// A component that imports one interface with one function, and nothing else.
fn importing(interface: &str, function: &str) -> Vec<u8> {
    // (instance (type (func)) (export function (func (type 0))))
    let export = [&[4], &extern_name(function)[..], &[1, 0]].concat();
    let instance = [&[0x42, 2, 1, 0x40, 0, 1, 0][..], &export].concat();
    let types = section(7, &[&[1], &instance[..]].concat());
    let import = [&[1], &extern_name(interface)[..], &[5, 0]].concat();
    [COMPONENT, &types, &section(10, &import)].concat()
}

/// A component that exports an empty instance under this name.
fn exporting(interface: &str) -> Vec<u8> {
    let export = [&[1], &extern_name(interface)[..], &[5, 0, 0]].concat();
    let empty = section(5, &[1, 1, 0]);
    [COMPONENT, &empty, &section(11, &export)].concat()
}

/// A core module of these sections.
fn module(sections: &[(u8, &[u8])]) -> Vec<u8> {
    let bodies = sections.iter().flat_map(|(id, body)| section(*id, body));
    MODULE.iter().copied().chain(bodies).collect()
}

/// A core module whose start function is `code`, with one empty table to grow and one memory.
fn starting(code: &[u8]) -> Vec<u8> {
    let body = [&[0], code, &[0x0b]].concat();
    module(&[
        (1, &[1, 0x60, 0, 0]),
        (3, &[1, 0]),
        (4, &[1, 0x70, 0, 0]),
        (5, &[1, 0, 0]),
        (8, &[0]),
        (10, &[vec![1], sized(&body)].concat()),
    ])
}

/// `component` with a core module more, instantiated so many times.
fn with(mut component: Vec<u8>, module: &[u8], times: usize) -> Vec<u8> {
    let (mut modules, mut at) = (0, COMPONENT.len());
    while at < component.len() {
        modules += usize::from(component[at] == 1);
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] < 0x80 {
                break;
            }
        }
        at += 1 + size;
    }
    let instance = [vec![0], leb(modules), vec![0]].concat();
    component.extend(section(1, module));
    component.extend(section(2, &[leb(times), instance.repeat(times)].concat()));
    component
}

/// `describe` of the guest does this instead.
fn describing(mode: &str) -> Vec<u8> {
    let mut bytes = sound();
    let honest = b"describe:honest         ";
    let at = bytes.windows(honest.len()).position(|w| w == honest);
    let at = at.expect("the marker");
    bytes[at..at + honest.len()].copy_from_slice(format!("{mode:<24}").as_bytes());
    bytes
}

// === tests ===

#[test]
fn every_kind_of_import_is_named_with_its_remedy() {
    for (interface, function, remedy) in [
        ("wasi:clocks/wall-clock@0.2.0", "now", "has no clock"),
        ("wasi:clocks/monotonic-clock@0.2.6", "now", "has no clock"),
        (
            "wasi:filesystem/preopens@0.2.0",
            "get-directories",
            "weir-file",
        ),
        (
            "wasi:random/random@0.2.0",
            "get-random-u64",
            "no randomness",
        ),
        (
            "wasi:random/insecure-seed@0.2.0",
            "insecure-seed",
            "no randomness",
        ),
        (
            "wasi:sockets/tcp-create-socket@0.2.0",
            "create-tcp-socket",
            "no network",
        ),
        ("wasi:http/outgoing-handler@0.2.0", "handle", "no network"),
        (
            "wasi:cli/environment@0.3.0",
            "get-arguments",
            "served: 0.2.x",
        ),
        (
            "wasi:cli/environment@0.2.0",
            "set-environment",
            "set-environment",
        ),
        ("weir:plugin/log@0.2.0", "emit", "served: 0.1.x"),
        (
            "weir:plugin/lookup@0.1.0",
            "get",
            "contract of this release",
        ),
        ("evil:host/shell@1.0.0", "run", "remove the rest"),
    ] {
        let told = refused(&importing(interface, function));
        let named = told.contains(interface) && told.contains("imports what no plugin may have");
        assert!(named && told.contains(remedy), "{interface}: {told}");
    }
}

#[test]
fn another_contract_is_refused_by_its_name() {
    for interface in ["weir:plugin/transform@0.2.0", "other:thing/work@1.0.0"] {
        let told = refused(&exporting(interface));
        assert!(
            told.contains("does not fit the contract weir:plugin@0.1.0"),
            "{told}"
        );
    }
    // The right name over the wrong thing.
    let told = refused(&exporting("weir:plugin/transform@0.1.0"));
    assert!(told.contains("does not fit the contract"), "{told}");
    assert!(refused(COMPONENT).contains("does not fit the contract"));
}

#[test]
fn too_many_parts_are_refused_at_load() {
    let empty = module(&[]);
    // Three of its own, as a Rust plugin has, and seven more: ten may be.
    let dir = tempfile::tempdir().expect("dir");
    let most = with(sound(), &empty, 10 - own_instances());
    fs::write(dir.path().join("guest-evil.wasm"), most).expect("write");
    plugins(dir.path().into())
        .find("guest-evil", &|_, _| true)
        .expect("ten core instances");

    let told = refused(&with(sound(), &empty, 11));
    assert!(
        told.contains("instance count too high") && told.contains("at most 10 core"),
        "{told}"
    );
    let told = refused(&with(
        sound(),
        &module(&[(5, &[4, 0, 0, 0, 0, 0, 0, 0, 0])]),
        1,
    ));
    assert!(
        told.contains("memory count too high at 5") && told.contains("4 memories"),
        "{told}"
    );
    let tables = [&[11][..], &[0x70, 0, 0].repeat(11)].concat();
    let told = refused(&with(sound(), &module(&[(4, &tables)]), 1));
    assert!(
        told.contains("table count too high") && told.contains("10 tables"),
        "{told}"
    );
    // Entries and bytes count over all tables and memories: three of 50,000, three of 32 MiB.
    let fifty = [vec![1, 0x70, 0], leb(50_000)].concat();
    let told = refused(&with(sound(), &module(&[(4, &fifty)]), 3));
    assert!(told.contains("table entries than its limit"), "{told}");
    let pages = [vec![1, 0], leb((32 << 20) / (64 << 10))].concat();
    let told = refused(&with(sound(), &module(&[(5, &pages)]), 3));
    assert!(told.contains("plugin_out_of_memory"), "{told}");
}

/// Core instances of the sound guest, found by trying.
fn own_instances() -> usize {
    let dir = tempfile::tempdir().expect("dir");
    let fits = |more: usize| {
        fs::write(
            dir.path().join("guest-evil.wasm"),
            with(sound(), &module(&[]), more),
        )
        .expect("write");
        plugins(dir.path().into())
            .find("guest-evil", &|_, _| true)
            .is_ok()
    };
    10 - (0..10)
        .rev()
        .find(|more| fits(*more))
        .expect("one that fits")
}

#[test]
fn a_start_function_is_stopped_like_any_other() {
    let told = refused(&with(sound(), &starting(&[0x00]), 1));
    assert!(
        told.contains("does not start: plugin_trapped") && told.contains("unreachable"),
        "{told}"
    );
    // loop br 0 end
    let told = refused(&with(sound(), &starting(&[0x03, 0x40, 0x0c, 0, 0x0b]), 1));
    assert!(told.contains("ran longer than 5s"), "{told}");
    // loop (drop (table.grow 0 (ref.null func) (i32.const 1000))) br 0 end
    let grow = [
        0x03, 0x40, 0xd0, 0x70, 0x41, 0xe8, 0x07, 0xfc, 0x0f, 0, 0x1a, 0x0c, 0, 0x0b,
    ];
    let told = refused(&with(sound(), &starting(&grow), 1));
    assert!(told.contains("ran longer than 5s"), "{told}");
    // loop (drop (memory.grow (i32.const 1))) br 0 end
    let grow = [0x03, 0x40, 0x41, 0x01, 0x40, 0, 0x1a, 0x0c, 0, 0x0b];
    let told = refused(&with(sound(), &starting(&grow), 1));
    assert!(told.contains("ran longer than 5s"), "{told}");
    // call 0
    let told = refused(&with(sound(), &starting(&[0x10, 0]), 1));
    assert!(told.contains("stack exhausted"), "{told}");
}

#[test]
fn describe_is_held_to_time_and_size() {
    for (mode, says) in [
        ("describe:spin", "ran longer than 5s"),
        ("describe:panic", "no word about me"),
        ("describe:megabytes", "its summary has 20971520 bytes"),
        ("describe:overlap", "describe failed: plugin_output_invalid"),
    ] {
        let told = refused(&describing(mode));
        assert!(told.contains(says), "{mode}: {told}");
    }
}

#[test]
fn components_within_components_end_somewhere() {
    for depth in [200, 5_000] {
        let mut nested = COMPONENT.to_vec();
        for _ in 0..depth {
            nested = [COMPONENT, &section(4, &nested)].concat();
        }
        refused(&nested);
    }
    // A hundred thousand exports of nothing.
    let mut many = COMPONENT.to_vec();
    many.extend(section(5, &[1, 1, 0]));
    let exports: Vec<u8> = (0..100_001)
        .flat_map(|n| [&extern_name(&format!("a:b/c{n}"))[..], &[5, 0, 0]].concat())
        .collect();
    many.extend(section(11, &[leb(100_001), exports].concat()));
    assert!(refused(&many).contains("not a valid component"));
}

#[test]
fn a_cut_or_changed_component_is_refused_or_sound_never_more() {
    let whole = sound();
    let dir = tempfile::tempdir().expect("dir");
    let mut seed = 1u64;
    let mut random = |n: usize| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) as usize % n
    };
    // Headers of sections, where a flipped bit means most, are in the first bytes and the last.
    for n in 0..24 {
        let mut bytes = whole.clone();
        match n % 3 {
            0 => bytes.truncate(random(whole.len())),
            1 => bytes[8 + random(2000)] ^= 1 << random(8),
            _ => {
                let at = whole.len() - 1 - random(4000);
                bytes[at] ^= 1 << random(8);
            }
        }
        fs::write(dir.path().join("guest-evil.wasm"), &bytes).expect("write");
        if let Err(error) = plugins(dir.path().into()).find("guest-evil", &|_, _| true) {
            assert_eq!(error.kind(), Kind::PluginRefused, "{error}");
        }
    }
}
