//! Makes images, and reads them whole: by our reader, and by others.

use crate::lab::need::{self, Need};
use cordwainer::distro::iso_source::{Iso, Opened};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const XORRISO: Need = Need::Program("xorriso", "xorriso");
pub const BSDTAR: Need = Need::Program("bsdtar", "libarchive-tools");

/// Everything below the root by path: a file's bytes, or none for a folder.
pub type Tree = BTreeMap<String, Option<Vec<u8>>>;

pub fn tools(test: &str) -> bool {
    need::all(test, &[&[XORRISO, BSDTAR]])
}

/// A folder to be pressed: small and larger files, empty ones, deep folders, links, odd names.
pub fn folder(dir: &Path, links: bool) -> PathBuf {
    let root = dir.join("tree");
    let deep = root.join("a/bb/ccc/dddd/eeeee/ffffff/ggggggg/hhhhhhhh/iiiiiiiii/jjjjjjjjjj");
    fs::create_dir_all(&deep).unwrap();
    fs::create_dir_all(root.join("dists/trixie/main")).unwrap();
    fs::create_dir_all(root.join("many")).unwrap();
    fs::create_dir_all(root.join("empty")).unwrap();
    let bytes = |seed: usize, length: usize| -> Vec<u8> { (0..length).map(|at| (at * 31 + seed) as u8).collect() };
    for (path, length) in [
        ("vmlinuz", 300_001),
        ("nothing", 0),
        ("one", 1),
        ("sector", 2048),
        ("sector1", 2049),
        (".treeinfo", 777),
        ("dists/trixie/Release", 4000),
        ("a/file.tar.gz", 5),
        ("many/Makefile", 9),
    ] {
        fs::write(root.join(path), bytes(length, length)).unwrap();
    }
    fs::write(deep.join("bottom"), b"deep down").unwrap();
    // Many sectors of one folder, and names that need continuation areas.
    for number in 0..400 {
        fs::write(
            root.join(format!("many/package-{number:03}.rpm")),
            bytes(number, number),
        )
        .unwrap();
    }
    if links {
        let long = format!("{}.x86_64.rpm", "long-name-".repeat(20));
        fs::write(root.join("many").join(&long), b"long").unwrap();
        fs::write(root.join("Größe und Weiß.txt"), b"umlauts").unwrap();
        fs::write(root.join("semi;colon"), b"semicolon").unwrap();
        fs::write(root.join("README"), b"upper").unwrap();
        fs::write(root.join("readme"), b"lower").unwrap();
        symlink(".", root.join("debian")).unwrap();
        symlink("trixie", root.join("dists/stable")).unwrap();
        symlink("../../vmlinuz", root.join("dists/trixie/kernel")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("../../../etc/passwd", root.join("a/climbs")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("round", root.join("round")).unwrap();
        symlink(format!("{}vmlinuz", "./".repeat(300)), root.join("winding")).unwrap();
    }
    root
}

/// Presses `root` with the options of mkisofs.
pub fn press(root: &Path, image: &Path, options: &[&str]) {
    let mut command = Command::new("xorriso");
    command.args(["-as", "mkisofs", "-quiet"]).args(options);
    let output = command.arg("-o").arg(image).arg(root).output().unwrap();
    assert!(
        output.status.success(),
        "{options:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What our reader gives of one file, in pieces of an odd size.
pub fn read(iso: &Iso, path: &str) -> Vec<u8> {
    let Opened::File(file) = iso.at(path).unwrap_or_else(|error| panic!("{path}: {error}")) else {
        panic!("{path} is a folder");
    };
    let mut bytes = Vec::new();
    let mut piece = [0; 70_001];
    loop {
        let read = file.read_at(&mut piece, bytes.len() as u64).unwrap();
        if read == 0 {
            break;
        }
        bytes.extend_from_slice(&piece[..read]);
    }
    assert_eq!(bytes.len() as u64, file.size(), "{path}");
    bytes
}

/// All that our reader lists below `path`, without what only links lead to.
pub fn ours(iso: &Iso) -> Tree {
    let mut paths = Vec::new();
    let contents = iso.image().walk(&mut |path, node| {
        use cordwainer::distro::iso9660::What;
        match node.what {
            What::Folder(_) => paths.push((path.to_owned(), true)),
            What::File(_) => paths.push((path.to_owned(), false)),
            What::Link(_) | What::Other(_) => {}
        }
    });
    contents.unwrap();
    let read = |(path, folder): (String, bool)| {
        let bytes = (!folder).then(|| read(iso, &path));
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// The files and folders below `root` on disk; links are left out.
pub fn on_disk(root: &Path) -> Tree {
    fn down(root: &Path, folder: &Path, tree: &mut Tree) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                tree.insert(name, None);
                down(root, &path, tree);
            } else if kind.is_file() {
                tree.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    let mut tree = Tree::new();
    down(root, root, &mut tree);
    tree
}

/// What `program` unpacks from `image`.
pub fn unpacked(program: &str, image: &Path, dir: &Path) -> Tree {
    let to = dir.join(format!("by-{program}"));
    let _ = fs::remove_dir_all(&to);
    fs::create_dir(&to).unwrap();
    let mut command = Command::new(program);
    match program {
        "bsdtar" => command.arg("-xf").arg(image).arg("-C").arg(&to),
        _ => command
            .args(["-osirrox", "on", "-indev"])
            .arg(image)
            .args(["-extract", "/"])
            .arg(&to),
    };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // bsdtar refuses to write what climbs out, and says so by its status; the rest it unpacks.
    assert!(output.status.success() || program == "bsdtar", "{program}: {said}");
    let _ = Command::new("chmod").arg("-R").arg("u+rwX").arg(&to).status();
    on_disk(&to)
}

/// Compares, naming what differs instead of printing megabytes.
pub fn same(what: &str, ours: &Tree, theirs: &Tree) {
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(ours), names(theirs), "{what}");
    for (path, bytes) in ours {
        assert!(bytes == &theirs[path], "{what}: {path} differs");
    }
}
