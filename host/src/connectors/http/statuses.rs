//! What each status of an answer means: `sink.http.statuses.*`.

use std::ops::RangeInclusive;

/// What happens to a batch after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Taken,
    /// It is sent again, after a wait.
    Again,
    /// Its rows become dead letters.
    Letters,
    /// A person has to act.
    Stop,
}

/// Codes and ranges, `408,429,500-599`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    pub fn parse(text: &str) -> Result<Statuses, String> {
        let all = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        let ranges: Result<Vec<_>, String> = all.map(range).collect();
        ranges.map(Statuses)
    }

    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }

    /// A status that is in both.
    pub fn shared(&self, other: &Statuses) -> Option<u16> {
        (100..600).find(|status| self.contains(*status) && other.contains(*status))
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| {
        let code = text.trim().parse::<u16>().ok();
        code.filter(|code| (100..600).contains(code))
    };
    match (code(from), code(to)) {
        (Some(from), Some(to)) if from <= to && !(200..300).contains(&from) => Ok(from..=to),
        _ => Err(format!(
            "`{text}` is no status or range of statuses, such as `429` or `500-599`"
        )),
    }
}

/// The three lists.
#[derive(Clone, Debug)]
pub struct Verdicts {
    pub again: Statuses,
    pub stop: Statuses,
    pub letters: Statuses,
}

impl Verdicts {
    /// For a status in no list: 2xx is success, other 4xx concern these rows, 5xx may pass, and all others are no
    /// answer to a batch.
    pub fn of(&self, status: u16) -> Verdict {
        match status {
            200..=299 => Verdict::Taken,
            status if self.again.contains(status) => Verdict::Again,
            status if self.stop.contains(status) => Verdict::Stop,
            status if self.letters.contains(status) => Verdict::Letters,
            400..=499 => Verdict::Letters,
            500..=599 => Verdict::Again,
            _ => Verdict::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_codes_and_ranges() {
        let statuses = Statuses::parse("408, 429,500-599").unwrap();
        assert!(statuses.contains(408) && statuses.contains(503) && !statuses.contains(404));
        assert_eq!(
            statuses.shared(&Statuses::parse("400-408").unwrap()),
            Some(408)
        );
        for bad in ["abc", "99", "600", "500-400", "200", "4xx", "200-299"] {
            assert!(Statuses::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_in_no_list_has_a_meaning_too() {
        let verdicts = Verdicts {
            again: Statuses::parse("409").unwrap(),
            stop: Statuses::parse("401,501").unwrap(),
            letters: Statuses::default(),
        };
        let of = |status| verdicts.of(status);
        assert_eq!([of(200), of(204)], [Verdict::Taken; 2]);
        assert_eq!([of(409), of(500)], [Verdict::Again; 2]);
        assert_eq!([of(400), of(422)], [Verdict::Letters; 2]);
        assert_eq!([of(401), of(501), of(302), of(101)], [Verdict::Stop; 4]);
    }
}
