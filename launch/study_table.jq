# The table of launch/study.sh as Markdown, from one object a run: name, total, active (parameters), train (loss), end (by
# dataset: loss, vio of each layer), step_vio (of
# each layer and step at the end). A line of the table is a variant, over its seeds.
def mean: if length == 0 or any(.[]; . == null) then null else add / length end;
def deviation: mean as $m | if length > 1 then (map((. - $m) * (. - $m)) | add / (length - 1) | sqrt) else 0 end;
def fixed($digits): if . == null then "" else
  ([range($digits)] | reduce .[] as $i (1; . * 10)) as $unit | (. * $unit | round) as $n
  | "\($n / $unit | floor)." + ("\($n % $unit)" | "0" * ($digits - length) + .) end;
def line: "| " + join(" | ") + " |";
def by_variant: reduce .[] as $run ([]; if any(.[]; .[0].name == $run.name)
  then map(if .[0].name == $run.name then . + [$run] else . end) else . + [[$run]] end);

def header: ["variant", "parameters, total / active"]
  + (.[0].end | map("\(.dataset): loss by seed", "mean ± s.d."))
  + ["training loss"]
  + (.[0].end | map("\(.dataset): global MaxVio, mean of the layers", "its largest"))
  + ["MaxVio of a step"];

# Of one variant: an array of runs.
def row: . as $runs
  | ["\(.[0].name)", "\(.[0].total) / \(.[0].active)"]
  + [range(.[0].end | length) as $set | $runs | map(.end[$set].loss)
     | (map(fixed(4)) | join(", ")), "\(mean | fixed(4)) ± \(deviation | fixed(4))"]
  + [map(.train) | mean | fixed(4)]
  + [range(.[0].end | length) as $set | $runs | map(.end[$set].vio)
     | (map(mean) | mean | fixed(3)), (map(max) | max | fixed(3))]
  + [map(.step_vio | mean) | mean | fixed(3)];

(header | line), (header | map("---") | "|" + join("|") + "|"), (by_variant[] | row | line)
