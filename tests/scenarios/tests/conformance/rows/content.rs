//! Objects that are there, or are not.

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;
use vaultref_contract::wire::FailureKind;

use crate::bench::{Bench, Got, TTL, Verdict, reference};
use crate::kit::Fixture;

/// The most that every backend of the cloud takes.
const LARGE: usize = 64 * 1024;

const MEMBERS: &str = r#"{"user":"ada","empty":"","n":1,"yes":true,"none":null,"list":["zero","one"],"db":{"password":"p"},"/flat/name":"flat","a/b":"slash"}"#;

pub fn create_and_read<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    bench.put_value(&name, "one two\tthree {vault://a/b} ü")?;
    let got = bench.resolver()?.get(&bench.value_reference(&name, ""))?;
    got.is("one two\tthree {vault://a/b} ü")?;
    Ok(Verdict::Shown)
}

pub fn update_seen_after_the_ttl<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    let reference = bench.value_reference(&name, "");
    bench.put_value(&name, "one")?;
    if bench.fixture.is_live() {
        // Vaults and clients of them are made once; the change happens under their hands.
        let content = bench.value_content("two");
        let (asking, fixture) = bench.apart()?;
        asking.get(&reference)?.is("one")?;
        fixture.put(&name, &content)?;
        asking.pass(TTL);
        asking.get(&reference)?.is("two")?;
        return Ok(Verdict::Shown);
    }
    bench.resolver()?.get(&reference)?.is("one")?;
    bench.put_value(&name, "two")?;
    bench.resolver()?.get(&reference)?.is("two")?;
    Ok(Verdict::Shown)
}

pub fn deleted<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    let reference = bench.value_reference(&name, "");
    bench.put_value(&name, "one")?;
    if bench.fixture.is_live() {
        let (asking, fixture) = bench.apart()?;
        asking.get(&reference)?.is("one")?;
        fixture.delete(&name)?;
        asking.pass(TTL);
        // One answer may be a mistake; the second is believed.
        let _ = asking.get(&reference)?;
        asking.pass(Duration::from_secs(10));
        asking.get(&reference)?.fails(FailureKind::NotFound)?;
    } else {
        bench.resolver()?.get(&reference)?.is("one")?;
        bench.fixture.delete(&name)?;
    }
    let got = bench.resolver()?.get(&reference)?;
    got.fails(FailureKind::NotFound)?;
    Ok(Verdict::Shown)
}

pub fn forbidden<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    if !bench.fixture.forbid(&name)? {
        return Ok(Verdict::LeftOut("nothing can be forbidden here"));
    }
    let allowed = bench.name("allowed");
    bench.put_value(&allowed, "one")?;
    let asking = bench.resolver()?;
    let got = asking.get(&bench.value_reference(&name, ""))?;
    got.fails(FailureKind::Denied)?;
    let got = asking.get(&bench.value_reference(&allowed, ""))?;
    got.is("one").context("after something that is forbidden")?;
    Ok(Verdict::Shown)
}

pub fn missing<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("never-made");
    let asking = bench.resolver()?;
    for rest in ["", "/", "/user"] {
        let got = asking.get(&reference(&format!("{name}{rest}")))?;
        got.fails(FailureKind::NotFound).context(rest)?;
    }
    Ok(Verdict::Shown)
}

pub fn missing_version<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    bench.put_value(&name, "one")?;
    let got = bench
        .resolver()?
        .get(&bench.value_reference(&name, "#77"))?;
    got.fails(FailureKind::NotFound)?;
    Ok(Verdict::Shown)
}

pub fn json_key<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = put_members(bench)?;
    let expect = |rest: &str, value: &str| {
        let got = bench.get(&format!("{name}/{rest}"))?;
        got.is(value).with_context(|| rest.to_owned())
    };
    expect("user", "ada")?;
    expect("empty", "")?;
    expect("a%2Fb", "slash")?;
    // All of it is JSON text: the bytes as they are, or what the server makes of the members.
    let Got::Value(whole) = bench.get(&format!("{name}/"))? else {
        anyhow::bail!("no whole object");
    };
    if bench.fixture.abilities().bytes {
        ensure!(whole == MEMBERS.as_bytes(), "the bytes have changed");
    }
    let whole: Value = serde_json::from_slice(&whole)?;
    ensure!(
        whole == serde_json::from_str::<Value>(MEMBERS)?,
        "another object"
    );
    Ok(Verdict::Shown)
}

