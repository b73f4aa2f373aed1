//! Counters, gauges and histograms that filters define; one table a gateway.

use std::collections::BTreeMap;

use crate::abi::types::Status;

/// What a metric holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Metric {
    /// Only ever grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(u64),
    /// Every recorded value, in order.
    Histogram(Vec<u64>),
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    names: Vec<String>,
    values: Vec<Metric>,
}

impl Metrics {
    /// The number of a metric; the same name and kind give the same number in every VM.
    pub(crate) fn define(&mut self, kind: u32, name: &str) -> Result<u32, Status> {
        let fresh = match kind {
            0 => Metric::Counter(0),
            1 => Metric::Gauge(0),
            2 => Metric::Histogram(Vec::new()),
            _ => return Err(Status::BadArgument),
        };
        let same_kind =
            |metric: &Metric| std::mem::discriminant(metric) == std::mem::discriminant(&fresh);
        let known = self
            .names
            .iter()
            .zip(&self.values)
            .position(|(known, metric)| known == name && same_kind(metric));
        let index = known.unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.values.push(fresh);
            self.names.len() - 1
        });
        u32::try_from(index + 1).map_err(|_| Status::InternalFailure)
    }

    pub(crate) fn increment(&mut self, id: u32, offset: i64) -> Result<(), Status> {
        match self.at(id)? {
            Metric::Counter(value) if offset >= 0 => {
                *value = value.wrapping_add_signed(offset);
            }
            Metric::Gauge(value) => *value = value.wrapping_add_signed(offset),
            Metric::Counter(_) | Metric::Histogram(_) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    pub(crate) fn record(&mut self, id: u32, new: u64) -> Result<(), Status> {
        match self.at(id)? {
            Metric::Counter(value) => *value = value.wrapping_add(new),
            Metric::Gauge(value) => *value = new,
            Metric::Histogram(values) => values.push(new),
        }
        Ok(())
    }

    pub(crate) fn value(&mut self, id: u32) -> Result<u64, Status> {
        match self.at(id)? {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(*value),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }

    pub(crate) fn by_name(&self) -> BTreeMap<String, Metric> {
        self.names
            .iter()
            .cloned()
            .zip(self.values.iter().cloned())
            .collect()
    }

    fn at(&mut self, id: u32) -> Result<&mut Metric, Status> {
        let index = (id as usize).checked_sub(1).ok_or(Status::NotFound)?;
        self.values.get_mut(index).ok_or(Status::NotFound)
    }
}
