//! One connection: requests are read, handed to the handler and answered, one after the other, each step with its deadline.
//!
//! UEFI HTTP Boot keeps a connection open between HEAD and GET and fails when we close first (edk2#9920), so a connection that idles has
//! another deadline than one that is in the middle of a header.
#![allow(clippy::disallowed_methods, reason = "IO: a TCP stream and its clocks")]

use super::calls::Place;
use super::file::Part;
use super::handler::{self, Answer, Payload};
use super::seats::Seat;
use super::transfer::Transfer;
use super::{Shared, asked};
use crate::http::content_type::TEXT;
use crate::http::head::{Head, Lines, Refusal, Scan};
use rustix::net::{SendFlags, send};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes that are asked of a socket at once.
const READ: usize = 4096;
/// Longest body that is taken in, of which the handler keeps the beginning.
const MOST_BODY: u64 = 1024 * 1024;
/// Bytes per second that a client must take or send on average once its grace is over.
const RATE: u64 = 1024;
/// How long, and how much, is still read from a client that is sent away: closed at once, the kernel would drop what it was told.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// How patient we are.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the connection to its first byte.
    pub first: Duration,
    /// From the first byte of a request to the end of its header.
    pub header: Duration,
    /// From an answer to the next request.
    pub idle: Duration,
    /// From one piece of a request's body to the next.
    pub body: Duration,
    /// While a client takes nothing of what it asked for.
    ///
    /// An installer that unpacks what it downloads (`curl | tar`, an image onto a slow disk) stops reading for minutes, so this is long;
    /// a machine that has gone is noticed by TCP itself.
    pub stall: Duration,
    /// From when on a download must have had 1 KiB/s on average. What was taken fast before counts for a pause after it.
    pub grace: Duration,
}

/// Why a connection ends.
enum End {
    /// The client said something that is answered by sending it away.
    Refused(Refusal),
    /// It left, or waited too long between two requests.
    Gone,
    Io(io::Error),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Serves `stream` until its end.
pub(super) async fn serve(stream: TcpStream, peer: SocketAddr, mut seat: Seat, shutdown: watch::Receiver<bool>) {
    let shared = seat.shared.clone();
    let prepared = stream.local_addr().and_then(|local| tune(&stream).map(|()| local));
    let local = match prepared {
        Ok(local) => local,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection lost before its first request");
            return;
        }
    };
    let mut stopping = shutdown.clone();
    let mut stop = pin!(asked(&mut stopping));
    let mut given_away = pin!(seat.given_away());
    let mut wire = Wire::new(stream, shared.options.patience);
    let mut patience = wire.patience.first;
    loop {
        seat.waits();
        let read = tokio::select! {
            biased;
            read = wire.request(patience) => read,
            () = &mut given_away => return,
            () = &mut stop => return,
        };
        let may_stay = seat.answers();
        let stays = || may_stay && !*shutdown.borrow();
        let ended = match read {
            Ok(head) => wire.exchange(&shared, peer.ip(), local.ip(), head, stays).await,
            Err(end) => Err(end),
        };
        match ended {
            Ok(true) => patience = wire.patience.idle,
            Ok(false) | Err(End::Gone) => return,
            Err(End::Refused(refusal)) => return wire.refuse(refusal).await,
            Err(End::Io(error)) => {
                tracing::debug!(%peer, %error, "connection ended");
                return;
            }
        }
    }
}

/// Tells a client that has no seat to come again.
pub(super) async fn turn_away(stream: TcpStream, patience: Patience) {
    Wire::new(stream, patience).refuse(Refusal::Crowded).await;
}

/// A stream, and what was read of it ahead of its use.
struct Wire {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
    patience: Patience,
}

impl Wire {
    fn new(stream: TcpStream, patience: Patience) -> Self {
        Self {
            stream: Arc::new(stream),
            buffer: Vec::new(),
            patience,
        }
    }

