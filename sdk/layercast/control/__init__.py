"""How many layers of each frame a peer gets: pure decisions over (time, reports, layer sizes).

Nothing here reads a clock, opens a file or knows of gRPC: the transport calls in with the time.

* `budget`: the token bucket and the allocator of a fixed bitrate.
"""
