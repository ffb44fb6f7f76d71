//! The fence: reads the clock right before bytes go to the kernel. A connection for writes passes none while
//! this operator does not lead. Created by `connection`.

use std::io::{Error, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};

use super::Leadership;
use crate::operator::error::NotLeading;

/// A stream to the API server that carries writes.
#[derive(Debug)]
pub(in crate::operator) struct WriteFence<S> {
    stream: S,
    leadership: Arc<Leadership>,
}

// === impl WriteFence ===

impl<S> WriteFence<S> {
    pub(in crate::operator) const fn new(stream: S, leadership: Arc<Leadership>) -> Self {
        Self { stream, leadership }
    }

    fn check(&self) -> Result<(), Error> {
        if self.leadership.holds() { Ok(()) } else { Err(Error::other(NotLeading)) }
    }
}

impl<S: Read + Unpin> Read for WriteFence<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for WriteFence<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, Error>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Error>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S: Connection> Connection for WriteFence<S> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}
