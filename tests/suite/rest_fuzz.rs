//! `/openapi.json` against the running server, by schemathesis: requests made from the document, right and wrong ones.

use std::path::Path;
use std::process::Command;

use crate::clients::python;
use crate::rest_rig::Rig;

/// Random requests per operation, beside those that cover each keyword of its schemas. A minute in all.
const EXAMPLES: &str = "20";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,negative_data_rejection";

/// How many operations and requests there were; fails with all that it said.
fn run(program: &Path, rig: &Rig, more: &[&str]) -> (usize, usize) {
    let url = format!("http://{}/openapi.json", rig.addr);
    let out = Command::new(program)
        .current_dir(rig.dir.path())
        .env("NO_COLOR", "1")
        .args(["run", &url, "--checks", CHECKS, "--seed", "1"])
        .args(["--max-examples", EXAMPLES, "--generation-database", "none"])
        .args(["--phases", "coverage,fuzzing", "--continue-on-failure"])
        // Its answer does not end.
        .args(["--exclude-path", "/events"])
        .args(more)
        .output()
        .expect("schemathesis runs");
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}\n{errors}");
    // It can say that all is well without having asked anything.
    let number = |mark: &str| {
        let line = said.lines().find(|line| line.contains(mark));
        let words = line.unwrap_or_else(|| panic!("{mark}: {said}"));
        let mut words = words.split_whitespace();
        words.find_map(|word| word.parse().ok()).expect("a number")
    };
    (number("Tested: "), number(" generated, "))
}

#[test]
fn every_answer_is_as_the_document_says() {
    let Some(dir) = python("schemathesis") else {
        return;
    };
    let program = dir.join("bin/schemathesis");
    let rig = Rig::new(&[("rest.max.rate", "100000")]);
    let (operations, requests) = run(&program, &rig, &[]);
    assert!(
        operations >= 40 && requests >= 1000,
        "{operations} {requests}"
    );
    // Once more on one that is there.
    rig.stopped("p");
    let names = "[parameters]\n\"path.name\" = \"p\"\n\"path.pipeline\" = \"p\"\n\"path.logger\" = \"root\"\n\
                 \"path.plugin\" = \"weir\"\n";
    std::fs::write(rig.dir.path().join("schemathesis.toml"), names).expect("names");
    let (operations, requests) = run(&program, &rig, &["--exclude-method", "DELETE"]);
    assert!(
        operations >= 35 && requests >= 800,
        "{operations} {requests}"
    );
    assert_eq!(rig.get("/health").status, 200);
    assert_eq!(rig.get("/connectors/p").status, 200);
}
