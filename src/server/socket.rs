//! The socket of one connection, which never blocks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::connection::Transport;

/// Closes when it is dropped.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Transport for Socket {
    fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (count, _) = recv(&self.0, into, RecvFlags::DONTWAIT)?;
        Ok(count)
    }

    fn waiting(&self) -> usize {
        let bytes = rustix::io::ioctl_fionread(&self.0).unwrap_or(0);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    fn send(&mut self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let more = if more { SendFlags::MORE } else { SendFlags::empty() };
        Ok(send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL | more)?)
    }

    fn end_sending(&mut self) {
        // A failure means that the client is gone already.
        let _ = shutdown(&self.0, Shutdown::Write);
    }

    fn reset_at_end(&mut self, reset: bool) {
        // With no time to linger, a close is an abort (socket(7), SO_LINGER). It fails only where
        // there is no connection any more.
        let _ = sockopt::set_socket_linger(&self.0, reset.then_some(Duration::ZERO));
    }
}
