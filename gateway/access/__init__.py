"""Who asks, may they, and have they asked before? Around the request flow, before any work.

callers        from a key or token to a tenant; oidc: the tokens of an issuer
shared         this gateway's view of the store: keys and settings, half a second old at most
guard          the store, or local state while it does not answer
quotas         what a tenant may use: reserved before the work, settled after it
replays        the answer to an Idempotency-Key that was seen before
flow           all of that around the flow of the method
"""
