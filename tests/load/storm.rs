//! A boot storm: thousands of machines are switched on within a second, and each walks the whole way from its firmware's DISCOVER to the
//! last report of its installer.
//!
//! Each machine is a task: DHCP as firmware, the loader by TFTP, DHCP as iPXE, script, kernel, initrd and answer file by HTTP, the stages.
//! It repeats what is not answered, as its real kin do, and is given up after two minutes.

use super::inventory::mac;
use super::{Arguments, quantile};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(120);
/// PXE 2.1 section 2.2.3: how long firmware waits before it asks again.
const REPEATS: [u64; 4] = [4, 8, 16, 32];

/// The cable that all machines share.
struct Cable {
    dhcp: UdpSocket,
    server: Ipv4Addr,
    tftp: u16,
}

/// How far a machine came.
#[derive(Default)]
struct Walk {
    acked: Option<f64>,
    done: Option<f64>,
    stuck: String,
}

/// Prints `percent ACKed within 4 s, p99 of the first ACK in ms, percent done, seconds until the last was done`; what stopped the others
/// goes to standard error.
pub fn run(arguments: &Arguments) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(storm(arguments));
}

async fn storm(arguments: &Arguments) {
    let machines: u32 = arguments.get("machines", "1000");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_recv_buffer_size(16 << 20).unwrap();
    socket.bind_device(Some(b"eth0")).unwrap();
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 68)).into()).unwrap();
    let cable = Arc::new(Cable {
        dhcp: UdpSocket::from_std(socket.into()).unwrap(),
        server: arguments.get("server", "127.0.0.1"),
        tftp: arguments.get("tftp", "69"),
    });
    let (ears, mouths): (Vec<UnboundedSender<Vec<u8>>>, Vec<_>) = (0..machines).map(|_| unbounded_channel()).unzip();
    let listening = tokio::spawn(listen(cable.clone(), ears));
    let begun = Instant::now();
    let walks: Vec<_> = mouths
        .into_iter()
        .enumerate()
        .map(|(number, heard)| {
            let (cable, after) = (
                cable.clone(),
                Duration::from_secs(1).mul_f64(number as f64 / f64::from(machines)),
            );
            tokio::spawn(async move {
                sleep(after).await;
                let mut machine = Machine {
                    number: number as u32,
                    cable,
                    heard,
                    began: Instant::now(),
                    walk: Walk::default(),
                };
                let walked = timeout(PATIENCE, machine.boot()).await;
                machine.walk.stuck = match walked {
                    Ok(Ok(())) => String::new(),
                    Ok(Err(why)) => why,
                    Err(_) => format!("{} took two minutes", machine.walk.stuck),
                };
                machine.walk
            })
        })
        .collect();
    let (mut acked, mut done) = (Vec::new(), Vec::new());
    let mut stuck = std::collections::BTreeMap::<String, usize>::new();
    for walk in walks {
        let walk = walk.await.unwrap();
        acked.extend(walk.acked);
        done.extend(walk.done);
        if walk.done.is_none() {
            *stuck.entry(walk.stuck).or_default() += 1;
        }
    }
    listening.abort();
    acked.sort_by(f64::total_cmp);
    let percent = |count: usize| count as f64 * 100.0 / f64::from(machines);
    println!(
        "{:.2} {:.0} {:.2} {:.1}",
        percent(acked.iter().filter(|took| **took <= 4000.0).count()),
        quantile(&acked, 0.99),
        percent(done.len()),
        begun.elapsed().as_secs_f64(),
    );
    for (why, count) in stuck {
        let why = why.replace('\n', " ");
        drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("{count} machines: {why}\n").as_bytes(),
        ));
    }
}

/// Hands each reply to its machine.
async fn listen(cable: Arc<Cable>, ears: Vec<UnboundedSender<Vec<u8>>>) {
    let mut bytes = [0_u8; 2048];
    loop {
        let Ok(length) = cable.dhcp.recv(&mut bytes).await else {
            continue;
        };
        if length < 240 {
            continue;
        }
        let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        if let Some(ear) = ears.get(number as usize) {
            drop(ear.send(bytes[..length].to_vec()));
        }
    }
}

