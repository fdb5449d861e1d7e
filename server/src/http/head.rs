//! The head of a message (RFC 9112): what a client asks, judged once and strictly, and the lines that go before an answer.
//!
//! Pure. What two readers could frame in two ways is refused, never guessed at: two lengths, a length beside a transfer coding, a bare
//! LF, a folded line. A request that carries a body says its length; one in chunks gets 411, as RFC 9112 section 6.3 allows.

use super::route::Method;

/// Longest head that is read, in bytes.
pub const LONGEST: usize = 16 * 1024;
/// Most header fields of a request.
const MOST_FIELDS: usize = 100;

/// Why a request is not answered as asked. Said to the client, then the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A TLS ClientHello.
    #[error("this port speaks plain HTTP; the URL must begin with http://, not https://")]
    Tls,
    /// Bytes that begin no request, or HTTP/0.9.
    #[error("this is no HTTP/1.1 request")]
    NotHttp,
    /// HTTP/2 and later.
    #[error("HTTP/1.1 and HTTP/1.0 are spoken here, no other version")]
    Version,
    /// Against the grammar, or open to two readings.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// A head longer than [`LONGEST`] or with too many fields.
    #[error("the header is longer than 16 KiB or has more than 100 fields")]
    HeadTooLarge,
    /// A body in chunks.
    #[error("a request with a body must say its Content-Length")]
    NoLength,
    /// A body longer than is taken.
    #[error("the body is longer than 1 MiB")]
    BodyTooLarge,
    /// `Expect` with anything but `100-continue`.
    #[error("only Expect: 100-continue is understood")]
    Expectation,
    /// The request did not arrive in time.
    #[error("the request took too long to arrive")]
    TooSlow,
    /// Too many connections.
    #[error("too many connections; try again")]
    Crowded,
}

impl Refusal {
    /// Its status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Tls | Self::NotHttp | Self::Malformed(_) => 400,
            Self::Version => 505,
            Self::HeadTooLarge => 431,
            Self::NoLength => 411,
            Self::BodyTooLarge => 413,
            Self::Expectation => 417,
            Self::TooSlow => 408,
            Self::Crowded => 503,
        }
    }
}

/// Looks for the end of a head in what has arrived so far; each byte is looked at once.
#[derive(Debug, Default)]
pub struct Scan {
    seen: usize,
    line: bool,
}

impl Scan {
    /// The length of the head that `bytes` begin with, once it is complete.
    ///
    /// # Errors
    /// As soon as no further byte can make a request of it, so that who speaks another protocol learns it at once.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        match bytes.first() {
            Some(0x16) => return Err(Refusal::Tls),
            Some(first) if !first.is_ascii_alphabetic() && *first != b'\r' => return Err(Refusal::NotHttp),
            _ => {}
        }
        while let Some(found) = bytes
            .get(self.seen..)
            .and_then(|rest| rest.iter().position(|byte| *byte == b'\n'))
        {
            let end = self.seen.saturating_add(found).saturating_add(1);
            let head = bytes.get(..end).unwrap_or(bytes);
            self.seen = end;
            let Some(lines) = head.strip_suffix(b"\r\n") else {
                return Err(Refusal::Malformed("lines end in CR LF"));
            };
            if !self.line {
                judge_line(lines)?;
                self.line = true;
            }
            if end > LONGEST {
                break;
            }
            if lines.ends_with(b"\r\n") {
                return Ok(Some(end));
            }
        }
        self.seen = bytes.len();
        if bytes.len() > LONGEST {
            return Err(Refusal::HeadTooLarge);
        }
        Ok(None)
    }
}

/// Judges the version of a request line, which tells other protocols apart.
fn judge_line(line: &[u8]) -> Result<(), Refusal> {
    let mut words = line.rsplit(|byte| *byte == b' ');
    match words.next() {
        Some(b"HTTP/1.1" | b"HTTP/1.0") if words.next().is_some() => Ok(()),
        Some(version) if version.starts_with(b"HTTP/") => Err(Refusal::Version),
        _ => Err(Refusal::NotHttp),
    }
}

