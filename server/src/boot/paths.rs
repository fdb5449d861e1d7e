//! Every URL path and TFTP name that Cordwainer hands out, made and read in one place. HTTP and TFTP share the parser.
//!
//! It never touches a file: a path is only turned into an [`Ask`].

use super::{Ask, CobblerAsk, CobblerPage, Dialect};
pub use crate::model::{looks_like_token, redact_text};

use crate::model::{Mac, Name};

/// Longest path that is looked at, in bytes.
pub const LONGEST: usize = 1024;

/// A path as understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The machine that the path names, because we handed that path to it.
    pub mac: Option<Mac>,
    /// What is asked for.
    pub ask: Ask,
}

/// `http://ADDRESS[:PORT]`, the port left out when it is 80 (GRUB and koan compare URLs as text).
#[must_use]
pub fn base_url(local: std::net::Ipv4Addr, port: u16) -> String {
    if port == 80 {
        format!("http://{local}")
    } else {
        format!("http://{local}:{port}")
    }
}

/// Path of the boot script of `mac`, without a leading slash: fit for a URL and for TFTP.
#[must_use]
pub fn script(mac: Mac, dialect: Dialect) -> String {
    let file = match dialect {
        Dialect::Ipxe => "ipxe",
        Dialect::Grub => "grub.cfg",
        Dialect::Pxelinux => "pxelinux",
    };
    format!("b/{}/{file}", mac.dashed())
}

/// Path of a loader.
#[must_use]
pub fn loader(name: &str) -> String {
    format!("l/{name}")
}

/// Path of a file in a distro's tree; the empty path is the tree itself.
#[must_use]
pub fn tree(distro: &Name, path: &str) -> String {
    if path.is_empty() {
        format!("d/{distro}")
    } else {
        format!("d/{distro}/{}", encode(path))
    }
}

/// Path of the file of an image: Cobbler's, by HTTP and by TFTP.
#[must_use]
pub fn image_file(image: &Name) -> String {
    format!("images2/{image}")
}

/// Path of the folder of one installation's files.
#[must_use]
pub fn answers(token: &crate::install::Token) -> String {
    format!("i/{}", token.reveal())
}

/// Path below which one installation reports.
#[must_use]
pub fn report(token: &crate::install::Token) -> String {
    format!("r/{}", token.reveal())
}

/// Percent-encodes what a URL path cannot carry as it is (RFC 3986 section 3.3).
pub(super) fn encode(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/+:@!$&'()*,;=".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// A path with empty and `.` parts dropped; `None` when it climbs (`..`), holds a control character, or is too long. A `\` is part of a
/// name, as files of live images have it (`dev-disk\x2dby.mount`).
#[must_use]
pub fn normal(path: &str) -> Option<String> {
    if path.len() > LONGEST || path.chars().any(char::is_control) {
        return None;
    }
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        None
    } else {
        Some(parts.join("/"))
    }
}

/// Reads a name that a TFTP client asked for, in which `\` stands for `/` (PXELINUX of old, Windows' boot manager). Total: what no rule
/// knows is [`Ask::Unknown`].
#[must_use]
pub fn parse(path: &str) -> Parsed {
    parse_with(&path.replace('\\', "/"), None)
}

