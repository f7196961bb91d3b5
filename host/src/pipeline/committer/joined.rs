//! Joins two hand-ins of one task: what was in flight, and what was sealed after it.

use crate::chain::Ledger;
use crate::commit::Span;
use crate::pipeline::messages::HandIn;
use crate::sink::Sealed;

/// Joins a hand-in with the earlier one of the same task, if it continues it. Otherwise the earlier one is returned,
/// and this one takes its place.
pub fn join(waiting: &mut Vec<HandIn>, hand_in: HandIn) -> Option<HandIn> {
    match waiting.iter_mut().find(|w| w.task == hand_in.task) {
        None => {
            waiting.push(hand_in);
            None
        }
        Some(before) if follows(&before.sealed, &hand_in.sealed) => {
            before.number = hand_in.number;
            append(&mut before.sealed, hand_in.sealed);
            None
        }
        Some(before) => Some(std::mem::replace(before, hand_in)),
    }
}

/// Whether every span of `after` begins where `before` ended.
fn follows(before: &Sealed, after: &Sealed) -> bool {
    after.spans.iter().all(|next| {
        let of_partition = |span: &&Span| span.split == next.split;
        let first = before.spans.iter().find(of_partition);
        first.is_none_or(|first| first.to == next.from && first.epoch == next.epoch)
    })
}

/// Appends what a task sealed after `before`, as if it had sealed both at once.
fn append(before: &mut Sealed, after: Sealed) {
    before.base = before.base.min(after.base);
    before.files.extend(after.files);
    before.deliveries.extend(after.deliveries);
    before.counters.extend(after.counters);
    for (split, notes) in after.notes {
        before.notes.entry(split).or_default().merge(&notes);
    }
    for span in after.spans {
        match before.spans.iter_mut().find(|s| s.split == span.split) {
            Some(first) => extend(first, &span),
            None => before.spans.push(span),
        }
    }
}

/// The next span of the same partition.
fn extend(first: &mut Span, next: &Span) {
    let ledger = |span: &Span| Ledger {
        records: span.records,
        rows: span.rows,
        dead_letters: span.dead_letters,
    };
    let mut sum = ledger(first);
    sum.add(&ledger(next));
    first.to = next.to;
    (first.records, first.rows, first.dead_letters) = (sum.records, sum.rows, sum.dead_letters);
}
