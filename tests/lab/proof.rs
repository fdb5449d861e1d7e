//! The lab proved without Cordwainer: each firmware installs the lab distro from a dnsmasq and a plain file server, and boots its own disk after it.
//! A failure here is a fault of the lab or of the machine that runs it, never of Cordwainer.

use std::fs;
use std::path::Path;

use super::child::Child;
use super::netns::Net;
use super::vm::{Firmware, Machine, PATIENCE};
use super::{distro, files, need, peers};

const SERVER: &str = "10.77.0.1";

struct Site {
    folder: tempfile::TempDir,
    net: Net,
    dhcp: Child,
    files: Child,
}

impl Site {
    fn new() -> Self {
        let tree = distro::tree();
        let net = Net::new(&["10.77.0.1/24", "fd77::1/64"]);
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        for loader in ["undionly.kpxe", "snponly.efi"] {
            fs::copy(Path::new("/usr/lib/ipxe").join(loader), folder.path().join(loader)).unwrap();
        }
        std::os::unix::fs::symlink(tree, folder.path().join("tree")).unwrap();
        let dhcp = peers::boot_server(&net, folder.path());
        let files = files::serve(&net, "10.77.0.1:80", folder.path());
        Self {
            folder,
            net,
            dhcp,
            files,
        }
    }

    fn answer_with_installer(&self, extra: &str) {
        let script = format!(
            "#!ipxe\nkernel http://{SERVER}/tree/boot/vmlinuz initrd=initrd.img {} lab.answer=http://{SERVER}/answer BOOTIF=01-${{net0/mac:hexhyp}}\n\
             initrd http://{SERVER}/tree/boot/initrd.img\nboot\n",
            distro::KERNEL_OPTIONS
        );
        fs::write(self.folder.path().join("boot.ipxe"), script).unwrap();
        let answer = format!(
            "hostname=web1\ndisk=auto\ntree=http://{SERVER}/tree\nreport=http://{SERVER}/report\ndone=http://{SERVER}/report/done\n{extra}"
        );
        fs::write(self.folder.path().join("answer"), answer).unwrap();
    }

    fn answer_with_disk(&self, firmware: Firmware) {
        let script = if firmware.is_uefi() {
            "#!ipxe\nexit 1\n"
        } else {
            "#!ipxe\nsanboot --no-describe --drive 0x80 || exit\n"
        };
        // A rename: the machine sees the old script or the new one.
        let next = self.folder.path().join("next.ipxe");
        fs::write(&next, script).unwrap();
        fs::rename(next, self.folder.path().join("boot.ipxe")).unwrap();
    }

    fn wait_for_reports(&mut self, stages: &[&str]) {
        for stage in stages {
            self.files.wait_for_line(&format!("GET /report/{stage}"), PATIENCE);
        }
    }
}

fn ready(test: &str) -> bool {
    need::all(
        test,
        &[
            need::MACHINES,
            need::DISTRO,
            &[need::DNSMASQ, need::UNDIONLY, need::SNPONLY],
        ],
    )
}

fn installs_and_boots_its_disk(firmware: Firmware, expected_loader: Option<&str>) {
    let mut site = Site::new();
    site.answer_with_installer("");
    let mut machine = Machine::new("proof", firmware);
    let mut vm = machine.power_on(&site.net);
    site.wait_for_reports(&["started", "partitioning", "packages", "bootloader", "done"]);
    site.answer_with_disk(firmware);
    vm.wait_for("lab-installer: restart");
    site.wait_for_reports(&["booted"]);
    vm.wait_for("lab-system: booted from disk web1");
    let served: Vec<String> = site
        .dhcp
        .lines()
        .into_iter()
        .filter(|line| line.contains("dnsmasq-tftp: sent"))
        .collect();
    match expected_loader {
        Some(loader) => assert!(served.iter().any(|line| line.contains(loader)), "{served:?}"),
        None => assert!(served.is_empty(), "no file was to travel by TFTP: {served:?}"),
    }
    vm.power_cut();
}

#[test]
fn bios_with_ipxe_in_its_rom() {
    if ready("bios_with_ipxe_in_its_rom") {
        installs_and_boots_its_disk(Firmware::BiosIpxeRom, None);
    }
}

#[test]
#[ignore = "proves the lab itself; the loops with Cordwainer take the same way"]
fn bios_with_a_plain_pxe_rom() {
    if ready("bios_with_a_plain_pxe_rom") {
        installs_and_boots_its_disk(Firmware::BiosUndionly, Some("undionly.kpxe"));
    }
}

#[test]
#[ignore = "proves the lab itself; the loops with Cordwainer take the same way"]
fn uefi_with_its_own_pxe() {
    if ready("uefi_with_its_own_pxe") {
        installs_and_boots_its_disk(Firmware::OvmfPxe, Some("snponly.efi"));
    }
}

#[test]
#[ignore = "proves the lab itself; the loops with Cordwainer take the same way"]
fn uefi_with_http_boot() {
    if ready("uefi_with_http_boot") {
        installs_and_boots_its_disk(Firmware::OvmfHttp, None);
    }
}

#[test]
#[ignore = "proves the lab itself; the loops with Cordwainer take the same way"]
fn uefi_with_ipxe_in_its_rom() {
    if ready("uefi_with_ipxe_in_its_rom") {
        installs_and_boots_its_disk(Firmware::OvmfIpxeRom, Some("snponly.efi"));
    }
}

#[test]
fn several_disks_and_none_named_stop_the_installer_before_it_writes() {
    if !ready("several_disks_and_none_named_stop_the_installer_before_it_writes") {
        return;
    }
    let mut site = Site::new();
    site.answer_with_installer("");
    let mut machine = Machine::new("two-disks", Firmware::BiosIpxeRom).disk(128);
    let mut vm = machine.power_on(&site.net);
    site.wait_for_reports(&[
        "started",
        "failed?detail=several%20disks%20and%20none%20named:%20vda%20vdb",
    ]);
    vm.wait_for("lab-installer: failed: several disks and none named: vda vdb");
    vm.power_cut();
    assert!(
        !site
            .files
            .lines()
            .iter()
            .any(|line| line.contains("/report/partitioning"))
    );
    for disk in machine.disks() {
        assert_eq!(
            super::vm::sector(disk, 0),
            [0; 512],
            "{} was written to",
            disk.display()
        );
    }
}

#[test]
fn a_power_cut_while_packages_are_fetched_leaves_a_disk_that_does_not_boot() {
    if !ready("a_power_cut_while_packages_are_fetched_leaves_a_disk_that_does_not_boot") {
        return;
    }
    let mut site = Site::new();
    site.answer_with_installer("stop_at=packages\n");
    let mut machine = Machine::new("cut", Firmware::BiosIpxeRom);
    let mut vm = machine.power_on(&site.net);
    site.wait_for_reports(&["started", "partitioning", "packages"]);
    vm.wait_for("lab-installer: stopped at packages");
    vm.power_cut();
    let boot_sector = super::vm::sector(&machine.disks()[0], 0);
    assert_eq!(boot_sector[..440], [0; 440], "no boot code yet");
    assert_eq!(boot_sector[510..], [0x55, 0xaa], "a partition table");
    assert!(
        !site
            .files
            .lines()
            .iter()
            .any(|line| line.contains("/report/bootloader"))
    );
}
