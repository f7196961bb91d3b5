//! Compares limits of this process with what the pipelines may need: open files, threads, memory. Also checks whether a
//! daemon can listen.

use std::net::TcpListener;
use std::path::Path;

use super::Patient;
use crate::config::PipelineConfig;
use crate::config::worker::Listen;
use crate::finding::Finding;
use crate::fs::{self, Limit};
use crate::kafka;

/// Files of `/proc` and of control groups: a few lines each.
const KERNEL: Limit = Limit {
    bytes: 256 << 10,
    of: "a file of the kernel",
};
/// Open files of the process itself: logs, the plugin cache, an event queue for each of its runtimes.
const OWN_FILES: u64 = 64;
/// Open files of a task: connections to the brokers of a small cluster, and a data file for each of some topics.
const FILES_OF_TASK: u64 = 24;
/// Open files of a pipeline beside its tasks: connections for metadata and group offsets, its log and its dead letters.
const FILES_OF_PIPELINE: u64 = 32;
/// Threads of a pipeline beside its tasks: watcher, committer, changes of rules, group offsets and two Kafka clients.
const THREADS_OF_PIPELINE: u64 = 16;
/// Threads of a task and its Kafka client.
const THREADS_OF_TASK: u64 = 8;
/// Percent of the memory; a process that may use more gets a warning.
const MEMORY_MOST: u64 = 90;

pub(super) fn limits(patient: &Patient<'_>) -> Vec<Finding> {
    let pipelines = patient.pipelines;
    vec![open_files(pipelines), threads(pipelines), memory(pipelines)]
}

fn tasks(pipelines: &[PipelineConfig]) -> u64 {
    pipelines.iter().map(|p| p.tasks_max as u64).sum()
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_text(path.as_ref(), KERNEL).ok()
}

fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// What these pipelines need, if there are any.
fn needed(pipelines: &[PipelineConfig], about: &str) -> String {
    match pipelines.len() {
        0 => String::new(),
        1 => format!("; this pipeline needs about {about}"),
        n => format!("; these {n} pipelines need about {about}"),
    }
}

fn open_files(pipelines: &[PipelineConfig]) -> Finding {
    const LOOK: &str = "open files";
    const RAISE: &str = "raise it (ulimit -n, LimitNOFILE= of the service), or run fewer pipelines or tasks in this process";
    let limits = text("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let most = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    let Some(most) = most else {
        return Finding::pass(LOOK, None, "the kernel tells of no limit");
    };
    let of_all = tasks(pipelines) * FILES_OF_TASK + pipelines.len() as u64 * FILES_OF_PIPELINE;
    let need = OWN_FILES + of_all;
    let says = format!("{most} may be open{}", needed(pipelines, &need.to_string()));
    match most {
        _ if most < need => Finding::fail(LOOK, None, says, RAISE),
        _ if most < need * 2 => Finding::warn(LOOK, None, says, RAISE),
        _ => Finding::pass(LOOK, None, says),
    }
}

fn threads(pipelines: &[PipelineConfig]) -> Finding {
    const LOOK: &str = "threads";
    const RAISE: &str = "raise it (ulimit -u, TasksMax of the unit, --pids-limit of the container), or run fewer pipelines or tasks in this process";
    let Some(limit) = kafka::thread_limit() else {
        return Finding::pass(LOOK, None, "the kernel tells of no limit");
    };
    let of_all = tasks(pipelines) * THREADS_OF_TASK + pipelines.len() as u64 * THREADS_OF_PIPELINE;
    let says = format!(
        "{} of {} are in use ({}){}",
        limit.used,
        limit.most,
        limit.name,
        needed(pipelines, &of_all.to_string())
    );
    match limit.left() {
        left if left < of_all => Finding::fail(LOOK, None, says, RAISE),
        left if left < of_all * 2 => Finding::warn(LOOK, None, says, RAISE),
        _ => Finding::pass(LOOK, None, says),
    }
}

