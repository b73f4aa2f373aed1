//! The fields of Kong's plugins that may hold references, gathered from Kong's documentation of them:
//! in a configuration of each plugin's shape in which every text is a reference, exactly these are
//! resolved.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Filters;
use crate::testing::secret;

/// What a listed field is.
#[derive(Clone, Copy, Debug)]
enum Leaf {
    List,
    Map,
    Text,
}

/// What the objects around it are.
#[derive(Clone, Copy, Debug)]
enum Parent {
    List,
    Object,
}

/// The objects of a plugin's configuration, by the listed fields.
#[derive(Default)]
struct Shape {
    is_listed: bool,
    members: BTreeMap<String, Shape>,
}

impl Shape {
    fn add(&mut self, path: &str) {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let member = self.members.entry(first.to_owned()).or_default();
        match rest {
            Some(rest) => member.add(rest),
            None => member.is_listed = true,
        }
    }
}

/// Makes a configuration, and beside it what is to be handed over.
struct Maker {
    leaf: Leaf,
    parent: Parent,
    count: usize,
    listed: usize,
}

impl Maker {
    /// A text that holds a reference, and what becomes of it.
    fn text(&mut self, is_listed: bool) -> (Value, Value) {
        self.count += 1;
        let number = self.count;
        let around = [
            ("", "", "", ""),
            ("Bearer ", "", "Bearer ", ""),
            ("{{vault://no} ", " {{x}}", "{vault://no} ", " {{x}}"),
        ];
        let (before, after, before_it, after_it) = around[number % 3];
        let written = json!(format!("{before}{{vault://kong/{number}/key}}{after}"));
        if !is_listed {
            return (written.clone(), written);
        }
        self.listed += 1;
        (written, json!(format!("{before_it}<{number}>{after_it}")))
    }

    fn leaf(&mut self, leaf: Leaf, is_listed: bool) -> (Value, Value) {
        if let Leaf::Text = leaf {
            return self.text(is_listed);
        }
        let (first, second) = (self.text(is_listed), self.text(is_listed));
        let join = |first: Value, second: Value| match leaf {
            Leaf::Map => json!({"config": first, "{vault://kong/name}": second}),
            Leaf::List | Leaf::Text => json!([first, second]),
        };
        (join(first.0, second.0), join(first.1, second.1))
    }

    fn object(&mut self, shape: &Shape) -> (Value, Value) {
        let mut written = Map::new();
        let mut expected = Map::new();
        let mut put = |name: &str, (before, after): (Value, Value)| {
            written.insert(name.to_owned(), before);
            expected.insert(name.to_owned(), after);
        };
        for (name, member) in &shape.members {
            if !member.is_listed {
                put(name, self.parent(member));
                continue;
            }
            assert!(member.members.is_empty(), "a field within a field");
            put(name, self.leaf(self.leaf, true));
            // Under nearly the same name, and under the same inside something that is not listed.
            put(&format!("{name}_"), self.leaf(Leaf::Text, false));
            let (inner, _) = self.leaf(Leaf::Text, false);
            let around = json!({"unlisted": {name: inner}});
            put(&format!("not_{name}"), (around.clone(), around));
        }
        put("sibling", self.leaf(Leaf::Text, false));
        put("sibling_list", self.leaf(Leaf::List, false));
        put("sibling_map", self.leaf(Leaf::Map, false));
        put("broken", (json!("{vault://"), json!("{vault://")));
        (Value::Object(written), Value::Object(expected))
    }

    fn parent(&mut self, shape: &Shape) -> (Value, Value) {
        match self.parent {
            Parent::Object => self.object(shape),
            Parent::List => {
                let (first, second) = (self.object(shape), self.object(shape));
                let text = self.leaf(Leaf::Text, false);
                let written = json!([first.0, second.0, text.0]);
                (written, json!([first.1, second.1, text.1]))
            }
        }
    }
}

#[test]
fn exactly_the_fields_that_kong_lists_are_resolved() {
    let rows = include_str!("../../../tests/referenceable-fields.jsonl");
    let mut count = (0, 0);
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).expect("a row");
        let fields = row["fields"].as_array().expect("fields").iter();
        let fields: Vec<&str> = fields.map(|path| path.as_str().expect("a path")).collect();
        count = (count.0 + 1, count.1 + fields.len());
        let mut shape = Shape::default();
        fields.iter().for_each(|path| shape.add(path));
        for leaf in [Leaf::List, Leaf::Map, Leaf::Text] {
            for parent in [Parent::List, Parent::Object] {
                let name = format!("{}, {leaf:?} in {parent:?}", row["plugin"]);
                let (count, listed) = (0, 0);
                let mut maker = Maker {
                    leaf,
                    parent,
                    count,
                    listed,
                };
                let (written, expected) = maker.object(&shape);
                assert!(maker.listed >= fields.len());
                check(&name, &fields, written, &expected);
            }
        }
    }
    assert_eq!(count, (39, 246));
}

fn check(name: &str, fields: &[&str], mut written: Value, expected: &Value) {
    written["vaultref"] = json!({"upstream": "daemon"});
    let mut filters = Filters::in_envoy();
    let id = filters
        .configure(&written.to_string(), fields)
        .unwrap_or_else(|error| panic!("{name}: {error:?}"));
    filters.tick(0);
    filters.answer(|reference, _| {
        let number = reference.split('/').nth(3).unwrap_or_default();
        secret(&format!("<{number}>"), "r1")
    });
    let text = filters.handed_over(id).unwrap_or_default();
    let handed_over: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(handed_over, *expected, "{name}");
}
