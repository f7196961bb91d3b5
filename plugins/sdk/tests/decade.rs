//! The guide's second plugin, as the guide prints it.

use weir_sdk::{RowPlugin, RowSetup, Rows, Rowwise};

weir_sdk::input! {
    pub struct Book<'a> { title: &'a str, publication_year: i32 }
}

weir_sdk::output! {
    pub struct Decade { decade: i32, short_title: String }
}

pub struct Plugin {
    first_year: i32,
}

impl RowPlugin for Plugin {
    const NAME: &'static str = "decade";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "The decade of each book, and its title up to the colon";
    const SCHEMA: &'static str = r#"{
        "type": "object",
        "properties": { "first-year": { "type": "integer", "default": 1450 } },
        "additionalProperties": false
    }"#;
    type In<'a> = Book<'a>;
    type Out = Decade;

    fn setup(setup: &mut RowSetup<'_>) -> Self {
        Self {
            first_year: setup.config.number("first-year", 1450, 0..=3000),
        }
    }

    fn row(&self, book: Book<'_>, out: &mut Rows<Decade>) {
        if book
            .publication_year
            .is_some_and(|year| year < self.first_year)
        {
            return out.refuse("too_old", "publication_year", "older than first-year");
        }
        out.give(Decade {
            decade: book.publication_year.map(|year| year - year % 10),
            short_title: book
                .title
                .map(|title| title.split(':').next().unwrap_or(title).into()),
        });
    }
}

weir_sdk::export!(Rowwise<Plugin>);

#[cfg(test)]
mod tests {
    use super::*;
    use weir_sdk::testing::Bench;

    #[test]
    fn books_get_their_decade() {
        let table = Bench::default()
            .key("first-year", "1900")
            .column(
                "title",
                "string",
                &[Some("Dune: a novel"), None, Some("Faust")],
            )
            .column(
                "publication_year",
                "int",
                &[Some("1965"), None, Some("1808")],
            )
            .run::<Rowwise<Plugin>>(3);
        assert_eq!(table.lines(), ["Dune: a novel|1965|1960|Dune", "∅|∅|∅|∅"]);
        assert_eq!(table.codes(), ["2 too_old publication_year"]);
    }
}
