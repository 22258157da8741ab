"""Who may enter, and when? Bounds, a fair queue and brown-out, before any picture is decoded.

One desk, a small actor, decides for all gateways of an application
(docs/decisions/0007-one-desk-admits.md).
"""
