//! Whatever a head has in it, it is refused or becomes a request: tiny_http's `From<TestRequest>`
//! panics on what it does not like, so nothing of that kind may reach it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Every header that means something to this server, or to tiny_http.
const NAMES: [&str; 16] = [
    "Accept",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "X-Request-Id",
    "Content-Length",
    "Transfer-Encoding",
    "Expect",
    "Connection",
    "Host",
    "Upgrade",
    "Trailer",
    "TE",
    "Date",
    "content-length",
    "A",
];

/// Bytes that a header's value may have, and now and then any.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let allowed = prop_oneof![8 => b' '..=b'~', 1 => Just(b'\t'), 2 => 0x80u8..=0xff];
    let known = select(vec![
        "1",
        "0",
        "00",
        "chunked",
        "100-continue",
        "close",
        "keep-alive",
        "gzip",
        "a, b",
        "",
    ]);
    prop_oneof![
        4 => vec(allowed, 0..40),
        1 => vec(any::<u8>(), 0..10),
        4 => known.prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn bytes_of_line() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![20 => b'!'..=b'~', 1 => any::<u8>()], 1..30)
}

fn text(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    select(choices).prop_map(|text| text.as_bytes().to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_accepted_head_becomes_a_request(
        method in prop_oneof![3 => text(&["GET", "HEAD", "POST", "get", "CONNECT", "!"]), 1 => bytes_of_line()],
        target in prop_oneof![2 => text(&["/", "*", "http://a/", "//", "/data?a=%00"]), 3 => bytes_of_line()],
        version in text(&["HTTP/1.1", "HTTP/1.0", "HTTP/1.9"]),
        headers in vec((select(&NAMES[..]), value()), 0..6),
        has_host in prop::bool::weighted(0.9),
    ) {
        let mut head = [&method[..], &target, &version].join(&b' ');
        head.extend_from_slice(if has_host { b"\r\nHost: a\r\n" } else { b"\r\n" });
        for (name, value) in &headers {
            head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        head.extend_from_slice(b"\r\n");
        let mut seen = 0;
        // As the connection does: what is not a head as a whole is not judged.
        let Ok(Some(end)) = find_end(&head, &mut seen) else { return Ok(()) };
        match check(&head[..end]) {
            Ok(Head { request, framing, .. }) => {
                prop_assert_eq!(request.method().as_str().as_bytes(), &method[..]);
                prop_assert_eq!(request.url().as_bytes(), &target[..]);
                prop_assert_eq!(request.content_length(), framing.declared_length());
                for name in NAMES {
                    let value = request.headers().get(name).map(|value| value.as_str());
                    if !READ_BY_ROUTES.contains(&name) {
                        // tiny_http adds the length of the body that it was not given.
                        let is_added = name.eq_ignore_ascii_case("Content-Length") && value == Some("0");
                        prop_assert!(is_added || value.is_none(), "{}", name);
                    } else if let Some(value) = value {
                        prop_assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
                    }
                }
            }
            Err(problem) => {
                let status = crate::response::Response::from(problem).status;
                prop_assert!([400, 413, 417, 431, 501, 505].contains(&status), "{}", status);
            }
        }
    }
}
