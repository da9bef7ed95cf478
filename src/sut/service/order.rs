//! Orders: parsing, validation and receipts.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Number of the next order id in this process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// An order, as the customer sends it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Order {
    /// Name of the customer.
    pub user: String,
    /// Names of the ordered items.
    pub items: Vec<String>,
    /// Number of pieces of each item.
    pub quantity: u32,
    /// Total price, in the shop's currency.
    pub amount: f64,
    /// Card number, if given.
    pub card: Option<String>,
    /// E-mail address, if given.
    pub email: Option<String>,
}

/// The response to an accepted order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    order_id: String,
}

/// Why an order was rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OrderError {
    /// The body is not an order.
    #[error("not an order: {0}")]
    Malformed(String),
    /// The order has an invalid value.
    #[error("{0}")]
    Unacceptable(&'static str),
    /// The payment task ended without a result.
    #[error("the payment was interrupted")]
    PaymentLost,
    /// The payment service declined the payment, for this reason.
    #[error("{0}")]
    Declined(String),
    /// The payment service cannot be reached.
    #[error("the payment service does not answer: {0}")]
    PaymentUnavailable(String),
    /// The payment service answered with an unexpected status.
    #[error("the payment service answered {0}")]
    PaymentUnclear(StatusCode),
}

impl Order {
    /// Parses and validates an order from the body of a request.
    ///
    /// # Errors
    /// If the body is not an order, or has an invalid value.
    pub fn parse(body: &[u8]) -> Result<Self, OrderError> {
        let order: Self = serde_json::from_slice(body).map_err(|error| OrderError::Malformed(error.to_string()))?;
        if order.user.is_empty() {
            return Err(OrderError::Unacceptable("user must not be empty"));
        }
        if order.items.is_empty() {
            return Err(OrderError::Unacceptable("items must name at least one item"));
        }
        if order.quantity == 0 {
            return Err(OrderError::Unacceptable("quantity must be 1 or more"));
        }
        Ok(order)
    }

    /// A receipt with a new order id.
    pub fn receipt(&self) -> Receipt {
        Receipt { order_id: format!("order-{}", NEXT.fetch_add(1, Ordering::Relaxed)) }
    }

    /// Charges the amount of the order.
    ///
    /// # Errors
    /// If the amount is not greater than zero.
    pub fn charge(&self) -> Result<(), OrderError> {
        charge(self.amount)
    }
}

/// Charges `amount`.
///
/// # Errors
/// If the amount is not greater than zero.
pub(super) fn charge(amount: f64) -> Result<(), OrderError> {
    if amount > 0.0 && amount.is_finite() {
        Ok(())
    } else {
        Err(OrderError::Unacceptable("amount must be greater than zero"))
    }
}

impl OrderError {
    /// The HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::Unacceptable(_) | Self::Declined(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PaymentLost => StatusCode::INTERNAL_SERVER_ERROR,
            Self::PaymentUnavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::PaymentUnclear(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The JSON body of the response.
    pub fn body(&self) -> serde_json::Value {
        serde_json::json!({ "error": self.to_string() })
    }
}
