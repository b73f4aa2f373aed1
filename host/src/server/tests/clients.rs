//! Who is let in.

use futures::future::join_all;

use super::*;

#[tokio::test]
async fn without_clients_our_own_user_alone_is_served() {
    let daemon = Daemon::start("").await;
    check(&daemon.unix(&ask("")).await, 200, "hunter2");
    check(&daemon.tcp(&ask("")).await, 401, "unauthorized");
    check(&daemon.tcp(&ask(&bearer("x"))).await, 401, "unauthorized");
    let uid = nix::unistd::geteuid().as_raw() + 1;
    let of_another = Daemon::start_with("", Limits::default(), uid).await;
    check(&of_another.unix(&ask("")).await, 401, "unauthorized");
}

#[tokio::test]
async fn a_client_is_known_by_peer_token_or_both() {
    let (uid, gid) = (
        nix::unistd::geteuid().as_raw(),
        nix::unistd::getegid().as_raw(),
    );
    let allow = "allow: [\"env/*\"]";
    let only = |fields: String| format!("{{name: c, {fields}, {allow}}}");
    let file = "{vault://fs/edge.token}";
    let none = String::new();
    let (unix, tcp) = (true, false);
    for (client, on_unix, headers, status) in [
        (
            only(format!("peer: {{uid: {uid}}}")),
            unix,
            none.clone(),
            200,
        ),
        (
            only(format!("peer: {{uid: {uid}, gid: {gid}}}")),
            unix,
            none.clone(),
            200,
        ),
        (
            only(format!("peer: {{uid: {}}}", uid + 1)),
            unix,
            none.clone(),
            401,
        ),
        (
            only(format!("peer: {{gid: {}}}", gid + 1)),
            unix,
            none.clone(),
            401,
        ),
        (
            only(format!("peer: {{uid: {uid}}}")),
            tcp,
            none.clone(),
            401,
        ),
        (
            only(format!("peer: {{uid: {uid}}}")),
            unix,
            bearer("junk"),
            401,
        ),
        (only("tokens: [one, two]".into()), tcp, bearer("one"), 200),
        (only("tokens: [one, two]".into()), tcp, bearer("two"), 200),
        (only("tokens: [one, two]".into()), unix, bearer("two"), 200),
        (only("tokens: [one, two]".into()), tcp, bearer("three"), 401),
        (only("tokens: [one, two]".into()), tcp, bearer("on"), 401),
        (only("tokens: [one, two]".into()), tcp, bearer(""), 401),
        (only("tokens: [one, two]".into()), tcp, none.clone(), 401),
        (only("tokens: [one, two]".into()), unix, none.clone(), 401),
        (
            only("tokens: [one]".into()),
            tcp,
            "authorization: Basic one\r\n".into(),
            401,
        ),
        (
            only("tokens: [one]".into()),
            tcp,
            bearer("one").repeat(2),
            401,
        ),
        (
            only(format!("tokens: [\"{file}\"]")),
            tcp,
            bearer("from-file"),
            200,
        ),
        (
            only(format!("tokens: [\"{file}\"]")),
            tcp,
            bearer("from-fil"),
            401,
        ),
        (
            only("tokens: [\"{vault://fs/none}\", two]".into()),
            tcp,
            bearer("two"),
            200,
        ),
        (
            only("tokens: [\"{vault://fs/none}\"]".into()),
            tcp,
            bearer(""),
            401,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {uid}}}")),
            unix,
            bearer("one"),
            200,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {uid}}}")),
            unix,
            none.clone(),
            401,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {uid}}}")),
            tcp,
            bearer("one"),
            401,
        ),
        (
            only(format!("tokens: [one], peer: {{uid: {}}}", uid + 1)),
            unix,
            bearer("one"),
            401,
        ),
    ] {
        let daemon = Daemon::start(&client).await;
        let request = ask(&headers);
        let answer = if on_unix {
            daemon.unix(&request).await
        } else {
            daemon.tcp(&request).await
        };
        let holds = if status == 200 {
            "hunter2"
        } else {
            "unauthorized"
        };
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{client} {headers}: {answer}"
        );
        check(&answer, status, holds);
    }
}

