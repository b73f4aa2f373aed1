//! All faults of a configuration by means of a check that stops at the first.
//!
//! The fault is noted, what stands there is taken away or replaced by something harmless, and the
//! check is made again. What is only a consequence of that is not reported.

use std::collections::BTreeMap;

use super::tree::{Tree, Value, child, names};

/// Something that is wrong, and where: a JSON pointer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) pointer: String,
    pub(super) cause: String,
    /// The byte of the document, where the pointer does not say it.
    pub(super) at: Option<usize>,
}

impl Fault {
    pub(super) fn new(pointer: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            cause: cause.into(),
            at: None,
        }
    }

    /// The byte of a document at which it is.
    pub(super) fn place(&self, document: &Tree) -> usize {
        self.at.unwrap_or_else(|| document.place(&self.pointer))
    }
}

/// A check and what it takes to get past what it finds.
pub(super) trait Check {
    /// What comes of a document without faults.
    type Good;

    /// Checks a document.
    ///
    /// # Errors
    /// The first fault.
    fn check(&self, document: &Tree) -> Result<Self::Good, Fault>;

    /// Things that may stand in a list in the place of an item that is wrong, always as many; the
    /// number keeps them apart.
    fn items(&self, item: &Tree, number: usize) -> Vec<Value>;

    /// Things that a member that is wrong may be instead, before it is taken away.
    fn members(&self) -> Vec<Value>;

    /// Gets past a fault that nothing general helps against. Says whether it did something.
    fn mend(&self, _document: &mut Tree, _fault: &Fault) -> bool {
        false
    }
}

/// Finds all faults. The second is none if something could not be got past.
pub(super) fn all<C: Check>(check: &C, document: &Tree) -> (Vec<Fault>, Option<C::Good>) {
    let mut trial = document.clone();
    let mut faults = take_repeated(&mut trial);
    // How often something was tried at each place.
    let mut mended: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let fault = match check.check(&trial) {
            Ok(good) => return (faults, Some(good)),
            Err(fault) => fault,
        };
        // What was put in the place of something may be wrong in turn.
        let mut places = mended.keys();
        let own = places.find(|place| !place.is_empty() && is_within(&fault.pointer, place));
        let own = own.cloned();
        let is_consequence = own.is_some() || mended.keys().any(|place| is_missed(&fault, place));
        if !is_consequence {
            faults.push(fault.clone());
        }
        if !mended.contains_key(&fault.pointer) && check.mend(&mut trial, &fault) {
            mended.insert(fault.pointer, 0);
            continue;
        }
        let mut place = own.unwrap_or(fault.pointer);
        loop {
            if place.is_empty() {
                return (faults, None);
            }
            let number = mended.len();
            let attempt = mended.entry(place.clone()).or_default();
            *attempt += 1;
            if replace(check, &mut trial, &place, number, *attempt - 1) {
                break;
            }
            place.truncate(place.rfind('/').unwrap_or_default());
        }
    }
}

/// Whether a fault only says that something is not there that was taken away.
fn is_missed(fault: &Fault, place: &str) -> bool {
    let beneath = place.strip_prefix(&fault.pointer);
    let member = beneath.and_then(|rest| rest.strip_prefix('/'));
    member.is_some_and(|member| {
        let mut words = fault
            .cause
            .split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
        !member.contains('/') && words.any(|word| word == member)
    })
}