struct Machine {
    number: u32,
    cable: Arc<Cable>,
    heard: UnboundedReceiver<Vec<u8>>,
    began: Instant,
    walk: Walk,
}

impl Machine {
    async fn boot(&mut self) -> Result<(), String> {
        self.stage("DHCP as firmware");
        let (address, file) = self.dhcp(&FIRMWARE).await?;
        self.walk.acked = Some(self.since());
        self.stage("the loader by TFTP");
        self.tftp(address, &file).await?;
        self.stage("DHCP as iPXE");
        let (address, url) = self.dhcp(&IPXE).await?;
        self.stage("the script");
        let script = self.http(address, "GET", &url).await?;
        let script = String::from_utf8_lossy(&script).into_owned();
        let urls: Vec<&str> = script
            .split(|c: char| c.is_whitespace() || c == '=')
            .filter(|word| word.starts_with("http://"))
            .collect();
        let find = |part: &str| {
            urls.iter()
                .find(|url| url.contains(part))
                .map(|url| (*url).to_owned())
                .ok_or_else(|| format!("no {part} in the script"))
        };
        self.stage("the kernel");
        self.http(address, "GET", &find("/vmlinuz")?).await?;
        self.stage("the initrd");
        self.http(address, "GET", &find("/initrd.img")?).await?;
        self.stage("the answer file");
        let answer = self.http(address, "GET", &find("/i/")?).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let report = answer
            .split(|c: char| c.is_whitespace() || "'\"".contains(c))
            .find_map(|word| word.split_once("/r/").filter(|(host, _)| host.starts_with("http://")))
            .ok_or("the answer file names no place for reports")?;
        let token: String = report.1.chars().take_while(char::is_ascii_alphanumeric).collect();
        let report = format!("{}/r/{token}", report.0);
        for stage in ["started", "partitioning", "packages", "bootloader", "done"] {
            self.stage("a report");
            self.http(address, "POST", &format!("{report}/{stage}")).await?;
        }
        self.walk.done = Some(self.since());
        Ok(())
    }

    fn since(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1e3
    }

    fn stage(&mut self, what: &str) {
        self.walk.stuck = what.to_owned();
    }

    /// DISCOVER to ACK; the address and the boot file.
    async fn dhcp(&mut self, identity: &[u8]) -> Result<(Ipv4Addr, String), String> {
        let mut waits = REPEATS.into_iter();
        loop {
            let wait = Duration::from_secs(
                waits
                    .next()
                    .ok_or_else(|| format!("{}: no answer in a minute", self.walk.stuck))?,
            );
            self.say(1, &[], identity).await;
            let Some(offer) = self.hear(2, wait).await else {
                continue;
            };
            let mut chosen = vec![50, 4];
            chosen.extend(&offer[16..20]);
            chosen.extend([54, 4]);
            chosen.extend(option(&offer, 54).unwrap_or(&[0; 4]));
            // Firmware repeats its REQUEST before it starts over.
            for again in [wait, wait] {
                self.say(3, &chosen, identity).await;
                if let Some(ack) = self.hear(5, again).await {
                    let address = Ipv4Addr::new(ack[16], ack[17], ack[18], ack[19]);
                    let file = option(&ack, 67).map_or_else(
                        || {
                            ack[108..236]
                                .split(|byte| *byte == 0)
                                .next()
                                .unwrap_or_default()
                                .to_vec()
                        },
                        <[u8]>::to_vec,
                    );
                    return Ok((address, String::from_utf8_lossy(&file).into_owned()));
                }
            }
        }
    }

    async fn say(&self, message: u8, more: &[u8], identity: &[u8]) {
        let mut bytes = vec![0_u8; 240];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[10] = 0x80;
        bytes[28..34].copy_from_slice(&mac(self.number).bytes());
        bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
        bytes.extend([53, 1, message]);
        bytes.extend(more);
        bytes.extend([97, 17, 0]);
        bytes.extend(u128::from(self.number).to_be_bytes());
        bytes.extend(identity);
        bytes.extend([55, 5, 1, 3, 6, 66, 67, 255]);
        // A full queue of the interface is a loss, and losses are repeated.
        drop(self.cable.dhcp.send_to(&bytes, (Ipv4Addr::BROADCAST, 67)).await);
    }

