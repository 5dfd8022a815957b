//! A failure as text: step, cause chain once, evidence, what was left behind, what to type next. Pure.
use crate::{
    failure::{Failure, LeftBehind},
    plan::render::Colour,
};

/// The whole block.
pub fn render(failure: &Failure, colour: Colour) -> String {
    let mut lines = Vec::new();
    let step = failure.step.as_ref().map(|step| format!("step {step}: ")).unwrap_or_default();
    let chain = failure.chain();
    let mut causes = chain.iter();
    lines.push(format!("{} {step}{}", colour.paint("1;31", "error:"), causes.next().map(String::as_str).unwrap_or_default()));
    lines.extend(causes.map(|cause| indented("  because: ", cause)));
    for (n, evidence) in failure.evidence.iter().enumerate() {
        // Blocks of several lines are set apart; single lines are a list.
        if n == 0 || evidence.contains('\n') {
            lines.push(String::new());
        }
        lines.push(indented("  ", evidence));
    }
    if !failure.evidence.is_empty() {
        lines.push(String::new());
    }
    if failure.step.is_some() || failure.left_behind != LeftBehind::Nothing {
        match &failure.left_behind {
            LeftBehind::Nothing => lines.push("  left behind: nothing".to_owned()),
            LeftBehind::Unknown(what) => lines.push(indented("  left behind: not known: ", what)),
            LeftBehind::Partial(things) => {
                lines.push("  left behind:".to_owned());
                lines.extend(things.iter().map(|thing| indented("    ", thing)));
            }
        }
    }
    lines.extend(failure.next.iter().map(|next| indented("  next: ", next)));
    lines.join("\n") + "\n"
}

/// The text behind a mark, its further lines under its first.
fn indented(mark: &str, text: &str) -> String {
    let indent = " ".repeat(mark.len());
    text.lines().enumerate().map(|(n, line)| format!("{}{line}", if n == 0 { mark } else { &indent })).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::ids::StepId;

    #[test]
    fn says_step_cause_evidence_left_behind_and_next() {
        let cause = Failure::step("access denied").because("not authorized: ec2:CreateVpc".to_owned());
        let failure = Failure::step("terraform apply failed")
            .because(cause)
            .evidence("aws_vpc.this: creating")
            .evidence("two\nlines")
            .left(LeftBehind::Partial(vec!["create aws_eip nat[0]".into()]))
            .next("deployctl apply -e staging")
            .in_step(&StepId::parse("network").unwrap());
        insta::assert_snapshot!(render(&failure, Colour::Plain), @r"
        error: step network: terraform apply failed
          because: access denied
          because: not authorized: ec2:CreateVpc

          aws_vpc.this: creating

          two
          lines

          left behind:
            create aws_eip nat[0]
          next: deployctl apply -e staging
        ");
    }
}
