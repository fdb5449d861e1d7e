//! What mutation starts from: packets of real firmware, the requests of whole boots, what is shipped, images made by xorriso.

use super::targets;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The seeds of a target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "config" => config(),
        "detect" => detect(),
        "dhcp" => dhcp(),
        "document" => documents(),
        "encoders" => (0..9)
            .flat_map(|sink| VALUES.map(|value| [&[sink], value.as_bytes()].concat()))
            .collect(),
        "http" => http(),
        "packet" => requests(),
        "route" => PATHS
            .iter()
            .flat_map(|path| {
                [
                    format!("{path}\n\n"),
                    format!("{path}\ndetail=a+b%0A\n{{\"name\":\"x\",\"result\":\"FAIL\"}}"),
                ]
            })
            .map(String::into_bytes)
            .collect(),
        "wall" => datagrams(),
        "iso" => images(),
        "leases" => leases(),
        "paths" => PATHS.map(|path| path.as_bytes().to_vec()).into(),
        "rows" => rows(),
        "scripts" => (0..64)
            .flat_map(|choice| {
                VALUES.map(|value| [&[choice], format!("k\0{value}\0{value}\0{value}").as_bytes()].concat())
            })
            .collect(),
        "template" => templates(),
        "tftp" => tftp(),
        // The corpus has a document of each kind.
        "xmlrpc" => Vec::new(),
        other => panic!("{other} has no seeds"),
    }
}

const VALUES: [&str; 8] = [
    "plain",
    "two words",
    "x'; reboot; '",
    "\" || reboot ; # ${net0/ip} $(x) `y`\\",
    "a\n%end\r\n%post\u{2028}\u{85}\u{0}",
    "]]><![CDATA[ &amp; <b c='d'>",
    "@^minimal-environment",
    "\u{e4}\u{feff}\u{ffff}\u{1f600}",
];

/// Packets of clients in one capture: Ethernet II, IPv4 without options, UDP to `port`.
fn payloads(file: &Path, ports: &[u16]) -> Vec<Vec<u8>> {
    let bytes = fs::read(file).unwrap();
    let mut rest = &bytes[24..];
    let mut found = Vec::new();
    while let Some((header, tail)) = rest.split_at_checked(16) {
        let length = u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize;
        let (frame, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        if frame.len() > 42 && frame[12..14] == [8, 0] && frame[14] == 0x45 && frame[23] == 17 {
            let port = u16::from_be_bytes([frame[36], frame[37]]);
            if ports.contains(&port) {
                found.push(frame[42..].to_vec());
            }
        }
    }
    found
}

fn captures() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/captures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// An input of several packets.
fn packets(world: u8, packets: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![world];
    for packet in packets {
        bytes.extend(u16::try_from(packet.len()).unwrap().to_le_bytes());
        bytes.push(0);
        bytes.extend(*packet);
    }
    bytes
}

/// Each packet of the captures.
fn datagrams() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = captures()
        .iter()
        .flat_map(|file| payloads(file, &[67, 68, 4011]))
        .collect();
    all.sort();
    all.dedup();
    all
}

fn dhcp() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for file in captures() {
        let all = payloads(&file, &[67, 4011]);
        let mut seen: Vec<&[u8]> = Vec::new();
        for packet in &all {
            // Repeats differ in `secs` only.
            let same = |known: &&[u8]| known[..4] == packet[..4] && known[12..] == packet[12..];
            if packet.len() > 240 && !seen.iter().any(same) {
                seen.push(packet);
            }
        }
        for world in [0, 2] {
            for group in seen.chunks(4) {
                seeds.push(packets(world, group));
            }
        }
    }
    // A machine on record: DISCOVER, REQUEST, renewal, RELEASE, DECLINE, INFORM; on the link and through the relay.
    for relayed in [false, true] {
        let said = |number: u8, options: &[u8], ciaddr: [u8; 4]| {
            let mut bytes = vec![1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0, 0];
            bytes.extend(ciaddr);
            bytes.extend([0; 8]);
            bytes.extend(if relayed { [10, 5, 0, 1] } else { [0; 4] });
            bytes.extend([0x52, 0x54, 0, 0, 0, 1]);
            bytes.resize(236, 0);
            bytes.extend([99, 130, 83, 99, 53, 1, number]);
            bytes.extend(options);
            if relayed {
                bytes.extend(b"\x52\x0a\x02\x02xy\x01\x04eth0");
            }
            bytes.push(255);
            bytes
        };
        let address = if relayed { [10, 5, 0, 253] } else { [192, 168, 77, 21] };
        let chosen = [&[50, 4][..], &address, &[54, 4, 192, 168, 77, 1]].concat();
        let (discover, request) = (said(1, b"\x39\x02\x05\xdc", [0; 4]), said(3, &chosen, [0; 4]));
        let (renew, release) = (said(3, b"", address), said(7, b"", address));
        let (decline, inform) = (
            said(4, &chosen, [0; 4]),
            said(8, b"\x3d\x07\x01\x52\x54\0\0\0\x01", address),
        );
        seeds.push(packets(0, &[&discover, &request, &renew, &release]));
        seeds.push(packets(0, &[&discover, &request, &decline, &inform, &discover]));
    }
    seeds
}

