//! Cuts a template into text and tokens.

use super::TemplateError;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// White space within an action: it separates arguments.
    Space,
    Pipe,
    ParenOpen,
    ParenClose,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
    /// A lone `.`
    Dot,
    /// `.Name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    /// A keyword, a function, `true`, `false` or `nil`.
    Word(String),
    Int(i64),
    Float(f64),
    Str(String),
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The line of a byte offset, from 1.
pub(super) fn line_of(source: &str, offset: usize) -> usize {
    let before = source.get(..offset).unwrap_or(source);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Line and column of a byte offset, as errors name them.
pub(super) fn position(source: &str, offset: usize) -> (usize, usize) {
    let before = source.get(..offset).unwrap_or(source);
    let column = match before.rfind('\n') {
        Some(newline) => offset - newline - 1,
        None => offset,
    };
    (line_of(source, offset), column)
}

/// Cuts the whole template.
pub(super) fn lex(source: &str) -> Result<Vec<Spanned>, TemplateError> {
    let mut lexer = Lexer {
        source,
        at: 0,
        tokens: Vec::new(),
        trim_next: false,
    };
    while lexer.at < source.len() {
        lexer.text()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    tokens: Vec<Spanned>,
    /// Whether the action that just ended said `-}}`.
    trim_next: bool,
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn fail(&self, offset: usize, message: impl std::fmt::Display) -> TemplateError {
        TemplateError::parse(line_of(self.source, offset), message)
    }

    fn push(&mut self, token: Token, start: usize) {
        self.tokens.push(Spanned {
            token,
            start,
            end: self.at,
        });
    }

    /// Text up to the next action, and that action.
    fn text(&mut self) -> Result<(), TemplateError> {
        let start = self.at;
        let rest = self.rest();
        let open = rest.find("{{");
        let mut text = open.map_or(rest, |open| rest.get(..open).unwrap_or_default());
        if std::mem::take(&mut self.trim_next) {
            text = text.trim_start_matches(BLANKS);
        }
        let after = open.and_then(|open| rest.get(open + 2..));
        let trims = after.is_some_and(|after| {
            after.starts_with('-') && after.get(1..).is_some_and(|a| a.starts_with(BLANKS))
        });
        if trims {
            text = text.trim_end_matches(BLANKS);
        }
        let text = text.to_owned();
        self.at = open.map_or(self.source.len(), |open| start + open);
        if !text.is_empty() {
            self.push(Token::Text(text), start);
        }
        if open.is_some() {
            let start = self.at;
            self.at += if trims { 3 } else { 2 };
            self.action(start)?;
        }
        Ok(())
    }

    fn action(&mut self, open: usize) -> Result<(), TemplateError> {
        let rest = self.rest().trim_start_matches(BLANKS);
        if rest.starts_with("/*") {
            return self.comment(open);
        }
        self.push(Token::Open, open);
        loop {
            let start = self.at;
            let rest = self.rest();
            if let Some(trimmed) = rest.strip_prefix("}}") {
                self.at = self.source.len() - trimmed.len();
                self.push(Token::Close, start);
                return Ok(());
            }
            let blank = rest.trim_start_matches(BLANKS);
            if blank.len() < rest.len() {
                self.at += rest.len() - blank.len();
                if blank.starts_with("-}}") {
                    self.at += 3;
                    self.trim_next = true;
                    self.push(Token::Close, start);
                    return Ok(());
                }
                self.push(Token::Space, start);
                continue;
            }
            let Some(first) = rest.chars().next() else {
                return Err(self.fail(self.source.len(), "unclosed action"));
            };
            self.token(first, start)?;
        }
    }

    fn comment(&mut self, open: usize) -> Result<(), TemplateError> {
        let Some(end) = self.rest().find("*/") else {
            return Err(self.fail(open, "unclosed comment"));
        };
        self.at += end + 2;
        let rest = self.rest();
        if rest.starts_with("}}") {
            self.at += 2;
            return Ok(());
        }
        let blank = rest.trim_start_matches(BLANKS);
        if blank.len() < rest.len() && blank.starts_with("-}}") {
            self.at += rest.len() - blank.len() + 3;
            self.trim_next = true;
            return Ok(());
        }
        Err(self.fail(open, "comment ends before closing delimiter"))
    }

    fn token(&mut self, first: char, start: usize) -> Result<(), TemplateError> {
        let second = self.rest().chars().nth(1);
        let token = match first {
            '|' => self.single(Token::Pipe),
            '(' => self.single(Token::ParenOpen),
            ')' => self.single(Token::ParenClose),
            ',' => self.single(Token::Comma),
            '=' => self.single(Token::Assign),
            ':' if second == Some('=') => {
                self.at += 2;
                Token::Declare
            }
            '"' => self.quoted(start)?,
            '`' => self.raw(start)?,
            '\'' => self.character(start)?,
            '$' => {
                self.at += 1;
                Token::Variable(self.word())
            }
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number(start)?,
            '.' => {
                self.at += 1;
                match self.word() {
                    name if name.is_empty() => Token::Dot,
                    name => Token::Field(name),
                }
            }
            c if c.is_ascii_digit() || c == '-' || c == '+' => self.number(start)?,
            c if c.is_alphabetic() || c == '_' => Token::Word(self.word()),
            c => {
                return Err(self.fail(start, format!("unexpected {} in command", bad_character(c))));
            }
        };
        self.push(token, start);
        Ok(())
    }

    fn single(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let word = rest.get(..end).unwrap_or_default().to_owned();
        self.at += end;
        word
    }

    fn number(&mut self, start: usize) -> Result<Token, TemplateError> {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|(index, c)| {
                let sign = *index == 0 && matches!(c, '+' | '-');
                let exponent = matches!(c, '+' | '-')
                    && index
                        .checked_sub(1)
                        .and_then(|before| rest.as_bytes().get(before))
                        .is_some_and(|before| matches!(before, b'e' | b'E'))
                    && !rest.starts_with("0x");
                !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_') || sign || exponent)
            })
            .map_or(rest.len(), |(index, _)| index);
        let text = rest.get(..end).unwrap_or_default().to_owned();
        self.at += end;
        let plain = text.replace('_', "");
        let (sign, digits) = match plain.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
        };
        let based = [("0x", 16), ("0X", 16), ("0o", 8), ("0b", 2)]
            .iter()
            .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)));
        let (digits, radix) = based.unwrap_or((digits, 10));
        if let Ok(value) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
            return Ok(Token::Int(value));
        }
        match plain.parse::<f64>() {
            Ok(value) if text.bytes().any(|b| b.is_ascii_digit()) => Ok(Token::Float(value)),
            _ => Err(self.fail(start, format!("bad number syntax: {text:?}"))),
        }
    }

    fn raw(&mut self, start: usize) -> Result<Token, TemplateError> {
        self.at += 1;
        let Some(end) = self.rest().find('`') else {
            return Err(self.fail(start, "unterminated raw quoted string"));
        };
        let text = self.rest().get(..end).unwrap_or_default().to_owned();
        self.at += end + 1;
        Ok(Token::Str(text))
    }

    fn quoted(&mut self, start: usize) -> Result<Token, TemplateError> {
        self.at += 1;
        let (text, used) = unquote(self.rest(), '"')
            .ok_or_else(|| self.fail(start, "unterminated quoted string"))?;
        self.at += used;
        Ok(Token::Str(text))
    }

    fn character(&mut self, start: usize) -> Result<Token, TemplateError> {
        self.at += 1;
        let (text, used) = unquote(self.rest(), '\'')
            .ok_or_else(|| self.fail(start, "unterminated character constant"))?;
        self.at += used;
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(c), None) => Ok(Token::Int(i64::from(u32::from(c)))),
            _ => Err(self.fail(start, format!("malformed character constant: '{text}'"))),
        }
    }
}

fn bad_character(c: char) -> String {
    format!("bad character U+{:04X} '{c}'", u32::from(c))
}

/// Reads a quoted string whose opening quote is gone; returns it and the
/// bytes used, the closing quote's included.
fn unquote(source: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut characters = source.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            c if c == quote => return Some((out, index + c.len_utf8())),
            '\n' => return None,
            '\\' => {
                let (_, escape) = characters.next()?;
                let digits = match escape {
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => 0,
                };
                if digits > 0 {
                    let code: String = (0..digits)
                        .map(|_| characters.next().map(|(_, c)| c))
                        .collect::<Option<_>>()?;
                    out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                    continue;
                }
                out.push(match escape {
                    'a' => '\u{7}',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\u{b}',
                    '\\' | '"' | '\'' => escape,
                    _ => return None,
                });
            }
            c => out.push(c),
        }
    }
    None
}
