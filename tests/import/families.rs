//! Every family and version as a folder and as an image: recognised right, served byte for byte, started as the golden table says; and what
//! osinfo-detect makes of the same media.

use super::family_trees::{Medium, media, write_treeinfos};
use super::{Bench, set_mode};
use crate::iso::medium::{XORRISO, press};
use crate::lab::need::{self, Need};
use crate::render::golden;
use cordwainer::assets::watch::Watcher;
use cordwainer::config::Config;
use cordwainer::distro::detect::{Detected, Wishes};
use cordwainer::distro::import::{ImportRequest, Imported};
use cordwainer::distro::tree::{Opened, fetch};
use cordwainer::inventory::Inventory;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// The dresses of an image: Rock Ridge, Joliet alone, both, and neither: names in capitals, cut at 31 characters, with `;1` behind.
const DRESSES: [&[&str]; 4] = [
    &["-r"],
    &["--norock", "-J", "-joliet-long"],
    &["-r", "-J", "-joliet-long"],
    &[
        "--norock",
        "-iso-level",
        "3",
        "-allow-leading-dots",
        "-allow-multidot",
        "-relaxed-filenames",
    ],
];
/// The last of them.
const PLAIN: usize = 3;

struct Made {
    medium: Medium,
    bench: Bench,
}

/// All trees on disk; none when productmd is not there.
fn made() -> Option<Vec<Made>> {
    let all: Vec<Made> = media()
        .into_iter()
        .map(|medium| {
            let bench = Bench::new();
            medium.write(&bench.tree());
            Made { medium, bench }
        })
        .collect();
    let roots: Vec<_> = all.iter().map(|made| (&made.medium, made.bench.tree())).collect();
    let rows: Vec<(&Medium, &Path)> = roots.iter().map(|(medium, root)| (*medium, root.as_path())).collect();
    if !write_treeinfos(&rows) {
        assert!(
            std::env::var_os("CORDWAINER_REQUIRE_ALL").is_none(),
            "pip install productmd"
        );
        eprintln!("SKIPPED: python3 has no productmd, so no family was recognised");
        return None;
    }
    Some(all)
}

impl Made {
    fn request(&self, path: &Path) -> ImportRequest {
        ImportRequest {
            path: path.to_owned(),
            wishes: Wishes {
                arch: self.medium.arch.map(|arch| arch.parse().unwrap()),
                os_version: self.medium.os_version.map(ToOwned::to_owned),
                ..Wishes::default()
            },
            ..self.bench.request()
        }
    }

    fn import(&self, path: &Path) -> Imported {
        self.bench
            .import(&self.request(path))
            .unwrap_or_else(|error| panic!("{}: {error}", self.medium.title))
    }

    /// Kernel and initrds are the medium's, byte for byte, through the tree that is served.
    fn serves(&self, imported: &Imported) {
        let distro = &imported.distro;
        let tree = distro.tree.as_ref().unwrap();
        let own = |path: &&String| !path.ends_with(".iso");
        let paths: Vec<&String> = std::iter::once(&distro.kernel)
            .chain(&distro.initrd)
            .filter(own)
            .collect();
        let wanted: Vec<&String> = std::iter::once(&self.medium.kernel)
            .chain(&self.medium.initrd)
            .filter(own)
            .collect();
        let wanted_here = |path: &&String| path.to_ascii_lowercase();
        assert_eq!(
            paths.iter().map(wanted_here).collect::<Vec<_>>(),
            wanted.iter().map(wanted_here).collect::<Vec<_>>(),
            "{}",
            self.medium.title
        );
        for path in paths {
            let Opened::File(file) = fetch(&tree.root, tree.iso, path).unwrap() else {
                panic!("{path} is a folder");
            };
            let mut bytes = vec![0; usize::try_from(file.size()).unwrap()];
            assert_eq!(file.fill(&mut bytes, 0).unwrap(), bytes.len());
            let mut files = self.medium.files.iter();
            let (_, text) = files.find(|(name, _)| name.eq_ignore_ascii_case(path)).unwrap();
            assert!(bytes == text.as_bytes(), "{}: {path} differs", self.medium.title);
        }
    }
}

/// The image itself is served as `medium.iso`, whatever lies in it.
fn without_iso(imported: &Imported) -> Detected {
    let mut detected = imported.detected.clone();
    detected.meta.retain(|(key, _)| key != "iso");
    detected.initrd.retain(|initrd| !initrd.path.ends_with(".iso"));
    detected
}

