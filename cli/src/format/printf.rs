//! Go's `fmt`: the verbs and flags that templates use.

use super::Value;
use crate::draw::go_quote::quote;

/// No field is padded to more: a line is never longer.
const WIDTH_MAX: usize = 4096;

/// Go's `fmt.Sprint`: a space between two operands that are both no strings.
pub(super) fn print_spaced(arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut before_is_text = true;
    for (index, argument) in arguments.iter().enumerate() {
        let is_text = matches!(argument, Value::Str(_));
        if index > 0 && !is_text && !before_is_text {
            out.push(' ');
        }
        argument.print(&mut out);
        before_is_text = is_text;
    }
    out
}

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    zero: bool,
    space: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Go's `fmt.Sprintf`.
pub(super) fn printf(format: &str, arguments: &[Value]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = rest.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                ' ' => spec.space = true,
                _ => break,
            }
            rest.next();
        }
        spec.width = number(&mut rest, &mut arguments, &mut spec.minus);
        if rest.peek() == Some(&'.') {
            rest.next();
            spec.precision = Some(number(&mut rest, &mut arguments, &mut false).unwrap_or(0));
        }
        let Some(verb) = rest.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match arguments.next() {
            Some(argument) => out.push_str(&formatted(&spec, verb, argument)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    let extra: Vec<String> = arguments
        .map(|argument| {
            let mut shown = format!("{}=", argument.type_name());
            argument.print(&mut shown);
            shown
        })
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn number<'v>(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    arguments: &mut impl Iterator<Item = &'v Value>,
    minus: &mut bool,
) -> Option<usize> {
    if rest.peek() == Some(&'*') {
        rest.next();
        let Some(Value::Int(width)) = arguments.next() else {
            return None;
        };
        *minus |= *width < 0;
        return usize::try_from(width.unsigned_abs())
            .ok()
            .map(|width| width.min(WIDTH_MAX));
    }
    let mut value: Option<usize> = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        let digit = usize::try_from(digit).unwrap_or(0);
        let shifted = value.unwrap_or(0).saturating_mul(10).saturating_add(digit);
        value = Some(shifted.min(WIDTH_MAX));
    }
    value
}

fn formatted(spec: &Spec, verb: char, argument: &Value) -> String {
    let text = match (verb, argument) {
        ('T', value) => value.type_name().to_owned(),
        ('v' | 's', Value::Str(text)) if verb == 'v' && spec.sharp => quote(text),
        ('v' | 's', Value::Str(text)) => cut(text, spec.precision),
        ('q', Value::Str(text)) => quote(text),
        ('x', Value::Str(text)) => hex(text, false),
        ('X', Value::Str(text)) => hex(text, true),
        ('v' | 't', Value::Bool(value)) => value.to_string(),
        ('v' | 'd', Value::Int(value)) => signed(spec, *value, &value.unsigned_abs().to_string()),
        ('x', Value::Int(v)) => based(spec, *v, "0x", format!("{:x}", v.unsigned_abs())),
        ('X', Value::Int(v)) => based(spec, *v, "0X", format!("{:X}", v.unsigned_abs())),
        ('o', Value::Int(v)) => based(spec, *v, "0", format!("{:o}", v.unsigned_abs())),
        ('b', Value::Int(v)) => based(spec, *v, "0b", format!("{:b}", v.unsigned_abs())),
        ('c', Value::Int(value)) => letter(*value).to_string(),
        ('q', Value::Int(value)) => format!("'{}'", letter(*value)),
        ('U', Value::Int(value)) => format!("U+{value:04X}"),
        ('v' | 'g' | 'G', Value::Float(value)) if spec.precision.is_none() => shortest(*value),
        ('f' | 'F' | 'v' | 'g' | 'G', Value::Float(value)) => {
            let digits = spec.precision.unwrap_or(6);
            let text = format!("{:.digits$}", value.abs());
            sign(spec, value.is_sign_negative(), &text)
        }
        ('e', Value::Float(value)) => exponent(*value, spec.precision.unwrap_or(6)),
        ('q', Value::List(items)) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| formatted(&Spec::default(), 'q', item))
                .collect();
            format!("[{}]", items.join(" "))
        }
        ('v' | 's', Value::List(_) | Value::Map(_) | Value::Row { .. }) => {
            let mut text = String::new();
            argument.print(&mut text);
            text
        }
        ('v', Value::Nil) => "<nil>".to_owned(),
        (verb, Value::Nil) => format!("%!{verb}(<nil>)"),
        (verb, other) => {
            let mut text = format!("%!{verb}({}=", other.type_name());
            other.print(&mut text);
            text.push(')');
            text
        }
    };
    padded(
        spec,
        text,
        matches!(argument, Value::Int(_) | Value::Float(_)),
    )
}

fn padded(spec: &Spec, text: String, is_number: bool) -> String {
    let length = text.chars().count();
    let missing = spec.width.unwrap_or(0).saturating_sub(length);
    if missing == 0 {
        return text;
    }
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if spec.zero && is_number {
        let digits = text.trim_start_matches(['-', '+']);
        let sign = text.get(..text.len() - digits.len()).unwrap_or_default();
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    format!("{}{text}", " ".repeat(missing))
}

fn cut(text: &str, precision: Option<usize>) -> String {
    match precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    }
}

fn hex(text: &str, upper: bool) -> String {
    text.bytes()
        .map(|byte| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        })
        .collect()
}

fn letter(value: i64) -> char {
    u32::try_from(value)
        .ok()
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn sign(spec: &Spec, negative: bool, digits: &str) -> String {
    let sign = match (negative, spec.plus, spec.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    format!("{sign}{digits}")
}

fn signed(spec: &Spec, value: i64, digits: &str) -> String {
    sign(spec, value < 0, digits)
}

fn based(spec: &Spec, value: i64, prefix: &str, digits: String) -> String {
    let prefix = if spec.sharp { prefix } else { "" };
    sign(spec, value < 0, &format!("{prefix}{digits}"))
}

fn exponent(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    go_exponent(&text)
}

/// Rust writes `1e6`, Go `1e+06`.
fn go_exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else {
        return text.to_owned();
    };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// The shortest text that reads back as the same number: Go's `%v`, which
/// turns to exponents from 1e21 on and below 1e-4.
pub(super) fn shortest(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return go_exponent(&format!("{value:e}"));
    }
    value.to_string()
}
