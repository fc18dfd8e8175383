"""Posture and hands, and the gestures that they make."""
