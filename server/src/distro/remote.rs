//! Which URLs an import may fetch from, and which addresses it may connect to.
//!
//! Pure. An admin pastes URLs, and servers answer with further ones: none of them may make this machine talk to itself, to its link or to
//! the service that hands out a cloud machine's credentials, unless the admin says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::{Host, Url};

/// Redirects that are followed.
pub const REDIRECTS: usize = 5;
/// Longest URL, in bytes.
const LONGEST: usize = 2048;

/// Why a URL is not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// No URL at all.
    #[error("it is no URL ({0})\n  remedy      write http://HOST/PATH or https://HOST/PATH")]
    Malformed(String),
    /// `file:`, `ftp:`, ...
    #[error(
        "`{0}:` is not fetched, http and https are\n  remedy      give a path for a file of this machine, or an http(s) URL"
    )]
    Scheme(String),
    /// A password would end in logs and in the process list.
    #[error(
        "it holds a user name or a password, which everybody on this machine could see\n  remedy      leave it out"
    )]
    Credentials,
    /// Its host is this machine, its link, or nobody.
    #[error("{host} is {what}, which an import does not ask\n  remedy      say --allow-local-address if that is meant")]
    Local {
        /// The host, as written.
        host: String,
        /// What its address is.
        what: &'static str,
    },
    /// What came by https goes on without.
    #[error(
        "it goes on without https, where anybody on the way can change it\n  remedy      give its publisher's --checksum with it, or the http URL itself"
    )]
    Downgraded,
}

/// True where `text` is meant as a URL rather than as a path.
#[must_use]
pub fn is_url(text: &str) -> bool {
    text.split_once(":/").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Judges what an admin, or a redirect, gave. A host that is a name is judged again by its addresses.
///
/// # Errors
/// [`BadUrl`].
pub fn judge(text: &str, allow_local: bool) -> Result<Url, BadUrl> {
    if text.len() > LONGEST {
        return Err(BadUrl::Malformed(format!("more than {LONGEST} bytes")));
    }
    let url = Url::parse(text).map_err(|error| BadUrl::Malformed(error.to_string()))?;
    allowed(url, allow_local)
}

/// Judges where `from` redirects to. `vouched`: the publisher's checksum makes the way that it comes by harmless.
///
/// # Errors
/// [`BadUrl`].
pub fn redirected(from: &Url, location: &str, allow_local: bool, vouched: bool) -> Result<Url, BadUrl> {
    if location.len() > LONGEST {
        return Err(BadUrl::Malformed(format!("more than {LONGEST} bytes")));
    }
    let url = from
        .join(location)
        .map_err(|error| BadUrl::Malformed(error.to_string()))?;
    let url = allowed(url, allow_local)?;
    if from.scheme() == "https" && url.scheme() == "http" && !vouched {
        return Err(BadUrl::Downgraded);
    }
    Ok(url)
}

fn allowed(url: Url, allow_local: bool) -> Result<Url, BadUrl> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BadUrl::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(BadUrl::Credentials);
    }
    let what = match url.host() {
        None => return Err(BadUrl::Malformed("no host".to_owned())),
        Some(Host::Ipv4(address)) => local(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => local(IpAddr::V6(address)),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            (name == "localhost" || name.ends_with(".localhost")).then_some("this machine")
        }
    };
    match what.filter(|_| !allow_local) {
        Some(what) => Err(BadUrl::Local {
            host: url.host_str().unwrap_or_default().to_owned(),
            what,
        }),
        None => Ok(url),
    }
}

/// Services that hand out a cloud machine's credentials, beyond link-local addresses.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254)),
];

