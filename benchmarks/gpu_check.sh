#!/usr/bin/env bash
# One Nvidia GPU, one call: the limits, inference, training, and what they are held against.
#
#     OUT=folder benchmarks/gpu_check.sh        (by estimate twelve minutes on an H100, compilers cold)
#
# Needs tpubench[cuda] installed; transformers for the last step. TPUBENCH, PYTHON: other commands.
# BACKEND=fake, PRESET, TRAIN and REHEARSE=1 rehearse the script itself without a GPU; MODES, the
# compile modes to be checked beside the default one, MODES=flex with BACKEND=cpu.
set -u
cd "$(dirname "$0")/.." || exit
: "${TPUBENCH:=tpubench}" "${PYTHON:=python}" "${BACKEND:=cuda}"
[ "$BACKEND" != cuda ] || : "${MODES:=flex tuned}"
: "${PRESET:=llama-3.1-8b}" "${TRAIN:=llama-3.2-1b}" "${SQUARE:=square-8192}" "${REHEARSE:=}"
. benchmarks/check_steps.sh

run() { # run NAME SECONDS OPTIONS…
  local name=$1 limit=$2
  shift 2
  step "$name" "$limit" "$TPUBENCH" run --backend "$BACKEND" "$@"
}
LENGTHS="--set input_len=1024 --set output_len=128"
MIB="" BATCHES=1,64
[ -z "$REHEARSE" ] || { LENGTHS="--set input_len=16 --set output_len=8"; MIB="--set mib=1"; BATCHES=1; }

[ "$BACKEND" != cuda ] || step driver 30 nvidia-smi
step doctor 60 "$TPUBENCH" doctor
# shellcheck disable=SC2086 — options are words
run hbm 90 --workload hbm --preset copy $MIB --repeats 1
run gemm 90 --workload gemm --preset "$SQUARE" --set dtype=bfloat16 --repeats 1
run float32 90 --workload gemm --preset "$SQUARE" --set dtype=float32 --repeats 1
# shellcheck disable=SC2086
run infer 420 --workload llama-infer --preset "$PRESET" --set batch=$BATCHES $LENGTHS --repeats 1
GPU="--device cuda --batch 1" MODES_ONLY="--modes graphs flex tuned --prefill default cudnn"
[ -z "$REHEARSE" ] || { GPU="--device cpu --batch 1 --preset tiny --input-len 16 --output-len 8";
  MODES_ONLY="--modes blocks flex --prefill default cudnn"; }
# shellcheck disable=SC2086
step modes 240 "$PYTHON" benchmarks/llama_gpu.py $GPU $MODES_ONLY --no-peer --budget 120 --json
for mode in ${MODES:-}; do
  # shellcheck disable=SC2086
  run "$mode" 240 --workload llama-infer --preset "$PRESET" $LENGTHS --repeats 1 --compile-mode "$mode"
done
run train 240 --workload llama-pretrain --preset "$TRAIN" --repeats 1
step verify 60 "$TPUBENCH" verify
step report 120 "$TPUBENCH" report --out "$OUT/report"
[ -n "$REHEARSE" ] || step peers 420 "$PYTHON" benchmarks/llama_gpu.py --modes graphs --json
finish
