//! Archives of the form "newc" (kernel Documentation/driver-api/early-userspace/buffer-format.rst), as an initramfs needs them.
//! It must give the same bytes for the same content: the lab distro is cached by its content.

/// An archive in the making.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    pub fn folder(&mut self, path: &str) {
        self.entry(path, 0o040_755, (0, 0), &[]);
    }

    pub fn file(&mut self, path: &str, executable: bool, content: &[u8]) {
        self.entry(path, if executable { 0o100_755 } else { 0o100_644 }, (0, 0), content);
    }

    pub fn link(&mut self, path: &str, target: &str) {
        self.entry(path, 0o120_777, (0, 0), target.as_bytes());
    }

    pub fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, 0o020_600, (major, minor), &[]);
    }

    /// The whole archive, with its trailer.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let size = u32::try_from(content.len()).unwrap();
        let name_size = u32::try_from(path.len() + 1).unwrap();
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[test]
fn another_reader_lists_what_was_put_in() {
    if !super::need::all(
        "another_reader_lists_what_was_put_in",
        &[&[super::need::Need::Program("cpio", "cpio")]],
    ) {
        return;
    }
    let mut archive = Archive::default();
    archive.folder("bin");
    archive.file("bin/one", true, b"12345");
    archive.link("bin/two", "one");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.img");
    std::fs::write(&path, archive.finish()).unwrap();
    let mut command = super::child::command("cpio");
    command.args(["-itv", "--quiet", "-F"]).arg(&path);
    let listed = super::child::run("cpio", &mut command, std::time::Duration::from_secs(30));
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    assert!(
        lines[0].starts_with("drwxr-xr-x") && lines[0].ends_with(" bin"),
        "{listed}"
    );
    assert!(
        lines[1].starts_with("-rwxr-xr-x") && lines[1].contains(" 5 "),
        "{listed}"
    );
    assert!(lines[2].ends_with("bin/two -> one"), "{listed}");
}
