//! Filters of other people, built with `vaultref-sdk`: the example's, and one that shows what it is
//! handed over. Answers are made by hand.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use vaultref_harness::{
    Callback, CalloutAnswer, Fault, Gateway, LoadError, Module, NginxOptions, Plugin, Profile,
    Status, Upstream,
};
use vaultref_scenarios::client::Request;
use vaultref_scenarios::paths;
use vaultref_scenarios::world::{Harness, Kind, Seen};

crate::in_both_profiles!(
    a_bad_configuration_is_refused_with_its_place,
    a_change_of_configuration_is_served_at_once_with_what_is_known,
    a_second_configuration_that_is_refused_leaves_the_first_or_none,
    answers_that_nobody_can_believe_are_survived,
    exactly_the_fields_that_kong_lists_are_resolved,
    the_example_gets_its_credential_and_its_rotation_and_fails_closed_without,
    the_filter_s_own_calls_and_ticks_are_its_own,
    two_filters_of_an_instance_share_one_call,
    what_the_filter_refuses_is_not_served,
);

const RESOLVER: &str = "resolver:1";

/// A gateway with filters of one module, beside the hand-made resolver.
struct Stage {
    harness: Harness,
    secrets: RefCell<BTreeMap<String, (String, u32)>>,
}

impl Stage {
    fn start(kind: Kind, module: &Module, plugins: Vec<Plugin>) -> Result<Self, LoadError> {
        let profile = match kind.is_nginx() {
            true => Profile::Nginx(NginxOptions::kong()),
            false => Profile::Envoy,
        };
        let mut setup = Gateway::builder(module).profile(profile);
        for plugin in plugins {
            setup = setup.plugin(plugin);
        }
        let setup = setup
            .upstream(RESOLVER, Upstream::ByHand)
            .upstream("own:1", Upstream::ByHand);
        let harness = Harness::start(setup, 1);
        Ok(Self {
            harness: harness.map_err(|error| match error.downcast() {
                Ok(error) => error,
                Err(other) => panic!("{other:#}"),
            })?,
            secrets: RefCell::default(),
        })
    }

    /// From now on this is the value of a reference.
    fn put(&self, reference: &str, value: &str) {
        let mut secrets = self.secrets.borrow_mut();
        let revision = secrets.get(reference).map_or(0, |(_, old)| old + 1);
        secrets.insert(reference.to_owned(), (value.to_owned(), revision));
    }

    fn remove(&self, reference: &str) {
        self.secrets.borrow_mut().remove(reference);
    }

    /// Lets a second pass, and the resolver answer.
    fn pass_second(&mut self) -> Result<()> {
        for _ in 0..5 {
            self.harness.gateway().advance(Duration::from_millis(200));
            self.answer()?;
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<()> {
        for call in self.harness.gateway().open_callouts() {
            if call.upstream != RESOLVER {
                continue;
            }
            let question: Value = serde_json::from_slice(&call.body)?;
            let list = |name: &str| question[name].as_array().cloned().context("a list");
            let asked = list("references")?.into_iter().zip(list("known")?);
            let results: Vec<Value> = asked
                .map(|(asked, known)| self.outcome(&asked, &known))
                .collect();
            let body = json!({ "results": results }).to_string();
            let answer = CalloutAnswer::response(200, [("x-vaultref-contract", "1")], body);
            self.harness.gateway().answer(call.id, answer);
        }
        Ok(())
    }

    fn outcome(&self, asked: &Value, known: &Value) -> Value {
        let lifetime = json!({ "fresh_for": 300, "usable_for": 3600, "stale": false });
        let secrets = self.secrets.borrow();
        let secret = asked.as_str().and_then(|asked| secrets.get(asked));
        let Some((value, revision)) = secret else {
            return json!({ "failure": { "kind": "not-found", "retryable": false } });
        };
        let revision = revision.to_string();
        match known.as_str() == Some(&revision) {
            true => json!({ "unchanged": lifetime }),
            false => json!({ "secret": {
                "value": { "text": value }, "revision": revision, "lifetime": lifetime,
            }}),
        }
    }

    fn send(&mut self) -> Result<Seen> {
        self.harness
            .send(&Request::get("/").header("authorization", "Bearer mine"))
    }

    fn count(&self, line: &str) -> usize {
        self.harness.log().matches(line).count()
    }
}

fn compiled(
    path: Result<std::path::PathBuf>,
    cell: &'static OnceLock<Module>,
) -> Result<&'static Module> {
    if let Some(module) = cell.get() {
        return Ok(module);
    }
    let module = Module::from_file(path?)?;
    Ok(cell.get_or_init(|| module))
}

fn example() -> Result<&'static Module> {
    static MODULE: OnceLock<Module> = OnceLock::new();
    compiled(paths::example_filter(), &MODULE)
}

