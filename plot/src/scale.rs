//! Where a value stands on an axis, and which values get a tick.

use super::markup::{grouped, significant};

/// Beyond this, differences of values could overflow; nothing that is measured comes near.
const GREATEST: f64 = 1e15;
/// The least that a logarithmic axis shows: a nanosecond, in seconds.
const LEAST: f64 = 1e-9;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Logarithmic,
}

/// What the numbers of an axis are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, shown as plain numbers: the unit stands in the axis' label.
    Time,
    /// Seconds, shown in the unit that suits each: µs, ms, s.
    Latency,
    /// Things, or things per second.
    Count,
    Bytes,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        let size = value.abs();
        match self {
            Unit::Time => significant(value),
            Unit::Latency if size == 0.0 => "0".to_owned(),
            Unit::Latency if size < 0.999_5e-6 => format!("{} ns", significant(value * 1e9)),
            Unit::Latency if size < 0.999_5e-3 => format!("{} µs", significant(value * 1e6)),
            Unit::Latency if size < 0.999_5 => format!("{} ms", significant(value * 1e3)),
            Unit::Latency => format!("{} s", significant(value)),
            Unit::Count if value >= 1000.0 => grouped(value.round() as u64),
            Unit::Count => significant(value),
            Unit::Bytes if size >= 1e9 => format!("{} GB", significant(value / 1e9)),
            Unit::Bytes if size >= 1e6 => format!("{} MB", significant(value / 1e6)),
            Unit::Bytes if size >= 1e3 => format!("{} kB", significant(value / 1e3)),
            Unit::Bytes => format!("{} B", significant(value)),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub unit: Unit,
    /// From where to where; `None` for as much as the values need.
    pub range: Option<(f64, f64)>,
}

/// An axis laid over pixels.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) start: f64,
    pub(crate) end: f64,
}

impl Mapping {
    /// Lays what `axis` shows, at least all `values`, from pixel `start` to pixel `end`.
    pub(crate) fn new(
        axis: &Axis,
        values: impl Iterator<Item = f64>,
        (start, end): (f64, f64),
    ) -> Mapping {
        let fixed = axis.range.filter(|(low, high)| low.is_finite() && high.is_finite());
        let (low, high) = match (fixed, axis.scale) {
            (Some((low, high)), Scale::Linear) => widened(clamped(low), clamped(high)),
            (Some((low, high)), Scale::Logarithmic) => {
                rounded_outwards(low.clamp(LEAST, GREATEST), high.clamp(LEAST, GREATEST))
            }
            (None, Scale::Linear) => {
                let (low, high) = extent(values.map(clamped)).unwrap_or((0.0, 1.0));
                let (low, high) = widened(low.min(0.0), high);
                let step = step(low, high, 5);
                ((low / step).floor() * step, (high / step).ceil() * step)
            }
            (None, Scale::Logarithmic) => {
                let positive = values.filter(|value| *value > 0.0);
                let clamped = positive.map(|value| value.clamp(LEAST, GREATEST));
                let (low, high) = extent(clamped).unwrap_or((1e-3, 1.0));
                rounded_outwards(low, high)
            }
        };
        Mapping { scale: axis.scale, low, high, start, end }
    }

    /// The pixel of a value; what is off the axis stands at its nearer end.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if value.is_nan() { self.low } else { value.clamp(self.low, self.high) };
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        self.start + share * (self.end - self.start)
    }

    /// About `wanted` round values within the axis.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.low, self.high, wanted);
                let first = (self.low / step - 1e-9).ceil();
                let last = (self.high / step + 1e-9).floor();
                let count = (last - first).clamp(0.0, 1000.0) as usize;
                (0..=count).map(|tick| (first + tick as f64) * step).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.high / self.low).log10();
                let every: &[f64] = if decades > 3.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
                let first = self.low.log10().floor() as i32;
                let last = self.high.log10().ceil() as i32;
                let all = (first..=last)
                    .flat_map(|power| every.iter().map(move |leading| leading * 10f64.powi(power)));
                let (low, high) = (self.low * 0.999_999, self.high * 1.000_001);
                all.filter(|tick| (low..=high).contains(tick)).collect()
            }
        }
    }
}

fn clamped(value: f64) -> f64 {
    value.clamp(-GREATEST, GREATEST)
}

