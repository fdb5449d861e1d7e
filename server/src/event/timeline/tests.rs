//! Golden timelines, in the voice that people were promised.

#![allow(clippy::arithmetic_side_effects, reason = "tests stop at the first surprise")]

use super::*;
use std::net::Ipv4Addr;

/// 2026-11-21 14:03:11.204 UTC.
const START: i64 = 1_795_269_791_204;

struct Tape(Vec<Event>);

impl Tape {
    fn new() -> Self {
        Self(Vec::new())
    }

    /// `millis` after the start.
    fn at(mut self, millis: i64, what: What) -> Self {
        self.0.push(Event {
            at: Timestamp(START + millis),
            mac: Some(Mac::new([0x52, 0x54, 0, 0x7c, 0x1d, 0x4f])),
            system: Some("web1".parse().unwrap()),
            peer: None,
            what,
        });
        self
    }

    fn told(&self, after_last: i64) -> String {
        let machine = Machine {
            system: Some("web1".parse().unwrap()),
            profile: Some("rocky9".parse().unwrap()),
            standing: Some("armed by root until 18:02".into()),
            min_ram_mib: Some(3072),
            mac: None,
        };
        let now = Timestamp(self.0.last().unwrap().at.0 + after_last);
        timeline(&self.0, &machine, now).to_string()
    }

    /// Four pieces: the missing step, what is next, why, what to do.
    fn stopped(&self, after_last: i64) -> [String; 4] {
        match timeline(
            &self.0,
            &Machine::default(),
            Timestamp(self.0.last().unwrap().at.0 + after_last),
        )
        .ending
        {
            Ending::Stopped {
                what,
                next,
                likely,
                remedy,
            } => [what, next, likely, remedy],
            other => panic!("{other:?}"),
        }
    }
}

fn discover(client: &str) -> What {
    What::DhcpReceived {
        message: "DISCOVER".into(),
        firmware: Some("UEFI x64".into()),
        client: Some(client.into()),
    }
}

fn request() -> What {
    What::DhcpReceived {
        message: "REQUEST".into(),
        firmware: Some("UEFI x64".into()),
        client: Some("PXEClient".into()),
    }
}

fn answer(message: &str, file: &str, durable_us: Option<u64>) -> What {
    What::DhcpAnswered {
        message: message.into(),
        address: Some(Ipv4Addr::new(192, 168, 77, 21)),
        file: Some(file.into()),
        rule: "firmware uefi-x64".into(),
        durable_us,
    }
}

fn loader() -> What {
    What::TftpSent {
        file: "snponly.efi".into(),
        bytes: 218_112,
        millis: 90,
        blksize: 1468,
        window: 4,
    }
}

fn script(gives: &str) -> What {
    What::Script {
        dialect: "ipxe".into(),
        gives: gives.into(),
        rule: "armed".into(),
    }
}

fn sent(role: &str, path: &str, bytes: u64, millis: u64) -> What {
    What::HttpSent {
        role: role.into(),
        path: path.into(),
        bytes,
        size: bytes,
        millis,
        status: 200,
    }
}

fn stage(word: &str) -> What {
    What::Stage {
        stage: word.into(),
        detail: None,
        reported: true,
    }
}

fn tree(files: u64, bytes: u64) -> What {
    What::TreeSent {
        files,
        bytes,
        millis: 5000,
        last: "Packages/b/bash.rpm".into(),
    }
}

fn up_to_script() -> Tape {
    Tape::new()
        .at(0, discover("PXEClient"))
        .at(1, answer("OFFER", "snponly.efi", None))
        .at(3697, request())
        .at(3698, answer("ACK", "snponly.efi", Some(800)))
        .at(
            3700,
            What::TftpProbed {
                file: "snponly.efi".into(),
                size: 218_112,
            },
        )
        .at(3756, loader())
        .at(5100, discover("iPXE 1.21.1"))
        .at(
            5101,
            answer("OFFER", "http://192.168.77.1/b/52-54-00-7c-1d-4f/ipxe", None),
        )
        .at(5148, script("install rocky9"))
}

fn up_to_initrd() -> Tape {
    up_to_script()
        .at(
            5200,
            What::HttpProgress {
                role: "kernel".into(),
                path: "images/pxeboot/vmlinuz".into(),
                bytes: 5_000_000,
                size: 13_842_000,
            },
        )
        .at(5700, sent("kernel", "images/pxeboot/vmlinuz", 13_842_000, 62))
        .at(7000, sent("initrd", "images/pxeboot/initrd.img", 106_954_752, 540))
}

