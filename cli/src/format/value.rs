//! The values that templates work on: JSON, in order, and what rows add to
//! it (named types and methods).

use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::Value as Json;

/// A method of a row: `.Label "name"`.
pub(crate) type Method = Rc<dyn Fn(&[Value]) -> Result<Value, String>>;

/// A value in a template.
#[derive(Clone)]
pub(crate) enum Value {
    /// A missing key, or `nil`.
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Rc<str>),
    List(Rc<Vec<Value>>),
    /// A map, in its source's order; ranging and printing sort by key.
    Map(Rc<Vec<(String, Value)>>),
    /// A row: unknown fields are errors that name its type.
    Row {
        type_name: &'static str,
        fields: Rc<Vec<(&'static str, Value)>>,
    },
    /// A field that takes arguments.
    Method(Method),
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_json())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(text.into())
    }
}

impl From<&Json> for Value {
    fn from(json: &Json) -> Self {
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Self::Int(value),
                None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::from(text.as_str()),
            Json::Array(items) => Self::List(Rc::new(items.iter().map(Self::from).collect())),
            Json::Object(fields) => Self::Map(Rc::new(
                fields
                    .iter()
                    .map(|(key, value)| (key.clone(), Self::from(value)))
                    .collect(),
            )),
        }
    }
}

impl Value {
    /// A list of strings.
    pub(crate) fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> Self {
        Self::List(Rc::new(items.into_iter().map(Self::from).collect()))
    }

    /// Go's truth: neither zero, nor empty, nor nil.
    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(fields) => !fields.is_empty(),
            Self::Row { .. } | Self::Method(_) => true,
        }
    }

    /// The type as Go's errors name it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "<nil>",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Str(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Row { type_name, .. } => type_name,
            Self::Method(_) => "func",
        }
    }

    /// The fields of a map, sorted by key.
    pub(crate) fn sorted(fields: &[(String, Self)]) -> Vec<&(String, Self)> {
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted
    }

    /// Go's `%v`.
    pub(crate) fn print(&self, out: &mut String) {
        match self {
            Self::Nil => out.push_str("<no value>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => push(out, value),
            Self::Float(value) => out.push_str(&super::printf::shortest(*value)),
            Self::Str(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    item.print_inner(out);
                }
                out.push(']');
            }
            Self::Map(fields) => {
                out.push_str("map[");
                for (index, (key, value)) in Self::sorted(fields).into_iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    value.print_inner(out);
                }
                out.push(']');
            }
            Self::Row { fields, .. } => {
                out.push_str("&{");
                for (index, (_, value)) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    value.print_inner(out);
                }
                out.push('}');
            }
            Self::Method(_) => out.push_str("<func>"),
        }
    }

    fn print_inner(&self, out: &mut String) {
        match self {
            Self::Nil => out.push_str("<nil>"),
            other => other.print(out),
        }
    }

    /// The value as one line of JSON: fields in order, nothing escaped for
    /// HTML, methods left out.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out);
        out
    }

    fn write_json(&self, out: &mut String) {
        match self {
            Self::Nil | Self::Method(_) => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => push(out, value),
            Self::Float(value) => push(out, Json::from(*value)),
            Self::Str(text) => push(out, Json::from(text.as_ref())),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write_json(out);
                }
                out.push(']');
            }
            Self::Map(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.as_str(), value));
                write_object(out, fields);
            }
            Self::Row { fields, .. } => {
                // docker's rows are written by key, not by field.
                let mut sorted: Vec<_> = fields
                    .iter()
                    .filter(|(_, value)| !matches!(value, Self::Method(_)))
                    .map(|(key, value)| (*key, value))
                    .collect();
                sorted.sort_by_key(|(key, _)| *key);
                write_object(out, sorted.into_iter());
            }
        }
    }
}

fn write_object<'a>(out: &mut String, fields: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push('{');
    for (index, (key, value)) in fields.enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, Json::from(key));
        out.push(':');
        value.write_json(out);
    }
    out.push('}');
}

fn push(out: &mut String, value: impl std::fmt::Display) {
    let written = write!(out, "{value}");
    // Writing to a String cannot fail.
    debug_assert!(written.is_ok());
}
