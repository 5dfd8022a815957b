# Every target is one line; what they do is in tests/. Builds are shared by all checkouts: $XDG_CACHE_HOME/deployctl.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/deployctl
export CARGO_TARGET_DIR ?= $(CACHE)/target
# As the sandbox's images are compiled (src/tools/cargo.rs): with other flags, or another time for C compilers, cargo would compile every library
# once more for them.
export SOURCE_DATE_EPOCH := 0
export RUSTFLAGS ?= --remap-path-prefix=$(CACHE)/image-source=/src --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
.PHONY: demo test check soak checkout

demo: checkout ; @tests/demo.sh
test: checkout ; @tests/test.sh
check: checkout ; @tests/test.sh format lint unit
soak: checkout ; @tests/soak.sh

# Cargo goes by file times. Programs that another checkout built last hold that one's paths and may be newer than all sources here.
checkout:
	@mkdir -p "$(CARGO_TARGET_DIR)" && [ "$$(cat "$(CARGO_TARGET_DIR)/checkout" 2>/dev/null)" = "$(CURDIR)" ] || \
	  { find src services tests -name '*.rs' -exec touch {} + && printf '%s\n' "$(CURDIR)" >"$(CARGO_TARGET_DIR)/checkout"; }
