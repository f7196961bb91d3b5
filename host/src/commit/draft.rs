//! Makes an entry of a draft: each part is checked against the proved state (W3).

use std::collections::BTreeSet;

use super::entry::{
    AddedFile, Archived, Delivery, Entry, FORMAT, Horizon, Kind as EntryKind, Open, Rules, Span,
    Swap, Writer,
};
use super::state::{State, Violation};
use super::write::is_older;
use super::{Draft, Dropped, PreparedCommit};
use crate::error::{Error, Kind, Result};
use crate::record::SplitId;

/// An entry that still needs version, parent, attempt, writer and time.
pub(super) struct Built {
    pub entry: Entry,
}

impl Built {
    pub(super) fn empty(kind: EntryKind) -> Entry {
        Entry {
            format: FORMAT,
            version: 0,
            parent: String::new(),
            kind,
            attempt: String::new(),
            writer: Writer {
                id: String::new(),
                started: 0,
            },
            base: 0,
            time: 0,
            init: None,
            open: Vec::new(),
            spans: Vec::new(),
            rules: None,
            add: Vec::new(),
            deliver: Vec::new(),
            remove: Vec::new(),
            gc: Vec::new(),
            swap: None,
            rewind: None,
            reader: None,
            plan: None,
            input: None,
            horizon: None,
            expire: None,
            archived: Vec::new(),
            forget: None,
            counters: std::collections::BTreeMap::new(),
        }
    }

    /// `files` may be empty: the entry then only takes the place of an attempt that has no files.
    pub(super) fn gc(files: Vec<String>, base: u64) -> Built {
        Built {
            entry: Entry {
                base,
                gc: files,
                ..Built::empty(EntryKind::Gc)
            },
        }
    }
}

/// Builds the entry of all parts that are still valid; the others go to `dropped`. `None`: no part is left. Parts that
/// were dropped before stay dropped.
pub(super) fn build(
    state: &State,
    draft: &Draft,
    dropped: &mut Vec<Dropped>,
    orphans: &BTreeSet<String>,
) -> Result<Option<Built>> {
    let mut entry = Built::empty(EntryKind::Gc);
    entry.base = state.version;
    match draft {
        Draft::Open(opens) => open(state, entry, opens, dropped),
        Draft::Gap(spans) => gap(state, entry, spans, dropped),
        Draft::Gc(ids) => gc(state, entry, ids, dropped),
        Draft::Data { receipts, swap } => {
            data(state, entry, (receipts, swap.as_ref()), dropped, orphans)
        }
        Draft::Rewind {
            rewind,
            back,
            rests,
            base,
        } => {
            let entry = rewound(entry, (rewind, back), rests, *base);
            let splits = back.spans.iter().map(|s| s.split.clone()).collect();
            whole(state, entry, splits, dropped)
        }
        Draft::Archived(files) => archived(state, entry, files, dropped),
        Draft::Batch { input, receipt } => {
            entry.kind = EntryKind::Batch;
            entry.input = Some(input.clone());
            entry.rules = Some(plan_rules(state));
            take(&mut entry, receipt);
            entry.base = receipt.base;
            whole(state, entry, splits_of(receipt), dropped)
        }
        alone => of_one_part(state, entry, alone, dropped),
    }
}

fn rewound(
    entry: Entry,
    (rewind, back): (&super::Rewind, &super::Back),
    rests: &[AddedFile],
    base: u64,
) -> Entry {
    Entry {
        kind: EntryKind::Rewind,
        base,
        spans: back.spans.clone(),
        remove: back.remove.clone(),
        add: rests.to_vec(),
        rewind: Some(super::Rewind {
            readers: back.readers.clone(),
            ..rewind.clone()
        }),
        ..entry
    }
}

