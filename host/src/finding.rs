//! The result of one check: good, doubtful or broken, in words, with what to do about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// A pipeline runs, but somebody should look at this.
    Warn,
    /// A pipeline would not start, or would wait.
    Fail,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was checked: `broker`, `topic`, `store`.
    pub look: String,
    /// Which one, if there are several.
    pub at: Option<String>,
    pub verdict: Verdict,
    pub says: String,
    /// What to do; present unless the check passed.
    pub hint: Option<String>,
    /// How long the check took, in milliseconds.
    pub millis: u64,
}

impl Finding {
    fn new(look: &str, at: Option<&str>, verdict: Verdict, says: String) -> Finding {
        Finding {
            look: look.to_owned(),
            at: at.map(str::to_owned),
            verdict,
            says,
            hint: None,
            millis: 0,
        }
    }

    pub fn pass(look: &str, at: Option<&str>, says: impl Into<String>) -> Finding {
        Finding::new(look, at, Verdict::Pass, says.into())
    }

    pub fn warn(
        look: &str,
        at: Option<&str>,
        says: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        Finding {
            hint: Some(hint.into()),
            ..Finding::new(look, at, Verdict::Warn, says.into())
        }
    }

    pub fn fail(
        look: &str,
        at: Option<&str>,
        says: impl Into<String>,
        hint: impl Into<String>,
    ) -> Finding {
        Finding {
            hint: Some(hint.into()),
            ..Finding::new(look, at, Verdict::Fail, says.into())
        }
    }

    /// A failed check: the error with its own hint, or with where its code is explained.
    pub fn failed(look: &str, at: Option<&str>, error: &Error) -> Finding {
        let hint = match error.hint_text() {
            Some(hint) => hint.to_owned(),
            None => format!("`weir explain {}`", error.kind().code()),
        };
        Finding::fail(look, at, error.one_line(), hint)
    }

    #[must_use]
    pub fn took(mut self, time: Duration) -> Finding {
        self.millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn what_is_no_pass_says_what_to_do() {
        let error = Error::new(Kind::SourceLost, "x", "gone").with("at", "t/0");
        let failed = Finding::failed("topic", Some("t"), &error).took(Duration::from_millis(7));
        assert_eq!(failed.says, "gone [at=t/0]");
        assert_eq!(failed.hint.as_deref(), Some("`weir explain source_lost`"));
        assert_eq!(failed.millis, 7);
        let hinted = Finding::failed("topic", None, &error.hint("look"));
        assert_eq!(hinted.hint.as_deref(), Some("look"));
    }
}
