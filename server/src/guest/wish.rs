//! What an admin types of a guest's disks and network cards: `20G,pool=fast,bus=virtio`, `bridge=br0,mac=52:54:00:7c:1d:4f`.
//!
//! Pure. Parses and judges form only; [`mod@super::plan`] judges sense.

use super::spec::{Bus, Format, NicModel, NicSource};
use crate::model::Mac;
use std::path::PathBuf;
use std::str::FromStr;

/// One `--disk`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskWish {
    /// Bytes.
    pub size: Option<u64>,
    /// Storage pool.
    pub pool: Option<String>,
    /// A volume of the pool that is there already.
    pub volume: Option<String>,
    /// A file or block device of the hypervisor that is there already.
    pub path: Option<PathBuf>,
    /// Format.
    pub format: Option<Format>,
    /// Bus.
    pub bus: Option<Bus>,
    /// Pool, where it is another, and name of the golden volume.
    pub backing: Option<(Option<String>, String)>,
}

/// One `--network`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NicWish {
    /// What it is tied to.
    pub source: Option<NicSource>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// Model.
    pub model: Option<NicModel>,
    /// 802.1Q tag.
    pub vlan: Option<u16>,
    /// The bridge is of Open vSwitch.
    pub openvswitch: bool,
}

/// A size of a disk in bytes: GiB where no unit is given.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || {
        format!(
            "`{}` is no size; write GiB, or a number with M, G or T, like 20, 512M or 1T",
            shown(text)
        )
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "g" | "gib" | "gb" => 1 << 30,
        "m" | "mib" | "mb" => 1 << 20,
        "t" | "tib" | "tb" => 1 << 40,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let bytes = number.checked_mul(unit).filter(|bytes| *bytes < 1 << 60);
    bytes.filter(|bytes| *bytes > 0).ok_or_else(bad)
}

fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// The name of a pool, volume, network or bridge, as libvirt takes it: no slash, no control character.
fn plain(key: &str, value: &str) -> Result<String, String> {
    if value.is_empty()
        || value.len() > 255
        || value.starts_with('.')
        || value.contains(|c: char| c.is_control() || c == '/')
    {
        return Err(format!("`{}` is no name for {key}=", shown(value)));
    }
    Ok(value.to_owned())
}

/// A path on the hypervisor, or a volume there.
fn absolute(value: &str) -> Result<PathBuf, String> {
    let fits =
        value.starts_with('/') && !value.chars().any(char::is_control) && !value.split('/').any(|part| part == "..");
    if fits {
        Ok(PathBuf::from(value))
    } else {
        Err(format!("`{}` is no absolute path of the hypervisor", shown(value)))
    }
}

/// The parts of `a=b,c=d`; the first may have no key.
fn parts(text: &str) -> impl Iterator<Item = (Option<&str>, &str)> {
    text.split(',').map(|part| match part.split_once('=') {
        Some((key, value)) => (Some(key.trim()), value.trim()),
        None => (None, part.trim()),
    })
}

impl FromStr for DiskWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut wish = Self::default();
        for (place, (key, value)) in parts(text).enumerate() {
            match (key, place) {
                (None, 0) | (Some("size"), _) => wish.size = Some(size(value)?),
                (Some("pool"), _) => wish.pool = Some(plain("pool", value)?),
                (Some("volume" | "vol"), _) => match value.split_once('/') {
                    Some((pool, volume)) => {
                        wish.pool = Some(plain("pool", pool)?);
                        wish.volume = Some(plain("volume", volume)?);
                    }
                    None => wish.volume = Some(plain("volume", value)?),
                },
                (Some("path"), _) => wish.path = Some(absolute(value)?),
                (Some("format"), _) => wish.format = Some(value.parse()?),
                (Some("bus"), _) => wish.bus = Some(value.parse()?),
                (Some("backing"), _) => {
                    wish.backing = Some(match value.split_once('/') {
                        Some((pool, volume)) => (Some(plain("pool", pool)?), plain("backing", volume)?),
                        None => (None, plain("backing", value)?),
                    });
                }
                (Some(key), _) => {
                    return Err(format!(
                        "`{}` is unknown; a disk has a size, pool=, format=, bus=, backing=, volume= and path=",
                        shown(key)
                    ));
                }
                (None, _) => {
                    return Err(format!(
                        "`{}` has no key; only the size, which comes first, needs none",
                        shown(value)
                    ));
                }
            }
        }
        let existing = wish.volume.is_some() || wish.path.is_some();
        if wish.volume.is_some() && wish.path.is_some() {
            return Err("a disk is a volume= or a path=, not both".to_owned());
        }
        if existing && (wish.size.is_some() || wish.backing.is_some()) {
            return Err("a disk that is there (volume=, path=) has its size, and stands on what it stands on; leave size and backing= out".to_owned());
        }
        if !existing && wish.size.is_none() && wish.backing.is_none() {
            return Err("it needs a size, like 20G, or backing=, volume= or path=".to_owned());
        }
        if wish.backing.is_some() && wish.format == Some(Format::Raw) {
            return Err("a raw disk stands on nothing; backing= needs format=qcow2, which is the default".to_owned());
        }
        Ok(wish)
    }
}

