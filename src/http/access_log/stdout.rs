//! Standard output as the access log writes it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};

/// Standard output without a buffer, and without the lock of [`io::stdout`]: a thread that waits for a slow
/// reader must not hold it.
#[derive(Debug)]
pub(crate) struct Stdout(File);

impl Stdout {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(io::stdout().as_fd().try_clone_to_owned()?.into()))
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                // Another program that shares the pipe has made it non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None)?;
                }
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
