#!/usr/bin/env bash
# All checks that need a GPU, in a few minutes: the quick tests on it, a training step's time against the plain loop and
# its profile, eager and captured, one epoch of MNIST. Writes check.json and check.log to OUT (outputs/gpu).
#
#   WHEELS=folder ODE_RUN_DATA=folder OUT=folder PYTHON=python3 WORKERS=12 tests/gpu/check.sh
#
# PYTHON has a torch that sees the GPU; what else it lacks is installed from the wheels in WHEELS, without a network.
set -uo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-outputs/gpu} WORKERS=${WORKERS:-$(( $(nproc) * 3 / 4 ))}
mkdir -p "$OUT"
OUT=$(cd "$OUT" && pwd)
exec > >(tee "$OUT/check.log") 2>&1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1

environment=$(mktemp -d)
"$PYTHON" -m venv --without-pip "$environment"
"$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])' \
  > "$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/torch.pth"
if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip --python "$environment/bin/python" install --quiet --no-index --no-deps "$WHEELS"/*.whl || exit 1
fi
"$PYTHON" -m pip --python "$environment/bin/python" install --quiet --no-index --no-deps --no-build-isolation \
  --editable . || exit 1
BIN=$environment/bin
"$BIN/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || { echo "check: no GPU"; exit 1; }

failed=0
step() {  # step NAME COMMAND...: runs it, and goes on whatever comes of it
  local begun=$SECONDS
  echo "== $1"
  "${@:2}" || { failed=1; echo "== $1 FAILED"; }
  echo "== $1: $((SECONDS - begun)) s"
}

step "GPU against CPU, captured against eager" "$BIN/python" -m pytest -q -p no:benchmark -p no:cacheprovider tests/gpu -n "$WORKERS"
step "quick tests" "$BIN/python" -m pytest -q -p no:benchmark -p no:cacheprovider -m "not slow" -n "$WORKERS" \
  --junitxml "$OUT/quick.xml" --ignore tests/gpu
step "training step" "$BIN/python" -m tests.benchmarks.training --device cuda --pairs 15 --data-dir "${ODE_RUN_DATA:-data}"
step "profile" "$BIN/python" -m tests.gpu.profile --data-dir "${ODE_RUN_DATA:-data}" --out "$OUT/profile.json"
step "one epoch" "$BIN/ode-run" experiment=mnist_one_epoch hydra.run.dir="$OUT/epoch" trainer.device=cuda \
  trainer.batch_size=128 trainer.compile=on trainer.precision=tf32 \
  task.data_dir="${ODE_RUN_DATA:-data}"
"$BIN/python" -m tests.gpu.summary --out "$OUT"
exit $failed
