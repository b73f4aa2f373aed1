//! Secrets that change while a guest holds them.

use std::fs;
use std::os::unix::fs::symlink;

use anyhow::Result;
use vaultref_host::component::Secrets;

use crate::bed::{Bed, Grant, Guest, TOKEN, VALUE, soon};

#[test]
fn after_a_rotation_get_gives_a_new_secret_and_the_old_one_stays_what_it_was() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = bed.holder()?;
    let old = guest.handle(TOKEN)?;
    let revision = guest.revision(old)?;
    assert!(guest.lifetime(old)?.0 > 0);
    bed.write("token", "newer")?;
    let mut new = old;
    soon("the new value", || {
        new = guest.handle(TOKEN)?;
        Ok(guest.revision(new)? != revision)
    })?;
    assert_eq!(guest.revision(old)?, revision);
    for handle in [old, new] {
        guest.call("lend", &[wasmtime::component::Val::U32(handle)])?;
    }
    assert_eq!(guest.store.data().lent, [VALUE.as_bytes(), b"newer"]);
    let (fresh_for, usable_for, _) = guest.lifetime(old)?;
    assert_eq!(fresh_for, 0, "the guest is to get it anew");
    assert!(usable_for > 0);
    assert!(guest.lifetime(new)?.0 > 0);
    Ok(())
}

/// A link that leads out of the vault is what a file vault forbids.
#[test]
fn a_secret_that_is_denied_while_it_is_held_is_of_no_use_any_more() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = bed.reader()?;
    let handle = guest.handle(TOKEN)?;
    let link = bed.dir.path().join("link");
    symlink("/etc/hostname", &link)?;
    fs::rename(&link, bed.dir.path().join("token"))?;
    let mut kind = String::new();
    soon("the refusal", || {
        let revealed = guest.reveal(handle)?;
        kind = revealed.as_ref().err().cloned().unwrap_or_default();
        Ok(revealed.is_err())
    })?;
    assert_eq!(kind, "denied");
    // And it does not come back: that would be another secret.
    bed.write("token", VALUE)?;
    soon("the file", || Ok(guest.get(TOKEN)?.is_ok()))?;
    assert_eq!(guest.reveal(handle)?, Err("denied".to_owned()));
    Ok(())
}

#[test]
fn a_value_that_is_no_text_is_revealed_as_bytes() -> Result<()> {
    let bed = Bed::new()?;
    bed.write("token", b"\xff\x00\xfe")?;
    let mut guest = bed.reader()?;
    let handle = guest.handle(TOKEN)?;
    assert_eq!(guest.reveal(handle)?, Ok(b"\xff\x00\xfe".to_vec()));
    Ok(())
}

/// Without leave to block, `get` says that the read has begun, and the embedder is told of its end.
#[test]
fn what_is_not_in_memory_is_pending_unless_the_embedder_lets_it_wait() -> Result<()> {
    let bed = Bed::new()?;
    let secrets = Secrets::new(bed.resolver, bed.access);
    let mut reads = secrets.finished_reads();
    let mut guest = Guest::new(secrets, "component-reader", Grant::Reveal)?;
    assert_eq!(guest.get(TOKEN)?, Err("pending".to_owned()));
    let mut got = Err(String::new());
    soon("the value", || {
        if reads.has_changed()? {
            reads.mark_unchanged();
            got = guest.get(TOKEN)?;
        }
        Ok(got.is_ok())
    })
}
