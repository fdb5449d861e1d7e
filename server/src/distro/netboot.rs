//! The netboot files of a Debian disc. Its own initrd looks for a disc in a drive; a machine that starts over the network needs the netboot
//! kernel and initrd of the same point release beside it, which come as a folder, as netboot.tar.gz or in a package.
//!
//! It never unpacks what it was not asked for: of an archive only a kernel, an initrd and their loaders are taken, by name, up to limits.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: reads the archive, folder or package that holds netboot files, has dpkg-deb open a package, and writes the overlay"
)]

use super::detect::{Entry, Look, Source};
use super::initrd;
use super::signature::clean;
use super::tree;
use crate::model::{Arch, version_numbers};
use flate2::read::GzDecoder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where Debian's packages put netboot files.
pub const INSTALLED: &str = "/usr/lib/debian-installer/images";
/// The folder of an imported tree that shows them.
const SHOWN: &str = "netboot";
/// Largest file that is taken, in bytes; the largest known initrd has 75 MB.
const LARGEST: u64 = 128 << 20;
/// Most bytes that are taken in all.
const MOST: u64 = 192 << 20;
/// Most bytes of an archive that are passed over; a whole package unpacks to 190 MB.
const PASSED: u64 = 1 << 30;
/// Most entries that are looked at.
const ENTRIES: usize = 50_000;
/// Folders below one another.
const DEPTH: usize = 8;

/// Why netboot files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetbootError {
    /// None were given, and none are installed.
    #[error(
        "Debian {version} {arch} is a disc whose initrd looks for a drive and cannot install over the network\n  remedy      give the netboot files of its point release: apt install debian-installer-{major}-netboot-{arch}, or --netboot FILE with {url}"
    )]
    Needed {
        /// Of the disc.
        version: String,
        /// Its first number.
        major: u64,
        /// As Debian writes it.
        arch: &'static str,
        /// Where the newest point release's are.
        url: String,
    },
    /// What was imported needs none.
    #[error("--netboot is for Debian discs, and this is none\n  remedy      leave it out")]
    NotWanted,
    /// They hold nothing for the disc.
    #[error("{} holds no debian-installer/{arch}/linux with its initrd.gz; it holds {}\n  remedy      give netboot files of Debian {major} for {arch}: apt install debian-installer-{major}-netboot-{arch}, or {url}", .from.display(), found(.holds))]
    Missing {
        /// What was given.
        from: PathBuf,
        /// As Debian writes it.
        arch: &'static str,
        /// The disc's first number.
        major: u64,
        /// Where they are.
        url: String,
        /// Architectures that are there instead.
        holds: Vec<String>,
    },
    /// They are of another release.
    #[error("{} is of Debian {theirs}, and the disc is Debian {version}\n  remedy      give those of the disc's own point release: {url}, or for an older one the folder of its installer build beside `current`", .from.display())]
    OtherRelease {
        /// What was given.
        from: PathBuf,
        /// As its version.info says.
        theirs: String,
        /// Of the disc.
        version: String,
        /// Where the newest are.
        url: String,
    },
    /// Their kernel is not the one whose modules the disc has.
    #[error("{} starts kernel {kernel}, and the disc has modules for {} alone: the installer would stop with \"no kernel modules were found\"\n  remedy      give the netboot files of Debian {version} itself, from the folder of its installer build beside {url}; or take packages from a mirror of the netboot files' release: --mirror URL", .from.display(), .disc.join(", "))]
    OtherKernel {
        /// What was given.
        from: PathBuf,
        /// The kernel's release.
        kernel: String,
        /// Those that the disc has modules for.
        disc: Vec<String>,
        /// Of the disc.
        version: String,
        /// Where the newest are.
        url: String,
    },
    /// A package, and no dpkg-deb.
    #[error("{} is a Debian package, and dpkg-deb is not on this machine\n  remedy      unpack it where dpkg is (dpkg -x FILE DIR) and give --netboot DIR", .0.display())]
    NoDpkg(PathBuf),
    /// No archive that is known.
    #[error("{} is {what}\n  remedy      give netboot.tar.gz, the folder that it unpacks to, or the package debian-installer-NN-netboot-ARCH", .from.display())]
    Unknown {
        /// What was given.
        from: PathBuf,
        /// What it seems to be.
        what: String,
    },
    /// It holds more than netboot files ever do.
    #[error("{} holds more than netboot files do: {what}\n  remedy      give netboot.tar.gz, or the folder that it unpacks to", .from.display())]
    TooMuch {
        /// What was given.
        from: PathBuf,
        /// What there is too much of.
        what: &'static str,
    },
    /// The system refused, or the archive is damaged.
    #[error("{}: {error}\n  remedy      give it whole and readable", .from.display())]
    Io {
        /// What was given.
        from: PathBuf,
        /// What was said.
        error: io::Error,
    },
}

