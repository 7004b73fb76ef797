"""One line for scripts of detectron2's: `import resnest_zoo.integrations.detectron2.registered`."""

from resnest_zoo.integrations.detectron2 import register

register()
