//! A plugin that asks for the time.
wit_bindgen::generate!({ path: "../../../wit", world: "plugin" });

use exports::weir::plugin::transform::*;

struct Plugin;
export!(Plugin);

impl Guest for Plugin {
    fn describe() -> Info {
        let name = "guest-clock".into();
        Info {
            name,
            version: "0.1.0".into(),
            summary: String::new(),
            config_schema: "{}".into(),
        }
    }

    fn init(_: Setup) -> Result<Plan, Vec<Problem>> {
        Err(Vec::new())
    }

    fn run(_: u32, _: Vec<Column>) -> Result<Output, String> {
        Err(format!("{:?}", std::time::SystemTime::now()))
    }
}
