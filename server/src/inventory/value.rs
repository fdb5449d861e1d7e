//! How one field shows itself and reads what was typed. Pure. Never accepts what could end a line of a script or leave a folder.

use crate::model::{
    Arch, BondingOpts, BridgeOpts, Dict, Hostname, ImageType, Inherit, InterfaceType, Mac, Mtu, Name, Octets,
    StaticRoute, quoted, words,
};
use std::fmt;
use std::net::Ipv4Addr;

/// A field's value, ready to be printed in any form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Not set, or empty.
    Nothing,
    /// Taken from the nearest ancestor.
    Inherit,
    /// One word or sentence.
    Text(String),
    /// Several words, possibly none on purpose.
    List(Vec<String>),
    /// Yes or no.
    Flag(bool),
}

/// The text that sets the field to this value again.
impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Inherit => f.write_str(Inherit::<()>::MARK),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                let mut gap = "";
                for item in items {
                    write!(f, "{gap}{}", quoted(item, separates_items))?;
                    gap = " ";
                }
                Ok(())
            }
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// A field's type. Errors are the second half of a sentence that begins with the field's name.
pub(super) trait Value {
    /// The value as it is.
    fn show(&self) -> Shown;
    /// Takes what was typed. `in_place` changes single keys of a dictionary.
    fn read(&mut self, text: &str, in_place: bool) -> Result<(), String>;
}

/// Blanks and commas separate the items of a list.
pub(super) fn separates_items(c: char) -> bool {
    c.is_whitespace() || c == ','
}

fn plain(text: &str) -> Result<&str, String> {
    if text.chars().any(char::is_control) {
        return Err(format!(
            "control characters are not allowed in `{}`; write it on one line",
            text.chars().take(64).collect::<String>().escape_debug()
        ));
    }
    if text.len() > 4096 {
        return Err("the text is longer than 4096 bytes; shorten it".to_owned());
    }
    Ok(text)
}

impl Value for String {
    fn show(&self) -> Shown {
        if self.is_empty() {
            Shown::Nothing
        } else {
            Shown::Text(self.clone())
        }
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        plain(text)?.clone_into(self);
        Ok(())
    }
}

impl Value for Dict {
    fn show(&self) -> Shown {
        if self.is_empty() {
            Shown::Nothing
        } else {
            Shown::Text(self.to_string())
        }
    }

    fn read(&mut self, text: &str, in_place: bool) -> Result<(), String> {
        // A dictionary inherits key by key, so wishing to inherit all of it means having no key of its own.
        let given: Self = if text == Inherit::<()>::MARK {
            Self::new()
        } else {
            plain(text)?
                .parse()
                .map_err(|error: crate::model::BadDict| error.to_string())?
        };
        if in_place {
            self.merge_in_place(&given);
        } else {
            *self = given;
        }
        Ok(())
    }
}

impl Value for bool {
    fn show(&self) -> Shown {
        Shown::Flag(*self)
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        *self = flag(text)?;
        Ok(())
    }
}

impl Value for u32 {
    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        *self = Item::parse(text)?;
        Ok(())
    }
}

/// Cobbler's users write every one of these.
pub(super) fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "y" | "on" => Ok(true),
        "0" | "false" | "no" | "n" | "off" => Ok(false),
        _ => Err(format!("`{}` is neither yes nor no; write 1 or 0", cut(text))),
    }
}

/// An item of a list: it prints, and it is read from one word.
pub(super) trait Item: Sized {
    fn text(&self) -> String;
    fn parse(text: &str) -> Result<Self, String>;
}

impl Item for String {
    fn text(&self) -> String {
        self.clone()
    }

    fn parse(text: &str) -> Result<Self, String> {
        plain(text).map(str::to_owned)
    }
}

impl Item for Ipv4Addr {
    fn text(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let address: Self = text
            .parse()
            .map_err(|_| format!("`{}` is not an IPv4 address; write it like 192.168.77.10", cut(text)))?;
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return Err(format!("`{address}` is no address that a machine can have"));
        }
        Ok(address)
    }
}

impl Item for u32 {
    fn text(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        text.parse().map_err(|_| format!("`{}` is no whole number", cut(text)))
    }
}

macro_rules! parsed_item {
    ($($kind:ty)*) => {$(
        impl Item for $kind {
            fn text(&self) -> String {
                self.to_string()
            }

            fn parse(text: &str) -> Result<Self, String> {
                text.parse::<Self>().map_err(|error| error.to_string())
            }
        }
    )*};
}
parsed_item!(Name Hostname Arch ImageType Octets InterfaceType Mtu StaticRoute BondingOpts BridgeOpts);

impl Item for Mac {
    fn text(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mac: Self = text.parse().map_err(|error: crate::model::BadMac| error.to_string())?;
        if mac.is_unusable() {
            return Err(format!(
                "`{mac}` is a group address or all zeroes, which no machine has; write the machine's own"
            ));
        }
        Ok(mac)
    }
}

