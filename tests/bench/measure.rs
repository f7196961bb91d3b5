//! CPU time, memory and rounds, from which figures are made.

use std::io;
use std::mem::MaybeUninit;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use serde_json::{Value, json};

/// After one that does not count.
pub const ROUNDS: usize = 5;

/// User and system time so far; of the calling thread, or of this process with all its threads.
#[derive(Clone, Copy)]
pub enum Cpu {
    Thread,
    Process,
}

impl Cpu {
    fn now(self) -> Duration {
        let who = match self {
            Cpu::Thread => libc::RUSAGE_THREAD,
            Cpu::Process => libc::RUSAGE_SELF,
        };
        let mut usage = MaybeUninit::uninit();
        // SAFETY: the pointer is to a whole rusage.
        let failed = unsafe { libc::getrusage(who, usage.as_mut_ptr()) };
        assert_eq!(failed, 0, "getrusage: {}", io::Error::last_os_error());
        // SAFETY: getrusage filled it in.
        cpu(&unsafe { usage.assume_init() })
    }

    /// Seconds that `body` used.
    pub fn of<T>(self, body: impl FnOnce() -> T) -> (f64, T) {
        let begun = self.now();
        let done = body();
        ((self.now() - begun).as_secs_f64(), done)
    }
}

fn cpu(usage: &libc::rusage) -> Duration {
    let time =
        |t: libc::timeval| Duration::from_micros(t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// A child that has ended.
pub struct Ended {
    pub cpu: f64,
    /// The most memory it ever held.
    pub peak_bytes: f64,
}

/// Waits for a child; it must have ended well.
pub fn ended(child: &Child) -> Result<Ended, String> {
    use std::os::unix::process::ExitStatusExt;
    let mut status = 0;
    let mut usage = MaybeUninit::uninit();
    // SAFETY: both pointers are to whole values; nobody else waits for this child.
    let pid = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!(
        pid,
        child.id() as i32,
        "wait4: {}",
        io::Error::last_os_error()
    );
    // SAFETY: wait4 filled it in.
    let usage = unsafe { usage.assume_init() };
    match ExitStatus::from_raw(status) {
        ok if ok.success() => Ok(Ended {
            cpu: cpu(&usage).as_secs_f64(),
            peak_bytes: usage.ru_maxrss as f64 * 1024.0,
        }),
        bad => Err(bad.to_string()),
    }
}

/// One way to run something, and what each counted round gave.
#[derive(Clone)]
pub struct Series {
    pub name: &'static str,
    pub values: Vec<f64>,
}

impl Series {
    pub fn new(name: &'static str, values: Vec<f64>) -> Series {
        Series { name, values }
    }

    pub fn spread(&self) -> Spread {
        Spread::of(&self.values)
    }

    /// Of each round to the same round of another.
    pub fn over(&self, other: &Series) -> Spread {
        let ratios: Vec<f64> = self
            .values
            .iter()
            .zip(&other.values)
            .map(|(a, b)| a / b)
            .collect();
        Spread::of(&ratios)
    }

    pub fn json(&self) -> Value {
        let Spread { median, min, max } = self.spread();
        json!({ "name": self.name, "median": median, "min": min, "max": max, "rounds": self.values })
    }
}

#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Spread {
            median: sorted[sorted.len() / 2],
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }
}

/// Runs all ways in turn, round after round, the first round uncounted; every second round backwards, so that none is
/// always behind the same other.
pub fn rounds<T>(
    names: &[&'static str],
    mut run: impl FnMut(usize) -> T,
) -> Vec<(&'static str, Vec<T>)> {
    let mut all: Vec<(&'static str, Vec<T>)> = names.iter().map(|n| (*n, Vec::new())).collect();
    for round in 0..=ROUNDS {
        let mut order: Vec<usize> = (0..names.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for way in order {
            let value = run(way);
            if round > 0 {
                all[way].1.push(value);
            }
        }
    }
    all
}

/// [`rounds`] of plain numbers.
pub fn series(names: &[&'static str], run: impl FnMut(usize) -> f64) -> Vec<Series> {
    let all = rounds(names, run).into_iter();
    all.map(|(name, values)| Series::new(name, values))
        .collect()
}
