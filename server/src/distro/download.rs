//! Fetches an image from a URL into a staged file below the state folder: bounded, with progress, and resumed where it was cut off.
//!
//! Nothing that a server says is believed further than it can be checked: each redirect and each resolved address is judged, a body is
//! exactly as long as was announced, and one that stands still or crawls is given up. It never writes outside its own folder.
#![expect(
    clippy::disallowed_methods,
    reason = "IO: talks to web servers for an import, and keeps the part that came; reads the clock to tell who is too slow"
)]

use super::import::{Cause, Progress, enough_space};
use super::remote::{self, BadUrl, REDIRECTS};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use ureq::http::{self, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy};
use url::Url;

/// How long a server may be silent where the admin says nothing.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes a second below which a server crawls.
const CRAWL: u64 = 1024;
/// How often a transfer that was cut off is taken up again by one command.
const ATTEMPTS: usize = 5;
/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// Folders of downloads start so; a distro's name never starts with a dot.
const FOLDER: &str = ".download-";
/// Parts that nobody asked for again are removed after this long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Where systems keep the certificates that they trust: Debian's and SUSE's place, then those of the Red Hat family and Alpine.
const TRUSTED: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Largest bundle of certificates that is read.
const LARGEST_BUNDLE: u64 = 16 << 20;

/// How to fetch.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Loopback, link-local and metadata addresses may be asked.
    pub allow_local: bool,
    /// How long a server may be silent; none: a minute.
    pub patience: Option<Duration>,
    /// The certificates that are trusted, in PEM; none: the system's.
    pub trust: Option<PathBuf>,
}

impl Manners {
    fn patience(&self) -> Duration {
        self.patience.unwrap_or(PATIENCE).max(Duration::from_secs(1))
    }
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL, or one that it redirects to.
    #[error("{bad}{}", told_by(.by.as_deref()))]
    Url {
        /// What is wrong.
        bad: BadUrl,
        /// Who redirected there.
        by: Option<String>,
    },
    /// A name that stands for an address that is not asked.
    #[error("{0}\n  remedy      say --allow-local-address if that is meant")]
    Local(String),
    /// From one to the next without an end.
    #[error("it redirects more than {REDIRECTS} times\n  remedy      give the URL of the image itself")]
    Redirects,
    /// A redirect to nowhere.
    #[error("it redirects, and does not say where to\n  remedy      give the URL of the image itself")]
    Nowhere,
    /// The server has no such thing.
    #[error("the server answers {0}\n  remedy      look whether the URL is right")]
    Status(u16),
    /// A body without an announced length has no end that can be known.
    #[error("the server does not say how long it is\n  remedy      download it by other means and import the file")]
    NoLength,
    /// Longer than what is asked for ever is.
    #[error("it has {} where at most {} are read\n  remedy      look whether the URL is right", crate::event::size(*.has), crate::event::size(*.most))]
    TooLong {
        /// Announced.
        has: u64,
        /// Allowed.
        most: u64,
    },
    /// Silence, or a trickle.
    #[error("the server sends less than 1 KiB/s for {} s\n  remedy      run the same command again, which goes on where it stopped; or wait longer: --timeout SECONDS", .0.as_secs())]
    Slow(Duration),
    /// The server closed, again and again.
    #[error("the server closes after {} of {}\n  remedy      run the same command again, which goes on where it stopped", crate::event::size(*.came), crate::event::size(*.all))]
    Cut {
        /// Bytes that came.
        came: u64,
        /// Bytes that were announced.
        all: u64,
    },
    /// Another import fetches it.
    #[error("another import fetches it\n  remedy      wait for it")]
    Busy,
    /// Nobody who is trusted vouches for the server.
    #[error(
        "{0}\n  remedy      have the system trust the server's authority, or name its certificate: SSL_CERT_FILE=FILE"
    )]
    Certificate(String),
    /// It could not be asked, or did not speak HTTP.
    #[error("{0}\n  remedy      look whether the URL is right and the server is up")]
    Failed(String),
}

