//! `/connectors`: Connect's routes, shapes, codes and order of fields. Deliberate differences are in `differences`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::body;
use super::fault::HttpError;
use super::route::{
    Access, Ctx, HttpResponse, Method, Param, Request, RequestBody, ResponseBody, Route, encoded,
};
use super::schemas;
use crate::config::raw::CONNECTOR_CLASS;
use crate::connect::ConnectorKind;
use crate::daemon::{Info, Readers, Refused, Standing, Status, Target, TaskStatus};

const TAG: &str = "connectors";
/// Connect has no limit; a name is a part of paths here.
const NAME_BYTES: usize = 200;
const EXPAND: Param = Param {
    name: "expand",
    schema: schemas::of::<String>,
    doc: "`status`, `info`, or both; anything else is ignored.",
    many: true,
};
const INCLUDE_TASKS: Param = Param {
    name: "includeTasks",
    schema: schemas::of::<String>,
    doc: "`true` in any case: the tasks too. Anything else is false.",
    many: false,
};
const ONLY_FAILED: Param = Param {
    name: "onlyFailed",
    schema: schemas::of::<String>,
    doc: "`true` in any case: only what is FAILED. Anything else is false.",
    many: false,
};

const ALLOW_BREAKING: Param = Param {
    name: "allow_breaking",
    schema: schemas::of::<String>,
    doc: "`true` in any case: also where columns of the table go or change their type, which is refused otherwise.",
    many: false,
};

