//! The server's side of a paravirtual Xen guest's network boot, asked by a client that keeps pypxeboot's contract: the hypervisor asks by
//! DHCP with the *guest's* MAC, reads `pxelinux.cfg/<address in hex>` by TFTP from its own address, fetches kernel and initrd by TFTP, and
//! starts pygrub where the file says that the disk boots.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::dhcp::clients::dora;
use crate::lab::need;
use crate::lab::netns::{Host, Net};
use crate::lab::server::{ADDRESS, ADDRESS_NET, Server, printed};

const CURL: need::Need = need::Need::Program("curl", "curl");
/// The guest's, from Xen's range.
const MAC: &str = "00:16:3e:7c:1d:4f";
const PATIENCE: Duration = Duration::from_secs(30);

/// Cordwainer as DHCP server of guests whose files their hypervisor fetches.
const TRUSTING: &str = r#"
[dhcp]
mode = "authoritative"
[[subnet]]
network = "10.77.0.0/24"
pool = "10.77.0.50-10.77.0.99"
binding = "token-only"
"#;

/// The same, with files for the machines themselves only.
const STRICT: &str = r#"
[dhcp]
mode = "authoritative"
[[subnet]]
network = "10.77.0.0/24"
pool = "10.77.0.50-10.77.0.99"
"#;

/// A file by TFTP, as the hypervisor fetches it.
fn tftp(dom0: &Host, name: &str) -> Vec<u8> {
    let mut curl = dom0.command("curl");
    curl.args(["-s", "-S", "--fail", "-m", "20", &format!("tftp://{ADDRESS}/{name}")]);
    let output = curl.output().unwrap();
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The guest's address: what the hypervisor asks for it.
fn lease(dom0: &Host) -> Ipv4Addr {
    let line = dora(dom0, MAC.parse().unwrap()).wait_for_line("ACK ", PATIENCE);
    let line = line
        .split_once("ACK ")
        .map_or(line.as_str(), |_| &line[line.find("ACK ").unwrap()..]);
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

/// What pypxeboot makes of the file: nothing where the disk boots, else kernel, initrd and arguments.
fn read(config: &str) -> Option<(String, String, String)> {
    let mut label = "";
    let wanted = config.lines().find_map(|line| line.strip_prefix("DEFAULT ")).unwrap();
    let mut found = (String::new(), String::new(), String::new());
    for line in config.lines().map(str::trim) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "LABEL" => label = rest,
            "LOCALBOOT" if label == wanted => return None,
            "KERNEL" if label == wanted => found.0 = rest.trim_start_matches("::").to_owned(),
            "INITRD" if label == wanted => found.1 = rest.trim_start_matches("::").to_owned(),
            "APPEND" if label == wanted => found.2 = rest.to_owned(),
            _ => {}
        }
    }
    Some(found)
}

fn config(dom0: &Host, guest: Ipv4Addr) -> String {
    let name = format!("pxelinux.cfg/{:08X}", guest.to_bits());
    String::from_utf8(tftp(dom0, &name)).unwrap()
}

#[test]
fn a_paravirtual_guest_is_installed_by_its_hypervisor_and_boots_its_disk_afterwards() {
    if !crate::lab::server::ready("xen", &[CURL]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, TRUSTING);
    server.import_lab();
    server.add_mac("pv1", "lab", MAC, &[]);
    let dom0 = net.host("dom0", Some("10.77.0.9/24"));
    let guest = lease(&dom0);
    assert_eq!(read(&config(&dom0, guest)), None, "nobody armed it");
    server.arm("pv1");
    let (kernel, initrd, arguments) = read(&config(&dom0, guest)).expect("it is armed");
    let size = |name: &str| tftp(&dom0, name).len();
    assert!(size(&kernel) > 1 << 20 && size(&initrd) > 1 << 16, "{kernel} {initrd}");
    // What follows the guest does itself: its answer file, and its report from there.
    let answer = arguments
        .split(' ')
        .find_map(|word| word.strip_prefix("lab.answer="))
        .expect("the command line names the answer file");
    let mut curl = dom0.command("curl");
    let answers = printed("curl", curl.args(["-s", "-S", "--fail", "-m", "20", answer]));
    let report = answers
        .split_whitespace()
        .find_map(|word| word.split_once("http://").filter(|(_, url)| url.contains("/r/")))
        .map(|(_, url)| format!("http://{}", url.trim_matches('"')))
        .expect("the answer file tells where to report");
    let mut curl = dom0.command("curl");
    curl.args([
        "-s",
        "-S",
        "--fail",
        "-m",
        "20",
        "-X",
        "POST",
        &format!("{report}/done"),
    ]);
    drop(printed("curl", &mut curl));
    assert_eq!(server.state("pv1"), "installed");
    assert_eq!(read(&config(&dom0, guest)), None, "installed: pygrub starts its disk");
    // An address that nobody has is a name that is not there, so that a loader goes on to the next.
    let mut missing = dom0.command("curl");
    missing.args(["-s", "-m", "20", &format!("tftp://{ADDRESS}/pxelinux.cfg/0A4D0007")]);
    assert!(!missing.output().unwrap().status.success());
}

#[test]
fn whose_subnet_trusts_nobody_else_gets_the_disk_from_another_address() {
    if !crate::lab::server::ready("xen", &[CURL]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, STRICT);
    server.import_lab();
    server.add_mac("pv1", "lab", MAC, &[]);
    let dom0 = net.host("dom0", Some("10.77.0.9/24"));
    let guest = lease(&dom0);
    server.arm("pv1");
    let text = config(&dom0, guest);
    assert_eq!(read(&text), None, "{text}");
    assert!(!text.contains("/i/") && !text.contains("/r/"), "{text}");
    assert_eq!(server.state("pv1"), "armed");
}
