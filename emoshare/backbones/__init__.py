"""What turns samples into frames, (B, N) → (B, T, D): speech encoders with their checkpoints, and feature sets.

Floor 4. May import core, metrics, data and models.

To add a backbone of type `x`, write two files:

`emoshare/backbones/x.py`, with

    class XEncoder(nn.Module):
        dim: int  # D

        def forward(self, waves, lengths):  # samples (B, N) float32, samples of speech (B,)
            ...
            return frames, counts  # (B, T, D) float32, zeros after each clip's own; frames of each clip (B,)

        def facts(self):  # JSON-able: all that the frames depend on besides the samples
            return {"class": "XEncoder", "version": 1}

    def load(config, window, dtype, seed, cache):  # BackboneConfig, WindowConfig, torch.dtype, int, Path
        encoder = XEncoder()
        return Backbone(encoder, identify(config, window, encoder.facts(), encoder), config.frozen)

`conf/backbone/x.yaml`, with `type: x` and the keys that differ from the defaults of `core.config.BackboneConfig`.

A clip's frames must not depend on the other clips of a batch. Where T is 1, a vector per clip, give
`Backbone(…, frame_count=one_frame)`, and the like where it is not one frame per 20 ms. `load` may raise
EmoshareError, and imports what is heavy inside itself. `base` has the class and the registry, `masked` what is common
to encoders that take normalised samples and a mask, `extractor` what the frame store asks of a backbone.

A speech encoder of transformers needs neither: `type: auto` reads its checkpoint (module `auto`), and a YAML gives it
a name of its own. `architecture.FAMILIES` lists the families; `ssl` runs those that take samples, `whisper` and
`w2v_bert` those behind mel features (`mel`, `spectrum`), `layers` chooses hidden states. A family whose model has
transformers' usual parts (feature_extractor, feature_projection, encoder) is one more entry there.
"""
