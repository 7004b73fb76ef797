"""Trains or evaluates a detector, with the arguments of detectron2's script of this name.

    python train_net.py --config-file faster_rcnn_resnest50 --num-gpus 8
    python train_net.py --config-file my.yaml --eval-only MODEL.WEIGHTS out/best.safetensors

See `resnest_zoo/cli/train_net.py`, and `python train_net.py --help`.
"""

import sys

from resnest_zoo.cli.train_net import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
