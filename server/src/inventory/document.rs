//! Inventory documents in TOML: `[[distro]]`, `[[profile]]`, `[[system]]`, `[[repo]]` and `[[menu]]` with the same field names as
//! everywhere.
//!
//! Pure. `export` prints them, `apply` puts them. A document never arms a machine: who was enabled is only listed.

use super::value::flag;
use super::{Change, FieldValue, Inventory, Refused, Row, Shown, field_values, plan};
use crate::model::{Kind, Name, quoted};
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// A document, read. Its objects are whole: a field that it does not name has no own value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Distros, profiles, systems, in the order written.
    pub rows: Vec<Row>,
    /// Systems with `netboot_enabled = true`. `apply` names them and how to arm them; it never does.
    pub enabled: Vec<Name>,
}

/// A document that cannot be read.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{file}:{line}: {why}")]
pub struct BadDocument {
    /// As it was named to us.
    pub file: String,
    /// Counted from one.
    pub line: usize,
    /// What is wrong, what was expected.
    pub why: String,
}

/// Reads a document. `file` is only named in errors.
///
/// # Errors
/// [`BadDocument`] with the line of the table or key that is wrong.
pub fn parse(text: &str, file: &str) -> Result<Document, BadDocument> {
    let bad = |span: Range<usize>, why: String| BadDocument {
        file: file.to_owned(),
        line: line_of(text, span.start),
        why,
    };
    let root = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        bad(span, error.message().to_owned())
    })?;
    let mut document = Document::default();
    for (key, value) in root.get_ref() {
        let other = key.get_ref().as_ref();
        let Some(kind) = Kind::of(other) else {
            let has = "[[distro]], [[profile]], [[system]], [[repo]], [[menu]] and [[image]]";
            let why = format!("unknown table `{other}`; an inventory document has {has}");
            return Err(bad(key.span(), why));
        };
        let DeValue::Array(objects) = value.get_ref() else {
            return Err(bad(key.span(), format!("write [[{kind}]], one table per {kind}")));
        };
        for object in objects {
            let DeValue::Table(table) = object.get_ref() else {
                return Err(bad(object.span(), format!("write [[{kind}]], one table per {kind}")));
            };
            let read =
                read_object(kind, table).map_err(|(span, why)| bad(span.unwrap_or_else(|| object.span()), why))?;
            if read.enabled {
                document.enabled.push(read.row.name().clone());
            }
            document.rows.push(read.row);
        }
    }
    Ok(document)
}

/// Counted from one.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count().saturating_add(1)
}

struct Read {
    row: Row,
    enabled: bool,
}

/// Where in the text it went wrong, when that is narrower than the object, and why.
type Wrong = (Option<Range<usize>>, String);

fn read_object(kind: Kind, table: &DeTable<'_>) -> Result<Read, Wrong> {
    let mut name = None;
    let mut enabled = false;
    let mut fields = Vec::new();
    for (key, value) in table {
        let at = |why: String| (Some(key.span()), why);
        match (kind, key.get_ref().as_ref(), value.get_ref()) {
            (_, "name", DeValue::String(text)) => {
                name = Some(text.parse::<Name>().map_err(|error| at(error.to_string()))?);
            }
            (Kind::System, "netboot_enabled", value) => {
                enabled = flag(&scalar(value).map_err(at)?).map_err(at)?;
            }
            (Kind::System, "interfaces", DeValue::Table(interfaces)) => {
                for (interface, table) in interfaces {
                    let DeValue::Table(table) = table.get_ref() else {
                        return Err((
                            Some(interface.span()),
                            format!("write [system.interfaces.{}]", interface.get_ref()),
                        ));
                    };
                    fields.push((
                        "interface".to_owned(),
                        interface.get_ref().to_string(),
                        interface.span(),
                    ));
                    for (key, value) in table {
                        let text = scalar(value.get_ref()).map_err(|why| (Some(key.span()), why))?;
                        fields.push((key.get_ref().to_string(), text, key.span()));
                    }
                }
            }
            (_, field, value) => {
                let text = scalar(value).map_err(at)?;
                // Interface fields stand in their own tables, so a plain field never follows an `interface` by accident.
                fields.insert(0, (field.to_owned(), text, key.span()));
            }
        }
    }
    let name = name.ok_or_else(|| (None, format!("this {kind} has no name; write name = \"...\"")))?;
    // Each field is judged alone first, so that an error can name its line.
    for (field, _, span) in &fields {
        super::field(kind, field).map_err(|refused| (Some(span.clone()), refused.to_string()))?;
    }
    let assignments: Vec<(String, String)> = fields
        .iter()
        .map(|(field, text, _)| (field.clone(), text.clone()))
        .collect();
    let row = plan::new(kind, name, &assignments).map_err(|refused| {
        let span = match &refused {
            Refused::BadValue { field, .. } => fields
                .iter()
                .find(|(typed, ..)| super::field(kind, typed).is_ok_and(|doc| doc.name == field))
                .map(|(.., span)| span.clone()),
            _ => None,
        };
        (span, refused.to_string())
    })?;
    Ok(Read { row, enabled })
}

