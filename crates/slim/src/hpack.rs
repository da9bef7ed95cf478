//! Header compression of HTTP/2 (RFC 7541), as far as a client needs it that makes one kind of request.
//!
//! Requests are compressed by the static table alone. Responses come as the peer likes: it is told that there is no dynamic
//! table, which leaves the entries of the static one, of which the status alone is of interest, and texts in Huffman's code.

use std::fmt;

/// Index of the static table's entry that has this name.
const AUTHORITY: u8 = 1;
const METHOD_POST: u8 = 3;
const PATH: u8 = 4;
const SCHEME_HTTP: u8 = 6;
const SCHEME_HTTPS: u8 = 7;
const CONTENT_TYPE: u8 = 31;
const USER_AGENT: u8 = 58;
/// Number of entries of the static table.
const STATIC: usize = 61;
/// The entries of `:status`, from the first on.
const STATUS: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
const FIRST_STATUS: usize = 8;

/// Kinds of headers: the pattern of the first byte, and how many of its bits begin the number.
const INDEXED: (u8, u8) = (0x80, 7);
const NEVER_INDEXED: (u8, u8) = (0x10, 4);

/// The headers of a gRPC call to `path`, with others of the caller's.
pub(crate) fn request(tls: bool, authority: &str, path: &str, others: &[(String, String)]) -> Vec<u8> {
    let mut block = Vec::new();
    integer(&mut block, INDEXED, METHOD_POST.into());
    integer(&mut block, INDEXED, if tls { SCHEME_HTTPS } else { SCHEME_HTTP }.into());
    for (name, value) in [
        (AUTHORITY, authority),
        (PATH, path),
        (CONTENT_TYPE, "application/grpc"),
        (USER_AGENT, concat!("otelbench-slim/", env!("CARGO_PKG_VERSION"))),
    ] {
        integer(&mut block, NEVER_INDEXED, name.into());
        text(&mut block, value);
    }
    let te = [("te".to_owned(), "trailers".to_owned())];
    for (name, value) in te.iter().chain(others) {
        integer(&mut block, NEVER_INDEXED, 0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn integer(block: &mut Vec<u8>, (pattern, bits): (u8, u8), value: usize) {
    let largest = (1 << bits) - 1;
    if value < largest {
        block.push(pattern | value as u8);
        return;
    }
    block.push(pattern | largest as u8);
    let mut rest = value - largest;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

/// A text as it is.
fn text(block: &mut Vec<u8>, text: &str) {
    integer(block, (0, 7), text.len());
    block.extend_from_slice(text.as_bytes());
}

/// A header block that is malformed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its headers are malformed")
    }
}

/// Gives each header of `block` to `heard`. Names of the static table other than `:status` are given as empty.
pub(crate) fn read(mut block: &[u8], mut heard: impl FnMut(&str, &[u8])) -> Result<(), Malformed> {
    while let Some(first) = block.first().copied() {
        let block = &mut block;
        match first {
            // An entry of a table, name and value.
            0x80.. => {
                let index = number(block, 7)?;
                match index.checked_sub(FIRST_STATUS).and_then(|nth| STATUS.get(nth)) {
                    Some(status) => heard(":status", status.as_bytes()),
                    None if (1..=STATIC).contains(&index) => {}
                    None => return Err(Malformed),
                }
            }
            // A new size of the dynamic table, which can only be none.
            0x20..0x40 => {
                if number(block, 5)? != 0 {
                    return Err(Malformed);
                }
            }
            // A value, after a name or the index of one, to be kept in the dynamic table, which has no room, or not.
            _ => {
                let index = number(block, if first >= 0x40 { 6 } else { 4 })?;
                let name = match index {
                    0 => String::from_utf8(string(block)?).map_err(|_| Malformed)?,
                    index if (FIRST_STATUS..FIRST_STATUS + STATUS.len()).contains(&index) => ":status".into(),
                    1..=STATIC => String::new(),
                    _ => return Err(Malformed),
                };
                heard(&name, &string(block)?);
            }
        }
    }
    Ok(())
}

/// Takes an integer, of whose first byte these bits are.
fn number(block: &mut &[u8], bits: u8) -> Result<usize, Malformed> {
    let largest = (1 << bits) - 1;
    let mut number = usize::from(byte(block)?) & largest;
    if number < largest {
        return Ok(number);
    }
    // Nothing that is read here is longer than four bytes can say.
    for shift in [0, 7, 14, 21] {
        let next = byte(block)?;
        number += usize::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn byte(block: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = block.split_first().ok_or(Malformed)?;
    *block = rest;
    Ok(*first)
}

/// Takes a text.
fn string(block: &mut &[u8]) -> Result<Vec<u8>, Malformed> {
    let coded = *block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if coded { huffman(text) } else { Ok(text.to_vec()) }
}

/// Lengths in bits of the codes of all bytes (RFC 7541, appendix B). The code is canonical: the codes of a length are
/// consecutive numbers in the order of their bytes, so the lengths say all.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
/// Length of the longest code.
const LONGEST: u8 = 30;
const CODE: Code = Code::new();

/// How many codes of each length there are, and the bytes that they stand for, in the order of the codes.
struct Code {
    counts: [u32; LONGEST as usize + 1],
    bytes: [u8; 256],
}

impl Code {
    const fn new() -> Self {
        let mut code = Self { counts: [0; LONGEST as usize + 1], bytes: [0; 256] };
        let (mut length, mut at) = (1, 0);
        while length <= LONGEST {
            let mut byte = 0;
            while byte < LENGTHS.len() {
                if LENGTHS[byte] == length {
                    code.counts[length as usize] += 1;
                    code.bytes[at] = byte as u8;
                    at += 1;
                }
                byte += 1;
            }
            length += 1;
        }
        code
    }
}

/// The text that is coded so.
fn huffman(coded: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut text = Vec::with_capacity(coded.len() * 2);
    // The bits so far and their number, the first code of that length, and the place of its byte.
    let (mut code, mut length, mut first, mut place) = (0_u32, 0, 0_u32, 0_usize);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        first <<= 1;
        let count = *CODE.counts.get(length).ok_or(Malformed)?;
        if code - first < count {
            text.push(CODE.bytes[place + (code - first) as usize]);
            (code, length, first, place) = (0, 0, 0, 0);
        } else {
            first += count;
            place += count as usize;
        }
    }
    // What is left over is padding: fewer than eight bits, all ones.
    if length < 8 && code == (1 << length) - 1 { Ok(text) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(block: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
        let mut headers = Vec::new();
        read(block, |name, value| headers.push((name.into(), String::from_utf8_lossy(value).into_owned())))?;
        Ok(headers)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    #[test]
    fn a_request_is_read_back() {
        let long = "x".repeat(300);
        let block = request(true, "collector:4317", "/a.B/C", &[("api-key".into(), long.clone())]);
        let headers = headers(&block).unwrap();
        let named = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!((named("te"), named("api-key")), (Some("trailers"), Some(long.as_str())));
        let values: Vec<&str> = headers.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values[..3], ["collector:4317", "/a.B/C", "application/grpc"]);
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // C.5.1 and C.6.1: a response without and with Huffman's code.
        for block in [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
             6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        ] {
            let headers = headers(&hex(block)).unwrap();
            let values: Vec<&str> = headers.iter().map(|(_, value)| value.as_str()).collect();
            assert_eq!(headers[0].0, ":status");
            assert_eq!(values, ["302", "private", "Mon, 21 Oct 2013 20:13:21 GMT", "https://www.example.com"]);
        }
    }

    #[test]
    fn the_headers_of_grpc_are_read() {
        // An update to no dynamic table, an indexed status, and a trailer whose name is in Huffman's code.
        let block = [&[0x20, 0x88, 0x40, 0x88][..], &hex("9acac8b21234da8f"), &[0x01, b'7']].concat();
        let expected = [(":status", "200"), ("grpc-status", "7")];
        assert_eq!(headers(&block).unwrap(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for block in [
            // Entry 0, entries of the dynamic table, a size for it, texts cut short, and padding that is none.
            &[0x80][..],
            &[0xbe],
            &[0x7e, 0x00],
            &[0x21],
            &[0x40, 0x05, b'a'],
            &[0x88, 0x7f],
            &[0x00, 0x01, b'a', 0x81, 0x18],
            &[0x00, 0x01, b'a', 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(headers(block), Err(Malformed), "{block:x?}");
        }
    }

    #[test]
    fn every_byte_has_a_code() {
        // Kraft's sum, with the end of a text as the 257th code, is one.
        let sum: u64 = LENGTHS.iter().map(|bits| 1 << (LONGEST - bits)).sum();
        assert_eq!(sum + 1, 1 << LONGEST);
    }
}
