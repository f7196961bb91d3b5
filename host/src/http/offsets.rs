//! `/connectors/{name}/offsets`: positions read in any state, moved only while STOPPED.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body;
use super::fault::HttpError;
use super::route::{Access, Ctx, HttpResponse, Method, Request, RequestBody, ResponseBody, Route};
use super::schemas;
use crate::connect::Offset;
use crate::daemon::Refused;

const PATH: &str = "/connectors/{name}/offsets";
const MESSAGE: ResponseBody = ResponseBody::Json(schemas::of::<Message>);

pub(super) fn routes() -> Vec<Route> {
    let base = Route {
        method: Method::Get,
        path: PATH,
        may: Access::Reader,
        tag: "offsets",
        summary: "Positions, as they are committed",
        query: &[],
        takes: RequestBody::Nothing,
        gives: &[(200, ResponseBody::Json(schemas::of::<Offsets>))],
        faults: &[404, 503],
        handler: get,
    };
    vec![
        base,
        Route {
            method: Method::Patch,
            may: Access::Writer,
            summary: "Move the named positions; null: back to where they began. Only while STOPPED",
            takes: RequestBody::Json(schemas::of::<schemas::AlterOffsets>),
            gives: &[(200, MESSAGE)],
            faults: &[404, 409],
            handler: alter,
            ..base
        },
        Route {
            method: Method::Delete,
            may: Access::Writer,
            summary: "Move all positions back to where they began. Only while STOPPED",
            gives: &[(200, MESSAGE)],
            faults: &[404, 409],
            handler: reset,
            ..base
        },
    ]
}

#[derive(Serialize, JsonSchema)]
struct Message {
    message: String,
}

#[derive(Serialize, JsonSchema)]
struct Offsets {
    offsets: Vec<Offset>,
}

fn named(refused: Refused, name: &str) -> HttpError {
    match refused {
        Refused::NotFound(_) => HttpError::not_found(format!("Connector {name} not found")),
        other => HttpError::from(other),
    }
}

fn get(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let offsets = ctx
        .daemon()?
        .offsets(name, &ctx.asker)
        .map_err(|r| named(r, name))?;
    HttpResponse::json(200, &Offsets { offsets })
}

fn alter(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    const EMPTY: &str = "Partitions / offsets need to be provided for an alter offsets request";
    let object = request.members(&["offsets"])?;
    let wanted = match object.get("offsets") {
        None | Some(Value::Null) => return Err(HttpError::bad(EMPTY)),
        Some(Value::Array(all)) if all.is_empty() => return Err(HttpError::bad(EMPTY)),
        Some(Value::Array(all)) => all.iter().map(wanted).collect::<Result<Vec<_>, _>>()?,
        Some(other) => return Err(wrong("offsets", other, "an array")),
    };
    let name = request.param("name");
    let altered = ctx.daemon()?.alter_offsets(name, wanted, &ctx.actor);
    let message = altered.map_err(|refused| named(refused, name))?;
    HttpResponse::json(200, &Message { message })
}

fn wrong(what: &str, found: &Value, expected: &str) -> HttpError {
    let kind = body::kind(found);
    HttpError::bad(format!("`{what}` is {kind}; {expected} is expected"))
}

fn wanted(one: &Value) -> Result<Offset, HttpError> {
    let Value::Object(one) = one else {
        return Err(wrong("offsets[]", one, "an object"));
    };
    body::only(one, &["partition", "offset"], "a member of `offsets`")?;
    let map = |what: &str| -> Result<Option<Map<String, Value>>, HttpError> {
        match one.get(what) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(other) => Err(wrong(what, other, "an object")),
        }
    };
    let Some(partition) = map("partition")? else {
        return Err(HttpError::bad(
            "The partition for a sink connector offset cannot be null or missing",
        ));
    };
    Ok(Offset {
        partition,
        offset: map("offset")?,
    })
}

fn reset(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("name");
    let done = ctx.daemon()?.reset_offsets(name, &ctx.actor);
    let message = done.map_err(|refused| named(refused, name))?;
    HttpResponse::json(200, &Message { message })
}
