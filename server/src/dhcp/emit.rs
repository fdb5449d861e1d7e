//! A reply becomes bytes, in the order of options that firmware is known to read.
//!
//! Pure. Never longer than the client takes (option 57), never shorter than BOOTP's 300 bytes, option 82 as received and last.

use super::packet::{MessageType, Packet, code};
use dhcproto::encoder::Encoder;
use dhcproto::v4::encode_long_opt_bytes;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Options in this order before all others: what a client needs to accept the packet, and the mask, which RFC 2132 section 3.3 wants
/// before the router.
const FIRST: [u8; 6] = [
    code::MESSAGE_TYPE,
    code::SERVER_ID,
    code::LEASE_TIME,
    code::RENEWAL,
    code::REBINDING,
    code::SUBNET_MASK,
];

/// Options in this order after those that the client asked for.
const NETWORK: [u8; 5] = [code::BROADCAST, code::ROUTER, code::DNS, code::DOMAIN, code::HOSTNAME];

/// Options in this order after all others, unless the client asked for them elsewhere: what a boot client reads.
const LAST: [u8; 9] = [
    code::VENDOR_CLASS,
    code::VENDOR,
    code::TFTP_SERVER,
    code::BOOT_FILE,
    code::MACHINE_ID,
    code::IPXE,
    209,
    210,
    211,
];

/// Options that are left out before others when room is short.
const SPARE: [u8; 4] = [code::BROADCAST, code::DOMAIN, code::HOSTNAME, code::CLIENT_ID];

/// IP and UDP headers, which option 57 counts in.
const HEADERS: usize = 28;

/// The vendor field of RFC 951 without cookie and end: what a client of before DHCP has room for.
const BOOTP_ROOM: usize = 64 - 4 - 1;

/// What a reply says; xid, hardware address, relay and flags come from the packet that it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// OFFER, ACK or NAK; none for a client of before DHCP.
    pub message: Option<MessageType>,
    /// The client's address as it told it.
    pub ciaddr: Ipv4Addr,
    /// The address given.
    pub yiaddr: Ipv4Addr,
    /// The boot server.
    pub siaddr: Ipv4Addr,
    /// The boot file; what is too long for the field goes into option 67 alone.
    pub file: String,
    /// Options by code, without 53 and 82, which are added here.
    pub options: BTreeMap<u8, Vec<u8>>,
    /// It goes to the client itself though a relay sent the question, so option 82 stays out (RFC 3046 section 2.1: the relay takes it out).
    pub past_relay: bool,
}

impl Draft {
    /// A reply of `message` from the server `server`, with nothing in it.
    #[must_use]
    pub fn new(message: MessageType, server: Ipv4Addr) -> Self {
        Self {
            message: Some(message),
            options: BTreeMap::from([(code::SERVER_ID, server.octets().to_vec())]),
            ..Self::bootp()
        }
    }

    /// A BOOTREPLY for a client of before DHCP, with nothing in it.
    #[must_use]
    pub const fn bootp() -> Self {
        Self {
            message: None,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            file: String::new(),
            options: BTreeMap::new(),
            past_relay: false,
        }
    }

    /// Adds an option, unless it is empty.
    pub fn put(&mut self, code: u8, value: impl Into<Vec<u8>>) {
        let value = value.into();
        if !value.is_empty() {
            self.options.insert(code, value);
        }
    }

    /// Adds an option of addresses.
    pub fn put_addresses<'a>(&mut self, code: u8, addresses: impl IntoIterator<Item = &'a Ipv4Addr>) {
        let bytes: Vec<u8> = addresses.into_iter().flat_map(|address| address.octets()).collect();
        self.put(code, bytes);
    }

    /// Adds an option of 32 bits.
    pub fn put_u32(&mut self, code: u8, value: u32) {
        self.put(code, value.to_be_bytes());
    }
}