fn up_to_packages() -> Tape {
    up_to_initrd()
        .at(
            29_800,
            What::AnswerFile {
                file: "ks.cfg".into(),
                template: "redhat/el9.ks".into(),
                bytes: 4096,
            },
        )
        .at(40_800, stage("partitioning"))
        .at(60_000, tree(200, 150_000_000))
        .at(65_000, tree(212, 20_000_000))
}

#[test]
fn a_boot_that_goes_on() {
    let expected = "\
web1  52:54:00:7c:1d:4f  UEFI x64  profile rocky9  armed by root until 18:02  2026-11-21 UTC
  14:03:11.204  +0.000   DHCP  DISCOVER  PXEClient, UEFI x64
  14:03:11.205  +0.001   DHCP  OFFER 192.168.77.21, snponly.efi  rule: firmware uefi-x64
  14:03:14.902  +3.697   DHCP  REQUEST, ACK 192.168.77.21, snponly.efi (durable in 0.8 ms)  rule: firmware uefi-x64
  14:03:14.960  +0.058   TFTP  snponly.efi  213 KiB in 0.09 s, blocks of 1468, window 4, size asked first
  14:03:16.304  +1.344   DHCP  DISCOVER  iPXE 1.21.1, UEFI x64
  14:03:16.305  +0.001   DHCP  OFFER 192.168.77.21, http://192.168.77.1/b/52-54-00-7c-1d-4f/ipxe  rule: firmware uefi-x64
  14:03:16.352  +0.047   HTTP  ipxe script -> install rocky9  rule: armed
  14:03:16.904  +0.552   HTTP  kernel images/pxeboot/vmlinuz  13.2 MiB  212 MiB/s
  14:03:18.204  +1.300   HTTP  initrd images/pxeboot/initrd.img  102 MiB  188 MiB/s
  14:03:41.004  +22.8    HTTP  answer file ks.cfg from redhat/el9.ks, 4.0 KiB
  14:03:52.004  +11.0    step  partitioning  reported by the installer
  14:04:16.204  +24.2    HTTP  412 files of the tree  162 MiB  16.2 MiB/s, the last Packages/b/bash.rpm
  now: nothing for 6 s.  Next expected: packages, then done.
";
    let told = up_to_packages().told(6000);
    assert_eq!(told, expected, "\n{told}");
}

#[test]
fn a_boot_that_ended_well() {
    let told = up_to_packages()
        .at(90_000, What::Installed)
        .at(90_001, stage("done"))
        .told(99_999_999);
    assert!(
        told.contains("  +25.0    step  installed: boots from disk from now on\n"),
        "{told}"
    );
    assert!(!told.contains("done  reported"), "{told}");
    assert!(
        told.ends_with("  installed: it boots from its disk from now on.\n"),
        "{told}"
    );
    let local = up_to_script()
        .at(6000, script("local boot: web1 is installed"))
        .told(99_999_999);
    assert!(
        local.ends_with("  it boots from its own disk (local boot: web1 is installed).\n"),
        "{local}"
    );
}

#[test]
fn an_offer_that_another_server_beat() {
    let mut tape = Tape::new();
    for n in 0..4 {
        tape = tape
            .at(n * 15_000, discover("PXEClient"))
            .at(n * 15_000 + 1, answer("OFFER", "undionly.kpxe", None));
    }
    let tape = tape.at(
        45_002,
        What::DhcpForeignServer {
            server: Ipv4Addr::new(192, 168, 77, 254),
            offered: Some(Ipv4Addr::new(192, 168, 77, 180)),
            file: None,
            hardware: None,
        },
    );
    let told = tape.told(15_000);
    let expected = "\
  14:03:11.204  +0.000   DHCP  DISCOVER  PXEClient, UEFI x64  (and 3 times more)
  14:03:11.205  +0.001   DHCP  OFFER 192.168.77.21, undionly.kpxe  rule: firmware uefi-x64  (and 3 times more)
  14:03:56.206  +0.001   DHCP  another DHCP server, 192.168.77.254, answered and offered 192.168.77.180 without a boot file
  stopped: no REQUEST for our offer in 60 s (4 DISCOVERs answered).
  Next expected: REQUEST.
  Likely: another DHCP server won. 192.168.77.254 offered 192.168.77.180 without a boot file at 14:03:56.206.
  Remedy: let that server leave this MAC alone, or run Cordwainer as proxy: [dhcp] mode = \"proxy\".
";
    assert!(told.ends_with(expected), "\n{told}");
}

