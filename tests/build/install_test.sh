#!/usr/bin/env bash
# Installs a build into an empty folder, builds a small project against it with find_package(witan), and runs both.
# usage: install_test.sh BUILD_DIR SOURCE_DIR
set -euo pipefail
build=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cmake --install "$build" --prefix "$folder/prefix" >"$folder/install.log"
prefix=$folder/prefix
for file in bin/witan bin/witan-mpirun share/witan/presets/quickstart.textproto share/witan/configs/schema/run.proto \
            share/witan/slurm.sbatch include/witan/core/ops/gemm.h include/witan/configs/schema/run.pb.h; do
  [ -e "$prefix/$file" ] || { echo "$file was not installed"; exit 1; }
done
if grep -rlF -e "$source" -e "$build" "$prefix" --include='*.cmake' --include='*.h'; then
  echo "the files above hold paths of the source or build folder"
  exit 1
fi

"$prefix/bin/witan" --version
cmake -S "$source/tests/build/consumer" -B "$folder/consumer" -G Ninja -DCMAKE_PREFIX_PATH="$prefix" --log-level=WARNING
cmake --build "$folder/consumer"
"$folder/consumer/consumer" "$prefix/share/witan/presets/quickstart.textproto"
