//! A plugin that returns its setup in two columns that are the same in every row: its config; its files and tables.
//! With a `mode` it writes its config elsewhere, where no secret may appear: `problem`, `init-panic`, `log`, `reject`,
//! `error`, `panic`.
wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });

use std::cell::RefCell;
use std::fmt::Write;
use std::hint::black_box;

use exports::weir::plugin::transform::*;
use weir::plugin::log::{self, Level};

struct Plugin;
export!(Plugin);

#[derive(Clone, Default)]
struct Known {
    config: String,
    given: String,
    mode: String,
}

thread_local! { static KNOWN: RefCell<Known> = RefCell::default(); }

impl Guest for Plugin {
    fn describe() -> Info {
        Info {
            name: "guest-table".into(),
            // Not folded into code: tests make other versions of the file by writing over these bytes.
            version: black_box("1.0.0").into(),
            summary: "Says what it was given".into(),
            config_schema: r#"{"type":"object","additionalProperties":false,"properties":{
                "mode":{"type":"string"},
                "plain":{"type":"string"},
                "rules":{"type":"string","format":"weir-file"},
                "table":{"type":"string","format":"weir-table"},
                "second":{"type":"string","format":"weir-table"},
                "salt":{"type":"string","format":"weir-secret"}}}"#
                .into(),
        }
    }

    fn init(setup: Setup) -> Result<Plan, Vec<Problem>> {
        let mut given = String::new();
        for file in &setup.files {
            let text = String::from_utf8_lossy(&file.bytes);
            writeln!(given, "file {} {text}", file.key).expect("a string takes all");
        }
        for table in &setup.tables {
            writeln!(given, "table {} {} rows", table.key, table.rows).expect("a string takes all");
            for (fields, column) in table.fields.iter().zip(&table.columns) {
                for (field, node) in fields.iter().zip(&column.nodes) {
                    writeln!(
                        given,
                        "{} {} {:?} {:?} {:?}",
                        field.name, field.format, node.validity, node.offsets, node.data
                    )
                    .expect("a string takes all");
                }
            }
        }
        let mode = setup.config.split("\"mode\":\"").nth(1).unwrap_or("\"");
        let known = Known {
            mode: mode.split('"').next().unwrap_or_default().to_owned(),
            config: setup.config,
            given,
        };
        match known.mode.as_str() {
            "problem" => {
                return Err(vec![Problem {
                    at: "/salt".into(),
                    code: "salt_weak".into(),
                    message: known.config,
                }]);
            }
            "init-panic" => panic!("{}", known.config),
            _ => {}
        }
        KNOWN.set(known);
        let text = |name: &str| {
            PlannedColumn::Make(vec![Field {
                name: name.into(),
                format: "u".into(),
                nullable: false,
                children: 0,
                extension: None,
            }])
        };
        Ok(Plan {
            reads: Vec::new(),
            output: vec![text("config"), text("given")],
            explodes: false,
            counters: Vec::new(),
        })
    }

    fn run(rows: u32, _: Vec<Column>) -> Result<Output, String> {
        let Known {
            config,
            given,
            mode,
        } = KNOWN.with_borrow(Known::clone);
        let said = match mode.as_str() {
            "" => config.clone(),
            _ => "-".to_owned(),
        };
        let mut rejects = Vec::new();
        let mut map = RowMap::Every;
        match mode.as_str() {
            "log" => {
                log::emit(Level::Error, None, &config);
                eprintln!("{config}");
            }
            "reject" => {
                map = RowMap::Origin((1..rows).collect());
                rejects.push(Reject {
                    row: 0,
                    part: None,
                    code: "refused".into(),
                    field: None,
                    message: config.clone(),
                });
            }
            "error" => return Err(config),
            "panic" => panic!("{config}"),
            _ => {}
        }
        let constant = |text: String| {
            MadeColumn::Made(Column {
                constant: true,
                nodes: vec![Buffers {
                    validity: None,
                    offsets: vec![0, text.len() as i32],
                    data: text.into_bytes(),
                }],
            })
        };
        Ok(Output {
            rows: map,
            columns: vec![constant(said), constant(given)],
            rejects,
            counters: Vec::new(),
        })
    }
}
