//! Maps columns of the zone that is read to those of the zone that is written, and decides what happens to a column
//! whose type has changed. Names are compared as SQL engines do.
//!
//! A value is cast only if casting it back gives the same value; otherwise the error names the row, and nothing is
//! written.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::exact::{castable, exactly};
use super::schema::is_system;
use crate::config::OnTypeChange;
use crate::error::{Error, Kind, Result};
use crate::record::fold;

const OP: &str = "zone.fitting";

/// To which columns those of files go.
#[derive(Clone, Debug)]
pub struct Fitting {
    schema: SchemaRef,
    routes: Vec<Route>,
}

/// One column of the files that are read.
#[derive(Clone, Debug)]
struct Route {
    /// Folded.
    name: String,
    data_type: DataType,
    /// Index in the schema.
    to: usize,
    /// The log's counter for it; `None`: it is taken unchanged.
    counter: Option<String>,
    cast: bool,
}

/// Values whose column or type was changed: what was done → how many.
pub type Changed = BTreeMap<String, u64>;

impl Fitting {
    /// `own`: the schema of the zone that is written, empty while it has no file. `read`: the schema of each file, with
    /// its path. `keys`: columns that must not be split into two.
    pub fn new(
        own: &Schema,
        read: &[(String, SchemaRef)],
        on: OnTypeChange,
        keys: &[String],
    ) -> Result<Fitting> {
        Fitting::made_of(own, (read, FROM_ZONE), on, keys)
    }

    /// For rows that the transforms have made; `columns` are theirs.
    pub fn of_made(
        own: &Schema,
        columns: &SchemaRef,
        on: OnTypeChange,
        keys: &[String],
    ) -> Result<Fitting> {
        let made = [("the rows of the transforms".to_owned(), columns.clone())];
        Fitting::made_of(own, (&made, FROM_TRANSFORMS), on, keys)
    }

    fn made_of(
        own: &Schema,
        (read, place): (&[(String, SchemaRef)], &'static str),
        on: OnTypeChange,
        keys: &[String],
    ) -> Result<Fitting> {
        let mut making = Making {
            place,
            fields: Vec::new(),
            from: Vec::new(),
            routes: Vec::new(),
        };
        // If nothing is read, there are no columns.
        for field in own.fields().iter().filter(|_| !read.is_empty()) {
            making.add(field.name().clone(), field, None);
        }
        for (path, schema) in read {
            for field in schema.fields() {
                making.take(field, path, on, keys)?;
            }
        }
        making.kept(keys)?;
        Ok(making.finish(read))
    }

    /// For reading files alone: equal columns, and columns that only some files have.
    pub fn of(read: &[(String, SchemaRef)]) -> Result<Fitting> {
        Fitting::new(&Schema::empty(), read, OnTypeChange::Fail, &[])
    }

    /// The schema of every resulting batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Converts a batch of one of the files to the columns of [`schema`](Self::schema).
    pub fn fit(&self, batch: &RecordBatch, changed: &mut Changed) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.fields().len()];
        let read = batch.schema_ref().fields().iter().zip(batch.columns());
        for (field, column) in read {
            let name = fold(field.name());
            let mut routes = self.routes.iter();
            let route = routes.find(|r| r.name == name && r.data_type == *field.data_type());
            let Some(route) = route else {
                return Err(bug("a column that no file was said to have"));
            };
            let target = self.schema.field(route.to);
            let values = match route.cast {
                true => exactly(column, target, batch)?,
                false => column.clone(),
            };
            if let Some(counter) = &route.counter {
                let present = column.len() - column.null_count();
                *changed.entry(counter.clone()).or_default() += present as u64;
            }
            columns[route.to] = Some(values);
        }
        let fields = self.schema.fields().iter().zip(columns);
        let columns = fields.map(|(field, column)| {
            column.unwrap_or_else(|| new_null_array(field.data_type(), rows))
        });
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns.collect(), &options)
            .map_err(|e| bug("rows do not fit the columns they were read for").source(e))
    }
}

