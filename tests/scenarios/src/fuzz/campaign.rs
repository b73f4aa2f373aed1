//! One run of the fuzzer.

use std::collections::BTreeSet;

use super::mutate::mutate;
use super::random::Random;
use super::{Modules, Report, Script, run};

/// How many runs it may take to make an input small.
const PATIENCE: usize = 120;

/// One run of the fuzzer: what it has seen, and the inputs that others are made of.
pub struct Campaign<'a> {
    modules: &'a Modules,
    random: Random,
    seen: BTreeSet<u64>,
    corpus: Vec<Script>,
    executions: u64,
}

/// An input after which something was wrong.
#[derive(Clone, Debug)]
pub struct Found {
    /// The input, made small.
    pub script: Script,
    /// What was wrong.
    pub what: String,
}

impl<'a> Campaign<'a> {
    /// Begins with nothing.
    #[must_use]
    pub fn new(modules: &'a Modules, seed: u64) -> Self {
        Self {
            modules,
            random: Random::new(seed),
            seen: BTreeSet::new(),
            corpus: Vec::new(),
            executions: 0,
        }
    }

    /// Runs an input that is known, and takes it up if it gets anywhere new.
    ///
    /// # Errors
    ///
    /// What is wrong after it.
    pub fn begin_with(&mut self, script: Script) -> Result<(), Found> {
        let report = self.run(&script);
        if let Some(what) = report.finding {
            return Err(Found { script, what });
        }
        if self.is_news(&report) {
            self.seen.extend(report.features);
            self.corpus.push(script);
        }
        Ok(())
    }

    /// Makes one input and runs it; gives it, made small, if it gets anywhere new.
    ///
    /// # Errors
    ///
    /// What is wrong after it.
    pub fn advance(&mut self) -> Result<Option<Script>, Found> {
        let script = self.make();
        let report = self.run(&script);
        if let Some(what) = report.finding {
            let is_it = |report: &Report| {
                let other = report.finding.as_deref().unwrap_or_default();
                start(other) == start(&what)
            };
            let script = self.shrink(script, is_it);
            return Err(Found { script, what });
        }
        if !self.is_news(&report) {
            return Ok(None);
        }
        let news: BTreeSet<u64> = report.features.difference(&self.seen).copied().collect();
        let has_all = |report: &Report| news.is_subset(&report.features);
        let script = self.shrink(script, has_all);
        self.seen.extend(news);
        self.corpus.push(script.clone());
        Ok(Some(script))
    }

    /// How many inputs were run.
    #[must_use]
    pub fn executions(&self) -> u64 {
        self.executions
    }

    /// In how many ways inputs have differed.
    #[must_use]
    pub fn features(&self) -> usize {
        self.seen.len()
    }

    /// The inputs that got somewhere new.
    #[must_use]
    pub fn corpus(&self) -> &[Script] {
        &self.corpus
    }

    fn run(&mut self, script: &Script) -> Report {
        self.executions += 1;
        run(self.modules, script)
    }

    fn is_news(&self, report: &Report) -> bool {
        !report.features.is_subset(&self.seen)
    }

    fn make(&mut self) -> Script {
        let count = self.corpus.len();
        // The newest are the ones of which least was made.
        let at = match self.random.once_in(3) {
            true => count.saturating_sub(1 + self.random.below(count.min(16))),
            false => self.random.below(count),
        };
        let nothing = Script::default();
        let script = self.corpus.get(at).unwrap_or(&nothing);
        let other = self
            .corpus
            .get(self.random.below(count))
            .unwrap_or(&nothing);
        mutate(script, other, &mut self.random)
    }

    /// Leaves out steps and parts of arguments as long as a run still shows what it should.
    fn shrink(&mut self, mut script: Script, shows: impl Fn(&Report) -> bool) -> Script {
        let mut left = PATIENCE;
        let mut at = script.steps.len();
        while at > 0 && left > 0 {
            at -= 1;
            left -= 1;
            let mut shorter = script.clone();
            shorter.steps.remove(at);
            if shows(&self.run(&shorter)) {
                script = shorter;
            }
        }
        for step in 0..script.steps.len() {
            for argument in 0..script.steps[step].arguments.len() {
                let length = script.steps[step].arguments[argument].len();
                let mut piece = length / 2;
                while piece > 3 && left > 0 {
                    left -= 1;
                    let mut shorter = script.clone();
                    let bytes = &mut shorter.steps[step].arguments[argument];
                    let keep = bytes.len().saturating_sub(piece);
                    bytes.truncate(keep);
                    if shows(&self.run(&shorter)) {
                        script = shorter;
                    } else {
                        piece /= 2;
                    }
                }
            }
        }
        script
    }
}

/// By which two findings count as the same.
fn start(what: &str) -> String {
    let words = what
        .split(' ')
        .filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.take(5).collect::<Vec<_>>().join(" ")
}
