//! Makes an input into another one: mostly a small change at a place that means something, by the
//! words of a dictionary, since no chance finds the name of a field.

use serde_json::{Map, Value};

use super::dictionary::{DICTIONARY, FIELDS, HEADERS, TEXTS};
use super::module::KINDS;
use super::random::Random;
use super::resolver::MOODS;
use super::script::{MAX_ARGUMENT, MAX_STEPS, Script, Step};
use super::steps::{CALLBACKS, FUNCTIONS, WORDS};

/// Changes an input; `other` is one of which parts may be taken.
pub(super) fn mutate(script: &Script, other: &Script, random: &mut Random) -> Script {
    let mut new = script.clone();
    let times = 1 + random.below(4) * random.below(2);
    for _ in 0..times {
        change(&mut new, other, random);
    }
    new.steps.truncate(MAX_STEPS);
    for argument in new.steps.iter_mut().flat_map(|step| &mut step.arguments) {
        argument.truncate(MAX_ARGUMENT);
    }
    new
}

fn change(script: &mut Script, other: &Script, random: &mut Random) {
    let length = script.steps.len();
    let at = random.below(length);
    match random.below(16) {
        // Half of all: inside one step.
        0..=8 if length > 0 => change_step(&mut script.steps[at], other, random),
        9 if length > 1 => {
            script.steps.remove(at);
        }
        10 if length > 0 => {
            let copy = script.steps[at].clone();
            script.steps.insert(random.below(length + 1), copy);
        }
        11 if length > 1 => {
            let to = random.below(length);
            script.steps.swap(at, to);
        }
        12 if !other.steps.is_empty() => {
            let from = random.below(other.steps.len());
            let count = 1 + random.below(4);
            let taken = other.steps.iter().skip(from).take(count).cloned();
            let rest = script.steps.split_off(at);
            script.steps.extend(taken);
            script.steps.extend(rest);
        }
        13 => {
            let kind = random.pick(&KINDS);
            script.steps.retain(|step| step.word != "gateway");
            let step = Step::new("gateway", &[kind.as_bytes()]);
            script.steps.insert(0, step);
        }
        _ => {
            let step = new_step(random);
            script.steps.insert(random.below(length + 1), step);
        }
    }
}

/// A step that is likely to do something.
fn new_step(random: &mut Random) -> Step {
    let number = random.below(4).to_string();
    let number = number.as_bytes();
    let mood = random.pick(&MOODS).as_bytes();
    match random.below(13) {
        12 => match random.below(3) {
            0 => Step::new("trailer", &[b"x-trailer", b"0WN-3"]),
            _ => Step::new("chunk", &[random.pick(&TEXTS).as_bytes()]),
        },
        0 | 1 => Step::new("answer", &[number, mood]),
        2 => {
            let times = ["0", "200", "1000", "1600", "5000", "90000"];
            Step::new("tick", &[random.pick(&times).as_bytes()])
        }
        3 => {
            let how = random.pick(&["closed", "not-http", "refused", "timeout"]);
            Step::new("end", &[number, how.as_bytes()])
        }
        4 => Step::new("late", &[number, mood]),
        5 => {
            let (callback, _) = CALLBACKS[random.below(CALLBACKS.len())];
            let numbers: Vec<String> = (0..5).map(|_| odd_number(random).to_string()).collect();
            let mut step = Step::new("call", &[callback.export().as_bytes()]);
            let numbers = numbers.into_iter().map(String::into_bytes);
            step.arguments.extend(numbers);
            step
        }
        6 => {
            let function = random.pick(&FUNCTIONS).as_bytes();
            let status = random.below(13).to_string();
            let times = (1 + random.below(3)).to_string();
            Step::new("fault", &[function, status.as_bytes(), times.as_bytes()])
        }
        7 => Step::new("mood", &[mood]),
        8 => Step::new(random.pick(&["rotate", "replace", "disconnect"]), &[number]),
        9 => {
            let keep = random.below(300).to_string();
            Step::new("cut", &[number, mood, keep.as_bytes()])
        }
        10 => {
            let context = odd_number(random).to_string();
            let token = odd_number(random).to_string();
            let body = br#"{"results":[]}"#;
            Step::new("stray", &[context.as_bytes(), token.as_bytes(), body])
        }
        _ => {
            let path = random.pick(&["/", "/v1", "/v1/x?key=0WN-mine", "/a/b?x=1&key=0WN-1"]);
            let name = random.pick(&HEADERS).as_bytes();
            Step::new(
                "request",
                &[
                    b"GET",
                    b"api.example.com",
                    path.as_bytes(),
                    b"",
                    name,
                    b"0WN-2",
                ],
            )
        }
    }
}

fn odd_number(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => u64::from(u32::MAX) - u64::try_from(random.below(2)).unwrap_or(0),
        1 => 1 << random.below(32),
        _ => u64::try_from(random.below(8)).unwrap_or(0),
    }
}

fn change_step(step: &mut Step, other: &Script, random: &mut Random) {
    let count = step.arguments.len();
    if random.once_in(12) {
        match (random.below(3), count) {
            (0, 1..) => drop(step.arguments.remove(random.below(count))),
            (1, _) => {
                let name = random.pick(&HEADERS).as_bytes().to_vec();
                let value = random.pick(&TEXTS).as_bytes().to_vec();
                step.arguments.extend([name, value]);
            }
            (_, 1..) => {
                let copy = step.arguments[random.below(count)].clone();
                step.arguments.push(copy);
            }
            _ => step.word = random.pick(&WORDS).to_owned(),
        }
        return;
    }
    if count == 0 {
        return;
    }
    let at = random.below(count);
    let old = &step.arguments[at];
    let json = serde_json::from_slice::<Value>(old).ok();
    let new = match json {
        Some(mut json @ (Value::Object(_) | Value::Array(_))) if !random.once_in(5) => {
            let donor = donor(other, random);
            change_json(&mut json, donor.as_ref(), random);
            json.to_string().into_bytes()
        }
        Some(Value::Number(_)) if random.once_in(2) => odd_number(random).to_string().into_bytes(),
        _ if MOODS.iter().any(|mood| mood.as_bytes() == old.as_slice()) => {
            random.pick(&MOODS).as_bytes().to_vec()
        }
        _ => change_bytes(old, random),
    };
    step.arguments[at] = new;
}