/// Reads a path of a URL, already percent-decoded, with the `detail` of a report, which travels beside the path. Total.
#[must_use]
pub fn parse_with(path: &str, detail: Option<String>) -> Parsed {
    let nobody = |ask| Parsed { mac: None, ask };
    let page = |page| nobody(Ask::Cobbler(CobblerAsk::Page(page)));
    let Some(clean) = normal(path) else {
        return nobody(Ask::Unknown(shown(path)));
    };
    let parts: Vec<&str> = clean.split('/').collect();
    match parts.as_slice() {
        ["b", "ipxe"] | ["autoexec.ipxe"] => nobody(Ask::Script(Dialect::Ipxe)),
        ["b", mac, file] => match (mac.parse::<Mac>(), dialect(file)) {
            (Ok(mac), Some(dialect)) => Parsed {
                mac: Some(mac),
                ask: Ask::Script(dialect),
            },
            _ => nobody(Ask::Unknown(clean)),
        },
        ["pxelinux.cfg", file] => pxelinux(file),
        [.., "grub.cfg"] if parts.len() <= 4 && parts.first() != Some(&"d") => nobody(Ask::Script(Dialect::Grub)),
        [.., file] if parts.first() != Some(&"d") && file.starts_with("grub.cfg-") => grub(file),
        ["l", name] => nobody(Ask::Loader((*name).to_owned())),
        ["d", distro, rest @ ..] => match distro.parse() {
            Ok(distro) => nobody(Ask::TreeFile {
                distro,
                path: rest.join("/"),
            }),
            Err(_) => nobody(Ask::Unknown(clean)),
        },
        ["cblr", "svc"] | ["cblr", "svc", "op"] => page(CobblerPage::Index),
        ["cblr" | "cobbler", "pub", rest @ ..] => page(CobblerPage::Public { path: rest.join("/") }),
        ["cblr" | "cobbler", "repo_mirror", repo, rest @ ..] => page(CobblerPage::RepoMirror {
            repo: (*repo).to_owned(),
            path: rest.join("/"),
        }),
        ["cblr" | "cobbler", "distro_mirror", "config", file] if file.ends_with(".repo") => {
            page(CobblerPage::DistroRepo {
                file: (*file).to_owned(),
            })
        }
        ["cblr", "svc", "op", op, rest @ ..] => {
            cobbler(op, rest).unwrap_or_else(|| nobody(Ask::Unknown(clean.clone())))
        }
        ["cblr" | "cobbler", "links" | "distro_mirror", distro, rest @ ..] => match distro.parse() {
            Ok(distro) => nobody(Ask::TreeFile {
                distro,
                path: rest.join("/"),
            }),
            Err(_) => nobody(Ask::Unknown(clean)),
        },
        ["httpboot", .., name] => nobody(Ask::Loader((*name).to_owned())),
        ["cobbler", "images", distro, file] | ["images", distro, file] => match distro.parse() {
            Ok(distro) => nobody(Ask::TreeFile {
                distro,
                path: format!("{IMAGE}{file}"),
            }),
            Err(_) => nobody(Ask::Unknown(clean)),
        },
        ["images2", image] => match image.parse() {
            Ok(image) => nobody(Ask::ImageFile(image)),
            Err(_) => nobody(Ask::Unknown(clean)),
        },
        ["cobbler", "debian", distro, "dists", _, "main", _, rest @ ..] => match distro.parse() {
            Ok(distro) => nobody(Ask::Cobbler(CobblerAsk::DebianTree {
                distro,
                path: rest.join("/"),
            })),
            Err(_) => nobody(Ask::Unknown(clean)),
        },
        ["i", token, rest @ ..] if !rest.is_empty() => nobody(Ask::AnswerFile {
            token: (*token).to_owned(),
            file: rest.join("/"),
        }),
        ["r", token, stage] => nobody(Ask::Report {
            token: (*token).to_owned(),
            stage: (*stage).to_owned(),
            detail,
        }),
        [name] if !name.is_empty() => nobody(Ask::Loader((*name).to_owned())),
        _ => nobody(Ask::Unknown(clean)),
    }
}

/// How a script of an installation is asked for among its answer files: no file that a client names by itself holds a slash.
pub(super) const SCRIPT: &str = "-/script/";
/// How a file is asked for that a template makes on the installed system, by its mangled path.
pub(super) const TEMPLATE: &str = "-/template/";
/// What the loader of ESXi reads.
pub(super) const BOOT_CONFIG: &str = "boot.cfg";

/// A path on the installed system as Cobbler puts it into a URL: one part, `/` as `_` and `_` as `__`.
#[must_use]
pub fn mangled(path: &str) -> String {
    path.replace('_', "__").replace('/', "_")
}

/// How the kernel or an initrd of a distro is asked for by its bare name.
pub(super) const IMAGE: &str = "-/image/";

/// Path of the kernel or an initrd of a distro, as koan asks for it.
#[must_use]
pub fn image(distro: &Name, file: &str) -> String {
    format!("cobbler/images/{distro}/{}", encode(file))
}

/// Path of what stands in for a Debian mirror of this distro. virt-install takes the processor and the release from it.
#[must_use]
pub fn debian_tree(distro: &Name, codename: &str, arch: &str) -> String {
    format!("cobbler/debian/{distro}/dists/{codename}/main/installer-{arch}")
}

