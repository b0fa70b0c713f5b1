#!/usr/bin/env bash
# bench.sh - training steps of retort and, where PyTorch is found, of the same networks there, in turns. `./run bench`.
#
#   ./run bench [rounds=5] [steps=3] [size=360x360] [batch=4] [precision=f32|bf16] [cpus=0,1] [python=python3]
#               [modes=plain,last,compiled] [STUDENT[:TEACHER] ...]
#
# Each round runs every program once for every pair, in a process of its own, all on the same processors; the table
# holds medians over the rounds. modes: PyTorch in its plain layout, in channels last, and compiled in channels last;
# the best of them counts and is named. One JSON file per run and the table lie in runs/bench. Without PyTorch its
# columns are empty. Only ratios within one table mean anything: other work on the machine slows both.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
fail() { printf 'bench: %s\n' "$*" >&2; exit 1; }

rounds=5 steps=3 size=360x360 batch=4 precision=f32 python=python3 modes=plain,last,compiled pairs=() out=runs/bench
cpus=$(taskset -cp $$ | sed 's/.*: //')
for word in "$@"; do
    case $word in
        rounds=*|steps=*|size=*|batch=*|precision=*|cpus=*|python=*|modes=*) declare "${word%%=*}=${word#*=}" ;;
        *=*) fail "'${word%%=*}' is not known; rounds, steps, size, batch, precision, cpus, python and modes are" ;;
        *)   pairs+=("$word") ;;
    esac
done
[ ${#pairs[@]} -gt 0 ] || pairs=(deeplabv3_resnet18 deeplabv3_resnet18:deeplabv3_resnet101 deeplabv3_mobilenetv2:deeplabv3_resnet101 deeplabv3_mobilenetv2:deeplabv3_resnet18)
mkdir -p "$out" || exit 1
threads=$(taskset -c "$cpus" nproc) || fail "cpus=$cpus: not among the processors of this process"
have_torch=
"$python" -c 'import torch' 2>/dev/null && have_torch=1
[ -n "$have_torch" ] || printf 'bench: %s has no PyTorch (python=PATH names another); its columns stay empty\n' "$python" >&2
declare -A mode_words=([plain]="layout=plain" [last]="layout=last" [compiled]="layout=last compile=yes")

# run_pair STUDENT TEACHER STEM: one round of one pair.
run_pair() {
    local words=(model="$1" batch="$batch" size="$size" classes=11 steps="$steps" threads="$threads" precision="$precision") mode more
    [ -z "$2" ] || words+=(teacher="$2")
    taskset -c "$cpus" build/retort bench step "${words[@]}" student.aux=true json="$3.retort.json" >/dev/null || return 1
    [ -n "$have_torch" ] || return 0
    for mode in ${modes//,/ }; do
        read -ra more <<<"${mode_words[$mode]}"
        taskset -c "$cpus" "$python" bench/torch_step.py "${words[@]}" "${more[@]}" >"$3.torch-$mode.json" || return 1
    done
}

# median KEY FILE...: of that number over the files; "-" when there is none.
median() {
    local key=$1
    shift
    sed -n "s/.*\"$key\": \([0-9.eE+-]*\).*/\1/p" "$@" 2>/dev/null | sort -g |
        awk '{ v[NR] = $1 } END { if (!NR) print "-"; else print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
div() { awk -v a="$1" -v b="$2" -v f="$3" 'BEGIN { if (a == "-" || b == "-" || b == 0) print "-"; else printf f, a / b }'; }
round_off() { awk -v a="$1" 'BEGIN { print a == "-" ? a : sprintf("%.0f", a) }'; }
# best STEM: the mode of PyTorch whose median step is shortest
best() {
    local mode
    for mode in ${modes//,/ }; do printf '%s %s\n' "$(median step "$1".*.torch-"$mode".json)" "$mode"; done |
        grep -v '^-' | sort -g | head -n 1 | cut -d' ' -f2
}

# One line: times in ms, memory in MB; start: seconds to the end of the first step, less one median step.
table_row() {
    local name=$1 ours=("$2".*.retort.json) mode theirs step bare loss rss first torch torch_rss
    mode=$(best "$2") theirs=("$2".*.torch-"${mode:-none}".json)
    step=$(median step "${ours[@]}") bare=$(median ratio "${ours[@]}") loss=$(median loss "${ours[@]}")
    rss=$(median peak_rss_mb "${ours[@]}") first=$(median first_step_s "${ours[@]}")
    torch=$(median step "${theirs[@]}") torch_rss=$(median peak_rss_mb "${theirs[@]}")
    printf '| %s | %s | %.2f | %s | %s s | %s %s | %s | %s | %s | %s |\n' "$name" "$(round_off "$step")" "$bare" "$(div "${loss}e2" "$step" '%.2f %%')" \
        "$(awk -v f="$first" -v s="$step" 'BEGIN { printf "%.1f", f - s / 1e3 }')" \
        "$(round_off "$torch")" "$mode" "$(div "$step" "$torch" %.2f)" "$(round_off "$rss")" "$(round_off "$torch_rss")" "$(div "$rss" "$torch_rss" %.2f)"
}

rm -f "$out"/*.retort.json "$out"/*.torch-*.json
for ((round = 1; round <= rounds; round++)); do
    for pair in "${pairs[@]}"; do
        student=${pair%%:*} teacher=${pair#"$student"}
        printf 'round %d of %d: %s\n' "$round" "$rounds" "$pair" >&2
        run_pair "$student" "${teacher#:}" "$out/${pair/:/-}.$round" || fail "$pair did not run"
    done
done
{
    printf 'Batch %s, %s, 11 classes, %s; %s rounds of %s steps, medians; processors %s.\n\n' "$batch" "$size" "$precision" "$rounds" "$steps" "$cpus"
    printf '| student, teacher | step, ms | over its convolutions | losses | start | PyTorch, ms | retort / PyTorch | peak RSS, MB | PyTorch | ratio |\n'
    printf '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n'
    for pair in "${pairs[@]}"; do table_row "${pair/:/, }" "$out/${pair/:/-}"; done
} | tee "$out/table-$precision.md"
