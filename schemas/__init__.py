"""The narrow waist: time, tables, samples, captions, policies and workflows.

Everything passes through these types; this package imports nothing else of the project.
"""