/// A request's head, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What is wanted.
    pub method: Method,
    /// The path, still percent-encoded.
    pub path: String,
    /// The query, without `?`.
    pub query: Option<String>,
    /// True when the client wants to ask more on this connection.
    pub keep_alive: bool,
    /// True for HTTP/1.0, where staying must be said.
    pub old: bool,
    /// Bytes of the body.
    pub length: u64,
    /// True when the client waits for `100 Continue` before it sends the body.
    pub expects: bool,
    /// `Range`.
    pub range: Option<String>,
    /// `If-Range`.
    pub if_range: Option<String>,
    /// `If-None-Match`.
    pub if_none_match: Option<String>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<String>,
}

impl Head {
    /// Understands a complete head, as [`Scan::look`] found it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(bytes) {
            Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
            Ok(_) => return Err(Refusal::Malformed("the header does not end where it seems to")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::HeadTooLarge),
            Err(httparse::Error::Version) => return Err(Refusal::Version),
            Err(_) => return Err(Refusal::Malformed("a line of the header is none")),
        }
        let old = request.version == Some(0);
        let method = Method::of(request.method.unwrap_or_default());
        let target = request.path.unwrap_or_default();
        let (path, query) = origin(target, method)?;
        let mut head = Self {
            method,
            path: path.to_owned(),
            query: query.map(str::to_owned),
            keep_alive: !old,
            old,
            length: 0,
            expects: false,
            range: None,
            if_range: None,
            if_none_match: None,
            if_modified_since: None,
        };
        let mut framing = Framing::default();
        let (mut close, mut stay) = (false, false);
        for field in request.headers.iter() {
            let value = field.value.trim_ascii();
            let text = || std::str::from_utf8(value).ok().map(str::to_owned);
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            if is("content-length") {
                framing.length(value)?;
            } else if is("transfer-encoding") {
                framing.coded = true;
            } else if is("host") {
                if std::mem::replace(&mut framing.host, true) {
                    return Err(Refusal::Malformed("two Host fields"));
                }
            } else if is("connection") {
                for word in value.split(|byte| *byte == b',') {
                    let word = word.trim_ascii();
                    close |= word.eq_ignore_ascii_case(b"close");
                    stay |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is("user-agent") {
                // GRUB asks once on each connection. At a 404 it misses the length and waits for the connection's end (grub-core/net/http.c),
                // which would be half a minute for each of the lists that it asks for in vain.
                close |= value.starts_with(b"GRUB ");
            } else if is("expect") {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                head.expects = !old;
            } else if is("range") {
                head.range = text();
            } else if is("if-range") {
                head.if_range = text();
            } else if is("if-none-match") {
                head.if_none_match = text();
            } else if is("if-modified-since") {
                head.if_modified_since = text();
            }
        }
        head.length = framing.judge()?;
        head.keep_alive = !close && (stay || !old);
        Ok(head)
    }
}

/// What says where a request ends.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    coded: bool,
    host: bool,
}

impl Framing {
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        let (true, Some(number)) = (digits, number) else {
            return Err(Refusal::Malformed("Content-Length is no number"));
        };
        if self.length.replace(number).is_some() {
            return Err(Refusal::Malformed("two Content-Length fields"));
        }
        Ok(())
    }

    const fn judge(&self) -> Result<u64, Refusal> {
        match (self.length, self.coded) {
            (Some(_), true) => Err(Refusal::Malformed("both Content-Length and Transfer-Encoding")),
            (None, true) => Err(Refusal::NoLength),
            (Some(length), false) => Ok(length),
            (None, false) => Ok(0),
        }
    }
}

/// Path and query of a target in origin form or absolute form (RFC 9112 section 3.2); proxies send the latter, and it must be taken.
fn origin(target: &str, method: Method) -> Result<(&str, Option<&str>), Refusal> {
    let target = target.split('#').next().unwrap_or_default();
    let scheme = target.get(..7).filter(|start| start.eq_ignore_ascii_case("http://"));
    let below = match scheme.and_then(|_| target.get(7..)) {
        Some(rest) => match rest.find(['/', '?']).and_then(|at| rest.get(at..)) {
            Some(below) if below.starts_with('/') => below,
            Some(query) => return Ok(("/", query.get(1..))),
            None => "/",
        },
        None if target.starts_with('/') => target,
        // `OPTIONS *` and `CONNECT host:port` are answered as every method that is not served.
        None if method == Method::Other => "/",
        None => return Err(Refusal::Malformed("the target is no path")),
    };
    Ok(match below.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (below, None),
    })
}

