//! The real import, killed at random moments: tree and objects are the old ones or the new ones, never mixed, and what is left behind goes
//! with the next import.

use crate::dhcp::{Dice, seed};
use crate::lab::child;
use cordwainer::store::{Folder, InventoryDb};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(dir.path().join("state"))
            .unwrap();
        std::fs::write(dir.path().join("cordwainer.toml"), "[server]\ninterfaces = [\"lo\"]\n").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The tree as its publisher has it in `version`: every file says so.
    fn publish(&self, version: u64) {
        let tree = self.path("tree");
        let _old = std::fs::remove_dir_all(&tree);
        std::fs::create_dir_all(tree.join("pool")).unwrap();
        for number in 0..150 {
            std::fs::write(tree.join(format!("pool/{number}")), version.to_string()).unwrap();
        }
        for name in ["vmlinuz", "initrd.img"] {
            std::fs::write(tree.join(name), version.to_string()).unwrap();
        }
    }

    fn import(&self, version: u64) -> Command {
        let mut command = child::command(env!("CARGO_BIN_EXE_cordwainer"));
        command
            .arg("--config")
            .arg(self.path("cordwainer.toml"))
            .arg("--state")
            .arg(self.path("state"));
        command.args([
            "import", "--name", "lab", "--copy", "--breed", "generic", "--kernel", "vmlinuz",
        ]);
        command.args(["--initrd", "initrd.img", "--os-version", &version.to_string(), "--path"]);
        command.arg(self.path("tree"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// The version that the inventory names, with a tree that fits; none while there is none.
    fn stored(&self, which: &str) -> Option<u64> {
        let (inventory, _) = InventoryDb::open(&Folder::open(&self.path("state")).unwrap())
            .unwrap()
            .load()
            .unwrap();
        let distro = inventory.distro("lab");
        assert_eq!(
            distro.is_some(),
            inventory.profile("lab").is_some(),
            "{which}: half of the objects"
        );
        let distro = distro?;
        let version: u64 = distro.os_version.parse().unwrap();
        let root = &distro.tree.as_ref().unwrap().root;
        let mut files = 0;
        for folder in [root.clone(), root.join("pool")] {
            for entry in
                std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{which}: {}: {error}", folder.display()))
            {
                let path = entry.unwrap().path();
                if path.is_file() {
                    files += 1;
                    let text = std::fs::read_to_string(&path).unwrap();
                    assert_eq!(
                        text,
                        version.to_string(),
                        "{which}: {} is of another import",
                        path.display()
                    );
                }
            }
        }
        assert_eq!(files, 152, "{which}: files are missing");
        Some(version)
    }

    /// What lies in the folder of copies.
    fn copies(&self) -> Vec<String> {
        names(&self.path("state/distros"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn kill_again_and_again(kills: usize) {
    let seed = seed();
    let mut dice = Dice::new(seed);
    let site = Site::new();
    site.publish(1);
    let begun = Instant::now();
    let output = site.import(1).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut takes = usize::try_from(begun.elapsed().as_micros()).unwrap();
    let (mut version, mut cut, mut orphans) = (1, 0, 0);
    for kill in 0..kills {
        let which = format!("kill {kill}, seed {seed}");
        site.publish(version + 1);
        let begun = Instant::now();
        let mut running = site.import(version + 1).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(u64::try_from(dice.below(takes)).unwrap()));
        running.kill().unwrap();
        let ended = running.wait().unwrap();
        if ended.success() {
            // How long it really takes varies with what else the machine does.
            takes = takes.min(usize::try_from(begun.elapsed().as_micros()).unwrap());
        }
        cut += usize::from(!ended.success());
        let stored = site
            .stored(&which)
            .unwrap_or_else(|| panic!("{which}: the distro is gone"));
        assert!(
            stored == version || stored == version + 1,
            "{which}: {stored} is neither {version} nor the next"
        );
        orphans += usize::from(site.copies().len() > 2);
        version = stored;
    }
    site.publish(version + 1);
    let output = site.import(version + 1).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(site.stored("the end"), Some(version + 1));
    let left = site.copies();
    assert!(
        left.len() == 2 && left[0] == ".lock" && left[1].starts_with("lab"),
        "{left:?}"
    );
    println!("{kills} kills, {cut} cut an import off, {orphans} left something behind, {version} imports counted");
    assert!(cut > kills / 4 && orphans > 0);
}

#[test]
fn fifty_kills_mix_no_tree() {
    kill_again_and_again(50);
}

#[test]
#[ignore = "long: a thousand kills of an import"]
fn a_thousand_kills_mix_no_tree() {
    kill_again_and_again(1000);
}
