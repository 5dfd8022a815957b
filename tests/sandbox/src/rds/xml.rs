//! Writes the XML of the Query protocol: elements in order, text escaped.
use std::fmt;

use quick_xml::escape::escape;

/// The namespace of API version 2014-10-31.
pub const NAMESPACE: &str = "http://rds.amazonaws.com/doc/2014-10-31/";

/// The inside of an element.
#[derive(Debug, Default, Clone)]
pub struct Body(String);

impl Body {
    /// `<name>value</name>`.
    pub fn text(mut self, name: &str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        self.0.push_str(&format!("<{name}>{}</{name}>", escape(value.as_str())));
        self
    }
    /// The same, left out when there is no value.
    pub fn maybe(self, name: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }
    /// An element with elements inside.
    pub fn nested(mut self, name: &str, inside: Body) -> Self {
        self.0.push_str(&format!("<{name}>{}</{name}>", inside.0));
        self
    }
    /// A list: one `member` element an item.
    pub fn list(self, name: &str, member: &str, items: impl IntoIterator<Item = Body>) -> Self {
        let inside = items.into_iter().fold(Body::default(), |inside, item| inside.nested(member, item));
        self.nested(name, inside)
    }
    /// A list of plain values.
    pub fn values<V: fmt::Display>(self, name: &str, member: &str, items: impl IntoIterator<Item = V>) -> Self {
        let inside = items.into_iter().fold(Body::default(), |inside, item| inside.text(member, item));
        self.nested(name, inside)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_absent_values_leave_no_element() {
        let body = Body::default().text("A", "<&>").maybe("B", None::<&str>).values("C", "member", ["x", "y"]);
        assert_eq!(body.to_string(), "<A>&lt;&amp;&gt;</A><C><member>x</member><member>y</member></C>");
    }
}
