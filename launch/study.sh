#!/usr/bin/env bash
# Runs a study: every variant of a base config with every seed, then a table of what came out.
# usage: launch/study.sh STUDY [--output FOLDER] [train options, e.g. --set train.steps=20]
# STUDY: a name in configs/presets/studies, or a path without its ending. STUDY.textproto is the base; STUDY.json holds
# the seeds, the variants ("set" of each: --set options) and what "prepare"s them (command lines of witan, run once;
# {output} stands for FOLDER, {here} for the folder of STUDY). Runs go to FOLDER/VARIANT-SEED (default runs/STUDY), the
# table to FOLDER/table.md and to the terminal. Each run is one rank with as many threads as its config says, and as many
# run side by side as there are cores. What is finished is kept, so that a study that was stopped goes on.
set -euo pipefail

die() { echo "study.sh: $*" >&2; exit 2; }
root=$(cd "$(dirname "$0")/.." && pwd)
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
  sed -n '2,8s/^# //p' "$0"
  exit 0
fi
study=${1:-}
stem=$root/configs/presets/studies/$study
case $study in */*) stem=$(realpath -m "$study") ;; esac
[ -n "$study" ] && [ -e "$stem.json" ] ||
  die "found '$study'; expected one of$(cd "$root/configs/presets/studies" && printf ' %s' *.json | sed 's/\.json//g'), or a path"
shift
study=$(basename "$stem")
output=$root/runs/$study
if [ "${1:-}" = --output ]; then
  output=$(realpath -m "${2:?"study.sh: --output wants a folder"}")
  shift 2
fi
train_options=("$@")
cd "$root"
witan=$(command -v witan || echo build/release/bin/witan)
[ -x "$witan" ] || die "there is no program witan; build it: cmake --preset program && cmake --build --preset program"

# words FILTER [jq options]: the strings that FILTER finds in the study, one a line, placeholders replaced.
words() { jq -r --arg output "$output" --arg here "$(dirname "$stem")" "${@:2}" \
  "$1 | gsub(\"{output}\"; \$output) | gsub(\"{here}\"; \$here)" "$stem.json"; }

# logged FILE COMMAND...: the end of the log tells why a command failed.
logged() {
  echo "study.sh: ${*:2}" >"$1"
  "${@:2}" >>"$1" 2>&1 || { tail -20 "$1" >&2; die "failed; see $1"; }
}

prepare() {
  local line=$1 arguments
  mapfile -t arguments < <(words '.prepare[$line | tonumber][]' --arg line "$line")
  [ -e "$output/prepared-$line" ] && return
  echo "study.sh: witan ${arguments[*]}"
  logged "$output/prepare-$line.log" "$witan" "${arguments[@]}"
  touch "$output/prepared-$line"
}

# The effective config of a run without the comments, which name files.
effective() { "$witan" train "$stem.textproto" "$@" --print-config; }
values() { sed 's/  # .*//'; }

# A run that was told to stop writes a summary too.
finished() { [ -e "$1/summary.json" ] && jq -e '.step == .steps' "$1/summary.json" >/dev/null; }

# run VARIANT SEED: trains unless its folder holds the same run, finished.
run() {
  local folder=$output/$1-$2 overrides options=()
  mapfile -t overrides < <(words '.variants[] | select(.name == $name).set[]' --arg name "$1")
  for override in "${overrides[@]}"; do options+=(--set "$override"); done
  options+=(--set "train.seed=$2" --set "train.output=$folder" "${train_options[@]}")
  if finished "$folder" &&
     [ "$(effective "${options[@]}" | values)" = "$(values <"$folder/config.textproto")" ]; then
    echo "study.sh: $folder is there"
    return
  fi
  echo "study.sh: $folder"
  rm -rf "$folder"
  logged "$folder.log" "$witan" train "$stem.textproto" "${options[@]}"
  finished "$folder" || die "$folder was stopped before its last step; the same command begins it again"
}

# One line of JSON about a run: losses, and MaxVio over the validation sets and of the steps of the last tenth.
figures() {
  jq -nc --arg name "$1" --slurpfile summary "$output/$1-$2/summary.json" --slurpfile log "$output/$1-$2/metrics.jsonl" '
    $summary[0] as $s
    | [$log[] | select(.kind == "evaluation" and .step == $s.step) | {dataset, loss, vio: (.layers | map(.max_vio))}] as $last
    | {name: $name, total: $s.total_parameters, active: $s.active_parameters, train: $s.train_loss, end: $last,
       step_vio: ([$log[] | select(.kind == "step" and .step > $s.steps * 0.9) | .layers[].max_vio])}'
}

mapfile -t variants < <(jq -r '.variants[].name' "$stem.json")
mapfile -t seeds < <(jq -r '.seeds[]' "$stem.json")
mkdir -p "$output"
for line in $(jq '.prepare // [] | keys[]' "$stem.json"); do prepare "$line"; done
running=0
for seed in "${seeds[@]}"; do
  for variant in "${variants[@]}"; do
    run "$variant" "$seed" &
    running=$((running + 1))
    if [ $running -ge "$(nproc)" ]; then
      wait -n
      running=$((running - 1))
    fi
  done
done
for (( ; running > 0; running--)); do wait -n; done
for variant in "${variants[@]}"; do
  for seed in "${seeds[@]}"; do figures "$variant" "$seed"; done
done | jq -rs -f launch/study_table.jq | tee "$output/table.md"
