"""Traces, metrics and logs: one vocabulary for all services (`names`).

A gateway builds one `GatewayTelemetry`, a replica of a stage one `ServiceTelemetry`.
"""
