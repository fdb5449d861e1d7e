//! Recognises a distro by its own metadata.
//!
//! Pure: it asks a [`Source`] for file names and the heads of small files, and never for more.

use super::ini::Ini;
use super::pattern::{Pattern, Values};
use super::signature::{Format, MediaRule, Rule, Signature, clean};
use super::summary::{Summary, remedy, summary};
use crate::model::{Arch, Name, version_numbers};
use std::fmt;

/// One entry of a folder of a [`Source`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// True for a folder.
    pub is_folder: bool,
}

/// What a path of a [`Source`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing is there.
    Missing,
    /// A file that can be read, with its size in bytes.
    File(u64),
    /// A folder.
    Folder,
    /// Something that may not be read: the sentence says what and why.
    Unreadable(String),
}

/// Where a tree is looked at: a folder, later an ISO. Paths are relative to its root, `/`-separated, `` for the root.
pub trait Source {
    /// At most `max` bytes from the start of the file `path`; none when there is no such file or it cannot be read.
    fn read(&self, path: &str, max: usize) -> Option<Vec<u8>>;
    /// The entries of the folder `path`, by name; none when there is no such folder or it cannot be read.
    fn list(&self, path: &str) -> Option<Vec<Entry>>;
    /// What `path` is.
    fn look(&self, path: &str) -> Look;
}

/// Most bytes of a marker that are read: openSUSE's `.treeinfo` with all its checksums is below 64 KiB.
const HEAD: usize = 1 << 20;

/// What the admin said beforehand; it beats what is found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Only families of this breed.
    pub breed: Option<String>,
    /// The architecture, where a tree holds several.
    pub arch: Option<Arch>,
    /// The version, where a tree holds several or tells none: `12`, `bookworm`, `rhel9`.
    pub os_version: Option<String>,
}

/// A file of a tree with its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Path below the root.
    pub path: String,
    /// Bytes; none when it may not be read.
    pub size: Option<u64>,
}

/// A mirror that must have what a medium holds not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorNeed {
    /// Paths below the mirror; one of them must be there.
    pub holds: Vec<String>,
    /// The mirror that is meant where the admin names none.
    pub usual: Option<String>,
}

/// What a tree was recognised as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The family.
    pub signature: Name,
    /// Cobbler's word for it.
    pub breed: String,
    /// What it calls itself: `Rocky Linux`.
    pub name: String,
    /// Its version as it says: `9.4`; empty when it tells none.
    pub version: String,
    /// Form of the inventory: `rhel9`, `12`.
    pub os_version: String,
    /// Processor.
    pub arch: Arch,
    /// By what it was recognised: `.treeinfo`.
    pub by: String,
    /// How far it was tried: 1, 2 or 3.
    pub tier: u8,
    /// The kernel.
    pub kernel: Found,
    /// The initrds in loading order.
    pub initrd: Vec<Found>,
    /// What the admin should know.
    pub warnings: Vec<String>,
    /// Set when the tree holds no packages: the sentence that says what the installer needs instead.
    pub no_packages: Option<String>,
    /// And the mirror that must answer then, or nobody could install from the tree.
    pub mirror: Option<MirrorNeed>,
    /// Template variables for the distro.
    pub meta: Vec<(String, String)>,
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.version.is_empty() {
            "of unknown version"
        } else {
            &self.version
        };
        write!(f, "{} {version} {} ({})", self.name, self.arch, self.by)
    }
}

/// Why a tree was not recognised, or is refused.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum Unfit {
    /// No rule fits.
    #[error(
        "not recognised as a distro\n  looked for  {} ({families} families)\n  found       {found}\n  remedy      {}",
        .looked_for.join(", "), remedy(.found)
    )]
    NotRecognised {
        /// Markers that were looked for.
        looked_for: Vec<String>,
        /// How many families have rules.
        families: usize,
        /// What is there instead.
        found: Box<Summary>,
    },
    /// It is known what it is, and that it does not do.
    #[error("{why}\n  remedy      {remedy}")]
    Refused {
        /// What it is and why it does not do.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// It holds several, and which one is meant was not said.
    #[error("the tree holds {}\n  remedy      choose with --arch or --os-version", .0.join(", "))]
    Several(Vec<String>),
}