/// Drafts of one part without spans.
fn of_one_part(
    state: &State,
    mut entry: Entry,
    draft: &Draft,
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Built>> {
    match draft {
        Draft::Swap(swap) => {
            entry.kind = EntryKind::Swap;
            entry.swap = Some(swap.clone());
        }
        Draft::Reader(reader) => {
            entry.kind = EntryKind::Reader;
            entry.reader = Some(reader.clone());
        }
        Draft::Plan(plan) => {
            entry.kind = EntryKind::Plan;
            entry.plan = Some(plan.clone());
        }
        Draft::Void(input) => {
            entry.kind = EntryKind::Void;
            entry.input = Some(input.clone());
        }
        Draft::Horizon(version) => {
            entry.kind = EntryKind::Horizon;
            entry.horizon = Some(Horizon { version: *version });
        }
        Draft::Expire { files, expire } => {
            entry.kind = EntryKind::Expire;
            entry.remove.clone_from(files);
            entry.expire = Some(expire.clone());
        }
        Draft::Compact { remove, add, base } => {
            entry.kind = EntryKind::Compact;
            entry.base = *base;
            entry.remove.clone_from(remove);
            entry.add.clone_from(add);
        }
        Draft::Forget(forget) => {
            entry.kind = EntryKind::Forget;
            entry.forget = Some(forget.clone());
        }
        _ => {}
    }
    whole(state, entry, Vec::new(), dropped)
}

/// O7: drops parts with a file that was begun too long ago, also where the state would accept them. Their records are
/// read again.
pub(super) fn drop_stale(draft: &Draft, dropped: &mut Vec<Dropped>, oldest: Option<u64>) {
    let parts: Vec<(&[AddedFile], Vec<SplitId>)> = match draft {
        Draft::Data { receipts, .. } => {
            let files = receipts.iter().map(|receipt| &*receipt.files);
            files.zip(receipts.iter().map(splits_of)).collect()
        }
        Draft::Batch { receipt, .. } => vec![(&*receipt.files, splits_of(receipt))],
        Draft::Compact { add, .. } => vec![(add, Vec::new())],
        _ => return,
    };
    for (index, (files, splits)) in parts.into_iter().enumerate() {
        let stale = files.iter().find(|f| is_older(&f.id, oldest));
        let Some(file) = stale.filter(|_| dropped.iter().all(|d| d.index != index)) else {
            continue;
        };
        let message = format!(
            "{} was begun longer ago than a quarter of store.lifetime; it is read and written again",
            file.path
        );
        dropped.push(Dropped {
            index,
            splits,
            reason: Violation {
                rule: "O7",
                message,
                split: None,
                moved: true,
            },
        });
    }
}

fn open(
    state: &State,
    mut entry: Entry,
    opens: &[Open],
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Built>> {
    entry.kind = EntryKind::Open;
    for (index, open) in opens.iter().enumerate() {
        let splits = || vec![open.split.clone()];
        if holds(dropped, index, splits, || state.check_open(open))? {
            entry.open.push(open.clone());
        }
    }
    Ok(some_if(!entry.open.is_empty(), entry))
}

fn gap(
    state: &State,
    mut entry: Entry,
    spans: &[Span],
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Built>> {
    entry.kind = EntryKind::Gap;
    for (index, span) in spans.iter().enumerate() {
        let check = || state.check_spans(EntryKind::Gap, std::slice::from_ref(span));
        if holds(dropped, index, || vec![span.split.clone()], check)? {
            entry.spans.push(span.clone());
        }
    }
    Ok(some_if(!entry.spans.is_empty(), entry))
}

fn gc(
    state: &State,
    mut entry: Entry,
    ids: &[String],
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Built>> {
    for (index, id) in ids.iter().enumerate() {
        if holds(dropped, index, Vec::new, || state.check_gc(id))? {
            entry.gc.push(id.clone());
        }
    }
    Ok(some_if(!entry.gc.is_empty(), entry))
}

fn archived(
    state: &State,
    mut entry: Entry,
    files: &[Archived],
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Built>> {
    entry.kind = EntryKind::Archived;
    for (index, file) in files.iter().enumerate() {
        if holds(dropped, index, Vec::new, || state.check_archived(file))? {
            entry.archived.push(file.clone());
        }
    }
    Ok(some_if(!entry.archived.is_empty(), entry))
}

/// An entry of receipts, and a swap after them. If no receipt is valid, it holds the swap alone.
fn data(
    state: &State,
    mut entry: Entry,
    (receipts, swap): (&[PreparedCommit], Option<&Swap>),
    dropped: &mut Vec<Dropped>,
    orphans: &BTreeSet<String>,
) -> Result<Option<Built>> {
    for (index, receipt) in receipts.iter().enumerate() {
        let check = || {
            check_base(state, receipt)?;
            state.check_receipt(receipt)
        };
        if holds(dropped, index, || splits_of(receipt), check)? {
            take(&mut entry, receipt);
            entry.base = entry.base.min(receipt.base);
        }
    }
    if let Some(swap) = swap
        && holds(dropped, receipts.len(), Vec::new, || state.check_swap(swap))?
    {
        entry.swap = Some(swap.clone());
    }
    if entry.spans.is_empty() {
        entry.kind = EntryKind::Swap;
        return Ok(some_if(entry.swap.is_some(), entry));
    }
    entry.kind = EntryKind::Data;
    entry.rules = Some(state.rules.clone());
    entry.gc = orphans
        .iter()
        .filter(|id| state.check_gc(id).is_ok())
        .filter(|id| !entry.add.iter().any(|added| added.id == **id))
        .filter(|id| !entry.deliver.iter().any(|delivery| delivery.id == **id))
        .cloned()
        .collect();
    Ok(Some(Built { entry }))
}

/// Drops every part that is not dropped yet.
pub(super) fn drop_rest(draft: &Draft, dropped: &mut Vec<Dropped>, reason: &Violation) {
    let parts = match draft {
        Draft::Open(opens) => opens.len(),
        Draft::Gap(spans) => spans.len(),
        Draft::Gc(files) => files.len(),
        Draft::Archived(files) => files.len(),
        Draft::Data { receipts, swap } => receipts.len() + usize::from(swap.is_some()),
        _ => 1,
    };
    for index in 0..parts {
        if dropped.iter().any(|d| d.index == index) {
            continue;
        }
        let splits = match draft {
            Draft::Open(opens) => opens
                .get(index)
                .map(|o| o.split.clone())
                .into_iter()
                .collect(),
            Draft::Gap(spans) => spans
                .get(index)
                .map(|s| s.split.clone())
                .into_iter()
                .collect(),
            Draft::Data { receipts, .. } => receipts.get(index).map(splits_of).unwrap_or_default(),
            Draft::Batch { receipt, .. } => splits_of(receipt),
            Draft::Rewind { back, .. } => back.spans.iter().map(|s| s.split.clone()).collect(),
            _ => Vec::new(),
        };
        dropped.push(Dropped {
            index,
            splits,
            reason: reason.clone(),
        });
    }
}

/// What must be collected when one part of a draft is dropped: its files, and deliveries that wait for a token.
pub(super) fn outputs_of(draft: &Draft, index: usize) -> Vec<String> {
    if let Draft::Rewind { rests, .. } = draft {
        return rests.iter().map(|f| f.id.clone()).collect();
    }
    if let Draft::Compact { add, .. } = draft {
        return collected(add, &[]);
    }
    let receipt = match draft {
        Draft::Data { receipts, .. } => receipts.get(index),
        Draft::Batch { receipt, .. } => Some(receipt),
        _ => None,
    };
    receipt.map_or_else(Vec::new, |r| collected(&r.files, &r.deliveries))
}

/// Ids of files, and of deliveries that a receiver holds back.
pub(super) fn collected(files: &[AddedFile], deliveries: &[Delivery]) -> Vec<String> {
    let files = files.iter().map(|file| file.id.clone());
    let waiting = deliveries
        .iter()
        .filter(|delivery| delivery.token.is_some());
    files.chain(waiting.map(|d| d.id.clone())).collect()
}

fn some_if(any: bool, entry: Entry) -> Option<Built> {
    any.then_some(Built { entry })
}

/// Whether this part stays in the entry. A part that is wrong on any state is a bug in Weir, hence an error.
fn holds(
    dropped: &mut Vec<Dropped>,
    index: usize,
    splits: impl FnOnce() -> Vec<SplitId>,
    check: impl FnOnce() -> Result<(), Violation>,
) -> Result<bool> {
    if dropped.iter().any(|d| d.index == index) {
        return Ok(false);
    }
    match check() {
        Ok(()) => Ok(true),
        Err(reason) if reason.moved => {
            dropped.push(Dropped {
                index,
                splits: splits(),
                reason,
            });
            Ok(false)
        }
        Err(reason) => Err(defect(&reason)),
    }
}

/// A draft of one part.
fn whole(
    state: &State,
    entry: Entry,
    splits: Vec<SplitId>,
    dropped: &mut Vec<Dropped>,
) -> Result<Option<Built>> {
    let next = Entry {
        version: state.version + 1,
        parent: state.digest.clone(),
        ..entry.clone()
    };
    let held = holds(dropped, 0, || splits, || state.check(&next))?;
    Ok(some_if(held, entry))
}

fn defect(reason: &Violation) -> Error {
    Error::new(
        Kind::Bug,
        "log.commit",
        format!("what was to be committed is not valid: {reason}"),
    )
}

fn check_base(state: &State, receipt: &PreparedCommit) -> Result<(), Violation> {
    if receipt.base <= state.version {
        return Ok(());
    }
    Err(Violation {
        rule: "W2",
        message: format!(
            "base {} is above the proved version {}",
            receipt.base, state.version
        ),
        split: None,
        moved: false,
    })
}

fn splits_of(receipt: &PreparedCommit) -> Vec<SplitId> {
    receipt.spans.iter().map(|s| s.split.clone()).collect()
}

fn take(entry: &mut Entry, receipt: &PreparedCommit) {
    entry.spans.extend(receipt.spans.iter().cloned());
    entry.add.extend(receipt.files.iter().cloned());
    entry.deliver.extend(receipt.deliveries.iter().cloned());
    for (transform, counters) in &receipt.counters {
        let sums = entry.counters.entry(transform.clone()).or_default();
        for (counter, amount) in counters {
            *sums.entry(counter.clone()).or_default() += amount;
        }
    }
}

/// V10 checks that it is the right plan.
fn plan_rules(state: &State) -> Rules {
    match &state.plan {
        Some(open) => open.plan.rules.clone(),
        None => state.rules.clone(),
    }
}