    async fn hear(&mut self, message: u8, wait: Duration) -> Option<Vec<u8>> {
        let wanted = async {
            loop {
                let bytes = self.heard.recv().await?;
                if option(&bytes, 53) == Some(&[message]) {
                    return Some(bytes);
                }
            }
        };
        timeout(wait, wanted).await.ok().flatten()
    }

    /// Fetches `file` as firmware does: blocks of 1456 bytes, one at a time.
    async fn tftp(&self, from: Ipv4Addr, file: &str) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("TFTP from {from}: {error}");
        let socket = UdpSocket::bind((from, 0)).await.map_err(wrong)?;
        let request = format!("\0\x01{file}\0octet\0blksize\x001456\0");
        let (mut packet, mut next, mut tries) = ([0_u8; 2048], 1_u16, 0);
        let mut peer: Option<SocketAddr> = None;
        loop {
            match peer {
                None => {
                    socket
                        .send_to(request.as_bytes(), (self.cable.server, self.cable.tftp))
                        .await
                }
                Some(peer) => {
                    let [high, low] = next.wrapping_sub(1).to_be_bytes();
                    socket.send_to(&[0, 4, high, low], peer).await
                }
            }
            .map_err(wrong)?;
            let Ok(heard) = timeout(Duration::from_secs(4), socket.recv_from(&mut packet)).await else {
                tries += 1;
                if tries > 6 {
                    return Err("TFTP: no answer".to_owned());
                }
                continue;
            };
            let (length, who) = heard.map_err(wrong)?;
            peer = Some(who);
            match packet[1] {
                3 if packet[2..4] == next.to_be_bytes() => {
                    next = next.wrapping_add(1);
                    if length < 1460 {
                        let [high, low] = next.wrapping_sub(1).to_be_bytes();
                        socket.send_to(&[0, 4, high, low], who).await.map_err(wrong)?;
                        return Ok(());
                    }
                }
                5 => return Err(format!("TFTP: {}", String::from_utf8_lossy(&packet[4..length]))),
                _ => {}
            }
        }
    }

    /// One request on a connection of its own, repeated while the server cannot be reached.
    async fn http(&self, from: Ipv4Addr, method: &str, url: &str) -> Result<Vec<u8>, String> {
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| format!("`{url}` is no URL"))?;
        let (host, path) = rest.split_once('/').ok_or_else(|| format!("{url} has no path"))?;
        let server: SocketAddrV4 = if host.contains(':') {
            host.to_owned()
        } else {
            format!("{host}:80")
        }
        .parse()
        .map_err(|_| format!("{url} names no address"))?;
        let mut last = String::new();
        for _ in 0..5 {
            let exchange = async {
                let socket = TcpSocket::new_v4()?;
                socket.set_reuseaddr(true)?;
                socket.bind(SocketAddr::from((from, 0)))?;
                let mut stream = socket.connect(server.into()).await?;
                let head = format!(
                    "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).await?;
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await?;
                Ok::<_, std::io::Error>(bytes)
            };
            match timeout(Duration::from_secs(30), exchange).await {
                Ok(Ok(bytes)) => {
                    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
                    let status = bytes.get(9..12).unwrap_or_default();
                    if status.first() == Some(&b'2') {
                        return Ok(bytes[end + 4..].to_vec());
                    }
                    last = String::from_utf8_lossy(status).into_owned();
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "30 s passed".to_owned(),
            }
            sleep(Duration::from_millis(500)).await;
        }
        Err(format!("{}: {last}", self.walk.stuck))
    }
}

/// 60, 93, 94 of a BIOS PXE ROM.
const FIRMWARE: [u8; 43] = *b"\x3c\x20PXEClient:Arch:00000:UNDI:002001\x5d\x02\0\0\x5e\x03\x01\x02\x01";
/// The same with 77 `iPXE` and 175 of an iPXE that speaks HTTP and boots bzImages.
const IPXE: [u8; 60] = *b"\x3c\x20PXEClient:Arch:00000:UNDI:002001\x5d\x02\0\0\x5e\x03\x01\x02\x01\x4d\x04iPXE\xaf\x09\x13\x01\x01\x18\x01\x01\xb1\x01\x01";

fn option(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    super::dora::option(bytes, wanted)
}
