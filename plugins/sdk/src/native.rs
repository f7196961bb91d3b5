//! A plugin as a native program, with which `weir plugin bench` compares the component. Not for other uses.
//!
//! The one argument names a file with the setup and one batch, as Weir writes it. For each line on the standard input, a
//! number n, the batch is run n times, and a line of JSON says how long that took. Columns are copied for each run,
//! because they are copied into a component too.
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use crate::contract::{Buffers, Column, Field, File, Setup, Table};
use crate::{Batch, Transform};

/// The first bytes of the file: another layout has another number.
pub const MAGIC: &[u8] = b"weir-native-2\n";

/// The `main` of an `examples/native.rs` that names its plugin, as those of older releases do.
#[macro_export]
macro_rules! native_main {
    ($plugin:ty) => {
        fn main() -> ::std::process::ExitCode {
            #[cfg(not(target_family = "wasm"))]
            return $crate::native::main::<$plugin>();
            #[cfg(target_family = "wasm")]
            return ::std::process::ExitCode::FAILURE;
        }
    };
}

pub fn main<T: Transform>() -> ExitCode {
    match run::<T>() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}: {message}", T::NAME);
            ExitCode::FAILURE
        }
    }
}

fn run<T: Transform>() -> Result<(), String> {
    let path = std::env::args_os().nth(1);
    let path = path.ok_or("expected the file that `weir plugin bench` writes")?;
    let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (setup, rows, columns) = read(&bytes).ok_or("the file is not of this SDK's layout")?;
    let (mut plugin, plan) = T::init(&setup).map_err(|told| format!("init: {told:#?}"))?;
    let columns: Option<Vec<&Column>> = plan
        .reads
        .iter()
        .map(|n| columns.get(*n as usize))
        .collect();
    let columns = columns.ok_or("the plan reads a column that is not there")?;
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let rounds: u32 = line
            .trim()
            .parse()
            .map_err(|_| format!("`{line}` is no number"))?;
        let begun = Instant::now();
        for _ in 0..rounds {
            let batch = Batch::new(rows, columns.iter().map(|c| (*c).clone()).collect());
            black_box(plugin.run(black_box(&batch))?);
        }
        let nanos = begun.elapsed().as_nanos();
        let told = writeln!(
            answers,
            "{{\"rounds\":{rounds},\"rows\":{rows},\"nanos\":{nanos}}}"
        );
        told.and_then(|()| answers.flush())
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn read(bytes: &[u8]) -> Option<(Setup, u32, Vec<Column>)> {
    let mut from = Reader(bytes.strip_prefix(MAGIC)?);
    let config = from.text()?;
    let files = from.list(|from| {
        let (key, bytes) = (from.text()?, from.bytes()?.to_vec());
        Some(File { key, bytes })
    })?;
    let tables = from.list(|from| {
        let (key, rows) = (from.text()?, from.number()?);
        let fields = from.list(|from| from.list(Reader::field))?;
        let columns = from.list(Reader::column)?;
        Some(Table {
            key,
            rows,
            fields,
            columns,
        })
    })?;
    let input = from.list(|from| from.list(Reader::field))?;
    let rows = from.number()?;
    let columns = from.list(Reader::column)?;
    let setup = Setup {
        config,
        files,
        tables,
        input,
    };
    from.0.is_empty().then_some((setup, rows, columns))
}

/// Numbers are 32 bits, little endian; texts and bytes come after their length, lists after their count.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        self.number().map(|n| n != 0)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        (0..self.number()?).map(|_| one(self)).collect()
    }

    fn field(&mut self) -> Option<Field> {
        Some(Field {
            name: self.text()?,
            format: self.text()?,
            nullable: self.flag()?,
            children: self.number()?,
            extension: match self.flag()? {
                true => Some(self.text()?),
                false => None,
            },
        })
    }

    fn column(&mut self) -> Option<Column> {
        let constant = self.flag()?;
        let nodes = self.list(Self::buffers)?;
        Some(Column { constant, nodes })
    }

    fn buffers(&mut self) -> Option<Buffers> {
        let validity = match self.flag()? {
            true => Some(self.bytes()?.to_vec()),
            false => None,
        };
        let offsets = self.list(|from| from.number().map(u32::cast_signed))?;
        Some(Buffers {
            validity,
            offsets,
            data: self.bytes()?.to_vec(),
        })
    }
}
