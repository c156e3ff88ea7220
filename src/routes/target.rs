//! The target of a request: which resource, with which parameters.

use crate::document::DocumentId;
use crate::json;
use crate::percent;
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
                return Err(Problem::new(
                    404,
                    "No such resource. The resources are /, /data and /data/<id>.",
                ));
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
    let Some(rest) = target.strip_prefix("http://").or_else(|| target.strip_prefix("https://"))
    else {
        return target;
    };
    rest.find(['/', '?']).map_or("/", |start| &rest[start..])
}

fn unknown_parameter(name: &str, known: &[&str]) -> Problem {
    let detail = match known {
        [] => format!("Unknown parameter {name:?}; this resource takes none."),
        [known] => format!("Unknown parameter {name:?}; this resource takes only {known}."),
        known => {
            format!("Unknown parameter {name:?}; the parameters are {}.", known.join(", "))
        }
    };
    Problem::new(400, detail)
}

/// The `_id` that a path segment names.
pub(super) fn decode_id(segment: &str) -> Result<DocumentId, Problem> {
    let text = decode(segment)?;
    json::parse_id(&text)
        .map_err(|error| Problem::new(400, format!("The path does not end in an _id: {error}")))
}

/// The path segment, or the value of `after`, that names an `_id`.
pub(super) fn encode_id(id: &DocumentId) -> String {
    percent::encode(&json::write_id(id))
}

/// A name or a value in a query, where a plus is a space.
fn decode_form(text: &str) -> Result<String, Problem> {
    decode(&text.replace('+', " "))
}

fn decode(text: &str) -> Result<String, Problem> {
    percent::decode(text)
        .map_err(|problem| Problem::new(400, format!("The URL cannot be read: {problem}.")))
}
