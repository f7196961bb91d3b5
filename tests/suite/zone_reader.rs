//! An independent reader, which lists and reads zones through S3's or HDFS's own API while they are written: pyarrow,
//! without the log.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use crate::check::root;
use crate::clients::python;
use crate::object_servers::{ACCESS_KEY, REGION, SECRET_KEY};

/// What one look has shown of a table.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Shown {
    pub files: u64,
    pub rows: u64,
    /// Rows that show more than once.
    pub twice: u64,
    /// Files that were there before.
    pub gone: Vec<String>,
    /// Files that are no Parquet, or another size than before.
    pub torn: Vec<String>,
}

pub struct ZoneReader {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Rows of each table at the last look.
    before: BTreeMap<String, u64>,
    pub looks: u32,
}

impl ZoneReader {
    /// Tables below `bucket/prefix` of S3, or below a directory of HDFS (endpoint `webhdfs://host:port`), each with the columns
    /// that name a row. `None`: Python cannot run here.
    pub fn start(endpoint: &str, root_dir: &str, tables: &[(&str, &str)]) -> Option<ZoneReader> {
        let python = python("row-digest")?;
        let mut child = Command::new(python.join("bin/python"))
            .arg(root().join("tests/clients/zone_reader.py"))
            .args([endpoint, REGION, root_dir])
            .args(tables.iter().map(|(table, key)| format!("{table}={key}")))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ask = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(ZoneReader {
            child,
            ask,
            answers,
            before: BTreeMap::new(),
            looks: 0,
        })
    }

    /// What shows now. Whatever happens, no row shows twice and no file is torn.
    pub fn look(&mut self) -> BTreeMap<String, Shown> {
        self.looks += 1;
        self.ask.write_all(b"look\n").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let shown: BTreeMap<String, Shown> =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("the reader ended: {e}: {line}"));
        for (table, shown) in &shown {
            assert_eq!(shown.twice, 0, "{table}: rows show twice: {shown:?}");
            assert_eq!(shown.torn, [""; 0], "{table}: torn files");
        }
        shown
    }

    /// The same where rows are only added: no file goes, no count falls.
    pub fn look_at_more(&mut self) -> BTreeMap<String, Shown> {
        let shown = self.look();
        for (table, shown) in &shown {
            assert_eq!(shown.gone, [""; 0], "{table}: files went");
            let before = self.before.insert(table.clone(), shown.rows);
            let before = before.unwrap_or(0);
            assert!(
                shown.rows >= before,
                "{table}: {before} rows, then {shown:?}"
            );
        }
        shown
    }
}

impl Drop for ZoneReader {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
