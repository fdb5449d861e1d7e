//! The codec: RFC 1350, the options of RFC 2347, 2348 and 2349, and the window of RFC 7440.
//!
//! Pure. Any bytes give a packet or a reason; names stay bytes until someone needs text. Never answers anything itself.

use std::fmt;

/// The longest file name that is taken, in bytes.
pub const NAME_MAX: usize = 255;
/// How many options of a request are looked at; the rest is ignored.
const OPTIONS_MAX: usize = 16;
/// Longest error text that is kept of a peer, in bytes.
const MESSAGE_MAX: usize = 128;

/// A TFTP error code (RFC 1350 section 5, RFC 2347 for 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorCode(pub u16);

impl ErrorCode {
    /// 0: see the message.
    pub const OTHER: Self = Self(0);
    /// 1: file not found.
    pub const NOT_FOUND: Self = Self(1);
    /// 2: access violation.
    pub const ACCESS: Self = Self(2);
    /// 4: illegal TFTP operation.
    pub const ILLEGAL: Self = Self(4);
    /// 5: unknown transfer ID.
    pub const UNKNOWN_TID: Self = Self(5);
    /// 8: the option negotiation ended the transfer; firmware sends it after it has learned a file's size.
    pub const OPTIONS: Self = Self(8);
}

/// The name of a file as it was asked for, made regular: `\` became `/`, doubled and leading slashes and `.` are gone, no `..` is left.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Vec<u8>);

/// The bytes are no file name that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing is left of it.
    #[error("the file name is empty")]
    Empty,
    /// Longer than [`NAME_MAX`].
    #[error("the file name has {0} bytes, at most {NAME_MAX} are taken")]
    TooLong(usize),
    /// It climbs.
    #[error("the file name contains `..`")]
    Climbs,
    /// It holds a NUL or another control character.
    #[error("the file name contains the control byte {0:#04x}")]
    Control(u8),
}

impl FileName {
    /// Takes a name from the wire.
    ///
    /// # Errors
    /// When it is empty, too long, climbs with `..`, or holds control bytes.
    pub fn new(wire: &[u8]) -> Result<Self, BadName> {
        if wire.len() > NAME_MAX {
            return Err(BadName::TooLong(wire.len()));
        }
        if let Some(byte) = wire.iter().find(|byte| byte.is_ascii_control()) {
            return Err(BadName::Control(*byte));
        }
        // Firmware that reads option 67 past its end asks for `snponly.efi` and the 0xff of the DHCP end option after it.
        // No UTF-8 text holds 0xff, so nothing else can be meant. Parts that say nothing go with it: what is left ends the name.
        let mut said = wire;
        while let [head @ .., 0xff | b'/' | b'\\'] | [head @ .., b'/' | b'\\', b'.'] = said {
            said = head;
        }
        let mut name = Vec::with_capacity(said.len());
        for part in said.split(|byte| matches!(byte, b'/' | b'\\')) {
            match part {
                b"" | b"." => {}
                b".." => return Err(BadName::Climbs),
                part => {
                    if !name.is_empty() {
                        name.push(b'/');
                    }
                    name.extend_from_slice(part);
                }
            }
        }
        if name.is_empty() {
            return Err(BadName::Empty);
        }
        Ok(Self(name))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as text; none when it is not UTF-8, and then there is no such file.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

/// Escaped, fit for a log.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// How the bytes of a file are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they are.
    Octet,
    /// With the line ends of the NVT; see [`super::netascii`].
    Netascii,
}

/// The options that are known, as asked for or as granted. What a value may be is judged where it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// RFC 2348: bytes in a block.
    pub blksize: Option<u64>,
    /// RFC 2349: seconds until a packet is sent again.
    pub timeout: Option<u64>,
    /// RFC 2349: bytes in the file; a reader asks with 0.
    pub tsize: Option<u64>,
    /// RFC 7440: blocks in a window.
    pub windowsize: Option<u64>,
}

impl Options {
    /// True when nothing is asked for or granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads `name NUL value NUL` pairs. What is unknown, malformed, or stands there a second time is left out, as RFC 2347 wants.
    fn decode(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        for _ in 0..OPTIONS_MAX {
            let Some((name, rest)) = text(bytes) else { break };
            let Some((value, rest)) = text(rest) else { break };
            // Some ROMs fill the request up with NULs.
            if name.is_empty() {
                break;
            }
            bytes = rest;
            let slot = match name.to_ascii_lowercase().as_slice() {
                b"blksize" => &mut options.blksize,
                b"timeout" => &mut options.timeout,
                b"tsize" => &mut options.tsize,
                b"windowsize" => &mut options.windowsize,
                _ => continue,
            };
            if slot.is_none() {
                *slot = number(value);
            }
        }
        options
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let all: [(&[u8], Option<u64>); 4] = [
            (b"blksize", self.blksize),
            (b"timeout", self.timeout),
            (b"tsize", self.tsize),
            (b"windowsize", self.windowsize),
        ];
        for (name, value) in all {
            if let Some(value) = value {
                out.extend_from_slice(name);
                out.push(0);
                out.extend_from_slice(value.to_string().as_bytes());
                out.push(0);
            }
        }
    }
}

