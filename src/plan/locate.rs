//! Where every key and value of a YAML file stands, so that a check made on values can point at a line.
use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// A line and a column, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Located {
    /// Where it begins.
    pub spot: Spot,
    node: Node,
}

#[derive(Clone, Debug)]
enum Node {
    Leaf,
    List(Vec<Located>),
    Map(Vec<(String, Spot, Located)>),
}

/// A step on the way to a value: a key or a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// In a map.
    Name(String),
    /// In a list.
    At(usize),
}

impl From<&str> for Key {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<usize> for Key {
    fn from(at: usize) -> Self {
        Self::At(at)
    }
}

/// Reads positions; the same parser as for the values, so that both see the same file.
pub fn locate(text: &str) -> Result<Located, serde_saphyr::Error> {
    serde_saphyr::from_str::<Spanned<Node>>(text).map(located)
}

fn spot<T>(spanned: &Spanned<T>) -> Spot {
    let number = |n: u64| usize::try_from(n).unwrap_or_default();
    Spot { line: number(spanned.referenced.line()), column: number(spanned.referenced.column()) }
}

fn located(spanned: Spanned<Node>) -> Located {
    Located { spot: spot(&spanned), node: spanned.value }
}

impl Located {
    /// Where the value at the end of the path begins; if there is none, where the nearest one above it does.
    pub fn value(&self, path: &[Key]) -> Spot {
        self.find(path).0
    }
    /// Where the key at the end of the path stands; for a position, its value.
    pub fn key(&self, path: &[Key]) -> Spot {
        self.find(path).1
    }
    /// Where every value at and below the end of the path begins.
    pub fn within(&self, path: &[Key]) -> Vec<Spot> {
        let mut at = self;
        for step in path {
            let next = match (&at.node, step) {
                (Node::Map(entries), Key::Name(name)) => entries.iter().find(|(key, ..)| key == name).map(|(.., value)| value),
                (Node::List(items), Key::At(position)) => items.get(*position),
                _ => None,
            };
            let Some(next) = next else { return Vec::new() };
            at = next;
        }
        let (mut spots, mut todo) = (Vec::new(), vec![at]);
        while let Some(value) = todo.pop() {
            spots.push(value.spot);
            match &value.node {
                Node::Leaf => {}
                Node::List(items) => todo.extend(items),
                Node::Map(entries) => todo.extend(entries.iter().map(|(.., value)| value)),
            }
        }
        spots
    }
    fn find(&self, path: &[Key]) -> (Spot, Spot) {
        let mut at = self;
        let mut key = self.spot;
        for step in path {
            let next = match (&at.node, step) {
                (Node::Map(entries), Key::Name(name)) => {
                    entries.iter().find(|(key, ..)| key == name).map(|(_, spot, value)| (*spot, value))
                }
                (Node::List(items), Key::At(position)) => items.get(*position).map(|value| (value.spot, value)),
                _ => None,
            };
            let Some((spot, value)) = next else { break };
            (key, at) = (spot, value);
        }
        (at.spot, key)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Node>>()? {
            list.push(located(item));
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let at = spot(&key);
            map.push((key.value, at, located(entries.next_value::<Spanned<Node>>()?)));
        }
        Ok(Node::Map(map))
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn knows_where_keys_and_values_stand() {
        let file = locate("version: 1\nsteps:\n  - id: network\n    needs: [a, b]\n    with: { cidr: \"x\" }\n").unwrap();
        let needs = ["steps".into(), 0.into(), "needs".into(), Key::At(1)];
        assert_eq!(file.value(&needs), Spot { line: 4, column: 16 });
        let with = ["steps".into(), 0.into(), "with".into(), "cidr".into()];
        assert_eq!((file.key(&with), file.value(&with)), (Spot { line: 5, column: 13 }, Spot { line: 5, column: 19 }));
        let nowhere = ["steps".into(), 0.into(), "outputs".into()];
        assert_eq!(file.value(&nowhere), Spot { line: 3, column: 5 });
    }
}
