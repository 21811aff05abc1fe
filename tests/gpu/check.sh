#!/usr/bin/env bash
# All checks that need a GPU, part by part. Leaves check.json, check.log, samples.png and table1.tar in OUT, which is
# outputs/gpu by default.
#
#   WHEELS=folder ODE_RUN_DATA=folder OUT=folder PYTHON=python3 WORKERS=12 PARTS="new:95 profile" tests/gpu/check.sh
#
#   new         tests of what has not run on a GPU since it was written (NEW, as to pytest's -k)
#   profile     training steps of MNIST, ours and plain loops on torchdiffeq: time, kernels, launches, waits; what is
#               to be known first comes first
#   epoch       one epoch of MNIST by captured steps
#   generation  images of MNIST by a U-Net of width WIDTH (64), in bf16 for IMAGES_SECONDS (15), and how fast it samples
#   gpu         the tests of tests/gpu: every solver and gradient mode against the CPU, captured against eager; with
#               TESTS="dopri5 or rk4" those of the second kind that are named so
#   quick       all other quick tests, on a machine with a GPU
#   border      from which size a step is faster on the GPU than on the CPU, the rule of trainer.device=auto
#   ensembles   many small solves at once, each as a thread of one kernel, and one operation at a time
#   step        the benchmark of `make bench` on the GPU
#   accuracy    MNIST after three epochs by captured steps, in fp32, tf32 and bf16 (PRECISIONS), three seeds of each
#   table1      the first row of Table 1, as many epochs as its limit allows; goes on with RESUME/table1.tar
#
# A part ends at its limit in seconds, "profile:120"; what it has found until then is in check.json, which is written
# anew after every part. The usual parts take under five minutes; PARTS="gpu:150 table1:180" are for what is left: a row
# of Table 1 takes ten minutes, or several spells.
#
# PYTHON has a torch that sees the GPU; what else it lacks is installed from the wheels in WHEELS, without a network:
#   pip wheel --no-deps -w folder hydra-core==1.3.2 omegaconf==2.3.0 antlr4-python3-runtime==4.9.3 beartype zuko \
#     hatchling trove-classifiers editables
# Whether the parts run can be tried where there is no GPU: DEVICE=cpu PRECISION=fp32 COMPILE=off BIN=.venv/bin, with
# PROFILE="cell; cell", BORDER=1, SIZES=100, SEEDS=0, PRECISIONS=fp32 and, in words to ode-run, EPOCH, GENERATION,
# ACCURACY and TABLE1 to make them small.
set -uo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-outputs/gpu} WORKERS=${WORKERS:-$(( $(nproc) * 3 / 4 ))} DEVICE=${DEVICE:-cuda}
PARTS=${PARTS:-new:95 profile:75 epoch:35 generation:90} IMAGES_SECONDS=${IMAGES_SECONDS:-15}
NEW=${NEW:-ensemble or planned or resumed or attention or transformer or masked or captured_solves or recorded or dopri5 or sde}
WIDTH=${WIDTH:-64} PRECISION=${PRECISION:-tf32} HALF=${HALF:-bf16} COMPILE=${COMPILE:-on}
PROFILE=${PROFILE:-} BORDER=${BORDER:-}
ODE_RUN_DATA=$(realpath "${ODE_RUN_DATA:-data}")
export ODE_RUN_DATA
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
exec > >(tee -a "$OUT/check.log") 2>&1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1

work=$(mktemp -d)
mkdir "$work/found"
if [ -n "${BIN:-}" ]; then  # an environment that has everything
  BIN=$(cd "$BIN" && pwd)
