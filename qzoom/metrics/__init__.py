"""Metrics of the field: is an answer right, and how sure is a mean?"""