const INFO: ResponseBody = ResponseBody::Json(schemas::of::<ConnectorInfo<'_>>);
const STATUS: ResponseBody = ResponseBody::Json(schemas::of::<ConnectorStateInfo<'_>>);

macro_rules! route {
    ($method:ident $path:literal $may:ident $summary:literal, $takes:expr, [$($gives:expr),*], [$($fault:literal),*], $handler:expr $(, query: $query:expr)?) => {
        Route {
            method: Method::$method, path: $path, may: Access::$may, tag: TAG, summary: $summary,
            query: { const ALL: &[&[Param]] = &[$($query)?]; match ALL { [all] => all, _ => &[] } },
            takes: $takes, gives: &[$($gives),*], faults: &[$($fault),*], handler: $handler,
        }
    };
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        route!(Get "/connectors" Reader "Names, or with `expand` what they are and do",
            RequestBody::Nothing, [(200, ResponseBody::Json(schemas::of::<Connectors<'_>>))], [], list, query: &[EXPAND]),
        route!(Post "/connectors" Writer "Create a pipeline or connector",
            RequestBody::Json(schemas::of::<schemas::CreateConnector>), [(201, INFO)], [409], create, query: &[ALLOW_BREAKING]),
        route!(Get "/connectors/{name}" Reader "Its config and tasks",
            RequestBody::Nothing, [(200, INFO)], [404], get),
        route!(Delete "/connectors/{name}" Writer "Stop and forget it; what it wrote stays",
            RequestBody::Nothing, [(204, ResponseBody::Nothing)], [404, 409], delete),
        route!(Get "/connectors/{name}/config" Reader "Its config, as it was given",
            RequestBody::Nothing, [(200, ResponseBody::Json(schemas::of::<StoredConfig<'_>>))], [404], config),
        route!(Put "/connectors/{name}/config" Writer "Replace the config, or create with it",
            RequestBody::Json(schemas::of::<schemas::Config>), [(200, INFO), (201, INFO)], [409], put, query: &[ALLOW_BREAKING]),
        route!(Patch "/connectors/{name}/config" Writer "Change single keys; null removes one",
            RequestBody::Json(schemas::of::<schemas::ConfigChanges>), [(200, INFO)], [404, 409], patch, query: &[ALLOW_BREAKING]),
        route!(Get "/connectors/{name}/status" Reader "What it and its tasks do",
            RequestBody::Nothing, [(200, STATUS)], [404], status),
        route!(Get "/connectors/{name}/tasks" Reader "Its tasks and their configs",
            RequestBody::Nothing, [(200, ResponseBody::Json(schemas::of::<Vec<TaskInfo<'_>>>))], [404], tasks),
        route!(Get "/connectors/{name}/tasks/{task}/status" Reader "What one task does",
            RequestBody::Nothing, [(200, ResponseBody::Json(schemas::of::<TaskState<'_>>))], [404], task_status),
        route!(Post "/connectors/{name}/tasks/{task}/restart" Writer "Begin a task again",
            RequestBody::Nothing, [(204, ResponseBody::Nothing)], [404, 409], restart_task),
        route!(Post "/connectors/{name}/restart" Writer "Begin it again, with or without its tasks",
            RequestBody::Nothing, [(204, ResponseBody::Nothing), (202, STATUS)], [404, 409], restart,
            query: &[INCLUDE_TASKS, ONLY_FAILED]),
        route!(Put "/connectors/{name}/pause" Writer "Drain and wait, tasks kept",
            RequestBody::Nothing, [(202, ResponseBody::Nothing)], [404, 409], |ctx, request| target(ctx, request, Target::Paused, 202)),
        route!(Put "/connectors/{name}/resume" Writer "Run again, from PAUSED or STOPPED",
            RequestBody::Nothing, [(202, ResponseBody::Nothing)], [404, 409], |ctx, request| target(ctx, request, Target::Running, 202)),
        route!(Put "/connectors/{name}/stop" Writer "Drain and release all tasks; offsets may be changed then",
            RequestBody::Nothing, [(204, ResponseBody::Nothing)], [404, 409], |ctx, request| target(ctx, request, Target::Stopped, 204)),
        route!(Get "/connectors/{name}/topics" Reader "Topics that records came from or went to",
            RequestBody::Nothing, [(200, ResponseBody::Json(schemas::of::<ActiveTopics<'_>>))], [], topics),
        route!(Put "/connectors/{name}/topics/reset" Writer "Forget those topics",
            RequestBody::Nothing, [(202, ResponseBody::Nothing)], [], reset_topics),
        route!(Post "/connectors/{name}/tasks" Writer "Between Connect's own workers; always refused",
            RequestBody::Nothing, [], [403], internal),
        route!(Put "/connectors/{name}/fence" Writer "Between Connect's own workers; always refused",
            RequestBody::Nothing, [], [403], internal),
    ]
}

// ------------------------------------------------------------------- shapes

/// A config as it was given, with `name`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredConfig")]
struct StoredConfig<'a>(&'a BTreeMap<String, String>);

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct TaskId<'a> {
    connector: &'a str,
    task: usize,
}

#[derive(Serialize, JsonSchema)]
struct ConnectorInfo<'a> {
    name: &'a str,
    config: StoredConfig<'a>,
    tasks: Vec<TaskId<'a>>,
    r#type: ConnectorKind,
}

impl<'a> From<&'a Info> for ConnectorInfo<'a> {
    fn from(info: &'a Info) -> Self {
        let connector = info.name.as_str();
        ConnectorInfo {
            name: connector,
            config: StoredConfig(&info.config),
            tasks: (0..info.tasks)
                .map(|task| TaskId { connector, task })
                .collect(),
            r#type: info.kind,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct ConnectorState<'a> {
    state: Standing,
    worker_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
}

#[derive(Serialize, JsonSchema)]
struct TaskState<'a> {
    id: usize,
    state: Standing,
    worker_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a str>,
}

impl<'a> TaskState<'a> {
    fn of(task: &'a TaskStatus, worker_id: &'a str) -> Self {
        TaskState {
            id: task.id,
            state: task.standing,
            worker_id,
            trace: task.trace.as_deref(),
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct ConnectorStateInfo<'a> {
    name: &'a str,
    connector: ConnectorState<'a>,
    tasks: Vec<TaskState<'a>>,
    r#type: ConnectorKind,
}

impl<'a> ConnectorStateInfo<'a> {
    fn of(status: &'a Status, worker_id: &'a str) -> Self {
        let tasks = status.tasks.iter();
        ConnectorStateInfo {
            name: &status.name,
            connector: ConnectorState {
                state: status.standing,
                worker_id,
                trace: status.trace.as_deref(),
            },
            tasks: tasks.map(|task| TaskState::of(task, worker_id)).collect(),
            r#type: status.kind,
        }
    }
}

#[derive(Serialize, JsonSchema)]
struct TaskInfo<'a> {
    id: TaskId<'a>,
    config: StoredConfig<'a>,
}

/// Only names, or with `expand` the requested details of each.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Connectors<'a> {
    Names(Vec<String>),
    Expanded(BTreeMap<&'a str, Expanded<'a>>),
}

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Expanded<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ConnectorStateInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<ConnectorInfo<'a>>,
}

/// By the connector's name.
#[derive(Serialize, JsonSchema)]
struct ActiveTopics<'a>(BTreeMap<&'a str, Topics>);

#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
struct Topics {
    topics: Vec<String>,
}

// ----------------------------------------------------------------- handlers

/// Connect's words for an unknown name differ from route to route.
fn unless_unknown(refused: Refused, unknown: impl FnOnce() -> String) -> HttpError {
    match refused {
        Refused::NotFound(_) => HttpError::not_found(unknown()),
        other => HttpError::from(other),
    }
}

fn list(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let names = ctx.daemon()?.names();
    if request.query("expand").is_none() {
        return HttpResponse::json(200, &Connectors::Names(names));
    }
    let wants = |what: &str| request.queries("expand").any(|given| given == what);
    let worker = ctx.daemon()?.worker_id();
    let mut found = Vec::new();
    for name in names {
        // One that was deleted meanwhile is left out.
        if let (Ok(status), Ok(info)) = (ctx.daemon()?.status(&name), ctx.daemon()?.info(&name)) {
            found.push((status, info));
        }
    }
    let expanded = found.iter().map(|(status, info)| {
        let expanded = Expanded {
            status: wants("status").then(|| ConnectorStateInfo::of(status, &worker)),
            info: wants("info").then(|| ConnectorInfo::from(info)),
        };
        (info.name.as_str(), expanded)
    });
    HttpResponse::json(200, &Connectors::Expanded(expanded.collect()))
}

/// Refuses a name that cannot be used in paths, logs and metrics.
fn check_name(name: &str) -> Result<(), HttpError> {
    if name.is_empty() {
        return Err(HttpError::bad("String may not be empty"));
    }
    let bad = |c: char| c.is_control() || matches!(c, '/' | '\\' | '%');
    if let Some(c) = name.chars().find(|c| bad(*c)) {
        return Err(HttpError::bad(format!(
            "the name {name:?} contains {c:?}; names are without `/`, `\\`, `%` and control characters"
        )));
    }
    if name == "." || name == ".." || name.len() > NAME_BYTES {
        return Err(HttpError::bad(format!(
            "a name has at most {NAME_BYTES} bytes and is not `.` or `..`"
        )));
    }
    Ok(())
}

/// `name` within a config agrees with the one in the path or beside it.
fn named(config: &mut BTreeMap<String, String>, name: &str) -> Result<(), HttpError> {
    match config.get("name") {
        Some(inside) if inside != name => Err(HttpError::bad(format!(
            "Connector name configuration ({inside}) doesn't match connector name in the URL ({name})"
        ))),
        Some(_) => Ok(()),
        None => {
            config.insert("name".to_owned(), name.to_owned());
            Ok(())
        }
    }
}

/// What a connector is has no default over HTTP.
fn has_class(config: &BTreeMap<String, String>) -> Result<(), HttpError> {
    match config.contains_key(CONNECTOR_CLASS) {
        true => Ok(()),
        false => Err(HttpError::bad(format!(
            "Connector config {{{}}} contains no connector type: `{CONNECTOR_CLASS}` is missing",
            config.keys().cloned().collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn location(request: &Request, name: &str) -> String {
    format!("{}/connectors/{}", request.base, encoded(name))
}

fn create(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let object = request.members(&["name", "config", "initial_state"])?;
    let given = body::word(&object, "name")?.unwrap_or_default();
    let mut config = match object.get("config") {
        Some(Value::Object(config)) => {
            body::config(config.clone(), body::numbers(&request.body, Some("config")))?
        }
        Some(other) => {
            return Err(HttpError::bad(format!(
                "`config` is {}; an object is expected",
                body::kind(other)
            )));
        }
        None => return Err(HttpError::bad("the body has no `config`")),
    };
    let name = given.trim().to_owned();
    if config.contains_key("name") {
        named(&mut config, &name)?;
    }
    check_name(&name)?;
    named(&mut config, &name)?;
    has_class(&config)?;
    let target = match body::text(&object, "initial_state")? {
        None => Target::Running,
        Some(word) => match word.to_ascii_uppercase().as_str() {
            "RUNNING" => Target::Running,
            "PAUSED" => Target::Paused,
            "STOPPED" => Target::Stopped,
            _ => {
                return Err(HttpError::bad(format!(
                    "`initial_state` is {word:?}; RUNNING, PAUSED or STOPPED is expected"
                )));
            }
        },
    };
    let created = ctx
        .daemon()?
        .create(&name, config, target, readers(request), &ctx.actor);
    let info = created.map_err(|refused| match refused {
        Refused::Exists(_) => HttpError::conflict(format!("Connector {name} already exists")),
        other => HttpError::from(other),
    })?;
    created_as(&info, request, &name)
}

/// Without tasks, as with Connect: whether they run already is a matter of a moment.
fn created_as(info: &Info, request: &Request, name: &str) -> Result<HttpResponse, HttpError> {
    let mut shown = ConnectorInfo::from(info);
    shown.tasks.clear();
    let answer = HttpResponse::json(201, &shown)?;
    Ok(answer.header("location", location(request, name)))
}

fn not_found(name: &str) -> String {
    format!("Connector {name} not found")
}

fn get(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let info = ctx.daemon()?.info(name);
    let info = info.map_err(|refused| unless_unknown(refused, || not_found(name)))?;
    HttpResponse::json(200, &ConnectorInfo::from(&info))
}

fn config(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let info = ctx.daemon()?.info(name);
    let info = info.map_err(|refused| unless_unknown(refused, || not_found(name)))?;
    HttpResponse::json(200, &StoredConfig(&info.config))
}

fn delete(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let deleted = ctx.daemon()?.delete(name, &ctx.actor);
    deleted.map_err(|refused| unless_unknown(refused, || not_found(name)))?;
    Ok(HttpResponse::empty(204))
}

fn readers(request: &Request) -> Readers {
    match request.flag(ALLOW_BREAKING.name) {
        true => Readers::Broken,
        false => Readers::Kept,
    }
}

fn put(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name").to_owned();
    check_name(&name)?;
    let mut config = body::config(request.object()?, body::numbers(&request.body, None))?;
    named(&mut config, &name)?;
    has_class(&config)?;
    let (info, created) = ctx
        .daemon()?
        .put(&name, config, readers(request), &ctx.actor)?;
    if created {
        return created_as(&info, request, &name);
    }
    HttpResponse::json(200, &ConnectorInfo::from(&info))
}

fn patch(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name").to_owned();
    let changes = body::changes(request.object()?, body::numbers(&request.body, None))?;
    if let Some(other) = changes.get("name")
        && other.as_deref() != Some(name.as_str())
    {
        return Err(HttpError::bad(format!(
            "a patch cannot change the name: `name` is {other:?}, in the URL it is {name:?}"
        )));
    }
    if changes.get(CONNECTOR_CLASS).is_some_and(Option::is_none) {
        has_class(&BTreeMap::new())?;
    }
    let patched = ctx
        .daemon()?
        .patch(&name, changes, readers(request), &ctx.actor);
    let info = patched.map_err(|refused| unless_unknown(refused, || not_found(&name)))?;
    HttpResponse::json(200, &ConnectorInfo::from(&info))
}

fn status(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let status = ctx.daemon()?.status(name).map_err(|refused| {
        unless_unknown(refused, || format!("No status found for connector {name}"))
    })?;
    let worker = ctx.daemon()?.worker_id();
    HttpResponse::json(200, &ConnectorStateInfo::of(&status, &worker))
}

fn tasks(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let info = ctx.daemon()?.info(name);
    let info = info.map_err(|refused| unless_unknown(refused, || not_found(name)))?;
    // All tasks have the whole config: partitions are shared out among them at run time.
    let all = (0..info.tasks).map(|task| TaskInfo {
        id: TaskId {
            connector: &info.name,
            task,
        },
        config: StoredConfig(&info.config),
    });
    HttpResponse::json(200, &all.collect::<Vec<_>>())
}

fn task_number(request: &Request) -> Result<usize, HttpError> {
    // As in JAX-RS: a path that does not parse does not exist.
    let number = request.param("task").parse();
    number.map_err(|_| HttpError::not_found("HTTP 404 Not Found"))
}

fn task_status(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let task = task_number(request)?;
    let unknown = || format!("No status found for task {name}-{task}");
    let status = ctx.daemon()?.status(name);
    let status = status.map_err(|refused| unless_unknown(refused, unknown))?;
    let found = status.tasks.iter().find(|status| status.id == task);
    let found = found.ok_or_else(|| HttpError::not_found(unknown()))?;
    HttpResponse::json(200, &TaskState::of(found, &ctx.daemon()?.worker_id()))
}

fn restart_task(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let task = task_number(request)?;
    let daemon = ctx.daemon()?;
    let done = daemon.restart_task(name, task, &ctx.actor);
    done.map_err(|refused| {
        unless_unknown(refused, || match daemon.info(name) {
            Ok(_) => format!("Unknown task: {name}-{task}"),
            Err(_) => format!("Unknown connector: {name}"),
        })
    })?;
    Ok(HttpResponse::empty(204))
}

fn restart(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let (tasks, only_failed) = (request.flag("includeTasks"), request.flag("onlyFailed"));
    let restarted = ctx.daemon()?.restart(name, tasks, only_failed, &ctx.actor);
    let mut status = restarted
        .map_err(|refused| unless_unknown(refused, || format!("Unknown connector: {name}")))?;
    if !tasks && !only_failed {
        return Ok(HttpResponse::empty(204));
    }
    // Connect shows what it is about to restart as RESTARTING; the supervisor's answer already does.
    if status.standing == Standing::Stopped {
        status.tasks.clear();
    }
    let worker = ctx.daemon()?.worker_id();
    HttpResponse::json(202, &ConnectorStateInfo::of(&status, &worker))
}

fn target(
    ctx: &Ctx,
    request: &Request,
    target: Target,
    code: u16,
) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let set = ctx.daemon()?.set_target(name, target, &ctx.actor);
    set.map_err(|refused| unless_unknown(refused, || format!("Unknown connector {name}")))?;
    Ok(HttpResponse::empty(code))
}

fn topics(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let topics = ctx.daemon()?.topics(name);
    HttpResponse::json(
        200,
        &ActiveTopics(BTreeMap::from([(name, Topics { topics })])),
    )
}

fn reset_topics(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    ctx.daemon()?.reset_topics(request.param("name"));
    Ok(HttpResponse::empty(202))
}

fn internal(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    Err(HttpError::new(
        403,
        "this route is for Kafka Connect's own workers; no request to it is signed by one here",
    ))
}
