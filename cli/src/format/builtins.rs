//! The functions of templates: text/template's and docker's.

use std::cmp::Ordering;
use std::rc::Rc;

use super::printf::{print_spaced, printf};
use super::{Functions, Value};

/// Why a function cannot be called.
pub(super) enum Wrong {
    /// It takes another number of arguments.
    Count(String),
    /// It fails on these.
    Call(String),
}

type Called = Result<Value, Wrong>;

/// What a function does with its arguments.
type Body = fn(&[Value]) -> Result<Value, String>;

struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    body: Body,
    /// Passes headings through unchanged.
    heading: bool,
}

const MANY: usize = usize::MAX;

const fn builtin(name: &'static str, least: usize, most: usize, body: Body) -> Function {
    Function {
        name,
        least,
        most,
        body,
        heading: false,
    }
}

const fn dockers(name: &'static str, count: usize, body: Body) -> Function {
    Function {
        name,
        least: count,
        most: count,
        body,
        heading: true,
    }
}

const FUNCTIONS: &[Function] = &[
    // `and` and `or` are the evaluator's; here they only exist.
    builtin("and", 1, MANY, last),
    builtin("or", 1, MANY, last),
    builtin("not", 1, 1, |a| Ok(Value::Bool(!one(a)?.is_true()))),
    builtin("len", 1, 1, len),
    builtin("index", 1, MANY, index),
    builtin("slice", 1, 4, slice),
    builtin("print", 0, MANY, |a| Ok(Value::from(print_spaced(a)))),
    builtin("println", 0, MANY, println),
    builtin("printf", 1, MANY, |a| {
        let (format, rest) = a.split_first().ok_or("no format")?;
        Ok(Value::from(printf(text(format)?, rest)))
    }),
    builtin("html", 0, MANY, |a| Ok(Value::from(html(&print_spaced(a))))),
    builtin("js", 0, MANY, |a| Ok(Value::from(js(&print_spaced(a))))),
    builtin("urlquery", 0, MANY, |a| {
        Ok(Value::from(urlquery(&print_spaced(a))))
    }),
    builtin("call", 1, MANY, |a| {
        Err(format!("non-function of type {}", one(a)?.type_name()))
    }),
    builtin("eq", 1, MANY, eq),
    builtin("ne", 2, 2, |a| Ok(Value::Bool(!equal(two(a)?)?))),
    builtin("lt", 2, 2, |a| ordered(a, Ordering::is_lt)),
    builtin("le", 2, 2, |a| ordered(a, Ordering::is_le)),
    builtin("gt", 2, 2, |a| ordered(a, Ordering::is_gt)),
    builtin("ge", 2, 2, |a| ordered(a, Ordering::is_ge)),
    dockers("json", 1, |a| Ok(Value::from(one(a)?.to_json()))),
    dockers("split", 2, |a| {
        let (whole, separator) = two(a)?;
        let (whole, separator) = (text(whole)?, text(separator)?);
        Ok(if separator.is_empty() {
            let letters: Vec<String> = whole.chars().map(String::from).collect();
            Value::strings(letters.iter().map(String::as_str))
        } else {
            Value::strings(whole.split(separator))
        })
    }),
    dockers("join", 2, |a| {
        let (list, separator) = two(a)?;
        let Value::List(items) = list else {
            return Err(format!(
                "wrong type for value; expected []string; got {}",
                list.type_name()
            ));
        };
        let items: Vec<&str> = items.iter().map(text).collect::<Result<_, _>>()?;
        Ok(Value::from(items.join(text(separator)?)))
    }),
    dockers("title", 1, |a| Ok(Value::from(title(text(one(a)?)?)))),
    dockers("lower", 1, |a| {
        Ok(Value::from(text(one(a)?)?.to_lowercase()))
    }),
    dockers("upper", 1, |a| {
        Ok(Value::from(text(one(a)?)?.to_uppercase()))
    }),
    dockers("truncate", 2, truncate),
    Function {
        name: "pad",
        least: 3,
        most: 3,
        body: pad,
        heading: false,
    },
];

/// Says whether a function has that name.
pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.name == name)
}

/// Calls a function.
pub(super) fn call(name: &str, arguments: &[Value], functions: Functions) -> Called {
    let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
        return Err(Wrong::Call(format!("function {name:?} not defined")));
    };
    let got = arguments.len();
    if got < function.least || got > function.most {
        let want = if function.most == MANY {
            format!("at least {}", function.least)
        } else {
            function.most.to_string()
        };
        return Err(Wrong::Count(format!(
            "wrong number of args for {name}: want {want} got {got}"
        )));
    }
    if functions == Functions::Heading && function.heading {
        return one(arguments).cloned().map_err(Wrong::Call);
    }
    (function.body)(arguments).map_err(Wrong::Call)
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    arguments.first().ok_or_else(|| "no argument".to_owned())
}

fn two(arguments: &[Value]) -> Result<(&Value, &Value), String> {
    match arguments {
        [first, second, ..] => Ok((first, second)),
        _ => Err("missing argument".to_owned()),
    }
}

fn last(arguments: &[Value]) -> Result<Value, String> {
    Ok(arguments.last().cloned().unwrap_or(Value::Nil))
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Str(text) => Ok(text),
        other => Err(format!(
            "wrong type for value; expected string; got {}",
            other.type_name()
        )),
    }
}

