//! Damaged and hostile images: refused with one sentence, in bounded time, without a panic.

use super::medium::{XORRISO, press};
use crate::lab::need;
use cordwainer::distro::iso9660::{Image, IsoError, What};
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

/// Reads everything that can be asked of an image.
fn judge(bytes: &[u8]) -> Result<u64, IsoError> {
    let image = Image::open(bytes)?;
    let _ = image.boot_entries();
    for path in ["a/b/file", "debian/debian/x", "dists/stable/Release", "DISTS", "loop"] {
        let _ = image.find(path, &());
    }
    let _ = image.list("", &());
    let _ = image.list("many", &());
    let mut served = 0_u64;
    let contents = image.walk(&mut |_, node| {
        if let What::File(extents) = &node.what {
            for run in extents.runs() {
                assert!(run.end() <= bytes.len() as u64, "{} lies outside", node.name);
            }
            served += extents.size();
        }
    })?;
    assert_eq!(contents.bytes, served);
    Ok(served)
}

/// A small image with all that a reader can stumble over.
fn small(options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("tree");
    fs::create_dir_all(root.join("dists/trixie")).unwrap();
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    fs::write(root.join("dists/trixie/Release"), b"Suite: trixie").unwrap();
    fs::write(root.join("a/b/file"), vec![7; 3000]).unwrap();
    fs::write(root.join("boot.bin"), vec![0x90; 2048]).unwrap();
    for number in 0..30 {
        fs::write(root.join(format!("many/{}{number}", "n".repeat(number * 6))), b"x").unwrap();
    }
    symlink("trixie", root.join("dists/stable")).unwrap();
    symlink(".", root.join("debian")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("x/".repeat(150), root.join("winding")).unwrap();
    let image = dir.path().join("small.iso");
    let boot = [
        "-b",
        "boot.bin",
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-c",
        "boot.cat",
        "-no-pad",
    ];
    press(&root, &image, &[options, &boot].concat());
    fs::read(image).unwrap()
}

/// xorshift: the seed is fixed, so a failure comes again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }
}

#[test]
fn ten_thousand_damaged_images_neither_panic_nor_linger() {
    if !need::all("iso::damage", &[&[XORRISO]]) {
        return;
    }
    let images = [
        small(&["-r"]),
        small(&["-R", "-J", "-joliet-long", "-iso-level", "3"]),
        small(&["--norock", "-J"]),
        small(&["--norock", "-iso-level", "2"]),
    ];
    // Descriptors, folders and continuation areas: file bytes are nobody's business here.
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut refused, mut slowest) = (0, Duration::ZERO);
    for image in &images {
        assert!(judge(image).is_ok(), "{:?}", judge(image));
        let lively: Vec<usize> = (16 * 2048..image.len()).filter(|at| image[*at] != 0).collect();
        let mut bytes = image.clone();
        for round in 0..2500 {
            let mut undo = Vec::new();
            for _ in 0..=dice.roll(4) {
                let at = lively[dice.roll(lively.len())];
                undo.push((at, bytes[at]));
                bytes[at] = match dice.roll(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => bytes[at] ^ (1 << dice.roll(8)),
                    _ => dice.roll(256) as u8,
                };
            }
            let length = if round % 10 == 0 {
                dice.roll(bytes.len())
            } else {
                bytes.len()
            };
            let from = Instant::now();
            refused += usize::from(judge(&bytes[..length]).is_err());
            slowest = slowest.max(from.elapsed());
            for (at, byte) in undo.into_iter().rev() {
                bytes[at] = byte;
            }
        }
    }
    println!("{refused} of 10000 refused, the slowest took {slowest:?}");
    assert!(refused > 500, "only {refused} were refused");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

/// The first place of `what` behind the descriptors.
fn place(bytes: &[u8], what: &[u8]) -> usize {
    let from = 18 * 2048;
    from + bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    let from = Instant::now();
    let error = judge(bytes).unwrap_err().to_string();
    assert!(from.elapsed() < Duration::from_secs(5), "{error}");
    assert!(error.starts_with("offset ") && error.contains("expected"), "{error}");
    error
}