/// Whether a pointer leads to the same place as another, or beneath it.
pub(super) fn is_within(pointer: &str, outer: &str) -> bool {
    pointer
        .strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Items and members get one stand-in after the other; then a member is taken away. (An item is not:
/// the places of those after it must stay what they are.)
fn replace<C: Check>(
    check: &C,
    document: &mut Tree,
    pointer: &str,
    number: usize,
    attempt: usize,
) -> bool {
    let parent = pointer.rsplit_once('/').map(|(parent, _)| parent);
    let (Some(parent), Some(name)) = (parent, names(pointer).last()) else {
        return false;
    };
    match document.get_mut(parent).map(|tree| &mut tree.value) {
        Some(Value::List(items)) => {
            let item = name.parse::<usize>().ok();
            let Some(item) = item.and_then(|index| items.get_mut(index)) else {
                return false;
            };
            let stand_in = check.items(item, number).into_iter().nth(attempt);
            let is_one = stand_in.is_some();
            item.value = stand_in.unwrap_or(Value::Null);
            is_one
        }
        Some(Value::Mapping(members)) => {
            let mut named = members.iter_mut();
            let Some(member) = named.find(|member| member.name == name) else {
                return false;
            };
            match check.members().into_iter().nth(attempt) {
                Some(stand_in) => member.tree.value = stand_in,
                None => members.retain(|member| member.name != name),
            }
            true
        }
        _ => false,
    }
}

/// Takes out names that stand twice. Parsers differ in which of them counts.
pub(super) fn take_repeated(document: &mut Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    take_repeated_from(document, "", &mut faults);
    faults
}

fn take_repeated_from(tree: &mut Tree, pointer: &str, faults: &mut Vec<Fault>) {
    match &mut tree.value {
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                take_repeated_from(item, &format!("{pointer}/{index}"), faults);
            }
        }
        Value::Mapping(members) => {
            let mut known: Vec<String> = Vec::new();
            members.retain(|member| {
                let is_new = !known.contains(&member.name);
                if is_new {
                    known.push(member.name.clone());
                } else {
                    let place = child(pointer, &member.name);
                    faults.push(Fault {
                        at: Some(member.at),
                        ..Fault::new(place, "this name stands here twice")
                    });
                }
                is_new
            });
            for member in members {
                let place = child(pointer, &member.name);
                take_repeated_from(&mut member.tree, &place, faults);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::yaml;
    use super::*;

    /// Wants numbers in `list`, and `name`; nothing else.
    struct Numbers;

    impl Check for Numbers {
        type Good = String;

        fn check(&self, document: &Tree) -> Result<String, Fault> {
            for (index, item) in document
                .member("list")
                .iter()
                .flat_map(|list| list.items())
                .enumerate()
            {
                if !matches!(item.value, Value::Number(_)) {
                    return Err(Fault::new(format!("/list/{index}"), "no number"));
                }
            }
            let mut others = document.members().iter();
            if let Some(odd) = others.find(|member| !matches!(&*member.name, "list" | "name")) {
                return Err(Fault::new(child("", &odd.name), "unknown"));
            }
            if document
                .member("name")
                .is_none_or(|name| name.text() == Some(""))
            {
                return Err(Fault::new("", "no name"));
            }
            Ok(document.to_json().to_string())
        }

        fn items(&self, _: &Tree, number: usize) -> Vec<Value> {
            vec![Value::Null, Value::Number(number.to_string())]
        }

        fn members(&self) -> Vec<Value> {
            vec![Value::Null]
        }
    }

    fn found(yaml: &str) -> (Vec<String>, Option<String>) {
        let (faults, good) = all(&Numbers, &yaml::parse(yaml).expect(yaml)[0]);
        let shown = faults
            .iter()
            .map(|fault| format!("{}: {}", fault.pointer, fault.cause));
        (shown.collect(), good)
    }

    #[test]
    fn all_are_found_at_their_own_places() {
        let (faults, good) = found("{list: [1, x, 2, [y], 3], a/b: 1, c: 2, name: n, name: m}");
        assert_eq!(
            faults,
            [
                "/name: this name stands here twice",
                "/list/1: no number",
                "/list/3: no number",
                "/a~1b: unknown",
                "/c: unknown",
            ]
        );
        let good = good.expect("mended");
        assert!(
            good.starts_with("{\"list\":[1,") && good.contains("\"name\":\"n\""),
            "{good}"
        );
    }

    #[test]
    fn what_cannot_be_got_past_ends_it_and_consequences_are_none() {
        assert_eq!(found("{list: [1]}"), (vec![": no name".to_owned()], None));
        assert_eq!(found("{name: n}").0, [""; 0]);
    }

    #[test]
    fn within_goes_by_names() {
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", ""));
        assert!(!is_within("/ab", "/a") && !is_within("/a", "/a/b"));
    }
}
