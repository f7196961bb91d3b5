//! The library for Weir plugins. A plugin is a pure function of its code, its config and one row: it must not keep
//! anything of one row that influences another row, so any batch may be split, joined or repeated.
//!
//! Write a `RowPlugin` (one row at a time) or a `Transform` (columns) and `export!` it. `view` reads columns, `builder`
//! makes them, `config` reports all problems at once, `testing` checks a plugin against the contract in native tests,
//! `native` measures it.
pub mod builder;
pub mod cells;
pub mod config;
pub mod contract;
pub mod json;
pub mod log;
#[cfg(not(target_family = "wasm"))]
pub mod native;
mod numbers;
mod pattern;
pub mod rejects;
pub mod rowwise;
pub mod scalars;
pub mod schema;
pub mod setup;
pub mod table;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod time;
pub mod types;
pub mod view;

pub use cells::List;
pub use config::Config;
pub use contract::{
    Column, Field, Level, MadeColumn, Output, Plan, PlannedColumn, Problem, Reject, RowMap, Setup,
};
pub use rejects::{Refusal, Refused, Rejects, shown};
pub use rowwise::{RowPlugin, Rows, Rowwise};
pub use scalars::{Date, Decimal, Json, Timestamp};
pub use schema::Schema;
pub use setup::{Counter, RowSetup};
pub use table::Table;
pub use types::{Type, Value};
pub use view::Batch;

/// A plugin: it takes columns and gives columns and rejects.
pub trait Transform: Sized {
    /// Its name in the config.
    const NAME: &'static str;
    const VERSION: &'static str;
    /// One sentence, for lists of plugins.
    const SUMMARY: &'static str;
    /// JSON Schema (2020-12) of the config: keys are the flat ones, below the transform's name. Three formats speak to
    /// the host: `weir-file` (it reads the file that the key names into `Setup::files`), `weir-table` (a CSV or Parquet
    /// file into `Setup::tables`, see `Table`) and `weir-secret`: only there is a reference such as `${env:…}`
    /// resolved. The plugin gets the plain text, and must not repeat it in a problem, a reject or a log line.
    const SCHEMA: &'static str;

    /// The same setup must give the same plan. All problems at once.
    fn init(setup: &Setup) -> Result<(Self, Plan), Vec<Problem>>;

    /// `self` may keep buffers from call to call, but nothing of a row's content. An error means that the plugin is
    /// broken, never that a row is bad.
    fn run(&mut self, batch: &Batch) -> Result<Output, String>;
}

/// `describe` of the contract.
pub fn info<T: Transform>() -> contract::Info {
    contract::Info {
        name: T::NAME.into(),
        version: T::VERSION.into(),
        summary: T::SUMMARY.into(),
        config_schema: T::SCHEMA.into(),
    }
}

/// Makes `$plugin`, a `Transform` or a `Rowwise<…>`, the component's one export. Stands at the root of the crate: in native
/// builds, where tests call the plugin itself, it makes `native_main` there, which `examples/native.rs` runs.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        const _: fn() -> $crate::contract::Info = $crate::info::<$plugin>;

        /// The `main` of `examples/native.rs`, with which `weir plugin bench` compares the component.
        #[cfg(not(target_family = "wasm"))]
        pub fn native_main() -> ::std::process::ExitCode {
            $crate::native::main::<$plugin>()
        }

        #[cfg(target_family = "wasm")]
        const _: () = {
            use std::cell::RefCell;
            use $crate::Transform;
            use $crate::contract::{Column, Info, Output, Plan, Problem, Setup};

            thread_local! {
                static PLUGIN: RefCell<Option<$plugin>> = const { RefCell::new(None) };
            }

            struct Component;

            impl $crate::contract::Guest for Component {
                fn describe() -> Info {
                    $crate::info::<$plugin>()
                }

                fn init(setup: Setup) -> Result<Plan, Vec<Problem>> {
                    let (plugin, plan) = <$plugin>::init(&setup)?;
                    PLUGIN.with_borrow_mut(|slot| *slot = Some(plugin));
                    Ok(plan)
                }

                fn run(rows: u32, columns: Vec<Column>) -> Result<Output, String> {
                    PLUGIN.with_borrow_mut(|slot| match slot {
                        Some(plugin) => plugin.run(&$crate::Batch::new(rows, columns)),
                        None => Err("run was called before init".into()),
                    })
                }
            }

    $crate::contract::export_component!(Component with_types_in $crate::contract);
        };
    };
}
