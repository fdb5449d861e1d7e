//! A reader that takes its time: what was true when it asked is no longer true when it goes on.

use super::{SCRIPT, Site, token};
use crate::tftp::reader::{Reader, request, sized};
use cordwainer::tftp::packet::Packet;
use std::net::SocketAddrV4;

/// Asks for web1's script and stops before the first ACK.
fn asked(site: &Site) -> (Reader, SocketAddrV4) {
    let mut reader = Reader::new();
    reader.ask(site.tftp, &request(SCRIPT, sized(1024, 1)));
    let (tid, packet) = reader.hear();
    assert!(matches!(packet, Packet::OptionsGranted(_)), "{packet:?}");
    (reader, tid)
}

fn goes_on(reader: &mut Reader, tid: SocketAddrV4) -> String {
    reader.ack(tid, 0);
    match reader.hear() {
        (_, Packet::Data { bytes, .. }) => String::from_utf8_lossy(bytes).into_owned(),
        (_, other) => format!("{other:?}"),
    }
}

#[test]
fn an_installer_that_is_partitioning_is_not_started_over_by_a_script_that_was_asked_for_before() {
    let site = Site::new();
    let script = site.get(SCRIPT);
    let install = token(&script, "/i/");
    let answers = site.get(&format!("i/{install}/ks.cfg"));
    let report = token(&answers, "/r/");
    let (mut reader, tid) = asked(&site);
    let page = site.get("metrics");
    assert!(page.contains("\ncordwainer_tftp_transfers 1\n"), "{page}");
    assert!(
        site.get(&format!("r/{report}/partitioning"))
            .starts_with("HTTP/1.1 200 ")
    );
    let got = goes_on(&mut reader, tid);
    assert!(got.starts_with("Error"), "{got}");
    let states = site.session.run(&["--json", "status"]).succeeded().out;
    assert!(states.contains("installing") && !states.contains("claimed"), "{states}");
    // The machine itself is told to boot from its disk, and the disk stays.
    let again = site.get(SCRIPT);
    assert!(again.contains("sanboot") && !again.contains("/i/"), "{again}");
}

#[test]
fn a_machine_that_was_disarmed_meanwhile_gets_no_installer() {
    let site = Site::new();
    let (mut reader, tid) = asked(&site);
    site.session.run(&["system", "disarm", "web1"]).succeeded();
    let got = goes_on(&mut reader, tid);
    assert!(got.starts_with("Error"), "{got}");
    assert!(site.get(SCRIPT).contains("sanboot"));
    let (mut reader, tid) = asked(&site);
    site.session.run(&["system", "arm", "web1", "--again"]).succeeded();
    // It was told to boot from its disk; that is no harm.
    assert!(!goes_on(&mut reader, tid).contains("/i/"));
}
