//! HTTP readers over kept connections: bytes per second of a large file, or requests per second of a small one.

use super::{Arguments, quantile};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Prints `GB/s, requests per second, p99 ms`. A path of `script` asks for the machine's boot script first and reads the answer file that
/// it names.
pub fn run(arguments: &Arguments) {
    let server: SocketAddrV4 = arguments.get("server", "127.0.0.1:80");
    let clients: usize = arguments.get("clients", "1");
    let seconds: f64 = arguments.get("seconds", "2");
    let mut path: String = arguments.get("path", "/");
    if let Some(script) = path.strip_prefix("script:") {
        path = answer_file(server, script);
    }
    let begun = Instant::now();
    let end = begun + Duration::from_secs_f64(seconds);
    let all: Arc<Mutex<(u64, Vec<f64>)>> = Arc::default();
    let readers: Vec<_> = (0..clients)
        .map(|_| {
            let (path, all) = (path.clone(), all.clone());
            std::thread::spawn(move || {
                let mut connection = Connection::open(server);
                let (mut bytes, mut times) = (0, Vec::new());
                while Instant::now() < end {
                    let asked = Instant::now();
                    bytes += connection.get(&path, end);
                    times.push(asked.elapsed().as_secs_f64() * 1e3);
                }
                let mut all = all.lock().unwrap();
                all.0 += bytes;
                all.1.extend(times);
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    let took = begun.elapsed().as_secs_f64();
    let (bytes, mut times) = std::mem::take(&mut *all.lock().unwrap());
    times.sort_by(f64::total_cmp);
    println!(
        "{:.3} {:.0} {:.2}",
        bytes as f64 / 1e9 / took,
        times.len() as f64 / took,
        quantile(&times, 0.99)
    );
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(server: SocketAddrV4) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; 1 << 20],
        }
    }

    /// Asks, and gives the head and what came of the body with it.
    fn ask(&mut self, path: &str) -> (String, usize) {
        // In one piece: formatted into the socket, it would leave in three.
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut filled = 0;
        loop {
            let length = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(
                length > 0,
                "{:?} closed before it answered {path}",
                self.stream.peer_addr()
            );
            filled += length;
            if let Some(end) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
                self.buffer.copy_within(end + 4..filled, 0);
                return (head, filled - end - 4);
            }
        }
    }

    fn get(&mut self, path: &str, end: Instant) -> u64 {
        let (head, mut got) = self.ask(path);
        let length = length(&head);
        while got < length {
            let more = self.stream.read(&mut self.buffer).unwrap();
            assert!(
                more > 0,
                "{:?} closed after {got} of {length} bytes",
                self.stream.peer_addr()
            );
            got += more;
            if Instant::now() >= end {
                break;
            }
        }
        got as u64
    }

    fn text(&mut self, path: &str) -> String {
        let (head, mut got) = self.ask(path);
        let length = length(&head);
        while got < length {
            let more = self.stream.read(&mut self.buffer[got..]).unwrap();
            assert!(
                more > 0,
                "{:?} closed after {got} of {length} bytes",
                self.stream.peer_addr()
            );
            got += more;
        }
        String::from_utf8_lossy(&self.buffer[..length]).into_owned()
    }
}

fn length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse().unwrap())
        .unwrap_or_else(|| panic!("no length: {head}"))
}

/// The path of the answer file that a boot script names.
fn answer_file(server: SocketAddrV4, script: &str) -> String {
    let text = Connection::open(server).text(script);
    let at = text
        .find("/i/")
        .unwrap_or_else(|| panic!("{text} names no answer file"));
    text[at..].split_whitespace().next().unwrap().to_owned()
}

/// The answerer: one buffer, written without end.
pub fn answer(arguments: &Arguments) {
    let listen: SocketAddrV4 = arguments.get("listen", "127.0.0.1:8089");
    let listener = TcpListener::bind(listen).unwrap();
    println!("serving");
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let (mut asked, body) = (vec![0_u8; 2048], vec![0_u8; 1 << 20]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() * 256);
            let mut filled = 0;
            loop {
                match stream.read(&mut asked[filled..]) {
                    Ok(0) => return,
                    Ok(length) => filled += length,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                    Err(error) => panic!("the answerer cannot read: {error}"),
                }
                if !asked[..filled].ends_with(b"\r\n\r\n") {
                    continue;
                }
                filled = 0;
                // A reader whose time is over goes in the middle of an answer.
                let sent = stream.write_all(head.as_bytes());
                if (0..256)
                    .fold(sent, |sent, _| sent.and_then(|()| stream.write_all(&body)))
                    .is_err()
                {
                    return;
                }
            }
        });
    }
}
