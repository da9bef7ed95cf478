//! Names of modes, as a scenario file or a flag has them.

use std::convert::Infallible;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// The name of a mode, which may be one that the scenario defines.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeName {
    name: String,
    at: Range<usize>,
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

    /// Where it stands in the file, in bytes; empty for one from a flag.
    pub fn position(&self) -> Range<usize> {
        self.at.clone()
    }
}

impl FromStr for ModeName {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self { name: name.trim().to_owned(), at: 0..0 })
    }
}

/// Reads one mode or several: `"full"`, `"metrics,full"` or `["metrics", "full"]`.
///
/// # Errors
/// When it is neither a text nor a list of them.
pub fn mode_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<ModeName>>, D::Error> {
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