/// Compares the most that `memory.budget` and the plugins can use with the available memory.
fn memory(pipelines: &[PipelineConfig]) -> Finding {
    const LOOK: &str = "memory";
    let Some((most, name)) = memory_limit() else {
        return Finding::pass(LOOK, None, "the kernel does not say how much there is");
    };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let there = format!("{} ({name})", mib(most));
    if pipelines.is_empty() {
        return Finding::pass(LOOK, None, there);
    }
    let budgets: u64 = pipelines
        .iter()
        .map(|p| p.limits.memory_budget as u64)
        .sum();
    let instances = pipelines.iter().map(|p| {
        let number = p.tasks_max as u64 * p.transforms.len() as u64;
        number * p.limits.plugin.memory as u64
    });
    let plugins: u64 = instances.sum();
    let says = format!(
        "{there}; memory.budget is {}, and plugins may take up to {} beside it",
        mib(budgets),
        mib(plugins)
    );
    const LOWER: &str =
        "lower memory.budget, plugin.memory or tasks.max, or give the process more memory";
    match most {
        _ if budgets >= most => Finding::fail(LOOK, None, says, LOWER),
        _ if budgets + plugins > most / 100 * MEMORY_MOST => Finding::warn(LOOK, None, says, LOWER),
        _ => Finding::pass(LOOK, None, says),
    }
}

/// The smaller of the machine's memory and what the control groups of this process allow, in bytes, and where that
/// limit is set.
fn memory_limit() -> Option<(u64, String)> {
    let info = text("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total.and_then(|t| t.split_whitespace().next()?.parse::<u64>().ok());
    let machine = total.map(|kib| (kib << 10, "of the machine".to_owned()));
    machine.into_iter().chain(groups()).min()
}

/// `memory.max` of this process's group and of those above it; `memory.limit_in_bytes` in the first version of control
/// groups.
fn groups() -> Vec<(u64, String)> {
    let root = Path::new("/sys/fs/cgroup");
    let own = text("/proc/self/cgroup").unwrap_or_default();
    let mut limits = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            list if list.split(',').any(|c| c == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container the path may be that of the host: then the root is the container's own group.
        let own = root.join(path.trim_start_matches('/'));
        let up = own.ancestors().take_while(|dir| dir.starts_with(&root));
        let of = |dir: &Path| {
            Some((
                number(dir.join(file))?,
                dir.join(file).display().to_string(),
            ))
        };
        limits.extend(up.filter_map(of));
    }
    limits
}

/// Whether a daemon can listen there: the address is taken for a moment.
pub(super) fn listens(at: &Listen) -> Finding {
    const LOOK: &str = "listen";
    let address = at.to_string();
    let host = match at.host.as_str() {
        "" => "0.0.0.0",
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    match TcpListener::bind((host, at.port)) {
        Ok(_) => Finding::pass(LOOK, Some(&address), "free"),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => Finding::warn(
            LOOK,
            Some(&address),
            "in use",
            "`weir health` says whether it is a daemon; else change rest.listen",
        ),
        Err(e) => Finding::fail(
            LOOK,
            Some(&address),
            format!("cannot be used: {e}"),
            "rest.listen names an address of this machine and a port that this user may use",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_told_and_one_that_is_not_ours_fails() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let at = |host: &str, port| Listen {
            host: host.to_owned(),
            port,
            tls: false,
        };
        let verdict = |listen: &Listen| listens(listen).verdict.word();
        assert_eq!(verdict(&at("127.0.0.1", port)), "warn");
        assert_eq!(verdict(&at("192.0.2.1", 1)), "fail");
        drop(taken);
        assert_eq!(verdict(&at("127.0.0.1", port)), "pass");
    }

    #[test]
    fn limits_are_read_from_the_kernel() {
        assert!(memory_limit().is_some_and(|(most, _)| most > 1 << 20));
        let found = limits(&Patient {
            workers: &[],
            pipelines: &[],
        });
        assert!(found[0].says.ends_with("may be open"), "{found:?}");
    }
}
