//! Media as they are found in the wild: odd names of the image itself and of what is in it, a home that nobody else may enter, a folder that
//! nobody may write to. Imported by the command, served by the daemon, and read as a client does that follows the links of the listings.

use super::medium::{XORRISO, press};
use super::serve;
use crate::cli::Session;
use crate::http::{curl, curl_text};
use crate::import::{Bench, lab, said, set_mode};
use crate::lab::need;
use cordwainer::distro::import::{Cause, ImportRequest, Place};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Names below the tree that a shell, a URL or a page could stumble over.
const NAMES: [&str; 14] = [
    "plain.txt",
    "with blank",
    " leading and trailing ",
    "100% sure",
    "%2e%2e",
    "a#b?c=d&e",
    "semi;colon:colon",
    "quo\"te'd",
    "<b>bold</b>",
    "grüße-日本語-🥾",
    "...",
    "-rf",
    "dot.",
    "back\\slash",
];

fn furnish(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut wanted = BTreeMap::new();
    let long = format!("{}.rpm", "long-name-".repeat(20));
    for folder in ["", "packages of ours/", "Ünï cöde/"] {
        for name in NAMES.into_iter().chain([long.as_str()]) {
            let path = format!("{folder}{name}");
            let full = root.join(&path);
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            let bytes = format!("this is {path}").into_bytes();
            fs::write(full, &bytes).unwrap();
            wanted.insert(path, bytes);
        }
    }
    wanted
}

/// Every file that the listings lead to, by following their links as they stand.
fn crawled(base: &str, names: &mut BTreeMap<String, Vec<u8>>) {
    let page = curl_text(&["--path-as-is", base]);
    for part in page.split("href=\"").skip(1) {
        let link = part.split('"').next().unwrap();
        if link.starts_with('/') || link.starts_with("..") && !link.starts_with("...") || link.starts_with('?') {
            continue;
        }
        let url = format!("{base}{}", link.trim_start_matches("./"));
        if link.ends_with('/') {
            crawled(&url, names);
        } else {
            names.insert(url.clone(), curl(&["--path-as-is", &url]).stdout);
        }
    }
}

#[test]
fn odd_names_are_imported_and_found_by_the_links_of_the_listings() {
    let images = need::all("iso::odd_names", &[&[XORRISO]]);
    let session = Session::new();
    let root = session.path("Ünï cöde & $(touch gone) 'quo\"ted'.d");
    fs::create_dir_all(root.join("lab")).unwrap();
    fs::create_dir_all(root.join("boot")).unwrap();
    let release = "[release]\nname = Lab Linux\nversion = 1\narch = x86_64\n";
    fs::write(root.join("lab/release"), release).unwrap();
    fs::write(root.join("boot/vmlinuz"), "kernel").unwrap();
    fs::write(root.join("boot/initrd.img"), "initrd!").unwrap();
    let mut wanted = furnish(&root);
    for (path, text) in [
        ("lab/release", release),
        ("boot/vmlinuz", "kernel"),
        ("boot/initrd.img", "initrd!"),
    ] {
        wanted.insert(path.into(), text.into());
    }
    let mut media = vec![("folder", root.clone())];
    if images {
        // As long as a file's name can be, and with a newline in it.
        let image = session.path(&format!("-odd\nname {}.iso", "x".repeat(230)));
        press(&root, &image, &["-r"]);
        media.push(("image", image));
    }
    for (name, path) in &media {
        let said = session
            .run(&["import", "--path", path.to_str().unwrap(), "--name", name])
            .succeeded();
        assert!(!said.out.contains("-odd\nname"), "a name broke the line: {}", said.out);
    }
    assert!(fs::metadata("/gone").is_err() && !session.path("gone").exists());
    let (mut daemon, port, _) = serve(&session);
    for (name, _) in &media {
        let mut found = BTreeMap::new();
        crawled(&format!("http://127.0.0.1:{port}/d/{name}/"), &mut found);
        let mut bodies: Vec<_> = found
            .iter()
            .filter(|(url, _)| !url.ends_with("/medium.iso"))
            .map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        let mut all: Vec<_> = wanted
            .values()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect();
        bodies.sort();
        all.sort();
        assert_eq!(bodies, all, "{name}");
    }
    daemon.terminate();
    assert!(daemon.wait_for_exit(Duration::from_secs(30)).success());
}

#[test]
fn a_home_that_nobody_may_enter_is_copied_out_of_and_a_folder_that_nobody_may_write_to_stays() {
    let bench: Bench = lab();
    let home = bench.tree().with_file_name("home");
    fs::create_dir(&home).unwrap();
    let request = |path: &Path| ImportRequest {
        path: path.to_owned(),
        service_user: Some("nobody".into()),
        ..bench.request()
    };
    let mut media = vec![bench.tree()];
    if need::all("iso::home", &[&[XORRISO]]) {
        let image = bench.tree().with_file_name("lab.iso");
        press(&bench.tree(), &image, &["-r"]);
        set_mode(&image, 0o444);
        media.push(image);
    }
    for path in media {
        // Where it is, it is served from there, though nothing may be written.
        if path.is_dir() {
            for folder in ["boot", "lab", ""] {
                set_mode(&path.join(folder), 0o555);
            }
        }
        let imported = bench.import(&request(&path)).unwrap();
        assert!(imported.distro.tree.as_ref().unwrap().in_place, "{}", said(&imported));
        imported.withdraw().unwrap();
        assert_eq!(bench.in_state(), [""; 0]);
        if path.is_dir() {
            set_mode(&path, 0o755);
        }
        let inside = home.join(path.file_name().unwrap());
        fs::rename(&path, &inside).unwrap();
        set_mode(&home, 0o700);
        let in_place = ImportRequest {
            place: Place::InPlace,
            ..request(&inside)
        };
        let error = bench.import(&in_place).unwrap_err();
        let barred = match &error.0 {
            Cause::Barred { path, user } | Cause::IsoBarred { path, user } => (path.clone(), user.clone()),
            other => panic!("{other}"),
        };
        assert_eq!(barred, (fs::canonicalize(&home).unwrap(), "nobody".to_owned()));
        let imported = bench.import(&request(&inside)).unwrap();
        assert!(!imported.distro.tree.as_ref().unwrap().in_place);
        let text = said(&imported);
        assert!(text.contains("because the service may not read"), "{text}");
        imported.withdraw().unwrap();
        set_mode(&home, 0o755);
    }
}
