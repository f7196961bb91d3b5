//! `sink.format`, `sink.file.*` and `sink.partition.*` of rows of records: what the files are, and in which directories they lie.

use jiff::tz::{Offset, TimeZone};

use crate::config::shape::Value;
use crate::config::{
    Checker, Compression, Directories, FileFormat, Files, Gives, System, TimeDirectories, TimeOf,
    TimeUnit, Tombstones, delimiter, problem, show_bytes,
};
use crate::joda::Pattern;
use crate::sink::FILES_SHARE;
use crate::store::NAME_MAX;
use crate::zone::{offsets_name, packing_bytes};

const FORMAT: &str = "sink.format";
const BY: &str = "sink.partition.by";
const COLUMNS: &str = "sink.partition.columns";
const PATH: &str = "sink.partition.path";
const ZONE: &str = "sink.partition.timezone";

/// Of a file: a ULID.
const ID: usize = 26;

/// Of times that no pattern is given for.
const PATH_DEFAULT: &str = "'date'=yyyy-MM-dd/'hour'=HH";

/// A key, and the formats that it is for.
const OF_FORMATS: &[(&str, &[FileFormat])] = &[
    (
        "sink.file.column",
        &[FileFormat::Json, FileFormat::Csv, FileFormat::Bytes],
    ),
    ("sink.file.text", &[FileFormat::Json]),
    (
        "sink.file.system",
        &[FileFormat::Json, FileFormat::Csv, FileFormat::Avro],
    ),
    (
        "sink.file.extension",
        &[
            FileFormat::Json,
            FileFormat::Csv,
            FileFormat::Avro,
            FileFormat::Bytes,
        ],
    ),
    ("sink.file.separator", &[FileFormat::Bytes]),
    ("sink.file.header", &[FileFormat::Csv]),
    ("sink.file.delimiter", &[FileFormat::Csv]),
    ("sink.sort", &[FileFormat::Parquet]),
    ("sink.bucket.columns", &[FileFormat::Parquet]),
    ("sink.compact.every", &[FileFormat::Parquet]),
];

/// A key, and the values of `sink.partition.by` that it is for.
const OF_DIRECTORIES: &[(&str, &[&str])] = &[
    (COLUMNS, &["time", "columns"]),
    (PATH, &["ingestion", "record", "time"]),
    (ZONE, &["ingestion", "record", "time"]),
    ("sink.partition.duration", &["ingestion", "record", "time"]),
    ("sink.partition.unit", &["time"]),
    ("sink.partition.escape", &["columns"]),
];

/// Keys of rows of records that are none of a zone that is read.
const OF_RECORDS: &[&str] = &[
    "sink.file.column",
    "sink.file.text",
    "sink.file.system",
    "sink.file.names",
    "sink.file.offset.digits",
    "sink.file.extension",
    "sink.file.separator",
    "sink.file.header",
    "sink.file.delimiter",
    "sink.file.open",
    "sink.tombstones",
    BY,
    COLUMNS,
    PATH,
    ZONE,
    "sink.partition.duration",
    "sink.partition.unit",
    "sink.partition.escape",
];

fn format(checker: &Checker<'_>) -> Option<FileFormat> {
    Some(match checker.text(FORMAT)?.as_str() {
        "json" => FileFormat::Json,
        "avro" => FileFormat::Avro,
        "csv" => FileFormat::Csv,
        "bytes" => FileFormat::Bytes,
        _ => FileFormat::Parquet,
    })
}

fn flag(checker: &Checker<'_>, key: &str) -> Option<bool> {
    match checker.value(key)? {
        Value::Flag(flag) => Some(flag),
        _ => None,
    }
}

