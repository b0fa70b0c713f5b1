#!/usr/bin/env bash
# layers.sh - includes point down only: for every folder of src/, the folders it may include from.
# A folder may always include itself and the system. Prints every offence; exit 1 when there is any.
#   layers.sh [ROOT]     ROOT holds src/ (default: this checkout)
set -u
root=${1:-$(dirname "${BASH_SOURCE[0]}")/..}
declare -A may=(
    [base]=""
    [dist]="base"
    [tensor]="base"
    [io]="base tensor"
    [graph]="base tensor"
    [backend]="base dist tensor graph"
    [nn]="base tensor graph"
    [models]="base tensor io graph nn"
    [data]="base tensor io"
    [distill]="base dist tensor graph nn"
    [eval]="base dist tensor io graph backend models data"
    [train]="base dist tensor io graph backend nn models data distill eval"
    [report]="base tensor io"
    [cli]="base dist tensor io graph backend nn models data distill eval train report"
)
bad=0
offence() { printf '%s\n' "$*"; bad=1; }
cd "$root/src" || exit 1
for dir in */; do [ -n "${may[${dir%/}]+x}" ] || offence "src/$dir: no such layer; give it a row in tools/layers.sh"; done

# Quoted includes are looked up from src/, or stay within the including file's own folder.
while IFS=: read -r file line text; do
    from=${file%%/*}
    path=$(sed -E 's/^[^"]*"([^"]+)".*/\1/' <<<"$text")
    [[ $path == */* ]] || continue
    case $path in ../*) offence "src/$file:$line: relative include $path"; continue ;; esac
    to=${path%%/*}
    [ "$to" = "$from" ] && continue
    [[ " ${may[$from]-} " == *" $to "* ]] || offence "src/$file:$line: $from/ may not include $path"
done < <(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' --include='*.c' --include='*.h' --include='*.def' . | sed 's|^\./||')

# The program ends in one place, and only base/ talks to the system about it.
while IFS=: read -r file line text; do
    case $file in cli/main.c|base/*) ;; *) offence "src/$file:$line: exit() outside cli/main.c" ;; esac
done < <(grep -rnE '(^|[^_A-Za-z0-9])exit\(' --include='*.c' . | grep -vE ':[0-9]+:[[:space:]]*(\*|/\*|//)' | sed 's|^\./||')

if [ $bad -eq 0 ]; then echo "ok     layers_point_down"; else echo "FAIL   layers_point_down"; fi
exit $bad