/// A request to read a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which.
    pub name: FileName,
    /// How its bytes are written.
    pub mode: Mode,
    /// What else is asked for.
    pub options: Options,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Opcode 1.
    Read(Request),
    /// Opcode 2. Never served, so nothing of it is kept.
    Write,
    /// Opcode 3.
    Data {
        /// Number of the block, which starts again at 0 after 65535.
        block: u16,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// Opcode 4.
    Ack {
        /// The last block that came in order.
        block: u16,
    },
    /// Opcode 5.
    Error {
        /// The code.
        code: ErrorCode,
        /// The text, escaped and cut.
        message: String,
    },
    /// Opcode 6.
    OptionsGranted(Options),
}

/// The bytes are no packet, or no request that is served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// Too short for its opcode.
    #[error("{0} bytes are too few for a TFTP packet")]
    Short(usize),
    /// Not an opcode of RFC 1350 or 2347.
    #[error("opcode {0} is not one of TFTP's six")]
    Opcode(u16),
    /// The name or the mode has no end.
    #[error("the file name or the mode does not end with a NUL")]
    Endless,
    /// The name is refused.
    #[error(transparent)]
    Name(#[from] BadName),
    /// Neither octet nor netascii.
    #[error("transfer mode `{0}` is not served, only octet and netascii are")]
    Mode(String),
}

impl BadPacket {
    /// What the sender is told; nothing when it is noise, so that noise is never answered.
    #[must_use]
    pub const fn reply(&self) -> Option<(ErrorCode, &'static str)> {
        match self {
            Self::Short(_) | Self::Opcode(_) => None,
            Self::Endless => Some((ErrorCode::ILLEGAL, "malformed request")),
            Self::Name(BadName::Climbs | BadName::Control(_)) => Some((ErrorCode::ACCESS, "no such name is served")),
            Self::Name(BadName::Empty | BadName::TooLong(_)) => Some((ErrorCode::NOT_FOUND, "file not found")),
            Self::Mode(_) => Some((ErrorCode::ILLEGAL, "only octet and netascii are served")),
        }
    }
}

impl<'a> Packet<'a> {
    /// Reads a datagram. Bytes after an ACK are ignored: Ethernet pads, and some stacks hand the padding up.
    ///
    /// # Errors
    /// When it is no packet or an impossible request.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, BadPacket> {
        let short = || BadPacket::Short(datagram.len());
        let (opcode, body) = word(datagram).ok_or_else(short)?;
        Ok(match opcode {
            1 => Self::Read(Request::decode(body)?),
            2 => Self::Write,
            3 => {
                let (block, bytes) = word(body).ok_or_else(short)?;
                Self::Data { block, bytes }
            }
            4 => Self::Ack {
                block: word(body).ok_or_else(short)?.0,
            },
            5 => {
                let (code, message) = word(body).ok_or_else(short)?;
                let message = message.split(|byte| *byte == 0).next().unwrap_or(&[]);
                let message = message.get(..MESSAGE_MAX).unwrap_or(message);
                Self::Error {
                    code: ErrorCode(code),
                    message: message.escape_ascii().to_string(),
                }
            }
            6 => Self::OptionsGranted(Options::decode(body)),
            other => return Err(BadPacket::Opcode(other)),
        })
    }

    /// Appends the packet to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Read(request) => {
                out.extend_from_slice(&[0, 1]);
                out.extend_from_slice(request.name.as_bytes());
                out.extend_from_slice(match request.mode {
                    Mode::Octet => b"\0octet\0",
                    Mode::Netascii => b"\0netascii\0",
                });
                request.options.encode(out);
            }
            Self::Write => out.extend_from_slice(b"\0\x02\0octet\0"),
            Self::Data { block, bytes } => {
                put_data_head(out, *block);
                out.extend_from_slice(bytes);
            }
            Self::Ack { block } => {
                out.extend_from_slice(&[0, 4]);
                out.extend_from_slice(&block.to_be_bytes());
            }
            Self::Error { code, message } => {
                out.extend_from_slice(&[0, 5]);
                out.extend_from_slice(&code.0.to_be_bytes());
                out.extend_from_slice(message.as_bytes());
                out.push(0);
            }
            Self::OptionsGranted(options) => {
                out.extend_from_slice(&[0, 6]);
                options.encode(out);
            }
        }
    }

    /// The packet as bytes of its own.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode(&mut out);
        out
    }

    /// An error packet.
    #[must_use]
    pub fn error(code: ErrorCode, message: &str) -> Vec<u8> {
        Packet::Error {
            code,
            message: message.to_owned(),
        }
        .to_bytes()
    }
}

impl Request {
    fn decode(body: &[u8]) -> Result<Self, BadPacket> {
        let (name, rest) = text(body).ok_or(BadPacket::Endless)?;
        let (mode, options) = text(rest).ok_or(BadPacket::Endless)?;
        let mode = match mode.to_ascii_lowercase().as_slice() {
            b"octet" => Mode::Octet,
            b"netascii" => Mode::Netascii,
            other => {
                let shown = other.get(..16).unwrap_or(other);
                return Err(BadPacket::Mode(shown.escape_ascii().to_string()));
            }
        };
        Ok(Self {
            name: FileName::new(name)?,
            mode,
            options: Options::decode(options),
        })
    }
}

/// Appends the four bytes before the payload of a block.
pub(super) fn put_data_head(out: &mut Vec<u8>, block: u16) {
    out.extend_from_slice(&[0, 3]);
    out.extend_from_slice(&block.to_be_bytes());
}

fn word(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*head), rest))
}

fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((text, rest.get(1..)?))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
