//! Runs a parsed template over a value.

use super::builtins;
use super::tree::{Branch, Command, Node, Operand, OperandKind, Pipe, Place, Tree};
use super::{Functions, MissingKey, TemplateError, Value};

/// How deep templates may call each other; a template that calls itself must
/// end.
const CALL_DEPTH_MAX: usize = 100;

/// How far a template may count: nobody prints more lines.
const RANGE_MAX: i64 = 1 << 20;

/// Why a list of nodes ended early.
enum Flow {
    Next,
    Break,
    Continue,
}

type Done<T> = Result<T, TemplateError>;

/// Runs the template.
pub(super) fn run(
    tree: &Tree,
    data: &Value,
    missing: MissingKey,
    functions: Functions,
    out: &mut String,
) -> Done<()> {
    let mut run = Run {
        tree,
        missing,
        functions,
        variables: vec![(String::new(), data.clone())],
        depth: 0,
        out,
    };
    run.nodes(&tree.body, data).map(|_| ())
}

struct Run<'a> {
    tree: &'a Tree,
    missing: MissingKey,
    functions: Functions,
    /// Innermost last; the first is `$`.
    variables: Vec<(String, Value)>,
    depth: usize,
    out: &'a mut String,
}

fn fail(place: &Place, message: impl std::fmt::Display) -> TemplateError {
    TemplateError::exec(place.line, place.column, &place.text, message)
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Done<Flow> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Done<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    value.print(self.out);
                }
            }
            Node::If(branch) => return self.branch(branch, dot, false),
            Node::With(branch) => return self.branch(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template {
                name,
                argument,
                place,
            } => self.call(name, argument.as_ref(), place, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn branch(&mut self, branch: &Branch, dot: &Value, moves_dot: bool) -> Done<Flow> {
        let known = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if value.is_true() {
            let inner = if moves_dot { &value } else { dot };
            self.nodes(&branch.then, inner)
        } else {
            self.nodes(&branch.or_else, dot)
        };
        self.variables.truncate(known);
        flow
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Done<Flow> {
        let known = self.variables.len();
        let value = self.pipe_value(&branch.pipe, dot)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(items) => (0..).map(Value::Int).zip(items.iter().cloned()).collect(),
            Value::Map(fields) => Value::sorted(fields)
                .into_iter()
                .map(|(key, value)| (Value::from(key.as_str()), value.clone()))
                .collect(),
            Value::Int(count) if *count <= RANGE_MAX => (0..*count)
                .map(|n| (Value::Int(n), Value::Int(n)))
                .collect(),
            other => {
                let place = first_place(&branch.pipe);
                let mut shown = String::new();
                other.print(&mut shown);
                return Err(fail(&place, format!("range can't iterate over {shown}")));
            }
        };
        if items.is_empty() {
            let flow = self.nodes(&branch.or_else, dot);
            self.variables.truncate(known);
            return flow;
        }
        for (key, item) in items {
            match branch.pipe.variables.as_slice() {
                [name] => self.set(name, item.clone(), branch.pipe.assigns),
                [first, second] => {
                    self.set(first, key, branch.pipe.assigns);
                    self.set(second, item.clone(), branch.pipe.assigns);
                }
                _ => {}
            }
            let flow = self.nodes(&branch.then, &item)?;
            self.variables.truncate(known);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn call(
        &mut self,
        name: &str,
        argument: Option<&Pipe>,
        place: &Place,
        dot: &Value,
    ) -> Done<()> {
        let data = match argument {
            Some(pipe) => self.pipe(pipe, dot)?,
            None => Value::Nil,
        };
        let Some(body) = self.tree.defined.get(name) else {
            return Err(fail(place, format!("template {name:?} not defined")));
        };
        if self.depth >= CALL_DEPTH_MAX {
            return Err(fail(place, "exceeded maximum template depth"));
        }
        self.depth += 1;
        let outer = std::mem::replace(&mut self.variables, vec![(String::new(), data.clone())]);
        let result = self.nodes(body, &data);
        self.variables = outer;
        self.depth -= 1;
        result.map(|_| ())
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns && let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            slot.1 = value;
        } else {
            self.variables.push((name.to_owned(), value));
        }
    }

    /// The value of a pipeline; its variable is set.
    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Done<Value> {
        let value = self.pipe_value(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.assigns);
        }
        Ok(value)
    }

    fn pipe_value(&mut self, pipe: &Pipe, dot: &Value) -> Done<Value> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Done<Value> {
        let Some((first, rest)) = command.arguments.split_first() else {
            return Ok(Value::Nil);
        };
        if let OperandKind::Function(name) = &first.kind {
            let value = self.function(name, rest, command, dot, piped)?;
            return self.fields(value, &first.fields, &first.place);
        }
        let count = rest.len() + usize::from(piped.is_some());
        if count == 0 {
            return self.operand(first, dot);
        }
        let Some(name) = first.fields.last() else {
            let message = format!("can't give argument to non-function {}", first.place.text);
            return Err(fail(&first.place, message));
        };
        match self.field_of_row(first, dot)? {
            Some(Value::Method(method)) => {
                let mut arguments = self.arguments(rest, dot)?;
                arguments.extend(piped);
                method(&arguments).map_err(|message| {
                    fail(&command.place, format!("error calling {name}: {message}"))
                })
            }
            // The fields of docker's rows are methods without arguments.
            Some(_) => Err(fail(
                &first.place,
                format!("wrong number of args for {name}: want 0 got {count}"),
            )),
            None => Err(fail(
                &first.place,
                format!("{name} is not a method but has arguments"),
            )),
        }
    }

    fn arguments(&mut self, operands: &[Operand], dot: &Value) -> Done<Vec<Value>> {
        operands
            .iter()
            .map(|operand| self.operand(operand, dot))
            .collect()
    }

    fn function(
        &mut self,
        name: &str,
        operands: &[Operand],
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Done<Value> {
        if matches!(name, "and" | "or") {
            return self.first_that_decides(name, operands, command, dot, piped);
        }
        let mut arguments = self.arguments(operands, dot)?;
        arguments.extend(piped);
        builtins::call(name, &arguments, self.functions).map_err(|wrong| match wrong {
            builtins::Wrong::Count(message) => fail(&command.place, message),
            builtins::Wrong::Call(message) => {
                fail(&command.place, format!("error calling {name}: {message}"))
            }
        })
    }

    /// `and` and `or` do not look at what no longer matters.
    fn first_that_decides(
        &mut self,
        name: &str,
        operands: &[Operand],
        command: &Command,
        dot: &Value,
        piped: Option<Value>,
    ) -> Done<Value> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| {
            fail(
                &command.place,
                format!("wrong number of args for {name}: want at least 1 got 0"),
            )
        })
    }

    /// The field of a row that an operand names, if it names one.
    fn field_of_row(&mut self, operand: &Operand, dot: &Value) -> Done<Option<Value>> {
        let Some((last, before)) = operand.fields.split_last() else {
            return Ok(None);
        };
        let start = self.start(operand, dot)?;
        let owner = self.fields(start, before, &operand.place)?;
        match &owner {
            Value::Row { .. } => self.field(&owner, last, &operand.place).map(Some),
            _ => Ok(None),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Done<Value> {
        let value = self.start(operand, dot)?;
        let value = self.fields(value, &operand.fields, &operand.place)?;
        if let Value::Method(method) = &value {
            return method(&[]).map_err(|message| fail(&operand.place, message));
        }
        Ok(value)
    }

    fn start(&mut self, operand: &Operand, dot: &Value) -> Done<Value> {
        Ok(match &operand.kind {
            OperandKind::Dot => dot.clone(),
            OperandKind::Nil => Value::Nil,
            OperandKind::Bool(value) => Value::Bool(*value),
            OperandKind::Int(value) => Value::Int(*value),
            OperandKind::Float(value) => Value::Float(*value),
            OperandKind::Str(text) => Value::from(text.as_str()),
            OperandKind::Variable(name) => self
                .variables
                .iter()
                .rev()
                .find(|(known, _)| known == name)
                .map_or(Value::Nil, |(_, value)| value.clone()),
            OperandKind::Function(name) => {
                builtins::call(name, &[], self.functions).map_err(|wrong| match wrong {
                    builtins::Wrong::Count(message) | builtins::Wrong::Call(message) => {
                        fail(&operand.place, message)
                    }
                })?
            }
            OperandKind::Pipe(pipe) => self.pipe(pipe, dot)?,
        })
    }

    fn fields(&self, mut value: Value, names: &[String], place: &Place) -> Done<Value> {
        for name in names {
            value = self.field(&value, name, place)?;
        }
        Ok(value)
    }

    fn field(&self, value: &Value, name: &str, place: &Place) -> Done<Value> {
        match value {
            Value::Row { type_name, fields } => fields
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.clone())
                .ok_or_else(|| {
                    fail(
                        place,
                        format!("can't evaluate field {name} in type {type_name}"),
                    )
                }),
            Value::Map(fields) => match get(fields, name) {
                Some(value) => Ok(value.clone()),
                None if self.missing == MissingKey::Error => {
                    Err(fail(place, format!("map has no entry for key \"{name}\"")))
                }
                None => Ok(Value::Nil),
            },
            Value::Nil => Err(fail(
                place,
                format!("nil pointer evaluating interface {{}}.{name}"),
            )),
            other => Err(fail(
                place,
                format!("can't evaluate field {name} in type {}", other.type_name()),
            )),
        }
    }
}

/// A key of a map. docker runs inspect's templates over Go structs first,
/// whose fields are called `ID` where the JSON says `Id`; so a key that is not
/// there is looked for once more without regard to case.
fn get<'v>(fields: &'v [(String, Value)], name: &str) -> Option<&'v Value> {
    fields
        .iter()
        .find(|(key, _)| key == name)
        .or_else(|| {
            fields
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
        })
        .map(|(_, value)| value)
}

fn first_place(pipe: &Pipe) -> Place {
    match pipe.commands.first() {
        Some(command) => command.place.clone(),
        None => Place {
            line: 1,
            column: 0,
            text: String::new(),
        },
    }
}
