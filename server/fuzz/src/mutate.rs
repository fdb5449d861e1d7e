//! Mutations that know the formats: a DHCP packet keeps its shape while its options move, a request keeps its lines.
//!
//! Seeded, so that a failure comes again from its seed; the fuzz binary's engine mixes them with its own.

use super::input::Input;

/// xorshift64*: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.roll()) * limit as u128) >> 64) as usize
    }

    pub fn byte(&mut self) -> u8 {
        self.roll().to_be_bytes()[0]
    }

    pub fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Changes `bytes`, an input of `target`.
pub fn mutate(target: &str, bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        match (target, dice.below(4)) {
            ("dhcp", 0..=2) => dhcp(bytes, dice),
            ("wall", 0) => fixed(bytes, dice),
            ("wall", 1 | 2) => options(bytes, dice),
            ("packet", 0 | 1) => request(bytes, dice),
            ("leases", 0..=2) => groups(bytes, 4, dice),
            ("tftp", 0 | 1) => tftp(bytes, dice),
            ("iso", 0..=2) => iso(bytes, dice),
            (_, 0 | 1) => word(bytes, words(target), dice),
            _ => plain(bytes, dice),
        }
    }
}

/// What any bytes can suffer.
fn plain(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len() + 1);
    match dice.below(8) {
        0 => bytes.insert(at, dice.byte()),
        1 => bytes.truncate(at),
        2 => {
            let length = dice.below(32).min(bytes.len() - at);
            bytes.drain(at..at + length);
        }
        3 => {
            let length = dice.below(64).min(bytes.len() - at);
            let piece = bytes[at..at + length].to_vec();
            let to = dice.below(bytes.len() + 1);
            bytes.splice(to..to, piece);
        }
        4 => {
            let byte = dice.byte();
            let count = dice.below(300);
            bytes.splice(at..at, std::iter::repeat_n(byte, count));
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = match dice.below(4) {
                    0 => [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
                    1 => byte.wrapping_add(1),
                    2 => *byte ^ (1 << dice.below(8)),
                    _ => dice.byte(),
                };
            }
        }
    }
}

/// Puts a word of the format in, in the place of something or between.
fn word(bytes: &mut Vec<u8>, words: &[&str], dice: &mut Dice) {
    if words.is_empty() {
        return plain(bytes, dice);
    }
    let at = dice.below(bytes.len() + 1);
    let over = if dice.below(2) == 0 {
        0
    } else {
        dice.below(12).min(bytes.len() - at)
    };
    bytes.splice(at..at + over, dice.one(words).bytes());
}

/// Moves whole groups of `size` bytes.
fn groups(bytes: &mut Vec<u8>, size: usize, dice: &mut Dice) {
    let count = bytes.len() / size;
    let at = dice.below(count + 1) * size;
    match dice.below(4) {
        0 if count > 0 => {
            let from = dice.below(count) * size;
            let piece = bytes[from..from + size].to_vec();
            bytes.splice(at..at, piece);
        }
        1 if at + size <= bytes.len() => drop(bytes.drain(at..at + size)),
        2 if at + size <= bytes.len() => {
            let place = at + dice.below(size);
            bytes[place] = dice.byte();
        }
        _ => {
            let group: Vec<u8> = (0..size).map(|_| dice.byte()).collect();
            bytes.splice(at..at, group);
        }
    }
}

/// Option codes that mean something to the server.
const CODES: [u8; 20] = [
    1, 12, 43, 50, 51, 52, 53, 54, 55, 57, 60, 61, 66, 67, 77, 82, 93, 97, 175, 0,
];
/// Values that mean something.
const VALUES: [&[u8]; 22] = [
    b"\x01",
    b"\x03",
    b"\x04",
    b"\x07",
    b"\x08",
    b"PXEClient:Arch:00007:UNDI:003016",
    b"PXEClient",
    b"HTTPClient:Arch:00016",
    b"iPXE",
    b"\x13\x01\x01\x18\x01\x01\xeb\x03\x01\x15\x01",
    &[192, 168, 77, 1],
    &[192, 168, 77, 21],
    &[192, 168, 77, 5],
    &[10, 5, 0, 1],
    &[10, 5, 0, 252],
    &[0, 0, 0, 0],
    &[255, 255, 255, 255],
    &[0x02, 0x40],
    &[0x05, 0xdc],
    b"\x01\x04eth0\x05\x04\x0a\x05\x00\x00",
    b"\x00\x07\x00\x10",
    b"\xff\xfe\x80",
];

