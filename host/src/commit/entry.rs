//! One entry of the commit log: names, fields and kinds of docs/protocol.md §2, as they stand on disk.
//!
//! Frozen in 0.1 (docs/adr/0011). An entry with an unknown kind, field or format is refused by name, never skipped. Bytes
//! are compact JSON in the order of the fields below; the digest of an entry is the sha256 of its bytes as stored.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chain::{Records, Rows};
use crate::record::SplitId;
use crate::store::Upload;

/// Format number of every entry this version writes and reads.
pub const FORMAT: u32 = 2;
/// Written by builds before the first release; refused by this number.
pub(super) const BEFORE_RELEASE: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub format: u32,
    pub version: u64,
    /// `sha256:…` of the previous entry's bytes; empty for version 0.
    pub parent: String,
    pub kind: Kind,
    /// 128 random bits in hex: one per attempt, never per writer.
    pub attempt: String,
    pub writer: Writer,
    /// The proved version when the first file of this attempt was named.
    pub base: u64,
    /// Microseconds since 1970 UTC, by the writer's clock; for people.
    pub time: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Open>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<Span>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Rules>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<AddedFile>,
    /// Outputs that are no file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliver: Vec<Delivery>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gc: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<Swap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewind: Option<Rewind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader: Option<Reader>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// For `batch` and `void`: which plan, and D, the version of this log that its dedup saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire: Option<Expire>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived: Vec<Archived>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forget: Option<Forget>,
    /// User counters, exact: transform → counter → amount.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What an entry is. The reserved kind (`retry`) is refused by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Init,
    Open,
    Data,
    Gap,
    Swap,
    Rewind,
    Gc,
    Reader,
    Plan,
    Batch,
    Void,
    Horizon,
    Expire,
    Archived,
    Forget,
    Compact,
}

impl Kind {
    /// Whether such an entry settles records.
    pub fn settles(self) -> bool {
        matches!(self, Kind::Data | Kind::Gap | Kind::Batch)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writer {
    /// Host and process, for people.
    pub id: String,
    /// When the process started, microseconds since 1970 UTC.
    pub started: i64,
}

/// Version 0: whose log this is, and the rules in force from the start (generation 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Init {
    pub pipeline: String,
    pub zone: String,
    /// Version of Weir that wrote it.
    pub weir: String,
    pub transforms: Vec<Rule>,
    /// As in [`Swap`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
}

/// W1: the resolved start of a split, pinned before the first read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    pub split: SplitId,
    /// Names for people and for finding the split again when a topic was recreated: `topic`, `partition`.
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// What was asked for: `earliest`, `latest`, `timestamp:…`, `group:…`, `offset`, `zone`.
    pub start: String,
}

/// What one entry settles of one split. An entry has at most one span per split.
///
/// In a `rewind`, `to` lies below `from`, `epoch` is the epoch that begins, and the counts (`lost` too) are what is
/// taken back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    pub split: SplitId,
    pub epoch: u64,
    pub from: i64,
    pub to: i64,
    /// Offsets that were gone before they were read (`gap` only).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    pub records: Records,
    pub rows: Rows,
    /// Dead letters of this span, of whole records and of pieces. Equals the rows that the dead letter files have for
    /// this split.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dead_letters: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The rules that made the rows of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Version of the entry (`init` or `swap`) that put them in force.
    pub generation: u64,
    pub transforms: Vec<Rule>,
}

/// One transform's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub transform: String,
    pub plugin: String,
    pub version: String,
    /// `sha256:…` of the component.
    pub component: String,
    /// `sha256:…` of canonical config, files and tables.
    pub config: String,
}

/// Digits of a digest that people read.
const SHORT: usize = 12;

