//! Bad weather: whole installations, real TFTP and HTTP clients and DHCP clients behind a bridge that loses, doubles and reorders frames.
//! What arrives must be whole, everybody must get there, and a doubled frame must never double the traffic.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::child::{self, Child};
use super::distro;
use super::events::{Seen, seen};
use super::lossy::{Conditions, Traffic, seed_of_this_run};
use super::need::Need;
use super::netns::{Host, Net};
use super::server::{ADDRESS, ADDRESS_NET, AUTHORITATIVE, Server, ready};
use super::vm::{Firmware, Machine};
use super::weather::Weather;

const CLIENTS: &[Need] = &[
    Need::Program("curl", "curl"),
    Need::Program("tftp", "tftp-hpa"),
    Need::Program("atftp", "atftp"),
];
/// What atftp 0.8 says when it gives up over the second copy of an OACK.
const SECOND_OACK: &str = "unexpected OACK";
/// For one transfer, however bad the weather.
const TRANSFER: Duration = Duration::from_secs(90);

fn was_bad(traffic: Traffic) {
    for counted in [traffic.up, traffic.down] {
        assert!(
            counted.lost > 0 && counted.doubled > 0 && counted.overtaken > 0,
            "{traffic:?}"
        );
    }
}

/// A BIOS and a UEFI machine install themselves and boot from their disks.
fn both_install(seed: u64) {
    let mut net = Net::new(&[ADDRESS_NET]);
    net.weather(Conditions::both(Weather::BAD, seed));
    let mut server = Server::start(&net, AUTHORITATIVE);
    server.import_lab();
    let began = Instant::now();
    let mut machines = [
        ("bios1", Machine::new("bios1", Firmware::BiosIpxeRom)),
        ("uefi1", Machine::new("uefi1", Firmware::OvmfPxe)),
    ];
    for (name, machine) in &machines {
        server.add(name, "lab", machine, &[]);
        server.arm(name);
    }
    let mut vms: Vec<_> = machines
        .iter_mut()
        .map(|(name, machine)| (*name, server.events(name), machine.power_on(&net)))
        .collect();
    for (name, events, vm) in &mut vms {
        events.wait_for(&[
            seen("SCRIPT", &[("gives", "install")]),
            seen("ANSWER_FILE", &[]),
            seen("STAGE", &[("stage", "partitioning"), ("reported", "true")]),
            seen("INSTALLED", &[]),
            seen("BOOTED_FROM_DISK", &[]),
        ]);
        vm.wait_for(&format!("lab-system: booted from disk {name}"));
        assert_eq!(server.state(name), "installed");
        for unwanted in ["FAILED", "HELD", "ANSWER_REFUSED", "STORE_FAILED"] {
            events.none(Seen::coded(unwanted));
        }
        println!("{name} booted from its disk after {:?}", began.elapsed());
    }
    let traffic = net.traffic();
    println!("{traffic:?}");
    was_bad(traffic);
}

#[test]
fn machines_install_themselves_through_bad_weather() {
    if ready("machines_install_themselves_through_bad_weather", &[]) {
        both_install(seed_of_this_run(5));
    }
}

#[test]
#[ignore = "long: ten times two installations, each with a seed of its own"]
fn machines_install_themselves_through_any_bad_weather() {
    if !ready("machines_install_themselves_through_any_bad_weather", &[]) {
        return;
    }
    for seed in 100..110 {
        both_install(seed);
    }
}

/// A host behind the weather, its folder, and who fetches there.
struct Reader {
    host: Host,
    folder: tempfile::TempDir,
}

