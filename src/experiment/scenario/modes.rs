//! Names of modes, and modes of the scenario's own, as a file has them.

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::experiment::mode::{self, Mode};

/// The name of a mode, which may be one that the scenario defines.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeName {
    pub(super) name: String,
    /// Where it stands in the file, in bytes; empty for one from a flag.
    pub(super) at: Range<usize>,
}

impl<'de> Deserialize<'de> for ModeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { at: name.span(), name: name.into_inner().trim().to_owned() })
    }
}

impl ModeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl FromStr for ModeName {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self { name: name.trim().to_owned(), at: 0..0 })
    }
}

/// Reads one mode or several: `"full"`, `"metrics,full"` or `["metrics", "full"]`.
pub(super) fn mode_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ModeName>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a mode name or an array of mode names")]
    enum Written {
        Joined(String),
        Listed(Vec<String>),
    }
    let written = Spanned::<Written>::deserialize(deserializer)?;
    let at = written.span();
    let names: Vec<String> = match written.into_inner() {
        Written::Joined(text) => text.split(',').map(str::to_owned).collect(),
        Written::Listed(names) => names,
    };
    Ok(Some(names.iter().map(|name| ModeName { name: name.trim().to_owned(), at: at.clone() }).collect()))
}

/// Modes that the scenario makes itself, each under its name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OwnModes(pub(super) Vec<Mode>);

impl<'de> Deserialize<'de> for OwnModes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModesByName)
    }
}

/// Reads the table of modes, each knowing its name, so that an error in one is found at its line.
struct ModesByName;

impl<'de> Visitor<'de> for ModesByName {
    type Value = OwnModes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table for each mode, such as [modes.mine] with like = \"full\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut tables: A) -> Result<OwnModes, A::Error> {
        let mut modes = Vec::new();
        while let Some(name) = tables.next_key::<String>()? {
            modes.push(tables.next_value_seed(CalledBy(name))?);
        }
        Ok(OwnModes(modes))
    }
}

/// Reads the mode of this name.
struct CalledBy(String);

impl<'de> DeserializeSeed<'de> for CalledBy {
    type Value = Mode;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Mode, D::Error> {
        let table = toml::Table::deserialize(deserializer)?;
        mode::define(&self.0, &table).map_err(serde::de::Error::custom)
    }
}
