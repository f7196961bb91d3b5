//! The validity rules V1–V7 and V10–V12 of docs/protocol.md §3, on the state before the entry. V8 is in `rewind`, V9 in
//! `expiry`, V13 in `forget`.
//!
//! The writer checks them before Create, every reader checks them, and so does `--verify`. All use the same functions,
//! so nobody can write an entry that readers refuse.

use std::collections::{BTreeMap, BTreeSet};

use super::PreparedCommit;
use super::entry::{
    AddedFile, Delivery, Entry, FORMAT, Init, Input, Kind, Open, Plan, Reader, Role, Rule, Rules,
    Span, Swap,
};
use super::ledgers::check_ledgers;
use super::state::{State, Violation};
use crate::record::SplitId;

type Check = Result<(), Violation>;

/// An entry that is wrong on any state.
pub(super) fn wrong(rule: &'static str, message: impl Into<String>) -> Violation {
    Violation {
        rule,
        message: message.into(),
        split: None,
        moved: false,
    }
}

/// An entry that may have been valid on an earlier state, but is not valid on this one.
pub(super) fn moved(rule: &'static str, message: impl Into<String>) -> Violation {
    Violation {
        moved: true,
        ..wrong(rule, message)
    }
}

impl Violation {
    pub(super) fn of(self, split: &SplitId) -> Violation {
        Violation {
            split: Some(split.clone()),
            ..self
        }
    }
}

/// Component and config digests: both can be blocked.
pub(super) fn digests(rules: &[Rule]) -> impl Iterator<Item = &str> {
    rules
        .iter()
        .flat_map(|r| [r.component.as_str(), r.config.as_str()])
}

pub(super) fn check_init(entry: &Entry) -> Result<&Init, Violation> {
    check_shape(entry)?;
    if entry.version != 0 || !entry.parent.is_empty() {
        return Err(wrong(
            "V1",
            "version 0 has no parent, and only it is an init",
        ));
    }
    entry
        .init
        .as_ref()
        .ok_or_else(|| wrong("§2", "version 0 is not an init entry"))
}

impl State {
    /// Is `entry` the valid next one?
    pub fn check(&self, entry: &Entry) -> Check {
        if entry.version != self.version + 1 {
            return Err(wrong(
                "V1",
                format!(
                    "expected version {}, found {}",
                    self.version + 1,
                    entry.version
                ),
            ));
        }
        if entry.parent != self.digest {
            return Err(wrong(
                "V1",
                format!("expected parent {}, found {}", self.digest, entry.parent),
            ));
        }
        check_shape(entry)?;
        if entry.base > self.version {
            return Err(wrong(
                "§2",
                format!(
                    "base {} is above the version before, {}",
                    entry.base, self.version
                ),
            ));
        }
        self.check_base(entry.base)?;
        for open in &entry.open {
            self.check_open(open)?;
        }
        match entry.kind {
            Kind::Rewind => self.check_rewind(entry)?,
            kind => self.check_spans(kind, &entry.spans)?,
        }
        if let Some(rules) = &entry.rules
            && entry.kind == Kind::Data
        {
            self.check_rules(rules)?;
        }
        self.check_outputs(&entry.add, &entry.deliver)?;
        self.check_rows(entry)?;
        for file in &entry.remove {
            if !self.live.contains_key(file) {
                return Err(moved("V5", format!("removed file {file} is not live")));
            }
        }
        for file in &entry.gc {
            self.check_gc(file)?;
        }
        if let Some(reader) = &entry.reader {
            self.check_reader(reader)?;
        }
        if let Some(plan) = &entry.plan {
            self.check_plan(plan)?;
        }
        if let Some(input) = &entry.input {
            self.check_input(input, entry)?;
        }
        if let Some(horizon) = &entry.horizon {
            self.check_horizon(horizon.version)?;
        }
        self.check_leaving(entry)?;
        match &entry.swap {
            Some(swap) => self.check_swap(swap),
            None => Ok(()),
        }
    }

    /// V9, and V11 of a reader that is forgotten.
    fn check_leaving(&self, entry: &Entry) -> Check {
        if entry.kind == Kind::Expire {
            self.check_expire(entry)?;
        }
        let mut archived = BTreeSet::new();
        for file in &entry.archived {
            if !archived.insert(&file.id) {
                return Err(wrong("§2", "a file is archived twice"));
            }
            self.check_archived(file)?;
        }
        match &entry.forget {
            Some(forget) => self.check_forget(forget),
            None => Ok(()),
        }
    }

