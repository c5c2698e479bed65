#!/usr/bin/env bash
# Runs every test of kiln, device tests included, on a machine that has a Vulkan, Metal or DX12 adapter. Where there is
# none, it installs a software Vulkan driver (Debian, Ubuntu) or says what to install. No adapter is a failure here,
# never a silent pass. Arguments go to `cargo test` (for example: tests/run.sh --test train).
set -u
cd "$(dirname "$0")/.."

# Mesa complains on every start where this is not set.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-${TMPDIR:-/tmp}}"

say() { printf '\n== %s\n' "$*"; }

has_adapter() {
  # An adapter line of `kiln devices` starts with "gpu".
  cargo run --quiet -- devices --device cpu 2>/dev/null | grep -q '^gpu '
}

if ! command -v cargo >/dev/null; then
  echo "cargo is not installed; see https://rustup.rs" >&2
  exit 2
fi

say "building"
cargo build --quiet || exit 1

say "adapters"
if ! has_adapter; then
  case "$(uname -s)" in
    Linux)
      if command -v apt-get >/dev/null; then
        echo "no adapter; installing mesa-vulkan-drivers (lavapipe, a Vulkan driver that computes on the CPU)"
        as_root=""
        [ "$(id -u)" = 0 ] || as_root="sudo"
        $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1 \
          || { echo "the installation failed; install mesa-vulkan-drivers and libvulkan1 by hand" >&2; exit 2; }
      else
        echo "no Vulkan adapter; install Mesa's lavapipe: vulkan-swrast (Arch), mesa-vulkan-drivers (Fedora)" >&2
        exit 2
      fi ;;
    *)
      echo "no Metal or DX12 adapter was found; install the driver of this machine's GPU" >&2
      exit 2 ;;
  esac
  has_adapter || { echo "there is still no adapter; 'cargo run -- devices' says what kiln sees" >&2; exit 2; }
fi
cargo run --quiet -- devices --device cpu 2>/dev/null

say "tests (an adapter is required)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
KILN_REQUIRE_ADAPTER=1 cargo test --no-fail-fast "$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}

say "summary"
awk '/^test result:/ { passed += $4; failed += $6; ignored += $8; suites += 1 }
     END { printf "%d suites: %d passed, %d failed, %d ignored\n", suites, passed, failed, ignored }' "$log"
grep -E '^test .* FAILED$' "$log"
[ "$code" = 0 ] && echo "all green" || echo "FAILED (cargo test ended with code $code)"
exit "$code"
