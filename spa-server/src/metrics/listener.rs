//! Who may ask for the page, and how long he may take: `GET /metrics` over HTTP/1.x, one request for each connection.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spa_keys::escape::escape;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::config::Metrics;
use crate::control::{self, Request};

/// How the daemon's loop is asked for the page.
pub const METHOD: &str = "spa.Metrics";

/// The longest request: Prometheus sends some hundred octets.
const LONGEST: usize = 8 * 1024;
/// How long a connection may last altogether.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many connections are served at once; more wait in the kernel.
const MOST: usize = 8;
/// As long one page serves everybody who asks: whoever asks without end costs the daemon's loop no more than this.
const FRESH: Duration = Duration::from_millis(100);
/// How long to wait when there are no descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The listening end, or why there is none. Dropping it takes a socket's name away.
#[derive(Debug)]
pub struct Exporter {
    place: String,
    outcome: Result<JoinHandle<()>, String>,
    socket: Option<(PathBuf, u64)>,
}

impl Exporter {
    /// Which file the socket is, where it is one.
    #[must_use]
    pub fn inode(&self) -> Option<u64> {
        self.socket.as_ref().map(|(_, inode)| *inode)
    }

    /// What status says of it.
    #[must_use]
    pub fn state(&self) -> Value {
        let (state, note) = match &self.outcome {
            Ok(_) => ("ok", None),
            Err(why) => ("failing", Some(why)),
        };
        json!({ "listen": self.place, "state": state, "note": note })
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Ok(accepting) = &self.outcome {
            accepting.abort();
        }
        // Somebody else's may be in this place by now.
        if let Some((path, inode)) = self
            .socket
            .as_ref()
            .filter(|(path, inode)| control::inode(path) == Some(*inode))
        {
            let _ = (inode, std::fs::remove_file(path));
        }
    }
}

/// Listens where the configuration says, once, before rights are given up. Nobody is shut out because metrics cannot be
/// had: what fails is logged and stays in `status`.
#[must_use]
pub fn bind(metrics: &Metrics, requests: mpsc::Sender<Request>) -> Exporter {
    bind_with(metrics, requests, PATIENCE)
}

fn bind_with(metrics: &Metrics, requests: mpsc::Sender<Request>, patience: Duration) -> Exporter {
    let (place, listener) = match metrics {
        Metrics::Listen(address) => (address.to_string(), tcp(*address).map(Listener::Tcp)),
        Metrics::Socket(path) => (path.display().to_string(), unix(path).map(Listener::Unix)),
    };
    match &listener {
        Ok(_) => info!(listen = place, "metrics can be asked for"),
        Err(error) => warn!(listen = place, "metrics cannot be asked for: {error}"),
    }
    let socket = match metrics {
        Metrics::Socket(path) if listener.is_ok() => control::inode(path).map(|inode| (path.clone(), inode)),
        _ => None,
    };
    Exporter {
        place: escape(&place).into_owned(),
        outcome: listener
            .map(|listener| tokio::spawn(accept(listener, Pages::new(requests), patience)))
            .map_err(|error| error.to_string()),
        socket,
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restart must not wait for the connections of before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(64)
}

/// In the place of a socket that nobody serves any more, and of nothing else.
fn unix(path: &Path) -> io::Result<UnixListener> {
    let found = path.symlink_metadata().ok().map(|found| found.file_type());
    if found.is_some_and(|kind| !kind.is_socket()) {
        let what = "there is something in this place that is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    if found.is_some() && std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another program serves this socket",
        ));
    }
    let listener = control::bind(path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept(listener: Listener, pages: Pages, patience: Duration) {
    let pages = Arc::new(pages);
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let attended = match &listener {
            Listener::Tcp(tcp) => tcp
                .accept()
                .await
                .map(|(stream, _)| attend(stream, &pages, place, patience)),
            Listener::Unix(unix) => unix
                .accept()
                .await
                .map(|(stream, _)| attend(stream, &pages, place, patience)),
        };
        if attended.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Who is slow or gone loses the connection; nobody else notices.
fn attend<S>(mut stream: S, pages: &Arc<Pages>, place: OwnedSemaphorePermit, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let pages = Arc::clone(pages);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(patience, serve(&mut stream, &pages)).await;
        drop(place);
    });
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, pages: &Pages) -> io::Result<()> {
    let answer = match receive(stream).await? {
        Received::Gone => return Ok(()),
        Received::TooLong => Answer::plain("431 Request Header Fields Too Large", "too long\n"),
        Received::Head(head) => match asked(&head) {
            Ok(()) => match pages.get().await {
                Some(page) => Answer::page(page),
                None => Answer::plain("503 Service Unavailable", "spa-server is stopping\n"),
            },
            Err(answer) => answer,
        },
    };
    stream.write_all(answer.octets().as_bytes()).await?;
    stream.shutdown().await
}

enum Received {
    Head(Vec<u8>),
    TooLong,
    Gone,
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Received> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let length = stream.read(&mut part).await?;
        if length == 0 {
            return Ok(Received::Gone);
        }
        head.extend_from_slice(part.get(..length).unwrap_or_default());
        if head.len() > LONGEST {
            return Ok(Received::TooLong);
        }
    }
    Ok(Received::Head(head))
}

