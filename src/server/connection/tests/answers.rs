//! Reads answers as a strict client does, with none of the program's code.

#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) closes: bool,
    pub(super) interims: usize,
}

/// Reads one answer, and returns what comes after it.
pub(super) fn read(mut bytes: &[u8], to_head: bool) -> Result<(Answer, &[u8]), String> {
    let mut interims = 0;
    while let Some(rest) = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
        (bytes, interims) = (rest, interims + 1);
    }
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no head")?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is not UTF-8")?;
    let rest = &bytes[end + 4..];
    let header = |name: &str| {
        head.lines()
            .skip(1)
            .find_map(|line| line.split_once(": ").filter(|(known, _)| *known == name))
            .map(|(_, value)| value)
    };
    let status = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|line| line.get(..3)?.parse().ok())
        .ok_or("no status")?;
    let closes = header("Connection") == Some("close");
    let answer = |body: &[u8]| Answer { status, body: body.to_vec(), closes, interims };
    match (header("Content-Length"), header("Transfer-Encoding")) {
        (Some(_), None) | (None, Some("chunked")) if to_head => Ok((answer(b""), rest)),
        (Some(length), None) => {
            let length: usize = length.parse().map_err(|_| "a bad length")?;
            Ok((answer(rest.get(..length).ok_or("cut off")?), &rest[length..]))
        }
        (None, Some("chunked")) => {
            let (body, rest) = chunks(rest)?;
            Ok((answer(&body), rest))
        }
        (None, None) if closes => {
            Ok((answer(if to_head { b"" } else { rest }), if to_head { rest } else { b"" }))
        }
        _ => Err("no framing".to_owned()),
    }
}

fn chunks(mut bytes: &[u8]) -> Result<(Vec<u8>, &[u8]), String> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").ok_or("cut off")?;
        let size = std::str::from_utf8(&bytes[..end]).map_err(|_| "no size")?;
        let size = usize::from_str_radix(size, 16).map_err(|_| "no size")?;
        let data = bytes.get(end + 2..end + 2 + size).ok_or("cut off")?;
        body.extend_from_slice(data);
        bytes = bytes[end + 2 + size..].strip_prefix(b"\r\n").ok_or("cut off")?;
        if size == 0 {
            return Ok((body, bytes));
        }
    }
}
