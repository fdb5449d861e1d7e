//! A DHCP packet as plain values: the fixed fields, the options by code, and accessors that read one option each.
//!
//! Pure. It never trusts an option: what is malformed reads as absent, and text from the wire comes out escaped.

use crate::boot::Ipxe;
use crate::model::{ArchCode, Firmware, Mac};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// DHCP option codes that are used here (RFC 2132 and the IANA registry), by their names in the field.
pub mod code {
    #![allow(missing_docs, reason = "each name is the registry's own")]
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOSTNAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const BROADCAST: u8 = 28;
    pub const VENDOR: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL: u8 = 58;
    pub const REBINDING: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY_AGENT: u8 = 82;
    pub const ARCH: u8 = 93;
    pub const MACHINE_ID: u8 = 97;
    pub const IPXE: u8 = 175;
}

/// DHCP message types (RFC 2132 section 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageType {
    /// A client looks for servers.
    Discover,
    /// A server offers.
    Offer,
    /// A client takes an offer, or confirms or extends a lease.
    Request,
    /// A client found its address in use.
    Decline,
    /// A server grants.
    Ack,
    /// A server refuses.
    Nak,
    /// A client gives its address back.
    Release,
    /// A client that has an address asks for the rest.
    Inform,
}

impl MessageType {
    /// The number of option 53.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Discover => 1,
            Self::Offer => 2,
            Self::Request => 3,
            Self::Decline => 4,
            Self::Ack => 5,
            Self::Nak => 6,
            Self::Release => 7,
            Self::Inform => 8,
        }
    }

    /// The word without `DHCP` in front: `DISCOVER`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discover => "DISCOVER",
            Self::Offer => "OFFER",
            Self::Request => "REQUEST",
            Self::Decline => "DECLINE",
            Self::Ack => "ACK",
            Self::Nak => "NAK",
            Self::Release => "RELEASE",
            Self::Inform => "INFORM",
        }
    }

    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }
}

/// Who sent a packet, as its `op` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// BOOTREQUEST: a client.
    Request,
    /// BOOTREPLY: a server.
    Reply,
}

/// What kind of network boot client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// iPXE, wherever it was loaded from.
    Ipxe(Ipxe),
    /// PXE firmware: option 60 `PXEClient...`.
    Pxe,
    /// UEFI HTTP Boot: option 60 `HTTPClient...`.
    Http,
    /// No boot client: an installer, an operating system, a printer.
    Other,
}

/// One packet that passed the wall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Client or server.
    pub op: Op,
    /// Hardware type; 1 is Ethernet.
    pub htype: u8,
    /// Length of the hardware address, at most 16.
    pub hlen: u8,
    /// Relays passed.
    pub hops: u8,
    /// Transaction.
    pub xid: u32,
    /// Seconds since the client began; junk from iPXE.
    pub secs: u16,
    /// Flags; the top bit asks for broadcast.
    pub flags: u16,
    /// The client's own address, when it has one.
    pub ciaddr: Ipv4Addr,
    /// `your` address, in replies.
    pub yiaddr: Ipv4Addr,
    /// Next server, in replies.
    pub siaddr: Ipv4Addr,
    /// The relay.
    pub giaddr: Ipv4Addr,
    /// The 16 bytes of the hardware address field, for the reply.
    pub chaddr: [u8; 16],
    /// The `file` field up to its NUL, unless option 52 filled it with options.
    pub file: Vec<u8>,
    /// Options by code, those of the same code joined (RFC 3396).
    pub options: BTreeMap<u8, Vec<u8>>,
    /// Options that were cut off.
    pub bad_options: u32,
    /// Where the packet came from.
    pub source: SocketAddrV4,
    /// The port that it came to: 67 or 4011.
    pub port: u16,
    /// False for a client of RFC 951 that left the vendor field empty: it reads no options.
    pub cookie: bool,
}

impl Packet {
    /// The same packet with the facts of its arrival.
    #[must_use]
    pub fn arrived(mut self, source: SocketAddrV4, port: u16) -> Self {
        self.source = source;
        self.port = port;
        self
    }