fn leases() -> Vec<Vec<u8>> {
    let story = |who: &[u8], what: &[u8], how: u8| -> Vec<u8> {
        what.iter()
            .flat_map(|step| who.iter().flat_map(|who| [*who, *step, who.wrapping_mul(7), how]))
            .collect()
    };
    let everyone: Vec<u8> = (0..48).collect();
    vec![
        story(&[1, 7, 8], &[0, 4, 8, 11, 0, 4], 0),
        story(&everyone, &[0, 4, 8], 0),
        story(&everyone, &[0, 4], 2),
        story(&[1, 2, 3, 10], &[0, 4, 12, 0, 15, 9, 13, 14], 0x20),
        story(&[5, 6, 20], &[3, 7, 9, 10, 16], 0x82),
        story(&[7, 9, 11], &[0, 4, 8], 0x10),
    ]
}

/// Datagrams that arrive at the port of TFTP.
fn requests() -> Vec<Vec<u8>> {
    let mut requests: Vec<Vec<u8>> = captures().iter().flat_map(|file| payloads(file, &[69])).collect();
    requests.extend(
        [
            &b"\0\x01snponly.efi\0octet\0"[..],
            b"\0\x01snponly.efi\0octet\0blksize\x001468\0tsize\x000\0windowsize\x004\0timeout\x001\0",
            b"\0\x01undionly.kpxe\0octet\0blksize\08\0windowsize\x0064\0",
            b"\0\x01pxelinux.cfg/default\0netascii\0blksize\x00512\0tsize\x000\0",
            b"\0\x02x\0octet\0",
            b"\0\x04\0\x01",
            b"\0\x05\0\x08no\0",
        ]
        .map(<[u8]>::to_vec),
    );
    requests.sort();
    requests.dedup();
    requests
}

fn tftp() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for request in requests() {
        for (size, steps) in [
            ([0xff, 0x0f, 3], &[2; 40][..]),
            (
                [0xff, 0xff, 15],
                &[2, 2, 0x12, 0x22, 9, 0, 12, 11, 0xf2, 12, 12, 12, 12],
            ),
            ([0, 0, 0], &[2, 13, 12, 12, 2]),
        ] {
            let mut bytes = vec![0, size[0], size[1], size[2], 0];
            bytes.extend(u16::try_from(request.len()).unwrap().to_le_bytes());
            bytes.extend(&request);
            bytes.extend(steps);
            seeds.push(bytes);
        }
    }
    seeds
}

const PATHS: [&str; 18] = [
    "/",
    "/metrics",
    "b/52-54-00-00-00-01/ipxe",
    "/b/52-54-00-00-00-02/grub.cfg",
    "pxelinux.cfg/01-52-54-00-00-00-03",
    "pxelinux.cfg/C0A84D0A",
    "/grub/grub.cfg-01-52-54-00-00-00-03",
    "autoexec.ipxe",
    "\\snponly.efi",
    "//l//snponly.efi",
    "d/rocky9/images/pxeboot/vmlinuz",
    "d/rocky9/../../etc/passwd",
    "/d/debian12/-/kernel",
    "/d/rocky9/Packages/g%2B%2B%20x.rpm",
    "/i/canary2abcdefghijklmnopqrstuvwxyz234567/ks.cfg",
    "/r/canary1abcdefghijklmnopqrstuvwxyz234567/done",
    "/d/rocky9/%2e%2e/%00%zz",
    "x/ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
];