    /// V7 and, of a compaction, V14. A rewind was compared with what it must be.
    fn check_rows(&self, entry: &Entry) -> Check {
        match entry.kind {
            Kind::Rewind => Ok(()),
            Kind::Compact => self.check_compact(entry),
            kind => check_ledgers(kind, &entry.spans, &entry.add, &entry.deliver),
        }
    }

    /// W4: what such an attempt named may have been collected by an entry that is forgotten.
    fn check_base(&self, base: u64) -> Check {
        match base < self.horizon {
            true => Err(moved(
                "W4",
                format!(
                    "begun on version {base}, the log forgot what lies below {}",
                    self.horizon
                ),
            )),
            false => Ok(()),
        }
    }

    /// W3 for one receipt of a data draft. Every entry after its `base` is folded into this state, and none of them can
    /// be undone without a trace: a split that went back has a higher epoch, rules that came back have another
    /// generation, and the names in `collected` and `removed` stay.
    pub(super) fn check_receipt(&self, receipt: &PreparedCommit) -> Check {
        self.check_base(receipt.base)?;
        self.check_spans(Kind::Data, &receipt.spans)?;
        if receipt.generation != self.rules.generation {
            return Err(moved(
                "V3",
                format!(
                    "rules of generation {} are in force, rows are of generation {}",
                    self.rules.generation, receipt.generation
                ),
            ));
        }
        self.check_rules(&self.rules)?;
        let PreparedCommit {
            spans,
            files,
            deliveries,
            ..
        } = receipt;
        self.check_outputs(files, deliveries)?;
        check_ledgers(Kind::Data, spans, files, deliveries)
    }

    pub(super) fn check_open(&self, open: &Open) -> Check {
        match self.splits.get(&open.split) {
            None if open.offset < 0 => {
                Err(wrong("W1", format!("cannot start at offset {}", open.offset)).of(&open.split))
            }
            None => Ok(()),
            Some(split) => Err(moved(
                "W1",
                format!(
                    "open already, from {}, and stands at {}",
                    split.start(),
                    split.to
                ),
            )
            .of(&open.split)),
        }
    }

    pub(super) fn check_spans(&self, kind: Kind, spans: &[Span]) -> Check {
        let mut seen = BTreeSet::new();
        for span in spans {
            if !seen.insert(&span.split) {
                return Err(wrong("§2", "two spans of one split").of(&span.split));
            }
            if span.to <= span.from {
                return Err(wrong(
                    "V2",
                    format!(
                        "expected a span that moves on, found {}..{}",
                        span.from, span.to
                    ),
                )
                .of(&span.split));
            }
            let Some(split) = self.splits.get(&span.split) else {
                return Err(wrong("V2", "the split was never opened").of(&span.split));
            };
            if span.epoch != split.epoch {
                return Err(moved(
                    "V2",
                    format!("expected epoch {}, found {}", split.epoch, span.epoch),
                )
                .of(&span.split));
            }
            if span.from != split.to {
                return Err(moved(
                    "V2",
                    format!(
                        "expected a span from {}, found {}..{}",
                        split.to, span.from, span.to
                    ),
                )
                .of(&span.split));
            }
            if kind != Kind::Gap && span.lost != 0 {
                return Err(wrong("V7", "only a gap loses offsets").of(&span.split));
            }
        }
        Ok(())
    }

    fn check_rules(&self, rules: &Rules) -> Check {
        if *rules != self.rules {
            return Err(moved(
                "V3",
                format!(
                    "rules of generation {} are in force, found generation {} or other digests",
                    self.rules.generation, rules.generation
                ),
            ));
        }
        self.check_not_blocked("V3", &rules.transforms)
    }

    fn check_not_blocked(&self, rule: &'static str, rules: &[Rule]) -> Check {
        match digests(rules).find(|d| self.blocked.contains(*d)) {
            Some(digest) => Err(moved(rule, format!("{digest} is blocked"))),
            None => Ok(()),
        }
    }