#[test]
fn each_known_attack_is_refused_by_name() {
    if !need::all("iso::attacks", &[&[XORRISO]]) {
        return;
    }
    let good = small(&["-r"]);
    let hurt = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        refusal(&bytes)
    };
    let put = |bytes: &mut Vec<u8>, at: usize, with: &[u8]| bytes[at..at + with.len()].copy_from_slice(with);

    // CVE-2014-9420: a continuation that continues in itself. Every `CE` of the image is bent to point at one that points at itself.
    let error = hurt(&|bytes| {
        let ce = place(bytes, b"CE\x1c\x01");
        let (sector, within) = (ce / 2048, ce % 2048);
        put(bytes, ce + 4, &(sector as u32).to_le_bytes());
        put(bytes, ce + 12, &(within as u32).to_le_bytes());
        put(bytes, ce + 20, &28_u32.to_le_bytes());
    });
    assert!(
        error.contains("continuation areas of one record, each visited once"),
        "{error}"
    );
    let error = hurt(&|bytes| {
        let ce = place(bytes, b"CE\x1c\x01");
        put(bytes, ce + 20, &u32::MAX.to_le_bytes());
    });
    assert!(error.contains("bytes in a continuation area"), "{error}");
    let error = hurt(&|bytes| {
        let ce = place(bytes, b"CE\x1c\x01");
        put(bytes, ce + 4, &u32::MAX.to_le_bytes());
    });
    assert!(error.contains("a continuation area inside the image"), "{error}");
    // CVE-2016-4913 and paths as names.
    for name in [&b"Rel\0ase"[..], b"../leas", b"Rel/ase"] {
        let error = hurt(&|bytes| {
            let at = place(bytes, b"\0Release");
            put(bytes, at + 1, name);
        });
        assert!(error.contains("a name that is no path"), "{error}");
    }
    let error = hurt(&|bytes| {
        let at = place(bytes, b"NM\x06\x01\0a");
        put(bytes, at, b"NM\x05\x01\x02a");
        let at = place(bytes, b"NM\x09\x01\0many");
        put(bytes, at, b"NM\x06\x01\0");
    });
    assert!(error.contains("a system use entry"), "{error}");
    // A symlink whose component ends outside its entry (2026-64317).
    let error = hurt(&|bytes| {
        let sl = place(bytes, b"\0\x06trixie");
        bytes[sl + 1] = 200;
    });
    assert!(error.contains("a symlink's component that ends within SL"), "{error}");
    // A folder that is its own child, and an extent that lies outside.
    let image = Image::open(good.as_slice()).unwrap();
    let root = (image.root().offset / 2048) as u32;
    let cordwainer::distro::iso9660::Found::Folder(dists) = image.find("dists", &()).unwrap() else {
        panic!("dists");
    };
    let entry = |block: u32| [block.to_le_bytes(), block.to_be_bytes()].concat();
    let spot = |bytes: &[u8], block: u32| {
        let from = image.root().offset as usize + 136;
        from + bytes[from..]
            .windows(8)
            .position(|window| window == entry(block))
            .unwrap()
    };
    let error = hurt(&|bytes| {
        let at = spot(bytes, (dists.offset / 2048) as u32);
        put(bytes, at, &entry(root));
    });
    assert!(error.contains("a folder that is reached by one way"), "{error}");
    let error = hurt(&|bytes| {
        let at = spot(bytes, (dists.offset / 2048) as u32);
        put(bytes, at, &entry(0x7FFF_FFFF));
    });
    assert!(error.contains("inside the image"), "{error}");
    let error = hurt(&|bytes| {
        let at = spot(bytes, (dists.offset / 2048) as u32);
        put(bytes, at + 8, &entry(u32::MAX));
    });
    assert!(error.contains("inside the image"), "{error}");
    // Blocks of no bytes, and a root that is a file.
    let error = hurt(&|bytes| put(bytes, 16 * 2048 + 128, &[0, 0]));
    assert!(error.contains("blocks of 512, 1024 or 2048 bytes"), "{error}");
    let error = hurt(&|bytes| bytes[16 * 2048 + 156 + 25] = 0);
    assert!(error.contains("the record of the root folder"), "{error}");
    let error = hurt(&|bytes| put(bytes, image.root().offset as usize, &[0; 4]));
    assert!(error.contains("a directory record"), "{error}");
    // The catalog of boot images, which nobody needs to import.
    let mut bytes = good.clone();
    let block = u32::from_le_bytes(bytes[17 * 2048 + 71..17 * 2048 + 75].try_into().unwrap()) as usize;
    bytes[block * 2048 + 30] = 0;
    let error = Image::open(bytes.as_slice())
        .unwrap()
        .boot_entries()
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a boot catalog that opens with a valid entry"),
        "{error}"
    );
    assert!(judge(&bytes).is_ok());
}
