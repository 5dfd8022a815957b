//! Reads the Query protocol: flat form fields, lists as `Name.Member.1`, filters, pages.
use std::{collections::BTreeMap, str::FromStr};

use super::{fault::Fault, model::Tags, xml::Body};

/// One request's fields.
#[derive(Debug, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Parses an urlencoded body or query.
    pub fn parse(form: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(form).into_owned().collect())
    }
    /// A field that was given and is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
    /// A field that must be given.
    pub fn need(&self, name: &str) -> Result<&str, Fault> {
        self.get(name).ok_or_else(|| Fault::missing(name))
    }
    /// A field of another type.
    pub fn value<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| Fault::invalid_value(format!("Invalid value for {name}: {text}"))),
        }
    }
    /// A yes-or-no field; absent is no.
    pub fn flag(&self, name: &str) -> Result<bool, Fault> {
        Ok(self.value(name)?.unwrap_or_default())
    }
    /// A list, whatever its members are called (`Name.member.1`, `Name.Tag.1`); `None` when not given at all.
    pub fn list(&self, name: &str) -> Option<Vec<String>> {
        let mut members: Vec<(usize, &String)> = Vec::new();
        let prefix = format!("{name}.");
        for (key, value) in self.under(&prefix) {
            let index = key.rsplit('.').next().and_then(|last| last.parse().ok());
            members.extend(index.map(|index| (index, value)));
        }
        if members.is_empty() {
            // An SDK says "an empty list" by the bare name with no value.
            return self.0.contains_key(name).then(Vec::new);
        }
        members.sort();
        Some(members.into_iter().map(|(_, value)| value.clone()).collect())
    }
    fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a String)> {
        self.0.iter().filter_map(move |(key, value)| key.strip_prefix(prefix).map(|rest| (rest, value)))
    }
    /// A list of structures: `Name.Member.1.Field`.
    pub fn structures(&self, name: &str) -> Vec<BTreeMap<String, String>> {
        let mut found: BTreeMap<usize, BTreeMap<String, String>> = BTreeMap::new();
        let prefix = format!("{name}.");
        for (key, value) in self.under(&prefix) {
            let mut parts = key.splitn(3, '.');
            let (_, index, field) = (parts.next(), parts.next(), parts.next());
            if let (Some(Ok(index)), Some(field)) = (index.map(str::parse), field) {
                found.entry(index).or_default().insert(field.to_owned(), value.clone());
            }
        }
        found.into_values().collect()
    }
    /// `Tags.Tag.N.{Key,Value}`.
    pub fn tags(&self) -> Tags {
        let pairs = self.structures("Tags").into_iter();
        pairs.filter_map(|mut tag| Some((tag.remove("Key")?, tag.remove("Value").unwrap_or_default()))).collect()
    }
    /// `Filters.Filter.N.{Name,Values.Value.M}`: name to the accepted values.
    pub fn filters(&self) -> BTreeMap<String, Vec<String>> {
        let mut filters = BTreeMap::new();
        for filter in self.structures("Filters") {
            let values = filter.iter().filter(|(field, _)| field.starts_with("Values.")).map(|(_, value)| value.clone()).collect();
            filters.extend(filter.get("Name").map(|name| (name.clone(), values)));
        }
        filters
    }
    /// One page of a sorted list, and the marker of the next.
    pub fn page<T>(&self, items: Vec<T>) -> Result<(Vec<T>, Option<String>), Fault> {
        let size: usize = self.value("MaxRecords")?.unwrap_or(100);
        if !(20..=100).contains(&size) {
            return Err(Fault::invalid_value(format!("Invalid value {size} for MaxRecords. Must be between 20 and 100")));
        }
        let start: usize = self.value("Marker")?.unwrap_or_default();
        let next = (start.saturating_add(size) < items.len()).then(|| (start + size).to_string());
        Ok((items.into_iter().skip(start).take(size).collect(), next))
    }
    /// A paged list as an answer.
    pub fn paged<T>(&self, name: &str, member: &str, items: Vec<T>, draw: impl Fn(&T) -> Body) -> Result<Body, Fault> {
        let (page, marker) = self.page(items)?;
        Ok(Body::default().maybe("Marker", marker).list(name, member, page.iter().map(draw)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_structures_and_filters_are_read_in_order() {
        let params = Params::parse(
            b"Ids.Id.2=b&Ids.Id.1=a&Ids.Id.10=c&Tags.Tag.1.Key=k&Tags.Tag.1.Value=v&Empty=&\
              Filters.Filter.1.Name=dbi-resource-id&Filters.Filter.1.Values.Value.1=x",
        );
        assert_eq!(params.list("Ids").unwrap(), ["a", "b", "c"]);
        assert_eq!(params.list("Empty").unwrap(), Vec::<String>::new());
        assert_eq!(params.list("Absent"), None);
        assert_eq!(params.tags().get("k").unwrap(), "v");
        assert_eq!(params.filters()["dbi-resource-id"], ["x"]);
    }

    #[test]
    fn pages_end() {
        let params = Params::parse(b"MaxRecords=20&Marker=20");
        let (page, marker) = params.page((0..45).collect()).unwrap();
        assert_eq!((page.len(), page[0], marker.as_deref()), (20, 20, Some("40")));
        assert_eq!(Params::parse(b"Marker=40").page((0..45).collect()).unwrap().1, None);
        assert!(Params::parse(b"MaxRecords=5").page(vec![0]).is_err());
    }
}
