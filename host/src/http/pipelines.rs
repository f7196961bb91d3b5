//! `/pipelines`: routes that Connect's API does not have: rules and their history, the commit log, dead letters.
//!
//! ```text
//! /pipelines/{pipeline}/swap rollback rewind history configs log      rules and commits
//!                      /files                                    the zone's tree
//!                      /progress                                      what it does now, and its newest commits
//!                      /dlq  /dlq/counts  /dlq/{topic}/{partition}/{offset}
//! ```
//! Every answer is a page of bounded size. docs/rest.md says where further routes go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::HttpError;
use super::plugins::http_error;
use super::route::{
    Access, Ctx, HttpResponse, Method, Param, Request, RequestBody, ResponseBody, Route,
};
use super::schemas;
use crate::clock::SystemClock;
use crate::config::PipelineConfig;
use crate::daemon::{Changes, Known, Refused, Standing};
use crate::operations::dlq::{self, DeadLetter, Reached, Work};
use crate::operations::files;
use crate::operations::history::RulesPeriod;
use crate::operations::log::{self as commits, Which};
use crate::operations::swap::{SwapPlanner, SwapTarget, Swapped};
use crate::operations::trial::RECORDS_MAX;
use crate::operations::{self, PAGE_BYTES, rewind, status};
use crate::pipeline::positions;
use crate::telemetry::recent::Query;
use crate::zone::deadletter::Filter;

const TAG: &str = "pipelines";

/// Default and largest number of entries, periods, dead letters or changes in one answer.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// The command line's default, and the most that a request may wait for a running pipeline.
const WAIT: Duration = Duration::from_secs(30);
/// One part in this many of a request's time is for waiting for a swap: its checks come before.
const WAIT_SHARE: u32 = 2;

const LIMIT: Param = Param {
    name: "limit",
    schema: schemas::of::<u64>,
    doc: "At most so many, 1 to 1000; 100 where it is not given.",
    many: false,
};
const FROM: Param = Param {
    name: "from",
    schema: schemas::of::<u64>,
    doc: "The first version; without it the newest entries.",
    many: false,
};
const BEFORE: Param = Param {
    name: "before",
    schema: schemas::of::<u64>,
    doc: "Only what is below this version, the newest of it: to go back page by page.",
    many: false,
};
const SKIP: Param = Param {
    name: "skip",
    schema: schemas::of::<u64>,
    doc: "To pass over so many, from the newest: `next` of the page before.",
    many: false,
};
const AFTER: Param = Param {
    name: "after",
    schema: schemas::of::<String>,
    doc: "`next` of the page before, as it is. A page looks at so many files at most: it may hold few letters or none while more are there.",
    many: false,
};
const UNDER: Param = Param {
    name: "under",
    schema: schemas::of::<String>,
    doc: "The directory, `table/day=1`; without it the zone's root.",
    many: false,
};
const PAST: Param = Param {
    name: "after",
    schema: schemas::of::<String>,
    doc: "`next` of the page before.",
    many: false,
};
/// Most files of dead letters that one page reads: a filter with few matches must not make it read the whole zone.
const LETTERS_WORK: Work = Work {
    files: 256,
    bytes: 64 << 20,
};
const CODE: Param = Param {
    name: "code",
    schema: schemas::of::<String>,
    doc: "Only letters with this code.",
    many: false,
};
const TOPIC: Param = Param {
    name: "topic",
    schema: schemas::of::<String>,
    doc: "Only records of this topic.",
    many: false,
};
const PARTITION: Param = Param {
    name: "partition",
    schema: schemas::of::<u64>,
    doc: "Only records of this partition.",
    many: false,
};
const OFFSET: Param = Param {
    name: "offset",
    schema: schemas::of::<u64>,
    doc: "Only the record at this offset.",
    many: false,
};
const EXPAND: Param = Param {
    name: "expand",
    schema: schemas::of::<String>,
    doc: "`log`: with versions, rules and ledgers, which reads every log. `live`: with lag, ledgers and the newest commits, from memory.",
    many: true,
};

const SWAPPED: ResponseBody = ResponseBody::Json(schemas::of::<Swapped>);
const LETTERS: ResponseBody = ResponseBody::Json(schemas::of::<DeadLetters>);