/// Path of an answer file as koan names it; `token` opens that of a system.
#[must_use]
pub fn cobbler_answer(system: Option<(&Name, &crate::install::Token)>, profile: &Name) -> String {
    match system {
        Some((name, token)) => format!("cblr/svc/op/autoinstall/system/{name}/token/{}", token.reveal()),
        None => format!("cblr/svc/op/autoinstall/profile/{profile}"),
    }
}

/// Cobbler's service: an operation, then keys and values in turn. A file may follow an answer's.
fn cobbler(op: &str, rest: &[&str]) -> Option<Parsed> {
    let pairs: Vec<(&str, &str)> = rest
        .chunks_exact(2)
        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
        .collect();
    let get = |key: &str| {
        let found = pairs.iter().find(|(name, _)| *name == key);
        found.map(|(_, value)| (*value).to_owned())
    };
    let odd = (rest.len() % 2 == 1)
        .then(|| rest.last().map(|file| (*file).to_owned()))
        .flatten();
    let target = || match (get("system"), get("profile")) {
        (Some(name), _) => Some((true, name)),
        (None, Some(name)) => Some((false, name)),
        (None, None) => None,
    };
    let ask = match op {
        "ks" | "autoinstall" => {
            let (system, name) = target()?;
            CobblerAsk::Answer {
                system,
                name,
                token: get("token"),
                file: odd,
            }
        }
        "bootcfg" => {
            let (system, name) = target()?;
            CobblerAsk::Answer {
                system,
                name,
                token: get("token"),
                file: Some(BOOT_CONFIG.to_owned()),
            }
        }
        "script" | "template" => {
            let (system, name) = target()?;
            let (prefix, key) = if op == "script" {
                (SCRIPT, "script")
            } else {
                (TEMPLATE, "path")
            };
            CobblerAsk::Answer {
                system,
                name,
                token: get("token"),
                file: Some(format!("{prefix}{}", get(key)?)),
            }
        }
        "autodetect" | "find_autoinstall" | "findks" => CobblerAsk::Autodetect,
        "ipxe" | "gpxe" => match get("mac") {
            Some(mac) => {
                return Some(Parsed {
                    mac: Some(mac.parse().ok()?),
                    ask: Ask::Script(Dialect::Ipxe),
                });
            }
            None => CobblerAsk::Ipxe {
                system: get("system"),
                image: get("image"),
            },
        },
        "nopxe" => CobblerAsk::Nopxe {
            system: get("system")?,
            token: get("token"),
        },
        "trig" => CobblerAsk::Trigger {
            mode: get("mode")?,
            system: get("system"),
            token: get("token"),
        },
        "list" => CobblerAsk::List(get("what").unwrap_or_else(|| "systems".to_owned())),
        "index" => CobblerAsk::Page(CobblerPage::Index),
        "settings" => CobblerAsk::Page(CobblerPage::Settings),
        "events" => CobblerAsk::Page(CobblerPage::Events),
        "debug" => CobblerAsk::Page(CobblerPage::Debug),
        "puppet" => CobblerAsk::Page(CobblerPage::Puppet {
            hostname: get("hostname"),
        }),
        "yum" => {
            let (system, name) = target()?;
            CobblerAsk::Yum { system, name }
        }
        _ => return None,
    };
    Some(Parsed {
        mac: None,
        ask: Ask::Cobbler(ask),
    })
}

fn dialect(file: &str) -> Option<Dialect> {
    match file {
        "ipxe" => Some(Dialect::Ipxe),
        "grub.cfg" => Some(Dialect::Grub),
        "pxelinux" => Some(Dialect::Pxelinux),
        _ => None,
    }
}

/// PXELINUX asks `01-<mac>`, then `<HEXIP>` cut shorter and shorter, then `default`. A UUID comes first and is answered like
/// an unknown name, at once, so that the loader goes on to the next; so is an address that was cut, for it is a whole network's. A whole
/// one comes from who has no MAC to tell: Xen's pypxeboot, which asks from its host for the guest that it got a lease for.
fn pxelinux(file: &str) -> Parsed {
    let script = Ask::Script(Dialect::Pxelinux);
    if let Some(mac) = file.strip_prefix("01-").and_then(|mac| mac.parse::<Mac>().ok()) {
        return Parsed {
            mac: Some(mac),
            ask: script,
        };
    }
    if file == "default" {
        return Parsed { mac: None, ask: script };
    }
    let address = (file.len() == 8)
        .then(|| u32::from_str_radix(file, 16).ok())
        .flatten()
        .filter(|_| !file.starts_with('+'));
    if let Some(address) = address {
        return Parsed {
            mac: None,
            ask: Ask::ScriptAt(Dialect::Pxelinux, address.into()),
        };
    }
    Parsed {
        mac: None,
        ask: Ask::Unknown(format!("pxelinux.cfg/{file}")),
    }
}

