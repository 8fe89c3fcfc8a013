"""Keys, staff, roster and signed documents: whom a site believes, and why.

    keys           a site's or a person's Ed25519 identity, a site's node key, fingerprints; the only files
    certificates   a federation's own TLS authorities, certificates of servers and of people
    envelope       signed documents: canonical payloads in DSSE envelopes
    staff          who may sign what, signed by the offline root
    roster         which sites belong, signed by an operator and an independent body
    approvals      plans, sites' approvals of them, stop orders
    commands       what a person asks of a server, signed
    commitments    what a site says its ledger has come to
    consents       what a master let a site use, and that he took it back
    models         what a version of a model is, its release, its withdrawal
    measurements   a factory figure measured after a campaign
    requests       what the signature of a site's request covers
    chain          a site's whole view: root → staff → roster → plan

The law: nothing is believed because the server said it, and nothing here asks for the time.
"""
