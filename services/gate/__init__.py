"""The gate service: layers 1..B over the coarse prompt, and p(refine)."""