fn found(holds: &[String]) -> String {
    if holds.is_empty() {
        "none at all".to_owned()
    } else {
        holds.join(", ")
    }
}

/// A Debian disc, by its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disc {
    version: String,
    codename: String,
    arch: Arch,
    /// It holds the base system alone.
    pub(super) netinst: bool,
    /// A later disc of its set, which holds more packages and no base system: which.
    pub(super) later: Option<u32>,
}

impl Disc {
    /// What `source` is, if it is a Debian disc without netboot files.
    pub(super) fn of(source: &dyn Source) -> Option<Self> {
        let text = String::from_utf8_lossy(&source.read(".disk/info", 4096)?).into_owned();
        let line = text.lines().next()?;
        let (before, rest) = line.split_once('"')?;
        let (codename, after) = rest.split_once('"')?;
        if !before.starts_with("Debian ") || source.look("live") == Look::Folder {
            return None;
        }
        let debian = [Arch::X86_64, Arch::I386, Arch::Aarch64, Arch::Ppc64le, Arch::S390x];
        let arch = after
            .split_whitespace()
            .find_map(|word| debian.into_iter().find(|arch| arch.debian() == word))?;
        let codename = codename.to_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if codename.is_empty() || !codename.chars().all(plain) {
            return None;
        }
        let own = format!(
            "dists/{codename}/main/installer-{}/current/images/netboot",
            arch.debian()
        );
        if source.look(&own) == Look::Folder {
            return None;
        }
        let version = before.split_whitespace().next_back()?.to_owned();
        let netinst = after.split_whitespace().any(|word| matches!(word, "NETINST" | "BC"));
        let number = after.split_whitespace().find_map(|word| word.strip_prefix("Binary-"));
        let number = number.and_then(|number| number.parse().ok());
        // Discs that were unpacked over each other tell the last one's number and hold all the same what the first has.
        let installs = source.look(".disk/base_installable") != Look::Missing;
        Some(Self {
            version,
            codename,
            arch,
            netinst,
            later: number.filter(|number| *number > 1 && !installs),
        })
    }

    /// The release by its first number; 0 for testing, which has none.
    fn major(&self) -> u64 {
        version_numbers(&self.version).first().copied().unwrap_or(0)
    }

    /// Where Debian has the netboot files of the newest point release.
    fn url(&self) -> String {
        format!(
            "https://deb.debian.org/debian/dists/{}/main/installer-{}/current/images/netboot/netboot.tar.gz",
            self.codename,
            self.arch.debian()
        )
    }

    /// Where an installed package has them.
    pub(super) fn installed(&self, images: &Path) -> PathBuf {
        images.join(self.major().to_string()).join(self.arch.debian())
    }

    pub(super) fn needed(&self) -> NetbootError {
        NetbootError::Needed {
            version: self.version.clone(),
            major: self.major(),
            arch: self.arch.debian(),
            url: self.url(),
        }
    }

