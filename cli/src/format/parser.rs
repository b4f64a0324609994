//! Makes a tree of tokens.

use std::collections::BTreeMap;

use super::TemplateError;
use super::builtins;
use super::lexer::{Spanned, Token, lex, line_of, position};
use super::tree::{Branch, Command, Node, Operand, OperandKind, Pipe, Place, Tree};

/// How deep actions and parentheses may nest: a hostile template must not
/// exhaust the stack.
const DEPTH_MAX: usize = 100;

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Tree, TemplateError> {
    let mut parser = Parser {
        source,
        tokens: lex(source)?,
        at: 0,
        depth: 0,
        ranges: 0,
        scopes: vec![String::new()],
        defined: BTreeMap::new(),
    };
    let (body, end) = parser.list()?;
    match end {
        Closer::Eof => {}
        Closer::End => return Err(parser.fail("unexpected {{end}}")),
        Closer::Else | Closer::ElseIf | Closer::ElseWith => {
            return Err(parser.fail("unexpected {{else}}"));
        }
    }
    Ok(Tree {
        body,
        defined: parser.defined,
    })
}

/// What ended a list of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closer {
    Eof,
    End,
    Else,
    ElseIf,
    ElseWith,
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    /// How many ranges are open: `break` belongs into one.
    ranges: usize,
    /// The variables that are known here; the first is `$`.
    scopes: Vec<String>,
    defined: BTreeMap<String, Vec<Node>>,
}

