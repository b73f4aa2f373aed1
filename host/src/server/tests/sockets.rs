//! The sockets themselves.

use std::path::Path;

use tokio::net::UnixListener;

use super::*;

#[tokio::test]
async fn a_socket_is_made_with_its_mode_and_removed_at_the_end() {
    use std::os::unix::fs::MetadataExt as _;
    let daemon = Daemon::start("").await;
    let about = std::fs::metadata(daemon.socket()).expect("a socket");
    assert_eq!(about.mode() & 0o777, 0o640);
    let left: Vec<_> = std::fs::read_dir(daemon.directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(left.len(), 2, "the socket and the token: {left:?}");
    let path = daemon.socket();
    let directory = daemon.stop().await;
    assert!(directory.path().exists() && !path.exists());
}

fn unix_at(path: &Path, group: Option<&str>) -> Listen {
    Listen::Unix {
        path: path.to_owned(),
        mode: 0o600,
        group: group.map(str::to_owned),
    }
}

#[tokio::test]
async fn what_is_in_the_way_of_a_socket() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("v.sock");
    let error = async |listen: Listen| bind(&listen).await.expect_err("an error").to_string();

    let missing = directory.path().join("none/v.sock");
    assert!(
        error(unix_at(&missing, None))
            .await
            .contains("none does not exist")
    );
    let long = directory.path().join("x".repeat(120));
    assert!(
        error(unix_at(&long, None))
            .await
            .contains("longer than 107 bytes")
    );
    assert!(
        error(unix_at(&path, Some("no-such-group")))
            .await
            .contains("no group 'no-such-group'")
    );
    std::fs::write(&path, "a file").expect("written");
    assert!(error(unix_at(&path, None)).await.contains("no socket"));
    assert_eq!(
        std::fs::read_to_string(&path).expect("still there"),
        "a file"
    );
    std::fs::remove_file(&path).expect("removed");

    let listening = UnixListener::bind(&path).expect("bound");
    assert!(
        error(unix_at(&path, None))
            .await
            .contains("another process is listening")
    );
    drop(listening);
    assert!(path.exists(), "left over");
    let bound = bind(&unix_at(&path, None))
        .await
        .expect("the stale one is replaced");
    drop(bound);
    assert!(!path.exists());
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let address = taken.local_addr().expect("its address");
    assert!(
        error(Listen::Tcp(address))
            .await
            .contains(&address.to_string())
    );
}
