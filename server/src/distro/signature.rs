//! A signature: how one family of distros is recognised, and how its installer is started. One TOML file of `distros/` each.
//!
//! Pure. It holds rules that read name, version and architecture out of a tree's own metadata, never a list of releases, so a new
//! release needs no new file.

use super::pattern::{Pattern, Values};
use crate::model::{Name, check_version_rule, version_numbers};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Longest `os_version` that a tree is given, in characters: far above any release's.
const LONGEST_VERSION: usize = 64;

/// A family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Its name: the file's, without `.toml`.
    pub name: Name,
    /// As Cobbler names it: `redhat`, `debian`, ...
    pub breed: String,
    /// 1: installed in our tests or held to the same standard; 2: should work; 3: boots, the rest is the admin's.
    pub tier: u8,
    /// Name of the answer file in its URL.
    pub answer_file: String,
    /// Further files that the installer asks for beside it: (name in its URL, template below `kickstarts/`).
    pub answer_files: Vec<(String, String)>,
    /// The installer reboots in mid-install.
    pub reboots_midway: bool,
    /// The newest version that these rules were written for.
    pub newest: Option<String>,
    /// Form of `os_version`; `{major}` is the first number, `{version}` all, `{codename}` the name.
    pub os_version: Pattern,
    /// Versions by codename, for trees that tell only the name.
    pub codenames: BTreeMap<String, String>,
    /// How it is recognised, in order.
    pub detect: Vec<Rule>,
    /// Kernel arguments per version rule, with what follows each initrd.
    pub boot: Vec<(String, String, Vec<String>)>,
    /// Answer-file template per version rule.
    pub autoinstall: Vec<(String, String)>,
    /// Smallest memory in MiB per version rule.
    pub min_ram_mib: Vec<(String, u32)>,
    /// Stages seen in requests: pattern below the tree, stage word.
    pub stages: Vec<(String, String)>,
}

/// How the marker file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Not at all: it is enough that it is there.
    #[default]
    Presence,
    /// Sections and keys; values are named `section.key`.
    Ini,
    /// `Key: value` lines, as Debian's `Release`.
    Fields,
    /// Lines that patterns are tried on.
    Text,
}

/// One way to recognise a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What was found, for people: `.treeinfo`.
    pub what: String,
    /// Paths of the marker; the first that is there counts.
    pub file: Vec<Pattern>,
    /// Further paths that must be there.
    pub also: Vec<Pattern>,
    /// How the marker is read.
    pub format: Format,
    /// Per value the keys that may hold it, first that does.
    pub values: BTreeMap<String, Vec<Pattern>>,
    /// Patterns for lines; a number is the only line that it is tried on.
    pub text: Vec<(Option<usize>, Pattern)>,
    /// Values that this rule supplies itself.
    pub set: Values,
    /// Keys that must have one of these values: `platform.name`.
    pub need: BTreeMap<String, Vec<Pattern>>,
    /// What the distro may be called; empty: anything.
    pub names: Vec<Pattern>,
    /// Where kernel and initrd may be, in order.
    pub media: Vec<MediaRule>,
    /// Any of these means that the tree holds packages too.
    pub packages: Vec<Pattern>,
    /// What to say when it holds none.
    pub without_packages: Option<Pattern>,
    /// What a mirror must hold, any of it, where the tree holds no packages; empty: it is not asked.
    pub mirror_holds: Vec<Pattern>,
    /// The mirror where the admin names none; none: he must.
    pub mirror: Option<Pattern>,
    /// Why a tree without kernel and initrd at those places is refused; none: the rule just does not fit.
    pub without_media: Option<Pattern>,
    /// Why what this rule finds is refused.
    pub refuse: Option<Pattern>,
    /// What to do about a refusal.
    pub remedy: Option<Pattern>,
    /// Said when this rule fits.
    pub warn: Option<Pattern>,
    /// Template variables that the distro gets.
    pub meta: BTreeMap<String, Pattern>,
    /// And those that it gets when the tree holds packages.
    pub meta_with_packages: BTreeMap<String, Pattern>,
    /// And those that it gets when it holds none.
    pub meta_without_packages: BTreeMap<String, Pattern>,
    /// Tried only after every other rule of every family.
    pub fallback: bool,
}

