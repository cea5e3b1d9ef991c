//! Round trips between regions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Between two machines of one region, in zones of their own, in milliseconds.
const WITHIN_A_REGION: f64 = 1.0;

/// More than any network on earth, and a typing error.
const ROUND_TRIP_MAX: f64 = 60_000.0;

/// The round trips that Azure published for April 2024, in milliseconds, under ARM's names of
/// locations: half the table, since a round trip is the same both ways. -1 is not known.
#[rustfmt::skip] // a table
const BUILT_IN: &[(&str, &[f64])] = &[
    ("centralus",     &[]),
    ("eastus",        &[31.0]),
    ("eastus2",       &[33.0, 9.0]),
    ("westus2",       &[39.0, 67.0, 66.0]),
    ("northeurope",   &[94.0, 69.0, 74.0, 133.0]),
    ("westeurope",    &[107.0, 84.0, 88.0, 145.0, 20.0]),
    ("uksouth",       &[98.0, 78.0, 82.0, 139.0, 13.0, 11.0]),
    ("japaneast",     &[137.0, 158.0, 155.0, 100.0, 233.0, 226.0, 226.0]),
    ("southeastasia", &[200.0, 225.0, 225.0, -1.0, 166.0, 159.0, 157.0, 72.0]),
    ("australiaeast", &[177.0, 203.0, 202.0, 161.0, 252.0, 259.0, 258.0, 103.0, 90.0]),
    ("brazilsouth",   &[149.0, 118.0, 117.0, 184.0, 171.0, 186.0, 180.0, 281.0, 342.0, 311.0]),
];

/// `milliseconds[i][j]` is the round trip between `names[i]` and `names[j]`; `null` where it is not
/// known or stands at the other place. On the diagonal it is that within a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matrix {
    names: Vec<String>,
    milliseconds: Vec<Vec<Option<f64>>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("not valid JSON, or not a matrix: {0}")]
    Form(#[from] serde_json::Error),
    #[error("{rows} rows for {names} names: expected a row and a column for each")]
    Shape { names: usize, rows: usize },
    #[error("{0:?} stands there twice")]
    Twice(String),
    #[error("{0:?} is no name of a region: {rule}", rule = crate::region::NAME_RULE)]
    Name(String),
    #[error("{from} to {to}: {value} is no round trip: expected 0 to 60000 milliseconds")]
    Value { from: String, to: String, value: f64 },
    #[error("{from} to {to}: {one} ms one way round and {other} ms the other")]
    Differ { from: String, to: String, one: f64, other: f64 },
}

impl Matrix {
    /// Azure's.
    pub(crate) fn built_in() -> Matrix {
        let names = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
        let size = BUILT_IN.len();
        let row = |(_, known): &(&str, &[f64])| {
            let at = |column: usize| known.get(column).copied().filter(|value| *value >= 0.0);
            (0..size).map(at).collect()
        };
        Matrix { names, milliseconds: BUILT_IN.iter().map(row).collect() }
    }

    pub(crate) fn parse(text: &str) -> Result<Matrix, Error> {
        let matrix: Matrix = serde_json::from_str(text)?;
        matrix.check()?;
        Ok(matrix)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let size = self.names.len();
        let is_square = self.milliseconds.iter().all(|row| row.len() == size);
        if self.milliseconds.len() != size || !is_square {
            return Err(Error::Shape { names: size, rows: self.milliseconds.len() });
        }
        for (at, name) in self.names.iter().enumerate() {
            if !crate::region::is_name(name) {
                return Err(Error::Name(name.clone()));
            }
            if self.names[..at].contains(name) {
                return Err(Error::Twice(name.clone()));
            }
            for (other, to) in self.names.iter().enumerate() {
                let (from, to) = (name.clone(), to.clone());
                let Some(one) = self.milliseconds[at][other] else { continue };
                if !(0.0..=ROUND_TRIP_MAX).contains(&one) {
                    return Err(Error::Value { from, to, value: one });
                }
                match self.milliseconds[other][at] {
                    Some(other) if other != one => {
                        return Err(Error::Differ { from, to, one, other });
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// `None` for regions that it does not have, and pairs that it knows nothing of.
    pub(crate) fn round_trip(&self, one: &str, other: &str) -> Option<Duration> {
        let at = |name: &str| self.names.iter().position(|known| known == name);
        let (one, other) = (at(one)?, at(other)?);
        let known = self.milliseconds[one][other].or(self.milliseconds[other][one]);
        let milliseconds = match known {
            None if one == other => WITHIN_A_REGION,
            known => known?,
        };
        Some(Duration::from_secs_f64(milliseconds / 1000.0))
    }

    /// The part of it for these regions.
    pub(crate) fn of(&self, regions: &[String]) -> Matrix {
        let cell = |one: &String, other: &String| {
            self.round_trip(one, other).map(|it| it.as_secs_f64() * 1000.0)
        };
        let row = |one: &String| regions.iter().map(|other| cell(one, other)).collect();
        Matrix { names: regions.to_vec(), milliseconds: regions.iter().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_round_trips_are_built_in() {
        #[track_caller]
        fn check(one: &str, other: &str, expected: Option<u64>) {
            let matrix = Matrix::built_in();
            let expected = expected.map(Duration::from_millis);
            assert_eq!(matrix.round_trip(one, other), expected, "{one} {other}");
            assert_eq!(matrix.round_trip(other, one), expected, "{other} {one}");
        }
        check("eastus", "westeurope", Some(84));
        check("eastus", "japaneast", Some(158));
        check("westeurope", "japaneast", Some(226));
        check("brazilsouth", "southeastasia", Some(342));
        check("eastus2", "centralus", Some(33));
        check("eastus", "eastus", Some(1));
        check("westus2", "southeastasia", None);
        check("eastus", "atlantis", None);
        Matrix::built_in().check().unwrap();
    }

    #[test]
    fn a_file_may_have_another_and_must_make_sense() {
        let matrix = r#"{"names":["a","b"],"milliseconds":[[0.5,12.5],[null,null]]}"#;
        let matrix = Matrix::parse(matrix).unwrap();
        assert_eq!(matrix.round_trip("b", "a"), Some(Duration::from_micros(12_500)));
        assert_eq!(matrix.round_trip("a", "a"), Some(Duration::from_micros(500)));
        assert_eq!(
            matrix.of(&["a".to_owned(), "b".to_owned()]).round_trip("b", "b"),
            Some(Duration::from_millis(1))
        );
        #[track_caller]
        fn refuses(text: &str, words: &str) {
            let error = Matrix::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        refuses("{", "not valid JSON");
        refuses(r#"{"names":["a"],"milliseconds":[]}"#, "0 rows for 1 names");
        refuses(r#"{"names":["a","a"],"milliseconds":[[1,1],[1,1]]}"#, "\"a\" stands there twice");
        refuses(r#"{"names":["East US"],"milliseconds":[[1]]}"#, "no name of a region");
        refuses(
            r#"{"names":["a","b"],"milliseconds":[[1,-3],[1,1]]}"#,
            "a to b: -3 is no round trip",
        );
        refuses(
            r#"{"names":["a","b"],"milliseconds":[[1,3],[4,1]]}"#,
            "3 ms one way round and 4 ms",
        );
    }
}
