//! HTTP/1.1 (RFC 9112) read a second time, strictly and with none of the program's code: requests
//! as a server must see them, answers as a client may.

use std::str;

/// Heads that come near the server's limit of 16 KiB are left open.
const LONG_HEAD: usize = 15 * 1024;
const MAX_HEADERS: usize = 100;
const MAX_SIZE_LINE: usize = 200;

pub enum Incoming<'a> {
    /// And what is behind it.
    Understood(Request, &'a [u8]),
    /// To be answered with an error, the last answer of the connection.
    Broken,
    /// Not to be answered.
    Nothing,
    /// A server may see it one way or another.
    Unsure,
}

use Incoming::{Broken, Nothing, Understood, Unsure};

#[derive(Debug)]
pub struct Request {
    pub is_head: bool,
    /// `GET /` and `HEAD /`.
    pub is_welcome: bool,
    pub is_http10: bool,
    pub keep_alive: bool,
    pub expects_continue: bool,
    pub is_chunked: bool,
    /// Else the connection ended in it, or it is no body.
    pub body_is_whole: bool,
    /// Its `X-Request-Id`, if it is one that a server has to take.
    pub id: Option<String>,
}

pub fn request(bytes: &[u8]) -> Incoming<'_> {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Nothing;
    }
    if bytes.starts_with(b"\r\n") {
        return Unsure;
    }
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > LONG_HEAD { Unsure } else { Broken };
    };
    if end > LONG_HEAD {
        return Unsure;
    }
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let mut lines = split(head, b"\r\n").into_iter();
    let request_line = lines.next().unwrap_or_default();
    if has_bare_line_end(head) {
        return Broken;
    }
    let parts: Vec<&[u8]> = request_line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return Broken;
    };
    if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Broken;
    }
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ if version.starts_with(b"HTTP/1.") => return Unsure,
        _ => return Broken,
    };
    let mut headers: Vec<(String, &[u8])> = Vec::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            return Broken;
        };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) || value.iter().any(|&byte| byte != b'\t' && byte.is_ascii_control()) {
            return Broken;
        }
        headers.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
    }
    if headers.len() > MAX_HEADERS {
        return Broken;
    }
    let all = |wanted: &str| -> Vec<&[u8]> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value).collect()
    };
    match all("host")[..] {
        [] if is_http10 => {}
        [host] if host.iter().all(u8::is_ascii_graphic) => {}
        _ => return Broken,
    }
    let expects_continue = match all("expect")[..] {
        [] => false,
        [value] if value.eq_ignore_ascii_case(b"100-continue") => !is_http10,
        _ if is_http10 => return Unsure,
        _ => return Broken,
    };
    let (is_chunked, rest) = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => (false, Some(body)),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length: u64 = match str::from_utf8(length).unwrap_or_default().parse() {
                Ok(length) if length < 1 << 62 => length,
                _ => return Broken,
            };
            (false, usize::try_from(length).ok().and_then(|length| body.get(length..)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_http10 => {
            (true, behind_chunks(body))
        }
        _ => return Broken,
    };
    let options: Vec<String> = all("connection")
        .iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|option| String::from_utf8_lossy(trim(option)).to_ascii_lowercase())
        .collect();
    let has = |option: &str| options.iter().any(|other| other == option);
    let id = match all("x-request-id")[..] {
        [id] if (1..=128).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'?') =>
        {
            str::from_utf8(id).ok()
        }
        _ => None,
    };
    let is_head = method == b"HEAD";
    let request = Request {
        is_head,
        is_welcome: (is_head || method == b"GET") && target == b"/",
        is_http10,
        keep_alive: !has("close") && (!is_http10 || has("keep-alive")),
        expects_continue,
        is_chunked,
        body_is_whole: rest.is_some(),
        id: id.map(str::to_owned),
    };
    Understood(request, rest.unwrap_or_default())
}

/// What follows a whole chunked body.
fn behind_chunks(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        let line = &bytes[..find(bytes, b"\r\n")?];
        bytes = &bytes[line.len() + 2..];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let extension = &line[digits..];
        let is_extension = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
        let is_plain =
            extension.is_empty() || (extension[0] == b';' && extension.iter().all(is_extension));
        if line.len() > MAX_SIZE_LINE || !is_plain {
            return None;
        }
        let size = usize::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()?;
        if size == 0 {
            return behind_trailers(bytes);
        }
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

/// Lines of which none begins with a space, up to an empty one.
fn behind_trailers(mut bytes: &[u8]) -> Option<&[u8]> {
    let is_plain = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    loop {
        let line = &bytes[..find(bytes, b"\r\n")?];
        bytes = &bytes[line.len() + 2..];
        match line {
            [] => return Some(bytes),
            [b'!'..=b'~', ..] if line.iter().all(is_plain) => {}
            _ => return None,
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// How many `100 Continue` came before it.
    pub interims: usize,
    pub closes: bool,
    pub id: Option<String>,
}

/// Reads one answer, and returns what is behind it.
pub fn answer(mut bytes: &[u8], to_head: bool) -> Result<(Answer, &[u8]), &'static str> {
    let mut interims = 0;
    while let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
        interims += 1;
        bytes = rest;
    }
    let end = find(bytes, b"\r\n\r\n").ok_or("a head without end")?;
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    if has_bare_line_end(head) {
        return Err("a CR or LF inside a line");
    }
    let head = str::from_utf8(head).map_err(|_| "a head that is not UTF-8")?;
    let mut lines = head.split("\r\n");
    let status_line =
        lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or("no HTTP/1.1")?;
    let (status, reason) = status_line.split_once(' ').ok_or("no reason")?;
    if status.len() != 3
        || !status.bytes().all(|byte| byte.is_ascii_digit())
        || reason.is_empty()
        || reason == "Unknown"
    {
        return Err("no status");
    }
    let status: u16 = status.parse().map_err(|_| "no status")?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(": ").ok_or("a header without value")?;
        if !is_token(name.as_bytes())
            || value.is_empty()
            || value.bytes().any(|byte| !(b' '..=b'~').contains(&byte))
        {
            return Err("a header with other characters");
        }
        headers.push((name.to_ascii_lowercase(), value));
    }
    let one = |wanted: &str| -> Result<Option<&str>, &'static str> {
        let mut values = headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err("a header that is there twice"),
        }
    };
    one("date")?.ok_or("no Date")?;
    one("content-type")?.ok_or("no Content-Type")?;
    let closes = one("connection")? == Some("close");
    let rest = match (one("content-length")?, one("transfer-encoding")?) {
        (Some(_), None) | (None, Some("chunked")) if to_head => body,
        (Some(length), None) => {
            let length: usize = length.parse().map_err(|_| "a bad Content-Length")?;
            body.get(length..).ok_or("a body that is too short")?
        }
        (None, Some("chunked")) => behind_chunks(body).ok_or("bad chunks")?,
        // A stream to an HTTP/1.0 client.
        (None, None) if closes && to_head => body,
        (None, None) if closes => b"",
        _ => return Err("no framing"),
    };
    let id = one("x-request-id")?.map(str::to_owned);
    if closes && !rest.is_empty() {
        return Err("more behind the last answer");
    }
    Ok((Answer { status, interims, closes, id }, rest))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn split<'a>(mut bytes: &'a [u8], separator: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = find(bytes, separator) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + separator.len()..];
    }
    parts.push(bytes);
    parts
}

fn has_bare_line_end(bytes: &[u8]) -> bool {
    split(bytes, b"\r\n").iter().any(|line| line.contains(&b'\r') || line.contains(&b'\n'))
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}
