#!/usr/bin/env bash
# bench.sh - training steps of retort and, where PyTorch is found, of the same networks there, in turns. `./run bench`.
#
#   ./run bench [rounds=5] [steps=3] [size=360x360] [batch=4] [precision=f32,bf16,int8] [cpus=0,1] [python=python3]
#               [modes=plain,last,compiled,compiled-plain] [STUDENT[:TEACHER] ...]
#
# Each round runs every program once for every pair and precision, in a process of its own, all on the same processors;
# the table holds medians over the rounds. int8: bf16 with the teacher in 8-bit integers, beside PyTorch in bf16.
# modes: PyTorch in its plain layout, in channels last, and compiled in either; the best of them counts and is named.
# After the first round only modes within 10 % of the best are run on. A round 0 that is not counted lets retort
# choose its ways of computing layers (train.tune), which it does once on a machine. One JSON file per run and the
# table lie in runs/bench. Without PyTorch its columns are empty. Only ratios within one table mean anything.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
fail() { printf 'bench: %s\n' "$*" >&2; exit 1; }

rounds=5 steps=3 size=360x360 batch=4 precision=f32,bf16,int8 python=python3 modes=plain,last,compiled,compiled-plain pairs=() out=runs/bench
cpus=$(taskset -cp $$ | sed 's/.*: //')
for word in "$@"; do
    case $word in
        rounds=*|steps=*|size=*|batch=*|precision=*|cpus=*|python=*|modes=*) declare "${word%%=*}=${word#*=}" ;;
        *=*) fail "'${word%%=*}' is not known; rounds, steps, size, batch, precision, cpus, python and modes are" ;;
        *)   pairs+=("$word") ;;
    esac