/// Where kernel and initrds are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaRule {
    /// At these paths.
    Paths {
        /// The kernel.
        kernel: Pattern,
        /// The initrds in loading order.
        initrd: Vec<Pattern>,
    },
    /// Where the marker's keys say.
    Keys {
        /// Key that holds the kernel's path.
        kernel: Pattern,
        /// Key that holds the initrd's.
        initrd: Pattern,
    },
}

/// A signature file that cannot be used.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("signature {file}: {why}")]
pub struct BadSignature {
    /// The file.
    pub file: String,
    /// What is wrong in it, where, and what was expected.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    breed: String,
    tier: u8,
    answer_file: String,
    #[serde(default)]
    answer_files: Vec<WireAnswerFile>,
    #[serde(default)]
    reboots_midway: bool,
    newest: Option<String>,
    os_version: String,
    #[serde(default)]
    codenames: BTreeMap<String, String>,
    detect: Vec<WireRule>,
    boot: Vec<WireBoot>,
    #[serde(default)]
    autoinstall: Vec<WireAutoinstall>,
    #[serde(default)]
    min_ram_mib: Vec<WireRam>,
    #[serde(default)]
    stages: Vec<WireStage>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRule {
    what: String,
    file: Vec<String>,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    values: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    text: Vec<String>,
    #[serde(default)]
    set: Values,
    #[serde(default)]
    need: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    media: Vec<WireMedia>,
    #[serde(default)]
    packages: Vec<String>,
    without_packages: Option<String>,
    #[serde(default)]
    mirror_holds: Vec<String>,
    mirror: Option<String>,
    without_media: Option<String>,
    refuse: Option<String>,
    remedy: Option<String>,
    warn: Option<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    meta_with_packages: BTreeMap<String, String>,
    #[serde(default)]
    meta_without_packages: BTreeMap<String, String>,
    #[serde(default)]
    fallback: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireMedia {
    kernel: Option<String>,
    #[serde(default)]
    initrd: Vec<String>,
    kernel_key: Option<String>,
    initrd_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireBoot {
    when: String,
    args: String,
    #[serde(default)]
    initrd_args: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireAutoinstall {
    when: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireAnswerFile {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireRam {
    when: String,
    mib: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStage {
    path: String,
    stage: String,
}

/// The placeholders that kernel arguments may hold; `boot` fills them. `iso` and `rootfs` are URLs of what the installer loads whole, from
/// the variable of that name: a path below the tree, or a URL. `repository` is where packages come from, the tree where no variable of that name
/// says otherwise; `stage2` is the tree where one does, and a word with it is left out where none does. Those that begin with `net_` stand alone as a word, and for as many as the
/// machine's network needs (`boot::LANGUAGES`).
pub const PLACEHOLDERS: [&str; 20] = [
    "answer_url",
    "report_url",
    "tree",
    "repository",
    "stage2",
    "iso",
    "rootfs",
    "modloop",
    "base_url",
    "hostname",
    "domain",
    "mac",
    "bootif",
    "dns",
    "arch",
    "version",
    "net_dracut",
    "net_initramfs",
    "net_netcfg",
    "net_linuxrc",
];

impl Signature {
    /// Reads the signature file `file` (`redhat.toml`, or a path that ends so).
    ///
    /// # Errors
    /// [`BadSignature`]: what is wrong, with its line where TOML tells it.
    pub fn parse(file: &str, text: &str) -> Result<Self, BadSignature> {
        let bad = |why: String| BadSignature {
            file: file.to_owned(),
            why,
        };
        let base = file.rsplit('/').next().unwrap_or(file);
        let name = base.strip_suffix(".toml").unwrap_or(base);
        let name: Name = name.parse().map_err(|error| bad(format!("{error}")))?;
        let wire: Wire = toml::from_str(text).map_err(|error| bad(told(text, &error)))?;
        wire.into_signature(name).map_err(bad)
    }

    /// `os_version` for a version, or for a codename where the version has no number.
    #[must_use]
    pub fn os_version(&self, values: &Values) -> String {
        let version = values.get("version").map_or("", String::as_str);
        let codename = values.get("codename").map_or("", String::as_str);
        let told = match version_numbers(version).first() {
            Some(major) => {
                let mut values = values.clone();
                values.insert("major".to_owned(), major.to_string());
                self.os_version.write(&values).unwrap_or_else(|| major.to_string())
            }
            None => codename.to_owned(),
        };
        // The tree says what it likes; a word of the inventory, which stands in paths and kernel arguments too, is this.
        let kept = |c: &char| c.is_ascii_alphanumeric() || "._+-~".contains(*c);
        let word: String = told.chars().filter(kept).take(LONGEST_VERSION).collect();
        if word.is_empty() { "unknown".to_owned() } else { word }
    }
}

/// A TOML error with its line; the parser's own display spans several lines.
fn told(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count().saturating_add(1)
    });
    let message = error.message().replace('\n', " ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}

fn patterns(texts: Vec<String>) -> Result<Vec<Pattern>, String> {
    texts.iter().map(|text| Pattern::parse(text)).collect()
}

fn optional(text: Option<String>) -> Result<Option<Pattern>, String> {
    text.map(|text| Pattern::parse(&text)).transpose()
}

fn named(table: BTreeMap<String, String>) -> Result<BTreeMap<String, Pattern>, String> {
    table
        .into_iter()
        .map(|(key, text)| Ok((key, Pattern::parse(&text)?)))
        .collect()
}

fn keyed(table: BTreeMap<String, Vec<String>>) -> Result<BTreeMap<String, Vec<Pattern>>, String> {
    table
        .into_iter()
        .map(|(key, texts)| Ok((key, patterns(texts)?)))
        .collect()
}

/// A path that a rule or a tree names: below the root, and nowhere else.
pub(super) fn clean(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let well = !parts.is_empty() && !parts.contains(&"..") && !path.chars().any(char::is_control);
    (well && path.len() <= 512).then(|| parts.join("/"))
}

fn placeholders(args: &str) -> Result<(), String> {
    if args.chars().any(char::is_control) {
        return Err("boot args are one line".to_owned());
    }
    for part in args.split('{').skip(1) {
        let name = part.split('}').next().unwrap_or("");
        if !part.contains('}') || !PLACEHOLDERS.contains(&name) {
            return Err(format!(
                "`{{{name}}}` in boot args: the placeholders are {}",
                PLACEHOLDERS.join(", ")
            ));
        }
    }
    Ok(())
}

impl Wire {
    fn into_signature(self, name: Name) -> Result<Signature, String> {
        if !(1..=3).contains(&self.tier) {
            return Err(format!("tier is 1, 2 or 3, not {}", self.tier));
        }
        if self.detect.is_empty() || self.boot.is_empty() {
            return Err("it needs at least one [[detect]] and one [[boot]]".to_owned());
        }
        if self.answer_file.parse::<Name>().is_err() {
            return Err(format!("answer_file `{}` is no file name", self.answer_file));
        }
        let rules = self.boot.iter().map(|boot| &boot.when);
        let rules = rules.chain(self.autoinstall.iter().map(|entry| &entry.when));
        for when in rules.chain(self.min_ram_mib.iter().map(|entry| &entry.when)) {
            check_version_rule(when)?;
        }
        for boot in &self.boot {
            placeholders(&boot.args)?;
            boot.initrd_args.iter().try_for_each(|args| placeholders(args))?;
        }
        if let Some(bad) = self.answer_files.iter().find(|file| file.name.parse::<Name>().is_err()) {
            return Err(format!("answer_files: `{}` is no file name", bad.name));
        }
        let templates = self.autoinstall.iter().map(|entry| &entry.template);
        for template in templates.chain(self.answer_files.iter().map(|file| &file.template)) {
            if clean(template).as_deref() != Some(template.as_str()) {
                return Err(format!("template `{template}` is no path below kickstarts/"));
            }
        }
        Ok(Signature {
            name,
            breed: self.breed,
            tier: self.tier,
            answer_file: self.answer_file,
            answer_files: self
                .answer_files
                .into_iter()
                .map(|file| (file.name, file.template))
                .collect(),
            reboots_midway: self.reboots_midway,
            newest: self.newest,
            os_version: Pattern::parse(&self.os_version)?,
            codenames: self.codenames,
            detect: self
                .detect
                .into_iter()
                .map(|rule| {
                    let what = rule.what.clone();
                    rule.into_rule().map_err(|why| format!("[[detect]] `{what}`: {why}"))
                })
                .collect::<Result<_, _>>()?,
            boot: self
                .boot
                .into_iter()
                .map(|boot| (boot.when, boot.args, boot.initrd_args))
                .collect(),
            autoinstall: self.autoinstall.into_iter().map(|a| (a.when, a.template)).collect(),
            min_ram_mib: self.min_ram_mib.into_iter().map(|ram| (ram.when, ram.mib)).collect(),
            stages: self.stages.into_iter().map(|stage| (stage.path, stage.stage)).collect(),
        })
    }
}

impl WireRule {
    fn into_rule(self) -> Result<Rule, String> {
        if self.file.is_empty() {
            return Err("file names no marker".to_owned());
        }
        if self.media.is_empty() && self.refuse.is_none() {
            return Err("it needs media (kernel and initrd), or refuse with a reason".to_owned());
        }
        if !self.mirror_holds.is_empty() && self.without_packages.is_none() {
            return Err("mirror_holds needs without_packages, which says why a mirror is asked".to_owned());
        }
        let text = self
            .text
            .iter()
            .map(|text| {
                let numbered = text.split_once(": ").and_then(|(number, rest)| {
                    let number: usize = number.parse().ok()?;
                    Some((Some(number), rest))
                });
                let (number, rest) = numbered.unwrap_or((None, text));
                Ok((number, Pattern::parse(rest)?))
            })
            .collect::<Result<_, String>>()?;
        Ok(Rule {
            what: self.what,
            file: patterns(self.file)?,
            also: patterns(self.also)?,
            format: self.format,
            values: keyed(self.values)?,
            text,
            set: self.set,
            need: keyed(self.need)?,
            names: patterns(self.names)?,
            media: self
                .media
                .into_iter()
                .map(WireMedia::into_media)
                .collect::<Result<_, _>>()?,
            packages: patterns(self.packages)?,
            without_packages: optional(self.without_packages)?,
            mirror_holds: patterns(self.mirror_holds)?,
            mirror: optional(self.mirror)?,
            without_media: optional(self.without_media)?,
            refuse: optional(self.refuse)?,
            remedy: optional(self.remedy)?,
            warn: optional(self.warn)?,
            meta: named(self.meta)?,
            meta_with_packages: named(self.meta_with_packages)?,
            meta_without_packages: named(self.meta_without_packages)?,
            fallback: self.fallback,
        })
    }
}

impl WireMedia {
    fn into_media(self) -> Result<MediaRule, String> {
        match (self.kernel, self.kernel_key, self.initrd_key) {
            (Some(kernel), None, None) => Ok(MediaRule::Paths {
                kernel: Pattern::parse(&kernel)?,
                initrd: patterns(self.initrd)?,
            }),
            (None, Some(kernel), Some(initrd)) if self.initrd.is_empty() => Ok(MediaRule::Keys {
                kernel: Pattern::parse(&kernel)?,
                initrd: Pattern::parse(&initrd)?,
            }),
            _ => Err("media has kernel and initrd (paths), or kernel_key and initrd_key".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "breed = 'x'\ntier = 2\nanswer_file = 'a'\nos_version = 'x{major}'\n\
        [[boot]]\nwhen = '*'\nargs = 'a={answer_url}/a'\n\
        [[detect]]\nwhat = 'x'\nfile = ['x']\nmedia = [{ kernel = 'k', initrd = ['i'] }]\n";

    fn why(text: &str) -> String {
        Signature::parse("/etc/x.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn the_least_file_is_enough() {
        let signature = Signature::parse("/etc/x.toml", LEAST).unwrap();
        assert_eq!(signature.name.as_str(), "x");
        let values = |version: &str| [("version".to_owned(), version.to_owned())].into();
        assert_eq!(signature.os_version(&values("9.4")), "x9");
        assert_eq!(signature.os_version(&values("")), "unknown");
    }

    #[test]
    fn a_tree_cannot_put_anything_but_a_word_into_its_os_version() {
        let text = LEAST.replace("x{major}", "x{version}");
        let signature = Signature::parse("/etc/x.toml", &text).unwrap();
        for (name, told, wanted) in [
            ("version", "9.4", "x9.4"),
            ("version", "9/../../etc", "x9....etc"),
            ("version", "9\n; x \u{1b}[2J", "x9x2J"),
            ("version", "\u{fffd}\u{fffd}3,1", "x31"),
            ("codename", "boo/../k\tworm", "boo..kworm"),
            ("codename", "\u{fffd}/ ", "unknown"),
        ] {
            let values = [(name.to_owned(), told.to_owned())].into();
            assert_eq!(signature.os_version(&values), wanted, "{told:?}");
        }
        let long = [("version".to_owned(), "7".repeat(128))].into();
        assert!(signature.os_version(&long).len() <= LONGEST_VERSION);
    }

    #[test]
    fn every_mistake_is_named() {
        for (from, to, said) in [
            ("tier = 2", "tier = 9", "tier is 1, 2 or 3"),
            ("tier = 2", "teir = 2", "line 2: unknown field `teir`"),
            ("when = '*'", "when = '9'", "`9` is not a version rule"),
            (
                "{answer_url}",
                "{answer}",
                "`{answer}` in boot args: the placeholders are answer_url",
            ),
            ("{answer_url}", "{answer_url", "in boot args"),
            ("file = ['x']", "file = []", "[[detect]] `x`: file names no marker"),
            ("kernel = 'k'", "kernel_key = 'k'", "kernel_key and initrd_key"),
            (
                "file = ['x']",
                "file = ['x']\nmirror_holds = ['y']",
                "mirror_holds needs without_packages",
            ),
            ("kernel = 'k'", "kernel = 'k{'", "write {name} where a value stands"),
            ("media = [{ kernel = 'k', initrd = ['i'] }]", "", "it needs media"),
            ("answer_file = 'a'", "answer_file = '../a'", "is no file name"),
            (
                "tier = 2",
                "tier = 2\nanswer_files = [{ name = 'a/b', template = 'c' }]",
                "`a/b` is no file name",
            ),
            (
                "tier = 2",
                "tier = 2\nanswer_files = [{ name = 'b', template = '../c' }]",
                "`../c` is no path below kickstarts/",
            ),
        ] {
            assert!(LEAST.contains(from), "{from}");
            let error = why(&LEAST.replace(from, to));
            assert!(error.starts_with("signature /etc/x.toml: "), "{error}");
            assert!(error.contains(said), "{to}: {error}");
        }
    }

    #[test]
    fn paths_of_a_tree_stay_in_it() {
        assert_eq!(
            clean("images//pxeboot/./vmlinuz").as_deref(),
            Some("images/pxeboot/vmlinuz")
        );
        for bad in ["", "/", "../etc/shadow", "a/../../b", "a\nb"] {
            assert_eq!(clean(bad), None, "{bad:?}");
        }
    }
}