fn dhcp(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let mut input = Input(bytes);
    let world = input.byte();
    let mut packets: Vec<(u8, Vec<u8>)> = Vec::new();
    while !input.is_empty() {
        let length = usize::from(input.word());
        let circumstances = input.byte();
        packets.push((circumstances, input.take(length).to_vec()));
    }
    if packets.is_empty() {
        return plain(bytes, dice);
    }
    let at = dice.below(packets.len());
    match dice.below(10) {
        0 => packets[at].0 = dice.byte(),
        1 => {
            let copy = packets[at].clone();
            packets.push(copy);
        }
        2 if packets.len() > 1 => drop(packets.remove(at)),
        3 => plain(&mut packets[at].1, dice),
        4 | 5 => fixed(&mut packets[at].1, dice),
        _ => options(&mut packets[at].1, dice),
    }
    bytes.clear();
    bytes.push(if dice.below(16) == 0 { dice.byte() } else { world });
    for (circumstances, packet) in packets.iter().take(8) {
        bytes.extend(u16::try_from(packet.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.push(*circumstances);
        bytes.extend(packet);
    }
}

/// A field before the options.
fn fixed(packet: &mut [u8], dice: &mut Dice) {
    let address = dice.one(&VALUES[10..17]);
    let (at, value): (usize, &[u8]) = match dice.below(9) {
        0 => (0, &[2]),
        1 => (1, &[6]),
        2 => (2, &[16]),
        3 => (10, &[0x80]),
        4 => (12, address),
        5 | 6 => (24, address),
        7 => (28, &[0x52, 0x54, 0, 0, 0]),
        _ => (108, b"\x3c\x09PXEClient\xff"),
    };
    if let Some(to) = packet.get_mut(at..at + value.len()) {
        to.copy_from_slice(value);
    }
    // Another of the known machines.
    if let Some(last) = packet.get_mut(33).filter(|_| at == 28) {
        *last = dice.byte() & 15;
    }
}

fn options(packet: &mut Vec<u8>, dice: &mut Dice) {
    if packet.len() < 240 {
        return plain(packet, dice);
    }
    let tail = packet.split_off(240);
    let mut input = Input(&tail);
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    while !input.is_empty() {
        match input.byte() {
            0 => {}
            255 => break,
            code => {
                let length = usize::from(input.byte());
                options.push((code, input.take(length).to_vec()));
            }
        }
    }
    let at = dice.below(options.len() + 1);
    let code = CODES[dice.below(CODES.len())];
    match dice.below(9) {
        0 | 1 => options.insert(at, (code, dice.one(&VALUES).to_vec())),
        2 => options.insert(at, (code, vec![dice.byte(); dice.below(256)])),
        _ if options.is_empty() => {}
        3 => drop(options.remove(at.min(options.len() - 1))),
        4 => {
            let last = options.len() - 1;
            options.swap(at.min(last), dice.below(last + 1));
        }
        5 => {
            let last = options.len() - 1;
            options[at.min(last)].1 = dice.one(&VALUES).to_vec();
        }
        6 => {
            let last = options.len() - 1;
            let (code, value) = options[at.min(last)].clone();
            let half = value.len() / 2;
            options[at.min(last)].1.truncate(half);
            options.push((code, value[half..].to_vec()));
        }
        7 => {
            let last = options.len() - 1;
            plain(&mut options[at.min(last)].1, dice);
        }
        _ => {
            let last = options.len() - 1;
            options[at.min(last)].0 = code;
        }
    }
    // The length and the value part once in a while.
    let lie = if dice.below(12) == 0 {
        dice.below(options.len() + 1)
    } else {
        usize::MAX
    };
    for (number, (code, value)) in options.iter().enumerate() {
        let value = &value[..value.len().min(255)];
        packet.push(*code);
        packet.push(if number == lie { dice.byte() } else { value.len() as u8 });
        packet.extend(value);
    }
    if dice.below(16) != 0 {
        packet.push(255);
    }
}

/// A request put among the steps, or steps moved.
fn tftp(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = if dice.below(3) == 0 {
        4.min(bytes.len())
    } else {
        dice.below(bytes.len() + 1)
    };
    if dice.below(2) == 0 {
        let count = 1 + dice.below(24);
        let step = [2, 0x12, 0x22, 0x32, 9, 10, 11, 12, 12, 13, 0x82][dice.below(11)];
        bytes.splice(at..at, std::iter::repeat_n(step, count));
        return;
    }
    let request = a_request(dice);
    let mut step = vec![0];
    step.extend(u16::try_from(request.len()).unwrap_or(0).to_le_bytes());
    step.extend(request);
    bytes.splice(at..at, step);
}

/// One datagram: an opcode, or a whole request, or options behind it.
fn request(bytes: &mut Vec<u8>, dice: &mut Dice) {
    match dice.below(4) {
        0 => {
            let opcode = [0, 1, 1, 1, 2, 3, 4, 5, 6, 7][dice.below(10)];
            if let [_, low, ..] = bytes.as_mut_slice() {
                *low = opcode;
            }
        }
        1 => *bytes = a_request(dice),
        _ => {
            let more = a_request(dice);
            let from = dice.below(more.len());
            bytes.extend(&more[from..]);
        }
    }
}

fn a_request(dice: &mut Dice) -> Vec<u8> {
    let mut request = vec![0, 1];
    request.extend(dice.one(&[
        &b"snponly.efi"[..],
        b"a",
        b"\\x\\y",
        b"../x",
        b"snponly.efi\xff",
        b"b/52-54-00-00-00-01/ipxe",
    ]));
    request.extend(dice.one(&[
        &b"\0octet\0"[..],
        b"\0octet\0",
        b"\0netascii\0",
        b"\0OCTET\0",
        b"\0mail\0",
    ]));
    for _ in 0..dice.below(4) {
        request.extend(dice.one(&[
            &b"blksize\0"[..],
            b"windowsize\0",
            b"tsize\0",
            b"timeout\0",
            b"multicast\0",
        ]));
        request.extend(dice.one(&[
            &b"8\0"[..],
            b"512\0",
            b"1468\0",
            b"65464\0",
            b"64\0",
            b"4\0",
            b"1\0",
            b"0\0",
            b"99999999999999999999\0",
        ]));
    }
    request
}

/// Bytes of an image's pieces, never their frame.
fn iso(bytes: &mut [u8], dice: &mut Dice) {
    let mut places = Vec::new();
    let mut at = 2;
    while let Some(length) = bytes.get(at + 2..at + 4) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        places.push((at + 4, length.min(bytes.len().saturating_sub(at + 4))));
        at += 4 + length;
    }
    if places.is_empty() {
        return;
    }
    let (from, length) = places[dice.below(places.len())];
    if length == 0 {
        return;
    }
    let place = from + dice.below(length);
    match dice.below(5) {
        0 => bytes[place] = 0,
        1 => bytes[place] = 0xff,
        2 => bytes[place] ^= 1 << dice.below(8),
        3 => bytes[place] = dice.byte(),
        _ => {
            let other = from + dice.below(length);
            let count = dice.below(64).min(from + length - place.max(other));
            bytes.copy_within(other..other + count, place);
        }
    }
}

/// What the texts of a target are made of.
fn words(target: &str) -> &'static [&'static str] {
    match target {
        "xmlrpc" => &[
            "<value>",
            "</value>",
            "<array><data>",
            "</data></array>",
            "<struct>",
            "<member><name>",
            "</name>",
            "<string>",
            "</string>",
            "<int>",
            "<nil/>",
            "<boolean>",
            "<base64>",
            "<![CDATA[",
            "]]>",
            "<!--",
            "<!DOCTYPE x [",
            "<!ENTITY a \"b\">",
            "&#x0;",
            "&#xd800;",
            "&amp;",
            "&a;",
            "<?x?>",
            "xmlns:a='b'",
        ],
        "http" | "paths" | "route" => &[
            "/",
            "//",
            "../",
            "%2e%2e/",
            "%2f",
            "%00",
            "%zz",
            "\\",
            "..\\",
            "/d/rocky9/",
            "/d/debian12/-/kernel",
            "/d/debian12/-/initrd0",
            "images/pxeboot/vmlinuz",
            "/b/52-54-00-00-00-01/ipxe",
            "/b/52-54-00-00-00-02/grub.cfg",
            "/b/52-54-00-00-00-03/pxelinux",
            "/pxelinux.cfg/01-52-54-00-00-00-01",
            "/grub.cfg-01-52-54-00-00-00-03",
            "/l/snponly.efi",
            "/metrics",
            "/healthz",
            "/i/",
            "/r/",
            "/ks.cfg",
            "/done",
            "/failed",
            "/partitioning",
            "detail=",
            "bytes=0-",
            "bytes=-1",
            "bytes=5-9,1-2",
            "\n",
            "*",
            "W/\"",
            "18446744073709551615",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "{\"name\":\"x\",\"result\":\"FAIL\"}",
        ],
        "config" => &[
            "[server]\n",
            "[dhcp]\nmode = \"authoritative\"\n",
            "[[subnet]]\n",
            "network = \"192.168.77.0/24\"\n",
            "pool = \"192.168.77.10-192.168.77.20\"\n",
            "relays = [\"10.0.0.1\"]\n",
            "binding = \"token-only\"\n",
            "lease = \"12h\"\n",
            "[http]\nport = ",
            "[defaults]\n",
            "root_password_hash = \"$6$x$secretsecretsecret\"\n",
            "address = \"192.0.2.1\"\n",
            "\"\"\"",
            "'''",
            "\\u0000",
            "= {",
            "= [",
            "0x",
            "1979-05-27T07:32:00Z",
            "kernel_options = \"a=b !c\"\n",
        ],
        "document" => &[
            "[[distro]]\n",
            "[[profile]]\n",
            "[[system]]\n",
            "name = \"x\"\n",
            "profile = \"web\"\n",
            "distro = \"rocky9\"\n",
            "parent = \"base\"\n",
            "[system.interfaces.eth0]\n",
            "mac_address = \"52:54:00:00:00:07\"\n",
            "ip_address = \"192.168.77.9\"\n",
            "netboot_enabled = true\n",
            "kernel_options = \"a=b ~c !d\"\n",
            "autoinstall_meta = 'x=\"y z\"'\n",
            "arch = \"x86_64\"\n",
            "breed = \"redhat\"\n",
            "tree = \"/srv/x\"\n",
            "initrd = [\"i\"]\n",
            "kernel = \"k\"\n",
            "<<inherit>>",
            "\"\"\"",
            "\\\"",
            "!",
            "~",
        ],
        "template" => &[
            "{{ ",
            " }}",
            "{% for i in range(99) %}",
            "{% endfor %}",
            "{% if ",
            " %}",
            "{% else %}",
            "{% endif %}",
            "{% set x = ",
            "{% macro m() %}",
            "{% endmacro %}",
            "m()",
            "snippet('own')",
            "{% include 'own' %}",
            "{% raw %}",
            "{% endraw %}",
            "value",
            "|sh",
            "|json",
            "|upper",
            "|replace('a', value)",
            "|join(value)",
            ".split('')",
            ".items()",
            ".get('a')",
            " * 9999",
            " ~ ",
            "**",
            "[::2]",
            "namespace(a=1)",
            "{% filter upper %}",
            "{% endfilter %}",
            "@@value@@",
            "@@root_password_hash@@",
            "root_password_hash",
            "answer_url",
            "interfaces",
            "loop.index",
            "range(100000)",
            "|list",
            "|tojson",
            "|format(value)",
            "|indent(9999)",
            "dict(a=1)",
            "{% extends 'own' %}",
            "{% block b %}",
            "{% endblock %}",
            "|batch(2)",
            "|sort",
            "|map('upper')",
            "\u{0}",
        ],
        "encoders" | "scripts" => &[
            "'", "\"", "\\", "\n%end\n", "\r\n", "${", "$(", "`", "]]>", "&", "<", "{{", "%}", "|| ", "&& ", "; ",
            "# ", "\u{2028}", "\u{85}", "\u{feff}", "\u{0}", " ", "=", "--", "http://", "\u{e4}", "\u{1f}", "\t",
        ],
        "rows" => &[
            "{\"name\":\"x\"",
            ",\"profile\":\"web\"}",
            "\"interfaces\":{\"eth0\":{\"mac_address\":\"52:54:00:00:00:07\"}}",
            "\"parent\":{\"profile\":\"x\"}",
            "\"kernel_options\":",
            "[",
            "]",
            "{",
            "}",
            "null",
            "1e400",
            "\"\\ud800\"",
            "system\u{0}",
            "profile\u{0}",
            "distro\u{0}",
            "arm\u{0}",
            "\u{0}",
            "!",
            "\"state\":\"installing\"",
            "18446744073709551616",
            "-9223372036854775808",
        ],
        "detect" => &[
            "=.treeinfo\n",
            "=.discinfo\n",
            "=.disk/info\n",
            "=media.1/media\n",
            "=dists/bookworm/Release\n",
            "=images/pxeboot/vmlinuz\n",
            "=images/pxeboot/initrd.img\n",
            "[general]\n",
            "family = Rocky Linux\n",
            "version = 9.4\n",
            "arch = x86_64\n",
            "[images-x86_64]\n",
            "kernel = ",
            "initrd = ",
            "../",
            "=install.amd/vmlinuz\n",
            "=casper/vmlinuz\n",
            "=boot/x86_64/loader/linux\n",
            "Suite: ",
            "Codename: ",
            "Version: ",
            "[signature]\n",
            "[[detect]]\n",
            "{version}",
            "*",
        ],
        _ => &[],
    }
}
