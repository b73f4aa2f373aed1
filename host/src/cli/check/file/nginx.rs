//! `nginx.conf` with ngx_wasm_module, as far as a filter's configuration is a parameter in it.

use std::borrow::Cow;
use std::ops::Range;

use vaultref_filter::{Callbacks, Kind};

use super::super::filter::Gateway;
use super::wasm::configuration_in;

/// The longest parameter that nginx reads, in bytes as it is written, escapes and all: with the quote or
/// the space that ends it, it has to fit a buffer of 4,096.
pub(super) const LONGEST_PARAMETER: usize = 4095;

/// The directives of a file, if a filter is configured in it.
pub(super) fn directives(source: &str) -> Option<Vec<Directive<'_>>> {
    let directives = parse(source);
    let configures = |directive: &Directive<'_>| directive.name() == Some("proxy_wasm");
    directives.iter().any(configures).then_some(directives)
}

/// One directive with its parameters.
pub(super) struct Directive<'a>(Vec<Parameter<'a>>);

/// A word, or what stands in quotes.
pub(super) struct Parameter<'a> {
    /// Its bytes in the file, without the quotes.
    pub(super) range: Range<usize>,
    /// As nginx hands it on.
    pub(super) text: Cow<'a, str>,
    /// The bytes of the text that are two in the file.
    escaped: Vec<usize>,
}

impl Parameter<'_> {
    /// The byte of the file for a byte of the text.
    pub(super) fn in_file(&self, at: usize) -> usize {
        self.range.start + at + self.escaped.partition_point(|escaped| *escaped < at)
    }
}

impl Directive<'_> {
    pub(super) fn parameters(&self) -> &[Parameter<'_>] {
        &self.0
    }

    fn name(&self) -> Option<&str> {
        self.0.first().map(|name| &*name.text)
    }

    /// The configuration of a filter of ours.
    pub(super) fn configuration(&self) -> Option<&Parameter<'_>> {
        let [name, module, configuration] = &self.0[..] else {
            return None;
        };
        let is_ours =
            module.text.contains("vaultref") || configuration_in(&configuration.text).is_some();
        (name.text == "proxy_wasm" && is_ours).then_some(configuration)
    }
}

/// nginx, with the variables that it keeps for its workers.
pub(super) fn gateway(directives: &[Directive<'_>]) -> Gateway {
    let kept = directives.iter().filter(|it| it.name() == Some("env"));
    let names = kept.filter_map(|directive| directive.0.get(1));
    let names = names.map(|name| name.text.split('=').next().unwrap_or_default().to_owned());
    Gateway {
        kind: Kind::Nginx,
        callbacks: Callbacks::Every,
        variables: Some(names.collect()),
    }
}

fn parse(source: &str) -> Vec<Directive<'_>> {
    let mut directives = Vec::new();
    let mut parameters = Vec::new();
    let mut rest = source.char_indices().peekable();
    while let Some((start, first)) = rest.next() {
        match first {
            c if c.is_whitespace() => {}
            '#' => while rest.next_if(|(_, c)| *c != '\n').is_some() {},
            ';' | '{' | '}' => {
                if !parameters.is_empty() {
                    directives.push(Directive(std::mem::take(&mut parameters)));
                }
            }
            quote @ ('"' | '\'') => {
                let mut end = source.len();
                while let Some((at, c)) = rest.next() {
                    match c {
                        '\\' => drop(rest.next()),
                        c if c == quote => {
                            end = at;
                            break;
                        }
                        _ => {}
                    }
                }
                parameters.push(parameter(source, start + 1..end));
            }
            _ => {
                let is_word = |c: char| !c.is_whitespace() && !matches!(c, ';' | '{' | '}');
                let mut is_escaped = first == '\\';
                while let Some((_, c)) = rest.next_if(|(_, c)| is_escaped || is_word(*c)) {
                    is_escaped = !is_escaped && c == '\\';
                }
                let end = rest.peek().map_or(source.len(), |(at, _)| *at);
                parameters.push(parameter(source, start..end));
            }
        }
    }
    directives
}

