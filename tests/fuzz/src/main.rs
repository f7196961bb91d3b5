//! Random tests that look for differences: `weir-fuzz xml --seed N --seconds S`. Each case has a seed of its own, which a
//! failure prints: `--seed <that> --seconds 0` runs it alone.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a finding is a panic"
)]

mod documents;
mod reference;
mod xml;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// SplitMix64: the same cases on every machine.
pub struct Random(u64);

impl Random {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.number() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

const USAGE: &str = "usage: weir-fuzz xml [--seed N] [--seconds S]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (mut seed, mut seconds) = (1, 60);
    let mut rest = args.iter().skip(1);
    while let Some(flag) = rest.next() {
        let number = rest.next().and_then(|n| n.parse().ok());
        match (flag.as_str(), number) {
            ("--seed", Some(n)) => seed = n,
            ("--seconds", Some(n)) => seconds = n,
            _ => return usage(),
        }
    }
    match args.first().map(String::as_str) {
        Some("xml") => run("xml", seed, seconds, xml::case),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn run(what: &str, first: u64, seconds: u64, case: fn(&mut Random, &mut xml::Count)) -> ExitCode {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut count = xml::Count::default();
    println!("{what}: from seed {first} on, for {seconds} s");
    for seed in first.. {
        let told = catch_unwind(AssertUnwindSafe(|| case(&mut Random(seed), &mut count)));
        if told.is_err() {
            println!("again: weir-fuzz {what} --seed {seed} --seconds 0");
            return ExitCode::FAILURE;
        }
        if Instant::now() >= until {
            break;
        }
    }
    println!("{count:?}");
    ExitCode::SUCCESS
}