/// Recognises `source` by `signatures`, tried in their order; a rule marked as fallback comes after all others.
///
/// # Errors
/// [`Unfit`], with what was looked for and the remedy.
pub fn detect(source: &dyn Source, signatures: &[Signature], wishes: &Wishes) -> Result<Detected, Unfit> {
    let asked = |signature: &&Signature| wishes.breed.as_ref().is_none_or(|breed| *breed == signature.breed);
    let mut miss: Option<Miss> = None;
    for fallback in [false, true] {
        for signature in signatures.iter().filter(asked) {
            for rule in signature.detect.iter().filter(|rule| rule.fallback == fallback) {
                match judge(source, rule) {
                    Verdict::No => {}
                    Verdict::Miss(other) => {
                        if miss.as_ref().is_none_or(|miss| other.certain && !miss.certain) {
                            miss = Some(other);
                        }
                    }
                    Verdict::Fits(candidates) => return choose(source, signature, rule, candidates, wishes),
                }
            }
        }
        if let Some(miss) = miss {
            return Err(Unfit::Refused {
                why: miss.why,
                remedy: miss.remedy,
            });
        }
    }
    let mut looked_for: Vec<String> = Vec::new();
    for file in signatures
        .iter()
        .flat_map(|signature| &signature.detect)
        .flat_map(|rule| &rule.file)
    {
        if !looked_for.iter().any(|seen| seen == file.as_str()) {
            looked_for.push(file.as_str().to_owned());
        }
    }
    Err(Unfit::NotRecognised {
        looked_for,
        families: signatures.len(),
        found: Box::new(summary(source)),
    })
}

struct Miss {
    why: String,
    remedy: String,
    /// A rule that exists to refuse, rather than one that nearly fitted.
    certain: bool,
}

struct Candidate {
    values: Values,
    kernel: String,
    initrd: Vec<String>,
}

enum Verdict {
    No,
    Miss(Miss),
    Fits(Vec<Candidate>),
}

fn judge(source: &dyn Source, rule: &Rule) -> Verdict {
    let mut verdict = Verdict::No;
    for file in &rule.file {
        let mut fits = Vec::new();
        for (marker, _) in file.find(source, &Values::new()) {
            let Some((values, ini)) = read_marker(source, rule, &marker) else {
                continue;
            };
            if let Some(why) = &rule.refuse {
                return Verdict::Miss(Miss {
                    why: say(why, &values),
                    remedy: rule
                        .remedy
                        .as_ref()
                        .map_or_else(String::new, |remedy| say(remedy, &values)),
                    certain: true,
                });
            }
            let mut named = None;
            let found = candidates(source, rule, &values, &ini, &mut named);
            if found.is_empty() && matches!(verdict, Verdict::No) {
                verdict = near(rule, &values, named);
            }
            fits.extend(found);
        }
        if !fits.is_empty() {
            return Verdict::Fits(fits);
        }
    }
    verdict
}

/// The rule fits but for its kernel and initrd.
fn near(rule: &Rule, values: &Values, named: Option<String>) -> Verdict {
    let Some(without) = &rule.without_media else {
        return Verdict::No;
    };
    let remedy = rule
        .remedy
        .as_ref()
        .map_or_else(String::new, |remedy| say(remedy, values));
    let miss = match named {
        Some(path) => Miss {
            why: format!(
                "its {} names {path}, which is not there: the tree is not complete",
                rule.what
            ),
            remedy: "copy or download the tree again, whole".to_owned(),
            certain: false,
        },
        None => Miss {
            why: say(without, values),
            remedy,
            certain: false,
        },
    };
    Verdict::Miss(miss)
}

/// `pattern` with what is known; a value that is not known stays as its name, in capitals.
fn say(pattern: &Pattern, values: &Values) -> String {
    let mut text = pattern.as_str().to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    let mut said = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            c if inside => said.extend(c.to_uppercase()),
            c => said.push(c),
        }
    }
    said
}

