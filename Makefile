# Every target is one line; what they do is in tests/. Builds are shared by all checkouts: $XDG_CACHE_HOME/deployctl.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/deployctl
export CARGO_TARGET_DIR ?= $(CACHE)/target
.PHONY: demo test check

demo: ; @tests/demo.sh
test: ; @tests/test.sh
check: ; @tests/test.sh format lint build unit
