//! Volumes of a hypervisor: disks that are made, thin clones, and kernels and initrds by their content.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use super::{DriverError, Hypervisor, said};
use crate::guest::element::Element;
use crate::guest::spec::{Backing, Disk, Format, Origin};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use virt::storage_pool::StoragePool;
use virt::storage_vol::StorageVol;
use virt::stream::Stream;
use virt::sys;

/// What the names of our kernels and initrds begin with; a volume with another name is never touched.
const MEDIA: &str = "cordwainer-";
/// Bytes of one message of a stream.
const CHUNK: usize = 256 * 1024;

/// A disk that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// True when this call made it.
    pub new: bool,
}

/// A kernel or an initrd, with the name that its content gives it.
#[derive(Debug, Clone)]
pub struct Media {
    /// `cordwainer-HASH-kernel`.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Media {
    /// Names `bytes` by their content. `role` is `kernel` or `initrd`.
    #[must_use]
    pub fn new(role: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: format!("{MEDIA}{}-{role}", digest(&bytes)),
            bytes,
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

impl Hypervisor {
    /// The pool of this name, started.
    fn pool(&self, name: &str) -> Result<StoragePool, DriverError> {
        let pool = self
            .connect
            .lookup_storage_pool_by_name(name)
            .map_err(|error| self.missing(format!("storage pool {name}"), &error))?;
        if !pool.is_active().unwrap_or(true) {
            pool.create(0)
                .map_err(|error| self.error(&format!("start storage pool {name}"), &error))?;
        }
        Ok(pool)
    }

    pub(super) fn pool_folder(&self, pool: &StoragePool) -> Option<PathBuf> {
        let xml = pool.xml_desc(0).ok()?;
        let root = Element::parse(&xml).ok()?;
        let path = root.first("target")?.first("path")?.text.trim().to_owned();
        (!path.is_empty()).then(|| PathBuf::from(path))
    }

    /// Where a volume of this name is, or would be, on the hypervisor. None for pools that have no paths.
    ///
    /// # Errors
    /// [`DriverError::Missing`] without such a pool.
    pub fn place_of(&self, pool: &str, volume: &str) -> Result<Option<PathBuf>, DriverError> {
        let pool = self.pool(pool)?;
        if let Ok(there) = pool.lookup_storage_vol_by_name(volume) {
            return Ok(there.path().ok().map(PathBuf::from));
        }
        Ok(self.pool_folder(&pool).map(|folder| folder.join(volume)))
    }

    /// True when the volume is there.
    ///
    /// # Errors
    /// [`DriverError`] when that cannot be told.
    pub fn has_volume(&self, pool: &str, volume: &str) -> Result<bool, DriverError> {
        Ok(find(&self.pool(pool)?, volume).is_some())
    }

    /// Makes a disk, unless it is there: a job that was interrupted finds its own again. `fill` says what to call it when libvirt refuses.
    ///
    /// # Errors
    /// [`DriverError`]: no pool, no golden volume, a disk smaller than it, a pool that is full.
    pub fn make_disk(&self, disk: &Disk) -> Result<Made, DriverError> {
        let Origin::Pool { pool: name, volume, .. } = &disk.origin else {
            return Ok(Made { new: false });
        };
        let pool = self.pool(name)?;
        if find(&pool, volume).is_some() {
            return Ok(Made { new: false });
        }
        let backing = disk.backing.as_ref().map(|backing| self.golden(backing)).transpose()?;
        let least = backing.as_ref().map_or(0, |(_, size)| *size);
        let size = disk.size.unwrap_or(least);
        if size < least {
            return Err(DriverError::Clash(format!(
                "disk {volume} of {size} bytes is smaller than the volume that it stands on, {least} bytes; give a larger size, or none"
            )));
        }
        self.room(&pool, name, disk, size)?;
        let format = |format: Format| Element::new("format").with("type", format.as_str());
        let mut element = Element::new("volume")
            .child(Element::new("name").text(volume))
            .child(Element::new("capacity").with("unit", "bytes").text(size))
            .child(Element::new("allocation").with("unit", "bytes").text(0))
            .child(Element::new("target").child(format(disk.format)));
        if let Some(((path, of), _)) = backing {
            element = element.child(
                Element::new("backingStore")
                    .child(Element::new("path").text(path.display()))
                    .child(format(of)),
            );
        }
        match StorageVol::create_xml(&pool, &element.document(), 0) {
            Ok(_) => Ok(Made { new: true }),
            Err(error) => Err(self.error(&format!("make disk {volume} in storage pool {name}"), &error)),
        }
    }

    /// A raw disk that cannot fit is refused before it is made: libvirt would make it, and the guest would stop in mid-install.
    fn room(&self, pool: &StoragePool, name: &str, disk: &Disk, size: u64) -> Result<(), DriverError> {
        let Ok(info) = pool.info() else { return Ok(()) };
        let thin = disk.format == Format::Qcow2;
        // A thin disk grows as it is written; where not even its first blocks fit, nothing will.
        let needed = if thin { 1 << 20 } else { size };
        if info.available < needed {
            return Err(DriverError::Clash(format!(
                "storage pool {name} of {} is full: {} MiB are free, and {} MiB are needed; make room, or choose another pool with --disk SIZE,pool=NAME",
                self.uri,
                info.available >> 20,
                (needed >> 20).max(1),
            )));
        }
        Ok(())
    }

    fn golden(&self, backing: &Backing) -> Result<((PathBuf, Format), u64), DriverError> {
        let pool = self.pool(&backing.pool)?;
        let volume = find(&pool, &backing.volume).ok_or_else(|| DriverError::Missing {
            what: format!("volume {} in storage pool {}", backing.volume, backing.pool),
            uri: self.uri.clone(),
        })?;
        let what = format!("read volume {}", backing.volume);
        let path = volume.path().map_err(|error| self.error(&what, &error))?;
        let info = volume.info().map_err(|error| self.error(&what, &error))?;
        Ok(((PathBuf::from(path), backing.format), info.capacity))
    }

    /// Deletes a volume. One that is not there is no error.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn delete_volume(&self, pool: &str, volume: &str) -> Result<(), DriverError> {
        let there = match self.pool(pool) {
            Ok(pool) => find(&pool, volume),
            Err(DriverError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        match there {
            None => Ok(()),
            Some(there) => there
                .delete(0)
                .map_err(|error| self.error(&format!("delete volume {volume} of storage pool {pool}"), &error)),
        }
    }

    /// Brings a kernel or an initrd, unless one with the same content is there and whole, and says where it is.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn bring(&self, pool_name: &str, media: &Media) -> Result<PathBuf, DriverError> {
        let pool = self.pool(pool_name)?;
        let what = format!("take {} into storage pool {pool_name}", media.name);
        let refuse = |error: virt::error::Error| self.error(&what, &error);
        if let Some(there) = find(&pool, &media.name) {
            // An upload that broke off left a part of it under the whole's name.
            if self.is_whole(&there, media) {
                return there.path().map(PathBuf::from).map_err(refuse);
            }
            there.delete(0).map_err(refuse)?;
        }
        let size = u64::try_from(media.bytes.len()).unwrap_or(u64::MAX);
        if let Ok(info) = pool.info()
            && info.available < size
        {
            return Err(DriverError::Clash(format!(
                "storage pool {pool_name} of {} is full: {} MiB are free, and the installer's kernel or initrd needs {} MiB; make room there",
                self.uri,
                info.available >> 20,
                (size >> 20).saturating_add(1),
            )));
        }
        let element = Element::new("volume")
            .child(Element::new("name").text(&media.name))
            .child(Element::new("capacity").with("unit", "bytes").text(size))
            .child(Element::new("allocation").with("unit", "bytes").text(0))
            .child(Element::new("target").child(Element::new("format").with("type", "raw")));
        let volume = StorageVol::create_xml(&pool, &element.document(), 0).map_err(refuse)?;
        let sent = self.upload(&volume, &media.bytes);
        if let Err(error) = sent {
            drop(volume.delete(0));
            return Err(refuse(error));
        }
        volume.path().map(PathBuf::from).map_err(refuse)
    }

    fn upload(&self, volume: &StorageVol, bytes: &[u8]) -> Result<(), virt::error::Error> {
        let stream = Stream::new(&self.connect, 0)?;
        volume.upload(&stream, 0, u64::try_from(bytes.len()).unwrap_or(u64::MAX), 0)?;
        for chunk in bytes.chunks(CHUNK) {
            let mut rest = chunk;
            while !rest.is_empty() {
                match stream.send(rest) {
                    Ok(sent) => {
                        let sent = usize::try_from(sent).unwrap_or(0);
                        rest = rest.get(sent..).unwrap_or_default();
                    }
                    Err(error) => {
                        drop(stream.abort());
                        return Err(error);
                    }
                }
            }
        }
        stream.finish()
    }

    fn is_whole(&self, volume: &StorageVol, media: &Media) -> bool {
        let read = || -> Result<bool, virt::error::Error> {
            let stream = Stream::new(&self.connect, 0)?;
            let size = u64::try_from(media.bytes.len()).unwrap_or(u64::MAX);
            if volume.info()?.capacity < size {
                return Ok(false);
            }
            volume.download(&stream, 0, size, 0)?;
            let mut rest = media.bytes.as_slice();
            let mut buffer = vec![0; CHUNK];
            loop {
                let read = usize::try_from(stream.recv(&mut buffer)?).unwrap_or(0);
                if read == 0 {
                    break;
                }
                let same = rest.get(..read).is_some_and(|part| Some(part) == buffer.get(..read));
                if !same {
                    drop(stream.abort());
                    return Ok(false);
                }
                rest = rest.get(read..).unwrap_or_default();
            }
            stream.finish()?;
            Ok(rest.is_empty())
        };
        read().unwrap_or_else(|error| {
            tracing::debug!("{} cannot be read back: {}", media.name, said(&error));
            false
        })
    }

    /// Deletes our kernels and initrds that no domain uses, but for those in `kept`.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn collect(&self, kept: &BTreeSet<PathBuf>) -> Result<Vec<String>, DriverError> {
        let mut used = kept.clone();
        for domain in self.domains()? {
            for xml in [self.live_xml(&domain), self.final_xml(&domain)].into_iter().flatten() {
                used.extend(boots_from(&xml));
            }
        }
        let mut gone = Vec::new();
        let pools = self
            .connect
            .list_all_storage_pools(sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
            .map_err(|error| self.error("list its storage pools", &error))?;
        for pool in pools {
            for volume in pool.list_all_volumes(0).unwrap_or_default() {
                let (Ok(name), Ok(path)) = (volume.name(), volume.path()) else {
                    continue;
                };
                if !is_media(&name) || used.contains(Path::new(&path)) {
                    continue;
                }
                match volume.delete(0) {
                    Ok(()) => gone.push(name),
                    Err(error) => tracing::debug!("{name} stays: {}", said(&error)),
                }
            }
        }
        Ok(gone)
    }

    /// The kernels and initrds of ours that are there, for `guest check` and tests.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn media(&self, pool: &str) -> Result<Vec<String>, DriverError> {
        let mut names = self
            .pool(pool)?
            .list_volumes()
            .map_err(|error| self.error(&format!("list storage pool {pool}"), &error))?;
        names.retain(|name| is_media(name));
        names.sort();
        Ok(names)
    }
}

/// What a check brings is deleted by the check.
fn is_media(name: &str) -> bool {
    name.starts_with(MEDIA) && (name.ends_with("-kernel") || name.ends_with("-initrd"))
}

fn find(pool: &StoragePool, volume: &str) -> Option<StorageVol> {
    // A file that was put there by hand is a volume only after a look.
    pool.lookup_storage_vol_by_name(volume).ok().or_else(|| {
        pool.refresh(0).ok()?;
        pool.lookup_storage_vol_by_name(volume).ok()
    })
}

/// Kernel and initrd of a configuration.
fn boots_from(xml: &str) -> Vec<PathBuf> {
    let Ok(root) = Element::parse(xml) else {
        return Vec::new();
    };
    let Some(os) = root.first("os") else {
        return Vec::new();
    };
    ["kernel", "initrd"]
        .into_iter()
        .filter_map(|name| os.first(name).map(|element| PathBuf::from(element.text.trim())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_have_the_same_name() {
        let media = Media::new("kernel", b"abc".to_vec());
        assert_eq!(media.name, "cordwainer-ba7816bf8f01cfea414140de5dae2223-kernel");
    }

    #[test]
    fn kernels_of_a_configuration_are_found() {
        let xml = "<domain><os><type>hvm</type><kernel>/a b</kernel><initrd>/c</initrd></os></domain>";
        assert_eq!(boots_from(xml), [PathBuf::from("/a b"), PathBuf::from("/c")]);
        assert!(boots_from("<domain><os/></domain>").is_empty());
    }
}