const READ: Route = Route {
    method: Method::Get,
    path: "/pipelines",
    may: Access::Reader,
    tag: TAG,
    summary: "Pipelines, their states and targets",
    query: &[EXPAND],
    takes: RequestBody::Nothing,
    gives: &[(
        200,
        ResponseBody::Json(schemas::of::<Vec<status::Pipeline>>),
    )],
    faults: &[500, 503],
    handler: list,
};
const ONE: Route = Route {
    path: "/pipelines/{pipeline}",
    summary: "State, target, version, rules in force, ledgers, positions",
    query: &[],
    gives: &[(200, ResponseBody::Json(schemas::of::<status::Pipeline>))],
    faults: &[404, 500, 503],
    handler: show,
    ..READ
};

pub(super) fn routes() -> Vec<Route> {
    vec![
        READ,
        ONE,
        Route {
            method: Method::Post,
            path: "/pipelines/{pipeline}/swap",
            may: Access::Writer,
            summary: "Put other rules in force, or with `dry_run` say what would change",
            takes: RequestBody::Json(schemas::of::<SwapRequest>),
            gives: &[(200, SWAPPED)],
            faults: &[404, 409, 500, 503],
            handler: swap,
            ..ONE
        },
        Route {
            method: Method::Post,
            path: "/pipelines/{pipeline}/rollback",
            may: Access::Writer,
            summary: "Put earlier rules in force and block those in force now",
            takes: RequestBody::Json(schemas::of::<RollbackRequest>),
            gives: &[(200, SWAPPED)],
            faults: &[404, 409, 500, 503],
            handler: rollback,
            ..ONE
        },
        Route {
            method: Method::Post,
            path: "/pipelines/{pipeline}/rewind",
            may: Access::Writer,
            summary: "Put positions of a STOPPED pipeline elsewhere, or with `dry_run` say what would move",
            takes: RequestBody::Json(schemas::of::<RewindRequest>),
            gives: &[(200, ResponseBody::Json(schemas::of::<rewind::Rewound>))],
            faults: &[404, 409, 500, 503],
            handler: put_back,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/history",
            summary: "Which rules made which offsets, since when, by whom and why; the newest, oldest first",
            query: &[BEFORE, LIMIT],
            gives: &[(200, ResponseBody::Json(schemas::of::<History>))],
            handler: history,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/progress",
            summary: "What it does now, and its newest commits, in the names of Spark's StreamingQuery; the oldest first",
            query: &[LIMIT],
            gives: &[(200, ResponseBody::Json(schemas::of::<Query>))],
            handler: progress,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/configs",
            summary: "Configs and target states over time, also of a deleted pipeline; the newest, oldest first",
            query: &[LIMIT, SKIP],
            gives: &[(200, ResponseBody::Json(schemas::of::<Changes>))],
            handler: configs,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/log",
            summary: "Entries of the commit log, and what all of them come to",
            query: &[FROM, BEFORE, LIMIT],
            gives: &[(200, ResponseBody::Json(schemas::of::<commits::Page>))],
            handler: log,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/files",
            summary: "What lies directly below a directory of the zone: directories and live files, with rows and bytes",
            query: &[UNDER, PAST, LIMIT],
            gives: &[(200, ResponseBody::Json(schemas::of::<files::Tree>))],
            handler: tree,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/dlq",
            summary: "Dead letters: reasons, rule, coordinates and the original bytes in base64",
            query: &[LIMIT, AFTER, CODE, TOPIC, PARTITION, OFFSET],
            gives: &[(200, LETTERS)],
            handler: letters,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/dlq/counts",
            summary: "Dead letters by code and field",
            gives: &[(200, ResponseBody::Json(schemas::of::<Vec<dlq::Count>>))],
            handler: counts,
            ..ONE
        },
        Route {
            path: "/pipelines/{pipeline}/dlq/{topic}/{partition}/{offset}",
            summary: "The dead letters of one record",
            query: &[AFTER],
            gives: &[(200, LETTERS)],
            handler: record,
            ..ONE
        },
    ]
}

// ----------------------------------------------------------------- handlers

/// 404 for a file connector too: it has no rules, log or dead letters.
fn config_of(ctx: &Ctx, request: &Request) -> Result<Arc<PipelineConfig>, HttpError> {
    let found = ctx.watched.config(request.param("pipeline"));
    found.map_err(|refused| match refused {
        Refused::Bad(message) => HttpError::not_found(message),
        other => other.into(),
    })
}

