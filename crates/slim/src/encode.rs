//! Protobuf as OTLP has it: the few kinds of fields that a span takes.
//!
//! Field numbers are those of `opentelemetry/proto/trace/v1/trace.proto` and `common/v1/common.proto`. Messages within
//! messages are written where they stand, with their length in front, so their length must be known: small ones are
//! written aside first.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

/// Wire types of the protobuf encoding.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;

/// Writes a base-128 varint.
pub(crate) fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // The low seven bits, and the mark that more follow.
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// How many bytes [`varint`] takes.
pub(crate) fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and one byte at least.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn key(into: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(into, u64::from(field << 3 | wire_type));
}

pub(crate) fn bytes(into: &mut Vec<u8>, field: u32, value: &[u8]) {
    key(into, field, LENGTH);
    varint(into, value.len() as u64);
    into.extend_from_slice(value);
}

pub(crate) fn number(into: &mut Vec<u8>, field: u32, value: u64) {
    key(into, field, VARINT);
    varint(into, value);
}

pub(crate) fn fixed64(into: &mut Vec<u8>, field: u32, value: u64) {
    key(into, field, FIXED64);
    into.extend_from_slice(&value.to_le_bytes());
}

/// The value of an attribute: `AnyValue`'s kinds that tracing knows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnyValue<'a> {
    /// Field 1.
    Text(&'a str),
    /// Field 2.
    Bool(bool),
    /// Field 3, two's complement.
    Int(i64),
    /// Field 4.
    Double(f64),
}

impl AnyValue<'_> {
    fn len(self) -> usize {
        1 + match self {
            Self::Text(text) => varint_len(text.len() as u64) + text.len(),
            Self::Bool(_) => 1,
            Self::Int(int) => varint_len(int.cast_unsigned()),
            Self::Double(_) => 8,
        }
    }

    fn write(self, into: &mut Vec<u8>) {
        match self {
            Self::Text(text) => bytes(into, 1, text.as_bytes()),
            Self::Bool(truth) => number(into, 2, u64::from(truth)),
            Self::Int(int) => number(into, 3, int.cast_unsigned()),
            Self::Double(double) => fixed64(into, 4, double.to_bits()),
        }
    }
}

/// Writes a `KeyValue` as `field`.
pub(crate) fn attribute(into: &mut Vec<u8>, field: u32, name: &str, value: AnyValue<'_>) {
    let inner = value.len();
    let whole = 1 + varint_len(name.len() as u64) + name.len() + 1 + varint_len(inner as u64) + inner;
    key(into, field, LENGTH);
    varint(into, whole as u64);
    bytes(into, 1, name.as_bytes());
    key(into, 2, LENGTH);
    varint(into, inner as u64);
    value.write(into);
}

/// Writes the fields that it visits as attributes, and keeps the message of an event apart.
pub(crate) struct Attributes<'a> {
    /// Where to.
    pub into: &'a mut Vec<u8>,
    /// As which field.
    pub field: u32,
    /// The field called `message`, which is an event's name; `None` where it is an attribute like any other.
    pub message: Option<&'a mut String>,
}

impl Attributes<'_> {
    fn put(&mut self, field: &Field, value: AnyValue<'_>) {
        attribute(self.into, self.field, field.name(), value);
    }
}

impl Visit for Attributes<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match &mut self.message {
            Some(message) if field.name() == "message" => message.push_str(value),
            _ => self.put(field, AnyValue::Text(value)),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, AnyValue::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, AnyValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match i64::try_from(value) {
            Ok(int) => self.put(field, AnyValue::Int(int)),
            // OTLP knows no larger integers.
            Err(_) => self.record_debug(field, &value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, AnyValue::Double(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // Writing to a string fails only where the value refuses to be shown; what it said until then is kept.
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}
