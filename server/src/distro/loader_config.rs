//! What a medium's own boot loader starts: kernel, initrds and arguments out of isolinux.cfg, grub.cfg or systemd-boot's entries.
//!
//! Pure and total: for a medium that no signature knows. It reads the few forms that install media have, and never runs a script.

use super::detect::{Look, Source};
use super::signature::clean;

/// One entry of a medium's own menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderEntry {
    /// The file that it stands in.
    pub from: String,
    /// Path of the kernel below the root.
    pub kernel: String,
    /// Paths of the initrds in loading order.
    pub initrd: Vec<String>,
    /// The kernel's arguments as written.
    pub args: String,
}

/// Where media keep their loaders' configuration, most telling first.
const PLACES: [&str; 9] = [
    "isolinux",
    "boot/isolinux",
    "syslinux",
    "boot/syslinux",
    "boot/grub",
    "boot/grub2",
    "EFI/BOOT",
    "EFI/boot",
    "loader/entries",
];

/// Most bytes of one file that are read.
const HEAD: usize = 256 * 1024;
/// Most files that are looked at.
const MOST: usize = 64;

/// A path as a loader writes it, below the root: absolute, with a device in front (`($root)/boot/x`), or beside the file itself.
fn path(written: &str, folder: &str) -> Option<String> {
    let written = written.trim_matches(['"', '\'']);
    let bare = match written.strip_prefix('(') {
        Some(rest) => rest.split_once(')')?.1,
        None => written,
    };
    if bare.is_empty() || bare.contains(['$', '{']) {
        return None;
    }
    clean(&if bare.starts_with('/') {
        bare.to_owned()
    } else {
        format!("{folder}/{bare}")
    })
}

/// A menu entry while it is read.
#[derive(Default)]
struct Draft {
    kernel: Option<String>,
    initrd: Vec<String>,
    args: Vec<String>,
}

impl Draft {
    fn initrds(&mut self, words: &str, folder: &str) {
        self.initrd.extend(
            words
                .split([',', ' '])
                .filter(|word| !word.is_empty())
                .filter_map(|word| path(word, folder)),
        );
    }

    fn arguments(&mut self, words: &str, folder: &str) {
        for word in words.split_whitespace() {
            match word.strip_prefix("initrd=") {
                Some(files) => self.initrds(files, folder),
                // `---` and what the loader fills in itself say nothing here.
                None if word == "---" || word.contains('$') => {}
                None => self.args.push(word.to_owned()),
            }
        }
    }

    fn done(self, from: &str) -> Option<LoaderEntry> {
        Some(LoaderEntry {
            from: from.to_owned(),
            kernel: self.kernel?,
            initrd: self.initrd,
            args: self.args.join(" "),
        })
    }
}

/// Every entry of one file, in order.
fn entries(from: &str, text: &str) -> Vec<LoaderEntry> {
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    let mut draft = Draft::default();
    for line in text.lines().map(str::trim) {
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word.to_ascii_lowercase().as_str() {
            "label" | "menuentry" | "title" => {
                found.extend(std::mem::take(&mut draft).done(from));
            }
            // isolinux names a module of its own here (vesamenu.c32) as well.
            "kernel" if rest.ends_with(".c32") => {}
            "kernel" | "linux" | "linuxefi" => {
                let (file, args) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                draft.kernel = path(file, folder);
                draft.arguments(args, folder);
            }
            "append" | "options" => draft.arguments(rest, folder),
            "initrd" | "initrdefi" => draft.initrds(rest, folder),
            _ => {}
        }
    }
    found.extend(draft.done(from));
    found
}

/// The first entry of the medium's own loaders whose files are all there.
#[must_use]
pub fn first_entry(source: &dyn Source) -> Option<LoaderEntry> {
    let is_file = |path: &String| matches!(source.look(path), Look::File(_) | Look::Unreadable(_));
    let mut looked_at = 0_usize;
    for place in PLACES {
        for entry in source.list(place).unwrap_or_default() {
            let name = entry.name.to_ascii_lowercase();
            if entry.is_folder || !(name.ends_with(".cfg") || name.ends_with(".conf")) {
                continue;
            }
            looked_at = looked_at.saturating_add(1);
            if looked_at > MOST {
                return None;
            }
            let from = format!("{place}/{}", entry.name);
            let Some(bytes) = source.read(&from, HEAD) else {
                continue;
            };
            let text = String::from_utf8_lossy(&bytes);
            let whole = |entry: &LoaderEntry| is_file(&entry.kernel) && entry.initrd.iter().all(is_file);
            if let Some(entry) = entries(&from, &text).into_iter().find(whole) {
                return Some(entry);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loader_is_read_in_its_own_words() {
        for (from, text) in [
            (
                "isolinux/isolinux.cfg",
                "default vesamenu.c32\nlabel live\n  kernel vesamenu.c32\nlabel go\n  menu label Go\n  kernel /boot/vmlinuz\n  append initrd=/boot/a.img,/boot/b.img quiet x=1 ---\n",
            ),
            (
                "boot/grub/grub.cfg",
                "set timeout=5\nmenuentry 'Go' --class os {\n  set gfxpayload=keep\n  linux ($root)/boot/vmlinuz quiet x=1 findiso=${iso_path}\n  initrd /boot/a.img /boot/b.img\n}\n",
            ),
            (
                "loader/entries/go.conf",
                "title Go\nlinux /boot/vmlinuz\ninitrd /boot/a.img\ninitrd /boot/b.img\noptions quiet x=1\n",
            ),
        ] {
            let found = entries(from, text);
            assert_eq!(
                found,
                [LoaderEntry {
                    from: from.to_owned(),
                    kernel: "boot/vmlinuz".to_owned(),
                    initrd: vec!["boot/a.img".to_owned(), "boot/b.img".to_owned()],
                    args: "quiet x=1".to_owned(),
                }],
                "{from}"
            );
        }
        let beside = entries(
            "isolinux/isolinux.cfg",
            "label a\nkernel vmlinuz\nappend initrd=initrd.img\n",
        );
        assert_eq!(beside[0].kernel, "isolinux/vmlinuz");
    }

    #[test]
    fn nothing_leaves_the_medium() {
        for text in [
            "label a\nkernel ../../etc/shadow\n",
            "menuentry x {\nlinux $kernel\n}\n",
            "",
            "label\nappend\nkernel\n",
        ] {
            assert_eq!(entries("isolinux/isolinux.cfg", text), [], "{text}");
        }
    }
}
