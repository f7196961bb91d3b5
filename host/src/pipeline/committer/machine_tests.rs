//! The committer's machine, step by step, where no log is needed.

use std::time::Duration;

use super::machine::Machine;
use super::steps::{Event, Next, Seen};
use crate::backoff::Backoff;
use crate::commit::{Due, Outcome};
use crate::pipeline::messages::ToCommitter;
use crate::record::SplitId;

/// However much has to leave the zone, the committer hears its tasks between two entries of it.
#[test]
fn hand_ins_come_before_what_leaves() {
    let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let split = SplitId::new("kafka/c/t/0".to_owned());
    let mut machine = Machine::new(vec![vec![split]], (0, 0), backoff);
    let seen = Seen {
        due: Some(Due::Release),
        ..Seen::default()
    };
    let (mut event, mut told) = (Event::Begun, String::new());
    for _ in 0..9 {
        event = match machine.step(event, &seen).next {
            Next::LetLeave(_) => {
                told.push('e');
                Event::Settled(Ok(Outcome::Lost {
                    dropped: Vec::new(),
                }))
            }
            Next::Listen(_) if told.ends_with('l') => panic!("it waits twice: {told}"),
            Next::Listen(wait) => {
                told.push('l');
                assert_eq!(wait, Duration::ZERO, "{told}");
                Event::Heard(ToCommitter::Positions { task: 0 })
            }
            Next::Look => Event::Looked(Ok(())),
            Next::Refresh => Event::Refreshed(Ok(())),
            next => panic!("{told}: {next:?}"),
        };
    }
    assert!(told.starts_with("lele"), "{told}");
}
