//! An order, what makes it a good one, and what its sender gets back.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Orders given an id so far, by this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a customer asks for.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Order {
    /// Who orders.
    pub user: String,
    /// What is ordered.
    pub items: Vec<String>,
    /// How many of each.
    pub quantity: u32,
    /// The price of the whole, in the shop's currency.
    pub amount: f64,
    /// The number of the card that pays, where the customer gave it.
    pub card: Option<String>,
    /// The customer's e-mail address, where it was given.
    pub email: Option<String>,
}

/// What the customer gets back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    order_id: String,
}

/// Why an order was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Rejection {
    /// The body is not an order.
    #[error("not an order: {0}")]
    Malformed(String),
    /// It is, but not one that can be processed.
    #[error("{0}")]
    Unacceptable(&'static str),
    /// The task that charged it is gone.
    #[error("the payment was interrupted")]
    PaymentLost,
    /// The payment service said no, for this reason.
    #[error("{0}")]
    Declined(String),
    /// The payment service cannot be asked.
    #[error("the payment service does not answer: {0}")]
    PaymentUnavailable(String),
    /// The payment service gave an answer that is neither yes nor no.
    #[error("the payment service answered {0}")]
    PaymentUnclear(StatusCode),
}

impl Order {
    /// Reads an order from the body of a request.
    ///
    /// # Errors
    /// When the body is not an order, or lacks what an order needs.
    pub fn parse(body: &[u8]) -> Result<Self, Rejection> {
        let order: Self = serde_json::from_slice(body).map_err(|error| Rejection::Malformed(error.to_string()))?;
        if order.user.is_empty() {
            return Err(Rejection::Unacceptable("user must not be empty"));
        }
        if order.items.is_empty() {
            return Err(Rejection::Unacceptable("items must name at least one item"));
        }
        if order.quantity == 0 {
            return Err(Rejection::Unacceptable("quantity must be 1 or more"));
        }
        Ok(order)
    }

    /// Gives the order its id.
    pub fn receipt(&self) -> Receipt {
        Receipt { order_id: format!("order-{}", NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Charges its amount.
    ///
    /// # Errors
    /// When there is nothing to charge.
    pub fn charge(&self) -> Result<(), Rejection> {
        charge(self.amount)
    }
}

/// Charges `amount`.
///
/// # Errors
/// When there is nothing to charge.
pub(super) fn charge(amount: f64) -> Result<(), Rejection> {
    if amount > 0.0 && amount.is_finite() {
        Ok(())
    } else {
        Err(Rejection::Unacceptable("amount must be greater than zero"))
    }
}

impl Rejection {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Unacceptable(_) | Self::Declined(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PaymentLost => StatusCode::INTERNAL_SERVER_ERROR,
            Self::PaymentUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::PaymentUnclear(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.to_string() })
    }
}
