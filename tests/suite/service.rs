//! The unit file and the image are followed exactly, from nothing, in a directory that stands for the machine.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::check::root;

/// For a word of the daemon to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Paths of the machine lie below a directory of the test.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    /// What every machine has.
    fn new() -> Machine {
        let root = tempfile::tempdir().unwrap();
        for dir in ["usr/local/bin", "etc/systemd/system", "var/lib", "home"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        Machine { root }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// The same text with the machine's paths.
    fn text(&self, text: &str) -> String {
        let here = self.root.path().display();
        let moved = |text: String, dir: &str| text.replace(dir, &format!("{here}{dir}"));
        ["/usr/local/", "/etc/", "/var/lib/"]
            .iter()
            .fold(text.to_owned(), |text, dir| moved(text, dir))
    }

    /// Nothing but the environment that is named: as a service manager starts it.
    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().stdin(Stdio::null());
        command
    }

    /// Every file but those below the given directory.
    fn files_outside(&self, dir: &str) -> Vec<PathBuf> {
        let mut all = crate::brokers::files(self.root.path(), "");
        all.retain(|path| !path.starts_with(self.at(dir)));
        all
    }
}

/// A daemon, its stderr read up to the line that says where it listens.
struct Daemon {
    child: Child,
    url: String,
    rest: Option<std::thread::JoinHandle<String>>,
}