pub fn missing_key<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = put_members(bench)?;
    for key in ["nobody", "User", "%2Fdb%2Fnobody", "%2Flist%2F7"] {
        let got = bench.get(&format!("{name}/{key}"))?;
        got.fails(FailureKind::KeyNotFound).context(key)?;
    }
    Ok(Verdict::Shown)
}

pub fn key_of_another_type<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = put_members(bench)?;
    for key in ["n", "yes", "none", "list", "db"] {
        let got = bench.get(&format!("{name}/{key}"))?;
        got.fails(FailureKind::WrongType).context(key)?;
    }
    Ok(Verdict::Shown)
}

pub fn json_pointer<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = put_members(bench)?;
    for (key, value) in [
        ("%2Fdb%2Fpassword", "p"),
        ("%2Flist%2F1", "one"),
        // A flat name wins.
        ("%2Fflat%2Fname", "flat"),
    ] {
        let got = bench.get(&format!("{name}/{key}"))?;
        got.is(value).context(key)?;
    }
    Ok(Verdict::Shown)
}

pub fn key_of_what_is_no_json<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    if !bench.fixture.abilities().bytes {
        return Ok(Verdict::LeftOut("every object is JSON"));
    }
    for (index, content) in ["no JSON", "[\"user\"]", "\"user\"", "{"]
        .iter()
        .enumerate()
    {
        let name = bench.name(&index.to_string());
        bench.fixture.put(&name, content.as_bytes())?;
        let asking = bench.resolver()?;
        let got = asking.get(&reference(&format!("{name}/user")))?;
        got.fails(FailureKind::WrongType).context(*content)?;
        asking.get(&reference(&name))?.is(content)?;
    }
    Ok(Verdict::Shown)
}

pub fn versions<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    if !bench.fixture.abilities().versions {
        return Ok(Verdict::LeftOut("there are no versions"));
    }
    let name = bench.name("x");
    let made = (
        bench.put_value(&name, "one")?,
        bench.put_value(&name, "two")?,
    );
    let (old, new) = match made {
        (Some(old), Some(new)) => (old, new),
        // Stages.
        _ => (2, 1),
    };
    let asking = bench.resolver()?;
    for (version, value) in [
        (format!("#{old}"), "one"),
        (format!("#{new}"), "two"),
        (String::new(), "two"),
    ] {
        let got = asking.get(&bench.value_reference(&name, &version))?;
        got.is(value).with_context(|| version.clone())?;
    }
    Ok(Verdict::Shown)
}

pub fn sixty_four_kib<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    let most = bench.fixture.abilities().most_bytes.unwrap_or(LARGE);
    let around = bench.value_content("").len();
    let letters = (b'a'..=b'z').map(char::from).cycle();
    // Twenty-five letters repeat in another rhythm than any block of a power of two.
    let value: String = letters.filter(|c| *c != 'q').take(most - around).collect();
    bench.put_value(&name, &value)?;
    let got = bench.resolver()?.get(&bench.value_reference(&name, ""))?;
    got.is(&value)?;
    Ok(Verdict::Shown)
}

pub fn bytes_that_are_no_text<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    if !bench.fixture.abilities().bytes {
        return Ok(Verdict::LeftOut("values are text"));
    }
    let name = bench.name("x");
    bench.fixture.put(&name, BYTES)?;
    let asking = bench.resolver()?;
    asking.get(&reference(&name))?.is(BYTES)?;
    for rest in ["/user", "?base64_decode=true"] {
        let got = asking.get(&reference(&format!("{name}{rest}")))?;
        got.fails(FailureKind::WrongType).context(rest)?;
    }
    Ok(Verdict::Shown)
}

/// Neither UTF-8 nor without what an environment cannot hold.
const BYTES: &[u8] = b"\xff\xfe\x80 \xc3\x28 end";

pub fn bytes_in_base64<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    let bytes = [BYTES, b"\0"].concat();
    let text = STANDARD.encode(&bytes);
    bench.put_value(&name, &text)?;
    let asking = bench.resolver()?;
    let get = |rest: &str| asking.get(&bench.value_reference(&name, rest));
    get("?base64_decode=true")?.is(&bytes)?;
    get("?base64_decode")?.is(&bytes)?;
    get("?base64_decode=false")?.is(&text)?;
    get("")?.is(&text)?;
    // The same as a field of the vault.
    let all = bench.resolver_of(bench.fixture.config(), &json!({ "base64_decode": true }))?;
    all.get(&bench.value_reference(&name, ""))?.is(&bytes)?;
    Ok(Verdict::Shown)
}

