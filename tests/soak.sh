#!/usr/bin/env bash
# make soak: what is random or many, all of it: every crash point, and thousands of random plans. Prints the counts.
set -euo pipefail
cd "$(dirname "$0")/.."
export DEPLOYCTL_TEST_COMPLETE=1 DEPLOYCTL_SOAK=1 PROPTEST_CASES=${PROPTEST_CASES:-5000}
tests/prerequisites.sh
cargo build --workspace --locked --quiet
"$CARGO_TARGET_DIR/debug/deployctl-sandbox" install

started=$SECONDS
cargo test --workspace --locked --quiet --test faults
printf 'crash points: %d s\n' $((SECONDS - started))
started=$SECONDS
cargo test --workspace --locked --lib -- --nocapture contract
printf 'random plans (%s cases a property): %d s\n' "$PROPTEST_CASES" $((SECONDS - started))
started=$SECONDS
cargo test --workspace --locked --test e2e -- --ignored --nocapture only_what_was_killed
printf 'terraform killed in each stack: %d s\n' $((SECONDS - started))
started=$SECONDS
cargo test --workspace --locked --test e2e -- --ignored --nocapture only_the_recovery
printf 'a lost region, drills and restores: %d s\n' $((SECONDS - started))
