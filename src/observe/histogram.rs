//! How long requests took, in buckets of atomics: prometheus-client's own histogram takes a mutex for each observation.

use std::fmt;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::observe::shard::Sharded;

/// Durations in microseconds; written in seconds, as Prometheus wants.
#[derive(Default)]
pub struct Histogram {
    cells: Sharded<CELLS>,
}

impl Histogram {
    pub fn observe(&self, duration_us: u64) {
        self.cells.add(BOUNDS_US.partition_point(|bound| *bound < duration_us), 1);
        self.cells.add(SUM, duration_us);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let cells = self.cells.sums();
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(cells).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = cells.get(SUM).map_or(0.0, |micros| seconds(*micros));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 microseconds, which are 285 years")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Upper bounds. The lowest tell apart what the gateway itself answers; 20 ms is what the shared counters may take.
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
/// A cell per bound, one for what is above all bounds, and the sum.
const CELLS: usize = BOUNDS_US.len() + 2;
const SUM: usize = CELLS - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 30_000_000, 30_000_001] {
            histogram.observe(micros);
        }
        let cells = histogram.cells.sums();
        assert_eq!(cells[..2], [2, 1]);
        assert_eq!(cells[17..], [1, 1, 60_000_202]);
    }
}