/// What `address` is, if an import does not connect to it. Private networks are where mirrors of a site are, so they are none of these.
#[must_use]
pub fn local(address: IpAddr) -> Option<&'static str> {
    if METADATA.contains(&address) {
        return Some("the metadata service of a cloud");
    }
    match address {
        IpAddr::V4(four) => {
            if four.is_loopback() {
                Some("this machine")
            } else if four.octets().first() == Some(&0) {
                Some("no address")
            } else if four.is_link_local() {
                Some("an address of the link, where clouds keep their metadata service")
            } else if four.is_multicast() || four.is_broadcast() {
                Some("an address of many")
            } else {
                None
            }
        }
        IpAddr::V6(six) => {
            if let Some(four) = within(six) {
                return local(IpAddr::V4(four));
            }
            if six.is_loopback() {
                Some("this machine")
            } else if six.is_unspecified() {
                Some("no address")
            } else if six.is_unicast_link_local() {
                Some("an address of the link")
            } else if six.is_multicast() {
                Some("an address of many")
            } else {
                None
            }
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn within(six: Ipv6Addr) -> Option<Ipv4Addr> {
    let four = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    match six.segments() {
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => Some(four(high, low)),
        [0x2002, high, low, ..] => Some(four(high, low)),
        _ => None,
    }
}

/// `bytes FIRST-LAST/ALL` of a partial answer: its first byte, and the whole length (RFC 9110 section 14.4).
#[must_use]
pub fn content_range(value: &str) -> Option<(u64, u64)> {
    let (range, all) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, all) = (first.parse().ok()?, last.parse::<u64>().ok()?, all.parse().ok()?);
    (first <= last && last < all).then_some((first, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_no_urls() {
        for text in [
            "http://a/b",
            "https://a",
            "file:///etc/passwd",
            "file:/etc",
            "ftp://a",
            "x-y.z+1://a",
        ] {
            assert!(is_url(text), "{text}");
        }
        for text in [
            "/srv/a.iso",
            "a.iso",
            "./a:/b",
            "dir/http://x",
            "1http://a",
            "://a",
            "C:\\x",
        ] {
            assert!(!is_url(text), "{text}");
        }
    }

    #[test]
    fn every_way_to_say_this_machine_is_refused() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "2130706433",
            "0x7f.1",
            "017700000001",
            "localhost",
            "LOCALHOST.",
            "x.localhost",
            "0.0.0.0",
            "0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "100.100.100.200",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "[ff02::1]",
            "%31%32%37.0.0.1",
        ] {
            let url = format!("http://{host}/x.iso");
            let error = judge(&url, false).unwrap_err();
            assert!(matches!(error, BadUrl::Local { .. }), "{host}: {error}");
            assert!(judge(&url, true).is_ok(), "{host}");
        }
        for host in [
            "192.168.1.1",
            "10.0.0.1",
            "172.16.0.1",
            "mirror.example",
            "[fd00::1]",
            "[2001:db8::1]",
            "8.8.8.8",
        ] {
            assert!(judge(&format!("http://{host}/x.iso"), false).is_ok(), "{host}");
        }
    }

    #[test]
    fn schemes_passwords_and_redirects() {
        for url in [
            "file:///etc/passwd",
            "ftp://a/b",
            "gopher://a/",
            "data:/x",
            "unix:/run/x",
        ] {
            assert!(matches!(judge(url, true), Err(BadUrl::Scheme(_))), "{url}");
        }
        for url in [
            "http://",
            "http://[",
            "http://a b/",
            &format!("http://a/{}", "x".repeat(3000)),
        ] {
            assert!(matches!(judge(url, true), Err(BadUrl::Malformed(_))), "{url}");
        }
        assert_eq!(judge("http://me:pw@a/", true), Err(BadUrl::Credentials));
        let from = judge("https://a.example/iso/x.iso", false).unwrap();
        assert_eq!(
            redirected(&from, "../y.iso", false, false).unwrap().as_str(),
            "https://a.example/y.iso"
        );
        assert!(matches!(
            redirected(&from, "//127.0.0.1/", false, true),
            Err(BadUrl::Local { .. })
        ));
        assert!(matches!(
            redirected(&from, "file:///etc/passwd", true, true),
            Err(BadUrl::Scheme(_))
        ));
        assert_eq!(
            redirected(&from, "http://b.example/", false, false),
            Err(BadUrl::Downgraded)
        );
        assert!(redirected(&from, "http://b.example/", false, true).is_ok());
    }

    #[test]
    fn a_range_tells_where_it_begins() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for text in [
            "bytes 5-10/10",
            "bytes 9-5/10",
            "bytes */10",
            "bytes 5-9/*",
            "chars 5-9/10",
            "",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }
}