impl Reader {
    fn new(net: &Net) -> Self {
        Self {
            host: net.host("reader", Some("10.77.0.9/24")),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.host.command(program);
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// A transfer of a file into `out` by each client, with large blocks where it knows the option.
    fn tftp(&self, file: &str) -> Vec<(String, Command)> {
        let url = format!("tftp://{ADDRESS}/{file}");
        let busybox = distro::busybox();
        let window = ["--option", "blksize 1428", "--option", "windowsize 8"];
        let fetch = ["-g", "-r", file, "-l", "out"];
        [
            (
                "curl",
                "curl",
                [&["-sS", "-o", "out", "--tftp-blksize", "1428", &url][..]].concat(),
            ),
            (
                "tftp-hpa",
                "tftp",
                ["-m", "octet", ADDRESS, "69", "-c", "get", file, "out"].to_vec(),
            ),
            ("atftp", "atftp", [&window[..], &fetch, &[ADDRESS]].concat()),
            (
                "busybox",
                busybox.to_str().unwrap(),
                [&["tftp", "-b", "1428"][..], &fetch, &[ADDRESS, "69"]].concat(),
            ),
        ]
        .map(|(name, program, arguments)| (format!("{name} {file}"), self.client(program, &arguments)))
        .into()
    }

    fn http(&self, path: &str) -> Command {
        self.client(
            "curl",
            &["-sS", "--fail", "-o", "out", &format!("http://{ADDRESS}/{path}")],
        )
    }

    /// Runs a client to its end; what it left is `wanted`, byte for byte.
    fn gets(&self, name: &str, mut command: Command, wanted: &[u8]) {
        let out = self.folder.path().join("out");
        for again in 0.. {
            let _none = fs::remove_file(&out);
            let mut client = Child::start(name, &mut command);
            let status = client.wait_for_exit(TRANSFER);
            let got = fs::read(&out).unwrap_or_default();
            if status.success() && got == wanted {
                return;
            }
            // atftp gives up over an OACK that comes twice, as one does that the link doubles or whose ACK it loses. People start it again.
            let is_own_fault =
                name.starts_with("atftp") && client.lines().iter().any(|line| line.contains(SECOND_OACK));
            assert!(
                is_own_fault && again < 5,
                "{name} ({status}): {} bytes of {}\n{}",
                got.len(),
                wanted.len(),
                client.lines().join("\n")
            );
        }
    }
}

fn loader(name: &str) -> Vec<u8> {
    fs::read(Path::new("/usr/lib/ipxe").join(name)).unwrap()
}

#[test]
fn every_client_gets_it_whole_through_bad_weather() {
    if !ready("every_client_gets_it_whole_through_bad_weather", CLIENTS) {
        return;
    }
    let mut net = Net::new(&[ADDRESS_NET]);
    net.weather(Conditions::both(Weather::BAD, 11));
    let server = Server::start(&net, AUTHORITATIVE);
    server.import_lab();
    let reader = Reader::new(&net);
    let file = loader("undionly.kpxe");
    for (name, command) in reader.tftp("undionly.kpxe") {
        let began = Instant::now();
        reader.gets(&name, command, &file);
        println!("{name}: {:?}", began.elapsed());
    }
    let kernel = fs::read(distro::tree().join("boot/vmlinuz")).unwrap();
    let began = Instant::now();
    reader.gets("curl HTTP", reader.http("d/lab/boot/vmlinuz"), &kernel);
    println!("HTTP: {} bytes in {:?}", kernel.len(), began.elapsed());
    was_bad(net.traffic());
}

#[test]
#[ignore = "long: a thousand transfers through bad weather"]
fn a_thousand_transfers_through_bad_weather() {
    if !ready("a_thousand_transfers_through_bad_weather", CLIENTS) {
        return;
    }
    let file = loader("undionly.kpxe");
    let mut transfers = 0;
    for seed in 1000..1010 {
        let mut net = Net::new(&[ADDRESS_NET]);
        net.weather(Conditions::both(Weather::BAD, seed));
        let _server = Server::start(&net, AUTHORITATIVE);
        let reader = Reader::new(&net);
        for _ in 0..25 {
            for (name, command) in reader.tftp("undionly.kpxe") {
                reader.gets(&format!("{name}, seed {seed}"), command, &file);
                transfers += 1;
            }
        }
        was_bad(net.traffic());
    }
    assert!(transfers >= 1000, "{transfers}");
}

/// Each machine of a row asks once for an address, and then once more: it gets one of its own, and the same again.
#[test]
fn a_row_of_machines_gets_addresses_through_bad_weather() {
    if !ready("a_row_of_machines_gets_addresses_through_bad_weather", &[]) {
        return;
    }
    let mut net = Net::new(&[ADDRESS_NET]);
    net.weather(Conditions::both(Weather::BAD, 23));
    let _server = Server::start(&net, AUTHORITATIVE);
    let host = net.host("row", None);
    let busybox = distro::busybox();
    let mut given = BTreeSet::new();
    for number in 0..24 {
        let mac = format!("52:54:00:c2:00:{number:02x}");
        host.ip(&["link", "set", "eth0", "address", &mac]);
        let ask = || {
            let mut udhcpc = host.command(busybox.to_str().unwrap());
            // Its script is /bin/true: only the address is wanted, as it says it.
            udhcpc.args(["udhcpc", "-i", "eth0", "-s", "/bin/true", "-n", "-q", "-f"]);
            let said = child::run("udhcpc", udhcpc.args(["-t", "10", "-T", "1"]), TRANSFER);
            let lease = said.lines().find_map(|line| line.split("lease of ").nth(1));
            let lease = lease.unwrap_or_else(|| panic!("{mac} got no lease:\n{said}"));
            lease.split([' ', ',']).next().unwrap().to_owned()
        };
        let (first, second) = (ask(), ask());
        assert_eq!(first, second, "{mac} keeps its address");
        assert!(given.insert(first.clone()), "{first} was given twice");
    }
    let traffic = net.traffic();
    println!("{traffic:?}");
    assert!(traffic.up.lost + traffic.down.lost > 0, "{traffic:?}");
}

/// What one transfer of `undionly.kpxe` by TFTP with blocks of 512 bytes puts on the link.
fn traffic_of_a_transfer(net: &Net, reader: &Reader, file: &[u8], name: &str) -> Traffic {
    let before = net.traffic();
    let url = format!("tftp://{ADDRESS}/undionly.kpxe");
    let command = match name {
        "curl" => reader.client("curl", &["-sS", "-o", "out", &url]),
        "tftp-hpa" => reader.client(
            "tftp",
            &["-m", "octet", ADDRESS, "69", "-c", "get", "undionly.kpxe", "out"],
        ),
        other => panic!("{other}"),
    };
    reader.gets(name, command, file);
    let after = net.traffic();
    let mut spent = Traffic::default();
    for (spent, before, after) in [
        (&mut spent.up, before.up, after.up),
        (&mut spent.down, before.down, after.down),
    ] {
        spent.bytes_in = after.bytes_in - before.bytes_in;
        spent.bytes_out = after.bytes_out - before.bytes_out;
    }
    spent
}

/// The Sorcerer's Apprentice (RFC 1123 section 4.2.3.1): a server that answers each copy of an ACK sends every block twice from then on.
#[test]
fn doubled_acks_never_double_the_traffic() {
    if !ready("doubled_acks_never_double_the_traffic", CLIENTS) {
        return;
    }
    let file = loader("undionly.kpxe");
    let doubled = Weather {
        doubled: 1000,
        ..Weather::FINE
    };
    for name in ["curl", "tftp-hpa"] {
        let mut spent = Vec::new();
        for (up, down) in [
            (Weather::FINE, Weather::FINE),
            (doubled, Weather::FINE),
            (Weather::FINE, doubled),
            (doubled, doubled),
        ] {
            let mut net = Net::new(&[ADDRESS_NET]);
            net.weather(Conditions { up, down, seed: 1 });
            let _server = Server::start(&net, AUTHORITATIVE);
            let reader = Reader::new(&net);
            spent.push(traffic_of_a_transfer(&net, &reader, &file, name));
        }
        println!("{name}: {spent:#?}");
        let clean = spent[0];
        assert!(clean.down.bytes_in > file.len() as u64, "{clean:?}");
        // Address resolution and the like: less than a tenth.
        for (copies, spent) in [1, 2, 1, 2].iter().zip(&spent) {
            assert!(
                spent.down.bytes_in < clean.down.bytes_in + clean.down.bytes_in / 10,
                "{name}: every ACK came {copies} times, and the server sent {} bytes instead of {}",
                spent.down.bytes_in,
                clean.down.bytes_in
            );
        }
        assert!(
            spent[1].up.bytes_out > clean.up.bytes_out * 19 / 10,
            "{name}: the ACKs were not doubled: {spent:?}"
        );
    }
}
