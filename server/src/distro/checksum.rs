//! A publisher's checksums: which sums a CHECKSUM or SHA256SUMS file vouches for, and whether an image is among them.
//!
//! Pure. It never judges a sum that can be forged: MD5 and SHA-1 are refused by name. It does not check the publisher's signature on the
//! file; gpgv does.

use sha2::{Digest, Sha256, Sha512};
use std::fmt;

/// How a sum is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// 64 hexadecimal digits.
    Sha256,
    /// 128 hexadecimal digits.
    Sha512,
}

impl Algorithm {
    fn of(digits: usize) -> Option<Self> {
        match digits {
            64 => Some(Self::Sha256),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// One line of such a file: a sum and the file it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Lower-case hexadecimal digits.
    pub digits: String,
    /// The file's name as the publisher wrote it; none where the admin gave the sum alone.
    pub file: Option<String>,
}

/// The sums that a publisher vouches for: all of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksums {
    algorithm: Algorithm,
    sums: Vec<Sum>,
}

/// The text holds no sum that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChecksums {
    /// Only sums that can be forged.
    #[error(
        "it holds only MD5 or SHA-1 sums, which can be forged; give the publisher's SHA256SUMS, SHA512SUMS or CHECKSUM file"
    )]
    Weak,
    /// Nothing of the kind.
    #[error(
        "it holds no line `SUM  FILE` or `SHA256 (FILE) = SUM`; give the publisher's SHA256SUMS, SHA512SUMS or CHECKSUM file, or the sum itself"
    )]
    None,
}

/// What an image turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The publisher vouches for these bytes, under that name.
    Vouched(Option<String>),
    /// He does not. `expected` is what he says of a file of the image's name, when he knows one.
    Other {
        /// The sum of the image.
        found: String,
        /// The publisher's.
        expected: Option<String>,
    },
}

impl Checksums {
    /// Reads the text of a checksum file, as coreutils and BSD write it (signed or not), or a single sum. Lines of other kinds are skipped;
    /// where both SHA-256 and SHA-512 are there, the longer ones count.
    ///
    /// # Errors
    /// [`BadChecksums`].
    pub fn parse(text: &str) -> Result<Self, BadChecksums> {
        let mut sums: Vec<(Algorithm, Sum)> = Vec::new();
        let mut weak = false;
        for line in text.lines() {
            let Some((digits, file)) = sum_of(line.trim()) else {
                continue;
            };
            match Algorithm::of(digits.len()) {
                Some(algorithm) => {
                    let digits = digits.to_ascii_lowercase();
                    sums.push((algorithm, Sum { digits, file }));
                }
                None => weak |= matches!(digits.len(), 32 | 40),
            }
        }
        let Some(algorithm) = sums.iter().map(|(algorithm, _)| *algorithm).max() else {
            return Err(if weak { BadChecksums::Weak } else { BadChecksums::None });
        };
        let sums = sums.into_iter().filter(|(kind, _)| *kind == algorithm);
        Ok(Self {
            algorithm,
            sums: sums.map(|(_, sum)| sum).collect(),
        })
    }

    /// How the sums are made.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Starts the sum of an image.
    #[must_use]
    pub fn begin(&self) -> Summing {
        match self.algorithm {
            Algorithm::Sha256 => Summing::Sha256(Sha256::new()),
            Algorithm::Sha512 => Summing::Sha512(Box::new(Sha512::new())),
        }
    }

    /// Judges the image called `name`. Which of the publisher's files it is does not matter: an admin may have renamed it.
    #[must_use]
    pub fn judge(&self, summing: Summing, name: &str) -> Verdict {
        let found = summing.digits();
        if let Some(sum) = self.sums.iter().find(|sum| sum.digits == found) {
            return Verdict::Vouched(sum.file.clone());
        }
        let named = |sum: &&Sum| {
            sum.file
                .as_deref()
                .is_none_or(|file| file.rsplit('/').next() == Some(name))
        };
        let expected = self.sums.iter().find(named).map(|sum| sum.digits.clone());
        Verdict::Other { found, expected }
    }
}

/// A sum in the making.
#[derive(Debug, Clone)]
pub enum Summing {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Box<Sha512>),
}

impl Summing {
    /// Takes the next bytes.
    pub fn take(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Sha512(sum) => sum.update(bytes),
        }
    }

    fn digits(self) -> String {
        let bytes = match self {
            Self::Sha256(sum) => sum.finalize().to_vec(),
            Self::Sha512(sum) => sum.finalize().to_vec(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// `SUM  FILE`, `SUM *FILE`, `SHA256 (FILE) = SUM`, or a sum alone.
fn sum_of(line: &str) -> Option<(&str, Option<String>)> {
    let is_sum = |text: &str| text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some((file, digits)) = line.rsplit_once(") = ") {
        let (_, file) = file.split_once(" (")?;
        return is_sum(digits).then(|| (digits, Some(file.to_owned())));
    }
    let (digits, file) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let file = file.trim_start().trim_start_matches('*');
    is_sum(digits).then(|| (digits, (!file.is_empty()).then(|| file.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn judged(text: &str, bytes: &[u8], name: &str) -> Verdict {
        let sums = Checksums::parse(text).unwrap();
        let mut summing = sums.begin();
        summing.take(bytes);
        sums.judge(summing, name)
    }

    #[test]
    fn the_forms_that_publishers_write() {
        let upper = EMPTY.to_uppercase();
        for text in [
            format!("{EMPTY}  a.iso\n"),
            format!("{EMPTY} *a.iso\r\n"),
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.iso: 0 bytes\nSHA256 (a.iso) = {EMPTY}\n-----BEGIN PGP SIGNATURE-----\niQIz\n"
            ),
            format!("{upper}  a.iso\n{}  b.iso\n", "0".repeat(64)),
        ] {
            assert_eq!(
                judged(&text, b"", "renamed.iso"),
                Verdict::Vouched(Some("a.iso".into())),
                "{text}"
            );
        }
        assert_eq!(judged(EMPTY, b"", "x"), Verdict::Vouched(None));
        let long = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
        let both = format!("{}  a.iso\n{long}  a.iso\n", "1".repeat(64));
        assert_eq!(
            judged(&both, b"", "a.iso"),
            Verdict::Vouched(Some("a.iso".into())),
            "the longer one counts"
        );
    }

    #[test]
    fn another_image_is_told_with_both_sums() {
        let text = format!("{EMPTY}  pool/a.iso\n{}  b.iso\n", "0".repeat(64));
        let Verdict::Other { found, expected } = judged(&text, b"x", "a.iso") else {
            panic!("vouched for");
        };
        assert_eq!(
            found,
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
        );
        assert_eq!(expected.as_deref(), Some(EMPTY));
        let unknown = judged(&text, b"x", "c.iso");
        assert!(matches!(unknown, Verdict::Other { expected: None, .. }), "{unknown:?}");
    }

    #[test]
    fn forgeable_sums_and_other_texts_are_refused() {
        let md5 = "d41d8cd98f00b204e9800998ecf8427e  a.iso\n";
        assert_eq!(Checksums::parse(md5), Err(BadChecksums::Weak));
        for text in ["", "<html>404</html>", "a.iso", &"g".repeat(64)] {
            assert_eq!(Checksums::parse(text), Err(BadChecksums::None), "{text}");
        }
    }
}
