//! An XML answer as a tree: what is asked of EC2 differs from row to row of the adoption table, so no type fits it.
use std::collections::BTreeMap;

use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};

/// An element with its text and what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// Reads a document; gives its root.
    pub(super) fn parse(text: &str) -> Result<Self, quick_xml::Error> {
        let mut reader = Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event()? {
                Event::Start(start) => open.push(Self { name: start.local_name().as_ref().to_owned(), ..Self::default() }),
                Event::Empty(start) => close(&mut open, Self { name: start.local_name().as_ref().to_owned(), ..Self::default() }),
                Event::End(_) => {
                    if let Some(done) = open.pop() {
                        close(&mut open, done);
                    }
                }
                Event::Text(words) => add(&mut open, &words.xml10_content()),
                Event::CData(words) => add(&mut open, &words.xml10_content()),
                Event::GeneralRef(entity) => match entity.resolve_char_ref()? {
                    Some(letter) => add(&mut open, letter.encode_utf8(&mut [0; 4])),
                    None => add(&mut open, resolve_predefined_entity(&entity).unwrap_or_default()),
                },
                Event::Eof => return Ok(open.pop().and_then(|mut document| document.children.pop()).unwrap_or_default()),
                _ => {}
            }
        }
    }

    /// Every element at a path below this one, as in `vpcSet/item`.
    pub fn all(&self, path: &str) -> Vec<&Self> {
        path.split('/').fold(vec![self], |found, name| {
            found.into_iter().flat_map(|element| element.children.iter().filter(move |child| child.name == name)).collect()
        })
    }

    /// The text of the first element at a path.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.all(path).first().map(|element| element.text.trim())
    }

    /// The tags of an object of EC2.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let word = |tag: &Self, name| tag.text(name).unwrap_or_default().to_owned();
        self.all("tagSet/item").into_iter().map(|tag| (word(tag, "key"), word(tag, "value"))).collect()
    }
}

fn close(open: &mut [Element], done: Element) {
    if let Some(parent) = open.last_mut() {
        parent.children.push(done);
    }
}

fn add(open: &mut [Element], words: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(words);
    }
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn a_tree_is_walked_by_path() {
        let text = "<?xml version=\"1.0\"?><R xmlns=\"x\"><set><item><id>a</id><tagSet><item><key>k</key><value>1 &amp; &#50;</value></item>\
                    <item><key>e</key><value/></item></tagSet></item><item><id> b </id></item></set><none/></R>";
        let root = Element::parse(text).unwrap();
        let items = root.all("set/item");
        assert_eq!(items.iter().map(|item| item.text("id").unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        let tags: Vec<(String, String)> = items[0].tags().into_iter().collect();
        assert_eq!(tags, [("e".to_owned(), String::new()), ("k".to_owned(), "1 & 2".to_owned())]);
        assert_eq!((root.text("none"), root.text("set/other"), items[1].tags().len()), (Some(""), None, 0));
        assert!(Element::parse("<a><b></a>").is_err());
    }
}
