//! `GET /` for a browser: one page, whole in this binary. Its script does the rest through `/data`.

use crate::response::{HTML, Response};

/// The page, its style and its script in it, with names in double braces for what is filled in.
const SOURCE: &str = include_str!("page.html");

/// Nothing runs or is loaded but what the page came with. tests/page.rs holds the hashes to what is
/// served and, when it fails, prints the right ones.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
    script-src 'sha256-3YdfNYNZMHAIS9ZzB67h8uBk7sqiOtyiT/nShY0yYRk='; \
    style-src 'sha256-ADHA6LkZyFC0jTE9CPtky6GpWi8fUgUzlreF/U0c5oI='; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) struct Page {
    /// All but the time.
    text: String,
}

impl Page {
    /// `store` is what people call the place of the documents.
    pub(super) fn new(store: &str) -> Self {
        let lines = SOURCE
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        Self { text: text.replace("{{store}}", &escape(store)) }
    }

    pub(super) fn at(&self, time: &str) -> Response {
        Response::new(200, HTML, self.text.replacen("{{time}}", time, 1))
            .with_header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
            .with_header("X-Content-Type-Options", "nosniff")
            .with_header("Referrer-Policy", "no-referrer")
    }
}

/// Text as HTML has it between tags.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
