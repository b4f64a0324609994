//! Columns that are as wide as their widest cell.

use unicode_width::UnicodeWidthStr;

/// No column is narrower.
const COLUMN_MIN: usize = 10;

/// What stands between a column's widest cell and the next column.
const PADDING: usize = 3;

/// Lays out lines whose cells are ended by tabs. A cell that no tab ends, the
/// last of a line, is not padded. As in Go's tabwriter, a column is a block of
/// consecutive lines that have a cell there.
pub(crate) fn lay_out(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines
        .iter()
        .map(|cells| vec![0; cells.len().saturating_sub(1)])
        .collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut block: Vec<usize> = Vec::new();
        for index in 0..=lines.len() {
            let belongs = widths.get(index).is_some_and(|row| row.len() > column);
            if belongs {
                block.push(index);
                continue;
            }
            let widest = block
                .iter()
                .filter_map(|index| lines.get(*index)?.get(column))
                .map(|cell| cell.width())
                .max()
                .unwrap_or(0);
            let width = COLUMN_MIN.max(widest + PADDING);
            for index in block.drain(..) {
                if let Some(slot) = widths.get_mut(index).and_then(|row| row.get_mut(column)) {
                    *slot = width;
                }
            }
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (index, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(index) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_has_ten_columns_at_least() {
        assert_eq!(
            lay_out("REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\n"),
            "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
        );
    }

    #[test]
    fn a_column_grows_with_its_widest_cell_and_the_last_is_not_padded() {
        assert_eq!(
            lay_out("A\tB\n修改了默认网页\tx\n"),
            "A                B\n修改了默认网页   x\n"
        );
    }

    #[test]
    fn an_empty_last_cell_leaves_its_blanks() {
        assert_eq!(
            lay_out("SIZE\tCOMMENT\n0B\t\n"),
            "SIZE      COMMENT\n0B        \n"
        );
    }

    #[test]
    fn a_line_without_tabs_ends_a_column() {
        assert_eq!(
            lay_out("a\tb\nno tabs here at all\na-very-long-cell\tb\n"),
            "a         b\nno tabs here at all\na-very-long-cell   b\n"
        );
    }
}