fn told_by(url: Option<&str>) -> String {
    url.map_or_else(String::new, |url| format!("\n  redirected  by {url}"))
}

/// An address that is not asked, on its way through the client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Resolves names as the system does, and refuses addresses that are not to be asked. What is judged here is what is connected to.
#[derive(Debug)]
struct Guard {
    system: DefaultResolver,
    allow_local: bool,
    /// The proxy's own host and port, which the admin chose.
    proxy: Option<(String, u16)>,
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.system.resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        let is_proxy = |proxy: &(String, u16)| proxy.0 == host && uri.port_u16().is_none_or(|port| port == proxy.1);
        if self.allow_local || self.proxy.as_ref().is_some_and(is_proxy) {
            return Ok(addresses);
        }
        for address in addresses.iter() {
            if let Some(what) = remote::local(address.ip()) {
                let why = Refused(format!(
                    "{host} is {}: {what}, which an import does not ask",
                    address.ip()
                ));
                return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, why)));
            }
        }
        Ok(addresses)
    }
}

fn failed(error: ureq::Error, patience: Duration) -> FetchError {
    match error {
        ureq::Error::Timeout(_) => FetchError::Slow(patience),
        ureq::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()) {
            Some(refused) => FetchError::Local(refused.0.clone()),
            None if error.kind() == io::ErrorKind::TimedOut => FetchError::Slow(patience),
            None => told(error.to_string()),
        },
        error => told(error.to_string()),
    }
}

/// What TLS says of a certificate comes as a text alone.
fn told(why: String) -> FetchError {
    match why.split_once("invalid peer certificate: ") {
        Some((_, why)) => FetchError::Certificate(format!("the server's certificate is refused: {why}")),
        None => FetchError::Failed(why),
    }
}

/// Asks web servers.
#[derive(Debug)]
pub struct Fetcher {
    agent: Agent,
    manners: Manners,
}

/// What a server answered.
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Body,
}

