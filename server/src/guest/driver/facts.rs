//! What a hypervisor has: processor, KVM, pools, networks.
#![allow(clippy::disallowed_methods, reason = "IO: libvirt")]

use super::{DriverError, Hypervisor};
use crate::guest::element::Element;
use crate::guest::plan::{Host, Network, Pool};
use crate::model::Arch;

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
                    isolated: root.first("forward").is_none(),
                    active: network.is_active().unwrap_or(false),
                })
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
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
