//! A web server on loopback that does what a test says: serves well, lies, dawdles, or never ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

type Play = dyn Fn(&str, &mut TcpStream) + Send + Sync;

/// The server; its threads end with it.
pub struct Web {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    /// The heads of all requests so far.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Hands each request's head and its connection to `play`, which is closed afterwards.
    pub fn start(play: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let play: Arc<Play> = Arc::new(play);
        let (stop, heads) = (over.clone(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let (play, heads) = (play.clone(), heads.clone());
                thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") {
                        match stream.read(&mut byte) {
                            Ok(1) => head.push(byte[0]),
                            _ => return,
                        }
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    heads.lock().unwrap().push(head.clone());
                    play(&head, &mut stream);
                });
            }
        });
        Self { address, over, asked }
    }

    /// Serves `bytes` at every path, as a good server does: ranges, a strong tag, and the length.
    pub fn serving(bytes: Vec<u8>, tag: &'static str) -> Self {
        Self::start(move |head, stream| good(head, stream, &bytes, tag, usize::MAX))
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// How many requests there were, and how many of them asked for a part.
    pub fn counted(&self) -> (usize, usize) {
        let asked = self.asked.lock().unwrap();
        let parts = asked.iter().filter(|head| field(head, "range").is_some()).count();
        (asked.len(), parts)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _wake = TcpStream::connect(self.address);
    }
}

/// A header's value.
pub fn field(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Answers as RFC 9110 has it, and closes after `most` bytes of the body.
pub fn good(head: &str, stream: &mut TcpStream, bytes: &[u8], tag: &str, most: usize) {
    let valid = field(head, "if-range").is_none_or(|tagged| tagged == format!("\"{tag}\""));
    let from = field(head, "range").filter(|_| valid).and_then(|range| {
        let (from, _) = range.strip_prefix("bytes=")?.split_once('-')?;
        from.parse::<usize>().ok()
    });
    let common = format!("ETag: \"{tag}\"\r\nAccept-Ranges: bytes\r\nConnection: close\r\n");
    let (status, body) = match from {
        Some(from) if from < bytes.len() => (
            format!(
                "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            ),
            &bytes[from..],
        ),
        Some(_) => (
            format!(
                "416 Range Not Satisfiable\r\nContent-Range: bytes */{}\r\n",
                bytes.len()
            ),
            &bytes[..0],
        ),
        None => ("200 OK\r\n".to_owned(), bytes),
    };
    let _gone = write!(
        stream,
        "HTTP/1.1 {status}Content-Length: {}\r\n{common}\r\n",
        body.len()
    );
    let _gone = stream.write_all(&body[..body.len().min(most)]);
}

/// Answers with this head and body.
pub fn say(stream: &mut TcpStream, head: &str, body: &[u8]) {
    let _gone = write!(stream, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n");
    let _gone = stream.write_all(body);
}
