//! V7: records and rows of an entry add up, and agree with the files and deliveries that hold them.

use std::collections::BTreeMap;

use super::entry::{AddedFile, Delivery, Kind, Role, Span};
use super::rules::wrong;
use super::state::Violation;
use crate::chain::{Ledger, Records, Rows};
use crate::record::SplitId;

type Check = Result<(), Violation>;

/// V7, and the half of V2 that ties outputs to spans. Rows count the same whether a file holds them or a receiver took
/// them.
pub(super) fn check_ledgers(
    kind: Kind,
    spans: &[Span],
    files: &[AddedFile],
    deliveries: &[Delivery],
) -> Check {
    let files = files
        .iter()
        .map(|f| ("file", &f.id, f.role, f.rows, &f.ranges));
    let delivered = deliveries
        .iter()
        .map(|d| ("delivery", &d.id, d.role, d.rows, &d.ranges));
    let outputs: Vec<_> = files.chain(delivered).collect();
    // split → (from, to, rows in outputs of rows, in outputs of dead letters)
    let mut found: BTreeMap<&SplitId, (i64, i64, u64, u64)> = spans
        .iter()
        .map(|s| (&s.split, (s.from, s.to, 0, 0)))
        .collect();
    for (what, id, role, said, ranges) in outputs {
        if role == Role::Keys {
            continue;
        }
        let mut rows = 0;
        for range in ranges {
            let Some((from, to, in_rows, in_letters)) = found.get_mut(&range.split) else {
                return Err(
                    wrong("V2", format!("{what} {id} has rows without a span")).of(&range.split)
                );
            };
            if range.from < *from || range.to > *to || range.to <= range.from {
                return Err(wrong(
                    "V2",
                    format!(
                        "{what} {id} has rows of {}..{}, the span is {from}..{to}",
                        range.from, range.to
                    ),
                )
                .of(&range.split));
            }
            rows += range.rows;
            match role {
                Role::DeadLetters => *in_letters += range.rows,
                Role::Rows | Role::Keys => *in_rows += range.rows,
            }
        }
        if rows != said || rows == 0 {
            return Err(wrong(
                "V7",
                format!("{what} {id} has {said} rows, its ranges have {rows}"),
            ));
        }
    }
    for span in spans {
        let (_, _, in_rows, in_letters) = found.get(&span.split).copied().unwrap_or_default();
        check_span_ledger(kind, span, in_rows, in_letters).map_err(|v| v.of(&span.split))?;
    }
    Ok(())
}

fn check_span_ledger(kind: Kind, span: &Span, in_rows: u64, in_letters: u64) -> Check {
    let ledger = Ledger {
        records: span.records,
        rows: span.rows,
        dead_letters: span.dead_letters,
    };
    if kind == Kind::Gap {
        let empty = span.records == Records::default()
            && span.rows == Rows::default()
            && span.dead_letters == 0;
        return match u64::try_from(span.to - span.from) {
            Ok(width) if empty && width == span.lost => Ok(()),
            _ => Err(wrong(
                "V7",
                format!(
                    "a gap of {}..{} that lost {}",
                    span.from, span.to, span.lost
                ),
            )),
        };
    }
    if !ledger.closes() {
        return Err(wrong(
            "V7",
            format!("ledgers do not close: {:?}, {:?}", span.records, span.rows),
        ));
    }
    // A span of RAW cannot have read more records than it has offsets; a batch reads rows.
    let width = u64::try_from(span.to - span.from).unwrap_or(0);
    if kind == Kind::Data && span.records.read > width {
        return Err(wrong(
            "V7",
            format!("{} records read from {width} offsets", span.records.read),
        ));
    }
    if in_rows != span.rows.written {
        return Err(wrong(
            "V7",
            format!(
                "{} rows written, {in_rows} rows in files and deliveries",
                span.rows.written
            ),
        ));
    }
    if in_letters != span.dead_letters {
        return Err(wrong(
            "V7",
            format!(
                "{} dead letters, {in_letters} in files and deliveries",
                span.dead_letters
            ),
        ));
    }
    Ok(())
}
