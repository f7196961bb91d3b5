//! Counts how many threads may still be started before a client is made: if librdkafka cannot start one of its threads,
//! it ends the whole process, with all pipelines.
//!
//! Each client reserves the threads that it will have until it is dropped; those that already run are counted by name.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rdkafka::config::ClientConfig;

use crate::error::{Error, Kind, Result};

/// Threads of a client beside those of its brokers: its main loop, its internal broker, its group coordinator.
const CLIENT_THREADS: u64 = 3;
/// Brokers that a client learns of, each with a thread: those of a small cluster. Threads for more brokers are taken
/// from the spare ones.
const BROKERS: u64 = 3;
/// Threads that stay free for everything else in the process: tasks, handlers of requests, a store's calls, a growing
/// cluster.
const SPARE: u64 = 16;
/// The beginning of librdkafka's thread names.
const NAMED: &str = "rdk:";

/// Threads reserved by present clients.
static PROMISED: AtomicU64 = AtomicU64::new(0);

/// A client's reserved threads. Keep it as long as the client.
#[derive(Debug)]
pub(super) struct Threads(u64);

impl Drop for Threads {
    fn drop(&mut self) {
        PROMISED.fetch_sub(self.0, Ordering::SeqCst);
    }
}

/// Reserves threads for a client with these first brokers; an error if the client could end the process.
pub(super) fn for_client(config: &ClientConfig) -> Result<Threads> {
    let bootstrap = config.get("bootstrap.servers").unwrap_or_default();
    let wanted = CLIENT_THREADS + BROKERS + bootstrap.split(',').count() as u64;
    let threads = Threads(wanted);
    // Reserved before counting: if two clients are made at once, the second sees the first.
    let before = PROMISED.fetch_add(wanted, Ordering::SeqCst);
    let machine = Machine::this();
    let owed = before.saturating_sub(machine.of_clients());
    match machine.tightest() {
        Some(limit) if limit.left() < owed + wanted + SPARE => Err(refused(&limit, owed, wanted)),
        _ => Ok(threads),
    }
}

fn refused(limit: &Limit, owed: u64, wanted: u64) -> Error {
    Error::new(
        Kind::LimitReached,
        "kafka.open",
        format!(
            "a Kafka client needs up to {wanted} threads, and {} of {} are in use: {owed} are promised to other clients, {SPARE} are kept for the rest of the process",
            limit.used, limit.most
        ),
    )
    .with("limit", &limit.name)
    .hint("raise the limit (ulimit -u, TasksMax of the unit, --pids-limit of the container), or run fewer pipelines or tasks in this process")
}

/// How many threads there may be, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    pub most: u64,
    pub used: u64,
}

/// The limit of threads that is reached first. `None`: the kernel reports none.
pub fn thread_limit() -> Option<Limit> {
    Machine::this().tightest()
}

impl Limit {
    pub fn left(&self) -> u64 {
        self.most.saturating_sub(self.used)
    }
}

/// Where the kernel's limits are read.
#[derive(Debug)]
struct Machine {
    proc: PathBuf,
    cgroup: PathBuf,
}

impl Machine {
    fn this() -> Machine {
        Machine {
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
        }
    }

    fn text(&self, below: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(below)).ok()
    }

    /// The limit that is reached first. `None`: the kernel tells of none.
    fn tightest(&self) -> Option<Limit> {
        let all = self.cgroups().into_iter().chain(self.of_user()).chain(
            [
                self.of_kernel("threads-max"),
                // A thread has an id of its own.
                self.of_kernel("pid_max"),
            ]
            .into_iter()
            .flatten(),
        );
        all.min_by_key(Limit::left)
    }

    /// Threads of librdkafka that run in this process.
    fn of_clients(&self) -> u64 {
        let tasks = fs::read_dir(self.proc.join("self/task"));
        let names = (tasks.into_iter().flatten().flatten())
            .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with(NAMED)).count() as u64
    }

    /// The limit for all processes of the machine, or of the container.
    fn of_kernel(&self, name: &str) -> Option<Limit> {
        let most = self.text(&format!("sys/kernel/{name}"))?;
        let load = self.text("loadavg")?;
        let all = load.split(' ').nth(3)?.split('/').nth(1)?.to_owned();
        Some(Limit {
            name: format!("/proc/sys/kernel/{name}"),
            most: most.trim().parse().ok()?,
            used: all.parse().ok()?,
        })
    }

    /// `pids.max` of this process's group and of the groups above it, in both versions of cgroups.
    fn cgroups(&self) -> Vec<Limit> {
        let own = self.text("self/cgroup").unwrap_or_default();
        let places = own.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let root = match controllers {
                "" => self.cgroup.clone(),
                list if list.split(',').any(|c| c == "pids") => self.cgroup.join("pids"),
                _ => return None,
            };
            Some((root, path.trim_start_matches('/').to_owned()))
        });
        let mut limits = Vec::new();
        for (root, path) in places {
            // In a container the path may be that of the host: then the root is the container's own group.
            let own = root.join(path);
            let up = own.ancestors().take_while(|dir| dir.starts_with(&root));
            limits.extend(up.filter_map(group));
        }
        limits
    }

    /// RLIMIT_NPROC counts the threads of a user, and does not apply to privileged processes.
    fn of_user(&self) -> Option<Limit> {
        const MAY_EXCEED: u64 = 1 << 24 | 1 << 21;
        let status = self.text("self/status")?;
        let capable = u64::from_str_radix(field(&status, "CapEff:")?, 16).ok()?;
        if capable & MAY_EXCEED != 0 {
            return None;
        }
        let limits = self.text("self/limits")?;
        let line = limits.lines().find(|l| l.starts_with("Max processes"))?;
        let most = line.split_whitespace().nth(2)?.parse().ok()?;
        let user = field(&status, "Uid:")?;
        let all = fs::read_dir(&self.proc).ok()?.flatten();
        let processes = all.filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().bytes().all(|b| b.is_ascii_digit())
        });
        let threads = processes.filter_map(|entry| {
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            (field(&status, "Uid:")? == user)
                .then(|| field(&status, "Threads:")?.parse::<u64>().ok())
                .flatten()
        });
        Some(Limit {
            name: "ulimit -u".to_owned(),
            most,
            used: threads.sum(),
        })
    }
}

