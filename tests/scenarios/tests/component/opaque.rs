//! What cannot be read without `reveal`, what metadata says, and what a guest is not told.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use vaultref_host::component::Secrets;
use vaultref_host::embed::ForeignFunction;
use wasmtime::component::Val;

use crate::bed::{Bed, Grant, Guest, TOKEN, VALUE, component, engine, linker};

#[test]
fn a_guest_without_reveal_holds_and_hands_on_what_it_cannot_read() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = bed.holder()?;
    let handle = guest.handle(TOKEN)?;
    guest.revision(handle)?;
    guest.lifetime(handle)?;
    assert_eq!(guest.call("lend", &[Val::U32(handle)])?, Val::Bool(true));
    assert_eq!(guest.store.data().lent, [VALUE.as_bytes()]);

    let Val::List(memory) = guest.call("memory-contents", &[])? else {
        bail!("no list")
    };
    let memory: Vec<u8> = memory
        .iter()
        .map(|byte| match byte {
            Val::U8(byte) => *byte,
            _ => 0,
        })
        .collect();
    let has = |text: &str| {
        memory
            .windows(text.len())
            .any(|bytes| bytes == text.as_bytes())
    };
    assert!(has(TOKEN), "this is not the guest's memory");
    assert!(!has(VALUE) && !has(&VALUE[..8]) && !has(&VALUE[8..]));
    Ok(())
}

#[test]
fn a_guest_that_imports_reveal_does_not_start_where_it_is_not_granted() -> Result<()> {
    let bed = Bed::new()?;
    let refused = Guest::new(bed.secrets(), "component-reader", Grant::Hold);
    let error = refused.map(|_| ()).expect_err("it started");
    assert!(
        format!("{error:#}").contains("vaultref:secrets/reveal@1.0.0"),
        "{error:#}"
    );
    let mut guest = bed.reader()?;
    let handle = guest.handle(TOKEN)?;
    assert_eq!(guest.reveal(handle)?, Ok(VALUE.as_bytes().to_vec()));
    Ok(())
}

/// What a guest could do is what it imports, and that can be seen before it runs.
#[test]
fn the_import_is_the_capability() -> Result<()> {
    for (package, has_reveal) in [("component-holder", false), ("component-reader", true)] {
        let component = component(package)?;
        let ty = component.component_type();
        let imports: Vec<_> = ty
            .imports(engine())
            .map(|(name, _)| name.to_owned())
            .collect();
        let imports_reveal = imports
            .iter()
            .any(|name| name == "vaultref:secrets/reveal@1.0.0");
        assert_eq!(imports_reveal, has_reveal, "{imports:?}");
        // And nothing of WASI or of anybody else.
        let others = imports.iter().filter(|name| !name.starts_with("vaultref:"));
        assert_eq!(others.count(), 0, "{imports:?}");
    }
    assert!(
        linker(Grant::Hold)?
            .instantiate_pre(&component("component-holder")?)
            .is_ok()
    );
    Ok(())
}

#[test]
fn metadata_says_nothing_of_the_value_nor_of_its_length() -> Result<()> {
    let long = "x".repeat(100_000);
    let values: [&[u8]; 5] = [b"", b"a", b"b", long.as_bytes(), b"\xff\xfe"];
    let told = values.map(|value| {
        let bed = Bed::new()?;
        bed.write("token", value)?;
        let mut guest = bed.holder()?;
        let handle = guest.handle(TOKEN)?;
        Ok((guest.revision(handle)?, guest.lifetime(handle)?))
    });
    let told = told.into_iter().collect::<Result<Vec<_>>>()?;
    for other in &told[1..] {
        assert_eq!(*other, told[0]);
    }
    Ok(())
}

#[test]
fn failures_are_those_of_the_contract() -> Result<()> {
    let bed = Bed::new()?;
    bed.write("private", "not for guests")?;
    bed.write("object", r#"{"number":7}"#)?;
    let over_http = ForeignFunction::new(bed.resolver.clone(), bed.access.clone());
    let mut guest = bed.holder()?;
    for (reference, kind) in [
        ("{vault://files/private}", "denied"),
        ("{vault://env/aws-secret-access-key}", "denied"),
        ("{vault://files/none}", "not-found"),
        ("{vault://files/object/none}", "key-not-found"),
        ("{vault://files/object/number}", "wrong-type"),
        ("{vault://nowhere/token}", "unknown-vault"),
        ("files/token", "invalid-reference"),
        ("", "invalid-reference"),
    ] {
        assert_eq!(guest.get(reference)?, Err(kind.to_owned()), "{reference}");
        // The same bytes that go over HTTP.
        let request = serde_json::json!({ "references": [reference] });
        let reply = over_http.call(request.to_string().as_bytes());
        let reply: Value = serde_json::from_slice(reply.expose())?;
        assert_eq!(reply["results"][0]["failure"]["kind"], kind, "{reference}");
    }
    let long = format!("{{vault://files/{}ü}}", "ü".repeat(500_000));
    assert_eq!(guest.get(&long)?, Err("invalid-reference".to_owned()));
    assert_eq!(guest.store.data().secrets.held(), 0);
    Ok(())
}

#[test]
fn options_that_are_not_allowed_are_refused() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = bed.holder()?;
    for reference in [
        "{vault://env/secret-access-key?prefix=aws_}",
        "{vault://files/token?prefix=/etc}",
        "{vault://files/token?host=example.com}",
        "{vault://files/token?ttl=-1}",
        "{vault://files/token?ttl=1&ttl=2}",
    ] {
        let refused = Err("invalid-reference".to_owned());
        assert_eq!(guest.get(reference)?, refused, "{reference}");
    }
    guest.handle("{vault://files/token?ttl=60}")?;
    Ok(())
}

/// What is there and may not be read looks the same as what is not there.
#[test]
fn a_guest_cannot_find_out_which_secrets_there_are() -> Result<()> {
    let bed = Bed::new()?;
    bed.write("private", "not for guests")?;
    let mut guest = bed.holder()?;
    for (there, not_there) in [
        ("{vault://files/private}", "{vault://files/private2}"),
        (
            "{vault://env/aws-secret-access-key}",
            "{vault://env/aws-secret-access-kex}",
        ),
    ] {
        assert_eq!(guest.get(there)?, Err("denied".to_owned()));
        assert_eq!(guest.get(not_there)?, Err("denied".to_owned()));
    }
    for reference in [
        "{vault://files/*}",
        "{vault://files/.}",
        "{vault://files/}",
        "{vault://files}",
        "{vault://env/test*}",
        "{vault://env/*}",
        "{vault://*/token}",
    ] {
        assert!(guest.get(reference)?.is_err(), "{reference}");
    }
    Ok(())
}

#[test]
fn the_debug_form_of_what_is_held_shows_no_value() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = bed.holder()?;
    guest.handle(TOKEN)?;
    let secrets: &Secrets = &guest.store.data().secrets;
    for text in [format!("{secrets:?}"), format!("{secrets:#?}")] {
        assert!(
            !text.contains("hunter2") && !text.contains("files/token"),
            "{text}"
        );
        assert!(text.contains("held: 1"), "{text}");
    }
    let error = guest
        .store
        .data_mut()
        .secrets
        .get("{vault://files/hunter2}");
    let error = error.map(|_| ()).err().context("a failure")?;
    for text in [format!("{error}"), format!("{error:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    Ok(())
}
