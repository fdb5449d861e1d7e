//! The same file, the same options, the same bytes: our engine beside the async-tftp crate.

use super::reader::{Reader, request};
use super::serving::{Serving, pattern};
use cordwainer::tftp::packet::Options;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// async-tftp over `folder`, with our limits, until the test process ends.
fn oracle(folder: PathBuf) -> SocketAddrV4 {
    let (say, said) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = async_tftp::server::TftpServerBuilder::with_dir_ro(folder)
                .unwrap()
                .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
                .block_size_limit(1468)
                .window_size_limit(64)
                .build()
                .await
                .unwrap();
            say.send(server.listen_addr().unwrap()).unwrap();
            // It ends with an error when the folder goes away after the test; nobody listens then.
            let _ = server.serve().await;
        });
    });
    match said.recv_timeout(super::serving::PATIENCE).unwrap() {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address}"),
    }
}

#[test]
fn both_engines_send_the_same() {
    let file = pattern(300_000);
    let lengths = [0_usize, 1, 511, 512, 1024, 1468, 93_952, 300_000];
    let names: Vec<String> = lengths.iter().map(|length| format!("f{length}")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .zip(lengths)
        .map(|(name, length)| (name.as_str(), &file[..length]))
        .collect();
    let ours = Serving::start([127, 0, 0, 1], &files);
    let theirs = oracle(ours.tree());
    let none = Options::default();
    let asked = [
        none,
        Options { tsize: Some(0), ..none },
        Options {
            blksize: Some(1024),
            ..none
        },
        Options {
            blksize: Some(65_464),
            tsize: Some(0),
            ..none
        },
        Options {
            windowsize: Some(8),
            ..none
        },
        Options {
            blksize: Some(1468),
            windowsize: Some(8),
            tsize: Some(0),
            timeout: Some(1),
        },
        Options {
            blksize: Some(512),
            windowsize: Some(1000),
            tsize: Some(0),
            timeout: None,
        },
    ];
    for (name, bytes) in files {
        for options in asked {
            let request = request(name, options);
            let mine = Reader::new().get(ours.address, &request);
            let other = Reader::new().get(theirs, &request);
            assert!(mine.bytes == bytes && other.bytes == bytes, "{name} {options:?}");
            assert_eq!(mine.granted, other.granted, "{name} {options:?}");
        }
    }
}
