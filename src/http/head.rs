//! The head of a request (RFC 9112): finds its end, judges it, and takes from it what this server
//! reads.
//!
//! It is stricter than the standard allows where two readers of the same bytes could see two
//! different requests. Bytes in, a `Head` or a `Problem` out: no socket, no clock.

#[cfg(test)]
mod tests;

use super::request::Request;
use crate::response::Problem;

/// The longest head in bytes, request line and headers together.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// The most headers in one head.
const MAX_HEADERS: usize = 100;

/// The headers that routes read; no other reaches them. Framing is the server's own affair.
pub(crate) const READ_BY_ROUTES: [&str; 5] =
    ["Accept", "Authorization", "Content-Encoding", "Content-Type", "X-Request-Id"];

/// A head that was judged.
pub(crate) struct Head {
    pub(crate) request: Request,
    pub(crate) framing: Framing,
    pub(crate) version: Version,
    /// The client does not mind another request on this connection.
    pub(crate) keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
}

/// How the end of the body is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

impl Framing {
    /// In bytes; none where only the body's end will tell.
    fn declared_length(self) -> Option<u64> {
        match self {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }
}

/// Looks for the end of the head, the index after its empty line, in `bytes` from `*seen` on, and
/// moves `*seen` to where the next look has to begin. A line that does not end in CRLF is an error:
/// others might see other lines.
pub(crate) fn find_end(bytes: &[u8], seen: &mut usize) -> Result<Option<usize>, Problem> {
    while let Some(offset) = bytes[*seen..].iter().position(|&byte| byte == b'\n') {
        let line_end = *seen + offset;
        if line_end == 0 || bytes[line_end - 1] != b'\r' {
            return Err(bad("A line of the request's head does not end in CRLF."));
        }
        *seen = line_end + 1;
        if line_end >= 3 && &bytes[line_end - 3..line_end] == b"\r\n\r" {
            return Ok(Some(line_end + 1));
        }
    }
    Ok(None)
}

/// What to answer when there are `MAX_HEAD` bytes without an end.
pub(crate) fn too_long(bytes: &[u8]) -> Problem {
    if bytes.contains(&b'\n') {
        Problem::new(
            431,
            format!(
                "The request's head is longer than {MAX_HEAD} bytes. Send fewer or shorter headers."
            ),
        )
    } else {
        Problem::new(414, format!("The request's first line is longer than {MAX_HEAD} bytes."))
    }
}

/// Judges a whole head, empty line included.
pub(crate) fn check(head: &[u8]) -> Result<Head, Problem> {
    let mut lines = Lines(head);
    let request_line = lines.next().unwrap_or_default();
    let (method, target, version) = split_request_line(request_line)?;
    let mut headers = Headers::default();
    for (count, line) in lines.take_while(|line| !line.is_empty()).enumerate() {
        if count == MAX_HEADERS {
            return Err(Problem::new(
                431,
                format!("The request has more than {MAX_HEADERS} headers."),
            ));
        }
        headers.add(line)?;
    }
    let framing = headers.framing(version)?;
    let keep_alive = headers.keep_alive(version)?;
    let expects_continue = headers.expects_continue(version)?;
    if version == Version::Http11 && headers.host.is_none() {
        return Err(bad("An HTTP/1.1 request needs a Host header."));
    }

    let request = headers.request(method, target, version, framing.declared_length())?;
    Ok(Head { request, framing, version, keep_alive, expects_continue })
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Version {
    Http10,
    Http11,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(400, detail)
}

fn split_request_line(line: &[u8]) -> Result<(&[u8], &[u8], Version), Problem> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad(
            "The request's first line is not METHOD, one space, TARGET, one space, VERSION.",
        ));
    };
    if !is_token(method) {
        return Err(bad("The request's method is not a token."));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(bad("The request's target has characters that must be percent-encoded."));
    }
    let version = match version {
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
            return Err(Problem::new(505, "This server speaks HTTP/1.1 and HTTP/1.0."));
        }
        _ => return Err(bad("The request's first line does not end in HTTP/1.1.")),
    };
    Ok((method, target, version))
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Without the optional white space of RFC 9110, section 5.6.3, which is less than ASCII's: a CR
/// stays, to be refused.
fn trim_optional_space(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The lines of a head in which every line ends in CRLF, without those ends.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let line = self.0[..end].strip_suffix(b"\r").unwrap_or(&self.0[..end]);
        self.0 = &self.0[end + 1..];
        Some(line)
    }
}

