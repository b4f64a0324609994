//! Applying against a naive model: the whole tree as a map from paths, and every rule in its plainest words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::listing::summary;
use super::support::{TempStore, chain, image, layer};
use crate::{FileName, Ino};

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Dir,
    File(String),
    Link(String),
}

/// A path is its components; the root has none.
type At = Vec<String>;

/// The tree: where each path leads, and what is there. Hard links lead to one number.
#[derive(Clone, Debug)]
struct Model {
    paths: BTreeMap<At, usize>,
    nodes: Vec<Node>,
}

/// One line of a layer, as `support::layer` reads it.
#[derive(Clone, Debug)]
struct Line {
    kind: char,
    at: At,
    rest: String,
}

impl Line {
    fn text(&self) -> String {
        format!("{} {} {}", self.kind, self.at.join("/"), self.rest)
    }
}

impl Model {
    fn new() -> Model {
        Model {
            paths: [(Vec::new(), 0)].into(),
            nodes: vec![Node::Dir],
        }
    }

    fn node(&self, at: &At) -> Option<&Node> {
        self.paths.get(at).map(|n| &self.nodes[*n])
    }

    fn is_dir(&self, at: &At) -> bool {
        matches!(self.node(at), Some(Node::Dir))
    }

    fn remove_below(&mut self, at: &At) {
        self.paths
            .retain(|path, _| !(path.len() > at.len() && path.starts_with(at)));
    }

    fn remove(&mut self, at: &At) {
        self.remove_below(at);
        self.paths.remove(at);
    }

    fn put(&mut self, at: At, node: Node) {
        self.nodes.push(node);
        self.paths.insert(at, self.nodes.len() - 1);
    }

    /// Where a directory path leads. `make`: missing ones and files on the way become directories; else none.
    fn resolve(&mut self, path: &[String], make: bool, dirs: &BTreeSet<At>) -> Option<At> {
        let mut way: At = Vec::new();
        let mut todo: Vec<(String, Option<usize>)> = path
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, part)| (part, Some(i)))
            .rev()
            .collect();
        let mut hops = 0;
        while let Some((part, own)) = todo.pop() {
            if part == ".." {
                way.pop();
                continue;
            }
            let mut next = way.clone();
            next.push(part);
            match self.node(&next).cloned() {
                Some(Node::Dir) => way = next,
                Some(Node::Link(target)) => {
                    if own.is_some_and(|i| dirs.contains(&path[..=i])) {
                        return None;
                    }
                    hops += 1;
                    if hops > 40 {
                        return None;
                    }
                    if target.starts_with('/') {
                        way.clear();
                    }
                    todo.extend(
                        target
                            .split('/')
                            .rev()
                            .filter(|p| !p.is_empty())
                            .map(|p| (p.to_owned(), None)),
                    );
                }
                _ if !make => return None,
                _ => {
                    self.remove(&next);
                    self.put(next.clone(), Node::Dir);
                    way = next;
                }
            }
        }
        Some(way)
    }

    fn marks(&mut self, lines: &[Line]) {
        let dirs: BTreeSet<At> = lines
            .iter()
            .filter(|l| l.kind == 'd')
            .map(|l| l.at.clone())
            .collect();
        for line in lines {
            match line.kind {
                'o' => {
                    if let Some(dir) = self.resolve(&line.at, false, &dirs) {
                        self.remove_below(&dir);
                    }
                }
                'w' => {
                    let (name, parent) = line.at.split_last().unwrap();
                    if let Some(mut at) = self.resolve(parent, false, &dirs) {
                        at.push(name.clone());
                        self.remove(&at);
                    }
                }
                _ => {}
            }
        }
    }

    /// Replays a line; `false` if a layer with it would be refused (then it is left out of the layer).
    fn replay(&mut self, line: &Line) -> bool {
        let none = BTreeSet::new();
        let Some((name, parent)) = line.at.split_last() else {
            return line.kind == 'd';
        };
        let before = self.clone();
        let mut target = None;
        if line.kind == 'h' {
            let path: At = line.rest.split('/').map(str::to_owned).collect();
            let (target_name, target_parent) = path.split_last().unwrap();
            let Some(mut at) = self.resolve(target_parent, false, &none) else {
                return false;
            };
            at.push(target_name.clone());
            match self.paths.get(&at).copied() {
                Some(node) if self.nodes[node] != Node::Dir => target = Some((at, node)),
                _ => return false,
            }
        }
        let Some(mut at) = self.resolve(parent, true, &none) else {
            *self = before;
            return false;
        };
        at.push(name.clone());
        match line.kind {
            'd' if self.is_dir(&at) => {}
            'd' => {
                self.remove(&at);
                self.put(at, Node::Dir);
            }
            'h' => {
                let (from, node) = target.unwrap();
                if self.paths.get(&at) == Some(&node) {
                    return true;
                }
                self.remove(&at);
                if self.paths.get(&from) != Some(&node) {
                    *self = before;
                    return false;
                }
                self.paths.insert(at, node);
            }
            kind => {
                let new = if kind == 'f' {
                    Node::File(line.rest.clone())
                } else {
                    Node::Link(line.rest.clone())
                };
                let there = self.paths.get(&at).copied();
                let alone = there.filter(|n| self.paths.values().filter(|m| *m == n).count() == 1);
                match alone {
                    // A place keeps its number while it keeps its kind and has no other name.
                    Some(n)
                        if std::mem::discriminant(&self.nodes[n])
                            == std::mem::discriminant(&new) =>
                    {
                        self.nodes[n] = new;
                    }
                    _ => {
                        self.remove(&at);
                        self.put(at, new);
                    }
                }
            }
        }
        true
    }

    /// Applies a layer, without the lines that would have it refused; returns the others.
    fn layer(&mut self, mut lines: Vec<Line>) -> Vec<String> {
        loop {
            let mut after = self.clone();
            after.marks(&lines);
            let refused = lines
                .iter()
                .position(|line| !matches!(line.kind, 'w' | 'o') && !after.replay(line));
            match refused {
                Some(index) => drop(lines.remove(index)),
                None => {
                    *self = after;
                    return lines.iter().map(Line::text).collect();
                }
            }
        }
    }

    fn summary(&self) -> Vec<String> {
        let mut groups: HashMap<usize, Vec<String>> = HashMap::new();
        for (path, node) in &self.paths {
            groups.entry(*node).or_default().push(path.join("/"));
        }
        let mut out = Vec::new();
        for (path, node) in &self.paths {
            let shown = if path.is_empty() {
                ".".to_owned()
            } else {
                path.join("/")
            };
            let group = &groups[node];
            out.push(match &self.nodes[*node] {
                Node::Dir => format!("d {shown}"),
                Node::Link(target) => format!("l {shown} {target}"),
                Node::File(text) if group.len() == 1 => format!("f {shown} {text}"),
                Node::File(text) => format!("f {shown} {text} = {}", group.iter().min().unwrap()),
            });
        }
        out
    }
}

