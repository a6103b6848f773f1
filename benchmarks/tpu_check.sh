#!/usr/bin/env bash
# One TPU chip, one call: the limits, inference and training through one library.
#
#     OUT=folder BACKEND=tpu benchmarks/tpu_check.sh      (TorchTPU; BACKEND=xla for PyTorch/XLA)
#
# Needs tpubench and the library installed. PYTHON: the interpreter that has the library, where it is
# another than tpubench's. CHIPS: more than one adds a tensor parallel step over so many.
# TPUBENCH: another command. REHEARSE=1 with BACKEND=fake rehearses the script itself without a TPU.
set -u
cd "$(dirname "$0")/.." || exit
: "${TPUBENCH:=tpubench}" "${BACKEND:=tpu}" "${CHIPS:=1}" "${PYTHON:=}" "${REHEARSE:=}"
: "${PRESET:=llama-3.2-1b}" "${TRAIN:=llama-3.2-1b}" "${SQUARE:=square-8192}"
. benchmarks/check_steps.sh

run() { # run NAME SECONDS OPTIONS…
  local name=$1 limit=$2
  shift 2
  [ -z "$PYTHON" ] || set -- "$@" --python "$PYTHON"
  step "$name" "$limit" "$TPUBENCH" run --backend "$BACKEND" "$@"
}
LENGTHS="--set input_len=1024 --set output_len=128"
MIB="" BATCHES=1,8
[ -z "$REHEARSE" ] || { LENGTHS="--set input_len=16 --set output_len=8"; MIB="--set mib=1"; BATCHES=1; }

step doctor 60 "$TPUBENCH" doctor
# A copy costs nothing under torch_xla, which gives the value a second name.
# shellcheck disable=SC2086 — options are words
run hbm 180 --workload hbm --preset read $MIB --repeats 1
run gemm 180 --workload gemm --preset "$SQUARE" --set dtype=bfloat16 --repeats 1
run float32 180 --workload gemm --preset "$SQUARE" --set dtype=float32 --repeats 1
# shellcheck disable=SC2086
run infer 600 --workload llama-infer --preset "$PRESET" --set batch=$BATCHES $LENGTHS --repeats 1
run train 600 --workload llama-pretrain --preset "$TRAIN" --repeats 1
if [ "$CHIPS" -gt 1 ]; then
  # shellcheck disable=SC2086
  run chips 600 --workload llama-infer --preset "$PRESET" --set batch=8 $LENGTHS --repeats 1 \
    --chips "$CHIPS"
fi
SPARE=0 step verify 60 "$TPUBENCH" verify
SPARE=0 step report 120 "$TPUBENCH" report --out "$WORK/report"
finish