    /// The kernels that the disc has installer modules for, by its own index; empty where it has none.
    fn kernels(&self, source: &dyn Source) -> Vec<String> {
        let folder = format!(
            "dists/{}/main/debian-installer/binary-{}",
            self.codename,
            self.arch.debian()
        );
        let most = usize::try_from(LARGEST).unwrap_or(usize::MAX);
        let plain = source.read(&format!("{folder}/Packages"), most);
        let text = plain.or_else(|| {
            let packed = source.read(&format!("{folder}/Packages.gz"), most)?;
            let mut text = Vec::new();
            let read = GzDecoder::new(packed.as_slice()).take(LARGEST).read_to_end(&mut text);
            read.is_ok().then_some(text)
        });
        let text = text.unwrap_or_default();
        let names = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let name = std::str::from_utf8(line.strip_prefix(b"Package: ")?).ok()?.trim();
            let modules = name.strip_suffix("-di")?;
            let (_, release) = modules.split_once("-modules-")?;
            release
                .starts_with(|c: char| c.is_ascii_digit())
                .then(|| release.to_owned())
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Netboot files, in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Netboot {
    /// By path below the imported tree.
    files: BTreeMap<String, Vec<u8>>,
    /// What was given.
    pub(super) from: PathBuf,
}

impl Netboot {
    /// Reads the netboot files for `disc` out of `from`.
    pub(super) fn read(from: &Path, disc: &Disc) -> Result<Self, NetbootError> {
        let at = |error: io::Error| NetbootError::Io {
            from: from.to_path_buf(),
            error,
        };
        let path = std::fs::canonicalize(from).map_err(at)?;
        let metadata = std::fs::metadata(&path).map_err(at)?;
        let mut taking = Taking::new(from, disc);
        if metadata.is_dir() {
            taking.folder(&path, "", 0)?;
        } else if metadata.is_file() {
            taking.archive(&path)?;
        } else {
            return Err(NetbootError::Unknown {
                from: from.to_path_buf(),
                what: "neither a file nor a folder".to_owned(),
            });
        }
        taking.finish()
    }

    /// Refuses files whose kernel the disc has no modules for: the installer would stop in mid-way.
    pub(super) fn fits(&self, disc: &Disc, source: &dyn Source) -> Result<(), NetbootError> {
        let kernels = disc.kernels(source);
        let initrd = self.files.iter().find(|(path, _)| path.ends_with("/initrd.gz"));
        let kernel = initrd.and_then(|(_, bytes)| initrd::kernel_release(bytes));
        match kernel {
            Some(kernel) if !kernels.is_empty() && !kernels.contains(&kernel) => Err(NetbootError::OtherKernel {
                from: self.from.clone(),
                kernel,
                disc: kernels,
                version: disc.version.clone(),
                url: disc.url(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes them below `overlay`, open to all.
    pub(super) fn write(&self, overlay: &Path) -> Result<(), (PathBuf, io::Error)> {
        for (path, bytes) in &self.files {
            let full = overlay.join(path);
            let at = |error: io::Error| (full.clone(), error);
            if let Some(folder) = full.parent() {
                std::fs::create_dir_all(folder).map_err(at)?;
            }
            std::fs::write(&full, bytes).map_err(at)?;
            std::fs::set_permissions(&full, Permissions::from_mode(0o644)).map_err(at)?;
        }
        open_folders(overlay)
    }

    pub(super) fn count(&self) -> (u64, u64) {
        let bytes = self
            .files
            .values()
            .map(|bytes| length(bytes))
            .fold(0, u64::saturating_add);
        (u64::try_from(self.files.len()).unwrap_or(u64::MAX), bytes)
    }
}

/// Folders that a service of any umask's maker can pass.
fn open_folders(folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let at = |error: io::Error| (folder.to_path_buf(), error);
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(at)?;
    for entry in std::fs::read_dir(folder).map_err(at)? {
        let entry = entry.map_err(at)?;
        if entry.file_type().map_err(at)?.is_dir() {
            open_folders(&entry.path())?;
        }
    }
    Ok(())
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A tree with netboot files laid over it.
pub(super) struct Over<'a> {
    pub(super) netboot: &'a Netboot,
    pub(super) source: &'a dyn Source,
}

impl Over<'_> {
    /// Names below the folder `path`, of the netboot files alone.
    fn below(&self, path: &str) -> BTreeMap<String, bool> {
        let folder = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let rests = self.netboot.files.keys().filter_map(|file| file.strip_prefix(&folder));
        rests
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) => (name.to_owned(), true),
                None => (rest.to_owned(), false),
            })
            .collect()
    }
}

impl Source for Over<'_> {
    fn read(&self, path: &str, max: usize) -> Option<Vec<u8>> {
        match self.netboot.files.get(path) {
            Some(bytes) => Some(bytes.iter().copied().take(max).collect()),
            None => self.source.read(path, max),
        }
    }

    fn list(&self, path: &str) -> Option<Vec<Entry>> {
        let path = path.trim_matches('/');
        let laid = self.below(path);
        let own = self.source.list(path);
        if laid.is_empty() {
            return own;
        }
        let mut entries = own.unwrap_or_default();
        entries.retain(|entry| !laid.contains_key(&entry.name));
        entries.extend(laid.into_iter().map(|(name, is_folder)| Entry { name, is_folder }));
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Some(entries)
    }

    fn look(&self, path: &str) -> Look {
        match self.netboot.files.get(path) {
            Some(bytes) => Look::File(length(bytes)),
            None if !self.below(path).is_empty() => Look::Folder,
            None => self.source.look(path),
        }
    }
}

/// What was found so far.
struct Taking<'a> {
    from: &'a Path,
    disc: &'a Disc,
    /// By the folder that holds `debian-installer`, then by name.
    kept: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    versions: BTreeMap<String, Vec<u8>>,
    holds: BTreeSet<String>,
    bytes: u64,
    entries: usize,
}

/// What a path is to us.
enum Wanted<'p> {
    File { root: &'p str, name: &'p str },
    Version { root: &'p str },
    No,
}

impl<'a> Taking<'a> {
    const fn new(from: &'a Path, disc: &'a Disc) -> Self {
        Self {
            from,
            disc,
            kept: BTreeMap::new(),
            versions: BTreeMap::new(),
            holds: BTreeSet::new(),
            bytes: 0,
            entries: 0,
        }
    }

