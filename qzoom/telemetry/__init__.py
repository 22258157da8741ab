"""Traces, metrics and logs: one vocabulary for all services (`names`).

A gateway builds one `GatewayTelemetry` and covers each request:

    with telemetry.request(request.request_id, request.trace, request.model) as told:
        context = Context(request.request_id, request.deadline, told.headers)
        with told.step(Span.IMAGE_DECODE): ...
        with told.call(Span.GATE_PREFILL) as call:
            reply = await ...
            call.replied(reply.timing)
        told.gate_decided(reply.p_refine, tau_gate, is_open=True)

A replica of a stage builds one `ServiceTelemetry` and covers each call:

    with telemetry.stage(Span.GATE_PREFILL, message.context) as call:
        output, timing = await batcher.submit(...)
        call.ran(timing, {Attribute.P_REFINE: output.p_refine})

Gateways put `metrics.snapshot()` into one `MetricsLedger` and answer /metrics with
`render(ledger.total())`.
"""