fn http() -> Vec<Vec<u8>> {
    let request = |flags: u8, peer: u8, path: &str, query: &str, rest: &str| {
        let mut bytes = vec![flags, peer, 0x10 | (peer & 15)];
        bytes.extend(format!("{path}\n{query}\n{rest}").bytes());
        bytes
    };
    let mut seeds = Vec::new();
    for path in PATHS {
        for peer in [1, 2, 3, 9] {
            seeds.push(request(4, peer, path, "detail=a+b", "bytes=5-9\n\n\n\n"));
            seeds.push(request(
                3,
                peer,
                path,
                "",
                "bytes=-7\n\n\"x\"\nSun, 06 Nov 1994 08:49:37 GMT\n{\"name\":\"x\",\"result\":\"FAIL\"}",
            ));
        }
    }
    // What only the owner of the tokens can ask.
    for (arm, peer) in [("canary1", 1), ("canary2", 3), ("canary3", 4)] {
        let [install, report] = targets::tokens(arm);
        for file in ["ks.cfg", "el9.ks", "meta-data"] {
            seeds.push(request(0, peer, &format!("/i/{install}/{file}"), "", "\n\n\n\n"));
        }
        for stage in ["partitioning", "done", "failed", "mine"] {
            seeds.push(request(
                3,
                peer,
                &format!("/r/{report}/{stage}"),
                "",
                "\n\n\n\ndetail=no+disk",
            ));
        }
        seeds.push(request(
            4,
            peer,
            &format!("/x/{install}"),
            &format!("detail={report}"),
            "\n\n\n\n",
        ));
    }
    seeds
}

/// Every file below a folder of the checkout, with its path there.
fn shipped(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(root().join(folder))
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn templates() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = shipped("kickstarts")
        .into_iter()
        .map(|(_, text)| format!("a value\0{{{{ value|sh }}}}\0{text}").into_bytes())
        .collect();
    for text in [
        "{{ snippet('own') }}{% include 'own' %}@@value@@",
        "{% for i in range(9) %}{{ i }}{{ value|json }}{% endfor %}",
        "{% macro m(a) %}{{ a|upper|replace('A', value) }}{% endmacro %}{{ m(value) }}{{ root_password_hash }}",
        "{{ value.split(',')|join('-') }}{{ interfaces.items() }}{{ value * 3 ~ answer_url }}",
        "{% if value is defined and value|length > 2 %}{{ nothing }}{% endif %}",
    ] {
        seeds.push(format!("a,b\0{{{{ value }}}}\0{text}").into_bytes());
    }
    seeds
}

fn documents() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = shipped("profiles")
        .into_iter()
        .map(|(_, text)| text.into_bytes())
        .collect();
    seeds.push(
        b"[[system]]\nname = \"db1\"\nprofile = \"web\"\nhostname = \"db1.lab.test\"\nnetboot_enabled = true\nautoinstall_meta = 'motd=\"a b\" !tree'\n\
          [system.interfaces.\"eth0.7\"]\nmac_address = \"52:54:00:00:00:31\"\nip_address = \"192.168.77.30\"\nstatic = true\n\
          [[profile]]\nname = \"own\"\nparent = \"base\"\nproxy = \"\"\nkernel_options = \"console=tty0 ~quiet !splash\"\n\
          [[distro]]\nname = \"new9\"\narch = \"x86_64\"\nbreed = \"redhat\"\nos_version = \"rhel9\"\nkernel = \"k\"\ninitrd = [\"i\", \"a, b\"]\ntree = \"/srv/new9\"\n"
            .to_vec(),
    );
    seeds
}

