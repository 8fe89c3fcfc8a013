"""What is learned, and from what examples.

Model specifications (`spec`), their torch modules (`networks`), the flat parameter vector (`layout`, `flat`), heads
and losses (`tasks`), and the model lines that cut records into examples (`lines`).
`spec`, `layout` and `lines` are torch-free; this file imports nothing, so that a light process stays light.
"""
