//! From rounds to a table: what each filter adds within a round, the median of the rounds, and
//! their spread.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::rows::Row;

/// One filter in one round.
#[derive(Clone, Copy, Debug)]
struct Sample {
    cpu_us: f64,
    per_second: f64,
}

/// Every filter once, one right after the other.
#[derive(Debug, Default)]
pub(crate) struct Round {
    samples: BTreeMap<&'static str, Sample>,
}

impl Round {
    /// Adds what one filter took: CPU in µs a request, and requests a second.
    pub(crate) fn add(&mut self, row: Row, cpu_us: f64, per_second: f64) {
        self.samples
            .insert(row.name(), Sample { cpu_us, per_second });
    }
}

/// All rounds.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    rounds: Vec<Round>,
}

impl Rounds {
    /// Adds one round.
    pub(crate) fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    fn samples(&self, row: Row) -> impl Iterator<Item = Sample> {
        let of_round = move |round: &Round| round.samples.get(row.name()).copied();
        self.rounds.iter().filter_map(of_round)
    }

    /// What a filter adds to the Envoy without one of the same round, in µs: the two were measured
    /// within seconds of each other, so that what else the machine does hits both.
    fn added_by_round(&self, row: Row) -> Vec<f64> {
        let of_round = |round: &Round| {
            let without = round.samples.get(Row::None.name())?;
            Some(round.samples.get(row.name())?.cpu_us - without.cpu_us)
        };
        self.rounds.iter().filter_map(of_round).collect()
    }

    fn added(&self, row: Row) -> f64 {
        median(&self.added_by_round(row))
    }
}

/// What is to hold: the first filter costs at most so many times what the second does.
const GOALS: [(Row, Row, f64); 3] = [
    (Row::VaultrefEnvoy, Row::Sdk, 0.65),
    (Row::VaultrefEnvoy, Row::Bare, 1.3),
    (Row::Vaultref, Row::Sdk, 1.0),
];

/// The whole report as Markdown; `how` says how it was measured.
pub(crate) fn markdown(rows: &[Row], rounds: &Rounds, how: &str) -> String {
    let mut text = format!(
        "# What one header costs in Envoy\n\n{how}\nAdded: against the Envoy without a filter of the same round. All figures are medians over the rounds; the spread is that of the middle half of them.\n\n"
    );
    text.push_str("| filter | CPU a request, µs | added, µs | middle half | requests a second |\n");
    text.push_str("| --- | ---: | ---: | ---: | ---: |\n");
    for row in rows {
        let of = |figure: fn(Sample) -> f64| -> f64 {
            median(&rounds.samples(*row).map(figure).collect::<Vec<_>>())
        };
        let (cpu, per_second) = (of(|sample| sample.cpu_us), of(|sample| sample.per_second));
        let added = rounds.added_by_round(*row);
        let (low, high) = middle_half(&added);
        let _ = if *row == Row::None {
            writeln!(text, "| {} | {cpu:.1} | | | {per_second:.0} |", row.name())
        } else {
            writeln!(
                text,
                "| {} | {cpu:.1} | {:.1} | {low:.1} to {high:.1} | {per_second:.0} |",
                row.name(),
                median(&added)
            )
        };
    }
    text.push_str("\n| ratio of CPU added | | goal | |\n| --- | ---: | ---: | --- |\n");
    for (ours, peer, goal) in GOALS {
        if rows.contains(&ours) && rows.contains(&peer) {
            let ratio = rounds.added(ours) / rounds.added(peer);
            let verdict = if ratio <= goal { "met" } else { "missed" };
            let _ = writeln!(
                text,
                "| {} / {} | {ratio:.2} | ≤ {goal} | {verdict} |",
                ours.name(),
                peer.name()
            );
        }
    }
    text
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The quartiles.
fn middle_half(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |quarter: usize| {
        let last = sorted.len().saturating_sub(1);
        sorted.get(last * quarter / 4).copied().unwrap_or(f64::NAN)
    };
    (at(1), at(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cost_is_the_median_of_what_is_added_round_by_round() {
        let mut rounds = Rounds::default();
        // A slow round does not count against whom it hit, since it hit all of them; one that hit
        // a single filter is not the median.
        for (none, sdk, ours) in [
            (40.0, 60.0, 50.0),
            (41.0, 62.0, 51.5),
            (140.0, 162.0, 151.0),
            (40.0, 60.0, 90.0),
            (40.0, 61.0, 50.0),
        ] {
            let mut round = Round::default();
            round.add(Row::None, none, 20_000.0);
            round.add(Row::Sdk, sdk, 15_000.0);
            round.add(Row::VaultrefEnvoy, ours, 18_000.0);
            rounds.add(round);
        }
        let report = markdown(
            &[Row::None, Row::Sdk, Row::VaultrefEnvoy],
            &rounds,
            "By hand.",
        );
        assert!(
            report.contains("| sdk-constant-header | 61.0 | 21.0 | 20.0 to 21.0 | 15000 |"),
            "{report}"
        );
        assert!(
            report.contains("| vaultref-envoy.wasm | 51.5 | 10.5 | 10.0 to 11.0 | 18000 |"),
            "{report}"
        );
        assert!(
            report.contains("| vaultref-envoy.wasm / sdk-constant-header | 0.50 | ≤ 0.65 | met |"),
            "{report}"
        );
        assert!(
            !report.contains("bare"),
            "a filter that was not measured: {report}"
        );
    }
}
