//! Hostile images, imported by the real program: each is refused in under 5 s and 256 MiB with one message
//! that names what is wrong, and nothing is changed.

use super::measured;
use super::mold::{BOOT, KERNEL, LAB, Mold, RELEASE, ROOT, SPARE, both32, ce, entry, link, nm, px, record, rocky};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a refusal may take, with what a busy machine adds.
const LIMIT: Duration = Duration::from_secs(5);
const MEMORY: u64 = 256 << 20;

/// A state folder, and what was tried on it.
pub struct Bench {
    dir: tempfile::TempDir,
    tried: Vec<&'static str>,
    failures: Vec<String>,
    slowest: (Duration, &'static str),
    largest: (u64, &'static str),
}

impl Bench {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.path().join("state"))
            .unwrap();
        fs::write(dir.path().join("cordwainer.toml"), "[server]\ninterfaces = [\"lo\"]\n").unwrap();
        Self {
            dir,
            tried: Vec::new(),
            failures: Vec::new(),
            slowest: (Duration::ZERO, ""),
            largest: (0, ""),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Imports with `args`, and expects to be refused with `why`.
    pub fn refused(&mut self, what: &'static str, args: &[&str], why: &str) {
        let mut all = vec!["import", "--name", "x"];
        all.extend(args);
        let run = measured::run(self.dir.path(), &all, LIMIT * 3);
        let said = &run.said;
        let left = fs::read_dir(self.path("state/distros")).into_iter().flatten();
        let left: Vec<String> = left
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".lock") && !name.starts_with(".download-"))
            .collect();
        let demands = [
            ("refused", run.code == Some(1)),
            ("one message", said.matches("error: ").count() == 1),
            ("the reason", !why.is_empty() && said.contains(why)),
            (
                "said that nothing was changed",
                said.trim_end().ends_with("nothing was changed"),
            ),
            ("no panic", !said.contains("panicked")),
            (
                "no control characters",
                !said.chars().any(|c| c.is_control() && c != '\n'),
            ),
            ("a message of a screen", said.len() < 4000),
            // Waiting for a server is part of it; waiting for other tests is not.
            ("under 5 s", run.worked < LIMIT && run.took < LIMIT * 3),
            ("under 256 MiB", run.memory < MEMORY),
            ("nothing left behind", left.is_empty()),
            ("a name of its own", !self.tried.contains(&what)),
        ];
        for (demand, _) in demands.iter().filter(|(_, met)| !met) {
            let (took, memory) = (run.took, run.memory >> 20);
            let said: String = said.chars().take(1000).collect();
            self.failures.push(format!(
                "{what}: expected {demand} (`{why}`); code {:?}, {took:?}, {memory} MiB, left {left:?}: {said}",
                run.code
            ));
        }
        self.tried.push(what);
        self.slowest = self.slowest.max((run.worked, what));
        self.largest = self.largest.max((run.memory, what));
    }

    fn image(&mut self, what: &'static str, (bytes, length): (Vec<u8>, Option<u64>), why: &str) {
        let path = self.path("hostile.iso");
        let mut file = File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        if let Some(length) = length {
            file.set_len(length).unwrap();
        }
        drop(file);
        self.refused(what, &["--path", path.to_str().unwrap()], why);
        fs::remove_file(path).unwrap();
    }

    pub fn told(&self, least: usize) {
        let (took, slow) = self.slowest;
        let (memory, large) = self.largest;
        println!(
            "{} refused; the slowest was {slow}: {took:?}; the largest {large}: {} MiB",
            self.tried.len(),
            memory >> 20
        );
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n"));
        assert!(self.tried.len() >= least, "only {} were tried", self.tried.len());
    }
}

/// A sound image, changed.
fn plain(change: impl FnOnce(&mut Mold)) -> (Vec<u8>, Option<u64>) {
    let mut mold = Mold::new(false);
    change(&mut mold);
    mold.press()
}

/// The same with Rock Ridge.
fn rock(change: impl FnOnce(&mut Mold)) -> (Vec<u8>, Option<u64>) {
    let mut mold = Mold::new(true);
    change(&mut mold);
    mold.press()
}

