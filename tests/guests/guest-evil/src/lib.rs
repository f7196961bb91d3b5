//! A plugin that does one wrong thing, chosen by `mode`; otherwise it copies the value as text. Some modes act only on
//! a record whose value contains `SPECIAL`.
wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });

use std::cell::RefCell;
use std::hint::black_box;

use exports::weir::plugin::transform::*;
use weir::plugin::log::{self, Level};

struct Evil;
export!(Evil);

thread_local! { static MODE: RefCell<String> = const { RefCell::new(String::new()) }; }

const SPECIAL: &[u8] = b"SPECIAL";

/// `describe` has no config: a test writes its mode over these bytes of the component.
#[used]
static DESCRIBE: [u8; 24] = *b"describe:honest         ";

impl Guest for Evil {
    fn describe() -> Info {
        // SAFETY: a static of this module.
        let mode = unsafe { std::ptr::read_volatile(&DESCRIBE) };
        let mode = std::str::from_utf8(&mode).unwrap_or_default().trim_end();
        let mut summary = "Does one wrong thing".to_owned();
        match mode {
            "describe:spin" => spin(),
            "describe:panic" => panic!("no word about me"),
            "describe:megabytes" => summary = "x".repeat(20 << 20),
            "describe:overlap" => summary = overlap(1 << 30),
            _ => {}
        }
        Info {
            name: "guest-evil".into(),
            version: "0.1.0".into(),
            summary,
            config_schema: r#"{"type":"object","required":["mode"],"additionalProperties":false,
                "properties":{"mode":{"type":"string"}}}"#
                .into(),
        }
    }

    fn init(setup: Setup) -> Result<Plan, Vec<Problem>> {
        // {"mode":"…"}
        let mode = setup
            .config
            .split('"')
            .nth(3)
            .unwrap_or_default()
            .to_owned();
        let text = Field {
            name: "text".into(),
            format: "u".into(),
            nullable: true,
            children: 0,
            extension: None,
        };
        let mut plan = Plan {
            reads: vec![0],
            output: vec![
                PlannedColumn::Make(vec![text.clone()]),
                PlannedColumn::Carry(5),
            ],
            explodes: mode.trim_start_matches("always-").starts_with("explode"),
            counters: vec!["rows".into()],
        };
        match mode.trim_start_matches("always-") {
            "init-panic" => panic!("no init today"),
            "init-spin" => spin(),
            "init-problem" => {
                return Err(vec![Problem {
                    at: "/mode".into(),
                    code: "bad_mode".into(),
                    message: "never".into(),
                }]);
            }
            "init-memory" => drop(hoard()),
            "init-exit" => std::process::exit(0),
            "init-overlap" => plan.counters = (0..200).map(|_| overlap(32 << 20)).collect(),
            "nan" => plan.output.push(PlannedColumn::Make(vec![Field {
                name: "nan".into(),
                format: "g".into(),
                ..text
            }])),
            "plan-reads" => plan.reads = vec![99],
            "plan-format" => {
                plan.output = vec![PlannedColumn::Make(vec![Field {
                    format: "+w:dict".into(),
                    ..text
                }])];
            }
            "plan-twice" => plan.output.push(PlannedColumn::Make(vec![text])),
            "explode-carry" | "explode-batch" => plan.output.push(PlannedColumn::Carry(0)),
            "plan-counter-name" => plan.counters = vec!["x".repeat(1 << 20)],
            "plan-counters" => plan.counters = (0..300).map(|n| n.to_string()).collect(),
            _ => {}
        }
        MODE.with_borrow_mut(|slot| *slot = mode);
        Ok(plan)
    }

    fn run(rows: u32, columns: Vec<Column>) -> Result<Output, String> {
        let mode = MODE.with_borrow(String::clone);
        let value = columns
            .into_iter()
            .next()
            .and_then(|c| c.nodes.into_iter().next())
            .expect("value");
        let always = mode.starts_with("always-");
        let searched = if always { 0 } else { rows as usize };
        let special = (0..searched).find(|n| {
            let (from, to) = (value.offsets[*n] as usize, value.offsets[*n + 1] as usize);
            value.data[from..to]
                .windows(SPECIAL.len())
                .any(|w| w == SPECIAL)
        });
        if mode == "nan" {
            let mut output = honest(rows, value);
            output.columns.push(MadeColumn::Made(Column {
                constant: false,
                nodes: vec![Buffers {
                    validity: None,
                    offsets: vec![],
                    data: (0..rows).flat_map(|n| nan(n).to_le_bytes()).collect(),
                }],
            }));
            return Ok(output);
        }
        if always || special.is_some() {
            misbehave(&mode, rows, special.unwrap_or(0), value)
        } else {
            Ok(honest(rows, value))
        }
    }
}

