//! `/connector-plugins`: the classes that a config may name, the plugins of the worker's places, and validation, from which
//! web consoles draw their forms.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::body;
use super::fault::{self, HttpError};
use super::route::{
    Access, Ctx, HttpResponse, Method, Param, Request, RequestBody, ResponseBody, Route,
};
use super::schemas;
use crate::config::raw::{CONNECTOR_CLASS, OUR_CLASS};
use crate::config::{self, Problem};
use crate::connect::{self, Class, ConnectorKind, Importance, Key, Type, Width};
use crate::plugin::{ConfigKey, Plugins, shipped};

const HIDDEN: &str = "[hidden]";

pub(super) fn routes() -> Vec<Route> {
    let base = Route {
        method: Method::Get,
        path: "/connector-plugins",
        may: Access::Reader,
        tag: "connector plugins",
        summary: "Connector classes; with connectorsOnly=false the plugins for `transforms` too",
        query: &[Param {
            name: "connectorsOnly",
            schema: schemas::of::<String>,
            doc: "`true` in any case, or absent: classes only. Anything else: all.",
            many: false,
        }],
        takes: RequestBody::Nothing,
        gives: &[(200, ResponseBody::Json(schemas::of::<Vec<PluginInfo>>))],
        faults: &[],
        handler: list,
    };
    vec![
        base,
        Route {
            path: "/connector-plugins/{plugin}/config",
            summary: "All keys of a class or plugin",
            query: &[],
            gives: &[(
                200,
                ResponseBody::Json(schemas::of::<Vec<ConfigKeyInfo<'_>>>),
            )],
            faults: &[404],
            handler: keys,
            ..base
        },
        Route {
            method: Method::Put,
            path: "/connector-plugins/{plugin}/config/validate",
            // It resolves references and opens what the config names.
            may: Access::Writer,
            summary: "Check a config without keeping it: every key with its definition, value and errors",
            query: &[],
            takes: RequestBody::Json(schemas::of::<schemas::ConfigChanges>),
            gives: &[(200, ResponseBody::Json(schemas::of::<ConfigInfos<'_>>))],
            faults: &[404],
            handler: validate,
            ..base
        },
    ]
}

// ------------------------------------------------------------------- shapes

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum PluginType {
    Source,
    Sink,
    Unknown,
    Transformation,
}

impl From<ConnectorKind> for PluginType {
    fn from(kind: ConnectorKind) -> Self {
        match kind {
            ConnectorKind::Source => PluginType::Source,
            ConnectorKind::Sink => PluginType::Sink,
            ConnectorKind::Unknown => PluginType::Unknown,
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct PluginInfo {
    class: String,
    r#type: PluginType,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct ConfigKeyInfo<'a> {
    name: &'a str,
    r#type: Type,
    required: bool,
    default_value: Option<&'a str>,
    importance: Importance,
    documentation: &'a str,
    group: &'a str,
    width: Width,
    display_name: &'a str,
    /// Always empty: some clients read objects here.
    dependents: [String; 0],
    order: i32,
}

impl<'a> From<&'a Key> for ConfigKeyInfo<'a> {
    fn from(key: &'a Key) -> Self {
        ConfigKeyInfo {
            name: &key.name,
            r#type: key.kind,
            required: key.required,
            default_value: key.default.as_deref(),
            importance: key.importance,
            documentation: &key.documentation,
            group: &key.group,
            width: key.width,
            display_name: &key.display_name,
            dependents: [],
            order: key.order,
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct ConfigValueInfo<'a> {
    name: &'a str,
    value: Option<&'a str>,
    recommended_values: &'a [String],
    errors: Vec<String>,
    visible: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct ConfigInfo<'a> {
    definition: Option<ConfigKeyInfo<'a>>,
    value: ConfigValueInfo<'a>,
}

#[derive(Serialize, JsonSchema)]
struct ConfigInfos<'a> {
    name: &'a str,
    error_count: usize,
    groups: Vec<&'a str>,
    configs: Vec<ConfigInfo<'a>>,
}

// --------------------------------------------------------------------- list

fn list(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let classes = connect::classes().iter().map(|class| PluginInfo {
        class: class.name.to_owned(),
        r#type: class.kind.into(),
        version: Some(class.version.to_owned()),
    });
    let mut all: Vec<PluginInfo> = classes.collect();
    if request.query("connectorsOnly").is_some() && !request.flag("connectorsOnly") {
        all.extend(transformations(&ctx.daemon()?.plugins()?)?);
    }
    HttpResponse::json(200, &all)
}

/// Pushed and shipped plugins with their versions; loose files of `plugin.path` only by name, because nothing is
/// compiled for a list.
fn transformations(plugins: &Plugins) -> Result<Vec<PluginInfo>, HttpError> {
    let refs = plugins.store().all_refs()?.into_iter();
    let mut found: Vec<(String, Option<String>)> = refs
        .filter(|r| !r.yanked)
        .map(|r| (r.name, Some(r.version)))
        .collect();
    for name in loose(plugins) {
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, None));
        }
    }
    for plugin in shipped() {
        if !found.iter().any(|(known, _)| known == plugin.name) {
            let version = Some(plugin.version.to_owned());
            found.push((plugin.name.to_owned(), version));
        }
    }
    found.sort();
    let of = |(class, version)| PluginInfo {
        class,
        r#type: PluginType::Transformation,
        version,
    };
    Ok(found.into_iter().map(of).collect())
}

fn loose(plugins: &Plugins) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(plugins.path()) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_suffix(".wasm")?.to_owned())
    });
    names.collect()
}