    fn check_outputs(&self, files: &[AddedFile], deliveries: &[Delivery]) -> Check {
        let mut seen = BTreeSet::new();
        let files_ids = files.iter().map(|file| &file.id);
        for id in files_ids.chain(deliveries.iter().map(|delivery| &delivery.id)) {
            if !seen.insert(id) {
                return Err(wrong("V4", format!("{id} is added twice")));
            }
            if self.live.contains_key(id) || self.leaving.contains_key(id) {
                return Err(moved(
                    "V4",
                    format!("file {id} is live already, or has expired"),
                ));
            }
            if self.removed.contains_key(id) || self.collected.contains_key(id) {
                return Err(moved("V4", format!("file {id} was removed or collected")));
            }
            if self.delivered.contains_key(id) {
                return Err(moved("V4", format!("{id} was delivered already")));
            }
        }
        for file in files {
            let id = &file.id;
            let name = file.path.rsplit('/').next().unwrap_or_default();
            if id.is_empty() || name.split('.').next() != Some(id) || file.path.contains("..") {
                return Err(wrong(
                    "V4",
                    format!("file {id} must be named by its id, found {}", file.path),
                ));
            }
            if let Some(upload) = &file.upload
                && let Some(why) = upload.defect()
            {
                return Err(wrong("O2", format!("file {id}: {why}")));
            }
        }
        for Delivery {
            id,
            role,
            sink,
            target,
            ..
        } in deliveries
        {
            if id.is_empty() || sink.is_empty() || target.is_empty() || *role == Role::Keys {
                let message = format!(
                    "a delivery has an id, a sink, a target, and rows or dead letters, found {id:?} of {role:?} to {sink:?} {target:?}"
                );
                return Err(wrong("§2", message));
            }
        }
        Ok(())
    }

    pub(super) fn check_gc(&self, file: &str) -> Check {
        if self.live.contains_key(file) || self.removed.contains_key(file) {
            return Err(moved(
                "V6",
                format!("collected file {file} is or was part of the zone"),
            ));
        }
        if self.delivered.contains_key(file) {
            return Err(moved("V6", format!("collected {file} was delivered")));
        }
        self.check_released(file)
    }

    pub(super) fn check_reader(&self, reader: &Reader) -> Check {
        if reader.version > self.version {
            return Err(wrong(
                "V11",
                format!(
                    "reader {} saw version {}, newest is {}",
                    reader.name, reader.version, self.version
                ),
            ));
        }
        for (split, position) in &reader.position {
            let Some(state) = self.splits.get(split) else {
                return Err(wrong("V11", "reader of a split that was never opened").of(split));
            };
            if state.rewound_at > reader.version {
                return Err(moved(
                    "V11",
                    format!(
                        "reader {} saw version {}, the split was rewound at {}",
                        reader.name, reader.version, state.rewound_at
                    ),
                )
                .of(split));
            }
            if *position > state.to || *position < state.start() {
                return Err(wrong(
                    "V11",
                    format!(
                        "reader {} at {position}, split is {}..{}",
                        reader.name,
                        state.start(),
                        state.to
                    ),
                )
                .of(split));
            }
        }
        self.check_readable("V11", &reader.name, &reader.position)?;
        match self.readers.get(&reader.name) {
            Some(before) => self.check_reader_moves(before, reader),
            None => Ok(()),
        }
    }

    /// The reader advances, or its owner sets it back.
    fn check_reader_moves(&self, before: &Reader, reader: &Reader) -> Check {
        if reader.generation == before.generation + 1 && reader.version >= before.version {
            return self.check_set_back(before, reader);
        }
        if reader.generation != before.generation {
            return Err(moved(
                "V11",
                format!(
                    "reader {} is of generation {}, found {}",
                    reader.name, before.generation, reader.generation
                ),
            ));
        }
        if reader.version < before.version {
            return Err(moved(
                "V11",
                format!(
                    "reader {} is at version {}, found {}",
                    reader.name, before.version, reader.version
                ),
            ));
        }
        for (split, at) in &before.position {
            let found = reader.position.get(split);
            if found.is_none_or(|p| p < at) {
                return Err(moved(
                    "V11",
                    format!(
                        "reader {} stands at {at} and never goes back, found {found:?}",
                        reader.name
                    ),
                )
                .of(split));
            }
        }
        Ok(())
    }

    pub(super) fn check_plan(&self, plan: &Plan) -> Check {
        if let Some(open) = &self.plan {
            return Err(moved("V10", format!("plan {} is open", open.version)));
        }
        if !plan.ranges.values().any(|r| r.to > r.from) {
            return Err(wrong("V10", "a plan that reads nothing"));
        }
        for (id, range) in &plan.ranges {
            if range.to < range.from {
                return Err(wrong("V10", format!("plan of {}..{}", range.from, range.to)).of(id));
            }
            let Some(split) = self.splits.get(id) else {
                return Err(wrong("V10", "plan of a split that was never opened").of(id));
            };
            if range.from != split.to {
                return Err(moved(
                    "V10",
                    format!(
                        "expected a plan from {}, found {}..{}",
                        split.to, range.from, range.to
                    ),
                )
                .of(id));
            }
        }
        self.check_rules(&plan.rules)
    }