fn honest(rows: u32, value: Buffers) -> Output {
    let column = Column {
        constant: false,
        nodes: vec![value],
    };
    Output {
        rows: RowMap::Every,
        columns: vec![MadeColumn::Made(column)],
        rejects: Vec::new(),
        counters: vec![u64::from(rows)],
    }
}

/// Bits of a sum of NaN, each time with another payload and made in another way.
fn nan(n: u32) -> u64 {
    let payload = black_box(f64::from_bits(0xfff8_0000_0000_0001 + u64::from(n)));
    let made = match n % 5 {
        0 => payload + 1.0,
        1 => black_box(0.0) / black_box(0.0),
        2 => black_box(-1.0f64).sqrt(),
        3 => f64::from(payload as f32),
        _ => payload * payload - payload,
    };
    made.to_bits()
}

/// A text that says it has so many bytes, wherever they may be.
fn overlap(bytes: usize) -> String {
    // SAFETY: none. It is never dropped: the host reads it, or stops.
    unsafe { String::from_raw_parts(std::ptr::dangling_mut(), bytes, bytes) }
}

fn hoard() -> Vec<Vec<u8>> {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
    }
}

fn spin() {
    loop {
        black_box(());
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1)) + 1)
}

fn reject(row: u32) -> Reject {
    Reject {
        row,
        part: None,
        code: "refused".into(),
        field: None,
        message: "because".into(),
    }
}

fn misbehave(mode: &str, rows: u32, special: usize, mut value: Buffers) -> Result<Output, String> {
    match mode.trim_start_matches("always-") {
        "spin" => spin(),
        "slow" => {
            // Long for a short deadline, little for the fuel budget.
            for n in 0..black_box(100_000_000u64) {
                black_box(n);
            }
        }
        "recurse" => drop(black_box(recurse(0))),
        "panic" => panic!("row {special} is special"),
        "exit" => std::process::exit(3),
        "error" => return Err(format!("row {special} upset me")),
        "memory" => drop(hoard()),
        #[cfg(target_family = "wasm")]
        "grow" => while std::arch::wasm32::memory_grow(0, 16) != usize::MAX {},
        #[cfg(target_family = "wasm")]
        "grow-for-ever" => loop {
            black_box(std::arch::wasm32::memory_grow(0, 1));
        },
        "copy" => {
            // As little fuel for a byte as there is, as many bytes as there is fuel.
            let (from, mut to) = (vec![1u8; 64 << 10], vec![0u8; 64 << 10]);
            for _ in 0..black_box(20_000) {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to);
            }
        }
        "upset-utf8" => return Err(unsafe { String::from_utf8_unchecked(vec![0xff; 9]) }),
        "two-gib" => {
            let text = overlap(i32::MAX as usize).into_bytes();
            value = Buffers {
                validity: None,
                offsets: vec![0, i32::MAX],
                data: text,
            };
        }
        "talk" => {
            // Little fuel, much work for the host.
            let line = "x".repeat(1 << 20);
            loop {
                log::emit(Level::Debug, None, &line);
            }
        }
        "giant" => {
            let text = vec![b'x'; 20 << 20];
            value = Buffers {
                validity: None,
                offsets: vec![0, text.len() as i32],
                data: text,
            };
        }
        "offset-first" => value.offsets[0] = 1,
        "offset-back" => {
            let last = value.offsets.len() - 1;
            value.offsets[last] = -1;
        }
        "offset-far" => *value.offsets.last_mut().expect("one") += 1000,
        "offset-few" => drop(value.offsets.pop()),
        "validity" => value.validity = Some(vec![0xff; rows.div_ceil(8) as usize + 1]),
        "utf8" => {
            let at = value.offsets[special] as usize;
            value.data[at] = 0xff;
        }
        "log-flood" => {
            for n in 0..100_000 {
                log::emit(Level::Info, Some(special as u32), &format!("line {n}"));
            }
            for _ in 0..1000 {
                println!("{}", "out".repeat(100));
            }
        }
        "unchanged" => {
            let mut output = honest(rows, value);
            output.columns = vec![MadeColumn::Unchanged(7)];
            return Ok(output);
        }
        other => return Ok(lie(other, rows, special as u32, value)),
    }
    Ok(honest(rows, value))
}

