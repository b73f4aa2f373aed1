use std::sync::Arc;

use crate::backend::{Asked, kit};
use crate::config::parse;
use crate::environment::Environment;
use crate::policy::{Access, Origin};
use vaultref_contract::Reference;

struct Rules {
    vaults: crate::vault::Vaults,
    access: Access,
}

impl Rules {
    fn new(vaults: &str, allow: &str, deny: &str) -> Self {
        let yaml = format!(
            "{{vaults: [{vaults}], clients: [{{name: c, peer: {{uid: 1}}, allow: [{allow}], deny: [{deny}]}}]}}"
        );
        let config = parse(&yaml, &Arc::new(Environment::default())).expect(&yaml);
        let client = config.clients.iter().next().expect("one");
        Self {
            access: Access::Client(Arc::clone(client)),
            vaults: config.vaults,
        }
    }

    fn permits(&self, reference: &str) -> bool {
        let reference = Reference::parse(reference).expect(reference);
        let vault = self.vaults.find(reference.vault()).expect("a vault");
        let asked = Asked {
            resource: reference.resource(),
            version: reference.version(),
            options: &[],
        };
        let backend = vault.backend().expect("made");
        let object = kit::object(&*backend, &asked).expect("an object");
        self.access.permits(vault, &object, reference.key())
    }

    fn check(&self, table: &[(&str, bool)]) {
        for (reference, expected) in table {
            assert_eq!(self.permits(reference), *expected, "{reference}");
        }
    }
}

const VAULTS: &str = "{name: env, prefix: app, config: {prefix: AWS_}}, {name: env, prefix: other}, \
    {name: hcv, prefix: payments, config: {token: t, kv: v2, mount: payments}}, \
    {name: hcv, prefix: again, config: {token: u, kv: v2, mount: /payments/}}, \
    {name: hcv, prefix: raw, config: {token: u, kv: v1, mount: payments}}, \
    {name: hcv, prefix: here, config: {host: localhost, token: u, kv: v2, mount: payments}}, \
    {name: hcv, prefix: nested, config: {token: u, mount: payments/x/y}}, \
    {name: hcv, prefix: partners, config: {token: t, kv: v2, mount: partners}}";

#[test]
fn nothing_is_allowed_that_is_not_listed() {
    Rules::new(VAULTS, "", "").check(&[
        ("{vault://env/a}", false),
        ("{vault://payments/a/b}", false),
    ]);
    Rules::new(VAULTS, "env/MAPS_*, payments/stripe/*, partners/acme", "").check(&[
        ("{vault://env/maps-key}", true),
        ("{vault://env/Maps_Key}", true),
        ("{vault://env/maps}", false),
        ("{vault://other/maps-key}", false),
        ("{vault://payments/stripe/token}", true),
        ("{vault://payments/stripe/%2Fa%2Fb}", true),
        ("{vault://payments/stripe/}", false),
        ("{vault://payments/stripe/deep/}", true),
        ("{vault://payments/stripes/token}", false),
        ("{vault://again/stripe/token}", false),
        ("{vault://partners/acme/}", true),
        ("{vault://partners/acme/key}", true),
        ("{vault://partners/acme/deep/key}", false),
    ]);
    Rules::new(VAULTS, "payments/stripe/db/password", "").check(&[
        ("{vault://payments/stripe/%2Fdb%2Fpassword}", true),
        ("{vault://payments/stripe/db%2Fpassword}", true),
        ("{vault://payments/stripe/db/password/}", true),
        ("{vault://payments/stripe/%2Fdb%2Fpassword2}", false),
        ("{vault://payments/stripe/%2Fdb}", false),
        ("{vault://payments/stripe/}", false),
    ]);
}

