//! A plugin as a transform of a chain: takes batches, gives checked rows, and no record suffers from another one.
//!
//! Rows on which a call failed are run again in halves, each with a fresh instance, until a single record is left. A
//! plugin is a pure function of its rows, so the parts give the same rows as the whole.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::new_empty_array;
use arrow_schema::SchemaRef;

use super::component::Component;
use super::instance::{Failure, Instance};
use super::log::LogBook;
use crate::chain::{Column, Identity, Output, Reject, RowMap, Table, Transform};
use crate::error::{Error, Kind, Result};
use crate::lock::lock;
use crate::plugin::boundary::bindings::exports::weir::plugin::transform as wit;
use crate::plugin::boundary::join::{self, Part};
use crate::plugin::boundary::lower;
use crate::plugin::boundary::output::{self, Piece, Refused};
use crate::plugin::boundary::plan::{Plan, Planned};
use crate::plugin::boundary::types;
use crate::plugin::compile::engine::Stop;
use crate::plugin::config::canonical::{Attached, Canonical};
use crate::plugin::config::secrets::{Hidden, Revealed};
use crate::plugin::config::setup::{SetupError, SetupProblem, Stage};
use crate::plugin::text::{cut, printable};
use crate::plugin::{Limits, MAX_FULL_CALLS, MAX_ISOLATIONS, MAX_REJECTS, MAX_ROWS, codes};

/// Bytes of the message with which a record is set aside.
const MAX_STORY: usize = 512;
/// Most problems of a config that a plugin may report at once.
const MAX_PROBLEMS: usize = 1_000;

#[derive(Debug)]
pub struct PluginTransform {
    identity: Identity,
    component: Component,
    config: Canonical,
    revealed: Revealed,
    input: Vec<Vec<types::Node>>,
    plan: Plan,
    limits: Limits,
    book: Arc<Mutex<LogBook>>,
    /// None after a failure, until the next call.
    instance: Option<Instance>,
}

/// Why one call gave no result.
enum Miss {
    /// The output was too large; nothing else is wrong.
    TooMuch,
    Failed(Failure),
    Fatal(Error),
}

impl From<Failure> for Miss {
    fn from(failure: Failure) -> Self {
        Miss::Failed(failure)
    }
}

impl PluginTransform {
    pub(in crate::plugin) fn new(
        component: Component,
        stage: Stage<'_>,
        config: Canonical,
    ) -> std::result::Result<Self, SetupError> {
        let Stage {
            transform: name,
            input,
            limits,
            resolve,
        } = stage;
        let revealed = config
            .reveal(&component.info().config_schema, resolve)
            .map_err(SetupError::Problems)?;
        let info = component.info();
        let identity = Identity {
            transform: name.to_owned(),
            plugin: info.name.clone(),
            version: info.version.clone(),
            digest: component.digest().to_owned(),
            config_digest: config.digest().to_owned(),
        };
        let refused = |mut what: String| {
            revealed.hidden().scrub(&mut what);
            Error::new(Kind::PluginRefused, "plugin.init", what)
                .with("transform", name)
                .with("plugin", &component.info().name)
        };
        let nodes: std::result::Result<Vec<_>, String> = input
            .fields()
            .iter()
            .map(|field| types::nodes(field))
            .collect();
        let nodes = nodes.map_err(|e| refused(format!("{e}, which the contract cannot carry")))?;
        let book = LogBook::new(name, &info.name).hiding(revealed.hidden().clone());
        let book = Arc::new(Mutex::new(book));
        let mut instance = Instance::new(component.pre(Stop::Time)?, Stop::Time, &limits, &book)
            .map_err(|f| match f.no_memory() {
                Some(error) => SetupError::Failed(
                    error
                        .with("transform", name)
                        .with("plugin", &component.info().name),
                ),
                None => SetupError::Failed(refused(format!(
                    "does not start: {}: {}",
                    f.code, f.message
                ))),
            })?;
        let plan = init(&mut instance, &config, &revealed, &nodes)
            .map_err(|f| refused(format!("init failed: {}: {}", f.code, f.message)))?
            .map_err(|told| SetupError::Problems(problems(told, revealed.hidden())))?;
        let plan = Plan::check(plan, &input)
            .map_err(|e| refused(format!("its plan breaks the contract: {e}")))?;
        lock(&book).end_batch();
        Ok(PluginTransform {
            identity,
            component,
            config,
            revealed,
            input: nodes,
            plan,
            limits,
            book,
            instance: Some(instance),
        })
    }

