# nacre's door: everything a newcomer or CI does starts here. `make demo` and `make test` do all the set-up.
.PHONY: demo test check bench soak fuzz judges mutants install setup build images help

CARGO ?= cargo
PREFIX ?= /usr/local
export PATH := $(HOME)/.cargo/bin:$(PATH)

help:
	@sed -n 's/^#: //p' Makefile

#: make demo     install what is missing, build, and run the main job on a real image
demo: setup build
	tests/demo.sh target/release/nacre

#: make test     install what is missing, and pass all tests (as root, with /dev/fuse)
test: setup check images judges
# nacre-shim is a program of no package that has tests of programs: cargo test builds it for none.
	$(CARGO) build --release --workspace --locked --bins
	$(CARGO) test --release --workspace --locked --no-run
	timeout --kill-after=60 $(TEST_SECONDS_MAX) $(CARGO) test --release --workspace --locked --no-fail-fast
# They take ten minutes, and three times that on a slow machine: what takes longer hangs, and the runner's last lines name it.
TEST_SECONDS_MAX ?= 2700

#: make check    formatter and linter, warnings denied
check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

#: make bench    the figures, with podman, overlayfs and ext4 in the same run
bench: setup build
	tests/bench/run.sh target/release/nacre

#: make soak     the service killed hundreds of times, power lost fifty times: about an hour
soak: setup images judges
	NACRE_SOAK_ROUNDS=200 $(CARGO) test --release --locked -p nacre --test e2e -- kill:: --nocapture
	NACRE_SOAK_ROUNDS=50 $(CARGO) test --release --locked -p nacre --test e2e -- power:: --nocapture

#: make fuzz     each fuzz target for FUZZ_SECONDS (600), two at a time; FUZZ_TARGETS chooses some
FUZZ_SECONDS ?= 600
fuzz: setup build
	tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

#: make build    the programs: target/release/nacre, nacred, nacre-shim
build:
	$(CARGO) build --release --workspace --all-targets --locked

#: make install  the command line, the service, what holds containers, and completions, under PREFIX (/usr/local), and mount(8)'s helpers in /sbin
PROGRAMS = nacre nacred nacre-shim
install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(PROGRAMS:%=target/release/%) $(DESTDIR)$(PREFIX)/bin
	strip --strip-debug $(PROGRAMS:%=$(DESTDIR)$(PREFIX)/bin/%)
	install -d $(DESTDIR)/sbin
	ln -sf $(PREFIX)/bin/nacre $(DESTDIR)/sbin/mount.fuse.nacre
	ln -sf $(PREFIX)/bin/nacre $(DESTDIR)/sbin/umount.fuse.nacre
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	target/release/nacre completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/nacre
	target/release/nacre completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_nacre
	target/release/nacre completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/nacre.fish

#: make setup    the packages that building and testing need (Debian, Ubuntu) and Rust
setup:
	.ci/setup

#: make images   the images that the tests use, built once from Debian packages
images: setup
	tests/images/build.sh

#: make judges   pjdfstest and fsx, which the tests run on a mount; built once
judges: setup
	tests/judges/build.sh

#: make mutants  the filesystem's tests against a core that is broken on purpose, line by line
mutants: setup
	tests/judges/mutants.py