    /// V10 of `batch` and of `void`. A batch has the rules of its plan: a swap in between does not change that, unless
    /// it blocks one of them (§7), which closes the plan.
    fn check_input(&self, input: &Input, entry: &Entry) -> Check {
        let open = match &self.plan {
            Some(open) if open.version == input.plan => open,
            Some(open) => {
                let found = format!("plan {} is open, found plan {}", open.version, input.plan);
                return Err(moved("V10", found));
            }
            None => {
                return Err(moved("V10", format!("plan {} is not open", input.plan)));
            }
        };
        if entry.kind == Kind::Void {
            return Ok(());
        }
        if entry.rules.as_ref() != Some(&open.plan.rules) {
            return Err(wrong("V10", "the rules are not those of the plan"));
        }
        self.check_not_blocked("V10", &open.plan.rules.transforms)?;
        if input.dedup_version > self.version || input.dedup_version < self.data_at {
            return Err(moved(
                "V10",
                format!(
                    "dedup saw version {}, rows changed at {}",
                    input.dedup_version, self.data_at
                ),
            ));
        }
        let planned: BTreeMap<&SplitId, (i64, i64)> = open
            .plan
            .ranges
            .iter()
            .filter(|(_, r)| r.to > r.from)
            .map(|(split, r)| (split, (r.from, r.to)))
            .collect();
        let found: BTreeMap<&SplitId, (i64, i64)> = entry
            .spans
            .iter()
            .map(|s| (&s.split, (s.from, s.to)))
            .collect();
        if planned != found {
            return Err(wrong(
                "V10",
                format!("planned {planned:?}, found {found:?}"),
            ));
        }
        Ok(())
    }

    /// V12. For a caller that wants to know before it does the work; the log checks it again.
    pub fn check_swap(&self, swap: &Swap) -> Result<(), Violation> {
        if swap.replaces != self.rules.generation {
            return Err(moved(
                "V12",
                format!(
                    "generation {} is in force, the swap replaces {}",
                    self.rules.generation, swap.replaces
                ),
            ));
        }
        let blocked = |d: &&str| self.blocked.contains(*d);
        match digests(&swap.transforms).find(blocked) {
            Some(digest) if !swap.force => Err(moved(
                "V12",
                format!("{digest} is blocked, and the swap is not forced"),
            )),
            _ => Ok(()),
        }
    }
}

/// Only the fields of its kind.
fn check_shape(entry: &Entry) -> Check {
    use Kind::{
        Archived, Batch, Compact, Data, Expire, Forget, Gap, Gc, Horizon, Init, Open, Plan, Reader,
        Rewind, Swap, Void,
    };
    let kind = entry.kind;
    let fields: [(&str, bool, &[Kind], &[Kind]); 18] = [
        // field, whether it is there, kinds that must have it, kinds that may have it
        ("init", entry.init.is_some(), &[Init], &[]),
        ("open", !entry.open.is_empty(), &[Open], &[]),
        (
            "spans",
            !entry.spans.is_empty(),
            &[Data, Gap, Batch],
            &[Rewind],
        ),
        ("rules", entry.rules.is_some(), &[Data, Batch], &[]),
        (
            "add",
            !entry.add.is_empty(),
            &[Compact],
            &[Data, Batch, Rewind],
        ),
        ("deliver", !entry.deliver.is_empty(), &[], &[Data, Batch]),
        (
            "remove",
            !entry.remove.is_empty(),
            &[Expire, Compact],
            &[Rewind],
        ),
        ("gc", !entry.gc.is_empty(), &[], &[Gc, Data]),
        ("swap", entry.swap.is_some(), &[Swap], &[Data]),
        ("rewind", entry.rewind.is_some(), &[Rewind], &[]),
        ("reader", entry.reader.is_some(), &[Reader], &[]),
        ("plan", entry.plan.is_some(), &[Plan], &[]),
        ("input", entry.input.is_some(), &[Batch, Void], &[]),
        ("horizon", entry.horizon.is_some(), &[Horizon], &[]),
        ("expire", entry.expire.is_some(), &[Expire], &[]),
        ("archived", !entry.archived.is_empty(), &[Archived], &[]),
        ("forget", entry.forget.is_some(), &[Forget], &[]),
        ("counters", !entry.counters.is_empty(), &[], &[Data, Batch]),
    ];
    if entry.format != FORMAT {
        return Err(wrong(
            "§2",
            format!("format {}, expected {FORMAT}", entry.format),
        ));
    }
    for (field, present, must, may) in fields {
        if present && !must.contains(&kind) && !may.contains(&kind) {
            return Err(wrong(
                "§2",
                format!("an entry of kind {kind:?} has no `{field}`"),
            ));
        }
        if !present && must.contains(&kind) {
            return Err(wrong(
                "§2",
                format!("an entry of kind {kind:?} needs `{field}`"),
            ));
        }
    }
    Ok(())
}
