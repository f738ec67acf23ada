"""From label tables and audio files to a checked corpus and the windows of its clips.

Floor 2. May import core.
"""
