# On a node without a network, from a pack that `make pack` wrote (see study/pack.py):
#   bash run.sh PROFILE SECONDS OUT
# OUT gets rows.tar.gz, a tar for each poison, and log.txt; JOBS is how many runs go on at a time.
set -e
if [ $# -ne 3 ]; then
  echo "run.sh takes PROFILE SECONDS OUT, such as: bash run.sh paper 600 out" >&2
  exit 2
fi
profile=$1
end=$(($(date +%s) + $2))
mkdir -p "$3"
out=$(cd "$3" && pwd)
cd "$(dirname "$0")"
if [ ! -e site/installed ]; then
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
    --disable-pip-version-check --root-user-action ignore --upgrade --target site wheels/*.whl
  touch site/installed
fi
export PYTHONPATH="$PWD:$PWD/site" PATH="$PWD/site/bin:$PATH" PACD_DATA="$PWD/data/downloads"
exec python3 -m study.node "$profile" "$end" "$out"