/// `None` only where a problem was told.
pub(super) fn files(checker: &Checker<'_>) -> Option<Files> {
    let format = format(checker)?;
    let compression = match checker.value("sink.compression") {
        Some(Value::Compression(compression)) if checker.typed("sink.compression") => compression,
        _ => Compression::None,
    };
    let own = checker.text("sink.file.extension");
    let own = own.as_deref().map(|own| own.trim_start_matches('.'));
    let base = match format {
        FileFormat::Parquet => "parquet",
        FileFormat::Json => own.unwrap_or("json"),
        FileFormat::Csv => own.unwrap_or("csv"),
        FileFormat::Avro => own.unwrap_or("avro"),
        FileFormat::Bytes => own.unwrap_or("bin"),
    };
    let packed = match (format, compression) {
        (FileFormat::Avro | FileFormat::Parquet, _) => "",
        (_, Compression::Gzip(_)) => ".gz",
        (_, Compression::Zstd(_)) => ".zst",
        _ => "",
    };
    let column = checker.text("sink.file.column");
    let digits = checker.size("sink.file.offset.digits")?;
    Some(Files {
        format,
        column: match format {
            FileFormat::Bytes => column.or_else(|| Some(crate::record::VALUE.to_owned())),
            _ => column,
        },
        text_is_json: checker.text("sink.file.text")? == "json",
        system: flag(checker, "sink.file.system")?,
        extension: format!("{base}{packed}"),
        compression,
        separator: separator(&checker.text("sink.file.separator")?).ok()?,
        header: flag(checker, "sink.file.header")?,
        delimiter: delimiter(&checker.text("sink.file.delimiter")?)?,
        offsets: (checker.text("sink.file.names")? == "offsets").then_some(digits),
        open: checker.size("sink.file.open")?,
        tombstones: match checker.text("sink.tombstones")?.as_str() {
            "drop" => Tombstones::Drop,
            "refuse" => Tombstones::Refuse,
            _ => Tombstones::Write,
        },
    })
}

/// Blanks beside a word or an escape were typed by mistake: as a separator of their own they are written alone.
fn blanks_around_a_word(text: &str) -> bool {
    let word = text.trim_matches(' ');
    let escapes = |word: &str| {
        let mut pairs = word.as_bytes().chunks(2);
        !word.is_empty() && pairs.all(|pair| pair.first() == Some(&b'\\'))
    };
    word != text && (word == "none" || escapes(word))
}

/// `Err`: the letter behind `\` that means nothing.
fn separator(text: &str) -> Result<Vec<u8>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let byte = match c {
            '\\' => match chars.next() {
                Some('n') => b'\n',
                Some('r') => b'\r',
                Some('t') => b'\t',
                Some('0') => 0,
                Some('\\') => b'\\',
                other => return Err(other.map(String::from).unwrap_or_default()),
            },
            c => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        out.push(byte);
    }
    Ok(out)
}

/// `None` only where a problem was told.
pub(super) fn directories(checker: &Checker<'_>) -> Option<Directories> {
    let by = checker.text(BY)?;
    let columns = checker.list(COLUMNS).unwrap_or_default();
    let of = match by.as_str() {
        "partition" => return Some(Directories::Partition),
        "none" => return Some(Directories::None),
        "columns" => {
            return Some(Directories::Columns {
                names: columns,
                escape: flag(checker, "sink.partition.escape")?,
            });
        }
        "record" => TimeOf::Record,
        "time" => TimeOf::Column {
            name: columns.into_iter().next()?,
            unit: unit(&checker.text("sink.partition.unit")?)?,
        },
        _ if !checker.typed(PATH) => return Some(Directories::Ingested),
        _ => TimeOf::Clock,
    };
    let path = checker.text(PATH);
    let zone_name = checker.text(ZONE)?;
    Some(Directories::Time(TimeDirectories {
        of,
        path: Pattern::of_directories(path.as_deref().unwrap_or(PATH_DEFAULT)).ok()?,
        zone: zone(&zone_name)?,
        zone_name,
        floor: checker.duration("sink.partition.duration"),
    }))
}

fn unit(text: &str) -> Option<TimeUnit> {
    match text {
        "auto" => Some(TimeUnit::Auto),
        "seconds" => Some(TimeUnit::Seconds),
        "micros" => Some(TimeUnit::Micros),
        pattern if pattern.contains('%') => Some(TimeUnit::Pattern(pattern.to_owned())),
        _ => None,
    }
}

