//! YAML as key-value pairs with their places: Strimzi's `KafkaConnector`, or a connector's config as a map, with or without
//! `name` and `config` around it.
//!
//! Scalars are taken as they are typed, `1_000` and `yes` too: what a key means is said elsewhere. Anchors and aliases are not read.

use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::Marker;

use super::json::{Fault, Pair};

/// Maps in maps and lists: a connector has three.
const DEPTH_MAX: usize = 16;

/// What was read of a file.
#[derive(Debug, Default)]
pub struct Read {
    pub pairs: Vec<Pair>,
    /// Keys that say nothing here, each with the reason.
    pub idle: Vec<(Pair, &'static str)>,
}

/// Line and column, from 1.
type Place = (u32, u32);

const START: Place = (1, 1);

#[derive(Debug)]
enum Node {
    Scalar(String),
    List(Vec<(Place, Node)>),
    Map(Vec<(String, Place, Node)>),
}

#[derive(Default)]
struct Collected {
    events: Vec<(Event, Place)>,
}

impl MarkedEventReceiver for Collected {
    fn on_event(&mut self, event: Event, mark: Marker) {
        self.events.push((event, place(mark)));
    }
}

/// Keys of Strimzi that say what its operator does.
const STATE: &str = "a state is set over REST: PUT /connectors/NAME/pause, stop or resume";
const OPERATOR: &str = "it is for Strimzi's operator";

pub fn flat(text: &str) -> Result<Read, Fault> {
    let mut collected = Collected::default();
    let mut parser = Parser::new_from_str(text);
    parser
        .load(&mut collected, true)
        .map_err(|error| fault(error.info().to_owned(), place(*error.marker())))?;
    let mut documents = documents(collected.events)?;
    let is_connector =
        |node: &Node| member(node, "kind").and_then(scalar) == Some("KafkaConnector");
    if documents.len() > 1 && documents.iter().any(|(_, node)| is_connector(node)) {
        documents.retain(|(_, node)| is_connector(node));
    }
    let mut documents = documents.into_iter();
    let Some((_, document)) = documents.next() else {
        return Ok(Read::default());
    };
    if let Some((mark, _)) = documents.next() {
        return Err(fault(
            "a second connector: one file holds one".to_owned(),
            mark,
        ));
    }
    match member(&document, "kind").and_then(scalar) {
        Some("KafkaConnector") => strimzi(document),
        Some(other) => {
            let message = format!(
                "kind `{other}` is none that is read here; a connector is a KafkaConnector"
            );
            Err(fault(message, START))
        }
        None => plain(document),
    }
}

fn plain(document: Node) -> Result<Read, Fault> {
    let Node::Map(members) = document else {
        let message = "expected a map of keys and values".to_owned();
        return Err(fault(message, START));
    };
    let mut read = Read::default();
    for (key, mark, node) in members {
        match node {
            Node::Map(config) if key == "config" => {
                for (key, mark, node) in config {
                    read.pairs.push(pair(key, mark, node)?);
                }
            }
            node => read.pairs.push(pair(key, mark, node)?),
        }
    }
    Ok(read)
}

fn strimzi(document: Node) -> Result<Read, Fault> {
    let Node::Map(members) = document else {
        return Ok(Read::default());
    };
    let mut read = Read::default();
    for (key, _, node) in members {
        let Node::Map(inner) = node else { continue };
        for (name, mark, node) in inner {
            match (key.as_str(), name.as_str()) {
                ("metadata", "name") => read.pairs.push(pair(name, mark, node)?),
                ("spec", "class") => {
                    read.pairs
                        .push(pair("connector.class".to_owned(), mark, node)?)
                }
                ("spec", "tasksMax") => read.pairs.push(pair("tasks.max".to_owned(), mark, node)?),
                ("spec", "config") => {
                    let Node::Map(config) = node else {
                        return Err(fault("`spec.config` is no map".to_owned(), mark));
                    };
                    for (key, mark, node) in config {
                        read.pairs.push(pair(key, mark, node)?);
                    }
                }
                ("spec", name) => {
                    let why = match name {
                        "state" | "pause" => STATE,
                        _ => OPERATOR,
                    };
                    let of = pair(format!("spec.{name}"), mark, Node::Scalar(String::new()))?;
                    read.idle.push((of, why));
                }
                _ => {}
            }
        }
    }
    Ok(read)
}

fn member<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    let Node::Map(members) = node else {
        return None;
    };
    let found = members.iter().find(|(key, ..)| key == name)?;
    Some(&found.2)
}

fn scalar(node: &Node) -> Option<&str> {
    match node {
        Node::Scalar(text) => Some(text),
        _ => None,
    }
}

/// Lists of scalars are joined with commas.
fn pair(key: String, mark: Place, node: Node) -> Result<Pair, Fault> {
    let value = match node {
        Node::Scalar(text) => text,
        Node::List(items) => {
            let mut texts = Vec::new();
            for (mark, item) in items {
                match item {
                    Node::Scalar(text) => texts.push(text),
                    _ => {
                        return Err(fault(
                            format!("`{key}`: an item is no text, number or truth value"),
                            mark,
                        ));
                    }
                }
            }
            texts.join(",")
        }
        Node::Map(_) => {
            return Err(fault(
                format!("`{key}` is not a text, a number or a truth value"),
                mark,
            ));
        }
    };
    let (line, column) = mark;
    Ok(Pair {
        key,
        value,
        line,
        column,
    })
}

