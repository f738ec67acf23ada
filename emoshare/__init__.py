"""emoshare: learn from speech how much of each emotion a voice carries."""

from emoshare.core import torchaudio_shim as shim

__version__ = "0.1.0"

shim.install()
