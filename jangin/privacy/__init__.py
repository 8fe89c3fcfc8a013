"""The privacy core: units and releases, accounting, secure randomness, sampling, the private step, moments.

No Flower, no sockets, no clock, no records: arrays in, arrays and guarantees out. The reading order is
`releases` (what is promised), `accounting` (what it costs), `step` (the clipped sum), `randomness` (the noise).
"""
