//! `/plugins`: the plugin store over HTTP. A pushed plugin is checked and compiled as at a start, before anything is
//! stored.

use std::fs::File;
use std::io::{Read, Seek, Write};

use serde::Serialize;

use super::fault::HttpError;
use super::route::{
    Access, Ctx, HttpResponse, Method, Param, Request, RequestBody, ResponseBody, Route, encoded,
};
use super::schemas;
use crate::clock::SystemClock;
use crate::commit::{self, LogName};
use crate::daemon::Supervisor;
use crate::error::{Error, Kind};
use crate::operations::{self, Why, plugins as of};
use crate::store;

const TAG: &str = "plugins";
/// Bytes of an upload that are read at once.
const PIECE: usize = 64 << 10;

const DRY_RUN: Param = Param {
    name: "dry_run",
    schema: schemas::of::<String>,
    doc: "`true`: check, and change nothing.",
    many: false,
};
const NAME: Param = Param {
    name: "name",
    schema: schemas::of::<String>,
    doc: "Refused where the component gives itself another name.",
    many: false,
};
const VERSION: Param = Param {
    name: "version",
    schema: schemas::of::<String>,
    doc: "Refused where the component gives itself another version.",
    many: false,
};
const PUSHED: ResponseBody = ResponseBody::Json(schemas::of::<of::Pushed>);
const LISTED: ResponseBody = ResponseBody::Json(schemas::of::<Vec<of::Listed>>);
const INSPECTED: ResponseBody = ResponseBody::Json(schemas::of::<of::Inspected>);
const YANKED: ResponseBody = ResponseBody::Json(schemas::of::<of::Yanked>);

const READ: Route = Route {
    method: Method::Get,
    path: "/plugins",
    may: Access::Reader,
    tag: TAG,
    summary: "Loose builds, pushed versions and shipped plugins",
    query: &[],
    takes: RequestBody::Nothing,
    gives: &[(200, LISTED)],
    faults: &[500],
    handler: list,
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        READ,
        Route {
            method: Method::Post,
            may: Access::Writer,
            summary: "Push a component: its bytes are the body",
            query: &[NAME, VERSION, DRY_RUN],
            takes: RequestBody::Bytes,
            gives: &[(201, PUSHED), (200, PUSHED)],
            faults: &[408, 409, 413, 503],
            handler: push,
            ..READ
        },
        Route {
            path: "/plugins/{plugin}",
            summary: "Versions of a plugin",
            faults: &[404, 500],
            handler: versions,
            ..READ
        },
        Route {
            path: "/plugins/{plugin}/{version}",
            summary: "What a version says of itself and what it may touch; `latest`, `0.2` and `sha256:…` are found as a pin finds them",
            gives: &[(200, INSPECTED)],
            faults: &[404, 500],
            handler: inspect,
            ..READ
        },
        Route {
            method: Method::Post,
            path: "/plugins/{plugin}/{version}/yank",
            may: Access::Writer,
            summary: "Take a version out of use; what runs by its digest goes on",
            query: &[DRY_RUN],
            gives: &[(200, YANKED)],
            faults: &[404, 503],
            handler: |ctx, request| yank(ctx, request, false),
            ..READ
        },
        Route {
            method: Method::Post,
            path: "/plugins/{plugin}/{version}/unyank",
            may: Access::Writer,
            summary: "Put a yanked version back into use",
            query: &[DRY_RUN],
            gives: &[(200, YANKED)],
            faults: &[404, 503],
            handler: |ctx, request| yank(ctx, request, true),
            ..READ
        },
    ]
}

impl From<operations::Refused> for HttpError {
    fn from(refused: operations::Refused) -> HttpError {
        #[derive(Serialize)]
        struct Details<'a> {
            /// A section of docs/errors.md.
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'a str>,
            /// What a refused swap would have changed.
            #[serde(skip_serializing_if = "Option::is_none")]
            swap: Option<&'a operations::swap::Swapped>,
        }
        let status = match refused.why {
            Why::Wrong => 400,
            Why::Missing => 404,
            Why::Conflict => 409,
            Why::TooLarge => 413,
            Why::Unavailable => 503,
            Why::Failed => 500,
        };
        let error = &refused.error;
        let details = Details {
            code: error.kind().code(),
            hint: error.hint_text(),
            swap: refused.change.as_deref(),
        };
        let fault = HttpError::new(status, error.to_string());
        match serde_json::to_value(&details) {
            Ok(details) => fault.details(details),
            Err(_) => fault,
        }
    }
}