/// An IANA name, or an offset: `+05:30`.
fn zone(text: &str) -> Option<TimeZone> {
    let offset = |text: &str| {
        let sign = match text.as_bytes().first()? {
            b'+' => 1,
            b'-' => -1,
            _ => return None,
        };
        let (hours, minutes) = text[1..].split_once(':').unwrap_or((&text[1..], "0"));
        let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
        let inside = (0..24).contains(&hours) && (0..60).contains(&minutes);
        let seconds = sign * (hours * 3600 + minutes * 60);
        inside.then(|| Offset::from_seconds(seconds).ok()).flatten()
    };
    match offset(text) {
        Some(offset) => Some(TimeZone::fixed(offset)),
        None if text.eq_ignore_ascii_case("utc") || text == "Z" => Some(TimeZone::UTC),
        None => TimeZone::get(text).ok(),
    }
}

pub(super) fn check(checker: &mut Checker<'_>) {
    let rows = checker
        .source
        .is_some_and(|source| source.gives == Gives::Rows);
    if rows {
        of_rows(checker);
        return;
    }
    if let Some(format) = format(checker) {
        of_format(checker, format);
    }
    values(checker);
    of_directories(checker);
}

/// PROCESSED is read by coordinate and by key.
fn of_rows(checker: &mut Checker<'_>) {
    let other = format(checker).is_some_and(|format| !format.is_parquet());
    let format = std::iter::once(&FORMAT).filter(|_| other);
    let typed: Vec<&str> = format
        .chain(OF_RECORDS)
        .copied()
        .filter(|key| checker.typed(key))
        .collect();
    for key in typed {
        let message = format!(
            "`{key}`: it is for rows of records; those of a zone are written as Parquet, into directories of sink.partition.field"
        );
        checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
            Some("take the key out".to_owned());
    }
}

fn of_format(checker: &mut Checker<'_>, format: FileFormat) {
    for (key, formats) in OF_FORMATS {
        if checker.typed(key) && !formats.contains(&format) {
            let words: Vec<&str> = formats.iter().map(|format| format.word()).collect();
            let message = format!(
                "`{key}` is for sink.format {}, and it is {}",
                words.join(", "),
                format.word()
            );
            checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
                Some("take the key out".to_owned());
        }
    }
    if checker.typed("sink.file.text") && !checker.typed("sink.file.column") {
        let message = "`sink.file.text` without `sink.file.column` says nothing".to_owned();
        let hint = "name the column whose value is the line, or take the key out";
        checker.contradiction("sink.file.text", message, hint);
    }
    if checker.typed("sink.file.system") && checker.typed("sink.file.column") {
        let message = "`sink.file.system`: with sink.file.column a line is one value".to_owned();
        checker.contradiction("sink.file.system", message, "take one of them out");
    }
    let columns = |checker: &Checker<'_>| {
        let mut keys = checker.raw.iter().map(|(key, _)| key.to_owned());
        keys.find(|key| key.starts_with(super::columns::PREFIX))
    };
    if !format.is_parquet()
        && let Some(key) = columns(checker)
    {
        let message = format!(
            "`{key}` is for sink.format parquet, and it is {}",
            format.word()
        );
        checker.problem(&key, problem::DOES_NOT_APPLY, message).hint =
            Some("take the key out".to_owned());
    }
    compression(checker, format);
    packing(checker, format);
}