fn group(dir: &Path) -> Option<Limit> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(dir.join(name)).ok()?;
        text.trim().parse().ok()
    };
    Some(Limit {
        name: dir.join("pids.max").display().to_string(),
        most: number("pids.max")?,
        used: number("pids.current")?,
    })
}

/// The first word of a line of `/proc/…/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().expect("directory");
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        let machine = Machine {
            proc: dir.path().join("proc"),
            cgroup: dir.path().join("cg"),
        };
        (dir, machine)
    }

    fn left(files: &[(&str, &str)]) -> Option<u64> {
        let (_dir, machine) = machine(files);
        machine.tightest().map(|limit| limit.left())
    }

    #[test]
    fn every_limit_of_the_kernel_counts_and_the_tightest_is_named() {
        assert_eq!(left(&[]), None);
        let kernel = [
            ("proc/sys/kernel/threads-max", "1000\n"),
            ("proc/sys/kernel/pid_max", "32768\n"),
            ("proc/loadavg", "0.1 0.2 0.3 2/400 77\n"),
        ];
        assert_eq!(left(&kernel), Some(600));
        let group = [
            ("proc/self/cgroup", "0::/system.slice/weir.service\n"),
            ("cg/system.slice/weir.service/pids.max", "max\n"),
            ("cg/system.slice/weir.service/pids.current", "20\n"),
            ("cg/system.slice/pids.max", "100\n"),
            ("cg/system.slice/pids.current", "70\n"),
        ];
        assert_eq!(left(&[&kernel[..], &group[..]].concat()), Some(30));
        // Version 1, in a container that sees its own group as the root.
        let first = [
            ("proc/self/cgroup", "9:cpu:/x\n4:pids,rdma:/docker/abc\n"),
            ("cg/pids/pids.max", "50\n"),
            ("cg/pids/pids.current", "45\n"),
        ];
        assert_eq!(left(&[&kernel[..], &first[..]].concat()), Some(5));
    }

    #[test]
    fn threads_of_the_same_user_count_unless_it_may_exceed() {
        let of = |caps: &str| {
            let own = format!("Name:\tweir\nUid:\t7\t7\t7\t7\nThreads:\t11\nCapEff:\t{caps}\n");
            left(&[
                ("proc/self/status", &own),
                (
                    "proc/self/limits",
                    "Limit  Soft Limit\nMax processes             64       128      processes\n",
                ),
                ("proc/1/status", "Uid:\t0\t0\t0\t0\nThreads:\t500\n"),
                ("proc/20/status", &own),
                ("proc/21/status", "Uid:\t7\t7\t7\t7\nThreads:\t3\n"),
            ])
        };
        assert_eq!(of("0000000000000000"), Some(50));
        assert_eq!(of("000001ffffffffff"), None);
    }

    #[test]
    fn a_client_that_is_gone_gives_its_promise_back() {
        let (_dir, machine) = machine(&[
            ("proc/self/task/1/comm", "weir\n"),
            ("proc/self/task/2/comm", "rdk:main\n"),
            ("proc/self/task/3/comm", "rdk:broker0\n"),
        ]);
        assert_eq!(machine.of_clients(), 2);
        let limit = Limit {
            name: "ulimit -u".to_owned(),
            most: 99,
            used: 90,
        };
        let told = refused(&limit, 14, 7).to_string();
        assert!(
            told.contains("90 of 99") && told.contains("ulimit -u"),
            "{told}"
        );
    }
}
