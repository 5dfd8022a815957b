//! What a sandbox cannot show a role doing, and why the role may do it all the same.

/// Some actions with one reason.
pub struct Unseen {
    /// `deployer`, `planner`, `on-call`.
    pub policies: &'static [&'static str],
    /// Each after the statement that has it.
    pub actions: &'static [&'static str],
    /// Why it is needed on AWS, why it is not seen here, and AWS' page that says so.
    pub why: &'static str,
}

pub const UNSEEN: &[Unseen] = &[];
