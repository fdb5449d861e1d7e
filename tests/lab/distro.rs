//! Cordwainer Lab Linux: a genuine tiny installer, made from Debian's kernel, busybox and GRUB, cached by its content.
//! It must never contain anything of Cordwainer: a loop that passes says something about real installers only because this one is one.
//!
//! Its answer file is `key=value` lines: `hostname`, `disk` (a name, or `auto`: the only one), `tree` (URL), `report` (URL prefix; `GET report/STAGE`
//! with an optional `?detail=`), `done` (URL), `booted` (URL; else `report/booted`), `poweroff`, `poweroff_after_boot`,
//! `root_password_hash`, `root_authorized_key`, and to help a test `stop_at=STAGE`, `fail_at=STAGE`, `skip_done=1`.
//! Stages: started, partitioning, packages, bootloader; then `done`, and `booted` from the disk. `failed` carries its reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::{child, cpio::Archive, guest_modules};

const MACHINE: &str = include_str!("distro/machine.sh");
const LEASE: &str = include_str!("distro/lease.sh");
const INSTALLER: &str = include_str!("distro/installer.sh");
const SYSTEM: &str = include_str!("distro/system.sh");
const GRUB: &str = include_str!("distro/grub.cfg");
const RELEASE: &str = "[release]\nname=Cordwainer Lab Linux\nversion=1.0\narch=x86_64\n";
const BUILD_DEADLINE: Duration = Duration::from_secs(300);

/// The kernel's command line that the installer wants, beside `lab.answer=URL` and `BOOTIF=01-MAC`.
pub const KERNEL_OPTIONS: &str = "console=tty0 console=ttyS0,115200 quiet";

/// The folder of the finished tree, as `cordwainer import --path` takes it.
///
/// # Panics
/// When a piece of it cannot be had; ask [`super::need::DISTRO`] first.
pub fn tree() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(build)
}

/// A busybox without libraries, for hosts of the network.
///
/// # Panics
/// When it cannot be had; ask [`super::need::DISTRO`] first.
pub fn busybox() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let (store, _lock) = store();
    let program = store.join("busybox");
    if !program.is_file() {
        let partial = store.join("busybox.partial");
        fs::write(&partial, static_busybox(&store)).unwrap();
        fs::set_permissions(&partial, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(partial, &program).unwrap();
    }
    program
}

/// A kernel, and these drivers of it in the order in which they load.
///
/// # Panics
/// When it cannot be had; ask [`super::need::DISTRO`] first.
pub fn kernel_with(wanted: &[&str]) -> (Vec<u8>, guest_modules::Modules) {
    let (store, _lock) = store();
    let kernel = Kernel::find(&store);
    let modules = guest_modules::collect_these(&kernel.modules, wanted);
    (kernel.image, modules)
}