#[test]
fn a_deny_holds_against_every_spelling_and_every_vault_of_the_backend() {
    Rules::new(VAULTS, "env/*, app/*, other/*", "env/AWS_*").check(&[
        ("{vault://env/aws-secret-access-key}", false),
        ("{vault://env/AWS_SECRET_ACCESS_KEY}", false),
        ("{vault://env/aws-x#2}", false),
        ("{vault://other/aws-secret-access-key}", false),
        ("{vault://app/secret-access-key}", false),
        ("{vault://env/aws}", true),
        ("{vault://other/maps}", true),
    ]);
    // Written as a reference would write it.
    Rules::new(VAULTS, "env/*", "env/aws-*").check(&[("{vault://env/aws-x}", false)]);
    // Of a key too, in whatever case the variable is written.
    Rules::new(VAULTS, "env/*", "env/db/password, env/*secret").check(&[
        ("{vault://env/DB/password}", false),
        ("{vault://env/db/password}", false),
        ("{vault://env/db/Password}", false),
        ("{vault://env/db/}", false),
        ("{vault://env/app/my-secret}", false),
        ("{vault://env/db/user}", true),
    ]);
    Rules::new(VAULTS, "env/DB/password", "").check(&[
        ("{vault://env/db/password}", true),
        ("{vault://env/db/PASSWORD}", false),
        ("{vault://env/db/}", false),
    ]);
    Rules::new(VAULTS, "env/*", "env/TOKEN").check(&[
        ("{vault://env/token}", false),
        ("{vault://env/token#2}", false),
        ("{vault://env/token-previous}", false),
        ("{vault://env/token-other}", true),
    ]);
    let all = "payments/*, again/*, raw/*, partners/*, here/*";
    Rules::new(VAULTS, all, "payments/stripe/token").check(&[
        ("{vault://payments/stripe/token}", false),
        ("{vault://payments/stripe/token#3}", false),
        ("{vault://payments/stripe/%2Ftoken}", false),
        ("{vault://payments/stripe/token/}", false),
        ("{vault://payments/stripe/}", false),
        ("{vault://payments/stripe/token/deeper}", false),
        ("{vault://payments/stripe/%2Ftoken%2Fdeeper}", false),
        ("{vault://again/stripe/token}", false),
        ("{vault://again/stripe/}", false),
        ("{vault://raw/data/stripe/token}", false),
        // Where the value really stands in what that vault shows.
        ("{vault://raw/data/stripe/%2Fdata%2Ftoken}", false),
        ("{vault://here/stripe/token}", false),
        ("{vault://raw/data/stripe/}", false),
        // All of what the other vault reaches would be below it.
        ("{vault://raw/data/}", false),
        ("{vault://payments/stripe/user}", true),
        ("{vault://payments/stripes/token}", true),
        ("{vault://partners/stripe/token}", true),
    ]);
    Rules::new(VAULTS, all, "payments/*/token").check(&[
        ("{vault://payments/a/b/token}", false),
        ("{vault://payments/a/}", false),
        ("{vault://payments/a/user}", true),
    ]);
    Rules::new(VAULTS, all, "nested/k").check(&[
        ("{vault://raw/x/y/k/}", false),
        ("{vault://raw/x/}", false),
        ("{vault://raw/xx/}", true),
        ("{vault://raw/x/other}", true),
    ]);
    Rules::new(VAULTS, all, "raw/data/stripe/data/token").check(&[
        ("{vault://payments/stripe/token}", false),
        ("{vault://payments/other/token}", true),
    ]);
    Rules::new(VAULTS, all, "raw/*").check(&[
        ("{vault://payments/a/b}", false),
        ("{vault://partners/a/b}", true),
    ]);
}

#[cfg(all(feature = "aws", feature = "conjur", feature = "gcp"))]
#[test]
fn secrets_of_the_clouds_are_texts_and_those_of_aws_are_made_of_keys() {
    let vaults = "{name: gcp, config: {project_id: my-project}}, \
        {name: conjur, config: {endpoint_url: 'http://localhost', account: a, login: l, api_key: k}}, \
        {name: aws, config: {region: eu-west-1}}";
    for (vault, whole) in [("gcp", true), ("conjur", true), ("aws", false)] {
        let rules = Rules::new(vaults, &format!("{vault}/*"), &format!("{vault}/*secret*"));
        rules.check(&[
            (&format!("{{vault://{vault}/token/}}"), whole),
            (&format!("{{vault://{vault}/my-secret/}}"), false),
            (&format!("{{vault://{vault}/token/secret}}"), false),
            (&format!("{{vault://{vault}/token/other}}"), true),
        ]);
    }
}

