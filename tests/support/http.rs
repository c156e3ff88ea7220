//! A small HTTP/1.1 client that hides nothing: raw bytes out where a test wants them, whole answers
//! in.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

pub struct Connection {
    reader: BufReader<TcpStream>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Connection {
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap()
    }

    /// A connection, if the server still takes one.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
    }

    #[track_caller]
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let answer = self.try_request(method, target, headers, body);
        answer.unwrap_or_else(|| panic!("no answer to {method} {target}"))
    }

    /// `None` if the connection ends before the answer.
    pub fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let message = [head.as_bytes(), b"\r\n", body].concat();
        // A server that refuses the body answers before it has read it, so a failed write is not
        // the end.
        let _ = self.stream().write_all(&message);
        match method {
            "HEAD" => self.read_head(),
            _ => self.read_answer(),
        }
    }

    /// The next answer with its body; `None` if the connection ends before it begins.
    pub fn read_answer(&mut self) -> Option<Answer> {
        let mut answer = self.read_head()?;
        if answer.status / 100 == 1 || answer.status == 204 {
            return Some(answer);
        }
        answer.body = if answer.header("transfer-encoding") == Some("chunked") {
            self.read_chunks()?
        } else if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut body).ok()?;
            body
        } else {
            self.read_to_end()
        };
        Some(answer)
    }

    /// Every answer until the server closes the connection.
    pub fn read_answers(&mut self) -> Vec<Answer> {
        std::iter::from_fn(|| self.read_answer()).collect()
    }

    /// The next answer up to its empty line.
    pub fn read_head(&mut self) -> Option<Answer> {
        let status_line = self.read_line()?;
        let status =
            status_line.strip_prefix("HTTP/1.1 ").unwrap_or_else(|| panic!("{status_line:?}"));
        let status = status[..3].parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Some(Answer { status, headers, body: Vec::new() });
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            headers.push((name.to_lowercase(), value.to_owned()));
        }
    }

    /// Everything until the server closes the connection.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // What came before a reset counts.
        let _ = self.reader.read_to_end(&mut bytes);
        bytes
    }

    fn read_chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = usize::from_str_radix(&self.read_line()?, 16).unwrap();
            let start = body.len();
            body.resize(start + length, 0);
            self.reader.read_exact(&mut body[start..]).ok()?;
            assert_eq!(self.read_line()?, "");
            if length == 0 {
                return Some(body);
            }
        }
    }

    fn read_line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                Some(line.strip_suffix("\r\n").unwrap_or_else(|| panic!("{line:?}")).to_owned())
            }
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The target of the `Link` with rel="next".
    pub fn next_link(&self) -> Option<String> {
        let link = self.header("link")?;
        Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned())
    }

    /// The `detail` of a problem, after checking that it is one with this status.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["status"], status);
        problem["detail"].as_str().unwrap().to_owned()
    }
}
