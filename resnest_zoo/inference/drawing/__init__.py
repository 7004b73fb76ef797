"""How results are drawn, with Pillow and NumPy alone; `resnest_zoo.inference.visualize` is the door.

colours: of classes and of single instances, and what can be read on them. letters: fonts. placement: where
labels find room. labels: their patches and leaders. masks: fill and outline. segments: the pieces of a
panoptic map. style: what the caller may choose. supervised: the same by the package `supervision`.
"""