type Parsed<T> = Result<T, TemplateError>;

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|spanned| &spanned.token)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn offset(&self) -> usize {
        match self.tokens.get(self.at) {
            Some(spanned) => spanned.start,
            None => self.source.len(),
        }
    }

    fn fail(&self, message: impl std::fmt::Display) -> TemplateError {
        TemplateError::parse(line_of(self.source, self.offset()), message)
    }

    fn place(&self, from: usize) -> Place {
        let end = self
            .at
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
            .map_or(from, |spanned| spanned.end);
        let (line, column) = position(self.source, from);
        Place {
            line,
            column,
            text: self
                .source
                .get(from..end)
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    fn skip_space(&mut self) {
        while self.peek() == Some(&Token::Space) {
            self.at += 1;
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(found)) if found == word)
    }

    fn enter(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fail("max expression depth exceeded"));
        }
        Ok(())
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, Closer)> {
        self.enter()?;
        let mut nodes = Vec::new();
        let end = loop {
            match self.next() {
                None => break Closer::Eof,
                Some(Token::Text(text)) => nodes.push(Node::Text(text)),
                // Outside of actions the lexer makes nothing else.
                Some(_) => {
                    if let Some(end) = self.action(&mut nodes)? {
                        break end;
                    }
                }
            }
        };
        self.depth -= 1;
        Ok((nodes, end))
    }

    /// One action; what it ends, if it ends something.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Parsed<Option<Closer>> {
        self.skip_space();
        let word = match self.peek() {
            Some(Token::Word(word)) => word.clone(),
            _ => String::new(),
        };
        match word.as_str() {
            "end" => {
                self.at += 1;
                self.close("end")?;
                return Ok(Some(Closer::End));
            }
            "else" => return self.or_else().map(Some),
            "if" | "with" | "range" => {
                self.at += 1;
                nodes.push(self.control(&word)?);
            }
            "define" | "block" => {
                self.at += 1;
                self.define(&word, nodes)?;
            }
            "template" => {
                self.at += 1;
                nodes.push(self.template()?);
            }
            "break" | "continue" => {
                self.at += 1;
                if self.ranges == 0 {
                    return Err(self.fail(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                self.close(&word)?;
                nodes.push(if word == "break" {
                    Node::Break
                } else {
                    Node::Continue
                });
            }
            _ => {
                let pipe = self.pipe("command", &Token::Close)?;
                nodes.push(Node::Action(pipe));
            }
        }
        Ok(None)
    }

    fn or_else(&mut self) -> Parsed<Closer> {
        self.at += 1;
        self.skip_space();
        for (word, end) in [("if", Closer::ElseIf), ("with", Closer::ElseWith)] {
            if self.is_word(word) {
                self.at += 1;
                return Ok(end);
            }
        }
        self.close("else")?;
        Ok(Closer::Else)
    }

    fn close(&mut self, what: &str) -> Parsed<()> {
        self.skip_space();
        match self.next() {
            Some(Token::Close) => Ok(()),
            _ => {
                self.at -= 1;
                Err(self.unexpected(what))
            }
        }
    }

    fn unexpected(&self, context: &str) -> TemplateError {
        let shown = match self.tokens.get(self.at) {
            Some(spanned) => self
                .source
                .get(spanned.start..spanned.end)
                .unwrap_or_default(),
            None => return self.fail("unexpected EOF"),
        };
        self.fail(format!("unexpected {} in {context}", shown_token(shown)))
    }

    fn control(&mut self, word: &str) -> Parsed<Node> {
        let known = self.scopes.len();
        let pipe = self.pipe(word, &Token::Close)?;
        if word == "range" {
            self.ranges += 1;
        }
        let (then, end) = self.list()?;
        if word == "range" {
            self.ranges -= 1;
        }
        let or_else = match end {
            Closer::End => Vec::new(),
            Closer::Else => match self.list()? {
                (nodes, Closer::End) => nodes,
                (_, Closer::Eof) => return Err(self.fail("unexpected EOF")),
                (_, _) => return Err(self.fail("expected end; found {{else}}")),
            },
            Closer::ElseIf if word == "if" => vec![self.control("if")?],
            Closer::ElseWith if word == "with" => vec![self.control("with")?],
            Closer::ElseIf | Closer::ElseWith => return Err(self.fail("unexpected {{else}}")),
            Closer::Eof => return Err(self.fail("unexpected EOF")),
        };
        self.scopes.truncate(known);
        let branch = Branch {
            pipe,
            then,
            or_else,
        };
        Ok(match word {
            "if" => Node::If(branch),
            "with" => Node::With(branch),
            _ => Node::Range(branch),
        })
    }

    fn template_name(&mut self, context: &str) -> Parsed<String> {
        self.skip_space();
        match self.next() {
            Some(Token::Str(name)) => Ok(name),
            _ => {
                self.at -= 1;
                Err(self.unexpected(context))
            }
        }
    }

    fn define(&mut self, word: &str, nodes: &mut Vec<Node>) -> Parsed<()> {
        let start = self.offset();
        let name = self.template_name(&format!("{word} clause"))?;
        let place = self.place(start);
        let argument = if word == "block" {
            Some(self.pipe("block clause", &Token::Close)?)
        } else {
            self.close("define clause")?;
            None
        };
        let outer_scopes = std::mem::replace(&mut self.scopes, vec![String::new()]);
        let outer_ranges = std::mem::take(&mut self.ranges);
        let (body, end) = self.list()?;
        self.scopes = outer_scopes;
        self.ranges = outer_ranges;
        if end != Closer::End {
            return Err(self.fail("unexpected EOF"));
        }
        self.defined.insert(name.clone(), body);
        if word == "block" {
            nodes.push(Node::Template {
                name,
                argument,
                place,
            });
        }
        Ok(())
    }

    fn template(&mut self) -> Parsed<Node> {
        let start = self.offset();
        let name = self.template_name("template clause")?;
        let place = self.place(start);
        self.skip_space();
        let argument = if self.peek() == Some(&Token::Close) {
            self.at += 1;
            None
        } else {
            Some(self.pipe("template clause", &Token::Close)?)
        };
        Ok(Node::Template {
            name,
            argument,
            place,
        })
    }

    /// A pipeline up to and with its end.
    fn pipe(&mut self, context: &str, end: &Token) -> Parsed<Pipe> {
        self.enter()?;
        self.skip_space();
        let (variables, assigns) = self.variables(context)?;
        let mut commands = Vec::new();
        loop {
            self.skip_space();
            if self.peek() == Some(end) {
                self.at += 1;
                if commands.is_empty() {
                    return Err(self.fail(format!("missing value for {context}")));
                }
                break;
            }
            commands.push(self.command(context, end)?);
            self.skip_space();
            if self.peek() == Some(&Token::Pipe) {
                self.at += 1;
                self.skip_space();
                if self.peek() == Some(end) {
                    return Err(self.fail(format!("missing value for {context}")));
                }
            }
        }
        self.depth -= 1;
        // Known from here on, not within its own value.
        if !assigns {
            self.scopes.extend(variables.iter().cloned());
        }
        Ok(Pipe {
            variables,
            assigns,
            commands,
        })
    }

    /// `$a, $b :=`, if it is there.
    fn variables(&mut self, context: &str) -> Parsed<(Vec<String>, bool)> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Token::Variable(name)) = self.peek().cloned() {
            self.at += 1;
            names.push(name);
            self.skip_space();
            match self.peek() {
                Some(Token::Declare) => {
                    self.at += 1;
                    return Ok((names, false));
                }
                Some(Token::Assign) => {
                    self.at += 1;
                    return Ok((names, true));
                }
                Some(Token::Comma) if context == "range" && names.len() < 2 => {
                    self.at += 1;
                    self.skip_space();
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self, context: &str, end: &Token) -> Parsed<Command> {
        let start = self.offset();
        let mut arguments = Vec::new();
        loop {
            arguments.push(self.operand(context)?);
            match self.peek() {
                Some(Token::Space) => {
                    let stop = self.at;
                    self.skip_space();
                    let ended = self.peek() == Some(end) || self.peek() == Some(&Token::Pipe);
                    if ended {
                        self.at = stop;
                        break;
                    }
                }
                Some(Token::Pipe) => break,
                Some(token) if token == end => break,
                Some(_) => return Err(self.unexpected("operand")),
                None => return Err(self.fail("unclosed action")),
            }
        }
        Ok(Command {
            place: self.place(start),
            arguments,
        })
    }

    fn operand(&mut self, context: &str) -> Parsed<Operand> {
        let start = self.offset();
        let mut fields = Vec::new();
        let kind = match self.next() {
            Some(Token::Dot) => OperandKind::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                OperandKind::Dot
            }
            Some(Token::Variable(name)) => {
                if !self.scopes.contains(&name) {
                    return Err(self.fail(format!("undefined variable \"${name}\"")));
                }
                OperandKind::Variable(name)
            }
            Some(Token::Int(value)) => OperandKind::Int(value),
            Some(Token::Float(value)) => OperandKind::Float(value),
            Some(Token::Str(text)) => OperandKind::Str(text),
            Some(Token::Word(word)) => match word.as_str() {
                "nil" => OperandKind::Nil,
                "true" => OperandKind::Bool(true),
                "false" => OperandKind::Bool(false),
                name if builtins::exists(name) => OperandKind::Function(word),
                name => {
                    self.at -= 1;
                    return Err(self.fail(format!("function \"{name}\" not defined")));
                }
            },
            Some(Token::ParenOpen) => OperandKind::Pipe(Box::new(
                self.pipe("parenthesized pipeline", &Token::ParenClose)?,
            )),
            None => return Err(self.fail("unclosed action")),
            Some(_) => {
                self.at -= 1;
                return Err(self.unexpected(context));
            }
        };
        while let Some(Token::Field(name)) = self.peek().cloned() {
            self.at += 1;
            fields.push(name);
        }
        Ok(Operand {
            kind,
            place: self.place(start),
            fields,
        })
    }
}

fn shown_token(text: &str) -> String {
    match text {
        "}}" => "\"}}\"".to_owned(),
        other => format!("<{other}>"),
    }
}
