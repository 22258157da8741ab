"""Rivals of the paper's Tables II and V, one file each, all on the same base model.

    attention.py       crop where the answer's tokens attend to (Table V, 1)
    vicrop.py          crop by attention relative to a general question's (ViCrop)
    grounding_dino.py  crop what an open-vocabulary detector finds (Table V, 2 and 3)
    scales.py          features of two scales on the base grid (S2)
    tiling.py          the whole picture and all of its tiles (AnyRes style)

Those that crop answer with the same second look as Q-Zoom, so that only the choice of the region
differs; each pays for every pass that it makes.
"""
