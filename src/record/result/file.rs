//! Result documents on disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{Document, layout};
use crate::record::records::{Records, RecordsError, SCHEMA};

/// Why a stored result cannot be read or written.
#[derive(Debug, Error)]
pub enum ResultError {
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not a result.
    #[error("{path} is not a result of otelbench: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why it cannot be parsed.
        reason: String,
    },
    /// It is some other JSON.
    #[error("{path} is not a result of otelbench: it has no key `schema`")]
    NoSchema {
        /// The file.
        path: PathBuf,
    },
    /// Its schema is another.
    #[error("{path} has the schema `{schema}`; this program reads `{SCHEMA}`")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: String,
    },
    /// It was changed after it was written.
    #[error(
        "{path} contradicts itself, so it was changed after it was written, or is of a version that computed otherwise: {reason}"
    )]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// The two values that contradict each other.
        reason: String,
    },
    /// It is a records file, and broken.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// A result as its file has it; nothing in it is checked yet.
#[derive(Debug)]
pub enum StoredResult {
    /// The records of a run that was cut short: a `.jsonl` file.
    Records(Box<Records>),
    /// A result document.
    Document {
        /// Its content.
        document: Box<Document>,
        /// The same as JSON, in which an absent key is not a default value.
        json: Value,
    },
}

impl StoredResult {
    /// Reads a result document, or the records file of a run that was cut short.
    ///
    /// # Errors
    /// When the file cannot be read, is no result, or has another major version.
    pub fn read(path: &Path) -> Result<Self, ResultError> {
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            return Ok(Self::Records(Box::new(Records::read(path)?)));
        }
        let malformed =
            |error: serde_json::Error| ResultError::Malformed { path: path.into(), reason: error.to_string() };
        let bytes = fs::read(path).map_err(|source| ResultError::Io { path: path.into(), source })?;
        let json: Value = serde_json::from_slice(&bytes).map_err(malformed)?;
        match json.get("schema").and_then(Value::as_str) {
            Some(SCHEMA) => {}
            Some(schema) => return Err(ResultError::Foreign { path: path.into(), schema: schema.into() }),
            None => return Err(ResultError::NoSchema { path: path.into() }),
        }
        let document = Box::new(Document::deserialize(&json).map_err(malformed)?);
        Ok(Self::Document { document, json })
    }
}

impl Document {
    /// Writes it to `path`, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ResultError> {
        write_whole(path, &self.to_json()).map_err(|source| ResultError::Io { path: path.into(), source })
    }

    /// As JSON: one key per line, and one line for each record, lane, arm and delta.
    pub fn to_json(&self) -> String {
        layout::to_string(self).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}\n"))
    }
}

/// Writes `text` to `path`, whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("json.tmp");
    fs::write(&beside, text)?;
    fs::rename(&beside, path)
}
