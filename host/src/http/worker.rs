//! The worker itself: its version, health, loggers, metrics, and the document of all routes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::body;
use super::fault::HttpError;
use super::openapi;
use super::route::{
    Access, Ctx, HttpResponse, Method, Param, Request, RequestBody, ResponseBody, Role, Route,
};
use super::schemas;
use crate::daemon::Health;

/// The Connect release whose routes these are. Clients gate features on its first two numbers.
const VERSION: &str = "4.1.1";
const STATUS: ResponseBody = ResponseBody::Json(schemas::of::<WorkerStatus<'_>>);
const LEVEL: ResponseBody = ResponseBody::Json(schemas::of::<LoggerLevel>);
const HEALTHY: &str = "Worker has completed startup and is ready to handle requests.";

pub(super) fn routes() -> Vec<Route> {
    let base = Route {
        method: Method::Get,
        path: "/",
        may: Access::Reader,
        tag: "worker",
        summary: "Version of the API, and of Weir in `commit`",
        query: &[],
        takes: RequestBody::Nothing,
        gives: &[(200, ResponseBody::Json(schemas::of::<ServerInfo>))],
        faults: &[],
        handler: root,
    };
    let probe = Route {
        may: Access::Anyone,
        gives: &[(200, STATUS), (503, STATUS), (500, STATUS)],
        ..base
    };
    let logger = Route {
        tag: "loggers",
        ..base
    };
    vec![
        base,
        Route {
            path: "/health",
            summary: "Whether the worker has started and can acknowledge changes",
            handler: health,
            ..probe
        },
        Route {
            path: "/livez",
            summary: "Whether the process answers; restart it if not",
            gives: &[(200, STATUS)],
            handler: live,
            ..probe
        },
        Route {
            path: "/readyz",
            summary: "As /health, with 503 for unhealthy too: send no requests then",
            gives: &[(200, STATUS), (503, STATUS)],
            handler: ready,
            ..probe
        },
        Route {
            path: "/whoami",
            summary: "Who asks, by the login, and what this name may do",
            gives: &[(200, ResponseBody::Json(schemas::of::<WhoAmI>))],
            handler: who_am_i,
            ..base
        },
        Route {
            path: "/metrics",
            summary: "Numbers for Prometheus",
            gives: &[(200, ResponseBody::Text(OPENMETRICS))],
            handler: metrics,
            ..base
        },
        Route {
            path: "/openapi.json",
            summary: "This document",
            gives: &[(
                200,
                ResponseBody::Json(schemas::of::<serde_json::Map<String, Value>>),
            )],
            handler: document,
            ..base
        },
        Route {
            path: "/admin/loggers",
            summary: "Loggers with a level of their own, and `root`",
            gives: &[(200, ResponseBody::Json(schemas::of::<Loggers>))],
            handler: loggers,
            ..logger
        },
        Route {
            path: "/admin/loggers/{logger}",
            summary: "The level of one of them",
            gives: &[(200, LEVEL)],
            faults: &[404],
            handler: level,
            ..logger
        },
        Route {
            method: Method::Put,
            path: "/admin/loggers/{logger}",
            may: Access::Writer,
            summary: "Set the level of a logger and those below it, until the end of the process",
            query: &[Param {
                name: "scope",
                schema: schemas::of::<String>,
                doc: "`cluster`: answered with 204. Anything else, or absent: `worker`.",
                many: false,
            }],
            takes: RequestBody::Json(schemas::of::<schemas::SetLevel>),
            gives: &[
                (200, ResponseBody::Json(schemas::of::<Vec<String>>)),
                (204, ResponseBody::Nothing),
            ],
            faults: &[404],
            handler: set_level,
            ..logger
        },
    ]
}

#[derive(Serialize, JsonSchema)]
struct ServerInfo {
    version: &'static str,
    commit: &'static str,
    kafka_cluster_id: &'static str,
}

fn root(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    HttpResponse::json(
        200,
        &ServerInfo {
            version: VERSION,
            commit: concat!("weir-", env!("CARGO_PKG_VERSION")),
            // Pipelines of one daemon may read several clusters.
            kafka_cluster_id: "weir",
        },
    )
}

#[derive(Serialize, JsonSchema)]
struct WorkerStatus<'a> {
    status: Status,
    message: &'a str,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum Status {
    Healthy,
    Starting,
    Unhealthy,
}

fn state(code: u16, status: Status, message: &str) -> Result<HttpResponse, HttpError> {
    HttpResponse::json(code, &WorkerStatus { status, message })
}

fn health(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    match ctx.daemon()?.health() {
        Health::Healthy => state(200, Status::Healthy, HEALTHY),
        Health::Starting => state(503, Status::Starting, "Worker is still starting up."),
        Health::Unhealthy(why) => state(500, Status::Unhealthy, &why),
    }
}

fn live(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    state(200, Status::Healthy, "The process answers.")
}

fn ready(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let mut answer = health(ctx, request)?;
    if answer.status != 200 {
        answer.status = 503;
    }
    Ok(answer)
}

#[derive(Serialize, JsonSchema)]
struct WhoAmI {
    /// `anonymous@<address>` where nobody has to log in.
    name: String,
    role: Rights,
    /// False: nobody has to log in.
    login: bool,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Rights {
    /// It may look and change nothing (`rest.auth.read.only`).
    ReadOnly,
    Full,
}

fn who_am_i(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    let role = match ctx.role {
        Role::ReadOnly => Rights::ReadOnly,
        Role::Full => Rights::Full,
    };
    let who = WhoAmI {
        name: ctx.actor.0.clone(),
        role,
        login: ctx.locked,
    };
    HttpResponse::json(200, &who)
}

pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

fn metrics(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    Ok(HttpResponse::text(200, OPENMETRICS, ctx.watched.metrics()))
}

fn document(_: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let made = DOCUMENT.get_or_init(|| openapi::document(super::routes()));
    HttpResponse::json(200, made)
}

// ------------------------------------------------------------------ loggers

#[derive(Serialize, JsonSchema)]
struct LoggerLevel {
    level: String,
    last_modified: Option<i64>,
}

/// By the logger's name.
#[derive(Serialize, JsonSchema)]
struct Loggers(BTreeMap<String, LoggerLevel>);

fn all_levels(ctx: &Ctx) -> Result<BTreeMap<String, LoggerLevel>, HttpError> {
    let levels = ctx.daemon()?.levels().into_iter();
    let shown = levels.map(|(logger, (level, last_modified))| {
        let level = LoggerLevel {
            level,
            last_modified,
        };
        (logger, level)
    });
    Ok(shown.collect())
}

fn loggers(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    HttpResponse::json(200, &Loggers(all_levels(ctx)?))
}

fn level(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let logger = request.param("logger");
    let mut levels = all_levels(ctx)?;
    let level = levels.remove(logger);
    let level = level.ok_or_else(|| HttpError::not_found(format!("Logger {logger} not found.")))?;
    HttpResponse::json(200, &level)
}

fn set_level(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    // Other members are ignored, as in Connect.
    let object = request.object()?;
    let Some(level) = body::word(&object, "level")? else {
        return Err(HttpError::bad(
            "Desired 'level' parameter was not specified in request.",
        ));
    };
    let mut changed = ctx.daemon()?.set_level(request.param("logger"), &level)?;
    if request
        .query("scope")
        .is_some_and(|scope| scope.eq_ignore_ascii_case("cluster"))
    {
        return Ok(HttpResponse::empty(204));
    }
    changed.sort();
    HttpResponse::json(200, &changed)
}