fn at() -> impl Strategy<Value = At> {
    proptest::collection::vec(prop_oneof!["a", "b", "c"], 1..4)
}

fn line() -> impl Strategy<Value = Line> {
    let target = proptest::sample::select(vec!["a", "/b", "../c", "b/a", "/", "..", "gone"]);
    prop_oneof![
        4 => (at(), "[x-z]{0,3}").prop_map(|(at, rest)| Line { kind: 'f', at, rest }),
        4 => at().prop_map(|at| Line { kind: 'd', at, rest: String::new() }),
        2 => (at(), target).prop_map(|(at, rest)| Line { kind: 'l', at, rest: rest.to_owned() }),
        4 => (at(), at()).prop_map(|(at, to)| Line { kind: 'h', at, rest: to.join("/") }),
        2 => at().prop_map(|at| Line { kind: 'w', at, rest: String::new() }),
        1 => at().prop_map(|at| Line { kind: 'o', at, rest: String::new() }),
    ]
}

/// Which inode each path of the model leads to.
fn inodes(model: &Model, tree: &crate::Tree) -> HashMap<usize, Ino> {
    let mut inodes = HashMap::new();
    for (path, node) in &model.paths {
        let mut ino = Ino::ROOT;
        for part in path {
            let dir = tree.dir(ino).unwrap().unwrap();
            ino = dir
                .find(&FileName::new(part.as_bytes()).unwrap())
                .unwrap()
                .1
                .ino;
        }
        let known = inodes.insert(*node, ino);
        assert!(
            known.is_none_or(|known| known == ino),
            "one file, two inodes: {path:?}"
        );
    }
    inodes
}

#[test]
fn applied_layers_equal_the_model() {
    let store = TempStore::new();
    let layers = proptest::collection::vec(proptest::collection::vec(line(), 0..14), 1..5);
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(150)
    });
    let result = runner.run(&layers, |layers| {
        let (mut model, mut tars) = (Model::new(), Vec::new());
        let mut before: HashMap<usize, Ino> = HashMap::new();
        for lines in layers {
            let text = model.layer(lines);
            tars.push(layer(&text.iter().map(String::as_str).collect::<Vec<_>>()));
            image(&store, &tars, "model:1")
                .map_err(|e| TestCaseError::fail(format!("{e}: {text:#?}")))?;
            let tree = store.tree(chain(&tars).as_ref()).unwrap();
            prop_assert_eq!(summary(&store, &tree), model.summary(), "{:#?}", text);
            let now = inodes(&model, &tree);
            for (node, ino) in &before {
                prop_assert!(
                    now.get(node).is_none_or(|i| i == ino),
                    "a place was renumbered: {:#?}",
                    text
                );
            }
            before = now;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert_eq!(store.check().unwrap().faults, Vec::<String>::new());
}