// --------------------------------------------------------------------- keys

fn keys(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("plugin");
    if let Some(class) = Class::find(name) {
        let all: Vec<ConfigKeyInfo<'_>> = class.keys.iter().map(ConfigKeyInfo::from).collect();
        return HttpResponse::json(200, &all);
    }
    let plugins = ctx.daemon()?.plugins()?;
    let known = loose(&plugins).iter().any(|loose| loose == name)
        || shipped().iter().any(|shipped| shipped.name == name)
        || {
            let refs = plugins.store().all_refs()?;
            refs.iter().any(|pushed| pushed.name == name)
        };
    if !known {
        return Err(HttpError::not_found(format!(
            "Unknown plugin {name}. GET /connector-plugins?connectorsOnly=false lists what there is"
        )));
    }
    let own = plugin_keys(&plugins, name, "", "Plugin", 1)?;
    let all: Vec<ConfigKeyInfo<'_>> = own.iter().map(ConfigKeyInfo::from).collect();
    HttpResponse::json(200, &all)
}

/// A plugin's own keys from the schema that it carries.
fn plugin_keys(
    plugins: &Plugins,
    typed: &str,
    prefix: &str,
    group: &str,
    first: i32,
) -> Result<Vec<Key>, HttpError> {
    let wanted = config::plugin_ref(typed).map_err(|refusal| HttpError::bad(refusal.expected))?;
    let component = plugins.find(&wanted.name, &|version, digest| {
        wanted.pin.takes(version, digest)
    })?;
    let own = component.info().keys();
    let shown = (first..)
        .zip(own)
        .map(|(order, key)| of_plugin(key, prefix, group, order));
    Ok(shown.collect())
}

fn of_plugin(key: ConfigKey, prefix: &str, group: &str, order: i32) -> Key {
    let kind = match key.kind.as_str() {
        "boolean" => Type::Boolean,
        "integer" | "number" => Type::Long,
        "array" => Type::List,
        "secret" => Type::Password,
        _ => Type::String,
    };
    let (default, required) = match (key.default, key.required) {
        (Some(default), _) => (Some(default), false),
        (None, true) => (None, true),
        (None, false) => (Some(String::new()), false),
    };
    let mut documentation = key.about;
    if !documentation.is_empty() && !documentation.ends_with('.') {
        documentation.push('.');
    }
    documentation.push_str(&format!(" Type: {}.", key.kind));
    Key {
        name: format!("{prefix}{}", key.key),
        kind,
        required,
        default,
        importance: if required {
            Importance::High
        } else {
            Importance::Medium
        },
        documentation: documentation.trim().to_owned(),
        group: group.to_owned(),
        order,
        width: match kind {
            Type::Boolean | Type::Long => Width::Short,
            _ => Width::Medium,
        },
        display_name: key.key,
        recommended: Vec::new(),
    }
}

// ----------------------------------------------------------------- validate

/// `a.b.FooSinkConnector`, `FooSinkConnector` and `FooSink` are one.
fn same_class(path: &str, class: &str) -> bool {
    let bare = |name: &str| {
        let name = name.trim();
        name.strip_suffix("Connector").unwrap_or(name).to_owned()
    };
    let (path, class) = (bare(path), bare(class));
    path.ends_with(&class) || class.ends_with(&path)
}