const INSIDE: &str = "inside the image";
pub const NOT_BOTH: &str = "but not both of boot/vmlinuz and boot/initrd.img";

#[test]
fn the_molds_themselves_are_sound() {
    let bench = Bench::new();
    for (name, (bytes, _)) in [("plain", plain(|_| {})), ("rock", rock(|_| {}))] {
        let path = bench.path("sound.iso");
        fs::write(&path, bytes).unwrap();
        let run = measured::run(
            bench.dir.path(),
            &["import", "--name", name, "--path", path.to_str().unwrap()],
            LIMIT,
        );
        assert_eq!(run.code, Some(0), "{name}: {}", run.said);
    }
}

#[test]
fn sixty_hostile_images_are_refused() {
    let mut bench = Bench::new();
    let b = &mut bench;
    // No image at all.
    b.image("nothing", (vec![], None), "a file of 0 bytes");
    b.image("a sector", (vec![0; 512], None), "a file of 512 bytes");
    b.image("text", (b"#!/bin/sh\n".repeat(9000), None), "CD001");
    b.image("zeros without end", (vec![], Some(1 << 40)), "found something else");
    b.image("cut in its descriptor", (plain(|_| {}).0, Some(33_000)), "CD001");
    b.image("cut in its root", (plain(|_| {}).0, Some(30 * 2048 + 100)), INSIDE);
    b.image(
        "cut in its kernel",
        (plain(|_| {}).0, Some(u64::from(KERNEL) * 2048 + 3)),
        INSIDE,
    );
    // Descriptors.
    for (what, size) in [
        ("blocks of 0", [0, 0]),
        ("blocks of 4096", [0, 16]),
        ("blocks of 65535", [255, 255]),
    ] {
        b.image(
            what,
            plain(|mold| mold.put(16, 128, &size)),
            "blocks of 512, 1024 or 2048 bytes",
        );
    }
    b.image(
        "a root that is a file",
        plain(|mold| mold.put(16, 156 + 25, &[0])),
        "the record of the root folder",
    );
    b.image(
        "a root outside",
        plain(|mold| mold.put(16, 158, &both32(u32::MAX))),
        INSIDE,
    );
    b.image(
        "a root of 4 GiB",
        plain(|mold| mold.put(16, 166, &both32(u32::MAX))),
        INSIDE,
    );
    b.image(
        "a root of nothing",
        plain(|mold| mold.put(16, 166, &both32(0))),
        "expected",
    );
    b.image(
        "a root of zeros",
        plain(|mold| mold.put(16, 158, &both32(SPARE))),
        "expected",
    );
    b.image(
        "a root of a gigabyte of zeros",
        plain(|mold| {
            mold.put(16, 158, &both32(100));
            mold.put(16, 166, &both32(1 << 30));
            mold.put(100, 0, &record(&[0], 100, 1 << 30, 2, &[]));
            mold.length = Some(4 << 30);
        }),
        "bytes of folders in one operation",
    );
    b.image(
        "Joliet's root outside",
        plain(|mold| {
            let mut second = mold.bytes[16 * 2048..17 * 2048].to_vec();
            (second[0], second[88], second[89], second[90]) = (2, b'%', b'/', b'E');
            second[158..166].copy_from_slice(&both32(u32::MAX));
            mold.put(17, 0, &second);
            mold.put(18, 0, b"\xffCD001\x01");
        }),
        INSIDE,
    );
    b.image(
        "UDF beside a read-me",
        plain(|mold| {
            mold.put(18, 0, b"\0BEA01\x01");
            mold.put(19, 0, b"\0NSR02\x01");
            mold.put(20, 0, b"\0TEA01\x01");
            mold.root.truncate(2);
            mold.root.push(record(b"README.TXT;1", RELEASE, 10, 0, &[]));
        }),
        "keeps its files in UDF",
    );
    b.image(
        "UDF alone",
        plain(|mold| {
            mold.put(16, 0, b"\0BEA01\x01");
            mold.put(17, 0, b"\0NSR03\x01");
            mold.put(18, 0, b"\0TEA01\x01");
        }),
        "keeps its files in UDF",
    );
    // Records and folders.
    b.image(
        "a record of one byte",
        plain(|mold| mold.put(SPARE, 0, &[1])).tap_root(SPARE),
        "directory record",
    );
    b.image(
        "a record across its sector",
        plain(|mold| {
            let mut records = vec![record(&[0], SPARE, 2048, 2, &[0; 220])];
            records.extend((b'A'..b'H').map(|name| record(&[name], 0, 0, 0, &[0; 220])));
            mold.lay(SPARE, &records);
            mold.put(SPARE, 8 * 254, &[34]);
            mold.root.push(record(b"ODD", SPARE, 2048, 2, &[]));
        }),
        "a directory record that ends within its sector",
    );
    b.image(
        "a name longer than its record",
        plain(|mold| mold.lab[2][32] = 200),
        "directory record",
    );
    b.image(
        "a name of nothing",
        plain(|mold| mold.lab[2][32] = 0),
        "directory record",
    );
    b.image(
        "a path as a name",
        plain(|mold| mold.lab[2][33..40].copy_from_slice(b"../ETC/")),
        "a name that is no path",
    );
    b.image(
        "a name with NUL",
        plain(|mold| mold.lab[2][35] = 0),
        "a name that is no path",
    );
    b.image(
        "a name twice",
        plain(|mold| mold.lab.push(mold.lab[2].clone())),
        "each name of a folder once",
    );
    b.image(
        "a folder that is its parent",
        plain(|mold| mold.lab.push(record(b"UP", ROOT, 2048, 2, &[]))),
        "reached by one way",
    );
    b.image(
        "a folder that is itself",
        plain(|mold| mold.lab.push(record(b"ME", LAB, 2048, 2, &[]))),
        "reached by one way",
    );
    b.image(
        "a folder by two ways",
        plain(|mold| mold.lab.push(record(b"TWIN", BOOT, 2048, 2, &[]))),
        "reached by one way",
    );
    b.image(
        "a folder that is a file",
        plain(|mold| mold.lab.push(record(b"DIR", KERNEL, 2048, 2, &[]))),
        "expected",
    );
    b.image(
        "a folder outside",
        plain(|mold| mold.lab.push(record(b"DIR", 1 << 30, 2048, 2, &[]))),
        INSIDE,
    );
    b.image(
        "folders a thousand deep",
        plain(|mold| {
            for depth in 0..1000 {
                let at = 100 + depth;
                let own = [record(&[0], at, 2048, 2, &[]), record(&[1], at - 1, 2048, 2, &[])];
                let down = record(b"D", at + 1, 2048, 2, &[]);
                mold.lay(at, &[&own[..], &[down]].concat());
            }
            mold.put(1100, 0, &record(&[0], 1100, 2048, 2, &[]));
            mold.root.push(record(b"DEEP", 100, 2048, 2, &[]));
        }),
        "folders below one another",
    );
    b.image(
        "a hundred and ten thousand entries in a folder",
        plain(|mold| {
            let mut records = vec![record(&[0], 100, 0, 2, &[]), record(&[1], ROOT, 2048, 2, &[])];
            records.extend((0..110_000).map(|number| record(format!("F{number:06}").as_bytes(), 0, 0, 0, &[])));
            let sectors = mold.lay(100, &records);
            mold.root.push(record(b"MANY", 100, sectors * 2048, 2, &[]));
        }),
        "entries in a folder",
    );
    b.image(
        "more than a million entries",
        plain(|mold| {
            // Folders by one way each, their records next to one another.
            let mut at = 100;
            for folder in 0..12 {
                let mut records = vec![record(&[0], at, 0, 2, &[]), record(&[1], ROOT, 2048, 2, &[])];
                records.extend((0..90_000).map(|number| record(format!("{number:05}").as_bytes(), 0, 0, 0, &[])));
                let sectors = mold.lay(at, &records);
                mold.root
                    .push(record(format!("M{folder:02}").as_bytes(), at, sectors * 2048, 2, &[]));
                at += sectors;
            }
        }),
        "expected at most",
    );
    // Extents.
    b.image(
        "a kernel outside",
        plain(|mold| mold.boot[3][2..10].copy_from_slice(&both32(1 << 20))),
        INSIDE,
    );
    b.image(
        "a kernel at the last sector there can be",
        plain(|mold| mold.boot[3][2..10].copy_from_slice(&both32(u32::MAX))),
        INSIDE,
    );
    b.image(
        "a kernel of 4 GiB less one",
        plain(|mold| mold.boot[3][10..18].copy_from_slice(&both32(u32::MAX))),
        INSIDE,
    );
    b.image(
        "a kernel behind 255 sectors of attributes",
        plain(|mold| mold.boot[3][1] = 255),
        INSIDE,
    );
    b.image(
        "a kernel whose last extent is missing",
        plain(|mold| mold.boot[3][25] = 0x80),
        "the last extent of a file",
    );
    b.image(
        "a file that goes on as another",
        plain(|mold| mold.boot[2][25] = 0x80),
        "the next extent of the file before",
    );
    b.image(
        "a file that goes on outside",
        plain(|mold| {
            mold.boot[3][25] = 0x80;
            mold.boot.push(record(b"VMLINUZ.;1", 1 << 21, 2048, 0, &[]));
        }),
        INSIDE,
    );
    b.image(
        "a file of two thousand extents",
        plain(|mold| {
            let mut records = vec![record(&[0], 100, 0, 2, &[]), record(&[1], ROOT, 2048, 2, &[])];
            records.extend((0..2000).map(|_| record(b"F", SPARE, 10, 0x80, &[])));
            let sectors = mold.lay(100, &records);
            mold.root.push(record(b"MANY", 100, sectors * 2048, 2, &[]));
        }),
        "extents of one file",
    );
    b.image(
        "files of more bytes than the image has",
        plain(|mold| {
            let all = mold.bytes.len() as u32;
            for number in 0..20 {
                let name = format!("F{number:02}");
                mold.lab
                    .push(record(name.as_bytes(), number, all - number * 2048, 0, &[]));
            }
        }),
        "files that share no bytes",
    );
    // At the edge of 4 GiB: the image is as long as 32-bit sectors of one extent allow, and the second extent is not.
    let first = 4_294_965_248_u32;
    b.image(
        "a file above 4 GiB whose rest is cut off",
        plain(|mold| {
            mold.boot.push(record(b"Z.WIM;1", SPARE, first, 0x80, &[]));
            mold.boot.push(record(b"Z.WIM;1", SPARE + first / 2048, 4096, 0, &[]));
            mold.length = Some(u64::from(SPARE) * 2048 + u64::from(first) + 4095);
        }),
        INSIDE,
    );
    b.image(
        "a kernel in pieces with gaps",
        plain(|mold| mold.boot[3][26] = 1),
        "stored in pieces with gaps",
    );
    bench.rest_of_the_images();
    bench.told(60);
}

