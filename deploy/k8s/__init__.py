"""Q-Zoom on Kubernetes: render the chart, check what came out, bring it to a cluster and watch."""
