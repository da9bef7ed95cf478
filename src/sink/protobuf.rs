//! Reads Protocol Buffers in place, and writes the small messages of OTLP responses.
//!
//! Generated types would allocate every name and attribute of every span, although the sink reads only a few of them. This
//! reader borrows from the payload and copies nothing (<https://protobuf.dev/programming-guides/encoding/>).

use thiserror::Error;

/// Maximum nesting of groups, as in the common parsers; OTLP has no groups.
const DEEPEST_GROUP: u32 = 100;

/// A payload that is not a valid message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// The payload ends within a field.
    #[error("the payload ends in the middle of a field")]
    Truncated,
    /// A varint is longer than ten bytes or 64 bits.
    #[error("a number has more than 64 bits")]
    Overlong,
    /// A field number is 0 or above 2^29 − 1, a wire type is unknown, or a group ends that was not started.
    #[error("a field has an invalid number or wire type")]
    Tag,
    /// A known field has another wire type than the specification says.
    #[error("a field has the wrong wire type")]
    Type,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Text,
}

/// The value of a field, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed::Type),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    pub(super) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(value) => Ok(value),
            _ => Err(Malformed::Type),
        }
    }

    pub(super) fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(value) => Ok(value),
            _ => Err(Malformed::Type),
        }
    }
}

/// Iterates over the fields of one message, in order, up to the first error.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && bits > 1 {
                return Err(Malformed::Overlong);
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { Malformed::Truncated } else { Malformed::Overlong })
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn tag(&mut self) -> Result<(u32, u8), Malformed> {
        let tag = u32::try_from(self.varint()?).map_err(|_| Malformed::Tag)?;
        if tag >> 3 == 0 { Err(Malformed::Tag) } else { Ok((tag >> 3, (tag & 7) as u8)) }
    }

    /// Reads the value of a field; `None` for a group, which is skipped.
    fn value(&mut self, field: u32, wire_type: u8) -> Result<Option<Value<'a>>, Malformed> {
        Ok(Some(match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| Malformed::Truncated)?),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed32
            }
            3 => {
                self.skip_group(field)?;
                return Ok(None);
            }
            _ => return Err(Malformed::Tag),
        }))
    }

    /// Skips to the end of the group that `field` started.
    fn skip_group(&mut self, field: u32) -> Result<(), Malformed> {
        let mut open = vec![field];
        while let Some(innermost) = open.last() {
            match self.tag()? {
                (inner, 3) if open.len() < DEEPEST_GROUP as usize => open.push(inner),
                (ended, 4) if ended == *innermost => drop(open.pop()),
                (_, 3 | 4) => return Err(Malformed::Tag),
                (other, wire_type) => drop(self.value(other, wire_type)?),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        while !self.0.is_empty() {
            let (field, wire_type) = self.tag()?;
            if let Some(value) = self.value(field, wire_type)? {
                return Ok(Some((field, value)));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.0 = &[];
        }
        read.transpose()
    }
}

/// The submessages in `field`.
pub(super) fn messages(message: &[u8], field: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields::of(message).filter_map(move |read| match read {
        Ok((number, value)) if number == field => Some(value.bytes()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Builds a message. Readers treat a missing field as zero or empty.
#[derive(Debug, Default)]
pub(super) struct MessageWriter(Vec<u8>);

impl MessageWriter {
    pub(super) fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field << 3));
        self.varint(value);
        self
    }

    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.varint(u64::from(field << 3 | 2));
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, Malformed> {
        Fields::of(bytes).collect()
    }

    #[test]
    fn written_fields_are_read_back_and_groups_are_skipped() {
        let mut message = MessageWriter::default().number(1, 300).bytes(2, b"text").number(3, u64::MAX).into_bytes();
        // Field 4 as a group that holds another group and a number; then eight bytes and four.
        message
            .extend_from_slice(&[0x23, 0x2b, 0x08, 0x01, 0x2c, 0x24, 0x31, 1, 0, 0, 0, 0, 0, 0, 0, 0x3d, 1, 0, 0, 0]);
        let read = [
            (1, Value::Varint(300)),
            (2, Value::Bytes(b"text")),
            (3, Value::Varint(u64::MAX)),
            (6, Value::Fixed64(1)),
            (7, Value::Fixed32),
        ];
        assert_eq!(all(&message).unwrap(), read);
    }

    #[test]
    fn malformed_messages_are_refused() {
        for (bytes, error) in [
            (&[0x08][..], Malformed::Truncated),
            (&[0x08, 0x80], Malformed::Truncated),
            (&[0x0a, 0x05, 1, 2], Malformed::Truncated),
            // A declared length of 2^63 must not be added to an address.
            (&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Malformed::Truncated),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], Malformed::Overlong),
            (&[0x09, 1, 2, 3], Malformed::Truncated),
            (&[0x00, 0x01], Malformed::Tag),
            (&[0x0c], Malformed::Tag),
            (&[0x0e, 0x00], Malformed::Tag),
            (&[0x0b, 0x14], Malformed::Tag),
            (&[0x0b; 200], Malformed::Tag),
        ] {
            assert_eq!(all(bytes), Err(error), "{bytes:x?}");
        }
    }
}