/// What goes before an answer's body.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    /// The status code.
    pub status: u16,
    /// Bytes of the body, and its type. None for a 304, which has neither.
    pub body: Option<(u64, &'static str)>,
    /// Further fields. One with an empty value is left out: EDK2 locks the machine up on it (edk2#7443).
    pub fields: &'a [(&'static str, String)],
    /// The time, as an IMF-fixdate.
    pub date: &'a str,
    /// Whether the connection stays open.
    pub stays: bool,
    /// True for a client of HTTP/1.0.
    pub old: bool,
}

impl Lines<'_> {
    /// Writes the head, names in title case and always as HTTP/1.1: GRUB compares `HTTP/1.1 ` and `Content-Length: ` byte for byte.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut line = |parts: &[&str]| {
            parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
            out.extend_from_slice(b"\r\n");
        };
        line(&["HTTP/1.1 ", &self.status.to_string(), " ", reason(self.status)]);
        if let Some((length, kind)) = self.body {
            line(&["Content-Length: ", &length.to_string()]);
            line(&["Content-Type: ", kind]);
        }
        for (name, value) in self.fields {
            if !value.is_empty() && !value.bytes().any(|byte| byte.is_ascii_control()) {
                line(&[name, ": ", value]);
            }
        }
        line(&["Date: ", self.date]);
        match (self.stays, self.old) {
            (false, _) => line(&["Connection: close"]),
            (true, true) => line(&["Connection: keep-alive"]),
            (true, false) => {}
        }
        line(&[]);
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, Refusal> {
        let length = Scan::default().look(text.as_bytes())?.expect("a whole head");
        Head::parse(&text.as_bytes()[..length])
    }

    fn with(fields: &str) -> Result<Head, Refusal> {
        read(&format!("POST /r/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    }

    #[test]
    fn a_request_is_the_same_however_it_arrives() {
        let text =
            "GET /d/lab/a%20b?x=1 HTTP/1.1\r\nHost: a\r\nRANGE:\t bytes=0-1 \r\nConnection: Keep-Alive, Close\r\n\r\n";
        let whole = read(text).unwrap();
        assert_eq!(
            (whole.path.as_str(), whole.query.as_deref()),
            ("/d/lab/a%20b", Some("x=1"))
        );
        assert_eq!(whole.range.as_deref(), Some("bytes=0-1"));
        assert!(!whole.keep_alive);
        let mut scan = Scan::default();
        for end in 1..text.len() {
            assert_eq!(scan.look(&text.as_bytes()[..end]), Ok(None), "{end}");
        }
        let next = format!("{text}GET /next");
        assert_eq!(scan.look(next.as_bytes()), Ok(Some(text.len())));
    }

    #[test]
    fn what_could_be_framed_in_two_ways_is_refused() {
        for (fields, status) in [
            ("Content-Length: 3\r\nContent-Length: 3\r\n", 400),
            ("Content-Length: 3\r\nContent-Length: 4\r\n", 400),
            ("Content-Length: 3, 3\r\n", 400),
            ("Content-Length: +3\r\n", 400),
            ("Content-Length: -1\r\n", 400),
            ("Content-Length: 0x3\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", 400),
            ("Transfer-Encoding: chunked\r\n", 411),
            ("Transfer-Encoding: xchunked\r\n", 411),
            ("Transfer-Encoding: identity\r\n", 411),
            ("Transfer-Encoding : chunked\r\n", 400),
            ("X: a\r\n folded\r\n", 400),
            (" X: a\r\n", 400),
            ("X: a\nY: b\r\n", 400),
            ("X: a\rY: b\r\n", 400),
            ("X: a\0\r\n", 400),
            ("X\r\n", 400),
            (": a\r\n", 400),
            ("Host: b\r\n", 400),
            ("Expect: tea\r\n", 417),
        ] {
            assert_eq!(with(fields).map_err(Refusal::status), Err(status), "{fields:?}");
        }
        assert_eq!(with("Content-Length: 3\r\n").unwrap().length, 3);
        assert_eq!(with(&"X: a\r\n".repeat(99)).unwrap().length, 0);
        assert_eq!(with(&"X: a\r\n".repeat(100)), Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        let mut hello = vec![0x16, 3, 1, 2, 0];
        assert_eq!(Scan::default().look(&hello), Err(Refusal::Tls));
        hello.insert(0, 0);
        for (bytes, refusal) in [
            (hello.as_slice(), Refusal::NotHttp),
            (b"GET /x\r\n", Refusal::NotHttp),
            (b"GET /x\n", Refusal::Malformed("lines end in CR LF")),
            (b"HTTP/1.1\r\n", Refusal::Version),
            (b"PRI * HTTP/2.0\r\n", Refusal::Version),
            (b"GET / HTTP/1.2\r\n", Refusal::Version),
            (b"GET / http/1.1\r\n", Refusal::NotHttp),
            (b"GET / HTTP/1.1 \r\n", Refusal::NotHttp),
            (b"\0\0\0", Refusal::NotHttp),
        ] {
            assert_eq!(Scan::default().look(bytes), Err(refusal), "{bytes:?}");
        }
    }

    #[test]
    fn a_long_head_is_refused_before_it_ends() {
        let text = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(LONGEST));
        assert_eq!(Scan::default().look(text.as_bytes()), Err(Refusal::HeadTooLarge));
        assert_eq!(
            Scan::default().look(format!("{text}\r\n\r\n").as_bytes()),
            Err(Refusal::HeadTooLarge)
        );
    }

    #[test]
    fn targets() {
        let target = |text: &str| {
            let head = read(&format!("{text} HTTP/1.1\r\n\r\n"))?;
            Ok::<_, Refusal>((head.path, head.query))
        };
        let is = |path: &str, query: Option<&str>| Ok((path.to_owned(), query.map(str::to_owned)));
        assert_eq!(target("GET http://h:80/a/b?c#d"), is("/a/b", Some("c")));
        assert_eq!(target("GET HTTP://h"), is("/", None));
        assert_eq!(target("GET http://h?q"), is("/", Some("q")));
        assert_eq!(target("GET //grubx64.efi"), is("//grubx64.efi", None));
        assert_eq!(target("OPTIONS *"), is("/", None));
        assert_eq!(target("CONNECT h:443"), is("/", None));
        assert!(target("GET a").is_err());
        assert!(target("GET *").is_err());
        assert!(target("GET  /").is_err());
        assert!(target("GET /a b").is_err());
    }

    #[test]
    fn http_1_0_stays_only_when_asked() {
        let old = |fields: &str| read(&format!("GET / HTTP/1.0\r\n{fields}\r\n")).unwrap();
        assert!(!old("").keep_alive);
        assert!(old("Connection: keep-alive\r\n").keep_alive);
        assert!(old("").old);
        // GRUB, whatever its version: it reads on until the connection ends.
        assert!(!with("User-Agent: GRUB 2.06-13+deb12u2\r\n").unwrap().keep_alive);
        assert!(with("User-Agent: UefiHttpBoot/1.0\r\n").unwrap().keep_alive);
    }

    #[test]
    fn an_answers_head_has_no_empty_and_no_forged_line() {
        let fields = [
            ("ETag", "\"1\"".to_owned()),
            ("X-Empty", String::new()),
            ("X-Two", "a\r\nSet-Cookie: b".to_owned()),
        ];
        let mut out = Vec::new();
        let lines = Lines {
            status: 206,
            body: Some((5, "application/efi")),
            fields: &fields,
            date: "now",
            stays: true,
            old: true,
        };
        lines.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Type: application/efi\r\nETag: \"1\"\r\nDate: now\r\n\
             Connection: keep-alive\r\n\r\n"
        );
    }
}
