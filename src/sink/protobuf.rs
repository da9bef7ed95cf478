//! Protocol Buffers as they lie on the wire: fields read in place, and the few small messages that answers are made of.
//!
//! Generated types would allocate every name and attribute of every span, of which the sink reads a handful. What is here
//! borrows from the payload and copies nothing (<https://protobuf.dev/programming-guides/encoding/>).

use thiserror::Error;

/// Groups may be nested this deep, as in the common parsers; nothing in OTLP has any.
const DEEPEST_GROUP: u32 = 100;

/// A payload that is not the message it should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// It ends within a field.
    #[error("the payload ends in the middle of a field")]
    Truncated,
    /// A number runs over ten bytes or 64 bits.
    #[error("a number has more than 64 bits")]
    Overlong,
    /// A field is numbered 0 or beyond 2^29 − 1, has an unknown wire type, or ends a group that was not begun.
    #[error("a field has no valid number and type")]
    Tag,
    /// A known field holds another type than the specification says.
    #[error("a field is not of its type")]
    Type,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
}

/// What a field holds, before its message gives it a meaning.
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

/// The fields of one message, in the order they lie in. A fault ends them.
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

    /// The value of a field, or `None` for a group, which is skipped whole.
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

    /// Skips to the end of the group that `field` began.
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

/// A message being written. Zeros and empty texts are what a reader takes for a field that is not there.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
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
    fn what_is_written_is_read_and_groups_are_skipped() {
        let mut message = Message::default().number(1, 300).bytes(2, b"text").number(3, u64::MAX).into_bytes();
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
    fn what_is_no_message_is_refused() {
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
