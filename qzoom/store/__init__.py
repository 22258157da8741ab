"""What do the gateways of a system share? Keys, runtime settings, quotas and stored answers.

    messages   what a store is asked and answers
    base       the interface
    sqlite     the embedded default: one file for all gateways of a machine
    redis      for gateways on several machines: atomic scripts (lua/)
    window     how a quota per minute is counted
    limits     what a tenant may use
    runtime    settings that change while the system runs
    api_keys   secrets that name a tenant
    opening    from an address to a store

Both stores keep the same semantics and pass the same tests (docs/decisions/0008-two-stores.md).
"""