impl FromStr for NicWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut wish = Self::default();
        for (key, value) in parts(text) {
            let source = match (key, value) {
                (Some("bridge"), value) => Some(NicSource::Bridge(plain("bridge", value)?)),
                (Some("network"), value) => Some(NicSource::Network(plain("network", value)?)),
                (None, "user") => Some(NicSource::User),
                (Some("mac"), "") => return Err("mac= is empty; leave it out, and one is made".to_owned()),
                (Some("mac"), value) => {
                    let mac: Mac = value.parse().map_err(|error: crate::model::BadMac| error.to_string())?;
                    if mac.is_unusable() {
                        return Err(format!(
                            "`{mac}` is a group address or all zeroes, which no machine has"
                        ));
                    }
                    wish.mac = Some(mac);
                    None
                }
                (Some("model"), value) => {
                    wish.model = Some(value.parse()?);
                    None
                }
                (Some("vlan"), value) => {
                    let tag = value.parse::<u16>().ok().filter(|tag| (1..=4094).contains(tag));
                    wish.vlan = Some(tag.ok_or_else(|| format!("`{}` is no VLAN; write 1 to 4094", shown(value)))?);
                    None
                }
                (Some("virtualport"), "openvswitch") => {
                    wish.openvswitch = true;
                    None
                }
                (Some(key), _) => {
                    return Err(format!(
                        "`{}={}` is unknown; a network card has bridge= or network=, mac=, model=, vlan= and virtualport=openvswitch",
                        shown(key),
                        shown(value)
                    ));
                }
                (None, word) => {
                    return Err(format!(
                        "`{}` has no key; write bridge=NAME, network=NAME, or user",
                        shown(word)
                    ));
                }
            };
            if source.is_some() && wish.source.is_some() {
                return Err(
                    "a network card is tied to one bridge or network; give --network once for each card".to_owned(),
                );
            }
            wish.source = source.or(wish.source);
        }
        Ok(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_read_as_they_are_typed() {
        let disk: DiskWish = "20G,pool=fast,format=raw,bus=scsi".parse().unwrap();
        assert_eq!(disk.size, Some(20 << 30));
        assert_eq!(
            (disk.pool.as_deref(), disk.format, disk.bus),
            (Some("fast"), Some(Format::Raw), Some(Bus::Scsi))
        );
        let disk: DiskWish = "backing=golden/rocky9.qcow2".parse().unwrap();
        assert_eq!(disk.backing, Some((Some("golden".into()), "rocky9.qcow2".into())));
        assert_eq!("512m".parse::<DiskWish>().unwrap().size, Some(512 << 20));
        for (text, says) in [
            ("", "is no size"),
            ("0", "is no size"),
            ("-5G", "is no size"),
            ("99999999999T", "is no size"),
            ("20,fast", "has no key"),
            ("20,cache=none", "is unknown"),
            ("pool=fast", "needs a size"),
            ("20,path=/x", "leave size"),
            ("path=x", "no absolute path"),
            ("path=/a/../b", "no absolute path"),
            ("20,backing=a,format=raw", "stands on nothing"),
            ("20,bus=ide", "is no bus of disks"),
            ("20,pool=a/b", "is no name"),
            ("volume=a,path=/b", "not both"),
        ] {
            let error = text.parse::<DiskWish>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn network_cards_are_read_as_they_are_typed() {
        let nic: NicWish = "bridge=br0,mac=52:54:00:7c:1d:4f,model=e1000e,vlan=7".parse().unwrap();
        assert_eq!(nic.source, Some(NicSource::Bridge("br0".into())));
        assert_eq!((nic.vlan, nic.model), (Some(7), Some(NicModel::E1000e)));
        assert_eq!("user".parse::<NicWish>().unwrap().source, Some(NicSource::User));
        for (text, says) in [
            ("br0", "has no key"),
            ("bridge=a,network=b", "one bridge or network"),
            ("bridge=a,vlan=0", "is no VLAN"),
            ("bridge=a,mac=01:00:00:00:00:00", "group address"),
            ("bridge=a,mac=x", "is not a MAC"),
            ("bridge=a,model=ne2k", "is no model"),
            ("bridge=a,speed=1", "is unknown"),
            ("bridge=", "is no name"),
        ] {
            let error = text.parse::<NicWish>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