/// The reply to `packet` as bytes. `mtu` is that of the link.
///
/// Options that find no room spill into `file` and `sname` (option 52), the least important ones last; a boot file name in `file` is never
/// overwritten. What still finds no room is left out, option 82 never.
#[must_use]
pub fn emit(packet: &Packet, draft: &Draft, mtu: u32) -> Vec<u8> {
    let limit = limit(packet, mtu);
    let in_field = (1..=127).contains(&draft.file.len()) && !draft.file.contains('\0');
    // Only what a relay sent, and only back to it: who puts option 82 into his own packet learns nothing by it.
    let to_relay = !packet.giaddr.is_unspecified() && !draft.past_relay;
    let relay = packet
        .option(code::RELAY_AGENT)
        .filter(|_| to_relay)
        .map(|bytes| encoded(code::RELAY_AGENT, bytes))
        .unwrap_or_default();
    // Option 52 (three bytes), the end, and option 82 are kept free in the options field.
    let room = limit.saturating_sub(240 + 3 + 1).saturating_sub(relay.len());
    let mut areas = if draft.message.is_some() {
        [
            Area::new(room),
            Area::new(if in_field { 0 } else { 127 }),
            Area::new(63),
        ]
    } else {
        [BOOTP_ROOM, 0, 0].map(Area::new)
    };
    let options = if packet.cookie {
        ordered(draft, packet.option(code::PARAMETER_LIST).unwrap_or_default())
    } else {
        Vec::new()
    };
    for spare in [false, true] {
        for (place, (code, bytes)) in options.iter().enumerate() {
            if SPARE.contains(code) == spare
                && let Some(area) = areas.iter_mut().find(|area| area.fits(bytes))
            {
                area.options.push((place, bytes));
            }
        }
    }
    let [mut main, mut file, mut sname] = areas.map(Area::bytes);
    let overload = u8::from(!file.is_empty()) | (u8::from(!sname.is_empty()) << 1);
    if overload != 0 {
        main.extend([code::OVERLOAD, 1, overload]);
        for area in [&mut file, &mut sname] {
            if !area.is_empty() {
                area.push(255);
            }
        }
    }
    if in_field {
        file = draft.file.as_bytes().to_vec();
    }
    let mut flags = packet.flags & 0x8000;
    if draft.message == Some(MessageType::Nak) && !packet.giaddr.is_unspecified() {
        // RFC 2131 section 4.3.2: the relay must broadcast it, for the client's address may be wrong.
        flags = 0x8000;
    }
    let mut bytes = vec![2, packet.htype, packet.hlen, 0];
    bytes.extend(packet.xid.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(flags.to_be_bytes());
    for address in [draft.ciaddr, draft.yiaddr, draft.siaddr, packet.giaddr] {
        bytes.extend(address.octets());
    }
    bytes.extend(packet.chaddr);
    for (area, size) in [(sname, 64), (file, 128)] {
        bytes.extend(area.into_iter().chain(std::iter::repeat(0)).take(size));
    }
    if packet.cookie {
        bytes.extend(dhcproto::v4::MAGIC);
        bytes.extend(main);
        bytes.extend(relay);
        bytes.push(255);
    }
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

/// A part of the packet that options are laid into.
struct Area<'a> {
    room: usize,
    options: Vec<(usize, &'a Vec<u8>)>,
}

impl<'a> Area<'a> {
    const fn new(room: usize) -> Self {
        Self {
            room,
            options: Vec::new(),
        }
    }

    fn fits(&self, option: &[u8]) -> bool {
        let used: usize = self.options.iter().map(|(_, bytes)| bytes.len()).sum();
        used.saturating_add(option.len()) <= self.room
    }

    /// The options in the order of [`ordered`], whatever order they were laid in.
    fn bytes(mut self) -> Vec<u8> {
        self.options.sort_unstable_by_key(|(place, _)| *place);
        self.options
            .into_iter()
            .flat_map(|(_, bytes)| bytes.iter().copied())
            .collect()
    }
}

/// The longest message that the client and the link take.
fn limit(packet: &Packet, mtu: u32) -> usize {
    let link = usize::try_from(mtu).unwrap_or(usize::MAX).clamp(576, 1500);
    let client = packet.max_size().map_or(576, usize::from);
    client.min(link).saturating_sub(HEADERS)
}

/// Each option as its own bytes: those without which the reply is none, those of `requested` (option 55) in the client's order as
/// RFC 2132 section 9.8 wants, then the others in ours.
fn ordered(draft: &Draft, requested: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = draft.options.clone();
    rest.extend(
        draft
            .message
            .map(|message| (code::MESSAGE_TYPE, vec![message.number()])),
    );
    rest.remove(&code::RELAY_AGENT);
    let mut take = |codes: &[u8]| -> Vec<(u8, Vec<u8>)> {
        codes
            .iter()
            .filter_map(|code| rest.remove(code).map(|value| (*code, value)))
            .collect()
    };
    let mut all = take(&FIRST);
    all.extend(take(requested));
    all.extend(take(&NETWORK));
    let last = take(&LAST);
    all.extend(rest);
    all.extend(last);
    all.iter().map(|(code, value)| (*code, encoded(*code, value))).collect()
}

/// One option, in as many pieces as its length needs (RFC 3396).
fn encoded(code: u8, value: &[u8]) -> Vec<u8> {
    if value.is_empty() {
        return vec![code, 0];
    }
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    match encode_long_opt_bytes(code.into(), value, &mut encoder) {
        Ok(()) => bytes,
        // Writing to memory fails only when its length overflows; half an option would be worse than none.
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::packet::sub_options;
    use crate::dhcp::wall;

    fn relayed(options: &[u8]) -> Packet {
        Packet {
            giaddr: Ipv4Addr::new(192, 0, 2, 2),
            ..asking(options)
        }
    }

    fn asking(options: &[u8]) -> Packet {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        bytes[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        bytes.extend([99, 130, 83, 99]);
        bytes.extend(options);
        wall::parse(&bytes).unwrap()
    }

    fn offer() -> Draft {
        let mut draft = Draft::new(MessageType::Offer, Ipv4Addr::new(192, 0, 2, 1));
        draft.yiaddr = Ipv4Addr::new(192, 0, 2, 9);
        draft.siaddr = Ipv4Addr::new(192, 0, 2, 1);
        draft.put_u32(code::LEASE_TIME, 600);
        draft
    }

    #[test]
    fn golden_offer() {
        let mut draft = offer();
        draft.file = "undionly.kpxe".into();
        draft.put(code::IPXE, [176, 1, 1]);
        draft.put(code::SUBNET_MASK, [255, 255, 255, 0]);
        let bytes = emit(&relayed(&[53, 1, 1, 82, 6, 2, 1, 7, 1, 1, 9]), &draft, 1500);
        assert_eq!(bytes.len(), 300);
        assert_eq!(&bytes[..8], &[2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(&bytes[16..28], &[192, 0, 2, 9, 192, 0, 2, 1, 192, 0, 2, 2]);
        assert_eq!(&bytes[108..122], b"undionly.kpxe\0");
        let mut expected = vec![
            53, 1, 2, 54, 4, 192, 0, 2, 1, 51, 4, 0, 0, 2, 88, 1, 4, 255, 255, 255, 0,
        ];
        expected.extend([175, 3, 176, 1, 1, 82, 6, 2, 1, 7, 1, 1, 9, 255]);
        assert_eq!(&bytes[240..240 + expected.len()], expected);
    }

    fn codes(bytes: &[u8]) -> Vec<u8> {
        let mut rest = &bytes[240..];
        let mut found = Vec::new();
        while let [code, length, tail @ ..] = rest
            && *code != 255
        {
            found.push(*code);
            rest = &tail[usize::from(*length)..];
        }
        found
    }

    #[test]
    fn what_the_client_asked_for_comes_in_its_order_after_what_makes_a_reply() {
        // RFC 2132 section 9.8, and 3.3: the mask before the router, whatever is asked.
        let mut draft = offer();
        for code in [
            code::SUBNET_MASK,
            code::ROUTER,
            code::DNS,
            code::DOMAIN,
            code::BOOT_FILE,
            code::VENDOR,
            code::CLIENT_ID,
        ] {
            draft.put(code, [7; 4]);
        }
        let asked = asking(&[53, 1, 1, 55, 7, 67, 15, 3, 15, 119, 1, 43]);
        let order = [53, 54, 51, 1, 67, 15, 3, 43, 6, 61];
        assert_eq!(codes(&emit(&asked, &draft, 1500)), order);
        // Nothing asked: ours.
        let order = [53, 54, 51, 1, 3, 6, 15, 61, 43, 67];
        assert_eq!(codes(&emit(&asking(&[53, 1, 1]), &draft, 1500)), order);
    }

    #[test]
    fn option_82_goes_back_to_the_relay_that_sent_it_and_to_nobody_else() {
        let options = [53, 1, 1, 82, 3, 1, 1, 9];
        assert!(!codes(&emit(&asking(&options), &offer(), 1500)).contains(&82));
        let past = Draft {
            past_relay: true,
            ..offer()
        };
        assert!(!codes(&emit(&relayed(&options), &past, 1500)).contains(&82));
        let empty = emit(&relayed(&[53, 1, 1, 82, 0]), &offer(), 1500);
        assert_eq!(codes(&empty).last(), Some(&82), "as it came, were it empty");
    }

    #[test]
    fn a_client_of_before_dhcp_gets_no_option_of_dhcp_and_300_bytes() {
        // RFC 1534 section 2, RFC 951: 64 bytes of vendor field.
        let mut draft = Draft::bootp();
        draft.put(code::SUBNET_MASK, [255; 4]);
        draft.put(code::HOSTNAME, [b'h'; 60]);
        draft.put(code::DOMAIN, [b'd'; 40]);
        let bytes = emit(&asking(&[]), &draft, 1500);
        assert_eq!((bytes.len(), codes(&bytes)), (300, vec![1, 15]));
        let mut plain = asking(&[]);
        plain.cookie = false;
        assert_eq!(emit(&plain, &draft, 1500)[236..], [0; 64], "it knows no cookie");
    }

    #[test]
    fn a_peer_decoder_reads_it() {
        use dhcproto::v4::{DhcpOption, Message, OptionCode};
        use dhcproto::{Decodable, Decoder};
        let mut draft = offer();
        draft.put(code::DOMAIN, *b"example.org");
        let bytes = emit(&asking(&[53, 1, 1]), &draft, 1500);
        let message = Message::decode(&mut Decoder::new(&bytes)).unwrap();
        assert_eq!(message.yiaddr(), Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(
            message.opts().get(OptionCode::AddressLeaseTime),
            Some(&DhcpOption::AddressLeaseTime(600))
        );
    }

    #[test]
    fn long_options_are_split_and_the_client_sets_the_limit() {
        let mut draft = offer();
        draft.put(code::BOOT_FILE, vec![b'x'; 300]);
        draft.put(code::HOSTNAME, vec![b'h'; 200]);
        // RFC 3396, with room for all.
        let long = emit(&asking(&[53, 1, 1, 57, 2, 5, 192]), &draft, 1500);
        let joined = wall::parse(&long).unwrap();
        assert_eq!(joined.option(code::BOOT_FILE).unwrap().len(), 300);
        assert_eq!(joined.option(code::HOSTNAME).unwrap().len(), 200);
        // RFC 2132 section 9.10: 576 with the headers when nothing is said. The host name gives way, the boot file does not.
        draft.put(code::BOOT_FILE, vec![b'x'; 200]);
        let short = emit(&asking(&[53, 1, 1]), &draft, 1500);
        assert!(short.len() <= 548);
        let joined = wall::parse(&short).unwrap();
        assert_eq!(joined.option(code::BOOT_FILE).unwrap().len(), 200);
        assert_eq!(joined.option(code::HOSTNAME), None);
    }

    #[test]
    fn what_has_no_room_spills_but_never_over_the_boot_file() {
        let mut draft = offer();
        draft.put(code::BOOT_FILE, vec![b'x'; 200]);
        draft.put(code::HOSTNAME, vec![b'h'; 100]);
        let spilled = emit(&asking(&[53, 1, 1]), &draft, 1500);
        let packet = wall::parse(&spilled).unwrap();
        assert_eq!(packet.option(code::OVERLOAD), Some(&[1_u8][..]));
        assert_eq!(packet.option(code::HOSTNAME).unwrap().len(), 100);
        draft.file = "snponly.efi".into();
        let kept = wall::parse(&emit(&asking(&[53, 1, 1]), &draft, 1500)).unwrap();
        assert_eq!(kept.file, b"snponly.efi");
        assert_eq!(kept.option(code::HOSTNAME), None);
    }

    #[test]
    fn a_long_file_name_stays_out_of_its_field() {
        let mut draft = offer();
        draft.file = "f".repeat(128);
        draft.put(code::BOOT_FILE, draft.file.clone().into_bytes());
        let packet = wall::parse(&emit(&asking(&[53, 1, 1]), &draft, 1500)).unwrap();
        assert!(packet.file.is_empty());
        assert_eq!(packet.option(code::BOOT_FILE).unwrap().len(), 128);
    }

    #[test]
    fn a_long_relay_option_comes_back_verbatim_and_last() {
        let mut options = vec![53, 1, 1, 82, 250, 2, 120];
        options.extend([7; 120]);
        options.extend([1, 126]);
        options.extend([9; 126]);
        let bytes = emit(&relayed(&options), &offer(), 1500);
        assert!(bytes.len() <= 548);
        let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
        assert_eq!(&bytes[end - 252..end], &options[3..]);
        assert_eq!(sub_options(&bytes[end - 250..end]).len(), 2);
    }
}
