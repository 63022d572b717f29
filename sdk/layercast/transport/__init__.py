"""Sender, Relay and Receiver over grpc.aio: the shell around pure queues, caches and budgets.

One file per object that lives on the network (`sender`, `relay`, `receiver`, `subscription`, `upstream`), one
per pure part they are made of (`outbox`, `shared`, `first_frame`, `backoff`). docs/transport.md tells how
they fit.
"""
