#!/usr/bin/env bash
# make test: every part in turn (or those named), each with the time that it took. The first failure ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(format lint unit install provider terraform sandbox e2e)
sandbox="$CARGO_TARGET_DIR/debug/deployctl-sandbox"

format() { cargo fmt --all --check && test -z "$(gofmt -l tests/sandbox/provider tests/sandbox/kube-node | tee /dev/stderr)"; }
lint() { cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }
unit() { cargo build --workspace --locked --quiet && cargo test --workspace --locked --quiet --lib --bins --test cli --test boundaries; }
install() { "$sandbox" install; }
provider() { (cd tests/sandbox/provider && go vet ./... && go test ./...); }
terraform() { tests/terraform/run.sh; }
sandbox() { cargo test --locked --quiet -p deployctl-sandbox --tests -- --test-threads=1; }
e2e() { cargo test --locked --quiet --test e2e -- --test-threads=1 --nocapture; }

summary=()
for part in "${parts[@]}"; do
  started=$SECONDS
  echo "== $part"
  "$part"
  summary+=("$(printf '%-10s %4d s' "$part" $((SECONDS - started)))")
  echo "== $part: $((SECONDS - started)) s"
done
printf '%s\n' "${summary[@]}"
