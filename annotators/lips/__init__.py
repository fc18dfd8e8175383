"""Do these lips speak what is heard: active speaker networks, lip-audio sync, and how evidence is weighed."""
