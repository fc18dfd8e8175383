"""What decoded pictures need before they are shown: fields made into frames, HDR brought to SDR, damage known."""