/// A file that is compressed as a whole has the codec's window and tables while it is open. Where one alone takes more than all open files
/// of a task may, each batch would be a file.
fn packing(checker: &mut Checker<'_>, format: FileFormat) {
    const KEY: &str = "sink.compression";
    let Some(Value::Compression(codec)) = checker.value(KEY).filter(|_| checker.typed(KEY)) else {
        return;
    };
    let (tasks, budget) = (checker.number("tasks.max"), checker.number("memory.budget"));
    let (Some(tasks), Some(budget)) = (tasks, budget) else {
        return;
    };
    let needed = packing_bytes(codec) as u64;
    let whole = !matches!(format, FileFormat::Parquet | FileFormat::Avro);
    let share = budget / tasks.max(1) / FILES_SHARE as u64;
    if whole && needed > share {
        let message = format!(
            "`{KEY}`: an open file of this level takes {}, and `memory.budget` of {} for `tasks.max` of {tasks} leaves each task {} for its open files",
            show_bytes(needed),
            show_bytes(budget),
            show_bytes(share)
        );
        let hint = "choose a lower level, lower tasks.max, or raise memory.budget";
        checker.contradiction(KEY, message, hint);
    }
}

fn compression(checker: &mut Checker<'_>, format: FileFormat) {
    const KEY: &str = "sink.compression";
    let Some(Value::Compression(codec)) = checker.value(KEY).filter(|_| checker.typed(KEY)) else {
        return;
    };
    let fits = match format {
        FileFormat::Parquet => true,
        FileFormat::Avro => codec != Compression::Lz4,
        _ => !matches!(codec, Compression::Lz4 | Compression::Snappy),
    };
    if !fits {
        let known = match format {
            FileFormat::Avro => "none, snappy, gzip (Avro calls it deflate) or zstd",
            _ => "none, gzip or zstd",
        };
        let message = format!("`{KEY}`: {} files are written with {known}", format.word());
        checker.contradiction(KEY, message, "write one of them, or take the key out");
    }
}

/// Texts that are read more closely.
fn values(checker: &mut Checker<'_>) {
    const EXTENSION: &str = "sink.file.extension";
    const SEPARATOR: &str = "sink.file.separator";
    const DELIMITER: &str = "sink.file.delimiter";
    if let Some(text) = checker.text(EXTENSION)
        && text
            .split('.')
            .next_back()
            .is_some_and(|last| last.eq_ignore_ascii_case("parquet"))
    {
        let message = format!("`{EXTENSION}`: a file that ends with `parquet` is Parquet");
        checker.contradiction(EXTENSION, message, "choose another ending");
    }
    if let Some(text) = checker.text(EXTENSION)
        && (text.contains("..") || text.ends_with('.'))
    {
        let message =
            format!("`{EXTENSION}`: the log takes no name with `..`, and no name ends with a dot");
        checker.contradiction(EXTENSION, message, "take the dots out that are too many");
    }
    if let Some(text) = checker.text(SEPARATOR)
        && blanks_around_a_word(&text)
    {
        let message = format!("`{SEPARATOR}`: there are blanks around `{}`", text.trim());
        checker
            .problem(SEPARATOR, problem::WRONG_TYPE, message)
            .hint = Some("each blank would be written: take them out".to_owned());
    }
    if let Some(Err(letter)) = checker.text(SEPARATOR).map(|text| separator(&text)) {
        let message = format!("`{SEPARATOR}`: `\\{letter}` means nothing");
        let hint = r"`\n`, `\r`, `\t`, `\0` and `\\` are read; `none` is nothing";
        checker
            .problem(SEPARATOR, problem::WRONG_TYPE, message)
            .hint = Some(hint.to_owned());
    }
    if let Some(text) = checker.text(DELIMITER)
        && delimiter(&text).is_none()
    {
        let shown = checker.shown(DELIMITER, &text);
        let message = format!(
            "`{DELIMITER}`: expected one ASCII character, found `{}`",
            shown.escape_debug()
        );
        checker
            .problem(DELIMITER, problem::WRONG_TYPE, message)
            .hint = Some(r"write `;`, `|` or `\t`".to_owned());
    }
    long_names(checker);
    let offsets = checker
        .text("sink.file.names")
        .is_some_and(|names| names == "offsets");
    if offsets && checker.typed("sink.compact.every") {
        let message = "`sink.compact.every`: a file with offsets in its name stays as it is, as the name would not be that of the merged file".to_owned();
        checker.contradiction(
            "sink.compact.every",
            message,
            "write sink.file.names = \"id\", or take the key out",
        );
    }
}

