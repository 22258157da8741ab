"""Synthetic pictures with questions whose evidence is known.

Rung 1: scenes of coloured icons, each with a printed code. A code in small print cannot be read in
the coarse picture, the same code in large print can, so that only looking tells which is which.
"""
