//! One connection's clock: how long a client may take to ask, to read, or to say nothing at all.
//!
//! hyper's own header timeout also runs while a connection idles, which would close it after seconds; UEFI HTTP Boot keeps one open
//! between HEAD and GET and fails when we close first (edk2#9920). So the two are told apart here, below hyper.
#![allow(clippy::disallowed_methods, reason = "IO: a TCP stream and its clocks")]

use super::transfer::Transfer;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// How patient we are.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the connection to its first byte.
    pub first: Duration,
    /// From the first byte of a request to the end of its header.
    pub header: Duration,
    /// From an answer to the next request.
    pub idle: Duration,
    /// While a client takes nothing of what it asked for.
    pub stall: Duration,
}

/// What the connection waits for.
#[derive(Debug)]
enum Phase {
    /// The first byte of a request, until then.
    Quiet(Instant),
    /// The rest of a header, until then.
    Header(Instant),
    /// Our own answer.
    Busy,
    /// The last bytes of an answer to leave; what it was is told when they have.
    Draining(Option<Box<Transfer>>),
}

/// The connection as its requests see it.
#[derive(Debug, Clone)]
pub(super) struct Conn(Arc<Mutex<Phase>>);

impl Conn {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request's header is complete.
    pub(super) fn begin(&self) {
        let before = std::mem::replace(&mut *self.lock(), Phase::Busy);
        // A pipelined request begins while the last answer is still in hyper's buffer; its bytes are on their way.
        if let Phase::Draining(Some(transfer)) = before {
            transfer.done();
        }
    }

    /// The last byte of an answer was handed to hyper.
    pub(super) fn end(&self, transfer: Option<Box<Transfer>>) {
        *self.lock() = Phase::Draining(transfer);
    }
}

/// A TCP stream with deadlines.
pub(super) struct TimedStream {
    stream: TokioIo<TcpStream>,
    conn: Conn,
    patience: Patience,
    read_clock: Pin<Box<Sleep>>,
    write_clock: Pin<Box<Sleep>>,
    stalled: bool,
}

impl TimedStream {
    /// Takes a fresh connection.
    pub(super) fn new(stream: TcpStream, patience: Patience) -> (Self, Conn) {
        let first = after(patience.first);
        let conn = Conn(Arc::new(Mutex::new(Phase::Quiet(first))));
        let timed = Self {
            stream: TokioIo::new(stream),
            conn: conn.clone(),
            patience,
            read_clock: Box::pin(sleep_until(first)),
            write_clock: Box::pin(sleep_until(first)),
            stalled: false,
        };
        (timed, conn)
    }

    /// Sets the clock that the phase asks for; ready when it has run out.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = match *self.conn.lock() {
            Phase::Quiet(at) | Phase::Header(at) => at,
            Phase::Busy | Phase::Draining(_) => return Poll::Pending,
        };
        if self.read_clock.deadline() != deadline {
            self.read_clock.as_mut().reset(deadline);
        }
        self.read_clock.as_mut().poll(cx)
    }

    fn poll_stall<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.write_clock.as_mut().reset(after(self.patience.stall));
        }
        ready!(self.write_clock.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            ErrorKind::TimedOut,
            "the client takes no more bytes",
        )))
    }
}

fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or(now)
}

impl Drop for TimedStream {
    fn drop(&mut self) {
        if let Phase::Draining(Some(transfer)) = std::mem::replace(&mut *self.conn.lock(), Phase::Busy) {
            transfer.broken("the connection was closed");
        }
    }
}

impl Read for TimedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        // How much arrived is asked of the socket, since the cursor is consumed: readable and not at its end means a byte.
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            let mut phase = self.conn.lock();
            if let Phase::Quiet(_) = *phase {
                *phase = Phase::Header(after(self.patience.header));
            }
            return polled;
        }
        ready!(self.poll_clock(cx));
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "no request in time")))
    }
}

impl Write for TimedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the stream only once its own buffer is empty.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        let idle = after(self.patience.idle);
        let drained = {
            let mut phase = self.conn.lock();
            if let Phase::Draining(transfer) = &mut *phase {
                let transfer = transfer.take();
                *phase = Phase::Quiet(idle);
                Some(transfer)
            } else {
                None
            }
        };
        if let Some(transfer) = drained {
            if let Some(transfer) = transfer {
                transfer.done();
            }
            // hyper may not read again before it is woken, so the clock is started here.
            if self.poll_clock(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
