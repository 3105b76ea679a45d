#!/usr/bin/env bash
# Installs, by package name, what Witan needs on Debian 12 or a derivative, and nothing that is already there.
# usage: launch/install_deps.sh [build|test|ci]   build: the program only; test: plus the tests; ci: plus format, tidy, interop
set -euo pipefail

level=${1:-build}
build=(g++ cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libprotobuf-dev protobuf-compiler libspdlog-dev
       libdnnl-dev libcli11-dev nlohmann-json3-dev libxxhash-dev libzstd-dev zlib1g-dev libpcre2-dev libutf8proc-dev
       sentencepiece jq xz-utils)
test=(libgtest-dev libboost-context-dev zstd python3)
ci=(clang-14 libclang-rt-14-dev clang-format-14 clang-tidy-14 ccache git python3-venv)
case $level in
  build) want=("${build[@]}") ;;
  test) want=("${build[@]}" "${test[@]}") ;;
  ci) want=("${build[@]}" "${test[@]}" "${ci[@]}") ;;
  *) echo "install_deps.sh: '$level' is not build, test or ci" >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || {
  echo "install_deps.sh: this system has no apt; install the counterparts of these Debian packages: ${want[*]}" >&2
  exit 1
}

installed=$(dpkg-query -W -f='${Status} ${binary:Package}\n' 2>/dev/null | sed -n 's/^install ok installed \([^:]*\).*/\1/p')
missing=()
for package in "${want[@]}"; do
  grep -qxF -- "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install_deps.sh: not root and no sudo; ask an administrator for: apt-get install ${missing[*]}" >&2
    exit 1
  }
  sudo=sudo
fi
echo "installing: ${missing[*]}"
# An old package list may still do, so only the installation decides.
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null || true
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" </dev/null >/dev/null || {
  echo "install_deps.sh: apt-get could not install: ${missing[*]}" >&2
  echo "install_deps.sh: is there a network, and does /etc/apt name a Debian archive? Once they are installed, run this again." >&2
  exit 1
}
