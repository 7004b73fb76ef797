"""Check what the zoo claims, on four levels, each standing on the last.

bytes    the file of weights is the published one: hash and size
load     it fills the model: every tensor, no other
golden   the architecture computes what the reference computes: stored outputs, in float64
coco     the metrics: box and mask AP, panoptic quality, against the reported ones

command     the command line and the order of the work
outcome     what a check found, for one model and all, and how it is shown
levels      the first three levels
datasets    COCO on the disk, and what is missing of it
prediction  a detector over all pictures: sharded, resumable
grading     metrics, claims and the verdict: the fourth level
live        the table in a terminal
"""
