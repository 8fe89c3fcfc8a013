"""A sum of vectors of which the server learns nothing but the sum: Bonawitz et al. 2017 (CCS) on a complete graph.

| step of a round | what it needs of the arithmetic |
|---|---|
| R1 advertise | `keys`: a fresh private key and its public bytes |
| R2 share | `shamir.split` of the seed and the private key, `dealing.parcel` for each peer |
| R3 mask | `dealing.opened` of what was dealt; `masks.masked` |
| R4 certify | nothing: signatures over lists |
| R5 unmask | a share is handed on as it came; the server: `shamir.combine`, `masks.unmasked` |

Two machines, `site` and `server`, carry it out by one table, without files, clock or network; `docs/protocol.md` is
their text. The arithmetic decides nothing: who may take part is `policy`'s, which lists are signed `transcript`'s, and
when a secret is shown `site`'s. The reading order is `table`, `site`, `transcript`, `policy`, `dealing`, `server`, and
for the arithmetic `masks` (what cancels), `keys` (from what), `shamir` (what survives a drop-out), `field`.
"""