fn int(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn len(arguments: &[Value]) -> Result<Value, String> {
    match one(arguments)? {
        Value::Str(text) => Ok(int(text.len())),
        Value::List(items) => Ok(int(items.len())),
        Value::Map(fields) => Ok(int(fields.len())),
        Value::Nil => Err("len of nil pointer".to_owned()),
        other => Err(format!("len of type {}", other.type_name())),
    }
}

fn position(value: &Value, length: usize) -> Result<usize, String> {
    let Value::Int(index) = value else {
        return Err(format!(
            "cannot index slice/array with type {}",
            value.type_name()
        ));
    };
    usize::try_from(*index)
        .ok()
        .filter(|index| *index <= length)
        .ok_or_else(|| format!("index out of range: {index}"))
}

fn index(arguments: &[Value]) -> Result<Value, String> {
    let mut value = one(arguments)?.clone();
    for key in arguments.iter().skip(1) {
        value = match &value {
            Value::List(items) => items
                .get(position(key, items.len())?)
                .cloned()
                .ok_or_else(|| format!("index out of range: {key:?}"))?,
            Value::Map(fields) => {
                let key = text(key)?;
                fields
                    .iter()
                    .find(|(name, _)| name == key)
                    .map_or(Value::Nil, |(_, value)| value.clone())
            }
            Value::Str(text) => {
                let at = position(key, text.len())?;
                let byte = text.as_bytes().get(at).copied();
                Value::Int(byte.map(i64::from).ok_or("index out of range")?)
            }
            Value::Nil => return Err("index of untyped nil".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let value = one(arguments)?;
    let length = match value {
        Value::Str(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let from = arguments.get(1).map_or(Ok(0), |at| position(at, length))?;
    let to = arguments
        .get(2)
        .map_or(Ok(length), |at| position(at, length))?;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::Str(text) => text
            .get(from..to)
            .map(Value::from)
            .ok_or_else(|| "slice within a character".to_owned()),
        Value::List(items) => Ok(Value::List(Rc::new(
            items.get(from..to).unwrap_or_default().to_vec(),
        ))),
        _ => Ok(Value::Nil),
    }
}

fn println(arguments: &[Value]) -> Result<Value, String> {
    let mut out = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        argument.print(&mut out);
    }
    out.push('\n');
    Ok(Value::from(out))
}

fn equal((a, b): (&Value, &Value)) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Int(a), Value::Int(b)) => Ok(a == b),
        #[expect(clippy::float_cmp, reason = "Go compares them so")]
        (Value::Float(a), Value::Float(b)) => Ok(a == b),
        (Value::Str(a), Value::Str(b)) => Ok(a == b),
        (Value::List(_) | Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => {
            Err("non-comparable type".to_owned())
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

fn eq(arguments: &[Value]) -> Result<Value, String> {
    let (first, rest) = arguments.split_first().ok_or("no argument")?;
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in rest {
        if equal((first, other))? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn ordered(arguments: &[Value], holds: fn(Ordering) -> bool) -> Result<Value, String> {
    let ordering = match two(arguments)? {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Str(a), Value::Str(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => match a.partial_cmp(b) {
            Some(ordering) => ordering,
            None => return Ok(Value::Bool(false)),
        },
        (Value::Int(_) | Value::Str(_) | Value::Float(_), _) => {
            return Err("incompatible types for comparison".to_owned());
        }
        _ => return Err("invalid type for comparison".to_owned()),
    };
    Ok(Value::Bool(holds(ordering)))
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut starts = true;
    for character in text.chars() {
        if starts {
            out.extend(character.to_uppercase());
        } else {
            out.push(character);
        }
        starts = !(character.is_alphanumeric() || character == '_' || character == '\'');
    }
    out
}

/// By bytes, as docker's is; never within a character.
fn truncate(arguments: &[Value]) -> Result<Value, String> {
    let (whole, length) = two(arguments)?;
    let whole = text(whole)?;
    let Value::Int(length) = length else {
        return Err(format!(
            "wrong type for value; expected int; got {}",
            length.type_name()
        ));
    };
    let mut end = usize::try_from(*length)
        .map_err(|_| format!("slice bounds out of range [:{length}]"))?
        .min(whole.len());
    while !whole.is_char_boundary(end) {
        end -= 1;
    }
    Ok(Value::from(whole.get(..end).unwrap_or_default()))
}

/// The most blanks that `pad` adds on a side: a line is never longer.
const PAD_MAX: i64 = 4096;

fn pad(arguments: &[Value]) -> Result<Value, String> {
    let [whole, before, after] = arguments else {
        return Err("missing argument".to_owned());
    };
    let whole = text(whole)?;
    if whole.is_empty() {
        return Ok(Value::from(whole));
    }
    let blanks = |value: &Value| match value {
        Value::Int(count) => Ok(" ".repeat(usize::try_from((*count).min(PAD_MAX)).unwrap_or(0))),
        other => Err(format!(
            "wrong type for value; expected int; got {}",
            other.type_name()
        )),
    };
    Ok(Value::from(format!(
        "{}{whole}{}",
        blanks(before)?,
        blanks(after)?
    )))
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\0' => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(character))),
            control if control < ' ' => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out
}

fn urlquery(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~') => {
                out.push(char::from(b));
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