fn config() -> Vec<Vec<u8>> {
    let whole = "state = \"/var/lib/cordwainer\"\noverrides = \"/etc/cordwainer\"\n[server]\ninterfaces = [\"eth0\"]\naddress = \"192.168.77.1\"\nallow = [\"10.0.0.0/8\"]\n\
                 [dhcp]\nmode = \"authoritative\"\n[[subnet]]\nnetwork = \"192.168.77.0/24\"\npool = \"192.168.77.100-192.168.77.200\"\nrouter = \"192.168.77.1\"\n\
                 dns = [\"192.168.77.2\"]\ndomain = \"lab.test\"\nlease = \"12h\"\nrelays = []\nbinding = \"lease\"\nrouter_advertisements = \"on\"\n[http]\nport = 80\n\
                 metrics_listen = \"127.0.0.1:9100\"\n[tftp]\nport = 69\n[boot]\nunknown = \"menu\"\nloader_paths = [\"/srv/loaders\"]\n[install]\narm_for = \"4h\"\ntimeout = \"1h\"\n\
                 [defaults]\nssh_authorized_keys = [\"ssh-ed25519 AAAA x\"]\nkernel_options = \"quiet\"\ntimezone = \"Europe/Vienna\"\nlocale = \"en_US.UTF-8\"\nkeyboard = \"us\"\n";
    vec![
        whole.as_bytes().to_vec(),
        whole
            .replace(
                "quiet\"",
                "quiet\"\nroot_password_hash = \"$6$salt$0123456789abcdefghijklmnopqrstuvwxyz\"",
            )
            .into_bytes(),
        b"[dhcp]\nmode = \"proxy\"\n".to_vec(),
        b"[subnet]\nnetwork = 3\n[http]\nport = 99999\n[nothing]\nx = 1\n".to_vec(),
    ]
}

fn rows() -> Vec<Vec<u8>> {
    let bodies = [
        (
            0,
            r#"{"name":"rocky9","arch":"x86_64","breed":"redhat","os_version":"rhel9","kernel":"k","initrd":["i"],"tree":{"root":"/srv/x","in_place":false}}"#,
        ),
        (
            1,
            r#"{"name":"web","parent":{"profile":"web"},"autoinstall":"redhat/el9.ks","kernel_options":{"a":"b"},"enable_menu":true}"#,
        ),
        (
            2,
            r#"{"name":"web1","profile":"web","hostname":"h.lab.test","interfaces":{"eth0":{"mac_address":"52:54:00:00:00:01","static":true}},"owners":["a"]}"#,
        ),
        (
            3,
            r#"{"id":"a1","system":"web1","at":1,"until":9223372036854775807,"by":"admin"}"#,
        ),
        (
            4,
            r#"{"arm":"canary1","system":"web1","state":"installing","mac":"52:54:00:00:00:01","bound":"192.168.77.21","stage":"packages","partitioned":true,"attempts":1,"claimed_at":1,"heard_at":2}"#,
        ),
        (
            5,
            r#"{"address":"192.0.2.1","mac":"52:54:00:00:00:01","client_id":[1,2],"hostname":"h","granted":1,"expires":2,"state":"active"}"#,
        ),
    ];
    let mut seeds: Vec<Vec<u8>> = bodies
        .iter()
        .map(|(kind, text)| [&[*kind], text.as_bytes()].concat())
        .collect();
    let names = [
        ("distro", "rocky9"),
        ("profile", "web"),
        ("system", "web1"),
        ("arm", "web1"),
    ];
    let table: String = names
        .iter()
        .zip(bodies)
        .map(|((kind, name), (_, body))| format!("{kind}\0{name}\0{body}\0"))
        .collect();
    // 0xf0 is a multiple of three: objects, then leases as written, then leases of others.
    seeds.push([&[0xf0], table.as_bytes()].concat());
    seeds.push([&[0xf0], table.replace("web1\0", "!web1\0").as_bytes()].concat());
    for choice in [0xf1, 0xf2] {
        let mut bytes = vec![choice];
        for last in 0..4 {
            bytes.extend([1, last]);
            bytes.extend(b"host\0\x02\x01\x02\xc0\0\x02");
            bytes.push(last);
            bytes.extend([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, last, 0]);
        }
        seeds.push(bytes);
    }
    seeds.push([&[0xf2, 1, 2], &b"\0\0\xc0\0\x02\x01"[..], &[0; 17], b"abcdef\0\0"].concat());
    seeds
}