/// Where objects are texts, a star is no key: else one pattern that begins with it would deny every
/// text as a whole.
#[test]
fn a_star_in_a_deny_reaches_keys_of_texts_only_behind_a_slash() {
    Rules::new(VAULTS, "env/*, app/*", "env/*SECRET*").check(&[
        ("{vault://env/maps-key}", true),
        ("{vault://env/maps-key#2}", true),
        ("{vault://env/db/}", true),
        ("{vault://env/my-secret-key}", false),
        ("{vault://env/secret}", false),
        ("{vault://env/secret/user}", false),
        ("{vault://app/secret}", false),
        // A key that is asked for by its name is looked at.
        ("{vault://env/db/client-secret}", false),
        ("{vault://env/db/user}", true),
    ]);
    Rules::new(VAULTS, "env/*", "env/DB*/*secret*").check(&[
        ("{vault://env/db}", false),
        ("{vault://env/db-two}", false),
        ("{vault://env/db-two/client-secret}", false),
        ("{vault://env/db-two/user}", true),
        ("{vault://env/maps-key}", true),
    ]);
    for (deny, whole_is_permitted) in [
        ("env/*", false),
        ("env/A*", false),
        ("env/AB*", false),
        ("env/ABC*", true),
        ("env/*C", true),
        ("env/A*C", true),
        ("env/A*/C", false),
        ("env/*/C", false),
        ("env/*/*", false),
        ("env/**/C", false),
        ("env/AB/C", false),
        ("env/AB*/C", false),
        ("env/ABC/D", true),
        ("env/AB/*", false),
        ("env/*BC/D", true),
    ] {
        Rules::new(VAULTS, "env/*", deny).check(&[("{vault://env/ab}", whole_is_permitted)]);
    }
    // What is made of keys is as secret as each of them.
    Rules::new(VAULTS, "payments/*", "payments/*secret*").check(&[
        ("{vault://payments/stripe/}", false),
        ("{vault://payments/stripe/client-secret}", false),
        ("{vault://payments/stripe/user}", true),
    ]);

    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    std::fs::create_dir(root.join("in")).expect("made");
    let vaults = format!(
        "{{name: fs, prefix: outer, config: {{prefix: {root:?}}}}}, {{name: fs, prefix: inner, config: {{prefix: {:?}}}}}",
        root.join("in")
    );
    Rules::new(&vaults, "outer/*, inner/*", "outer/*secret*").check(&[
        ("{vault://outer/token}", true),
        ("{vault://outer/in/token/}", true),
        ("{vault://inner/token}", true),
        ("{vault://outer/in/secret-token/}", false),
        ("{vault://outer/secrets/token/}", false),
        ("{vault://inner/secret}", false),
    ]);
    Rules::new(&vaults, "outer/*, inner/*", "outer/in/*/password").check(&[
        ("{vault://inner/db}", false),
        ("{vault://inner/db/user}", true),
        ("{vault://inner/db/password}", false),
        ("{vault://outer/db}", true),
    ]);
    // The other way round: what the outer vault shows may hold what the inner one denies.
    Rules::new(&vaults, "outer/*, inner/*", "inner/*secret*").check(&[
        ("{vault://outer/token}", true),
        ("{vault://outer/in/token/}", true),
        ("{vault://outer/in/}", false),
        ("{vault://outer/in/secret/}", false),
    ]);
}

#[test]
fn a_deny_holds_against_links_and_nested_directories() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    std::fs::create_dir(root.join("in")).expect("made");
    std::fs::write(root.join("in/key"), "v").expect("written");
    std::os::unix::fs::symlink("in/key", root.join("alias")).expect("linked");
    let vaults = format!(
        "{{name: fs, prefix: outer, config: {{prefix: {root:?}}}}}, {{name: fs, prefix: inner, config: {{prefix: {:?}}}}}",
        root.join("in")
    );
    for deny in ["outer/in/key", "inner/key", "inner/*", "outer/*/key"] {
        Rules::new(&vaults, "outer/*, inner/*", deny).check(&[
            ("{vault://outer/in/key/}", false),
            ("{vault://outer/alias}", false),
            ("{vault://inner/key}", false),
            ("{vault://outer/other/user}", true),
        ]);
    }
    // Denied by the name of the link: by that name it is not read.
    Rules::new(&vaults, "outer/*", "outer/alias").check(&[
        ("{vault://outer/alias}", false),
        ("{vault://outer/in/key/}", true),
    ]);
    // What an alias is called counts for nothing.
    Rules::new(&vaults, "outer/alias", "").check(&[("{vault://outer/alias}", false)]);
    Rules::new(&vaults, "outer/in/key", "").check(&[("{vault://outer/alias}", true)]);
}

#[test]
fn a_client_comes_from_where_it_says() {
    let (unix, tcp) = (Origin::Unix { uid: 5, gid: 6 }, Origin::Tcp);
    for (fields, from_unix, from_tcp) in [
        ("peer: {uid: 5}", true, false),
        ("peer: {gid: 6}", true, false),
        ("peer: {uid: 5, gid: 6}", true, false),
        ("peer: {uid: 5, gid: 7}", false, false),
        ("peer: {uid: 6}", false, false),
        ("tokens: [t]", true, true),
        ("peer: {uid: 5}, tokens: [t]", true, false),
        ("peer: {uid: 6}, tokens: [t]", false, false),
    ] {
        let yaml = format!("clients: [{{name: c, {fields}}}]");
        let config = parse(&yaml, &Arc::new(Environment::default())).expect("a configuration");
        let client = config.clients.iter().next().expect("one");
        let comes = (client.comes_from(unix), client.comes_from(tcp));
        assert_eq!(comes, (from_unix, from_tcp), "{fields}");
    }
}
