//! Hostile trees, archives and servers, imported by the real program: refused as hostile images are.

use super::imports::{Bench, NOT_BOTH};
use crate::import::netboot::{disc, gzip};
use crate::import::web::{Web, say};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lab distro as a folder, with `spoil` done to it.
fn tree(bench: &Bench, spoil: impl FnOnce(&Path)) -> PathBuf {
    let root = bench.path("tree");
    let _old = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("lab")).unwrap();
    fs::create_dir_all(root.join("boot")).unwrap();
    fs::write(
        root.join("lab/release"),
        "[release]\nname = Lab Linux\nversion = 1\narch = x86_64\n",
    )
    .unwrap();
    fs::write(root.join("boot/vmlinuz"), "kernel").unwrap();
    fs::write(root.join("boot/initrd.img"), "initrd!").unwrap();
    spoil(&root);
    root
}

fn kernel_as(make: impl FnOnce(&Path)) -> impl FnOnce(&Path) {
    |root| {
        fs::remove_file(root.join("boot/vmlinuz")).unwrap();
        make(&root.join("boot/vmlinuz"));
    }
}

#[test]
fn hostile_trees_are_refused() {
    let mut bench = Bench::new();
    let secret = bench.path("secret");
    fs::write(&secret, "secret").unwrap();
    let b = &mut bench;
    let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut case = |what, spoil: Box<dyn FnOnce(&Path)>, more: &[&str], why: &str| {
        let root = tree(b, spoil);
        let args = [&["--path", root.to_str().unwrap()], more].concat();
        b.refused(what, &args, why);
    };
    case(
        "a kernel that leads out",
        Box::new(kernel_as(|path| symlink("../../secret", path).unwrap())),
        &[],
        "leads out of the tree",
    );
    case(
        "a kernel that is absolute",
        Box::new(kernel_as(|path| symlink("/etc/passwd", path).unwrap())),
        &[],
        "leads out of the tree",
    );
    case(
        "a kernel that is itself",
        Box::new(kernel_as(|path| symlink("vmlinuz", path).unwrap())),
        &[],
        "Too many levels of symbolic links",
    );
    case(
        "a kernel that is a pipe",
        Box::new(kernel_as(pipe)),
        &[],
        "is neither a file nor a folder",
    );
    case(
        "a kernel by way of proc",
        Box::new(kernel_as(|path| symlink("/proc/self/root/etc/passwd", path).unwrap())),
        &[],
        "leads out of the tree",
    );
    case(
        "a kernel that is a folder",
        Box::new(kernel_as(|path| fs::create_dir(path).unwrap())),
        &[],
        NOT_BOTH,
    );
    case(
        "a marker that is a pipe",
        Box::new(move |root| {
            fs::remove_file(root.join("lab/release")).unwrap();
            pipe(&root.join("lab/release"));
        }),
        &[],
        "not recognised",
    );
    case(
        "a marker that is endless",
        Box::new(|root| {
            fs::remove_file(root.join("lab/release")).unwrap();
            symlink("/dev/zero", root.join("lab/release")).unwrap();
        }),
        &[],
        "not recognised",
    );
    case(
        "a marker of two gigabytes",
        Box::new(|root| {
            File::create(root.join("lab/release"))
                .unwrap()
                .set_len(2 << 30)
                .unwrap();
        }),
        &[],
        "does not tell the processor",
    );
    case(
        "a copy with a link that climbs",
        Box::new(|root| symlink("../../secret", root.join("out")).unwrap()),
        &["--copy"],
        "leads out of the tree",
    );
    case(
        "a copy by way of two links",
        Box::new(|root| {
            symlink("..", root.join("boot/up")).unwrap();
            symlink("up/../secret", root.join("boot/out")).unwrap();
        }),
        &["--copy"],
        "leads out of the tree",
    );
    case(
        "a copy with a pipe",
        Box::new(move |root| pipe(&root.join("pipe"))),
        &["--copy"],
        "is a pipe",
    );
    case(
        "a copy of an exabyte",
        Box::new(|root| File::create(root.join("huge")).unwrap().set_len(15 << 40).unwrap()),
        &["--copy"],
        "the copy needs",
    );
    case(
        "a kernel named outside",
        Box::new(|_| {}),
        &["--breed", "generic", "--kernel", "../secret"],
        "no path below the tree",
    );
    b.refused(
        "the root of the machine",
        &[
            "--path",
            "/",
            "--in-place",
            "--breed",
            "generic",
            "--kernel",
            "etc/hostname",
        ],
        "the root of this machine would be served",
    );
    for (what, path) in [
        ("a device without an end", "/dev/zero"),
        ("a device of nothing", "/dev/null"),
        ("a terminal", "/dev/tty"),
    ] {
        b.refused(what, &["--path", path], "cannot be imported as an ISO image");
    }
    b.refused(
        "a path that is not there",
        &["--path", "/nowhere/x.iso"],
        "No such file",
    );
    // Netboot files for a disc.
    let medium = disc("DVD", "amd64", &["6.1.0-35-amd64"]);
    let given = bench.path("given");
    let at = medium.tree();
    let mut netboot = |what, bytes: &[u8], why: &str| {
        fs::write(&given, bytes).unwrap();
        bench.refused(
            what,
            &["--path", at.to_str().unwrap(), "--netboot", given.to_str().unwrap()],
            why,
        );
    };
    let tarred = |path: &str, kind: tar::EntryType, size: u64, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        let name = &mut header.as_mut_bytes()[..100];
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        if kind.is_symlink() {
            header.set_link_name("/etc/shadow").unwrap();
        }
        header.set_cksum();
        [header.as_bytes().as_slice(), content].concat()
    };
    let zeros = vec![0; 64 << 20];
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&tarred("x", tar::EntryType::Regular, 4 << 30, b""))
        .unwrap();
    for _ in 0..18 {
        bomb.write_all(&zeros).unwrap();
    }
    netboot("a bomb of gzip", &bomb.finish().unwrap(), "given");
    let linux = "debian-installer/amd64/linux";
    netboot(
        "an archive with a symlink",
        &gzip(&tarred(linux, tar::EntryType::Symlink, 0, b"")),
        "holds no debian-installer/amd64/linux",
    );
    netboot(
        "an archive that climbs",
        &gzip(&tarred(
            "../../debian-installer/amd64/linux",
            tar::EntryType::Regular,
            0,
            b"",
        )),
        "holds no debian-installer/amd64/linux",
    );
    netboot(
        "a kernel of an exabyte",
        &gzip(&tarred(linux, tar::EntryType::Regular, 1 << 60, b"")),
        "more than 128 MiB in a file",
    );
    netboot(
        "a kernel that is cut off",
        &gzip(&tarred(linux, tar::EntryType::Regular, 5000, b"short")),
        "unexpected end of file",
    );
    netboot(
        "a package of garbage",
        b"!<arch>\ngarbage",
        "no package that dpkg-deb can open",
    );
    bench.told(24);
}