fn detect() -> Vec<Vec<u8>> {
    let el = "=.treeinfo\n[general]\narch = x86_64\nfamily = Rocky Linux\nname = Rocky Linux 9.4\nversion = 9.4\n[header]\ntype = productmd.treeinfo\nversion = 1.2\n\
              [images-x86_64]\ninitrd = images/pxeboot/initrd.img\nkernel = images/pxeboot/vmlinuz\n[release]\nname = Rocky Linux\nversion = 9.4\n[tree]\narch = x86_64\n\
              platforms = x86_64\n=.discinfo\n1715.1\nRocky Linux 9.4\nx86_64\n=images/pxeboot/vmlinuz\nk\n=images/pxeboot/initrd.img\ni\n=BaseOS/repodata/repomd.xml\n<repomd/>\n";
    let debian = "=.disk/info\nDebian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 NETINST 20240210-11:27\n=dists/bookworm/Release\nSuite: stable\nVersion: 12.5\nCodename: bookworm\n\
                  =install.amd/vmlinuz\nk\n=install.amd/initrd.gz\ni\n=pool/main/a/a.deb\nx\n";
    let ubuntu = "=.disk/info\nUbuntu-Server 24.04.1 LTS \"Noble Numbat\" - Release amd64 (20240827)\n=casper/vmlinuz\nk\n=casper/initrd\ni\n=casper/install-sources.yaml\nx\n=dists/noble/Release\nVersion: 24.04\n";
    let suse = "=.treeinfo\n[general]\nfamily = SUSE Linux Enterprise\nversion = 15.6\narch = x86_64\n[release]\nname = SUSE Linux Enterprise\nversion = 15.6\n=media.1/media\nSUSE - SLE-15-SP6-Full-x86_64-GM-Media1\n\
                =media.1/products\n/ SLE15-SP6\n=boot/x86_64/loader/linux\nk\n=boot/x86_64/loader/initrd\ni\n";
    let lab = "=lab/release\n[release]\nname = Lab Linux\nversion = 1\narch = x86_64\n=boot/vmlinuz\nk\n=boot/initrd.img\ni\n";
    let netboot = "=debian-installer/amd64/linux\nk\n=debian-installer/amd64/initrd.gz\ni\n=version.info\nDebian version:  12 (bookworm)\nInstaller build: 20230607\n";
    let mut seeds: Vec<Vec<u8>> = [el, debian, ubuntu, suse, lab, netboot]
        .map(|text| text.as_bytes().to_vec())
        .into();
    seeds.extend(
        shipped("distros")
            .into_iter()
            .map(|(_, text)| format!("[signature]\n{text}").into_bytes()),
    );
    seeds
}

/// Small images of every kind of names; none where xorriso is not installed, and then the corpus has to do.
fn images() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("dists/trixie")).unwrap();
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir_all(tree.join("many")).unwrap();
    fs::write(tree.join("dists/trixie/Release"), b"Suite: trixie").unwrap();
    fs::write(tree.join("a/b/file"), [7; 30]).unwrap();
    fs::write(tree.join("boot.bin"), [0x90; 64]).unwrap();
    for number in 0..8 {
        fs::write(tree.join(format!("many/{}{number}", "n".repeat(number * 28))), b"x").unwrap();
    }
    for (target, link) in [
        ("trixie", "dists/stable"),
        (".", "debian"),
        ("loop", "loop"),
        ("../../x", "out"),
    ] {
        symlink(target, tree.join(link)).unwrap();
    }
    let kinds: [&[&str]; 4] = [
        &["-r"],
        &["-R", "-J", "-joliet-long", "-iso-level", "3"],
        &["-no-pad", "--norock", "-J"],
        &["-no-pad", "--norock", "-iso-level", "2"],
    ];
    let mut seeds = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let image = dir.path().join(format!("{number}.iso"));
        let made = Command::new("xorriso")
            .args([
                "-as",
                "mkisofs",
                "-quiet",
                "-no-pad",
                "-b",
                "boot.bin",
                "-no-emul-boot",
                "-boot-load-size",
                "4",
                "-c",
                "boot.cat",
            ])
            .args(*kind)
            .arg("-o")
            .arg(&image)
            .arg(&tree)
            .output();
        match made {
            Ok(made) if made.status.success() => seeds.push(targets::packed_image(&fs::read(image).unwrap())),
            Ok(made) => panic!("xorriso: {}", String::from_utf8_lossy(&made.stderr)),
            Err(error) => println!("SKIPPED: images for seeds, xorriso: {error}"),
        }
    }
    seeds
}