#[test]
fn every_step_that_is_missing_has_its_own_cause() {
    let leased = || Tape::new().at(0, discover("PXEClient")).at(1, request());
    for (tape, next, cause) in [
        (leased().at(2, answer("ACK", "snponly.efi", None)), "TFTP", "UDP 69"),
        (
            leased().at(2, answer("ACK", "http://192.168.77.1/l/x.efi", None)),
            "HTTP",
            "TCP",
        ),
        (
            leased().at(2, answer("ACK", "snponly.efi", None)).at(3, loader()),
            "boot script",
            "Secure Boot",
        ),
        (up_to_script(), "kernel", "HTTP"),
        (up_to_initrd(), "answer file", "memory"),
        (
            up_to_initrd().at(
                9000,
                What::AnswerFile {
                    file: "ks.cfg".into(),
                    template: "x".into(),
                    bytes: 1,
                },
            ),
            "partitioning",
            "question",
        ),
        (up_to_packages(), "packages, then done", "question"),
    ] {
        let [_, seen_next, likely, remedy] = tape.stopped(3_600_000);
        assert!(seen_next.contains(next), "{seen_next}");
        assert!(likely.contains(cause), "{next}: {likely}");
        assert!(!remedy.is_empty());
    }
    let told = up_to_initrd().told(3_600_000);
    assert!(told.contains("the installer needs 3072 MiB"), "{told}");
}

#[test]
fn a_refusal_is_the_last_word() {
    let ignored = Tape::new().at(0, discover("PXEClient")).at(
        1,
        What::DhcpIgnored {
            message: "DISCOVER".into(),
            reason: "no system has this MAC, and the server is a proxy".into(),
        },
    );
    let [what, next, likely, remedy] = ignored.stopped(5);
    assert_eq!((what.as_str(), next.as_str()), ("DISCOVER was not answered", "OFFER"));
    assert!(likely.starts_with("no system has this MAC") && remedy.contains("--mac-address 52:54:00:7c:1d:4f"));
    let refused = up_to_initrd().at(
        30_000,
        What::AnswerRefused {
            cause: "our lease of 192.168.77.21 is another's".into(),
        },
    );
    assert_eq!(refused.stopped(5)[2], "our lease of 192.168.77.21 is another's");
    // The state's word counts for more than the script that follows it.
    let held = up_to_packages().at(
        70_000,
        What::Held {
            reason: "it booted again".into(),
        },
    );
    let held = held.at(70_001, script("local boot: web1 boots again without done"));
    assert!(
        held.told(5)
            .contains("Remedy: if it should be installed anew: `cordwainer system arm web1 --again`")
    );
}

#[test]
fn boots_are_told_apart() {
    let count = |tape: &Tape| boots(&tape.0).iter().map(|boot| boot.len()).collect::<Vec<_>>();
    // The ROM, iPXE and the installer are one boot; so are four unanswered shouts.
    let installer = What::DhcpReceived {
        message: "DISCOVER".into(),
        firmware: None,
        client: Some("d-i".into()),
    };
    let one = up_to_initrd().at(8000, installer);
    assert_eq!(count(&one), [one.0.len()]);
    let shouts = Tape::new()
        .at(0, discover("PXEClient"))
        .at(1, answer("OFFER", "x", None))
        .at(5000, discover("PXEClient"));
    assert_eq!(count(&shouts), [3]);
    // Power cycled in the middle; switched on a day later; installed and booted again; a ROM that is iPXE itself.
    assert_eq!(count(&up_to_script().at(9000, discover("PXEClient"))), [9, 1]);
    assert_eq!(
        count(
            &Tape::new()
                .at(0, discover("PXEClient"))
                .at(86_400_000, discover("PXEClient"))
        ),
        [1, 1]
    );
    assert_eq!(
        count(&up_to_script().at(9000, What::Installed).at(9500, discover("iPXE"))),
        [10, 1]
    );
    assert_eq!(count(&up_to_script().at(9000, discover("iPXE"))), [9, 1]);
    assert_eq!(last_boot(&up_to_script().at(9000, discover("PXEClient")).0).len(), 1);
    assert!(boots(&[]).is_empty() && last_boot(&[]).is_empty());
}
