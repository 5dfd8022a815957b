//! How much is lost: exactly, where the source was asked before and what came back was looked into; else no more than this.
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{answer::span, source::Source};
use crate::{
    database::watermark::{self, Lost},
    steps::verification::Verified,
};

/// What is lost, or may be.
#[derive(Clone, Debug, Serialize)]
pub struct Rpo {
    /// `at-most` in a restore: the lost region cannot be asked for its last commit. `exact` in a drill whose source was asked before.
    pub bound: Bound,
    /// Of an upper bound: from the recovery point to the restore's beginning. Of what is exact: from there to the newest row that is lost. Both
    /// rounded up.
    pub seconds: i64,
    /// What an exact one was found by.
    pub measured: Option<Measured>,
    /// Why a drill's is not exact.
    pub not_exact: Option<String>,
}

/// How much a number of seconds says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// It may be less.
    AtMost,
    /// It is this.
    Exact,
}

/// The newest rows before and after, each by the time of its commit.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Without rounding.
    pub seconds: f64,
    /// When the source was read.
    pub source_read: Timestamp,
    /// Its newest row then.
    pub source_newest: Option<Timestamp>,
    /// The newest row that came back.
    pub restored_newest: Option<Timestamp>,
    /// The newest row that did not; none if all came back.
    pub lost_newest: Option<Timestamp>,
    /// The table that it was in.
    pub lost_from: Option<String>,
}

/// In seconds, so that no limit of one is kept by one and a half.
fn rounded_up(lost: SignedDuration) -> i64 {
    lost.as_secs() + i64::from(lost.subsec_nanos() > 0)
}

impl Rpo {
    /// Out of what is known of both.
    pub(super) fn of(begun: Timestamp, holds_until: Timestamp, source: Option<Source>, verified: Option<&Verified>) -> Self {
        let until = rounded_up(begun.duration_since(holds_until)).max(0);
        let at_most = |not_exact| Self { bound: Bound::AtMost, seconds: until, measured: None, not_exact };
        let source = match source {
            None => return at_most(None),
            Some(Source::Unread(why)) => return at_most(Some(format!("the source was not read: {why}"))),
            Some(Source::Read(source)) => source,
        };
        let Some(restored) = verified.and_then(|verified| verified.watermark.as_ref()) else {
            return at_most(Some("nobody has looked for the newest row that came back".to_owned()));
        };
        let Lost { newest, micros } = match watermark::lost(&source, restored, holds_until) {
            Ok(lost) => lost,
            Err(why) => return at_most(Some(why)),
        };
        let lost = SignedDuration::from_micros(micros);
        let measured = Measured {
            seconds: lost.as_secs_f64(),
            source_read: source.read_at,
            source_newest: source.newest().map(|(at, _)| at),
            restored_newest: restored.newest().map(|(at, _)| at),
            lost_newest: newest.as_ref().map(|(at, _)| *at),
            lost_from: newest.map(|(_, table)| table),
        };
        Self { bound: Bound::Exact, seconds: rounded_up(lost), measured: Some(measured), not_exact: None }
    }

    /// For people.
    pub fn told(&self, begun: Timestamp) -> String {
        let Some(Measured { source_read, lost_newest, lost_from, seconds, .. }) = &self.measured else {
            let why = self.not_exact.as_ref().map(|why| format!("; not exact, for {why}")).unwrap_or_default();
            return format!("at most {}, an upper bound: from then to the beginning at {begun}{why}", span(self.seconds));
        };
        match (lost_newest, lost_from) {
            (Some(at), Some(table)) => format!(
                "exactly {seconds:.3} s: the newest row that is lost was committed at {at}, in {table} (the source was read at {source_read})"
            ),
            _ => format!("exactly 0 s: every row that the source had at {source_read} came back, unless it was deleted before the point"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::database::{audit::Depth, watermark::Watermark};

    #[test]
    fn only_what_was_read_on_both_sides_is_exact() {
        let time = |second: u32| -> Timestamp { format!("2026-11-29T03:00:{second:02}Z").parse().unwrap() };
        let mark = |second| Watermark {
            read_at: time(9),
            tables: std::collections::BTreeMap::from([("public.a".to_owned(), Some(time(second)))]),
            unknown: std::collections::BTreeMap::new(),
        };
        let verified = |mark| Verified { watermark: Some(mark), ..Verified::nothing(Depth::Full, "") };
        let rpo = |source, verified: Option<&Verified>| Rpo::of(time(10), time(4), source, verified);
        let restore = rpo(None, Some(&verified(mark(4))));
        assert_eq!((restore.bound, restore.seconds, restore.not_exact), (Bound::AtMost, 6, None), "a lost source was not read");
        let bound = |begun: &str| Rpo::of(begun.parse().unwrap(), time(4), None, None).seconds;
        assert_eq!(["2026-11-29T03:00:04.1Z", "2026-11-29T03:00:05.5Z", "2026-11-29T03:00:03Z"].map(bound), [1, 2, 0]);
        let exact = rpo(Some(Source::Read(mark(8))), Some(&verified(mark(3))));
        assert_eq!((exact.bound, exact.seconds), (Bound::Exact, 4));
        assert!(
            exact
                .told(time(10))
                .starts_with("exactly 4.000 s: the newest row that is lost was committed at 2026-11-29T03:00:08Z, in public.a")
        );
        let whole = rpo(Some(Source::Read(mark(3))), Some(&verified(mark(3))));
        assert!(whole.seconds == 0 && whole.told(time(10)).starts_with("exactly 0 s"), "{whole:?}");
        for unknown in [rpo(Some(Source::Read(mark(8))), None), rpo(Some(Source::Unread("denied".into())), Some(&verified(mark(8))))] {
            assert_eq!((unknown.bound, unknown.seconds), (Bound::AtMost, 6));
            assert!(
                unknown.told(time(10)).contains("an upper bound") && unknown.told(time(10)).contains("; not exact, for "),
                "{unknown:?}"
            );
        }
    }
}
