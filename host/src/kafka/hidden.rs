//! Hides a client's secret values: in librdkafka's own texts they are replaced by the property's name.
//!
//! Brokers belong to others: the answer to a login goes into states and logs, and may repeat the login.

use std::borrow::Cow;

use rdkafka::config::ClientConfig;

use crate::config::librdkafka::ALLOWED;

/// Shorter values are no secrets, and would occur in words by chance.
const SHORTEST: usize = 4;

/// Value → the property's name.
#[derive(Clone, Default)]
pub(super) struct Hidden(Vec<(String, &'static str)>);

impl Hidden {
    pub(super) fn of(config: &ClientConfig) -> Hidden {
        let hidden = ALLOWED.iter().filter(|allowed| allowed.takes.is_hidden());
        let value = |name: &'static str| {
            let value = config.get(name)?.trim();
            (value.len() >= SHORTEST).then(|| (value.to_owned(), name))
        };
        let mut all: Vec<_> = hidden.filter_map(|allowed| value(allowed.name)).collect();
        // A value that contains another is replaced first.
        all.sort_by_key(|(value, _)| std::cmp::Reverse(value.len()));
        Hidden(all)
    }

    pub(super) fn scrub<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (value, name) in &self.0 {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), &format!("<{name}>")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_a_broker_repeats_is_not_shown() {
        let mut config = ClientConfig::new();
        config
            .set("sasl.username", "hunter")
            .set("sasl.password", "hunter2")
            .set("ssl.key.password", "x")
            .set("client.id", "weir");
        let hidden = Hidden::of(&config);
        let told = hidden.scrub("weir: user hunter with hunter2 is not known, x");
        assert_eq!(
            told,
            "weir: user <sasl.username> with <sasl.password> is not known, x"
        );
        assert!(matches!(hidden.scrub("nothing"), Cow::Borrowed("nothing")));
    }
}