impl Daemon {
    fn start(mut command: Command) -> Daemon {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).unwrap() == 0 {
                panic!("it ended before it was ready: {said}");
            }
            said.push_str(&line);
            if let Some((_, ready)) = line.split_once("daemon ready address=\"") {
                break ready.split('"').next().unwrap().to_owned();
            }
        };
        let rest = std::thread::spawn(move || {
            stderr.read_to_string(&mut said).unwrap();
            said
        });
        let port = address.rsplit(':').next().unwrap();
        Daemon {
            child,
            url: format!("http://127.0.0.1:{port}"),
            rest: Some(rest),
        }
    }

    /// SIGTERM: the exit code, and all that it said.
    fn end(&mut self) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.unwrap().success());
        let ended = self.child.wait().unwrap();
        (ended.code(), self.rest.take().unwrap().join().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn text_of(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// In a config that was installed: a port that is free, instead of the one that others may have.
fn any_port(config: &Path) {
    let text = fs::read_to_string(config).unwrap();
    let changed = text.replace(":8083\"", ":0\"");
    assert_ne!(text, changed, "it names the port");
    fs::write(config, changed).unwrap();
}

#[test]
fn the_unit_file_is_followed_from_nothing() {
    let machine = Machine::new();
    let home = machine.at("/home");
    fs::create_dir(home.join("conf")).unwrap();
    for file in ["worker.toml", "weir.service"] {
        let from = root().join("conf").join(file);
        fs::copy(from, home.join("conf").join(file)).unwrap();
    }
    fs::copy(env!("CARGO_BIN_EXE_weir"), home.join("weir")).unwrap();
    let unit = fs::read_to_string(home.join("conf/weir.service")).unwrap();
    let comment = unit.lines().take_while(|line| line.starts_with('#'));
    let commands: Vec<&str> = comment
        .filter_map(|line| line.strip_prefix("#   "))
        .collect();
    let mut installed = 0;
    for command in &commands {
        // Users and systemd itself are the machine's.
        if command.starts_with("install ") {
            let mut shell = Command::new("sh");
            shell.args(["-ec", &machine.text(command)]);
            let done = shell.current_dir(&home).output().unwrap();
            assert!(done.status.success(), "{command}: {}", text_of(&done));
            installed += 1;
        }
    }
    assert_eq!(installed, 3, "{commands:?}");
    any_port(&machine.at("/etc/weir/worker.toml"));
    let unit = fs::read_to_string(machine.at("/etc/systemd/system/weir.service")).unwrap();
    let key = |name: &str| {
        let mut lines = unit.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        machine.text(found.unwrap_or_else(|| panic!("{name} is set")))
    };
    assert_eq!(key("StateDirectory"), "weir", "made by systemd");
    fs::create_dir(machine.at("/var/lib/weir")).unwrap();
    let before = machine.files_outside("/var/lib/weir");

    let manager = UnixDatagram::bind(machine.at("/home/notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = |state: &str| {
        let mut buffer = [0; 64];
        let read = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..read], state.as_bytes());
    };
    let mut command = machine.command(&words(&key("ExecStart")));
    command
        .current_dir(key("WorkingDirectory"))
        .env("NOTIFY_SOCKET", machine.at("/home/notify"));
    let mut daemon = Daemon::start(command);
    assert_eq!(key("Type"), "notify");
    hears("READY=1");
    let probe = words(&machine.text(&format!("/usr/local/bin/weir health --url {}", daemon.url)));
    let well = machine.command(&probe).output().unwrap();
    assert!(well.status.success(), "{}", text_of(&well));
    assert!(
        text_of(&well).starts_with("healthy: "),
        "{}",
        text_of(&well)
    );
    let (code, said) = daemon.end();
    hears("STOPPING=1");
    assert_eq!(code, Some(0), "{said}");
    let gone = machine.command(&probe).output().unwrap();
    assert_eq!(gone.status.code(), Some(1), "{}", text_of(&gone));
    fs::remove_file(machine.at("/home/notify")).unwrap();
    assert_eq!(
        machine.files_outside("/var/lib/weir"),
        before,
        "it writes where ReadWritePaths lets it, and nowhere else"
    );
    assert_eq!(unit.matches("ReadWritePaths=/var/lib/weir\n").count(), 1);

    // systemd's own opinion, where it is: every directive is known, the program is there.
    let file = machine.at("/etc/systemd/system/weir.service");
    fs::write(&file, machine.text(&unit)).unwrap();
    if let Ok(checked) = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output()
    {
        assert!(checked.status.success(), "{}", text_of(&checked));
        assert!(
            !text_of(&checked).contains("weir.service"),
            "{}",
            text_of(&checked)
        );
    }
}

/// `["a", "b"]`, as images write commands.
fn listed(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_image_runs_what_its_file_says() {
    let file = fs::read_to_string(root().join("conf/Containerfile")).unwrap();
    let (_, image) = file.rsplit_once("\nFROM ").unwrap();
    let after = |word: &str| {
        let found = image.lines().find_map(|line| line.strip_prefix(word));
        found.unwrap_or_else(|| panic!("{word} is there")).trim()
    };
    let machine = Machine::new();
    for line in image.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let line = words(line);
        let (from, to) = (&line[line.len() - 2], &line[line.len() - 1]);
        let to = machine.at(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        match from.strip_prefix("/src/target/release/") {
            Some("weir") => drop(fs::copy(env!("CARGO_BIN_EXE_weir"), to).unwrap()),
            _ => {
                let text = fs::read_to_string(root().join(from)).unwrap();
                fs::write(to, machine.text(&text)).unwrap();
            }
        }
    }
    any_port(&machine.at("/etc/weir/worker.toml"));
    let volume = after("VOLUME ");
    assert_eq!(
        after("WORKDIR "),
        volume,
        "relative zones lie in the volume"
    );
    assert!(
        machine
            .files_outside(volume)
            .iter()
            .any(|file| file.ends_with("weir")),
        "what a volume hides is not in it"
    );
    fs::create_dir_all(machine.at(volume)).unwrap();
    let (name, value) = after("ENV ").split_once('=').unwrap();
    let run = |words: &[String]| {
        let mut command = machine.command(words);
        command
            .current_dir(machine.at(volume))
            .env("PATH", machine.at("/usr/local/bin"))
            .env(name, value);
        command
    };
    let start = [listed(after("ENTRYPOINT ")), listed(after("CMD "))].concat();
    let start: Vec<String> = start.iter().map(|word| machine.text(word)).collect();
    // Open to whoever reaches it: not even by mistake.
    for password in [None, Some("")] {
        let mut open = run(&start);
        let refused = open
            .envs(password.map(|p| ("WEIR_PASSWORD", p)))
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2), "{}", text_of(&refused));
        assert!(
            text_of(&refused).contains("WEIR_PASSWORD"),
            "{}",
            text_of(&refused)
        );
    }
    let mut command = run(&start);
    command.env("WEIR_PASSWORD", "change-me");
    let mut daemon = Daemon::start(command);
    let ask = |words: &[String], password: &str| {
        let mut asks = run(words);
        asks.env("WEIR_URL", &daemon.url)
            .env("WEIR_PASSWORD", password);
        asks.output().unwrap()
    };
    let (_, probe) = after("HEALTHCHECK ").split_once("CMD ").unwrap();
    let well = ask(&listed(probe), "wrong: a probe needs none");
    assert!(well.status.success(), "{}", text_of(&well));
    let list = words("weir pipeline ls");
    let listed = ask(&list, "change-me");
    assert!(listed.status.success(), "{}", text_of(&listed));
    let refused = ask(&list, "wrong");
    assert!(!refused.status.success(), "{}", text_of(&refused));
    let (code, said) = daemon.end();
    assert_eq!(code, Some(0), "{said}");
    let outside = machine.files_outside(volume);
    assert!(
        outside.iter().all(|file| {
            file.ends_with("usr/local/bin/weir") || file.ends_with("etc/weir/worker.toml")
        }),
        "{outside:?}"
    );
}
