//! The filter's configuration, checked by the filter's own code.

use vaultref_filter::{Callbacks, Kind};
use zeroize::Zeroizing;

use super::faults::{self, Check, Fault};
use super::tree::{Member, Tree, Value};

/// A gateway as far as a configuration can be wrong for it.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) kind: Kind,
    /// Those of the filter's file.
    pub(super) callbacks: Callbacks,
    /// The environment variables that the module sees, if that is known.
    pub(super) variables: Option<Vec<String>>,
}

/// The faults of a configuration.
pub(super) fn faults(document: &Tree, gateway: &Gateway) -> Vec<Fault> {
    faults::all(gateway, document).0
}

impl Check for Gateway {
    type Good = ();

    fn check(&self, document: &Tree) -> Result<(), Fault> {
        let variable = |name: &str| {
            let mut known = self.variables.iter().flatten();
            let is_seen = self.variables.is_none() || known.any(|known| known == name);
            // Its value is not known, and that it is a token is all that matters.
            is_seen.then(|| "token".to_owned())
        };
        vaultref_filter::check(
            document.to_json().as_bytes(),
            self.kind,
            self.callbacks,
            variable,
        )
        .map_err(|error| Fault::new(error.place(), error.message()))
    }

    fn items(&self, _: &Tree, number: usize) -> Vec<Value> {
        // A rule, a header or a host, a method.
        vec![
            Value::Mapping(Vec::new()),
            text(&format!("stand-in-{number}")),
            text(&format!("STANDIN{number}")),
        ]
    }

    fn members(&self) -> Vec<Value> {
        // A status or a time, a path, a name.
        let number = Value::Number("503".to_owned());
        vec![number, text("/stand-in"), text("stand-in")]
    }

    fn mend(&self, document: &mut Tree, fault: &Fault) -> bool {
        let at = document.span.clone();
        let Value::Mapping(members) = &mut document.value else {
            return false;
        };
        let has = |members: &[Member], name: &str| members.iter().any(|member| member.name == name);
        let is_of_resolver = fault.pointer == "/resolver";
        if is_of_resolver || (fault.pointer.is_empty() && !has(members, "resolver")) {
            members.retain(|member| member.name != "resolver");
            let upstream = Member {
                name: "upstream".to_owned(),
                at: at.start,
                tree: Tree::new(text("stand-in"), at.clone()),
            };
            let resolver = Member {
                name: "resolver".to_owned(),
                at: at.start,
                tree: Tree::new(Value::Mapping(vec![upstream]), at),
            };
            members.push(resolver);
            return true;
        }
        if fault.pointer.is_empty() && has(members, "rules") {
            // A single rule beside a list of rules.
            let before = members.len();
            members
                .retain(|member| !matches!(&*member.name, "basic_auth" | "on_error" | "request"));
            return members.len() < before;
        }
        false
    }
}

fn text(text: &str) -> Value {
    Value::Text(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::tree::yaml;
    use super::*;

    fn found(kind: Kind, yaml: &str) -> Vec<String> {
        let gateway = Gateway {
            kind,
            callbacks: Callbacks::Every,
            variables: Some(vec!["SEEN".to_owned()]),
        };
        let trees = yaml::parse(yaml).expect(yaml);
        let faults = faults(&trees[0], &gateway);
        faults.iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn a_good_configuration_has_no_fault() {
        let yaml = "{resolver: {upstream: u, token_env: SEEN}, request: {set: {headers: {a: '{vault://a/b}'}}}}";
        assert_eq!(found(Kind::Envoy, yaml), [""; 0]);
    }

    #[test]
    fn every_fault_is_found_whatever_comes_before_it() {
        let yaml = "
            resolvr: {}
            resolver: {upstream: u, host_function: true, timeout_ms: 0}
            rules:
              - 7
              - match: {host: ['a:1', good, 'b:2'], methods: [post, GET], path_prefix: v1}
                request:
                  set: {headers: {Host: x, good: '{vault://a/b}', x: y}, body: {/a: 7}}
                  add: {headers: {X: z}}
                  remove: {headers: [ok, 'b d', ok]}
                on_error: {status: 200}
              - {basic_auth: {username: u}}
              - {matsch: {}}
            on_error: {}
        ";
        let mut found = found(Kind::Envoy, yaml);
        found.sort();
        assert_eq!(
            found,
            [
                "",
                "/resolver",
                "/resolvr",
                "/rules/0",
                "/rules/1/match/host/0",
                "/rules/1/match/host/2",
                "/rules/1/match/methods/0",
                "/rules/1/match/path_prefix",
                "/rules/1/on_error/status",
                "/rules/1/request/remove/headers/1",
                "/rules/1/request/remove/headers/2",
                "/rules/1/request/set/body/~1a",
                "/rules/1/request/set/headers/Host",
                "/rules/1/request/set/headers/x",
                "/rules/2/basic_auth",
                "/rules/3/matsch",
            ]
        );
    }

    #[test]
    fn what_a_gateway_cannot_do_and_what_it_does_not_show_are_faults() {
        let yaml = "{resolver: {upstream: 'http://x', token_env: UNSEEN}, request: {remove: {headers: [x]}}}";
        assert_eq!(found(Kind::Envoy, yaml), ["/resolver/token_env"]);
        assert_eq!(
            found(Kind::Nginx, yaml),
            [
                "/resolver/upstream",
                "/resolver/token_env",
                "/request/remove/headers/0"
            ]
        );
    }

    #[test]
    fn without_a_resolver_the_rest_is_checked_all_the_same() {
        assert_eq!(found(Kind::Envoy, "{rules: [{a: 1}]}"), ["", "/rules/0/a"]);
        assert_eq!(found(Kind::Envoy, "[]"), [""]);
    }
}
