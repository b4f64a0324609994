//! A parsed template.

use std::collections::BTreeMap;

/// A parsed template and the templates that it defines.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) body: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    If(Branch),
    With(Branch),
    Range(Branch),
    Template {
        name: String,
        argument: Option<Pipe>,
        place: Place,
    },
    Break,
    Continue,
}

/// A pipeline and what is done if it holds, or not.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) then: Vec<Node>,
    pub(super) or_else: Vec<Node>,
}

/// `$a, $b := command | command`
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) variables: Vec<String>,
    /// `=` instead of `:=`
    pub(super) assigns: bool,
    pub(super) commands: Vec<Command>,
}

/// A function or a value, and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) arguments: Vec<Operand>,
    pub(super) place: Place,
}

/// Where a piece of the template stands, and its text: for errors.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) kind: OperandKind,
    pub(super) place: Place,
    /// `.A.B` after it.
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum OperandKind {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Variable(String),
    Function(String),
    Pipe(Box<Pipe>),
}