/// Where columns come from, for messages.
const FROM_ZONE: &str = "in the zone that is read";
const FROM_TRANSFORMS: &str = "as the transforms make it";

struct Making {
    place: &'static str,
    fields: Vec<Field>,
    /// Which file each column is from; `None`: from the zone that is written.
    from: Vec<Option<String>>,
    routes: Vec<Route>,
}

impl Making {
    fn find(&self, name: &str) -> Option<usize> {
        let name = fold(name);
        (self.fields.iter()).position(|field| fold(field.name()) == name)
    }

    fn take(&mut self, field: &Field, path: &str, on: OnTypeChange, keys: &[String]) -> Result<()> {
        let name = fold(field.name());
        let mut known = self.routes.iter();
        if known.any(|r| r.name == name && r.data_type == *field.data_type()) {
            return Ok(());
        }
        let (to, counter, cast) = match self.find(field.name()) {
            None => (
                self.add(field.name().clone(), field, Some(path)),
                None,
                false,
            ),
            Some(at) if self.fields[at].data_type() == field.data_type() => (at, None, false),
            Some(at) => self.changed(at, field, path, on, keys)?,
        };
        self.routes.push(Route {
            name,
            data_type: field.data_type().clone(),
            to,
            counter,
            cast,
        });
        Ok(())
    }

    fn add(&mut self, name: String, field: &Field, from: Option<&str>) -> usize {
        let nullable = field.is_nullable();
        let new = Field::new(name, field.data_type().clone(), nullable);
        self.fields.push(new);
        self.from.push(from.map(str::to_owned));
        self.fields.len() - 1
    }

    /// A column that identifies rows or chooses directories must not silently become null.
    fn kept(&self, keys: &[String]) -> Result<()> {
        let gone = |key: &&String| {
            let at = self.find(key);
            at.is_some_and(|at| !self.routes.iter().any(|route| route.to == at))
        };
        let Some(key) = keys.iter().find(gone) else {
            return Ok(());
        };
        let message = format!("`{key}` is not a column of the rows any more");
        Err(Error::new(Kind::ConfigInvalid, OP, message).hint(
            "set sink.partition.field, sink.dedup.key and sink.sort to columns that the zone that is read has",
        ))
    }

    /// Handles a column that exists with another type.
    fn changed(
        &mut self,
        at: usize,
        field: &Field,
        path: &str,
        on: OnTypeChange,
        keys: &[String],
    ) -> Result<(usize, Option<String>, bool)> {
        let own = self.fields[at].clone();
        let (from, to) = (field.data_type(), own.data_type());
        let key = keys.iter().any(|key| fold(key) == fold(own.name()));
        let castable = castable(from, to);
        let hint = match (on, key) {
            (OnTypeChange::Cast, _) if castable => {
                let told = format!("{} cast from {from} to {to}", own.name());
                return Ok((at, Some(told), true));
            }
            (OnTypeChange::NewColumn, false) => {
                let (to, name) = self.beside(field, path);
                let told = format!("{} of type {from} put into {name}", own.name());
                return Ok((to, Some(told), false));
            }
            (OnTypeChange::Cast, false) => {
                "one type cannot be cast to the other; source.on.type.change = \"new-column\" writes a column of its own"
            }
            (OnTypeChange::NewColumn, true) => {
                "rows are told apart or put into directories by this column: source.on.type.change = \"cast\" keeps it \
                 one column"
            }
            _ => {
                "rows before the change are written; how to go on: source.on.type.change = \"cast\" keeps the type where \
                 each value stays exact, \"new-column\" writes the new type to a column of its own"
            }
        };
        let (name, other) = (own.name(), self.from[at].as_deref());
        let message = match other {
            None => format!(
                "column `{name}` is {to} in the zone that is written and {from} {}",
                self.place
            ),
            Some(_) => format!(
                "column `{name}` is {to} in one file and {from} in another, both of the range to be read"
            ),
        };
        let error = Error::new(Kind::ConfigInvalid, OP, message).with("file", path);
        let error = match other {
            Some(other) => error.with("other", other),
            None => error,
        };
        Err(error.hint(hint))
    }

