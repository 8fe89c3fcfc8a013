"""The only place that may import Flower's internals. Not built yet: the sequential engine needs no transport."""
