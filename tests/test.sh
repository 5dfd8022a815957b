#!/usr/bin/env bash
# make test: every part in turn (or those named), each with the time that it took. The first failure ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
all=(format lint build unit install provider terraform parts faults cloud services clean e2e)
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")
# By hand a test may leave out what it lacks a program for; here that is a failure.
export DEPLOYCTL_TEST_COMPLETE=1
tests/prerequisites.sh

# Always the whole workspace: a single package resolves other features of the same dependencies and compiles all of them again.
cargo_test() { cargo test --workspace --locked --quiet "$@"; }

format() {
  cargo fmt --all --check
  local files
  files=$(gofmt -l tests/sandbox/provider tests/sandbox/kube-node)
  [ -z "$files" ] || { printf 'not formatted: %s\n' "$files" >&2 && return 1; }
}
lint() { cargo clippy --workspace --all-targets --locked --quiet -- -D warnings; }
build() { cargo build --workspace --locked --quiet; }
unit() { cargo_test --lib --bins --test cli --test boundaries; }
sandbox() { "$CARGO_TARGET_DIR/debug/deployctl-sandbox" "$@"; }
install() { sandbox install; start_images; }
# The release build of the images takes minutes when cold: it goes on beside the parts that mostly wait, at the lowest priority.
images=
start_images() {
  nice -n 19 "$CARGO_TARGET_DIR/debug/deployctl" image build -e sandbox >"$CARGO_TARGET_DIR/images.log" 2>&1 </dev/null &
  images=$!
}
images_are_built() {
  [ -n "$images" ] || return 0
  wait "$images" || { cat "$CARGO_TARGET_DIR/images.log" >&2 && return 1; }
  images=
}
# In a sandbox of its own: every type of resource is made, changed, imported and destroyed there.
provider() (
  cd tests/sandbox/provider
  go vet ./...
  trap 'sandbox --name provider down' EXIT
  sandbox --name provider up
  eval "$(sandbox --name provider env)"
  DEPLOYCTL_TEST_ENDPOINT=$AWS_ENDPOINT_URL go test -count=1 ./...
)
terraform() { cargo_test --test terraform; }
# Single parts against real programs: PostgreSQL, ministack, an API server, a registry.
parts() { cargo_test --test database --test infra --test cluster --test image --test front_door --test rds --test observability; }
# Killed and refused at every call that writes; `make soak` tries more points.
faults() { cargo_test --test faults; }
# Both services in a sandbox of their own: killed, cut off, fed with bad files, attacked; `make soak` does it at length.
services() { cargo_test --test services -- --nocapture; }
# Throttled, silent, cut and lost: the quick lines of tests/cloud/table.rs; `make soak` proves all.
cloud() { cargo_test --test cloud -- --nocapture --test-threads 8; }
# Compares the machine before and after; nothing else may run.
clean() { images_are_built && cargo_test --test clean; }
e2e() { images_are_built && cargo_test --test e2e -- --nocapture; }

summary=()
# Also when a part fails: how far it came, and how long that took.
trap '[ -z "$images" ] || kill "$images"; printf "%s\n" "${summary[@]}"' EXIT
for part in "${parts[@]}"; do
  [[ " ${all[*]} " == *" $part "* ]] || { echo "no part $part; there are: ${all[*]}" >&2; exit 10; }
  started=$SECONDS
  echo "== $part"
  "$part"
  summary+=("$(printf '%-10s %4d s' "$part" $((SECONDS - started)))")
done
