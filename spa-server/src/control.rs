//! The control socket: JSON messages ended by NUL, one reply for each request (varlink's framing).

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use spa_keys::file::group_id;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// The longest request: the keys of 100,000 clients, whose last knocks are asked for.
const LONGEST: usize = 8 << 20;
/// How long a connection may take to send its request, or to take its reply.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections are served at once.
const MOST: usize = 32;
/// Who may talk to the daemon beside root.
const GROUP: &str = "spa-admin";

/// One request, with the way to answer it.
#[derive(Debug)]
pub struct Request {
    /// What is asked, such as `spa.Status`.
    pub method: String,
    /// With what; an object, or null.
    pub parameters: Value,
    /// The user who asks.
    pub uid: u32,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Reply>,
}

/// What a request is answered with.
pub type Reply = Result<Value, ControlError>;

/// A request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlError {
    /// What kind of error, such as `spa.NotFound`.
    pub error: String,
    /// What is wrong, for people.
    pub message: String,
}

impl ControlError {
    /// The method is not known.
    #[must_use]
    pub fn unknown_method(method: &str) -> Self {
        Self {
            error: "spa.UnknownMethod".into(),
            message: format!("this daemon does not know {}", method.escape_default()),
        }
    }

    /// The parameters are not those of the method.
    #[must_use]
    pub fn parameters(what: impl Into<String>) -> Self {
        Self {
            error: "spa.BadParameters".into(),
            message: what.into(),
        }
    }

    /// The thing asked for failed.
    #[must_use]
    pub fn failed(what: impl Into<String>) -> Self {
        Self {
            error: "spa.Failed".into(),
            message: what.into(),
        }
    }
}

/// The listening socket, which nobody answers on yet. Dropping it takes the socket away.
#[derive(Debug)]
pub struct Listener {
    socket: Option<StdListener>,
    path: PathBuf,
    inode: Option<u64>,
}

impl Listener {
    /// Listens at `path`, in the place of a socket that nobody serves any more.
    ///
    /// # Errors
    ///
    /// When the socket cannot be made.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let socket = bind(path)?;
        Ok(Self {
            socket: Some(socket),
            path: path.into(),
            inode: inode(path),
        })
    }
}

/// The control socket, answered. Dropping it ends that, and takes the socket away.
#[derive(Debug)]
pub struct Control {
    listener: Listener,
    accepting: JoinHandle<()>,
}

impl Control {
    /// Sends what is asked on `listener` to `requests`, inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the runtime cannot watch the socket.
    pub fn serve(mut listener: Listener, requests: mpsc::Sender<Request>) -> io::Result<Self> {
        let socket = listener.socket.take().ok_or(io::ErrorKind::NotConnected)?;
        socket.set_nonblocking(true)?;
        let socket = UnixListener::from_std(socket)?;
        Ok(Self {
            listener,
            accepting: tokio::spawn(accept(socket, requests)),
        })
    }
}

impl Control {
    /// Which file the socket is.
    #[must_use]
    pub const fn inode(&self) -> Option<u64> {
        self.listener.inode
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another daemon may have put its own socket in this place meanwhile.
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Which file it is, to know it again.
pub(crate) fn inode(path: &Path) -> Option<u64> {
    std::os::unix::fs::MetadataExt::ino(&path.symlink_metadata().ok()?).into()
}

/// Made beside its place with its final mode, then put there: nobody ever meets a half-made socket.
pub(crate) fn bind(path: &Path) -> io::Result<StdListener> {
    let new = path.with_extension(format!("sock.{}", std::process::id()));
    let _ = std::fs::remove_file(&new);
    let listener = StdListener::bind(&new)?;
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o660))?;
    if let Some(group) = group_id(GROUP) {
        chown(&new, None, Some(group))?;
    }
    std::fs::rename(&new, path)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    // Who is slow or gone loses the connection; nobody else notices.
                    let _ = tokio::time::timeout(PATIENCE * 2, serve(stream, &requests)).await;
                    drop(place);
                });
            }
            // Out of descriptors: wait for connections to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    method: String,
    #[serde(default)]
    parameters: Value,
}

async fn serve(mut stream: UnixStream, requests: &mpsc::Sender<Request>) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    while let Some(octets) = tokio::time::timeout(PATIENCE, receive(&mut stream)).await?? {
        let answer = match serde_json::from_slice(&octets) {
            Ok(message) => ask(message, uid, requests).await,
            Err(error) => Err(ControlError::parameters(error.to_string())),
        };
        let reply = match answer {
            Ok(parameters) => json!({ "parameters": parameters }),
            Err(error) => json!({ "error": error.error, "parameters": { "message": error.message } }),
        };
        let mut octets = serde_json::to_vec(&reply)?;
        octets.push(0);
        tokio::time::timeout(PATIENCE, stream.write_all(&octets)).await??;
    }
    Ok(())
}

async fn ask(message: Message, uid: u32, requests: &mpsc::Sender<Request>) -> Reply {
    let (reply, answer) = oneshot::channel();
    let Message { method, parameters } = message;
    let gone = || ControlError::failed("the daemon is stopping");
    requests
        .send(Request {
            method,
            parameters,
            uid,
            reply,
        })
        .await
        .map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}

/// One message without its NUL; nothing at the end of the stream.
async fn receive(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut octets = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let length = stream.read(&mut chunk).await?;
        octets.extend_from_slice(chunk.get(..length).unwrap_or_default());
        if octets.last() == Some(&0) {
            octets.pop();
            return Ok(Some(octets));
        }
        if length == 0 {
            return Ok(None);
        }
        if octets.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(path: &Path, sent: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(path).await.unwrap();
        // A peer that hangs up early is not a failure of the test.
        let _ = stream.write_all(sent).await;
        let mut reply = Vec::new();
        let mut chunk = [0; 256];
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            reply.extend_from_slice(&chunk[..length]);
            if reply.ends_with(&[0]) {
                break;
            }
        }
        reply
    }

    #[tokio::test]
    async fn answers_and_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let (sender, mut requests) = mpsc::channel(4);
        let control = Control::serve(Listener::bind(&path).unwrap(), sender).unwrap();
        tokio::spawn(async move {
            while let Some(request) = requests.recv().await {
                let answer = match request.method.as_str() {
                    "spa.Echo" => Ok(request.parameters),
                    other => Err(ControlError::unknown_method(other)),
                };
                request.reply.send(answer).unwrap();
            }
        });
        let echo = exchange(&path, b"{\"method\":\"spa.Echo\",\"parameters\":{\"a\":1}}\0").await;
        assert_eq!(echo, b"{\"parameters\":{\"a\":1}}\0");
        let unknown = exchange(&path, b"{\"method\":\"x\\u001b\"}\0").await;
        let unknown = String::from_utf8(unknown).unwrap();
        assert!(
            unknown.contains("spa.UnknownMethod") && unknown.contains("u{1b}"),
            "{unknown}"
        );
        let junk = String::from_utf8(exchange(&path, b"junk\0").await).unwrap();
        assert!(junk.contains("spa.BadParameters"), "{junk}");
        assert_eq!(exchange(&path, &vec![b'x'; 2 * LONGEST]).await, b"");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
        drop(control);
        assert!(!path.exists());
    }
}