impl Answer {
    fn text(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn length(&self) -> Option<u64> {
        self.text(header::CONTENT_LENGTH)?.parse().ok()
    }
}

impl Fetcher {
    /// Asks as `manners` say, through the proxy that the environment names, trusting what the system trusts.
    #[must_use]
    pub fn new(manners: &Manners) -> Self {
        let patience = manners.patience();
        let proxy = Proxy::try_from_env();
        let guard = Guard {
            system: DefaultResolver::default(),
            allow_local: manners.allow_local,
            proxy: proxy.as_ref().map(|proxy| (proxy.host().to_owned(), proxy.port())),
        };
        let short = patience.min(Duration::from_secs(15));
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("cordwainer/", env!("CARGO_PKG_VERSION")))
            .tls_config(
                TlsConfig::builder()
                    .root_certs(trusted(manners.trust.as_deref()))
                    .build(),
            )
            .proxy(proxy)
            .max_idle_connections(0)
            .timeout_resolve(Some(short))
            .timeout_connect(Some(short))
            .timeout_send_request(Some(short))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience))
            .build();
        Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), guard),
            manners: manners.clone(),
        }
    }

    /// Asks for `text`, following redirects. `vouched`: a checksum makes the way that it comes by harmless.
    fn ask(&self, text: &str, more: &[(header::HeaderName, String)], vouched: bool) -> Result<Answer, FetchError> {
        let local = self.manners.allow_local;
        let refused = |by: Option<&Url>| {
            let by = by.map(Url::to_string);
            move |bad| FetchError::Url { bad, by }
        };
        let mut url = remote::judge(text, local).map_err(refused(None))?;
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(url.as_str()).header(header::ACCEPT_ENCODING, "identity");
            for (name, value) in more {
                request = request.header(name, value);
            }
            let response = request.call().map_err(|error| failed(error, self.manners.patience()))?;
            let (parts, body) = response.into_parts();
            let answer = Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body,
            };
            if !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let location = answer.text(header::LOCATION).ok_or(FetchError::Nowhere)?;
            url = remote::redirected(&url, location, local, vouched).map_err(refused(Some(&url)))?;
        }
        Err(FetchError::Redirects)
    }

    /// Fetches a small file: a publisher's checksums.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn small(&self, url: &str, most: u64) -> Result<Vec<u8>, FetchError> {
        let answer = self.ask(url, &[], false)?;
        if answer.status != 200 {
            return Err(FetchError::Status(answer.status));
        }
        if let Some(has) = answer.length().filter(|has| *has > most) {
            return Err(FetchError::TooLong { has, most });
        }
        let mut bytes = Vec::new();
        let mut pace = Pace::new(self.manners.patience());
        self.pour(
            answer.body.into_reader().take(most.saturating_add(1)),
            &mut pace,
            &mut |piece| {
                bytes.extend_from_slice(piece);
                Ok(())
            },
        )
        .map_err(|poured| match poured {
            Poured::Fetch(error) => error,
            Poured::Cut(error) | Poured::Disk(error) => FetchError::Failed(error.to_string()),
        })?;
        let has = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if has > most {
            return Err(FetchError::TooLong { has, most });
        }
        Ok(bytes)
    }

    /// Looks whether `url` is there, without fetching it.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn reaches(&self, url: &str) -> Result<(), FetchError> {
        let first = [(header::RANGE, "bytes=0-0".to_owned())];
        match self.ask(url, &first, true)?.status {
            200 | 206 => Ok(()),
            status => Err(FetchError::Status(status)),
        }
    }

    /// Reads `body` to its end, piece by piece, and gives up on one that crawls.
    fn pour(
        &self,
        mut body: impl Read,
        pace: &mut Pace,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Poured> {
        let mut piece = vec![0; PIECE];
        loop {
            let read = match body.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let timed_out = error.kind() == io::ErrorKind::TimedOut
                        || error
                            .get_ref()
                            .and_then(|inner| inner.downcast_ref::<ureq::Error>())
                            .is_some_and(|inner| matches!(inner, ureq::Error::Timeout(_)));
                    return Err(match timed_out {
                        true => Poured::Fetch(FetchError::Slow(self.manners.patience())),
                        false => Poured::Cut(error),
                    });
                }
            };
            take(piece.get(..read).unwrap_or_default()).map_err(Poured::Disk)?;
            pace.came(read).map_err(Poured::Fetch)?;
        }
    }

    /// Fetches the image at `url` below `state`, going on where an earlier import of the same URL was cut off. What comes back is held by this
    /// import alone until it is dropped.
    ///
    /// # Errors
    /// [`Cause::Url`] with the reason; what came stays for the next try.
    pub(super) fn image(
        &self,
        url: &str,
        state: &Path,
        vouched: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Download, Cause> {
        let refused = |error| Cause::Url {
            url: url.to_owned(),
            error: Box::new(error),
        };
        // Before anything is made on disk.
        remote::judge(url, self.manners.allow_local).map_err(|bad| refused(FetchError::Url { bad, by: None }))?;
        let digest: String = Sha256::digest(url)
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let folder = state.join("distros").join(format!("{FOLDER}{digest}"));
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |error| Cause::Io { path, error }
        };
        let is_new = std::fs::metadata(&folder).is_err();
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join("part");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let file = file.map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(refused(FetchError::Busy)),
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let mut staged = Staged {
            folder: folder.clone(),
            file,
        };
        let fetched = self.fill(&mut staged, url, state, vouched, progress);
        if fetched.is_err() && is_new && staged.length().unwrap_or(0) == 0 {
            // What could not even begin leaves nothing.
            let _ = std::fs::remove_dir_all(&folder);
        }
        fetched.map_err(|failed| match failed {
            Failed::Fetch(error) => refused(error),
            Failed::Cause(cause) => cause,
            Failed::Disk(error) => at(&path)(error),
        })?;
        Ok(Download {
            folder,
            path,
            _held: staged.file,
        })
    }

    fn fill(
        &self,
        staged: &mut Staged,
        url: &str,
        state: &Path,
        vouched: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Failed> {
        let mut cut = (0, 0);
        for _ in 0..ATTEMPTS {
            let before = staged.length()?;
            let known = staged.known();
            let goes_on = known.as_ref().filter(|known| before > 0 && before <= known.length);
            let more: Vec<_> = match goes_on.and_then(|known| Some((known, known.validator()?))) {
                Some((_, validator)) => vec![
                    (header::RANGE, format!("bytes={before}-")),
                    (header::IF_RANGE, validator.to_owned()),
                ],
                None => Vec::new(),
            };
            let asked = self.ask(url, &more, vouched)?;
            let (begin, length) = match asked.status {
                200 => (0, asked.length().ok_or(FetchError::NoLength)?),
                206 if !more.is_empty() => {
                    let range = asked.text(header::CONTENT_RANGE).and_then(remote::content_range);
                    let expected = (before, known.as_ref().map_or(0, |known| known.length));
                    match range {
                        Some(range) if range == expected => range,
                        _ => {
                            // Another part than was asked for: what is there is not to be trusted with it.
                            staged.file.set_len(0)?;
                            continue;
                        }
                    }
                }
                // Nothing is left to fetch: the server has exactly what is here.
                416 if known.as_ref().is_some_and(|known| known.length == before) => {
                    let all = asked
                        .text(header::CONTENT_RANGE)
                        .and_then(|value| value.strip_prefix("bytes */"));
                    if all.and_then(|all| all.trim().parse::<u64>().ok()) == Some(before) {
                        return Ok(());
                    }
                    staged.file.set_len(0)?;
                    continue;
                }
                416 if !more.is_empty() => {
                    staged.file.set_len(0)?;
                    continue;
                }
                status => return Err(FetchError::Status(status).into()),
            };
            enough_space(state, length.saturating_sub(begin)).map_err(Failed::Cause)?;
            staged.file.set_len(begin)?;
            staged.file.seek(SeekFrom::Start(begin))?;
            staged.note(&Known {
                url: url.to_owned(),
                length,
                etag: asked.text(header::ETAG).map(str::to_owned),
                modified: asked.text(header::LAST_MODIFIED).map(str::to_owned),
            })?;
            let mut came = begin;
            let mut pace = Pace::new(self.manners.patience());
            let wanted = length.saturating_sub(begin);
            progress(Progress::Fetching {
                bytes: begin,
                all_bytes: length,
            });
            let poured = self.pour(asked.body.into_reader().take(wanted), &mut pace, &mut |piece| {
                (&staged.file).write_all(piece)?;
                came = came.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
                progress(Progress::Fetching {
                    bytes: came,
                    all_bytes: length,
                });
                Ok(())
            });
            match poured {
                Ok(()) if came == length => return Ok(()),
                Ok(()) | Err(Poured::Cut(_)) => cut = (came, length),
                Err(Poured::Fetch(error)) => return Err(error.into()),
                Err(Poured::Disk(error)) => return Err(error.into()),
            }
            if came == begin {
                break;
            }
        }
        let (came, all) = cut;
        Err(FetchError::Cut { came, all }.into())
    }
}

