"""A sum of vectors of which the server learns nothing but the sum: the arithmetic of one round.

Bonawitz et al. 2017 (CCS) on a complete graph. This package computes and decides nothing: who may take part, which
lists are signed and when a secret is given out is not here, and without that these functions are no protection
against a server that lies. No plan uses them yet.

| step of a round | what it needs of the arithmetic |
|---|---|
| R1 advertise | `keys`: a fresh private key and its public bytes |
| R2 share | `shamir.split` of the seed and the private key, `share_to_bytes` for each peer |
| R3 masked | `share_from_bytes` of what was dealt; `masks.masked` |
| R4 certify | nothing: signatures over lists |
| R5 unmask | a share is handed on as it came; the server: `shamir.combine`, `masks.unmasked` |

The reading order is `masks` (what cancels), `keys` (from what), `shamir` (what survives a drop-out), `field`.
"""
