//! A file above 4 GiB: two directory records, their extents one after the other or apart. Written sparse, with marks where it matters.

use super::medium::{BSDTAR, XORRISO};
use crate::lab::need;
use cordwainer::distro::iso_source::{Iso, IsoFile, Opened};
use nix::fcntl::{FcntlArg, fcntl};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

const SECTOR: u64 = 2048;
/// The longest extent of whole sectors, as writers make it.
const FIRST: u64 = 4_294_965_248;

fn both32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn record(name: &[u8], sector: u64, length: u64, flags: u8) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(sector.try_into().unwrap()));
    record.extend(both32(length.try_into().unwrap()));
    record.extend([124, 2, 29, 12, 0, 0, 0, flags, 0, 0, 1, 0, 0, 1, name.len() as u8]);
    record.extend(name);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record[0] = record.len() as u8;
    record
}

/// Writes an image whose only file has `extents` (first sector, bytes), each with its bytes where `mark` puts them.
fn write(path: &Path, extents: &[(u64, u64)], sectors: u64) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    let mut primary = vec![0; 2048];
    primary[0..7].copy_from_slice(b"\x01CD001\x01");
    primary[8..72].fill(b' ');
    primary[40..45].copy_from_slice(b"LARGE");
    primary[80..88].copy_from_slice(&both32(sectors.try_into().unwrap()));
    primary[120..124].copy_from_slice(&[1, 0, 0, 1]);
    primary[124..128].copy_from_slice(&[1, 0, 0, 1]);
    primary[128..132].copy_from_slice(&[0, 8, 8, 0]);
    primary[132..140].copy_from_slice(&both32(10));
    primary[140..144].copy_from_slice(&19_u32.to_le_bytes());
    primary[148..152].copy_from_slice(&20_u32.to_be_bytes());
    primary[156..190].copy_from_slice(&record(&[0], 18, SECTOR, 2));
    primary[190..813].fill(b' ');
    primary[881] = 1;
    file.write_all_at(&primary, 16 * SECTOR).unwrap();
    file.write_all_at(b"\xffCD001\x01", 17 * SECTOR).unwrap();
    let mut root = record(&[0], 18, SECTOR, 2);
    root.extend(record(&[1], 18, SECTOR, 2));
    for (place, (sector, length)) in extents.iter().enumerate() {
        let more = if place + 1 < extents.len() { 0x80 } else { 0 };
        root.extend(record(b"BIG.WIM;1", *sector, *length, more));
    }
    root.extend(record(b"SMALL.TXT;1", 21, 5, 0));
    file.write_all_at(&root, 18 * SECTOR).unwrap();
    file.write_all_at(&[1, 0, 18, 0, 0, 0, 1, 0, 0, 0], 19 * SECTOR)
        .unwrap();
    file.write_all_at(&[1, 0, 0, 0, 0, 18, 0, 1, 0, 0], 20 * SECTOR)
        .unwrap();
    file.write_all_at(b"small", 21 * SECTOR).unwrap();
    file
}

fn big(iso: &Iso) -> IsoFile {
    match iso.at("big.wim").unwrap() {
        Opened::File(file) => file,
        Opened::Folder => panic!("a folder"),
    }
}

fn at(file: &IsoFile, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let read = file.read_at(&mut bytes[filled..], offset + filled as u64).unwrap();
        assert_ne!(read, 0, "end at {}", offset + filled as u64);
        filled += read;
    }
    bytes
}

