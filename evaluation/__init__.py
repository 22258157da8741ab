"""How right and how costly is a model? Any model, any data set, the routes and rivals of the paper.

dataset.py    questions, metric and prompt of a data set or of a named task (tasks/)
modes.py      in which ways a model is asked: plain at a budget, auto, always zoom, oracle
answerers/    who answers: the pipeline in this process, or a gateway over HTTP
run.py        asks every question; results.py is what becomes of it, one JSON file a run
summary.py    figures with intervals; tables.py and plots.py show them
pareto.py     accuracy against throughput (Fig. 8), speed-up at matched accuracy
calibrate.py  thresholds from a validation split, and the curve that goes with the model
controls.py   what a constant box, a blank picture or the question's words alone would reach
baselines/    rivals of Tables II and V
ablation/     the shapes of the paper's other tables and figures
"""
