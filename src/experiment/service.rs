//! The order service as others know it: its settings, and the names of its spans and metrics.

use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings of the order service, the same from the scenario that is stored to the lane that runs it.
///
/// A field that is added here reaches scenario, lane protocol and service at once. Give it a default and leave it out of what
/// is written where it has that: documents and lanes of earlier builds do not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceSettings {
    /// Where the payment is made.
    #[serde(default)]
    pub payment: Payment,
    /// Simulated payment duration.
    #[serde(with = "humantime_serde")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub payment_delay: Duration,
    /// Worker threads of the service's runtime, and of the payment service's where there is one.
    #[serde(rename = "service_threads")]
    pub threads: usize,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        // Half the cores: the generator, the exporters and the sink need the rest.
        let threads = thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1));
        Self { payment: Payment::default(), payment_delay: Duration::ZERO, threads }
    }
}

/// Where the payment of an order is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Payment {
    /// In the order service, in a task of its own.
    #[default]
    Inside,
    /// By a service of its own, over HTTP/1.1 and loopback: with threads of its own in the same process, whose CPU time is
    /// charged to the requests as well, and in modes with spans a resource and exporters of its own. One trace then spans two
    /// services.
    Http,
}

/// Each span of an order and the one it stands under; the first stands under the caller's.
pub const SPANS: &[(&str, Option<&str>)] = &[
    ("process_order", None),
    ("reserve_inventory", Some("process_order")),
    ("charge_payment", Some("reserve_inventory")),
];

/// The same where the payment is a service of its own, which makes the last span.
pub const SPANS_OF_TWO_SERVICES: &[(&str, Option<&str>)] = &[
    ("process_order", None),
    ("reserve_inventory", Some("process_order")),
    ("charge_payment", Some("reserve_inventory")),
    ("accept_payment", Some("charge_payment")),
];

/// The counter that says how many orders were processed, good or bad.
pub const ORDERS_TOTAL: &str = "orders.total";

/// The histogram of what each of them took, in milliseconds.
pub const ORDER_LATENCY: &str = "order.latency_ms";
