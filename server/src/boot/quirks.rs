//! What particular firmware needs, in one table: device, symptom, source, remedy, test. Nothing about a device stands elsewhere.

use super::Facts;
use crate::model::Firmware;

/// What a quirk changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The firmware is not what option 93 says.
    Is(Firmware),
    /// The script cannot reach the disk by `sanboot`; it leaves to the firmware's next entry.
    LeaveInsteadOfSanboot,
}

/// One quirk.
#[derive(Debug, Clone, Copy)]
pub struct Quirk {
    /// Stable name, as `boot explain` prints it.
    pub name: &'static str,
    /// Which device.
    pub device: &'static str,
    /// What goes wrong without it.
    pub symptom: &'static str,
    /// Who found it.
    pub source: &'static str,
    /// What is done.
    pub remedy: Remedy,
    /// The test that holds it.
    pub test: &'static str,
    applies: fn(&Facts) -> bool,
}

/// Every quirk, tried in order.
pub const QUIRKS: &[Quirk] = &[
    Quirk {
        name: "raspberry-pi",
        device: "Raspberry Pi 3 and 4, own boot ROM",
        symptom: "claims architecture 0 (BIOS) and would be sent a PC loader",
        source: "tinkerbell/smee, isRaspberryPI; the maker's OUIs",
        remedy: Remedy::Is(Firmware::Other(0x29)),
        test: "boot::quirks::tests::a_raspberry_pi_is_no_pc",
        applies: |facts| {
            facts.ipxe.is_none()
                && facts.firmware == Some(Firmware::Bios)
                && facts.mac.is_some_and(|mac| {
                    let [a, b, c, ..] = mac.bytes();
                    matches!(
                        (a, b, c),
                        (0xb8, 0x27, 0xeb) | (0xdc, 0xa6, 0x32) | (0xe4, 0x5f, 0x01) | (0xd8, 0x3a, 0xdd)
                    )
                })
        },
    },
    Quirk {
        name: "hp-sanboot",
        device: "HP ProLiant BIOS (class identifier names HP)",
        symptom: "`sanboot` of drive 0x80 hangs; `exit` reaches the disk",
        source: "Cobbler's template gives these machines `exit`",
        remedy: Remedy::LeaveInsteadOfSanboot,
        test: "boot::quirks::tests::hp_leaves",
        applies: |facts| {
            facts.firmware == Some(Firmware::Bios)
                && facts
                    .vendor_class
                    .as_deref()
                    .is_some_and(|class| class.starts_with("HP") || class.contains(":HP"))
        },
    },
];

impl Quirk {
    /// True when the quirk is about the machine that asks.
    #[must_use]
    pub fn applies(&self, facts: &Facts) -> bool {
        (self.applies)(facts)
    }
}

/// The firmware after quirks, with the quirk that changed it.
#[must_use]
pub fn firmware(facts: &Facts) -> (Option<Firmware>, Option<&'static Quirk>) {
    let found = QUIRKS.iter().find_map(|quirk| match quirk.remedy {
        Remedy::Is(firmware) if quirk.applies(facts) => Some((firmware, quirk)),
        _ => None,
    });
    found.map_or((facts.firmware, None), |(firmware, quirk)| {
        (Some(firmware), Some(quirk))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mac;
    use std::net::Ipv4Addr;

    fn pc() -> Facts {
        Facts {
            firmware: Some(Firmware::Bios),
            ..Facts::nobody(Ipv4Addr::LOCALHOST)
        }
    }

    #[test]
    fn a_raspberry_pi_is_no_pc() {
        let pi = Facts {
            mac: Some(Mac::new([0xdc, 0xa6, 0x32, 1, 2, 3])),
            ..pc()
        };
        assert_eq!(firmware(&pi).0, Some(Firmware::Other(0x29)));
        assert_eq!(firmware(&pc()).0, Some(Firmware::Bios));
    }

    #[test]
    fn hp_leaves() {
        let hp = Facts {
            vendor_class: Some("PXEClient:Arch:00000:UNDI:002001:HP".into()),
            ..pc()
        };
        assert!(
            QUIRKS
                .iter()
                .any(|q| q.remedy == Remedy::LeaveInsteadOfSanboot && q.applies(&hp))
        );
        assert!(!QUIRKS.iter().any(|q| q.applies(&pc())));
    }
}
