//! The target of a request: which resource, with which parameters.

use std::borrow::Cow;
use std::fmt::Write;

use crate::document::DocumentId;
use crate::json;
use crate::response::Problem;

/// A request target, still percent-encoded where it is not a resource's name.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) resource: Resource<'a>,
    query: &'a str,
}

#[derive(Debug, PartialEq)]
pub(super) enum Resource<'a> {
    Root,
    Data,
    /// `/data/<id>`, with the id as it came.
    Document(&'a str),
}

impl<'a> Target<'a> {
    pub(super) fn parse(target: &'a str) -> Result<Self, Problem> {
        let (path, query) = match origin_form(target).split_once('?') {
            Some((path, query)) => (path, query),
            None => (origin_form(target), ""),
        };
        let resource = match path.strip_prefix("/data") {
            _ if path == "/" => Resource::Root,
            Some("") => Resource::Data,
            Some(rest) if rest.len() > 1 && rest.starts_with('/') && !rest[1..].contains('/') => {
                Resource::Document(&rest[1..])
            }
            _ => {
                return Err(Problem::new(404, "There is nothing here. The resources are /, /data and /data/<id>."));
            }
        };
        Ok(Self { resource, query })
    }

    /// The parameters of the query, decoded, each one of `known` at the same index.
    pub(super) fn parameters<const KNOWN: usize>(
        &self,
        known: [&str; KNOWN],
    ) -> Result<[Option<String>; KNOWN], Problem> {
        let mut values = [const { None }; KNOWN];
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_form(name)?;
            let Some(index) = known.iter().position(|known| *known == name) else {
                return Err(unknown_parameter(&name, &known));
            };
            if values[index].replace(decode_form(value)?).is_some() {
                let detail = format!("The parameter {name} is given twice.");
                return Err(Problem::new(400, detail));
            }
        }
        Ok(values)
    }

    pub(super) fn no_query(&self) -> Result<(), Problem> {
        self.parameters([]).map(|[]| ())
    }
}

/// The target without scheme and host, which a client may send as well (RFC 9112, section 3.2.2).
fn origin_form(target: &str) -> &str {
    let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://")) else {
        return target;
    };
    rest.find(['/', '?']).map_or("/", |start| &rest[start..])
}

fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
    let detail = match known {
        [] => format!("There is no parameter {name:?}: this resource takes none."),
        known => format!("There is no parameter {name:?}. The parameters are {}.", known.join(", ")),
    };
    Problem::new(400, detail)
}

/// The `_id` that a path segment names.
pub(super) fn decode_id(segment: &str) -> Result<DocumentId, Problem> {
    let text = percent_decode(segment.as_bytes())?;
    json::parse_id(&text).map_err(|error| Problem::new(400, format!("The path does not end in an _id: {error}")))
}

/// The path segment, or the value of `after`, that names an `_id`.
pub(super) fn encode_id(id: &DocumentId) -> String {
    let mut encoded = String::new();
    for byte in json::write_id(id).bytes() {
        match byte {
            // RFC 3986, section 2.3: what never needs encoding.
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// A name or a value in a query, where a plus is a space.
fn decode_form(text: &str) -> Result<String, Problem> {
    let text = match text.contains('+') {
        true => Cow::from(text.replace('+', " ")),
        false => Cow::from(text),
    };
    percent_decode(text.as_bytes())
}

fn percent_decode(text: &[u8]) -> Result<String, Problem> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let digits = rest.first_chunk::<2>().and_then(|digits| {
            let high = char::from(digits[0]).to_digit(16)?;
            let low = char::from(digits[1]).to_digit(16)?;
            u8::try_from(high * 16 + low).ok()
        });
        let Some(byte) = digits else {
            return Err(Problem::new(400, "The URL has a % without two hex digits behind it."));
        };
        decoded.push(byte);
        rest = &rest[2..];
    }
    String::from_utf8(decoded).map_err(|_| Problem::new(400, "The URL is not UTF-8 once it is percent-decoded."))
}
