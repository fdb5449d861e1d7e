//! Media that hold an installer and no packages, or neither: refused with the reason, or imported with a mirror that answers, from which
//! the installer then fetches while its second stage comes from the medium.

use super::netboot::disc;
use super::web::{Web, say};
use super::{Bench, el, said};
use crate::cli::Session;
use crate::iso::medium::{XORRISO, press};
use crate::lab::need;
use cordwainer::distro::download::Manners;
use cordwainer::distro::import::{Cause, ImportRequest};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A Red Hat-like boot ISO: `.treeinfo` and installer, and nothing of `BaseOS`.
fn boot_medium(name: &str, version: &str) -> Bench {
    let bench = el(name, version, "x86_64");
    fs::remove_dir_all(bench.tree().join("BaseOS")).unwrap();
    bench
}

/// openSUSE's medium for installation over the network.
fn net_medium() -> Bench {
    Bench::with(&[
        (
            ".treeinfo",
            "[general]\narch = x86_64\nfamily = openSUSE Leap\nname = openSUSE Leap 15.6\nversion = 15.6\n[images-x86_64]\n\
             kernel = boot/x86_64/loader/linux\ninitrd = boot/x86_64/loader/initrd\n",
        ),
        ("boot/x86_64/loader/linux", "k"),
        ("boot/x86_64/loader/initrd", "i"),
        ("boot/x86_64/root", "r"),
        ("media.1/products", "/ openSUSE-Leap 15.6-1\n"),
    ])
}

fn mirror(file: &'static str) -> Web {
    Web::start(move |head, stream| {
        if head.starts_with(&format!("GET /pub/{file} ")) {
            say(stream, "200 OK\r\nContent-Length: 2", b"ok");
        } else {
            say(stream, "404 Not Found\r\nContent-Length: 0", b"");
        }
    })
}

fn asking(bench: &Bench, path: &Path, mirror: Option<String>) -> ImportRequest {
    let mut request = ImportRequest {
        path: path.to_owned(),
        manners: Manners {
            allow_local: true,
            patience: Some(Duration::from_secs(1)),
            ..Manners::default()
        },
        ..bench.request()
    };
    request.flags.mirror = mirror;
    request
}

#[test]
fn a_boot_medium_without_a_mirror_that_answers_is_refused_as_folder_and_as_image() {
    let images = need::all("import::boot_media", &[&[XORRISO]]);
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/pub", listener.local_addr().unwrap())
    };
    for (bench, file, holds) in [
        (
            boot_medium("Rocky Linux", "9.4"),
            "repodata/repomd.xml",
            ".treeinfo or repodata/repomd.xml",
        ),
        (
            boot_medium("Red Hat Enterprise Linux", "10.0"),
            ".treeinfo",
            ".treeinfo or repodata/repomd.xml",
        ),
        (
            boot_medium("Fedora", "42"),
            "repodata/repomd.xml",
            ".treeinfo or repodata/repomd.xml",
        ),
        (net_medium(), "repodata/repomd.xml", "repodata/repomd.xml or content"),
    ] {
        let mut paths = vec![bench.tree()];
        if images {
            let image = bench.tree().with_file_name("boot.iso");
            press(&bench.tree(), &image, &["-r"]);
            paths.push(image);
        }
        for path in paths {
            let refusal = |mirror| {
                let error = bench.import(&asking(&bench, &path, mirror)).unwrap_err();
                assert_eq!(bench.in_state(), [""; 0], "{error}");
                error
            };
            let error = refusal(None);
            assert!(matches!(error.0, Cause::NoPackages { .. }), "{error}");
            let error = error.to_string();
            assert!(
                error.contains("holds the installer and no packages: it needs a mirror of the same version\n")
                    && error.contains(&format!("--mirror URL, the folder with {holds}\n"))
                    && error.ends_with("nothing was changed"),
                "{error}"
            );
            let web = mirror(file);
            let error = refusal(Some(web.url("other/"))).to_string();
            assert!(error.contains("this one does not answer: http://127.0.0.1:"), "{error}");
            assert!(error.contains("the server answers 404"), "{error}");
            let error = refusal(Some(nobody.clone())).to_string();
            assert!(error.contains("Connection refused"), "{error}");
            let imported = bench
                .import(&asking(&bench, &path, Some(web.url("pub/"))))
                .unwrap_or_else(|error| panic!("{error}"));
            let url = web.url("pub");
            assert_eq!(imported.distro.autoinstall_meta.text("repository"), Some(url.as_str()));
            let text = said(&imported);
            assert!(
                text.contains(&format!("mirror       {url}; another one: cordwainer distro edit")),
                "{text}"
            );
        }
    }
}

