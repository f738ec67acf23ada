"""Backbones turn samples into frames, (B, N) → (B, T, D): speech encoders with their checkpoints, and feature sets.

Floor 4. May import core, metrics, data and models.

A backbone of the user's own is a class outside the package, which `backbone._target_` names: `kinds/outside.py` says
what it has. To add one of ours of type `x`, write three files:

`emoshare/backbones/kinds/x.py`, light to import, with a class `Options` of `core.backbones.BackboneOptions`: its keys,
what the program has to know of it, and `load`, which imports the next.

`emoshare/backbones/x.py`, with

    class XEncoder(nn.Module):
        dim: int  # D

        def forward(self, waves, lengths):  # samples (B, N) float32, samples of speech (B,)
            ...
            return frames, counts  # (B, T, D) float32, zeros after each clip's own; frames of each clip (B,)

        def facts(self):  # JSON-able: all that the frames depend on besides the samples
            return {"class": "XEncoder", "version": 1}

    def load(config, window):  # Options, WindowConfig
        encoder = XEncoder()
        return Backbone(encoder, identify(config, window, encoder.facts(), encoder), config.frozen)

`conf/backbone/x.yaml`, with `type: x` and the keys that differ from the defaults of its `Options`.

A clip's frames must not depend on the other clips of a batch. Where T is 1, a vector per clip, give
`Backbone(…, frame_count=one_frame)`, and the like where it is not one frame per 20 ms. `load` may raise
EmoshareError. `base` has the class, `masked` what is common to encoders that take normalised samples and a mask,
`extractor` what the frame store asks of a backbone, `writing` how one is exported.

A speech encoder of transformers needs none of them: `type: auto` reads its checkpoint (module `auto`), and a YAML gives
it a name of its own. `families.FAMILIES` lists the families. `ssl` runs those that take samples (`parts` where they
are made of other parts than wav2vec 2.0), `whisper`, `qwen3_asr`, `parakeet`, `ast` and `w2v_bert` those behind mel
features (`mel`, `spectrum`); `layers` chooses hidden states. `emotion2vec` has a class of ours; `emotion2vec_files`
reads what FunASR publishes. A family whose model has transformers' usual parts (feature_extractor,
feature_projection, encoder), or that was made from Whisper's encoder, is one more entry there. docs/encoders.md has
them all, measured.
"""