#[test]
fn every_family_and_version_is_recognised_served_and_started() {
    let Some(all) = made() else { return };
    let assets = Watcher::with_loader_paths(Arc::new(Config::default()), vec![]).look(&Inventory::default());
    let images = need::all("import::families", &[&[XORRISO]]);
    let mut table = String::new();
    let (mut families, mut plain) = (BTreeSet::new(), BTreeSet::new());
    for (number, made) in all.iter().enumerate() {
        let title = &made.medium.title;
        let imported = made.import(&made.bench.tree());
        made.serves(&imported);
        if images {
            // The first medium of a family in every dress that leaves its names as they are, the others in one each.
            let is_first = families.insert(imported.detected.signature.clone());
            let whole = made
                .medium
                .files
                .iter()
                .all(|(path, _)| path.ends_with(".iso") || path.split('/').all(|name| name.len() <= 31));
            for (place, dress) in DRESSES.iter().enumerate() {
                let mine = is_first || number % DRESSES.len() == place;
                if !mine || place == PLAIN && !whole {
                    continue;
                }
                let image = made.bench.tree().with_file_name("dvd.iso");
                press(&made.bench.tree(), &image, dress);
                set_mode(&image, 0o644);
                let from_image = made.import(&image);
                made.serves(&from_image);
                assert_eq!(without_iso(&from_image), without_iso(&imported), "{title}, {dress:?}");
                std::fs::remove_file(image).unwrap();
                if place == PLAIN {
                    plain.insert(imported.detected.signature.clone());
                }
            }
        }
        let distro = &imported.distro;
        let signature = assets.signature_of(distro).unwrap();
        let rule = signature.rule_for(&distro.os_version).unwrap();
        let ram = signature.min_ram_for(&distro.os_version);
        table.push_str(&format!(
            "{title}\n  is        {}, signature {}, tier {}, {} {}\n  args      {}\n",
            imported.detected,
            imported.detected.signature,
            imported.detected.tier,
            distro.breed,
            distro.os_version,
            rule.args
        ));
        for args in rule.initrd_args.iter().filter(|args| !args.is_empty()) {
            table.push_str(&format!("  initrd    {args}\n"));
        }
        table.push_str(&format!(
            "  template  {}, RAM {}\n",
            signature.autoinstall_for(&distro.os_version).unwrap_or("-"),
            ram.map_or_else(|| "-".to_owned(), |mib| format!("{mib} MiB")),
        ));
        if !distro.autoinstall_meta.is_empty() {
            table.push_str(&format!("  meta      {}\n", distro.autoinstall_meta));
        }
        for warning in &imported.detected.warnings {
            table.push_str(&format!("  warning   {warning}\n"));
        }
    }
    golden::check("families", &table);
    if images {
        let without: Vec<_> = families.difference(&plain).map(ToString::to_string).collect();
        // Their names are longer than ISO 9660 alone has room for.
        assert_eq!(without, ["coreos", "flatcar"], "families without a plain image");
    }
}

pub(super) const OSINFO: Need = Need::Program("osinfo-detect", "libosinfo-bin");

/// What osinfo-detect calls the medium: `Rocky Linux 9 (x86_64)`; none when it does not know it.
pub(super) fn osinfo(kind: &str, location: &str) -> Option<String> {
    let output = Command::new("osinfo-detect")
        .env("LC_ALL", "C.UTF-8")
        .args([&format!("--type={kind}"), location])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, quoted) = text.split_once(" OS \u{2018}").or_else(|| text.split_once(" OS '"))?;
    Some(quoted.split(['\u{2019}', '\'']).next()?.to_owned())
}

#[test]
fn osinfo_detect_agrees_wherever_it_knows_the_medium() {
    if !need::all("import::families::osinfo", &[&[XORRISO, OSINFO]]) {
        return;
    }
    let Some(all) = made() else { return };
    // It reads its whole database each time: two at once.
    let (left, right) = all.split_at(all.len() / 2);
    let agreed: Vec<String> = std::thread::scope(|scope| {
        let left = scope.spawn(|| left.iter().filter_map(agreement).collect::<Vec<_>>());
        let right: Vec<_> = right.iter().filter_map(agreement).collect();
        left.join().unwrap().into_iter().chain(right).collect()
    });
    println!(
        "osinfo-detect knows {} of {} media, and agrees:\n{}",
        agreed.len(),
        all.len(),
        agreed.join("\n")
    );
    assert!(
        agreed.len() >= 12,
        "osinfo-detect knew only {}:\n{}",
        agreed.len(),
        agreed.join("\n")
    );
}

/// A row of the table where osinfo-detect knows the medium, and calls it what we do.
fn agreement(made: &Made) -> Option<String> {
    let title = &made.medium.title;
    let detected = made.import(&made.bench.tree()).detected;
    let mut found = None;
    let mut how = "tree";
    if made.bench.tree().join(".treeinfo").is_file() {
        found = osinfo("tree", &format!("file://{}/", made.bench.tree().display()));
    }
    if found.is_none() && !made.medium.volume.is_empty() {
        how = "media";
        made.bench.put("isolinux/isolinux.bin", &"x".repeat(2048));
        let image = made.bench.tree().with_file_name("dvd.iso");
        let boot = [
            "-b",
            "isolinux/isolinux.bin",
            "-no-emul-boot",
            "-c",
            "isolinux/boot.cat",
        ];
        let label = ["-r", "-V", &made.medium.volume, "-publisher", "SUSE LINUX GmbH"];
        press(&made.bench.tree(), &image, &[&label[..], &boot[..]].concat());
        found = osinfo("media", image.to_str().unwrap());
        std::fs::remove_file(image).unwrap();
    }
    let theirs = found?;
    let lower = theirs.to_ascii_lowercase();
    let words = [
        "red hat",
        "centos",
        "almalinux",
        "rocky",
        "oracle",
        "fedora",
        "debian",
        "ubuntu",
        "leap",
        "alpine",
        "arch",
    ];
    let ours = detected.name.to_ascii_lowercase();
    let family = words.iter().find(|word| ours.contains(**word));
    let same_family = family.is_some_and(|family| lower.contains(family));
    let named = lower.split('(').next().unwrap_or("");
    let mut numbers = named.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    let version = numbers.find(|word| !word.is_empty()).unwrap_or("");
    let same_version = version.is_empty()
        || lower.contains("unknown")
        || detected.version == version
        || detected.version.starts_with(&format!("{version}."));
    assert!(
        same_family && same_version,
        "{title}: osinfo-detect says {theirs}, we say {detected}"
    );
    Some(format!("  {title:<44} {how:<6} {theirs}"))
}