fn parameter(source: &str, range: Range<usize>) -> Parameter<'_> {
    let written = source.get(range.clone()).unwrap_or_default();
    let mut text = Cow::Borrowed(written);
    let mut escaped = Vec::new();
    if written.contains('\\') {
        let mut plain = String::new();
        let mut characters = written.chars();
        while let Some(c) = characters.next() {
            match (c, characters.clone().next()) {
                ('\\', Some(next @ ('"' | '\'' | '\\' | 't' | 'r' | 'n'))) => {
                    escaped.push(plain.len());
                    plain.push(match next {
                        't' => '\t',
                        'r' => '\r',
                        'n' => '\n',
                        other => other,
                    });
                    characters.next();
                }
                _ => plain.push(c),
            }
        }
        text = Cow::Owned(plain);
    }
    Parameter {
        range,
        text,
        escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_taken_apart_as_nginx_does() {
        let source = "env A; # env B;\nenv C=1;\nhttp { location / {\n  proxy_wasm vaultref\n \
                      '{\"a\": \"it\\'s # no; comment\"}'; proxy_pass http://x; } }";
        let directives = directives(source).expect("a filter");
        let shown: Vec<Vec<&str>> = directives
            .iter()
            .map(|directive| directive.0.iter().map(|it| &*it.text).collect())
            .collect();
        assert_eq!(
            shown,
            [
                vec!["env", "A"],
                vec!["env", "C=1"],
                vec!["http"],
                vec!["location", "/"],
                vec!["proxy_wasm", "vaultref", "{\"a\": \"it's # no; comment\"}"],
                vec!["proxy_pass", "http://x"],
            ]
        );
        let configuration = directives[4].configuration().expect("ours");
        assert!(source[configuration.range.clone()].starts_with("{\"a\""));
        let variables = gateway(&directives).variables;
        assert_eq!(variables, Some(vec!["A".to_owned(), "C".to_owned()]));
    }

    #[test]
    fn escapes_are_what_nginx_makes_of_them() {
        let directives =
            directives(r#"proxy_wasm vaultref '{"a":"1\n2\\n\t\x"}';"#).expect("a filter");
        assert_eq!(directives[0].0[2].text, "{\"a\":\"1\n2\\n\t\\x\"}");
    }

    #[test]
    fn the_places_of_a_text_are_those_of_the_file() {
        let source = r#"proxy_wasm vaultref 'a\'b\\é\n\xc';"#;
        let directives = directives(source).expect("a filter");
        let parameter = &directives[0].0[2];
        assert_eq!(parameter.text, "a'b\\é\n\\xc");
        let written: Vec<&str> = parameter
            .text
            .char_indices()
            .map(|(at, _)| &source[parameter.in_file(at)..])
            .collect();
        let starts = ["a", r"\'", "b", r"\\", "é", r"\n", r"\x", "x", "c"];
        for (written, start) in written.iter().zip(starts) {
            assert!(written.starts_with(start), "{start}: {written}");
        }
        assert_eq!(written.len(), starts.len());
        assert!(source[parameter.in_file(parameter.text.len())..].starts_with('\''));
    }

    #[test]
    fn an_escaped_end_of_a_word_is_none() {
        let directives = directives(r"proxy_wasm a\;b\ c\\ d;").expect("a filter");
        let texts: Vec<&str> = directives[0].0.iter().map(|it| &*it.text).collect();
        assert_eq!(texts, ["proxy_wasm", r"a\;b\ c\", "d"]);
    }

    #[test]
    fn other_files_are_none() {
        assert!(super::directives("pg_password = {vault://a/b}\n# proxy_wasm x;").is_none());
        assert!(super::directives("http { server { listen 80; } }").is_none());
        for odd in ["'", "proxy_wasm '\\", "proxy_wasm a \"é"] {
            let _ = super::directives(odd);
        }
    }
}
