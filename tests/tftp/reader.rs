//! A plain reader with every step in the test's hands: a socket at one port, and a whole transfer when nothing special is wanted.

use cordwainer::tftp::packet::{ErrorCode, FileName, Mode, Options, Packet, Request};
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

/// A reader at one port.
pub struct Reader {
    pub socket: UdpSocket,
    buffer: Vec<u8>,
}

/// What a whole transfer gave.
#[derive(Debug)]
pub struct Got {
    pub bytes: Vec<u8>,
    /// What was granted; none when the server answered with data at once.
    pub granted: Option<Options>,
    /// The address that answered.
    pub from: SocketAddrV4,
    /// Datagrams that came.
    pub datagrams: u64,
}

pub fn request(name: &str, options: Options) -> Request {
    Request {
        name: FileName::new(name.as_bytes()).unwrap(),
        mode: Mode::Octet,
        options,
    }
}

pub fn sized(blksize: u64, windowsize: u64) -> Options {
    Options {
        blksize: Some(blksize),
        windowsize: (windowsize > 1).then_some(windowsize),
        tsize: Some(0),
        timeout: None,
    }
}

impl Reader {
    pub fn new() -> Self {
        Self::at([127, 0, 0, 1])
    }

    pub fn at(ip: [u8; 4]) -> Self {
        let socket = UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self {
            socket,
            buffer: vec![0; 65_536],
        }
    }

    pub fn send(&self, to: SocketAddrV4, packet: &Packet<'_>) {
        self.socket.send_to(&packet.to_bytes(), to).unwrap();
    }

    pub fn ask(&self, server: SocketAddrV4, request: &Request) {
        self.send(server, &Packet::Read(request.clone()));
    }

    pub fn ack(&self, to: SocketAddrV4, block: u16) {
        self.send(to, &Packet::Ack { block });
    }

    /// The next packet; a silence of 10 s fails the test.
    pub fn hear(&mut self) -> (SocketAddrV4, Packet<'_>) {
        let (length, from) = loop {
            match self.socket.recv_from(&mut self.buffer) {
                // A receive with a deadline is not taken up again after a signal (signal(7)).
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                heard => break heard.expect("the server answers"),
            }
        };
        let SocketAddr::V4(from) = from else { panic!("{from}") };
        (from, Packet::decode(&self.buffer[..length]).unwrap())
    }

    /// True when nothing comes for `span`.
    pub fn is_silent(&mut self, span: Duration) -> bool {
        self.socket.set_read_timeout(Some(span)).unwrap();
        let silent = self.socket.recv_from(&mut self.buffer).is_err();
        self.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        silent
    }

    /// The code of the error that must come next.
    pub fn hear_error(&mut self) -> ErrorCode {
        match self.hear() {
            (_, Packet::Error { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    /// A whole transfer.
    pub fn get(&mut self, server: SocketAddrV4, request: &Request) -> Got {
        self.ask(server, request);
        self.go_on()
    }

    /// A whole transfer, the request repeated until it is heard.
    pub fn get_patiently(&mut self, server: SocketAddrV4, request: &Request) -> Got {
        self.socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        for _ in 0..50 {
            self.ask(server, request);
            if self.socket.peek_from(&mut self.buffer).is_ok() {
                self.socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                return self.go_on();
            }
        }
        panic!("no answer to 50 requests");
    }

    /// The rest of a transfer whose request was sent.
    pub fn go_on(&mut self) -> Got {
        let (mut bytes, mut granted, mut datagrams) = (Vec::new(), None, 0);
        let (mut blksize, mut window) = (512, 1);
        let (mut expected, mut in_window) = (1_u64, 0);
        loop {
            let (from, packet) = self.hear();
            datagrams += 1;
            let (acked, ends) = match packet {
                Packet::OptionsGranted(options) => {
                    blksize = usize::try_from(options.blksize.unwrap_or(512)).unwrap();
                    window = options.windowsize.unwrap_or(1);
                    granted = Some(options);
                    (true, false)
                }
                Packet::Data { block, bytes: data } if u64::from(block) == expected % 65_536 => {
                    bytes.extend_from_slice(data);
                    expected += 1;
                    in_window += 1;
                    let ends = data.len() < blksize;
                    (ends || in_window == window, ends)
                }
                // A gap: loopback lost something in a burst.
                Packet::Data { .. } => (true, false),
                other => panic!("{other:?}"),
            };
            if acked {
                in_window = 0;
                let [.., high, low] = (expected - 1).to_be_bytes();
                self.ack(from, u16::from_be_bytes([high, low]));
            }
            if ends {
                return Got {
                    bytes,
                    granted,
                    from,
                    datagrams,
                };
            }
        }
    }
}
