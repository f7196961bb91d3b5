//! Rules of this project that no compiler checks: which folder may name which crate, sizes, promises, pages for every
//! code.

use std::path::{Path, PathBuf};

use crate::check::root;

/// A heavy crate and the folders (or files) of host/src that may name it.
const ONLY_FOLDER: &[(&str, &[&str])] = &[
    ("rdkafka", &["kafka"]),
    ("wasmtime", &["plugin"]),
    ("object_store", &["store/objects"]),
    ("hdfs_native", &["store/hdfs"]),
    (
        "reqwest",
        &[
            "store/objects",
            "connectors/http",
            "convert/registry",
            "tls",
        ],
    ),
    ("arrow_avro", &["convert/avro", "zone/formats"]),
    ("parquet", &["zone"]),
    ("hyper", &["http"]),
    ("hyper_util", &["http"]),
    // TLS of the daemon; signatures of requests to a store.
    ("openssl", &["http", "store/objects"]),
    ("tokio_openssl", &["http"]),
    ("prometheus_client", &["telemetry"]),
];

/// Lines of a function from its head to its last bracket: what a reader holds in the head at once.
const FUNCTION: usize = 70;
/// A test tells a story, or tries one thing with many values.
const TEST: usize = 140;

/// Longer, because they are tables: lists of what there is, of values, or of cases. By the file's name, wherever it lies.
const TABLES: &[(&str, &str)] = &[
    (
        "flatten.rs",
        "each_kind_of_bad_message_has_its_code_and_place",
    ),
    ("format.rs", "formats_take_the_good_and_refuse_the_bad"),
    ("lift.rs", "each_broken_rule_is_named"),
    ("metrics.rs", "ours"),
    ("metrics.rs", "tasks"),
    ("pipelines.rs", "routes"),
    ("rest_connect.rs", "wrong_requests_are_told_what_is_wrong"),
    ("store_setup.rs", "a_bad_table_is_named_with_its_line"),
    ("worker.rs", "routes"),
];

/// Longer than a function should be, and why; at most so long. Whoever makes one short takes it out.
const LONGER: &[(&str, &str, usize, &str)] = &[(
    "walk.rs",
    "content",
    120,
    "the loop over the index of an XML message: its six places stay in registers, and a call between them costs a tenth",
)];

/// What wit-bindgen makes of the contract.
const GENERATED: &str = "bindings.rs";

/// Every .rs file below some folders of the repository, generated and built ones left out.
fn sources(folders: &[&str]) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let mut todo: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(path) = todo.pop() {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "target" {
            let entries = std::fs::read_dir(&path).expect("folder");
            todo.extend(entries.map(|entry| entry.expect("entry").path()));
        } else if path.extension().is_some_and(|e| e == "rs") && name != GENERATED {
            out.push(path);
        }
    }
    out.sort();
    assert!(out.len() > 10, "sources are found");
    out
}

fn shown(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap_or(path);
    below.display().to_string()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Whether a line of code (not a comment) names a crate.
fn names(line: &str, krate: &str) -> bool {
    let code = line.split("//").next().unwrap_or(line);
    code.match_indices(krate).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + krate.len()..];
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"');
        whole && (after.starts_with("::") || code.trim_start().starts_with("extern crate"))
    })
}

