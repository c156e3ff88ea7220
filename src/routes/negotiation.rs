//! Which of several content types a client wants (RFC 9110, section 12.5.1), and which one it sent.

use crate::http::request::Request;

/// The offer that the client prefers; the first one where it does not care, or wants none of them.
pub(super) fn preferred<const OFFERS: usize>(
    request: &Request,
    offers: [&'static str; OFFERS],
) -> &'static str {
    let Some(accept) = request.headers().get("Accept") else {
        return offers[0];
    };
    let mut best = (0, offers[0]);
    for offer in offers {
        let quality = quality(accept.as_str(), essence(offer));
        if quality > best.0 {
            best = (quality, offer);
        }
    }
    best.1
}

/// The media type of the request's body in lower case, without its parameters; `None` without a
/// Content-Type or in another character set than UTF-8.
pub(super) fn content_type(request: &Request) -> Option<String> {
    let value = request.headers().get("Content-Type")?.as_str();
    let charset = parameter(value, "charset");
    let is_utf8 =
        charset.is_none_or(|charset| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"));
    is_utf8.then(|| essence(value).to_ascii_lowercase())
}

/// What `accept` gives `media_type`, in thousandths: by the most specific range that matches it.
fn quality(accept: &str, media_type: &str) -> u32 {
    let any_subtype = media_type.split('/').next().unwrap_or_default();
    let mut found = (0, 0);
    for range in accept.split(',') {
        let name = essence(range);
        let precision = if name.eq_ignore_ascii_case(media_type) {
            3
        } else if name.strip_suffix("/*").is_some_and(|name| name.eq_ignore_ascii_case(any_subtype))
        {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        if precision > found.0 {
            let quality = parameter(range, "q").map_or(Some(1.0), |quality| quality.parse().ok());
            found = (precision, (quality.unwrap_or(0.0_f32).clamp(0.0, 1.0) * 1000.0) as u32);
        }
    }
    found.1
}

/// The part before the parameters.
fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_counts() {
        for (accept, json, text) in [
            ("*/*", 1000, 1000),
            ("application/json", 1000, 0),
            ("text/*;q=0.5, application/json;q=0.4", 400, 500),
            ("application/json;q=0.2, */*;q=0.9", 200, 900),
            ("APPLICATION/JSON ; charset=utf-8; Q=0.7", 700, 0),
            ("application/json;q=nonsense, text/plain;q=0", 0, 0),
            ("", 0, 0),
        ] {
            let qualities = (quality(accept, "application/json"), quality(accept, "text/plain"));
            assert_eq!(qualities, (json, text), "{accept}");
        }
    }
}