    /// Adds the column `<name>_<type>`, with a number if another type has that name.
    fn beside(&mut self, field: &Field, path: &str) -> (usize, String) {
        let plain = format!("{}_{}", field.name(), word(field.data_type()));
        let mut name = plain.clone();
        let mut n = 2;
        loop {
            match self.find(&name) {
                None => return (self.add(name.clone(), field, Some(path)), name),
                Some(at) if self.fields[at].data_type() == field.data_type() => return (at, name),
                Some(_) => name = format!("{plain}_{n}"),
            }
            n += 1;
        }
    }

    /// A column that a file does not have is null there. System columns come last.
    fn finish(mut self, read: &[(String, SchemaRef)]) -> Fitting {
        for (at, field) in self.fields.iter_mut().enumerate() {
            let fills = |schema: &Schema| {
                schema.fields().iter().any(|of| {
                    let mut routes = self.routes.iter();
                    let name = fold(of.name());
                    let route = routes.find(|r| r.name == name && r.data_type == *of.data_type());
                    route.is_some_and(|r| r.to == at && !of.is_nullable())
                })
            };
            let always = !read.is_empty() && read.iter().all(|(_, schema)| fills(schema));
            field.set_nullable(!always);
        }
        let mut order: Vec<usize> = (0..self.fields.len()).collect();
        order.sort_by_key(|at| is_system(self.fields[*at].name()));
        let mut place = vec![0; order.len()];
        for (new, old) in order.iter().enumerate() {
            place[*old] = new;
        }
        for route in &mut self.routes {
            route.to = place[route.to];
        }
        let fields: Vec<Field> = order.iter().map(|at| self.fields[*at].clone()).collect();
        Fitting {
            schema: Arc::new(Schema::new(fields)),
            routes: self.routes,
        }
    }
}

/// Types as people write them in a transform's keys.
fn word(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 => "string".into(),
        DataType::Int32 => "int".into(),
        DataType::Int64 => "long".into(),
        DataType::Float64 => "double".into(),
        DataType::Boolean => "boolean".into(),
        DataType::Binary | DataType::LargeBinary => "binary".into(),
        DataType::Date32 => "date".into(),
        DataType::Timestamp(_, _) => "timestamp".into(),
        DataType::Decimal128(precision, scale) => format!("decimal_{precision}_{scale}"),
        DataType::List(_) | DataType::LargeList(_) => "list".into(),
        DataType::Struct(_) => "struct".into(),
        other => {
            let plain = other.to_string().to_lowercase();
            plain.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
        }
    }
}

