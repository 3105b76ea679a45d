#!/usr/bin/env bash
# From a fresh clone to a trained model: installs what is missing, builds the program, prepares a corpus, trains a small
# sparse transformer on two ranks, evaluates it, lets it write, and sums up. A second run re-uses what is there.
# usage: launch/quickstart.sh [--output RUN_FOLDER] [train options, e.g. --set train.steps=100]
set -euo pipefail
cd "$(dirname "$0")/.."

output=runs/quickstart
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
  sed -n '2,4s/^# //p' "$0"
  exit 0
fi
if [ "${1:-}" = --output ]; then
  output=${2:?"quickstart.sh: --output wants a folder"}
  shift 2
fi
train_options=(--set "train.output=$output" "$@")
config=configs/presets/quickstart.textproto
text=data/jargon.txt
corpus=data/jargon
witan=build/release/bin/witan
start=$SECONDS

say() { printf '\n== %s  [%d:%02d]\n' "$*" $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60)); }
die() { echo "quickstart.sh: $*" >&2; exit 1; }

# The Jargon File (public domain) out of its Debian package: not installed, because minimal images drop /usr/share/doc.
fetch_corpus() {
  local folder
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' RETURN
  chmod 755 "$folder"
  download() { (cd "$folder" && apt-get -o APT::Sandbox::User=root -qq download jargon-text); }
  if ! download 2>/dev/null; then
    # Without a package list nothing can be downloaded; getting one takes root.
    if [ "$(id -u)" -eq 0 ]; then apt-get update -qq || true; else sudo apt-get update -qq || true; fi
    download || die "apt-get cannot download the package jargon-text; with no network, put any English text into $text"
  fi
  dpkg-deb -x "$folder"/jargon-text_*.deb "$folder/files"
  mkdir -p "$(dirname "$text")"
  gzip -dc "$folder/files/usr/share/doc/jargon-text/jargon.txt.gz" >"$text.part" ||
    die "the package jargon-text holds no usr/share/doc/jargon-text/jargon.txt.gz"
  mv "$text.part" "$text"
}

say "packages"
launch/install_deps.sh build

say "the program witan"
cmake --preset program --log-level=WARNING
cmake --build --preset program

say "corpus: the Jargon File"
[ -s "$text" ] || fetch_corpus
if [ ! -s "$corpus.bin" ] || [ ! -s "$corpus.idx" ] || [ "$text" -nt "$corpus.idx" ]; then
  "$witan" prepare "$text" --output "$corpus" --overwrite
else
  echo "$corpus.bin, $corpus.idx are there"
fi

say "training: mpirun -n 2 witan train $config --resume auto ${train_options[*]}"
# A finished run of the same config is kept.
effective=$("$witan" train "$config" "${train_options[@]}" --print-config)
if [ -e "$output/summary.json" ] && [ "$effective" = "$(cat "$output/config.textproto")" ] &&
   jq -e '.step == .steps' "$output/summary.json" >/dev/null; then
  echo "$output holds this run already, finished; to train anew: rm -r $output"
else
  launch/witan-mpirun.sh -n 2 "$witan" train "$config" --resume auto "${train_options[@]}"
  [ "$(jq .step "$output/summary.json")" = "$(jq .steps "$output/summary.json")" ] ||
    die "the run was stopped before its last step; the same command continues it"
fi
checkpoint=$(jq -r .checkpoint "$output/summary.json")

say "evaluation: witan eval $checkpoint"
launch/witan-mpirun.sh -n 2 "$witan" eval "$checkpoint" --json "$output/eval.json"

say "a sample: witan generate $checkpoint"
launch/witan-mpirun.sh -n 2 "$witan" generate "$checkpoint" --prompt "A hacker is" --max-tokens 400 \
  --temperature 0.8 --seed 1

# What general compressors make of the same validation text, the last `bytes` bytes of the corpus.
bytes=$(jq '.validation[0].bytes' "$output/eval.json")
nats_per_byte() { awk -v packed="$(tail -c "$bytes" "$text" | "$@" | wc -c)" -v bytes="$bytes" 'BEGIN { printf "%.3f", 8 * log(2) * packed / bytes }'; }

say "summary of $output"
jq -r '
  def round3: . * 1000 | round / 1000;
  def percent: . * 1000 | round | "\(. / 10 | floor).\(. % 10)" | " " * (5 - length) + .;
  "training      \(.steps) steps, \(.tokens) tokens on \(.ranks) ranks (EP \(.expert_parallel)) x \(.threads) threads",
  "model         \(.total_parameters) parameters, \(.active_parameters) active per token",
  # A run that had nothing left to do measured neither.
  (select(.tokens_per_second > 0) |
    "speed         \(.tokens_per_second | round) tokens/s",
    "loss          \(.train_loss | round3) nats per token in training, mean of the last tenth of the steps"),
  (select(.load | length > 0) | "expert load   over the last tenth of the steps, in percent of a layer\u0027s choices:"),
  (.load[] | (.counts | add) as $all |
    "  layer \(.layer)  \(.counts | map(. / $all | percent) | add)   MaxVio \(.max_vio | round3)")
' "$output/summary.json"
echo "validation    nats per byte over $bytes bytes that were not trained on (lower is better):"
printf '  witan       %.3f\n' "$(jq '.validation[0].nats_per_byte' "$output/eval.json")"
echo "  gzip -9     $(nats_per_byte gzip -9)"
echo "  xz -9       $(nats_per_byte xz -9)"
echo "total time    $((SECONDS - start)) s"