/// 404 if it has not begun yet.
fn log_of(ctx: &Ctx, request: &Request) -> Result<Known, HttpError> {
    let name = &config_of(ctx, request)?.name;
    ctx.watched.log_of(name, &ctx.asker)?.ok_or_else(|| {
        HttpError::not_found(format!(
            "pipeline `{name}` has no log yet: it has not begun"
        ))
    })
}

/// `None`: it has not begun yet.
fn logged(ctx: &Ctx, name: &str) -> Result<Option<status::Logged>, HttpError> {
    let log = ctx.watched.log_of(name, &ctx.asker)?;
    let told = |log: Known| log.read(|state| status::logged(&log.name, log.store.url(), state));
    log.map(told).transpose().map_err(HttpError::from)
}

fn limit(request: &Request) -> Result<usize, HttpError> {
    match request.number::<usize>("limit")? {
        None => Ok(PAGE),
        Some(n @ 1..=PAGE_MAX) => Ok(n),
        Some(n) => Err(HttpError::bad(format!(
            "the parameter `limit` is {n}; 1 to {PAGE_MAX} are answered at a time"
        ))),
    }
}

fn list(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let expands = |what: &str| request.queries("expand").any(|asked| asked == what);
    let (expand, live) = (expands("log"), expands("live"));
    let mut all = Vec::new();
    for name in ctx.watched.pipelines() {
        let config = match ctx.watched.config(&name) {
            Ok(config) => Some(config),
            Err(Refused::Bad(_) | Refused::NotFound(_)) => continue,
            // Its config is invalid now, but the pipeline exists.
            Err(_) => None,
        };
        let mut shown = ctx.watched.standing(&name)?;
        if !live {
            shown.live = None;
        }
        if let Some(config) = config.filter(|_| expand) {
            // If one pipeline's log cannot be read, the others must still be shown.
            shown.log = logged(ctx, &config.name).unwrap_or_default();
            ctx.asker.wants_it()?;
        }
        all.push(shown);
    }
    HttpResponse::json(200, &all)
}

fn show(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let log = logged(ctx, &config_of(ctx, request)?.name)?;
    let standing = ctx.watched.standing(request.param("pipeline"))?;
    HttpResponse::json(200, &status::Pipeline { log, ..standing })
}

fn planner(ctx: &Ctx, request: &Request) -> Result<SwapPlanner, HttpError> {
    let config = config_of(ctx, request)?;
    let plugins = ctx.daemon()?.plugins_of(&config).map_err(http_error)?;
    let running = ctx.daemon()?.rule_changes(&config.name);
    let config = config.as_ref().clone();
    let planner = SwapPlanner::open(config, plugins, &SystemClock::shared(), &ctx.actor.0)?;
    Ok(planner.running(running))
}

/// New rules: those that `transforms` names, or with `reload` all that the config declares now.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SwapRequest {
    /// Transform: `plugin[@version|@sha256:…]`.
    transforms: Option<BTreeMap<String, String>>,
    reload: Option<bool>,
    /// Also where columns go or change their type.
    allow_breaking: Option<bool>,
    /// Also what a rollback blocked.
    force: Option<bool>,
    reason: Option<String>,
    dry_run: Option<bool>,
    /// With `dry_run`: so many of the newest committed records go through the rules in force and these, 1 to 10000.
    trial: Option<u64>,
    wait_ms: Option<u64>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RollbackRequest {
    /// A generation of the history; without it the newest rules before those in force that are not blocked.
    to: Option<u64>,
    reason: Option<String>,
    dry_run: Option<bool>,
    /// With `dry_run`: so many of the newest committed records go through the rules in force and these, 1 to 10000.
    trial: Option<u64>,
    wait_ms: Option<u64>,
}

/// Either `to` or `all`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RewindRequest {
    /// `topic/partition=offset`, or `=start`.
    to: Option<Vec<String>>,
    all: Option<All>,
    reason: Option<String>,
    dry_run: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
enum All {
    Start,
}

/// The reason of a change, if it fits into the log.
fn reason(given: Option<String>) -> Result<String, HttpError> {
    let reason = given.unwrap_or_default();
    operations::reason(&reason).map_err(http_error)?;
    Ok(reason)
}

/// How long a request waits for a running pipeline.
fn wait(ctx: &Ctx, asked: Option<u64>) -> Result<Duration, HttpError> {
    let most = ctx.daemon()?.worker().rest.request_timeout / WAIT_SHARE;
    Ok(asked.map_or(WAIT, Duration::from_millis).min(most))
}

