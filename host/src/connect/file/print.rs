//! A record's value as a line: the text itself, or what Java prints of what JsonConverter makes of it.

use serde_json::{Map, Value};

use super::Lines;

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
    let parsed: Value = serde_json::from_slice(value).map_err(|e| format!("not JSON: {e}"))?;
    let mut text = String::new();
    match how {
        Lines::Envelope => {
            let (schema, payload) = (parsed.get("schema"), parsed.get("payload"));
            let (Some(schema), Some(payload)) = (schema, payload) else {
                return Err("no envelope with the fields schema and payload".to_owned());
            };
            typed(schema, payload, &mut text);
        }
        _ => plain(&parsed, &mut text),
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Without a schema: maps are hash maps, whole numbers longs, others doubles.
fn plain(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => match n.as_i64() {
            Some(n) => out.push_str(&n.to_string()),
            None => out.push_str(&n.as_f64().map_or_else(|| n.to_string(), double)),
        },
        Value::String(text) => out.push_str(text),
        Value::Array(items) => list(items, plain, out),
        Value::Object(map) => hash_map(map, plain, out),
    }
}

/// `Struct{a=1,b=x}` in the order of the schema, fields without a value left out.
fn typed(schema: &Value, value: &Value, out: &mut String) {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or("");
    match (kind, value) {
        ("struct", Value::Object(map)) => {
            out.push_str("Struct{");
            let fields = schema.get("fields").and_then(Value::as_array);
            let mut first = true;
            for field in fields.into_iter().flatten() {
                let name = field.get("field").and_then(Value::as_str).unwrap_or("");
                let inner = map
                    .get(name)
                    .filter(|v| !v.is_null())
                    .or(field.get("default"));
                if let Some(inner) = inner.filter(|v| !v.is_null()) {
                    if !std::mem::take(&mut first) {
                        out.push(',');
                    }
                    out.push_str(name);
                    out.push('=');
                    typed(field, inner, out);
                }
            }
            out.push('}');
        }
        ("array", Value::Array(items)) => {
            let inner = schema.get("items").unwrap_or(&Value::Null);
            list(items, |item, out| typed(inner, item, out), out);
        }
        ("map", Value::Object(map)) => {
            let inner = schema.get("values").unwrap_or(&Value::Null);
            hash_map(map, |item, out| typed(inner, item, out), out);
        }
        ("float" | "double", Value::Number(n)) => {
            out.push_str(&n.as_f64().map_or_else(|| n.to_string(), double));
        }
        _ => plain(value, out),
    }
}

fn list(items: &[Value], print: impl Fn(&Value, &mut String), out: &mut String) {
    out.push('[');
    for (n, item) in items.iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        print(item, out);
    }
    out.push(']');
}

/// In the order in which a `HashMap` that grew by insertion has its entries.
fn hash_map(map: &Map<String, Value>, print: impl Fn(&Value, &mut String), out: &mut String) {
    let mut buckets = 16usize;
    while map.len() > buckets / 4 * 3 {
        buckets *= 2;
    }
    let bucket = |key: &str| {
        let hash = key.encode_utf16().fold(0u32, |hash, unit| {
            hash.wrapping_mul(31).wrapping_add(u32::from(unit))
        });
        (hash ^ (hash >> 16)) as usize & (buckets - 1)
    };
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    entries.sort_by_key(|(key, _)| bucket(key));
    out.push('{');
    for (n, (key, value)) in entries.into_iter().enumerate() {
        if n > 0 {
            out.push_str(", ");
        }
        out.push_str(key);
        out.push('=');
        print(value, out);
    }
    out.push('}');
}

/// `1.0`, `1.0E7`, `1.25E-4`: Java's form of a double, with the fewest digits that tell it.
fn double(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
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
    fn what_is_no_json_is_refused_and_null_is_a_word() {
        let mut out = Vec::new();
        assert!(line(Some(b"{"), Lines::Json, &mut out).is_err());
        assert!(line(Some(b"{}"), Lines::Envelope, &mut out).is_err());
        assert!(out.is_empty());
        line(None, Lines::Envelope, &mut out).expect("null");
        assert_eq!(out, b"null");
    }
}
