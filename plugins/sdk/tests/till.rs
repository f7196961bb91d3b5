//! The guide's plugin with lists, tables, counters and secrets, as the guide prints it.

use std::collections::BTreeMap;

use weir_sdk::{Counter, Date, Decimal, List, RowPlugin, RowSetup, Rows, Rowwise};

type Money = Decimal<18, 2>;

weir_sdk::input! {
    pub struct Item<'a> { sku: &'a str, price: Money, amount: i32 }
}
weir_sdk::input! {
    pub struct Receipt<'a> { token: &'a str, sold_on: Date, items: List<'a, Item<'a>> }
}
// A row of the lookup table. All columns of a CSV file are texts.
weir_sdk::input! {
    struct Product<'a> { sku: &'a str, name: &'a str }
}

weir_sdk::output! {
    pub struct Line { name: String, sum: Money }
}
weir_sdk::output! {
    pub struct Sold { lines: Vec<Line>, total: Money }
}

pub struct Plugin {
    names: BTreeMap<String, String>,
    closed: Vec<Date>,
    token: String,
    unknown: Counter,
}

impl RowPlugin for Plugin {
    const NAME: &'static str = "till";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "The lines of a receipt, with the names of products and the sum";
    const SCHEMA: &'static str = r#"{
        "type": "object",
        "properties": {
            "products": { "type": "string", "format": "weir-table" },
            "closed": { "type": "string", "format": "weir-file" },
            "token": { "type": "string", "format": "weir-secret" }
        },
        "required": ["products", "closed", "token"],
        "additionalProperties": false
    }"#;
    type In<'a> = Receipt<'a>;
    type Out = Sold;

    fn setup(setup: &mut RowSetup<'_>) -> Self {
        let products = setup.lookup::<Product<'_>>("products", "the CSV file with sku and name");
        let names = products
            .iter()
            .filter_map(|row| Some((row.sku?.into(), row.name?.into())));
        let names = names.collect();
        let mut closed = Vec::new();
        let days = setup.text_file("closed", "the days without a sale, one a line");
        for (n, day) in days.unwrap_or_default().lines().enumerate() {
            match day.parse() {
                Ok(day) => closed.push(day),
                Err(why) => setup
                    .config
                    .problem_in_file("closed", (n + 1, 1), "bad_date", why),
            }
        }
        setup.drop("token"); // it is read, and goes no further
        Self {
            names,
            closed,
            token: setup.secret("token", "what each receipt must carry"),
            unknown: setup.counter("unknown_products"),
        }
    }

    fn row(&self, receipt: Receipt<'_>, out: &mut Rows<Sold>) {
        if receipt.token != Some(&self.token) {
            return out.refuse("bad_token", "token", "not the token of this till");
        }
        if receipt
            .sold_on
            .is_some_and(|day| self.closed.contains(&day))
        {
            return out.refuse("closed_day", "sold_on", "nothing is sold on this day");
        }
        let Some(items) = receipt.items else {
            return out.give(Sold {
                lines: None,
                total: None,
            });
        };
        let (mut lines, mut total) = (Vec::new(), Money::default());
        for item in items.iter().flatten() {
            let name = item.sku.and_then(|sku| self.names.get(sku));
            out.count(self.unknown, u64::from(name.is_none()));
            let sum = item.price.zip(item.amount);
            let sum = sum.and_then(|(price, amount)| price.checked_mul(amount.into()));
            match total.checked_add(sum.unwrap_or_default()) {
                Some(more) => total = more,
                None => return out.refuse("sum_too_large", "items", "more than 18 digits"),
            }
            lines.push(Line {
                name: name.cloned(),
                sum,
            });
        }
        out.give(Sold {
            lines: Some(lines),
            total: Some(total),
        });
    }
}

weir_sdk::export!(Rowwise<Plugin>);

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sdk::testing::Bench;

    // What a receipt brings, as another plugin would make it.
    weir_sdk::output! {
        struct Bought { sku: String, price: Money, amount: i32 }
    }

    #[test]
    fn receipts_get_names_and_a_sum() {
        let bought = |sku: &str, price: &str, amount| Bought {
            sku: Some(sku.into()),
            price: price.parse().ok(),
            amount: Some(amount),
        };
        let (items, day) = (
            vec![bought("a", "0.10", 3), bought("x", "1", 1)],
            Date::of(2024, 3, 1),
        );
        let table = Bench::default()
            .key("products", "products.csv")
            .key("closed", "closed.txt")
            .key("token", "t0ken")
            .table(
                "products",
                &[
                    ("sku", "string", &[Some("a")]),
                    ("name", "string", &[Some("Apple")]),
                ],
            )
            .file("closed", "2024-12-25\n")
            .column("token", "string", &[Some("t0ken"), None])
            .cells("sold_on", [day, day])
            .cells("items", [Some(items), None])
            .run::<Rowwise<Plugin>>(2);
        let lines = "[{name: Apple, sum: 0.30}, {name: ∅, sum: 1.00}]";
        assert_eq!(table.rows[0][2].as_deref(), Some(lines));
        assert_eq!(table.codes(), ["1 bad_token token"]);
        assert_eq!(table.counters, [1]);
    }
}
