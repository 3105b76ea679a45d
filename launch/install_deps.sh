#!/usr/bin/env bash
# Installs, by package name, what Witan needs on Debian 12 or a derivative, and nothing that is already there.
# usage: launch/install_deps.sh [build|test|ci]   build: the program only; test: plus the tests; ci: plus format, tidy, sanitizers
set -euo pipefail

level=${1:-build}
build=(g++ cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libprotobuf-dev protobuf-compiler libspdlog-dev
       libdnnl-dev libcli11-dev nlohmann-json3-dev libxxhash-dev libzstd-dev zlib1g-dev)
test=(libgtest-dev libboost-context-dev zstd python3)
ci=(clang-format-14 clang-tidy-14 ccache git python3-venv)
case $level in
  build) want=("${build[@]}") ;;
  test) want=("${build[@]}" "${test[@]}") ;;
  ci) want=("${build[@]}" "${test[@]}" "${ci[@]}") ;;
  *) echo "install_deps.sh: '$level' is not build, test or ci" >&2; exit 2 ;;
esac

missing=()
for package in "${want[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_deps.sh: not root and no sudo; install: ${missing[*]}" >&2; exit 1; }
  sudo=sudo
fi
echo "installing: ${missing[*]}"
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