/// `rules=validate@0.1.0 (config 881b5850f1e2)`: enough for people to tell two rules apart.
impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = self.config.trim_start_matches("sha256:");
        let config = hex.get(..SHORT).unwrap_or(hex);
        let Rule {
            transform,
            plugin,
            version,
            ..
        } = self;
        write!(f, "{transform}={plugin}@{version} (config {config})")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Rows,
    DeadLetters,
    Keys,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedFile {
    /// A ULID, never used twice.
    pub id: String,
    /// Final path below the zone's root, fixed when the file is begun.
    pub path: String,
    pub role: Role,
    pub bytes: u64,
    pub rows: u64,
    /// `sha256:…` of its bytes.
    pub digest: String,
    pub ranges: Vec<FileRange>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partition_values: BTreeMap<String, String>,
    /// `sha256:…` of the Arrow schema as JSON.
    pub schema: String,
    /// Digest of the rows as a multiset, independent of their order and of how they are divided into files; hex.
    pub row_digest: String,
    /// Rows files of PROCESSED: the keys file that goes with it, by file id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// On stores that publish by completing an upload: the upload that holds the file until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// Which offsets of a split have rows in a file or delivery: `[from, to)` is the tightest cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRange {
    pub split: SplitId,
    pub from: i64,
    pub to: i64,
    pub rows: u64,
}

/// Rows or dead letters that another system took: a topic, an HTTP endpoint. They count like those in files (V7), but they
/// never leave: a rewind cannot take them back, it sends them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// A ULID, never used twice; the receiver may know it (an idempotency key, the name of a transaction).
    pub id: String,
    /// `rows` or `dead_letters`.
    pub role: Role,
    /// Kind of sink, as `sink.type` names it: `kafka`, `http`.
    pub sink: String,
    /// Where to, without secrets: a topic, a URL.
    pub target: String,
    pub rows: u64,
    pub ranges: Vec<FileRange>,
    /// What any process needs to finish the delivery once the entry is proved, as it would publish a file (P1). Absent:
    /// the receiver took it before the entry was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// §7: from the next version on, `rules` are in force for all splits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The generation it replaces (V12).
    pub replaces: u64,
    pub transforms: Vec<Rule>,
    /// Who and why, for people.
    pub actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Component or config digests that may not come back unless forced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Digest ([`rules_digest`](super::rules_digest)) of the rules that the config declared when this was written; absent:
    /// those of this entry. A start that finds another digest knows that the config was edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
}

/// §8: splits go back to earlier commit boundaries. The spans say which splits, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewind {
    /// Who and why, for people.
    pub actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The new positions of readers of this zone that had read above a target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<Reader>,
    /// PROCESSED: the generation of its own reader in the log that it reads. With this entry the log follows that
    /// generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<u64>,
}

/// §9: nothing goes back below this version any more, and what was only needed for that is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Horizon {
    pub version: u64,
}

/// V9: what `remove` names leaves the zone because of its age. Its files stay where they are for a time of grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expire {
    /// Who and why, for people.
    pub actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// They are deleted only once an `archived` entry names a copy of each, whoever goes on with this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub archive: bool,
}

/// A file that expired lies in an archive too: it was copied, read back and compared. It may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archived {
    pub id: String,
    /// Where it lies: a URL, without secrets.
    pub copy: String,
    /// `sha256:…` of the copy's bytes, which are those of the file.
    pub digest: String,
}

/// V11: this reader never comes back; nothing waits for it any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forget {
    pub reader: String,
    /// Its generation, as whoever decided this saw it.
    pub generation: u64,
    /// Who and why, for people.
    pub actor: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// §10, in the log of the zone that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    pub name: String,
    pub generation: u64,
    /// The proved version of this log that the position belongs to.
    pub version: u64,
    pub position: BTreeMap<SplitId, i64>,
}

/// §10 B1: what a batch will read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Which log is read: `<pipeline>/<zone>` below its root.
    pub log: String,
    /// Proved version of that log.
    pub version: u64,
    pub ranges: BTreeMap<SplitId, PlanRange>,
    pub rules: Rules,
    /// The batch's clock, microseconds since 1970 UTC: the same in every run of the plan.
    pub now: i64,
    /// Columns of the dedup key; empty = none.
    pub dedup_key: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRange {
    pub epoch: u64,
    pub from: i64,
    pub to: i64,
}

/// `batch` and `void`: the plan's version, and D, the own version that dedup saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub plan: u64,
    pub dedup_version: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