/// How a body ended before its end.
enum Poured {
    /// Given up.
    Fetch(FetchError),
    /// The connection broke.
    Cut(io::Error),
    /// What came could not be taken.
    Disk(io::Error),
}

/// How a download ended.
enum Failed {
    Fetch(FetchError),
    Cause(Cause),
    Disk(io::Error),
}

impl From<FetchError> for Failed {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

/// Judges how fast bytes come, once in each span of patience.
struct Pace {
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: Instant::now(),
            bytes: 0,
        }
    }

    fn came(&mut self, bytes: usize) -> Result<(), FetchError> {
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(0));
        let now = Instant::now();
        if now.saturating_duration_since(self.since) < self.patience {
            return Ok(());
        }
        if self.bytes < CRAWL.saturating_mul(self.patience.as_secs()) {
            return Err(FetchError::Slow(self.patience));
        }
        (self.since, self.bytes) = (now, 0);
        Ok(())
    }
}

/// What is known of a part: whose it is, and how to tell whether the server still has the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    url: String,
    length: u64,
    etag: Option<String>,
    modified: Option<String>,
}

impl Known {
    /// For If-Range: a weak tag does not vouch for bytes (RFC 9110 section 13.1.5).
    fn validator(&self) -> Option<&str> {
        let strong = self.etag.as_deref().filter(|tag| !tag.starts_with("W/"));
        strong.or(self.modified.as_deref())
    }
}

