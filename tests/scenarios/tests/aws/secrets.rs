//! Secrets by name and by ARN, in all shapes and stages.

use anyhow::{Context as _, Result, ensure};
use vaultref_contract::wire::FailureKind::{Denied, InvalidReference, NotFound, WrongType};
use vaultref_scenarios::moto::{ACCOUNT, REGION};

use crate::front::Front;
use crate::vault::{MARK, READ, Setup, allow, moto, reader};

#[test]
fn text_bytes_keys_and_stages() -> Result<()> {
    let moto = moto()?;
    let setup = Setup::on_moto()?.keys(&reader("shapes")?);
    let vault = setup.vault()?;
    moto.put("shapes-text", &format!("{MARK} ü\n"))?;
    moto.put(
        "shapes/team/db",
        r#"{"user":"ada","deep":{"er":"x"},"n":1}"#,
    )?;
    moto.put("/shapes//lead", "leading slash")?;
    moto.put("shapes_+=.@-/end", "all characters")?;
    moto.put_bytes("shapes-bytes", b"\xff\xfe\0")?;
    let large = "0123456789abcdeF".repeat(4096);
    moto.put("shapes-large", &large)?;
    for (rest, value) in [
        ("shapes-text", format!("{MARK} ü\n").as_bytes()),
        ("shapes/team/db/user", b"ada"),
        ("shapes/team/db/%2Fdeep%2Fer", b"x"),
        ("shapes%2Fteam%2Fdb/user", b"ada"),
        ("%2Fshapes%2F%2Flead", b"leading slash"),
        ("shapes_%2B=.@-/end/", b"all characters"),
        ("shapes-bytes", b"\xff\xfe\0"),
        ("shapes-large", large.as_bytes()),
    ] {
        vault
            .get(rest)?
            .is(value)
            .with_context(|| rest.to_owned())?;
    }
    for rest in ["shapes/team/db/n", "shapes-bytes/key", "shapes-text/key"] {
        vault.get(rest)?.fails(WrongType).context(rest)?;
    }

    moto.put("shapes-stages", "one")?;
    vault.get("shapes-stages#2")?.fails(NotFound)?;
    moto.put("shapes-stages", "two")?;
    moto.put("shapes-stages", "three")?;
    for (rest, value) in [
        ("shapes-stages", "three"),
        ("shapes-stages#1", "three"),
        ("shapes-stages#2", "two"),
    ] {
        setup.get(rest)?.is(value).context(rest)?;
    }
    for rest in ["shapes-stages#0", "shapes-stages#3", "shapes-stages#12"] {
        vault.get(rest)?.fails(NotFound).context(rest)?;
    }
    Ok(())
}

#[test]
fn what_is_gone_or_has_no_value_is_not_found() -> Result<()> {
    let moto = moto()?;
    let vault = Setup::on_moto()?.keys(&reader("gone")?).vault()?;
    moto.put("gone-deleted", MARK)?;
    moto.delete("gone-deleted")?;
    moto.put("gone-pending", MARK)?;
    moto.schedule_deletion("gone-pending")?;
    moto.put_nothing("gone-empty")?;
    for rest in ["gone-deleted", "gone-pending", "gone-empty", "gone-never"] {
        vault.get(rest)?.fails(NotFound).context(rest)?;
        vault
            .get(&format!("{rest}/key"))?
            .fails(NotFound)
            .context(rest)?;
    }
    for rest in [
        "a%20b",
        "a:b",
        "ä",
        "a%0Ab",
        "a%5Cb",
        "arn:aws:secretsmanager:x",
    ] {
        vault.get(rest)?.fails(InvalidReference).context(rest)?;
    }
    Ok(())
}

#[test]
fn an_arn_and_a_name_are_one_entry_and_one_read() -> Result<()> {
    let moto = moto()?;
    let front = Front::start()?;
    let arn = moto.put("one/entry", r#"{"a":"A","b":"B"}"#)?;
    ensure!(arn.starts_with("arn:aws:secretsmanager:"), "{arn}");
    let vault = Setup::at(&front.url())
        .keys(&reader("one-entry")?)
        .vault()?;
    vault.get("one/entry/a")?.is("A")?;
    vault.get(&format!("{arn}/b"))?.is("B")?;
    vault.get(&format!("{arn}/a#1"))?.is("A")?;
    front.was_asked(&[("GetSecretValue", 1)])?;

    // With a role the account is known from the start, so that it holds for one request too.
    let who = format!("arn:aws:iam::{ACCOUNT}:user/one-role");
    let keys = moto.create_user("one-role", &allow(&["sts:AssumeRole"]))?;
    let role = moto.create_role("one-entry", &[&who], &allow(&READ))?;
    let vault = Setup::at(&front.url())
        .keys(&keys)
        .field("assume_role_arn", role)
        .field("sts_endpoint_url", front.url())
        .vault()?;
    let got = vault.get_all(&[format!("{arn}/a"), "one/entry/b".to_owned()])?;
    got[0].is("A")?;
    got[1].is("B")?;
    front.was_asked(&[("AssumeRole", 1), ("GetSecretValue", 1)])
}

#[test]
fn an_arn_of_another_account_or_region_reads_nothing_of_ours() -> Result<()> {
    let moto = moto()?;
    let arn = moto.put("whose", MARK)?;
    let setup = Setup::on_moto()?.keys(&reader("whose")?);
    let other_account = arn.replace(ACCOUNT, "999999999999");
    let other_region = arn.replace(REGION, "us-east-1");
    let vault = setup.vault()?;
    for _ in 0..2 {
        // Before the vault's account is known, and after it.
        vault.get(&other_account)?.fails(Denied)?;
        vault.get(&other_region)?.fails(Denied)?;
        vault.get(&arn)?.is(MARK)?;
        vault.get("whose")?.is(MARK)?;
    }
    // The same in one request, to which one call answers.
    let got = setup.vault()?.get_all(&[&*other_account, &arn, "whose"])?;
    got[0].fails(Denied)?;
    got[1].is(MARK)?;
    got[2].is(MARK)?;
    Ok(())
}
