//! The counters of `/metrics`, in the OpenMetrics text format. Fed by the same events as the log, so the two cannot disagree.
//!
//! No name, address or token is ever a label: every label comes from a fixed set of words.

use super::{Event, What};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Fate {
    fate: &'static str,
}

/// Reads counts that somebody else keeps: a word of a fixed set, and how many.
pub type Counts = Box<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// What is true at the moment of asking, gathered by whoever serves `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Machines by where their installation stands.
    pub machines: Vec<(&'static str, u64)>,
    /// Addresses that leases hold.
    pub leases: u64,
}

/// All counters. Cheap to count on from any thread.
pub struct Metrics {
    registry: Registry,
    dhcp_packets: Family<Fate, Counter>,
    dhcp_counts: OnceLock<Counts>,
    events: Family<Code, Counter>,
    dhcp: Family<Kind, Counter>,
    bytes: Family<Protocol, Counter>,
    machines: Family<State, Gauge>,
    leases: Gauge,
    /// HTTP transfers under way.
    pub http_transfers: Gauge,
    /// TFTP transfers under way.
    pub tftp_transfers: Gauge,
    /// HTTP connections open.
    pub http_connections: Gauge,
    /// HTTP connections refused because there were too many.
    pub http_refused: Counter,
    /// Events that a slow reader missed, or that could not be kept.
    pub events_dropped: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("cordwainer");
        let events = Family::<Code, Counter>::default();
        let dhcp = Family::<Kind, Counter>::default();
        let bytes = Family::<Protocol, Counter>::default();
        let machines = Family::<State, Gauge>::default();
        let leases = Gauge::default();
        let http_transfers = Gauge::default();
        let tftp_transfers = Gauge::default();
        let http_connections = Gauge::default();
        let http_refused = Counter::default();
        let events_dropped = Counter::default();
        registry.register("events", "Events by code, see cordwainer-events(7)", events.clone());
        registry.register("dhcp_answers", "DHCP answers by message type", dhcp.clone());
        let dhcp_packets = Family::<Fate, Counter>::default();
        registry.register(
            "dhcp_packets",
            "DHCP packets by what became of them",
            dhcp_packets.clone(),
        );
        registry.register_with_unit("sent", "Bytes of files sent, by protocol", Unit::Bytes, bytes.clone());
        registry.register(
            "machines",
            "Machines by where their installation stands",
            machines.clone(),
        );
        registry.register("leases", "Addresses that leases hold", leases.clone());
        registry.register("http_transfers", "HTTP transfers under way", http_transfers.clone());
        registry.register("tftp_transfers", "TFTP transfers under way", tftp_transfers.clone());
        registry.register("http_connections", "HTTP connections open", http_connections.clone());
        registry.register(
            "http_connections_refused",
            "HTTP connections closed because there were too many",
            http_refused.clone(),
        );
        registry.register("events_dropped", "Events that were not kept", events_dropped.clone());
        Self {
            registry,
            dhcp_packets,
            dhcp_counts: OnceLock::new(),
            events,
            dhcp,
            bytes,
            machines,
            leases,
            http_transfers,
            tftp_transfers,
            http_connections,
            http_refused,
            events_dropped,
        }
    }

    /// Counts one event.
    pub fn count(&self, event: &Event) {
        self.events.get_or_create(&Code { code: event.code() }).inc();
        let sent = |protocol, bytes: u64| {
            self.bytes.get_or_create(&Protocol { protocol }).inc_by(bytes);
        };
        match &event.what {
            What::DhcpAnswered { message, .. } => {
                let r#type = match message.as_str() {
                    "OFFER" => "OFFER",
                    "ACK" => "ACK",
                    "NAK" => "NAK",
                    _ => "other",
                };
                self.dhcp.get_or_create(&Kind { r#type }).inc();
            }
            What::HttpSent { bytes, .. } | What::TreeSent { bytes, .. } | What::HttpBroken { bytes, .. } => {
                sent("http", *bytes);
            }
            What::AnswerFile { bytes, .. } => sent("http", *bytes),
            What::TftpSent { bytes, .. } => sent("tftp", *bytes),
            _ => {}
        }
    }

    /// Says where the counts of DHCP packets are read. Most packets of a flood are no event, so they are counted where they end.
    pub fn read_dhcp(&self, counts: Counts) {
        // There is one DHCP server in a process.
        let _ = self.dhcp_counts.set(counts);
    }

    /// The page, with `standing` as it is now.
    #[must_use]
    pub fn page(&self, standing: &Standing) -> String {
        for (state, count) in &standing.machines {
            let gauge = self.machines.get_or_create(&State { state });
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.leases.set(i64::try_from(standing.leases).unwrap_or(i64::MAX));
        for (fate, count) in self.dhcp_counts.get().into_iter().flat_map(|read| read()) {
            let counter = self.dhcp_packets.get_or_create(&Fate { fate });
            counter.inner().store(count, Ordering::Relaxed);
        }
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut page, &self.registry);
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Mac, Timestamp};

    fn event(what: What) -> Event {
        Event {
            at: Timestamp(0),
            mac: Some(Mac::new([2, 0, 0, 0, 0, 9])),
            system: Some("web1".parse().unwrap()),
            peer: None,
            what,
        }
    }

    #[test]
    fn the_page_counts_and_names_no_machine() {
        let metrics = Metrics::new();
        for bytes in [1000, 24] {
            metrics.count(&event(What::HttpSent {
                role: "kernel".into(),
                path: "vmlinuz".into(),
                bytes,
                size: 1000,
                millis: 1,
                status: 200,
            }));
        }
        metrics.count(&event(What::DhcpAnswered {
            message: "OFFER".into(),
            address: None,
            file: None,
            rule: "x".into(),
            durable_us: None,
        }));
        metrics.count(&event(What::BootedFromDisk));
        metrics.read_dhcp(Box::new(|| vec![("received", 9), ("above_rate", 2)]));
        let page = metrics.page(&Standing {
            machines: vec![("armed", 3), ("held", 0)],
            leases: 7,
        });
        for line in [
            "cordwainer_events_total{code=\"HTTP_SENT\"} 2",
            "cordwainer_sent_bytes_total{protocol=\"http\"} 1024",
            "cordwainer_dhcp_answers_total{type=\"OFFER\"} 1",
            "cordwainer_machines{state=\"armed\"} 3",
            "cordwainer_leases 7",
            "cordwainer_dhcp_packets_total{fate=\"received\"} 9",
            "cordwainer_dhcp_packets_total{fate=\"above_rate\"} 2",
            "cordwainer_http_transfers 0",
            "# EOF",
        ] {
            assert!(page.lines().any(|seen| seen == line), "{line} in\n{page}");
        }
        assert!(!page.contains("web1") && !page.contains("vmlinuz"));
    }
}
