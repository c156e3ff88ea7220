//! The floor that `/` is measured against: one thread per connection, one read and one write per
//! request, and nothing that looks at what was read. The answer is as long as two-tier's.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 75\r\nVary: Accept\r\nX-Request-Id: 000000000000000000-0000\r\n\r\n\
    Welcome to the two-tier app! The current time is: 2026-11-23T12:00:00.000Z\n";

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    println!("listens on http://{}", listener.local_addr().expect("its own address"));
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut stream = stream;
            let mut request = [0; 2048];
            stream.set_nodelay(true).ok();
            while stream.read(&mut request).is_ok_and(|count| count > 0)
                && stream.write_all(ANSWER).is_ok()
            {
                if request.windows(10).any(|bytes| bytes == b" HTTP/1.0\r") {
                    return;
                }
                request[..32].fill(0);
            }
        });
    }
}
