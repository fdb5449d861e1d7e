//! What a hypervisor has: processor, KVM, pools, networks.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use super::{DriverError, Hypervisor};
use crate::guest::element::Element;
use crate::guest::plan::{Forward, Host, Network, Pool};
use crate::model::Arch;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

impl Hypervisor {
    /// What it has. `kvm` is what libvirt advertises; whether it runs guests, only a guest tells.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn facts(&self) -> Result<Host, DriverError> {
        let xml = self
            .connect
            .capabilities()
            .map_err(|error| self.error("tell what it can do", &error))?;
        let root = Element::parse(&xml).map_err(|bad| self.strange("itself", bad))?;
        let arch = root
            .first("host")
            .and_then(|host| host.first("cpu"))
            .and_then(|cpu| cpu.first("arch"))
            .and_then(|arch| arch.text.trim().parse::<Arch>().ok())
            .unwrap_or(Arch::X86_64);
        Ok(Host {
            uri: self.uri.clone(),
            arch,
            kvm: has_kvm(&root, arch),
            xen: self.uri.starts_with("xen"),
            pools: self.pools()?,
            networks: self.networks()?,
        })
    }

    fn pools(&self) -> Result<Vec<Pool>, DriverError> {
        let pools = self
            .connect
            .list_all_storage_pools(0)
            .map_err(|error| self.error("list its storage pools", &error))?;
        let mut all: Vec<Pool> = pools
            .iter()
            .filter_map(|pool| {
                Some(Pool {
                    name: pool.name().ok()?,
                    path: self.pool_folder(pool),
                    active: pool.is_active().unwrap_or(false),
                })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    fn networks(&self) -> Result<Vec<Network>, DriverError> {
        let networks = self
            .connect
            .list_all_networks(0)
            .map_err(|error| self.error("list its networks", &error))?;
        let mut all: Vec<Network> = networks
            .iter()
            .filter_map(|network| {
                let xml = network.xml_desc(0).unwrap_or_default();
                let root = Element::parse(&xml).ok()?;
                let ip = root.first("ip");
                Some(Network {
                    name: network.name().ok()?,
                    bridge: root
                        .first("bridge")
                        .and_then(|bridge| bridge.attribute("name"))
                        .map(str::to_owned),
                    address: ip
                        .and_then(|ip| ip.attribute("address"))
                        .and_then(|address| address.parse().ok()),
                    dhcp: ip.is_some_and(|ip| ip.first("dhcp").is_some()),
                    network: ip.and_then(net_of),
                    forward: forward_of(&root),
                    active: network.is_active().unwrap_or(false),
                })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }
}

/// The network of an `<ip>`, which says its length as a prefix or as a mask.
fn net_of(ip: &Element) -> Option<Ipv4Net> {
    let address: Ipv4Addr = ip.attribute("address")?.parse().ok()?;
    let net = match (ip.attribute("prefix"), ip.attribute("netmask")) {
        (Some(prefix), _) => Ipv4Net::new(address, prefix.parse().ok()?),
        (None, Some(mask)) => Ipv4Net::with_netmask(address, mask.parse().ok()?),
        (None, None) => return None,
    };
    Some(net.ok()?.trunc())
}

fn forward_of(network: &Element) -> Forward {
    let Some(forward) = network.first("forward") else {
        return Forward::Isolated;
    };
    match forward.attribute("mode") {
        None | Some("nat") => Forward::Translated,
        Some("route" | "open") => Forward::Routed,
        Some(_) => Forward::Beside,
    }
}

/// True when the capabilities list KVM for guests of the host's own processor.
fn has_kvm(capabilities: &Element, host: Arch) -> bool {
    capabilities
        .all("guest")
        .filter_map(|guest| guest.first("arch"))
        .filter(|arch| arch.attribute("name") == Some(host.as_str()))
        .flat_map(|arch| arch.all("domain"))
        .any(|domain| domain.attribute("type") == Some("kvm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_says_how_its_guests_leave_it() {
        for (xml, forward) in [
            ("<network/>", Forward::Isolated),
            ("<network><forward/></network>", Forward::Translated),
            ("<network><forward mode='nat'/></network>", Forward::Translated),
            ("<network><forward mode='route'/></network>", Forward::Routed),
            ("<network><forward mode='bridge'/></network>", Forward::Beside),
        ] {
            assert_eq!(forward_of(&Element::parse(xml).unwrap()), forward, "{xml}");
        }
        for xml in [
            "<ip address='10.9.0.1' prefix='24'/>",
            "<ip address='10.9.0.1' netmask='255.255.255.0'/>",
        ] {
            assert_eq!(
                net_of(&Element::parse(xml).unwrap()),
                Some("10.9.0.0/24".parse().unwrap())
            );
        }
    }

    #[test]
    fn kvm_is_for_the_hosts_own_processor() {
        let of = |xml: &str| has_kvm(&Element::parse(xml).unwrap(), Arch::X86_64);
        let guest = |arch: &str, kind: &str| {
            format!(
                "<capabilities><guest><arch name='{arch}'><domain type='qemu'/><domain type='{kind}'/></arch></guest></capabilities>"
            )
        };
        assert!(of(&guest("x86_64", "kvm")));
        assert!(!of(&guest("aarch64", "kvm")));
        assert!(!of(&guest("x86_64", "xen")));
    }
}