    fn io(&self, error: io::Error) -> NetbootError {
        NetbootError::Io {
            from: self.from.to_path_buf(),
            error,
        }
    }

    fn too_much(&self, what: &'static str) -> NetbootError {
        NetbootError::TooMuch {
            from: self.from.to_path_buf(),
            what,
        }
    }

    fn judge<'p>(&mut self, path: &'p str) -> Wanted<'p> {
        // The graphical installer's files are twice as large and bring nothing to a machine that installs by itself.
        if path.split('/').any(|part| part == "gtk") {
            return Wanted::No;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == "version.info" {
            return Wanted::Version { root: folder };
        }
        let (above, arch) = folder.rsplit_once('/').unwrap_or(("", folder));
        let root = match above.rsplit_once('/') {
            Some((root, "debian-installer")) => root,
            None if above == "debian-installer" => "",
            _ => return Wanted::No,
        };
        let kernel = matches!(name, "linux" | "vmlinux");
        if kernel {
            self.holds.insert(arch.to_owned());
        }
        let wanted = kernel || name == "initrd.gz" || name.ends_with(".efi");
        if wanted && arch == self.disc.arch.debian() {
            Wanted::File { root, name }
        } else {
            Wanted::No
        }
    }

    fn take(&mut self, path: &str, size: u64, content: &mut dyn Read) -> Result<(), NetbootError> {
        let path = path.to_owned();
        let (root, name) = match self.judge(&path) {
            Wanted::File { root, name } => (root.to_owned(), Some(name.to_owned())),
            Wanted::Version { root } => (root.to_owned(), None),
            Wanted::No => return Ok(()),
        };
        self.bytes = self.bytes.saturating_add(size);
        if size > LARGEST || self.bytes > MOST {
            return Err(self.too_much("more than 128 MiB in a file, or 192 MiB in all"));
        }
        let mut bytes = Vec::new();
        content
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|error| self.io(error))?;
        if length(&bytes) < size {
            return Err(self.io(io::ErrorKind::UnexpectedEof.into()));
        }
        match name {
            Some(name) => {
                self.kept.entry(root).or_default().insert(name, bytes);
            }
            None => {
                self.versions.insert(root, bytes);
            }
        }
        Ok(())
    }

    fn counted(&mut self) -> Result<(), NetbootError> {
        self.entries = self.entries.saturating_add(1);
        if self.entries > ENTRIES {
            return Err(self.too_much("more than 50,000 files and folders"));
        }
        Ok(())
    }

    fn folder(&mut self, root: &Path, path: &str, depth: usize) -> Result<(), NetbootError> {
        for entry in tree::list(root, path).map_err(|error| self.io(error))? {
            self.counted()?;
            let below = if path.is_empty() {
                entry.name.clone()
            } else {
                format!("{path}/{}", entry.name)
            };
            if entry.is_folder {
                if depth < DEPTH {
                    self.folder(root, &below, depth.saturating_add(1))?;
                }
                continue;
            }
            if matches!(self.judge(&below), Wanted::No) {
                continue;
            }
            let (mut file, metadata) = tree::open(root, &below).map_err(|error| self.io(error))?;
            self.take(&below, metadata.len(), &mut file)?;
        }
        Ok(())
    }

    fn archive(&mut self, path: &Path) -> Result<(), NetbootError> {
        let mut head = [0; 512];
        let mut file = File::open(path).map_err(|error| self.io(error))?;
        let mut filled = 0_usize;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).map_err(|error| self.io(error))? {
                0 => break,
                read => filled = filled.saturating_add(read),
            }
        }
        let again = || File::open(path);
        if head.starts_with(b"!<arch>\n") {
            return self.package(path);
        }
        if head.starts_with(&[0x1F, 0x8B]) {
            let file = again().map_err(|error| self.io(error))?;
            return self.tar(GzDecoder::new(io::BufReader::new(file)));
        }
        if head.get(257..262) == Some(b"ustar") {
            let file = again().map_err(|error| self.io(error))?;
            return self.tar(io::BufReader::new(file));
        }
        let what = if head.starts_with(b"\xFD7zXZ\0") {
            "packed by xz: unpack it (tar -xJf FILE) and give the folder"
        } else {
            "neither a tar archive nor a Debian package"
        };
        Err(NetbootError::Unknown {
            from: self.from.to_path_buf(),
            what: what.to_owned(),
        })
    }

    /// What a package installs, as dpkg-deb gives it: packages are packed by xz or zstd, and dpkg knows all that Debian ever used.
    fn package(&mut self, path: &Path) -> Result<(), NetbootError> {
        let child = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NetbootError::NoDpkg(self.from.to_path_buf()));
            }
            Err(error) => return Err(self.io(error)),
        };
        let read = match child.stdout.take() {
            Some(stdout) => self.tar(stdout),
            None => Ok(()),
        };
        // It may still write what nobody wants any more.
        let _ = child.kill();
        let ended = child.wait().map_err(|error| self.io(error))?;
        read?;
        if ended.code().is_some_and(|code| code != 0) {
            return Err(NetbootError::Unknown {
                from: self.from.to_path_buf(),
                what: "no package that dpkg-deb can open".to_owned(),
            });
        }
        Ok(())
    }

    fn tar(&mut self, content: impl Read) -> Result<(), NetbootError> {
        let mut archive = tar::Archive::new(content.take(PASSED));
        let entries = archive.entries().map_err(|error| self.io(error))?;
        for entry in entries {
            let mut entry = entry.map_err(|error| self.io(error))?;
            self.counted()?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path_bytes();
            let Some(path) = std::str::from_utf8(&path).ok().and_then(clean) else {
                continue;
            };
            let size = entry.size();
            self.take(&path, size, &mut entry)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Netboot, NetbootError> {
        let arch = self.disc.arch.debian();
        let whole = |files: &BTreeMap<String, Vec<u8>>| {
            files.contains_key("initrd.gz") && (files.contains_key("linux") || files.contains_key("vmlinux"))
        };
        self.kept.retain(|_, files| whole(files));
        let told = |root: &str| -> Option<String> {
            let above = root.rsplit_once('/').map_or("", |(above, _)| above);
            let bytes = self.versions.get(root).or_else(|| self.versions.get(above))?;
            let text = String::from_utf8_lossy(bytes).into_owned();
            let line = text.lines().find_map(|line| line.strip_prefix("Debian version:"))?;
            let line = line.trim();
            Some(line.chars().filter(|c| !c.is_control()).take(64).collect())
        };
        let major = self.disc.major();
        let same = |told: &Option<String>| match told.as_deref().map(version_numbers) {
            Some(numbers) if major > 0 => numbers.first().is_none_or(|number| *number == major),
            _ => true,
        };
        let roots: Vec<(String, Option<String>)> = self.kept.keys().map(|root| (root.clone(), told(root))).collect();
        let Some((root, _)) = roots.iter().find(|(_, told)| same(told)) else {
            return Err(match roots.into_iter().find_map(|(_, told)| told) {
                Some(theirs) => NetbootError::OtherRelease {
                    from: self.from.to_path_buf(),
                    theirs,
                    version: self.disc.version.clone(),
                    url: self.disc.url(),
                },
                None => NetbootError::Missing {
                    from: self.from.to_path_buf(),
                    arch,
                    major,
                    url: self.disc.url(),
                    holds: self.holds.into_iter().collect(),
                },
            });
        };
        let version = told(root).map(|told| format!("Debian version:  {told}\n").into_bytes());
        let kept = self.kept.remove(root).unwrap_or_default();
        let mut files: BTreeMap<String, Vec<u8>> = kept
            .into_iter()
            .map(|(name, bytes)| (format!("{SHOWN}/debian-installer/{arch}/{name}"), bytes))
            .collect();
        if let Some(version) = version {
            files.insert(format!("{SHOWN}/version.info"), version);
        }
        Ok(Netboot {
            files,
            from: self.from.to_path_buf(),
        })
    }
}