impl<T: Item> Value for Vec<T> {
    fn show(&self) -> Shown {
        if self.is_empty() {
            Shown::Nothing
        } else {
            Shown::List(self.iter().map(Item::text).collect())
        }
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        let text = if text == Inherit::<()>::MARK { "" } else { text };
        let mut items = Self::new();
        for word in words(plain(text)?, separates_items).map_err(|error| error.to_string())? {
            items.push(T::parse(&word)?);
        }
        *self = items;
        Ok(())
    }
}

impl<T: Item> Value for Option<T> {
    fn show(&self) -> Shown {
        self.as_ref().map_or(Shown::Nothing, |value| Shown::Text(value.text()))
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        *self = match text.trim() {
            "" => None,
            text => Some(T::parse(text)?),
        };
        Ok(())
    }
}

impl<T: Value + Default> Value for Inherit<T> {
    fn show(&self) -> Shown {
        match self {
            Self::Inherit => Shown::Inherit,
            Self::Set(value) => match value.show() {
                // Empty on purpose is not the same as inherited.
                Shown::Nothing => Shown::Text(String::new()),
                shown => shown,
            },
        }
    }

    fn read(&mut self, text: &str, in_place: bool) -> Result<(), String> {
        *self = if text == Self::MARK {
            Self::Inherit
        } else {
            let mut value = T::default();
            value.read(text, in_place)?;
            Self::Set(value)
        };
        Ok(())
    }
}

impl Value for Arch {
    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        *self = Item::parse(text)?;
        Ok(())
    }
}

impl Value for ImageType {
    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        *self = Item::parse(text)?;
        Ok(())
    }
}

impl Value for Name {
    fn show(&self) -> Shown {
        Shown::Text(self.to_string())
    }

    fn read(&mut self, text: &str, _: bool) -> Result<(), String> {
        *self = Item::parse(text)?;
        Ok(())
    }
}

/// At most 64 characters of what was typed, for a message.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// A path below some folder of ours.
pub(super) fn below(text: &str) -> Result<(), String> {
    if text.starts_with('/') || climbs(text) {
        return Err(format!(
            "`{}` is not a path below kickstarts/; write it like rocky/el9.ks, without a leading / and without ..",
            cut(text)
        ));
    }
    Ok(())
}

/// A path that never climbs.
pub(super) fn climbless(text: &str) -> Result<(), String> {
    if climbs(text) {
        return Err(format!("`{}` climbs with ..; write the path itself", cut(text)));
    }
    Ok(())
}

fn climbs(text: &str) -> bool {
    text.split('/').any(|part| part == "..")
}

/// Where the file of an image lies. Cobbler's form of a host before the path is not taken: the server itself must read the file.
pub(super) fn image_file(text: &str) -> Result<(), String> {
    climbless(text)?;
    if text.is_empty() || text.starts_with('/') && !text.ends_with('/') {
        return Ok(());
    }
    Err(format!(
        "`{}` is no file of this server; write its path from /, and mount what lies on another host",
        cut(text)
    ))
}

/// A kernel's path.
pub(super) fn kernel(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("the path is empty; write it below the tree, or absolute where there is no tree".to_owned());
    }
    climbless(text)
}

/// A word without blanks, or nothing.
pub(super) fn word(text: &str) -> Result<(), String> {
    if text.chars().any(char::is_whitespace) {
        return Err(format!("`{}` has blanks; write one word", cut(text)));
    }
    Ok(())
}

/// A proxy's URL, nothing, or the wish to inherit.
pub(super) fn proxy(text: &str) -> Result<(), String> {
    let fits = ["http://", "https://", "ftp://"]
        .iter()
        .any(|scheme| text.starts_with(scheme))
        && !text.chars().any(char::is_whitespace);
    if fits || text.is_empty() || text == Inherit::<()>::MARK {
        Ok(())
    } else {
        Err(format!(
            "`{}` is not a proxy; write its URL like http://192.168.77.1:3128",
            cut(text)
        ))
    }
}

/// The URL of a mirror: of any scheme that Cobbler takes, or a folder of its own server.
pub(super) fn mirror(text: &str) -> Result<(), String> {
    word(text)?;
    if text.is_empty() {
        return Err("the mirror is empty; write its URL like http://deb.debian.org/debian".to_owned());
    }
    without_login(text)
}

/// A URL of a repository is given to anyone who asks for the profile's, so it can hold no password.
pub(super) fn without_login(text: &str) -> Result<(), String> {
    if super::repos::has_login(text) {
        return Err("a user or password in it would be given to anyone; \
            let the mirror know its machines by their addresses, or write it into the answer-file template"
            .to_owned());
    }
    Ok(())
}

/// The proxy of a repository.
pub(super) fn repo_proxy(text: &str) -> Result<(), String> {
    proxy(text)?;
    without_login(text)
}

