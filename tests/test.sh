#!/usr/bin/env bash
# make test: every part in turn (or those named), each with the time that it took. The first failure ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
all=(format lint build unit install provider terraform parts clean e2e)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")

# Always the whole workspace: a single package resolves other features of the same dependencies and compiles all of them again.
cargo_test() { cargo test --workspace --locked --quiet "$@"; }

format() { cargo fmt --all --check && test -z "$(gofmt -l tests/sandbox/provider tests/sandbox/kube-node | tee /dev/stderr)"; }
lint() { cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }
build() { cargo build --workspace --locked --quiet; }
unit() { cargo_test --lib --bins --test cli --test boundaries; }
install() { "$CARGO_TARGET_DIR/debug/deployctl-sandbox" install; }
provider() { (cd tests/sandbox/provider && go vet ./... && go test ./...); }
terraform() { cargo_test --test terraform; }
# Single parts against real programs: PostgreSQL, ministack, an API server, a registry.
parts() { cargo_test --test database --test infra --test cluster --test image --test front_door --test rds --test observability; }
# Compares the machine before and after; nothing else may run.
clean() { cargo_test --test clean; }
e2e() { cargo_test --test e2e -- --nocapture; }

summary=()
for part in "${parts[@]}"; do
  [[ " ${all[*]} " == *" $part "* ]] || { echo "no part $part; there are: ${all[*]}" >&2; exit 10; }
  started=$SECONDS
  echo "== $part"
  "$part"
  summary+=("$(printf '%-10s %4d s' "$part" $((SECONDS - started)))")
done
printf '%s\n' "${summary[@]}"
