//! Tables for people.

pub(super) struct Column {
    heading: &'static str,
    is_right: bool,
}

impl Column {
    pub(super) fn left(heading: &'static str) -> Column {
        Column { heading, is_right: false }
    }

    /// For numbers.
    pub(super) fn right(heading: &'static str) -> Column {
        Column { heading, is_right: true }
    }
}

/// Headings over rows, as wide as they need to be, two blanks between.
pub(super) fn table<const COLUMNS: usize>(
    columns: [Column; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let headings = columns.each_ref().map(|column| column.heading.to_owned());
    let lines: Vec<[String; COLUMNS]> = std::iter::once(headings).chain(rows).collect();
    let mut text = String::new();
    for line in &lines {
        let mut padded = String::new();
        for (at, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
            match columns[at].is_right {
                true => padded.push_str(&format!("{cell:>width$}  ")),
                false => padded.push_str(&format!("{cell:<width$}  ")),
            }
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let rows = [["a", "7"], ["longer", "123456"]].map(|row| row.map(str::to_owned));
        let text = table([Column::left("NAME"), Column::right("LAG")], rows);
        assert_eq!(text, "NAME       LAG\na            7\nlonger  123456\n");
    }
}
