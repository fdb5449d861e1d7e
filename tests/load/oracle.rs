//! The crate async-tftp as a server, as its own documentation starts it: from a folder, or (`--memory`) from a copy in memory, which shows
//! the engine without its files.

use super::Arguments;
use async_tftp::packet::Error;
use async_tftp::server::{Handler, TftpServer, TftpServerBuilder};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Serves until it is killed.
pub fn run(arguments: &Arguments) {
    let listen: SocketAddr = arguments.get("listen", "127.0.0.1:6971");
    let folder: PathBuf = arguments.get("folder", ".");
    let memory: bool = arguments.get("memory", "false");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        if memory {
            serve(
                TftpServerBuilder::with_handler(Memory::read(&folder))
                    .bind(listen)
                    .build()
                    .await,
            )
            .await;
        } else {
            serve(
                TftpServerBuilder::with_dir_ro(folder)
                    .unwrap()
                    .bind(listen)
                    .build()
                    .await,
            )
            .await;
        }
    });
}

async fn serve<H: Handler + 'static>(server: async_tftp::Result<TftpServer<H>>) {
    let server = server.unwrap();
    println!("serving");
    server.serve().await.unwrap();
}

/// Files by name, never let go of.
struct Memory(BTreeMap<PathBuf, &'static [u8]>);

impl Memory {
    fn read(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        let file = |entry: std::fs::DirEntry| {
            let bytes: &'static [u8] = std::fs::read(entry.path()).unwrap().leak();
            (PathBuf::from(entry.file_name()), bytes)
        };
        Self(entries.map(file).collect())
    }
}

impl Handler for Memory {
    type Reader = &'static [u8];
    type Writer = Vec<u8>;

    async fn read_req_open(&mut self, _: &SocketAddr, path: &Path) -> Result<(Self::Reader, Option<u64>), Error> {
        let name = path.strip_prefix("/").unwrap_or(path);
        let bytes = *self.0.get(name).ok_or(Error::FileNotFound)?;
        Ok((bytes, Some(bytes.len() as u64)))
    }

    async fn write_req_open(&mut self, _: &SocketAddr, _: &Path, _: Option<u64>) -> Result<Self::Writer, Error> {
        Err(Error::IllegalOperation)
    }
}
