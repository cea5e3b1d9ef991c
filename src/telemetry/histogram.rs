//! How often values were how large, counted without locks: it is done for every entry of the log.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric},
};

/// Clones count together.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Upper bounds of the buckets, growing; what is above the last has a bucket of its own.
    bounds: Vec<f64>,
    counts: Vec<AtomicU64>,
    /// Bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: impl IntoIterator<Item = f64>) -> Histogram {
        let mut bounds: Vec<f64> = bounds.into_iter().collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        bounds.push(f64::INFINITY);
        Histogram(Arc::new(Inner { bounds, counts, sum: AtomicU64::new(0f64.to_bits()) }))
    }

    /// Buckets of which each is twice as large as the one before, as nearly all of etcd's are.
    pub fn doubling(first: f64, count: i32) -> Histogram {
        Histogram::new((0..count).map(|power| first * 2f64.powi(power)))
    }

    /// In seconds.
    pub fn observe(&self, took: Duration) {
        self.add(took.as_secs_f64());
    }

    pub fn add(&self, value: f64) {
        self.add_many(value, 1);
    }

    /// The same value so many times.
    #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^52 at once")]
    pub fn add_many(&self, value: f64, times: u64) {
        let inner = &*self.0;
        let bucket = inner.bounds.partition_point(|bound| *bound < value);
        let bucket = bucket.min(inner.counts.len() - 1);
        inner.counts[bucket].fetch_add(times, Ordering::Relaxed);
        let total = value * times as f64;
        let more = |bits: u64| Some((f64::from_bits(bits) + total).to_bits());
        // It always gives a value, so this cannot fail.
        let _ = inner.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let inner = &*self.0;
        let counts = inner.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = inner.bounds.iter().copied().zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(inner.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn a_value_is_in_the_bucket_whose_bound_it_does_not_pass() {
        let mut registry = Registry::default();
        let histogram = Histogram::doubling(0.5, 3);
        registry.register("h", "Help", histogram.clone());
        for value in [0.0, 0.5, 0.6, 2.0, 7.0] {
            histogram.add(value);
        }
        histogram.add_many(0.25, 2);
        histogram.observe(Duration::from_millis(900));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        let expected = "# HELP h Help.\n# TYPE h histogram\nh_sum 11.5\nh_count 8\n\
                        h_bucket{le=\"0.5\"} 4\nh_bucket{le=\"1.0\"} 6\nh_bucket{le=\"2.0\"} 7\n\
                        h_bucket{le=\"+Inf\"} 8\n# EOF\n";
        assert_eq!(page, expected);
        assert_eq!(histogram.count(), 8);
    }
}
