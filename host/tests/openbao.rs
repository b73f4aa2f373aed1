//! `hcv` against a real OpenBao: the one that `make test` installs, or whose binary the variable
//! `VAULTREF_BAO` names.
#![cfg(feature = "hcv")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use vaultref_contract::wire::FailureKind;
use vaultref_host::config::parse;
use vaultref_host::environment::Environment;
use vaultref_host::policy::Access;
use vaultref_host::resolver::Resolver;

const ROOT: &str = "root";

struct Bao {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl Bao {
    fn start(arguments: &[&str]) -> Self {
        let home = TempDir::new().expect("a directory");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("its address");
        drop(free);
        let child = Command::new(program())
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-dev-listen-address={address}"))
            .args(arguments)
            .env("HOME", home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("OpenBao starts");
        Self {
            child,
            address,
            home,
        }
    }

    /// One that speaks HTTP and is ready.
    fn plain() -> Self {
        let bao = Self::start(&[]);
        let ready = || bao.try_call("GET", "/v1/secret/config", "", &Value::Null);
        until("OpenBao is ready", || {
            ready().is_some_and(|(status, _)| status == 200)
        });
        bao
    }

    fn try_call(
        &self,
        method: &str,
        path: &str,
        namespace: &str,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-vault-token: {ROOT}\r\n\
             x-vault-namespace: {namespace}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.get(9..12)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        let body = serde_json::from_str(body.unwrap_or_default()).unwrap_or_default();
        Some((status, body))
    }

    fn call_in(&self, namespace: &str, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self
            .try_call(method, path, namespace, body)
            .expect("an answer");
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call_in("", method, path, body)
    }

    fn put(&self, path: &str, data: &Value) {
        self.call(
            "POST",
            &format!("/v1/secret/data/{path}"),
            &json!({ "data": data }),
        );
    }

    fn mount_v1(&self, name: &str) {
        let body = json!({"type": "kv", "options": {"version": "1"}});
        self.call("POST", &format!("/v1/sys/mounts/{name}"), &body);
    }

    fn get_with(&self, fields: &str, rest: &str) -> Result<String, FailureKind> {
        let port = self.address.port();
        get(&format!("host: 127.0.0.1, port: {port}, {fields}"), rest)
    }

    fn get(&self, rest: &str) -> Result<String, FailureKind> {
        self.get_with("token: root, kv: v2", rest)
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/bao");
    let program = std::env::var_os("VAULTREF_BAO").map_or(installed, PathBuf::from);
    assert!(
        program.is_file(),
        "no OpenBao at {}: `make test` installs it, or VAULTREF_BAO names its binary",
        program.display()
    );
    program
}

fn until(what: &str, mut happens: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happens() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "not in time: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn get(fields: &str, rest: &str) -> Result<String, FailureKind> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let yaml = format!("vaults: [{{name: hcv, config: {{{fields}}}}}]");
    let config = parse(&yaml, &Arc::new(Environment::default())).expect(&yaml);
    let resolver = Resolver::new(config.vaults, 1, runtime.handle().clone());
    let reference = format!("{{vault://hcv/{rest}}}");
    let value = resolver.value(&Access::All, &reference, Duration::from_secs(20));
    match runtime.block_on(value) {
        Ok(value) => Ok(value.value.secret().expose_text().expect("text").to_owned()),
        Err(unresolved) => Err(unresolved.failure.kind),
    }
}

fn is(expected: &str) -> Result<String, FailureKind> {
    Ok(expected.to_owned())
}

#[test]
fn v2_keys_versions_and_what_is_gone() {
    let bao = Bao::plain();
    let object = json!({"token": "one", "n": 1, "db": {"password": "p"}, "a/b": "flat"});
    bao.put("app/stripe", &object);
    assert_eq!(bao.get("app/stripe/token"), is("one"));
    assert_eq!(bao.get("app/stripe/n"), Err(FailureKind::WrongType));
    assert_eq!(bao.get("app/stripe/none"), Err(FailureKind::KeyNotFound));
    assert_eq!(bao.get("app/stripe/%2Fdb%2Fpassword"), is("p"));
    assert_eq!(bao.get("app/stripe/a%2Fb"), is("flat"));
    let whole = bao.get("app/stripe/").expect("the object");
    assert_eq!(serde_json::from_str::<Value>(&whole).expect("JSON"), object);
    bao.put("app/stripe", &json!({"token": "two"}));
    for (rest, expected) in [
        ("app/stripe/token", is("two")),
        ("app/stripe/token#0", is("two")),
        ("app/stripe/token#1", is("one")),
        ("app/stripe/token#2", is("two")),
        ("app/stripe/token#3", Err(FailureKind::NotFound)),
        ("app/none/token", Err(FailureKind::NotFound)),
        ("app/", Err(FailureKind::NotFound)),
    ] {
        assert_eq!(bao.get(rest), expected, "{rest}");
    }
    bao.call(
        "POST",
        "/v1/secret/destroy/app/stripe",
        &json!({"versions": [1]}),
    );
    assert_eq!(bao.get("app/stripe/token#1"), Err(FailureKind::NotFound));
    bao.call("DELETE", "/v1/secret/data/app/stripe", &Value::Null);
    assert_eq!(bao.get("app/stripe/token"), Err(FailureKind::NotFound));
    assert_eq!(bao.get("app/stripe/"), Err(FailureKind::NotFound));
    // Names that a URL would bend.
    for name in [
        "sp ace",
        "perc%41ent",
        "que?stion",
        "ha#sh",
        "ümlaut",
        "..dots",
        "%2e%2e",
    ] {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        bao.put(&encoded, &json!({ "k": name }));
        assert_eq!(bao.get(&format!("{encoded}/k")), is(name), "{name}");
    }
}

#[test]
fn v1_namespaces_and_mounts() {
    let bao = Bao::plain();
    bao.mount_v1("old/kv");
    bao.call("POST", "/v1/old/kv/app", &json!({"k": "v", "ttl": "30s"}));
    let v1 = "token: root, kv: v1, mount: /old/kv/";
    assert_eq!(bao.get_with(v1, "app/k"), is("v"));
    assert_eq!(bao.get_with(v1, "none/k"), Err(FailureKind::NotFound));
    assert_eq!(bao.get_with(v1, "app/k#1"), Err(FailureKind::NotFound));
    assert_eq!(
        bao.get_with("token: root, kv: v2, mount: none", "app/k"),
        Err(FailureKind::NotFound)
    );
    bao.call("POST", "/v1/sys/namespaces/tenant", &Value::Null);
    let mount = json!({"type": "kv", "options": {"version": "2"}});
    bao.call_in("tenant", "POST", "/v1/sys/mounts/secret", &mount);
    let write = || {
        bao.try_call(
            "POST",
            "/v1/secret/data/app",
            "tenant",
            &json!({"data": {"k": "theirs"}}),
        )
    };
    until("the new mount is ready", || {
        write().is_some_and(|(status, _)| status == 200)
    });
    bao.put("app", &json!({"k": "ours"}));
    assert_eq!(bao.get("app/k"), is("ours"));
    let theirs = "token: root, kv: v2, namespace: tenant";
    assert_eq!(bao.get_with(theirs, "app/k"), is("theirs"));
    assert_eq!(
        bao.get_with("token: root, kv: v2, mount: tenant/secret", "app/k"),
        is("theirs")
    );
    assert_eq!(
        bao.get_with("token: root, kv: v2, namespace: nobody", "app/k"),
        Err(FailureKind::NotFound)
    );
}

#[test]
fn who_may_not_and_a_server_that_cannot() {
    let bao = Bao::plain();
    bao.put("app", &json!({"k": "v"}));
    bao.put("other", &json!({"k": "v"}));
    let policy = r#"path "secret/data/app" { capabilities = ["read"] }"#;
    bao.call(
        "PUT",
        "/v1/sys/policies/acl/reader",
        &json!({ "policy": policy }),
    );
    let created = bao.call(
        "POST",
        "/v1/auth/token/create",
        &json!({"policies": ["reader"]}),
    );
    let token = created["auth"]["client_token"].as_str().expect("a token");
    let reader = format!("token: \" {token}\\n\", kv: v2");
    assert_eq!(
        bao.get_with(&reader, "app/k"),
        is("v"),
        "white space around a token is no part of it"
    );
    assert_eq!(bao.get_with(&reader, "other/k"), Err(FailureKind::Denied));
    assert_eq!(
        bao.get_with("token: nobody, kv: v2", "app/k"),
        Err(FailureKind::Denied)
    );
    bao.call("POST", "/v1/auth/token/revoke", &json!({ "token": token }));
    assert_eq!(bao.get_with(&reader, "app/k"), Err(FailureKind::Denied));
    bao.call("PUT", "/v1/sys/seal", &Value::Null);
    assert_eq!(bao.get("app/k"), Err(FailureKind::Unavailable));
    let address = bao.address;
    drop(bao);
    let gone = format!("host: 127.0.0.1, port: {}, token: root", address.port());
    assert_eq!(get(&gone, "app/k"), Err(FailureKind::Unavailable));
}

#[test]
fn https_trusts_the_vaults_own_ca_alone_whatever_the_environment_says() {
    let certificates = TempDir::new().expect("a directory");
    let bao = Bao::start(&[
        "-dev-tls",
        &format!("-dev-tls-cert-dir={}", certificates.path().display()),
    ]);
    let ca = find_ca(certificates.path());
    let fields = |more: &str| {
        format!(
            "host: 127.0.0.1, port: {}, protocol: https, token: root, kv: v2{more}",
            bao.address.port()
        )
    };
    let own = fields(&format!(", ca_cert: {ca:?}"));
    until("OpenBao is ready", || {
        let put = Command::new(program())
            .args(["kv", "put", "-mount=secret", "app", "k=v"])
            .env("BAO_ADDR", format!("https://{}", bao.address))
            .env("BAO_CACERT", &ca)
            .env("BAO_TOKEN", ROOT)
            .env("HOME", bao.home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        put.is_ok_and(|status| status.success())
    });
    assert_eq!(get(&own, "app/k"), is("v"));
    assert_eq!(
        get(&fields(""), "app/k"),
        Err(FailureKind::Unavailable),
        "not the system's CA"
    );

    let place = TempDir::new().expect("a directory");
    // Without `NO_PROXY` the proxy of the environment is taken, which is not there.
    let here = "127.0.0.1";
    for (fields, no_proxy, code) in [(&own, here, 0), (&fields(""), here, 5), (&own, "", 5)] {
        let yaml = format!("vaults: [{{name: hcv, config: {{{fields}}}}}]");
        std::fs::write(place.path().join("vaultref.yaml"), yaml).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_vaultref"))
            .args(["get", "hcv/app/k"])
            .current_dir(place.path())
            .env("VAULT_SKIP_VERIFY", "true")
            .env(
                "VAULT_CACERT",
                if code == 0 {
                    Path::new("/nonexistent")
                } else {
                    &ca
                },
            )
            .env("VAULT_CAPATH", "/nonexistent")
            .env("VAULT_CLIENT_CERT", "/nonexistent")
            .env("VAULT_CLIENT_KEY", "/nonexistent")
            .env("VAULT_TLS_SERVER_NAME", "nobody")
            .env("VAULT_ADDR", "http://127.0.0.1:1")
            .env("VAULT_PROXY_ADDR", "http://127.0.0.1:1")
            .env("VAULT_TOKEN", "nobody")
            .env("VAULT_NAMESPACE", "nobody")
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", no_proxy)
            .output()
            .expect("started");
        let (out, err) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{err}");
        assert_eq!(out.as_slice(), if code == 0 { &b"v"[..] } else { b"" });
        assert!(!err.contains(ROOT), "{err}");
    }
}

fn find_ca(directory: &Path) -> PathBuf {
    let mut found = None;
    until("OpenBao writes its CA", || {
        let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
        found = files
            .map(|file| file.path())
            .find(|path| path.to_string_lossy().contains("ca.pem"));
        found.is_some()
    });
    found.expect("was found")
}

/// A redirect would take the token along.
#[test]
fn a_redirect_is_not_followed() {
    let bao = Bao::plain();
    bao.put("app", &json!({"k": "v"}));
    let front = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = front.local_addr().expect("its address").port();
    let target = format!("http://{}/v1/secret/data/app", bao.address);
    std::thread::spawn(move || {
        for stream in front.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 307 x\r\nlocation: {target}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
    });
    let fields = format!("host: 127.0.0.1, port: {port}, token: root, kv: v2");
    assert_eq!(get(&fields, "app/k"), Err(FailureKind::Unavailable));
}

/// Whatever the libraries below us would say: a secret is on standard output, once, and nowhere else.
#[test]
fn get_leaks_nothing_however_much_is_logged() {
    let bao = Bao::plain();
    let value = "leak-me-not-4711";
    bao.put("app", &json!({ "k": value, "other": "nor-me-4712" }));
    let policy = r#"path "secret/data/app" { capabilities = ["read"] }"#;
    bao.call(
        "PUT",
        "/v1/sys/policies/acl/reader",
        &json!({ "policy": policy }),
    );
    let created = bao.call(
        "POST",
        "/v1/auth/token/create",
        &json!({"policies": ["reader"]}),
    );
    let token = created["auth"]["client_token"].as_str().expect("a token");
    let place = TempDir::new().expect("a directory");
    let wrong = "token-of-nobody";
    for (token, reference, code) in [
        (token, "hcv/app/k", 0),
        (token, "hcv/app/none", 3),
        (token, "hcv/elsewhere/k", 4),
        (wrong, "hcv/app/k", 4),
    ] {
        let yaml = format!(
            "vaults: [{{name: hcv, config: {{host: 127.0.0.1, port: {}, kv: v2, token: {token}}}}}]",
            bao.address.port()
        );
        std::fs::write(place.path().join("vaultref.yaml"), yaml).expect("written");
        for json in [false, true] {
            let output = Command::new(env!("CARGO_BIN_EXE_vaultref"))
                .args(["get", reference])
                .args(json.then_some("--json"))
                .current_dir(place.path())
                .env("RUST_LOG", "trace")
                .output()
                .expect("started");
            let (out, err) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            let said = format!("{out}{err}");
            assert_eq!(output.status.code(), Some(code), "{reference}");
            assert_eq!(out.matches(value).count(), usize::from(code == 0));
            for secret in [value, "nor-me", token] {
                assert!(!err.contains(secret), "{reference}: a secret is logged");
            }
            assert!(!said.contains("nor-me"), "{reference}: more than was asked");
            assert!(!said.contains(token), "{reference}: the token");
        }
    }
}