/// The filter that shows its configuration.
fn showing() -> Result<&'static Module> {
    static MODULE: OnceLock<Module> = OnceLock::new();
    compiled(paths::guest("resolved-configuration"), &MODULE)
}

/// It, with these fields named.
fn plugin(fields: &str, mut configuration: Value) -> Plugin {
    configuration["vaultref"] = json!({ "upstream": RESOLVER });
    Plugin::new("filter")
        .configuration(configuration.to_string())
        .vm_configuration(fields)
}

fn the_example_gets_its_credential_and_its_rotation_and_fails_closed_without(
    kind: Kind,
) -> Result<()> {
    const NAME: &str = "{vault://v/name}";
    const TOKEN: &str = "{vault://v/token}";
    let configuration =
        json!({ "auth": { "header_name": NAME, "header_value": format!("Bearer {TOKEN}") } });
    let mut stage = Stage::start(kind, example()?, vec![plugin("", configuration)])?;
    stage.put(NAME, "authorization");
    stage.put(TOKEN, "first");
    let early = stage.send()?.local()?;
    assert_eq!(early.status, 503, "{}", early.dump());
    assert!(early.json()?.get("error").is_some());
    stage.pass_second()?;
    assert!(stage.send()?.has_authorization("Bearer first"));

    // Both at once, or neither.
    stage.put(NAME, "x-key");
    stage.put(TOKEN, "second");
    assert!(stage.send()?.has_authorization("Bearer first"));
    stage.pass_second()?;
    let received = stage.send()?.upstream()?;
    assert_eq!(received.header_values("x-key"), ["Bearer second"]);
    assert_eq!(received.header_values("authorization"), ["Bearer mine"]);

    stage.remove(TOKEN);
    stage.pass_second()?;
    assert!(stage.send()?.has_status(503));
    let line = "no value for /auth/header_value from the vault 'v': not-found";
    assert_eq!(stage.count(line), 1, "{}", stage.harness.log());
    stage.put(TOKEN, "third");
    stage.pass_second()?;
    let received = stage.send()?.upstream()?;
    assert_eq!(received.header_values("x-key"), ["Bearer third"]);
    for value in ["first", "second", "third"] {
        assert_eq!(stage.count(value), 0, "{}", stage.harness.log());
    }
    Ok(())
}

/// Puts a value where a path leads, through objects that are made, or every second one through a list.
fn put(object: &mut Map<String, Value>, path: &str, value: &Value, through_lists: bool) {
    let Some((first, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), value.clone());
        return;
    };
    let new = match through_lists {
        true => json!([{}, {}]),
        false => json!({}),
    };
    let inner = object.entry(first).or_insert(new);
    match inner {
        Value::Array(items) => {
            let objects = items.iter_mut().filter_map(Value::as_object_mut);
            objects.for_each(|item| put(item, rest, value, !through_lists));
        }
        Value::Object(object) => put(object, rest, value, !through_lists),
        other => panic!("{other} stands on the way"),
    }
}

/// Every row of the documented fields, through the real module. (All shapes of each are tested in the
/// library.)
fn exactly_the_fields_that_kong_lists_are_resolved(kind: Kind) -> Result<()> {
    let rows =
        std::fs::read_to_string(paths::root().join("filter/tests/referenceable-fields.jsonl"))?;
    let mut count = 0;
    for (number, row) in rows.lines().enumerate() {
        let row: Value = serde_json::from_str(row)?;
        let fields = row["fields"].as_array().context("fields")?;
        let fields: Vec<&str> = fields.iter().filter_map(Value::as_str).collect();
        count += fields.len();
        let through_lists = number % 2 == 1;
        let (mut written, mut expected) = (Map::new(), Map::new());
        let mut references = Vec::new();
        for (number, field) in fields.iter().enumerate() {
            let own = format!("{{vault://v/o{number}}}");
            let others = json!([format!("{{vault://v/x{number}}}"), { "a": "{vault://v/y}" }]);
            let shape = |text: &str| match number % 3 {
                0 => json!(format!("Bearer {text}")),
                1 => json!([text, text]),
                _ => json!({ "a": text, "b": format!("{text}{text}") }),
            };
            put(&mut written, field, &shape(&own), through_lists);
            put(
                &mut expected,
                field,
                &shape(&format!("resolved {number}")),
                through_lists,
            );
            for all in [&mut written, &mut expected] {
                put(all, &format!("{field}_"), &others, through_lists);
            }
            references.push(own);
        }
        let plugins = vec![plugin(&fields.join("\n"), Value::Object(written))];
        let mut stage = Stage::start(kind, showing()?, plugins)?;
        for (number, reference) in references.iter().enumerate() {
            stage.put(reference, &format!("resolved {number}"));
        }
        stage.pass_second()?;
        let answer = stage.send()?.local()?;
        assert_eq!(answer.json()?, Value::Object(expected), "{}", row["plugin"]);
    }
    assert_eq!(count, 246);
    Ok(())
}

