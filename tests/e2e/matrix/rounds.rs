//! Rounds of the whole plan with parts of it taken away, killed with -9 at a random moment, again and again; then it converges.
use std::time::{Duration, Instant};

use super::{
    World,
    apply::Apply,
    kinds::{self, Taken},
};
use crate::killed::Whom;

/// The seed of what is random, printed; `DEPLOYCTL_SEED` comes before the given one.
pub fn seed(otherwise: u64) -> u64 {
    let seed = std::env::var("DEPLOYCTL_SEED").map_or(otherwise, |seed| seed.parse().unwrap());
    eprintln!("DEPLOYCTL_SEED={seed}");
    seed
}

/// How many rounds `make soak` makes, unless `DEPLOYCTL_ROUNDS` says otherwise.
pub fn of_soak() -> usize {
    std::env::var("DEPLOYCTL_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap())
}

/// Longer than a changed apply takes before its first step.
const LATEST: Duration = Duration::from_secs(30);
/// Kills in a row, at most.
const KILLS: usize = 3;

/// So many rounds; prints their kills.
pub fn random(world: &mut World<'_>, rounds: usize) {
    let mut random = fastrand::Rng::with_seed(seed(fastrand::u64(..)));
    let mut kills = 0;
    for round in 0..rounds {
        let began = Instant::now();
        let mut steps = world.steps();
        steps.retain(|_| random.bool());
        let mut taken = Taken::default();
        for step in &steps {
            taken.stacks.extend(kinds::take_away(world, step).stacks);
        }
        for _ in 0..random.usize(1..=KILLS) {
            let after = Duration::from_millis(random.u64(0..u64::try_from(LATEST.as_millis()).unwrap()));
            // terraform alone goes on to its end, told by its watchdog; or everybody dies.
            let whom = random.bool().then_some(Whom::Everybody);
            let apply = Apply::start(world.target, world.copy.folder(), None, &Taken::default());
            std::thread::sleep(after);
            apply.kill(&taken.stacks, whom);
            kills += 1;
            eprintln!("round {round}: killed after {:.1} s ({whom:?})", after.as_secs_f32());
        }
        world.apply(None);
        let what = format!("round {round} of {:?}", steps.iter().map(|step| step.id.as_str()).collect::<Vec<_>>());
        world.nothing_is_left_to_do(None, &what);
        world.nothing_is_there_twice(&what);
        eprintln!("{what}: {:.1} s", began.elapsed().as_secs_f32());
    }
    eprintln!("{kills} random kills in {rounds} rounds, nothing is there twice");
}