    /// A new instance that has given the same plan as the first.
    fn fresh(&self, stop: Stop, schema: &SchemaRef) -> Result<Instance> {
        let pre = self.component.pre(stop)?;
        let again =
            |what: String| self.broken(format!("a fresh instance does not come up: {what}"));
        let told = |f: Failure| {
            f.no_memory()
                .unwrap_or_else(|| again(format!("{}: {}", f.code, f.message)))
        };
        let mut instance = Instance::new(pre, stop, &self.limits, &self.book).map_err(told)?;
        let plan = init(&mut instance, &self.config, &self.revealed, &self.input).map_err(told)?;
        let plan = plan.map_err(|_| again("init refuses the config it took before".into()))?;
        match Plan::check(plan, schema) {
            Ok(plan) if plan == self.plan => Ok(instance),
            _ => Err(again("the same setup gave another plan".into())),
        }
    }

    fn broken(&self, mut what: String) -> Error {
        self.revealed.hidden().scrub(&mut what);
        let Identity {
            transform,
            plugin,
            digest,
            ..
        } = &self.identity;
        Error::new(Kind::PluginBroken, "plugin.run", what)
            .with("transform", transform)
            .with("plugin", plugin)
            .with("digest", digest)
            .hint("fix the plugin, or pin the version that worked: type = \"<plugin>@<version>\"")
    }