fn extent(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|value| value.is_finite()).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// An axis has a length, also where all values are the same.
fn widened(low: f64, high: f64) -> (f64, f64) {
    let least = (low.abs().max(high.abs()) * 1e-9).max(1e-9);
    match high - low {
        length if length >= least => (low, high),
        _ if low == 0.0 => (0.0, 1.0),
        _ => (low - low.abs() * 0.5, low + low.abs() * 0.5),
    }
}

/// The next 1, 2 or 5 of a power of ten below and above.
fn rounded_outwards(low: f64, high: f64) -> (f64, f64) {
    let round = |value: f64, up: bool| {
        let power = 10f64.powf(value.log10().floor());
        let leading = value / power;
        let steps = [1.0, 2.0, 5.0, 10.0];
        let near = match up {
            true => steps.into_iter().find(|step| *step >= leading * 0.999_999),
            false => steps.into_iter().rev().find(|step| *step <= leading * 1.000_001),
        };
        near.unwrap_or(1.0) * power
    };
    let (low, high) = (round(low.min(high), false), round(low.max(high), true));
    if high > low * 1.5 { (low, high) } else { (low / 2.0, low * 2.0) }
}

/// The round distance that gives about `wanted` ticks.
fn step(low: f64, high: f64, wanted: usize) -> f64 {
    let raw = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let leading = raw / power;
    let round = [1.0, 2.0, 5.0].into_iter().find(|step| *step >= leading * 0.999);
    round.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, range: Option<(f64, f64)>) -> Axis {
        Axis { label: String::new(), scale, unit: Unit::Count, range }
    }

    #[track_caller]
    fn check_ticks(scale: Scale, values: &[f64], wanted: &[f64]) {
        let mapping = Mapping::new(&axis(scale, None), values.iter().copied(), (0.0, 100.0));
        let ticks = mapping.ticks(5);
        let near = |(tick, wanted): (&f64, &f64)| (tick - wanted).abs() <= wanted.abs() * 1e-9;
        assert!(
            ticks.len() == wanted.len() && ticks.iter().zip(wanted).all(near),
            "{ticks:?} instead of {wanted:?}"
        );
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        check_ticks(Scale::Linear, &[0.0, 60.0], &[0.0, 20.0, 40.0, 60.0]);
        check_ticks(Scale::Linear, &[7.0], &[0.0, 2.0, 4.0, 6.0, 8.0]);
        check_ticks(Scale::Logarithmic, &[0.0015, 0.03], &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05]);
        check_ticks(Scale::Logarithmic, &[1.0, 1e4], &[1.0, 10.0, 100.0, 1e3, 1e4]);
    }

    #[test]
    fn whatever_the_values_are_every_pixel_is_a_number_within_the_plot() {
        let sets: [&[f64]; 9] = [
            &[],
            &[0.0],
            &[5.0, 5.0],
            &[-3.0, -3.0],
            &[f64::MAX, f64::MIN],
            &[f64::NAN, f64::INFINITY, 1.0],
            &[1e-300, 1e300],
            &[f64::MIN_POSITIVE],
            &[1e15, 1e15 + 1.0],
        ];
        let ranges = [None, Some((0.0, 0.0)), Some((5.0, 1.0)), Some((f64::NAN, 1.0))];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            for (values, range) in sets.iter().flat_map(|set| ranges.map(|range| (set, range))) {
                let axis = axis(scale, range);
                let mapping = Mapping::new(&axis, values.iter().copied(), (10.0, 90.0));
                for value in values.iter().chain(&[0.0, f64::NEG_INFINITY]) {
                    let at = mapping.at(*value);
                    assert!((9.9..=90.1).contains(&at), "{at} of {value}: {values:?} {range:?}");
                }
                let ticks = mapping.ticks(6);
                assert!(ticks.len() < 50, "{ticks:?}: {values:?} {range:?}");
                assert!(ticks.iter().all(|tick| tick.is_finite()));
            }
        }
    }

    #[test]
    fn a_latency_is_shown_in_the_unit_that_suits_it() {
        for (value, shown) in
            [(0.0, "0"), (2.5e-4, "250 µs"), (1e-3, "1 ms"), (0.0152, "15.2 ms"), (5.0, "5 s")]
        {
            assert_eq!(Unit::Latency.show(value), shown);
        }
        assert_eq!(Unit::Count.show(12_000.0), "12,000");
        assert_eq!(Unit::Bytes.show(25_300_000.0), "25.3 MB");
    }
}