/// A TOML value as the text that sets a field.
fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Array(items) => {
            let words: Result<Vec<String>, String> = items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(word) => Ok(quoted(word, super::value::separates_items)),
                    other => Err(format!("a list holds texts, not a {}", other.type_str())),
                })
                .collect();
            Ok(words?.join(" "))
        }
        other => Err(format!(
            "a {} is no value of a field; write a text, a list of texts, true or false",
            other.type_str()
        )),
    }
}

/// The changes that put every object of `document`.
#[must_use]
pub fn changes(document: &Document, inventory: &Inventory) -> Vec<Change> {
    let put = |row: &Row| match row {
        // Whether a tree is a copy of ours is not the document's to say; what is known of the same folder holds.
        Row::Distro(distro) => {
            let mut distro = Arc::clone(distro);
            let known = inventory.distro(distro.name.as_str()).and_then(|old| old.tree.clone());
            if distro.tree.as_ref().map(|tree| &tree.root) == known.as_ref().map(|tree| &tree.root) {
                Arc::make_mut(&mut distro).tree = known;
            }
            Change::Put(Row::Distro(distro))
        }
        other => Change::Put(other.clone()),
    };
    document.rows.iter().map(put).collect()
}

/// Prints `rows` as a document that reads back to the same objects. Armings are left out.
#[must_use]
pub fn print<'a>(rows: impl IntoIterator<Item = &'a Row>) -> String {
    let mut text = String::new();
    for row in rows {
        let Some(kind) = row.kind() else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "[[{kind}]]");
        let mut interface = None;
        for FieldValue {
            field,
            interface: of,
            value,
        } in field_values(row)
        {
            if of != interface {
                if let Some(name) = &of {
                    let _ = writeln!(text, "\n[system.interfaces.{}]", key(name.as_str()));
                }
                interface = of;
            }
            let value = match value {
                Shown::Nothing | Shown::Inherit => continue,
                Shown::Text(text) => toml::Value::String(text).to_string(),
                Shown::Flag(flag) => flag.to_string(),
                Shown::List(items) => {
                    toml::Value::Array(items.into_iter().map(toml::Value::String).collect()).to_string()
                }
            };
            let _ = writeln!(text, "{field} = {value}");
        }
    }
    text
}

