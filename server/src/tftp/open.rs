//! What becomes of a datagram at the well-known port: who gets a transfer, who gets an error, who gets nothing.
//!
//! Pure. The firmware's size probe is at home here: UEFI and iPXE-less ROMs ask for a file's size, end that transfer with error 8, and
//! ask for the file from the same port within the millisecond. That second request must start anew at once, however the first stands.

use super::packet::{ErrorCode, Packet, Request};
use super::transfer::{Transfer, UNPROVEN_SENDS};
use std::time::Duration;

/// A peer that was heard this lately has not rebooted: its repeated request is an echo of the network.
const AN_ECHO: Duration = Duration::from_secs(1);

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// A request to read.
    Read(Request),
    /// Something that is answered with an error, and no more.
    Error {
        /// The code.
        code: ErrorCode,
        /// The text for the peer.
        message: &'static str,
    },
    /// Noise, never answered.
    Noise,
}

/// Judges a datagram at the well-known port.
#[must_use]
pub fn arrive(datagram: &[u8]) -> Arrival {
    match Packet::decode(datagram) {
        Ok(Packet::Read(request)) => Arrival::Read(request),
        Ok(Packet::Write) => Arrival::Error {
            code: ErrorCode::ACCESS,
            message: "this server is read-only",
        },
        Ok(stray @ (Packet::Ack { .. } | Packet::Data { .. } | Packet::OptionsGranted(_))) => match strange(&stray) {
            Some((code, message)) => Arrival::Error { code, message },
            None => Arrival::Noise,
        },
        Ok(Packet::Error { .. }) => Arrival::Noise,
        Err(bad) => match bad.reply() {
            Some((code, message)) => Arrival::Error { code, message },
            None => Arrival::Noise,
        },
    }
}

/// What the sender of `packet` is told when no transfer is his (RFC 1350 section 4). An error is never answered with an error.
#[must_use]
pub const fn strange(packet: &Packet<'_>) -> Option<(ErrorCode, &'static str)> {
    match packet {
        Packet::Error { .. } => None,
        _ => Some((ErrorCode::UNKNOWN_TID, "no transfer of yours is here")),
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A transfer begins.
    Start,
    /// The running transfer's first reply is lost: it goes out again, from the same port.
    Repeat,
    /// The running transfer gives way to a new one.
    Replace,
    /// Nothing happens: an echo, or an address that never answers.
    Ignore,
}

/// Judges `request` beside the transfer that the same peer has, if any.
#[must_use]
pub fn open(existing: Option<&Transfer>, request: &Request, now: Duration) -> Opening {
    let Some(existing) = existing.filter(|transfer| transfer.end().is_none()) else {
        return Opening::Start;
    };
    if !existing.is_proven() {
        // Its address may be forged; it gets only so many packets, whatever it asks for.
        return if existing.unanswered() >= UNPROVEN_SENDS {
            Opening::Ignore
        } else if existing.request() == request {
            Opening::Repeat
        } else {
            Opening::Replace
        };
    }
    // A machine that was reset asks from the same port, as ROMs count their ports from the same start.
    if existing.request() == request && now.saturating_sub(existing.heard()) < AN_ECHO {
        Opening::Ignore
    } else {
        Opening::Replace
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{FileName, Mode, Options};
    use super::super::transfer::{Limits, Transfer};
    use super::*;

    fn request(name: &str, tsize: Option<u64>) -> Request {
        Request {
            name: FileName::new(name.as_bytes()).unwrap(),
            mode: Mode::Octet,
            options: Options {
                tsize,
                ..Options::default()
            },
        }
    }

    fn started(request: &Request) -> Transfer {
        let limits = Limits {
            mtu: 1500,
            size: 4000,
            unproven: 0,
        };
        let mut transfer = Transfer::new(Duration::ZERO, request.clone(), limits);
        transfer.poll_transmit(Duration::ZERO, &mut Vec::new());
        transfer
    }

    const LATER: Duration = Duration::from_millis(1200);

    #[test]
    fn a_size_probe_gives_way_at_once() {
        let probe = request("snponly.efi", Some(0));
        let real = request("snponly.efi", None);
        let mut transfer = started(&probe);
        // Its error 8 is still on the way.
        assert_eq!(open(Some(&transfer), &real, Duration::ZERO), Opening::Replace);
        // It has arrived, and the very same request follows.
        transfer.handle(Duration::ZERO, &Packet::error(ErrorCode::OPTIONS, "size only"));
        assert_eq!(open(Some(&transfer), &probe, Duration::ZERO), Opening::Start);
        assert_eq!(open(None, &real, Duration::ZERO), Opening::Start);
    }

    #[test]
    fn repeated_requests_repeat_the_first_reply_only() {
        let ask = request("snponly.efi", Some(0));
        let mut transfer = started(&ask);
        assert_eq!(open(Some(&transfer), &ask, Duration::ZERO), Opening::Repeat);
        transfer.handle(Duration::ZERO, &Packet::Ack { block: 0 }.to_bytes());
        assert_eq!(open(Some(&transfer), &ask, Duration::ZERO), Opening::Ignore);
        assert_eq!(open(Some(&transfer), &ask, LATER), Opening::Replace);
    }

    #[test]
    fn an_address_that_never_answers_gets_five_packets() {
        let ask = request("snponly.efi", Some(0));
        let mut transfer = started(&ask);
        let mut out = Vec::new();
        let mut replies = 1;
        for _ in 0..20 {
            if open(Some(&transfer), &ask, Duration::ZERO) == Opening::Repeat {
                transfer.repeat_first_reply();
            }
            while transfer.poll_transmit(Duration::ZERO, &mut out).is_some() {
                replies += 1;
            }
        }
        assert_eq!(replies, UNPROVEN_SENDS);
        assert_eq!(open(Some(&transfer), &request("other", None), LATER), Opening::Ignore);
    }

    #[test]
    fn strays_writers_and_noise() {
        let code = |datagram: &[u8]| match arrive(datagram) {
            Arrival::Error { code, .. } => Some(code),
            Arrival::Noise => None,
            Arrival::Read(request) => panic!("{request:?}"),
        };
        assert_eq!(code(b"\0\x02a\0octet\0"), Some(ErrorCode::ACCESS));
        assert_eq!(code(b"\0\x04\0\x01"), Some(ErrorCode::UNKNOWN_TID));
        assert_eq!(code(b"\0\x03\0\x01abc"), Some(ErrorCode::UNKNOWN_TID));
        assert_eq!(code(b"\0\x05\0\x05no\0"), None);
        assert_eq!(code(b"\0\x63"), None);
        assert_eq!(code(b""), None);
        assert!(matches!(arrive(b"\0\x01a\0octet\0"), Arrival::Read(_)));
    }
}