/// The folder of what is made once, and the lock on it: two test processes may run at a time.
fn store() -> (PathBuf, Flock<fs::File>) {
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("lab");
    fs::create_dir_all(&store).unwrap();
    let file = fs::File::create(store.join("lock")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .unwrap();
    (store, lock)
}

fn build() -> PathBuf {
    let (store, _lock) = store();
    let kernel = Kernel::find(&store);
    let busybox = static_busybox(&store);
    let modules = guest_modules::collect(&kernel.modules);
    let key = content_key(&kernel, &busybox, &modules);
    let tree = store.join(key);
    if tree.is_dir() {
        return tree;
    }
    let work = tempfile::tempdir_in(&store).unwrap();
    for folder in ["lab", "boot", "packages"] {
        fs::create_dir(work.path().join(folder)).unwrap();
    }
    let packages = work.path().join("packages");
    fs::write(work.path().join("lab/release"), RELEASE).unwrap();
    fs::write(work.path().join("boot/vmlinuz"), &kernel.image).unwrap();
    fs::write(
        work.path().join("boot/initrd.img"),
        initramfs(INSTALLER, &busybox, &modules),
    )
    .unwrap();
    fs::write(packages.join("system-vmlinuz"), &kernel.image).unwrap();
    fs::write(
        packages.join("system-initrd.img"),
        initramfs(SYSTEM, &busybox, &modules),
    )
    .unwrap();
    fs::copy("/usr/lib/grub/i386-pc/boot.img", packages.join("boot.img")).unwrap();
    let config = work.path().join("grub.cfg");
    fs::write(&config, GRUB).unwrap();
    grub_image(
        &config,
        &packages.join("core.img"),
        "i386-pc",
        &["biosdisk", "part_msdos", "fat", "search_fs_file", "linux"],
    );
    grub_image(
        &config,
        &packages.join("BOOTX64.EFI"),
        "x86_64-efi",
        &["part_msdos", "fat", "search_fs_file", "linux"],
    );
    fs::remove_file(&config).unwrap();
    let sums: String = [
        "system-vmlinuz",
        "system-initrd.img",
        "boot.img",
        "core.img",
        "BOOTX64.EFI",
    ]
    .iter()
    .map(|name| {
        format!(
            "{}  {name}\n",
            hex(&Sha256::digest(fs::read(packages.join(name)).unwrap()))
        )
    })
    .collect();
    fs::write(packages.join("SHA256SUMS"), sums).unwrap();
    // The rename is the last step: a half-made tree never has the final name.
    fs::rename(work.keep(), &tree).unwrap();
    // A temporary folder is closed to all but its owner; the server may run as someone else.
    fs::set_permissions(&tree, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    tree
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn content_key(kernel: &Kernel, busybox: &[u8], modules: &guest_modules::Modules) -> String {
    let mut hash = Sha256::new();
    for text in [
        MACHINE,
        LEASE,
        INSTALLER,
        SYSTEM,
        GRUB,
        RELEASE,
        include_str!("distro.rs"),
        include_str!("cpio.rs"),
    ] {
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    }
    hash.update(&kernel.image);
    hash.update(busybox);
    for module in &modules.all {
        hash.update(&module.bytes);
    }
    for loader in ["i386-pc/kernel.img", "x86_64-efi/kernel.img", "i386-pc/boot.img"] {
        hash.update(fs::read(Path::new("/usr/lib/grub").join(loader)).unwrap());
    }
    hex(&hash.finalize()).chars().take(16).collect()
}

fn initramfs(init: &str, busybox: &[u8], modules: &guest_modules::Modules) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in [
        "bin",
        "dev",
        "etc",
        "modules",
        "modules/order",
        "proc",
        "run",
        "sys",
        "target",
        "tmp",
    ] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", 5, 1);
    archive.file("bin/busybox", true, busybox);
    for applet in applets(busybox).iter().filter(|applet| *applet != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    // A static program has no libraries for other sources of names.
    archive.file("etc/nsswitch.conf", false, b"hosts: files\n");
    archive.file("init", true, init.as_bytes());
    archive.file("machine.sh", false, MACHINE.as_bytes());
    archive.file("lease.sh", true, LEASE.as_bytes());
    for module in &modules.all {
        archive.file(&format!("modules/{}", module.file), false, &module.bytes);
    }
    for (name, order) in &modules.order {
        archive.file(
            &format!("modules/order/{name}"),
            false,
            format!("{}\n", order.join("\n")).as_bytes(),
        );
    }
    archive.finish()
}

fn applets(busybox: &[u8]) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("busybox");
    fs::write(&program, busybox).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = child::command(program.to_str().unwrap());
    child::run("busybox --list", command.arg("--list"), BUILD_DEADLINE)
        .lines()
        .map(str::to_owned)
        .collect()
}

fn grub_image(config: &Path, output: &Path, format: &str, modules: &[&str]) {
    let mut command = child::command("grub-mkimage");
    command
        .args(["-O", format, "-p", "/grub", "-c"])
        .arg(config)
        .arg("-o")
        .arg(output)
        .args(modules);
    child::run("grub-mkimage", &mut command, BUILD_DEADLINE);
}

struct Kernel {
    image: Vec<u8>,
    modules: PathBuf,
}

impl Kernel {
    /// The newest installed kernel whose modules are there too, else the one of the package `linux-image-amd64`, unpacked into `store`.
    fn find(store: &Path) -> Self {
        Self::under(Path::new("/")).unwrap_or_else(|| {
            let unpacked = unpack(store, &versioned_kernel());
            Self::under(&unpacked).expect("a kernel package has a kernel and its modules")
        })
    }

    fn under(root: &Path) -> Option<Self> {
        let mut names: Vec<String> = fs::read_dir(root.join("boot"))
            .ok()?
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .into_string()
                    .ok()?
                    .strip_prefix("vmlinuz-")
                    .map(str::to_owned)
            })
            .filter(|version| root.join("lib/modules").join(version).join("kernel").is_dir())
            .collect();
        names.sort();
        let version = names.pop()?;
        let image = fs::read(root.join("boot").join(format!("vmlinuz-{version}"))).ok()?;
        Some(Self {
            image,
            modules: root.join("lib/modules").join(version),
        })
    }
}