fn validate(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let path = request.param("plugin").to_owned();
    let mut config = BTreeMap::new();
    let mut problems = Vec::new();
    let typed = body::numbers(&request.body, None);
    for (key, value) in body::changes(request.object()?, typed)? {
        match value {
            Some(value) => {
                config.insert(key, value);
            }
            None => problems.push(body::null(&key)),
        }
    }
    let ours = Class::find(&path).is_some_and(|class| class.name == OUR_CLASS);
    if ours {
        // The key's default.
        config
            .entry(CONNECTOR_CLASS.to_owned())
            .or_insert_with(|| OUR_CLASS.to_owned());
    }
    let typed = config.get(CONNECTOR_CLASS).map_or("", |class| class.trim());
    if typed.is_empty() {
        return Err(HttpError::bad(format!(
            "Connector config {{{}}} contains no connector type",
            config.keys().cloned().collect::<Vec<_>>().join(", ")
        )));
    }
    let full = Class::find(typed).map_or(typed, |class| class.name);
    if !same_class(&path, typed) && !same_class(&path, full) {
        return Err(HttpError::bad(format!(
            "Included connector type {typed} does not match request type {path}"
        )));
    }
    let Some(mut keys) = connect::definitions(&config) else {
        let known: Vec<&str> = connect::classes().iter().map(|class| class.name).collect();
        return Err(HttpError::bad(format!(
            "Failed to find any class that implements Connector and which name matches {typed}, \
             available connectors are: {}",
            known.join(", ")
        )));
    };
    of_transforms(ctx, &config, &mut keys)?;
    problems.extend(ctx.daemon()?.validate(&config));
    HttpResponse::json(200, &infos(typed, &config, &keys, &problems))
}

/// A block for each transform that is one of our plugins. One that cannot be found has its error from the check.
fn of_transforms(
    ctx: &Ctx,
    config: &BTreeMap<String, String>,
    keys: &mut Vec<Key>,
) -> Result<(), HttpError> {
    let mut plugins = None;
    for alias in connect::aliases(config, "transforms") {
        let Some(typed) = config.get(&format!("transforms.{alias}.type")) else {
            continue;
        };
        if config::plugin_ref(typed).is_err() {
            continue;
        }
        let plugins = match &plugins {
            Some(plugins) => plugins,
            None => plugins.insert(ctx.daemon()?.plugins()?),
        };
        let group = format!("Transforms: {alias}");
        let prefix = format!("transforms.{alias}.");
        let last = keys.iter().filter(|key| key.group == group).count();
        let first = i32::try_from(last).unwrap_or(i32::MAX - 1) + 1;
        if let Ok(own) = plugin_keys(plugins, typed, &prefix, &group, first) {
            let new = |key: &Key| !keys.iter().any(|known| known.name == key.name);
            let own: Vec<Key> = own.into_iter().filter(new).collect();
            keys.extend(own);
        }
    }
    Ok(())
}

fn infos<'a>(
    name: &'a str,
    config: &'a BTreeMap<String, String>,
    keys: &'a [Key],
    problems: &'a [Problem],
) -> ConfigInfos<'a> {
    // A problem without a key is shown at the class: a form must show it somewhere.
    let place = |problem: &'a Problem| match problem.key.as_str() {
        "" => CONNECTOR_CLASS,
        key => key,
    };
    let mut errors: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        let line = fault::words(problem);
        errors.entry(place(problem)).or_default().push(line);
    }
    let error_count = errors.values().map(Vec::len).sum();
    let mut configs = Vec::new();
    for key in keys {
        let given = config.get(&key.name).or(key.default.as_ref());
        let secret = key.kind == Type::Password;
        configs.push(ConfigInfo {
            definition: Some(ConfigKeyInfo::from(key)),
            value: ConfigValueInfo {
                name: &key.name,
                value: given.map(|value| if secret { HIDDEN } else { value.as_str() }),
                recommended_values: &key.recommended,
                errors: errors.remove(key.name.as_str()).unwrap_or_default(),
                visible: true,
            },
        });
    }
    let defined = |name: &str| keys.iter().any(|key| key.name == name);
    let mut unknown: Vec<&str> = config.keys().map(String::as_str).collect();
    unknown.extend(errors.keys().copied());
    unknown.retain(|name| !defined(name));
    unknown.sort_unstable();
    unknown.dedup();
    for name in unknown {
        configs.push(ConfigInfo {
            definition: None,
            value: ConfigValueInfo {
                name,
                value: config.get(name).map(String::as_str),
                recommended_values: &[],
                errors: errors.remove(name).unwrap_or_default(),
                visible: true,
            },
        });
    }
    let mut groups: Vec<&str> = Vec::new();
    for key in keys {
        if !groups.contains(&key.group.as_str()) {
            groups.push(&key.group);
        }
    }
    ConfigInfos {
        name,
        error_count,
        groups,
        configs,
    }
}

#[cfg(test)]
mod tests {
    use super::same_class;

    #[test]
    fn a_class_answers_to_its_simple_name_with_and_without_connector() {
        let full = "org.apache.kafka.connect.file.FileStreamSinkConnector";
        for path in [full, "FileStreamSinkConnector", "FileStreamSink"] {
            assert!(same_class(path, full), "{path}");
        }
        assert!(same_class(full, "FileStreamSink"));
        assert!(!same_class("FileStreamSource", full) && !same_class("weir", full));
    }
}