fn swap(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let asked: SwapRequest = request.read()?;
    let wait = wait(ctx, asked.wait_ms)?;
    let wanted = SwapTarget {
        transforms: asked.transforms.unwrap_or_default().into_iter().collect(),
        reload: asked.reload.unwrap_or_default(),
        allow_breaking: asked.allow_breaking.unwrap_or_default(),
        force: asked.force.unwrap_or_default(),
        reason: reason(asked.reason)?,
    };
    let trial = trial(asked.trial, asked.dry_run)?;
    let planned = planner(ctx, request)?.swap(&wanted)?;
    execute(ctx, planned, (asked.dry_run, trial), wait)
}

fn rollback(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let asked = match request.body.iter().all(u8::is_ascii_whitespace) {
        true => RollbackRequest::default(),
        false => request.read()?,
    };
    let wait = wait(ctx, asked.wait_ms)?;
    let reason = reason(asked.reason)?;
    let trial = trial(asked.trial, asked.dry_run)?;
    let planned = planner(ctx, request)?.rollback(asked.to, &reason)?;
    execute(ctx, planned, (asked.dry_run, trial), wait)
}

/// How many records a trial has; `None`: none is wanted.
fn trial(asked: Option<u64>, dry_run: Option<bool>) -> Result<Option<u64>, HttpError> {
    match asked {
        Some(_) if dry_run != Some(true) => Err(HttpError::bad(
            "`trial` says what rules would do: it needs \"dry_run\": true",
        )),
        Some(n) if !(1..=RECORDS_MAX).contains(&n) => Err(HttpError::bad(format!(
            "`trial` is {n}; 1 to {RECORDS_MAX} records are looked at"
        ))),
        asked => Ok(asked),
    }
}

fn execute(
    ctx: &Ctx,
    planned: operations::swap::SwapPlan,
    (dry_run, trial): (Option<bool>, Option<u64>),
    wait: Duration,
) -> Result<HttpResponse, HttpError> {
    let go_on = || ctx.asker.wants_it();
    match (dry_run.unwrap_or_default(), trial) {
        (true, Some(records)) => HttpResponse::json(200, &planned.tried(records, &go_on)?),
        (true, None) => HttpResponse::json(200, &planned.preview()),
        (false, _) => HttpResponse::json(200, &planned.execute(wait)?),
    }
}

fn put_back(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let asked: RewindRequest = request.read()?;
    let (reason, dry_run) = (reason(asked.reason)?, asked.dry_run.unwrap_or_default());
    let to = asked.to.unwrap_or_default();
    let to: Vec<positions::RewindTarget> = to
        .iter()
        .map(|one| rewind::wanted(one).map_err(http_error))
        .collect::<Result<_, _>>()?;
    if asked.all.is_some() != to.is_empty() {
        return Err(HttpError::bad(
            "either `to` names partitions with their offsets, or `all` is \"start\"",
        ));
    }
    let config = config_of(ctx, request)?;
    let daemon = ctx.daemon()?;
    let standing = daemon.status(request.param("pipeline"))?.standing;
    if standing != Standing::Stopped && !dry_run {
        return Err(HttpError::conflict(format!(
            "pipeline `{}` is {}; positions move while it is STOPPED only. One that was told to stop drains first: ask \
             again in a moment",
            config.name,
            standing.word()
        )));
    }
    let clock = SystemClock::shared();
    let change = |config: &PipelineConfig| {
        let order = positions::Order {
            actor: &ctx.actor.0,
            reason: &reason,
            dry_run,
            exact: false,
            plugins: &|| daemon.plugins_of(config),
        };
        match asked.all {
            Some(_) => positions::reset(config, &clock, &order),
            None => positions::alter(config, &clock, &to, &order),
        }
    };
    let altered = match dry_run {
        true => change(&config).map_err(http_error)?,
        // An error of the change itself is reported as such.
        false => daemon
            .rewind(&config.name, &ctx.actor, |config| Ok(change(config)))?
            .map_err(http_error)?,
    };
    HttpResponse::json(200, &rewind::rewound(&config, dry_run, altered))
}

/// `GET …/history`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// `_system/<pipeline>/<zone>`
    pub log: String,
    /// The zone's root.
    pub url: String,
    /// Oldest first.
    pub periods: Vec<RulesPeriod>,
    /// Older ones were left out.
    pub more: bool,
}

fn history(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let (limit, before) = (limit(request)?, request.number("before")?);
    let log = log_of(ctx, request)?;
    let page = log.read(|state| operations::history::page(&log.name, state, before, limit))?;
    HttpResponse::json(
        200,
        &History {
            log: log.name.dir(),
            url: log.store.url().to_owned(),
            periods: page.periods,
            more: page.more,
        },
    )
}

