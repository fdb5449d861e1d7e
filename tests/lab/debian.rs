//! Debian's real netboot installer, imported as it lies on the disk: it boots from the network, fetches its answer file by its token, and
//! its early command reports. There it is stopped: what it would install comes from a mirror, and this network has none.

use std::path::Path;
use std::time::Duration;

use super::events::seen;
use super::need::Need;
use super::netns::Net;
use super::server::{ADDRESS_NET, AUTHORITATIVE, Server, ready};
use super::vm::{Firmware, Machine};

const IMAGES: &str = "/usr/lib/debian-installer/images/12/amd64/text";
const PACKAGE: Need = Need::File(
    "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux",
    "debian-installer-12-netboot-amd64",
);

/// Its initrd of 40 MiB is unpacked, and its first dialogues pass, under emulation.
const SLOW: Duration = Duration::from_secs(480);

#[test]
fn debians_own_installer_fetches_its_preseed_and_reports() {
    if !ready("debians_own_installer_fetches_its_preseed_and_reports", &[PACKAGE]) {
        return;
    }
    let net = Net::new(&[ADDRESS_NET]);
    let mut server = Server::start(&net, AUTHORITATIVE);
    server.import(Path::new(IMAGES), "debian12");
    let mut machine = Machine::new("debian", Firmware::BiosIpxeRom).memory(1024);
    server.add("db1", "debian12", &machine, &["--hostname", "db1.lab.test"]);
    server.arm("db1");
    let mut events = server.events("db1");
    let vm = machine.power_on(&net);
    events.wait_for(&[
        seen("SCRIPT", &[("gives", "install")]),
        seen(
            "HTTP_SENT",
            &[("role", "kernel"), ("path", "debian-installer/amd64/linux")],
        ),
        seen(
            "HTTP_SENT",
            &[("role", "initrd"), ("path", "debian-installer/amd64/initrd.gz")],
        ),
    ]);
    events.next(
        &seen(
            "ANSWER_FILE",
            &[("file", "preseed.cfg"), ("template", "debian/preseed.cfg")],
        ),
        SLOW,
    );
    events.next(&seen("STAGE", &[("stage", "started"), ("reported", "true")]), SLOW);
    assert_eq!(server.state("db1"), "installing");
    vm.power_cut();
    // Nothing was partitioned, so a person may still think again: the disk is untouched.
    assert_eq!(super::vm::sector(&machine.disks()[0], 0), [0; 512]);
    events.none(seen("ANSWER_REFUSED", &[]));
}
