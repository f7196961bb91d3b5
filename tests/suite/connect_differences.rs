//! Every difference between Weir's answers and those of a real Connect worker, with its reason. docs/connect-differences.md
//! says the same for people; a test keeps the two together, another each entry true.

/// `*` in a pattern stands for anything; blanks separate choices.
pub struct Difference {
    /// The heading on the page.
    pub name: &'static str,
    /// Steps of the script.
    pub steps: &'static str,
    /// Place in what is kept of an answer.
    pub place: &'static str,
    /// JSON, `-` for nothing there, `*` for whatever.
    pub connect: &'static str,
    pub weir: &'static str,
    pub why: &'static str,
}

pub const DIFFERENCES: &[Difference] = &[];
