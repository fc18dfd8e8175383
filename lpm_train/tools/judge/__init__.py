"""What a model does, measured: clips and rollouts against their conditions, faces read back, mouths at rest."""
