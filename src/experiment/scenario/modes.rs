//! Modes of the scenario's own, as a file has them.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::experiment::mode::{self, Mode};

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