fn the_filter_s_own_calls_and_ticks_are_its_own(kind: Kind) -> Result<()> {
    let configuration = json!({ "token": "{vault://v/token}" });
    let plugins = vec![plugin("token\ntick\ncall", configuration)];
    let mut stage = Stage::start(kind, showing()?, plugins)?;
    stage.harness.gateway().advance(Duration::from_secs(3));
    assert_eq!(
        stage.count("filter: tick"),
        0,
        "there is no configuration yet"
    );
    stage.put("{vault://v/token}", "value");
    // The call of the first tick was given up; the clock goes on to the next.
    for _ in 0..4 {
        stage.pass_second()?;
    }
    let before = stage.count("filter: tick");
    for _ in 0..4 {
        stage.pass_second()?;
    }
    let ticks = stage.count("filter: tick") - before;
    assert!((6..=8).contains(&ticks), "{ticks} ticks in four seconds");
    assert_eq!(stage.count("filter: handed over"), 1);
    let calls = stage.harness.gateway().open_callouts();
    let own: Vec<_> = calls
        .iter()
        .filter(|call| call.upstream == "own:1")
        .collect();
    assert!(!own.is_empty());
    let called = stage.count("filter: called, true");
    assert_eq!(stage.count("filter: answered"), called - own.len());
    let answered = stage.count("filter: answered, true");
    for call in &own {
        stage
            .harness
            .gateway()
            .answer(call.id, CalloutAnswer::response(200, [("x-own", "1")], ""));
    }
    assert_eq!(stage.count("filter: answered, true"), answered + own.len());
    assert!(
        !stage.harness.gateway().vm_failed(0),
        "{}",
        stage.harness.log()
    );
    Ok(())
}

fn two_filters_of_an_instance_share_one_call(kind: Kind) -> Result<()> {
    let plugins = ["one", "two"].map(|name| {
        let configuration =
            json!({ "auth": { "header_name": name, "header_value": "{vault://v/token}" } });
        plugin("", configuration).vm_id("shared")
    });
    let mut stage = Stage::start(kind, example()?, plugins.into())?;
    stage.put("{vault://v/token}", "value");
    stage.pass_second()?;
    stage.pass_second()?;
    let received = stage.send()?.upstream()?;
    for name in ["one", "two"] {
        assert_eq!(received.header_values(name), ["value"]);
    }
    let before = stage.harness.gateway().callouts().len();
    for _ in 0..4 {
        stage.pass_second()?;
    }
    let calls = stage.harness.gateway().callouts().len() - before;
    assert!((3..=5).contains(&calls), "{calls} calls in four seconds");
    Ok(())
}

fn a_change_of_configuration_is_served_at_once_with_what_is_known(kind: Kind) -> Result<()> {
    let configuration = |name: &str, reference: &str| {
        let auth = json!({ "header_name": name, "header_value": reference });
        json!({ "vaultref": { "upstream": RESOLVER }, "auth": auth })
    };
    let first = configuration("one", "{vault://v/token}");
    let mut stage = Stage::start(kind, example()?, vec![plugin("", first)])?;
    stage.put("{vault://v/token}", "value");
    stage.put("{vault://v/other}", "other value");
    stage.pass_second()?;
    let changed = configuration("two", "{vault://v/token}").to_string();
    stage.harness.gateway().reconfigure(0, changed)?;
    let received = stage.send()?.upstream()?;
    assert_eq!(received.header_values("two"), ["value"]);
    assert_eq!(received.header_values("one"), [] as [&str; 0]);

    let changed = configuration("three", "{vault://v/other}").to_string();
    stage.harness.gateway().reconfigure(0, changed)?;
    assert!(stage.send()?.has_status(503));
    stage.pass_second()?;
    let received = stage.send()?.upstream()?;
    assert_eq!(received.header_values("three"), ["other value"]);
    Ok(())
}