/// A key of a table, quoted where its letters need it.
fn key(name: &str) -> String {
    if name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    {
        name.to_owned()
    } else {
        toml::Value::String(name.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::edit_all;

    const TEXT: &str = r#"
[[system]]
name = "web1"
profile = "web"
hostname = "web1.lab.test"
netboot_enabled = true
autoinstall_meta = 'motd="a b" !tree'
name_servers = ["192.0.2.53", "192.0.2.54"]

[system.interfaces."eth0.7"]
mac_address = "52:54:00:00:00:01"
ip_address = "192.0.2.10"
static = true

[system.interfaces.idle]
static = false

[[profile]]
name = "web"
parent = "base"
proxy = ""

[[profile]]
name = "base"
distro = "rocky9"
enable_menu = false
boot_loaders = ["ipxe", "grub"]

[[distro]]
name = "rocky9"
arch = "x86_64"
breed = "redhat"
os_version = "rhel9"
kernel = "images/pxeboot/vmlinuz"
initrd = ["images/pxeboot/initrd.img", "extra, with \"blanks\".img"]
tree = "/srv/rocky9"
kernel_options = "console=tty0 console=ttyS0,115200 quiet"

[[image]]
name = "memtest"
image_type = "memdisk"
file = "/srv/memtest.img"
network_count = 2

[[system]]
name = "bench"
image = "memtest"
"#;

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let document = parse(TEXT, "doc.toml").unwrap();
        assert_eq!(document.rows.len(), 6);
        assert_eq!(document.enabled, ["web1".parse().unwrap()]);
        let printed = print(&document.rows);
        let again = parse(&printed, "printed.toml").unwrap();
        assert_eq!(again.rows, document.rows, "{printed}");
        assert!(again.enabled.is_empty());
        assert_eq!(print(&again.rows), printed);
    }

    #[test]
    fn a_family_of_no_name_is_the_one_that_a_distro_without_the_field_gets() {
        let distro = |breed: &str| {
            let text = format!("[[distro]]\nname = \"own\"\nkernel = \"/k\"\n{breed}");
            parse(&text, "doc.toml").unwrap().rows
        };
        let empty = distro("breed = \"\"");
        assert_eq!(empty, distro(""));
        assert_eq!(parse(&print(&empty), "printed.toml").unwrap().rows, empty);
    }

    #[test]
    fn it_is_applied_in_any_order_and_never_arms() {
        let mut inventory = Inventory::default();
        let document = parse(TEXT, "doc.toml").unwrap();
        for row in edit_all(&inventory, changes(&document, &inventory)).unwrap() {
            inventory.apply(row);
        }
        assert_eq!(inventory.system_count(), 2);
        assert_eq!(inventory.arms().count(), 0);
        let system = inventory.system("web1").unwrap();
        assert_eq!(system.interfaces.len(), 2);
        assert_eq!(inventory.distro("rocky9").unwrap().initrd.len(), 2);
    }

    #[test]
    fn a_tree_that_import_copied_stays_known_as_ours() {
        let mut inventory = Inventory::default();
        let document = parse(TEXT, "doc.toml").unwrap();
        let Some(Row::Distro(mut distro)) = document
            .rows
            .iter()
            .find(|row| row.kind() == Some(Kind::Distro))
            .cloned()
        else {
            panic!("no distro");
        };
        Arc::make_mut(&mut distro).tree.as_mut().unwrap().in_place = false;
        inventory.put(Row::Distro(distro));
        let put = changes(&document, &inventory);
        assert!(put.iter().any(
            |change| matches!(change, Change::Put(Row::Distro(distro)) if !distro.tree.as_ref().unwrap().in_place)
        ));
    }

    #[test]
    fn errors_name_file_line_and_remedy() {
        for (text, line, words) in [
            ("[[distro]]\nname = \"d\"\nkernle = \"k\"\n", 3, "did you mean `kernel`"),
            ("\n[[profil]]\nname = \"d\"\n", 2, "unknown table"),
            ("[[profile]]\nname = \"d\"\n", 1, "needs distro"),
            (
                "[[system]]\nname = \"s\"\nprofile = \"p\"\ngateway = \"300.1.1.1\"\n",
                4,
                "300.1.1.1",
            ),
            ("[[system]]\nname = \"s\"\nprofile = 1.5\n", 3, "float"),
            ("[[system]]\nprofile = \"p\"\n", 1, "has no name"),
            ("[[system]\n", 1, ""),
        ] {
            let bad = parse(text, "f.toml").unwrap_err();
            assert_eq!((bad.file.as_str(), bad.line), ("f.toml", line), "{text}: {bad}");
            assert!(bad.to_string().contains(words), "{bad}");
        }
    }
}
