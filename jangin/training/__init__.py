"""One site's training.

Scaling (`scaling`), batch draws (`draws`), the local loop (`loop`), the site that answers orders (`site`), metrics
on hold-outs (`metrics`), and the mechanism a plan asks for (`mechanism`).
"""