/// `linux-image-amd64` only depends on the package that holds the kernel.
fn versioned_kernel() -> String {
    let text = child::run(
        "apt-cache",
        child::command("apt-cache").args(["depends", "linux-image-amd64"]),
        BUILD_DEADLINE,
    );
    let name = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    format!("linux-image-{}", name.expect("linux-image-amd64 depends on a kernel"))
}

/// Debian's busybox without libraries: the installed one if it is of that kind, else the package's.
fn static_busybox(store: &Path) -> Vec<u8> {
    let is_static = |bytes: &[u8]| !bytes.windows(9).take(4096).any(|window| window == b"/ld-linux");
    for candidate in ["/bin/busybox", "/usr/bin/busybox"] {
        if let Ok(bytes) = fs::read(candidate)
            && is_static(&bytes)
        {
            return bytes;
        }
    }
    let unpacked = unpack(store, "busybox-static");
    ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .find_map(|name| fs::read(unpacked.join(name)).ok())
        .expect("busybox-static has bin/busybox")
}

/// Fetches a package and unpacks it without installing it; both are done once.
fn unpack(store: &Path, package: &str) -> PathBuf {
    let folder = store.join("packages").join(package);
    let finished = folder.join("unpacked");
    if finished.is_dir() {
        return finished;
    }
    fs::create_dir_all(&folder).unwrap();
    let mut fetch = child::command("apt-get");
    child::run(
        "apt-get download",
        fetch.args(["download", package]).current_dir(&folder),
        BUILD_DEADLINE,
    );
    let archive = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .expect("apt-get download leaves a .deb");
    let partial = folder.join("partial");
    let _none = fs::remove_dir_all(&partial);
    let mut extract: Command = child::command("dpkg-deb");
    child::run(
        "dpkg-deb",
        extract.arg("-x").arg(&archive).arg(&partial),
        BUILD_DEADLINE,
    );
    fs::rename(&partial, &finished).unwrap();
    finished
}

#[test]
fn the_tree_has_what_an_import_looks_for() {
    if !super::need::all(
        "the_tree_has_what_an_import_looks_for",
        &[super::need::DISTRO, &[super::need::SETPRIV]],
    ) {
        return;
    }
    let tree = tree();
    assert_eq!(fs::read_to_string(tree.join("lab/release")).unwrap(), RELEASE);
    let kernel = fs::read(tree.join("boot/vmlinuz")).unwrap();
    assert_eq!(&kernel[0x202..0x206], b"HdrS", "a Linux kernel image");
    assert!(fs::read(tree.join("boot/initrd.img")).unwrap().starts_with(b"070701"));
    assert!(fs::read(tree.join("packages/BOOTX64.EFI")).unwrap().starts_with(b"MZ"));
    // GRUB's image starts at sector 1 and the partition at sector 2048.
    assert!(fs::metadata(tree.join("packages/core.img")).unwrap().len() < 2047 * 512);
    let mut check = child::command("sha256sum");
    child::run(
        "sha256sum",
        check.args(["-c", "SHA256SUMS"]).current_dir(tree.join("packages")),
        BUILD_DEADLINE,
    );
}
