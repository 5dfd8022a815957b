#!/usr/bin/env bash
# make soak: what is random or many, all of it, with the counts and the time of each part; `tests/soak.sh WORD` runs the parts whose title has it.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEPLOYCTL_TEST_COMPLETE=1 DEPLOYCTL_SOAK=1 PROPTEST_CASES=${PROPTEST_CASES:-5000}
tests/prerequisites.sh
cargo build --workspace --locked --quiet
"$CARGO_TARGET_DIR/debug/deployctl-sandbox" install

only=${1:-}
soak() {
  local title=$1 started=$SECONDS
  shift
  [[ "$title" == *"${only}"* ]] || return 0
  cargo test --workspace --locked "$@"
  printf '%s: %d s\n' "$title" $((SECONDS - started))
}

soak "crash points" --quiet --test faults
soak "faults of the cloud, every line of the table" --test cloud -- --nocapture --test-threads 8
soak "random plans ($PROPTEST_CASES cases a property)" --lib -- --nocapture contract
soak "terraform killed in each stack" --test e2e -- --ignored --nocapture only_what_was_killed
soak "a machine lost before terraform wrote its first state" --test e2e -- --ignored --nocapture only_a_lost_machine
soak "services killed, cut off, fed with bad files" --test services -- --nocapture
soak "migrators killed at each statement" --test database -- --nocapture killed_at_each_statement
soak "the page for a failed migration, each command on it" --test e2e -- --ignored --nocapture a_migration_failed
soak "every step at every moment, and random kills" --test e2e -- --ignored --nocapture every_step_at_every_moment
soak "every action of the bootstrap policy taken away" --test front_door -- --nocapture a_newcomer
soak "every action of the deployer policy taken away" --test e2e -- --ignored --nocapture every_action_taken_away
soak "every role by what it was seen to do" --test e2e -- --ignored --nocapture only_what_every_role_does
soak "secrets in Parameter Store" --test e2e -- --ignored --nocapture only_the_parameter_store
soak "Pod Identity instead of IRSA, and back" --test e2e -- --ignored --nocapture only_pod_identity
soak "every promise of the stacks broken" --test terraform -- --ignored --nocapture every_weakening_is_noticed
soak "rolling updates under load" --test e2e -- --ignored --nocapture only_the_rollout
soak "HTTPS with a certificate of ACM's, for a name that DNS does not know yet" --test e2e -- --ignored --nocapture only_https
soak "blue-green and canary, worse versions given up" --test e2e -- --ignored --nocapture only_the_strategies
soak "an environment taken away, without and with its data" --test e2e -- --ignored --nocapture only_the_destroy
soak "a lost region, drills and restores" --test e2e -- --ignored --nocapture only_the_recovery
soak "a restored database, its report against psql" --test e2e -- --ignored --nocapture only_the_verification
soak "a warm standby, its cluster and what it says of a restored database" --test e2e -- --ignored --nocapture only_the_warm_standby
soak "a gigabyte restored, every row of it held against its record" --test e2e -- --ignored --nocapture only_a_gigabyte