fn progress(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let limit = limit(request)?;
    let name = request.param("pipeline");
    // Of one whose config is no longer good it says so.
    if !ctx.watched.pipelines().iter().any(|one| one == name) {
        config_of(ctx, request)?;
    }
    HttpResponse::json(200, &ctx.watched.query(name, limit)?)
}

fn configs(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let (limit, skip) = (limit(request)?, request.number("skip")?.unwrap_or(0));
    let name = request.param("pipeline");
    HttpResponse::json(200, &ctx.daemon()?.history(name, skip, limit)?)
}

fn log(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let limit = limit(request)?;
    let which = match (request.number("from")?, request.number("before")?) {
        (None, None) => Which::Newest,
        (Some(from), None) => Which::From(from),
        (None, Some(before)) => Which::Before(before),
        (Some(_), Some(_)) => {
            return Err(HttpError::bad(
                "either `from` or `before`: a page begins at one version or ends below one",
            ));
        }
    };
    let log = log_of(ctx, request)?;
    let sums = log.read(|state| commits::sums(&log.name, state))?;
    let page = commits::page(&log.store, &log.name, sums, which, limit).map_err(http_error)?;
    HttpResponse::json(200, &page)
}

fn tree(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let limit = limit(request)?;
    let under = request.query("under").unwrap_or_default();
    let after = request.query("after").unwrap_or_default();
    let log = log_of(ctx, request)?;
    let of = (&log.name, log.store.url());
    let tree = log.read(|state| files::tree(of, state, under, after, limit))?;
    HttpResponse::json(200, &tree)
}

/// `GET …/dlq`
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetters {
    pub dead_letters: Vec<DeadLetter>,
    /// `after` of the next page; none: there are no more.
    pub next: Option<String>,
}

fn letters(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let filter = Filter {
        code: request.query("code").map(str::to_owned),
        topic: request.query("topic").map(str::to_owned),
        partition: request.number("partition")?,
        offset: request.number("offset")?,
    };
    let (from, limit) = (reached(request)?, limit(request)?);
    HttpResponse::json(200, &page(&log_of(ctx, request)?, &filter, from, limit)?)
}

fn reached(request: &Request) -> Result<Reached, HttpError> {
    let Some(token) = request.query("after") else {
        return Ok(Reached::default());
    };
    Reached::parse(token).ok_or_else(|| {
        HttpError::bad("the parameter `after` takes what a page before gave as `next`")
    })
}

fn page(
    log: &Known,
    filter: &Filter,
    from: Reached,
    limit: usize,
) -> Result<DeadLetters, HttpError> {
    let (mut letters, mut bytes) = (Vec::new(), 0);
    let each = |letter: DeadLetter| {
        if letters.len() == limit || bytes > PAGE_BYTES {
            return false;
        }
        bytes += letter.size();
        letters.push(letter);
        true
    };
    let reached = log
        .with_letters(|of| dlq::letters(of, filter, from, LETTERS_WORK, each))
        .map_err(http_error)?;
    let next = reached.map(|reached| reached.token());
    Ok(DeadLetters {
        dead_letters: letters,
        next,
    })
}

fn record(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    let number = |what: &str| {
        let text = request.param(what);
        text.parse::<i64>()
            .map_err(|_| HttpError::not_found(format!("{text:?} is no {what}")))
    };
    let (topic, partition, offset) = (
        request.param("topic"),
        number("partition")?,
        number("offset")?,
    );
    let missing = || {
        HttpError::not_found(format!(
            "no dead letter of {topic}/{partition}@{offset}; GET …/dlq lists what is there"
        ))
    };
    let filter = Filter {
        code: None,
        topic: Some(topic.to_owned()),
        partition: Some(i32::try_from(partition).map_err(|_| missing())?),
        offset: Some(offset),
    };
    let from = reached(request)?;
    let found = page(&log_of(ctx, request)?, &filter, from, PAGE_MAX)?;
    match found.dead_letters.is_empty() && found.next.is_none() {
        true => Err(missing()),
        false => HttpResponse::json(200, &found),
    }
}

fn counts(ctx: &Ctx, request: &mut Request) -> Result<HttpResponse, HttpError> {
    HttpResponse::json(200, &log_of(ctx, request)?.letter_counts()?)
}