/// The values that the marker and the rule give, when the rule's conditions hold.
fn read_marker(source: &dyn Source, rule: &Rule, marker: &str) -> Option<(Values, Ini)> {
    let mut values = rule.set.clone();
    let dir = marker
        .rsplit_once('/')
        .map_or(String::new(), |(dir, _)| format!("{dir}/"));
    values.insert("dir".to_owned(), dir);
    values.insert("what".to_owned(), rule.what.clone());
    let mut ini = Ini::default();
    if rule.format != Format::Presence {
        let bytes = source.read(marker, HEAD)?;
        let text = String::from_utf8_lossy(&bytes);
        match rule.format {
            Format::Text => read_lines(rule, &text, &mut values)?,
            Format::Fields => ini = fields(&text),
            Format::Ini | Format::Presence => ini = Ini::parse(&text),
        }
    }
    if let Some(codename) = values.get_mut("codename") {
        // `Bookworm` on a disc is the folder `bookworm`.
        codename.make_ascii_lowercase();
    }
    for (name, keys) in &rule.values {
        let value = keys.iter().find_map(|key| ini.at(&dotted(key, &values)?));
        if let Some(value) = value {
            values.insert(
                name.clone(),
                if name == "modules" {
                    whole_line(value)
                } else {
                    one_line(value)
                },
            );
        }
    }
    for (key, allowed) in &rule.need {
        let value = ini.at(key)?;
        allowed
            .iter()
            .find(|pattern| pattern.read(value, &Values::new()).is_some())?;
    }
    if !rule.names.is_empty() {
        let name = values.get("name")?;
        rule.names
            .iter()
            .find(|pattern| pattern.read(name, &Values::new()).is_some())?;
    }
    for also in &rule.also {
        let (_, read) = also.find(source, &Values::new()).into_iter().next()?;
        for (name, value) in read {
            values.entry(name).or_insert_with(|| one_line(&value));
        }
    }
    Some((values, ini))
}

/// The key a pattern stands for; fields have no section, so they are read as one.
fn dotted(key: &Pattern, values: &Values) -> Option<String> {
    let key = key.write(values)?;
    Some(if key.contains('.') {
        key
    } else {
        format!("fields.{key}")
    })
}

/// What the tree says of itself goes to terminals and logs: one line, no control characters, not for ever.
fn one_line(value: &str) -> String {
    let line = value.lines().next().unwrap_or("");
    line.chars().filter(|c| !c.is_control()).take(128).collect()
}

/// A list of files, which no terminal is shown.
fn whole_line(value: &str) -> String {
    let line = value.lines().next().unwrap_or("");
    line.chars().filter(|c| !c.is_control()).take(3600).collect()
}

/// `Key: value` lines, down to the first line of a list (Debian's checksums).
fn fields(text: &str) -> Ini {
    let head: Vec<&str> = text
        .lines()
        .take_while(|line| !line.starts_with("MD5Sum:") && !line.starts_with("SHA"))
        .collect();
    Ini::parse(&format!("[fields]\n{}", head.join("\n")))
}

/// Every numbered pattern must fit its line, and of the others one some line.
fn read_lines(rule: &Rule, text: &str, values: &mut Values) -> Option<()> {
    let lines: Vec<String> = text.lines().take(64).map(one_line).collect();
    let mut loose = None;
    for (number, pattern) in &rule.text {
        if let Some(number) = number {
            let line = lines.get(number.checked_sub(1)?)?;
            *values = pattern.read(line.trim(), values)?;
        } else {
            let read = || lines.iter().find_map(|line| pattern.read(line.trim(), values));
            if matches!(loose, None | Some(None)) {
                loose = Some(read());
            }
        }
    }
    match loose {
        Some(None) => None,
        Some(Some(read)) => {
            *values = read;
            Some(())
        }
        None => Some(()),
    }
}