#[test]
fn extents_that_lie_apart_are_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("apart.iso");
    let sectors = 30 + FIRST / SECTOR + 1000;
    let tail = 30 + FIRST / SECTOR + 7;
    let image = write(&path, &[(30, FIRST), (tail, 100_000)], sectors);
    image
        .write_all_at(b"end of the first", 30 * SECTOR + FIRST - 16)
        .unwrap();
    image.write_all_at(b"start of the second", tail * SECTOR).unwrap();
    let iso = Iso::open(&path).unwrap();
    let file = big(&iso);
    assert_eq!(file.size(), FIRST + 100_000);
    assert_eq!(at(&file, FIRST - 16, 35), b"end of the firststart of the second");
    assert_eq!(at(&file, FIRST + 99_999, 1), [0]);
    assert_eq!(file.read_at(&mut [0; 8], file.size()).unwrap(), 0);
    let listed = iso.entries("").unwrap();
    let listed: Vec<_> = listed.iter().map(|entry| (entry.name.as_str(), entry.size)).collect();
    let whole = sectors * SECTOR;
    assert_eq!(
        listed,
        [("big.wim", FIRST + 100_000), ("medium.iso", whole), ("small.txt", 5)],
        "and the image itself"
    );
    assert_eq!(iso.walk().unwrap().files, 2);
}

#[test]
fn an_extent_too_few_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("open.iso");
    let image = write(&path, &[(30, 2048), (31, 2048)], 40);
    // The second record of the file becomes another file's.
    let mut root = vec![0; 2048];
    image.read_exact_at(&mut root, 18 * SECTOR).unwrap();
    let second = root.windows(4).rposition(|name| name == b"BIG.").unwrap();
    image.write_all_at(b"PIG.", 18 * SECTOR + second as u64).unwrap();
    let error = Iso::open(&path).unwrap().at("big.wim").unwrap_err().to_string();
    assert!(
        error.starts_with("offset 36") && error.contains("expected the next extent of the file before"),
        "{error}"
    );
    image.set_len(31 * SECTOR + 5).unwrap();
    image.write_all_at(b"BIG.", 18 * SECTOR + second as u64).unwrap();
    let error = Iso::open(&path).unwrap().at("small.txt").unwrap_err().to_string();
    assert!(
        error
            .contains("expected an extent inside the image, which may be cut off, found bytes 63488 to 65536 of 63493"),
        "{error}"
    );
}

#[test]
fn above_four_gib_every_byte_is_what_others_read() {
    if !need::all("iso::large", &[&[BSDTAR, XORRISO]]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.iso");
    let rest = 33 * SECTOR + 700;
    let sectors = 30 + FIRST / SECTOR + 60;
    let image = write(&path, &[(30, FIRST), (30 + FIRST / SECTOR, rest)], sectors);
    let start = 30 * SECTOR;
    let size = FIRST + rest;
    for offset in [
        0,
        1 << 20,
        (1 << 31) - 3,
        FIRST - 5,
        FIRST,
        (1 << 32) - 9,
        1 << 32,
        size - 8,
    ] {
        image
            .write_all_at(format!("{:08x}", offset % 0xFFFF_FFFF).as_bytes(), start + offset)
            .unwrap();
    }
    let iso = Iso::open(&path).unwrap();
    let file = big(&iso);
    assert_eq!(file.size(), size);
    assert_eq!(at(&file, 1 << 32, 8), b"00000001");
    let mut child = Command::new("bsdtar")
        .arg("-xOf")
        .arg(&path)
        .arg("BIG.WIM")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut theirs = child.stdout.take().unwrap();
    let _ = fcntl(&theirs, FcntlArg::F_SETPIPE_SZ(1 << 20));
    let mut offset = 0;
    let (mut piece, mut own) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let got = theirs.read(&mut piece).unwrap();
        if got == 0 {
            break;
        }
        let mut filled = 0;
        while filled < got {
            let read = file.read_at(&mut own[filled..got], offset + filled as u64).unwrap();
            assert_ne!(read, 0);
            filled += read;
        }
        assert!(own[..got] == piece[..got], "bytes {offset} to {}", offset + got as u64);
        offset += got as u64;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(offset, size);
    let output = Command::new("xorriso")
        .args(["-indev"])
        .arg(&path)
        .args(["-lsl", "/BIG.WIM"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!(" {size} ")), "{said}");
}
