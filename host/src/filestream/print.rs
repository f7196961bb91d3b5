//! A record's value as a line: the text itself, or what Java prints for the value that JsonConverter makes.

use super::Lines;
use crate::json::{Json, Number};

/// The line without its end; `Err` says why there is none.
pub(super) fn line(value: Option<&[u8]>, how: Lines, out: &mut Vec<u8>) -> Result<(), String> {
    let Some(value) = value else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    if how == Lines::Text {
        out.extend_from_slice(value);
        return Ok(());
    }
    let parsed = Json::parse(value).map_err(|e| format!("not JSON: {e}"))?;
    let mut text = String::new();
    match how {
        Lines::Envelope => {
            let (schema, payload) = (parsed.get("schema"), parsed.get("payload"));
            let (Some(schema), Some(payload)) = (schema, payload) else {
                return Err("no envelope with the fields schema and payload".to_owned());
            };
            typed(schema, payload, &mut text)?;
        }
        _ => plain(&parsed, &mut text)?,
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// What was printed, or why a value has no text that is exact.
type Printed = Result<(), String>;

/// Without a schema: maps are hash maps, whole numbers longs, others doubles.
fn plain(value: &Json, out: &mut String) -> Printed {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Json::Number(n) if n.is_whole() => match n.text().parse::<i64>() {
            Ok(n) => out.push_str(&n.to_string()),
            Err(_) => {
                return Err(format!("{} is more than 64 bits hold", n.text()));
            }
        },
        Json::Number(n) => out.push_str(&double(n)?),
        Json::Text(text) => out.push_str(text),
        Json::List(items) => list(items, plain, out)?,
        Json::Object(members) => hash_map(members, plain, out)?,
    }
    Ok(())
}

/// `Struct{a=1,b=x}` in the order of the schema, fields without a value left out.
fn typed(schema: &Json, value: &Json, out: &mut String) -> Printed {
    let kind = schema.get("type").and_then(Json::as_text).unwrap_or("");
    match (kind, value) {
        ("struct", Json::Object(_)) => {
            out.push_str("Struct{");
            let fields = schema.get("fields").and_then(Json::as_list);
            let mut first = true;
            for field in fields.into_iter().flatten() {
                let name = field.get("field").and_then(Json::as_text).unwrap_or("");
                let inner = value
                    .get(name)
                    .filter(|v| **v != Json::Null)
                    .or(field.get("default"));
                if let Some(inner) = inner.filter(|v| **v != Json::Null) {
                    if !std::mem::take(&mut first) {
                        out.push(',');
                    }
                    out.push_str(name);
                    out.push('=');
                    typed(field, inner, out)?;
                }
            }
            out.push('}');
        }
        ("array", Json::List(items)) => {
            let inner = schema.get("items").unwrap_or(&Json::Null);
            list(items, |item, out| typed(inner, item, out), out)?;
        }
        ("map", Json::Object(members)) => {
            let inner = schema.get("values").unwrap_or(&Json::Null);
            hash_map(members, |item, out| typed(inner, item, out), out)?;
        }
        ("float", Json::Number(n)) => out.push_str(&float(n)?),
        ("double", Json::Number(n)) => out.push_str(&double(n)?),
        _ => plain(value, out)?,
    }
    Ok(())
}

fn list(
    items: &[Json],
    print: impl Fn(&Json, &mut String) -> Printed,
    out: &mut String,
) -> Printed {
    out.push('[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        print(item, out)?;
    }
    out.push(']');
    Ok(())
}

/// In the order in which a `HashMap` that grew by insertion has its entries.
fn hash_map(
    members: &[(String, Json)],
    print: impl Fn(&Json, &mut String) -> Printed,
    out: &mut String,
) -> Printed {
    let mut buckets = 16usize;
    while members.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    let bucket = |key: &str| {
        let hash = key.encode_utf16().fold(0u32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(u32::from(unit))
        });
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    };
    let mut entries: Vec<&(String, Json)> = members.iter().collect();
    entries.sort_by_key(|(key, _)| bucket(key));
    out.push('{');
    for (n, (key, value)) in entries.into_iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        out.push_str(key);
        out.push('=');
        print(value, out)?;
    }
    out.push('}');
    Ok(())
}

fn double(number: &Number) -> Result<String, String> {
    let read = number.text().parse::<f64>().ok().filter(|n| n.is_finite());
    let read = read.ok_or_else(|| format!("{} is more than a double holds", number.text()))?;
    Ok(java(read.abs(), &format!("{read:?}"), &format!("{read:e}")))
}

/// As in Jackson: read as a double, then rounded to a float.
fn float(number: &Number) -> Result<String, String> {
    #[expect(clippy::cast_possible_truncation, reason = "a float is asked for")]
    let read = number.text().parse::<f64>().map(|n| n as f32).ok();
    let read = read.filter(|n| n.is_finite());
    let read = read.ok_or_else(|| format!("{} is more than a float holds", number.text()))?;
    Ok(java(
        f64::from(read.abs()),
        &format!("{read:?}"),
        &format!("{read:e}"),
    ))
}

/// `1.0`, `1.0E7`, `1.25E-4`: Java's form, of the fewest digits that tell the number, plain and with an exponent.
fn java(magnitude: f64, plain: &str, scientific: &str) -> String {
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return plain.to_owned();
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str, how: Lines) -> String {
        let mut out = Vec::new();
        line(Some(value.as_bytes()), how, &mut out).expect("a line");
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn json_is_printed_as_java_prints_maps_and_structs() {
        // Checked against java.util.HashMap.
        assert_eq!(
            of(
                r#"{"name":"Ada","id":17,"tags":["x",null],"price":1.5,"ok":true}"#,
                Lines::Json
            ),
            "{price=1.5, name=Ada, id=17, ok=true, tags=[x, null]}"
        );
        assert_eq!(
            of("[1.0e10,12345678.0,0.0001,100.0]", Lines::Json),
            "[1.0E10, 1.2345678E7, 1.0E-4, 100.0]"
        );
        let envelope = r#"{"schema":{"type":"struct","fields":[{"field":"b","type":"int32"},{"field":"a","type":"string","optional":true},{"field":"c","type":"string","optional":true}]},"payload":{"a":"x","b":7,"c":null}}"#;
        assert_eq!(of(envelope, Lines::Envelope), "Struct{b=7,a=x}");
        let plain = r#"{"schema":{"type":"string","optional":false},"payload":"a line"}"#;
        assert_eq!(of(plain, Lines::Envelope), "a line");
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(
            of("[7311704574626553.0,9223372036854775807]", Lines::Json),
            "[7.311704574626553E15, 9223372036854775807]"
        );
        let float = r#"{"schema":{"type":"float"},"payload":16777217}"#;
        assert_eq!(of(float, Lines::Envelope), "1.6777216E7");
        for beyond in [
            "9223372036854775808",
            "{\"a\":[12345678901234567890123]}",
            "1e400",
        ] {
            let mut out = Vec::new();
            let told = line(Some(beyond.as_bytes()), Lines::Json, &mut out).expect_err(beyond);
            assert!(told.contains("is more than"), "{told}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_and_null_is_a_word() {
        let mut out = Vec::new();
        assert!(line(Some(b"{"), Lines::Json, &mut out).is_err());
        assert!(line(Some(b"{}"), Lines::Envelope, &mut out).is_err());
        assert!(out.is_empty());
        line(None, Lines::Envelope, &mut out).expect("null");
        assert_eq!(out, b"null");
    }
}
