//! Images made byte by byte: a small, sound one, and whatever a test makes of it. ECMA-119, SUSP and Rock Ridge as the standards have them.

pub const SECTOR: usize = 2048;
/// Where the folders and files of the sound image lie.
pub const ROOT: u32 = 30;
pub const LAB: u32 = 33;
pub const BOOT: u32 = 34;
pub const RELEASE: u32 = 35;
pub const KERNEL: u32 = 36;
pub const INITRD: u32 = 37;
/// Sectors that nothing uses.
pub const SPARE: u32 = 38;
const SECTORS: u32 = 64;
const RELEASE_TEXT: &[u8] = b"[release]\nname = Lab Linux\nversion = 1\narch = x86_64\n";

pub fn both32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

/// A directory record.
pub fn record(name: &[u8], sector: u32, length: u32, flags: u8, system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(sector));
    record.extend(both32(length));
    record.extend([124, 2, 29, 12, 0, 0, 0, flags, 0, 0, 1, 0, 0, 1, name.len() as u8]);
    record.extend(name);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record.extend(system_use);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record[0] = record.len() as u8;
    record
}

/// An entry of the system use area.
pub fn entry(signature: &[u8; 2], data: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend([data.len() as u8 + 4, 1]);
    bytes.extend(data);
    bytes
}

/// PX: a mode.
pub fn px(mode: u32) -> Vec<u8> {
    entry(b"PX", &[both32(mode), both32(1), both32(0), both32(0)].concat())
}

/// NM: a name.
pub fn nm(name: &[u8]) -> Vec<u8> {
    entry(b"NM", &[&[0], name].concat())
}

/// CE: where more entries lie.
pub fn ce(sector: u32, within: u32, bytes: u32) -> Vec<u8> {
    entry(b"CE", &[both32(sector), both32(within), both32(bytes)].concat())
}

/// SL: a symlink to `target`, whose components are given as (flags, bytes).
pub fn sl(components: &[(u8, &[u8])]) -> Vec<u8> {
    let mut data = vec![0];
    for (flags, bytes) in components {
        data.extend([*flags, bytes.len() as u8]);
        data.extend(*bytes);
    }
    entry(b"SL", &data)
}

/// A file whose name and kind Rock Ridge tells.
pub fn rocky(plain: &[u8], name: &[u8], sector: u32, length: u32) -> Vec<u8> {
    record(plain, sector, length, 0, &[px(0o100_644), nm(name)].concat())
}

/// A symlink.
pub fn link(plain: &[u8], name: &[u8], components: &[(u8, &[u8])]) -> Vec<u8> {
    record(plain, 0, 0, 0, &[px(0o120_777), nm(name), sl(components)].concat())
}

/// An image in the making: the records of its three folders, and the sectors that they and the files fill.
#[derive(Clone)]
pub struct Mold {
    pub root: Vec<Vec<u8>>,
    pub lab: Vec<Vec<u8>>,
    pub boot: Vec<Vec<u8>>,
    pub bytes: Vec<u8>,
    /// The image's length on disk, where it differs from its bytes: cut, or longer and sparse.
    pub length: Option<u64>,
}

impl Mold {
    /// The lab distro; with `rock`, under Rock Ridge's names.
    pub fn new(rock: bool) -> Self {
        let own = |at: u32, root: bool| {
            let mut area = Vec::new();
            if rock && root {
                area.extend(entry(b"SP", &[0xBE, 0xEF, 0]));
            }
            if rock {
                area.extend(px(0o040_755));
            }
            vec![record(&[0], at, 2048, 2, &area), record(&[1], ROOT, 2048, 2, &[])]
        };
        let named = |plain: &[u8], name: &[u8], at: u32, length: u32, flags: u8| {
            let mode = if flags & 2 == 0 { 0o100_644 } else { 0o040_755 };
            let area = if rock {
                [px(mode), nm(name)].concat()
            } else {
                Vec::new()
            };
            record(plain, at, length, flags, &area)
        };
        let mut mold = Self {
            root: own(ROOT, true),
            lab: own(LAB, false),
            boot: own(BOOT, false),
            bytes: vec![0; SECTORS as usize * SECTOR],
            length: None,
        };
        mold.root.push(named(b"BOOT", b"boot", BOOT, 2048, 2));
        mold.root.push(named(b"LAB", b"lab", LAB, 2048, 2));
        mold.lab
            .push(named(b"RELEASE.;1", b"release", RELEASE, RELEASE_TEXT.len() as u32, 0));
        mold.boot.push(named(b"INITRD.IMG;1", b"initrd.img", INITRD, 7, 0));
        mold.boot.push(named(b"VMLINUZ.;1", b"vmlinuz", KERNEL, 6, 0));
        let mut primary = vec![0; SECTOR];
        primary[0..7].copy_from_slice(b"\x01CD001\x01");
        primary[8..72].fill(b' ');
        primary[40..47].copy_from_slice(b"HOSTILE");
        primary[80..88].copy_from_slice(&both32(SECTORS));
        primary[120..124].copy_from_slice(&[1, 0, 0, 1]);
        primary[124..128].copy_from_slice(&[1, 0, 0, 1]);
        primary[128..132].copy_from_slice(&[0, 8, 8, 0]);
        primary[132..140].copy_from_slice(&both32(10));
        primary[140..144].copy_from_slice(&31_u32.to_le_bytes());
        primary[148..152].copy_from_slice(&32_u32.to_be_bytes());
        primary[156..190].copy_from_slice(&record(&[0], ROOT, 2048, 2, &[]));
        primary[190..813].fill(b' ');
        primary[881] = 1;
        mold.put(16, 0, &primary);
        mold.put(17, 0, b"\xffCD001\x01");
        mold.put(RELEASE, 0, RELEASE_TEXT);
        mold.put(KERNEL, 0, b"kernel");
        mold.put(INITRD, 0, b"initrd!");
        mold
    }

    /// Writes `with` at byte `within` of a sector.
    pub fn put(&mut self, sector: u32, within: usize, with: &[u8]) {
        let at = sector as usize * SECTOR + within;
        if self.bytes.len() < at + with.len() {
            self.bytes.resize((at + with.len()).next_multiple_of(SECTOR), 0);
        }
        self.bytes[at..at + with.len()].copy_from_slice(with);
    }

    /// Lays records from `sector` on, none across a boundary, and tells how many sectors they fill.
    pub fn lay(&mut self, sector: u32, records: &[Vec<u8>]) -> u32 {
        let (mut at, mut within) = (sector, 0);
        for record in records {
            if within + record.len() > SECTOR {
                (at, within) = (at + 1, 0);
            }
            self.put(at, within, record);
            within += record.len();
        }
        at - sector + 1
    }

    /// The image.
    pub fn press(mut self) -> (Vec<u8>, Option<u64>) {
        for (sector, records) in [
            (ROOT, self.root.clone()),
            (LAB, self.lab.clone()),
            (BOOT, self.boot.clone()),
        ] {
            assert_eq!(self.lay(sector, &records), 1, "a folder of more than a sector");
        }
        (self.bytes, self.length)
    }
}
