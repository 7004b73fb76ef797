"""COCO's annotations: one rule of what a file, an id, a flag, a size and a mask are, for all who read it."""
