//! Lists of rows, as docker prints them: as a table, by a template, as JSON.
//! Knows no command: the rows bring their fields and headings along.

use std::rc::Rc;

use super::{out, table};
use crate::error::{Error, Result};
use crate::format::{Functions, MissingKey, Template, Value};

/// What one command lists.
pub(crate) struct Listing {
    /// The Go type that docker's errors name.
    pub(crate) type_name: &'static str,
    /// The headings of all fields.
    pub(crate) headings: &'static [(&'static str, &'static str)],
    /// The template of the table that is printed without `--format`.
    pub(crate) table: String,
    /// The template of `-q`.
    pub(crate) quiet: &'static str,
    /// The template of `--format raw`.
    pub(crate) raw: Option<&'static str>,
}

/// The fields of one row.
pub(crate) type Fields = Vec<(&'static str, Value)>;

/// How a list is printed.
pub(crate) enum Format {
    Table(String),
    Lines(String),
    /// One object a row.
    Json,
}

impl Listing {
    /// Works out how to print from what the user gave.
    pub(crate) fn format(&self, format: Option<&str>, quiet: bool) -> Format {
        match format.map(str::trim) {
            None | Some("") | Some("table") if quiet => Format::Lines(self.quiet.to_owned()),
            None | Some("") | Some("table") => Format::Table(self.table.clone()),
            Some("json" | "{{json .}}") => Format::Json,
            Some("raw") if quiet => Format::Lines(format!("id: {}", self.quiet)),
            Some("raw") if self.raw.is_some() => {
                Format::Lines(self.raw.unwrap_or_default().to_owned())
            }
            Some(template) => match template.strip_prefix("table") {
                Some(columns) => Format::Table(unescape(columns.trim())),
                None => Format::Lines(unescape(template)),
            },
        }
    }

    /// Renders the rows.
    pub(crate) fn render(&self, format: &Format, rows: Vec<Fields>) -> Result<String> {
        match format {
            Format::Json => Ok(rows.into_iter().map(json_row).collect()),
            Format::Lines(source) => {
                let template = Template::parse(source).map_err(Error::Template)?;
                self.lines(&template, rows)
            }
            Format::Table(source) => {
                let template = Template::parse(source).map_err(Error::Template)?;
                let mut whole = self.heading(&template);
                whole.push_str(&self.lines(&template, rows)?);
                Ok(table::lay_out(&whole))
            }
        }
    }

    fn lines(&self, template: &Template, rows: Vec<Fields>) -> Result<String> {
        let mut text = String::new();
        for fields in rows {
            let row = Value::Row {
                type_name: self.type_name,
                fields: Rc::new(fields),
            };
            template
                .run(&row, MissingKey::NoValue, Functions::Real, &mut text)
                .map_err(Error::Template)?;
            text.push('\n');
        }
        Ok(text)
    }

    fn heading(&self, template: &Template) -> String {
        let headings = Value::Map(Rc::new(
            self.headings
                .iter()
                .map(|(field, heading)| ((*field).to_owned(), Value::from(*heading)))
                .collect(),
        ));
        let mut line = String::new();
        // docker, too, prints as much of the headings as the template gives.
        drop(template.run(
            &headings,
            MissingKey::NoValue,
            Functions::Heading,
            &mut line,
        ));
        line.push('\n');
        line
    }

    /// Renders and prints.
    pub(crate) fn print(&self, format: &Format, rows: Vec<Fields>) -> Result<()> {
        out(&self.render(format, rows)?)
    }
}

/// One row as docker's `--format json` writes it: keys sorted, escaped for
/// HTML.
fn json_row(fields: Fields) -> String {
    let row = Value::Row {
        type_name: "",
        fields: Rc::new(fields),
    };
    let mut escaped = String::new();
    for character in row.to_json().chars() {
        match character {
            '<' | '>' | '&' => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => escaped.push(other),
        }
    }
    escaped.push('\n');
    escaped
}

/// A shell passes `\t` and `\n` on as two characters each.
fn unescape(template: &str) -> String {
    template.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn listing() -> Listing {
        Listing {
            type_name: "*formatter.imageContext",
            headings: &[("Repository", "REPOSITORY"), ("Tag", "TAG")],
            table: "{{.Repository}}\t{{.Tag}}".to_owned(),
            quiet: "{{.Tag}}",
            raw: None,
        }
    }

    fn rows() -> Vec<Fields> {
        vec![vec![
            ("Repository", Value::from("<none>")),
            ("Tag", Value::from("1")),
        ]]
    }

    fn rendered(format: Option<&str>, quiet: bool) -> Result<String> {
        let listing = listing();
        listing.render(&listing.format(format, quiet), rows())
    }

    #[test]
    fn each_format_is_printed_in_its_way() {
        for (format, quiet, text) in [
            (None, false, "REPOSITORY   TAG\n<none>       1\n"),
            (None, true, "1\n"),
            (Some("table"), false, "REPOSITORY   TAG\n<none>       1\n"),
            (
                Some("table {{.Tag}}\\t{{upper .Repository}}"),
                false,
                "TAG       REPOSITORY\n1         <NONE>\n",
            ),
            (Some("{{.Tag}}\\t{{.Repository}}"), false, "1\t<none>\n"),
            (
                Some("json"),
                false,
                "{\"Repository\":\"\\u003cnone\\u003e\",\"Tag\":\"1\"}\n",
            ),
            (Some("{{json .Repository}}"), false, "\"<none>\"\n"),
        ] {
            assert_eq!(rendered(format, quiet).unwrap(), text, "{format:?}");
        }
    }

    #[test]
    fn a_table_without_rows_has_its_headings() {
        let listing = listing();
        let text = listing
            .render(&listing.format(None, false), Vec::new())
            .unwrap();
        assert_eq!(text, "REPOSITORY   TAG\n");
    }

    #[test]
    fn an_unknown_field_is_an_error_and_prints_nothing() {
        assert_eq!(
            rendered(Some("table {{.Nope}}"), false)
                .unwrap_err()
                .to_string(),
            "template parsing error: template: :1:2: executing \"\" at <.Nope>: \
             can't evaluate field Nope in type *formatter.imageContext"
        );
    }
}
