//! What the machine says of this process, by the names that Prometheus' client libraries use. Linux only: elsewhere there is no
//! `/proc`, and the names are left out.

use std::fs;

/// Clock ticks per second in `/proc/self/stat`: USER_HZ, which Linux keeps at 100 on every machine (man 5 proc).
const TICKS: f64 = 100.0;

/// Sizes in bytes, times in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub cpu: f64,
    pub resident: f64,
    pub virt: f64,
    pub threads: f64,
    pub open_files: f64,
    pub most_files: f64,
    /// Since 1970 UTC.
    pub started: f64,
}

impl Process {
    /// As of now. `None`: `/proc` is not there, or has another shape.
    pub fn now() -> Option<Process> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field, the program's name in brackets, may have blanks.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // man 5 proc counts from 1 and has two fields before `rest`.
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let kib = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let number = line.split_whitespace().next()?.parse::<f64>().ok()?;
            Some(number * 1024.0)
        };
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted = booted
            .lines()
            .find_map(|line| line.strip_prefix("btime "))?;
        let booted: f64 = booted.trim().parse().ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let most = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let most = most.split_whitespace().next()?;
        let open = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Process {
            cpu: (field(14)? + field(15)?) / TICKS,
            resident: kib("VmRSS:")?,
            virt: kib("VmSize:")?,
            threads: field(20)?,
            // The directory itself was open while it was counted.
            open_files: f64::from(u32::try_from(open.saturating_sub(1)).ok()?),
            most_files: most.parse().unwrap_or(f64::INFINITY),
            started: booted + field(22)? / TICKS,
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::Process;

    #[test]
    fn this_process_is_described() {
        let first = Process::now().expect("/proc");
        assert!(
            first.resident > 1e6 && first.virt >= first.resident,
            "{first:?}"
        );
        assert!(first.threads >= 1.0 && first.cpu >= 0.0);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let age = now.as_secs_f64() - first.started;
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        let held = std::fs::File::open("/proc/self/stat").expect("a file");
        let second = Process::now().expect("/proc");
        assert!(second.open_files <= second.most_files && second.open_files >= 1.0);
        drop(held);
    }
}
