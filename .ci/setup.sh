#!/usr/bin/env bash
# Makes the virtual environment that `make demo` or `make test` needs. Quick when nothing is left to do.
#   bash .ci/setup.sh demo|test      PYTHON: the interpreter, VENV: the folder
set -euo pipefail
purpose=$1
python=${PYTHON:-python3}
venv=${VENV:-.venv}
torch=2.13.0
cd "$(dirname "$0")/.."

fail() { echo "setup: $*" >&2; exit 1; }

"$python" -c "" 2>/dev/null || fail "there is no $python that runs; install Python 3.11 or newer, or name one: make PYTHON=python3.12 $purpose"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" --version 2>&1) is too old; ros_attn needs 3.11 or newer (ROS 2 Jazzy and later): make PYTHON=python3.12 $purpose"
for link in kernels policies sim world_models; do
    [ -L ros_attn/$link ] || fail "ros_attn/$link is no symbolic link: this checkout lost its links; check out again on a file system that has them, on Windows after 'git config core.symlinks true'"
done

# Where ROS is sourced its own rclpy is used, and nothing of it is installed a second time.
ros=no
"$python" -c 'import rclpy' 2>/dev/null && ros=yes
stamp=$venv/.ready-$purpose-$({ pwd -P; cat pyproject.toml setup.py setup.cfg .ci/setup.sh; } | cksum | cut -d' ' -f1)-$ros
if [ -e "$stamp" ]; then exit 0; fi

# System libraries: GL for rendering (the demo does without), Chromium for the test that opens the report.
missing=()
there() { for pattern in "$@"; do compgen -G "$pattern" >/dev/null && return; done; false; }
there "/usr/lib*/libEGL.so.1*" "/usr/lib/*/libEGL.so.1*" || missing+=(libegl1)
there "/usr/lib*/libGL.so.1*" "/usr/lib/*/libGL.so.1*" || missing+=(libgl1)
there "/usr/lib*/dri/*swrast*" "/usr/lib/*/dri/*swrast*" "/usr/lib*/libgallium*" "/usr/lib/*/libgallium*" || missing+=(libgl1-mesa-dri)
if [ "$purpose" = test ]; then
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
fi
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: installing ${missing[*]}"
        (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}") >/dev/null 2>&1 ||
            echo "setup: could not install ${missing[*]}; what needs them will say so"
    else
        echo "setup: for all features install: sudo apt-get install -y ${missing[*]}"
    fi
fi

new_venv() { # folder, options
    "$python" -m venv "${@:2}" "$1" >/dev/null 2>&1 && return
    # Debian's Python lacks ensurepip unless python3-venv is there; virtualenv brings its own.
    rm -rf "$1"
    "$python" -m pip install -q --target .venv-bootstrap virtualenv || fail "no virtual environment can be made; install one of: python3-venv, virtualenv"
    PYTHONPATH=.venv-bootstrap "$python" -m virtualenv -q "${@:2}" "$1"
}
if [ ! -x "$venv/bin/python" ]; then
    echo "setup: making $venv"
    options=()
    [ $ros = yes ] && options=(--system-site-packages)
    new_venv "$venv" "${options[@]}"
fi
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

extras=perception,evaluate,sim
[ "$purpose" = test ] && extras=$extras,dev
if [ "$purpose" = test ] && [ $ros = no ]; then
    if "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))' && [ "$(uname -m)" = x86_64 ]; then
        extras=$extras,ros
    else
        echo "setup: there are no rclpy wheels for $("$python" --version) on $(uname -m); tests/ros is not run. Source ROS 2 Jazzy first to run it."
    fi
fi
constraints=()
if [ $ros = yes ]; then
    # ROS's own extension modules are built against the numpy that came with it.
    "$python" -c 'import numpy; print(f"numpy=={numpy.__version__}")' >"$venv/constraints.txt"
    constraints=(-c "$venv/constraints.txt")
fi
if [ "$purpose" = test ] && ! "$venv/bin/python" -c 'import torch' 2>/dev/null; then
    echo "setup: installing torch"
    if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
        pip install -q "${constraints[@]}" "torch>=2.11"
    else
        # Without a GPU the CPU build: gigabytes smaller. pip finds it where a local index has it; uv knows its index.
        pip install -q "torch==$torch+cpu" 2>/dev/null ||
            { pip install -q uv && "$venv/bin/uv" pip install -q --python "$venv/bin/python" --torch-backend=cpu "torch==$torch"; } ||
            fail "the CPU build of torch $torch could not be fetched; install torch 2.11 or newer into $venv and run this again"
    fi
fi
if [ "$purpose" = test ] && [ "$(uname -s)" = Linux ]; then
    # Two compilers for the kernels, which differ on the same source: the newest, and that of torch 2.11 beside it. A
    # torch with CUDA brought its own.
    if ! "$venv/bin/python" -c 'import triton' 2>/dev/null; then
        echo "setup: installing triton"
        pip install -q "triton==3.9.0" || echo "setup: could not install triton 3.9.0 for $("$python" --version) on $(uname -m); the Triton kernels are not tested"
    fi
    if [ ! -d "$venv/triton-3.6" ]; then
        rm -rf "$venv/triton-3.6.part"
        { pip install -q --no-deps --target "$venv/triton-3.6.part" "triton==3.6.0" && mv "$venv/triton-3.6.part" "$venv/triton-3.6"; } ||
            echo "setup: could not install triton 3.6.0 for $("$python" --version) on $(uname -m); the kernels are not compiled with it"
    fi
fi
echo "setup: installing ros-attn[$extras]"
pip install -q "${constraints[@]}" "setuptools>=70.1" -e ".[$extras]"
if [ "$purpose" = test ] && ! command -v colcon >/dev/null && [ ! -x "$venv/colcon/bin/colcon" ]; then
    # In an environment of its own: it wants an older setuptools than torch may bring.
    echo "setup: installing colcon"
    { new_venv "$venv/colcon" && env -u PYTHONPATH "$venv/colcon/bin/python" -m pip install -q --disable-pip-version-check "setuptools<80" colcon-ros; } ||
        echo "setup: could not install colcon; tests/packaging/test_colcon.py is not run"
fi
rm -f "$venv"/.ready-"$purpose"-*
touch "$stamp"
echo "setup: done"
