"""From label tables and audio files to a checked corpus and the windows of its clips.

Floor 3. May import core and metrics.
"""