pub fn what_is_no_base64<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    bench.put_value(&name, "no*base64")?;
    let reference = bench.value_reference(&name, "?base64_decode");
    let got = bench.resolver()?.get(&reference)?;
    got.fails(FailureKind::WrongType)?;
    Ok(Verdict::Shown)
}

pub fn name_with_a_slash<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = format!("{}/folder/x", bench.name("top"));
    let ways = [format!("{name}/user"), name.replace('/', "%2F") + "/user"];
    if !bench.fixture.abilities().slash {
        return is_no_name(bench, &ways);
    }
    bench.fixture.put(&name, MEMBERS.as_bytes())?;
    let asking = bench.resolver()?;
    for way in &ways {
        let got = asking.get(&reference(way))?;
        got.is("ada").with_context(|| way.clone())?;
    }
    Ok(Verdict::Shown)
}

pub fn name_beyond_ascii<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("ключ-ß-鍵 x");
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let ways = [format!("{name}/user"), format!("{encoded}/user")];
    if !bench.fixture.abilities().non_ascii {
        return is_no_name(bench, &ways);
    }
    bench.fixture.put(&name, MEMBERS.as_bytes())?;
    let asking = bench.resolver()?;
    for way in &ways {
        let got = asking.get(&reference(way))?;
        got.is("ada").with_context(|| way.clone())?;
    }
    Ok(Verdict::Shown)
}

fn is_no_name<F: Fixture>(bench: &Bench<F>, ways: &[String]) -> Result<Verdict> {
    let asking = bench.resolver()?;
    for way in ways {
        let got = asking.get(&reference(way))?;
        let failed = got.fails(FailureKind::InvalidReference);
        failed.with_context(|| way.clone())?;
    }
    Ok(Verdict::Shown)
}

/// What a library or a server on the way could fold into the name of something else, or could not
/// send at all.
pub fn name_that_leads_elsewhere<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let name = bench.name("x");
    bench.fixture.put(&name, MEMBERS.as_bytes())?;
    let asking = bench.resolver()?;
    asking.get(&reference(&format!("{name}/user")))?.is("ada")?;
    let before = [
        "..%2F",
        "a%2F..%2F",
        "a/../",
        "./",
        "%2E%2E/",
        ".%2F",
        "a%5C..%5C",
        "%2F",
        "a%0A",
        "%0D%0A",
        "%00",
        "%7F",
        "%252E%252E%252F",
        "%3F",
        "%23",
        "%20",
    ];
    let behind = [
        "%0A",
        "%00",
        "%20",
        "%2F..",
        "%2F.",
        "%3Fversion=1",
        "%23",
        "%09",
        ".",
    ];
    let before = before.iter().map(|odd| format!("{odd}{name}/user"));
    let behind = behind.iter().map(|odd| format!("{name}{odd}/user"));
    for way in before.chain(behind) {
        let got = asking.get(&reference(&way))?;
        // (A server may have such a name; then it is not there.)
        let is_none = matches!(
            got.failure_kind(),
            Some(FailureKind::InvalidReference | FailureKind::NotFound | FailureKind::Denied)
        );
        ensure!(is_none, "{way}: {got}");
    }
    Ok(Verdict::Shown)
}

pub fn a_hundred_objects_at_once<F: Fixture>(bench: &mut Bench<F>) -> Result<Verdict> {
    let names: Vec<_> = (0..100).map(|n| bench.name(&n.to_string())).collect();
    for name in &names {
        bench.put_value(name, &format!("value of {name}"))?;
    }
    let all = names.iter().map(|name| bench.value_reference(name, ""));
    let mut references: Vec<_> = all.collect();
    references.push(bench.value_reference(&bench.name("none"), ""));
    let mut got = bench.resolver()?.get_all(&references)?;
    let last = got.pop().context("no answer")?;
    last.fails(FailureKind::NotFound)?;
    for (name, got) in names.iter().zip(&got) {
        got.is(format!("value of {name}"))?;
    }
    Ok(Verdict::Shown)
}

/// Puts an object with members of all kinds in place.
fn put_members<F: Fixture>(bench: &mut Bench<F>) -> Result<String> {
    let name = bench.name("x");
    bench.fixture.put(&name, MEMBERS.as_bytes())?;
    Ok(name)
}
