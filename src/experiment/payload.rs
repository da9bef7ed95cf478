//! The content of a scenario's requests: plain data, validated where it is read.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use crate::experiment::units::stored_as_text;

/// Largest weight of an entry.
const HEAVIEST: u32 = 1_000_000;
/// Most items of an order: a body of 90 kB.
const MOST_ITEMS: u32 = 10_000;
/// Most entries of a mix.
const MOST_ENTRIES: usize = 1_000;
/// Steepest Zipf distribution: nine hundred and ninety-nine requests of a thousand are the first user's.
const STEEPEST: f64 = 10.0;

/// The content of the requests. By default one kind of order, from 1000 users in turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Payload {
    /// Number of distinct users.
    pub users: NonZeroU32,
    /// How orders are assigned to users: `in-turn`, `uniform`, or `zipf:` and an exponent.
    #[cfg_attr(test, schemars(with = "String", regex(pattern = "^(in-turn|uniform|zipf:.+)$")))]
    pub user_ids: UserIds,
    /// Share of the orders that the service must refuse, with a 4xx status, after it has done all the work of an order.
    #[cfg_attr(test, schemars(with = "f64", range(min = 0.0, max = 1.0)))]
    pub error_share: Share,
    /// Whether orders carry a card number and an e-mail address, the user's own.
    #[serde(default)]
    pub personal: bool,
    /// The kinds of requests.
    pub mix: Mix,
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            users: const { NonZeroU32::new(1_000).unwrap() },
            user_ids: UserIds::default(),
            error_share: Share::default(),
            personal: false,
            mix: Mix::default(),
        }
    }
}

/// How orders are assigned to users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UserIds {
    /// `in-turn`. Users order one after the other, then again from the first.
    #[default]
    InTurn,
    /// `uniform`. Each user is drawn with the same probability.
    Uniform,
    /// `zipf:1.1`. The `k`-th user is drawn with a probability proportional to `k` to the power of minus the exponent.
    #[non_exhaustive]
    Zipf {
        /// Above 0 and up to 10; around 1 in most records of real traffic.
        exponent: f64,
    },
}

/// A text that is not a way to assign users.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no way to draw users; write in-turn, uniform or zipf:EXPONENT, with an exponent above 0 and up to 10, such as zipf:1.1"
)]
pub struct UserIdsError(String);

impl FromStr for UserIds {
    type Err = UserIdsError;

    fn from_str(text: &str) -> Result<Self, UserIdsError> {
        let sound = |exponent: &f64| *exponent > 0.0 && *exponent <= STEEPEST;
        match text.split_once(':') {
            None if text == "in-turn" => Some(Self::InTurn),
            None if text == "uniform" => Some(Self::Uniform),
            Some(("zipf", exponent)) => exponent.parse().ok().filter(sound).map(|exponent| Self::Zipf { exponent }),
            _ => None,
        }
        .ok_or_else(|| UserIdsError(text.into()))
    }
}

impl fmt::Display for UserIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InTurn => f.write_str("in-turn"),
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf { exponent } => write!(f, "zipf:{exponent}"),
        }
    }
}

stored_as_text!(UserIds);

/// A share from 0 to 1, held in millionths so that it is exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share {
    millionths: u32,
}

/// Why a number is not a [`Share`].
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("a share must be a number from 0 to 1, and 0.000001 or more where it is not 0, such as 0.01; got {0}")]
pub struct ShareError(f64);

impl Share {
    /// The whole.
    pub const WHOLE: u32 = 1_000_000;

    /// The share in millionths.
    pub fn millionths(self) -> u32 {
        self.millionths
    }
}

impl TryFrom<f64> for Share {
    type Error = ShareError;

    fn try_from(share: f64) -> Result<Self, ShareError> {
        // In range by the check: at most a million.
        let millionths = (share * f64::from(Self::WHOLE)).round() as u32;
        let sound = (0.0..=1.0).contains(&share) && (millionths > 0 || share == 0.0);
        sound.then_some(Self { millionths }).ok_or(ShareError(share))
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> f64 {
        f64::from(share.millionths) / f64::from(Share::WHOLE)
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        Self::try_from(text.parse::<f64>().map_err(|_| ShareError(f64::NAN))?)
    }
}

/// One kind of request and its weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "endpoint", rename_all = "kebab-case", try_from = "Written")]
#[cfg_attr(test, schemars(!try_from))]
pub enum Entry {
    /// `POST /order`.
    Order {
        /// Weight relative to the other entries, from 1 to 1000000.
        #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000)))]
        weight: u32,
        /// Items per order, 9 bytes of the body each, from 1 to 10000.
        #[cfg_attr(test, schemars(range(min = 1, max = 10_000)))]
        items: u32,
    },
    /// `GET /healthz`: neither spans nor metrics.
    Healthz {
        /// Weight relative to the other entries, from 1 to 1000000.
        #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000)))]
        weight: u32,
    },
}

/// An entry as written in a file. Each key validates itself, so that an error carries its line; a tagged enum would be read
/// as a whole first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    endpoint: Endpoint,
    #[serde(default = "one", deserialize_with = "weight")]
    weight: u32,
    #[serde(default, deserialize_with = "items")]
    items: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Endpoint {
    Order,
    Healthz,
}

impl TryFrom<Written> for Entry {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let Written { endpoint, weight, items } = written;
        match (endpoint, items) {
            (Endpoint::Order, items) => Ok(Self::Order { weight, items: items.unwrap_or(1) }),
            (Endpoint::Healthz, None) => Ok(Self::Healthz { weight }),
            (Endpoint::Healthz, Some(_)) => Err("items belong to endpoint = \"order\"; healthz has no body"),
        }
    }
}

impl Entry {
    /// Weight relative to the other entries.
    pub fn weight(self) -> u32 {
        match self {
            Self::Order { weight, .. } | Self::Healthz { weight } => weight,
        }
    }
}

fn one() -> u32 {
    1
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    bounded("weight", HEAVIEST, deserializer)
}

fn items<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    bounded("items", MOST_ITEMS, deserializer).map(Some)
}

fn bounded<'de, D: Deserializer<'de>>(key: &str, most: u32, deserializer: D) -> Result<u32, D::Error> {
    let value = i64::deserialize(deserializer)?;
    u32::try_from(value)
        .ok()
        .filter(|value| (1..=most).contains(value))
        .ok_or_else(|| serde::de::Error::custom(format!("{key} must be a whole number from 1 to {most}; got {value}")))
}

/// The kinds of requests, one or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Mix(Vec<Entry>);

impl Default for Mix {
    fn default() -> Self {
        Self(vec![Entry::Order { weight: 1, items: 1 }])
    }
}

impl Mix {
    /// The kinds, at least one.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Whether any of them is an order.
    pub fn has_orders(&self) -> bool {
        self.0.iter().any(|entry| matches!(entry, Entry::Order { .. }))
    }
}

impl TryFrom<Vec<Entry>> for Mix {
    type Error = &'static str;

    fn try_from(entries: Vec<Entry>) -> Result<Self, &'static str> {
        if (1..=MOST_ENTRIES).contains(&entries.len()) {
            Ok(Self(entries))
        } else {
            Err("a mix has from 1 to 1000 entries, such as { endpoint = \"order\", weight = 9, items = 3 }")
        }
    }
}

impl From<Mix> for Vec<Entry> {
    fn from(mix: Mix) -> Vec<Entry> {
        mix.0
    }
}
