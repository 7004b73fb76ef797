#!/usr/bin/env bash
# huggingface_hub 2.4.0: `eval_results_to_model_index` joins results of one task, data set and split, and keeps the first one's
# source for all of them.
#
# Expected: what authors reported and what somebody else measured, each beside the address it comes from.
# Seen: two results with different `source_url` become one record with two numbers and the first address.
# Who is hurt: whoever reads the card: a number measured anew stands there as if the paper had reported it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check huggingface_hub==2.4.0
cd "$work"
HOME=$work "$work/venv/bin/python" - <<'PYTHON'
import sys

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index


def result(value, source):
    return EvalResult(
        task_type="object-detection", dataset_type="coco", dataset_name="COCO 2017", dataset_split="val2017",
        metric_type="box_ap", metric_value=value, source_name=source, source_url=f"https://{source}.example",
    )


index = eval_results_to_model_index("net", [result(42.3, "paper"), result(41.9, "rerun")])
records = [([m["value"] for m in r["metrics"]], r["source"]["url"]) for r in index[0]["results"]]
print(records)
sys.exit(records != [([42.3, 41.9], "https://paper.example")])
PYTHON
