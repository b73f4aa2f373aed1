//! Sockets to listen on, made so that nobody can use them before they are as they should be.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Listen;
use crate::policy::Origin;

/// `sun_path` has 108 bytes, the last of which is NUL.
const MAX_PATH_BYTES: usize = 107;

/// A socket that is being listened on. A Unix socket's file goes when it is dropped.
#[derive(Debug)]
pub struct Bound(Socket);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        file: SocketFile,
    },
}

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {place}: {cause}")]
pub struct ListenError {
    place: String,
    cause: String,
}

/// Listens on an address.
///
/// # Errors
/// Names the address and the cause.
pub async fn bind(listen: &Listen) -> Result<Bound, ListenError> {
    match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|error| fail(&format!("tcp://{address}"), error.kind().to_string()))?;
            Ok(Bound(Socket::Tcp(listener)))
        }
        Listen::Unix { path, mode, group } => {
            let place = format!("unix:{}", path.display());
            unix(path, *mode, group.as_deref())
                .await
                .map_err(|cause| fail(&place, cause))
        }
    }
}

impl Bound {
    /// The address, as it is written in logs.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.0 {
            Socket::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "tcp".to_owned(), |address| format!("tcp://{address}")),
            Socket::Unix { file, .. } => format!("unix:{}", file.path.display()),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Origin)> {
        match &self.0 {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are written whole; waiting for more would only delay them.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Origin::Tcp))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?;
                let origin = Origin::Unix {
                    uid: peer.uid(),
                    gid: peer.gid(),
                };
                Ok((Stream::Unix(stream), origin))
            }
        }
    }
}

async fn unix(path: &Path, mode: u32, group: Option<&str>) -> Result<Bound, String> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if path.as_os_str().len() > MAX_PATH_BYTES {
        return Err(format!(
            "the path is longer than {MAX_PATH_BYTES} bytes, the most that a socket's can have"
        ));
    }
    if !parent.is_dir() {
        return Err(format!("the directory {} does not exist", parent.display()));
    }
    let group = group.map(group_id).transpose()?;
    remove_stale(path).await?;
    // Made under a name of its own in a directory that is ours alone, and moved to its place when
    // its permissions are set: at no time can somebody connect who may not.
    let nursery = Nursery::make(parent)?;
    let born = nursery.0.join("s");
    let directory = fs::File::open(&nursery.0).map_err(|error| phrase(&error))?;
    // By a short name: that of the nursery is longer than the one that clients will use.
    let short = format!("/proc/self/fd/{}/s", directory.as_raw_fd());
    let listener = UnixListener::bind(short).map_err(|error| phrase(&error))?;
    if let Some(group) = group {
        nix::unistd::chown(&born, None, Some(group))
            .map_err(|error| format!("cannot give it to the group: {}", error.desc()))?;
    }
    fs::set_permissions(&born, Permissions::from_mode(mode)).map_err(|error| phrase(&error))?;
    fs::rename(&born, path).map_err(|error| phrase(&error))?;
    let about = fs::symlink_metadata(path).map_err(|error| phrase(&error))?;
    Ok(Bound(Socket::Unix {
        listener,
        file: SocketFile {
            path: path.to_owned(),
            inode: about.ino(),
        },
    }))
}

fn group_id(name: &str) -> Result<nix::unistd::Gid, String> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(format!("there is no group '{name}'")),
    }
}

/// A socket that nobody answers on is left over from a run that did not end well.
async fn remove_stale(path: &Path) -> Result<(), String> {
    let Ok(about) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !about.file_type().is_socket() {
        return Err("there is a file that is no socket".to_owned());
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| phrase(&error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err("another process is listening there".to_owned()),
        Err(error) => Err(format!(
            "there is a socket, and whether it is in use cannot be seen: {}",
            error.kind()
        )),
    }
}

/// A directory that only we can enter.
struct Nursery(PathBuf);

impl Nursery {
    fn make(parent: &Path) -> Result<Self, String> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = parent.join(format!(".vaultref-{}", std::process::id()));
        let _ = fs::remove_file(path.join("s"));
        let _ = fs::remove_dir(&path);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("cannot write to {}: {}", parent.display(), error.kind()))?;
        Ok(Self(path))
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}

/// Our socket's file, removed unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|about| about.ino() == self.inode);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn fail(place: &str, cause: String) -> ListenError {
    ListenError {
        place: place.to_owned(),
        cause,
    }
}

fn phrase(error: &io::Error) -> String {
    error.kind().to_string()
}
