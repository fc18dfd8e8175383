"""What people's verdicts say of a dataset: kept with their units, counted with intervals, held to bounds.

`audits` keeps verdicts, `follow` finds their units again after another run, `precision` counts, `gate` holds to bounds.
"""
