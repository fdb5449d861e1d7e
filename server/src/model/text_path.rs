//! Where a template or snippet stands below its folder. A `TextPath` leads nowhere else.

use super::name::{BadName, Name};
use std::fmt;
use std::str::FromStr;

/// Most parts: `per_system/network_config/web1` has three.
const PARTS: usize = 6;

/// The path of a template below `kickstarts/`, or of a snippet below `snippets/`: names joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPath(Vec<Name>);

impl TextPath {
    /// The folders on the way, then the file.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(Name::as_str)
    }
}

impl FromStr for TextPath {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let parts: Vec<Name> = text.split('/').map(str::parse).collect::<Result<_, _>>()?;
        if parts.len() > PARTS {
            return Err(BadName::Deep(parts.len()));
        }
        Ok(Self(parts))
    }
}

impl fmt::Display for TextPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in self.parts().enumerate() {
            let slash = if place == 0 { "" } else { "/" };
            write!(f, "{slash}{part}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_below() {
        for good in ["web.ks", "debian/preseed.cfg", "per_system/network_config/web1"] {
            assert_eq!(good.parse::<TextPath>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "/etc/shadow",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".hidden",
            "a/.b",
            "-rf",
            "a\\b",
            "a b",
            "a\0",
            "a/b/c/d/e/f/g",
        ] {
            assert!(bad.parse::<TextPath>().is_err(), "{bad:?}");
        }
    }
}