/// The headers that matter here, as they came.
#[derive(Default)]
struct Headers<'a> {
    read_by_routes: [Vec<&'a [u8]>; READ_BY_ROUTES.len()],
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    connection: Vec<&'a [u8]>,
    expect: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    fn add(&mut self, line: &'a [u8]) -> Result<(), Problem> {
        if line[0] == b' ' || line[0] == b'\t' {
            return Err(bad("A header goes on over a second line (obsolete line folding)."));
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Err(bad("A header has no colon."));
        };
        let (name, value) = (&line[..colon], trim_optional_space(&line[colon + 1..]));
        if !is_token(name) {
            return Err(bad("A header's name has characters that none may have."));
        }
        if value.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(bad("A header's value has a control character."));
        }
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("Content-Length") {
            only_once(&mut self.content_length, value, "Content-Length")
        } else if is("Transfer-Encoding") {
            only_once(&mut self.transfer_encoding, value, "Transfer-Encoding")
        } else if is("Expect") {
            only_once(&mut self.expect, value, "Expect")
        } else if is("Host") {
            if !value.iter().all(u8::is_ascii_graphic) {
                return Err(bad("The Host header has characters that no host has."));
            }
            only_once(&mut self.host, value, "Host")
        } else {
            if is("Connection") {
                self.connection.push(value);
            } else if let Some(index) = READ_BY_ROUTES.iter().position(|known| is(known)) {
                self.read_by_routes[index].push(value);
            }
            Ok(())
        }
    }

    /// The framing of the body by RFC 9112, section 6, with everything that two readers could see
    /// differently refused.
    fn framing(&self, version: Version) -> Result<Framing, Problem> {
        match (self.content_length, self.transfer_encoding) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(_), Some(_)) => {
                Err(bad("The request has both a Content-Length and a Transfer-Encoding."))
            }
            (Some(length), None) => {
                if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
                    return Err(bad("The Content-Length is not one decimal number."));
                }
                let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
                match length {
                    // The kernel's interfaces count in `isize`.
                    Some(length) if length <= isize::MAX as u64 => Ok(Framing::Length(length)),
                    _ => {
                        Err(Problem::new(413, "The Content-Length is larger than any body can be."))
                    }
                }
            }
            (None, Some(_)) if version == Version::Http10 => {
                Err(bad("HTTP/1.0 has no Transfer-Encoding."))
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (None, Some(_)) => {
                Err(Problem::new(501, "This server takes no Transfer-Encoding but chunked."))
            }
        }
    }

    fn keep_alive(&self, version: Version) -> Result<bool, Problem> {
        let has = |option: &str| {
            self.connection
                .iter()
                .flat_map(|value| value.split(|&byte| byte == b','))
                .any(|value| value.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
        };
        Ok(match version {
            Version::Http10 => has("keep-alive") && !has("close"),
            Version::Http11 => !has("close"),
        })
    }

    fn expects_continue(&self, version: Version) -> Result<bool, Problem> {
        match self.expect {
            Some(value) if !value.eq_ignore_ascii_case(b"100-continue") => {
                Err(Problem::new(417, "This server meets no expectation but 100-continue."))
            }
            // RFC 9110, section 10.1.1: to be ignored in an HTTP/1.0 request.
            Some(_) => Ok(version == Version::Http11),
            None => Ok(false),
        }
    }

    fn request(
        &self,
        method: &[u8],
        target: &[u8],
        version: Version,
        content_length: Option<u64>,
    ) -> Result<Request, Problem> {
        let read = READ_BY_ROUTES.iter().zip(&self.read_by_routes);
        // Several headers of one name are one with a list (RFC 9110, section 5.3); empty ones say
        // nothing.
        let headers = read
            .filter(|(_, values)| values.iter().any(|value| !value.is_empty()))
            .map(|(name, values)| (*name, plain(&values.join(b", ".as_slice()))));
        Request::new(&plain(method), &plain(target), version, headers, content_length)
    }
}

/// A value that is tiny_http's to hold: printable ASCII. Nothing here depends on the rest.
fn plain(bytes: &[u8]) -> String {
    let plain = bytes.iter().map(|&byte| match byte {
        b' '..=b'~' => char::from(byte),
        b'\t' => ' ',
        _ => '?',
    });
    plain.collect()
}

fn only_once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8], name: &str) -> Result<(), Problem> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(bad(format!("The request has more than one {name} header."))),
    }
}
