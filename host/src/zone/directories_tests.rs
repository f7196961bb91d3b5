//! Directories of times as Connect names them, and values that stay below their table.

use std::time::Duration;

use super::*;
use crate::joda::Pattern;

fn limits() -> PathLimits {
    PathLimits {
        bytes: 1000,
        levels: 1000,
        without: None,
        reserved: None,
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn by(path: &str, zone: &str, floor: Option<Duration>) -> TimeDirectories {
    TimeDirectories {
        of: TimeOf::Record,
        path: Pattern::parse(path).unwrap(),
        zone: TimeZone::get(zone).unwrap(),
        zone_name: zone.to_owned(),
        floor,
    }
}

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

/// The tables of Connect's own tests of its partitioners: hourly and daily names, minutes and odd durations, zones with half hours.
#[test]
fn times_are_named_as_kafka_connect_names_them() {
    let hourly = "'year'=YYYY/'month'=MM/'day'=dd/'hour'=HH";
    let daily = "'year'=YYYY/'month'=MM/'day'=dd";
    let minutes = "'year='YYYY/'month='M/'day='d/'hour='H/'minute='m";
    let at = "2015-02-01T14:59:59.999Z";
    for (path, zone, floor, time, expected) in [
        (
            hourly,
            "UTC",
            Some(HOUR),
            at,
            "year=2015/month=02/day=01/hour=14",
        ),
        (
            hourly,
            "America/Los_Angeles",
            Some(HOUR),
            at,
            "year=2015/month=02/day=01/hour=06",
        ),
        (
            hourly,
            "Asia/Kolkata",
            Some(HOUR),
            at,
            "year=2015/month=02/day=01/hour=20",
        ),
        (
            daily,
            "America/Los_Angeles",
            Some(24 * HOUR),
            "2015-02-01T07:59:59Z",
            "year=2015/month=01/day=31",
        ),
        (
            minutes,
            "UTC",
            Some(HOUR / 4),
            "2015-02-01T03:44:59Z",
            "year=2015/month=2/day=1/hour=3/minute=30",
        ),
        (
            minutes,
            "UTC",
            None,
            "2015-02-01T03:44:59Z",
            "year=2015/month=2/day=1/hour=3/minute=44",
        ),
        (
            "YYYY-MM-dd'T'HH-mm-ss-SSS",
            "UTC",
            None,
            at,
            "2015-02-01T14-59-59-999",
        ),
        // Rounded down by local days, not by UTC's.
        (
            hourly,
            "Asia/Kolkata",
            Some(24 * HOUR),
            at,
            "year=2015/month=02/day=01/hour=00",
        ),
        // Before 1970 toward zero.
        (
            hourly,
            "UTC",
            Some(HOUR),
            "1969-12-31T22:30:00Z",
            "year=1969/month=12/day=31/hour=23",
        ),
    ] {
        let found = name_of(&by(path, zone, floor), ms(time));
        assert_eq!(found.as_deref(), Some(expected), "{path} {zone} {time}");
    }
}

#[test]
fn clocks_that_change_name_each_hour_that_they_show() {
    let path = "yyyy-MM-dd-HH";
    for (zone, floor, time, expected) in [
        // 02:00 to 03:00 is not there.
        (
            "Europe/Berlin",
            Some(HOUR),
            "2024-03-31T00:59:00Z",
            "2024-03-31-01",
        ),
        (
            "Europe/Berlin",
            Some(HOUR),
            "2024-03-31T01:00:00Z",
            "2024-03-31-03",
        ),
        // It is there twice.
        (
            "Europe/Berlin",
            Some(HOUR),
            "2024-10-27T00:30:00Z",
            "2024-10-27-02",
        ),
        (
            "Europe/Berlin",
            Some(HOUR),
            "2024-10-27T01:30:00Z",
            "2024-10-27-02",
        ),
        // Three hours from 00:00: the local 03:30 is rounded to 03:00.
        (
            "Europe/Berlin",
            Some(3 * HOUR),
            "2024-03-31T01:30:00Z",
            "2024-03-31-03",
        ),
        // Two hours: 03:30 is rounded to 02:00, which is not there; with the offset before the gap that is 03:00.
        (
            "Europe/Berlin",
            Some(2 * HOUR),
            "2024-03-31T01:30:00Z",
            "2024-03-31-03",
        ),
        (
            "America/New_York",
            Some(2 * HOUR),
            "2024-03-10T07:30:00Z",
            "2024-03-10-03",
        ),
        // A day that begins at 01:00.
        (
            "America/Sao_Paulo",
            Some(24 * HOUR),
            "2018-11-04T15:00:00Z",
            "2018-11-04-01",
        ),
    ] {
        let found = name_of(&by(path, zone, floor), ms(time));
        assert_eq!(found.as_deref(), Some(expected), "{zone} {floor:?} {time}");
    }
}

#[test]
fn what_was_named_before_is_named_the_same() {
    let mut placing = Placing::new(Directories::Partition, None, limits());
    for path in ["HH-mm", "ss", "yyyy"] {
        for zone in ["UTC", "Asia/Kathmandu", "Africa/Monrovia"] {
            placing.known.clear();
            for floor in [None, Some(Duration::from_secs(90)), Some(HOUR)] {
                placing.known.clear();
                let by = by(path, zone, floor);
                for n in 0..400_i64 {
                    // Far from each other; and several of one minute, where offsets had seconds and where they have none.
                    let near = n * 7_777;
                    let far = n * 77_777_777 % 50_000_000_000 + n;
                    for ms in [far, near, 1_700_000_000_000 + near] {
                        let named = placing.named(&by, ms * 1000 + 7);
                        assert_eq!(named.as_deref(), name_of(&by, ms).as_deref());
                    }
                }
            }
        }
    }
}

#[test]
fn a_value_stays_below_its_table() {
    let path = |value, escaped| {
        let mut path = String::new();
        match escaped {
            true => escaped_part(&mut path, "a", value),
            false => plain_part(&mut path, "a", value, None),
        }
        path
    };
    let mut on_hdfs = String::new();
    plain_part(&mut on_hdfs, "at", Some("10:45/b:c"), Some(':'));
    assert_eq!(on_hdfs, "at=10%3A45/b%3Ac");
    for (value, plain, escaped) in [
        (Some("x y:1"), "a=x y:1", "a=x y%3A1"),
        (None, "a=null", "a=__HIVE_DEFAULT_PARTITION__"),
        (Some(""), "a=", "a=__HIVE_DEFAULT_PARTITION__"),
        (Some("2024/01"), "a=2024/01", "a=2024%2F01"),
        (
            Some("../../x"),
            "a=%2E%2E/%2E%2E/x",
            "a=%2E%2E%2F%2E%2E%2Fx",
        ),
        (Some("/x//"), "a=/x/%2F/%2F", "a=%2Fx%2F%2F"),
        (Some("a\nb"), "a=a%0Ab", "a=a%0Ab"),
    ] {
        assert_eq!(path(value, false), plain);
        assert_eq!(path(value, true), escaped);
    }
    let hive = Directories::Columns {
        names: vec![],
        escape: true,
    };
    let values = values_of("a=x y%3A1/plain/b=%2E%2E", &hive);
    let expected = [("a", "x y:1"), ("b", "..")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(values, expected);
}

#[test]
fn a_day_far_outside_of_the_calendar_has_no_directory() {
    let days: ArrayRef = Arc::new(arrow_array::Date32Array::from(vec![1, i32::MAX, i32::MIN]));
    let found = Found {
        values: days,
        at: At::Row,
        path: Vec::new(),
    };
    let of = |row| time_of(&found, row, &TimeUnit::Auto);
    assert_eq!(of(0), Ok(86_400_000_000));
    for row in [1, 2] {
        let why = of(row).unwrap_err();
        assert!(why.contains("outside of the calendar"), "{why}");
    }
}

#[test]
fn texts_and_numbers_are_read_as_connect_reads_them() {
    let strftime = TimeUnit::Pattern("%d.%m.%Y".to_owned());
    for (text, unit, expected) in [
        (
            "1422802799999",
            &TimeUnit::Auto,
            Some("2015-02-01T14:59:59.999Z"),
        ),
        ("-1000", &TimeUnit::Auto, Some("1969-12-31T23:59:59Z")),
        (
            "1422802799",
            &TimeUnit::Seconds,
            Some("2015-02-01T14:59:59Z"),
        ),
        (
            "2015-02-01T14:59:59.999Z",
            &TimeUnit::Auto,
            Some("2015-02-01T14:59:59.999Z"),
        ),
        (
            "2015-02-01T14:59:59+05:30",
            &TimeUnit::Auto,
            Some("2015-02-01T09:29:59Z"),
        ),
        (
            "2015-02-01T14:59:59",
            &TimeUnit::Auto,
            Some("2015-02-01T14:59:59Z"),
        ),
        ("2015-02-01", &TimeUnit::Auto, Some("2015-02-01T00:00:00Z")),
        ("01.02.2015", &strftime, Some("2015-02-01T00:00:00Z")),
        ("tomorrow", &TimeUnit::Auto, None),
        ("99999999999999999999", &TimeUnit::Auto, None),
        ("2015-02-01", &strftime, None),
    ] {
        let found = of_text(text, unit).ok();
        assert_eq!(found, expected.map(|time| ms(time) * 1000), "{text}");
    }
}

/// Where several columns name a directory, not one alone is to blame for its length.
#[test]
fn a_directory_that_is_too_long_blames_a_column_only_where_there_is_one() {
    use crate::zone::layout::path_in;
    use crate::zone::tests::{apply, records};
    let batch = records("books", 0, 1, 2);
    let mut applied = apply(&batch);
    let long = "x".repeat(300);
    let kinds: ArrayRef = Arc::new(arrow_array::StringArray::from(vec![&long[..], "novel"]));
    applied.table.columns[2] = Column {
        values: kinds,
        constant: false,
    };
    let refused = |names: &[&str]| {
        let how = Directories::Columns {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            escape: true,
        };
        let mut placing = Placing::new(how, None, limits());
        let mut placed = placing.place(&batch, &applied, 0).unwrap().unwrap();
        placing.refuse_unfit(&mut placed, |directory| path_in("t", directory, "f"));
        let (row, reason) = placed.refused.remove(0);
        assert!(placed.refused.is_empty() && row == 0);
        assert!(reason.message.contains("305 bytes"), "{}", reason.message);
        reason.field
    };
    assert_eq!(refused(&["kind"]).as_deref(), Some("kind"));
    assert_eq!(refused(&["year", "kind"]), None);
}

/// A field of a struct names directories; a number with a fraction and a list do not.
#[test]
fn fields_of_structs_name_directories_and_fractions_do_not() {
    use crate::zone::tests::{apply, records};
    use arrow_schema::{Field, Fields, Schema};
    let batch = records("books", 0, 1, 4);
    let mut applied = apply(&batch);
    let rows = applied.table.rows;
    let cities: ArrayRef = Arc::new(arrow_array::StringArray::from(vec!["Köln"; rows]));
    let shares: ArrayRef = Arc::new(arrow_array::Float64Array::from(vec![0.5; rows]));
    let inner = Fields::from(vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("share", DataType::Float64, true),
    ]);
    let whole = arrow_array::StructArray::new(inner.clone(), vec![cities, shares], None);
    applied.table.schema = Arc::new(Schema::new(vec![Field::new(
        "customer",
        DataType::Struct(inner),
        true,
    )]));
    applied.table.columns = vec![Column {
        values: Arc::new(whole),
        constant: false,
    }];
    let by = |name: &str| {
        let how = Directories::Columns {
            names: vec![name.to_owned()],
            escape: true,
        };
        Placing::new(how, None, limits()).place(&batch, &applied, 0)
    };
    let placed = by("customer.city").unwrap().unwrap();
    assert_eq!(placed.names, ["customer.city=Köln".into()]);
    for (name, part) in [
        ("customer.share", "which is Float64"),
        ("customer", "which is Struct"),
        ("customer.street", "is not a column"),
    ] {
        let error = by(name).unwrap_err();
        assert_eq!(error.kind(), Kind::ConfigInvalid);
        assert!(error.to_string().contains(part), "{name}: {error}");
    }
}