fn documents(events: Vec<(Event, Place)>) -> Result<Vec<(Place, Node)>, Fault> {
    let mut events = events.into_iter();
    let mut documents = Vec::new();
    while let Some((event, _)) = events.next() {
        if matches!(event, Event::DocumentStart)
            && let Some((event, mark)) = events.next()
        {
            documents.push((mark, node(event, mark, &mut events, 0)?));
        }
    }
    documents.retain(|(_, node)| !matches!(node, Node::Scalar(text) if text.is_empty()));
    Ok(documents)
}

type Events = std::vec::IntoIter<(Event, Place)>;

fn node(event: Event, mark: Place, events: &mut Events, depth: usize) -> Result<Node, Fault> {
    if depth > DEPTH_MAX {
        return Err(fault(
            format!("more than {DEPTH_MAX} maps and lists in each other"),
            mark,
        ));
    }
    match event {
        Event::Scalar(text, style, ..) => {
            let quoted = style != yaml_rust2::scanner::TScalarStyle::Plain;
            let null = !quoted && matches!(text.as_str(), "~" | "null" | "Null" | "NULL");
            Ok(Node::Scalar(if null { String::new() } else { text }))
        }
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match events.next() {
                    Some((Event::SequenceEnd, _)) | None => return Ok(Node::List(items)),
                    Some((event, mark)) => {
                        items.push((mark, node(event, mark, events, depth + 1)?))
                    }
                }
            }
        }
        Event::MappingStart(..) => {
            let mut members = Vec::new();
            loop {
                match events.next() {
                    Some((Event::MappingEnd, _)) | None => return Ok(Node::Map(members)),
                    Some((Event::Scalar(key, ..), at)) => {
                        if let Some((event, mark)) = events.next() {
                            members.push((key, at, node(event, mark, events, depth + 1)?));
                        }
                    }
                    Some((_, mark)) => return Err(fault("a key is no text".to_owned(), mark)),
                }
            }
        }
        Event::Alias(_) => Err(fault(
            "aliases are not read: write the value".to_owned(),
            mark,
        )),
        _ => Err(fault("expected a map of keys and values".to_owned(), mark)),
    }
}

fn place(mark: Marker) -> Place {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (
        small(mark.line()).max(1),
        small(mark.col()).saturating_add(1),
    )
}

fn fault(message: String, (line, column): Place) -> Fault {
    Fault {
        message,
        line,
        column,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, u32, u32)> {
        let read = flat(text).unwrap();
        let pairs = read.pairs.into_iter();
        pairs.map(|p| (p.key, p.value, p.line, p.column)).collect()
    }

    #[test]
    fn a_connector_of_strimzi_is_its_config() {
        let text = "# comment\n---\napiVersion: kafka.strimzi.io/v1beta2\nkind: KafkaConnector\nmetadata:\n  name: to-s3\n  labels:\n    strimzi.io/cluster: c\nspec:\n  class: S3Sink\n  tasksMax: 2\n  autoRestart:\n    enabled: true\n  config:\n    topics: a,b\n    flush.size: 1000\n    path.format: \"'year'=YYYY\"\n    list: [a, b]\n    on: true\n    empty: null\n";
        let expected = [
            ("name", "to-s3", 6, 3),
            ("connector.class", "S3Sink", 10, 3),
            ("tasks.max", "2", 11, 3),
            ("topics", "a,b", 15, 5),
            ("flush.size", "1000", 16, 5),
            ("path.format", "'year'=YYYY", 17, 5),
            ("list", "a,b", 18, 5),
            ("on", "true", 19, 5),
            ("empty", "", 20, 5),
        ];
        let expected = expected.map(|(k, v, l, c)| (k.to_owned(), v.to_owned(), l, c));
        assert_eq!(pairs(text), expected);
        let idle = flat(text).unwrap().idle;
        assert_eq!(idle[0].0.key, "spec.autoRestart");
    }

    #[test]
    fn other_forms_and_faults_have_their_places() {
        assert_eq!(pairs("name: n\nconfig:\n  topics: t\n").len(), 2);
        assert_eq!(pairs("name: n\ntopics: t\n").len(), 2);
        assert_eq!(pairs(""), []);
        for (text, line, part) in [
            ("kind: KafkaTopic\n", 1, "KafkaTopic"),
            ("a: &x 1\nb: *x\n", 2, "alias"),
            ("a:\n  b: 1\n", 1, "`a`"),
            ("- a\n", 1, "map"),
            ("a: 'x\n", 1, "quoted"),
            (
                "kind: KafkaConnector\n---\nkind: KafkaConnector\n",
                3,
                "second",
            ),
        ] {
            let fault = flat(text).unwrap_err();
            assert!(fault.message.contains(part), "{text}: {fault:?}");
            assert_eq!(fault.line, line, "{text}: {fault:?}");
        }
    }
}
