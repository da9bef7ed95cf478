//! Modes that a scenario defines: a known mode and the parts that differ.

use std::collections::BTreeSet;

use thiserror::Error;
use toml::{Table, Value};

use super::Mode;
use super::catalogue::{UnknownMode, find};

/// Keys that name the kind of a part; where the kind differs, the whole part is replaced.
const TAGS: [&str; 2] = ["recorder", "rule"];

/// Why a table does not define a mode.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DefinitionError {
    /// The name is taken.
    #[error("`{0}` is the name of a mode that is built in; give yours another")]
    Taken(String),
    /// The mode to start from is missing.
    #[error("mode `{0}` does not say what it is like; begin with a known mode, such as like = \"full\"")]
    LikeNothing(String),
    /// The mode to start from does not exist.
    #[error("mode `{0}`: {1}")]
    LikeUnknown(String, UnknownMode),
    /// A key or a value is unknown.
    #[error("mode `{0}`: {1}")]
    NotAPart(String, String),
    /// Parts do not go together.
    #[error("mode `{0}`: {1}")]
    Contradiction(String, &'static str),
}

/// The mode that `table` defines: the one named by `like`, with the other keys replaced.
///
/// # Errors
/// When it is like no built-in mode, or says what no part is called.
pub fn define(name: &str, table: &Table) -> Result<Mode, DefinitionError> {
    if find(name, &[]).is_ok() {
        return Err(DefinitionError::Taken(name.into()));
    }
    let like = table.get("like").and_then(Value::as_str).ok_or_else(|| DefinitionError::LikeNothing(name.into()))?;
    let base = find(like, &[]).map_err(|unknown| DefinitionError::LikeUnknown(name.into(), unknown))?;
    let not_a_part = |error: &dyn std::fmt::Display| DefinitionError::NotAPart(name.into(), error.to_string());
    let mut parts = Table::try_from(&base).map_err(|error| not_a_part(&error))?;
    let mut changes = table.clone();
    changes.remove("like");
    changes.insert("name".into(), name.into());
    changes.entry("summary").or_insert_with(|| differences(like, table).into());
    replace(&mut parts, changes);
    let mode: Mode = parts.try_into().map_err(|error: toml::de::Error| not_a_part(&error.to_string().trim_end()))?;
    match mode.contradiction() {
        None => Ok(mode),
        Some(contradiction) => Err(DefinitionError::Contradiction(name.into(), contradiction)),
    }
}

/// Replaces `parts` by `changes`, key by key.
fn replace(parts: &mut Table, changes: Table) {
    for (key, change) in changes {
        match (parts.get_mut(&key), change) {
            (Some(Value::Table(part)), Value::Table(change)) if same_kind(part, &change) => replace(part, change),
            (_, change) => drop(parts.insert(key, change)),
        }
    }
}

fn same_kind(part: &Table, change: &Table) -> bool {
    TAGS.iter().all(|tag| change.get(*tag).is_none_or(|kind| part.get(*tag) == Some(kind)))
}

fn differences(like: &str, table: &Table) -> String {
    let keys: BTreeSet<&str> = table.keys().map(String::as_str).filter(|key| *key != "like").collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    format!("as {like}, with other {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::mode::{Handlers, Metrics, SpanAttributes, Traces};
    use std::time::Duration;

    fn defined(text: &str) -> Result<Mode, DefinitionError> {
        define("mine", &toml::from_str(text).unwrap())
    }

    #[test]
    fn a_defined_mode_differs_from_its_model_only_in_the_given_keys() {
        let mode =
            defined("like = \"full\"\nhandlers = \"cached\"\ntraces.queue = 2048\ntraces.attributes.threads = false")
                .unwrap();
        let traces = Traces {
            queue: 2_048,
            attributes: SpanAttributes { threads: false, ..SpanAttributes::default() },
            ..Traces::default()
        };
        let full = find("full", &[]).unwrap();
        let summary = "as full, with other handlers, traces".into();
        let handlers = Handlers::Cached;
        assert_eq!(mode, Mode { name: "mine".into(), summary, handlers, traces: Some(traces), ..full });
    }

    #[test]
    fn another_kind_of_recorder_replaces_the_whole_part() {
        let mode = defined("like = \"full\"\nmetrics = { recorder = \"prometheus\", interval = \"1s\" }").unwrap();
        assert_eq!(mode.metrics, Metrics::Prometheus { interval: Duration::from_secs(1) });
    }

    #[test]
    fn unknown_parts_are_rejected_by_their_written_names() {
        for (text, says) in [
            ("handlers = \"macros\"", "does not say what it is like"),
            ("like = \"ful\"", "did you mean `full`?"),
            ("like = \"full\"\ntraces.quee = 7", "unknown field `quee`"),
            ("like = \"full\"\ntraces.queue = \"many\"", "queue"),
            ("like = \"full\"\nmetrics.recorder = \"abacus\"", "unknown variant `abacus`"),
            ("like = \"tuned\"\nhandlers = \"macros\"", "slim"),
        ] {
            let error = defined(text).unwrap_err().to_string();
            assert!(error.starts_with("mode `mine`") && error.contains(says), "{text:?} gave {error}");
        }
        assert!(matches!(define("full", &Table::new()), Err(DefinitionError::Taken(_))));
    }
}