#[test]
fn a_disc_with_packages_asks_no_mirror_and_a_boot_medium_keeps_its_own_when_imported_again() {
    let full = el("Rocky Linux", "9.4", "x86_64");
    let imported = full.import(&asking(&full, &full.tree(), None)).unwrap();
    assert_eq!(imported.distro.autoinstall_meta.text("repository"), None);
    let mut bench = boot_medium("Rocky Linux", "9.4");
    let web = mirror(".treeinfo");
    let imported = bench
        .import(&asking(&bench, &bench.tree(), Some(web.url("pub"))))
        .unwrap();
    bench.store(&imported);
    imported.keep().unwrap();
    let before = web.counted().0;
    let again = bench.import(&asking(&bench, &bench.tree(), None)).unwrap();
    assert_eq!(
        again.distro.autoinstall_meta.text("repository"),
        Some(web.url("pub").as_str())
    );
    assert_eq!(web.counted().0, before + 1, "it was asked again");
}

#[test]
fn the_installer_is_told_the_mirror_and_has_its_second_stage_from_the_medium() {
    let web = mirror("BaseOS/x86_64/os/repodata/repomd.xml");
    let session = Session::new();
    session.write(
        "session.toml",
        &format!(
            "overrides = \"{}\"\n[server]\naddress = \"192.0.2.1\"\ninterfaces = [\"lo\"]\n[dhcp]\nmode = \"authoritative\"\n[[subnet]]\n\
             network = \"192.0.2.0/24\"\npool = \"192.0.2.100-192.0.2.199\"\n[defaults]\nroot_password_hash = \"$6$a$b\"\n",
            session.path("etc").display()
        ),
    );
    let leap = mirror("repodata/repomd.xml");
    let rocky = boot_medium("Rocky Linux", "9.4");
    let suse = net_medium();
    for (bench, name, url) in [
        (&rocky, "rocky", web.url("pub/BaseOS/x86_64/os/")),
        (&suse, "leap", leap.url("pub/")),
    ] {
        let path = bench.tree().display().to_string();
        let arguments = ["import", "--path", &path, "--name", name, "--mirror", &url];
        let refused = session.run(&arguments).ended(1);
        assert!(refused.err.contains("--allow-local-address"), "{}", refused.err);
        session
            .run(&[&arguments[..], &["--allow-local-address"]].concat())
            .succeeded();
        let mac = if name == "rocky" { "01" } else { "02" };
        let mac = format!("00:00:5e:00:53:{mac}");
        let system = format!("{name}1");
        session
            .run(&["system", "add", &system, "--profile", name, "--mac-address", &mac])
            .succeeded();
        session.run(&["system", "arm", &system]).succeeded();
    }
    let options = |system: &str| {
        session
            .run(&["boot", "explain", system, "--stage", "script", "--arch", "bios"])
            .succeeded()
            .out
    };
    let text = options("rocky1");
    let mirror = web.url("pub/BaseOS/x86_64/os");
    assert!(text.contains(&format!("inst.repo={mirror} ")), "{text}");
    assert!(text.contains("inst.stage2=http://192.0.2.1/d/rocky "), "{text}");
    let text = options("leap1");
    assert!(text.contains(&format!("install={} ", leap.url("pub"))), "{text}");
    assert!(
        text.contains("instsys=http://192.0.2.1/d/leap/boot/x86_64/root "),
        "{text}"
    );
    let kickstart = session.run(&["system", "get-autoinstall", "rocky1"]).succeeded().out;
    assert!(
        kickstart.contains(&format!("\nurl --url={mirror}\n"))
            || kickstart.contains(&format!("\nurl --url=\"{mirror}\"\n")),
        "{kickstart}"
    );
    assert!(
        kickstart.contains(&format!(
            "repo --name=AppStream --baseurl={}",
            web.url("pub/AppStream/x86_64/os")
        )) || kickstart.contains(&format!(
            "repo --name=AppStream --baseurl=\"{}\"",
            web.url("pub/AppStream/x86_64/os")
        )),
        "{kickstart}"
    );
}

#[test]
fn what_holds_no_installer_is_refused_and_told_what_to_take_instead() {
    let mut bench = disc("DVD", "amd64", &["6.1.0-35-amd64"]);
    bench.put(
        ".disk/info",
        "Debian GNU/Linux 12.11.0 \"Bookworm\" - Official amd64 DVD Binary-2 with firmware 20250517-09:52\n",
    );
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("is disc 2 of its set") && error.contains("remedy      import the first disc"),
        "{error}"
    );
    // All discs of the set in one folder hold what the first has.
    bench.put(".disk/base_installable", "");
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(error.contains("--netboot"), "{error}");
    bench = Bench::with(&[
        ("amd64/linux", "k"),
        ("amd64/initrd", "i"),
        (
            "amd64/grub/grub.cfg",
            "set timeout=30\nmenuentry \"Install Ubuntu Server\" {\n\tset gfxpayload=keep\n\tlinux\tlinux iso-url=\
             https://releases.ubuntu.com/noble/ubuntu-24.04.3-live-server-amd64.iso ip=dhcp ---\n\tinitrd\tinitrd\n}\n",
        ),
    ]);
    let error = bench.import(&bench.request()).unwrap_err().to_string();
    assert!(
        error.contains("it is the netboot archive of Ubuntu 24.04.3: kernel and initrd alone")
            && error.contains("import that ISO instead (ubuntu-24.04.3-live-server-amd64.iso)"),
        "{error}"
    );
}
