#!/usr/bin/env bash
# One Nvidia GPU: the limits, inference and training; then what they are held against.
#
#     OUT=folder benchmarks/gpu_check.sh
#
# PART=1 is what a GPU must show first (limits, 8B inference, 1B training, the report), PART=2 the
# comparisons (compile modes, transformers, float32). Neither needs anything of the other: each may
# run on a machine of its own. STEPS names single ones. benchmarks/check_steps.sh says what OUT,
# WORK, BUDGET and SPARE are.
#
# What takes long is compiling: tuned, which tries kernels for every product, comes last. PRICE: words
# for what the GPU costs, as PRICE="--usd-per-chip-hour 4.5" or PRICE="--price ID"; without it $ come
# from the list prices of the report alone.
#
# Needs tpubench[cuda] installed; transformers for peers. WHEELS: a folder that offline_wheels.py
# filled, for a machine without a package index. TPUBENCH, PYTHON: other commands. BACKEND=fake,
# PRESET, TRAIN and REHEARSE=1 rehearse the script itself without a GPU; MODES, the compile modes to
# be checked beside the default one, MODES=flex with BACKEND=cpu.
set -u
cd "$(dirname "$0")/.." || exit
: "${TPUBENCH:=tpubench}" "${PYTHON:=python3}" "${BACKEND:=cuda}" "${WHEELS:=}" "${PRICE:=}"
[ "$BACKEND" != cuda ] || : "${MODES:=flex tuned}"
: "${PRESET:=llama-3.1-8b}" "${TRAIN:=llama-3.2-1b}" "${SQUARE:=square-8192}" "${REHEARSE:=}"
case "${PART:-}" in
  "") ;;
  1) : "${STEPS:=install driver doctor hbm gemm infer train verify report}" ;;
  2) : "${STEPS:=install driver flex modes peers float32 tuned verify report}" ;;
  *) echo "PART is 1 or 2" >&2; exit 2 ;;
esac
. benchmarks/check_steps.sh

run() { # run NAME SECONDS OPTIONS…
  local name=$1 limit=$2
  shift 2
  # shellcheck disable=SC2086 # options are words
  step "$name" "$limit" "$TPUBENCH" run --backend "$BACKEND" $PRICE "$@"
}
LENGTHS="--set input_len=1024 --set output_len=128"
MIB="--set mib=1024" BATCHES=1,64
[ -z "$REHEARSE" ] || { LENGTHS="--set input_len=16 --set output_len=8"; MIB="--set mib=1"; BATCHES=1; }

in_mode() { # in_mode MODE SECONDS: where MODES names it
  # shellcheck disable=SC2086
  case " ${MODES:-} " in *" $1 "*)
    run "$1" "$2" --workload llama-infer --preset "$PRESET" --set batch=1 $LENGTHS --repeats 1 \
      --compile-mode "$1" ;;
  esac
}

if [ -n "$WHEELS" ]; then
  step install 60 "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --upgrade --target "$WORK/site" "$WHEELS"/*.whl
  export PYTHONPATH="$WORK/site" PATH="$WORK/site/bin:$PATH"
fi
[ "$BACKEND" != cuda ] || step driver 30 nvidia-smi
step doctor 60 "$TPUBENCH" doctor
# shellcheck disable=SC2086
run hbm 100 --workload hbm --preset copy $MIB --repeats 1
run gemm 100 --workload gemm --preset "$SQUARE" --set dtype=bfloat16 --repeats 1
# shellcheck disable=SC2086
run infer 240 --workload llama-infer --preset "$PRESET" --set batch=$BATCHES $LENGTHS --repeats 1
run train 120 --workload llama-pretrain --preset "$TRAIN" --repeats 1
in_mode flex 120
GPU="--device cuda --batch 1" MODES_ONLY="--modes graphs flex --prefill default flash"
[ -z "$REHEARSE" ] || { GPU="--device cpu --batch 1 --preset tiny --input-len 16 --output-len 8";
  MODES_ONLY="--modes blocks flex --prefill default flash"; }
# shellcheck disable=SC2086
step modes 200 "$PYTHON" benchmarks/llama_gpu.py $GPU $MODES_ONLY --no-peer --budget 150 --json
# shellcheck disable=SC2086
[ -n "$REHEARSE" ] ||
  step peers 150 "$PYTHON" benchmarks/llama_gpu.py $GPU --modes graphs --budget 100 --json
run float32 100 --workload gemm --preset "$SQUARE" --set dtype=float32 --repeats 1
in_mode tuned 240
SPARE=0 step verify 60 "$TPUBENCH" verify
SPARE=0 step report 60 "$TPUBENCH" report --out "$WORK/report"
finish
