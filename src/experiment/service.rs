//! The order service as others know it: the names of its spans and metrics.

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
