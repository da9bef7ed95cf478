//! Tells sets of attributes apart, and with them metric series, however a sender encodes them.

use std::hash::BuildHasher;

use super::protobuf::{Fields, Value};

/// Values nested deeper are told apart by their bytes. The SDKs nest a few levels, a hostile client would nest thousands.
const DEEPEST: u32 = 16;

/// A set of attributes, not yet decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attributes<'a> {
    message: &'a [u8],
    field: u32,
}

impl<'a> Attributes<'a> {
    /// The attributes in this field of a message.
    pub(super) fn of(message: &'a [u8], field: u32) -> Self {
        Self { message, field }
    }

    /// A hash that is equal for equal sets: the order of the attributes, and of the fields within one, does not matter.
    pub(super) fn identity(self, hasher: &impl BuildHasher) -> u64 {
        set(hasher, self, 0)
    }
}

fn set(hasher: &impl BuildHasher, attributes: Attributes<'_>, depth: u32) -> u64 {
    let each = Fields::of(attributes.message).flatten().map(|read| match read {
        (field, Value::Bytes(attribute)) if field == attributes.field => key_value(hasher, attribute, depth),
        _ => 0,
    });
    // Added up, so that the order does not matter.
    each.fold(0, u64::wrapping_add)
}

fn key_value(hasher: &impl BuildHasher, message: &[u8], depth: u32) -> u64 {
    let (mut key, mut value) = (&[][..], &[][..]);
    for read in Fields::of(message).flatten() {
        match read {
            (1, Value::Bytes(bytes)) => key = bytes,
            (2, Value::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    hasher.hash_one((key, any_value(hasher, value, depth)))
}

fn any_value(hasher: &impl BuildHasher, message: &[u8], depth: u32) -> u64 {
    const ARRAY: u32 = 5;
    const MAP: u32 = 6;
    // Of a `oneof`, the last field that is set counts.
    match Fields::of(message).flatten().filter(|(field, _)| (1..=8).contains(field)).last() {
        None => 0,
        Some((ARRAY, Value::Bytes(array))) if depth < DEEPEST => {
            let values = Fields::of(array).flatten().filter_map(|read| match read {
                (1, Value::Bytes(value)) => Some(any_value(hasher, value, depth + 1)),
                _ => None,
            });
            values.fold(hasher.hash_one(ARRAY), |before, value| hasher.hash_one((before, value)))
        }
        Some((MAP, Value::Bytes(map))) if depth < DEEPEST => {
            hasher.hash_one((MAP, set(hasher, Attributes::of(map, 1), depth + 1)))
        }
        Some((field, Value::Bytes(bytes))) => hasher.hash_one((field, bytes)),
        Some((field, Value::Varint(number) | Value::Fixed64(number))) => hasher.hash_one((field, number)),
        Some((field, Value::Fixed32)) => hasher.hash_one(field),
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use prost::Message;

    use super::*;

    fn any(value: Any) -> AnyValue {
        AnyValue { value: Some(value) }
    }

    fn pair(key: &str, value: Any) -> KeyValue {
        KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
    }

    fn list(values: &[i64]) -> Any {
        Any::ArrayValue(ArrayValue { values: values.iter().map(|n| any(Any::IntValue(*n))).collect() })
    }

    fn map(values: Vec<KeyValue>) -> Any {
        Any::KvlistValue(KeyValueList { values })
    }

    #[test]
    fn sets_are_equal_in_any_order_and_differ_by_every_key_type_and_value() {
        let hasher = RandomState::new();
        let of = |attributes: Vec<KeyValue>| {
            let message = Resource { attributes, ..Resource::default() }.encode_to_vec();
            Attributes::of(&message, 1).identity(&hasher)
        };
        let (one, two) = (pair("a", Any::IntValue(1)), pair("b", Any::IntValue(2)));
        assert_eq!(of(vec![one.clone(), two.clone()]), of(vec![two.clone(), one.clone()]));
        let nested = |values| of(vec![pair("a", map(values))]);
        assert_eq!(nested(vec![one.clone(), two.clone()]), nested(vec![two.clone(), one.clone()]));
        let sets = [
            vec![],
            vec![one.clone()],
            vec![two.clone()],
            vec![one.clone(), two.clone()],
            vec![pair("a", Any::IntValue(2)), pair("b", Any::IntValue(1))],
            vec![KeyValue { key: "a".into(), ..KeyValue::default() }],
            vec![pair("a", Any::StringValue("1".into()))],
            vec![pair("a", Any::BytesValue(b"1".into()))],
            vec![pair("a", Any::BoolValue(true))],
            vec![pair("a", Any::DoubleValue(1.0))],
            vec![pair("a", list(&[1, 2]))],
            vec![pair("a", list(&[2, 1]))],
            vec![pair("a", list(&[1]))],
            vec![pair("a", map(vec![one.clone()]))],
            vec![pair("a", map(vec![two.clone()]))],
        ];
        let distinct: std::collections::HashSet<u64> = sets.iter().map(|set| of(set.clone())).collect();
        assert_eq!(distinct.len(), sets.len());
        // Written with the value before the key.
        let (key, value) = (&[0x0a, 1, b'a'], &[0x12, 2, 0x18, 1]);
        let swapped = [&[0x0a, 7][..], value, key].concat();
        assert_eq!(Attributes::of(&swapped, 1).identity(&hasher), of(vec![one]));
    }

    #[test]
    fn values_nested_ten_thousand_deep_are_told_apart_without_a_stack_for_each() {
        let hasher = RandomState::new();
        let nested = |innermost: i64| {
            let mut value = any(Any::IntValue(innermost)).encode_to_vec();
            for _ in 0..10_000 {
                // An `AnyValue` with an `ArrayValue` of this one value.
                for tag in [0x0a, 0x2a] {
                    let mut outer = vec![tag];
                    prost::encoding::encode_varint(value.len() as u64, &mut outer);
                    outer.append(&mut value);
                    value = outer;
                }
            }
            any_value(&hasher, &value, 0)
        };
        assert_ne!(nested(1), nested(2));
    }
}
