//! The listening socket: how it is bound, and how it is closed without a client losing what it was
//! promised.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;
/// When a silent peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What the kernel holds of what a client sends, or of what it has not taken, in bytes; it doubles
/// the number for its own needs (socket(7)). By itself it would hold several megabytes for each
/// client that does not read.
const SOCKET_BUFFER: usize = 64 * 1024;
/// How much of an answer the kernel takes beyond what the client's own has room for, in bytes.
const MAX_UNSENT: u32 = 16 * 1024;
/// How long a client may take to complete a handshake that had begun when the server was told to
/// stop: a round trip.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// Binds a listening socket whose options every accepted connection inherits. What a client has not
/// taken after `send_timeout` is given up by the kernel too, which would keep it for minutes after
/// the connection has ended.
pub(crate) fn listen(address: SocketAddr, send_timeout: Duration) -> io::Result<TcpListener> {
    let listener = match bind(address, send_timeout) {
        // A machine without IPv6 has no `::`, but the same is meant: every address.
        Err(_) if address.ip() == IpAddr::from([0u16; 8]) => {
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into(), send_timeout)?
        }
        outcome => outcome?,
    };
    listener.listen(BACKLOG)?;
    Ok(listener.into())
}

fn bind(address: SocketAddr, send_timeout: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_tcp_notsent_lowat(MAX_UNSENT)?;
    socket.set_tcp_user_timeout(Some(send_timeout))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Has the kernel drop new connections; those that already wait, or are being set up, stay.
/// Otherwise there would be no end of them, and closing it would reset those that came last. Where
/// it cannot be done, that is what happens.
pub(super) fn ignore_newcomers(listener: &TcpListener) {
    /// A classic BPF program, as in linux/filter.h: of a TCP segment with SYN set let 0 bytes
    /// through, of any other all. The flags are the 14th byte of the TCP header, and SYN is the
    /// second bit (RFC 9293, section 3.1).
    const DROP_SYN: [SockFilter; 4] = [
        SockFilter::new(0x30, 0, 0, 13),   // BPF_LD | BPF_B | BPF_ABS
        SockFilter::new(0x45, 0, 1, 0b10), // BPF_JMP | BPF_JSET | BPF_K
        SockFilter::new(0x06, 0, 0, 0),    // BPF_RET | BPF_K
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ];
    let _ = SockRef::from(listener).attach_filter(&DROP_SYN);
}

/// Whether a client waits to be accepted.
pub(super) fn has_newcomer(listener: &TcpListener) -> bool {
    comes_within(listener, Duration::ZERO)
}

/// As `has_newcomer`, after the time that a handshake may take which has begun, but not after
/// `most`.
pub(super) fn will_have_newcomer(listener: &TcpListener, most: Duration) -> bool {
    comes_within(listener, HANDSHAKE.min(most))
}

fn comes_within(listener: &TcpListener, patience: Duration) -> bool {
    let mut descriptors = [PollFd::new(listener, PollFlags::IN)];
    let timeout = Timespec { tv_sec: 0, tv_nsec: patience.as_nanos() as i64 };
    matches!(poll(&mut descriptors, Some(&timeout)), Ok(1))
}

/// Refuses newcomers from here on, so that they can go elsewhere at once.
pub(super) fn refuse_newcomers(listener: &TcpListener) {
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}
