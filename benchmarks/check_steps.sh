#!/usr/bin/env bash
# Sourced by gpu_check.sh and tpu_check.sh: steps with limits of their own, and logs that are kept.
#
# OUT: folder that keeps the logs, the store and the report. What one step breaks costs no other.
# WORK: where they lie meanwhile, where OUT must hold few files: OUT then has summary.txt and one
# archive, kept.tgz, written anew after each step, so that whoever ends the script keeps the rest.
# STEPS: the names of those to be run, all by default. BUDGET: seconds of the whole, of which the
# last SPARE are for what closes it: a step that would begin in them is left out, and one that began
# before them is cut short.
: "${OUT:=$PWD/device-check}" "${STEPS:=}" "${BUDGET:=86400}" "${SPARE:=15}"
: "${WORK:=$OUT}"
mkdir -p "$OUT" "$WORK/logs"
# A failure must bring its traceback along: the machine may be gone when the log is read.
export PYTHONUNBUFFERED=1 COLUMNS=120 TPUBENCH_STORE="$WORK/store" TPUBENCH_DEBUG=1
BEGAN=$(date +%s)
FAILED="" RUNNING=""
: >"$OUT/summary.txt"

elapsed() { echo $(($(date +%s) - BEGAN)); }

# keep: what there is so far, in OUT. A reader never sees half an archive.
keep() {
  [ "$WORK" != "$OUT" ] || return 0
  (cd "$WORK" && tar czf "$OUT/kept.part" --exclude=./site .) 2>/dev/null
  mv -f "$OUT/kept.part" "$OUT/kept.tgz"
}

ended_from_outside() {
  [ -z "$RUNNING" ] || kill "$RUNNING" 2>/dev/null
  keep
  exit 143
}
trap ended_from_outside TERM INT

# gist LOG: what a log says most in one line: what is invalid or failed, else its figures, else its
# last line.
gist() {
  { grep -aE -m1 ' (invalid|failed): |error: |Error: ' "$1" ||
    grep -aE '^(│ [a-z]|tpubench [a-z]|transformers )' "$1" ||
    tail -n 1 "$1"; } | sed 's/│/ /g' | tr -s ' ' | paste -sd ';' | cut -c1-200 |
    iconv -c -f UTF-8 -t UTF-8 # cutting may have left a part of a character
}

# step NAME SECONDS COMMAND…: run it for at most so long; its log is $WORK/logs/NAME.log.
step() {
  local name=$1 limit=$2 began code left log="$WORK/logs/$1.log"
  shift 2
  case " ${STEPS:-$name} " in *" $name "*) ;; *) return 0 ;; esac
  left=$((BUDGET - SPARE - $(elapsed)))
  if [ "$left" -le 0 ]; then
    echo "=== $name: left out, $BUDGET s are over" | tee -a "$OUT/summary.txt"
    FAILED="$FAILED $name"
    return 0
  fi
  [ "$limit" -le "$left" ] || limit=$left
  began=$(date +%s)
  echo "=== $name [$(elapsed) s]: $*"
  timeout --kill-after=10 "$limit" "$@" >"$log" 2>&1 &
  RUNNING=$!
  wait "$RUNNING"
  code=$?
  RUNNING=""
  tail -n 20 "$log" | cut -c1-130
  printf -- '--- %s: exit %d after %d s (limit %d s): %s\n' \
    "$name" $code $(($(date +%s) - began)) "$limit" "$(gist "$log")" | tee -a "$OUT/summary.txt"
  [ $code -eq 0 ] || FAILED="$FAILED $name"
  keep
}

# finish: exit 0 where all steps passed, 1 naming those that did not.
finish() {
  echo "=== whole: $(elapsed) s; logs and store in $OUT" | tee -a "$OUT/summary.txt"
  cat "$OUT/summary.txt"
  keep
  [ -z "$FAILED" ] || { echo "failed:$FAILED"; exit 1; }
}
