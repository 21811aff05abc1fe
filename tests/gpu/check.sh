#!/usr/bin/env bash
# All checks that need a GPU, part by part. Writes check.json and check.log to OUT (outputs/gpu), and what a part leaves.
#
#   WHEELS=folder ODE_RUN_DATA=folder OUT=folder PYTHON=python3 WORKERS=12 PARTS="gpu profile" tests/gpu/check.sh
#
#   gpu         the tests of tests/gpu: every solver and gradient mode against the CPU, captured against eager; with
#               TESTS="dopri5 or rk4" those of the second kind that are named so
#   quick       all other quick tests, on a machine with a GPU
#   profile     training steps of MNIST, ours and plain loops on torchdiffeq: time, kernels, launches, waits
#   border      from which size a step is faster on the GPU than on the CPU, the rule of trainer.device=auto
#   epoch       one epoch of MNIST by captured steps
#   step        the benchmark of `make bench` on the GPU
#   generation  images of MNIST by a U-Net of width WIDTH (64), EPOCHS (10) epochs in bf16, and how fast it samples
#   table1      the first row of Table 1, as many epochs as TABLE1_SECONDS (180) allow; goes on with RESUME/table1.tar
#
# PYTHON has a torch that sees the GPU; what else it lacks is installed from the wheels in WHEELS, without a network.
# A part may be given a limit in seconds, "profile:120" (600). Whether the parts run can be tried where there is no GPU: DEVICE=cpu PRECISION=fp32
# BIN=.venv/bin, with PROFILE="cell; cell", BORDER=1 and, in words to ode-run, GENERATION and TABLE1 to make them small.
set -uo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-outputs/gpu} WORKERS=${WORKERS:-$(( $(nproc) * 3 / 4 ))} DEVICE=${DEVICE:-cuda}
PARTS=${PARTS:-gpu quick profile border epoch} TABLE1_SECONDS=${TABLE1_SECONDS:-180}
EPOCHS=${EPOCHS:-10} WIDTH=${WIDTH:-64} PRECISION=${PRECISION:-tf32} PROFILE=${PROFILE:-} BORDER=${BORDER:-}
export ODE_RUN_DATA=${ODE_RUN_DATA:-data}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
exec > >(tee -a "$OUT/check.log") 2>&1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1

work=$(mktemp -d)
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
step() {  # step NAME COMMAND...: runs it, and goes on whatever comes of it
  local begun=$SECONDS
  echo "== $1"
  timeout -s INT -k 10 "$limit" "${@:2}" || { failed=1; echo "== $1 FAILED"; }
  echo "== $1: $((SECONDS - begun)) s"
}
tests() { step "$1" "$BIN/python" -m pytest -q -p no:benchmark -p no:cacheprovider -n "$WORKERS" "${@:2}"; }
run=("$BIN/ode-run" trainer.device="$DEVICE" task.data_dir="$ODE_RUN_DATA" output_dir="$work/outputs" trainer.compile=on)

for part in $PARTS; do
  limit=$([[ $part = *:* ]] && echo "${part#*:}" || echo 600)
  case ${part%%:*} in
    gpu)
      tests "captured against eager" --junitxml "$OUT/captured.xml" tests/gpu/test_captured.py ${TESTS:+-k "$TESTS"}
      [ -n "${TESTS:-}" ] || tests "GPU against CPU" --junitxml "$OUT/against_cpu.xml" tests/gpu/test_against_cpu.py ;;
    quick) tests "quick tests" -m "not slow" --junitxml "$OUT/quick.xml" --ignore tests/gpu ;;
    profile)
      IFS=';' read -ra cells <<< "$PROFILE"
      step "profile" "$BIN/python" -m tests.gpu.profile --device "$DEVICE" --out "$OUT/profile.json" \
        ${cells[@]:+--only "${cells[@]# }"} ;;
    border)
      OMP_NUM_THREADS=$(nproc) step "border" "$BIN/python" -m tests.gpu.border --device "$DEVICE" \
        --out "$OUT/border.json" ${BORDER:+--most "$BORDER"} ;;
    epoch)
      step "one epoch" "${run[@]}" experiment=mnist_one_epoch hydra.run.dir="$work/epoch" trainer.batch_size=128 \
        trainer.precision="$PRECISION" ;;
    step) step "training step" "$BIN/python" -m tests.benchmarks.training --device "$DEVICE" --pairs 15 ;;
    generation)
      OMP_NUM_THREADS=$(( ($(nproc) + 1) / 2 )) step "images" "${run[@]}" experiment=mnist_generation \
        hydra.run.dir="$work/generation" network.width="$WIDTH" trainer.precision=bf16 trainer.epochs="$EPOCHS" \
        ${GENERATION:-}
      step "sampling" "$BIN/python" -m tests.gpu.sampling "$work/generation" --out "$OUT/sampling.json"
      cp "$work"/generation/plots/samples.png "$OUT/samples.png" ;;
    table1)
      [ -f "${RESUME:-}/table1.tar" ] && tar -xf "$RESUME/table1.tar" -C "$work"
      echo "== Table 1, the first row"
      timeout -s TERM "$TABLE1_SECONDS" "${run[@]}" experiment=node_table1_odenet hydra.run.dir="$work/table1" \
        trainer.precision="$PRECISION" ${TABLE1:-}
      tar -C "$work" -cf "$OUT/table1.tar" table1 ;;
    *) echo "check: no part $part"; failed=1 ;;
  esac
done
"$BIN/python" -m tests.gpu.summary --out "$OUT" --work "$work"
exit $failed
