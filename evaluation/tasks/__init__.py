"""The paper's benchmarks by name, read from local folders in their published layout.

`registry.py` lists them. Each file says how a row becomes a question, what counts as right, and
with which budgets, prompts and thresholds the published evaluation runs it. Nothing is fetched.
"""
