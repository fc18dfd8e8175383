"""The parts of `benchmarks/h200.py`: what each measures, what it runs on, and how results outlive a killed part."""