/// Every kernel with its initrds that the rule's places hold. `named` gets a path that the tree names and does not hold.
fn candidates(
    source: &dyn Source,
    rule: &Rule,
    values: &Values,
    ini: &Ini,
    named: &mut Option<String>,
) -> Vec<Candidate> {
    let is_file = |path: &str| matches!(source.look(path), Look::File(_) | Look::Unreadable(_));
    let mut found: Vec<Candidate> = Vec::new();
    for media in &rule.media {
        match media {
            MediaRule::Keys { kernel, initrd } => {
                let path = |key: &Pattern| key.write(values).and_then(|key| ini.at(&key)).and_then(clean);
                let (Some(kernel), Some(initrd)) = (path(kernel), path(initrd)) else {
                    continue;
                };
                let missing = [&kernel, &initrd].into_iter().find(|path| !is_file(path)).cloned();
                match missing {
                    Some(missing) => *named = Some(missing),
                    None => found.push(Candidate {
                        values: values.clone(),
                        kernel,
                        initrd: vec![initrd],
                    }),
                }
            }
            MediaRule::Paths { kernel, initrd } => {
                for (kernel, values) in kernel.find(source, values) {
                    let initrd: Option<Vec<String>> = initrd
                        .iter()
                        .map(|pattern| pattern.find(source, &values).into_iter().next().map(|(path, _)| path))
                        .collect();
                    match initrd {
                        Some(initrd) if is_file(&kernel) && initrd.iter().all(|path| is_file(path)) => {
                            found.push(Candidate { values, kernel, initrd });
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// One of several candidates, by what the admin said.
fn choose(
    source: &dyn Source,
    signature: &Signature,
    rule: &Rule,
    candidates: Vec<Candidate>,
    wishes: &Wishes,
) -> Result<Detected, Unfit> {
    let mut all: Vec<Detected> = Vec::new();
    let mut strange = None;
    // A version that the admin says chooses among several; only what is chosen may be told its version by it.
    let without_version = Wishes {
        os_version: None,
        ..wishes.clone()
    };
    for candidate in &candidates {
        match detected(source, signature, rule, candidate, &without_version) {
            // Debian's `stable` is a link to `bookworm`: the same distro by another path.
            Ok(one) if all.iter().any(|seen| same(seen, &one)) => {}
            Ok(one) => all.push(one),
            Err(unfit) => strange = Some(unfit),
        }
    }
    let shown = |all: &[Detected]| -> Vec<String> {
        all.iter()
            .map(|one| {
                let version = if one.version.is_empty() {
                    &one.os_version
                } else {
                    &one.version
                };
                format!("{} {version} {}", one.name, one.arch)
            })
            .collect()
    };
    let before = shown(&all);
    if let Some(arch) = wishes.arch {
        all.retain(|one| one.arch == arch);
        if all.is_empty() && !before.is_empty() {
            return Err(Unfit::Refused {
                why: format!("--arch says {arch}, and the tree holds {}", before.join(", ")),
                remedy: "leave --arch out, or give another tree".to_owned(),
            });
        }
    }
    if let (Some(wish), true) = (&wishes.os_version, all.len() > 1) {
        all.retain(|one| fits_wish(one, wish));
        if all.is_empty() {
            return Err(Unfit::Refused {
                why: format!("--os-version says {wish}, and the tree holds {}", before.join(", ")),
                remedy: "name one of these".to_owned(),
            });
        }
    }
    let several = shown(&all);
    let mut all = all.into_iter();
    match (all.next(), all.next(), strange) {
        (Some(one), None, _) => match candidates.iter().find(|candidate| candidate.kernel == one.kernel.path) {
            Some(candidate) if wishes.os_version.is_some() => detected(source, signature, rule, candidate, wishes),
            _ => Ok(one),
        },
        (Some(_), Some(_), _) => Err(Unfit::Several(several)),
        (None, _, Some(unfit)) => Err(unfit),
        (None, _, None) => Err(Unfit::Several(several)),
    }
}

fn same(a: &Detected, b: &Detected) -> bool {
    a.version == b.version && a.arch == b.arch && a.os_version == b.os_version
}

fn fits_wish(one: &Detected, wish: &str) -> bool {
    let wanted = version_numbers(wish);
    let named = one.meta.iter().any(|(_, value)| value == wish);
    named || one.os_version == wish || (!wanted.is_empty() && version_numbers(&one.version).starts_with(&wanted))
}

fn detected(
    source: &dyn Source,
    signature: &Signature,
    rule: &Rule,
    candidate: &Candidate,
    wishes: &Wishes,
) -> Result<Detected, Unfit> {
    let mut values = candidate.values.clone();
    let mut warnings: Vec<String> = rule.warn.iter().map(|warn| say(warn, &values)).collect();
    let name = values
        .get("name")
        .cloned()
        .unwrap_or_else(|| signature.name.to_string());
    if let Some(version) = values
        .get("codename")
        .filter(|_| {
            values
                .get("version")
                .is_none_or(|version| version_numbers(version).is_empty())
        })
        .and_then(|codename| signature.codenames.get(codename))
    {
        values.insert("version".to_owned(), version.clone());
    }
    let spelled = values.get("arch").cloned();
    let arch = spelled.as_deref().map(str::parse::<Arch>);
    let arch = match (arch, wishes.arch) {
        (Some(Ok(arch)), _) | (None, Some(arch)) => arch,
        (Some(Err(bad)), _) => {
            return Err(Unfit::Refused {
                why: format!("{name} is for another processor: {bad}"),
                remedy: "import the tree of one of these".to_owned(),
            });
        }
        (None, None) => {
            return Err(Unfit::Refused {
                why: format!("{} does not tell the processor that {name} is for", rule.what),
                remedy: "say it: --arch x86_64".to_owned(),
            });
        }
    };
    if arch == Arch::S390x {
        warnings
            .push("s390x machines do not PXE boot: use the kernel and initrd through LPAR, z/VM or QEMU".to_owned());
    }
    let told = values.get("version").cloned().unwrap_or_default();
    let version = match (&wishes.os_version, told.is_empty()) {
        (Some(wish), true) => {
            let number = signature.codenames.get(wish).cloned();
            number.unwrap_or_else(|| wish.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned())
        }
        _ => told,
    };
    values.insert("version".to_owned(), version.clone());
    let numbers = version_numbers(&version);
    if numbers.is_empty() {
        warnings.push(format!(
            "{name} tells no version number: the newest rules are used; say it with --os-version"
        ));
    } else if let Some(newest) = signature.newest.as_ref().filter(|newest| {
        let newest = version_numbers(newest);
        let cut: Vec<u64> = numbers.iter().copied().take(newest.len()).collect();
        cut > newest
    }) {
        warnings.push(format!(
            "{name} {version} is newer than signature {} knows (up to {newest}): the newest rules are used",
            signature.name
        ));
    }
    let no_packages = rule
        .without_packages
        .as_ref()
        .filter(|_| !rule.packages.iter().any(|path| !path.find(source, &values).is_empty()))
        .map(|without| say(without, &values));
    let mirror = no_packages
        .as_ref()
        .filter(|_| !rule.mirror_holds.is_empty())
        .map(|_| MirrorNeed {
            holds: rule
                .mirror_holds
                .iter()
                .filter_map(|path| path.write(&values))
                .collect(),
            usual: rule.mirror.as_ref().and_then(|mirror| mirror.write(&values)),
        });
    let more = if rule.packages.is_empty() || no_packages.is_some() {
        &rule.meta_without_packages
    } else {
        &rule.meta_with_packages
    };
    let meta = rule.meta.iter().chain(more).filter_map(|(key, value)| {
        let value = value.write(&values).filter(|value| !value.is_empty())?;
        Some((key.clone(), value))
    });
    let found = |path: String| Found {
        size: match source.look(&path) {
            Look::File(size) => Some(size),
            _ => None,
        },
        path,
    };
    Ok(Detected {
        signature: signature.name.clone(),
        breed: signature.breed.clone(),
        os_version: wishes
            .os_version
            .clone()
            .filter(|wish| !signature.codenames.contains_key(wish))
            .unwrap_or_else(|| signature.os_version(&values)),
        name,
        version,
        arch,
        by: rule.what.clone(),
        tier: signature.tier,
        kernel: found(candidate.kernel.clone()),
        initrd: candidate.initrd.iter().cloned().map(found).collect(),
        warnings,
        no_packages,
        mirror,
        meta: meta.collect(),
    })
}
