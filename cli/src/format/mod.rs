//! Go's text/template, as far as docker's `--format` uses it: a lexer, a
//! parser and an evaluator over ordered values. Draws nothing by itself and
//! knows no command.

mod builtins;
mod eval;
mod lexer;
mod parser;
mod printf;
mod tree;
mod value;

use std::fmt;

pub(crate) use value::Value;

/// What is wrong with a template, in text/template's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    text: String,
    /// Whether the template could not be parsed at all.
    syntax: bool,
}

impl TemplateError {
    fn parse(line: usize, message: impl fmt::Display) -> Self {
        Self {
            text: format!("template: :{line}: {message}"),
            syntax: true,
        }
    }

    fn exec(line: usize, column: usize, node: &str, message: impl fmt::Display) -> Self {
        Self {
            text: format!("template: :{line}:{column}: executing \"\" at <{node}>: {message}"),
            syntax: false,
        }
    }

    /// Says whether the template could not be parsed at all.
    pub(crate) fn is_syntax(&self) -> bool {
        self.syntax
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TemplateError {}

/// What a map without the key gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MissingKey {
    /// `<no value>`, as in listings.
    NoValue,
    /// An error, as in `inspect`.
    Error,
}

/// What docker's own functions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Functions {
    /// Their work.
    Real,
    /// Nothing: headings pass through them unchanged.
    Heading,
}

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    tree: tree::Tree,
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            tree: parser::parse(source)?,
        })
    }

    /// Runs the template over a value. Whatever was written before an error
    /// stays in `out`, as it does in Go.
    pub(crate) fn run(
        &self,
        data: &Value,
        missing: MissingKey,
        functions: Functions,
        out: &mut String,
    ) -> Result<(), TemplateError> {
        eval::run(&self.tree, data, missing, functions, out)
    }
}

#[cfg(test)]
mod tests;
