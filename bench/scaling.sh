#!/usr/bin/env bash
# scaling.sh - does a step's time grow linearly with images and pixels? `./run bench scaling`.
#
#   ./run bench scaling [rounds=5] [steps=3] [model=deeplabv3_resnet18] [teacher=NAME] [precision=f32|bf16] [cpus=0,1]
#                       [base=360]
#
# Every round runs `retort bench step` once for every point, each in a process of its own. A point's time is that of its
# step without the optimiser (its time depends on the weights alone), median over the rounds, per image and pixel,
# against batch 4 at base x base. Limits: 10 % from batch 2 to 8 and from base to 2 base a side; 25 % for batch 1 and
# base / 2. base: smaller ones for a quick look. The table lies in runs/bench too; exit 1 when a point misses its limit.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
fail() { printf 'scaling: %s\n' "$*" >&2; exit 1; }

rounds=5 steps=3 model=deeplabv3_resnet18 teacher='' precision=f32 base=360
cpus=$(taskset -cp $$ | sed 's/.*: //')
for word in "$@"; do
    case $word in
        rounds=*|steps=*|model=*|teacher=*|precision=*|cpus=*|base=*) declare "${word%%=*}=${word#*=}" ;;
        *) fail "'$word' is not known; rounds, steps, model, teacher, precision, cpus and base are" ;;
    esac
done
out=runs/bench
mkdir -p "$out" || exit 1
threads=$(env -u OMP_NUM_THREADS taskset -c "$cpus" nproc) || fail "cpus=$cpus: not among the processors of this process"
# batch, side, limit in percent
points=("4 $base 0" "1 $base 25" "2 $base 10" "8 $base 10" "4 $((base / 2)) 25" "4 $((base * 3 / 2)) 10" "4 $((base * 2)) 10")

rm -f "$out"/scaling.*.json
for ((round = 1; round <= rounds; round++)); do
    for point in "${points[@]}"; do
        read -r batch side _ <<<"$point"
        words=(model="$model" batch="$batch" size="${side}x$side" classes=11 steps="$steps" threads="$threads" precision="$precision" student.aux=true)
        [ -z "$teacher" ] || words+=(teacher="$teacher")
        printf 'round %d of %d: batch %d, %dx%d\n' "$round" "$rounds" "$batch" "$side" "$side" >&2
        taskset -c "$cpus" build/retort bench step "${words[@]}" json="$out/scaling.$batch.$side.$round.json" >/dev/null || fail "batch $batch at $side does not run"
    done
done

# without_optimizer BATCH SIDE: median ms over the rounds
without_optimizer() {
    sed -n 's/.*"step": \([0-9.eE+-]*\).*"optimizer": \([0-9.eE+-]*\).*/\1 \2/p' "$out"/scaling."$1"."$2".*.json |
        awk '{ print $1 - $2 }' | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
missed=0
{
    printf '%s%s, %s, %d threads, %d rounds of %d steps, medians:\n\n' "$model" "${teacher:+, teacher $teacher}" "$precision" "$threads" "$rounds" "$steps"
    printf '| batch | size | step without optimiser | per image and megapixel | against batch 4, %dx%d | limit |\n| --- | --- | --- | --- | --- | --- |\n' "$base" "$base"
    reference=$(awk -v t="$(without_optimizer 4 "$base")" -v s="$base" 'BEGIN { print t / 4 / s / s * 1e6 }')
    for point in "${points[@]}"; do
        read -r batch side limit <<<"$point"
        awk -v t="$(without_optimizer "$batch" "$side")" -v b="$batch" -v s="$side" -v r="$reference" -v l="$limit" 'BEGIN {
            each = t / b / s / s * 1e6; ratio = each / r; missed = l > 0 && (ratio > 1 + l / 100 || ratio < 1 - l / 100)
            printf "| %d | %dx%d | %.1f ms | %.1f ms | %.3f | %s |\n", b, s, s, t, each, ratio, l ? (missed ? "missed: " : "") "within " l " %" : "-"
            exit missed }' || missed=1
    done
    exit $missed
} | tee "$out/scaling-$precision.md"
