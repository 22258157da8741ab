"""The edge of the system: REST and gRPC, the flow through the stages. Imports no torch."""
