//! Versions and their states, on drongo.

use anyhow::Result;
use vaultref_contract::wire::FailureKind;

use crate::kit::Fixture as _;
use crate::vault::{Got, Vault};

fn value(bytes: &[u8]) -> Got {
    Ok(bytes.to_vec())
}

#[test]
fn versions_come_and_go() -> Result<()> {
    let mut stand = super::fixture();
    let letters: Vec<u8> = (0..64 * 1024_u32).map(|n| b'a' + (n % 25) as u8).collect();
    let every_byte: Vec<u8> = (0..=255).collect();
    for (version, content) in [
        (1, b"one".as_slice()),
        (2, &letters),
        (3, &every_byte),
        (4, b""),
    ] {
        assert_eq!(stand.put("My_secret-1", content)?, Some(version));
    }
    let vault = Vault::new(stand.backend(), stand.config());
    let got = vault.get_all(&[
        "My_secret-1#1",
        "My_secret-1#2",
        "My_secret-1#3",
        "My_secret-1#4",
        "My_secret-1",
        "My_secret-1#5",
        "my_secret-1",
        "never",
        "never#1",
    ]);
    let none = || Err(FailureKind::NotFound);
    let expected = [
        value(b"one"),
        value(&letters),
        value(&every_byte),
        value(b""),
        value(b""),
        none(),
        none(),
        none(),
        none(),
    ];
    assert!(got == expected, "{:?}", kinds(&got));

    // A version that is out of use is none; it comes back.
    let drongo = stand.drongo()?;
    drongo.disable("My_secret-1", 1)?;
    drongo.destroy("My_secret-1", 2)?;
    let fresh = |rest: &str| Vault::new(stand.backend(), stand.config()).get(rest);
    assert_eq!(fresh("My_secret-1#1"), none());
    assert_eq!(fresh("My_secret-1#2"), none());
    drongo.enable("My_secret-1", 1)?;
    assert_eq!(fresh("My_secret-1#1"), value(b"one"));
    drongo.delete("My_secret-1")?;
    assert_eq!(fresh("My_secret-1"), none());
    Ok(())
}

#[test]
fn a_new_version_is_read_after_the_ttl() -> Result<()> {
    let mut stand = super::fixture();
    stand.put("rotated", br#"{"user":"ada"}"#)?;
    let mut config = stand.config();
    config.fields["ttl"] = 60.into();
    let vault = Vault::new(stand.backend(), config);
    assert_eq!(vault.get("rotated/user"), value(b"ada"));
    stand.put("rotated", br#"{"user":"eve"}"#)?;
    assert_eq!(vault.get("rotated/user"), value(b"ada"));
    vault.pass(60);
    assert_eq!(vault.get("rotated/user"), value(b"eve"));
    Ok(())
}

/// So that a failing test does not print 64 KiB.
fn kinds(got: &[Got]) -> Vec<Result<usize, FailureKind>> {
    let lengths = got
        .iter()
        .map(|got| got.as_ref().map(Vec::len).map_err(|kind| *kind));
    lengths.collect()
}