/// A kind of repository.
pub(super) fn repo_breed(text: &str) -> Result<(), String> {
    match text {
        "" | "none" | "yum" | "apt" | "rsync" | "rhn" | "wget" => Ok(()),
        _ => Err(format!("`{}` is no kind of repository; write yum or apt", cut(text))),
    }
}

/// A processor as Cobbler's repositories have it.
pub(super) fn repo_arch(text: &str) -> Result<(), String> {
    match text {
        "" | "none" | "i386" | "x86_64" | "ia64" | "ppc" | "ppc64" | "ppc64le" | "ppc64el" | "s390" | "s390x"
        | "arm" | "armhfp" | "aarch64" | "noarch" | "src" => Ok(()),
        _ => Err(format!(
            "`{}` is no processor of a repository; write it like x86_64",
            cut(text)
        )),
    }
}

/// Suites and components: words of an apt line.
pub(super) fn apt_words(text: &str) -> Result<(), String> {
    for one in words(text, separates_items).map_err(|error| error.to_string())? {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/+-:~".contains(c);
        if !one.chars().all(plain) && text != Inherit::<()>::MARK {
            return Err(format!(
                "`{}` is no suite or component; write it like bookworm",
                cut(&one)
            ));
        }
    }
    Ok(())
}

/// Search domains.
pub(super) fn domains(text: &str) -> Result<(), String> {
    if text == Inherit::<()>::MARK {
        return Ok(());
    }
    for domain in words(text, separates_items).map_err(|error| error.to_string())? {
        Hostname::parse(&domain)?;
    }
    Ok(())
}

/// Names of loaders.
pub(super) fn loaders(text: &str) -> Result<(), String> {
    if text == Inherit::<()>::MARK {
        return Ok(());
    }
    for loader in words(text, separates_items).map_err(|error| error.to_string())? {
        if !matches!(loader.as_str(), "ipxe" | "grub" | "pxe") {
            return Err(format!("`{}` is no loader; write ipxe, grub or pxe", cut(&loader)));
        }
    }
    Ok(())
}

/// A kind of guest. Cobbler's other kinds are kept for those who read them; `guest create` says that it makes none of them.
pub(super) fn virt_type(text: &str) -> Result<(), String> {
    match text {
        "" | Inherit::<()>::MARK | "auto" | "kvm" | "qemu" | "xenpv" | "xenfv" | "vmware" | "vmwarew" | "openvz" => {
            Ok(())
        }
        _ => Err(format!(
            "`{}` is no kind of guest; write kvm, qemu, xenpv or xenfv",
            cut(text)
        )),
    }
}

/// Judges every number of `text`, or the wish to inherit.
fn numbers(text: &str, fits: impl Fn(u32) -> bool, expected: &str) -> Result<(), String> {
    if text == Inherit::<()>::MARK {
        return Ok(());
    }
    for word in words(text, separates_items).map_err(|error| error.to_string())? {
        if !word.parse().is_ok_and(&fits) {
            return Err(format!("`{}` is not {expected}", cut(&word)));
        }
    }
    Ok(())
}

/// Memory of a guest.
pub(super) fn memory(text: &str) -> Result<(), String> {
    numbers(
        text,
        |number| (32..=16_777_216).contains(&number),
        "a size of memory; write MiB, like 2048",
    )
}

/// Processors of a guest.
pub(super) fn cpus(text: &str) -> Result<(), String> {
    numbers(
        text,
        |number| (1..=1024).contains(&number),
        "a number of processors; write 1 to 1024",
    )
}

/// Sizes of a guest's disks.
pub(super) fn sizes(text: &str) -> Result<(), String> {
    numbers(
        text,
        |number| (1..=65_536).contains(&number),
        "a size of a disk; write GiB, like 20 or 20,100",
    )
}

/// The format of a guest's disks.
pub(super) fn disk_driver(text: &str) -> Result<(), String> {
    match text {
        "" | Inherit::<()>::MARK | "qcow2" | "raw" => Ok(()),
        _ => Err(format!("`{}` is no format of disks; write qcow2 or raw", cut(text))),
    }
}

/// The name of a network device of Linux: at most 15 bytes, without a slash or a blank (`dev_valid_name` in the kernel).
pub(super) fn device(text: &str) -> Result<(), String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    let fits = text.len() <= 15 && !text.contains(odd) && text != "." && text != "..";
    if fits || text == Inherit::<()>::MARK {
        Ok(())
    } else {
        Err(format!("`{}` is no name of a bridge; write it like br0", cut(text)))
    }
}

/// A contiguous netmask, as dotted quads.
pub(super) fn netmask(text: &str) -> Result<(), String> {
    let bad = || format!("`{}` is not a netmask; write it like 255.255.255.0", cut(text));
    if text.trim().is_empty() {
        return Ok(());
    }
    let mask: Ipv4Addr = text.trim().parse().map_err(|_| bad())?;
    ipnet::ip_mask_to_prefix(mask.into()).map(|_| ()).map_err(|_| bad())
}
