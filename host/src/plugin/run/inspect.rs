//! What a component is and what it can use, for people who decide whether to run it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use wasmtime::component::types::ComponentItem;

use super::component::{Component, Info};
use crate::error::Result;
use crate::plugin::compile::engine::Stop;
use crate::plugin::text::printable;

/// One interface that a component imports. All of it is served, otherwise the component would not have loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Import {
    pub name: String,
    pub functions: Vec<String>,
    /// What the host answers.
    pub means: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    pub imports: Vec<Import>,
    pub exports: Vec<String>,
    /// Components inside this one.
    pub components: usize,
    pub core_modules: usize,
}

/// A key of a plugin's config, as its schema has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PluginKey")]
pub struct ConfigKey {
    /// `<name>` is the part that a pattern leaves open.
    pub key: String,
    /// JSON type, or what `format` makes of it: file, table, secret.
    pub kind: String,
    pub default: Option<String>,
    pub required: bool,
    pub about: String,
}

impl Component {
    pub fn shape(&self) -> Result<Shape> {
        let pre = self.pre(Stop::Time)?;
        let engine = pre.engine();
        let component = pre.instance_pre().component().component_type();
        let imports = component.imports(engine).map(|(name, item)| {
            let mut functions = Vec::new();
            if let ComponentItem::ComponentInstance(instance) = &item.ty {
                let called = |item: &ComponentItem| matches!(item, ComponentItem::ComponentFunc(_));
                let names = instance
                    .exports(engine)
                    .filter(|(_, item)| called(&item.ty));
                functions.extend(names.map(|(function, _)| function.to_owned()));
            }
            Import {
                name: name.to_owned(),
                functions,
                means: meaning(name.split('@').next().unwrap_or(name)).to_owned(),
            }
        });
        let (components, core_modules) = parts(self.bytes());
        Ok(Shape {
            imports: imports.collect(),
            exports: (component.exports(engine))
                .map(|(name, _)| name.to_owned())
                .collect(),
            components,
            core_modules,
        })
    }
}

/// What an import does in this host. Every served interface has a line here.
fn meaning(interface: &str) -> &'static str {
    match interface {
        "weir:plugin/log" => "lines into the pipeline's log, bounded per batch",
        "weir:plugin/transform" => "the contract's types; nothing is called",
        "wasi:cli/environment" => "arguments and variables: there are none",
        "wasi:cli/exit" => "ends the call: its record is set aside",
        "wasi:cli/stdin" => "standard input: always at its end",
        "wasi:cli/stdout" | "wasi:cli/stderr" => "text into the pipeline's log, bounded per batch",
        "wasi:io/poll" => "waiting: comes back at once",
        "wasi:io/streams" => "the standard streams above",
        "wasi:io/error" => "the text of a stream's error",
        terminal if terminal.starts_with("wasi:cli/terminal-") => "a terminal: there is none",
        _ => "types; nothing is called",
    }
}

/// Counts components and core modules inside a component, by the sections of the binary format: one byte for the kind,
/// LEB128 for the length.
fn parts(component: &[u8]) -> (usize, usize) {
    const PREAMBLE: usize = 8;
    const CORE_MODULE: u8 = 1;
    const COMPONENT: u8 = 4;
    let (mut components, mut modules) = (0, 0);
    // Nested components wait here, so that their depth costs no stack.
    let mut todo = vec![component];
    while let Some(bytes) = todo.pop() {
        let mut rest = bytes.get(PREAMBLE..).unwrap_or_default();
        while let Some((&id, after)) = rest.split_first() {
            let Some((length, after)) = leb128(after) else {
                break;
            };
            let Some((section, after)) = after.split_at_checked(length) else {
                break;
            };
            match id {
                CORE_MODULE => modules += 1,
                COMPONENT => {
                    components += 1;
                    todo.push(section);
                }
                _ => {}
            }
            rest = after;
        }
    }
    (components, modules)
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0usize;
    for (n, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[n + 1..]));
        }
    }
    None
}

impl Info {
    /// The keys of the config, required ones first.
    pub fn keys(&self) -> Vec<ConfigKey> {
        let schema: Value = serde_json::from_str(&self.config_schema).unwrap_or_default();
        let required: Vec<&str> = (schema["required"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect();
        let of = |name: &str| -> BTreeMap<String, Value> {
            serde_json::from_value(schema[name].clone()).unwrap_or_default()
        };
        let named = of("properties").into_iter();
        let patterns = of("patternProperties").into_iter().map(|(pattern, spec)| {
            let literal = crate::plugin::config::canonical::literal(&pattern);
            (
                literal.map_or(pattern, |prefix| format!("{prefix}<name>")),
                spec,
            )
        });
        let mut keys: Vec<ConfigKey> = (named.chain(patterns))
            .map(|(key, spec)| ConfigKey {
                kind: printable(&kind(&spec)),
                default: spec.get("default").map(|value| match value.as_str() {
                    Some(text) => printable(text),
                    None => value.to_string(),
                }),
                required: required.contains(&key.as_str()),
                about: printable(spec["description"].as_str().unwrap_or_default()),
                key: printable(&key),
            })
            .collect();
        keys.sort_by_key(|key| !key.required);
        keys
    }
}

fn kind(spec: &Value) -> String {
    if let Some(format) = spec["format"]
        .as_str()
        .and_then(|f| f.strip_prefix("weir-"))
    {
        return format.to_owned();
    }
    if let Some(choices) = spec["enum"].as_array() {
        let texts: Vec<String> = (choices.iter())
            .map(|choice| {
                choice
                    .as_str()
                    .map_or_else(|| choice.to_string(), str::to_owned)
            })
            .collect();
        return texts.join(" | ");
    }
    spec["type"].as_str().unwrap_or("string").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_and_nonsense_ends_the_count() {
        let preamble = b"\0asm\x0d\0\x01\0";
        let section = |id: u8, body: &[u8]| [&[id, body.len() as u8], body].concat();
        let inner = [&preamble[..], &section(1, b"xx"), &section(0, b"name")].concat();
        let outer = [
            &preamble[..],
            &section(4, &inner),
            &section(1, b""),
            &section(7, b"t"),
        ]
        .concat();
        assert_eq!(parts(&outer), (1, 2));
        assert_eq!(parts(&outer[..outer.len() - 1]), (1, 2));
        assert_eq!(parts(b"\0asm"), (0, 0));
        assert_eq!(
            parts(&[&preamble[..], &[1, 0xff, 0xff, 0xff, 0xff, 0xff]].concat()),
            (0, 0)
        );
    }

    #[test]
    fn keys_are_told_as_people_type_them() {
        let info = Info {
            name: "p".into(),
            version: "1".into(),
            summary: String::new(),
            config_schema: r#"{"required":["z"],"properties":{"a":{"type":"integer","default":4,"description":"depth"},
                "z":{"format":"weir-table"},"m":{"enum":["x","y"]}},"patternProperties":{"^columns\\..+$":{}}}"#.into(),
        };
        let told: Vec<_> = info
            .keys()
            .into_iter()
            .map(|k| (k.key, k.kind, k.default, k.required))
            .collect();
        let own = |key: &str, kind: &str, default: Option<&str>, required| {
            (
                key.to_owned(),
                kind.to_owned(),
                default.map(str::to_owned),
                required,
            )
        };
        assert_eq!(
            told,
            [
                own("z", "table", None, true),
                own("a", "integer", Some("4"), false),
                own("m", "x | y", None, false),
                own("columns.<name>", "string", None, false),
            ]
        );
    }
}