    /// Reads what there is, at least one byte; 0 at the end.
    async fn fill(&mut self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            self.buffer.reserve(READ);
            match self.stream.try_read_buf(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    /// The next request, which may have arrived behind the last one.
    async fn request(&mut self, patience: Duration) -> Result<Head, End> {
        let mut scan = Scan::default();
        let mut began = !self.buffer.is_empty();
        let mut deadline = after(if began { self.patience.header } else { patience });
        if !began {
            // Thousands may idle: what they asked last need not be kept.
            self.buffer = Vec::new();
        }
        loop {
            // Some clients end a body with one CR LF too many (RFC 9112 section 2.2).
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
                scan = Scan::default();
            }
            if let Some(length) = scan.look(&self.buffer)? {
                let head = Head::parse(self.buffer.get(..length).unwrap_or_default())?;
                self.buffer.drain(..length);
                return Ok(head);
            }
            match timeout_at(deadline, self.fill()).await {
                Ok(read) => {
                    if read? == 0 {
                        return Err(End::Gone);
                    }
                }
                Err(_) if began => return Err(Refusal::TooSlow.into()),
                Err(_) => return Err(End::Gone),
            }
            if !began {
                began = true;
                deadline = after(self.patience.header);
            }
        }
    }

    /// The first `keep` bytes of a body of `length`; the rest is read and dropped.
    async fn body(&mut self, length: u64, keep: usize) -> Result<Vec<u8>, End> {
        let slowest = Duration::from_secs(length.checked_div(RATE).unwrap_or(0));
        let end = after(self.patience.body.saturating_add(slowest));
        let mut kept = Vec::new();
        let mut left = usize::try_from(length).unwrap_or(usize::MAX);
        loop {
            let here = left.min(self.buffer.len());
            let room = keep.saturating_sub(kept.len()).min(here);
            kept.extend_from_slice(self.buffer.get(..room).unwrap_or_default());
            self.buffer.drain(..here);
            left = left.saturating_sub(here);
            if left == 0 {
                return Ok(kept);
            }
            match timeout_at(end.min(after(self.patience.body)), self.fill()).await {
                Ok(read) => {
                    if read? == 0 {
                        return Err(End::Gone);
                    }
                }
                Err(_) => return Err(Refusal::TooSlow.into()),
            }
        }
    }

    /// Answers one request; true when another may follow.
    async fn exchange(
        &mut self,
        shared: &Arc<Shared>,
        peer: IpAddr,
        local: IpAddr,
        head: Head,
        stays: impl Fn() -> bool,
    ) -> Result<bool, End> {
        let started = Instant::now();
        let calls = handler::is_call(shared, &head);
        let keep = if calls {
            usize::try_from(MOST_BODY).unwrap_or(0)
        } else {
            handler::keeps_of_body(&head)
        };
        // Held until the call is answered: what all calls hold together is bounded.
        let _place = match calls.then(|| Place::take(shared, peer)) {
            Some(None) => return Err(Refusal::Crowded.into()),
            place => place,
        };
        let mut body = Vec::new();
        if keep > 0 {
            if head.length > MOST_BODY {
                return Err(Refusal::BodyTooLarge.into());
            }
            if head.expects && self.buffer.is_empty() {
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            body = self.body(head.length, keep).await?;
        }
        // A body that nobody wants is not read, so what would follow it cannot be found.
        let unread = keep == 0 && head.length > 0;
        let said = Said {
            stays: head.keep_alive && !unread,
            old: head.old,
        };
        // Who guesses tokens gets no answer.
        let Ok(answer) = handler::handle(shared, peer, local, head, body, started).await else {
            return Err(End::Gone);
        };
        let said = Said {
            stays: said.stays && stays(),
            ..said
        };
        self.send(answer, said).await?;
        if unread {
            self.linger().await;
        }
        Ok(said.stays && stays())
    }

    async fn send(&mut self, answer: Answer, said: Said) -> io::Result<()> {
        let mut out = Vec::with_capacity(512);
        let lines = Lines {
            status: answer.status,
            body: answer.length.map(|length| (length, answer.content_type)),
            fields: &answer.fields,
            date: &httpdate::fmt_http_date(SystemTime::now()),
            stays: said.stays,
            old: said.old,
        };
        lines.write(&mut out);
        match answer.payload {
            Payload::Nothing => self.write(&out).await,
            Payload::Text(text) => {
                out.extend_from_slice(&text);
                self.write(&out).await
            }
            Payload::File(part, transfer) => self.send_file(&out, part, transfer).await,
        }
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_with(bytes, SendFlags::NOSIGNAL).await
    }

    async fn write_with(&self, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
        let stream = &*self.stream;
        while !bytes.is_empty() {
            let sending = stream.async_io(Interest::WRITABLE, || Ok(send(stream, bytes, flags)?));
            let Ok(sent) = timeout(self.patience.stall, sending).await else {
                return Err(takes_no_more());
            };
            bytes = bytes.get(sent?..).unwrap_or_default();
        }
        Ok(())
    }

    /// The head and the first bytes leave in one packet.
    async fn send_file(&self, head: &[u8], mut part: Part, mut transfer: Box<Transfer>) -> io::Result<()> {
        if part.left() == 0 {
            self.write(head).await?;
        } else {
            self.write_with(head, SendFlags::NOSIGNAL | SendFlags::MORE).await?;
        }
        let started = Instant::now();
        let mut sent = 0_u64;
        while part.left() > 0 {
            let earned = Duration::from_secs(sent.checked_div(RATE).unwrap_or(0));
            let credit = self.patience.grace.saturating_add(earned);
            let end = started
                .checked_add(credit)
                .unwrap_or(started)
                .min(after(self.patience.stall));
            let (pushed, result) = match timeout_at(end, self.stream.writable()).await {
                Ok(Ok(())) => part.push(&self.stream).await,
                Ok(Err(error)) => (0, Err(error)),
                Err(_) => (0, Err(takes_no_more())),
            };
            sent = sent.saturating_add(pushed);
            transfer.sent(pushed);
            // The length was promised, so all that is left is to break the connection off.
            if let Err(error) = result {
                transfer.broken(&error);
                return Err(error);
            }
            // A client on a fast link takes everything at once; other machines wait for their leases.
            yield_now().await;
        }
        transfer.done();
        Ok(())
    }

    /// Says why the connection ends.
    async fn refuse(&mut self, refusal: Refusal) {
        let text = format!("{refusal}\n");
        let fields = match refusal {
            // iPXE comes again by itself after that time.
            Refusal::Crowded => vec![("Retry-After", "2".to_owned())],
            _ => Vec::new(),
        };
        let answer = Answer {
            status: refusal.status(),
            content_type: TEXT,
            fields,
            length: Some(u64::try_from(text.len()).unwrap_or(0)),
            payload: Payload::Text(text.into_bytes()),
        };
        let said = Said {
            stays: false,
            old: false,
        };
        if self.send(answer, said).await.is_ok() {
            self.linger().await;
        }
    }

    async fn linger(&mut self) {
        if socket2::SockRef::from(&*self.stream).shutdown(Shutdown::Write).is_err() {
            return;
        }
        let reading = async {
            let mut read = 0_usize;
            while read < LINGER_BYTES {
                match self.fill().await {
                    Ok(some) if some > 0 => read = read.saturating_add(some),
                    _ => break,
                }
                self.buffer.clear();
            }
        };
        // Time or bytes: either way it is over.
        let _ = timeout(LINGER, reading).await;
    }
}

/// What an answer says of the connection.
#[derive(Clone, Copy)]
struct Said {
    stays: bool,
    old: bool,
}

fn takes_no_more() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "the client takes no more bytes")
}

fn after(span: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(span).unwrap_or(now)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    // With Nagle, small files to one client take 50 ms each (measured).
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