    /// One call on the rows `from..to`.
    fn call(
        &mut self,
        input: &Table,
        from: usize,
        to: usize,
        deadline: Duration,
    ) -> std::result::Result<Piece, Miss> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.fresh(Stop::Time, &input.schema).map_err(Miss::Fatal)?,
        };
        let result = self.run(&mut instance, input, from..to, deadline);
        // A failed instance cannot be trusted; one whose output was too large can.
        if matches!(result, Ok(_) | Err(Miss::TooMuch)) && !instance.worn() {
            self.instance = Some(instance);
        }
        result
    }

    fn run(
        &self,
        instance: &mut Instance,
        input: &Table,
        range: std::ops::Range<usize>,
        deadline: Duration,
    ) -> std::result::Result<Piece, Miss> {
        let (from, rows) = (range.start, range.len());
        let mut columns = Vec::with_capacity(self.plan.reads.len());
        for n in &self.plan.reads {
            let column = &input.columns[*n];
            let rows = if column.constant { 0..1 } else { range.clone() };
            let mut nodes = Vec::new();
            lower::nodes(&column.values, rows, &mut nodes);
            columns.push((column.constant, nodes));
        }
        let bytes: usize = columns
            .iter()
            .flat_map(|(_, nodes)| nodes)
            .map(lower::Node::bytes)
            .sum();
        if bytes > self.limits.memory / 8 && rows > 1 {
            return Err(Miss::TooMuch);
        }
        let params: Vec<(bool, Vec<wit::BuffersParam<'_>>)> = columns
            .iter()
            .map(|(constant, nodes)| (*constant, nodes.iter().map(lower::Node::param).collect()))
            .collect();
        let params: Vec<wit::ColumnParam<'_>> = params
            .iter()
            .map(|(constant, nodes)| wit::ColumnParam {
                constant: *constant,
                nodes,
            })
            .collect();
        let mut output = instance.run(from as u32, rows as u32, &params, deadline)?;
        let hidden = self.revealed.hidden();
        if !hidden.is_empty() {
            for reject in &mut output.rejects {
                hidden.scrub(&mut reject.message);
                if let Some(field) = &mut reject.field {
                    hidden.scrub(field);
                }
            }
        }
        let read: Vec<Column> = self
            .plan
            .reads
            .iter()
            .map(|n| part(&input.columns[*n], from, rows))
            .collect();
        let carried: Vec<Column> = (self.plan.carries())
            .map(|n| part(&input.columns[n], from, rows))
            .collect();
        let given = output::Given {
            read: &read,
            carried: &carried,
            rows,
        };
        output::check(&self.plan, output, given, self.limits.output_bytes).map_err(|e| match e {
            Refused::TooMuch => Miss::TooMuch,
            Refused::Defect(what) => {
                Miss::Failed(Failure::new(codes::OUTPUT_INVALID, printable(&what)))
            }
        })
    }

    /// Decides about one record on which time ran out, by fuel, which is the same on every machine.
    fn metered(&self, input: &Table, row: usize) -> std::result::Result<Piece, Miss> {
        let mut instance = self.fresh(Stop::Fuel, &input.schema).map_err(Miss::Fatal)?;
        self.run(&mut instance, input, row..row + 1, self.limits.deadline)
    }

    /// Fuel that one call with the whole table burns.
    pub(in crate::plugin) fn fuel(&self, input: &Table) -> Result<u64> {
        let mut instance = self.fresh(Stop::Fuel, &input.schema)?;
        let run = self.run(&mut instance, input, 0..input.rows, self.limits.deadline);
        match run {
            Ok(_) => Ok(instance.burnt()),
            Err(Miss::Fatal(error)) => Err(error),
            Err(Miss::TooMuch) => Err(self.broken("the batch is too much for one call".into())),
            Err(Miss::Failed(failure)) => {
                Err(self.broken(format!("{}: {}", failure.code, failure.message)))
            }
        }
    }

    /// The result for a record on which the plugin failed.
    fn set_aside(&self, failure: &Failure) -> Piece {
        let mut message = failure.message.clone();
        self.revealed.hidden().scrub(&mut message);
        let reject = Reject {
            row: 0,
            part: None,
            code: failure.code.to_owned(),
            field: None,
            message: cut(&message, MAX_STORY).to_owned(),
        };
        let empty = |field: &arrow_schema::FieldRef| Column {
            values: new_empty_array(field.data_type()),
            constant: false,
        };
        Piece {
            rows: RowMap::Origin(Vec::new()),
            len: 0,
            bytes: 0,
            made: self.plan.makes.iter().map(empty).collect(),
            rejects: vec![reject],
            counters: vec![0; self.plan.counters.len()],
        }
    }

    fn parts(&mut self, input: &Table) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        let mut set_aside = 0;
        let mut size = Size::default();
        // The next range is the last: parts come out in order.
        let mut ranges = vec![(0, input.rows, self.limits.deadline)];
        while let Some((from, to, deadline)) = ranges.pop() {
            let missed = match self.call(input, from, to, deadline) {
                Ok(piece) => Ok(piece),
                Err(Miss::Fatal(e)) => return Err(e),
                Err(missed) if to - from > 1 => {
                    let deadline = self.next_deadline(&missed, deadline);
                    let middle = from + (to - from) / 2;
                    ranges.push((middle, to, deadline));
                    ranges.push((from, middle, deadline));
                    continue;
                }
                Err(Miss::Failed(failure)) if failure.timeout => self.metered(input, from),
                Err(missed) => Err(missed),
            };
            let failure = match missed {
                Ok(piece) => {
                    size.add(&piece);
                    if let Some(what) = size.over(self.limits.output_bytes) {
                        return Err(self.broken(what).with("row", from));
                    }
                    parts.push((from, to - from, piece));
                    continue;
                }
                Err(Miss::Fatal(e)) => return Err(e),
                Err(Miss::Failed(failure)) => failure,
                Err(Miss::TooMuch) => Failure::new(codes::OUTPUT_INVALID, "one record is too much"),
            };
            set_aside += 1;
            if set_aside > MAX_ISOLATIONS {
                let what = format!(
                    "failed on more than {MAX_ISOLATIONS} records of one batch; the last: {}: {}",
                    failure.code, failure.message
                );
                return Err(self.broken(what).with("row", from));
            }
            parts.push((from, 1, self.set_aside(&failure)));
        }
        Ok(parts)
    }

    /// Half the rows get half the time, down to an eighth of the limit. Fuel decides in the end, so this only changes
    /// how long the search for an endless record takes.
    fn next_deadline(&self, missed: &Miss, deadline: Duration) -> Duration {
        match missed {
            Miss::Failed(failure) if failure.timeout => {
                (deadline / 2).max(self.limits.deadline / 8)
            }
            _ => deadline,
        }
    }
}