/// HDFS takes none in a name.
fn colon(checker: &mut Checker<'_>, path: &Pattern) {
    let at = checker.location("sink.url");
    let hdfs = at.is_some_and(|at| at.system() == Some(System::Hdfs));
    let sample = path.sample(&checker.text(ZONE).unwrap_or_default());
    if hdfs && sample.contains(':') {
        let message = format!("`{PATH}`: HDFS takes no `:` in a name, and it gives `{sample}`");
        let hint = "write `-` or nothing between hours and minutes: HH-mm, HHmm, Z";
        checker.contradiction(PATH, message, hint);
    }
}

/// Topics that do not go into the name of a file, not even into that of the first record of partition 0. Where only a later name is too
/// long, the run says so before the file is begun.
fn long_names(checker: &mut Checker<'_>) {
    const KEY: &str = "sink.file.names";
    let Some(files) = files(checker) else { return };
    let Some(digits) = files.offsets else { return };
    let long = |topic: &String| {
        let name = offsets_name(topic, 0, 0, digits);
        ID + 1 + name.len() + 1 + files.extension.len() > NAME_MAX
    };
    let topics = checker.topics().unwrap_or_default();
    if let Some(topic) = topics.iter().find(|topic| long(topic)) {
        let message = format!(
            "`{KEY}`: a name has at most {NAME_MAX} bytes, and with the topic's, `{topic}`, each file would have a longer one"
        );
        checker.contradiction(
            KEY,
            message,
            "write sink.file.names = \"id\", or take the key out",
        );
    }
}

fn of_directories(checker: &mut Checker<'_>) {
    let Some(by) = checker.text(BY) else { return };
    for (key, kinds) in OF_DIRECTORIES {
        if checker.typed(key) && !kinds.contains(&by.as_str()) {
            let message = format!("`{key}` is for {BY} {}, and it is {by}", kinds.join(", "));
            checker.problem(key, problem::DOES_NOT_APPLY, message).hint =
                Some("take the key out".to_owned());
        }
    }
    let columns = checker.list(COLUMNS).unwrap_or_default().len();
    if by == "columns" && columns == 0 || by == "time" && columns != 1 {
        let message = match by.as_str() {
            "time" => format!("`{BY}` = time needs one column with the time, found {columns}"),
            _ => format!("`{BY}` = columns needs columns"),
        };
        checker.contradiction(BY, message, "name them in sink.partition.columns");
    }
    let path = checker
        .text(PATH)
        .map(|text| Pattern::of_directories(&text));
    if let Some(Err(why)) = &path {
        let message = format!("`{PATH}`: {why}");
        checker.problem(PATH, problem::WRONG_TYPE, message).hint = Some(
            "letters are parts of a time, text with letters stands between quotes: `'year'=yyyy/'month'=MM`".to_owned(),
        );
    }
    if let Some(Ok(path)) = &path {
        colon(checker, path);
    }
    if let Some(text) = checker.text(ZONE)
        && zone(&text).is_none()
    {
        let message = format!("`{ZONE}`: there is no time zone `{text}`");
        checker.problem(ZONE, problem::NOT_A_CHOICE, message).hint = Some(
            "an IANA name such as `Europe/Berlin`, `UTC`, or an offset such as `+05:30`".to_owned(),
        );
    }
    if let Some(text) = checker.text("sink.partition.unit")
        && unit(&text).is_none()
    {
        let message = format!("`sink.partition.unit`: found `{text}`");
        checker
            .problem("sink.partition.unit", problem::NOT_A_CHOICE, message)
            .hint = Some(
            "`auto`, `seconds`, `micros`, or a strftime pattern such as `%d.%m.%Y`".to_owned(),
        );
    }
    for key in [ZONE, "sink.partition.duration"] {
        if by == "ingestion" && checker.typed(key) && !checker.typed(PATH) {
            let message = format!("`{key}`: ingest_date and ingest_hour are in UTC, by the hour");
            checker.contradiction(
                key,
                message,
                "give sink.partition.path too, or take the key out",
            );
        }
    }
}
