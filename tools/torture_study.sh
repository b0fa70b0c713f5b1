#!/usr/bin/env bash
# torture_study.sh [KILLS] - a study of 3 arms and 5 seeds on drawn pictures, once left alone and once killed (kill -9)
# KILLS times (default 2) at random moments: study.json, study.html and all weights must be the same but for times.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
retort=$PWD/build/retort kills=${1:-2}
root=$(mktemp -d) || exit 1
mkdir "$root/alone" "$root/killed"
export OMP_NUM_THREADS=1 RETORT_CACHE=$root/cache
cat >"$root/s.yaml" <<'YAML'
data: {kind: scenes, crop: 32x32, scale: [0.5, 1.5], scenes: {size: 32x48, train: 12, val: 4, test: 10}}
student: {model: deeplabv3_mobilenetv2, width: 0.1, aux: true}
train: {steps: 12, batch: 2, lr: 0.02, threads: 1}
checkpoint: {every: 3}
eval: {every: 4}
report: {images: 2, metrics: 1}
check: off
arms:
  base: {}
  kd: {teacher: {model: study}, distill: {losses: [kd]}}
  rdd: {teacher: {model: study}, distill: {task: {kind: rdd, warmup: 0.5}, losses: [kd]}}
study: {seeds: 5, teacher: {student: {width: 0.2}, train: {steps: 8}}}
YAML

study() { (cd "$root/$1" && exec "$retort" study ../s.yaml out=study >>"$root/$1.said" 2>&1); }
fail() { echo "FAIL   a study killed $kills times: $*; see $root"; exit 1; }
# What a clock decides is left out: marked parts of the page, its last line, "time" of the numbers.
page()    { sed -e '/<!--clock-->/,/<!--\/clock-->/d' -e 's/<footer>.*//' "$root/$1/study/study.html"; }
numbers() { sed -e '/^ "time": \[/,/^  .*\]\],*$/d' -e '/"step_seconds"/d' "$root/$1/study/study.json"; }

start=$(date +%s.%N)
study alone || fail "left alone it failed"
whole=$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')
done_kills=0
for ((i = 0; i < kills; i++)); do
    (cd "$root/killed" && exec "$retort" study ../s.yaml out=study >>"$root/killed.said" 2>&1) &
    pid=$!
    sleep "$(awk -v w="$whole" -v k="$kills" -v r="$RANDOM" 'BEGIN { print (0.2 + 0.8 * r / 32768) * w / k }')"
    kill -9 "$pid" 2>/dev/null && done_kills=$((done_kills + 1))
    wait "$pid" 2>/dev/null
    echo "killed after $(find "$root/killed/study" -name last.safetensors 2>/dev/null | wc -l) of 16 runs"
done
study killed || fail "resumed it failed"
cmp <(page alone) <(page killed) || fail "study.html differs"
cmp <(numbers alone) <(numbers killed) || fail "study.json differs"
[ "$(numbers alone | wc -c)" -gt 1000 ] && [ "$(page alone | wc -c)" -gt 10000 ] || fail "nothing was compared"
runs=0
for run in $(cd "$root/alone/study" && find . -name last.safetensors -printf '%h\n'); do
    cmp "$root/alone/study/$run/counts.test.safetensors" "$root/killed/study/$run/counts.test.safetensors" || fail "$run: counts differ"
    runs=$((runs + 1))
done
[ "$runs" -eq 16 ] || fail "$runs runs instead of 16"
echo "ok     a study of 3 arms and 5 seeds, killed $done_kills times, ends with the same report; $runs runs"
rm -rf "$root"
