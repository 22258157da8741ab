"""Grafana dashboards as code. `python -m deploy.dashboards` writes the chart's JSON files."""
