"""How many layers of each frame a peer gets: pure decisions over (time, reports, layer sizes).

Nothing here reads a clock, opens a file or knows of gRPC: the transport calls in with the time. docs/control.md is
the algorithm on one page.

* `budget`: the token bucket, its even spending, and the allocator of a fixed bitrate;
* `estimator`: what acknowledgements say of a link;
* `rate`: how fast to send;
* `share`: one receiver's rate among its streams;
* `adaptive`: the allocator that follows a link;
* `trace`: decisions as JSON lines, and their replay.
"""