/// Whether the page is asked for (RFC 9112, section 3). Nothing but the first line matters.
fn asked(head: &[u8]) -> Result<(), Answer> {
    let line = head.split(|octet| *octet == b'\r').next().unwrap_or_default();
    let mut words = line.split(|octet| *octet == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let is_http = version.is_some_and(|version| version.starts_with(b"HTTP/1.")) && words.next().is_none();
    let path = target.and_then(|target| target.split(|octet| *octet == b'?').next());
    match (method, path) {
        _ if !is_http => Err(Answer::plain("400 Bad Request", "this is no HTTP/1.1\n")),
        (Some(b"GET"), Some(b"/metrics")) => Ok(()),
        (Some(b"GET"), _) => Err(Answer::plain("404 Not Found", "here is only /metrics\n")),
        _ => Err(Answer {
            more: "Allow: GET\r\n",
            ..Answer::plain("405 Method Not Allowed", "only GET\n")
        }),
    }
}

/// The last page, and the way to a new one.
#[derive(Debug)]
struct Pages {
    requests: mpsc::Sender<Request>,
    last: Mutex<Option<(Instant, String)>>,
}

impl Pages {
    fn new(requests: mpsc::Sender<Request>) -> Self {
        Self {
            requests,
            last: Mutex::default(),
        }
    }

    /// The page, not older than [`FRESH`]; nothing when the daemon is stopping. One asks, the others wait for it.
    async fn get(&self) -> Option<String> {
        let mut last = self.last.lock().await;
        if let Some((_, page)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Some(page.clone());
        }
        let page = self.ask().await?;
        *last = Some((Instant::now(), page.clone()));
        Some(page)
    }

    async fn ask(&self) -> Option<String> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            method: METHOD.into(),
            parameters: Value::Null,
            uid: u32::MAX,
            reply,
        };
        self.requests.send(request).await.ok()?;
        let page = answer.await.ok()?.ok()?;
        Some(page["text"].as_str()?.to_owned())
    }
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    more: &'static str,
    body: String,
}

impl Answer {
    fn page(body: String) -> Self {
        Self {
            status: "200 OK",
            kind: "text/plain; version=0.0.4; charset=utf-8",
            more: "",
            body,
        }
    }

    fn plain(status: &'static str, body: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            more: "",
            body: body.into(),
        }
    }

    fn octets(&self) -> String {
        let Self {
            status,
            kind,
            more,
            body,
        } = self;
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    fn exporter(path: &Path) -> Exporter {
        exporter_with(path, PATIENCE)
    }

    fn exporter_with(path: &Path, patience: Duration) -> Exporter {
        let (sender, mut requests) = mpsc::channel::<Request>(4);
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                assert_eq!(request.method, METHOD);
                let _ = request.reply.send(Ok(json!({ "text": "spa_grants 1\n" })));
            }
        });
        bind_with(&Metrics::Socket(path.to_owned()), sender, patience)
    }

    async fn exchange(path: &Path, sent: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // A peer that hangs up early is not a failure of the test.
        let _ = stream.write_all(sent).await;
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    }

    #[tokio::test]
    async fn one_page_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let exporter = exporter(&path);
        assert_eq!(exporter.state()["state"], "ok");
        let page = exchange(&path, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nspa_grants 1\n"),
            "{page}"
        );
        for (sent, status) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
            (b"GET /metrics\r\n\r\n", "400"),
            (b"\x16\x03\x01\r\n\r\n", "400"),
            (b"GET /metrics HTTP/1.1 x\r\n\r\n", "400"),
            (&vec![b'x'; 3 * LONGEST], "431"),
        ] {
            let said = exchange(&path, sent).await;
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{said}");
        }
        drop(exporter);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn who_asks_without_end_asks_the_daemon_seldom() {
        let (sender, mut requests) = mpsc::channel::<Request>(4);
        let counting = tokio::spawn(async move {
            let mut count = 0;
            while let Some(request) = requests.recv().await {
                count += 1;
                let _ = request.reply.send(Ok(json!({ "text": "x" })));
            }
            count
        });
        let pages = Pages::new(sender);
        let begun = Instant::now();
        for _ in 0..1000 {
            assert_eq!(pages.get().await.as_deref(), Some("x"));
        }
        let most = begun.elapsed().as_millis() / FRESH.as_millis() + 1;
        drop(pages);
        assert!(counting.await.unwrap() <= most);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_have_an_answer(head in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = asked(&head);
        }
    }

    #[tokio::test]
    async fn nothing_is_pushed_out_of_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(exporter(&path).state()["state"], "failing");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        std::fs::remove_file(&path).unwrap();
        let first = exporter(&path);
        let second = exporter(&path);
        assert_eq!(second.state()["note"], "another program serves this socket");
        drop(second);
        assert!(
            exchange(&path, b"GET /metrics HTTP/1.1\r\n\r\n")
                .await
                .contains("spa_grants")
        );
        drop(first);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(
            exporter(&path).state()["state"],
            "ok",
            "a socket that nobody serves gives way"
        );
    }

    #[tokio::test]
    async fn who_says_nothing_loses_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.sock");
        let _exporter = exporter_with(&path, Duration::from_millis(50));
        let mut silent = Vec::new();
        for _ in 0..MOST {
            silent.push(UnixStream::connect(&path).await.unwrap());
        }
        let page = exchange(&path, b"GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(page.contains("200 OK"), "{page}");
    }
}