fn a_bad_configuration_is_refused_with_its_place(kind: Kind) -> Result<()> {
    let configuration = json!({ "list": [{}, { "token": "{vault://v/" }] });
    let started = Stage::start(kind, showing()?, vec![plugin("list.token", configuration)]);
    let line = "the configuration cannot be used: /list/1/token: the reference that starts here has no '}'";
    match started {
        Err(LoadError::Refused { log, .. }) if !kind.is_nginx() => {
            assert!(log.contains(line), "{log}")
        }
        Err(error) => panic!("{error}"),
        Ok(mut stage) => {
            assert!(kind.is_nginx());
            assert!(stage.send()?.has_status(503));
            assert_eq!(stage.count(line), 1, "{}", stage.harness.log());
        }
    }
    Ok(())
}

/// In one root. (A gateway that gives another root another configuration ends that one alone.)
fn a_second_configuration_that_is_refused_leaves_the_first_or_none(kind: Kind) -> Result<()> {
    let configuration = json!({ "token": "{vault://v/token}" });
    let mut stage = Stage::start(kind, showing()?, vec![plugin("token", configuration)])?;
    stage.put("{vault://v/token}", "first");
    stage.pass_second()?;
    assert_eq!(stage.send()?.local()?.json()?, json!({ "token": "first" }));

    let gateway = stage.harness.gateway();
    let root = gateway.root_context(0, 0).context("a root")?;
    // Its first byte alone, which is no JSON.
    let returned = gateway.call_raw_callback(0, Callback::Configure, root, &[root, 1]);
    assert_eq!(returned, Some(i32::from(kind.is_nginx())));
    assert_eq!(stage.count("the configuration cannot be used"), 1);
    assert!(
        stage
            .send()?
            .has_status(if kind.is_nginx() { 503 } else { 200 })
    );
    stage.pass_second()?;
    let before = stage.harness.gateway().callouts().len();
    stage.put("{vault://v/token}", "second");
    stage.pass_second()?;
    let calls = stage.harness.gateway().callouts().len() - before;
    let answer = stage.send()?.local()?;
    if kind.is_nginx() {
        assert_eq!((answer.status, calls), (503, 0), "{}", answer.dump());
        return Ok(());
    }
    assert!(calls > 0, "what is in force is kept fresh");
    assert_eq!(answer.json()?, json!({ "token": "second" }));
    Ok(())
}

fn what_the_filter_refuses_is_not_served(kind: Kind) -> Result<()> {
    let configuration = json!({ "refuse": "{vault://v/token}" });
    let mut stage = Stage::start(kind, showing()?, vec![plugin("refuse", configuration)])?;
    stage.put("{vault://v/token}", "value");
    stage.pass_second()?;
    assert_eq!(stage.count("filter: handed over"), 1);
    assert!(stage.send()?.has_status(503));
    assert_eq!(stage.count("the filter refuses its configuration"), 1);
    // Without references it is known at once.
    let started = Stage::start(kind, showing()?, vec![plugin("", json!({ "refuse": 1 }))]);
    assert_eq!(started.is_err(), !kind.is_nginx());
    Ok(())
}

fn answers_that_nobody_can_believe_are_survived(kind: Kind) -> Result<()> {
    let configuration = json!({ "token": "{vault://v/token}" });
    let mut stage = Stage::start(kind, showing()?, vec![plugin("token", configuration)])?;
    stage.put("{vault://v/token}", "value");
    let marked = |body: &str| CalloutAnswer::response(200, [("x-vaultref-contract", "1")], body);
    let answers = [
        CalloutAnswer::Refused,
        CalloutAnswer::response(503, [], "upstream connect error"),
        marked(""),
        marked("[]"),
        marked(r#"{"results":[]}"#),
        marked(r#"{"results":[{"secret":{}}]}"#).truncated(10),
    ];
    for answer in answers {
        while stage.harness.gateway().open_callouts().is_empty() {
            stage.harness.gateway().advance(Duration::from_millis(200));
        }
        let call = stage.harness.gateway().open_callouts()[0].id;
        stage.harness.gateway().answer(call, answer);
        assert!(stage.send()?.has_status(503));
    }
    // One that is never answered ends with its time.
    stage.harness.gateway().advance(Duration::from_secs(10));
    for function in ["proxy_get_buffer_bytes", "proxy_get_header_map_value"] {
        stage.harness.gateway().inject(Fault::HostStatus {
            function: function.to_owned(),
            status: Status::BadArgument,
            times: 1,
        });
        stage.pass_second()?;
    }
    stage.harness.gateway().clear_faults();
    for _ in 0..3 {
        stage.pass_second()?;
    }
    let answer = stage.send()?.local()?;
    assert_eq!(answer.json()?, json!({ "token": "value" }));
    assert!(
        !stage.harness.gateway().vm_failed(0),
        "{}",
        stage.harness.log()
    );
    Ok(())
}
