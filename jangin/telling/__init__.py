"""What a process that runs for months tells beside its work, at a site and at the server.

    logs     lines of JSON in its state folder
    figures  /health and /metrics over HTTP, in the text of Prometheus

The law: what is told has states, codes, counts and ages, in forms that cannot hold a recorded value or a sentence.
"""