/// GRUB's own search: `grub.cfg-01-<mac>`, then `grub.cfg-<HEXIP>`, then `grub.cfg`.
fn grub(file: &str) -> Parsed {
    let mac = file
        .strip_prefix("grub.cfg-01-")
        .and_then(|mac| mac.parse::<Mac>().ok());
    match mac {
        Some(mac) => Parsed {
            mac: Some(mac),
            ask: Ask::Script(Dialect::Grub),
        },
        None => Parsed {
            mac: None,
            ask: Ask::Unknown(file.to_owned()),
        },
    }
}

/// A client's text as it may stand in a log: escaped, without tokens, at most 255 characters.
#[must_use]
pub fn shown(text: &str) -> String {
    redact_text(text)
        .chars()
        .flat_map(char::escape_default)
        .take(255)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac::new([0x52, 0x54, 0, 0x7c, 0x1d, 0x4f]);

    #[test]
    fn what_is_made_is_read_back() {
        for dialect in [Dialect::Ipxe, Dialect::Grub, Dialect::Pxelinux] {
            assert_eq!(
                parse(&script(MAC, dialect)),
                Parsed {
                    mac: Some(MAC),
                    ask: Ask::Script(dialect)
                }
            );
        }
        assert_eq!(parse(&loader("snponly.efi")).ask, Ask::Loader("snponly.efi".into()));
        let distro: Name = "debian12".parse().unwrap();
        assert_eq!(parse(&image_file(&distro)).ask, Ask::ImageFile(distro.clone()));
        assert_eq!(
            parse(&tree(&distro, "images/linux")).ask,
            Ask::TreeFile {
                distro: distro.clone(),
                path: "images/linux".into()
            }
        );
        assert_eq!(
            parse(&tree(&distro, "")).ask,
            Ask::TreeFile {
                distro,
                path: String::new()
            }
        );
    }

    #[test]
    fn loaders_ask_in_their_own_spelling() {
        for (path, mac, dialect) in [
            ("pxelinux.cfg/01-52-54-00-7c-1d-4f", Some(MAC), Dialect::Pxelinux),
            ("/pxelinux.cfg/default", None, Dialect::Pxelinux),
            ("grub/grub.cfg", None, Dialect::Grub),
            ("debian-installer/amd64/grub/grub.cfg", None, Dialect::Grub),
            ("/grub/grub.cfg-01-52-54-00-7c-1d-4f", Some(MAC), Dialect::Grub),
            ("//b//52-54-00-7c-1d-4f//ipxe", Some(MAC), Dialect::Ipxe),
        ] {
            assert_eq!(
                parse(path),
                Parsed {
                    mac,
                    ask: Ask::Script(dialect)
                },
                "{path}"
            );
        }
        assert_eq!(parse("\\snponly.efi").ask, Ask::Loader("snponly.efi".into()));
        let at = Ask::ScriptAt(Dialect::Pxelinux, "192.168.77.10".parse().unwrap());
        assert_eq!(parse("pxelinux.cfg/C0A84D0A").ask, at);
        for cut in ["C0A84D0", "C0A84", "C", "+0A84D0A", "C0A84D0A0"] {
            assert!(
                matches!(parse(&format!("pxelinux.cfg/{cut}")).ask, Ask::Unknown(_)),
                "{cut}"
            );
        }
    }

    #[test]
    fn nothing_climbs() {
        for path in [
            "../etc/passwd",
            "d/x/../../etc/passwd",
            "d/x/..\\..\\y",
            "a\0b",
            "l/a\nb",
        ] {
            assert!(matches!(parse(path).ask, Ask::Unknown(_)), "{path:?}");
        }
        assert!(matches!(parse(&"a/".repeat(2000)).ask, Ask::Unknown(_)));
    }
}
