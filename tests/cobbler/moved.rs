//! A tree of a thousand systems in a real Cobbler 3.3.10, and the same tree moved in here, from its files and from the live server: what
//! Cobbler's own engine makes of each system is what ours makes, or the migration said why not.

use super::migrate::tree;
use super::real::Real;
use crate::cli::Session;
use cordwainer::inventory::{Inventory, flatten, resolve_system};
use cordwainer::store::{Folder, InventoryDb};
use cordwainer::xmlrpc::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Systems of ours against what Cobbler's `get_blended_data`, which `dumpvars` prints, says of each: how many values were compared, and
/// what differs and was not announced in `report`.
fn compare(real: &Real, inventory: &Inventory, report: &str) -> (usize, Vec<String>) {
    let (mut compared, mut wrong) = (0, Vec::new());
    for system in inventory.systems() {
        let name = system.name.as_str();
        let blended = real.call("get_blended_data", &["".into(), name.into()]).unwrap();
        let blended = blended.members().unwrap();
        let resolved = resolve_system(inventory, name).unwrap();
        let ours: BTreeMap<String, String> = flatten(&resolved).into_iter().collect();
        let words = |line: &str| {
            let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        let interfaces = blended["interfaces"].members().unwrap();
        let own: Vec<&str> = system.interfaces.keys().map(|name| name.as_str()).collect();
        let theirs: Vec<&str> = interfaces.keys().map(String::as_str).collect();
        compared += 1;
        if own != theirs {
            wrong.push(format!("{name}: interfaces {theirs:?}, ours {own:?}"));
        }
        let mut variables = vec!["kernel_options".to_owned(), "kernel_options_post".to_owned()];
        variables.extend(
            [
                "hostname",
                "gateway",
                "name_servers",
                "virt_ram",
                "virt_cpus",
                "autoinstall",
            ]
            .map(str::to_owned),
        );
        for interface in &theirs {
            for field in [
                "mac_address",
                "ip_address",
                "netmask",
                "static",
                "dns_name",
                "if_gateway",
                "interface_type",
                "interface_master",
                "bonding_opts",
                "bridge_opts",
                "static_routes",
                "mtu",
                "management",
                "virt_bridge",
            ] {
                variables.push(format!("{field}_{interface}"));
            }
        }
        for variable in variables {
            let theirs = match &blended[&variable] {
                // A mode's number is kept as its name.
                Value::Text(text) if variable.starts_with("bonding_opts") => {
                    text.replace("mode=1", "mode=active-backup")
                }
                // Cobbler leaves this one unresolved.
                Value::Text(text) if text == "<<inherit>>" && variable.starts_with("virt_bridge_") => String::new(),
                Value::Text(text) => text.clone(),
                Value::Bool(flag) => flag.to_string(),
                Value::Int(number) => number.to_string(),
                Value::Array(items) => items.iter().filter_map(Value::text).collect::<Vec<_>>().join(" "),
                other => panic!("{variable}: {other:?}"),
            };
            compared += 1;
            let own = ours.get(&variable).cloned().unwrap_or_default();
            if words(&theirs) == words(&own) {
                continue;
            }
            // `static_eth0` was announced as `left out on eth0: static: ...`.
            let announced = variable.rsplit_once('_').is_some_and(|(field, interface)| {
                let said = format!("system {name}: left out on {interface}: {field}: ");
                report.contains(&said)
            });
            if !announced {
                wrong.push(format!("{name} {variable}: `{theirs}`, ours `{own}`"));
            }
        }
    }
    (compared, wrong)
}

fn inventory(session: &Session) -> Inventory {
    let folder = Folder::open(&session.path("state")).unwrap();
    InventoryDb::open(&folder).unwrap().load().unwrap().0
}

#[test]
#[ignore = "long: needs Cobbler 3.3.10, which only the long run installs"]
fn what_cobbler_makes_of_a_thousand_systems_we_make_of_them_moved_in() {
    let session = Session::new();
    let media = session.path("www");
    let lay = |folder: &Path| {
        let root = folder.join("var/lib/cobbler");
        tree(&root, &media);
        // Without fence-agents Cobbler throws a system away that has this.
        let powered = root.join("collections/systems/node0009.json");
        let text = std::fs::read_to_string(&powered).unwrap();
        assert!(text.contains("ipmilan"));
        std::fs::write(&powered, text.replace("ipmilan", "")).unwrap();
        // As it does with one whose image has no file; who moves in keeps it, which `cobbler::migrate` shows.
        std::fs::remove_file(root.join("collections/systems/onimage.json")).unwrap();
    };
    let Some(real) = Real::start(&session, 80, lay) else {
        return;
    };
    let of_files = real.state().display().to_string();
    let url = real.url();
    for from in [of_files, url] {
        let session = Session::new();
        let overrides = session.path("etc");
        session.write("session.toml", &format!("overrides = \"{}\"\n", overrides.display()));
        let report = session.run(&["migrate", "cobbler", "--from", &from]).succeeded().out;
        let inventory = inventory(&session);
        assert_eq!(
            (inventory.system_count(), inventory.arms().count()),
            (1000, 0),
            "{from}"
        );
        let (compared, wrong) = compare(&real, &inventory, &report);
        println!(
            "{from}: {compared} values compared; {}",
            report.lines().last().unwrap_or_default()
        );
        assert!(
            wrong.is_empty(),
            "{from}: {} differ:\n{}\n{:#?}",
            wrong.len(),
            wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n"),
            real.said().iter().rev().take(5).collect::<Vec<_>>()
        );
        assert!(compared > 20_000, "only {compared} values were compared");
    }
}