#[test]
fn hostile_urls_and_servers_are_refused() {
    let mut bench = Bench::new();
    let b = &mut bench;
    for (what, url, why) in [
        ("a file URL", "file:///etc/passwd", "`file:` is not fetched"),
        ("an FTP URL", "ftp://mirror.example/x.iso", "`ftp:` is not fetched"),
        (
            "a gopher URL",
            "gopher://127.0.0.1:6379/_SET",
            "`gopher:` is not fetched",
        ),
        ("loopback", "http://127.0.0.1/x.iso", "is this machine"),
        ("loopback as a number", "http://2130706433/x.iso", "is this machine"),
        ("loopback by name", "http://localhost/x.iso", "is this machine"),
        ("loopback of IPv6", "http://[::1]/x.iso", "is this machine"),
        ("loopback in IPv6", "http://[::ffff:127.0.0.1]/x.iso", "is this machine"),
        ("no address", "http://0.0.0.0/x.iso", "is no address"),
        (
            "the metadata service",
            "http://169.254.169.254/latest/meta-data",
            "metadata service",
        ),
        (
            "a link-local address",
            "https://[fe80::1]/x.iso",
            "an address of the link",
        ),
        (
            "a password",
            "https://me:secret@mirror.example/x.iso",
            "a user name or a password",
        ),
        ("no host", "http:///", "it is no URL"),
    ] {
        b.refused(what, &["--path", url], why);
    }
    assert!(
        !b.path("state/distros").exists(),
        "a URL that is not asked leaves nothing"
    );
    let mut server = |what, why: &str, web: &Web, path: &str| {
        b.refused(
            what,
            &["--allow-local-address", "--timeout", "1", "--path", &web.url(path)],
            why,
        );
    };
    let web = Web::start(|head, stream| {
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let page = b"<html>no image</html>";
        match path.as_str() {
            "/file" => say(
                stream,
                "302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0",
                b"",
            ),
            "/round" => say(stream, "301 Moved\r\nLocation: /round\r\nContent-Length: 0", b""),
            "/nowhere" => say(stream, "302 Found\r\nContent-Length: 0", b""),
            "/missing" => say(stream, "404 Not Found\r\nContent-Length: 3", b"no\n"),
            "/broken" => say(stream, "500 Internal Server Error\r\nContent-Length: 3", b"no\n"),
            "/page" => say(stream, &format!("200 OK\r\nContent-Length: {}", page.len()), page),
            "/packed" => say(stream, "200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 21", page),
            "/huge" => say(stream, "200 OK\r\nContent-Length: 1152921504606846976", page),
            "/negative" => say(stream, "200 OK\r\nContent-Length: -5", page),
            "/short" => say(stream, "200 OK\r\nContent-Length: 5000", page),
            "/endless" => {
                say(stream, "200 OK\r\nTransfer-Encoding: chunked", b"");
                while stream
                    .write_all(b"400\r\n")
                    .and_then(|()| stream.write_all(&[7; 1026]))
                    .is_ok()
                {}
            }
            "/unending" => {
                say(stream, "200 OK", b"");
                while stream.write_all(&[7; 65536]).is_ok() {}
            }
            "/more" => {
                say(stream, "200 OK\r\nContent-Length: 40000", b"");
                while stream.write_all(&[7; 65536]).is_ok() {}
            }
            "/slow" => {
                say(stream, "200 OK\r\nContent-Length: 5000000", b"");
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            "/headers" => {
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                while stream
                    .write_all(&[&b"X: "[..], &[b'y'; 1000], b"\r\n"].concat())
                    .is_ok()
                {}
            }
            "/mute" => std::thread::sleep(Duration::from_secs(10)),
            "/garbage" => drop(stream.write_all(&[0xFF; 5000])),
            _ => {}
        }
    });
    server("a redirect to a file", "`file:` is not fetched", &web, "file");
    server("redirects without end", "redirects more than 5 times", &web, "round");
    server("a redirect to nowhere", "does not say where to", &web, "nowhere");
    server("nothing there", "the server answers 404", &web, "missing");
    server("a broken server", "the server answers 500", &web, "broken");
    server("a web page", "CD001", &web, "page");
    server("a packed page", "CD001", &web, "packed");
    server("an exabyte", "the copy needs", &web, "huge");
    server("a negative length", "content-length header", &web, "negative");
    server("a body that ends early", "the server closes after", &web, "short");
    server("chunks without end", "does not say how long it is", &web, "endless");
    server("a body without end", "does not say how long it is", &web, "unending");
    server("more than was announced", "CD001", &web, "more");
    server("a trickle", "sends less than 1 KiB/s", &web, "slow");
    server("headers without end", "header", &web, "headers");
    server("no HTTP", "invalid HTTP", &web, "garbage");
    server("a server that closes", "look whether the URL is right", &web, "silence");
    server("a silent server", "sends less than 1 KiB/s", &web, "mute");
    // A redirect to where the first URL could not have led: judged again, without the option.
    bench.told(30);
}
