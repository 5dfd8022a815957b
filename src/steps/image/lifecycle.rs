//! Which images ECR may expire, and an evaluator of its documented rules that tries the policy on histories.
use serde_json::{Value, json};

/// Images that keep their build tag; older ones that are live nowhere go.
const KEPT_BUILDS: u32 = 100;

/// The policy of every repository. An image can be expired only by the first rule whose tags it matches, and live ones never reach the
/// first rule's count: a repository is one environment's, which has two live images of each service.
pub fn policy() -> Value {
    let rule = |priority: u32, description: &str, selection: Value| json!({ "rulePriority": priority, "description": description, "selection": selection, "action": { "type": "expire" } });
    json!({ "rules": [
        rule(1, "keeps what is live somewhere", json!({ "tagStatus": "tagged", "tagPrefixList": ["live-"], "countType": "imageCountMoreThan", "countNumber": 9999 })),
        rule(2, "keeps the newest builds", json!({ "tagStatus": "tagged", "tagPrefixList": ["src-"], "countType": "imageCountMoreThan", "countNumber": KEPT_BUILDS })),
        rule(3, "removes what lost its tags", json!({ "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14 })),
    ] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// An image of a made-up history; it was pushed on this day.
    #[derive(Clone, Debug)]
    struct Pushed {
        tags: BTreeSet<String>,
        day: u64,
    }

    /// The indices that ECR would expire on a day, by what its user guide says under "How lifecycle policies work" and "Lifecycle policy
    /// properties": rules are all evaluated and then applied by priority; an image that matches a rule's tags cannot be expired by one of lower
    /// priority, which still counts it; of several prefixes in one rule an image must have all; `imageCountMoreThan` expires the oldest
    /// beyond the count; `sinceImagePushed` those older than the days.
    fn expired(policy: &Value, images: &[Pushed], today: u64) -> BTreeSet<usize> {
        let mut rules: Vec<&Value> = policy["rules"].as_array().unwrap().iter().collect();
        rules.sort_by_key(|rule| rule["rulePriority"].as_u64().unwrap());
        let (mut claimed, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for rule in rules {
            let selection = &rule["selection"];
            let matching = |image: &Pushed| match selection["tagStatus"].as_str().unwrap() {
                "untagged" => image.tags.is_empty(),
                "any" => true,
                "tagged" => {
                    let prefixes = selection["tagPrefixList"].as_array().unwrap();
                    prefixes.iter().all(|prefix| image.tags.iter().any(|tag| tag.starts_with(prefix.as_str().unwrap())))
                }
                other => panic!("no such tagStatus: {other}"),
            };
            let mut matched: Vec<usize> = (0..images.len()).filter(|index| matching(&images[*index])).collect();
            matched.sort_by_key(|index| std::cmp::Reverse((images[*index].day, *index)));
            let count = selection["countNumber"].as_u64().unwrap();
            let selected: Vec<usize> = match selection["countType"].as_str().unwrap() {
                "imageCountMoreThan" => matched.iter().skip(usize::try_from(count).unwrap()).copied().collect(),
                "sinceImagePushed" => matched.iter().filter(|index| today - images[**index].day > count).copied().collect(),
                other => panic!("no such countType: {other}"),
            };
            gone.extend(selected.into_iter().filter(|index| !claimed.contains(index)));
            claimed.extend(matched);
        }
        gone
    }

    /// Pushes, rollouts and rollbacks of several environments; ECR looks once a day, as it does, and expires what it selects.
    fn live_one_year(steps: &[(u8, u8)], policy: &Value) -> (Vec<Pushed>, BTreeSet<usize>) {
        const ENVIRONMENTS: [&str; 3] = ["staging", "production", "qa"];
        let mut images: Vec<Pushed> = Vec::new();
        let mut gone = BTreeSet::new();
        // Each environment's image, and the one before it.
        let mut current: [Option<(usize, Option<usize>)>; 3] = [None; 3];
        for (day, (what, which)) in (0..).zip(steps) {
            let environment = usize::from(*what) % ENVIRONMENTS.len();
            images.push(Pushed { tags: BTreeSet::from([format!("src-{day}")]), day });
            let back = current[environment].and_then(|(_, before)| before).filter(|_| which % 5 == 0);
            // Most builds are rolled out; some are not, and production may stay for months.
            let next = if which % 3 == 0 { back } else { back.or(Some(images.len() - 1)) };
            let Some(next) = next.filter(|_| ENVIRONMENTS[environment] != "production" || which % 29 == 1) else { continue };
            assert!(!gone.contains(&next), "an image that is needed was expired");
            let tag = |index: usize| format!("live-{}-{index}", ENVIRONMENTS[environment]);
            images[next].tags.insert(tag(next));
            let before = current[environment].map(|(now, _)| now).filter(|now| *now != next);
            for (index, image) in images.iter_mut().enumerate().filter(|(index, _)| *index != next && Some(*index) != before) {
                image.tags.remove(&tag(index));
            }
            current[environment] = Some((next, before));
            let selected = expired(policy, &images, day);
            let live: BTreeSet<usize> = current.iter().flatten().flat_map(|(now, before)| [Some(*now), *before]).flatten().collect();
            assert!(live.is_disjoint(&selected), "a live digest would be expired: {:?}", live.intersection(&selected));
            gone.extend(selected);
        }
        (images, gone)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

        #[test]
        fn no_live_digest_is_ever_selected(steps in proptest::collection::vec((any::<u8>(), any::<u8>()), 500)) {
            let (images, gone) = live_one_year(&steps, &policy());
            prop_assert!(images.iter().all(|image| image.tags.iter().any(|tag| tag.starts_with("src-"))), "every image keeps its build tag");
            prop_assert!(gone.len() > 300, "old builds do go: {}", gone.len());
            let newest: BTreeSet<usize> = (400..500).collect();
            prop_assert!(newest.is_disjoint(&gone), "the newest hundred builds stay");
        }
    }

    #[test]
    fn untagged_images_go_after_a_fortnight() {
        let images = [Pushed { tags: BTreeSet::new(), day: 0 }, Pushed { tags: BTreeSet::new(), day: 10 }];
        assert_eq!(expired(&policy(), &images, 14), BTreeSet::new());
        assert_eq!(expired(&policy(), &images, 15), BTreeSet::from([0]));
    }

    /// What the first rule is for: without it a production that stays for a hundred builds would lose its image.
    #[test]
    fn without_the_rule_for_live_images_one_is_selected() {
        let mut without = policy();
        without["rules"].as_array_mut().unwrap().remove(0);
        let mut images: Vec<Pushed> = (0..101).map(|day| Pushed { tags: BTreeSet::from([format!("src-{day}")]), day }).collect();
        images[0].tags.insert("live-production-0".to_owned());
        assert_eq!(expired(&without, &images, 200), BTreeSet::from([0]));
        assert_eq!(expired(&policy(), &images, 200), BTreeSet::new());
    }
}
