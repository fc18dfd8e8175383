"""What pictures, sound and words become before the network: codecs and encoders that need no library."""
