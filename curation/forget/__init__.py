"""Sources and people taken out for good, with the proof."""
