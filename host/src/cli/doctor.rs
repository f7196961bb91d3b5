//! `weir doctor`: checks whether everything that a start needs is there, and says what to do if not.

use clap::Args;
use serde_json::{Value, json};

use super::{Exit, print_problems, say, say_value, say_words};
use crate::config::worker::{self, WorkerConfig};
use crate::config::{self, PipelineConfig, Problem};
use crate::error::Result;
use crate::operations::doctor::{self, Patient, Sums, Told};
use crate::operations::to_json;
use crate::telemetry::{fold_hanging, plural, width};
use crate::text::printable;

/// Check everything that a start needs: brokers, rights, stores, plugins, disks, limits
///
/// Says of each thing whether it is in order (pass), doubtful (warn) or broken (fail), and what to do. Nothing is
/// changed. Without a FILE it checks only this machine. Exit code 0 if nothing fails, 1 if something does, 2 if a
/// config is wrong; pipelines whose configs are right are still checked.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Config files, one pipeline each: TOML, .properties or Connect's JSON; the daemon's config too
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// Override a key; PIPELINE:KEY=VALUE for one pipeline of several
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Apply the tables [profile.NAME] of the files
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Print what was found as one JSON object on stdout
    #[arg(long)]
    json: bool,
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<Exit> {
    let (workers, files): (Vec<String>, Vec<String>) = args
        .files
        .iter()
        .cloned()
        .partition(|file| config::is_worker(file));
    let mut problems: Vec<Problem> = Vec::new();
    let mut sound: Vec<(String, WorkerConfig)> = Vec::new();
    for file in workers {
        let (worker, found) = worker::load(&file, &[]);
        problems.extend(found);
        sound.extend(worker.map(|worker| (file, worker)));
    }
    let configs = super::Configs {
        files,
        set: args.set.clone(),
        profile: args.profile.clone(),
    };
    let loaded = configs.load();
    problems.extend(loaded.problems);
    let failed = problems.iter().any(Problem::is_error);
    if !args.json {
        print_problems(&problems);
    }
    let looked = look(&sound, &loaded.pipelines, !args.json)?;
    if args.json {
        let problems: Vec<_> = problems.iter().map(Problem::to_json).collect();
        let ok = !failed && looked.sums.fail == 0;
        say_value(&json!({
            "ok": ok, "problems": problems, "looks": looked.looks, "sums": to_json(&looked.sums)?,
        }));
    }
    Ok(looked.exit(failed))
}

/// The result of all checks.
pub(super) struct Looked {
    /// Findings in their JSON form; empty if they were shown as text.
    pub(super) looks: Vec<Value>,
    pub(super) sums: Sums,
}

impl Looked {
    /// The exit code of a wrong config takes precedence over that of a failed check.
    pub(super) fn exit(&self, wrong_config: bool) -> Exit {
        match (wrong_config, self.sums.fail) {
            (true, _) => Exit::Usage,
            (false, 0) => Exit::Ok,
            (false, _) => Exit::Failed,
        }
    }
}

/// Runs the checks, and shows each finding as soon as it is there.
pub(super) fn look(
    workers: &[(String, WorkerConfig)],
    pipelines: &[PipelineConfig],
    as_text: bool,
) -> Result<Looked> {
    let patient = Patient { workers, pipelines };
    shown(as_text, &mut |tell| doctor::examine(&patient, tell))
}

/// Hears each finding.
pub(super) type Tell<'a> = &'a mut dyn FnMut(Told);

/// Shows what `find` tells, or keeps it in its JSON form.
pub(super) fn shown(as_text: bool, find: &mut dyn FnMut(Tell<'_>)) -> Result<Looked> {
    let (mut sums, mut looks, mut last) = (Sums::default(), Vec::new(), String::new());
    let mut broken = None;
    find(&mut |told| {
        sums.add(told.finding.verdict);
        if !as_text {
            match to_json(&told) {
                Ok(value) => looks.push(value),
                Err(error) => broken = Some(error),
            }
            return;
        }
        if told.of != last {
            say_words(&told.of);
            last.clone_from(&told.of);
        }
        show(&told);
    });
    if let Some(error) = broken {
        return Err(error);
    }
    if as_text {
        say_words(total(&sums));
    }
    Ok(Looked { looks, sums })
}

fn total(sums: &Sums) -> String {
    let failed = match sums.fail {
        0 => "nothing failed".to_owned(),
        n => format!("{n} failed"),
    };
    format!(
        "\n{failed}, {}, {} passed",
        plural(sums.warn as u64, "warning"),
        sums.pass
    )
}

/// Two columns before the verdict, two after it: folded lines begin below the text.
const HANG: usize = 8;

fn show(told: &Told) {
    let width = width(&std::io::stdout());
    lines(told, width).iter().for_each(say);
}

/// The finding, and below it what to do; `width`: the terminal's, if it is one.
fn lines(told: &Told, width: Option<usize>) -> Vec<String> {
    let finding = &told.finding;
    let what = match &finding.at {
        Some(at) => format!("{} {at}", finding.look),
        None => finding.look.clone(),
    };
    let time = match finding.millis {
        0 => String::new(),
        millis => format!(" ({millis} ms)"),
    };
    let word = finding.verdict.word();
    let mut texts = vec![format!("  {word}  {what}: {}{time}", finding.says)];
    texts.extend(
        finding
            .hint
            .iter()
            .map(|hint| format!("        hint: {hint}")),
    );
    let folded = texts.iter().map(|text| {
        let text = printable(text);
        match width {
            Some(width) => fold_hanging(&text, width, HANG),
            None => text.into_owned(),
        }
    });
    let shown: Vec<String> = folded.collect();
    shown
        .iter()
        .flat_map(|text| text.lines())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Finding;

    #[test]
    fn lines_keep_to_the_terminal_and_to_what_is_printable() {
        let says = "3 partitions with 12000 offsets; this user may see it and not read it\u{1b}[2J";
        let hint =
            "give the user READ on the topic, for instance with kafka-acls --add --allow-principal";
        let finding = Finding::fail("topic", Some("books"), says, hint);
        let told = Told {
            of: "raw".to_owned(),
            finding: finding.took(std::time::Duration::from_millis(9)),
        };
        let narrow = lines(&told, Some(80));
        assert_eq!(
            narrow[..2],
            [
                "  fail  topic books: 3 partitions with 12000 offsets; this user may see it and",
                "        not read it\\u{1b}[2J (9 ms)",
            ]
        );
        assert!(narrow.iter().all(|line| line.len() <= 80), "{narrow:#?}");
        assert_eq!(lines(&told, None).len(), 2);
    }
}
