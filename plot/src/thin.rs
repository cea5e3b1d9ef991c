//! Fewer points that look the same.

use std::collections::HashSet;

/// Dots that a browser still scrolls smoothly.
const MOST_DOTS: usize = 30_000;

/// Of dots at pixels, one for each cell of a grid, which is as fine as [`MOST_DOTS`] allows: half a
/// pixel, and up. The outermost dots of every column stay, to within a cell.
pub(crate) fn dots(dots: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut cell = 0.5;
    loop {
        let mut taken = HashSet::with_capacity(dots.len().min(MOST_DOTS * 2));
        let place = |at: f64| (at / cell).round() as i64;
        let kept: Vec<_> =
            dots.iter().copied().filter(|(x, y)| taken.insert((place(*x), place(*y)))).collect();
        if kept.len() <= MOST_DOTS || cell > 64.0 {
            return kept;
        }
        cell *= 1.25;
    }
}

/// Of a line through points at pixels, sorted by x, what shows: the first, lowest, highest and last
/// of each column of pixels.
pub(crate) fn line(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for column in points.chunk_by(|one, other| one.0.round() == other.0.round()) {
        if column.len() <= 4 {
            kept.extend_from_slice(column);
            continue;
        }
        let by_height = |one: &usize, other: &usize| column[*one].1.total_cmp(&column[*other].1);
        let lowest = (0..column.len()).min_by(by_height).unwrap_or(0);
        let highest = (0..column.len()).max_by(by_height).unwrap_or(0);
        let mut places = [0, lowest, highest, column.len() - 1];
        places.sort_unstable();
        kept.extend(places.map(|place| column[place]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_dots_become_few_and_the_outermost_stay() {
        let many: Vec<_> = (0..400_000)
            .map(|point| (f64::from(point % 1000), f64::from(point / 1000 * 7 % 300)))
            .chain([(500.0, 10_000.0)])
            .collect();
        let kept = dots(&many);
        assert!(kept.len() <= MOST_DOTS, "{}", kept.len());
        assert!(kept.contains(&(500.0, 10_000.0)));
        assert!(kept.len() > MOST_DOTS / 4, "{}", kept.len());
    }

    #[test]
    fn few_dots_stay_as_they_are() {
        let few = [(1.0, 1.0), (2.0, 1.0), (2.0, 5.5)];
        assert_eq!(dots(&few), few);
        assert_eq!(line(&few), few);
    }

    #[test]
    fn a_line_keeps_its_peaks() {
        let mut points: Vec<_> = (0..10_000).map(|point| (f64::from(point) / 100.0, 1.0)).collect();
        points[5005].1 = 99.0;
        let kept = line(&points);
        assert!(kept.len() < 500, "{}", kept.len());
        assert!(kept.contains(&(50.05, 99.0)));
    }
}