else
  "$PYTHON" -m venv --without-pip "$work/environment"
  "$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
    > "$("$work/environment/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/torch.pth"
  if [ -n "${WHEELS:-}" ]; then
    "$PYTHON" -m pip --python "$work/environment/bin/python" install --quiet --no-index --no-deps "$WHEELS"/*.whl \
      || exit 1
  fi
  "$PYTHON" -m pip --python "$work/environment/bin/python" install --quiet --no-index --no-deps --no-build-isolation \
    --editable . || exit 1
  BIN=$work/environment/bin
fi
if [ "$DEVICE" = cuda ]; then
  "$BIN/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "check: no GPU"; exit 1; }
fi

failed=0
summarise() { "$BIN/python" -m tests.gpu.summary --out "$OUT" --work "$work" || failed=1; }
keep() { [ ! -d "$work/table1" ] || tar -C "$work" -cf "$OUT/table1.tar" table1; }  # for a later machine to go on with
trap 'keep; summarise; exit 143' TERM INT
step() {  # step NAME COMMAND...: runs it for what is left of the part's limit, and goes on whatever comes of it
  local begun=$SECONDS left=$((ends - SECONDS)) status=0
  echo "== $1"
  if [ "$left" -gt 0 ]; then timeout -s INT -k 15 "$left" "${@:2}" || status=$?; else status=124; fi
  case $status in
    0) ended="done" ;;
    124 | 137) ended="limit" ;;
    *) ended="failed" ;;
  esac
  [ "$status" = 0 ] || [ "${part%%:*} $ended" = "table1 limit" ] || failed=1
  echo "== $1: $ended, $((SECONDS - begun)) s"
  printf '%s\t%s\t%s\t%s\n' "$1" "$ended" "$status" "$((SECONDS - begun))" >> "$work/found/parts.tsv"
}
tests() {  # tests NAME OPTIONS...: a line a test, for the file of results is written at the end alone
  step "$1 tests" "$BIN/python" -m pytest -v -rfE --tb=short --no-header -p no:benchmark -p no:cacheprovider \
    -n "$WORKERS" --junitxml "$work/found/$1.xml" "${@:2}"
}
run=("$BIN/ode-run" trainer.device="$DEVICE" task.data_dir="$ODE_RUN_DATA" output_dir="$work/outputs"
  trainer.compile="$COMPILE")

for part in $PARTS; do
  ends=$((SECONDS + $([[ $part = *:* ]] && echo "${part#*:}" || echo 600)))
  case ${part%%:*} in
    new) tests new tests/gpu/test_captured.py tests/gpu/test_against_cpu.py -k "$NEW" ;;
    gpu)
      tests captured tests/gpu/test_captured.py ${TESTS:+-k "$TESTS"}
      [ -n "${TESTS:-}" ] || tests against_cpu tests/gpu/test_against_cpu.py ;;
    quick) tests quick -m "not slow" --ignore tests/gpu ;;
    profile)
      IFS=';' read -ra cells <<< "$PROFILE"
      step "profile" "$BIN/python" -m tests.gpu.profile --device "$DEVICE" --out "$work/found/profile.json" \
        ${cells[@]:+--only "${cells[@]# }"} ;;
    border)
      OMP_NUM_THREADS=$(nproc) step "border" "$BIN/python" -m tests.gpu.border --device "$DEVICE" \
        --out "$work/found/border.json" ${BORDER:+--most "$BORDER"} ;;
    epoch)
      step "one epoch" "${run[@]}" experiment=mnist_one_epoch hydra.run.dir="$work/epoch" trainer.batch_size=128 \
        trainer.precision="$PRECISION" ${EPOCH:-} ;;
    ensembles)
      step "ensembles" "$BIN/python" -m tests.gpu.ensembles --device "$DEVICE" --out "$work/found/ensembles.json" \
        ${SIZES:+--sizes $SIZES} ;;
    step) step "training step" "$BIN/python" -m tests.benchmarks.training --device "$DEVICE" --pairs 15 ;;
    generation)
      ends=$((ends - 15))  # for sampling
      OMP_NUM_THREADS=$(( ($(nproc) + 1) / 2 )) step "images" "${run[@]}" experiment=mnist_generation \
        hydra.run.dir="$work/generation" network.width="$WIDTH" trainer.precision="$HALF" \
        trainer.max_seconds="$IMAGES_SECONDS" ${GENERATION:-}
      ends=$((ends + 15))
      step "sampling" "$BIN/python" -m tests.gpu.sampling "$work/generation" --out "$work/found/sampling.json"
      cp "$work"/generation/plots/samples.png "$OUT/samples.png" || failed=1 ;;
    accuracy)
      step "three epochs" "${run[@]}" -m task=mnist model=odenet solver=dopri5 trainer.epochs=3 trainer.batch_size=128 \
        trainer.precision="${PRECISIONS:-fp32,$PRECISION,$HALF}" seed="${SEEDS:-0,1,2}" sweep=accuracy pictures=false logger=none \
        ${ACCURACY:-} ;;
    table1)
      [ -f "${RESUME:-}/table1.tar" ] && tar -xf "$RESUME/table1.tar" -C "$work"
      step "Table 1, the first row" "${run[@]}" experiment=node_table1_odenet hydra.run.dir="$work/table1" \
        trainer.precision="$PRECISION" ${TABLE1:-}
      keep ;;
    *) echo "check: no part $part"; failed=1 ;;
  esac
  summarise
done
exit $failed
