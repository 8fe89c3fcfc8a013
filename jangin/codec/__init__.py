"""Bytes and documents: canonical CBOR (`cbor`) and YAML read into frozen models (`document`)."""
