"""Stage `scan`: the one pass over a source's pictures.

In order: `grid` reads frames at the times wanted, `picture` measures each, `shots` finds shot boundaries (of the
`evidence`, and of `jumps` of faces), `faces` finds and describes faces, `crops` keeps mouths for the speaker network,
`tracker` links faces within a window, `people` takes portraits.
"""