#[test]
fn heavy_crates_are_named_in_one_folder_only() {
    let mut wrong = Vec::new();
    let src = root().join("host/src");
    for path in sources(&["host/src"]) {
        let below = path.strip_prefix(&src).expect("below host/src");
        let below = below.with_extension("");
        for (number, line) in (1..).zip(read(&path).lines()) {
            for (krate, only) in ONLY_FOLDER {
                let outside = !only.iter().any(|folder| below.starts_with(folder));
                if outside && names(line, krate) {
                    wrong.push(format!("{}:{number} names {krate}", shown(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// How a file waits for its publication, and what shows it, differs from store to store.
#[test]
fn only_the_store_knows_how_files_are_published() {
    let words = [
        "staging", "staged", ".rename(", "leftover", "trash", "Way::",
    ];
    let mut wrong = Vec::new();
    for path in sources(&["host/src/commit", "host/src/zone", "host/src/pipeline"]) {
        if is_of_tests(&path) {
            continue;
        }
        for (number, line) in (1..).zip(read(&path).lines()) {
            if let Some(word) = words.iter().find(|word| line.contains(*word)) {
                wrong.push(format!("{}:{number} says {word}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Rooms of host/src (a folder or a file each), the lowest first. A file names its own room and rooms that stand before it.
const ROOMS: &[&str] = &[
    // ground
    "error",
    "text",
    "hash",
    "lock",
    "instant",
    "cron",
    "joda",
    "json",
    "clock",
    "fs",
    "backoff",
    "finding",
    "nearest",
    // what rows and configs are
    "record",
    "source",
    "config",
    "tls",
    "logging",
    // log and files
    "store",
    "chain",
    "commit",
    "sink",
    "zone",
    // rules, and what is read and written
    "convert",
    "plugin",
    "kafka",
    "sample",
    "connectors",
    // configs that were written for others
    "infer",
    "connect",
    // what runs
    "pipeline",
    "telemetry",
    "operations",
    "filestream",
    "daemon",
    // who asks
    "http",
    "author",
    "cli",
    "main",
];

/// Rooms inside of a room that are held to an order too, the lowest first.
const INNER: &[(&str, &[&str])] = &[(
    "plugin",
    &[
        "text", "limits", "boundary", "config", "compile", "run", "resolve",
    ],
)];

/// The lines of a text, those of items of tests empty: such code may name any room. An item ends with a line that begins at the margin
/// and closes it.
fn without_tests(text: &str) -> Vec<&str> {
    let mut in_tests = false;
    let mut counts = |line: &str| {
        let begins = line == "#[cfg(test)]";
        let skipped = begins || in_tests;
        let at_margin = !line.starts_with([' ', '#']);
        let closes = line == "}" || line.ends_with(';');
        in_tests = skipped && (begins || !(at_margin && closes));
        !skipped
    };
    let lines = text.lines();
    lines
        .map(|line| if counts(line) { line } else { "" })
        .collect()
}

#[test]
fn code_behind_an_item_of_tests_counts() {
    let text = "use crate::a;\n#[cfg(test)]\nuse crate::{\n    b,\n};\nuse crate::c;\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod x;\n\
                fn f() {\n    crate::d::g();\n}\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}\n";
    let found: Vec<(usize, String)> = imports(text);
    let want = [(1, "a"), (6, "c"), (11, "d")];
    assert_eq!(found, want.map(|(line, room)| (line, room.to_owned())));
}

/// Names of rooms in `crate::x::…` and `crate::{x::…, y}` of a text, each with its line.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code = without_tests(text).into_iter();
    let code = code.map(|line| line.split("//").next().unwrap_or(line));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    let ident = |text: &str| -> String {
        let text = text.trim_start().chars();
        text.take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let line = code[..at].lines().count().max(1);
        let rest = &code[at + path.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((line, ident(rest)));
            continue;
        };
        let (mut depth, mut begins) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && !c.is_whitespace() => {
                    found.push((line, ident(&group[at..])));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Of a file in an inner room: what it names of inner rooms above its own.
fn inner_climbs(below: &Path, text: &str) -> Vec<String> {
    let mut parts = below.iter().map(|part| part.to_string_lossy());
    let (outer, own) = (parts.next(), parts.next());
    let rooms = INNER
        .iter()
        .find(|(room, _)| outer.as_deref() == Some(room));
    let Some((outer, rooms)) = rooms else {
        return Vec::new();
    };
    let own = own.unwrap_or_default();
    let own = rooms
        .iter()
        .position(|room| *room == own.trim_end_matches(".rs"));
    let above = own.map_or(&[][..], |own| &rooms[own + 1..]);
    let code = without_tests(text);
    let named = above.iter().map(|room| format!("crate::{outer}::{room}::"));
    named
        .filter(|path| code.iter().any(|line| line.contains(path)))
        .collect()
}

/// Files of tests alone.
fn is_of_tests(path: &Path) -> bool {
    let name = |part: &std::ffi::OsStr| {
        let part = part.to_string_lossy();
        let part = part.trim_end_matches(".rs");
        ["tests", "testkit", "fuzz"].contains(&part) || part.ends_with("_tests")
    };
    path.iter().any(name)
}

#[test]
fn folders_import_downwards() {
    let src = root().join("host/src");
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    let (mut wrong, mut unused) = (Vec::new(), ROOMS.to_vec());
    for path in sources(&["host/src"]) {
        let below = path.strip_prefix(&src).expect("below host/src");
        let room = below.iter().next().unwrap_or_default().to_string_lossy();
        let room = room.trim_end_matches(".rs");
        unused.retain(|known| *known != room);
        if room == "lib" || is_of_tests(below) {
            continue;
        }
        let Some(own) = place(room) else {
            wrong.push(format!("{}: ROOMS lacks {room}", shown(&path)));
            continue;
        };
        let text = read(&path);
        for (line, named) in imports(&text) {
            if place(&named).is_none_or(|at| at > own) {
                wrong.push(format!("{}:{line} names {named}", shown(&path)));
            }
        }
        for named in inner_climbs(below, &text) {
            wrong.push(format!("{} names {named}", shown(&path)));
        }
        // The crate's root by another way.
        let depth = below.iter().count() - usize::from(path.ends_with("mod.rs"));
        let climbs = "super::".repeat(depth);
        for (number, line) in (1..).zip(text.lines()) {
            if line.starts_with("use ") && line.contains(&climbs) {
                wrong.push(format!("{}:{number} climbs out of its room", shown(&path)));
            }
        }
    }
    assert!(
        wrong.is_empty() && unused.is_empty(),
        "{wrong:#?} {unused:?}"
    );
    // main.rs is the program alone.
    let map = read(&root().join("ARCHITECTURE.md"));
    let map = map.split("## Code map").nth(1).unwrap_or_default();
    let drawn = map.split("```").nth(1).unwrap_or_default();
    let drawn = drawn.lines().skip(1).flat_map(str::split_whitespace);
    let drawn: Vec<&str> = drawn.collect();
    let times = |room: &str| drawn.iter().filter(|word| **word == room).count();
    let missing: Vec<&&str> = ROOMS.iter().filter(|room| times(room) != 1).collect();
    assert_eq!(
        missing,
        [&"main"],
        "rooms that the code map lacks, or has twice"
    );
    let text =
        "use crate::{a::{b, c},\n  d};\n// crate::e\ncrate::f::g();\n#[cfg(test)]\nuse crate::h;";
    let named = imports(text).into_iter().map(|(_, named)| named);
    assert_eq!(named.collect::<Vec<_>>(), ["a", "d", "f"]);
}

/// Folders that handle paths which a config names: `crate::fs` opens them.
const NAMED_PATHS: &[&str] = &[
    "http",
    "chain",
    "config",
    "connect",
    "filestream",
    "operations",
    "pipeline",
    "plugin",
    "daemon",
];

/// Files there that open what nobody else names, and what.
const OWN_PATHS: &[(&str, &str)] = &[
    ("config/what.rs", "the operator's own configs"),
    ("filestream/sink.rs", "a directory, to sync it"),
    (
        "filestream/state.rs",
        "positions of file connectors, in data.dir",
    ),
    ("plugin/compile/cache.rs", "compiled plugins, to write them"),
    (
        "plugin/resolve/store.rs",
        "directories of the store, to sync them",
    ),
    ("daemon/journal.rs", "the journal"),
];

/// A pipe or a device that a config names must hold up nobody and cost no memory.
#[test]
fn files_that_a_config_names_are_opened_in_one_place() {
    let mut wrong = Vec::new();
    let src = root().join("host/src");
    for path in sources(&["host/src"]) {
        let below = path.strip_prefix(&src).expect("below host/src");
        let folder = below.iter().next().unwrap_or_default().to_string_lossy();
        let own = OWN_PATHS.iter().any(|(own, _)| path.ends_with(own));
        if !NAMED_PATHS.contains(&&*folder) || own || shown(&path).ends_with("tests.rs") {
            continue;
        }
        let text = read(&path);
        let code = text
            .lines()
            .take_while(|line| line.trim() != "#[cfg(test)]");
        for (number, line) in (1..).zip(code) {
            let ours = line.replace("crate::fs::", "");
            let opens = [
                "fs::read(",
                "fs::read_to_string(",
                "File::open(",
                "OpenOptions",
            ];
            if opens.iter().any(|open| ours.contains(open)) {
                wrong.push(format!("{}:{number} opens a file itself", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "use crate::fs or Reach: {wrong:#?}");
}

#[test]
fn files_open_with_their_promise() {
    let mut wrong = Vec::new();
    for path in sources(&["host/src", "shipped", "tests", "plugins"]) {
        if !read(&path).starts_with("//!") {
            wrong.push(format!("{} does not begin with //!", shown(&path)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A function of a file as rustfmt writes it: where it begins, its name, its lines, and whether it is part of a test.
#[derive(Debug, PartialEq)]
struct Function {
    line: usize,
    name: String,
    lines: usize,
    in_test: bool,
}

/// The name, if a line is the head of a function.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if let Some(public) = rest.strip_prefix("pub") {
        rest = match public.strip_prefix('(') {
            Some(within) => within.split_once(')')?.1,
            None => public,
        }
        .trim_start();
    }
    for word in ["const ", "async ", "unsafe ", "extern \"C\" "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

fn functions(text: &str, in_test: bool) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut in_test = in_test;
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        in_test |= line.trim() == "#[cfg(test)]";
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = match line.ends_with(['}', ';']) {
            true => Some(at),
            // A declaration without a body ends in `;` before any bracket of its own.
            false => (at + 1..lines.len()).find(|n| {
                let after = lines[*n].strip_prefix(indent).unwrap_or_default();
                after == "}" || (after.starts_with(')') && after.ends_with(';'))
            }),
        };
        if let Some(end) = end {
            found.push(Function {
                line: at + 1,
                name: name.to_owned(),
                lines: end - at + 1,
                in_test,
            });
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    let mut excused = Vec::new();
    for path in sources(&["host/src", "shipped", "tests", "plugins"]) {
        let file = shown(&path);
        let of_tests =
            file.starts_with("tests/") || file.contains("/tests/") || file.ends_with("tests.rs");
        for function in functions(&read(&path), of_tests) {
            let Function {
                line,
                name,
                lines,
                in_test,
            } = function;
            let most = if in_test { TEST } else { FUNCTION };
            let short = path.file_name().unwrap_or_default().to_string_lossy();
            if lines <= most || TABLES.contains(&(&*short, &*name)) {
                continue;
            }
            let longer = LONGER
                .iter()
                .find(|(f, n, ..)| (*f, *n) == (&*short, &*name));
            excused.extend(longer);
            let most = longer.map_or(most, |(_, _, most, _)| *most);
            if lines > most {
                wrong.push(format!(
                    "{file}:{line} {name} has {lines} lines, {most} at most"
                ));
            }
        }
    }
    for known in LONGER {
        if !excused.contains(&known) {
            wrong.push(format!(
                "{} {} is short now, or gone: take it out of LONGER",
                known.0, known.1
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lines_of_a_function_are_counted_from_head_to_bracket() {
    let text = "trait T {\n    fn a(&self);\n    fn b(\n        &self,\n    );\n}\npub(super) const fn c() {}\n#[cfg(test)]\nmod t {\n    async fn d() {\n        x();\n    }\n}\n";
    let of = |f: &Function| (f.line, f.name.clone(), f.lines, f.in_test);
    let found: Vec<_> = functions(text, false).iter().map(of).collect();
    assert_eq!(
        found,
        [
            (2, "a".to_owned(), 1, false),
            (3, "b".to_owned(), 3, false),
            (7, "c".to_owned(), 1, false),
            (10, "d".to_owned(), 3, true),
        ]
    );
}

#[test]
fn tests_neither_sleep_nor_rest() {
    let mut wrong = Vec::new();
    for path in sources(&["host/src", "tests"]) {
        if path.ends_with("tidy.rs") {
            continue;
        }
        // Waits for processes and networks that no clock of ours moves.
        let outside = path.ends_with("suite/brokers.rs");
        let in_tests = path.starts_with(root().join("tests"));
        let mut in_test_module = in_tests;
        for (number, line) in (1..).zip(read(&path).lines()) {
            in_test_module |= line.trim() == "#[cfg(test)]";
            if line.trim().starts_with("#[ignore") {
                wrong.push(format!("{}:{number} ignores a test", shown(&path)));
            }
            if in_test_module && !outside && line.contains("thread::sleep") {
                wrong.push(format!("{}:{number} sleeps in a test", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_code_has_a_section() {
    let page = read(&root().join("docs/errors.md"));
    // Kind::code() is one match of `Kind::X => "code"`.
    let source = read(&root().join("host/src/error.rs"));
    let kinds: Vec<&str> = source
        .split(" => \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(kinds.len() > 10 && kinds.contains(&"bug"), "{kinds:?}");
    let problems = weir::config::problem::CODES.iter().map(|(code, _)| *code);
    for code in kinds.into_iter().chain(problems) {
        assert!(
            page.contains(&format!("\n### `{code}`\n")),
            "docs/errors.md: {code}"
        );
    }
}

/// Rules of the commit protocol that a text cites: `V2`, `W5`, `O3`, …
fn cited(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let cited = words.filter(|word| {
        let (letter, number) = word.split_at_checked(1).unwrap_or(("", ""));
        matches!(letter, "V" | "R" | "W" | "P" | "B" | "O" | "D")
            && (1..=2).contains(&number.len())
            && number.bytes().all(|b| b.is_ascii_digit())
    });
    cited.collect()
}

/// Its sections that a text cites: `§3`.
fn sections(text: &str) -> Vec<&str> {
    let cited = text.split('§').skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest.split_at(end.unwrap_or(rest.len())).0
    });
    cited.filter(|number| !number.is_empty()).collect()
}

#[test]
fn every_cited_rule_of_the_protocol_has_a_heading() {
    let page = read(&root().join("docs/protocol.md"));
    let mut texts = sources(&["host/src", "shipped", "tests"]);
    for folder in ["", "docs", "docs/adr"] {
        let entries = std::fs::read_dir(root().join(folder)).expect("folder");
        let pages = entries.map(|entry| entry.expect("entry").path());
        texts.extend(pages.filter(|page| page.extension().is_some_and(|e| e == "md")));
    }
    let mut missing = Vec::new();
    for path in texts {
        let text = read(&path).replace("\\u{", "\\u_"); // U+00B7 is no rule
        for rule in cited(&text) {
            if !page.contains(&format!("\n### {rule}\n")) {
                missing.push(format!("{}: {rule}", shown(&path)));
            }
        }
        for section in sections(&text) {
            if !page.contains(&format!("\n## {section}. ")) {
                missing.push(format!("{}: §{section}", shown(&path)));
            }
        }
    }
    assert!(missing.is_empty(), "docs/protocol.md: {missing:#?}");
    assert_eq!(cited("V2, hole W5: R44x and _P1, O11"), ["V2", "W5", "O11"]);
    assert_eq!(sections("of §3, and §10 B0; § 4"), ["3", "10"]);
}

#[test]
fn every_test_that_the_protocol_names_is_there() {
    let page = read(&root().join("docs/protocol.md"));
    let (_, table) = page.split_once("\n## 14. ").expect("the section");
    let (mut missing, mut named) = (Vec::new(), 0);
    for name in table.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.split_once("::") else {
            continue;
        };
        named += 1;
        let file = root().join(format!("tests/suite/{module}.rs"));
        if !file.is_file() || !read(&file).contains(&format!("fn {test}()")) {
            missing.push(name);
        }
    }
    assert!(missing.is_empty(), "docs/protocol.md: {missing:#?}");
    assert!(named > 30, "{named} tests");
}

/// An operator is told what is wrong in words; the number of a rule stands beside them at most (`Violation`).
#[test]
fn no_message_is_the_number_of_a_rule_alone() {
    let mut wrong = Vec::new();
    for path in sources(&["host/src"]) {
        // Connect's own names of versions, V1 and V2.
        if shown(&path).starts_with("host/src/connect/") || shown(&path).ends_with("tests.rs") {
            continue;
        }
        for (number, line) in (1..).zip(read(&path).lines()) {
            let code = line.split("//").next().unwrap_or(line);
            for literal in code.split('"').skip(1).step_by(2) {
                if !cited(literal).is_empty() && cited(literal) != [literal] {
                    wrong.push(format!("{}:{number}: {literal}", shown(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn comments_name_only_documents_that_are_here() {
    let mut wrong = Vec::new();
    for path in sources(&["host/src", "tests", "plugins"]) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let Some((_, comment)) = line.split_once("//") else {
                continue;
            };
            for word in comment.split(|c: char| c.is_whitespace() || "`()[],;\"".contains(c)) {
                let word = word.split('#').next().unwrap_or(word).trim_end_matches('.');
                let page = word.starts_with("docs/") && word.ends_with(".md");
                if page && !root().join(word).is_file() {
                    wrong.push(format!("{}:{number} names {word}", shown(&path)));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_name_inside_another_is_none() {
    assert!(names("use rdkafka::config;", "rdkafka"));
    assert!(!names("// rdkafka::config", "rdkafka"));
    assert!(!names("let my_rdkafka::x", "rdkafka"));
    assert!(!names("the word rdkafka alone", "rdkafka"));
}
