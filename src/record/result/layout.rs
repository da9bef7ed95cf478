//! How a result document is laid out: a key a line, and an element of an array a line, however much it holds. A record can
//! then be found by its line, and what has changed shows line by line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// `value` as JSON in this layout, with a line end.
///
/// # Errors
/// When it has no form in JSON.
pub(crate) fn to_string(value: &impl Serialize) -> serde_json::Result<String> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, Layout::default()))?;
    json.push(b'\n');
    String::from_utf8(json).map_err(serde::ser::Error::custom)
}

/// Pretty outside of arrays, compact within their elements.
#[derive(Default)]
struct Layout {
    pretty: PrettyFormatter<'static>,
    /// Elements that are being written, one within the other.
    elements: usize,
}

/// Hands each call to the formatter that is in charge.
macro_rules! formatted {
    ($($method:ident($($argument:ident: $kind:ty)?)),* $(,)?) => {$(
        fn $method<W: ?Sized + Write>(&mut self, writer: &mut W $(, $argument: $kind)?) -> io::Result<()> {
            match self.elements {
                0 => self.pretty.$method(writer $(, $argument)?),
                _ => CompactFormatter.$method(writer $(, $argument)?),
            }
        }
    )*};
}

impl Formatter for Layout {
    formatted!(
        begin_array(),
        end_array(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        begin_object_value(),
        end_object_value(),
    );

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.elements += 1;
        match self.elements {
            1 => self.pretty.begin_array_value(writer, first),
            _ => CompactFormatter.begin_array_value(writer, first),
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.elements -= 1;
        match self.elements {
            0 => self.pretty.end_array_value(writer),
            _ => CompactFormatter.end_array_value(writer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_element_of_an_array_is_one_line_and_so_is_a_key_outside_of_arrays() {
        let value = json!({
            "none": [],
            "records": [{"load": {"causes": ["a", "b"], "failed": {}}, "round": 0}, {"round": 1}],
            "rounds": {"empty": {}, "void": [1, 2]},
        });
        let expected = r#"{
  "none": [],
  "records": [
    {"load":{"causes":["a","b"],"failed":{}},"round":0},
    {"round":1}
  ],
  "rounds": {
    "empty": {},
    "void": [
      1,
      2
    ]
  }
}
"#;
        assert_eq!(to_string(&value).unwrap(), expected);
        assert_eq!(serde_json::from_str::<Value>(expected).unwrap(), value);
    }
}
