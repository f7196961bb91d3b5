//! `/openapi.json` (OpenAPI 3.1), made from the table of routes alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::fault::ErrorBody;
use super::route::{Access, Method, Param, RequestBody, ResponseBody, Route};
use super::schemas::{self, Schemas};

/// What the server can answer before or after a handler, on every route.
pub(super) const SHARED: &[(u16, &str)] = &[
    (400, "The request is wrong; the message says where"),
    (401, "No name and secret that are known here"),
    (406, "The client takes no JSON"),
    (408, "The body did not arrive in time"),
    (413, "The body is too large"),
    (429, "Too many requests from this address"),
    (500, "A failure, or the request took too long"),
    (503, "Too many connections"),
];

pub(super) fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let method = route.method.word().to_ascii_lowercase();
        let operations = paths.entry(route.path).or_default();
        operations.insert(method, operation(route, &mut schemas));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Kafka Connect's REST API and Weir's own beside it.",
            "license": { "name": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas.named(),
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
        },
    })
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "tags": [route.tag],
        "summary": route.summary,
        "operationId": id(route),
        "parameters": parameters(route, schemas),
        "responses": responses(route, schemas),
    });
    // The empty requirement stands for a daemon without logins.
    let locked = match route.may {
        Access::Anyone | Access::Open => json!([]),
        Access::Reader | Access::Writer => json!([{}, { "basic": [] }, { "bearer": [] }]),
    };
    operation["security"] = locked;
    match route.takes {
        RequestBody::Nothing => {}
        RequestBody::Json(schema) => {
            operation["requestBody"] = json!({
                "required": true, "content": { "application/json": { "schema": schemas.request(schema) } },
            });
        }
        RequestBody::Bytes => {
            operation["requestBody"] = json!({
                "required": true,
                "content": { "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } },
            });
        }
    }
    operation
}

fn id(route: &Route) -> String {
    let mut id = route.method.word().to_ascii_lowercase();
    for part in route.path.split(['/', '-', '.', '{', '}']) {
        let mut letters = part.chars();
        if let Some(first) = letters.next() {
            id.push(first.to_ascii_uppercase());
            id.push_str(letters.as_str());
        }
    }
    id
}

fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let segments = route.path.split('/');
    let named = segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path = named.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
    });
    let in_query = route.query.iter().map(|param| parameter(param, schemas));
    in_path.chain(in_query).collect()
}

fn parameter(param: &Param, schemas: &mut Schemas) -> Value {
    let schema = schemas.request(param.schema);
    let schema = match param.many {
        true => json!({ "type": "array", "items": schema }),
        false => schema,
    };
    json!({ "name": param.name, "in": "query", "required": false, "description": param.doc, "schema": schema })
}

fn responses(route: &Route, schemas: &mut Schemas) -> Map<String, Value> {
    let mut all = Map::new();
    let refusal = schemas.answer(schemas::of::<ErrorBody<'_>>);
    let error = || json!({ "application/json": { "schema": refusal } });
    let mut fault = |code: u16, says: &str| {
        let answer = json!({ "description": says, "content": error() });
        all.insert(code.to_string(), answer);
    };
    let open = matches!(route.may, Access::Anyone | Access::Open);
    for (code, says) in SHARED {
        if !(open && matches!(code, 401)) {
            fault(*code, says);
        }
    }
    if route.may == Access::Writer {
        fault(403, "This name may only read");
    }
    if matches!(route.takes, RequestBody::Json(_)) {
        fault(415, "The body says that it is no JSON");
    }
    if route.path.contains('{') {
        fault(
            404,
            "Unknown path: a value in it is none that a path of this API can have",
        );
        fault(
            405,
            "The path is another's, which does not take this method",
        );
    }
    for code in route.faults {
        fault(*code, reason(*code, route.method));
    }
    for (code, gives) in route.gives {
        let answer = match gives {
            ResponseBody::Nothing => json!({ "description": "Done" }),
            ResponseBody::Json(schema) => json!({
                "description": "As asked", "content": { "application/json": { "schema": schemas.answer(*schema) } },
            }),
            ResponseBody::File(kinds) => {
                let text = |kind: &&str| {
                    (
                        (*kind).to_owned(),
                        json!({ "schema": { "type": "string" } }),
                    )
                };
                let content: Map<String, Value> = kinds.iter().map(text).collect();
                json!({ "description": "As asked", "content": content })
            }
            ResponseBody::Text(kind) => json!({
                "description": "As asked", "content": { *kind: { "schema": { "type": "string" } } },
            }),
        };
        all.insert(code.to_string(), answer);
    }
    all
}

fn reason(code: u16, method: Method) -> &'static str {
    match (code, method) {
        (403, _) => "Not for this caller",
        (404, _) => "No such thing",
        (409, Method::Post) => "It exists, or it cannot be now: try again",
        (409, _) => "It cannot be now: try again",
        _ => "Refused; the message says why",
    }
}
