"""Datasets that others published, held against what is measured of them.

In order: `foreign` finds the clips of a folder, of tars (`tars`) or of Parquet rows (`rows`), `declared` reads what is
said of them, `join` lays sounds beside pictures; the engine measures; `rules` are the questions as SQL, `limits` their
thresholds, `findings` asks them, `result` writes what came out, `page` shows it. `answers` are for single files.
"""