trait TapRoot {
    /// Puts the root of a pressed image elsewhere.
    fn tap_root(self, sector: u32) -> Self;
}

impl TapRoot for (Vec<u8>, Option<u64>) {
    fn tap_root(mut self, sector: u32) -> Self {
        self.0[16 * 2048 + 158..16 * 2048 + 166].copy_from_slice(&both32(sector));
        self
    }
}

impl Bench {
    /// Rock Ridge's, and what detection reads.
    fn rest_of_the_images(&mut self) {
        let b = self;
        b.image(
            "a continuation that continues in itself",
            rock(|mold| {
                mold.lab[2] = record(b"RELEASE.;1", RELEASE, 50, 0, &ce(SPARE, 0, 28));
                mold.put(SPARE, 0, &ce(SPARE, 0, 28));
            }),
            "each visited once",
        );
        b.image(
            "two continuations that continue in each other",
            rock(|mold| {
                mold.lab[2] = record(b"RELEASE.;1", RELEASE, 50, 0, &ce(SPARE, 0, 28));
                mold.put(SPARE, 0, &ce(SPARE, 100, 28));
                mold.put(SPARE, 100, &ce(SPARE, 0, 28));
            }),
            "each visited once",
        );
        b.image(
            "a chain of sixty continuations",
            rock(|mold| {
                mold.lab[2] = record(b"RELEASE.;1", RELEASE, 50, 0, &ce(SPARE, 0, 28));
                for number in 0..60 {
                    mold.put(SPARE, number * 28, &ce(SPARE, (number as u32 + 1) * 28, 28));
                }
            }),
            "continuation areas of one record",
        );
        for (what, area, why) in [
            ("a continuation outside", ce(u32::MAX, 0, 28), INSIDE),
            (
                "a continuation of 4 GiB",
                ce(SPARE, 0, u32::MAX),
                "bytes in a continuation area",
            ),
            ("a continuation far behind its sector", ce(SPARE, u32::MAX, 28), INSIDE),
            ("a continuation of 3 bytes", entry(b"CE", &[1, 2, 3]), "24 bytes in CE"),
            (
                "a name that climbs",
                [px(0o100_644), nm(b"../../etc/passwd")].concat(),
                "a name that is no path",
            ),
            (
                "a name that is the folder above",
                [px(0o100_644), nm(b"..")].concat(),
                "a name that is no path",
            ),
            (
                "a name with NUL by Rock Ridge",
                [px(0o100_644), nm(b"a\0b")].concat(),
                "a name that is no path",
            ),
            (
                "an entry longer than its area",
                vec![b'N', b'M', 250, 1, 0, b'a'],
                "a system use entry",
            ),
            (
                "an entry of no length",
                vec![b'N', b'M', 0, 1, 0, b'a'],
                "a system use entry",
            ),
            ("a mode of two bytes", entry(b"PX", &[1, 2]), "a mode in PX"),
            (
                "a symlink's component outside",
                entry(b"SL", &[0, 0, 200, b'a']),
                "a symlink's component",
            ),
            (
                "a symlink without an end",
                entry(b"SL", &[1, 1, 1, b'a']),
                "the end of a symlink's component",
            ),
            (
                "a folder moved outside",
                [px(0o040_755), entry(b"CL", &both32(u32::MAX))].concat(),
                INSIDE,
            ),
            (
                "a folder moved into a file",
                [px(0o040_755), entry(b"CL", &both32(KERNEL))].concat(),
                "expected",
            ),
        ] {
            b.image(
                what,
                rock(|mold| mold.lab.push(record(b"EVIL.;1", RELEASE, 50, 0, &area))),
                why,
            );
        }
        b.image(
            "a moved folder that is its own parent",
            rock(|mold| {
                mold.lab.push(record(
                    b"UP.;1",
                    RELEASE,
                    50,
                    0,
                    &[px(0o040_755), nm(b"up"), entry(b"CL", &both32(ROOT))].concat(),
                ))
            }),
            "reached by one way",
        );
        b.image(
            "a name of a kilobyte",
            rock(|mold| {
                let part = |more: u8| entry(b"NM", &[&[more][..], &[b'n'; 120]].concat());
                mold.lab
                    .push(record(b"LONG.;1", RELEASE, 50, 0, &ce(SPARE, 0, 9 * 125)));
                let parts: Vec<u8> = (0..9).flat_map(|number| part(u8::from(number < 8))).collect();
                mold.put(SPARE, 0, &parts);
            }),
            "expected at most",
        );
        b.image(
            "a symlink to five thousand bytes",
            rock(|mold| {
                mold.lab.push(record(b"LONG.;1", 0, 0, 0, &ce(SPARE, 0, 30 * 206)));
                let part = entry(b"SL", &[&[1_u8, 0, 199][..], &[b'n'; 199]].concat());
                mold.put(SPARE, 0, &part.repeat(30));
            }),
            "expected at most",
        );
        let kernel = |with: Vec<u8>| rock(|mold| mold.boot[3] = with);
        let etc: [(u8, &[u8]); 3] = [(8, b""), (0, b"etc"), (0, b"shadow")];
        b.image(
            "a kernel that is an absolute symlink",
            kernel(link(b"VMLINUZ.;1", b"vmlinuz", &etc)),
            "vmlinuz leads out of the image",
        );
        let up: [(u8, &[u8]); 5] = [(4, b""), (4, b""), (4, b""), (0, b"etc"), (0, b"shadow")];
        b.image(
            "a kernel that climbs out",
            kernel(link(b"VMLINUZ.;1", b"vmlinuz", &up)),
            "vmlinuz leads out of the image",
        );
        b.image(
            "a kernel that is itself",
            kernel(link(b"VMLINUZ.;1", b"vmlinuz", &[(0, b"vmlinuz")])),
            "passes more than 40 symlinks",
        );
        b.image(
            "a kernel behind a symlink bomb",
            rock(|mold| {
                mold.boot[3] = link(b"VMLINUZ.;1", b"vmlinuz", &[(0, b"l00")]);
                let names: Vec<String> = (0..16).map(|number| format!("l{number:02}")).collect();
                for pair in names.windows(2) {
                    let next = pair[1].as_bytes();
                    // Each goes through the next twice.
                    mold.boot.push(link(
                        pair[0].to_uppercase().as_bytes(),
                        pair[0].as_bytes(),
                        &[(0, next), (4, b""), (0, next)],
                    ));
                }
                mold.boot.push(link(b"L15", b"l15", &[(2, b"")]));
            }),
            NOT_BOTH,
        );
        b.image(
            "a kernel that is a device",
            kernel(record(
                b"VMLINUZ.;1",
                0,
                0,
                0,
                &[px(0o060_644), nm(b"vmlinuz")].concat(),
            )),
            "a device, pipe or socket",
        );
        b.image(
            "a kernel that is packed",
            kernel(record(
                b"VMLINUZ.;1",
                KERNEL,
                6,
                0,
                &[
                    px(0o100_644),
                    nm(b"vmlinuz"),
                    entry(b"ZF", b"pz\x04\x0f\0\0\0\0\0\0\0\0"),
                ]
                .concat(),
            )),
            "packed by zisofs",
        );
        b.image(
            "a kernel that is a folder",
            rock(|mold| mold.boot[3] = record(b"VMLINUZ", SPARE, 2048, 2, &[px(0o040_755), nm(b"vmlinuz")].concat()))
                .with_folder(SPARE),
            NOT_BOTH,
        );
        b.image(
            "a tree without an initrd",
            rock(|mold| drop(mold.boot.remove(2))),
            NOT_BOTH,
        );
        let treeinfo = |text: &'static str| {
            rock(move |mold| {
                mold.put(SPARE, 0, text.as_bytes());
                mold.root
                    .push(rocky(b"TREEINFO.;1", b".treeinfo", SPARE, text.len() as u32));
                mold.root.remove(3);
            })
        };
        b.image(
            "a .treeinfo whose kernel is ours",
            treeinfo("[general]\nfamily = X\nversion = 9\narch = x86_64\n[images-x86_64]\nkernel = ../../../etc/passwd\ninitrd = /etc/shadow\n"),
            "remedy",
        );
        b.image(
            "a .treeinfo for a machine that there is none of",
            treeinfo("[general]\nfamily = X\nversion = 9\narch = \x1b[2Jpdp11\n[images-\x1b[2Jpdp11]\nkernel = boot/vmlinuz\ninitrd = boot/initrd.img\n"),
            "remedy",
        );
        b.image(
            "a .treeinfo of a gigabyte",
            rock(|mold| {
                mold.root
                    .push(rocky(b"TREEINFO.;1", b".treeinfo", SPARE + 100, 1 << 30));
                mold.root.remove(3);
                mold.length = Some(2 << 30);
            }),
            "names no kernel and initrd",
        );
    }
}

trait WithFolder {
    fn with_folder(self, sector: u32) -> Self;
}

impl WithFolder for (Vec<u8>, Option<u64>) {
    /// An empty folder at `sector`.
    fn with_folder(mut self, sector: u32) -> Self {
        let own = [record(&[0], sector, 2048, 2, &[]), record(&[1], ROOT, 2048, 2, &[])].concat();
        let at = sector as usize * 2048;
        self.0[at..at + own.len()].copy_from_slice(&own);
        self
    }
}
