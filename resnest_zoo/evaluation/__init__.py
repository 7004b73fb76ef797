"""Metrics of COCO: box and mask AP, panoptic quality, semantic IoU; and its result formats."""