/// Some JSON out of another input.
fn donor(other: &Script, random: &mut Random) -> Option<Value> {
    let arguments = other.steps.iter().flat_map(|step| &step.arguments);
    let documents: Vec<Value> = arguments
        .filter_map(|bytes| serde_json::from_slice(bytes).ok())
        .filter(Value::is_object)
        .collect();
    let count = documents.len();
    documents.into_iter().nth(random.below(count))
}

/// Changes one place of a document.
fn change_json(json: &mut Value, donor: Option<&Value>, random: &mut Random) {
    let mut places = Vec::new();
    list(json, &mut String::new(), &mut places);
    let place = places[random.below(places.len())].clone();
    let Some(found) = json.pointer_mut(&place) else {
        return;
    };
    match (found, random.below(8)) {
        (Value::Object(members), 0..=2) => add_member(members, donor, random),
        (Value::Object(members), 3) => {
            let names: Vec<String> = members.keys().cloned().collect();
            if let Some(name) = names.get(random.below(names.len())) {
                members.remove(name);
            }
        }
        (Value::Object(members), 4) => {
            let names: Vec<String> = members.keys().cloned().collect();
            if let Some(name) = names.get(random.below(names.len()))
                && let Some(value) = members.remove(name)
            {
                members.insert(some_name(random), value);
            }
        }
        (Value::Array(values), 0..=2) => {
            let new = match values.get(random.below(values.len())) {
                Some(value) if !random.once_in(3) => value.clone(),
                _ => some_value(random),
            };
            values.insert(random.below(values.len() + 1), new);
        }
        (Value::Array(values), 3 | 4) if !values.is_empty() => {
            values.remove(random.below(values.len()));
        }
        (Value::Array(values), 5) if values.len() > 1 => {
            let (one, two) = (random.below(values.len()), random.below(values.len()));
            values.swap(one, two);
        }
        (Value::String(text), 0..=5) => {
            let new = match random.below(3) {
                0 => random.pick(&TEXTS).to_owned(),
                _ => String::from_utf8_lossy(&change_bytes(text.as_bytes(), random)).into_owned(),
            };
            *text = new;
        }
        (found, _) => *found = some_value(random),
    }
}

fn add_member(members: &mut Map<String, Value>, donor: Option<&Value>, random: &mut Random) {
    // A field with what it has elsewhere, or with anything.
    if let Some(donor) = donor
        && !random.once_in(3)
    {
        let mut places = Vec::new();
        list(donor, &mut String::new(), &mut places);
        let place = &places[random.below(places.len())];
        let name = place.rsplit('/').next().unwrap_or_default();
        let name = name.replace("~1", "/").replace("~0", "~");
        if let Some(value) = donor.pointer(place)
            && !name.is_empty()
        {
            members.insert(name, value.clone());
            return;
        }
    }
    members.insert(some_name(random), some_value(random));
}

fn some_name(random: &mut Random) -> String {
    match random.below(3) {
        0 => random.pick(&HEADERS).to_owned(),
        _ => random.pick(&FIELDS).to_owned(),
    }
}

fn some_value(random: &mut Random) -> Value {
    match random.below(8) {
        0 => Value::from(random.pick(&HEADERS)),
        1 => Value::from(odd_number(random)),
        2 => Value::from(random.once_in(2)),
        3 => Value::Array(vec![Value::from(random.pick(&TEXTS))]),
        4 => {
            let name = some_name(random);
            Value::Object(Map::from_iter([(name, Value::from(random.pick(&TEXTS)))]))
        }
        5 => Value::Null,
        _ => Value::from(random.pick(&TEXTS)),
    }
}

/// The JSON pointers of all places in a document.
fn list(json: &Value, here: &mut String, places: &mut Vec<String>) {
    places.push(here.clone());
    let mut inner = |name: &str, json: &Value| {
        let length = here.len();
        here.push('/');
        here.push_str(&name.replace('~', "~0").replace('/', "~1"));
        list(json, here, places);
        here.truncate(length);
    };
    match json {
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                inner(&at.to_string(), value);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                inner(name, value);
            }
        }
        _ => {}
    }
}

/// Changes some bytes.
fn change_bytes(old: &[u8], random: &mut Random) -> Vec<u8> {
    let mut new = old.to_vec();
    let length = new.len();
    let at = random.below(length + 1);
    let end = (at + 1 + random.below(8)).min(length);
    match random.below(9) {
        0..=2 => {
            let word = random.pick(&DICTIONARY).bytes();
            new.splice(at..at, word);
        }
        3 if at < end => drop(new.drain(at..end)),
        4 if at < length => new[at] ^= 1 << random.below(8),
        5 if at < length => {
            let byte = u8::try_from(random.below(256)).unwrap_or(0);
            new[at] = byte;
        }
        6 if at < end => {
            let piece = new[at..end].to_vec();
            // Now and then so often that some limit is met.
            let times = if random.once_in(8) {
                1 << random.below(12)
            } else {
                1
            };
            new.splice(at..at, piece.repeat(times));
        }
        7 => new.truncate(at),
        _ => {
            let word = random.pick(&DICTIONARY).bytes();
            new.splice(at..end.max(at), word);
        }
    }
    new
}
