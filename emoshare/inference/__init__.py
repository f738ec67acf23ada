"""A trained run in use: shares of new recordings, embeddings, explanations, scores on other corpora, exports, a page.

Floor 7. May import core, data, models, backbones, store, runs, training and systems.
"""