done
[ ${#pairs[@]} -gt 0 ] || pairs=(deeplabv3_resnet18:deeplabv3_resnet101 deeplabv3_mobilenetv2:deeplabv3_resnet101 deeplabv3_mobilenetv2:deeplabv3_resnet18)
mkdir -p "$out" || exit 1
threads=$(taskset -c "$cpus" nproc) || fail "cpus=$cpus: not among the processors of this process"
have_torch=
"$python" -c 'import torch' 2>/dev/null && have_torch=1
[ -n "$have_torch" ] || printf 'bench: %s has no PyTorch (python=PATH names another); its columns stay empty\n' "$python" >&2
declare -A retort_words=([f32]="precision=f32" [bf16]="precision=bf16" [int8]="precision=bf16 teacher.precision=int8")
declare -A mode_words=([plain]="layout=plain" [last]="layout=last" [compiled]="layout=last compile=yes" [compiled-plain]="layout=plain compile=yes")
declare -A chosen=()                     # by pair and precision: the modes that are run on

# ours PAIR PRECISION [FILE]: one run of retort.
ours() {
    local student=${1%%:*} words
    local teacher=${1#"$student"}
    read -ra words <<<"${retort_words[$2]} ${teacher:+teacher=${teacher#:}}"
    taskset -c "$cpus" build/retort bench step model="$student" batch="$batch" size="$size" classes=11 steps="$steps" threads="$threads" \
        student.aux=true "${words[@]}" ${3:+json="$3"} >/dev/null || fail "$1 in $2 did not run"
}

# theirs PAIR PRECISION MODE FILE: one run of PyTorch.
theirs() {
    local student=${1%%:*} words
    local teacher=${1#"$student"}
    read -ra words <<<"${mode_words[$3]} ${teacher:+teacher=${teacher#:}}"
    taskset -c "$cpus" "$python" bench/torch_step.py model="$student" batch="$batch" size="$size" classes=11 steps="$steps" threads="$threads" \
        precision="$2" "${words[@]}" >"$4" || fail "PyTorch ($3): $1 in $2 did not run"
}

# column KEY [MINUS] FILE...: that number of each file, less that of MINUS.
column() { awk -v key="\"$1\":" -v minus="\"${2:-}\":" '{ v = m = ""; for (i = 1; i < NF; i++) { if ($i == key) v = $(i + 1) + 0; if ($i == minus) m = $(i + 1) + 0 }
           if (v != "") print v - m }' "${@:3}" 2>/dev/null; }
median() { column "$@" | sort -g | awk '{ v[NR] = $1 } END { if (!NR) print "-"; else print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
div() { awk -v a="$1" -v b="$2" -v f="$3" 'BEGIN { if (a == "-" || b == "-" || b == 0) print "-"; else printf f, a / b }'; }
whole() { awk -v a="$1" 'BEGIN { print a == "-" ? a : sprintf("%.0f", a) }'; }
# by_time STEM: `median mode` of each mode that was run, the fastest first.
by_time() {
    local mode
    for mode in ${modes//,/ }; do printf '%s %s\n' "$(median step '' "$1".*.torch-"$mode".json)" "$mode"; done | grep -v '^-' | sort -g
}

# One line: times in ms, memory in MB; start: seconds to the end of the first step, less one median step.
table_row() {
    local stem=$out/${1/:/-}.$2 like=$2 mode
    [ "$like" != int8 ] || like=bf16
    mode=$(by_time "$out/${1/:/-}.$like" | head -n 1 | cut -d' ' -f2)
    local own=("$stem".*.retort.json) other=("$out/${1/:/-}.$like".*.torch-"${mode:-none}".json)
    local step torch rss torch_rss grown torch_grown
    step=$(median step '' "${own[@]}") torch=$(median step '' "${other[@]}")
    rss=$(median peak_rss_mb '' "${own[@]}") torch_rss=$(median peak_rss_mb '' "${other[@]}")
    grown=$(median peak_rss_mb loaded_rss_mb "${own[@]}") torch_grown=$(median peak_rss_mb loaded_rss_mb "${other[@]}")
    printf '| %s | %s | %s | %.2f | %s | %.1f s | %s %s | %s | %s | %s | %s | %s | %s | %s |\n' "${1/:/, }" "$2" "$(whole "$step")" \
        "$(median ratio '' "${own[@]}")" "$(div "$(median loss '' "${own[@]}")e2" "$step" '%.2f %%')" \
        "$(awk -v f="$(median first_step_s '' "${own[@]}")" -v s="$step" 'BEGIN { print f - s / 1e3 }')" \
        "$(whole "$torch")" "$mode" "$(div "$step" "$torch" %.2f)" "$(whole "$rss")" "$(whole "$torch_rss")" "$(div "$rss" "$torch_rss" %.2f)" \
        "$(whole "$grown")" "$(whole "$torch_grown")" "$(div "$grown" "$torch_grown" %.2f)"
}

rm -f "$out"/*.retort.json "$out"/*.torch-*.json
for ((round = 0; round <= rounds; round++)); do
    for pair in "${pairs[@]}"; do
        for p in ${precision//,/ }; do
            [ "$p" != int8 ] || [[ $pair == *:* ]] || continue
            stem=$out/${pair/:/-}.$p
            if [ "$round" = 0 ]; then steps=1 ours "$pair" "$p"; continue; fi
            printf 'round %d of %d: %s, %s\n' "$round" "$rounds" "$pair" "$p" >&2
            ours "$pair" "$p" "$stem.$round.retort.json"
            [ -n "$have_torch" ] && [ "$p" != int8 ] || continue
            for mode in ${chosen[$pair.$p]:-${modes//,/ }}; do theirs "$pair" "$p" "$mode" "$stem.$round.torch-$mode.json"; done
            [ -n "${chosen[$pair.$p]:-}" ] || chosen[$pair.$p]=$(by_time "$stem" | awk 'NR == 1 { best = $1 } $1 <= 1.1 * best { print $2 }')
        done
    done
done
{
    printf 'Batch %s, %s, 11 classes; %s rounds of %s steps, medians; processors %s.\n\n' "$batch" "$size" "$rounds" "$steps" "$cpus"
    printf '| student, teacher | precision | step, ms | over its convolutions | losses | start | PyTorch, ms | retort / PyTorch | peak RSS, MB | PyTorch | ratio | less what was loaded, MB | PyTorch | ratio |\n'
    printf '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n'
    for pair in "${pairs[@]}"; do
        for p in ${precision//,/ }; do [ "$p" = int8 ] && [[ $pair != *:* ]] || table_row "$pair" "$p"; done
    done
    printf '\nEach mode of PyTorch, ms (median of the rounds it was run in):\n\n'
    for pair in "${pairs[@]}"; do
        for p in ${precision//,/ }; do
            [ "$p" = int8 ] || [ -z "$have_torch" ] || printf -- '- %s, %s: %s\n' "${pair/:/, }" "$p" "$(by_time "$out/${pair/:/-}.$p" | awk '{ printf "%s%s %.0f", (NR > 1 ? ", " : ""), $2, $1 }')"
        done
    done
} | tee "$out/table.md"