/// The answer for an error of a query; the same as for an error of a change.
pub(super) fn http_error(error: Error) -> HttpError {
    operations::Refused::from(error).into()
}

fn push(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let plugins = ctx.daemon()?.plugins().map_err(http_error)?;
    let component = received(ctx, request)?;
    let claim = of::Claim {
        name: request.query("name"),
        version: request.query("version"),
    };
    let dry_run = request.flag("dry_run");
    let clock = SystemClock::shared();
    let pushed = of::push(&plugins, component, claim, &clock, &ctx.actor.0, dry_run)?;
    let status = if pushed.new && !dry_run { 201 } else { 200 };
    let (name, version) = (encoded(&pushed.plugin), encoded(&pushed.version));
    let at = format!("{}/plugins/{name}/{version}", request.base);
    Ok(HttpResponse::json(status, &pushed)?.header("location", at))
}

/// Reads the body into a file without a name: many slow uploads take no memory, and a crash leaves nothing behind.
fn received(ctx: &Ctx, request: &mut Request) -> Result<Vec<u8>, HttpError> {
    let Some(mut upload) = request.upload.take() else {
        return Err(HttpError::bad(
            "the component's bytes are expected as the body",
        ));
    };
    let dir = &ctx.daemon()?.worker().data_dir;
    let path = dir.join(format!("upload-{}", ulid::Ulid::generate()));
    let disk = |e: std::io::Error| {
        let message = format!("{} cannot take an upload", dir.display());
        http_error(Error::new(Kind::StoreUnavailable, "plugin.push", message).source(e))
    };
    let mut options = File::options();
    let opened = options.read(true).write(true).create_new(true).open(&path);
    let mut file = opened.map_err(disk)?;
    std::fs::remove_file(&path).map_err(disk)?;
    let mut piece = vec![0; PIECE];
    loop {
        let read = upload.read(&mut piece);
        match read.map_err(|e| HttpError::bad(format!("the body broke off: {e}")))? {
            0 => break,
            n => file
                .write_all(piece.get(..n).unwrap_or_default())
                .map_err(disk)?,
        }
    }
    let mut bytes = Vec::new();
    file.rewind().map_err(disk)?;
    file.read_to_end(&mut bytes).map_err(disk)?;
    match bytes.is_empty() {
        true => Err(HttpError::bad(
            "the component's bytes are expected as the body",
        )),
        false => Ok(bytes),
    }
}

fn list(ctx: &Ctx, _: &mut Request) -> Result<HttpResponse, HttpError> {
    let plugins = ctx.daemon()?.plugins().map_err(http_error)?;
    HttpResponse::json(200, &of::list(&plugins).map_err(http_error)?)
}

fn versions(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("plugin");
    let plugins = ctx.daemon()?.plugins().map_err(http_error)?;
    let mut found = of::list(&plugins).map_err(http_error)?;
    found.retain(|one| one.plugin == name);
    match found.is_empty() {
        true => Err(HttpError::not_found(format!(
            "no plugin `{name}`; GET /plugins lists what is there"
        ))),
        false => HttpResponse::json(200, &found),
    }
}

fn inspect(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let plugins = ctx.daemon()?.plugins().map_err(http_error)?;
    let found = of::exact(&plugins, request.param("plugin"), request.param("version"))?;
    HttpResponse::json(200, &of::inspect(&found).map_err(http_error)?)
}

fn yank(ctx: &Ctx, request: &mut Request, undo: bool) -> Result<HttpResponse, HttpError> {
    let daemon = ctx.daemon()?;
    let plugins = daemon.plugins().map_err(http_error)?;
    let which = (request.param("plugin"), request.param("version"));
    let dry_run = request.flag("dry_run");
    let yanked = of::yank(&plugins, which, undo, dry_run, |digest| {
        running(daemon, digest)
    })?;
    HttpResponse::json(200, &yanked)
}

/// Pipelines of this daemon that have the component in force.
fn running(daemon: &Supervisor, digest: &str) -> crate::error::Result<Vec<of::InForce>> {
    let clock = SystemClock::shared();
    let mut found = Vec::new();
    for name in daemon.names() {
        // A file connector or an invalid config has no rules.
        let Ok(config) = daemon.pipeline(&name) else {
            continue;
        };
        let Some(store) = store::open_existing(&config.home.at)? else {
            continue;
        };
        let log = LogName::new(&config.name, &config.home.zone);
        if commit::exists(store.as_ref(), &log)? {
            found.extend(of::in_force(&store, &[log], &clock, digest)?);
        }
    }
    Ok(found)
}