#[tokio::test]
async fn of_several_clients_the_one_that_asks_for_most_is_meant() {
    let uid = nix::unistd::geteuid().as_raw();
    let clients = format!(
        "{{name: gateway, peer: {{uid: {uid}}}}}, {{name: filter, tokens: [one, two], allow: [\"env/TEST\"]}},
         {{name: both, peer: {{uid: {uid}}}, tokens: [two], allow: [\"env/*\", \"fs/*\"], deny: [\"env/AWS_*\"]}}"
    );
    let daemon = Daemon::start(&clients).await;
    check(&daemon.unix(&ask("")).await, 200, "\"denied\"");
    check(&daemon.unix(&ask(&bearer("one"))).await, 200, "hunter2");
    let file = r#"{"references":["{vault://fs/edge.token}"],"wait_ms":5000}"#;
    let answer = daemon.unix(&post(&bearer("one"), file)).await;
    check(&answer, 200, "\"denied\"");
    let answer = daemon.unix(&post(&bearer("two"), file)).await;
    check(&answer, 200, "from-file");
    let aws = r#"{"references":["{vault://env/aws-key}","{vault://env/aws-none}","{vault://env/test}"],"wait_ms":5000}"#;
    let answer = daemon.unix(&post(&bearer("two"), aws)).await;
    check(&answer, 200, "hunter2");
    let denied = r#"{"failure":{"kind":"denied","retryable":false,"retry_after":null}}"#;
    assert_eq!(
        answer.matches(denied).count(),
        2,
        "it shows whether it exists: {answer}"
    );
}

/// What is denied is denied by every name that it has: of another vault, of an older version, of a
/// link.
#[tokio::test]
async fn a_deny_holds_against_other_vaults_and_aliases() {
    let uid = nix::unistd::geteuid().as_raw();
    let client = format!(
        "{{name: edge, peer: {{uid: {uid}}}, deny: [\"env/AWS_*\", \"app/TOKEN\", \"fs/private\"],
           allow: [\"env/*\", \"app/*\", \"cloud/*\", \"fs/*\", \"again/*\"]}}"
    );
    let daemon = Daemon::start(&client).await;
    let root = daemon.directory.path();
    std::fs::write(root.join("private"), "a-private-file").expect("written");
    std::os::unix::fs::symlink("private", root.join("alias")).expect("linked");
    std::os::unix::fs::symlink("edge.token", root.join("linked.token")).expect("linked");
    let denied = [
        "env/aws-key",
        "env/AWS_KEY",
        "env/aws-key#2",
        "app/aws-key",
        "app/aws-key#2",
        "cloud/key",
        "cloud/key#2",
        "env/token",
        "env/token#2",
        "env/token-previous",
        "app/token#2",
        "fs/private",
        "fs/private/key",
        "fs/alias",
        "again/private",
        "again/alias",
    ];
    let permitted = [
        ("env/test", "hunter2"),
        ("app/test", "hunter2"),
        ("fs/edge.token", "from-file"),
        ("again/linked.token", "from-file"),
    ];
    let names = denied.iter().chain(permitted.iter().map(|(name, _)| name));
    let references: Vec<_> = names.map(|name| format!("{{vault://{name}}}")).collect();
    let body = serde_json::json!({ "references": references, "wait_ms": 5000 });
    let answer = daemon.unix(&post("", &body.to_string())).await;
    check(&answer, 200, "results");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let results = body["results"].as_array().expect("results");
    let (refused, served) = results.split_at(denied.len());
    for (name, result) in denied.iter().zip(refused) {
        assert_eq!(result["failure"]["kind"], "denied", "{name}: {result}");
    }
    for ((name, value), result) in permitted.iter().zip(served) {
        assert_eq!(result["secret"]["value"]["text"], *value, "{name}");
    }
    for value in ["aws-key-", "\"aws-key\"", "a-token", "a-private"] {
        assert!(!answer.contains(value), "{value} was given out");
    }
}

#[tokio::test]
async fn what_comes_through_a_proxy_is_refused_on_every_listener() {
    let uid = nix::unistd::geteuid().as_raw();
    let clients = format!(
        "{{name: a, peer: {{uid: {uid}}}, allow: [\"env/*\"]}}, {{name: b, tokens: [one], allow: [\"env/*\"]}}"
    );
    let daemon = Daemon::start(&clients).await;
    for header in [
        "x-forwarded-for: 1.2.3.4\r\n",
        "X-Forwarded-For:\r\n",
        "forwarded: for=x\r\n",
        "Via: 1.1 x\r\n",
    ] {
        check(&daemon.unix(&ask(header)).await, 403, "forbidden");
        check(
            &daemon
                .tcp(&ask(&format!("{header}{}", bearer("one"))))
                .await,
            403,
            "forbidden",
        );
    }
    // What Envoy adds to a callout of its own.
    let envoy = "x-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 1000\r\n";
    check(&daemon.unix(&ask(envoy)).await, 200, "hunter2");
}

/// An outage of the vault that holds a token is no answer about who asks: 401 would have a gateway
/// drop what it holds.
#[tokio::test]
async fn a_token_that_cannot_be_read_makes_nobody_a_stranger() {
    let uid = nix::unistd::geteuid().as_raw();
    let away = "\"{vault://away/app/token}\"";
    let client = |name, fields: &str| format!("{{name: {name}, {fields}, allow: [\"env/*\"]}}");
    let tokens = |tokens: &str| client("a", &format!("tokens: [{tokens}]"));
    let of_peer = |uid| client("b", &format!("peer: {{uid: {uid}}}, tokens: [{away}]"));
    let one = client("c", "tokens: [one]");
    let (unix, tcp) = (true, false);
    let rows = [
        (tokens(away), tcp, bearer("x"), 500),
        (tokens(away), unix, bearer("x"), 500),
        // What can be read counts before what cannot.
        (tokens(&format!("{away}, one")), tcp, bearer("one"), 200),
        (tokens(&format!("{away}, one")), tcp, bearer("two"), 500),
        (format!("{}, {one}", tokens(away)), tcp, bearer("one"), 200),
        (format!("{}, {one}", tokens(away)), tcp, bearer("two"), 500),
        // Who shows no token has none, and where a client cannot come from its token counts for
        // nothing.
        (tokens(away), tcp, String::new(), 401),
        (tokens(away), unix, String::new(), 401),
        (of_peer(uid), unix, bearer("x"), 500),
        (of_peer(uid), tcp, bearer("x"), 401),
        (of_peer(uid + 1), unix, bearer("x"), 401),
        // A token that is not there is an answer.
        (tokens("\"{vault://fs/none}\""), tcp, bearer("x"), 401),
    ];
    // Together, since each start tries for a while to read its tokens.
    let rows = rows.map(async |(clients, on_unix, headers, status)| {
        let daemon = Daemon::start(&clients).await;
        let request = ask(&headers);
        let answer = if on_unix {
            daemon.unix(&request).await
        } else {
            daemon.tcp(&request).await
        };
        let holds = match status {
            200 => "hunter2",
            500 => "\"internal\"",
            _ => "\"unauthorized\"",
        };
        assert!(answer.contains(holds), "{clients} {headers}: {answer}");
        check(&answer, status, holds);
    });
    join_all(rows).await;
}

/// However many tokens are in vaults that hang, the start waits for them as for one.
#[tokio::test(start_paused = true)]
async fn tokens_are_read_together_before_the_first_call() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let port = hanging.local_addr().expect("its address").port();
    let tokens: Vec<_> = (0..5)
        .map(|n| format!("\"{{vault://hcv/app{n}/token}}\""))
        .collect();
    let clients: Vec<_> = (0..3)
        .map(|n| format!("{{name: c{n}, tokens: [{}]}}", tokens.join(",")))
        .collect();
    let yaml = format!(
        "{{vaults: [{{name: hcv, config: {{host: 127.0.0.1, port: {port}, token: t}}}}], clients: [{}]}}",
        clients.join(",")
    );
    let config = parse(&yaml, &Arc::new(Environment::default())).expect("a configuration");
    let resolver = Resolver::new(config.vaults, 1, tokio::runtime::Handle::current());
    let server = Server::new(resolver, config.clients, 0, Limits::default());
    let start = tokio::time::Instant::now();
    server.warm_up().await;
    let took = start.elapsed();
    assert!(
        took >= Duration::from_secs(2),
        "nobody hung there: {took:?}"
    );
    assert!(took < Duration::from_secs(3), "{took:?}");
}

/// Else who is no client any more would see what is in the new vaults.
#[tokio::test]
async fn a_call_whose_body_comes_after_a_reload_has_the_rights_of_the_new_configuration() {
    let uid = nix::unistd::geteuid().as_raw();
    let client = |rights: &str| format!("{{name: a, peer: {{uid: {uid}}}, {rights}}}");
    let limits = Limits::default();
    let (may, may_not) = ("allow: [\"env/*\"]", "allow: [\"env/OTHER\"]");
    let stranger = format!("{{name: b, peer: {{uid: {}}}, {may}}}", uid + 1);
    for (before, after, status, holds) in [
        (client(may), stranger, 401, "unauthorized"),
        (client(may), client(may_not), 200, "\"denied\""),
        (client(may_not), client(may), 200, "of-the-new-vault"),
    ] {
        let daemon = Daemon::start_with(&before, limits, uid).await;
        let request = String::from_utf8(ask("")).expect("text");
        let (first, rest) = request.split_at(request.len() - 10);
        let mut stream = UnixStream::connect(daemon.socket())
            .await
            .expect("connected");
        stream.write_all(first.as_bytes()).await.expect("sent");
        // Seen by the daemon once it answers another on a later connection.
        check(&daemon.unix(&ask("")).await, 200, "results");
        let yaml = format!("{{vaults: [{{name: env}}], clients: [{after}]}}");
        let environment = Environment::from([("TEST", "of-the-new-vault")]);
        let config = parse(&yaml, &Arc::new(environment)).expect("a configuration");
        daemon.handle.replace(config.vaults, config.clients);
        let answer = exchange(stream, rest.as_bytes()).await;
        check(&answer, status, holds);
        assert_eq!(answer.contains("of-the-new-vault"), holds.contains("new"));
    }
}
