//! A new process takes the place of an old one without a connection being lost: it is handed the very sockets that the old one
//! listens on, over a Unix socket, and serves from them before the old one stops taking connections and drains. A connection
//! that waits in a socket's queue waits for whoever has the socket.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustix::cmsg_space;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::app::reload::Call;

/// The process whose place is taken, and what it has handed over.
pub struct Predecessor {
    pub sockets: Vec<TcpListener>,
    stream: UnixStream,
}

impl Predecessor {
    /// Asks the process behind `path` for its sockets. `None` where nobody is there.
    ///
    /// # Errors
    /// When somebody is there who hands nothing over.
    pub fn ask(path: &Path) -> anyhow::Result<Option<Self>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot ask at {}", path.display())),
        };
        check_peer(&stream)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let gone = || "the process that was to be replaced hands no sockets over";
        let mut count = [0; 2];
        (&stream).read_exact(&mut count).with_context(gone)?;
        let sockets: io::Result<Vec<TcpListener>> = (0..u16::from_be_bytes(count)).map(|_| receive(&stream)).collect();
        Ok(Some(Self { sockets: sockets.with_context(gone)?, stream }))
    }

    /// This process serves: the other one may stop taking connections.
    pub fn release(mut self) {
        // One that has ended meanwhile needs no word.
        let _ = self.stream.write_all(&[READY]);
    }
}

/// Where a process that is to take over asks.
///
/// # Errors
/// When the path is taken by something that is no socket, or cannot be written.
pub fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    let shown = || format!("`server.upgrade_socket` {}", path.display());
    match fs::symlink_metadata(path) {
        Ok(facts) if facts.file_type().is_socket() => fs::remove_file(path).with_context(shown)?,
        Ok(_) => bail!("{}: there is a file that is no socket", shown()),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).with_context(shown)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(shown)?;
    Ok(listener)
}

/// Returns when a successor has everything and serves. What goes wrong before that changes nothing here.
pub async fn successor(listener: UnixListener, calls: mpsc::Sender<Call>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Without a pause the loop would spin: the connection that could not be taken is still there.
            sleep(PAUSE).await;
            continue;
        };
        match hand_over(stream, &calls).await {
            Ok(()) => return,
            Err(error) => tracing::warn!("a process that was to take over has not: {error:#}"),
        }
    }
}

async fn hand_over(mut stream: tokio::net::UnixStream, calls: &mpsc::Sender<Call>) -> anyhow::Result<()> {
    check_peer(&stream)?;
    let (answer, lent) = oneshot::channel();
    calls.send(Call::Lend(answer)).await.map_err(|_| anyhow!("this process is stopping"))?;
    let sockets = lent.await.context("this process is stopping")?;
    stream.write_all(&u16::try_from(sockets.len())?.to_be_bytes()).await?;
    for socket in &sockets {
        timeout(PATIENCE, stream.async_io(Interest::WRITABLE, || send(&stream, socket)))
            .await
            .context("it reads too slowly")??;
    }
    let mut word = [0; 1];
    timeout(PATIENCE, stream.read_exact(&mut word)).await.context("it did not become ready")?.context(ENDED)?;
    Ok(())
}

/// Only the same user and root may have our sockets, or give us theirs.
fn check_peer(stream: impl AsFd) -> anyhow::Result<()> {
    let peer = socket_peercred(stream).map_err(io::Error::from).context("its user is not known")?.uid.as_raw();
    let own = fs::metadata("/proc/self").context("our own user is not known")?.uid();
    match peer == own || peer == 0 {
        true => Ok(()),
        false => bail!("it belongs to the user {peer}, not to {own}"),
    }
}

/// One socket, with one byte that carries it.
fn send(stream: impl AsFd, socket: &TcpListener) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    let handed = [socket.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&handed)) {
        return Err(io::Error::other("a socket does not fit into its message"));
    }
    sendmsg(stream, &[IoSlice::new(&[SOCKET])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive(stream: &UnixStream) -> io::Result<TcpListener> {
    let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0; 1];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = |message| if let RecvAncillaryMessage::ScmRights(mut sockets) = message { sockets.next() } else { None };
    let handed: Option<OwnedFd> = control.drain().find_map(rights);
    handed.map(TcpListener::from).ok_or_else(|| io::Error::other("a socket did not come with its message"))
}

const ENDED: &str = "it ended before it was ready";
const READY: u8 = b'r';
const SOCKET: u8 = b's';
/// For the other process to start, or to hand over.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