    /// The raw bytes of an option.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// The hardware address, when it is one of six bytes that a machine can own.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        let (bytes, _) = self.chaddr.split_first_chunk::<6>()?;
        let mac = Mac::new(*bytes);
        (self.hlen == 6 && !mac.is_unusable()).then_some(mac)
    }

    /// True when the client can take a frame to its hardware address before it has an IP address.
    #[must_use]
    pub const fn is_ethernet(&self) -> bool {
        self.htype == 1 && self.hlen == 6
    }

    /// True when the client wants its answer broadcast (RFC 2131 section 4.1).
    #[must_use]
    pub const fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Option 53.
    #[must_use]
    pub fn message(&self) -> Option<MessageType> {
        match self.option(code::MESSAGE_TYPE)? {
            [number] => MessageType::of(*number),
            _ => None,
        }
    }

    /// Option 50.
    #[must_use]
    pub fn requested_address(&self) -> Option<Ipv4Addr> {
        self.address(code::REQUESTED_ADDRESS)
    }

    /// Option 54.
    #[must_use]
    pub fn server_id(&self) -> Option<Ipv4Addr> {
        self.address(code::SERVER_ID)
    }

    /// Option 51 in seconds.
    #[must_use]
    pub fn lease_seconds(&self) -> Option<u32> {
        let bytes: [u8; 4] = self.option(code::LEASE_TIME)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    }

    /// Option 57; what is below RFC 2132's least value of 576 reads as 576.
    #[must_use]
    pub fn max_size(&self) -> Option<u16> {
        let bytes: [u8; 2] = self.option(code::MAX_SIZE)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes).max(576))
    }

    /// True when option 55 names `code`, or when the client sent no option 55 and so takes what there is.
    #[must_use]
    pub fn asks_for(&self, code: u8) -> bool {
        self.option(code::PARAMETER_LIST)
            .is_none_or(|list| list.contains(&code))
    }

    /// Option 60 as text, escaped.
    #[must_use]
    pub fn vendor_class(&self) -> Option<String> {
        self.option(code::VENDOR_CLASS).map(escaped)
    }

    /// Option 12 as text, escaped.
    #[must_use]
    pub fn hostname(&self) -> Option<String> {
        self.option(code::HOSTNAME)
            .map(trim_nul)
            .filter(|name| !name.is_empty())
            .map(escaped)
    }

    /// Option 93, all architectures that the client names, in its order. PXE ROMs that leave it out say it in option 60.
    #[must_use]
    pub fn archs(&self) -> Vec<ArchCode> {
        if let Some(bytes) = self.option(code::ARCH) {
            return bytes
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| ArchCode(u16::from_be_bytes(*pair)))
                .collect();
        }
        let class = self.option(code::VENDOR_CLASS).unwrap_or_default();
        std::str::from_utf8(class)
            .ok()
            .and_then(|class| class.split(':').skip_while(|word| *word != "Arch").nth(1))
            .and_then(|digits| digits.parse().ok())
            .map(ArchCode)
            .into_iter()
            .collect()
    }

    /// The firmware: of several architectures the first that fits how the client boots.
    #[must_use]
    pub fn firmware(&self) -> Option<Firmware> {
        let http = self.is_class(b"HTTPClient");
        let all: Vec<Firmware> = self.archs().into_iter().map(Firmware::from).collect();
        all.iter()
            .find(|firmware| !matches!(firmware, Firmware::Other(_)) && firmware.is_http() == http)
            .or_else(|| all.first())
            .copied()
    }

    /// Option 97: the SMBIOS UUID as firmware setup shows it. The first three fields are little endian on the wire.
    #[must_use]
    pub fn uuid(&self) -> Option<String> {
        let bytes: [u8; 17] = self.option(code::MACHINE_ID)?.try_into().ok()?;
        let [0, a, b, c, d, e, f, g, h, rest @ ..] = bytes else {
            return None;
        };
        let [i, j, node @ ..] = rest;
        let node: String = node.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!(
            "{d:02x}{c:02x}{b:02x}{a:02x}-{f:02x}{e:02x}-{h:02x}{g:02x}-{i:02x}{j:02x}-{node}"
        ))
    }

    /// iPXE's own account of itself: option 77 `iPXE`, bare as iPXE sends it or with RFC 3004's length, or its version in option 175.
    #[must_use]
    pub fn ipxe(&self) -> Option<Ipxe> {
        let encapsulated = self.option(code::IPXE).map(sub_options).unwrap_or_default();
        let named = self.option(code::USER_CLASS).is_some_and(|class| {
            class.starts_with(b"iPXE")
                || class
                    .strip_prefix(b"\x04")
                    .is_some_and(|class| class.starts_with(b"iPXE"))
        });
        let version = match encapsulated.get(&235).map(Vec::as_slice) {
            Some([a, b, c, ..]) => Some((*a, *b, *c)),
            _ => None,
        };
        if !named && version.is_none() {
            return None;
        }
        let has = |code| {
            encapsulated
                .get(&code)
                .is_some_and(|value: &Vec<u8>| value.iter().any(|b| *b != 0))
        };
        Some(Ipxe {
            http: has(19),
            bzimage: has(24),
            version,
        })
    }

    /// What kind of boot client this is.
    #[must_use]
    pub fn client(&self) -> Client {
        if let Some(ipxe) = self.ipxe() {
            Client::Ipxe(ipxe)
        } else if self.is_class(b"PXEClient") {
            Client::Pxe
        } else if self.is_class(b"HTTPClient") {
            Client::Http
        } else {
            Client::Other
        }
    }

    /// Sub-option `code` of option 82, as the relay sent it.
    #[must_use]
    pub fn relay_option(&self, code: u8) -> Option<Vec<u8>> {
        sub_options(self.option(code::RELAY_AGENT)?).remove(&code)
    }

    /// Sub-option `code` of option 43.
    #[must_use]
    pub fn vendor_option(&self, code: u8) -> Option<Vec<u8>> {
        sub_options(self.option(code::VENDOR)?).remove(&code)
    }

    fn is_class(&self, class: &[u8]) -> bool {
        self.option(code::VENDOR_CLASS)
            .is_some_and(|text| text.starts_with(class))
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = self.option(code)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes)).filter(|address| !address.is_unspecified())
    }
}

/// Encapsulated options: code, length, value; 0 pads and 255 ends. What is cut off is left out.
#[must_use]
pub fn sub_options(mut bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found = BTreeMap::<u8, Vec<u8>>::new();
    loop {
        bytes = match bytes {
            [] | [255, ..] => return found,
            [0, rest @ ..] => rest,
            [code, length, rest @ ..] => match rest.split_at_checked(usize::from(*length)) {
                Some((value, rest)) => {
                    found.entry(*code).or_default().extend_from_slice(value);
                    rest
                }
                None => return found,
            },
            [_] => return found,
        };
    }
}

fn trim_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Text from the wire, one line of ASCII, at most 255 bytes.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let shown = byte.escape_ascii().to_string();
        if text.len().saturating_add(shown.len()) > 255 {
            break;
        }
        text.push_str(&shown);
    }
    text
}