fn bug(message: &str) -> Error {
    Error::new(Kind::Bug, OP, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::OFFSET;
    use arrow_array::Int32Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int32Type;

    fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
        let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
        Arc::new(Schema::new(fields.iter().map(field).collect::<Vec<_>>()))
    }

    fn read(fields: &[(&str, DataType)]) -> Vec<(String, SchemaRef)> {
        vec![("f".to_owned(), schema(fields))]
    }

    fn names(fitting: &Fitting) -> Vec<String> {
        let fields = fitting.schema().fields().iter();
        fields
            .map(|f| format!("{} {}", f.name(), f.data_type()))
            .collect()
    }

    #[test]
    fn a_changed_type_stops_is_cast_or_gets_a_column() {
        let own = schema(&[("Id", DataType::Utf8), ("gone", DataType::Int32)]);
        let new = read(&[
            ("id", DataType::Int32),
            (OFFSET, DataType::Int64),
            ("n", DataType::Utf8),
        ]);
        let of = |on, keys: &[String]| Fitting::new(&own, &new, on, keys);
        let told = of(OnTypeChange::Fail, &[])
            .expect_err("types differ")
            .to_string();
        for part in [
            "`Id` is Utf8",
            "Int32 in the zone that is read",
            "new-column",
            "cast",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
        let cast = of(OnTypeChange::Cast, &[]).expect("castable");
        assert_eq!(
            names(&cast),
            ["Id Utf8", "gone Int32", "n Utf8", "_offset Int64"]
        );
        let columns = of(OnTypeChange::NewColumn, &[]).expect("a column of its own");
        assert_eq!(
            names(&columns),
            [
                "Id Utf8",
                "gone Int32",
                "id_int Int32",
                "n Utf8",
                "_offset Int64"
            ]
        );
        let told = of(OnTypeChange::NewColumn, &["Id".to_owned()]).expect_err("a key");
        assert!(told.to_string().contains("\"cast\""), "{told}");
    }

    #[test]
    fn columns_may_come_and_go_when_null_can_stand_in() {
        let of = |fields: &[(&str, DataType)]| {
            let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), false);
            let fields: Vec<Field> = fields.iter().map(field).collect();
            (String::new(), Arc::new(Schema::new(fields)))
        };
        let old = of(&[("a", DataType::Utf8), (OFFSET, DataType::Int64)]);
        let new = of(&[
            ("a", DataType::Utf8),
            ("b", DataType::Int32),
            (OFFSET, DataType::Int64),
        ]);
        for order in [[old.clone(), new.clone()], [new, old]] {
            let fitting = Fitting::of(&order).expect("additive");
            let fields = fitting.schema().fields().iter();
            let seen: Vec<_> = fields
                .map(|f| (f.name().as_str(), f.is_nullable()))
                .collect();
            assert_eq!(seen, [("a", false), ("b", true), (OFFSET, false)]);
        }
    }

    #[test]
    fn a_changed_type_names_column_types_and_files() {
        let of = |path: &str, kind| (path.to_owned(), schema(&[("year", kind)]));
        let text = Fitting::of(&[of("f1", DataType::Int32), of("f2", DataType::Utf8)])
            .expect_err("types differ")
            .to_string();
        for part in ["`year`", "Int32", "Utf8", "f1", "f2"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_key_that_is_gone_is_told() {
        let own = schema(&[("a", DataType::Utf8), ("b", DataType::Utf8)]);
        let new = read(&[("a", DataType::Utf8)]);
        let of = |key: &str| Fitting::new(&own, &new, OnTypeChange::Fail, &[key.to_owned()]);
        of("a").expect("it is there");
        let told = of("b").expect_err("it is gone").to_string();
        assert!(
            told.contains("`b` is not a column of the rows any more"),
            "{told}"
        );
    }

    #[test]
    fn what_went_elsewhere_is_counted_and_comes_back_under_its_name() {
        let own = schema(&[("a", DataType::Utf8)]);
        let fitting = Fitting::new(
            &own,
            &read(&[("a", DataType::Int32)]),
            OnTypeChange::NewColumn,
            &[],
        )
        .expect("fits");
        let rows = RecordBatch::try_new(
            schema(&[("a", DataType::Int32)]),
            vec![Arc::new(Int32Array::from(vec![Some(1), None]))],
        )
        .expect("rows");
        let mut changed = Changed::new();
        let fitted = fitting.fit(&rows, &mut changed).expect("fitted");
        assert_eq!(fitted.column(0).null_count(), 2);
        assert_eq!(fitted.column(1).as_primitive::<Int32Type>().value(0), 1);
        assert_eq!(changed["a of type Int32 put into a_int"], 1);
        // The column exists now: it is found again, and the old type has its own.
        let later = schema(&[("a", DataType::Utf8), ("a_int", DataType::Int32)]);
        let again = Fitting::new(
            &later,
            &read(&[("a", DataType::Int32)]),
            OnTypeChange::NewColumn,
            &[],
        );
        assert_eq!(names(&again.expect("fits")), ["a Utf8", "a_int Int32"]);
    }
}
