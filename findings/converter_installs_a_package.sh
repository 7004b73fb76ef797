#!/usr/bin/env bash
# MNN 3.6.1: its converter installs another package with pip, unasked, into the environment that is first in PATH, and with
# it an older protobuf, with which onnx no longer loads.
#
# Expected: `mnnconvert --help` prints a help and changes nothing.
# Seen: it runs `pip install -U aliyun-log-python-sdk`, for reports to its makers. That asks for protobuf below 6, pip takes
# the newer one away, and `import onnx`, which is generated for 6.31.1 or newer, ends in a VersionError.
# Who is hurt: whoever converts an exported detector in the environment that exports it: the next export fails, and pip has
# changed packages that a lock file names. The module `_tools`, which converts, can be called without that.
# (Requests that MNN itself would send are refused here.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH" PIP_DISABLE_PIP_VERSION_CHECK=1
pip install --quiet MNN==3.6.1 onnx==1.23.2 protobuf==7.36.2
cat >"$(python -c 'import site; print(site.getsitepackages()[0])')/sitecustomize.py" <<'PYTHON'
import urllib.request


def refuse(*_, **__):
    raise OSError("no requests")


urllib.request.urlopen = refuse
PYTHON
packages() { pip list --format freeze | grep -iE '^(protobuf|aliyun-log-python-sdk)=' | tr '\n' ' '; }
before=$(packages)
python -c 'import onnx; print("before: onnx", onnx.__version__)'
mnnconvert --help >help.txt 2>&1
after=$(packages)
echo "before: $before"
echo "after: $after"
python -c 'import onnx' 2>error.txt && loads=yes || loads=no
tail -n 1 error.txt
[[ $before != *aliyun* && $after == *aliyun-log-python-sdk=* && $after == *protobuf==5.* && $loads == no ]]
