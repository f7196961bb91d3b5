//! `/ui`: the page for people. Its files (`host/ui`) are part of the program and the same for everybody, so they ask for no
//! login; all that the page shows comes from the routes beside it, with the rights of whoever looks.

use std::fmt::Write as _;
use std::sync::OnceLock;

use openssl::sha::sha256;

use super::fault::HttpError;
use super::route::{Access, Ctx, HttpResponse, Method, Request, RequestBody, ResponseBody, Route};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Nothing but the page's own files runs, and it talks to nobody but its own daemon: text that a record brought cannot become a
/// script, even if it were shown as HTML by mistake.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// Digits of a digest that make a tag.
const TAG_BYTES: usize = 12;

struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $kind:ident,)*) => {
        &[$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../ui/", $name)) },)*]
    };
}

const INDEX: &str = "index.html";

const ASSETS: &[Asset] = assets! {
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": IMAGE,
    "app.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "chart.js": SCRIPT,
    "store.js": SCRIPT,
    "theme.js": SCRIPT,
    "pipelines.js": SCRIPT,
    "pipeline.js": SCRIPT,
    "commits.js": SCRIPT,
    "rules.js": SCRIPT,
    "letters.js": SCRIPT,
    "zone.js": SCRIPT,
};

pub(super) fn routes() -> Vec<Route> {
    let page = Route {
        method: Method::Get,
        path: "/ui",
        may: Access::Open,
        tag: "page",
        summary: "The page: pipelines, commits, rules and dead letters, for people",
        query: &[],
        takes: RequestBody::Nothing,
        gives: &[
            (200, ResponseBody::File(&[HTML])),
            (302, ResponseBody::Nothing),
            (304, ResponseBody::Nothing),
        ],
        faults: &[],
        handler: index,
    };
    vec![
        page,
        Route {
            path: "/ui/{file}",
            summary: "A file of the page",
            gives: &[
                (200, ResponseBody::File(&[HTML, SCRIPT, STYLE, IMAGE])),
                (304, ResponseBody::Nothing),
            ],
            faults: &[404],
            handler: file,
            ..page
        },
    ]
}

/// Its files are named relative to `/ui/`, so that it works below a prefix of a proxy too.
fn index(_: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    if !request.path.ends_with('/') {
        return Ok(HttpResponse::empty(302).header("location", "ui/".to_owned()));
    }
    named(INDEX, request)
}

fn file(_: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let name = request.param("file").to_owned();
    named(&name, request)
}

fn named(name: &str, request: &Request) -> Result<HttpResponse, HttpError> {
    let mut all = ASSETS.iter().zip(tags());
    let (asset, tag) = all
        .find(|(asset, _)| asset.name == name)
        .ok_or_else(|| HttpError::not_found("HTTP 404 Not Found"))?;
    let same = |known: &String| known.split(',').any(|one| one.trim() == tag);
    let answer = match request.known.as_ref().is_some_and(same) {
        true => HttpResponse::empty(304),
        false => HttpResponse::file(asset.kind, asset.bytes),
    };
    // Asked for each time, and sent only if it is another: a page never works with scripts of an older program.
    Ok(answer
        .header("etag", tag.clone())
        .header("cache-control", "no-cache".to_owned())
        .header("content-security-policy", POLICY.to_owned())
        .header("referrer-policy", "no-referrer".to_owned())
        .header("cross-origin-opener-policy", "same-origin".to_owned()))
}

/// Of each file.
fn tags() -> &'static [String] {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    TAGS.get_or_init(|| {
        let tag = |asset: &Asset| {
            let digest = sha256(asset.bytes);
            let mut tag = "\"".to_owned();
            for byte in digest.iter().take(TAG_BYTES) {
                let _infallible = write!(tag, "{byte:02x}");
            }
            tag.push('"');
            tag
        };
        ASSETS.iter().map(tag).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a release gains by the page.
    const MOST_BYTES: usize = 300 << 10;

    #[test]
    fn the_page_is_small_and_whole() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(bytes <= MOST_BYTES, "{bytes}");
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let mut there: Vec<String> = std::fs::read_dir(dir)
            .expect("host/ui")
            .map(|entry| {
                entry
                    .expect("a file")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        there.sort();
        let mut served: Vec<&str> = ASSETS.iter().map(|asset| asset.name).collect();
        served.sort_unstable();
        assert_eq!(there, served);
    }

    /// Values of records go into the page as text; these are the ways by which they could become more.
    #[test]
    fn no_script_makes_html_of_text() {
        for asset in ASSETS.iter().filter(|asset| asset.kind != STYLE) {
            let text = std::str::from_utf8(asset.bytes).expect("UTF-8");
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "srcdoc",
                " style=",
                "http://",
                "https://",
            ] {
                let known = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!known.contains(way), "{}: {way}", asset.name);
            }
        }
    }
}
