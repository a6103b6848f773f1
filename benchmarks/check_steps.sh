# Sourced by gpu_check.sh and tpu_check.sh: steps with limits of their own, and logs that are kept.
#
# OUT: folder that keeps the logs, the store and the report. What one step breaks costs no other.
: "${OUT:=$PWD/device-check}"
mkdir -p "$OUT/logs"
export PYTHONUNBUFFERED=1 COLUMNS=120 TPUBENCH_STORE="$OUT/store"
BEGAN=$(date +%s)
FAILED=""

# step NAME SECONDS COMMAND…: run it for at most so long; its log is $OUT/logs/NAME.log.
step() {
  local name=$1 limit=$2 began code
  shift 2
  began=$(date +%s)
  echo "=== $name [$((began - BEGAN)) s]: $*"
  timeout --kill-after=10 "$limit" "$@" >"$OUT/logs/$name.log" 2>&1
  code=$?
  echo "--- exit $code after $(($(date +%s) - began)) s (limit $limit s)"
  tail -n 30 "$OUT/logs/$name.log" | cut -c1-130
  [ $code -eq 0 ] || FAILED="$FAILED $name"
}

# finish: exit 0 where all steps passed, 1 naming those that did not.
finish() {
  echo "=== whole: $(($(date +%s) - BEGAN)) s; logs and store in $OUT"
  [ -z "$FAILED" ] || { echo "failed:$FAILED"; exit 1; }
}