impl Transform for PluginTransform {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn output_schema(&self) -> &SchemaRef {
        &self.plan.schema
    }

    fn explodes(&self) -> bool {
        self.plan.explodes
    }

    fn counters(&self) -> &[String] {
        &self.plan.counters
    }

    fn carries(&self, column: usize) -> Option<usize> {
        match self.plan.output.get(column)? {
            Planned::Carry(n) => Some(*n),
            Planned::Make(_) => None,
        }
    }

    fn apply(&mut self, input: &Table) -> Result<Output> {
        let parts = self.parts(input);
        lock(&self.book).end_batch();
        join::output(&self.plan, input, parts?).map_err(|e| {
            Error::new(Kind::Bug, "plugin.join", e).with("transform", &self.identity.transform)
        })
    }
}

/// Sums over the calls of one batch.
#[derive(Default)]
struct Size {
    rows: usize,
    bytes: usize,
    rejects: usize,
}

impl Size {
    fn add(&mut self, piece: &Piece) {
        self.rows += piece.len;
        self.bytes = self.bytes.saturating_add(piece.bytes);
        self.rejects += piece.rejects.len();
    }

    fn over(&self, output_bytes: usize) -> Option<String> {
        let Size {
            rows,
            bytes,
            rejects,
        } = *self;
        let most = |one: usize| one.saturating_mul(MAX_FULL_CALLS);
        let (row_limit, byte_limit, reject_limit) =
            (most(MAX_ROWS), most(output_bytes), most(MAX_REJECTS));
        (rows > row_limit || bytes > byte_limit || rejects > reject_limit).then(|| {
            format!(
                "made {rows} rows, {bytes} bytes and {rejects} rejects of one batch; at most {row_limit}, {byte_limit} and {reject_limit}"
            )
        })
    }
}

/// `rows` rows of a column, from row `from` on.
fn part(column: &Column, from: usize, rows: usize) -> Column {
    match column.constant {
        true => column.clone(),
        false => Column {
            values: column.values.slice(from, rows),
            constant: false,
        },
    }
}

fn problems(told: Vec<wit::Problem>, hidden: &Hidden) -> Vec<SetupProblem> {
    told.into_iter()
        .take(MAX_PROBLEMS)
        .map(|mut p| {
            hidden.scrub(&mut p.at);
            hidden.scrub(&mut p.message);
            let short = |text: &str| printable(cut(text, MAX_STORY));
            SetupProblem::of_plugin(&short(&p.at), short(&p.code), short(&p.message))
        })
        .collect()
}

fn init(
    instance: &mut Instance,
    config: &Canonical,
    revealed: &Revealed,
    input: &[Vec<types::Node>],
) -> std::result::Result<std::result::Result<wit::Plan, Vec<wit::Problem>>, Failure> {
    let (tables, files): (Vec<_>, Vec<_>) =
        (config.attached().iter()).partition(|attached| attached.table.is_some());
    let files: Vec<wit::File<'_>> = files
        .iter()
        .map(|Attached { key, bytes, .. }| wit::File { key, bytes })
        .collect();
    let tables: Vec<lower::Lookup<'_>> = (tables.iter())
        .filter_map(|attached| Some((attached, attached.table.as_ref()?)))
        .map(|(attached, rows)| lower::Lookup::of(&attached.key, rows))
        .collect::<std::result::Result<_, _>>()
        .map_err(|e| Failure::new(codes::ERROR, e))?;
    let tables: Vec<lower::LookupParts<'_>> = tables.iter().map(lower::Lookup::parts).collect();
    let tables: Vec<lower::LookupLists<'_>> =
        tables.iter().map(lower::LookupParts::lists).collect();
    let tables: Vec<wit::Table<'_>> = tables.iter().map(lower::LookupLists::param).collect();
    let columns: Vec<Vec<wit::FieldParam<'_>>> = input
        .iter()
        .map(|nodes| nodes.iter().map(lower::field).collect())
        .collect();
    let columns: Vec<&[wit::FieldParam<'_>]> = columns.iter().map(Vec::as_slice).collect();
    instance.init(wit::Setup {
        config: revealed.text(),
        files: &files,
        tables: &tables,
        input: &columns,
    })
}
