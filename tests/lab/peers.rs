//! Other people's servers in a test network: dnsmasq as the DHCP server that was there first.

use std::path::Path;
use std::time::Duration;

use super::child::Child;
use super::netns::{Host, Net};

/// dnsmasq as a plain DHCP server that knows nothing of network boot, on a host's `eth0`.
/// It leases 10.77.0.150 to 10.77.0.199 of `10.77.0.0/24`, and advertises an IPv6 network, without which iPXE waits 16 s at each boot.
#[must_use]
pub fn plain_dhcp(host: &Host) -> Child {
    host.ip(&["addr", "add", "fd77::2/64", "dev", "eth0", "nodad"]);
    let mut command = host.command("dnsmasq");
    command.args(COMMON).args([
        "--interface=eth0",
        "--dhcp-range=10.77.0.150,10.77.0.199,255.255.255.0,1h",
        "--enable-ra",
        "--dhcp-range=fd77::,ra-only",
    ]);
    started(&mut command)
}

/// dnsmasq as an IPv6 router that gives no IPv4 addresses, on a host's `eth0`.
#[must_use]
pub fn router(host: &Host) -> Child {
    host.ip(&["addr", "add", "fd77::2/64", "dev", "eth0", "nodad"]);
    let mut command = host.command("dnsmasq");
    command.args(COMMON);
    command.args(["--interface=eth0", "--enable-ra", "--dhcp-range=fd77::,ra-only"]);
    let mut child = Child::start("dnsmasq", &mut command);
    child.wait_for_line("router advertisement on", Duration::from_secs(30));
    child
}

/// dnsmasq as a whole boot server at 10.77.0.1 of the network: DHCP, TFTP from `tftp_root`, router advertisements.
/// Firmware gets `undionly.kpxe` or `snponly.efi`, iPXE gets `http://10.77.0.1/boot.ipxe`. The network needs an address in `fd77::/64` too.
#[must_use]
pub fn boot_server(net: &Net, tftp_root: &Path) -> Child {
    let mut command = net.command("dnsmasq");
    command.args(COMMON).args([
        "--interface=br0",
        "--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,1h",
        "--enable-ra",
        "--dhcp-range=fd77::,ra-only",
        "--enable-tftp",
        "--dhcp-match=set:ipxe,175",
        "--dhcp-match=set:bios,93,0",
        "--dhcp-match=set:uefi,93,7",
        "--dhcp-match=set:http,93,16",
        "--dhcp-option=tag:ipxe,encap:175,176,1b",
        "--dhcp-boot=tag:ipxe,http://10.77.0.1/boot.ipxe",
        "--dhcp-boot=tag:!ipxe,tag:bios,undionly.kpxe",
        "--dhcp-boot=tag:!ipxe,tag:uefi,snponly.efi",
        "--dhcp-boot=tag:!ipxe,tag:http,http://10.77.0.1/snponly.efi",
        "--dhcp-option-force=tag:!ipxe,tag:http,60,HTTPClient",
    ]);
    command.arg(format!("--tftp-root={}", tftp_root.display()));
    started(&mut command)
}

const COMMON: &[&str] = &[
    "-d",
    "-q",
    "--port=0",
    "--conf-file=/dev/null",
    "--leasefile-ro",
    "--log-dhcp",
    "--bind-interfaces",
    "--user=root",
];

fn started(command: &mut std::process::Command) -> Child {
    let mut child = Child::start("dnsmasq", command);
    // Printed after its sockets are bound.
    child.wait_for_line("DHCP, IP range", Duration::from_secs(30));
    child
}
