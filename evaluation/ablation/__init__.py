"""The shapes of the paper's tables and figures, on any checkpoint and a named schedule.

`registry.py` lists them. Those that train do so through `training/`, from labels that the model
makes itself, once for all variants; every finished variant is kept, so that a run goes on where it
was stopped.
"""