/// A part on disk.
struct Staged {
    folder: PathBuf,
    file: File,
}

impl Staged {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// None where nothing is known, as after a kill in between: it begins anew.
    fn known(&self) -> Option<Known> {
        let text = std::fs::read_to_string(self.folder.join("about.toml")).ok()?;
        toml::from_str(&text).ok()
    }

    fn note(&self, known: &Known) -> io::Result<()> {
        let text = toml::to_string(known).map_err(io::Error::other)?;
        let (new, about) = (self.folder.join("about.new"), self.folder.join("about.toml"));
        if std::fs::read_to_string(&about).is_ok_and(|old| old == text) {
            return Ok(());
        }
        if self
            .known()
            .is_some_and(|old| old.length != known.length || old.validator() != known.validator())
        {
            // A part of the old one must never be taken for one of the new: it goes first.
            self.file.set_len(0)?;
        }
        std::fs::write(&new, text)?;
        std::fs::rename(new, about)
    }
}

/// An image that was fetched whole, held until it is dropped.
#[derive(Debug)]
pub(super) struct Download {
    folder: PathBuf,
    /// The image.
    pub(super) path: PathBuf,
    _held: File,
}

impl Download {
    /// Moves the image to `to`, below the same state folder.
    pub(super) fn give(&self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, to)?;
        // Only what tells of the part is left, and the next tidying takes that too.
        let _ = std::fs::remove_dir_all(&self.folder);
        Ok(())
    }
}

/// Removes parts below `state` that nobody asked for again for a week.
pub(super) fn tidy(state: &Path) {
    let entries = std::fs::read_dir(state.join("distros")).into_iter().flatten();
    for entry in entries.filter_map(Result::ok) {
        if !entry.file_name().to_string_lossy().starts_with(FOLDER) {
            continue;
        }
        let part = entry.path().join("part");
        let modified = std::fs::metadata(&part)
            .or_else(|_| entry.metadata())
            .and_then(|metadata| metadata.modified());
        let old = modified.is_ok_and(|then| SystemTime::now().duration_since(then).is_ok_and(|age| age > KEPT));
        let free = File::open(&part).map_or(true, |file| file.try_lock().is_ok());
        if old
            && free
            && let Err(error) = std::fs::remove_dir_all(entry.path())
        {
            tracing::debug!("an old download is left: {error}");
        }
    }
}

/// What the admin trusts, and nothing else; else what the system trusts; where it keeps no bundle that can be read, what Mozilla trusted when
/// this program was built.
fn trusted(own: Option<&Path>) -> RootCerts {
    if let Some(path) = own {
        // A file that cannot be read vouches for nobody: what he did not mean must not take its place.
        return RootCerts::Specific(Arc::new(certificates(path)));
    }
    let mut bundles = TRUSTED.iter().map(|path| certificates(Path::new(path)));
    match bundles.find(|bundle| !bundle.is_empty()) {
        Some(bundle) => RootCerts::Specific(Arc::new(bundle)),
        None => RootCerts::WebPki,
    }
}

fn certificates(path: &Path) -> Vec<Certificate<'static>> {
    let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= LARGEST_BUNDLE);
    let bytes = if small { std::fs::read(path) } else { Ok(Vec::new()) };
    parse_pem(&bytes.unwrap_or_default())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect()
}