/// Sound columns, wrong words about them.
fn lie(mode: &str, rows: u32, special: u32, value: Buffers) -> Output {
    let mut output = honest(rows, value);
    match mode {
        "row-range" => output.rows = RowMap::Origin((1..=rows).collect()),
        "row-order" => {
            output.rows =
                RowMap::Origin((0..rows).rev().map(|n| n + u32::from(rows == 1)).collect())
        }
        "row-twice" => {
            output = honest(
                rows,
                Buffers {
                    validity: None,
                    offsets: vec![0, 0, 0],
                    data: vec![],
                },
            );
            output.rows = RowMap::Origin(vec![special, special]);
        }
        "kept" => output.rows = RowMap::Kept(vec![0xff; 1 + rows.div_ceil(8) as usize]),
        "reject-range" => output.rejects = vec![reject(rows)],
        "reject-code" => {
            output.rejects = vec![Reject {
                code: "Not Snake".into(),
                ..reject(special)
            }]
        }
        "reject-kept" => output.rejects = vec![reject(special)],
        "reject-piece" => {
            output.rejects = vec![Reject {
                part: Some(0),
                ..reject(special)
            }]
        }
        "explode-piece" => {
            output.rejects = vec![Reject {
                part: Some(7),
                ..reject(special)
            }]
        }
        // One text of half a MiB, a hundred thousand times: 50 GiB for who believes it.
        "overlap" => {
            output.rejects = (0..100_000)
                .map(|_| Reject {
                    message: overlap(1 << 19),
                    ..reject(special)
                })
                .collect();
        }
        "million-rejects" => {
            output = honest(
                rows,
                Buffers {
                    validity: None,
                    offsets: vec![0],
                    data: vec![],
                },
            );
            output.rows = RowMap::Origin(vec![]);
            output.rejects = (0..1_000_000).map(|n| reject(n % rows)).collect();
        }
        "reject-both" | "explode-both" => {
            output = honest(
                rows,
                Buffers {
                    validity: None,
                    offsets: vec![0],
                    data: vec![],
                },
            );
            output.rows = RowMap::Origin(vec![]);
            output.rejects = vec![
                reject(special),
                Reject {
                    part: Some(7),
                    ..reject(special)
                },
            ];
        }
        "explode-refused" => {
            output = honest(
                rows,
                Buffers {
                    validity: None,
                    offsets: vec![0],
                    data: vec![],
                },
            );
            output.rows = RowMap::Origin(vec![]);
            output.rejects = (0..300_000)
                .map(|n| Reject {
                    part: Some(n),
                    message: String::new(),
                    ..reject(special)
                })
                .collect();
        }
        // Few rows for the guest to name, many bytes for the host to repeat.
        "explode-carry" => output = repeated(special, 2_000),
        "explode-batch" => {
            let all: Vec<u32> = (0..rows)
                .flat_map(|n| std::iter::repeat_n(n, 1_500))
                .collect();
            output = repeated(special, 0);
            output.columns = vec![MadeColumn::Made(Column {
                constant: true,
                nodes: vec![Buffers {
                    validity: None,
                    offsets: vec![0, 1],
                    data: vec![b'x'],
                }],
            })];
            output.rows = RowMap::Origin(all);
        }
        "counter-huge" => output.counters = vec![u64::MAX],
        "counters" => output.counters = vec![1, 2],
        "columns" => output.columns.clear(),
        _ => {}
    }
    output
}

/// The row `special` so many times, with one value for all of them.
fn repeated(special: u32, times: usize) -> Output {
    Output {
        rows: RowMap::Origin(vec![special; times]),
        columns: vec![MadeColumn::Made(Column {
            constant: true,
            nodes: vec![Buffers {
                validity: None,
                offsets: vec![0, 1],
                data: vec![b'x'],
            }],
        })],
        rejects: Vec::new(),
        counters: vec![times as u64],
    }
}
