"""What the signature of a site's request covers; both ends read it here."""

import hashlib

__all__ = ["signed_bytes"]


def signed_bytes(method: str, path: str, body: bytes, time: str, nonce: str, site: str) -> bytes:
    """The bytes that a request's Ed25519 signature covers.

    `"jangin/api" 0x00`, then method, path, SHA-256 of the body (32 bytes), time, nonce and site, parted by newlines.

    Args:
        method: of HTTP, e.g. `POST`.
        path: the whole path.
        body: the request's body.
        time: seconds since 1970 as in the header, decimal text.
        nonce: 32 hex digits, fresh for every request.
        site: the site's name.
    """
    digest = hashlib.sha256(body).digest()
    parts = (method.encode(), path.encode(), digest, time.encode(), nonce.encode(), site.encode())
    return b"jangin/api\0" + b"\n".join(parts)
